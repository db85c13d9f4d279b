//! A Mesos in a process of its own: a real master over HTTP, agents whose executors are stubs. So that what
//! is measured does not share its processor time.

use std::{
    io::{BufRead as _, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use overlord_sandbox::{AgentConfig, Launcher, Mesos, MesosConfig};
use overlord_tests::StubExecutors;
use tokio_util::sync::CancellationToken;

use crate::Failure;

/// The word that makes this program such a Mesos.
pub(crate) const WORD: &str = "stub-mesos";

/// Ports of each agent.
const PORTS: (u16, u16) = (20_000, 20_999);

/// Above the addresses that sandboxes take.
const FIRST_AGENT: u32 = u32::from_be_bytes([127, 240, 0, 1]);

/// A running one. Dropped, it ends.
#[derive(Debug)]
pub(crate) struct Master {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Master {
    pub(crate) fn start(agents: u32) -> Result<Self, Failure> {
        let mut child = Command::new(std::env::current_exe()?)
            .args([WORD, &agents.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().ok_or("no pipe")?;
        let mut line = String::new();
        std::io::BufReader::new(stdout).read_line(&mut line)?;
        let address = line.trim().parse().map_err(|_| format!("the stub Mesos said {line:?}"))?;
        Ok(Self { child, address })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs one until standard input ends.
pub(crate) fn run(agents: &str) -> Result<(), Failure> {
    let agents: u32 = agents.parse()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let mut config = MesosConfig::new((0..agents).map(agent).collect(), 1);
        // Offers come when they are asked for.
        config.timings.allocation = Duration::from_secs(3600);
        let stubs = StubExecutors::default();
        let shutdown = CancellationToken::new();
        let launcher: Arc<dyn Launcher> = Arc::new(stubs.clone());
        let running = Mesos::start_http(config, launcher, shutdown.clone()).await?;
        stubs.belong_to(&running.mesos);
        println!("{}", running.master_addr);
        std::io::stdout().flush()?;
        // Nothing is ever said there: it ends with whoever started this.
        let _ = tokio::task::spawn_blocking(|| std::io::stdin().read(&mut [0])).await;
        shutdown.cancel();
        running.stopped().await;
        Ok(())
    })
}

fn agent(n: u32) -> AgentConfig {
    AgentConfig {
        ip: IpAddr::V4(Ipv4Addr::from(FIRST_AGENT + n)),
        cpus: 16.0,
        mem_mib: 65_536.0,
        disk_mib: 1_000_000.0,
        ports: vec![PORTS],
        attributes: vec![("rack".to_owned(), format!("r{}", n % 40))],
        ..AgentConfig::new(format!("agent-{n}"), "/nonexistent")
    }
}
