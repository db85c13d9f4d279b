//! What can be done with offers, and what becomes of it.

use serde::{Deserialize, Serialize};

use super::{
    AgentId, ExecutorInfo, OperationId, Resource, ResourceProviderId, TaskInfo, scheduler::Launch, wire_enum,
};

wire_enum! {
    /// `Offer.Operation.Type`
    OperationType {
        /// Launch tasks.
        Launch = "LAUNCH",
        /// Launch tasks that live and die together.
        LaunchGroup = "LAUNCH_GROUP",
        /// Keep resources for a role.
        Reserve = "RESERVE",
        /// Give up a reservation.
        Unreserve = "UNRESERVE",
        /// Make a persistent volume.
        Create = "CREATE",
        /// Delete a persistent volume.
        Destroy = "DESTROY",
        /// Make a volume larger.
        GrowVolume = "GROW_VOLUME",
        /// Make a volume smaller.
        ShrinkVolume = "SHRINK_VOLUME",
        /// Make a disk of a storage provider usable.
        CreateDisk = "CREATE_DISK",
        /// Give it back.
        DestroyDisk = "DESTROY_DISK",
    }
}

/// `Offer.Operation`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct Operation {
    /// Which.
    #[serde(rename = "type", default, skip_serializing_if = "OperationType::is_unknown")]
    pub kind: OperationType,
    /// Asks for reports about it; not for launches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<OperationId>,
    /// For LAUNCH.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch: Option<Launch>,
    /// For `LAUNCH_GROUP`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch_group: Option<LaunchGroup>,
    /// For RESERVE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reserve: Option<Reserve>,
    /// For UNRESERVE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unreserve: Option<Unreserve>,
    /// For CREATE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub create: Option<Volumes>,
    /// For DESTROY.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destroy: Option<Volumes>,
    /// For `GROW_VOLUME`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grow_volume: Option<GrowVolume>,
    /// For `SHRINK_VOLUME`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shrink_volume: Option<ShrinkVolume>,
}

impl Operation {
    /// LAUNCH of these tasks.
    pub fn launch(task_infos: Vec<TaskInfo>) -> Self {
        Self { kind: OperationType::Launch, launch: Some(Launch { task_infos }), ..Self::default() }
    }
}

/// `Offer.Operation.LaunchGroup`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct LaunchGroup {
    /// Who runs them.
    #[serde(default)]
    pub executor: ExecutorInfo,
    /// What to launch.
    #[serde(default)]
    pub task_group: TaskGroup,
}

/// `TaskGroupInfo`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct TaskGroup {
    /// The tasks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tasks: Vec<TaskInfo>,
}

/// `Offer.Operation.Reserve`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct Reserve {
    /// How they are reserved now, when that changes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub source: Vec<Resource>,
    /// As they shall be.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<Resource>,
}

/// `Offer.Operation.Unreserve`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct Unreserve {
    /// As they are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<Resource>,
}

/// `Offer.Operation.Create`, `Offer.Operation.Destroy`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct Volumes {
    /// The volumes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<Resource>,
}

/// `Offer.Operation.GrowVolume`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct GrowVolume {
    /// Which.
    #[serde(default)]
    pub volume: Resource,
    /// By this.
    #[serde(default)]
    pub addition: Resource,
}

/// `Offer.Operation.ShrinkVolume`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct ShrinkVolume {
    /// Which.
    #[serde(default)]
    pub volume: Resource,
    /// By so much.
    #[serde(default)]
    pub subtract: super::Scalar,
}

wire_enum! {
    /// `OperationState`
    OperationState {
        /// Not a state of its own: there is none for this operation.
        Unsupported = "OPERATION_UNSUPPORTED",
        /// On its way.
        Pending = "OPERATION_PENDING",
        /// Done.
        Finished = "OPERATION_FINISHED",
        /// Tried in vain.
        Failed = "OPERATION_FAILED",
        /// Never tried: it is wrong.
        Error = "OPERATION_ERROR",
        /// Never tried: it got lost.
        Dropped = "OPERATION_DROPPED",
        /// The agent does not answer.
        Unreachable = "OPERATION_UNREACHABLE",
        /// An operator declared the agent gone.
        GoneByOperator = "OPERATION_GONE_BY_OPERATOR",
        /// The agent is coming back.
        Recovering = "OPERATION_RECOVERING",
        /// The master knows nothing of it.
        NotKnown = "OPERATION_UNKNOWN",
    }
}

/// `UUID`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Uuid {
    /// Base64 of 16 bytes.
    #[serde(default)]
    pub value: String,
}

/// `OperationStatus`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct OperationStatus {
    /// Of which operation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation_id: Option<OperationId>,
    /// Its state.
    #[serde(default, skip_serializing_if = "OperationState::is_unknown")]
    pub state: OperationState,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What became of the resources.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub converted_resources: Vec<Resource>,
    /// With one the report must be acknowledged, without one it must not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<Uuid>,
    /// On which agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<AgentId>,
    /// At which provider, when not the agent itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_provider_id: Option<ResourceProviderId>,
}
