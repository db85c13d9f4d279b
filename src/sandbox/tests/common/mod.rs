//! A framework for tests, over any transport.

#![allow(dead_code, reason = "each test binary uses its own part")]

use std::{net::IpAddr, path::Path, time::Duration};

use futures::StreamExt as _;
use overlord_mesos::{
    EventStream, SchedulerTransport,
    v1::{
        CommandInfo, ExecutorId, ExecutorInfo, FrameworkId, Offer, Resource, TaskId, TaskInfo, TaskStatus,
        scheduler::{
            Accept, Acknowledge, Call, CallType, Event, EventType, Filters, Launch, Operation, OperationType,
        },
    },
};
use overlord_sandbox::AgentConfig;
use serde_json::json;

pub(crate) fn agent(name: &str, ip: IpAddr, work_dir: &Path) -> AgentConfig {
    AgentConfig {
        name: name.to_owned(),
        ip,
        port: 0,
        cpus: 4.0,
        mem_mib: 4096.0,
        disk_mib: 10_000.0,
        ports: vec![(20_000, 22_767)],
        attributes: vec![("rack".to_owned(), "r1".to_owned())],
        work_dir: work_dir.to_owned(),
        hostname: None,
        domain: None,
        reserved: Vec::new(),
    }
}

/// A subscribed framework.
pub(crate) struct Framework<T> {
    pub(crate) transport: T,
    pub(crate) id: FrameworkId,
    pub(crate) stream_id: String,
    pub(crate) events: EventStream<Event>,
}

impl<T: SchedulerTransport> Framework<T> {
    pub(crate) async fn subscribe(transport: T, id: Option<&FrameworkId>) -> Self {
        let mut body = json!({"type": "SUBSCRIBE", "subscribe": {"framework_info": {
            "user": "root", "name": "test", "failover_timeout": 3600.0, "checkpoint": true, "roles": ["*"],
            "capabilities": [{"type": "PARTITION_AWARE"}, {"type": "MULTI_ROLE"}, {"type": "RESERVATION_REFINEMENT"}],
        }}});
        if let Some(id) = id {
            body["framework_id"] = json!({"value": id.as_str()});
            body["subscribe"]["framework_info"]["id"] = json!({"value": id.as_str()});
        }
        let call: Call = serde_json::from_value(body).unwrap();
        let subscription = transport.subscribe(&call).await.unwrap();
        let mut framework = Self {
            transport,
            id: FrameworkId::default(),
            stream_id: subscription.stream_id,
            events: subscription.events,
        };
        framework.id = framework.next().await.subscribed.unwrap().framework_id;
        framework
    }

    /// The next event that is no HEARTBEAT.
    pub(crate) async fn next(&mut self) -> Event {
        loop {
            let limit = tokio::time::timeout(Duration::from_secs(100), self.events.next());
            let event = limit.await.expect("an event in time").expect("a stream that goes on").unwrap();
            if event.kind != EventType::Heartbeat {
                return event;
            }
        }
    }

    /// The next event of a kind; others are passed over.
    pub(crate) async fn find(&mut self, kind: EventType) -> Event {
        loop {
            let event = self.next().await;
            if event.kind == kind {
                return event;
            }
        }
    }

    pub(crate) async fn offers(&mut self) -> Vec<Offer> {
        self.find(EventType::Offers).await.offers.unwrap().offers
    }

    pub(crate) async fn status(&mut self) -> TaskStatus {
        self.find(EventType::Update).await.update.unwrap().status
    }

    pub(crate) async fn call(&self, call: Call) {
        let call = Call { framework_id: Some(self.id.clone()), ..call };
        self.transport.call(&self.stream_id, &call).await.unwrap();
    }

    pub(crate) async fn launch(&self, offer: &Offer, name: &str, command: CommandInfo) {
        let executor = ExecutorInfo {
            executor_id: ExecutorId::new(format!("{name}-executor")),
            command: Some(command),
            ..ExecutorInfo::default()
        };
        let task = TaskInfo {
            name: name.to_owned(),
            task_id: TaskId::new(name),
            agent_id: offer.agent_id.clone(),
            resources: vec![Resource::scalar("cpus", 0.1), Resource::scalar("mem", 32.0)],
            executor: Some(executor),
            ..TaskInfo::default()
        };
        self.launch_task(offer, task).await;
    }

    /// Launches a command under the agent's own executor.
    pub(crate) async fn launch_command(
        &self,
        offer: &Offer,
        command: CommandInfo,
        change: impl FnOnce(&mut TaskInfo),
    ) {
        let mut task = TaskInfo {
            name: "t".to_owned(),
            task_id: TaskId::new("t"),
            agent_id: offer.agent_id.clone(),
            resources: vec![Resource::scalar("cpus", 0.1), Resource::scalar("mem", 32.0)],
            command: Some(command),
            ..TaskInfo::default()
        };
        change(&mut task);
        self.launch_task(offer, task).await;
    }

    pub(crate) async fn launch_task(&self, offer: &Offer, task: TaskInfo) {
        let launch = Launch { task_infos: vec![task] };
        let accept = Accept {
            offer_ids: vec![offer.id.clone()],
            operations: vec![Operation {
                kind: OperationType::Launch,
                launch: Some(launch),
                ..Operation::default()
            }],
            filters: Some(Filters { refuse_seconds: Some(0.0) }),
        };
        self.call(Call { kind: CallType::Accept, accept: Some(accept), ..Call::default() }).await;
    }

    pub(crate) async fn acknowledge(&self, status: &TaskStatus) {
        let acknowledge = Acknowledge {
            agent_id: status.agent_id.clone().unwrap(),
            task_id: status.task_id.clone(),
            uuid: status.uuid.clone().unwrap(),
        };
        self.call(Call { kind: CallType::Acknowledge, acknowledge: Some(acknowledge), ..Call::default() })
            .await;
    }
}

pub(crate) fn shell(value: &str) -> CommandInfo {
    CommandInfo { value: Some(value.to_owned()), ..CommandInfo::default() }
}
