//! What the tests of the executor share: an agent in memory, keys that a test changes, and a data root
//! of its own on an ip of its own.
#![allow(dead_code, reason = "each test binary uses a part")]
#![allow(unreachable_pub, reason = "a module of test binaries")]

use std::{
    fs,
    net::Ipv4Addr,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures::StreamExt as _;
use overlord_api::{
    Address, ClusterName, Desired, Info, Kind, NUDGE, Observed, OnAgentLoss, OnDisk, Report, Resources, State,
};
use overlord_executor::{
    CLUSTER_LABEL, Config, Error, Install, Instances, Keys, Limits, LinuxMachine, Machine, ReadError, run,
};
use overlord_mesos::{
    EventStream, ExecutorEnv, ExecutorTransport, TransportError,
    v1::{
        ExecutorId, FrameworkId, Label, Labels, TaskId, TaskInfo, TaskState,
        executor::{Acknowledged, Call, CallType, Data, Event, EventType, Kill, Launch, Subscribed},
    },
};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{sync::mpsc, task::JoinSet};

pub const TASK: &str = "01234567.0.0.1";

/// Nothing here takes a tenth of it.
const PATIENCE: Duration = Duration::from_secs(40);

/// An agent in memory: takes updates, confirms them, and sends what the test wants.
pub struct Agent {
    events: Mutex<mpsc::UnboundedSender<Event>>,
    stream: Mutex<Option<mpsc::UnboundedReceiver<Event>>>,
    updates: mpsc::UnboundedSender<(String, TaskState, Report)>,
}

pub type Updates = mpsc::UnboundedReceiver<(String, TaskState, Report)>;

impl Agent {
    pub fn new() -> (Arc<Self>, Updates) {
        let (events, stream) = mpsc::unbounded_channel();
        let (updates, received) = mpsc::unbounded_channel();
        (Arc::new(Self { events: Mutex::new(events), stream: Mutex::new(Some(stream)), updates }), received)
    }

    pub fn send(&self, event: Event) {
        self.events.lock().unwrap().send(event).unwrap();
    }

    pub fn launch(&self, task_id: &str, cluster: &str, address: Address) {
        let labels = vec![Label { key: CLUSTER_LABEL.to_owned(), value: Some(cluster.to_owned()) }];
        let task = TaskInfo {
            task_id: TaskId::new(task_id),
            data: Some(STANDARD.encode(address.to_string())),
            labels: Some(Labels { labels }),
            ..TaskInfo::default()
        };
        self.send(Event { kind: EventType::Launch, launch: Some(Launch { task }), ..Event::default() });
    }

    pub fn kill(&self, task_id: &str) {
        let kill = Kill { task_id: TaskId::new(task_id), kill_policy: None };
        self.send(Event { kind: EventType::Kill, kill: Some(kill), ..Event::default() });
    }

    /// Ends the subscription, and takes the next one.
    pub fn restart(&self) {
        let (events, stream) = mpsc::unbounded_channel();
        *self.stream.lock().unwrap() = Some(stream);
        *self.events.lock().unwrap() = events;
    }

    /// Ends the subscription, and takes none any more.
    pub fn leave(&self) {
        *self.events.lock().unwrap() = mpsc::unbounded_channel().0;
    }

    pub fn nudge(&self) {
        let message = Data { data: STANDARD.encode(NUDGE) };
        self.send(Event { kind: EventType::Message, message: Some(message), ..Event::default() });
    }
}

#[async_trait]
impl ExecutorTransport for Agent {
    async fn subscribe(&self, _: &Call) -> Result<EventStream<Event>, TransportError> {
        let Some(mut stream) = self.stream.lock().unwrap().take() else {
            return Err(TransportError::Unavailable { peer: "agent".to_owned(), message: "gone".to_owned() });
        };
        let subscribed = Event {
            kind: EventType::Subscribed,
            subscribed: Some(Subscribed::default()),
            ..Event::default()
        };
        let rest = futures::stream::poll_fn(move |context| stream.poll_recv(context));
        Ok(futures::stream::iter([subscribed]).chain(rest).map(Ok).boxed())
    }

    async fn call(&self, call: &Call) -> Result<(), TransportError> {
        assert_eq!(call.kind, CallType::Update);
        let status = &call.update.as_ref().unwrap().status;
        let data = STANDARD.decode(status.data.as_ref().expect("an update has data")).unwrap();
        assert!(data.len() <= overlord_api::MAX_REPORT);
        let report: Report = serde_json::from_slice(&data).unwrap();
        assert_eq!(status.message.as_deref().unwrap_or_default(), report.message);
        let acknowledged = Acknowledged {
            task_id: status.task_id.clone(),
            uuid: status.uuid.clone().expect("an update has a uuid"),
        };
        let _ = self.updates.send((status.task_id.value.clone(), status.state, report));
        self.send(Event {
            kind: EventType::Acknowledged,
            acknowledged: Some(acknowledged),
            ..Event::default()
        });
        Ok(())
    }
}

/// Keys that a test changes.
#[derive(Clone)]
pub struct TestKeys(pub Arc<Mutex<Option<Keys>>>);

#[async_trait]
impl Instances for TestKeys {
    async fn read(&self, _: &ClusterName, _: Address) -> Result<Option<Keys>, ReadError> {
        Ok(self.0.lock().unwrap().clone())
    }
}

pub fn info(kind: Kind, address: Address, task: &str) -> Info {
    Info {
        version: 1,
        uid: "0123456789abcdef0123456789abcdef".to_owned(),
        member: 0,
        incarnation: 0,
        kind,
        engine: kind.engine(),
        engine_version: if kind == Kind::Memcache { "1.6.18" } else { "7.0.15" }.to_owned(),
        ip: address.ip,
        port: address.port,
        bus_port: None,
        host: address.ip.to_string(),
        rack: None,
        zone: None,
        agent_id: "agent".to_owned(),
        mesos_task_id: task.to_owned(),
        node_id: None,
        shard: None,
        alias: "orders-0".to_owned(),
        weight: 1,
        resources: Resources { cpu_millis: 100, memory: 64 << 20, disk: 0 },
        on_disk: OnDisk::Delete,
        on_agent_loss: OnAgentLoss::Keep,
        launches: 0,
        template: None,
        desired: Desired { state: State::Running, config: 1, restart: 0, recover: 0 },
        observed: Observed::pending(jiff::Timestamp::UNIX_EPOCH),
    }
}

pub fn redis_conf(address: Address, more: &str) -> String {
    format!(
        "bind {}\nport {}\nprotected-mode no\ndaemonize no\ndir .\nlogfile \"\"\nsave \"\"\n{more}",
        address.ip, address.port
    )
}

/// One executor on a data root of its own.
pub struct World {
    pub root: tempfile::TempDir,
    pub address: Address,
    pub kind: Kind,
    pub keys: TestKeys,
    pub limits: Limits,
    pub install: Option<Install>,
    pub agent: Arc<Agent>,
    pub updates: Updates,
    executors: JoinSet<Result<(), Error>>,
}

impl World {
    /// A world whose engine is the one of this machine.
    pub fn new(kind: Kind, conf: impl FnOnce(Address) -> String) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        // 127/8 is all loopback: each test has an ip, so that ports never meet.
        let own = std::process::id() % (120 << 8);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let ip = Ipv4Addr::from((127 << 24) | ((own + (2 << 8)) << 8) | (n % 254 + 1));
        let address = Address::new(ip.into(), 20_001);
        let keys = Keys { info: info(kind, address, TASK), server_conf: conf(address), nodes_conf: None };
        let (agent, updates) = Agent::new();
        let limits = Limits { reread: Duration::from_secs(5), ..Limits::default() };
        let world = Self {
            root: tempfile::tempdir().unwrap(),
            address,
            kind,
            keys: TestKeys(Arc::new(Mutex::new(Some(keys)))),
            limits,
            install: None,
            agent,
            updates,
            executors: JoinSet::new(),
        };
        let installed = format!("/usr/bin/{}", kind.engine().binary());
        fs::create_dir_all(world.binary().parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(installed, world.binary()).unwrap();
        world
    }

    pub fn binary(&self) -> PathBuf {
        let (engine, version) =
            (self.kind.engine(), if self.kind == Kind::Memcache { "1.6.18" } else { "7.0.15" });
        self.root.path().join("lib").join(engine.as_str()).join(version).join("bin").join(engine.binary())
    }

    /// The binary is a script instead.
    pub fn script(&self, text: &str) {
        fs::remove_file(self.binary()).unwrap();
        fs::write(self.binary(), text).unwrap();
        fs::set_permissions(self.binary(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }

    pub fn dir(&self) -> PathBuf {
        self.root.path().join(self.kind.as_str()).join("20001")
    }

    /// Starts the executor and launches the task.
    pub fn launch(&mut self) {
        self.start_executor();
        self.agent.launch(TASK, "orders", self.address);
    }

    pub fn start_executor(&mut self) {
        let machine: Arc<dyn Machine> =
            Arc::new(LinuxMachine::new(self.root.path(), self.install.clone()).unwrap());
        let env = ExecutorEnv::new("127.0.0.1:5051", FrameworkId::new("f"), ExecutorId::new(TASK));
        let config = Config {
            env,
            limits: self.limits.clone(),
            seed: 1,
            stop: tokio_util::sync::CancellationToken::new(),
        };
        let (agent, keys) = (Arc::clone(&self.agent), Arc::new(self.keys.clone()));
        self.executors.spawn(run(config, agent, keys, machine));
    }

    /// As if the executor was killed: its servers live on.
    pub async fn abort_executor(&mut self) {
        self.executors.shutdown().await;
        (self.agent, self.updates) = Agent::new();
    }

    pub fn change(&self, change: impl FnOnce(&mut Keys)) {
        change(self.keys.0.lock().unwrap().as_mut().expect("there are keys"));
    }

    /// Changes the keys as the leader does, and nudges.
    pub fn order(&self, order: impl FnOnce(&mut Keys)) {
        self.change(order);
        self.agent.nudge();
    }

    /// The next update of the task that fits.
    pub async fn update(&mut self, what: &str, fits: impl Fn(TaskState, &Report) -> bool) -> Report {
        let mut seen = Vec::new();
        let found = tokio::time::timeout(PATIENCE, async {
            loop {
                let (task, state, report) = self.updates.recv().await.expect("the executor lives");
                assert_eq!(
                    task,
                    self.keys
                        .0
                        .lock()
                        .unwrap()
                        .as_ref()
                        .map_or(TASK.to_owned(), |k| k.info.mesos_task_id.clone())
                );
                if fits(state, &report) {
                    return report;
                }
                seen.push((state, report));
            }
        });
        let Ok(report) = found.await else { panic!("{what} never came, but {seen:#?}") };
        report
    }

    pub async fn running(&mut self) -> Report {
        self.update("running", |state, report| state == TaskState::Running && report.state == State::Running)
            .await
    }

    pub async fn failed(&mut self) -> String {
        self.update("failed", |state, _| state == TaskState::Failed).await.message
    }

    /// Waits for the end of the executor.
    pub async fn ended(&mut self) {
        let ended = tokio::time::timeout(PATIENCE, self.executors.join_next()).await;
        ended.expect("the executor ends").expect("there is an executor").unwrap().unwrap();
    }

    /// Sends a command to the server and reads one answer.
    pub async fn ask(&self, command: &str) -> String {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut stream = tokio::net::TcpStream::connect(self.address.socket()).await.unwrap();
        stream.write_all(format!("{command}\r\n").as_bytes()).await.unwrap();
        let mut answer = vec![0; 64 << 10];
        let length = tokio::time::timeout(PATIENCE, stream.read(&mut answer)).await.unwrap().unwrap();
        String::from_utf8_lossy(&answer[..length]).into_owned()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // It would start again what is killed here.
        self.executors.abort_all();
        // Reports name only those processes that somebody read of.
        let Ok(processes) = fs::read_dir("/proc") else { return };
        for entry in processes.flatten() {
            let pid = entry.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw);
            let cwd = fs::read_link(entry.path().join("cwd"));
            if let (Some(pid), Ok(cwd)) = (pid, cwd)
                && cwd.starts_with(self.root.path())
            {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
    }
}

pub fn signal(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), signal).unwrap();
}

pub fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}
