//! Executors as tasks of the simulation: the real executor logic on simulated hosts, started and killed by the
//! Mesos model.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use futures::StreamExt as _;
use overlord_executor::{Config, Limits, StoreInstances};
use overlord_mesos::{
    EventStream, ExecutorEnv, ExecutorTransport, TransportError,
    v1::{ContainerId, executor},
};
use overlord_sandbox::{ExitReporter, LaunchError, Launcher, MemoryExecutor, Mesos, StartExecutor};
use tokio::{
    task::{AbortHandle, JoinSet},
    time::sleep,
};

use crate::{
    machine::{Hosts, SimMachine},
    net::Net,
    store::SimStore,
    trace::Trace,
};

/// Wait statuses.
const SIGKILL: i32 = 9;
const EXIT_1: i32 = 1 << 8;

/// Between probes of an engine, as in a real executor. One that serves is asked when it has changed: see
/// [`SimMachine`].
pub(crate) const PROBES: Duration = Duration::from_secs(1);

/// Between two slow re-reads of the keys; a nudge that got lost is repeated by the controller long before.
const REREAD: Duration = Duration::from_secs(1800);

/// The executors of one run.
#[derive(Debug)]
pub(crate) struct SimLauncher {
    pub(crate) mesos: OnceLock<Mesos>,
    pub(crate) hosts: Hosts,
    pub(crate) store: SimStore,
    pub(crate) net: Net,
    pub(crate) trace: Trace,
    pub(crate) seed: u64,
    pub(crate) running: Arc<Mutex<Running>>,
    /// Seconds between probes of an engine, for executors that are started from now on.
    pub(crate) probes: std::sync::atomic::AtomicU64,
}

/// What runs.
#[derive(Debug, Default)]
pub(crate) struct Running {
    tasks: JoinSet<()>,
    executors: BTreeMap<ContainerId, Executor>,
    /// Containers without an executor on hosts whose agent is lost: the agent ends them when it returns.
    orphans: BTreeMap<ContainerId, String>,
    started: u64,
}

#[derive(Debug)]
struct Executor {
    name: String,
    agent: String,
    abort: AbortHandle,
    exits: ExitReporter,
}

impl SimLauncher {
    fn lock(&self) -> MutexGuard<'_, Running> {
        lock(&self.running)
    }

    /// The containers whose executor lives.
    pub(crate) fn containers(&self) -> Vec<ContainerId> {
        self.lock().executors.keys().cloned().collect()
    }

    /// The container of a Mesos task whose executor lives, and its agent's name.
    pub(crate) fn container_of(&self, task: &str) -> Option<(ContainerId, String)> {
        let running = self.lock();
        let mut executors = running.executors.iter();
        let (container, executor) = executors.find(|(_, executor)| executor.name == task)?;
        Some((container.clone(), executor.agent.clone()))
    }

    /// `kill -9` of an executor alone. The agent then ends what is left in its container; a lost one when it
    /// is back.
    pub(crate) fn kill_executor(&self, container: &ContainerId, agent_is_lost: bool) {
        let Some(executor) = self.lock().executors.remove(container) else { return };
        executor.abort.abort();
        self.trace.line(format!("executor {} is killed", executor.name));
        if agent_is_lost {
            self.lock().orphans.insert(container.clone(), executor.agent);
            executor.exits.exited(SIGKILL);
            return;
        }
        let (hosts, container, pause) = (self.hosts.clone(), container.clone(), self.net.millis(1, 20));
        self.net.spawn(async move {
            sleep(pause).await;
            hosts.kill_container(&container);
            executor.exits.exited(SIGKILL);
        });
    }

    /// An agent is back: it ends the containers whose executors died meanwhile.
    pub(crate) fn end_orphans(&self, agent: &str) {
        let mut running = self.lock();
        let own = running.orphans.iter().filter(|(_, on)| *on == agent);
        let own: Vec<ContainerId> = own.map(|(container, _)| container.clone()).collect();
        running.orphans.retain(|_, on| on != agent);
        drop(running);
        for container in own {
            self.hosts.kill_container(&container);
        }
    }
}

#[async_trait]
impl Launcher for SimLauncher {
    async fn start(&self, start: StartExecutor, exits: ExitReporter) -> Result<Option<u32>, LaunchError> {
        sleep(self.net.millis(2, 60)).await;
        let failed = |message: String| LaunchError { message };
        let mesos = self.mesos.get().ok_or_else(|| failed("there is no agent".to_owned()))?;
        let trace = self.trace.clone();
        let clock = self.trace.clone();
        let env = ExecutorEnv::from_env(start.environment.clone())
            .map_err(|error| failed(error.to_string()))?
            .with_clock(move || clock.now().as_secs_f64());
        let name = start.executor_id.as_str().to_owned();
        let transport = SimExecutorTransport {
            inner: mesos.executor_transport(&start.agent),
            name: name.clone(),
            net: self.net.clone(),
            trace: trace.clone(),
        };
        let machine = SimMachine::new(&self.hosts, start.container.clone(), start.agent_endpoint.ip());
        let instances = StoreInstances::new(Arc::new(self.store.clone()));
        let mut running = self.lock();
        running.started += 1;
        let seed = self.seed.wrapping_mul(0x9e37_79b9).wrapping_add(running.started);
        let limits = Limits {
            probe_interval: Duration::from_secs(self.probes.load(std::sync::atomic::Ordering::Relaxed)),
            reread: REREAD,
            ..Limits::default()
        };
        let config = Config { env, limits, seed, stop: tokio_util::sync::CancellationToken::new() };
        trace.line(format!("executor {name} starts on {}", start.agent));
        let (all, hosts, container) =
            (Arc::clone(&self.running), self.hosts.clone(), start.container.clone());
        while running.tasks.try_join_next().is_some() {}
        let abort = running.tasks.spawn(async move {
            let run =
                overlord_executor::run(config, Arc::new(transport), Arc::new(instances), Arc::new(machine));
            let ended = run.await;
            let Some(executor) = lock(&all).executors.remove(&container) else { return };
            trace.line(format!("executor {} ends: {ended:?}", executor.name));
            hosts.kill_container(&container);
            executor.exits.exited(if ended.is_ok() { 0 } else { EXIT_1 });
        });
        let executor = Executor { name, agent: start.agent, abort, exits };
        running.executors.insert(start.container, executor);
        Ok(None)
    }

    fn kill(&self, container: &ContainerId) {
        let Some(executor) = self.lock().executors.remove(container) else { return };
        self.trace.line(format!("the agent kills executor {}", executor.name));
        executor.abort.abort();
        self.hosts.kill_container(container);
        executor.exits.exited(SIGKILL);
    }
}

fn lock(running: &Mutex<Running>) -> MutexGuard<'_, Running> {
    running.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An executor's way to its agent, told in the trace.
struct SimExecutorTransport {
    inner: MemoryExecutor,
    name: String,
    net: Net,
    trace: Trace,
}

#[async_trait]
impl ExecutorTransport for SimExecutorTransport {
    async fn subscribe(&self, call: &executor::Call) -> Result<EventStream<executor::Event>, TransportError> {
        // On one host: the way is short.
        sleep(self.net.millis(0, 2)).await;
        let events = self.inner.subscribe(call).await?;
        let (name, trace) = (self.name.clone(), self.trace.clone());
        let told = events.inspect(move |event| {
            if let Ok(event) = event {
                trace.line(format!("agent -> executor {name}: {}", event.kind));
            }
        });
        Ok(told.boxed())
    }

    async fn call(&self, call: &executor::Call) -> Result<(), TransportError> {
        sleep(self.net.millis(0, 2)).await;
        let answer = self.inner.call(call).await;
        let told = call.update.as_ref().map_or_else(String::new, |update| {
            let status = &update.status;
            format!(" {} {}", status.state, status.message.as_deref().unwrap_or_default())
        });
        let detail = serde_json::to_vec(call).unwrap_or_default();
        let outcome = answer.as_ref().err().map_or_else(String::new, |error| format!(": {error}"));
        self.trace.detailed(format!("executor {}: {}{told}{outcome}", self.name, call.kind), &detail);
        answer
    }
}
