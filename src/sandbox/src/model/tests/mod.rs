//! Behaviour of the model, each test named after what real masters and agents were seen to do.

mod agents;
mod checks;
mod executors;
mod faults;
mod groups;
mod managed;
mod masters;
mod offers;
mod operators;
mod removal;
mod reservations;
mod restart;
mod subscriptions;
mod tasks;
mod validation;

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use overlord_mesos::v1::{
    AgentId, CommandInfo, ContainerId, ExecutorId, ExecutorInfo, FrameworkId, OfferId, Resource, Source,
    TaskId, TaskInfo, TaskState, TaskStatus, executor,
    scheduler::{Accept, Acknowledge, Call, CallType, Event, EventType, Filters, Operation},
};
use serde_json::{Value, json};

use super::{AgentFault, Answer, Input, Model, Output, Probe, Saved, StartExecutor, StreamKey};
use crate::config::{AgentConfig, MesosConfig};

pub(super) const EPOCH: Duration = Duration::from_secs(1_795_370_000);

/// A model with everything that came out of it.
pub(super) struct World {
    pub(super) model: Model,
    pub(super) now: Duration,
    pub(super) framework: BTreeMap<StreamKey, Vec<Event>>,
    pub(super) executor: BTreeMap<StreamKey, Vec<executor::Event>>,
    pub(super) ended: Vec<StreamKey>,
    pub(super) starts: Vec<StartExecutor>,
    pub(super) kills: Vec<ContainerId>,
    pub(super) terminated: Vec<ContainerId>,
    pub(super) probes: Vec<Probe>,
    /// What operators heard.
    pub(super) told: BTreeMap<StreamKey, Vec<Value>>,
}

/// A subscribed framework.
#[derive(Clone)]
pub(super) struct Scheduler {
    pub(super) stream: StreamKey,
    pub(super) stream_id: String,
    pub(super) id: FrameworkId,
}

pub(super) fn config(agents: usize) -> MesosConfig {
    let agents = (1..=agents).map(|n| AgentConfig {
        name: format!("agent{n}"),
        ip: [127, 0, 0, u8::try_from(n).unwrap_or(1)].into(),
        port: 5051,
        cpus: 8.0,
        mem_mib: 8192.0,
        disk_mib: 20_000.0,
        ports: vec![(20_000, 29_999)],
        attributes: vec![("rack".to_owned(), format!("r{n}"))],
        work_dir: PathBuf::from("/work"),
        hostname: None,
        domain: None,
        reserved: Vec::new(),
    });
    MesosConfig::new(agents.collect(), 7)
}

pub(super) fn framework_info() -> Value {
    json!({
        "user": "root", "name": "test", "failover_timeout": 3600.0, "checkpoint": true, "roles": ["*"],
        "capabilities": [{"type": "PARTITION_AWARE"}, {"type": "MULTI_ROLE"}, {"type": "RESERVATION_REFINEMENT"}],
    })
}

pub(super) fn call(value: Value) -> Call {
    serde_json::from_value(value).unwrap()
}

impl World {
    pub(super) fn new(agents: usize) -> Self {
        Self::with(&config(agents), None)
    }

    pub(super) fn with(config: &MesosConfig, saved: Option<Saved>) -> Self {
        Self {
            model: Model::new(config, EPOCH, saved),
            now: Duration::ZERO,
            framework: BTreeMap::new(),
            executor: BTreeMap::new(),
            ended: Vec::new(),
            starts: Vec::new(),
            kills: Vec::new(),
            terminated: Vec::new(),
            probes: Vec::new(),
            told: BTreeMap::new(),
        }
    }

    pub(super) fn step(&mut self, input: Input) -> Answer {
        let (answer, outputs) = self.model.step(self.now, input);
        for output in outputs {
            match output {
                Output::Scheduler(stream, event) => self.framework.entry(stream).or_default().push(*event),
                Output::Executor(stream, event) => self.executor.entry(stream).or_default().push(*event),
                Output::End(stream) => self.ended.push(stream),
                Output::Start(start) => self.starts.push(*start),
                Output::Kill(container) => self.kills.push(container),
                Output::Terminate(container) => self.terminated.push(container),
                Output::Probe(probe) => self.probes.push(*probe),
                Output::Operator(stream, event) => {
                    self.told.entry(stream).or_default().push((*event).clone());
                }
                Output::Endpoint { .. } | Output::Master { .. } => {}
            }
        }
        answer
    }

    /// Lets time pass.
    pub(super) fn pass(&mut self, seconds: f64) {
        self.now += Duration::from_secs_f64(seconds);
        self.step(Input::Tick);
    }

    pub(super) fn subscribe_as(&mut self, info: Value) -> Scheduler {
        let id = info.get("id").cloned();
        let mut body = json!({"type": "SUBSCRIBE", "subscribe": {"framework_info": info}});
        if let Some(id) = id {
            body["framework_id"] = id;
        }
        let answer = self.step(Input::Scheduler { stream_id: None, call: Box::new(call(body)) });
        let Answer::Subscribed { stream, stream_id } = answer else { panic!("{answer:?}") };
        let first = self.framework.get(&stream).and_then(|events| events.first());
        let id = first.and_then(|event| event.subscribed.as_ref()).map(|s| s.framework_id.clone());
        Scheduler { stream, stream_id, id: id.unwrap_or_default() }
    }

    pub(super) fn subscribe(&mut self) -> Scheduler {
        self.subscribe_as(framework_info())
    }

    /// The events that came since the last look, without HEARTBEATs.
    pub(super) fn events(&mut self, scheduler: &Scheduler) -> Vec<Event> {
        let events = self.framework.get_mut(&scheduler.stream).map(std::mem::take).unwrap_or_default();
        events.into_iter().filter(|event| event.kind != EventType::Heartbeat).collect()
    }

    pub(super) fn kinds(&mut self, scheduler: &Scheduler) -> Vec<EventType> {
        self.events(scheduler).iter().map(|event| event.kind).collect()
    }

    pub(super) fn statuses(&mut self, scheduler: &Scheduler) -> Vec<TaskStatus> {
        self.events(scheduler)
            .into_iter()
            .filter_map(|event| event.update)
            .map(|update| update.status)
            .collect()
    }

    /// Offers that came since the last look: id and agent.
    pub(super) fn offers(&mut self, scheduler: &Scheduler) -> Vec<(OfferId, AgentId)> {
        let offers = self.events(scheduler).into_iter().filter_map(|event| event.offers);
        offers.flat_map(|offers| offers.offers).map(|offer| (offer.id, offer.agent_id)).collect()
    }

    pub(super) fn tell(&mut self, scheduler: &Scheduler, body: Value) -> Answer {
        let mut body = body;
        body["framework_id"] = json!({"value": scheduler.id.as_str()});
        self.step(Input::Scheduler {
            stream_id: Some(scheduler.stream_id.clone()),
            call: Box::new(call(body)),
        })
    }

    pub(super) fn accept(
        &mut self,
        scheduler: &Scheduler,
        offers: &[OfferId],
        tasks: Vec<TaskInfo>,
    ) -> Answer {
        let launch = Operation::launch(tasks);
        let accept = Accept {
            offer_ids: offers.to_vec(),
            operations: vec![launch],
            filters: Some(Filters { refuse_seconds: Some(0.0) }),
        };
        let call = Call {
            framework_id: Some(scheduler.id.clone()),
            kind: CallType::Accept,
            accept: Some(accept),
            ..Call::default()
        };
        self.step(Input::Scheduler { stream_id: Some(scheduler.stream_id.clone()), call: Box::new(call) })
    }

    pub(super) fn acknowledge(&mut self, scheduler: &Scheduler, status: &TaskStatus) {
        let acknowledge = Acknowledge {
            agent_id: status.agent_id.clone().unwrap(),
            task_id: status.task_id.clone(),
            uuid: status.uuid.clone().unwrap(),
        };
        let call = Call {
            framework_id: Some(scheduler.id.clone()),
            kind: CallType::Acknowledge,
            acknowledge: Some(acknowledge),
            ..Call::default()
        };
        let answer = self
            .step(Input::Scheduler { stream_id: Some(scheduler.stream_id.clone()), call: Box::new(call) });
        assert_eq!(answer, Answer::Accepted);
    }

    /// Takes the first offer and launches a task with a command; its container.
    pub(super) fn run_command(
        &mut self,
        scheduler: &Scheduler,
        change: impl FnOnce(&mut TaskInfo),
    ) -> ContainerId {
        let offers = self.offers(scheduler);
        let (offer, agent) = offers.first().cloned().expect("an offer");
        let mut task = command_task("t", &agent);
        change(&mut task);
        self.accept(scheduler, &[offer], vec![task]);
        self.pass(0.2);
        let start = self.starts.last().cloned().expect("a start");
        self.step(Input::Started { container: start.container.clone(), pid: Some(100) });
        start.container
    }

    /// Acknowledges whatever comes until nothing more does; what came.
    pub(super) fn drain(&mut self, scheduler: &Scheduler) -> Vec<TaskStatus> {
        let mut all = Vec::new();
        loop {
            let statuses = self.statuses(scheduler);
            if statuses.is_empty() {
                return all;
            }
            for status in &statuses {
                if status.uuid.is_some() {
                    self.acknowledge(scheduler, status);
                }
            }
            all.extend(statuses);
        }
    }

    pub(super) fn exits(&mut self, container: &ContainerId, status: i32) {
        self.step(Input::Exited { container: container.clone(), status });
    }

    /// Takes the first offer and launches a task with an executor of its own, which subscribes.
    pub(super) fn run(&mut self, scheduler: &Scheduler, name: &str) -> Running {
        let offers = self.offers(scheduler);
        let (offer, agent) = offers.first().cloned().expect("an offer");
        self.accept(scheduler, &[offer], vec![task(name, &agent)]);
        let start = self.starts.last().cloned().expect("a start");
        self.step(Input::Started { container: start.container.clone(), pid: Some(100) });
        let mut running = Running { start, stream: StreamKey(0), task: TaskId::new(name) };
        running.stream = self.executor_subscribes(&running, json!([])).unwrap();
        running
    }

    pub(super) fn executor_subscribes(
        &mut self,
        running: &Running,
        updates: Value,
    ) -> Result<StreamKey, Answer> {
        let body = json!({"type": "SUBSCRIBE", "subscribe": {
            "unacknowledged_tasks": [], "unacknowledged_updates": updates}});
        match self.executor_call(running, body) {
            Answer::Subscribed { stream, .. } => Ok(stream),
            other => Err(other),
        }
    }

    pub(super) fn executor_call(&mut self, running: &Running, body: Value) -> Answer {
        let mut body = body;
        body["framework_id"] = json!({"value": running.start.framework_id.as_str()});
        body["executor_id"] = json!({"value": running.start.executor_id.as_str()});
        let call = Box::new(serde_json::from_value(body).unwrap());
        self.step(Input::Executor { agent: running.start.agent.clone(), call })
    }

    pub(super) fn report(&mut self, running: &Running, state: TaskState, number: u8) -> Answer {
        self.executor_call(running, json!({"type": "UPDATE", "update": status(&running.task, state, number)}))
    }

    pub(super) fn executor_kinds(&mut self, stream: StreamKey) -> Vec<executor::EventType> {
        let events = self.executor.get_mut(&stream).map(std::mem::take).unwrap_or_default();
        events.iter().map(|event| event.kind).collect()
    }

    pub(super) fn fault(&mut self, agent: &str, fault: AgentFault) {
        assert_eq!(self.step(Input::Agent { name: agent.to_owned(), fault }), Answer::Accepted);
    }
}

/// A task with a command, which the agent's own executor runs.
pub(super) fn command_task(name: &str, agent: &AgentId) -> TaskInfo {
    let command = CommandInfo { value: Some("sleep 600".to_owned()), ..CommandInfo::default() };
    TaskInfo { executor: None, command: Some(command), ..task(name, agent) }
}

/// An executor with one task.
pub(super) struct Running {
    pub(super) start: StartExecutor,
    pub(super) stream: StreamKey,
    pub(super) task: TaskId,
}

pub(super) fn uuid(number: u8) -> String {
    STANDARD.encode([number; 16])
}

pub(super) fn status(task: &TaskId, state: TaskState, number: u8) -> Value {
    let status = TaskStatus {
        task_id: task.clone(),
        state,
        source: Some(Source::Executor),
        uuid: Some(uuid(number)),
        ..TaskStatus::default()
    };
    json!({ "status": status })
}

pub(super) fn resources(cpus: f64, mem: f64) -> Vec<Resource> {
    vec![Resource::scalar("cpus", cpus), Resource::scalar("mem", mem)]
}

/// A task with an executor of its own.
pub(super) fn task(name: &str, agent: &AgentId) -> TaskInfo {
    let command = CommandInfo { value: Some("run".to_owned()), shell: Some(false), ..CommandInfo::default() };
    let executor = ExecutorInfo {
        executor_id: ExecutorId::new(format!("{name}-executor")),
        command: Some(command),
        resources: resources(0.1, 32.0),
        ..ExecutorInfo::default()
    };
    TaskInfo {
        name: name.to_owned(),
        task_id: TaskId::new(name),
        agent_id: agent.clone(),
        resources: resources(0.5, 64.0),
        executor: Some(executor),
        ..TaskInfo::default()
    }
}

/// State, reason, message and whether there is a uuid: what tells statuses apart.
pub(super) fn brief(status: &TaskStatus) -> (TaskState, &str, &str, bool) {
    let reason = status.reason.as_deref().unwrap_or("");
    (status.state, reason, status.message.as_deref().unwrap_or(""), status.uuid.is_some())
}
