//! A sandbox of the measured binary, in a directory and on a network of its own.

use std::{
    fs::File,
    net::IpAddr,
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use overlord_reconcile::Clock as _;
use overlord_tests::{processes_in, signal};
use rustix::process::Signal;
use serde::Deserialize;
use tokio::time::{sleep, timeout};

use crate::{Failure, floor::Network, specs::Setup};

/// Until it is of use.
const START_LIMIT: Duration = Duration::from_secs(60);

/// From SIGTERM to SIGKILL: it lets a hundred servers end in order.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// Until nothing of it is left after SIGKILL.
const DEATH_LIMIT: Duration = Duration::from_secs(20);

/// Between looks at files and processes, which offer no event.
const LOOK: Duration = Duration::from_millis(10);

/// A running sandbox. Dropped, it ends with everything it started.
#[derive(Debug)]
pub(crate) struct Sandbox {
    child: Child,
    addresses: Addresses,
    dir: PathBuf,
    _network: Network,
}

#[derive(Debug, Default, Deserialize)]
struct Addresses {
    etcd: String,
    api: String,
}

impl Sandbox {
    /// Starts one and waits until a controller leads.
    pub(crate) async fn start(setup: &Setup) -> Result<Self, Failure> {
        let dir = setup.folder()?;
        let network = Network::take()?;
        let root = dir.join("s");
        std::fs::create_dir(&root)?;
        let log = File::create(dir.join("sandbox.log"))?;
        let child = Command::new(&setup.overlord)
            .args(["sandbox", "--api", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .args(["--etcd-port", "0", "--master-port", "0"])
            .args(["--network", &network.first().to_string()])
            .arg("--dir")
            .arg(&root)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // Ctrl-C is ours to handle.
            .process_group(0)
            .spawn()
            .map_err(|error| format!("{}: {error}", setup.overlord.display()))?;
        let mut sandbox = Self { child, addresses: Addresses::default(), dir, _network: network };
        match timeout(START_LIMIT, sandbox.ready()).await {
            Ok(Ok(())) => Ok(sandbox),
            Ok(Err(error)) => Err(format!("the sandbox: {error}\n{}", sandbox.log()).into()),
            Err(_) => {
                let waited = START_LIMIT.as_secs();
                Err(format!("the sandbox is not ready after {waited} s\n{}", sandbox.log()).into())
            }
        }
    }

    async fn ready(&mut self) -> Result<(), Failure> {
        let file = self.root().join("addresses.json");
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Err(format!("it ended: {status}").into());
            }
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            if let Ok(addresses) = serde_json::from_str(&text) {
                self.addresses = addresses;
                break;
            }
            sleep(LOOK).await;
        }
        let url = format!("{}/readyz", self.addresses.api);
        while !reqwest::get(&url).await.is_ok_and(|answer| answer.status().is_success()) {
            sleep(LOOK).await;
        }
        Ok(())
    }

    /// What it said, for messages.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("sandbox.log")).unwrap_or_default()
    }

    /// Its directory.
    pub(crate) fn root(&self) -> PathBuf {
        self.dir.join("s")
    }

    /// The directory of the agent with this address: agents are numbered as their addresses are.
    pub(crate) fn agent(&self, ip: IpAddr) -> PathBuf {
        let n = match ip {
            IpAddr::V4(ip) => ip.octets()[3],
            IpAddr::V6(_) => 0,
        };
        self.root().join("agents").join(format!("agent-{n}"))
    }

    /// etcd's URL.
    pub(crate) fn etcd(&self) -> &str {
        &self.addresses.etcd
    }

    /// The API's URL.
    pub(crate) fn api(&self) -> &str {
        &self.addresses.api
    }

    /// Controller, Mesos and API: one process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything that runs in its directory.
    pub(crate) fn processes(&self) -> Vec<(u32, String)> {
        processes_in(&self.root())
    }

    fn wait(&mut self, limit: Duration) -> bool {
        let clock = overlord_reconcile::SystemClock::new();
        while clock.monotonic() < limit {
            if !matches!(self.child.try_wait(), Ok(None)) && self.processes().is_empty() {
                return true;
            }
            pause();
        }
        false
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            signal(self.child.id(), Signal::TERM);
        }
        if self.wait(STOP_LIMIT) {
            return;
        }
        // Its supervisor ends what it started.
        let _ = self.child.kill();
        if !self.wait(DEATH_LIMIT) {
            for (pid, line) in self.processes() {
                eprintln!("bench: left by the sandbox, and killed: {pid} {line}");
                signal(pid, Signal::KILL);
            }
        }
    }
}

/// Nothing else can run meanwhile, and nothing has to.
#[expect(clippy::disallowed_methods, reason = "a destructor cannot await")]
fn pause() {
    std::thread::sleep(LOOK);
}
