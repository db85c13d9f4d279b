//! The wire types of the Mesos v1 API as JSON: a mirror of the protobuf messages (mesos.proto of 1.11)
//! as far as they are used. Every field that protobuf calls optional is optional here, unknown
//! fields are ignored, and an enum value this build does not know reads as `Unknown`: a newer master
//! must not break an older client. Fields stand in the order in which Mesos writes them.

mod agent;
mod check;
mod command;
mod discovery;
pub mod executor;
mod framework;
pub(crate) mod lenient;
mod macros;
mod offer;
mod operation;
pub mod reason;
mod resource;
pub mod scheduler;
mod task;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub use agent::{Address, AgentInfo, DomainInfo, DomainName, FaultDomain, MasterInfo, Url};
pub use check::{
    CheckInfo, CheckStatusInfo, CheckStatusOutcome, CheckType, CommandCheck, HealthCheck, HealthCheckType,
    HttpCheck, HttpCheckStatus, TcpCheck, TcpCheckStatus,
};
pub use command::{CommandInfo, CommandUri, Environment, EnvironmentVariable, ExecutorInfo, ExecutorType};
pub use discovery::{DiscoveryInfo, DiscoveryPort, DiscoveryPorts, Visibility};
pub use framework::{Capability, CapabilityType, FrameworkInfo};
pub(crate) use macros::{ids, wire_enum};
pub use offer::{InverseOffer, Offer, Unavailability};
pub use operation::{
    GrowVolume, LaunchGroup, Operation, OperationState, OperationStatus, OperationType, Reserve,
    ShrinkVolume, TaskGroup, Unreserve, Uuid, Volumes,
};
pub use resource::{
    AllocationInfo, Attribute, DiskInfo, DiskSource, DiskSourceType, Marker, Persistence, Range, Ranges,
    ReservationInfo, ReservationType, Resource, Scalar, Set, Text, ValueType, Volume,
};
pub use task::{KillPolicy, Source, TaskInfo, TaskState, TaskStatus};

/// Bytes as a `data` field holds them.
pub fn encode_data(data: &[u8]) -> String {
    STANDARD.encode(data)
}

/// The bytes in a `data` field; nothing when it is not base64.
pub fn decode_data(data: &str) -> Option<Bytes> {
    STANDARD.decode(data).ok().map(Bytes::from)
}

ids! {
    /// Names a framework over its fail-overs.
    FrameworkId,
    /// Names one offer, or one inverse offer.
    OfferId,
    /// Names an agent over its restarts with the same work directory.
    AgentId,
    /// Names a Mesos task; chosen by the framework, never used twice.
    TaskId,
    /// Names an executor; chosen by the framework.
    ExecutorId,
    /// Names a container on an agent.
    ContainerId,
    /// Names an operation on offers whose outcome is to be reported; chosen by the framework.
    OperationId,
    /// Names what provides a resource, when it is not the agent itself.
    ResourceProviderId,
}

/// A span, as `DurationInfo`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct DurationInfo {
    /// Nanoseconds.
    #[serde(deserialize_with = "lenient::whole")]
    pub nanoseconds: i64,
}

/// A moment, as `TimeInfo`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Default)]
pub struct TimeInfo {
    /// Nanoseconds since 1970.
    #[serde(deserialize_with = "lenient::whole")]
    pub nanoseconds: i64,
}

/// A label.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Label {
    /// Its key.
    #[serde(default)]
    pub key: String,
    /// Its value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

/// Labels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Labels {
    /// The labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<Label>,
}
