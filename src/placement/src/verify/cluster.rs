//! The check of clusters with replicas. It shares no code with their placement either.

use std::collections::{BTreeMap, BTreeSet};

use overlord_api::{Domain, Rule};

use super::{Violation, addresses, eligible, is_of, ports_fit, resources};
use crate::{
    Placement, Request, World,
    cluster::{Need, Seated, Shape},
};

/// All hard rules of [`crate::cluster`] that the members break, whatever is offered; with the roles of now. For a
/// cluster of which some members are not placed, that is a violation too.
pub fn verify_cluster(shape: Shape, seats: &[Seated], rules: &overlord_api::Placement) -> Vec<Violation> {
    let mut violations = Vec::new();
    let (masters, copies) = (u64::from(shape.masters), u64::from(shape.replicas_per_master) + 1);
    let mut seen = BTreeSet::new();
    let mut used = BTreeSet::new();
    for seat in seats {
        if u64::from(seat.member) >= masters * copies
            || seat.shard >= shape.masters
            || !seen.insert(seat.member)
        {
            violations.push(Violation::NotAsked(seat.member));
        }
        if !used.insert(seat.address) {
            violations.push(Violation::AddressTaken(seat.member, seat.address));
        }
    }
    for shard in 0..shape.masters {
        let of_shard: Vec<&Seated> = seats.iter().filter(|seat| seat.shard == shard).collect();
        if of_shard.len() as u64 != copies {
            violations.push(Violation::Copies(shard, of_shard.len()));
        }
        let of_shard = of_shard.iter().filter(|seat| seat.master).count();
        if of_shard != 1 {
            violations.push(Violation::Masters(shard, of_shard));
        }
    }
    for domain in [Domain::Host, Domain::Rack, Domain::Zone] {
        let required = rules.spread.iter().any(|s| s.by == domain && s.rule == Rule::Required);
        if required || domain == Domain::Host {
            domain_rules(shape, seats, domain, &mut violations);
        }
    }
    violations
}

fn domain_rules(shape: Shape, seats: &[Seated], domain: Domain, violations: &mut Vec<Violation>) {
    let mut together: BTreeMap<String, Vec<&Seated>> = BTreeMap::new();
    for seat in seats {
        let name = match (domain, &seat.rack, &seat.zone) {
            (Domain::Host, _, _) => Some(seat.address.ip.to_string()),
            (Domain::Rack, Some(rack), Some(zone)) => Some(format!("{rack} in {zone}")),
            (Domain::Rack, rack, None) => rack.clone(),
            (Domain::Zone, _, zone) => zone.clone(),
            (Domain::Rack, None, Some(_)) => None,
        };
        match name {
            Some(name) => together.entry(name).or_default().push(seat),
            None => violations.push(Violation::SpreadBroken(seat.member, domain)),
        }
    }
    for (name, seats) in together {
        let masters = seats.iter().filter(|seat| seat.master).count();
        // The others must be more than half of all.
        if 2 * (shape.masters as usize).saturating_sub(masters) <= shape.masters as usize {
            violations.push(Violation::Majority(domain, name.clone(), masters));
        }
        let mut shards = BTreeSet::new();
        for seat in seats {
            if !shards.insert(seat.shard) {
                violations.push(Violation::SameShard(domain, name.clone(), seat.shard));
            }
        }
    }
}

/// All rules of offers that new places of cluster members break: eligible agents, ports, free addresses, nothing
/// overdrawn. What holds between members is for [`verify_cluster`].
pub fn verify_seats(need: &Need, placements: &[Placement], world: &World<'_>) -> Vec<Violation> {
    let mut violations = Vec::new();
    let request = |placement: &Placement| Request {
        member: placement.member,
        cpu_millis: need.cpu_millis,
        mem: need.mem,
        disk: need.disk,
        bus: need.bus,
        prefer: None,
        only: None,
    };
    let requests: Vec<Request> = placements.iter().map(request).collect();
    for placement in placements {
        let member = placement.member;
        let Some(offer) = world.offers.iter().find(|offer| is_of(placement, offer)) else {
            violations.push(Violation::NoSuchOffer(member));
            continue;
        };
        if (&offer.rack, &offer.zone) != (&placement.rack, &placement.zone) {
            violations.push(Violation::WrongDomain(member));
        }
        if !eligible(offer, world) {
            violations.push(Violation::NotEligible(member));
        }
        if !ports_fit(need.bus, placement, offer) {
            violations.push(Violation::PortNotOffered(member));
        }
    }
    addresses(&requests, placements, world, &mut violations);
    resources(&requests, placements, world, &mut violations);
    violations
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use overlord_api::{Address, Spread};

    use super::*;

    const SHAPE: Shape = Shape { masters: 3, replicas_per_master: 1 };

    /// Shard by shard: the hosts of the master and of the replica.
    fn seats(hosts: [(u8, u8); 3]) -> Vec<Seated> {
        let seat = |member: u32, shard: u32, host: u8| Seated {
            member,
            shard,
            master: member < 3,
            address: Address::new(IpAddr::from([10, 0, 0, host]), 20_000 + member as u16),
            rack: Some(format!("r{}", host % 3)),
            zone: None,
        };
        let pairs = (0..).zip(hosts);
        pairs
            .flat_map(|(shard, (one, other))| [seat(shard, shard, one), seat(shard + 3, shard, other)])
            .collect()
    }

    fn rules(by: Option<Domain>) -> overlord_api::Placement {
        let spread = by.map(|by| Spread { by, rule: Rule::Required }).into_iter().collect();
        overlord_api::Placement { roles: vec!["*".to_owned()], spread, constraints: Vec::new() }
    }

    fn violations(seats: &[Seated], by: Option<Domain>) -> Vec<String> {
        verify_cluster(SHAPE, seats, &rules(by)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_good_cluster_has_no_fault() {
        assert_eq!(violations(&seats([(1, 2), (2, 3), (3, 1)]), Some(Domain::Rack)), [""; 0]);
    }

    #[test]
    fn each_broken_rule_is_told() {
        assert_eq!(
            violations(&seats([(1, 1), (2, 3), (3, 1)]), None),
            ["host 10.0.0.1 has two members of shard 0"]
        );
        assert_eq!(
            violations(&seats([(1, 2), (1, 3), (3, 2)]), None),
            ["host 10.0.0.1 has 2 masters, the others are no majority"]
        );
        // Host 4 is in the rack of host 1.
        assert_eq!(violations(&seats([(1, 4), (2, 3), (3, 1)]), None), [""; 0]);
        assert_eq!(
            violations(&seats([(1, 4), (2, 3), (3, 1)]), Some(Domain::Rack)),
            ["rack r1 has two members of shard 0"]
        );
        assert_eq!(violations(&seats([(1, 2), (2, 3), (3, 1)]), Some(Domain::Zone)).len(), 6);
    }

    #[test]
    fn members_are_complete_and_have_one_master_a_shard() {
        let mut some = seats([(1, 2), (2, 3), (3, 1)]);
        some.pop();
        some[0].master = false;
        some[1].address = some[2].address;
        some[2].member = 6;
        assert_eq!(
            violations(&some, None),
            [
                "member 6 did not ask for this place",
                "member 6 has 10.0.0.2:20001, which is taken",
                "shard 0 has 0 masters",
                "shard 2 has 1 members"
            ]
        );
    }
}
