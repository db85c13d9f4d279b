//! What goes into the model and what comes out.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use overlord_mesos::v1::{
    AgentId, CommandInfo, ContainerId, ExecutorId, FrameworkId, TaskId, TaskState, executor, scheduler,
};
use serde_json::Value;

use super::{
    faults::AgentFault,
    probe::{Probe, ProbeOutcome, ProbeUse},
};

pub use super::operator::OperatorCall;

/// Names one subscription, of a scheduler or an executor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamKey(pub u64);

/// What happens to the model.
#[derive(Debug, Clone)]
pub enum Input {
    /// Time went on.
    Tick,
    /// A call of a scheduler.
    Scheduler {
        /// The `Mesos-Stream-Id` that came with it.
        stream_id: Option<String>,
        /// The call.
        call: Box<scheduler::Call>,
    },
    /// A call of an operator.
    Operator(Box<OperatorCall>),
    /// Something happens to the leading master.
    Master(MasterFault),
    /// A call of an executor to an agent.
    Executor {
        /// The agent's name.
        agent: String,
        /// The call.
        call: Box<executor::Call>,
    },
    /// The connection of a subscription is gone.
    StreamGone(StreamKey),
    /// An executor process runs.
    Started {
        /// Which.
        container: ContainerId,
        /// Its pid, if it has one.
        pid: Option<u32>,
    },
    /// An executor could not be started.
    NotStarted {
        /// Which.
        container: ContainerId,
        /// Why.
        message: String,
    },
    /// An executor process ended.
    Exited {
        /// Which.
        container: ContainerId,
        /// Its raw wait status.
        status: i32,
    },
    /// A task was looked at.
    Probed {
        /// Which.
        container: ContainerId,
        /// For what.
        which: ProbeUse,
        /// What was seen.
        outcome: ProbeOutcome,
    },
    /// Something happens to an agent.
    Agent {
        /// The agent's name.
        name: String,
        /// What.
        fault: AgentFault,
    },
}

/// What can happen to the leading master.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MasterFault {
    /// Its process dies. Connections break; agents and executors live on.
    Kill,
    /// One starts again, with another id, at the same address or, with followers, at the next one's.
    Start {
        /// Whether it remembers the agents (`--registry=replicated_log`), or nothing (`in_memory`).
        keep_registry: bool,
    },
    /// It dies, and the next one is elected a while later.
    Failover {
        /// After how long.
        after: Duration,
        /// Whether the next one knows the agents of the dead one.
        keep_registry: bool,
    },
}

/// What the model wants done.
#[derive(Debug, Clone)]
pub enum Output {
    /// An event for a scheduler's stream.
    Scheduler(StreamKey, Box<scheduler::Event>),
    /// An event for an executor's stream.
    Executor(StreamKey, Box<executor::Event>),
    /// The stream ends.
    End(StreamKey),
    /// Start an executor.
    Start(Box<StartExecutor>),
    /// Kill everything in a container.
    Kill(ContainerId),
    /// Ask everything in a container to end.
    Terminate(ContainerId),
    /// Look whether a task is well.
    Probe(Box<Probe>),
    /// An event for an operator's stream, as JSON.
    Operator(StreamKey, Arc<Value>),
    /// Whether a master's endpoint takes connections.
    Master {
        /// Which of the masters; the first one is 0.
        index: usize,
        /// Up or down.
        up: bool,
    },
    /// Whether the agent's endpoint takes connections.
    Endpoint {
        /// The agent's name.
        agent: String,
        /// Up or down.
        up: bool,
    },
}

/// The answer to a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// 202.
    Accepted,
    /// 200, with a body if it is not null.
    Done(Value),
    /// 200, with a stream.
    Subscribed {
        /// Where its events come.
        stream: StreamKey,
        /// The `Mesos-Stream-Id`; empty for executors.
        stream_id: String,
    },
    /// An error with its text.
    Refused {
        /// HTTP status.
        status: u16,
        /// Body.
        text: String,
    },
    /// Nobody answers.
    Unavailable,
}

impl Answer {
    pub(crate) fn refused(status: u16, text: impl Into<String>) -> Self {
        Self::Refused { status, text: text.into() }
    }
}

/// Everything that is needed to start an executor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartExecutor {
    /// The agent's name.
    pub agent: String,
    /// The agent's id.
    pub agent_id: AgentId,
    /// The agent's API.
    pub agent_endpoint: SocketAddr,
    /// Whose it is.
    pub framework_id: FrameworkId,
    /// Which.
    pub executor_id: ExecutorId,
    /// The container, new for each start.
    pub container: ContainerId,
    /// What to run.
    pub command: CommandInfo,
    /// Its whole environment.
    pub environment: BTreeMap<String, String>,
    /// Its working directory: the run directory, which the launcher makes.
    pub directory: PathBuf,
    /// Whom it runs as, where the agent may choose.
    pub user: Option<String>,
    /// Where the agent keeps what it fetched for more than one.
    pub cache: PathBuf,
}

/// A Mesos task as the master knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskView {
    /// Whose.
    pub framework_id: FrameworkId,
    /// Which.
    pub task_id: TaskId,
    /// Its name.
    pub name: String,
    /// Where.
    pub agent_id: AgentId,
    /// The agent's name.
    pub agent: String,
    /// Who runs it.
    pub executor_id: ExecutorId,
    /// The newest state; schedulers may not have heard of it yet.
    pub state: TaskState,
}

/// Where an agent stands, seen from the master.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AgentState {
    /// It answers.
    Registered,
    /// It does not, since less than the ping time-out.
    Disconnected,
    /// It does not, for longer.
    Unreachable,
    /// The master does not know it any more: unregistered, marked gone, or its machine is down.
    Removed,
}

/// An agent.
#[derive(Debug, Clone, PartialEq)]
pub struct AgentView {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: AgentId,
    /// Its API.
    pub address: SocketAddr,
    /// Where it stands.
    pub state: AgentState,
    /// Containers that run on it, with their pids where they have one.
    pub containers: Vec<(ContainerId, Option<u32>)>,
    /// Processors that are neither used nor offered.
    pub free_cpus: f64,
    /// Memory that is neither used nor offered.
    pub free_mem_mib: f64,
}

/// A framework that is not removed.
#[derive(Debug, Clone, PartialEq)]
pub struct FrameworkView {
    /// Its id.
    pub id: FrameworkId,
    /// Its name.
    pub name: String,
    /// Whether it is subscribed.
    pub connected: bool,
    /// Offers that it holds.
    pub offers: usize,
}
