//! New places for members of a formed cluster, with the roles of now. Each member by itself: who finds no
//! place is refused, the others are placed.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use overlord_api::{Domain, Rule};

use super::{Lost, Need, Seated, Shape, rule_of, sites::Sites};
use crate::{Outcome, Placement, Reason, Refusal, World};

/// Finds new places for `lost`, given all others in `seated`. Those who are in both lists are only lost.
/// Placements and refusals are in the order of `lost`.
///
/// Members with the least choice go first, and one that finds everything full may move another lost member
/// once; nobody who is seated is moved. Racks and zones not required are kept to where possible.
pub fn reseat(lost: &[Lost], need: &Need, seated: &[Seated], shape: Shape, world: &World<'_>) -> Outcome {
    let asked: BTreeSet<u32> = lost.iter().map(|lost| lost.member).collect();
    let seated: Vec<&Seated> = seated.iter().filter(|seat| !asked.contains(&seat.member)).collect();
    let mut sites = Sites::new(need.size(), world, |member| asked.contains(&member));
    sites.pools.block(seated.iter().map(|seat| seat.address));
    let mut table = Table::new(shape, world, &seated, sites);

    let mut order: Vec<usize> = (0..lost.len()).collect();
    order.sort_by_cached_key(|index| {
        let lost = lost[*index];
        let choice = (0..table.sites.len()).filter(|site| table.blocked(*site, lost).is_empty()).count();
        (choice, !lost.master, lost.member)
    });
    let mut homes: Vec<Option<usize>> = vec![None; lost.len()];
    // Again while it helps: who made room may have freed a place for one that was refused.
    let mut waiting = order;
    loop {
        let before = waiting.len();
        waiting.retain(|index| {
            homes[*index] = table.best(lost[*index]);
            match homes[*index] {
                Some(site) => table.seat(site, lost[*index]),
                None => table.make_room(*index, lost, &mut homes),
            }
            homes[*index].is_none()
        });
        if waiting.is_empty() || waiting.len() == before {
            break;
        }
    }

    let mut used = vec![0_usize; table.sites.len()];
    let mut outcome = Outcome::default();
    for (lost, home) in lost.iter().zip(homes) {
        let place = home.and_then(|site| {
            let place = table.sites.places(site).get(used[site])?;
            used[site] += 1;
            Some(Placement { member: lost.member, ..place.clone() })
        });
        match place {
            Some(placement) => outcome.placements.push(placement),
            None => outcome.refusals.push(table.refuse(*lost)),
        }
    }
    outcome
}

/// What is in one host, rack or zone.
#[derive(Debug, Default)]
struct Crowd {
    members: u32,
    masters: u32,
    /// How many members of each shard.
    shards: BTreeMap<u32, u32>,
}

impl Crowd {
    fn add(&mut self, shard: u32, master: bool) {
        self.members += 1;
        self.masters += u32::from(master);
        *self.shards.entry(shard).or_default() += 1;
    }

    fn remove(&mut self, shard: u32, master: bool) {
        self.members -= 1;
        self.masters -= u32::from(master);
        if let Some(count) = self.shards.get_mut(&shard) {
            *count -= 1;
        }
    }

    fn of(&self, shard: u32) -> u32 {
        self.shards.get(&shard).copied().unwrap_or(0)
    }
}

struct Table<'a> {
    shape: Shape,
    sites: Sites<'a>,
    /// Host, rack and zone, as far as they matter, and how strictly.
    rules: Vec<(Domain, Rule)>,
    /// Of each site, by domain as in `rules`: which crowd it belongs to.
    crowd_of: Vec<Vec<usize>>,
    crowds: Vec<Crowd>,
    /// Members placed on each site.
    placed: Vec<u32>,
    /// Of each shard: the host of its master, if it has one.
    home: BTreeMap<u32, IpAddr>,
    /// Shards shared by two hosts, smaller ip first.
    links: BTreeMap<(IpAddr, IpAddr), u32>,
}

/// What a crowd is called: sort, host, zone, rack.
type Name<'n> = (Domain, Option<IpAddr>, Option<&'n str>, Option<&'n str>);

fn name<'n>(domain: Domain, host: IpAddr, zone: Option<&'n str>, rack: Option<&'n str>) -> Name<'n> {
    match domain {
        Domain::Host => (domain, Some(host), None, None),
        Domain::Rack => (domain, None, zone, rack),
        Domain::Zone => (domain, None, zone, None),
    }
}

impl<'a> Table<'a> {
    fn new(shape: Shape, world: &World<'_>, seated: &[&Seated], sites: Sites<'a>) -> Self {
        let domains = [Domain::Host, Domain::Rack, Domain::Zone];
        let rules: Vec<(Domain, Rule)> = domains
            .into_iter()
            .filter_map(|domain| rule_of(world.rules, domain).map(|rule| (domain, rule)))
            .collect();
        let mut number: BTreeMap<Name<'_>, usize> = BTreeMap::new();
        let mut crowds: Vec<Crowd> = Vec::new();
        let mut numbers = |crowds: &mut Vec<Crowd>, host, zone, rack| -> Vec<usize> {
            let of = |(domain, _): &(Domain, Rule)| {
                *number.entry(name(*domain, host, zone, rack)).or_insert_with(|| {
                    crowds.push(Crowd::default());
                    crowds.len() - 1
                })
            };
            rules.iter().map(of).collect()
        };
        let crowd_of = (0..sites.len())
            .map(|site| {
                let (zone, rack) = sites.name(site);
                numbers(&mut crowds, sites.host(site), zone, rack)
            })
            .collect();
        let mut home = BTreeMap::new();
        for seat in seated {
            let of_seat = numbers(&mut crowds, seat.address.ip, seat.zone.as_deref(), seat.rack.as_deref());
            for crowd in of_seat {
                crowds[crowd].add(seat.shard, seat.master);
            }
            if seat.master {
                home.insert(seat.shard, seat.address.ip);
            }
        }
        let mut links = BTreeMap::new();
        for seat in seated.iter().filter(|seat| !seat.master) {
            if let Some(home) = home.get(&seat.shard) {
                *links.entry(pair(*home, seat.address.ip)).or_default() += 1;
            }
        }
        Self { shape, placed: vec![0; sites.len()], sites, rules, crowd_of, crowds, home, links }
    }

    /// What the rules for one domain after the other say against the member, each with its strictness.
    fn against(&self, site: usize, lost: Lost) -> impl Iterator<Item = (Rule, Reason)> {
        let crowds = self.rules.iter().zip(&self.crowd_of[site]);
        crowds.flat_map(move |((domain, rule), crowd)| {
            let crowd = &self.crowds[*crowd];
            let shard = (crowd.of(lost.shard) > 0).then_some((*rule, Reason::ShardIn(*domain)));
            let full = lost.master && crowd.masters >= self.shape.most_masters();
            shard.into_iter().chain(full.then_some((*rule, Reason::MastersIn(*domain))))
        })
    }

    /// Why the rules keep the member from the site; empty if they do not.
    fn blocked(&self, site: usize, lost: Lost) -> Vec<Reason> {
        let against = self.against(site, lost).filter(|(rule, _)| *rule == Rule::Required);
        against.map(|(_, reason)| reason).collect()
    }

    fn has_room(&mut self, site: usize) -> bool {
        self.sites.reach(site, self.placed[site] + 1)
    }

    /// The best site for the member: fewest rules broken that are only preferred, fewest shards shared with the
    /// master's host, fewest members, fewest masters, most left.
    fn best(&mut self, lost: Lost) -> Option<usize> {
        let mut sites: Vec<_> = (0..self.sites.len())
            .filter(|site| self.blocked(*site, lost).is_empty())
            .map(|site| {
                let home = self.home.get(&lost.shard).filter(|_| !lost.master);
                let link = home.and_then(|home| self.links.get(&pair(*home, self.sites.host(site))));
                let host = self.crowd_of[site].first().map(|crowd| &self.crowds[*crowd]);
                let crowd = host.map_or((0, 0), |host| (host.members, host.masters));
                let broken = self.against(site, lost).count();
                let together: u32 =
                    self.crowd_of[site].iter().map(|crowd| self.crowds[*crowd].of(lost.shard)).sum();
                (broken, together, link.copied().unwrap_or(0), crowd, Reverse(self.sites.left(site)), site)
            })
            .collect();
        sites.sort_unstable();
        sites.into_iter().map(|(.., site)| site).find(|site| self.has_room(*site))
    }

    fn seat(&mut self, site: usize, lost: Lost) {
        self.placed[site] += 1;
        for crowd in &self.crowd_of[site] {
            self.crowds[*crowd].add(lost.shard, lost.master);
        }
        if let Some(home) = self.home.get(&lost.shard).filter(|_| !lost.master) {
            *self.links.entry(pair(*home, self.sites.host(site))).or_default() += 1;
        }
    }

    fn unseat(&mut self, site: usize, lost: Lost) {
        self.placed[site] -= 1;
        for crowd in &self.crowd_of[site] {
            self.crowds[*crowd].remove(lost.shard, lost.master);
        }
        if let Some(home) = self.home.get(&lost.shard).filter(|_| !lost.master)
            && let Some(links) = self.links.get_mut(&pair(*home, self.sites.host(site)))
        {
            *links -= 1;
        }
    }

    /// Gives the member the place of one placed before, if that one may go where there still is room.
    fn make_room(&mut self, index: usize, lost: &[Lost], homes: &mut [Option<usize>]) {
        let free: Vec<usize> = (0..self.sites.len()).filter(|site| self.has_room(*site)).collect();
        for other in 0..lost.len() {
            let Some(site) = homes[other] else { continue };
            self.unseat(site, lost[other]);
            if self.blocked(site, lost[index]).is_empty() {
                self.seat(site, lost[index]);
                let to = free.iter().find(|to| self.blocked(**to, lost[other]).is_empty());
                if let Some(to) = to.copied() {
                    self.seat(to, lost[other]);
                    (homes[other], homes[index]) = (Some(to), Some(site));
                    return;
                }
                self.unseat(site, lost[index]);
            }
            self.seat(site, lost[other]);
        }
    }

    fn refuse(&self, lost: Lost) -> Refusal {
        let (offers_seen, reasons) = self.sites.count(|site| {
            let mut reasons = self.blocked(site, lost);
            // Places that were found count as used up, as far as members got them.
            if self.sites.places(site).len() <= self.placed[site] as usize {
                reasons.extend(self.sites.lacks(site));
            }
            reasons
        });
        Refusal { member: lost.member, reasons, offers_seen, hint: None }
    }
}

fn pair(one: IpAddr, other: IpAddr) -> (IpAddr, IpAddr) {
    (one.min(other), one.max(other))
}
