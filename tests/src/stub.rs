//! Executors without processes: each says at once that its task runs, and ends when it is told to. And engines
//! without servers. For what would be too many real ones.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use futures::StreamExt as _;
use overlord_api::{Address, INFO_VERSION, Kind, Report, State};
use overlord_controllers::{Commander, Engines, Known, Look};
use overlord_mesos::{
    ExecutorTransport as _,
    v1::{
        ContainerId, Source, TaskId, TaskState, TaskStatus, encode_data,
        executor::{Call, CallType, Event, EventType, Subscribe, Update},
    },
};
use overlord_reconcile::Revision;
use overlord_sandbox::{ExitReporter, LaunchError, Launcher, MemoryExecutor, Mesos, StartExecutor};
use tokio::task::{AbortHandle, JoinSet};

/// Raw wait status of SIGKILL.
const SIGKILL: i32 = 9;

/// They read nothing: whichever configuration is wanted, they have it. A member that moves has a second one.
const EVERY_CONFIG: u64 = 1 << 32;

/// A launcher of such executors; clones share them.
#[derive(Debug, Clone, Default)]
pub struct StubExecutors {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    mesos: OnceLock<Mesos>,
    running: Mutex<Running>,
}

#[derive(Debug, Default)]
struct Running {
    tasks: JoinSet<()>,
    containers: BTreeMap<ContainerId, (AbortHandle, ExitReporter)>,
    started: u64,
}

impl StubExecutors {
    /// Whose agents they run on; said once, before anything is launched.
    pub fn belong_to(&self, mesos: &Mesos) {
        let _ = self.inner.mesos.set(mesos.clone());
    }

    /// How many were ever started.
    pub fn started(&self) -> u64 {
        self.inner.lock().started
    }

    /// How many run.
    pub fn running(&self) -> usize {
        self.inner.lock().containers.len()
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Launcher for StubExecutors {
    async fn start(&self, start: StartExecutor, exits: ExitReporter) -> Result<Option<u32>, LaunchError> {
        let Some(mesos) = self.inner.mesos.get() else {
            return Err(LaunchError { message: "there is no agent".to_owned() });
        };
        let stub = Stub { agent: mesos.executor_transport(&start.agent), start };
        let (inner, container) = (Arc::clone(&self.inner), stub.start.container.clone());
        let mut running = self.inner.lock();
        while running.tasks.try_join_next().is_some() {}
        running.started += 1;
        let ended = container.clone();
        let abort = running.tasks.spawn(async move {
            stub.run().await;
            let own = inner.lock().containers.remove(&ended);
            if let Some((_, exits)) = own {
                exits.exited(0);
            }
        });
        running.containers.insert(container, (abort, exits));
        Ok(None)
    }

    fn kill(&self, container: &ContainerId) {
        let own = self.inner.lock().containers.remove(container);
        if let Some((abort, exits)) = own {
            abort.abort();
            exits.exited(SIGKILL);
        }
    }
}

/// One executor.
struct Stub {
    agent: MemoryExecutor,
    start: StartExecutor,
}

impl Stub {
    /// Until its task is killed, it is told to end, or its agent is gone.
    async fn run(&self) {
        let subscribe = Call { subscribe: Some(Subscribe::default()), ..self.call(CallType::Subscribe) };
        let Ok(mut events) = self.agent.subscribe(&subscribe).await else { return };
        while let Some(Ok(event)) = events.next().await {
            let Event { kind, launch, kill, .. } = event;
            match (kind, launch, kill) {
                (EventType::Launch, Some(launch), _) => {
                    self.tell(&launch.task.task_id, TaskState::Starting, State::Staging).await;
                    self.tell(&launch.task.task_id, TaskState::Running, State::Running).await;
                }
                (EventType::Kill, _, Some(kill)) => {
                    self.tell(&kill.task_id, TaskState::Killed, State::Gone).await;
                    return;
                }
                (EventType::Shutdown, ..) => return,
                _ => {}
            }
        }
    }

    fn call(&self, kind: CallType) -> Call {
        Call {
            executor_id: self.start.executor_id.clone(),
            framework_id: self.start.framework_id.clone(),
            kind,
            ..Call::default()
        }
    }

    /// An update with the report of an instance that never has any trouble.
    async fn tell(&self, task: &TaskId, state: TaskState, report: State) {
        let report = Report {
            version: INFO_VERSION,
            state: report,
            cluster: None,
            address: None,
            bus_port: None,
            engine_version: None,
            store: None,
            store_term: None,
            store_went_back: false,
            config: if report == State::Running { EVERY_CONFIG } else { 0 },
            restart: 0,
            restarts: 0,
            pid: (report == State::Running).then_some(1),
            role: Some("single".to_owned()),
            epoch: None,
            link: None,
            slots: None,
            restart_needed: false,
            emptied: 0,
            config_refused: None,
            message: String::new(),
        };
        let status = TaskStatus {
            task_id: task.clone(),
            state,
            source: Some(Source::Executor),
            executor_id: Some(self.start.executor_id.clone()),
            // Executors choose their uuids themselves; these need be different only.
            uuid: Some(encode_data(uuid::Uuid::new_v4().as_bytes())),
            data: serde_json::to_vec(&report).ok().map(|json| encode_data(&json)),
            ..TaskStatus::default()
        };
        let update = Call { update: Some(Update { status }), ..self.call(CallType::Update) };
        // An agent that is away says nothing; nobody waits for this executor then.
        let _ = self.agent.call(&update).await;
    }
}

/// Servers that hold nothing, and are never asked for more.
#[derive(Debug)]
pub struct StubEngines;

#[async_trait]
impl Engines for StubEngines {
    async fn keys(&self, _kind: Kind, _address: Address, _epoch: Revision) -> Known<u64> {
        Known::Is(0)
    }

    async fn look(&self, _address: Address, _patience: Duration) -> Look {
        Look::Silent("a stub".to_owned())
    }

    async fn open(&self, _address: Address, _epoch: Revision) -> Result<Box<dyn Commander>, String> {
        Err("a stub".to_owned())
    }
}
