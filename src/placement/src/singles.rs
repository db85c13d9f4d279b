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
    Bus, Hint, HostOffer, Outcome, Placement, Reason, Refusal, Request, World, eligible::fixed_reasons,
    ports::Ports,
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

/// What is left of an offer. Pools are sorted by agent id and role: their index breaks ties.
struct Pool<'a> {
    offer: &'a HostOffer,
    cpu_millis: u64,
    mem: u64,
    disk: u64,
    ports: Ports,
    /// Why it is of no use to this cluster at all.
    fixed: Vec<Reason>,
    group: usize,
}

/// The size of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Size {
    cpu_millis: u64,
    mem: u64,
    disk: u64,
    bus: Bus,
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
    pools: Vec<Pool<'a>>,
    by_host: BTreeMap<IpAddr, Vec<usize>>,
    groups: Vec<Group<'a>>,
    counts: Counts<'a>,
    /// Addresses that are used besides [`World::taken`].
    used: BTreeSet<Address>,
    indexes: BTreeMap<Size, Index>,
    /// The most that any offer has, against which what is left is measured.
    most_cpu: u64,
    most_mem: u64,
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

        let mut offers: Vec<&HostOffer> = world.offers.iter().collect();
        offers.sort_by_key(|offer| (&offer.agent_id, &offer.role, offer.host, &offer.offer_ids));
        let mut group_of: BTreeMap<Group<'a>, usize> = BTreeMap::new();
        let mut groups = Vec::new();
        let mut by_host: BTreeMap<IpAddr, Vec<usize>> = BTreeMap::new();
        let mut pools = Vec::with_capacity(offers.len());
        for offer in offers {
            let group =
                (offer.rack.as_deref().filter(|_| by_rack), offer.zone.as_deref().filter(|_| by_zone));
            let group = *group_of.entry(group).or_insert_with(|| {
                groups.push(group);
                groups.len() - 1
            });
            by_host.entry(offer.host).or_default().push(pools.len());
            pools.push(Pool {
                offer,
                cpu_millis: offer.cpu_millis,
                mem: offer.mem,
                disk: offer.disk,
                ports: Ports::new(&offer.ports),
                fixed: fixed_reasons(offer, world),
                group,
            });
        }

        let asked: BTreeSet<u32> = requests.iter().map(|request| request.member).collect();
        let mut counts = Counts::default();
        let mut used = BTreeSet::new();
        for placed in world.placed.iter().filter(|placed| !asked.contains(&placed.member)) {
            counts.add(placed.address.ip, placed.rack.as_deref(), placed.zone.as_deref());
            used.insert(placed.address);
            used.extend(placed.bus_port.map(|port| Address::new(placed.address.ip, port)));
        }
        Self {
            world,
            spread,
            by_host,
            groups,
            counts,
            used,
            indexes: BTreeMap::new(),
            most_cpu: pools.iter().map(|pool| pool.cpu_millis).max().unwrap_or(0).max(1),
            most_mem: pools.iter().map(|pool| pool.mem).max().unwrap_or(0).max(1),
            pools,
        }
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
        let (port, bus) = self.choose_ports(pool, None, size.bus)?;
        Some(self.take(pool, request.member, size, port, bus))
    }

    fn place_at(&mut self, address: Address, member: u32, size: Size) -> Option<Placement> {
        for pool in self.by_host.get(&address.ip).cloned().unwrap_or_default() {
            if !self.pools[pool].fixed.is_empty()
                || !self.blocked(pool).is_empty()
                || !self.has_room(pool, size)
            {
                continue;
            }
            if let Some((port, bus)) = self.choose_ports(pool, Some(address.port), size.bus) {
                return Some(self.take(pool, member, size, port, bus));
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
        let offer = self.pools[pool].offer;
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

    fn has_room(&self, pool: usize, size: Size) -> bool {
        let pool = &self.pools[pool];
        size.cpu_millis <= pool.cpu_millis && size.mem <= pool.mem && size.disk <= pool.disk
    }

    fn choose_ports(&mut self, pool: usize, exactly: Option<u16>, bus: Bus) -> Option<(u16, Option<u16>)> {
        let Self { pools, world, used, .. } = self;
        let pool = &mut pools[pool];
        let host = pool.offer.host;
        let busy = |port: u32| {
            u16::try_from(port).is_ok_and(|port| {
                let address = Address::new(host, port);
                world.taken.contains(&address) || used.contains(&address)
            })
        };
        match exactly {
            Some(port) => pool.ports.choose_exactly(port, bus, busy),
            None => pool.ports.choose(bus, busy),
        }
    }

    fn index(&mut self, size: Size) -> Index {
        let mut index =
            Index { groups: vec![BTreeSet::new(); self.groups.len()], scores: vec![None; self.pools.len()] };
        for pool in 0..self.pools.len() {
            if let Some(score) = self.score(pool, size) {
                index.groups[self.pools[pool].group].insert(score);
                index.scores[pool] = Some(score);
            }
        }
        index
    }

    /// `None` if the pool cannot take the size any more. What keeps whole groups out is left to [`Board::best`].
    fn score(&mut self, pool: usize, size: Size) -> Option<Score> {
        let Pool { offer, cpu_millis, mem, ref fixed, .. } = self.pools[pool];
        let members = self.counts.host.get(&offer.host).copied().unwrap_or(0);
        let by_host = self.spread.iter().find(|(domain, _)| *domain == Domain::Host).map(|(_, rule)| *rule);
        if !fixed.is_empty() || (by_host == Some(Rule::Required) && members > 0) || !self.has_room(pool, size)
        {
            return None;
        }
        self.choose_ports(pool, None, size.bus)?;
        let cpu = share(cpu_millis - size.cpu_millis, self.most_cpu);
        let mem = share(mem - size.mem, self.most_mem);
        let on_host = if by_host.is_some() { members } else { 0 };
        Some(Score { on_host, left: Reverse((cpu.min(mem), cpu + mem)), pool })
    }

    fn take(&mut self, index: usize, member: u32, size: Size, port: u16, bus_port: Option<u16>) -> Placement {
        let pool = &mut self.pools[index];
        pool.cpu_millis -= size.cpu_millis;
        pool.mem -= size.mem;
        pool.disk -= size.disk;
        let offer = pool.offer;
        let address = Address::new(offer.host, port);
        self.used.insert(address);
        self.used.extend(bus_port.map(|port| Address::new(offer.host, port)));
        self.counts.add(offer.host, offer.rack.as_deref(), offer.zone.as_deref());
        self.refresh(offer.host);
        Placement {
            member,
            address,
            bus_port,
            agent_id: offer.agent_id.clone(),
            host: offer.host,
            rack: offer.rack.clone(),
            zone: offer.zone.clone(),
            role: offer.role.clone(),
        }
    }

    /// Brings the scores of all pools of a host up to date: they share its ports and its members.
    fn refresh(&mut self, host: IpAddr) {
        let mut indexes = std::mem::take(&mut self.indexes);
        for pool in self.by_host.get(&host).cloned().unwrap_or_default() {
            let group = self.pools[pool].group;
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
        let mut agents: BTreeMap<&str, BTreeSet<Reason>> = BTreeMap::new();
        for pool in 0..self.pools.len() {
            agents
                .entry(&self.pools[pool].offer.agent_id)
                .or_default()
                .extend(self.reasons(pool, request, size));
        }
        let mut counted: BTreeMap<Reason, u32> = BTreeMap::new();
        for reasons in agents.values() {
            // An agent that also offers to our role is not a matter of roles.
            let only_role = reasons.iter().all(|reason| *reason == Reason::Role);
            for reason in reasons.iter().filter(|reason| only_role || **reason != Reason::Role) {
                *counted.entry(reason.clone()).or_default() += 1;
            }
        }
        Refusal {
            member: request.member,
            offers_seen: u32::try_from(agents.len()).unwrap_or(u32::MAX),
            hint: self.hint(&counted),
            reasons: counted,
        }
    }

    /// All that keeps the pool from taking the request. What cannot be changed by making room stands alone.
    fn reasons(&self, index: usize, request: &Request, size: Size) -> Vec<Reason> {
        let pool = &self.pools[index];
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
        let room = [
            (size.cpu_millis <= pool.cpu_millis, Reason::Cpu),
            (size.mem <= pool.mem, Reason::Mem),
            (size.disk <= pool.disk, Reason::Disk),
        ];
        reasons.extend(room.into_iter().filter(|(fits, _)| !fits).map(|(_, reason)| reason));
        let mut ports = pool.ports.clone();
        let busy = |port: u32| self.is_busy(pool.offer.host, port);
        let only = request.only.map(|only| only.port);
        let choice = match only {
            Some(port) => ports.choose_exactly(port, size.bus, busy),
            None => ports.choose(size.bus, busy),
        };
        if choice.is_none() {
            reasons.push(pool.ports.why_not(only, size.bus));
        }
        reasons
    }

    fn is_busy(&self, host: IpAddr, port: u32) -> bool {
        u16::try_from(port).is_ok_and(|port| {
            let address = Address::new(host, port);
            self.world.taken.contains(&address) || self.used.contains(&address)
        })
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

/// `part` of `whole` in 65536ths: whole numbers, so that no rounding depends on the machine.
fn share(part: u64, whole: u64) -> u64 {
    u64::try_from(u128::from(part) * 65_536 / u128::from(whole)).unwrap_or(u64::MAX)
}

fn count<T: Ord>(items: impl Iterator<Item = T>) -> u32 {
    u32::try_from(items.collect::<BTreeSet<T>>().len()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
