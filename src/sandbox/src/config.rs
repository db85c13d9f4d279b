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
    /// Who may speak as a framework; empty: everyone, without credentials.
    pub credentials: Vec<Credentials>,
    /// Masters that do not lead: they redirect to the one that does. Port 0 takes a free one.
    pub followers: Vec<SocketAddr>,
    /// No master leads: all of them wait for an election that does not come.
    pub leaderless: bool,
    /// Whether the command executor speaks the HTTP API (`--http_command_executor`): it heeds the policy of KILL.
    pub http_command_executor: bool,
    /// How long an offer holds (`--offer_timeout`); `None`: until it is used.
    pub offer_timeout: Option<Duration>,
    /// The masters' fault domain. Agents in another region are offered to `REGION_AWARE` frameworks only.
    pub domain: Option<Domain>,
}

/// A name and its password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Who.
    pub principal: String,
    /// The password.
    pub secret: String,
}

/// Where something stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Domain {
    /// Region.
    pub region: String,
    /// Zone.
    pub zone: String,
}

/// Resources that an agent keeps for a role (static reservation).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Reserved {
    /// For whom.
    pub role: String,
    /// Processors.
    pub cpus: f64,
    /// Memory.
    pub mem_mib: f64,
    /// Disk.
    pub disk_mib: f64,
    /// Ranges of ports, both ends included.
    pub ports: Vec<(u16, u16)>,
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
            credentials: Vec::new(),
            followers: Vec::new(),
            leaderless: false,
            http_command_executor: false,
            offer_timeout: None,
            domain: None,
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
    /// Attributes; what looks like a number becomes one, as with `--attributes` of a real agent.
    pub attributes: Vec<(String, String)>,
    /// Where executors get their directories.
    pub work_dir: PathBuf,
    /// What its offers call it; `None`: its address.
    pub hostname: Option<String>,
    /// Its fault domain.
    pub domain: Option<Domain>,
    /// What it has beside the above, for one role only.
    pub reserved: Vec<Reserved>,
}

impl AgentConfig {
    /// An agent with 8 processors, 8 GiB, 20 GB, the ports 20000-29999, on a free port of 127.0.0.1.
    pub fn new(name: impl Into<String>, work_dir: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            ip: IpAddr::from([127, 0, 0, 1]),
            port: 0,
            cpus: 8.0,
            mem_mib: 8192.0,
            disk_mib: 20_000.0,
            ports: vec![(20_000, 29_999)],
            attributes: Vec::new(),
            work_dir: work_dir.into(),
            hostname: None,
            domain: None,
            reserved: Vec::new(),
        }
    }
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
    /// Before an unacknowledged update is repeated for the first time; doubled each time, up to 10 minutes.
    pub update_retry: Duration,
    /// How long one of the agent's own executors takes to start.
    pub executor_start: Duration,
    /// How long a new master reads its registry and answers 503.
    pub master_recovery: Duration,
    /// After how long agents come back to a new master. `None`: those with followers around hear of it at once,
    /// others when they miss its pings.
    pub agents_return: Option<Duration>,
    /// After how long a new master gives up an agent that it knows from its registry
    /// (`--agent_reregister_timeout`).
    pub agent_reregister: Duration,
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
            update_retry: Duration::from_secs(10),
            executor_start: Duration::from_millis(100),
            master_recovery: Duration::from_millis(100),
            agents_return: None,
            agent_reregister: Duration::from_secs(600),
        }
    }
}
