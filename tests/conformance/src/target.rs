//! What the cases are played to.

use std::{fmt, net::SocketAddr, time::Duration};

use futures::future::BoxFuture;

/// Something that frameworks cannot do. A control script gets the name and the argument.
///
/// | action | argument | what is to be done |
/// | --- | --- | --- |
/// | `agent-kill` | agent id | end the agent's process with SIGKILL; its executors live on |
/// | `agent-start` | agent id | start it again with its work directory |
/// | `agent-restart` | agent id | both, as fast as possible |
/// | `agent-new` | agent id | start it again with an empty work directory, at the same address |
/// | `agent-unregister` | agent id | end it with SIGUSR1 |
/// | `master-kill` | `leader` | end the leading master with SIGKILL |
/// | `master-start` | `leader` | start the one that was ended last |
/// | `executor-kill` | `framework id/executor id` | end the executor's process with SIGKILL |
/// | `flags` | `name=value ...` | restart master and all agents, also those marked gone, with these flags besides the usual ones |
/// | `follower` | | print `host:port` of a standby master |
/// | `leaderless` | | print `host:port` of a master that knows no leader |
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// SIGKILL for an agent.
    AgentKill,
    /// Start of an ended agent.
    AgentStart,
    /// SIGKILL and start.
    AgentRestart,
    /// Start with an empty work directory.
    AgentNew,
    /// SIGUSR1 for an agent.
    AgentUnregister,
    /// SIGKILL for the leading master.
    MasterKill,
    /// Start of the ended master.
    MasterStart,
    /// SIGKILL for an executor.
    ExecutorKill,
    /// Other flags.
    Flags,
    /// Where a standby master is.
    Follower,
    /// Where a master without a leader is.
    Leaderless,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AgentKill => "agent-kill",
            Self::AgentStart => "agent-start",
            Self::AgentRestart => "agent-restart",
            Self::AgentNew => "agent-new",
            Self::AgentUnregister => "agent-unregister",
            Self::MasterKill => "master-kill",
            Self::MasterStart => "master-start",
            Self::ExecutorKill => "executor-kill",
            Self::Flags => "flags",
            Self::Follower => "follower",
            Self::Leaderless => "leaderless",
        })
    }
}

/// The master and agents a case is played to.
pub trait Target: Send + Sync {
    /// The master that stands for the one at that address in the capture.
    fn master(&self, captured: &str) -> SocketAddr;

    /// How many agents it has.
    fn agents(&self) -> usize;

    /// Whether it was made for this case alone.
    fn is_own(&self) -> bool;

    /// Ends a framework that a case left.
    fn tear_down<'a>(&'a self, framework: &'a str) -> BoxFuture<'a, ()>;

    /// How much shorter than recorded its own time-outs are: 1 is as recorded.
    fn scale(&self) -> f64;

    /// Does what frameworks cannot do.
    fn control<'a>(&'a self, action: Action, argument: &'a str) -> BoxFuture<'a, Result<String, String>>;
}

/// The masters of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Masters {
    /// One, which leads.
    One,
    /// One that leads, and one that follows it.
    Two,
    /// One that knows no leader.
    Leaderless,
}

/// How master and agents are to be set up: the flags of the capture.
#[derive(Debug, Clone)]
pub struct Setup {
    /// How many agents there are at least.
    pub agents: usize,
    /// Whether the recording had one agent only.
    pub alone: bool,
    /// `--agent_ping_timeout` times `--max_agent_ping_timeouts`.
    pub ping: Duration,
    /// `--offer_timeout`.
    pub offer_timeout: Option<Duration>,
    /// `--authenticate_http_frameworks`, with this principal and secret.
    pub credentials: Option<(&'static str, &'static str)>,
    /// Which masters there are.
    pub masters: Masters,
    /// The agents' `--recovery_timeout`.
    pub recovery: Option<Duration>,
    /// `--executor_registration_timeout`.
    pub registration: Option<Duration>,
    /// The agents' `--http_command_executor`.
    pub http_command_executor: bool,
    /// After how long the sandbox's agents notice a new master; `None`: when they miss its pings.
    pub agents_return: Option<Duration>,
    /// Whether a restarted master forgets what it knew: `--registry=in_memory`.
    pub forgets: bool,
    /// How much shorter the sandbox's time-outs are than the recorded ones, where waiting is long: 1 is as recorded.
    pub scale: f64,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            agents: 1,
            alone: false,
            ping: Duration::from_secs(75),
            offer_timeout: None,
            credentials: None,
            masters: Masters::One,
            recovery: None,
            registration: None,
            http_command_executor: false,
            agents_return: None,
            forgets: false,
            scale: 1.0,
        }
    }
}

impl Setup {
    /// The flags that a master and its agents have to be started with, where they are not the usual ones.
    pub fn flags(&self) -> Vec<String> {
        let seconds = |name: &str, time: Duration| format!("{name}={}secs", time.as_secs_f64());
        let mut flags = Vec::new();
        if self.ping != Self::default().ping {
            flags.push("agent_ping_timeout=1secs".to_owned());
            flags.push(format!("max_agent_ping_timeouts={}", self.ping.as_secs()));
        }
        flags.extend(self.offer_timeout.map(|time| seconds("offer_timeout", time)));
        flags.extend(self.recovery.map(|time| seconds("recovery_timeout", time)));
        flags.extend(self.registration.map(|time| seconds("executor_registration_timeout", time)));
        flags.extend(self.credentials.map(|(principal, secret)| format!("credentials={principal}:{secret}")));
        if self.http_command_executor {
            flags.push("http_command_executor=true".to_owned());
        }
        if self.forgets {
            flags.push("registry=in_memory".to_owned());
        }
        flags
    }
}
