//! What goes in and what comes out.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use overlord_api::Address;

use crate::Refusal;

/// What one agent offers to one role: all its offers of that role together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostOffer {
    /// The agent.
    pub agent_id: String,
    /// The offers that make this up.
    pub offer_ids: Vec<String>,
    /// The agent's ip: the failure domain host, and the ip of addresses.
    pub host: IpAddr,
    /// The agent's host name, for constraints.
    pub hostname: String,
    /// The failure domain rack, if the agent tells it.
    pub rack: Option<String>,
    /// The failure domain zone, if the agent tells it.
    pub zone: Option<String>,
    /// All attributes of the agent, as text.
    pub attributes: BTreeMap<String, String>,
    /// Thousandths of a core.
    pub cpu_millis: u64,
    /// Bytes of memory.
    pub mem: u64,
    /// Bytes of disk.
    pub disk: u64,
    /// Port ranges, inclusive.
    pub ports: Vec<(u16, u16)>,
    /// The role the resources are offered to.
    pub role: String,
}

/// Which second port a member needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Bus {
    /// None.
    None,
    /// Any other port of the offer.
    AnyPort,
    /// The data port plus 10000, which must be in the offer.
    Plus10000,
    /// The data port plus 10000, whether offered or not.
    Unreserved,
}

/// A member that needs a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Which member.
    pub member: u32,
    /// Thousandths of a core, with the executor's share.
    pub cpu_millis: u64,
    /// Bytes of memory, with the executor's share.
    pub mem: u64,
    /// Bytes of disk, with the executor's share.
    pub disk: u64,
    /// Whether it needs a second port.
    pub bus: Bus,
    /// Where it was before: taken if it still fits, whatever would be better balanced.
    pub prefer: Option<Address>,
    /// The only place it may have.
    pub only: Option<Address>,
}

/// A member of the cluster that has its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// Which member.
    pub member: u32,
    /// Where.
    pub address: Address,
    /// Its rack, if known.
    pub rack: Option<String>,
    /// Its zone, if known.
    pub zone: Option<String>,
    /// Its second port.
    pub bus_port: Option<u16>,
}

/// All that a decision depends on besides the requests.
#[derive(Debug, Clone, Copy)]
pub struct World<'a> {
    /// The cluster's rules.
    pub rules: &'a overlord_api::Placement,
    /// Members of the cluster when complete: for explaining refusals only.
    pub members: u32,
    /// Members that have their place.
    pub placed: &'a [Placed],
    /// What is offered now.
    pub offers: &'a [HostOffer],
    /// Every address that is in use or quarantined, in any cluster, data and bus ports.
    pub taken: &'a BTreeSet<Address>,
    /// Hosts that must not be used.
    pub exclude_hosts: &'a BTreeSet<IpAddr>,
}

/// A place that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// For which member.
    pub member: u32,
    /// The address it gets.
    pub address: Address,
    /// Its second port.
    pub bus_port: Option<u16>,
    /// Whose offer is used.
    pub agent_id: String,
    /// The agent's ip.
    pub host: IpAddr,
    /// The agent's rack, if known.
    pub rack: Option<String>,
    /// The agent's zone, if known.
    pub zone: Option<String>,
    /// The role of the offer that is used.
    pub role: String,
}

/// Every request is in exactly one of the two lists, in the order of the requests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Places that were found.
    pub placements: Vec<Placement>,
    /// Requests for which there is no place.
    pub refusals: Vec<Refusal>,
}
