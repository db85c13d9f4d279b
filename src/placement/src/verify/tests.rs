//! The verifier sees each kind of fault: one sound placement, broken in one way at a time.

use std::{collections::BTreeMap, net::IpAddr};

use overlord_api::Spread;

use super::*;
use crate::Placed;

fn ip(n: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, n])
}

/// Two members on two agents, a port each; everything fits exactly.
struct Sound {
    rules: overlord_api::Placement,
    placed: Vec<Placed>,
    offers: Vec<HostOffer>,
    taken: BTreeSet<Address>,
    exclude_hosts: BTreeSet<IpAddr>,
    requests: Vec<Request>,
    placements: Vec<Placement>,
}

fn sound() -> Sound {
    let offer = |n: u8| HostOffer {
        agent_id: format!("agent-{n}"),
        offer_ids: Vec::new(),
        host: ip(n),
        hostname: format!("host-{n}"),
        rack: Some(format!("rack-{n}")),
        zone: None,
        attributes: BTreeMap::from([("disk".to_owned(), "ssd".to_owned())]),
        cpu_millis: 100,
        mem: 10,
        disk: 1,
        ports: vec![(100, 101)],
        role: "*".to_owned(),
    };
    let request = |member| Request {
        member,
        cpu_millis: 100,
        mem: 10,
        disk: 1,
        bus: Bus::AnyPort,
        prefer: None,
        only: None,
    };
    let placement = |member: u32, n: u8| Placement {
        member,
        address: Address::new(ip(n), 100),
        bus_port: Some(101),
        agent_id: format!("agent-{n}"),
        host: ip(n),
        rack: Some(format!("rack-{n}")),
        zone: None,
        role: "*".to_owned(),
    };
    let constraint =
        Constraint { attribute: "disk".to_owned(), operator: Operator::Is, value: "ssd".to_owned() };
    Sound {
        rules: overlord_api::Placement {
            roles: vec!["*".to_owned()],
            spread: vec![Spread { by: Domain::Rack, rule: Rule::Required }],
            constraints: vec![constraint],
        },
        placed: Vec::new(),
        offers: vec![offer(1), offer(2)],
        taken: BTreeSet::new(),
        exclude_hosts: BTreeSet::new(),
        requests: vec![request(0), request(1)],
        placements: vec![placement(0, 1), placement(1, 2)],
    }
}

fn faults(change: impl FnOnce(&mut Sound)) -> Vec<Violation> {
    let mut sound = sound();
    change(&mut sound);
    let Sound { rules, placed, offers, taken, exclude_hosts, requests, placements } = &sound;
    let world = World { rules, members: 2, placed, offers, taken, exclude_hosts };
    verify(requests, placements, &world)
}

#[test]
fn a_sound_placement_has_no_fault() {
    assert_eq!(faults(|_| {}), []);
}

#[test]
fn every_fault_is_seen() {
    assert_eq!(faults(|s| s.placements[1].member = 7), [Violation::NotAsked(7)]);
    assert_eq!(faults(|s| s.requests[0].only = Some(Address::new(ip(1), 101))), [Violation::NotThere(0)]);
    assert_eq!(faults(|s| s.offers[0].role = "prod".to_owned())[0], Violation::NoSuchOffer(0));
    assert_eq!(faults(|s| s.placements[0].zone = Some("z".to_owned())), [Violation::WrongDomain(0)]);
    assert_eq!(faults(|s| s.rules.roles.clear()), [Violation::NotEligible(0), Violation::NotEligible(1)]);
    assert_eq!(faults(|s| s.exclude_hosts.extend([ip(2)])), [Violation::NotEligible(1)]);
    assert_eq!(faults(|s| s.offers[1].attributes.clear()), [Violation::NotEligible(1)]);
    assert_eq!(faults(|s| s.offers[0].ports = vec![(101, 101)]), [Violation::PortNotOffered(0)]);
    assert_eq!(faults(|s| s.placements[0].bus_port = None), [Violation::PortNotOffered(0)]);
    assert_eq!(faults(|s| s.requests[0].bus = Bus::Plus10000), [Violation::PortNotOffered(0)]);
    let address = Address::new(ip(1), 101);
    assert_eq!(faults(|s| s.taken.extend([address])), [Violation::AddressTaken(0, address)]);
    assert_eq!(faults(|s| s.requests[1].mem = 11), [Violation::Overdrawn("agent-2".to_owned())]);
    assert_eq!(faults(|s| s.requests[1].cpu_millis = 101), [Violation::Overdrawn("agent-2".to_owned())]);
    assert_eq!(faults(|s| s.requests[1].disk = 2), [Violation::Overdrawn("agent-2".to_owned())]);
    let same_rack = |s: &mut Sound| {
        s.offers[1].rack = Some("rack-1".to_owned());
        s.placements[1].rack = Some("rack-1".to_owned());
    };
    assert_eq!(faults(same_rack), [Violation::SpreadBroken(1, Domain::Rack)]);
    let no_rack = |s: &mut Sound| {
        s.offers[1].rack = None;
        s.placements[1].rack = None;
    };
    assert_eq!(faults(no_rack), [Violation::SpreadBroken(1, Domain::Rack)]);
}

#[test]
fn two_members_on_one_address_are_seen_across_agents() {
    let violations = faults(|s| {
        s.offers[1].host = ip(1);
        s.placements[1].host = ip(1);
        s.placements[1].address = s.placements[0].address;
    });
    let taken = |port| Violation::AddressTaken(1, Address::new(ip(1), port));
    assert_eq!(violations, [taken(100), taken(101)]);
}

#[test]
fn what_others_hold_counts_but_not_what_is_being_replaced() {
    let placed = |member| Placed {
        member,
        address: Address::new(ip(1), 100),
        rack: Some("rack-1".to_owned()),
        zone: None,
        bus_port: None,
    };
    assert_eq!(faults(|s| s.placed = vec![placed(1)]), []);
    let violations = faults(|s| s.placed = vec![placed(9)]);
    assert_eq!(
        violations,
        [Violation::AddressTaken(0, Address::new(ip(1), 100)), Violation::SpreadBroken(0, Domain::Rack)]
    );
}
