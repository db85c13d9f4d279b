//! Any shape: masters first, then the replicas of one shard after the other.
//!
//! Let domain d (a host, or a rack or zone if those keep members apart) still have room for `a(d)` replicas,
//! clipped to the shards to come whose master is elsewhere, `b(d)`. What is left over in all, the slack, is the sum
//! of `a(d)` less the replicas to come. A domain with `a(d) = b(d)` loses one of its places by the clip when a
//! shard passes it by. So replicas may go wherever is best, as long as no more such domains are passed by than there is
//! slack: then all that come later have a way too.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use overlord_api::Domain;

use super::{Plan, Shape, deal_masters, scheme::Scheme, sites::Sites};

/// How many shards two sites share.
#[derive(Debug, Default)]
pub(crate) struct Links(BTreeMap<(usize, usize), u32>);

impl Links {
    pub(crate) fn add(&mut self, one: usize, other: usize) {
        *self.0.entry((one.min(other), one.max(other))).or_default() += 1;
    }

    pub(crate) fn between(&self, one: usize, other: usize) -> u32 {
        self.0.get(&(one.min(other), one.max(other))).copied().unwrap_or(0)
    }
}

impl Scheme {
    /// Every member has a place in a world for which the scheme was found.
    pub(crate) fn dealt(&self, shape: Shape, sites: &mut Sites<'_>) -> Option<Plan> {
        for site in 0..sites.len() {
            sites.reach(site, self.on_host);
        }
        let room: Vec<u32> = (0..sites.len())
            .map(|site| u32::try_from(sites.places(site).len()).unwrap_or(u32::MAX).min(self.on_host))
            .collect();
        let masters: Vec<u32> = room.iter().map(|room| (*room).min(shape.most_masters())).collect();
        let homes = deal_masters(shape, sites, &masters, self.masters)?;
        let mut table = Table::new(self.apart, shape, &homes, &room, sites)?;
        homes.iter().map(|home| table.shard(*home, shape.replicas_per_master)).collect()
    }
}

/// A domain that keeps members apart.
#[derive(Debug, Clone, Copy)]
struct Front {
    /// `a(d)`.
    room: u32,
    /// When it is tight (`a(d) = b(d)`): at the shard of this number.
    tight_at: u32,
}

struct Table<'s, 'a> {
    apart: Domain,
    sites: &'s Sites<'a>,
    /// The number of the shard at hand.
    now: u32,
    domains: Vec<Front>,
    /// Fronts by when they are tight.
    tight: BTreeSet<(u32, usize)>,
    slack: u64,
    /// Places left and members, of each site.
    room: Vec<u32>,
    members: Vec<u32>,
    /// Of each rack: sites with room, those with the fewest members first.
    in_rack: Vec<BTreeSet<Order>>,
    links: Links,
}

/// The order of sites within a rack: members, what is left on it, number.
type Order = (u32, Reverse<(u64, u64)>, usize);

impl<'s, 'a> Table<'s, 'a> {
    fn new(apart: Domain, shape: Shape, homes: &[usize], room: &[u32], sites: &'s Sites<'a>) -> Option<Self> {
        let mut room = room.to_vec();
        let mut members = vec![0; sites.len()];
        for home in homes {
            room[*home] = room[*home].checked_sub(1)?;
            members[*home] += 1;
        }
        let mut free = vec![0_u32; sites.domains(apart)];
        let mut own = vec![0_u32; sites.domains(apart)];
        for site in 0..sites.len() {
            let domain = sites.domain(apart, site);
            free[domain] = free[domain].saturating_add(room[site]);
            own[domain] += members[site];
        }
        let domains: Vec<Front> = free
            .iter()
            .zip(&own)
            .map(|(free, own)| {
                let others = shape.masters - own;
                let room = (*free).min(others);
                Front { room, tight_at: others - room }
            })
            .collect();
        let replicas = u64::from(shape.masters) * u64::from(shape.replicas_per_master);
        let mut table = Self {
            apart,
            sites,
            now: 0,
            tight: domains.iter().enumerate().map(|(domain, front)| (front.tight_at, domain)).collect(),
            slack: domains.iter().map(|front| u64::from(front.room)).sum::<u64>().checked_sub(replicas)?,
            domains,
            room,
            members,
            in_rack: vec![BTreeSet::new(); sites.racks()],
            links: Links::default(),
        };
        for site in (0..sites.len()).filter(|site| table.room[*site] > 0) {
            let order = table.order(site);
            table.in_rack[sites.rack(site)].insert(order);
        }
        Some(table)
    }

    fn order(&self, site: usize) -> Order {
        (self.members[site], Reverse(self.sites.left(site)), site)
    }

    /// The sites of the next shard, whose master is at `home`.
    fn shard(&mut self, home: usize, replicas: u32) -> Option<Vec<usize>> {
        let own = self.sites.domain(self.apart, home);
        let tight = self.tight.range((self.now, 0)..(self.now + 1, 0)).map(|(_, domain)| *domain);
        let mut tight: BTreeSet<usize> = tight.filter(|domain| *domain != own).collect();
        let mut homes = vec![home];
        for left in (1..=replicas).rev() {
            // Only among those that must not be passed by, if there are as many of them as replicas left.
            let forced = (tight.len() as u64).saturating_sub(self.slack) >= left.into();
            let site = self.best(&homes, forced.then_some(&tight))?;
            let domain = self.sites.domain(self.apart, site);
            tight.remove(&domain);
            self.seat(site, domain);
            self.links.add(home, site);
            homes.push(site);
        }
        // One shard less to come for all. For the master's own domain nothing changes.
        self.delay(own);
        for domain in tight {
            self.slack = self.slack.checked_sub(1)?;
            self.domains[domain].room -= 1;
            self.delay(domain);
        }
        self.now += 1;
        Some(homes)
    }

    /// Puts a replica on the site.
    fn seat(&mut self, site: usize, domain: usize) {
        let rack = self.sites.rack(site);
        let order = self.order(site);
        self.in_rack[rack].remove(&order);
        self.members[site] += 1;
        self.room[site] -= 1;
        if self.room[site] > 0 {
            let order = self.order(site);
            self.in_rack[rack].insert(order);
        }
        self.domains[domain].room -= 1;
        self.delay(domain);
    }

    fn delay(&mut self, domain: usize) {
        let front = &mut self.domains[domain];
        self.tight.remove(&(front.tight_at, domain));
        front.tight_at += 1;
        self.tight.insert((front.tight_at, domain));
    }

    /// In another zone and rack than all of the shard's members if possible, with the fewest links to the master's
    /// site, with the fewest members.
    fn best(&self, homes: &[usize], only: Option<&BTreeSet<usize>>) -> Option<usize> {
        let sites = self.sites;
        let (&home, _) = homes.split_first()?;
        let used: Vec<usize> = homes.iter().map(|site| sites.domain(self.apart, *site)).collect();
        let allowed = |site: usize| {
            let domain = sites.domain(self.apart, site);
            self.domains[domain].room > 0
                && !used.contains(&domain)
                && only.is_none_or(|only| only.contains(&domain))
        };
        let mut best = None;
        for group in &self.in_rack {
            let Some((.., first)) = group.first() else { continue };
            if self.apart != Domain::Host && !allowed(*first) {
                continue;
            }
            let count = |domain| {
                let own = sites.domain(domain, *first);
                homes.iter().filter(|home| sites.domain(domain, **home) == own).count()
            };
            let zone = if sites.by_zone() { count(Domain::Zone) } else { 0 };
            let together = (zone, count(Domain::Rack));
            for order in group.iter().filter(|(.., site)| allowed(*site)) {
                let (.., site) = *order;
                let links = self.links.between(home, site);
                let key = (together, links, *order);
                if best.is_none_or(|best| key < best) {
                    best = Some(key);
                }
                // Those that follow in this rack are no better.
                if links == 0 {
                    break;
                }
            }
        }
        best.map(|(_, _, (.., site))| site)
    }
}
