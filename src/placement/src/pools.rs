//! What is left of the offers while places are handed out: resources and ports. A place once taken is never
//! given back.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use overlord_api::Address;

use crate::{Bus, HostOffer, Placement, Reason, World, eligible::fixed_reasons, ports::Ports};

/// What one member takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Size {
    pub(crate) cpu_millis: u64,
    pub(crate) mem: u64,
    pub(crate) disk: u64,
    pub(crate) bus: Bus,
}

/// What is left of an offer.
pub(crate) struct Pool<'a> {
    pub(crate) offer: &'a HostOffer,
    cpu_millis: u64,
    mem: u64,
    disk: u64,
    ports: Ports,
    /// Why it is of no use to this cluster at all.
    pub(crate) fixed: Vec<Reason>,
}

/// All pools, sorted by agent id and role: their index breaks ties.
pub(crate) struct Pools<'a> {
    world: &'a World<'a>,
    list: Vec<Pool<'a>>,
    by_host: BTreeMap<IpAddr, Vec<usize>>,
    /// Addresses that are used besides [`World::taken`].
    used: BTreeSet<Address>,
    /// The most that any offer has, against which what is left is measured.
    most_cpu: u64,
    most_mem: u64,
}

impl<'a> Pools<'a> {
    /// What members that are `asked` for have according to [`World::placed`] is not counted as used.
    pub(crate) fn new(world: &'a World<'a>, asked: impl Fn(u32) -> bool) -> Self {
        let mut offers: Vec<&HostOffer> = world.offers.iter().collect();
        offers.sort_by_key(|offer| (&offer.agent_id, &offer.role, offer.host, &offer.offer_ids));
        let mut by_host: BTreeMap<IpAddr, Vec<usize>> = BTreeMap::new();
        let mut list = Vec::with_capacity(offers.len());
        for offer in offers {
            by_host.entry(offer.host).or_default().push(list.len());
            list.push(Pool {
                offer,
                cpu_millis: offer.cpu_millis,
                mem: offer.mem,
                disk: offer.disk,
                ports: Ports::new(&offer.ports),
                fixed: fixed_reasons(offer, world),
            });
        }
        let mut used = BTreeSet::new();
        for placed in world.placed.iter().filter(|placed| !asked(placed.member)) {
            used.insert(placed.address);
            used.extend(placed.bus_port.map(|port| Address::new(placed.address.ip, port)));
        }
        Self {
            world,
            by_host,
            used,
            most_cpu: list.iter().map(|pool| pool.cpu_millis).max().unwrap_or(0).max(1),
            most_mem: list.iter().map(|pool| pool.mem).max().unwrap_or(0).max(1),
            list,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Pool<'a>> {
        self.list.iter()
    }

    pub(crate) fn get(&self, pool: usize) -> &Pool<'a> {
        &self.list[pool]
    }

    /// The pools of a host: they share its ports and its members.
    pub(crate) fn on(&self, host: IpAddr) -> &[usize] {
        self.by_host.get(&host).map_or(&[], Vec::as_slice)
    }

    /// Addresses that nobody may get, besides those the world tells.
    pub(crate) fn block(&mut self, addresses: impl Iterator<Item = Address>) {
        self.used.extend(addresses);
    }

    pub(crate) fn has_room(&self, pool: usize, size: Size) -> bool {
        let pool = &self.list[pool];
        size.cpu_millis <= pool.cpu_millis && size.mem <= pool.mem && size.disk <= pool.disk
    }

    /// No more members than this fit in what the pool has left, perhaps fewer.
    pub(crate) fn at_most(&self, pool: usize, size: Size) -> u64 {
        let pool = &self.list[pool];
        let fits = |left: u64, wanted: u64| left.checked_div(wanted).unwrap_or(u64::MAX);
        fits(pool.cpu_millis, size.cpu_millis)
            .min(fits(pool.mem, size.mem))
            .min(fits(pool.disk, size.disk))
            .min(pool.ports.at_most(size.bus))
    }

    /// How much of cpu and memory is left when one more member is in: the scarcer one first.
    pub(crate) fn left_with(&self, pool: usize, size: Size) -> (u64, u64) {
        let pool = &self.list[pool];
        let cpu = share(pool.cpu_millis.saturating_sub(size.cpu_millis), self.most_cpu);
        let mem = share(pool.mem.saturating_sub(size.mem), self.most_mem);
        (cpu.min(mem), cpu + mem)
    }

    pub(crate) fn choose_ports(
        &mut self,
        pool: usize,
        exactly: Option<u16>,
        bus: Bus,
    ) -> Option<(u16, Option<u16>)> {
        let Self { list, world, used, .. } = self;
        let pool = &mut list[pool];
        let busy = |port| is_busy(world, used, pool.offer.host, port);
        match exactly {
            Some(port) => pool.ports.choose_exactly(port, bus, busy),
            None => pool.ports.choose(bus, busy),
        }
    }

    /// Takes ports that were chosen, and the resources.
    pub(crate) fn take(
        &mut self,
        pool: usize,
        member: u32,
        size: Size,
        (port, bus_port): (u16, Option<u16>),
    ) -> Placement {
        let pool = &mut self.list[pool];
        pool.cpu_millis -= size.cpu_millis;
        pool.mem -= size.mem;
        pool.disk -= size.disk;
        let offer = pool.offer;
        let address = Address::new(offer.host, port);
        self.used.insert(address);
        self.used.extend(bus_port.map(|port| Address::new(offer.host, port)));
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

    /// What the pool has too little of for one more member, at the address `only` if there is one.
    pub(crate) fn lacks(&self, pool: usize, size: Size, only: Option<u16>) -> Vec<Reason> {
        let pool = &self.list[pool];
        let room = [
            (size.cpu_millis <= pool.cpu_millis, Reason::Cpu),
            (size.mem <= pool.mem, Reason::Mem),
            (size.disk <= pool.disk, Reason::Disk),
        ];
        let mut reasons: Vec<Reason> =
            room.into_iter().filter(|(fits, _)| !fits).map(|(_, reason)| reason).collect();
        let mut ports = pool.ports.clone();
        let busy = |port| is_busy(self.world, &self.used, pool.offer.host, port);
        let choice = match only {
            Some(port) => ports.choose_exactly(port, size.bus, busy),
            None => ports.choose(size.bus, busy),
        };
        if choice.is_none() {
            reasons.push(pool.ports.why_not(only, size.bus));
        }
        reasons
    }

    /// How many agents there are, and how many of them have each of the reasons that `why` gives for their
    /// pools.
    pub(crate) fn count(&self, why: impl Fn(usize) -> Vec<Reason>) -> (u32, BTreeMap<Reason, u32>) {
        let mut agents: BTreeMap<&str, BTreeSet<Reason>> = BTreeMap::new();
        for (index, pool) in self.list.iter().enumerate() {
            agents.entry(&pool.offer.agent_id).or_default().extend(why(index));
        }
        let mut counted: BTreeMap<Reason, u32> = BTreeMap::new();
        for reasons in agents.values() {
            // An agent that also offers to our role is not a matter of roles.
            let only_role = reasons.iter().all(|reason| *reason == Reason::Role);
            for reason in reasons.iter().filter(|reason| only_role || **reason != Reason::Role) {
                *counted.entry(reason.clone()).or_default() += 1;
            }
        }
        (u32::try_from(agents.len()).unwrap_or(u32::MAX), counted)
    }
}

fn is_busy(world: &World<'_>, used: &BTreeSet<Address>, host: IpAddr, port: u32) -> bool {
    u16::try_from(port).is_ok_and(|port| {
        let address = Address::new(host, port);
        world.taken.contains(&address) || used.contains(&address)
    })
}

/// `part` of `whole` in 65536ths: whole numbers, so that no rounding depends on the machine.
fn share(part: u64, whole: u64) -> u64 {
    u64::try_from(u128::from(part) * 65_536 / u128::from(whole)).unwrap_or(u64::MAX)
}
