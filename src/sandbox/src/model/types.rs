//! The model's records: frameworks, agents, executors, tasks, update streams, offers.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::SocketAddr,
    path::PathBuf,
    time::Duration,
};

use overlord_mesos::v1::{
    AgentId, AgentInfo, Attribute, CapabilityType, ContainerId, ExecutorId, ExecutorInfo, FrameworkId,
    FrameworkInfo, OfferId, TaskId, TaskInfo, TaskState, TaskStatus, scheduler::Kill,
};

use super::{StreamKey, pool::Pool};

/// A task id is unique within its framework.
pub(crate) type TaskKey = (FrameworkId, TaskId);
/// An executor id is unique within its framework on one agent.
pub(crate) type ExecutorKey = (FrameworkId, ExecutorId);
/// Thousandths of cpus, mem and disk.
pub(crate) type Usage = [i64; 3];

#[derive(Debug)]
pub(crate) struct Framework {
    pub(crate) info: FrameworkInfo,
    pub(crate) roles: Vec<String>,
    pub(crate) suppressed: BTreeSet<String>,
    pub(crate) subscription: Option<(StreamKey, String)>,
    /// Counts subscriptions and disconnects, so that an old fail-over timer is recognised.
    pub(crate) generation: u64,
    pub(crate) filters: BTreeMap<(AgentId, String), Vec<Filter>>,
    pub(crate) offers: BTreeSet<OfferId>,
    /// Offered and used, by role.
    pub(crate) usage: BTreeMap<String, Usage>,
}

impl Framework {
    pub(crate) fn has(&self, capability: CapabilityType) -> bool {
        self.info.capabilities.iter().any(|c| c.kind == capability)
    }

    pub(crate) fn checkpoints(&self) -> bool {
        self.info.checkpoint.unwrap_or(false)
    }

    pub(crate) fn failover_timeout(&self) -> Duration {
        let seconds = self.info.failover_timeout.unwrap_or(0.0).max(0.0);
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }
}

/// "Not these resources, nor fewer, until then."
#[derive(Debug)]
pub(crate) struct Filter {
    pub(crate) refused: Pool,
    pub(crate) until: Duration,
}

#[derive(Debug)]
pub(crate) struct OpenOffer {
    pub(crate) framework: FrameworkId,
    pub(crate) agent: String,
    pub(crate) role: String,
    pub(crate) pool: Pool,
}

/// The agent's own process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AgentProcess {
    Up,
    /// Started, and waiting for its executors to come back.
    Recovering,
    Down,
}

/// The master's view of an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Registration {
    Registered,
    Disconnected,
    Unreachable { since: Duration },
}

#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) id: AgentId,
    pub(crate) address: SocketAddr,
    pub(crate) work_dir: PathBuf,
    pub(crate) attributes: Vec<Attribute>,
    pub(crate) total: Pool,
    /// Neither used nor offered.
    pub(crate) free: Pool,
    pub(crate) offers: BTreeSet<OfferId>,
    pub(crate) process: AgentProcess,
    pub(crate) registration: Registration,
    /// Counts changes of `process`, so that an old timer is recognised.
    pub(crate) generation: u64,
    pub(crate) executors: BTreeMap<ExecutorKey, Executor>,
    pub(crate) updates: BTreeMap<TaskKey, UpdateStream>,
}

impl Agent {
    pub(crate) fn is_registered(&self) -> bool {
        self.registration == Registration::Registered
    }

    pub(crate) fn info(&self) -> AgentInfo {
        AgentInfo {
            hostname: self.address.ip().to_string(),
            port: Some(u32::from(self.address.port())),
            resources: self.total.to_wire(None, false),
            attributes: self.attributes.clone(),
            id: Some(self.id.clone()),
            domain: None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExecutorState {
    /// Its process is being started or has not subscribed; its tasks wait.
    Registering,
    Registered,
    /// It was told to end.
    Terminating,
}

#[derive(Debug)]
pub(crate) struct Executor {
    pub(crate) info: ExecutorInfo,
    pub(crate) container: ContainerId,
    pub(crate) state: ExecutorState,
    pub(crate) stream: Option<StreamKey>,
    pub(crate) pid: Option<u32>,
    pub(crate) role: String,
    /// What it takes itself, without its tasks.
    pub(crate) pool: Pool,
    /// Tasks that are not terminal.
    pub(crate) tasks: BTreeSet<TaskId>,
    /// Those of `tasks` that it was not given yet, in order.
    pub(crate) queued: VecDeque<TaskId>,
    /// Why the agent kills it, as message and reason of its tasks' last update.
    pub(crate) cause: Option<(String, &'static str)>,
    /// Its wait status, when it ended while its agent was down.
    pub(crate) exited: Option<i32>,
    /// Whether it came back since its agent started.
    pub(crate) resubscribed: bool,
}

#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) info: TaskInfo,
    pub(crate) agent: AgentId,
    pub(crate) executor: ExecutorId,
    pub(crate) role: String,
    pub(crate) pool: Pool,
    /// The newest state that the agent knows.
    pub(crate) state: TaskState,
    /// The state of the update that is in flight or was last acknowledged: what reconciliation answers.
    pub(crate) shown: TaskState,
    pub(crate) container_status: Option<serde_json::Value>,
    pub(crate) healthy: Option<bool>,
    /// Whether `pool` was given back.
    pub(crate) released: bool,
    pub(crate) unreachable_since: Option<Duration>,
    /// A KILL that came while the agent was away.
    pub(crate) kill: Option<Kill>,
}

/// What an agent has to tell about one task: one at a time, until acknowledged.
#[derive(Debug, Default)]
pub(crate) struct UpdateStream {
    pub(crate) pending: VecDeque<TaskStatus>,
    /// Every uuid that came, so that one that comes twice is forwarded once.
    pub(crate) seen: BTreeSet<String>,
    /// How often the first of `pending` was sent.
    pub(crate) attempts: u32,
    /// Of the timer that repeats it.
    pub(crate) serial: u64,
}

/// What happens later. Each timer checks when it fires whether it still means anything.
#[derive(Debug, Clone)]
pub(crate) enum Timer {
    Allocate,
    Heartbeat(StreamKey),
    Failover {
        framework: FrameworkId,
        generation: u64,
    },
    /// The ping time-out of a disconnected agent.
    Ping {
        agent: String,
        generation: u64,
    },
    /// A restarted agent's process is there.
    Start {
        agent: String,
        generation: u64,
    },
    /// A recovering agent has waited long enough for its executors.
    Recovered {
        agent: String,
        generation: u64,
    },
    /// An executor had time to register.
    Registration(ContainerId),
    /// An executor had time to shut down.
    Grace(ContainerId),
    /// An update may have to be sent again.
    Retry {
        agent: AgentId,
        task: TaskKey,
        serial: u64,
    },
}
