//! Masters by `zk://`, against a real ZooKeeper (Debian's package `zookeeper`): two fake masters with a node
//! and a listener each, and the whole scheduler client.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "helpers of tests")]

use std::{
    net::{SocketAddr, TcpListener as StdListener},
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use overlord_mesos::{
    HttpConfig, HttpScheduler, RetryBounds, SchedulerConfig, SchedulerEvent, SchedulerHandle, scheduler,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    process::{Child, Command},
    sync::mpsc,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use zookeeper_client::{Acls, Client, CreateMode};

/// For whatever is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

const JAR: &str = "/usr/share/java/zookeeper.jar";

/// A server of its own, on a free port, in a directory of its own. Ends with the test.
struct ZooKeeper {
    folder: TempDir,
    port: u16,
    process: Child,
}

impl ZooKeeper {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = StdListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let process = Self::spawn(folder.path(), port);
        let zookeeper = Self { folder, port, process };
        zookeeper.answers().await;
        zookeeper
    }

    fn spawn(folder: &Path, port: u16) -> Child {
        let data = folder.join("data");
        std::fs::create_dir_all(&data).unwrap();
        let config = format!(
            "tickTime=100\ndataDir={}\nclientPort={port}\nclientPortAddress=127.0.0.1\nadmin.enableServer=false\n",
            data.display()
        );
        std::fs::write(folder.join("zoo.cfg"), config).unwrap();
        let log = std::fs::File::create(folder.join("log")).unwrap();
        Command::new("java")
            .args(["-Xmx128m", "-cp", JAR, "org.apache.zookeeper.server.ZooKeeperServerMain"])
            .arg(folder.join("zoo.cfg"))
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .expect("java; the Debian packages zookeeper and default-jre-headless are needed")
    }

    fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    async fn answers(&self) {
        let listening = async {
            while TcpStream::connect(self.address()).await.is_err() {
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(PATIENCE, listening).await.expect("ZooKeeper listens");
    }

    async fn kill(&mut self) {
        self.process.kill().await.unwrap();
    }

    async fn start_again(&mut self) {
        self.process = Self::spawn(self.folder.path(), self.port);
        self.answers().await;
    }

    fn forget_everything(&self) {
        std::fs::remove_dir_all(self.folder.path().join("data")).unwrap();
    }

    /// A session that stays until it is closed; `auth` as `user:password`.
    async fn session(&self, auth: Option<&str>) -> Client {
        let opened = async {
            loop {
                let mut connector = Client::connector()
                    .with_session_timeout(Duration::from_secs(3600))
                    // One that listens but does not serve yet says nothing.
                    .with_connection_timeout(Duration::from_secs(1));
                if let Some(auth) = auth {
                    connector = connector.with_auth("digest", auth.as_bytes());
                }
                if let Ok(client) = connector.connect(&self.address().to_string()).await {
                    return client;
                }
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(PATIENCE, opened).await.expect("a session")
    }
}

/// A master: accepts each subscription and keeps it open without a word, answers 202 to all else.
struct FakeMaster {
    id: String,
    address: SocketAddr,
    subscribed: Arc<Mutex<usize>>,
    _accepting: JoinSet<()>,
}

impl FakeMaster {
    async fn start(id: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let subscribed = Arc::new(Mutex::new(0));
        let seen = Arc::clone(&subscribed);
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            let mut streams = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                streams.spawn(serve(socket, Arc::clone(&seen)));
            }
        });
        Self { id: id.to_owned(), address, subscribed, _accepting: accepting }
    }

    fn subscriptions(&self) -> usize {
        *self.subscribed.lock().unwrap()
    }

    /// What a master writes of itself.
    fn info(&self) -> String {
        let (id, port) = (&self.id, self.address.port());
        format!(
            r#"{{"address":{{"hostname":"no.such.host.invalid","ip":"127.0.0.1","port":{port}}},"capabilities":[{{"type":"AGENT_UPDATE"}},{{}}],"hostname":"no.such.host.invalid","id":"{id}","ip":16777343,"pid":"master@127.0.0.1:{port}","port":{port},"version":"1.11.1"}}"#
        )
    }

    /// Contends for leadership; gives the node's path.
    async fn contend(&self, session: &Client, path: &str, acls: Acls<'_>) -> String {
        let prefix = format!("{path}/json.info_");
        let options = CreateMode::EphemeralSequential.with_acls(acls);
        let (_, sequence) = session.create(&prefix, self.info().as_bytes(), &options).await.unwrap();
        format!("{prefix}{sequence}")
    }
}

async fn serve(mut socket: TcpStream, subscribed: Arc<Mutex<usize>>) {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        match socket.read(&mut chunk).await {
            Ok(read) if read > 0 => bytes.extend_from_slice(&chunk[..read]),
            _ => return,
        }
        let text = String::from_utf8_lossy(&bytes);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .map_or(0, |(_, value)| value.parse().unwrap());
        if body.len() < length {
            continue;
        }
        let answer = if body.contains(r#""SUBSCRIBE""#) {
            *subscribed.lock().unwrap() += 1;
            // A heartbeat interval that no test lives to see: a change must be noticed by other means.
            let event = r#"{"type":"SUBSCRIBED","subscribed":{"framework_id":{"value":"fw"},"heartbeat_interval_seconds":300.0}}"#;
            format!(
                "HTTP/1.1 200 OK\r\nMesos-Stream-Id: s\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{}\n{event}\r\n",
                event.len() + event.len().to_string().len() + 1,
                event.len()
            )
        } else {
            "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n".to_owned()
        };
        bytes.clear();
        if socket.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// The client under test.
struct Framework {
    handle: SchedulerHandle,
    events: mpsc::Receiver<SchedulerEvent>,
    _driving: JoinSet<()>,
}

impl Framework {
    fn start(masters: &str) -> Self {
        let mut config =
            SchedulerConfig::new("root", "test", vec!["*".to_owned()], Duration::from_secs(3600));
        config.retry = RetryBounds { min: Duration::from_millis(10), max: Duration::from_millis(200) };
        config.subscribe_timeout = Duration::from_secs(5);
        let http = HttpConfig {
            zookeeper_session: Duration::from_secs(2),
            call_timeout: Duration::from_secs(5),
            ..HttpConfig::default()
        };
        // As a list that was split at its commas.
        let transport = HttpScheduler::new(masters.split(','), http).unwrap();
        let (handle, driver, events) = scheduler(config, Arc::new(transport), 1);
        let mut driving = JoinSet::new();
        driving.spawn(driver.run(CancellationToken::new()));
        Self { handle, events, _driving: driving }
    }

    async fn next(&mut self) -> SchedulerEvent {
        timeout(PATIENCE, self.events.recv()).await.expect("an event in time").expect("the driver lives")
    }

    /// Waits for the next subscription; gives the reasons why there was none.
    async fn subscribed(&mut self) -> Vec<String> {
        let mut reasons = Vec::new();
        loop {
            match self.next().await {
                SchedulerEvent::Subscribed { .. } => return reasons,
                SchedulerEvent::Disconnected { reason } => reasons.push(reason),
                other => panic!("{other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn the_lowest_node_leads_and_a_change_ends_the_subscription_at_once() {
    let zookeeper = ZooKeeper::start().await;
    let (first, second) = (FakeMaster::start("a").await, FakeMaster::start("b").await);
    let url = format!("zk://me:p@ss@{},127.0.0.1:1/some/mesos", zookeeper.address());
    let mut framework = Framework::start(&url);
    let SchedulerEvent::Disconnected { reason } = framework.next().await else { panic!() };
    assert!(reason.contains("there is no node /some/mesos") || reason.contains("said nothing"), "{reason}");
    assert!(!reason.contains("p@ss"), "{reason}");

    // Nobody else may read it: what the client reads, it reads as `me`.
    let session = zookeeper.session(Some("me:p@ss")).await;
    let mine = Acls::creator_all();
    session.mkdir("/some/mesos", &CreateMode::Persistent.with_acls(mine)).await.unwrap();
    session.create("/some/mesos/log_replicas", b"", &CreateMode::Persistent.with_acls(mine)).await.unwrap();
    let leading = first.contend(&session, "/some/mesos", mine).await;
    framework.subscribed().await;
    second.contend(&session, "/some/mesos", mine).await;
    framework.handle.revive(Vec::new()).await.unwrap();
    assert_eq!((first.subscriptions(), second.subscriptions()), (1, 0), "a higher node changes nothing");

    session.delete(&leading, None).await.unwrap();
    let reasons = framework.subscribed().await;
    assert!(reasons[0].contains(&format!("the leader changed to {}", second.address)), "{reasons:?}");
    assert_eq!((first.subscriptions(), second.subscriptions()), (1, 1));

    // The last master goes: that is noticed too, and so is the one that comes then.
    drop(session);
    let SchedulerEvent::Disconnected { reason } = framework.next().await else { panic!() };
    assert!(reason.contains("/some/mesos holds no master"), "{reason}");
    let session = zookeeper.session(Some("me:p@ss")).await;
    first.contend(&session, "/some/mesos", mine).await;
    framework.subscribed().await;
    assert_eq!((first.subscriptions(), second.subscriptions()), (2, 1));
}

#[tokio::test]
async fn a_subscription_outlives_zookeeper_and_an_expired_session_is_opened_again() {
    let mut zookeeper = ZooKeeper::start().await;
    let (first, second) = (FakeMaster::start("a").await, FakeMaster::start("b").await);
    let open = Acls::anyone_all();
    let persistent = CreateMode::PersistentSequential.with_acls(open);
    let session = zookeeper.session(None).await;
    session.mkdir("/mesos", &CreateMode::Persistent.with_acls(open)).await.unwrap();
    session.create("/mesos/json.info_", first.info().as_bytes(), &persistent).await.unwrap();
    drop(session);
    let mut framework = Framework::start(&format!("zk://{}/mesos", zookeeper.address()));
    framework.subscribed().await;
    let subscription = framework.handle.subscription();

    zookeeper.kill().await;
    framework.handle.revive(Vec::new()).await.unwrap();
    zookeeper.start_again().await;
    assert_eq!(framework.handle.subscription(), subscription, "its stream is all that counts");

    // A server that has lost its data knows neither nodes nor sessions: ours has expired.
    zookeeper.kill().await;
    zookeeper.forget_everything();
    zookeeper.start_again().await;
    let session = zookeeper.session(None).await;
    session.mkdir("/mesos", &CreateMode::Persistent.with_acls(open)).await.unwrap();
    session.create("/mesos/json.info_", second.info().as_bytes(), &persistent).await.unwrap();
    framework.subscribed().await;
    assert_eq!((first.subscriptions(), second.subscriptions()), (1, 1));
}
