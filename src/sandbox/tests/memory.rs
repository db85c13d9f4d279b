//! The front in memory, in virtual time, with an executor that is a few lines of this file.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod common;

use std::{
    collections::BTreeMap,
    net::IpAddr,
    path::Path,
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use async_trait::async_trait;
use common::{Framework, agent, shell};
use futures::StreamExt as _;
use overlord_mesos::{
    ExecutorTransport as _, TransportError,
    v1::{ContainerId, TaskState, executor::Call, executor::EventType, scheduler},
};
use overlord_sandbox::{ExitReporter, LaunchError, Launcher, Mesos, MesosConfig, StartExecutor};
use serde_json::json;
use tokio::task::{AbortHandle, JoinSet};

/// Executors as tasks of the runtime: each reports its Mesos task as running, until it is killed or told to stop.
#[derive(Debug, Default)]
struct Models {
    mesos: OnceLock<Mesos>,
    running: Mutex<BTreeMap<ContainerId, (AbortHandle, ExitReporter)>>,
    tasks: Mutex<JoinSet<()>>,
}

#[async_trait]
impl Launcher for Models {
    async fn start(&self, start: StartExecutor, exits: ExitReporter) -> Result<Option<u32>, LaunchError> {
        let mesos = self.mesos.get().unwrap().clone();
        let container = start.container.clone();
        let handle = self.tasks.lock().unwrap().spawn(execute(mesos, start));
        self.running.lock().unwrap().insert(container, (handle, exits));
        Ok(None)
    }

    fn kill(&self, container: &ContainerId) {
        let killed = self.running.lock().unwrap().remove(container);
        if let Some((handle, exits)) = killed {
            handle.abort();
            exits.exited(9);
        }
    }
}

async fn execute(mesos: Mesos, start: StartExecutor) {
    let transport = mesos.executor_transport(&start.agent);
    let call = |mut body: serde_json::Value| -> Call {
        body["framework_id"] = json!({"value": start.framework_id.as_str()});
        body["executor_id"] = json!({"value": start.executor_id.as_str()});
        serde_json::from_value(body).unwrap()
    };
    let mut number = 0_u8;
    loop {
        let subscribe = call(json!({"type": "SUBSCRIBE", "subscribe": {}}));
        let Ok(mut events) = transport.subscribe(&subscribe).await else {
            tokio::time::sleep(Duration::from_secs(1)).await;
            continue;
        };
        while let Some(Ok(event)) = events.next().await {
            let reported = match event.kind {
                EventType::Launch => Some((event.launch.unwrap().task.task_id, "TASK_RUNNING")),
                EventType::Kill => Some((event.kill.unwrap().task_id, "TASK_KILLED")),
                _ => None,
            };
            if let Some((task, state)) = reported {
                number += 1;
                let uuid = [b"AAAAAAAAAAAAAAAAAAAA".as_slice(), &[b'A' + number], b"Q=="].concat();
                let uuid = String::from_utf8(uuid).unwrap();
                let status =
                    json!({"task_id": task, "state": state, "source": "SOURCE_EXECUTOR", "uuid": uuid});
                transport.call(&call(json!({"type": "UPDATE", "update": {"status": status}}))).await.unwrap();
            }
        }
    }
}

fn world() -> (Mesos, JoinSet<()>) {
    let agents = vec![agent("a", IpAddr::from([127, 0, 0, 1]), Path::new("/nowhere"))];
    let models = Arc::new(Models::default());
    let (mesos, driver) =
        Mesos::in_memory(&MesosConfig::new(agents, 1), Arc::clone(&models) as Arc<dyn Launcher>);
    models.mesos.set(mesos.clone()).unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(driver);
    (mesos, tasks)
}

#[tokio::test(start_paused = true)]
async fn a_task_runs_is_lost_with_its_agent_and_is_there_again_when_that_returns() {
    let (mesos, _driver) = world();
    let mut framework = Framework::subscribe(mesos.scheduler_transport(), None).await;
    let offer = framework.offers().await.remove(0);
    framework.launch(&offer, "t", shell("run")).await;
    let status = framework.status().await;
    assert_eq!(status.state, TaskState::Running);
    framework.acknowledge(&status).await;
    assert!(mesos.agent_lost("a"));
    assert!(!mesos.agent_lost("b"));
    assert_eq!(framework.status().await.state, TaskState::Unreachable);
    mesos.agent_return("a");
    let status = framework.status().await;
    assert_eq!(
        (status.state, status.reason.as_deref()),
        (TaskState::Running, Some("REASON_AGENT_REREGISTERED"))
    );
    let kill = scheduler::Kill { task_id: status.task_id, ..scheduler::Kill::default() };
    let call =
        scheduler::Call { kind: scheduler::CallType::Kill, kill: Some(kill), ..scheduler::Call::default() };
    framework.call(call).await;
    assert_eq!(framework.status().await.state, TaskState::Killed);
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_is_down_does_not_answer_and_refusals_carry_their_text() {
    let (mesos, _driver) = world();
    let mut framework = Framework::subscribe(mesos.scheduler_transport(), None).await;
    framework.offers().await;
    let call: Call = serde_json::from_value(json!({"type": "SUBSCRIBE", "subscribe": {},
        "framework_id": {"value": "nope"}, "executor_id": {"value": "nope"}}))
    .unwrap();
    let refused = mesos.executor_transport("a").call(&call).await;
    let text = "Framework cannot be found";
    assert!(matches!(refused, Err(TransportError::Refused { status: 400, message, .. }) if message == text));
    mesos.agent_lost("a");
    let silent = mesos.executor_transport("a").call(&call).await;
    assert!(matches!(silent, Err(TransportError::Unavailable { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_subscription_is_a_broken_connection() {
    let (mesos, _driver) = world();
    let mut framework = Framework::subscribe(mesos.scheduler_transport(), None).await;
    framework.offers().await;
    assert!(mesos.frameworks()[0].connected);
    drop(framework);
    assert!(!mesos.frameworks()[0].connected);
    tokio::time::sleep(Duration::from_secs(3601)).await;
    assert!(mesos.frameworks().is_empty());
}
