//! What comes on the stream of a subscription.

use serde::{Deserialize, Serialize};

use crate::v1::{
    AgentId, ExecutorId, FrameworkId, InverseOffer, Offer, OfferId, OperationStatus, TaskStatus,
    scheduler::Message, wire_enum,
};

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
    #[serde(rename = "type", default, skip_serializing_if = "EventType::is_unknown")]
    pub kind: EventType,
    /// For SUBSCRIBED.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscribed: Option<Subscribed>,
    /// For OFFERS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offers: Option<Offers>,
    /// For `INVERSE_OFFERS`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inverse_offers: Option<InverseOffers>,
    /// For RESCIND.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rescind: Option<Rescind>,
    /// For `RESCIND_INVERSE_OFFER`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rescind_inverse_offer: Option<RescindInverseOffer>,
    /// For UPDATE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update: Option<Update>,
    /// For `UPDATE_OPERATION_STATUS`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update_operation_status: Option<UpdateOperationStatus>,
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
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
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

/// `Event.InverseOffers`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct InverseOffers {
    /// The inverse offers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inverse_offers: Vec<InverseOffer>,
}

/// `Event.RescindInverseOffer`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct RescindInverseOffer {
    /// Which.
    #[serde(default)]
    pub inverse_offer_id: OfferId,
}

/// `Event.UpdateOperationStatus`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct UpdateOperationStatus {
    /// The report.
    #[serde(default)]
    pub status: OperationStatus,
}
