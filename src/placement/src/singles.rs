//! Members that are independent of each other: one request after the other, each to the best place of the moment.
//!
//! Agents that differ only in what is left on them are kept in one ordered set per rack and zone, so that
//! a request looks at the first of each set and not at every agent. A set holds what fits a request of
//! one size; requests of a cluster have few sizes.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use overlord_api::{Address, Domain, Rule};

use crate::{
    Hint, Outcome, Placement, Reason, Refusal, Request, World,
    pools::{Pools, Size},
};

/// Finds a place for each request, or says why there is none. A request is refused only if no agent can take
/// it as things stand when its turn comes; places found before are never moved for it.
pub fn assign(requests: &[Request], world: &World<'_>) -> Outcome {
    let mut board = Board::new(requests, world);
    let mut outcome = Outcome::default();
    for request in requests {
        match board.place(request) {
            Some(placement) => outcome.placements.push(placement),
            None => outcome.refusals.push(board.refuse(request)),
        }
    }
    outcome
}

/// Order of the pools of one group: least members on the host, most left over, agent id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Score {
    on_host: u32,
    left: Reverse<(u64, u64)>,
    pool: usize,
}

/// The pools that fit one size, per group; and each pool's score there.
struct Index {
    groups: Vec<BTreeSet<Score>>,
    scores: Vec<Option<Score>>,
}

/// How many members of the cluster are in each domain.
#[derive(Default)]
struct Counts<'a> {
    host: BTreeMap<IpAddr, u32>,
    rack: BTreeMap<Option<&'a str>, u32>,
    zone: BTreeMap<Option<&'a str>, u32>,
}

impl<'a> Counts<'a> {
    fn add(&mut self, host: IpAddr, rack: Option<&'a str>, zone: Option<&'a str>) {
        *self.host.entry(host).or_default() += 1;
        *self.rack.entry(rack).or_default() += 1;
        *self.zone.entry(zone).or_default() += 1;
    }
}

/// A rack and a zone, each as far as the spread asks for it.
type Group<'a> = (Option<&'a str>, Option<&'a str>);

struct Board<'a> {
    world: &'a World<'a>,
    /// Each domain once, required if any rule says so, in the order given.
    spread: Vec<(Domain, Rule)>,
    pools: Pools<'a>,
    groups: Vec<Group<'a>>,
    /// Of each pool.
    group_of: Vec<usize>,
    counts: Counts<'a>,
    indexes: BTreeMap<Size, Index>,
}

impl Size {
    const fn of(request: &Request) -> Self {
        let Request { cpu_millis, mem, disk, bus, .. } = *request;
        Self { cpu_millis, mem, disk, bus }
    }
}

impl<'a> Board<'a> {
    fn new(requests: &[Request], world: &'a World<'a>) -> Self {
        let spread = spread(world);
        let by = |domain: Domain| spread.iter().any(|(other, _)| *other == domain);
        let (by_rack, by_zone) = (by(Domain::Rack), by(Domain::Zone));
        let asked: BTreeSet<u32> = requests.iter().map(|request| request.member).collect();
        let pools = Pools::new(world, |member| asked.contains(&member));

        let mut known: BTreeMap<Group<'a>, usize> = BTreeMap::new();
        let mut groups = Vec::new();
        let mut group_of = Vec::with_capacity(pools.len());
        for pool in pools.iter() {
            let (rack, zone) = (pool.offer.rack.as_deref(), pool.offer.zone.as_deref());
            let group = (rack.filter(|_| by_rack), zone.filter(|_| by_zone));
            group_of.push(*known.entry(group).or_insert_with(|| {
                groups.push(group);
                groups.len() - 1
            }));
        }
        let mut counts = Counts::default();
        for placed in world.placed.iter().filter(|placed| !asked.contains(&placed.member)) {
            counts.add(placed.address.ip, placed.rack.as_deref(), placed.zone.as_deref());
        }
        Self { world, spread, pools, groups, group_of, counts, indexes: BTreeMap::new() }
    }

    fn place(&mut self, request: &Request) -> Option<Placement> {
        let size = Size::of(request);
        if let Some(only) = request.only {
            return self.place_at(only, request.member, size);
        }
        if let Some(placement) = request.prefer.and_then(|prefer| self.place_at(prefer, request.member, size))
        {
            return Some(placement);
        }
        let pool = self.best(size)?;
        let ports = self.pools.choose_ports(pool, None, size.bus)?;
        Some(self.take(pool, request.member, size, ports))
    }

    fn place_at(&mut self, address: Address, member: u32, size: Size) -> Option<Placement> {
        for pool in self.pools.on(address.ip).to_vec() {
            if !self.pools.get(pool).fixed.is_empty()
                || !self.blocked(pool).is_empty()
                || !self.pools.has_room(pool, size)
            {
                continue;
            }
            if let Some(ports) = self.pools.choose_ports(pool, Some(address.port), size.bus) {
                return Some(self.take(pool, member, size, ports));
            }
        }
        None
    }

    /// The pool with the best score that fits.
    fn best(&mut self, size: Size) -> Option<usize> {
        if !self.indexes.contains_key(&size) {
            let index = self.index(size);
            self.indexes.insert(size, index);
        }
        let index = self.indexes.get(&size)?;
        let heads = index.groups.iter().zip(&self.groups).filter_map(|(scores, group)| {
            let head = scores.first()?;
            if self.group_is_blocked(*group) { None } else { Some((self.preference(*group, head), *head)) }
        });
        heads.min().map(|(_, head)| head.pool)
    }

    /// Members in each domain of the spread, in the order of its rules.
    fn preference(&self, (rack, zone): Group<'a>, head: &Score) -> [u32; 3] {
        let mut preference = [0; 3];
        for (count, (domain, _)) in preference.iter_mut().zip(&self.spread) {
            *count = match domain {
                Domain::Host => head.on_host,
                Domain::Rack => self.counts.rack.get(&rack).copied().unwrap_or(0),
                Domain::Zone => self.counts.zone.get(&zone).copied().unwrap_or(0),
            };
        }
        preference
    }

    /// Whether a required spread keeps the whole rack or zone out.
    fn group_is_blocked(&self, (rack, zone): Group<'a>) -> bool {
        self.spread.iter().any(|(domain, rule)| {
            *rule == Rule::Required
                && match domain {
                    Domain::Host => false,
                    Domain::Rack => rack.is_none() || self.counts.rack.contains_key(&rack),
                    Domain::Zone => zone.is_none() || self.counts.zone.contains_key(&zone),
                }
        })
    }

    /// Why a required spread keeps the pool out; empty if it does not.
    fn blocked(&self, pool: usize) -> Vec<Reason> {
        let offer = self.pools.get(pool).offer;
        let (rack, zone) = (offer.rack.as_deref(), offer.zone.as_deref());
        let required = self.spread.iter().filter(|(_, rule)| *rule == Rule::Required);
        required
            .filter_map(|(domain, _)| match domain {
                Domain::Host => self.counts.host.contains_key(&offer.host).then_some(Reason::HostUsed),
                Domain::Rack if rack.is_none() => Some(Reason::Attribute("rack".to_owned())),
                Domain::Rack => self.counts.rack.contains_key(&rack).then_some(Reason::RackUsed),
                Domain::Zone if zone.is_none() => Some(Reason::Attribute("zone".to_owned())),
                Domain::Zone => self.counts.zone.contains_key(&zone).then_some(Reason::ZoneUsed),
            })
            .collect()
    }

    fn index(&mut self, size: Size) -> Index {
        let mut index =
            Index { groups: vec![BTreeSet::new(); self.groups.len()], scores: vec![None; self.pools.len()] };
        for pool in 0..self.pools.len() {
            if let Some(score) = self.score(pool, size) {
                index.groups[self.group_of[pool]].insert(score);
                index.scores[pool] = Some(score);
            }
        }
        index
    }

    /// `None` if the pool cannot take the size any more. What keeps whole groups out is left to [`Board::best`].
    fn score(&mut self, pool: usize, size: Size) -> Option<Score> {
        let host = self.pools.get(pool).offer.host;
        let members = self.counts.host.get(&host).copied().unwrap_or(0);
        let by_host = self.spread.iter().find(|(domain, _)| *domain == Domain::Host).map(|(_, rule)| *rule);
        if !self.pools.get(pool).fixed.is_empty()
            || (by_host == Some(Rule::Required) && members > 0)
            || !self.pools.has_room(pool, size)
        {
            return None;
        }
        self.pools.choose_ports(pool, None, size.bus)?;
        let on_host = if by_host.is_some() { members } else { 0 };
        Some(Score { on_host, left: Reverse(self.pools.left_with(pool, size)), pool })
    }

    fn take(&mut self, pool: usize, member: u32, size: Size, ports: (u16, Option<u16>)) -> Placement {
        let offer = self.pools.get(pool).offer;
        let placement = self.pools.take(pool, member, size, ports);
        self.counts.add(offer.host, offer.rack.as_deref(), offer.zone.as_deref());
        self.refresh(offer.host);
        placement
    }

    /// Brings the scores of all pools of a host up to date: they share its ports and its members.
    fn refresh(&mut self, host: IpAddr) {
        let mut indexes = std::mem::take(&mut self.indexes);
        for pool in self.pools.on(host).to_vec() {
            let group = self.group_of[pool];
            for (size, index) in &mut indexes {
                if let Some(old) = index.scores[pool].take() {
                    index.groups[group].remove(&old);
                    // What did not fit before will not fit now.
                    if let Some(new) = self.score(pool, *size) {
                        index.groups[group].insert(new);
                        index.scores[pool] = Some(new);
                    }
                }
            }
        }
        self.indexes = indexes;
    }

    fn refuse(&self, request: &Request) -> Refusal {
        let size = Size::of(request);
        let (offers_seen, reasons) = self.pools.count(|pool| self.reasons(pool, request, size));
        Refusal { member: request.member, offers_seen, hint: self.hint(&reasons), reasons }
    }

    /// All that keeps the pool from taking the request. What cannot be changed by making room stands alone.
    fn reasons(&self, index: usize, request: &Request, size: Size) -> Vec<Reason> {
        let pool = self.pools.get(index);
        if pool.fixed.contains(&Reason::Role) {
            return vec![Reason::Role];
        }
        if !pool.fixed.is_empty() {
            return pool.fixed.clone();
        }
        if request.only.is_some_and(|only| only.ip != pool.offer.host) {
            return vec![Reason::OnlyElsewhere];
        }
        let mut reasons = self.blocked(index);
        reasons.extend(self.pools.lacks(index, size, request.only.map(|only| only.port)));
        reasons
    }

    /// The first required spread that stood in the way, if the known domains cannot satisfy it for the whole
    /// cluster.
    fn hint(&self, reasons: &BTreeMap<Reason, u32>) -> Option<Hint> {
        let members = self.world.members;
        let blocked = |domain| {
            reasons.contains_key(match domain {
                Domain::Host => &Reason::HostUsed,
                Domain::Rack => &Reason::RackUsed,
                Domain::Zone => &Reason::ZoneUsed,
            })
        };
        self.spread.iter().filter(|(_, rule)| *rule == Rule::Required).find_map(|(domain, _)| {
            let eligible = self.pools.iter().filter(|pool| pool.fixed.is_empty()).map(|pool| pool.offer);
            let known = match domain {
                Domain::Host => count(eligible.map(|o| o.host).chain(self.counts.host.keys().copied())),
                Domain::Rack => count(
                    eligible
                        .filter_map(|o| o.rack.as_deref())
                        .chain(self.counts.rack.keys().flatten().copied()),
                ),
                Domain::Zone => count(
                    eligible
                        .filter_map(|o| o.zone.as_deref())
                        .chain(self.counts.zone.keys().flatten().copied()),
                ),
            };
            (known < members && blocked(*domain)).then_some(Hint { domain: *domain, known, members })
        })
    }
}

/// Each domain once, in the order given; required if any of its rules is.
fn spread(world: &World<'_>) -> Vec<(Domain, Rule)> {
    let mut spread: Vec<(Domain, Rule)> = Vec::with_capacity(3);
    for rule in &world.rules.spread {
        match spread.iter_mut().find(|(domain, _)| *domain == rule.by) {
            Some(known) if rule.rule == Rule::Required => known.1 = Rule::Required,
            Some(_) => {}
            None => spread.push((rule.by, rule.rule)),
        }
    }
    spread
}

fn count<T: Ord>(items: impl Iterator<Item = T>) -> u32 {
    u32::try_from(items.collect::<BTreeSet<T>>().len()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
