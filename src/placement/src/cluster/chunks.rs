//! Chunks: four members on two hosts, each with one master and the other's replica.

use std::{cmp::Reverse, collections::BTreeSet};

use overlord_api::Domain;

use super::{
    Plan, Shape, deal_masters,
    dealt::Links,
    scheme::{Scheme, least},
    sites::{Limits, Sites},
};

impl Scheme {
    /// None if the shape has no chunks, or there is no room for them under the rules of this scheme.
    ///
    /// A host takes part in as many chunks as it has masters. Chunks for all exist if no domain that keeps
    /// members apart has more than half of the masters.
    pub(crate) fn chunks(&self, shape: Shape, sites: &mut Sites<'_>) -> Option<Plan> {
        if !shape.masters.is_multiple_of(2) || shape.replicas_per_master != 1 {
            return None;
        }
        let half = Some(shape.masters / 2);
        let limits = match self.apart {
            Domain::Host => self.masters,
            Domain::Rack => Limits { rack: self.masters.rack.or(half), ..self.masters },
            Domain::Zone => Limits { zone: self.masters.zone.or(half), ..self.masters },
        };
        let enough = |sites: &Sites<'_>, room: &dyn Fn(usize) -> u32| {
            sites.sum(room, limits) >= u64::from(shape.masters)
        };
        let on_host = least(sites, shape.most_masters(), 2, enough)?;
        let room = |site| u32::try_from(sites.places(site).len()).unwrap_or(u32::MAX) / 2;
        let most: Vec<u32> = (0..sites.len()).map(|site| room(site).min(on_host)).collect();
        let homes = deal_masters(shape, sites, &most, limits)?;
        let mut open = Open::new(self.apart, &homes, sites);
        let mut plan = Vec::with_capacity(homes.len());
        for _ in 0..shape.masters / 2 {
            let (one, other) = open.pair()?;
            plan.push(vec![one, other]);
            plan.push(vec![other, one]);
        }
        Some(plan)
    }
}

/// Sites that still take part in chunks without a partner.
struct Open<'s, 'a> {
    apart: Domain,
    sites: &'s Sites<'a>,
    /// How often, of each site; and of each domain that keeps members apart.
    of_site: Vec<u32>,
    of_domain: Vec<u32>,
    /// The domains with the most first.
    domains: BTreeSet<(Reverse<u32>, usize)>,
    /// Of each domain and of each rack: the sites with the most first.
    in_domain: Vec<BTreeSet<(Reverse<u32>, usize)>>,
    in_rack: Vec<BTreeSet<(Reverse<u32>, usize)>>,
    links: Links,
}

impl<'s, 'a> Open<'s, 'a> {
    fn new(apart: Domain, homes: &[usize], sites: &'s Sites<'a>) -> Self {
        let mut of_site = vec![0; sites.len()];
        let mut of_domain = vec![0; sites.domains(apart)];
        for site in homes {
            of_site[*site] += 1;
            of_domain[sites.domain(apart, *site)] += 1;
        }
        let mut open = Self {
            apart,
            sites,
            domains: (0..).zip(&of_domain).map(|(domain, open)| (Reverse(*open), domain)).collect(),
            in_domain: vec![BTreeSet::new(); of_domain.len()],
            in_rack: vec![BTreeSet::new(); sites.racks()],
            of_site,
            of_domain,
            links: Links::default(),
        };
        for (site, chunks) in open.of_site.iter().enumerate().filter(|(_, chunks)| **chunks > 0) {
            open.in_domain[sites.domain(apart, site)].insert((Reverse(*chunks), site));
            open.in_rack[sites.rack(site)].insert((Reverse(*chunks), site));
        }
        open
    }

    /// One site of the domain with the most, so that none is left to pair with itself; and the best of the others.
    fn pair(&mut self) -> Option<(usize, usize)> {
        let (_, domain) = *self.domains.first()?;
        let (_, one) = *self.in_domain[domain].first()?;
        let other = self.partner(one)?;
        for site in [one, other] {
            self.close(site);
        }
        self.links.add(one, other);
        Some((one, other))
    }

    /// In another zone and rack if possible, with the fewest links, with the most to do.
    fn partner(&self, one: usize) -> Option<usize> {
        let sites = self.sites;
        let own = sites.domain(self.apart, one);
        let mut best = None;
        for (rack, group) in self.in_rack.iter().enumerate() {
            let Some((_, first)) = group.first() else { continue };
            if self.apart != Domain::Host && sites.domain(self.apart, *first) == own {
                continue;
            }
            let zone = sites.by_zone() && sites.zone(*first) == sites.zone(one);
            let together = (zone, rack == sites.rack(one));
            for (open, site) in group.iter().filter(|(_, site)| sites.domain(self.apart, *site) != own) {
                let links = self.links.between(one, *site);
                let key = (together, links, *open, *site);
                if best.is_none_or(|best| key < best) {
                    best = Some(key);
                }
                // Those that follow in this rack are no better.
                if links == 0 {
                    break;
                }
            }
        }
        best.map(|(.., site)| site)
    }

    fn close(&mut self, site: usize) {
        let domain = self.sites.domain(self.apart, site);
        let rack = self.sites.rack(site);
        let (of_site, of_domain) = (self.of_site[site], self.of_domain[domain]);
        self.domains.remove(&(Reverse(of_domain), domain));
        self.domains.insert((Reverse(of_domain - 1), domain));
        self.of_domain[domain] -= 1;
        self.of_site[site] -= 1;
        for group in [&mut self.in_domain[domain], &mut self.in_rack[rack]] {
            group.remove(&(Reverse(of_site), site));
            if of_site > 1 {
                group.insert((Reverse(of_site - 1), site));
            }
        }
    }
}
