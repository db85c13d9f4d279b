//! What a sandboxed Mesos is made of: one master, its agents, their time-outs.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

/// One Mesos on this machine.
#[derive(Debug, Clone)]
pub struct MesosConfig {
    /// Where the master listens; port 0 takes a free one.
    pub master: SocketAddr,
    /// The agents; names are unique.
    pub agents: Vec<AgentConfig>,
    /// After how long without an answer an agent is unreachable. Mesos' default is 75 s.
    pub ping_timeout: Duration,
    /// Where to keep what a restart must not forget; `None` forgets.
    pub state_dir: Option<PathBuf>,
    /// Where ids come from: one seed, one run.
    pub seed: u64,
    /// Wall-clock time, since 1970, at the start. `None`: the machine's clock over HTTP, a fixed date in memory.
    pub epoch: Option<Duration>,
    /// The other time-outs.
    pub timings: Timings,
}

impl MesosConfig {
    /// A Mesos with these agents, a master on a free port of 127.0.0.1, and Mesos' own time-outs.
    pub fn new(agents: Vec<AgentConfig>, seed: u64) -> Self {
        Self {
            master: SocketAddr::from(([127, 0, 0, 1], 0)),
            agents,
            ping_timeout: Duration::from_secs(75),
            state_dir: None,
            seed,
            epoch: None,
            timings: Timings::default(),
        }
    }
}

/// One agent.
#[derive(Debug, Clone)]
pub struct AgentConfig {
    /// Names it here; its Mesos id changes when it loses its work directory.
    pub name: String,
    /// Where it listens, and what its offers say.
    pub ip: IpAddr,
    /// Its API's port; 0 takes a free one.
    pub port: u16,
    /// Processors.
    pub cpus: f64,
    /// Memory.
    pub mem_mib: f64,
    /// Disk.
    pub disk_mib: f64,
    /// Ranges of ports, both ends included.
    pub ports: Vec<(u16, u16)>,
    /// Text attributes.
    pub attributes: Vec<(String, String)>,
    /// Where executors get their directories.
    pub work_dir: PathBuf,
}

/// Time-outs of master and agents, with the defaults of Mesos 1.11's flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timings {
    /// Between HEARTBEATs.
    pub heartbeat: Duration,
    /// Between allocations (`--allocation_interval`).
    pub allocation: Duration,
    /// For an executor's first SUBSCRIBE (`--executor_registration_timeout`).
    pub registration: Duration,
    /// For executors to come back to a restarted agent (`--executor_reregistration_timeout`).
    pub reregistration: Duration,
    /// What executors are told they may wait for a lost agent (`--recovery_timeout`).
    pub recovery: Duration,
    /// Between SHUTDOWN and SIGKILL (`--executor_shutdown_grace_period`).
    pub shutdown_grace: Duration,
    /// How long a restarted agent is away.
    pub restart: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_secs(15),
            allocation: Duration::from_secs(1),
            registration: Duration::from_secs(60),
            reregistration: Duration::from_secs(2),
            recovery: Duration::from_secs(15 * 60),
            shutdown_grace: Duration::from_secs(5),
            restart: Duration::from_secs(1),
        }
    }
}
