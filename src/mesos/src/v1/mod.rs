//! The wire types of the Mesos v1 API as JSON: a mirror of the protobuf messages (mesos.proto of 1.11)
//! as far as they are used. Every field that protobuf calls optional is optional here, unknown
//! fields are ignored, and an enum value this build does not know reads as `Unknown`: a newer master
//! must not break an older client.

pub mod executor;
mod resource;
pub mod scheduler;
mod task;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub use resource::{AllocationInfo, Attribute, Range, Ranges, Resource, Scalar, Set, Text, ValueType};
pub use task::{
    CommandInfo, CommandUri, DurationInfo, Environment, EnvironmentVariable, ExecutorInfo, ExecutorType,
    KillPolicy, TaskInfo, TaskStatus,
};

/// Bytes as a `data` field holds them.
pub fn encode_data(data: &[u8]) -> String {
    STANDARD.encode(data)
}

/// The bytes in a `data` field; nothing when it is not base64.
pub fn decode_data(data: &str) -> Option<Bytes> {
    STANDARD.decode(data).ok().map(Bytes::from)
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
        pub struct $name {
            /// The id itself.
            pub value: String,
        }

        impl $name {
            /// An id from its text.
            pub fn new(value: impl Into<String>) -> Self {
                Self { value: value.into() }
            }

            /// The id's text.
            pub fn as_str(&self) -> &str {
                &self.value
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.value)
            }
        }
    )+};
}

ids! {
    /// Names a framework over its fail-overs.
    FrameworkId,
    /// Names one offer.
    OfferId,
    /// Names an agent over its restarts with the same work directory.
    AgentId,
    /// Names a Mesos task; chosen by the framework, never used twice.
    TaskId,
    /// Names an executor; chosen by the framework.
    ExecutorId,
    /// Names a container on an agent.
    ContainerId,
}

macro_rules! wire_enum {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
        pub enum $name {
            $($(#[$vdoc])* #[serde(rename = $text)] $variant,)+
            /// A value this build does not know, or none. Never sent.
            #[default]
            #[serde(other)]
            Unknown,
        }

        impl $name {
            /// The value as it is on the wire.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                    Self::Unknown => "UNKNOWN",
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}
pub(crate) use wire_enum;

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

/// `Address`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Address {
    /// Host name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// IP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    /// Port.
    #[serde(default)]
    pub port: u32,
}

/// `URL`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Url {
    /// `http` or `https`.
    #[serde(default)]
    pub scheme: String,
    /// Where.
    #[serde(default)]
    pub address: Address,
    /// Such as `/slave(1)`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// Region or zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct DomainName {
    /// Its name.
    #[serde(default)]
    pub name: String,
}

/// `DomainInfo.FaultDomain`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct FaultDomain {
    /// Region.
    #[serde(default)]
    pub region: DomainName,
    /// Zone.
    #[serde(default)]
    pub zone: DomainName,
}

/// `DomainInfo`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct DomainInfo {
    /// Where the agent stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault_domain: Option<FaultDomain>,
}

/// Resources of one agent, offered to one role.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct Offer {
    /// Names it.
    pub id: OfferId,
    /// Whom it is for.
    #[serde(default)]
    pub framework_id: FrameworkId,
    /// Whose resources.
    #[serde(default)]
    pub agent_id: AgentId,
    /// The agent's host name.
    #[serde(default)]
    pub hostname: String,
    /// The agent's endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<Url>,
    /// The agent's fault domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<DomainInfo>,
    /// What is offered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<Resource>,
    /// The agent's attributes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attributes: Vec<Attribute>,
    /// Our executors that run there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub executor_ids: Vec<ExecutorId>,
    /// The role it is offered to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allocation_info: Option<AllocationInfo>,
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
    #[serde(default)]
    pub labels: Vec<Label>,
}

wire_enum! {
    /// `FrameworkInfo.Capability.Type`
    CapabilityType {
        /// Understands `TASK_KILLING`.
        TaskKillingState = "TASK_KILLING_STATE",
        /// Understands UNREACHABLE, GONE, DROPPED.
        PartitionAware = "PARTITION_AWARE",
        /// Several roles.
        MultiRole = "MULTI_ROLE",
        /// Reservations as stacks.
        ReservationRefinement = "RESERVATION_REFINEMENT",
        /// Offers from other regions.
        RegionAware = "REGION_AWARE",
        /// Shared resources.
        SharedResources = "SHARED_RESOURCES",
        /// Revocable resources.
        RevocableResources = "REVOCABLE_RESOURCES",
        /// GPU agents.
        GpuResources = "GPU_RESOURCES",
    }
}

/// A capability; an unknown one reads as an empty object does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Capability {
    /// Which.
    #[serde(rename = "type", default)]
    pub kind: CapabilityType,
}

/// `FrameworkInfo`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct FrameworkInfo {
    /// User that executors run as.
    #[serde(default)]
    pub user: String,
    /// For people.
    #[serde(default)]
    pub name: String,
    /// Set from the second subscription on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<FrameworkId>,
    /// Seconds after a disconnect until the master kills everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failover_timeout: Option<f64>,
    /// Whether agents write down what they run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<bool>,
    /// With `MULTI_ROLE`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    /// Without `MULTI_ROLE`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// What it understands.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub capabilities: Vec<Capability>,
    /// Where it runs, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Who it is, when authenticated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webui_url: Option<String>,
    /// Labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Labels>,
}

/// `AgentInfo`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct AgentInfo {
    /// Host name.
    #[serde(default)]
    pub hostname: String,
    /// Port of its API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u32>,
    /// What it has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<Resource>,
    /// Its attributes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attributes: Vec<Attribute>,
    /// Names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<AgentId>,
    /// Its fault domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<DomainInfo>,
}
