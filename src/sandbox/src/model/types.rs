//! The model's records: frameworks, agents, executors, tasks, update streams, offers.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::SocketAddr,
    path::PathBuf,
    time::Duration,
};

use overlord_mesos::v1::{
    AgentId, AgentInfo, Attribute, CapabilityType, ContainerId, DomainInfo, ExecutorId, ExecutorInfo,
    FrameworkId, FrameworkInfo, OfferId, OperationId, TaskId, TaskInfo, TaskState, TaskStatus,
    scheduler::Kill,
};

use super::{
    StreamKey,
    link::Link,
    managed::{ExecutorKind, Managed},
    pool::{Format, Pool, Understands},
};

/// A task id is unique within its framework.
pub(crate) type TaskKey = (FrameworkId, TaskId);
/// An executor id is unique within its framework on one agent.
pub(crate) type ExecutorKey = (FrameworkId, ExecutorId);
/// An operation id is unique within its framework.
pub(crate) type OperationKey = (FrameworkId, OperationId);
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
    pub(crate) registered: Duration,
    pub(crate) reregistered: Duration,
    /// Known from before a fail-over of the master, and not back.
    pub(crate) recovered: bool,
    /// Not even that: this master has not heard of it from anyone.
    pub(crate) forgotten: bool,
    /// Maintenance that it was told of and has not answered.
    pub(crate) inverse_offers: BTreeSet<OfferId>,
    /// Until when it is not asked again, by agent.
    pub(crate) inverse_filters: BTreeMap<AgentId, Duration>,
    /// What has ended, the oldest first.
    pub(crate) completed: VecDeque<Completed>,
}

/// A task that is over, for people to look at.
#[derive(Debug, Clone)]
pub(crate) struct Completed {
    pub(crate) task: Box<Task>,
}

impl Framework {
    pub(crate) fn new(info: FrameworkInfo, now: Duration) -> Self {
        Self {
            roles: super::frameworks::roles(&info),
            info,
            suppressed: BTreeSet::new(),
            subscription: None,
            generation: 0,
            filters: BTreeMap::new(),
            offers: BTreeSet::new(),
            usage: BTreeMap::new(),
            registered: now,
            reregistered: now,
            recovered: false,
            forgotten: false,
            inverse_offers: BTreeSet::new(),
            inverse_filters: BTreeMap::new(),
            completed: VecDeque::new(),
        }
    }

    pub(crate) fn understands(&self) -> Understands {
        Understands {
            refined: self.has(CapabilityType::ReservationRefinement),
            shared: self.has(CapabilityType::SharedResources),
            revocable: self.has(CapabilityType::RevocableResources),
            gpus: self.has(CapabilityType::GpuResources),
        }
    }

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
    Unreachable {
        since: Duration,
    },
    /// In the registry of a new master that it has not come back to.
    Recovered,
    /// Unregistered, marked gone, or its machine is down: the master does not know it any more.
    Removed,
}

#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) id: AgentId,
    pub(crate) address: SocketAddr,
    pub(crate) work_dir: PathBuf,
    pub(crate) attributes: Vec<Attribute>,
    pub(crate) hostname: String,
    pub(crate) domain: Option<DomainInfo>,
    pub(crate) registered_at: Duration,
    pub(crate) reregistered_at: Option<Duration>,
    /// It is registered, and still not offered: drained, or an operator wanted it so.
    pub(crate) deactivated: bool,
    pub(crate) drain: Option<super::drain::Drain>,
    /// As it starts with an empty work directory.
    pub(crate) configured: Pool,
    pub(crate) total: Pool,
    /// Neither used nor offered.
    pub(crate) free: Pool,
    pub(crate) offers: BTreeSet<OfferId>,
    pub(crate) process: AgentProcess,
    pub(crate) registration: Registration,
    /// Counts changes of `process`, so that an old timer is recognised.
    pub(crate) generation: u64,
    /// The way between it and the master.
    pub(crate) link: Link,
    /// It was removed and shuts down: its process ends with its last executor.
    pub(crate) leaving: bool,
    /// Its work directory is of no use any more: it comes back as another agent.
    pub(crate) replaced: bool,
    pub(crate) executors: BTreeMap<ExecutorKey, Executor>,
    pub(crate) updates: BTreeMap<TaskKey, UpdateStream>,
}

impl Agent {
    pub(crate) fn is_registered(&self) -> bool {
        self.registration == Registration::Registered
    }

    /// Whether what master and agent say to each other arrives.
    pub(crate) fn is_reached(&self) -> bool {
        self.is_registered() && !self.link.cut
    }

    pub(crate) fn info(&self) -> AgentInfo {
        AgentInfo {
            hostname: self.hostname.clone(),
            port: Some(u32::from(self.address.port())),
            resources: self.total.to_wire(None, Format::Stack),
            attributes: self.attributes.clone(),
            id: Some(self.id.clone()),
            domain: self.domain.clone(),
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
    pub(crate) kind: ExecutorKind,
    /// Of an executor that is part of the agent: what it runs.
    pub(crate) managed: Managed,
    /// Task groups that it was given or is to be given.
    pub(crate) groups: Vec<BTreeSet<TaskId>>,
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

#[derive(Debug, Clone)]
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
    /// The leading master has not heard of it: it is known from before a fail-over.
    pub(crate) forgotten: bool,
    /// What the master heard of it, one for each change of state.
    pub(crate) statuses: Vec<TaskStatus>,
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
    /// The ping time-out of an agent that does not answer.
    Ping {
        agent: String,
        disconnect: u64,
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
    /// A sign of life to an executor is due.
    ExecutorHeartbeat(StreamKey),
    /// An executor had time to register.
    Registration(ContainerId),
    /// An executor had time to shut down.
    Grace(ContainerId),
    /// An executor that is part of the agent has registered.
    Begin(ContainerId),
    /// It has nothing left to do, and ends.
    Leave(ContainerId),
    /// Its agent has been away for longer than it waits.
    GiveUp {
        agent: String,
        generation: u64,
    },
    /// A task had time to end after SIGTERM.
    Escalate {
        container: ContainerId,
        serial: u64,
    },
    /// A task has run as long as it may.
    MaxCompletion(ContainerId),
    /// A task is to be looked at.
    Look(ContainerId, super::probe::ProbeUse),
    /// An update that was delayed arrives.
    Deliver {
        framework: FrameworkId,
        status: Box<TaskStatus>,
    },
    /// An update may have to be sent again.
    Retry {
        agent: AgentId,
        task: TaskKey,
        serial: u64,
    },
    /// An offer has been held long enough.
    Offer(OfferId),
    /// A report about an operation may have to be sent again.
    Operation {
        key: OperationKey,
        serial: u64,
    },
    /// A draining agent is empty, and wanted gone.
    Drained(AgentId),
    /// A new master starts.
    MasterStart {
        keep_registry: bool,
    },
    /// It has read its registry.
    MasterRecovered {
        term: u64,
    },
    /// An agent notices that there is a new master.
    Reregister {
        agent: String,
        term: u64,
    },
    /// An agent had time to come back to the new master.
    NotBack {
        agent: String,
        term: u64,
    },
}
