//! Single rules by example; random worlds are in `tests/worlds.rs`.

use overlord_api::{Constraint, Operator, Spread};

use super::*;
use crate::{Bus, HostOffer, Placed, verify};

const GIB: u64 = 1 << 30;

/// A world that can be changed before it is asked.
struct Fixture {
    rules: overlord_api::Placement,
    members: u32,
    placed: Vec<Placed>,
    offers: Vec<HostOffer>,
    taken: BTreeSet<Address>,
    exclude_hosts: BTreeSet<IpAddr>,
}

fn ip(n: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, n])
}

fn address(host: u8, port: u16) -> Address {
    Address::new(ip(host), port)
}

fn offer(n: u8, rack: &str) -> HostOffer {
    HostOffer {
        agent_id: format!("agent-{n}"),
        offer_ids: vec![format!("offer-{n}")],
        host: ip(n),
        hostname: format!("host-{n}.example"),
        rack: (!rack.is_empty()).then(|| rack.to_owned()),
        zone: None,
        attributes: BTreeMap::from([(
            "disk".to_owned(),
            if n.is_multiple_of(2) { "ssd" } else { "hdd" }.to_owned(),
        )]),
        cpu_millis: 4_000,
        mem: 8 * GIB,
        disk: 100 * GIB,
        ports: vec![(20_000, 20_009)],
        role: "*".to_owned(),
    }
}

fn request(member: u32) -> Request {
    Request { member, cpu_millis: 500, mem: GIB, disk: GIB, bus: Bus::None, prefer: None, only: None }
}

fn placed(member: u32, host: u8, rack: &str) -> Placed {
    let rack = (!rack.is_empty()).then(|| rack.to_owned());
    Placed { member, address: address(host, 20_000), rack, zone: None, bus_port: None }
}

impl Fixture {
    fn new(offers: Vec<HostOffer>, spread: &[(Domain, Rule)]) -> Self {
        let spread = spread.iter().map(|(by, rule)| Spread { by: *by, rule: *rule }).collect();
        Self {
            rules: overlord_api::Placement { roles: vec!["*".to_owned()], spread, constraints: Vec::new() },
            members: 3,
            placed: Vec::new(),
            offers,
            taken: BTreeSet::new(),
            exclude_hosts: BTreeSet::new(),
        }
    }

    fn constrained(mut self, attribute: &str, operator: Operator, value: &str) -> Self {
        let (attribute, value) = (attribute.to_owned(), value.to_owned());
        self.rules.constraints.push(Constraint { attribute, operator, value });
        self
    }

    fn assign(&self, requests: &[Request]) -> Outcome {
        let Self { rules, members, placed, offers, taken, exclude_hosts } = self;
        let world = World { rules, members: *members, placed, offers, taken, exclude_hosts };
        let outcome = assign(requests, &world);
        assert_eq!(verify(requests, &outcome.placements, &world), []);
        outcome
    }

    /// The hosts of `count` plain requests, by number.
    fn hosts(&self, count: u32) -> Vec<u8> {
        let requests: Vec<_> = (0..count).map(request).collect();
        self.assign(&requests).placements.iter().map(host).collect()
    }

    fn refused(&self, requests: &[Request]) -> String {
        let outcome = self.assign(requests);
        outcome.refusals.iter().map(ToString::to_string).collect::<Vec<_>>().join(" | ")
    }
}

fn host(placement: &Placement) -> u8 {
    match placement.host {
        IpAddr::V4(ip) => ip.octets()[3],
        IpAddr::V6(_) => 0,
    }
}

fn racks(names: &[&str]) -> Vec<HostOffer> {
    (1..).zip(names).map(|(n, rack)| offer(n, rack)).collect()
}

#[test]
fn members_spread_over_racks_first_then_over_hosts() {
    let rules = [(Domain::Rack, Rule::Preferred), (Domain::Host, Rule::Preferred)];
    let world = Fixture::new(racks(&["a", "a", "a", "b", "b"]), &rules);
    assert_eq!(world.hosts(6), [1, 4, 2, 5, 3, 4]);
}

#[test]
fn without_a_spread_the_emptiest_agent_is_chosen() {
    let mut world = Fixture::new(racks(&["", "", ""]), &[]);
    world.offers[1].mem = 16 * GIB;
    world.offers[1].cpu_millis = 5_000;
    assert_eq!(world.hosts(3), [2, 2, 2]);
    world.offers[1].cpu_millis = 1_000;
    assert_eq!(world.hosts(3), [1, 3, 1], "the scarcer of memory and cpu counts");
}

#[test]
fn agents_alike_are_chosen_by_their_id_whatever_the_order_of_offers() {
    let mut world = Fixture::new(racks(&["", "", "", ""]), &[(Domain::Host, Rule::Preferred)]);
    let hosts = world.hosts(5);
    assert_eq!(hosts, [1, 2, 3, 4, 1]);
    world.offers.reverse();
    assert_eq!(world.hosts(5), hosts);
}

#[test]
fn a_required_spread_never_doubles_and_says_what_is_missing() {
    let mut world = Fixture::new(racks(&["a", "a", "b", "b"]), &[(Domain::Rack, Rule::Required)]);
    let requests: Vec<_> = (0..3).map(request).collect();
    let outcome = world.assign(&requests);
    assert_eq!(outcome.placements.iter().map(host).collect::<Vec<_>>(), [1, 3]);
    assert_eq!(
        outcome.refusals[0].to_string(),
        "rack already used 4 agents; spread by rack is required: 3 members need as many racks, 2 are known"
    );
    world.members = 2;
    world.placed = vec![placed(7, 1, "a"), placed(8, 3, "b")];
    assert_eq!(world.refused(&[request(9)]), "rack already used 4 agents");
}

#[test]
fn a_required_host_counts_agents_on_one_ip_as_one() {
    let mut world = Fixture::new(racks(&["", "", ""]), &[(Domain::Host, Rule::Required)]);
    world.offers[1].host = ip(1);
    let requests: Vec<_> = (0..3).map(request).collect();
    assert_eq!(world.hosts(3), [1, 3]);
    assert!(world.refused(&requests).starts_with("host already used 3 agents"));
}

#[test]
fn an_unknown_rack_cannot_satisfy_a_required_spread() {
    let world = Fixture::new(racks(&["", "a"]), &[(Domain::Rack, Rule::Required)]);
    assert_eq!(world.hosts(2), [2]);
    assert!(
        world.refused(&[request(0), request(1)]).starts_with("attribute rack 1 agent, rack already used 1")
    );
}

#[test]
fn agents_without_a_rack_count_as_one_rack() {
    let world = Fixture::new(racks(&["", "", "a", "a"]), &[(Domain::Rack, Rule::Preferred)]);
    let hosts = world.hosts(4);
    assert_eq!(hosts.iter().filter(|host| **host <= 2).count(), 2, "{hosts:?}");
}

#[test]
fn a_member_goes_back_to_where_it_was() {
    let mut world = Fixture::new(racks(&["a", "b", "c"]), &[(Domain::Rack, Rule::Required)]);
    world.placed = vec![placed(0, 1, "a"), placed(1, 2, "b")];
    world.taken = BTreeSet::from([address(1, 20_000)]);
    let again = Request { prefer: Some(address(2, 20_000)), ..request(1) };
    let outcome = world.assign(std::slice::from_ref(&again));
    assert_eq!(outcome.placements[0].address, address(2, 20_000), "not in its own way");
    world.taken.insert(address(2, 20_000));
    let outcome = world.assign(&[again]);
    assert_ne!(outcome.placements[0].address, address(2, 20_000), "quarantined");
}

#[test]
fn a_preferred_place_does_not_break_a_required_spread() {
    let mut world = Fixture::new(racks(&["a", "a", "b"]), &[(Domain::Rack, Rule::Required)]);
    world.placed = vec![placed(0, 1, "a")];
    let request = Request { prefer: Some(address(2, 20_003)), ..request(1) };
    assert_eq!(host(&world.assign(&[request]).placements[0]), 3);
}

#[test]
fn an_only_place_is_taken_or_refused() {
    let mut world = Fixture::new(racks(&["", ""]), &[]);
    let only = |port| Request { only: Some(address(2, port)), ..request(0) };
    assert_eq!(world.assign(&[only(20_004)]).placements[0].address, address(2, 20_004));
    assert_eq!(world.refused(&[only(30_000)]), "not its host 1 agent, ports 1");
    world.taken.insert(address(2, 20_004));
    assert_eq!(world.refused(&[only(20_004)]), "not its host 1 agent, ports taken or in quarantine 1");
    world.offers.pop();
    assert_eq!(world.refused(&[only(20_004)]), "not its host 1 agent");
    world.offers.clear();
    assert_eq!(world.refused(&[only(20_004)]), "no offers");
}

#[test]
fn one_address_on_two_agents_is_given_once() {
    let mut world = Fixture::new(racks(&["", ""]), &[]);
    for offer in &mut world.offers {
        offer.host = ip(1);
        offer.ports = vec![(20_000, 20_000)];
    }
    let outcome = world.assign(&[request(0), request(1)]);
    assert_eq!(outcome.placements.len(), 1);
    assert_eq!(outcome.refusals[0].to_string(), "ports taken or in quarantine 2 agents");
}

#[test]
fn every_reason_is_counted_per_agent() {
    let mut world =
        Fixture::new(racks(&["a", "b", "c", "d", "e", "f", "g"]), &[(Domain::Rack, Rule::Required)])
            .constrained("disk", Operator::Exists, "");
    world.members = 1;
    world.offers[0].role = "other".to_owned();
    world.offers[1].attributes.clear();
    world.exclude_hosts.insert(ip(3));
    world.offers[3].cpu_millis = 100;
    world.offers[3].mem = 5;
    world.offers[4].disk = 5;
    world.offers[5].ports.clear();
    world.placed = vec![placed(9, 7, "g")];
    let outcome = world.assign(&[request(0)]);
    let refusal = &outcome.refusals[0];
    assert_eq!(refusal.offers_seen, 7);
    let reasons = [
        Reason::Role,
        Reason::Attribute("disk".to_owned()),
        Reason::HostExcluded,
        Reason::RackUsed,
        Reason::Cpu,
        Reason::Mem,
        Reason::Disk,
        Reason::Ports,
    ];
    assert_eq!(refusal.reasons, reasons.into_iter().map(|reason| (reason, 1)).collect());
}

#[test]
fn a_role_is_a_reason_only_for_agents_without_ours() {
    let mut world = Fixture::new(racks(&["", ""]), &[]);
    world.offers[0].mem = 1;
    world.offers[1] = HostOffer { role: "other".to_owned(), ..world.offers[0].clone() };
    let refusal = &world.assign(&[request(0)]).refusals[0];
    assert_eq!((refusal.to_string().as_str(), refusal.offers_seen), ("mem 1 agent", 1));
}

#[test]
fn constraints_compare_attributes_and_the_agent_itself() {
    let eligible = |attribute: &str, operator, value: &str| {
        let mut world = Fixture::new(racks(&["a", "b", "", "d"]), &[(Domain::Host, Rule::Required)])
            .constrained(attribute, operator, value);
        world.offers[2].attributes.clear();
        let mut hosts = world.hosts(4);
        hosts.sort_unstable();
        hosts
    };
    assert_eq!(eligible("disk", Operator::Is, "ssd"), [2, 4]);
    assert_eq!(eligible("disk", Operator::IsNot, "ssd"), [1, 3]);
    assert_eq!(eligible("disk", Operator::In, "hdd, ssd"), [1, 2, 4]);
    assert_eq!(eligible("disk", Operator::NotIn, "hdd,nvme"), [2, 3, 4]);
    assert_eq!(eligible("disk", Operator::Exists, ""), [1, 2, 4]);
    assert_eq!(eligible("hostname", Operator::Is, "host-3.example"), [3]);
    assert_eq!(eligible("host", Operator::NotIn, "10.0.0.1,10.0.0.2"), [3, 4]);
    assert_eq!(eligible("rack", Operator::Is, "b"), [2]);
}

#[test]
fn bus_ports_are_reserved_with_their_data_port() {
    let mut world = Fixture::new(vec![offer(1, "")], &[]);
    world.offers[0].ports = vec![(20_000, 20_002), (30_001, 30_002)];
    let with = |member, bus| Request { bus, ..request(member) };
    let requests =
        [with(0, Bus::Plus10000), with(1, Bus::Unreserved), with(2, Bus::AnyPort), with(3, Bus::None)];
    let outcome = world.assign(&requests);
    let ports: Vec<_> = outcome.placements.iter().map(|p| (p.address.port, p.bus_port)).collect();
    assert_eq!(ports, [(20_001, Some(30_001)), (20_000, Some(30_000)), (20_002, Some(30_002))]);
    assert_eq!(outcome.refusals[0].to_string(), "ports taken or in quarantine 1 agent");
}

#[test]
fn the_places_of_other_members_are_not_given_again() {
    let mut world = Fixture::new(vec![offer(1, "")], &[]);
    world.placed = vec![Placed { bus_port: Some(20_001), ..placed(0, 1, "") }];
    assert_eq!(world.assign(&[request(1)]).placements[0].address, address(1, 20_002));
}

#[test]
fn nothing_asked_is_nothing_done() {
    assert_eq!(Fixture::new(racks(&["a"]), &[]).assign(&[]), Outcome::default());
}
