//! Members of a sharded cluster with replicas: where each shard's master and replicas go, so that no single
//! host takes a shard with all its copies, or the majority of masters that elects new ones.
//!
//! # Numbers
//!
//! Of M masters with R replicas each, members `0..M` are the masters, member = shard; the replicas of shard
//! s are the R members from `M + s * R` on ([`Shape::replica`]). That is how a cluster is formed; roles move later.
//!
//! # Rules
//!
//! Always, for hosts: two members of a shard never share one, and at most `ceil(M / 2) - 1` masters are on
//! one ([`Shape::most_masters`]), whatever [`World::rules`] say of hosts. `required` by rack or zone means the
//! same two rules for racks or zones; an agent that does not tell its own is refused then. For racks not
//! required, and for zones that are preferred, each of the two rules holds if there is a way for all members,
//! and is left if not; members of a shard are still kept apart where that is possible one by one, and
//! [`notes`] tells what the loss of a rack or zone costs. Racks of different zones are different racks,
//! whatever their names; agents without a rack (zone) count as one. Of agents with one ip that tell different
//! racks or zones, those that agree with the first are used.
//!
//! # Shape
//!
//! For an even number of masters with one replica each, four members go to two hosts, each with one master
//! and the other's replica (a chunk), if enough hosts have room for that. Else masters are dealt out first,
//! and replicas by what is left. Either way pairs of hosts that share few shards are preferred, so that the
//! work of a lost host goes to many.

mod chunks;
mod dealt;
mod notes;
mod reseat;
mod scheme;
mod sites;
mod unformable;

use std::{cmp::Reverse, collections::BTreeSet};

use overlord_api::{Address, Domain, Rule};

use crate::{Bus, Placement, World, pools::Size};

pub use self::{
    notes::{Note, notes},
    reseat::reseat,
    unformable::{Unformable, Why},
};
use self::{
    scheme::Scheme,
    sites::{Limits, Sites},
};

/// There are no more slots to own.
const MOST_MASTERS: u32 = 16_384;

/// How many members a cluster has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Shards.
    pub masters: u32,
    /// Copies of each besides the master.
    pub replicas_per_master: u32,
}

impl Shape {
    /// Of how many masters one host may be the home, so that its loss leaves a majority: `ceil(M / 2) - 1`.
    pub const fn most_masters(self) -> u32 {
        self.masters.div_ceil(2).saturating_sub(1)
    }

    /// All members.
    pub const fn members(self) -> u64 {
        self.masters as u64 * self.copies() as u64
    }

    /// Members of one shard.
    pub const fn copies(self) -> u32 {
        self.replicas_per_master.saturating_add(1)
    }

    /// The number of the `n`th replica of a shard, from 0.
    pub const fn replica(self, shard: u32, n: u32) -> u32 {
        self.masters.saturating_add(shard.saturating_mul(self.replicas_per_master)).saturating_add(n)
    }

    /// How many domains it takes to keep both rules for them.
    const fn domains(self) -> u32 {
        let most = if self.most_masters() == 0 { 1 } else { self.most_masters() };
        let (masters, copies) = (self.masters.div_ceil(most), self.copies());
        if masters > copies { masters } else { copies }
    }
}

/// What every member needs, with the executor's share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// Thousandths of a core.
    pub cpu_millis: u64,
    /// Bytes of memory.
    pub mem: u64,
    /// Bytes of disk.
    pub disk: u64,
    /// Whether it needs a second port.
    pub bus: Bus,
}

impl Need {
    const fn size(&self) -> Size {
        let Self { cpu_millis, mem, disk, bus } = *self;
        Size { cpu_millis, mem, disk, bus }
    }
}

/// A member of a cluster to be formed, and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seat {
    /// Which member.
    pub member: u32,
    /// Its shard.
    pub shard: u32,
    /// Whether it is the shard's master, or a replica.
    pub master: bool,
    /// Its place.
    pub placement: Placement,
}

/// A cluster that can be formed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Formed {
    /// All members, in order.
    pub seats: Vec<Seat>,
    /// What the loss of a rack or zone would cost; empty if nothing but time.
    pub notes: Vec<Note>,
}

/// A member of a formed cluster that has its place, in its role of now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seated {
    /// Which member.
    pub member: u32,
    /// Its shard.
    pub shard: u32,
    /// Whether it is the shard's master now.
    pub master: bool,
    /// Where it is.
    pub address: Address,
    /// Its rack, if known.
    pub rack: Option<String>,
    /// Its zone, if known.
    pub zone: Option<String>,
}

impl From<&Seat> for Seated {
    fn from(seat: &Seat) -> Self {
        let Seat { member, shard, master, ref placement } = *seat;
        let (rack, zone) = (placement.rack.clone(), placement.zone.clone());
        Self { member, shard, master, address: placement.address, rack, zone }
    }
}

/// A member of a formed cluster that needs a new place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lost {
    /// Which member.
    pub member: u32,
    /// Its shard.
    pub shard: u32,
    /// Whether it will be the shard's master: nobody else took over.
    pub master: bool,
}

/// Finds a place for every member of a cluster, or says what stands in the way of all of them together.
///
/// Complete for hosts: if there is a way to keep the rules for hosts, one is found; so too for racks or for
/// zones that are required.
pub fn form(shape: Shape, need: &Need, world: &World<'_>) -> Result<Formed, Unformable> {
    if shape.masters < 3 || shape.masters > MOST_MASTERS {
        return Err(Unformable::shape(shape));
    }
    let mut sites = Sites::new(need.size(), world, |member| u64::from(member) < shape.members());
    let scheme = Scheme::find(shape, &mut sites, world)?;
    let plan = match scheme.chunks(shape, &mut sites) {
        Some(plan) => Some(plan),
        None => scheme.dealt(shape, &mut sites),
    };
    let seats = plan.and_then(|plan| seats(shape, &plan, &sites));
    // Cannot be: the scheme counted the places. Better no cluster than half of one.
    let Some(mut seats) = seats else { return Err(unformable::full(shape, &sites)) };
    seats.sort_by_key(|seat| seat.member);
    let seated: Vec<Seated> = seats.iter().map(Seated::from).collect();
    Ok(Formed { notes: notes(shape, &seated, world.rules), seats })
}

/// The sites of each shard's members, its master's first.
type Plan = Vec<Vec<usize>>;

/// The sites' places, in order, to the members.
fn seats(shape: Shape, plan: &Plan, sites: &Sites<'_>) -> Option<Vec<Seat>> {
    let mut used = vec![0; sites.len()];
    let mut seats = Vec::new();
    for (shard, homes) in (0..).zip(plan) {
        for (n, site) in (0..).zip(homes) {
            let place = sites.places(*site).get(used[*site])?;
            used[*site] += 1;
            let member = if n == 0 { shard } else { shape.replica(shard, n - 1) };
            let placement = Placement { member, ..place.clone() };
            seats.push(Seat { member, shard, master: n == 0, placement });
        }
    }
    (seats.len() as u64 == shape.members()).then_some(seats)
}

/// The rule for a domain, the strictest if there are several. Racks always matter.
fn rule_of(rules: &overlord_api::Placement, domain: Domain) -> Option<Rule> {
    let by = || rules.spread.iter().filter(|spread| spread.by == domain).map(|spread| spread.rule);
    let required = domain == Domain::Host || by().any(|rule| rule == Rule::Required);
    match domain {
        Domain::Host | Domain::Rack | Domain::Zone if required => Some(Rule::Required),
        Domain::Host | Domain::Rack => Some(Rule::Preferred),
        Domain::Zone => by().next(),
    }
}

/// Deals masters to sites one by one: to the site with the fewest, in the zone and rack with the fewest, with
/// the most left. None if not all can be dealt within `most` of each site and the limits.
///
/// The limits are nested (sites in racks in zones), so whatever is dealt first never prevents that all are.
fn deal_masters(shape: Shape, sites: &Sites<'_>, most: &[u32], limits: Limits) -> Option<Vec<usize>> {
    let mut groups = vec![BTreeSet::new(); sites.racks()];
    for (site, most) in most.iter().enumerate().filter(|(_, most)| **most > 0) {
        groups[sites.rack(site)].insert((0, Reverse(sites.left(site)), site, *most));
    }
    let (mut in_rack, mut in_zone) = (vec![0_u32; sites.racks()], vec![0_u32; sites.zones()]);
    let mut homes = Vec::new();
    for _ in 0..shape.masters {
        let heads = groups.iter().enumerate().filter_map(|(rack, group)| {
            let head = *group.first()?;
            let (masters, zone) = (in_rack[rack], in_zone[sites.zone(head.2)]);
            let full = limits.rack.is_some_and(|most| masters >= most)
                || limits.zone.is_some_and(|most| zone >= most);
            // Zones only count where they are asked for.
            let zone = if sites.by_zone() { zone } else { 0 };
            (!full).then_some(((head.0, zone, masters, head), rack))
        });
        let ((.., head), rack) = heads.min()?;
        let (masters, left, site, most) = head;
        groups[rack].remove(&head);
        if masters + 1 < most {
            groups[rack].insert((masters + 1, left, site, most));
        }
        in_rack[rack] += 1;
        in_zone[sites.zone(site)] += 1;
        homes.push(site);
    }
    Some(homes)
}

#[cfg(test)]
mod tests;
