//! The hosts that may be used, the rack and zone of each, and how many members each has room for. A place is
//! found once, when somebody asks whether there are that many.

use std::{collections::BTreeMap, net::IpAddr};

use overlord_api::{Domain, Rule};

use super::rule_of;
use crate::{
    Placement, Reason, World,
    pools::{Pools, Size},
};

/// A zone and, within it, a rack.
type RackName<'a> = (Option<&'a str>, Option<&'a str>);

struct Site<'a> {
    host: IpAddr,
    pools: Vec<usize>,
    /// Index of its rack, and of its zone.
    domains: (usize, usize),
    name: RackName<'a>,
    /// What is left of its best agent with one member on it.
    left: (u64, u64),
    /// Places found so far; their member number means nothing.
    places: Vec<Placement>,
    /// No more places than this can be found.
    at_most: u32,
}

/// Most members in one rack and in one zone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) rack: Option<u32>,
    pub(crate) zone: Option<u32>,
}

impl Limits {
    /// For the domains of one sort; those of hosts are not among the limits.
    pub(crate) fn of(domain: Domain, limit: u32) -> Self {
        match domain {
            Domain::Host => Self::default(),
            Domain::Rack => Self { rack: Some(limit), zone: None },
            Domain::Zone => Self { rack: None, zone: Some(limit) },
        }
    }
}

pub(crate) struct Sites<'a> {
    pub(crate) pools: Pools<'a>,
    size: Size,
    list: Vec<Site<'a>>,
    racks: usize,
    zones: usize,
    by_zone: bool,
    /// Of each pool: its site, or why it has none.
    site_of: Vec<Result<usize, Vec<Reason>>>,
}

impl<'a> Sites<'a> {
    pub(crate) fn new(need: Size, world: &'a World<'a>, asked: impl Fn(u32) -> bool) -> Self {
        let pools = Pools::new(world, asked);
        let required = |domain| rule_of(world.rules, domain) == Some(Rule::Required);
        let must_tell = [Domain::Rack, Domain::Zone].map(required);
        let mut list: Vec<Site<'a>> = Vec::new();
        let mut by_host: BTreeMap<IpAddr, usize> = BTreeMap::new();
        let mut racks: BTreeMap<RackName<'a>, usize> = BTreeMap::new();
        let mut zones: BTreeMap<Option<&'a str>, usize> = BTreeMap::new();
        let mut site_of = Vec::with_capacity(pools.len());
        for (index, pool) in pools.iter().enumerate() {
            let offer = pool.offer;
            let name = (offer.zone.as_deref(), offer.rack.as_deref());
            let untold =
                [(must_tell[0] && name.1.is_none(), "rack"), (must_tell[1] && name.0.is_none(), "zone")];
            let mut reasons: Vec<Reason> =
                if pool.fixed.contains(&Reason::Role) { vec![Reason::Role] } else { pool.fixed.clone() };
            if reasons.is_empty() {
                let untold = untold.into_iter().filter(|(untold, _)| *untold);
                reasons.extend(untold.map(|(_, name)| Reason::Attribute(name.to_owned())));
            }
            if !reasons.is_empty() {
                site_of.push(Err(reasons));
                continue;
            }
            let number = racks.len();
            let rack = *racks.entry(name).or_insert(number);
            let number = zones.len();
            let zone = *zones.entry(name.0).or_insert(number);
            let site = *by_host.entry(offer.host).or_insert_with(|| {
                list.push(Site {
                    host: offer.host,
                    pools: Vec::new(),
                    domains: (rack, zone),
                    name,
                    left: (0, 0),
                    places: Vec::new(),
                    at_most: 0,
                });
                list.len() - 1
            });
            if list[site].name != name {
                site_of.push(Err(vec![Reason::OtherDomain]));
                continue;
            }
            let fits = if pools.has_room(index, need) { pools.at_most(index, need) } else { 0 };
            let of_host = &mut list[site];
            of_host.pools.push(index);
            of_host.left = of_host.left.max(pools.left_with(index, need));
            of_host.at_most = of_host.at_most.saturating_add(u32::try_from(fits).unwrap_or(u32::MAX));
            site_of.push(Ok(site));
        }
        let by_zone = rule_of(world.rules, Domain::Zone).is_some();
        Self { pools, size: need, list, racks: racks.len(), zones: zones.len(), by_zone, site_of }
    }

    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    /// How many racks there are, and beyond which no index is.
    pub(crate) fn racks(&self) -> usize {
        self.racks
    }

    pub(crate) fn zones(&self) -> usize {
        self.zones
    }

    /// Whether the rules say anything of zones.
    pub(crate) fn by_zone(&self) -> bool {
        self.by_zone
    }

    pub(crate) fn host(&self, site: usize) -> IpAddr {
        self.list[site].host
    }

    pub(crate) fn rack(&self, site: usize) -> usize {
        self.list[site].domains.0
    }

    pub(crate) fn zone(&self, site: usize) -> usize {
        self.list[site].domains.1
    }

    /// Its zone and rack, as told.
    pub(crate) fn name(&self, site: usize) -> RackName<'a> {
        self.list[site].name
    }

    /// How the site compares before anything is placed: more is better.
    pub(crate) fn left(&self, site: usize) -> (u64, u64) {
        self.list[site].left
    }

    /// The index of the site's domain.
    pub(crate) fn domain(&self, domain: Domain, site: usize) -> usize {
        match domain {
            Domain::Host => site,
            Domain::Rack => self.rack(site),
            Domain::Zone => self.zone(site),
        }
    }

    /// How many domains of that sort there are.
    pub(crate) fn domains(&self, domain: Domain) -> usize {
        match domain {
            Domain::Host => self.len(),
            Domain::Rack => self.racks,
            Domain::Zone => self.zones,
        }
    }

    /// The places found so far.
    pub(crate) fn places(&self, site: usize) -> &[Placement] {
        &self.list[site].places
    }

    /// How many places the site has, as far as is known without looking for them: never too few.
    pub(crate) fn at_most(&self, site: usize) -> u32 {
        self.list[site].at_most
    }

    /// Looks for places until the site has that many, and says whether it has.
    pub(crate) fn reach(&mut self, site: usize, places: u32) -> bool {
        let Self { pools, size, list, .. } = self;
        let Site { pools: of_site, places: found, at_most, .. } = &mut list[site];
        while found.len() < places as usize && found.len() < *at_most as usize {
            let next = of_site.iter().find_map(|pool| {
                let ports = if pools.has_room(*pool, *size) {
                    pools.choose_ports(*pool, None, size.bus)
                } else {
                    None
                };
                ports.map(|ports| (*pool, ports))
            });
            match next {
                Some((pool, ports)) => found.push(pools.take(pool, 0, *size, ports)),
                None => *at_most = u32::try_from(found.len()).unwrap_or(u32::MAX),
            }
        }
        found.len() >= places as usize
    }

    /// The largest sum of one number for each site, where site s has at most `most(s)`, and racks and zones have
    /// their limits.
    pub(crate) fn sum(&self, most: impl Fn(usize) -> u32, limits: Limits) -> u64 {
        let limited = |sum: u64, limit: Option<u32>| limit.map_or(sum, |limit| sum.min(limit.into()));
        let mut racks = vec![0_u64; self.racks];
        let mut zone_of = vec![0; self.racks];
        for (site, of) in self.list.iter().enumerate() {
            racks[of.domains.0] += u64::from(most(site));
            zone_of[of.domains.0] = of.domains.1;
        }
        let mut zones = vec![0_u64; self.zones];
        for (rack, zone) in racks.into_iter().zip(zone_of) {
            zones[zone] += limited(rack, limits.rack);
        }
        zones.into_iter().map(|zone| limited(zone, limits.zone)).sum()
    }

    /// Why agents are of no use, counted: those that are not eligible, and those that `why` gives reasons
    /// for besides.
    pub(crate) fn count(&self, why: impl Fn(usize) -> Vec<Reason>) -> (u32, BTreeMap<Reason, u32>) {
        self.pools.count(|pool| match &self.site_of[pool] {
            Ok(site) => why(*site),
            Err(reasons) => reasons.clone(),
        })
    }

    /// What the agents of a site have too little of, besides the places that were found.
    pub(crate) fn lacks(&self, site: usize) -> Vec<Reason> {
        self.list[site].pools.iter().flat_map(|pool| self.pools.lacks(*pool, self.size, None)).collect()
    }
}
