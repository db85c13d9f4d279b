//! `POST /api/v1/executor` of an agent: calls of an executor and the events of its subscription.

use serde::{Deserialize, Serialize};

use super::{
    AgentInfo, ContainerId, ExecutorId, ExecutorInfo, FrameworkId, FrameworkInfo, KillPolicy, TaskGroup,
    TaskId, TaskInfo, TaskStatus, wire_enum,
};

wire_enum! {
    /// `Call.Type`
    CallType {
        /// Opens the event stream.
        Subscribe = "SUBSCRIBE",
        /// Reports a task's state.
        Update = "UPDATE",
        /// Sends bytes to the framework.
        Message = "MESSAGE",
        /// Sign of life.
        Heartbeat = "HEARTBEAT",
    }
}

/// A call. `type` says which of the other fields counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct Call {
    /// Who.
    #[serde(default)]
    pub executor_id: ExecutorId,
    /// Whose.
    #[serde(default)]
    pub framework_id: FrameworkId,
    /// Which call.
    #[serde(rename = "type", default, skip_serializing_if = "CallType::is_unknown")]
    pub kind: CallType,
    /// For SUBSCRIBE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscribe: Option<Subscribe>,
    /// For UPDATE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update: Option<Update>,
    /// For MESSAGE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<Data>,
}

/// `Call.Subscribe`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct Subscribe {
    /// Tasks the agent may not know of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unacknowledged_tasks: Vec<TaskInfo>,
    /// Updates the agent may not know of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unacknowledged_updates: Vec<Update>,
}

/// `Call.Update`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct Update {
    /// The status; `uuid`, `source` and `state` are required.
    #[serde(default)]
    pub status: TaskStatus,
}

/// Bytes, base64.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Data {
    /// Base64.
    #[serde(default)]
    pub data: String,
}

wire_enum! {
    /// `Event.Type`
    EventType {
        /// The subscription stands.
        Subscribed = "SUBSCRIBED",
        /// Launch a task.
        Launch = "LAUNCH",
        /// Launch several.
        LaunchGroup = "LAUNCH_GROUP",
        /// End a task.
        Kill = "KILL",
        /// The agent has written an update down.
        Acknowledged = "ACKNOWLEDGED",
        /// Bytes from the framework.
        Message = "MESSAGE",
        /// End everything.
        Shutdown = "SHUTDOWN",
        /// The subscription ends.
        Error = "ERROR",
        /// Sign of life.
        Heartbeat = "HEARTBEAT",
    }
}

/// An event. `type` says which of the other fields counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct Event {
    /// Which event.
    #[serde(rename = "type", default, skip_serializing_if = "EventType::is_unknown")]
    pub kind: EventType,
    /// For SUBSCRIBED.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscribed: Option<Subscribed>,
    /// For LAUNCH.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch: Option<Launch>,
    /// For `LAUNCH_GROUP`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch_group: Option<LaunchGroup>,
    /// For KILL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kill: Option<Kill>,
    /// For ACKNOWLEDGED.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledged: Option<Acknowledged>,
    /// For MESSAGE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<Data>,
    /// For ERROR.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<super::scheduler::ErrorEvent>,
}

/// `Event.Subscribed`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct Subscribed {
    /// The executor.
    #[serde(default)]
    pub executor_info: ExecutorInfo,
    /// The framework.
    #[serde(default)]
    pub framework_info: FrameworkInfo,
    /// The agent.
    #[serde(default)]
    pub agent_info: AgentInfo,
    /// The container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_id: Option<ContainerId>,
}

/// `Event.Launch`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct Launch {
    /// The task.
    #[serde(default)]
    pub task: TaskInfo,
}

/// `Event.LaunchGroup`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct LaunchGroup {
    /// The tasks.
    #[serde(default)]
    pub task_group: TaskGroup,
}

/// `Event.Kill`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Kill {
    /// Which task.
    #[serde(default)]
    pub task_id: TaskId,
    /// How.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kill_policy: Option<KillPolicy>,
}

/// `Event.Acknowledged`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Acknowledged {
    /// Of which task.
    #[serde(default)]
    pub task_id: TaskId,
    /// Which update, base64.
    #[serde(default)]
    pub uuid: String,
}
