//! `POST /api/v1/scheduler`: calls of a framework and the events of its subscription.

use serde::{Deserialize, Serialize};

use super::{
    AgentId, ExecutorId, FrameworkId, FrameworkInfo, KillPolicy, Offer, OfferId, TaskId, TaskInfo,
    TaskStatus, wire_enum,
};

wire_enum! {
    /// `Call.Type`
    CallType {
        /// Opens the event stream.
        Subscribe = "SUBSCRIBE",
        /// Ends the framework for good.
        Teardown = "TEARDOWN",
        /// Uses offers.
        Accept = "ACCEPT",
        /// Gives offers back.
        Decline = "DECLINE",
        /// Drops filters and wants offers again.
        Revive = "REVIVE",
        /// Wants no offers.
        Suppress = "SUPPRESS",
        /// Ends a task.
        Kill = "KILL",
        /// Ends an executor.
        Shutdown = "SHUTDOWN",
        /// Confirms a status update.
        Acknowledge = "ACKNOWLEDGE",
        /// Asks for task states.
        Reconcile = "RECONCILE",
        /// Sends bytes to an executor.
        Message = "MESSAGE",
    }
}

/// A call. `type` says which of the other fields counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct Call {
    /// The framework; absent only in its first SUBSCRIBE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub framework_id: Option<FrameworkId>,
    /// Which call.
    #[serde(rename = "type", default)]
    pub kind: CallType,
    /// For SUBSCRIBE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscribe: Option<Subscribe>,
    /// For ACCEPT.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accept: Option<Accept>,
    /// For DECLINE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decline: Option<Decline>,
    /// For REVIVE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revive: Option<Roles>,
    /// For SUPPRESS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suppress: Option<Roles>,
    /// For KILL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kill: Option<Kill>,
    /// For SHUTDOWN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shutdown: Option<Shutdown>,
    /// For ACKNOWLEDGE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledge: Option<Acknowledge>,
    /// For RECONCILE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reconcile: Option<Reconcile>,
    /// For MESSAGE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<Message>,
}

/// `Call.Subscribe`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct Subscribe {
    /// Who subscribes.
    #[serde(default)]
    pub framework_info: FrameworkInfo,
    /// Roles that start suppressed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub suppressed_roles: Vec<String>,
}

/// `Filters`
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, Default)]
pub struct Filters {
    /// Do not offer these resources again for so long; Mesos' default is 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refuse_seconds: Option<f64>,
}

/// `Call.Accept`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct Accept {
    /// All of one agent.
    #[serde(default)]
    pub offer_ids: Vec<OfferId>,
    /// What to do with them.
    #[serde(default)]
    pub operations: Vec<Operation>,
    /// For what is left over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filters: Option<Filters>,
}

wire_enum! {
    /// `Offer.Operation.Type`, as far as it is used.
    OperationType {
        /// Launch tasks.
        Launch = "LAUNCH",
    }
}

/// `Offer.Operation`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct Operation {
    /// Which.
    #[serde(rename = "type", default)]
    pub kind: OperationType,
    /// For LAUNCH.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch: Option<Launch>,
}

impl Operation {
    /// LAUNCH of these tasks.
    pub fn launch(task_infos: Vec<TaskInfo>) -> Self {
        Self { kind: OperationType::Launch, launch: Some(Launch { task_infos }) }
    }
}

/// `Offer.Operation.Launch`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct Launch {
    /// What to launch.
    #[serde(default)]
    pub task_infos: Vec<TaskInfo>,
}

/// `Call.Decline`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct Decline {
    /// Which.
    #[serde(default)]
    pub offer_ids: Vec<OfferId>,
    /// For how long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filters: Option<Filters>,
}

/// `Call.Revive`, `Call.Suppress`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Roles {
    /// Which; empty means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
}

/// `Call.Kill`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Kill {
    /// Which task.
    #[serde(default)]
    pub task_id: TaskId,
    /// Where it should be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<AgentId>,
    /// How.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kill_policy: Option<KillPolicy>,
}

/// `Call.Shutdown`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Shutdown {
    /// Which.
    #[serde(default)]
    pub executor_id: ExecutorId,
    /// Where.
    #[serde(default)]
    pub agent_id: AgentId,
}

/// `Call.Acknowledge`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Acknowledge {
    /// Where.
    #[serde(default)]
    pub agent_id: AgentId,
    /// Of which task.
    #[serde(default)]
    pub task_id: TaskId,
    /// Base64 of 16 bytes, as it came.
    #[serde(default)]
    pub uuid: String,
}

/// `Call.Reconcile`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Reconcile {
    /// Explicit when not empty, else implicit.
    #[serde(default)]
    pub tasks: Vec<ReconcileTask>,
}

/// One task of a RECONCILE.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct ReconcileTask {
    /// Which.
    #[serde(default)]
    pub task_id: TaskId,
    /// Where it should be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<AgentId>,
}

/// `Call.Message`, and `Event.Message`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Message {
    /// Where.
    #[serde(default)]
    pub agent_id: AgentId,
    /// To or from whom.
    #[serde(default)]
    pub executor_id: ExecutorId,
    /// Base64.
    #[serde(default)]
    pub data: String,
}

wire_enum! {
    /// `Event.Type`
    EventType {
        /// The subscription stands.
        Subscribed = "SUBSCRIBED",
        /// Offers.
        Offers = "OFFERS",
        /// Inverse offers: maintenance.
        InverseOffers = "INVERSE_OFFERS",
        /// An offer is void.
        Rescind = "RESCIND",
        /// An inverse offer is void.
        RescindInverseOffer = "RESCIND_INVERSE_OFFER",
        /// A task's state.
        Update = "UPDATE",
        /// An operation's state.
        UpdateOperationStatus = "UPDATE_OPERATION_STATUS",
        /// Bytes from an executor.
        Message = "MESSAGE",
        /// An agent or an executor is lost.
        Failure = "FAILURE",
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
    #[serde(rename = "type", default)]
    pub kind: EventType,
    /// For SUBSCRIBED.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscribed: Option<Subscribed>,
    /// For OFFERS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offers: Option<Offers>,
    /// For RESCIND.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rescind: Option<Rescind>,
    /// For UPDATE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update: Option<Update>,
    /// For MESSAGE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<Message>,
    /// For FAILURE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// For ERROR.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorEvent>,
}

/// `Event.Subscribed`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct Subscribed {
    /// The framework's id, new or kept.
    #[serde(default)]
    pub framework_id: FrameworkId,
    /// How often to expect a HEARTBEAT.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat_interval_seconds: Option<f64>,
    /// Who the master is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub master_info: Option<serde_json::Value>,
}

/// `Event.Offers`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct Offers {
    /// The offers.
    #[serde(default)]
    pub offers: Vec<Offer>,
}

/// `Event.Rescind`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Rescind {
    /// Which.
    #[serde(default)]
    pub offer_id: OfferId,
}

/// `Event.Update`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct Update {
    /// The status.
    #[serde(default)]
    pub status: TaskStatus,
}

/// `Event.Failure`: with `executor_id` an executor ended, without one the agent is lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Failure {
    /// Where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<AgentId>,
    /// Which executor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executor_id: Option<ExecutorId>,
    /// Its raw wait status: exit code 7 is 1792.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<i32>,
}

/// `Event.Error`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct ErrorEvent {
    /// What is wrong.
    #[serde(default)]
    pub message: String,
}
