//! An independent check of placements against the hard rules. It shares no code with the assignment, and
//! prefers being obvious to being fast.

use std::{collections::BTreeSet, fmt};

use overlord_api::{Address, Constraint, Domain, Operator, Rule};

use crate::{Bus, HostOffer, Placement, Request, World};

mod cluster;

pub use cluster::{verify_cluster, verify_seats};

/// A broken rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Violation {
    /// The member did not ask, or got two places.
    NotAsked(u32),
    /// The address is not where the request must be.
    NotThere(u32),
    /// No offer of that agent, role and host exists.
    NoSuchOffer(u32),
    /// The placement tells another rack or zone than the offer.
    WrongDomain(u32),
    /// The agent is not eligible: role, constraint or excluded host.
    NotEligible(u32),
    /// The data port, or a bus port that must be, is not offered; or the bus port is not as asked.
    PortNotOffered(u32),
    /// The address or the bus address is used twice, or was taken before.
    AddressTaken(u32, Address),
    /// More is placed on this agent (and role) than it offers.
    Overdrawn(String),
    /// Two members share a domain that they must not share, or its name is unknown.
    SpreadBroken(u32, Domain),
    /// The shard has that many members, and should have another number.
    Copies(u32, usize),
    /// The shard has that many masters, not one.
    Masters(u32, usize),
    /// The domain of that name holds that many masters, and the others are no majority.
    Majority(Domain, String, usize),
    /// The domain of that name holds two members of the shard.
    SameShard(Domain, String, u32),
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAsked(member) => write!(f, "member {member} did not ask for this place"),
            Self::NotThere(member) => write!(f, "member {member} must be elsewhere"),
            Self::NoSuchOffer(member) => write!(f, "member {member} is on an agent that offers nothing"),
            Self::WrongDomain(member) => write!(f, "member {member} is recorded in another rack or zone"),
            Self::NotEligible(member) => write!(f, "member {member} is on an agent that is not eligible"),
            Self::PortNotOffered(member) => write!(f, "member {member} has a port that is not offered"),
            Self::AddressTaken(member, address) => write!(f, "member {member} has {address}, which is taken"),
            Self::Overdrawn(agent) => write!(f, "agent {agent} offers less than is placed on it"),
            Self::SpreadBroken(member, domain) => {
                write!(f, "member {member} shares its {} with another member", domain.as_str())
            }
            Self::Copies(shard, members) => write!(f, "shard {shard} has {members} members"),
            Self::Masters(shard, masters) => write!(f, "shard {shard} has {masters} masters"),
            Self::Majority(domain, name, masters) => {
                write!(f, "{} {name} has {masters} masters, the others are no majority", domain.as_str())
            }
            Self::SameShard(domain, name, shard) => {
                write!(f, "{} {name} has two members of shard {shard}", domain.as_str())
            }
        }
    }
}

/// All hard rules that `placements` break, given what was asked for. Preferences are not looked at.
pub fn verify(requests: &[Request], placements: &[Placement], world: &World<'_>) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut seen = BTreeSet::new();
    for placement in placements {
        let member = placement.member;
        let request = requests.iter().find(|request| request.member == member);
        let Some(request) = request.filter(|_| seen.insert(member)) else {
            violations.push(Violation::NotAsked(member));
            continue;
        };
        if request.only.is_some_and(|only| only != placement.address) {
            violations.push(Violation::NotThere(member));
        }
        let Some(offer) = world.offers.iter().find(|offer| is_of(placement, offer)) else {
            violations.push(Violation::NoSuchOffer(member));
            continue;
        };
        if (&offer.rack, &offer.zone) != (&placement.rack, &placement.zone) {
            violations.push(Violation::WrongDomain(member));
        }
        if !eligible(offer, world) {
            violations.push(Violation::NotEligible(member));
        }
        if !ports_fit(request.bus, placement, offer) {
            violations.push(Violation::PortNotOffered(member));
        }
    }
    addresses(requests, placements, world, &mut violations);
    resources(requests, placements, world, &mut violations);
    spreads(requests, placements, world, &mut violations);
    violations
}

fn is_of(placement: &Placement, offer: &HostOffer) -> bool {
    offer.agent_id == placement.agent_id
        && offer.role == placement.role
        && offer.host == placement.host
        && offer.host == placement.address.ip
}

fn eligible(offer: &HostOffer, world: &World<'_>) -> bool {
    world.rules.roles.contains(&offer.role)
        && !world.exclude_hosts.contains(&offer.host)
        && world.rules.constraints.iter().all(|constraint| satisfied(constraint, offer))
}

fn satisfied(constraint: &Constraint, offer: &HostOffer) -> bool {
    let name = constraint.attribute.as_str();
    let mut value = offer.attributes.get(name).cloned();
    if name == "host" {
        value = Some(offer.host.to_string());
    } else if name == "hostname" {
        value = Some(offer.hostname.clone());
    } else if name == "rack" && value.is_none() {
        value.clone_from(&offer.rack);
    } else if name == "zone" && value.is_none() {
        value.clone_from(&offer.zone);
    }
    let list: Vec<&str> = constraint.value.split(',').map(str::trim).collect();
    match (constraint.operator, value) {
        (Operator::Exists | Operator::Is | Operator::In, None) => false,
        (Operator::IsNot | Operator::NotIn, None) | (Operator::Exists, Some(_)) => true,
        (Operator::Is, Some(value)) => value == constraint.value,
        (Operator::IsNot, Some(value)) => value != constraint.value,
        (Operator::In, Some(value)) => list.contains(&value.as_str()),
        (Operator::NotIn, Some(value)) => !list.contains(&value.as_str()),
    }
}

fn ports_fit(bus: Bus, placement: &Placement, offer: &HostOffer) -> bool {
    let offered = |port: u16| port > 0 && offer.ports.iter().any(|(low, high)| *low <= port && port <= *high);
    let data = placement.address.port;
    let fixed = data.checked_add(10_000);
    offered(data)
        && match (bus, placement.bus_port) {
            (Bus::None, None) => true,
            (Bus::AnyPort, Some(port)) => offered(port) && port != data,
            (Bus::Plus10000, Some(port)) => offered(port) && Some(port) == fixed,
            (Bus::Unreserved, Some(port)) => Some(port) == fixed,
            (Bus::None, Some(_)) | (Bus::AnyPort | Bus::Plus10000 | Bus::Unreserved, None) => false,
        }
}

fn addresses(
    requests: &[Request],
    placements: &[Placement],
    world: &World<'_>,
    violations: &mut Vec<Violation>,
) {
    let mut taken = world.taken.clone();
    for placed in world.placed.iter().filter(|p| requests.iter().all(|r| r.member != p.member)) {
        taken.insert(placed.address);
        taken.extend(placed.bus_port.map(|port| Address::new(placed.address.ip, port)));
    }
    for placement in placements {
        let bus = placement.bus_port.map(|port| Address::new(placement.address.ip, port));
        for address in [Some(placement.address), bus].into_iter().flatten() {
            if !taken.insert(address) {
                violations.push(Violation::AddressTaken(placement.member, address));
            }
        }
    }
}

fn resources(
    requests: &[Request],
    placements: &[Placement],
    world: &World<'_>,
    violations: &mut Vec<Violation>,
) {
    let pools: BTreeSet<(&str, &str)> =
        placements.iter().map(|p| (p.agent_id.as_str(), p.role.as_str())).collect();
    for (agent, role) in pools {
        let mut left = (0_i128, 0_i128, 0_i128);
        for offer in world.offers.iter().filter(|o| o.agent_id == agent && o.role == role) {
            left.0 += i128::from(offer.cpu_millis);
            left.1 += i128::from(offer.mem);
            left.2 += i128::from(offer.disk);
        }
        for placement in placements.iter().filter(|p| p.agent_id == agent && p.role == role) {
            for request in requests.iter().filter(|r| r.member == placement.member) {
                left.0 -= i128::from(request.cpu_millis);
                left.1 -= i128::from(request.mem);
                left.2 -= i128::from(request.disk);
            }
        }
        if left.0 < 0 || left.1 < 0 || left.2 < 0 {
            violations.push(Violation::Overdrawn(agent.to_owned()));
        }
    }
}

fn spreads(
    requests: &[Request],
    placements: &[Placement],
    world: &World<'_>,
    violations: &mut Vec<Violation>,
) {
    for spread in world.rules.spread.iter().filter(|spread| spread.rule == Rule::Required) {
        let mut used: BTreeSet<String> = world
            .placed
            .iter()
            .filter(|placed| requests.iter().all(|request| request.member != placed.member))
            .filter_map(|placed| match spread.by {
                Domain::Host => Some(placed.address.ip.to_string()),
                Domain::Rack => placed.rack.clone(),
                Domain::Zone => placed.zone.clone(),
            })
            .collect();
        for placement in placements {
            let domain = match spread.by {
                Domain::Host => Some(placement.host.to_string()),
                Domain::Rack => placement.rack.clone(),
                Domain::Zone => placement.zone.clone(),
            };
            if !domain.is_some_and(|domain| used.insert(domain)) {
                violations.push(Violation::SpreadBroken(placement.member, spread.by));
            }
        }
    }
}

#[cfg(test)]
mod tests;
