//! The executor on a host in memory, in virtual time: what takes minutes, and that it is repeatable.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod common;

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use common::{Agent, TASK, TestKeys, Updates, info};
use futures::FutureExt as _;
use overlord_api::{Address, ClusterName, Kind, OnAgentLoss, Report, State};
use overlord_executor::{
    Change, Clearance, Config, Disposal, Ended, Error, Exit, Health, Instance, Instances, Keys, Limits,
    LiveError, Machine, MachineError, NoAnswer, ReadError, Signal, StartRequest, Started, run,
};
use overlord_mesos::{
    ExecutorEnv,
    v1::{ExecutorId, FrameworkId, TaskState},
};
use tokio::{sync::oneshot, task::JoinSet};
use tokio_util::sync::CancellationToken;

/// A host that does as it is told.
#[derive(Debug, Default)]
struct Model {
    state: Mutex<ModelState>,
}

#[derive(Debug, Default)]
struct ModelState {
    conf: String,
    running: BTreeMap<u32, oneshot::Sender<Ended>>,
    next_pid: u32,
    hung: bool,
    disposal: Option<Disposal>,
    starts: u32,
}

impl Model {
    fn state(&self) -> MutexGuard<'_, ModelState> {
        self.state.lock().unwrap()
    }

    fn end_all(&self, how: Ended) {
        for (_, process) in std::mem::take(&mut self.state().running) {
            let _ = process.send(how);
        }
    }
}

#[async_trait]
impl Machine for Model {
    async fn prepare(&self, _: &Instance, conf: &str) -> Result<(), MachineError> {
        tokio::time::sleep(Duration::from_millis(20)).await;
        conf.clone_into(&mut self.state().conf);
        Ok(())
    }

    async fn write_conf(&self, _: &Instance, conf: &str) -> Result<(), MachineError> {
        conf.clone_into(&mut self.state().conf);
        Ok(())
    }

    async fn gate(&self, _: &Instance, _: &StartRequest) -> Result<Clearance, MachineError> {
        Ok(Clearance::Start { nodes_conf: None, emptied: false, note: String::new() })
    }

    async fn write_nodes_conf(&self, _: &Instance, _: &str) -> Result<(), MachineError> {
        Ok(())
    }

    async fn start(&self, _: &Instance) -> Result<Started, MachineError> {
        let mut state = self.state();
        state.next_pid += 1;
        state.starts += 1;
        let pid = state.next_pid;
        let (process, ended) = oneshot::channel();
        state.running.insert(pid, process);
        let exit = async move {
            Exit { how: ended.await.unwrap_or(Ended::Unknown), console: "last words".to_owned() }
        };
        Ok(Started { pid, exit: exit.boxed() })
    }

    fn signal(&self, _: u32, signal: Signal) {
        if !self.state().hung || signal == Signal::Kill {
            self.end_all(if signal == Signal::Kill { Ended::Signal(9) } else { Ended::Status(0) });
        }
    }

    async fn probe(&self, _: &Instance) -> Result<Health, NoAnswer> {
        let state = self.state();
        if state.hung || state.running.is_empty() {
            return Err(NoAnswer("timed out".to_owned()));
        }
        Ok(Health { serving: true, role: Some("single".to_owned()), ..Health::default() })
    }

    async fn set_live(&self, _: &Instance, changes: &[Change]) -> Result<(), LiveError> {
        match changes.iter().find(|change| change.new.as_deref() == Some("nonsense")) {
            Some(change) => Err(LiveError::Refused(format!("ERR {}", change.directive))),
            None => Ok(()),
        }
    }

    async fn clean_up(&self, _: &Instance, disposal: Disposal) -> Result<(), MachineError> {
        self.state().disposal = Some(disposal);
        Ok(())
    }
}

fn address() -> Address {
    "127.0.0.1:20001".parse().unwrap()
}

fn conf(policy: &str) -> String {
    common::redis_conf(address(), &format!("maxmemory-policy {policy}\n"))
}

struct Simulation {
    agent: Arc<Agent>,
    updates: Updates,
    model: Arc<Model>,
    keys: TestKeys,
    executors: JoinSet<Result<(), Error>>,
    stop: CancellationToken,
}

impl Simulation {
    fn start(instances: Option<Arc<dyn Instances>>) -> Self {
        let (agent, updates) = Agent::new();
        let model = Arc::new(Model::default());
        let first = Keys {
            info: info(Kind::Redis, address(), TASK),
            server_conf: conf("noeviction"),
            nodes_conf: None,
        };
        let keys = TestKeys(Arc::new(Mutex::new(Some(first))));
        let env = ExecutorEnv::new("127.0.0.1:5051", FrameworkId::new("f"), ExecutorId::new(TASK));
        let stop = CancellationToken::new();
        let config = Config { env, limits: Limits::default(), seed: 42, stop: stop.clone() };
        let mut executors = JoinSet::new();
        let instances = instances.unwrap_or_else(|| Arc::new(keys.clone()));
        executors.spawn(run(config, agent.clone(), instances, model.clone()));
        agent.launch(TASK, "orders", address());
        Self { agent, updates, model, keys, executors, stop }
    }

    async fn update(&mut self, fits: impl Fn(TaskState, &Report) -> bool) -> Report {
        loop {
            let next = tokio::time::timeout(Duration::from_hours(1), self.updates.recv());
            let (_, state, report) =
                next.await.expect("an update within an hour").expect("the executor lives");
            if fits(state, &report) {
                return report;
            }
        }
    }

    async fn ended(&mut self) {
        self.executors.join_next().await.unwrap().unwrap().unwrap();
    }
}

/// A life with everything in it, as text.
async fn life() -> String {
    let mut simulation = Simulation::start(None);
    let mut trace = String::new();
    for step in 0..12 {
        tokio::time::sleep(Duration::from_millis(700 * step)).await;
        match step {
            1..=5 => simulation.model.end_all(Ended::Signal(11)),
            7 | 9 => {
                if let Some(keys) = simulation.keys.0.lock().unwrap().as_mut() {
                    keys.server_conf = conf(if step == 7 { "nonsense" } else { "allkeys-lru" });
                    keys.info.desired.config = step;
                    keys.info.desired.restart = u64::from(step == 9);
                }
                simulation.agent.nudge();
            }
            11 => simulation.agent.kill(TASK),
            _ => {}
        }
    }
    simulation.ended().await;
    while let Some((task, state, report)) = simulation.updates.recv().now_or_never().flatten() {
        writeln!(trace, "{task} {state} {}", serde_json::to_string(&report).unwrap()).unwrap();
    }
    writeln!(trace, "{:?}", simulation.model.state()).unwrap();
    trace
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_lives_the_same_life_twice() {
    let first = life().await;
    assert_eq!(first, life().await);
    for part in ["restarting", "\"configRefused\":7", "\"config\":9", "\"restart\":1", "TASK_KILLED"] {
        assert!(first.contains(part), "{part} is not in\n{first}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_hung_server_is_reported_after_half_a_minute_and_killed_only_by_order() {
    let mut simulation = Simulation::start(None);
    simulation.update(|_, report| report.state == State::Running).await;
    simulation.model.state().hung = true;
    let report = simulation.update(|_, report| !report.message.is_empty()).await;
    assert!(report.message.starts_with("does not answer for 30 s"), "{}", report.message);
    assert_eq!((report.state, simulation.model.state().starts), (State::Staging, 1));
    simulation.model.state().hung = false;
    simulation.update(|_, report| report.state == State::Running && report.message.is_empty()).await;
    simulation.model.state().hung = true;
    simulation.agent.kill(TASK);
    let report = simulation.update(|state, _| state == TaskState::Killed).await;
    assert!(report.message.contains("did not stop in time"));
    simulation.ended().await;
    assert_eq!(simulation.model.state().disposal, Some(Disposal::Keep));
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_is_back_is_told_how_the_server_is() {
    let mut simulation = Simulation::start(None);
    let running = simulation.update(|_, report| report.state == State::Running).await;
    simulation.agent.restart();
    let again = simulation.update(|state, _| state == TaskState::Running).await;
    assert_eq!(again, running);
    simulation.agent.restart();
    simulation.update(|state, _| state == TaskState::Running).await;
    tokio::time::sleep(Duration::from_mins(10)).await;
    assert!(simulation.updates.try_recv().is_err(), "once for each time");
}

#[tokio::test(start_paused = true)]
async fn an_executor_whose_last_report_nobody_takes_ends_when_it_is_told_to() {
    let mut simulation = Simulation::start(None);
    simulation.update(|_, report| report.state == State::Running).await;
    simulation.agent.leave();
    for _ in 0..20 {
        simulation.model.end_all(Ended::Signal(11));
        tokio::time::sleep(Duration::from_secs(10)).await;
    }
    assert_eq!(simulation.model.state().disposal, Some(Disposal::Keep), "all but the last report is done");
    assert!(simulation.executors.try_join_next().is_none(), "an agent may be away for a quarter of an hour");
    simulation.stop.cancel();
    let ended = tokio::time::timeout(Duration::from_secs(2), simulation.executors.join_next()).await;
    let ended = ended.expect("it ends soon").unwrap().unwrap();
    assert!(matches!(ended, Err(Error::Untold(_))), "{ended:?}");
}

#[tokio::test(start_paused = true)]
async fn a_server_is_kept_for_hours_without_an_agent_and_told_of_when_there_is_one() {
    let mut simulation = Simulation::start(None);
    let running = simulation.update(|_, report| report.state == State::Running).await;
    simulation.agent.leave();
    tokio::time::sleep(Duration::from_hours(2)).await;
    assert!(simulation.executors.try_join_next().is_none());
    simulation.agent.restart();
    assert_eq!(simulation.update(|state, _| state == TaskState::Running).await, running);
    assert_eq!(simulation.model.state().starts, 1);
}

#[tokio::test(start_paused = true)]
async fn a_server_is_stopped_in_order_after_the_recovery_timeout_where_the_spec_says_so() {
    let mut simulation = Simulation::start(None);
    if let Some(keys) = simulation.keys.0.lock().unwrap().as_mut() {
        keys.info.on_agent_loss = OnAgentLoss::Stop;
    }
    simulation.update(|_, report| report.state == State::Running).await;
    simulation.agent.leave();
    tokio::time::sleep(Duration::from_mins(14)).await;
    assert!(simulation.executors.try_join_next().is_none(), "15 minutes are Mesos' default");
    let ended = tokio::time::timeout(Duration::from_mins(2), simulation.executors.join_next()).await;
    let ended = ended.expect("it ends").unwrap().unwrap();
    assert!(matches!(ended, Err(Error::Untold(_))), "{ended:?}");
    assert_eq!(simulation.model.state().disposal, Some(Disposal::Keep));
}

#[tokio::test(start_paused = true)]
async fn a_lost_nudge_is_made_up_for_by_the_slow_reread() {
    let mut simulation = Simulation::start(None);
    simulation.update(|_, report| report.state == State::Running).await;
    if let Some(keys) = simulation.keys.0.lock().unwrap().as_mut() {
        keys.server_conf = conf("allkeys-lru");
        keys.info.desired.config = 2;
    }
    simulation.update(|_, report| report.config == 2).await;
    assert_eq!(simulation.model.state().conf, conf("allkeys-lru"));
}

/// Never reads anything.
struct Away;

#[async_trait]
impl Instances for Away {
    async fn read(&self, _: &ClusterName, _: Address) -> Result<Option<Keys>, ReadError> {
        Err(ReadError::Malformed { key: "k".to_owned(), message: "is away".to_owned() })
    }
}

#[tokio::test(start_paused = true)]
async fn a_start_without_keys_is_bounded() {
    let mut simulation = Simulation::start(Some(Arc::new(Away)));
    simulation
        .update(|state, report| state == TaskState::Starting && report.message.contains("is away"))
        .await;
    let report = simulation.update(|state, _| state == TaskState::Failed).await;
    assert!(report.message.contains("is away"));
    simulation.ended().await;
}
