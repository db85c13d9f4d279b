//! Who waits for offers, and who is told when some come: only those to whom they may be of use, a few at once and
//! everybody in turn, so that thousands who wait do not all look at the one offer that came.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::IpAddr,
    sync::Arc,
};

use overlord_api::ClusterName;
use overlord_placement::HostOffer;

use crate::at_hand::Least;

/// At least so many are told at once.
const AT_ONCE: usize = 16;

/// What a cluster waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Demand {
    /// The framework's roles that it may use.
    pub(crate) roles: Vec<String>,
    pub(crate) least: Least,
    /// Nothing else than these hosts is of any use to it.
    pub(crate) hosts: Option<BTreeSet<IpAddr>>,
}

/// The most that new offers to one role have, and of which hosts they are.
#[derive(Debug, Default)]
struct News {
    most: (u64, u64, u64),
    hosts: BTreeSet<IpAddr>,
}

/// Everybody who waits.
#[derive(Debug, Default)]
pub(crate) struct Demands {
    by_cluster: BTreeMap<ClusterName, Demand>,
    /// How many want offers in each role.
    roles: BTreeMap<String, usize>,
    /// Who is still to be told of what came, in order.
    round: VecDeque<ClusterName>,
    /// Who was told last: the next round begins behind it.
    last: Option<ClusterName>,
}

impl Demands {
    /// A cluster waits, perhaps for something else than before.
    pub(crate) fn insert(&mut self, cluster: &ClusterName, demand: Demand) {
        self.remove(cluster);
        for role in &demand.roles {
            *self.roles.entry(role.clone()).or_default() += 1;
        }
        self.by_cluster.insert(cluster.clone(), demand);
    }

    /// A cluster waits no more. Whether it did.
    pub(crate) fn remove(&mut self, cluster: &ClusterName) -> bool {
        let Some(demand) = self.by_cluster.remove(cluster) else { return false };
        for role in &demand.roles {
            if let Some(count) = self.roles.get_mut(role) {
                *count -= 1;
                if *count == 0 {
                    self.roles.remove(role);
                }
            }
        }
        true
    }

    /// Whether anybody waits for offers in this role.
    pub(crate) fn wants(&self, role: &str) -> bool {
        self.roles.contains_key(role)
    }

    /// Offers came. Gives the first of those who are to look; the others follow by [`Demands::next`].
    pub(crate) fn arrived(&mut self, offers: &[Arc<HostOffer>]) -> Vec<ClusterName> {
        let mut news: BTreeMap<&str, News> = BTreeMap::new();
        for offer in offers {
            let news = news.entry(&offer.role).or_default();
            let (cpu, mem, disk) = news.most;
            news.most = (cpu.max(offer.cpu_millis), mem.max(offer.mem), disk.max(offer.disk));
            news.hosts.insert(offer.host);
        }
        let before: BTreeSet<ClusterName> = self.round.drain(..).collect();
        let useful = |demand: &Demand| {
            demand.roles.iter().filter_map(|role| news.get(role.as_str())).any(|news| {
                let (cpu, mem, disk) = news.most;
                let fits =
                    demand.least.cpu_millis <= cpu && demand.least.mem <= mem && demand.least.disk <= disk;
                fits && demand.hosts.as_ref().is_none_or(|hosts| !hosts.is_disjoint(&news.hosts))
            })
        };
        let mut behind = Vec::new();
        for (cluster, demand) in &self.by_cluster {
            if !before.contains(cluster) && !useful(demand) {
                continue;
            }
            if self.last.as_ref().is_some_and(|last| cluster <= last) {
                behind.push(cluster.clone());
            } else {
                self.round.push_back(cluster.clone());
            }
        }
        self.round.extend(behind);
        let first = AT_ONCE.max(offers.len().saturating_mul(2));
        (0..first).map_while(|_| self.next()).collect()
    }

    /// Who is to look next at what is at hand.
    pub(crate) fn next(&mut self) -> Option<ClusterName> {
        loop {
            let cluster = self.round.pop_front()?;
            // Placed meanwhile.
            if self.by_cluster.contains_key(&cluster) {
                self.last = Some(cluster.clone());
                return Some(cluster);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: usize) -> ClusterName {
        ClusterName::new(format!("c{number:04}")).unwrap()
    }

    fn demand(mem: u64, hosts: Option<&[u8]>) -> Demand {
        let ip = |last: &u8| IpAddr::from([10, 0, 0, *last]);
        Demand {
            roles: vec![String::from("*")],
            least: Least { cpu_millis: 100, mem, disk: 0 },
            hosts: hosts.map(|hosts| hosts.iter().map(ip).collect()),
        }
    }

    fn offer(host: u8, mem: u64) -> Arc<HostOffer> {
        Arc::new(HostOffer {
            agent_id: format!("a{host}"),
            offer_ids: vec![format!("o{host}")],
            host: [10, 0, 0, host].into(),
            hostname: String::new(),
            rack: None,
            zone: None,
            attributes: BTreeMap::new(),
            cpu_millis: 1000,
            mem,
            disk: 0,
            ports: vec![(20_000, 20_009)],
            role: String::from("*"),
        })
    }

    #[test]
    fn only_those_are_told_to_whom_an_offer_may_be_of_use() {
        let mut demands = Demands::default();
        demands.insert(&name(1), demand(100, None));
        demands.insert(&name(2), demand(500, None));
        demands.insert(&name(3), demand(100, Some(&[7])));
        demands.insert(&name(4), Demand { roles: vec![String::from("prod")], ..demand(1, None) });
        assert_eq!(demands.arrived(&[offer(1, 200)]), [name(1)]);
        assert_eq!(demands.arrived(&[offer(7, 800)]), [name(2), name(3), name(1)]);
        assert!(demands.wants("prod") && demands.wants("*") && !demands.wants("dev"));
        demands.remove(&name(4));
        assert!(!demands.wants("prod"));
    }

    #[test]
    fn of_very_many_a_few_are_told_at_once_and_everybody_in_turn() {
        let mut demands = Demands::default();
        for number in 0..1000 {
            demands.insert(&name(number), demand(100, None));
        }
        let mut told = demands.arrived(&[offer(1, 200)]);
        assert_eq!(told.len(), AT_ONCE);
        // More comes before all have looked: nobody is forgotten, nobody goes twice before the others.
        told.extend(demands.arrived(&[offer(2, 200)]));
        while told.len() < 1000 {
            told.extend(demands.next());
        }
        assert_eq!(told, (0..1000).map(name).collect::<Vec<_>>());
    }

    #[test]
    fn who_has_found_a_place_meanwhile_is_not_told() {
        let mut demands = Demands::default();
        for number in 0..20 {
            demands.insert(&name(number), demand(100, None));
        }
        demands.arrived(&[offer(1, 200)]);
        assert!(demands.remove(&name(16)) && !demands.remove(&name(16)));
        assert_eq!(demands.next(), Some(name(17)));
    }
}
