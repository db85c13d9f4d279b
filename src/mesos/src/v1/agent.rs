//! Masters and agents, and where they stand.

use serde::{Deserialize, Serialize};

use super::{AgentId, Attribute, Resource};

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
    /// Where a master or an agent stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault_domain: Option<FaultDomain>,
}

/// `MasterInfo`: in SUBSCRIBED, and in the node of a master in ZooKeeper.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct MasterInfo {
    /// Names one life of a master.
    #[serde(default)]
    pub id: String,
    /// IPv4 address as a number, lowest byte first: 16777343 is 127.0.0.1. See `address` instead.
    #[serde(default)]
    pub ip: u32,
    /// Port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u32>,
    /// Such as `master@127.0.0.1:5050`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<String>,
    /// Host name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Such as `1.11.1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Where it listens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Address>,
    /// Its fault domain: agents of other regions than this are offered to region-aware frameworks only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<DomainInfo>,
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
