//! Which rules can hold for all members together, and how full the fullest host must be for it.
//!
//! Let host h have room for `c(h)` members. Masters fit if the sum of `min(c(h), K)` is at least M, K being the
//! most masters on one host. All members fit on different hosts if the sum of `min(c(h), M)` is also at least
//! M x (R + 1): wherever the masters are put within their limits, the replicas then have a way (proved by
//! Hall's condition; [`super::dealt`] finds it). The same holds with racks in the place of hosts. So the
//! rules for masters and those for keeping apart can be looked at one by one, and none needs a search.

use overlord_api::{Domain, Rule};

use super::{
    Shape, rule_of,
    sites::{Limits, Sites},
    unformable::{self, Unformable},
};
use crate::World;

/// The rules that hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scheme {
    /// Most masters in a rack and in a zone.
    pub(crate) masters: Limits,
    /// The members of a shard are in different domains of this sort, hence of the smaller sorts too.
    pub(crate) apart: Domain,
    /// Most members on one host: as few as will do.
    pub(crate) on_host: u32,
}

impl Scheme {
    /// The strictest that is possible; if that is less than required, why.
    pub(crate) fn find(shape: Shape, sites: &mut Sites<'_>, world: &World<'_>) -> Result<Self, Unformable> {
        let host = Self { masters: Limits::default(), apart: Domain::Host, on_host: 1 };
        let mut scheme = match host.least(shape, sites) {
            Some(on_host) => Self { on_host, ..host },
            None => return Err(unformable::explain(Domain::Host, host.masters, shape, sites)),
        };
        let most = Some(shape.most_masters());
        let with = |rule| [Domain::Rack, Domain::Zone].map(|domain| (domain, rule));
        // What is required is not given up for what is preferred.
        for (domain, rule) in with(Rule::Required).into_iter().chain(with(Rule::Preferred)) {
            if rule_of(world.rules, domain) != Some(rule) {
                continue;
            }
            let masters = match domain {
                Domain::Host | Domain::Rack => Limits { rack: most, ..scheme.masters },
                Domain::Zone => Limits { zone: most, ..scheme.masters },
            };
            for stricter in [Self { masters, ..scheme }, Self { apart: domain, ..scheme }] {
                match stricter.least(shape, sites) {
                    Some(_) if stricter.apart == scheme.apart => scheme.masters = stricter.masters,
                    Some(_) => scheme.apart = scheme.apart.max(domain),
                    None if rule == Rule::Required => {
                        return Err(unformable::explain(domain, stricter.masters, shape, sites));
                    }
                    None => {}
                }
            }
        }
        // Each alone is possible on hosts full enough, so all together are.
        if let Some(on_host) = scheme.least(shape, sites) {
            scheme.on_host = on_host;
        }
        Ok(scheme)
    }

    fn least(&self, shape: Shape, sites: &mut Sites<'_>) -> Option<u32> {
        let apart = Limits::of(self.apart, shape.masters);
        least(sites, shape.masters, 1, |sites, room| {
            let masters = sites.sum(|site| room(site).min(shape.most_masters()), self.masters);
            masters >= shape.masters.into() && sites.sum(room, apart) >= shape.members()
        })
    }
}

/// The smallest number up to `most` that is `enough` as the most units on one site, each unit being
/// `places` places. What `enough` is asked is how many units each site has room for.
pub(crate) fn least(
    sites: &mut Sites<'_>,
    most: u32,
    places: u32,
    enough: impl Fn(&Sites<'_>, &dyn Fn(usize) -> u32) -> bool,
) -> Option<u32> {
    // Looking for places is what costs time: it is not begun in vain, and not driven further than needed.
    if !enough(sites, &|site| (sites.at_most(site) / places).min(most)) {
        return None;
    }
    let is_enough = |sites: &Sites<'_>, units: u32| {
        enough(sites, &|site| {
            u32::try_from(sites.places(site).len()).unwrap_or(u32::MAX).min(units * places) / places
        })
    };
    let mut high = 1;
    loop {
        for site in 0..sites.len() {
            sites.reach(site, high * places);
        }
        if is_enough(sites, high) {
            break;
        }
        if high >= most {
            return None;
        }
        high = (high * 2).min(most);
    }
    let mut low = high / 2;
    while low + 1 < high {
        let middle = low.midpoint(high);
        if is_enough(sites, middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
    Some(high)
}
