//! The executor under a sandboxed agent, over HTTP, with a real redis: agents that restart, that stay away for
//! too long, and that come back as others.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod common;

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use common::{TASK, World, is_alive};
use futures::StreamExt as _;
use overlord_api::{Kind, OnAgentLoss, Report, State};
use overlord_executor::{CLUSTER_LABEL, Config, Instances, Limits, LinuxMachine, Machine, run};
use overlord_mesos::{
    EventStream, ExecutorEnv, HttpConfig, HttpExecutor, HttpScheduler, SchedulerTransport as _,
    v1::{ContainerId, FrameworkId, TaskState, TaskStatus, scheduler},
};
use overlord_sandbox::{
    AgentConfig, ExitReporter, LaunchError, Launcher, MesosConfig, RunningMesos, StartExecutor,
};
use serde_json::{Value, json};
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;

const RECOVERY: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs the executor of `overlord executor`, with what the agent's environment says, as a task of the test.
struct Executors {
    root: std::path::PathBuf,
    instances: Arc<dyn Instances>,
    tasks: Mutex<JoinSet<()>>,
    running: Mutex<BTreeMap<ContainerId, AbortHandle>>,
    /// Whether the agent's launcher has forgotten what it started: then nobody kills that.
    forgetful: AtomicBool,
}

impl std::fmt::Debug for Executors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Executors")
    }
}

#[async_trait]
impl Launcher for Executors {
    async fn start(&self, start: StartExecutor, exits: ExitReporter) -> Result<Option<u32>, LaunchError> {
        let env = ExecutorEnv::from_env(start.environment.clone()).expect("the environment of an agent");
        assert_eq!(env.recovery_timeout, RECOVERY);
        let agent = HttpExecutor::new(&env.agent_endpoint, HttpConfig::default()).unwrap();
        let machine: Arc<dyn Machine> = Arc::new(LinuxMachine::new(&self.root, None).unwrap());
        let config = Config { env, limits: Limits::default(), seed: 5, stop: CancellationToken::new() };
        let instances = Arc::clone(&self.instances);
        let handle = self.tasks.lock().unwrap().spawn(async move {
            let ended = run(config, Arc::new(agent), instances, machine).await;
            exits.exited(if ended.is_ok() { 0 } else { 256 });
        });
        self.running.lock().unwrap().insert(start.container, handle);
        Ok(None)
    }

    fn kill(&self, container: &ContainerId) {
        if self.forgetful.load(Ordering::Relaxed) {
            return;
        }
        if let Some(handle) = self.running.lock().unwrap().remove(container) {
            handle.abort();
        }
    }
}

/// A world whose agent is a sandbox's.
struct Sandboxed {
    /// Only its files, keys and address.
    world: World,
    mesos: RunningMesos,
    executors: Arc<Executors>,
    master: HttpScheduler,
    framework: FrameworkId,
    stream_id: String,
    events: EventStream<scheduler::Event>,
    _work: tempfile::TempDir,
    shutdown: CancellationToken,
}

impl Sandboxed {
    /// With a redis that runs.
    async fn serving(on_agent_loss: OnAgentLoss) -> (Self, Report) {
        let world = World::new(Kind::Redis, |address| common::redis_conf(address, ""));
        world.change(|keys| keys.info.on_agent_loss = on_agent_loss);
        let work = tempfile::tempdir().unwrap();
        let agent = AgentConfig {
            name: "a".to_owned(),
            ip: world.address.ip,
            port: 0,
            cpus: 4.0,
            mem_mib: 1024.0,
            disk_mib: 1024.0,
            ports: vec![(20_000, 20_010)],
            attributes: Vec::new(),
            work_dir: work.path().to_owned(),
            hostname: None,
            domain: None,
            reserved: Vec::new(),
        };
        let IpAddr::V4(_) = world.address.ip else { panic!("an address of the loopback network") };
        let mut config = MesosConfig::new(vec![agent], 7);
        config.timings.recovery = RECOVERY;
        config.ping_timeout = Duration::from_secs(600);
        let executors = Arc::new(Executors {
            root: world.root.path().to_owned(),
            instances: Arc::new(world.keys.clone()),
            tasks: Mutex::default(),
            running: Mutex::default(),
            forgetful: AtomicBool::new(false),
        });
        let shutdown = CancellationToken::new();
        let launcher: Arc<dyn Launcher> = Arc::clone(&executors) as _;
        let mesos = overlord_sandbox::Mesos::start_http(config, launcher, shutdown.clone()).await.unwrap();
        let master = HttpScheduler::new([mesos.master_addr.to_string()], HttpConfig::default()).unwrap();
        let subscribe = call(json!({"type": "SUBSCRIBE", "subscribe": {"framework_info": {
            "user": "root", "name": "test", "failover_timeout": 3600.0, "checkpoint": true, "roles": ["*"],
            "capabilities": [{"type": "PARTITION_AWARE"}, {"type": "MULTI_ROLE"}, {"type": "RESERVATION_REFINEMENT"}],
        }}}));
        let subscription = master.subscribe(&subscribe).await.unwrap();
        let mut this = Self {
            world,
            mesos,
            executors,
            master,
            framework: FrameworkId::default(),
            stream_id: subscription.stream_id,
            events: subscription.events,
            _work: work,
            shutdown,
        };
        this.framework = this.next().await.subscribed.unwrap().framework_id;
        this.launch().await;
        let (_, report) = this
            .status(|status, report| {
                status.state == TaskState::Running
                    && report.is_some_and(|report| report.state == State::Running)
            })
            .await;
        (this, report.unwrap())
    }

    async fn next(&mut self) -> scheduler::Event {
        let event = tokio::time::timeout(PATIENCE, self.events.next()).await.expect("an event in time");
        event.expect("the stream goes on").unwrap()
    }

    async fn tell(&self, mut body: Value) {
        body["framework_id"] = json!({"value": self.framework.as_str()});
        self.master.call(&self.stream_id, &call(body)).await.unwrap();
    }

    async fn launch(&mut self) {
        let offer = loop {
            if let Some(offers) = self.next().await.offers {
                break offers.offers.into_iter().next().unwrap();
            }
        };
        let scalar = |name: &str, value: f64| {
            json!({"name": name, "type": "SCALAR", "scalar": {"value": value},
            "allocation_info": {"role": "*"}})
        };
        let task = json!({
            "name": "t", "task_id": {"value": TASK}, "agent_id": {"value": offer.agent_id.as_str()},
            "resources": [scalar("cpus", 0.1), scalar("mem", 64.0)],
            "executor": {"type": "CUSTOM", "executor_id": {"value": TASK}, "command": {"value": "unused"},
                "resources": [scalar("cpus", 0.1), scalar("mem", 32.0)]},
            "data": STANDARD.encode(self.world.address.to_string()),
            "labels": {"labels": [{"key": CLUSTER_LABEL, "value": "orders"}]},
        });
        self.tell(json!({"type": "ACCEPT", "accept": {
            "offer_ids": [{"value": offer.id.as_str()}],
            "operations": [{"type": "LAUNCH", "launch": {"task_infos": [task]}}],
        }}))
        .await;
    }

    /// The next status that fits; all that want it are acknowledged.
    async fn status(
        &mut self,
        fits: impl Fn(&TaskStatus, Option<&Report>) -> bool,
    ) -> (TaskStatus, Option<Report>) {
        loop {
            let Some(update) = self.next().await.update else { continue };
            let status = update.status;
            if let (Some(uuid), Some(agent)) = (&status.uuid, &status.agent_id) {
                self.tell(json!({"type": "ACKNOWLEDGE", "acknowledge": {
                    "agent_id": {"value": agent.as_str()}, "task_id": {"value": TASK}, "uuid": uuid,
                }}))
                .await;
            }
            let data = status.data.as_ref().map(|data| STANDARD.decode(data).unwrap());
            let report: Option<Report> = data.map(|data| serde_json::from_slice(&data).unwrap());
            if fits(&status, report.as_ref()) {
                return (status, report);
            }
        }
    }

    /// Waits until the executor has ended by itself.
    async fn executor_ends(&self) {
        let over = tokio::time::timeout(PATIENCE, async {
            while !self.executors.running.lock().unwrap().values().all(AbortHandle::is_finished) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        over.await.expect("the executor ends");
    }

    async fn end(self, pid: u32) {
        self.executors.tasks.lock().unwrap().abort_all();
        self.shutdown.cancel();
        if is_alive(pid) {
            common::signal(pid, rustix::process::Signal::KILL);
        }
        self.mesos.stopped().await;
    }
}

fn call(body: Value) -> scheduler::Call {
    serde_json::from_value(body).unwrap()
}

#[tokio::test]
async fn an_agent_that_restarts_finds_its_executor_and_the_server_never_stopped() {
    let (mut mesos, report) = Sandboxed::serving(OnAgentLoss::Stop).await;
    let pid = report.pid.unwrap();
    for _ in 0..2 {
        assert!(mesos.mesos.mesos.agent_restart("a"));
        // Once it is back the executor says how the server is.
        let (_, again) =
            mesos.status(|status, report| status.state == TaskState::Running && report.is_some()).await;
        assert_eq!(again, Some(report.clone()));
    }
    assert!(is_alive(pid) && mesos.world.ask("PING").await.starts_with("+PONG"));
    mesos.end(pid).await;
}

#[tokio::test]
async fn what_happens_while_the_agent_is_away_is_told_when_it_is_back() {
    let (mut mesos, report) = Sandboxed::serving(OnAgentLoss::Keep).await;
    let pid = report.pid.unwrap();
    assert!(mesos.mesos.mesos.agent_kill("a"));
    // Beyond the recovery timeout it is kept, and its death healed.
    tokio::time::sleep(RECOVERY + Duration::from_secs(1)).await;
    assert!(is_alive(pid));
    common::signal(pid, rustix::process::Signal::KILL);
    assert!(mesos.mesos.mesos.agent_return("a"));
    let (_, healed) = mesos
        .status(|_, report| {
            report.is_some_and(|report| report.state == State::Running && report.pid != Some(pid))
        })
        .await;
    let healed = healed.unwrap();
    assert_eq!(healed.restarts, 1);
    assert!(mesos.world.ask("PING").await.starts_with("+PONG"));
    mesos.end(healed.pid.unwrap()).await;
}

#[tokio::test]
async fn beyond_the_recovery_timeout_the_server_is_stopped_where_the_spec_says_so() {
    let (mut mesos, report) = Sandboxed::serving(OnAgentLoss::Stop).await;
    let pid = report.pid.unwrap();
    assert!(mesos.mesos.mesos.agent_kill("a"));
    mesos.executor_ends().await;
    assert!(!is_alive(pid));
    assert!(mesos.world.dir().exists(), "its directory stays");
    assert!(mesos.mesos.mesos.agent_return("a"));
    let (status, _) = mesos.status(|status, _| status.state == TaskState::Failed).await;
    assert_eq!(status.message.as_deref(), Some("Executor terminated"));
    mesos.end(pid).await;
}

#[tokio::test]
async fn an_agent_that_is_another_one_now_ends_what_it_does_not_know() {
    let (mesos, report) = Sandboxed::serving(OnAgentLoss::Keep).await;
    let pid = report.pid.unwrap();
    mesos.executors.forgetful.store(true, Ordering::Relaxed);
    assert!(mesos.mesos.mesos.agent_new_id("a"));
    mesos.executor_ends().await;
    assert!(!is_alive(pid), "its port is offered again");
    assert!(mesos.world.dir().exists(), "its directory stays");
    mesos.end(pid).await;
}
