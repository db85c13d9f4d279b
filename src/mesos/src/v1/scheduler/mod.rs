//! `POST /api/v1/scheduler`: calls of a framework and the events of its subscription.

mod events;

use serde::{Deserialize, Serialize};

use super::{
    AgentId, ExecutorId, FrameworkId, FrameworkInfo, KillPolicy, OfferId, OperationId, Resource,
    ResourceProviderId, TaskId, TaskInfo, wire_enum,
};

pub use super::operation::{Operation, OperationType};
pub use events::{
    ErrorEvent, Event, EventType, Failure, InverseOffers, Offers, Rescind, RescindInverseOffer, Subscribed,
    Update, UpdateOperationStatus,
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
        /// Agrees to maintenance.
        AcceptInverseOffers = "ACCEPT_INVERSE_OFFERS",
        /// Does not.
        DeclineInverseOffers = "DECLINE_INVERSE_OFFERS",
        /// Confirms a report about an operation.
        AcknowledgeOperationStatus = "ACKNOWLEDGE_OPERATION_STATUS",
        /// Asks for the states of operations.
        ReconcileOperations = "RECONCILE_OPERATIONS",
        /// Asks the allocator for resources; Mesos' own one does not listen.
        Request = "REQUEST",
        /// Changes the framework's info in place.
        UpdateFramework = "UPDATE_FRAMEWORK",
    }
}

/// A call. `type` says which of the other fields counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct Call {
    /// The framework; absent only in its first SUBSCRIBE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub framework_id: Option<FrameworkId>,
    /// Which call.
    #[serde(rename = "type", default, skip_serializing_if = "CallType::is_unknown")]
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
    /// For `ACCEPT_INVERSE_OFFERS`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accept_inverse_offers: Option<AnswerInverseOffers>,
    /// For `DECLINE_INVERSE_OFFERS`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decline_inverse_offers: Option<AnswerInverseOffers>,
    /// For `ACKNOWLEDGE_OPERATION_STATUS`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledge_operation_status: Option<AcknowledgeOperationStatus>,
    /// For `RECONCILE_OPERATIONS`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reconcile_operations: Option<ReconcileOperations>,
    /// For REQUEST.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Request>,
    /// For `UPDATE_FRAMEWORK`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update_framework: Option<UpdateFramework>,
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
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub offer_ids: Vec<OfferId>,
    /// What to do with them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub operations: Vec<Operation>,
    /// For what is left over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filters: Option<Filters>,
}

/// `Offer.Operation.Launch`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct Launch {
    /// What to launch.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub task_infos: Vec<TaskInfo>,
}

/// `Call.Decline`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct Decline {
    /// Which.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
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
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
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

/// `Call.AcceptInverseOffers`, `Call.DeclineInverseOffers`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct AnswerInverseOffers {
    /// Which.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inverse_offer_ids: Vec<OfferId>,
    /// Do not ask again for so long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filters: Option<Filters>,
}

/// `Call.AcknowledgeOperationStatus`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct AcknowledgeOperationStatus {
    /// Where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<AgentId>,
    /// At which provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_provider_id: Option<ResourceProviderId>,
    /// Base64 of 16 bytes, as it came.
    #[serde(default)]
    pub uuid: String,
    /// Of which operation.
    #[serde(default)]
    pub operation_id: OperationId,
}

/// `Call.ReconcileOperations`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct ReconcileOperations {
    /// Explicit when not empty, else implicit.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub operations: Vec<ReconcileOperation>,
}

/// One operation of a `RECONCILE_OPERATIONS`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct ReconcileOperation {
    /// Which.
    #[serde(default)]
    pub operation_id: OperationId,
    /// Where it should be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<AgentId>,
    /// At which provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_provider_id: Option<ResourceProviderId>,
}

/// `Call.Request`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct Request {
    /// What is wanted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requests: Vec<ResourceRequest>,
}

/// `Request`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct ResourceRequest {
    /// Where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<AgentId>,
    /// What.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<Resource>,
}

/// `Call.UpdateFramework`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct UpdateFramework {
    /// The whole new info; user, checkpoint and principal cannot change.
    #[serde(default)]
    pub framework_info: FrameworkInfo,
    /// Roles that are suppressed from now on; all others are not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub suppressed_roles: Vec<String>,
}
