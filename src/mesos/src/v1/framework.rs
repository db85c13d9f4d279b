//! Who a framework is, and what it understands.

use serde::{Deserialize, Serialize};

use super::{FrameworkId, Labels, wire_enum};

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

/// A capability; an unknown one reads as an empty object does, and is written as one, as Mesos does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Capability {
    /// Which.
    #[serde(rename = "type", default, skip_serializing_if = "CapabilityType::is_unknown")]
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
    /// What it wants of offers, by role; kept verbatim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offer_filters: Option<serde_json::Value>,
}
