//! Why a cluster cannot be formed: the one thing that stands in the way most, with its numbers, and what agents
//! lack, counted.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use overlord_api::Domain;

use super::{
    MOST_MASTERS, Shape,
    sites::{Limits, Sites},
};
use crate::{Reason, refusal};

/// A cluster that cannot be formed as things stand. Its text says why in one line:
/// `4 masters need 4 hosts (at most 1 of 4 on one host): 3 of 5 offered have room: mem 2 agents`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unformable {
    /// What was asked for.
    pub shape: Shape,
    /// What stands in the way.
    pub why: Why,
    /// How many agents were of no (more) use for each reason. An agent counts once for each of its reasons.
    pub reasons: BTreeMap<Reason, u32>,
    /// How many agents offered anything.
    pub offers_seen: u32,
}

/// What stands in the way of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// There are no clusters of that many masters.
    Shape,
    /// Nothing is offered.
    NoOffers,
    /// There are too few hosts, racks or zones for the rules.
    Domains {
        /// Of what.
        domain: Domain,
        /// How many it takes.
        needed: u32,
        /// How many eligible ones there are.
        offered: u32,
        /// How many of those have room for a member.
        with_room: u32,
    },
    /// There is too little room for masters, as only so many may share a host (rack, zone).
    Masters {
        /// What they may not share.
        domain: Domain,
        /// For how many there is room.
        room: u64,
    },
    /// There is too little room for members, as those of one shard may not share a host (rack, zone).
    Members {
        /// What they may not share.
        domain: Domain,
        /// For how many there is room.
        room: u64,
    },
}

impl Unformable {
    pub(crate) fn shape(shape: Shape) -> Self {
        Self { shape, why: Why::Shape, reasons: BTreeMap::new(), offers_seen: 0 }
    }
}

/// No rule stands in the way, but not all members fit.
pub(crate) fn full(shape: Shape, sites: &Sites<'_>) -> Unformable {
    let room = sites.sum(|site| sites.at_most(site).min(shape.masters), Limits::default());
    refuse(Why::Members { domain: Domain::Host, room }, shape, sites)
}

/// Why the rules for a domain cannot be kept.
pub(crate) fn explain(domain: Domain, masters: Limits, shape: Shape, sites: &mut Sites<'_>) -> Unformable {
    // All places that could be of use, so that what is still lacking is known.
    for site in 0..sites.len() {
        sites.reach(site, shape.masters);
    }
    let most = shape.most_masters();
    let places = |site: usize| u32::try_from(sites.places(site).len()).unwrap_or(u32::MAX);
    let needed = shape.domains();
    let all: BTreeSet<usize> = (0..sites.len()).map(|site| sites.domain(domain, site)).collect();
    let roomy = (0..sites.len()).filter(|site| places(*site) > 0);
    let roomy: BTreeSet<usize> = roomy.map(|site| sites.domain(domain, site)).collect();
    let [offered, with_room] = [all, roomy].map(|set| u32::try_from(set.len()).unwrap_or(u32::MAX));
    let masters = sites.sum(|site| places(site).min(most), masters);
    let members = sites.sum(|site| places(site).min(shape.masters), Limits::of(domain, shape.masters));
    let (agents, _) = sites.count(|_| Vec::new());
    let why = if agents == 0 {
        Why::NoOffers
    } else if with_room < needed {
        Why::Domains { domain, needed, offered, with_room }
    } else if masters < shape.masters.into() {
        Why::Masters { domain, room: masters }
    } else {
        Why::Members { domain, room: members }
    };
    refuse(why, shape, sites)
}

/// Agents that have room for as many members as one host may have are of use.
fn refuse(why: Why, shape: Shape, sites: &Sites<'_>) -> Unformable {
    let enough = match why {
        Why::Domains { .. } => 1,
        Why::Masters { .. } => shape.most_masters(),
        Why::Shape | Why::NoOffers | Why::Members { .. } => shape.masters,
    };
    let (offers_seen, reasons) =
        sites.count(
            |site| {
                if sites.places(site).len() >= enough as usize { Vec::new() } else { sites.lacks(site) }
            },
        );
    Unformable { shape, why, reasons, offers_seen }
}

impl fmt::Display for Unformable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shape { masters, replicas_per_master } = self.shape;
        let most = self.shape.most_masters();
        let mut joint = ": ";
        match self.why {
            Why::Shape => {
                return write!(f, "a cluster has 3 to {MOST_MASTERS} masters, {masters} were asked for");
            }
            Why::NoOffers => return f.write_str("no offers"),
            Why::Domains { domain, needed, offered, with_room } => {
                let domain = domain.as_str();
                if self.shape.copies() == needed && needed > masters.div_ceil(most) {
                    write!(f, "a master with {replicas_per_master} replicas needs {needed} {domain}s")?;
                } else {
                    let with = if replicas_per_master > 0 { " with replicas" } else { "" };
                    match masters {
                        3 => write!(f, "3 masters{with} need {needed} {domain}s")?,
                        _ => write!(
                            f,
                            "{masters} masters need {needed} {domain}s (at most {most} of {masters} on one {domain})"
                        )?,
                    }
                }
                if offered < needed {
                    write!(f, ": {offered} offered")?;
                    joint = "; ";
                } else {
                    write!(f, ": {with_room} of {offered} offered have room")?;
                }
            }
            Why::Masters { domain, room } => {
                write!(
                    f,
                    "room for {room} of {masters} masters (at most {most} on one {})",
                    domain.as_str()
                )?;
            }
            Why::Members { domain, room } => {
                let members = self.shape.members();
                write!(f, "room for {room} of {members} members")?;
                if replicas_per_master > 0 {
                    write!(f, " (no two of a shard on one {})", domain.as_str())?;
                }
            }
        }
        if !self.reasons.is_empty() {
            f.write_str(joint)?;
            refusal::summary(f, &self.reasons)?;
        }
        Ok(())
    }
}

impl std::error::Error for Unformable {}
