//! A sandbox of its own for each test: own loopback network, own ports, own directory.

use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::{binary, disk::Disk, eventually, network::Network, processes_in, signal};

/// Where controllers of their own processes listen: on an address of the sandbox's network, so that no
/// port has to be found; each on the next port, so that two can run at once.
const API_IP: u8 = 253;
const API_PORT: u16 = 8880;

/// Lines of each log that a failed test shows.
const LOG_LINES: usize = 60;

/// How a sandbox differs from the usual one.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is set by its name, and independent of the others")]
pub struct Options {
    /// Agents.
    pub agents: u8,
    /// Seconds until a lost agent's tasks are unreachable.
    pub agent_timeout: u64,
    /// Whether the sandbox runs a controller itself; else [`Sandbox::start_controller`].
    pub controller: bool,
    /// Seconds after which a dead controller of its own process is replaced.
    pub lease: u64,
    /// Whether executors get the binary through Mesos' fetcher.
    pub deliver: bool,
    /// Whether its folder, with all logs, is kept when the test fails.
    pub keep: bool,
    /// Whether each agent has a small disk of its own, where that is permitted: [`Sandbox::fill_disk`].
    pub small_disks: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            agents: 6,
            agent_timeout: 1,
            controller: true,
            lease: 2,
            deliver: false,
            keep: false,
            small_disks: false,
        }
    }
}

/// A running sandbox. Dropped, it is killed, and its supervisor ends everything it started.
#[derive(Debug)]
pub struct Sandbox {
    child: Option<Child>,
    /// Before the folder they are in: they go first.
    disks: Vec<Disk>,
    dir: TempDir,
    options: Options,
    network: Network,
    addresses: Value,
    api: String,
    /// Controllers that were started.
    controllers: u16,
    http: reqwest::Client,
}

/// A controller of its own process.
#[derive(Debug)]
pub struct Controller {
    child: Child,
    api: String,
}

#[expect(clippy::expect_used, reason = "the tests' own way to fail")]
impl Sandbox {
    /// Starts one and waits until it is of use.
    ///
    /// # Panics
    /// When it does not become so.
    pub async fn start(options: Options) -> Self {
        let dir = tempfile::Builder::new().prefix("overlord-test-").tempdir().expect("temp dir");
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30));
        let mut sandbox = Self {
            child: None,
            disks: Vec::new(),
            dir,
            options,
            network: Network::take(),
            addresses: Value::Null,
            api: String::new(),
            controllers: 0,
            http: http.build().expect("HTTP client"),
        };
        if sandbox.options.small_disks {
            let disks = (1..=sandbox.options.agents).map(|n| Disk::mount(&sandbox.agent_data(n)));
            sandbox.disks = disks.collect::<Option<_>>().unwrap_or_default();
        }
        sandbox.boot().await;
        sandbox
    }

    /// Starts the sandbox process in the same directory and network again.
    ///
    /// # Panics
    /// When it does not become of use.
    pub async fn boot(&mut self) {
        let root = self.root();
        std::fs::create_dir_all(&root).expect("sandbox dir");
        let file = root.join("addresses.json");
        let _ = std::fs::remove_file(&file);
        let log = self.open_log("sandbox.log");
        let mut command = Command::new(binary());
        command
            .args(["sandbox", "--api", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .args(["--etcd-port", "0", "--master-port", "0", "--log-level", "info"])
            .args(["--network", &self.network.ip(0).to_string()])
            .args(["--agents", &self.options.agents.to_string()])
            .args(["--agent-timeout", &self.options.agent_timeout.to_string()])
            .arg("--dir")
            .arg(&root)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("log"))
            .stderr(log)
            .kill_on_drop(true);
        if !self.options.controller {
            command.arg("--no-controller");
        }
        if self.options.deliver {
            command.arg("--deliver");
        }
        self.child = Some(command.spawn().expect("overlord sandbox"));
        self.addresses = eventually("the sandbox says where it listens", || async {
            let text = std::fs::read_to_string(&file).map_err(|e| format!("{e}; log: {}", self.log()))?;
            serde_json::from_str::<Value>(&text).map_err(|e| e.to_string())
        })
        .await;
        if let Some(api) = self.addresses["api"].as_str() {
            api.clone_into(&mut self.api);
            self.wait_leader().await;
        }
    }

    /// Where it keeps everything.
    pub fn root(&self) -> PathBuf {
        self.dir.path().join("s")
    }

    /// A place for the test's own files.
    pub fn scratch(&self) -> &Path {
        self.dir.path()
    }

    /// Where agent `n`, counted from 1, keeps the data of instances.
    pub fn agent_data(&self, n: u8) -> PathBuf {
        self.root().join(format!("agents/agent-{n}/data"))
    }

    pub(crate) fn disk(&self, n: u8) -> Option<&Disk> {
        self.disks.get(usize::from(n).checked_sub(1)?)
    }

    /// The address of agent `n`, counted from 1.
    pub const fn agent_ip(&self, n: u8) -> Ipv4Addr {
        self.network.ip(n)
    }

    /// The number of the agent with that address.
    ///
    /// # Panics
    /// When the text is no address.
    pub fn agent_at(&self, address: &str) -> u8 {
        let ip: Ipv4Addr = address.split(':').next().unwrap_or_default().parse().expect("an ip");
        ip.octets()[3]
    }

    /// etcd's URL.
    pub fn etcd(&self) -> String {
        self.addresses["etcd"].as_str().unwrap_or_default().to_owned()
    }

    /// The master's `host:port`.
    pub fn master(&self) -> String {
        self.addresses["master"].as_str().unwrap_or_default().to_owned()
    }

    /// The sandbox process.
    ///
    /// # Panics
    /// When it does not run.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().and_then(Child::id).expect("a running sandbox")
    }

    /// What the sandbox said, for messages.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("sandbox.log")).unwrap_or_default()
    }

    fn open_log(&self, name: &str) -> std::fs::File {
        let path = self.dir.path().join(name);
        std::fs::File::options().create(true).append(true).open(path).expect("log")
    }

    /// Kills the sandbox process with SIGKILL.
    ///
    /// # Panics
    /// When it cannot be waited for.
    pub async fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().await.expect("kill the sandbox");
        }
    }

    /// Ends it as Ctrl-C does, and waits.
    ///
    /// # Panics
    /// When it does not end in order.
    pub async fn interrupt(&mut self) {
        if let Some(mut child) = self.child.take() {
            signal(child.id().expect("pid"), rustix::process::Signal::INT);
            let ended = tokio::time::timeout(Duration::from_secs(60), child.wait()).await;
            let status = ended.expect("the sandbox ends").expect("wait for the sandbox");
            assert!(status.success(), "the sandbox ended with {status}; log: {}", self.log());
        }
    }

    /// Ends it as Ctrl-C does, and waits until nothing of it is left.
    pub async fn end(mut self) {
        self.interrupt().await;
        self.wait_empty().await;
    }

    /// Starts a controller process (for sandboxes without one) and waits until it leads.
    pub async fn start_controller(&mut self) -> Controller {
        self.start_controller_with(&[]).await
    }

    /// The same with further flags.
    pub async fn start_controller_with(&mut self, flags: &[&str]) -> Controller {
        let controller = self.spawn_controller_with(flags);
        self.wait_leader().await;
        controller
    }

    /// Starts a controller process without waiting for anything. Its API is asked from now on.
    ///
    /// # Panics
    /// When there is no process to be had.
    pub fn spawn_controller(&mut self) -> Controller {
        self.spawn_controller_with(&[])
    }

    /// The same with further flags.
    ///
    /// # Panics
    /// When there is no process to be had.
    pub fn spawn_controller_with(&mut self, flags: &[&str]) -> Controller {
        let listen = format!("{}:{}", self.network.ip(API_IP), API_PORT + self.controllers);
        self.controllers += 1;
        let log = self.open_log("controller.log");
        let child = Command::new(binary())
            .args(["controller", "--listen", &listen, "--log-level", "info"])
            .args(["--lease", &format!("{}s", self.options.lease)])
            .arg("--config")
            .arg(self.root().join("overlord.toml"))
            .args(flags)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("log"))
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .expect("overlord controller");
        self.api = format!("http://{listen}");
        Controller { child, api: self.api.clone() }
    }

    /// The API of the controller that is started next.
    pub fn next_api(&self) -> String {
        format!("http://{}:{}", self.network.ip(API_IP), API_PORT + self.controllers)
    }

    /// Has the API of that controller asked from now on.
    pub fn ask_at(&mut self, api: &str) {
        api.clone_into(&mut self.api);
    }

    /// Waits until the controller at this API leads: a dead one's key outlives it by its lease.
    pub async fn wait_leader(&self) {
        eventually("the controller leads", || async {
            let leader = self.etcd_json("/overlord/leader").await;
            if leader["api"] != self.api.as_str() {
                return Err(format!("the leader is {leader}; log: {}", self.log()));
            }
            // The key is won a moment before the API may listen.
            let answer = self.http.get(format!("{}/readyz", self.api)).send().await;
            answer.map(|_| ()).map_err(|error| error.to_string())
        })
        .await;
    }

    /// The API's URL.
    pub fn api(&self) -> &str {
        &self.api
    }

    pub(crate) const fn http(&self) -> &reqwest::Client {
        &self.http
    }

    /// Runs the command line against this sandbox.
    pub async fn run(&self, arguments: &[&str]) -> Output {
        self.run_with(arguments, "").await
    }

    /// The same with something on standard input.
    ///
    /// # Panics
    /// When the program cannot be run.
    pub async fn run_with(&self, arguments: &[&str], input: &str) -> Output {
        use tokio::io::AsyncWriteExt as _;
        let mut child = Command::new(binary())
            .args(arguments)
            // The settings of whoever runs the tests are none of theirs.
            .env("XDG_CONFIG_HOME", self.dir.path())
            .env("OVERLORD_SERVER", &self.api)
            .env("OVERLORD_SANDBOX_ADMIN", self.addresses["admin"].as_str().unwrap_or_default())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("overlord");
        let mut stdin = child.stdin.take().expect("stdin");
        // A command that reads nothing closes it.
        let _ = stdin.write_all(input.as_bytes()).await;
        drop(stdin);
        child.wait_with_output().await.expect("overlord")
    }

    /// Runs the command line; its output, when it succeeds.
    pub async fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments).await;
        succeeded(arguments, &output)
    }

    /// Applies a manifest and waits until it is Ready.
    pub async fn apply(&self, manifest: &str) -> String {
        let arguments = ["apply", "-f", "-", "--wait", "--timeout", "2m"];
        let output = self.run_with(&arguments, manifest).await;
        succeeded(&arguments, &output)
    }

    /// Applies a manifest and waits for nothing.
    pub async fn declare(&self, manifest: &str) -> String {
        let arguments = ["apply", "-f", "-"];
        let output = self.run_with(&arguments, manifest).await;
        succeeded(&arguments, &output)
    }

    /// Breaks or mends an agent: `agent-lost`, `agent-return`, `agent-restart`.
    pub async fn fault(&self, fault: &str, agent: u8) {
        self.ok(&["sandbox", "fault", fault, &format!("agent-{agent}")]).await;
    }

    /// `etcdctl`, as a person would use it.
    ///
    /// # Panics
    /// When it fails.
    pub async fn etcdctl(&self, arguments: &[&str]) -> String {
        let output = Command::new("etcdctl")
            .env("ETCDCTL_API", "3")
            .arg(format!("--endpoints={}", self.etcd()))
            .args(arguments)
            .output()
            .await
            .expect("etcdctl");
        succeeded(arguments, &output)
    }
}

impl Controller {
    /// Where its API listens, which is how the leader key names it.
    pub fn api(&self) -> &str {
        &self.api
    }

    /// The controller process.
    ///
    /// # Panics
    /// When it has ended.
    #[expect(clippy::expect_used, reason = "the tests' own way to fail")]
    pub fn pid(&self) -> u32 {
        self.child.id().expect("a running controller")
    }

    /// How it ended, when it has.
    pub fn ended(&mut self) -> Option<std::process::ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Kills it with SIGKILL.
    ///
    /// # Panics
    /// When it cannot be waited for.
    #[expect(clippy::expect_used, reason = "the tests' own way to fail")]
    pub async fn kill(mut self) {
        self.child.kill().await.expect("kill the controller");
    }

    /// Ends it as SIGTERM does, and waits.
    ///
    /// # Panics
    /// When it does not end.
    #[expect(clippy::expect_used, reason = "the tests' own way to fail")]
    pub async fn stop(mut self) {
        signal(self.child.id().expect("pid"), rustix::process::Signal::TERM);
        let ended = tokio::time::timeout(Duration::from_secs(60), self.child.wait()).await;
        ended.expect("the controller ends").expect("wait for the controller");
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for name in ["sandbox.log", "controller.log"] {
                let text = std::fs::read_to_string(self.dir.path().join(name)).unwrap_or_default();
                let lines: Vec<&str> = text.lines().collect();
                let tail = &lines[lines.len().saturating_sub(LOG_LINES)..];
                if !tail.is_empty() {
                    eprintln!("--- the end of {name}\n{}", tail.join("\n"));
                }
            }
            if self.options.keep {
                self.dir.disable_cleanup(true);
                eprintln!("--- all logs and data are kept in {}", self.dir.path().display());
            }
        }
        drop(self.child.take());
        // The directory must not go while processes still write to it.
        wait_empty_here(&self.root());
    }
}

/// Waits for the last process, for a while. Not asynchronous: a test that failed has no runtime left.
#[expect(clippy::disallowed_methods, reason = "there is no runtime, and no event, to wait with")]
fn wait_empty_here(root: &Path) {
    for _ in 0..200 {
        if processes_in(root).is_empty() {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn succeeded(arguments: &[&str], output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {}\n{text}\n{errors}", output.status);
    text
}
