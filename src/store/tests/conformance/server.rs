//! Real etcd processes: on free ports, in directories of their own, ended when dropped.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use etcd_client::{AlarmAction, AlarmType, CompactionOptions};
use overlord_store::{Revision, Store as _};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

use crate::world::{PATIENCE, store_of};

/// A member on its own elects itself as soon as it may.
const ALONE: (&str, &str) = ("10", "100");
/// Several must not lose their leader just because the machine is busy.
const TOGETHER: (&str, &str) = ("100", "1000");

/// A server says to nobody when it is ready.
const POLL: Duration = Duration::from_millis(20);

/// One etcd, alone or a member of a cluster.
pub(crate) struct Etcd {
    name: String,
    client: u16,
    peer: u16,
    /// The members' addresses, as etcd wants them.
    cluster: String,
    directory: TempDir,
    /// How often it was restored: each time into a directory of its own.
    restored: u32,
    /// Further flags.
    flags: &'static [&'static str],
    /// Heartbeat interval and election timeout, in milliseconds.
    pace: (&'static str, &'static str),
    /// `http` or `https`, towards clients.
    scheme: &'static str,
    process: Option<Child>,
}

impl Etcd {
    /// A single etcd that answers.
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    pub(crate) async fn start_with(flags: &'static [&'static str]) -> Self {
        // A port that was free a moment ago may be taken by now: then with others.
        for _ in 0..5 {
            let mut etcd = Self::member(1);
            etcd.flags = flags;
            etcd.cluster = etcd.address();
            if etcd.launch().await {
                return etcd;
            }
        }
        panic!("etcd does not start");
    }

    /// A single etcd that speaks TLS to clients with a certificate.
    pub(crate) async fn start_with_tls() -> Self {
        for _ in 0..5 {
            let mut etcd = Self::member(1);
            etcd.scheme = "https";
            etcd.cluster = etcd.address();
            if etcd.launch_unasked().await {
                return etcd;
            }
        }
        panic!("etcd does not start");
    }

    /// Three members of one cluster, all of which answer.
    pub(crate) async fn cluster() -> Vec<Self> {
        'ports: for _ in 0..5 {
            let mut members: Vec<Self> = (1..=3).map(Self::member).collect();
            let cluster = members.iter().map(Self::address).collect::<Vec<_>>().join(",");
            for member in &mut members {
                member.cluster.clone_from(&cluster);
                member.pace = TOGETHER;
                member.spawn();
            }
            for member in &mut members {
                if !member.answers().await {
                    continue 'ports;
                }
            }
            return members;
        }
        panic!("the etcd cluster does not start");
    }

    fn member(number: u8) -> Self {
        let (client, peer) = free_ports();
        let directory = TempDir::new().unwrap();
        let name = format!("m{number}");
        Self {
            name,
            client,
            peer,
            cluster: String::new(),
            directory,
            restored: 0,
            flags: &[],
            pace: ALONE,
            scheme: "http",
            process: None,
        }
    }

    fn address(&self) -> String {
        format!("{}=http://127.0.0.1:{}", self.name, self.peer)
    }

    pub(crate) fn url(&self) -> String {
        format!("{}://127.0.0.1:{}", self.scheme, self.client)
    }

    pub(crate) const fn port(&self) -> u16 {
        self.client
    }

    fn spawn(&mut self) {
        let client = self.url();
        let peer = format!("http://127.0.0.1:{}", self.peer);
        let mut etcd = Command::new("etcd");
        if self.scheme == "https" {
            let file = |name| format!("{}/tests/fixtures/{name}", env!("CARGO_MANIFEST_DIR"));
            etcd.args(["--client-cert-auth", "--trusted-ca-file", &file("ca.pem")]).args([
                "--cert-file",
                &file("server.pem"),
                "--key-file",
                &file("server.key"),
            ]);
        }
        let etcd = etcd
            .args(["--name", &self.name, "--data-dir"])
            .arg(self.data())
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &self.cluster])
            .args(["--heartbeat-interval", self.pace.0, "--election-timeout", self.pace.1])
            .args(self.flags)
            .args(["--logger", "zap", "--log-level", "fatal"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.process = Some(etcd.expect("etcd is installed"));
    }

    /// Starts, or starts again on what it has stored.
    pub(crate) async fn launch(&mut self) -> bool {
        self.spawn();
        self.answers().await
    }

    /// The same, without asking what only those who are let in may ask.
    pub(crate) async fn launch_unasked(&mut self) -> bool {
        self.spawn();
        let listens = async {
            while self.runs() {
                if tokio::net::TcpStream::connect(("127.0.0.1", self.client)).await.is_ok() {
                    return true;
                }
                sleep(POLL).await;
            }
            false
        };
        timeout(PATIENCE, listens).await.unwrap_or(false)
    }

    async fn answers(&mut self) -> bool {
        let store = store_of(&[self.url()]);
        let answers = async {
            while self.runs() {
                if store.get("ready?").await.is_ok() {
                    return true;
                }
                sleep(POLL).await;
            }
            false
        };
        timeout(PATIENCE, answers).await.unwrap_or(false)
    }

    fn runs(&mut self) -> bool {
        self.process.as_mut().is_some_and(|etcd| etcd.try_wait().unwrap().is_none())
    }

    /// kill -9.
    pub(crate) fn kill(&mut self) {
        if let Some(mut etcd) = self.process.take() {
            etcd.kill().unwrap();
            etcd.wait().unwrap();
        }
    }

    /// Stops it without ending it, as a machine does that swaps: connections stay, nobody answers.
    pub(crate) fn freeze(&self) {
        self.signal("-STOP");
    }

    pub(crate) fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let id = self.process.as_ref().expect("a running etcd").id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join(format!("data{}", self.restored))
    }

    /// What only the command line does.
    fn ctl(arguments: &[&str]) {
        let run = Command::new("etcdctl").env("ETCDCTL_API", "3").args(arguments).output();
        let output = run.expect("etcdctl is installed");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Saves a backup beside the data.
    pub(crate) fn snapshot(&self) -> PathBuf {
        let file = self.directory.path().join("backup.db");
        Self::ctl(&["--endpoints", &self.url(), "snapshot", "save", file.to_str().unwrap()]);
        file
    }

    /// Stops, replaces the data by a backup, and starts again at the same address.
    pub(crate) async fn restore(&mut self, backup: &Path) {
        self.kill();
        self.restored += 1;
        let peer = format!("http://127.0.0.1:{}", self.peer);
        let data = self.data();
        Self::ctl(&[
            "snapshot",
            "restore",
            backup.to_str().unwrap(),
            "--name",
            &self.name,
            "--initial-cluster",
            &self.cluster,
            "--initial-advertise-peer-urls",
            &peer,
            "--data-dir",
            data.to_str().unwrap(),
        ]);
        assert!(self.launch().await, "etcd starts on its backup");
    }

    /// Raises or clears the alarm that an exceeded quota raises.
    pub(crate) async fn set_alarm_no_space(&self, alarm: bool) {
        let mut client = self.client().await;
        let action = if alarm { AlarmAction::Activate } else { AlarmAction::Deactivate };
        client.alarm(action, AlarmType::Nospace, None).await.unwrap();
    }

    /// Starts it again with a quota that its file has outgrown, or with room and without the alarm.
    pub(crate) async fn set_full(&mut self, full: bool) {
        self.kill();
        self.flags = if full { &["--quota-backend-bytes", "4096"] } else { &[] };
        assert!(self.launch().await);
        if !full {
            Self::ctl(&["--endpoints", &self.url(), "alarm", "disarm"]);
        }
    }

    /// Makes room: forgets history up to `revision`, gives the pages back, clears the alarm; as the manual says.
    pub(crate) async fn make_room(&self, revision: Revision) {
        let mut client = self.client().await;
        client.compact(revision, Some(CompactionOptions::new().with_physical())).await.unwrap();
        client.defragment().await.unwrap();
        Self::ctl(&["--endpoints", &self.url(), "alarm", "disarm"]);
    }

    pub(crate) async fn compact(&self, revision: Revision) {
        self.client().await.compact(revision, None).await.unwrap();
    }

    /// For what the store does not offer.
    pub(crate) async fn client(&self) -> etcd_client::Client {
        etcd_client::Client::connect([self.url()], None).await.unwrap()
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.kill();
    }
}

fn free_ports() -> (u16, u16) {
    let free = || TcpListener::bind("127.0.0.1:0").unwrap();
    let (one, other) = (free(), free());
    (one.local_addr().unwrap().port(), other.local_addr().unwrap().port())
}
