//! Tasks, and what becomes of them.

use serde::{Deserialize, Serialize};

use super::{
    AgentId, CheckInfo, CheckStatusInfo, CommandInfo, DiscoveryInfo, DurationInfo, ExecutorId, ExecutorInfo,
    HealthCheck, Labels, Resource, TaskId, TimeInfo, wire_enum,
};

wire_enum! {
    /// State of a Mesos task.
    TaskState {
        /// Known to the master, not yet to the executor.
        Staging = "TASK_STAGING",
        /// The executor has it.
        Starting = "TASK_STARTING",
        /// Running.
        Running = "TASK_RUNNING",
        /// Being killed.
        Killing = "TASK_KILLING",
        /// Ended well.
        Finished = "TASK_FINISHED",
        /// Ended badly.
        Failed = "TASK_FAILED",
        /// Ended by KILL.
        Killed = "TASK_KILLED",
        /// Never launched: its description is wrong.
        Error = "TASK_ERROR",
        /// Lost, cause unknown (also reaches `PARTITION_AWARE` frameworks).
        Lost = "TASK_LOST",
        /// Never launched.
        Dropped = "TASK_DROPPED",
        /// The agent does not answer; the task may well run.
        Unreachable = "TASK_UNREACHABLE",
        /// Its agent knows nothing of it.
        Gone = "TASK_GONE",
        /// An operator declared the agent gone.
        GoneByOperator = "TASK_GONE_BY_OPERATOR",
        /// The master knows nothing of it.
        NotKnown = "TASK_UNKNOWN",
    }
}

impl TaskState {
    /// Whether nothing more can come of the task. `TASK_UNREACHABLE` and `TASK_UNKNOWN` are no ends: the
    /// task may run, and be reported again.
    pub const fn is_terminal(self) -> bool {
        match self {
            Self::Finished
            | Self::Failed
            | Self::Killed
            | Self::Error
            | Self::Lost
            | Self::Dropped
            | Self::Gone
            | Self::GoneByOperator => true,
            Self::Staging
            | Self::Starting
            | Self::Running
            | Self::Killing
            | Self::Unreachable
            | Self::NotKnown
            | Self::Unknown => false,
        }
    }
}

wire_enum! {
    /// Who made a status update.
    Source {
        /// The master.
        Master = "SOURCE_MASTER",
        /// The agent.
        Agent = "SOURCE_AGENT",
        /// The executor.
        Executor = "SOURCE_EXECUTOR",
    }
}

/// `KillPolicy`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct KillPolicy {
    /// How long the executor may take to stop the task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace_period: Option<DurationInfo>,
}

/// `TaskInfo`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct TaskInfo {
    /// For people.
    #[serde(default)]
    pub name: String,
    /// Names it.
    #[serde(default)]
    pub task_id: TaskId,
    /// Where.
    #[serde(default)]
    pub agent_id: AgentId,
    /// What it takes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<Resource>,
    /// Who runs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executor: Option<ExecutorInfo>,
    /// Command task, instead of `executor`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<CommandInfo>,
    /// What it is wrapped in; kept verbatim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<serde_json::Value>,
    /// What it may use beyond `resources`; kept verbatim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<serde_json::Value>,
    /// A check that kills the task when it fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_check: Option<HealthCheck>,
    /// A check that is only reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<CheckInfo>,
    /// How it is killed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kill_policy: Option<KillPolicy>,
    /// Anything, base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// Labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Labels>,
    /// How it is found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discovery: Option<DiscoveryInfo>,
    /// It fails when it runs longer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_completion_time: Option<DurationInfo>,
}

/// `TaskStatus`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct TaskStatus {
    /// Of which task.
    #[serde(default)]
    pub task_id: TaskId,
    /// Its state.
    #[serde(default, skip_serializing_if = "TaskState::is_unknown")]
    pub state: TaskState,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Who says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// Why, as text, so that reasons of newer masters are kept; see [`super::reason`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Anything, base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// On which agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<AgentId>,
    /// By which executor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executor_id: Option<ExecutorId>,
    /// Seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<f64>,
    /// Base64 of 16 bytes. With one the update must be acknowledged, without one it must not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// Health.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthy: Option<bool>,
    /// The last outcome of [`TaskInfo::check`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check_status: Option<CheckStatusInfo>,
    /// Labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Labels>,
    /// Kept verbatim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_status: Option<serde_json::Value>,
    /// Since when the agent is unreachable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unreachable_time: Option<TimeInfo>,
    /// Which resource ran out, kept verbatim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limitation: Option<serde_json::Value>,
}
