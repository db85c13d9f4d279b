//! How a task is found by Mesos-DNS, by load balancers and in the Mesos UI.

use serde::{Deserialize, Serialize};

use super::{Labels, wire_enum};

wire_enum! {
    /// `DiscoveryInfo.Visibility`
    Visibility {
        /// The framework only.
        Framework = "FRAMEWORK",
        /// The cluster.
        Cluster = "CLUSTER",
        /// The world.
        External = "EXTERNAL",
    }
}

/// `DiscoveryInfo`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct DiscoveryInfo {
    /// Who should see it.
    #[serde(default, skip_serializing_if = "Visibility::is_unknown")]
    pub visibility: Visibility,
    /// The service's name, such as the host part in DNS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Free text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// Free text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// Free text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Where it listens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports: Option<DiscoveryPorts>,
    /// Labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Labels>,
}

/// `Ports`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct DiscoveryPorts {
    /// The ports.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<DiscoveryPort>,
}

/// `Port`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct DiscoveryPort {
    /// Its number.
    #[serde(default)]
    pub number: u32,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `tcp` or `udp`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// Who should see it.
    #[serde(default, skip_serializing_if = "Visibility::is_unknown")]
    pub visibility: Visibility,
    /// Labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Labels>,
}
