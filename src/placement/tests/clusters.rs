//! Random worlds for clusters with replicas: whatever is formed keeps every rule and outlives the loss of any host,
//! and whatever is refused cannot be formed.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use overlord_api::{Address, Constraint, Domain, Operator, Rule, Spread};
use overlord_placement::{
    Bus, HostOffer, Placed, Placement, World,
    cluster::{Formed, Lost, Need, Note, Seated, Shape, form, notes, reseat},
    verify_cluster, verify_seats,
};
use proptest::prelude::*;

const FIRST_PORT: u16 = 20_000;

#[derive(Debug, Clone)]
struct Case {
    shape: Shape,
    need: Need,
    rules: overlord_api::Placement,
    placed: Vec<Placed>,
    offers: Vec<HostOffer>,
    taken: BTreeSet<Address>,
    exclude_hosts: BTreeSet<IpAddr>,
}

impl Case {
    fn world(&self) -> World<'_> {
        let Self { rules, placed, offers, taken, exclude_hosts, .. } = self;
        World { rules, members: 0, placed, offers, taken, exclude_hosts }
    }

    /// What is offered of the hosts that are left, less what the seats took.
    fn after(&self, formed: &Formed, lost: IpAddr) -> Self {
        let mut after = self.clone();
        after.offers.retain(|offer| offer.host != lost);
        for seat in &formed.seats {
            let place = &seat.placement;
            for port in std::iter::once(place.address.port).chain(place.bus_port) {
                after.taken.insert(Address::new(place.host, port));
            }
            for offer in &mut after.offers {
                if offer.agent_id == place.agent_id && offer.role == place.role {
                    offer.cpu_millis -= self.need.cpu_millis;
                    offer.mem -= self.need.mem;
                    offer.disk -= self.need.disk;
                }
            }
        }
        after
    }
}

fn ip(n: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, n])
}

fn name(prefix: &str, n: u8) -> Option<String> {
    (n > 0).then(|| format!("{prefix}{n}"))
}

fn shape() -> impl Strategy<Value = Shape> {
    let masters = prop_oneof![2 => Just(3), 3 => Just(4), 2 => Just(5), 3 => Just(6), 2 => 7..12_u32];
    let replicas = prop_oneof![1 => Just(0), 4 => Just(1), 2 => Just(2), 1 => Just(3)];
    (masters, replicas).prop_map(|(masters, replicas_per_master)| Shape { masters, replicas_per_master })
}

/// `racks` and `hosts` say from how many names.
fn offer(hosts: u8, racks: u8) -> impl Strategy<Value = HostOffer> {
    let ports = prop_oneof![
        4 => (0..3_u16, 0..12_u16).prop_map(|(from, more)| vec![(FIRST_PORT + from, FIRST_PORT + from + more)]),
        2 => (0..6_u16).prop_map(|n| vec![(FIRST_PORT, FIRST_PORT + 5), (30_000, 30_000 + n)]),
    ];
    let place = (0..hosts, 0..racks, 0..4_u8);
    (place, 0..12_u64, 0..12_u64, 6..12_u64, ports, 0..12_u8, 0..6_u8).prop_map(
        |((host, rack, zone), cpu, mem, disk, ports, role, ssd)| HostOffer {
            agent_id: String::new(),
            offer_ids: Vec::new(),
            host: ip(host),
            hostname: format!("host-{host}"),
            rack: name("r", rack),
            zone: name("z", zone),
            attributes: name("ssd", ssd).map(|value| ("disk".to_owned(), value)).into_iter().collect(),
            cpu_millis: cpu * 100,
            mem,
            disk,
            ports,
            role: if role == 0 { "prod" } else { "*" }.to_owned(),
        },
    )
}

fn spread() -> impl Strategy<Value = Vec<Spread>> {
    let by = prop_oneof![2 => Just(Domain::Host), 2 => Just(Domain::Rack), 1 => Just(Domain::Zone)];
    let rule = prop_oneof![1 => Just(Rule::Required), 2 => Just(Rule::Preferred)];
    proptest::collection::vec((by, rule).prop_map(|(by, rule)| Spread { by, rule }), 0..4)
}

fn bus() -> impl Strategy<Value = Bus> {
    prop_oneof![3 => Just(Bus::AnyPort), 1 => Just(Bus::Unreserved), 1 => Just(Bus::Plus10000)]
}

fn case() -> impl Strategy<Value = Case> {
    (2..14_u8, 2..6_u8)
        .prop_flat_map(|(hosts, racks)| {
            let sizes = (0..3_u64, 0..3_u64, 0..2_u64);
            let address =
                (0..hosts, 0..6_u16).prop_map(|(host, port)| Address::new(ip(host), FIRST_PORT + port));
            (
                (shape(), sizes, bus()),
                (spread(), any::<bool>()),
                prop_oneof![1 => 0..6_usize, 4 => 6..24_usize]
                    .prop_flat_map(move |count| proptest::collection::vec(offer(hosts, racks), count)),
                proptest::collection::btree_set(address, 0..6),
                proptest::option::weighted(0.1, 0..hosts),
                proptest::bool::weighted(0.8),
            )
        })
        .prop_map(
            |((shape, (cpu, mem, disk), bus), (spread, constrained), mut offers, taken, excluded, sane)| {
                for (n, offer) in offers.iter_mut().enumerate() {
                    offer.agent_id = format!("agent-{n:02}");
                    // Mostly one agent a host, as it is.
                    if sane {
                        offer.host = ip(n as u8);
                    }
                }
                let constraint =
                    Constraint { attribute: "disk".into(), operator: Operator::IsNot, value: "ssd1".into() };
                let constraints = if constrained { vec![constraint] } else { Vec::new() };
                Case {
                    shape,
                    need: Need { cpu_millis: cpu * 100, mem, disk, bus },
                    rules: overlord_api::Placement { roles: vec!["*".to_owned()], spread, constraints },
                    placed: Vec::new(),
                    offers,
                    taken,
                    exclude_hosts: excluded.map(ip).into_iter().collect(),
                }
            },
        )
}

fn seated(formed: &Formed) -> Vec<Seated> {
    formed.seats.iter().map(Seated::from).collect()
}

fn placements(formed: &Formed) -> Vec<Placement> {
    formed.seats.iter().map(|seat| seat.placement.clone()).collect()
}

/// The roles after a host is gone: a replica of each of its masters takes over.
fn without(host: IpAddr, seats: &[Seated]) -> (Vec<Seated>, Vec<Lost>) {
    let (gone, mut left): (Vec<Seated>, Vec<Seated>) =
        seats.iter().cloned().partition(|seat| seat.address.ip == host);
    let mut lost = Vec::new();
    for seat in gone {
        let heir = left.iter_mut().find(|other| seat.master && other.shard == seat.shard);
        let master = seat.master && heir.is_none();
        if let Some(heir) = heir {
            heir.master = true;
        }
        lost.push(Lost { member: seat.member, shard: seat.shard, master });
    }
    (left, lost)
}

fn hosts(seats: &[Seated]) -> BTreeSet<IpAddr> {
    seats.iter().map(|seat| seat.address.ip).collect()
}

/// How many members of a cluster with no preferences could be on each host, by trying with singles.
fn capacity(case: &Case) -> BTreeMap<IpAddr, u32> {
    let request = |member| overlord_placement::Request {
        member,
        cpu_millis: case.need.cpu_millis,
        mem: case.need.mem,
        disk: case.need.disk,
        bus: case.need.bus,
        prefer: None,
        only: None,
    };
    let requests: Vec<_> = (0..case.shape.masters).map(request).collect();
    let free = overlord_api::Placement { spread: Vec::new(), ..case.rules.clone() };
    let hosts: BTreeSet<IpAddr> = case.offers.iter().map(|offer| offer.host).collect();
    let count = |host: IpAddr| {
        let offers: Vec<_> = case.offers.iter().filter(|offer| offer.host == host).cloned().collect();
        let world = World { rules: &free, offers: &offers, ..case.world() };
        overlord_placement::assign(&requests, &world).placements.len() as u32
    };
    hosts.into_iter().map(|host| (host, count(host))).collect()
}

/// Whether hosts with that much room can take the cluster, by trying everything.
fn possible(shape: Shape, capacity: &[u32]) -> bool {
    fn go(shape: Shape, room: &mut [u32], masters: &mut [u32], shard: u32, first: usize, open: u32) -> bool {
        let replicas = open > 0;
        if !replicas && shard == shape.masters {
            return true;
        }
        for host in first..room.len() {
            if room[host] == 0 {
                continue;
            }
            if !replicas {
                if masters[host] + 1 > shape.masters.div_ceil(2) - 1 {
                    continue;
                }
                // The master goes to `host`, its replicas to any others: marked by taking the host out.
                room[host] -= 1;
                masters[host] += 1;
                let kept = std::mem::take(&mut room[host]);
                let ok = combinations(shape, room, masters, shard, 0, shape.replicas_per_master, host, kept);
                room[host] = kept + 1;
                masters[host] -= 1;
                if ok {
                    return true;
                }
            }
        }
        false
    }
    #[expect(clippy::too_many_arguments, reason = "a plain search")]
    fn combinations(
        shape: Shape,
        room: &mut [u32],
        masters: &mut [u32],
        shard: u32,
        first: usize,
        open: u32,
        home: usize,
        kept: u32,
    ) -> bool {
        if open == 0 {
            let hidden = std::mem::replace(&mut room[home], kept);
            let ok = go(shape, room, masters, shard + 1, 0, 0);
            room[home] = hidden;
            return ok;
        }
        for host in first..room.len() {
            if host != home && room[host] > 0 {
                room[host] -= 1;
                let ok = combinations(shape, room, masters, shard, host + 1, open - 1, home, kept);
                room[host] += 1;
                if ok {
                    return true;
                }
            }
        }
        false
    }
    let mut masters = vec![0; capacity.len()];
    go(shape, &mut capacity.to_vec(), &mut masters, 0, 0, 0)
}

/// The two conditions for hosts that the placement relies on.
fn countable(shape: Shape, capacity: &[u32]) -> bool {
    let sum = |most: u32| capacity.iter().map(|room| u64::from((*room).min(most))).sum::<u64>();
    sum(shape.masters.div_ceil(2) - 1) >= shape.masters.into() && sum(shape.masters) >= shape.members()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(10_000) })]

    #[test]
    fn what_is_formed_breaks_no_rule_and_outlives_any_host(case in case()) {
        let formed = form(case.shape, &case.need, &case.world());
        let Ok(formed) = formed else { return Ok(()) };
        let seats = seated(&formed);
        prop_assert_eq!(verify_cluster(case.shape, &seats, &case.rules), []);
        prop_assert_eq!(verify_seats(&case.need, &placements(&formed), &case.world()), []);
        let members: Vec<u32> = formed.seats.iter().map(|seat| seat.member).collect();
        prop_assert_eq!(members, (0..case.shape.members() as u32).collect::<Vec<_>>());
        for seat in &formed.seats {
            let Shape { masters, replicas_per_master } = case.shape;
            prop_assert_eq!(seat.master, seat.member < masters);
            let shard = if seat.master { seat.member } else { (seat.member - masters) / replicas_per_master };
            prop_assert_eq!(seat.shard, shard);
        }
        for host in hosts(&seats) {
            let masters = seats.iter().filter(|seat| seat.master && seat.address.ip != host).count();
            prop_assert!(2 * masters > case.shape.masters as usize, "without {} there is no majority", host);
            let shards: BTreeSet<u32> = seats.iter().filter(|s| s.address.ip != host).map(|s| s.shard).collect();
            prop_assert!(case.shape.replicas_per_master == 0 || shards.len() == case.shape.masters as usize);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2_000) })]

    #[test]
    fn lost_members_find_places_that_break_no_rule(case in case(), pick in any::<prop::sample::Index>()) {
        let Ok(formed) = form(case.shape, &case.need, &case.world()) else { return Ok(()) };
        let seats = seated(&formed);
        let hosts: Vec<IpAddr> = hosts(&seats).into_iter().collect();
        let host = hosts[pick.index(hosts.len())];
        let (left, lost) = without(host, &seats);
        let after = case.after(&formed, host);
        let outcome = reseat(&lost, &case.need, &left, case.shape, &after.world());
        prop_assert_eq!(outcome.placements.len() + outcome.refusals.len(), lost.len());
        prop_assert_eq!(verify_seats(&case.need, &outcome.placements, &after.world()), []);
        let mut all = left.clone();
        for placement in &outcome.placements {
            let lost = lost.iter().find(|lost| lost.member == placement.member).unwrap();
            all.push(seat(*lost, placement));
        }
        // What roles that moved break is there before; what is missing is refused.
        let before = verify_cluster(case.shape, &left, &case.rules);
        let broken = |v: &overlord_placement::Violation| {
            use overlord_placement::Violation as V;
            !matches!(v, V::Copies(..) | V::Masters(..)) && !before.contains(v)
        };
        let violations = verify_cluster(case.shape, &all, &case.rules);
        let masters_lost = lost.iter().any(|lost| lost.master);
        let violations: Vec<_> = violations.into_iter().filter(broken).collect();
        prop_assert!(violations.is_empty(), "{:?}, masters lost: {}", violations, masters_lost);
        // Nobody who is refused could be placed beside the others.
        for refusal in &outcome.refusals {
            let lost = *lost.iter().find(|lost| lost.member == refusal.member).unwrap();
            let mut then = after.clone();
            for placement in &outcome.placements {
                let bus = placement.bus_port.map(|port| Address::new(placement.host, port));
                then.taken.extend([Some(placement.address), bus].into_iter().flatten());
                let offer = then.offers.iter_mut().find(|offer| {
                    offer.agent_id == placement.agent_id && offer.role == placement.role
                }).unwrap();
                offer.cpu_millis -= case.need.cpu_millis;
                offer.mem -= case.need.mem;
                offer.disk -= case.need.disk;
            }
            let again = reseat(&[lost], &case.need, &all, case.shape, &then.world());
            prop_assert!(again.placements.is_empty(), "{} has a place after all: {}", lost.member, refusal);
            prop_assert!(refusal.reasons.values().sum::<u32>() >= refusal.offers_seen, "{:?}", refusal);
        }
        // A world of other order.
        let mut shuffled = after.clone();
        shuffled.offers.reverse();
        let mut turned = left.clone();
        turned.reverse();
        prop_assert_eq!(outcome, reseat(&lost, &case.need, &turned, case.shape, &shuffled.world()));
    }

    #[test]
    fn the_order_of_offers_does_not_matter(case in case(), seed in any::<u64>()) {
        let formed = form(case.shape, &case.need, &case.world());
        let mut shuffled = case.clone();
        shuffled.offers.sort_by_key(|offer| (offer.mem.wrapping_mul(seed | 1), offer.cpu_millis));
        prop_assert_eq!(formed, form(case.shape, &case.need, &shuffled.world()));
    }

    #[test]
    fn what_is_refused_cannot_be_formed(mut case in case()) {
        case.rules.spread.clear();
        // One agent a host, so that room can be counted host by host.
        let mut hosts = BTreeSet::new();
        case.offers.retain(|offer| hosts.insert(offer.host));
        let capacity: Vec<u32> = capacity(&case).into_values().collect();
        let formed = form(case.shape, &case.need, &case.world());
        prop_assert_eq!(formed.is_ok(), countable(case.shape, &capacity), "{:?} {:?}", formed, capacity);
        if let Err(refused) = formed {
            let text = refused.to_string();
            prop_assert!(!text.is_empty() && !text.contains('\n'));
        }
    }

    #[test]
    fn notes_tell_what_the_rules_allow(mut case in case()) {
        // Which of several agents of a host is the one depends on the rules.
        let mut hosts = BTreeSet::new();
        case.offers.retain(|offer| hosts.insert(offer.host));
        let Ok(formed) = form(case.shape, &case.need, &case.world()) else { return Ok(()) };
        for note in &formed.notes {
            let domain = match note {
                Note::Majority { domain, .. } | Note::WholeShards { domain, .. } => *domain,
            };
            let required = Spread { by: domain, rule: Rule::Required };
            prop_assert!(!case.rules.spread.contains(&required), "{}", note);
            // Nor could the rule be kept, if asked for.
            let mut strict = case.clone();
            strict.rules.spread = vec![required];
            let strict = form(strict.shape, &strict.need, &strict.world());
            let by_zone = case.rules.spread.iter().any(|spread| spread.by == Domain::Zone);
            prop_assert!(strict.is_err() || by_zone, "{}", note);
        }
        prop_assert_eq!(&formed.notes, &notes(case.shape, &seated(&formed), &case.rules));
    }
}

fn seat(lost: Lost, placement: &Placement) -> Seated {
    let Lost { member, shard, master } = lost;
    let (rack, zone) = (placement.rack.clone(), placement.zone.clone());
    Seated { member, shard, master, address: placement.address, rack, zone }
}

/// The proof in few words is for a reader; this is for doubt.
#[test]
fn what_can_be_counted_is_what_is_possible() {
    for (masters, replicas_per_master) in [(3, 0), (3, 1), (3, 2), (4, 1), (4, 2), (5, 1)] {
        let shape = Shape { masters, replicas_per_master };
        let most = masters + 1;
        for hosts in 1..=5_u32 {
            for code in 0..most.pow(hosts) {
                let capacity: Vec<u32> = (0..hosts).map(|host| code / most.pow(host) % most).collect();
                // One order of each.
                if capacity.is_sorted() && capacity.iter().sum::<u32>() <= shape.members() as u32 + 1 {
                    assert_eq!(
                        possible(shape, &capacity),
                        countable(shape, &capacity),
                        "{shape:?} {capacity:?}"
                    );
                }
            }
        }
    }
}

fn plenty(hosts: u16, racks: u16) -> Case {
    let offers = (0..hosts).map(|n| HostOffer {
        agent_id: format!("agent-{n:04}"),
        offer_ids: Vec::new(),
        host: IpAddr::from([10, 1, (n / 250) as u8, (n % 250) as u8]),
        hostname: String::new(),
        rack: (racks > 0).then(|| format!("rack-{}", n % racks)),
        zone: None,
        attributes: BTreeMap::new(),
        cpu_millis: 16_000,
        mem: 64 << 30,
        disk: 1 << 40,
        ports: vec![(20_000, 29_999)],
        role: "*".to_owned(),
    });
    Case {
        shape: Shape { masters: 1_000, replicas_per_master: 1 },
        need: Need { cpu_millis: 550, mem: 1 << 30, disk: 0, bus: Bus::AnyPort },
        rules: overlord_api::Placement {
            roles: vec!["*".to_owned()],
            spread: Vec::new(),
            constraints: Vec::new(),
        },
        placed: Vec::new(),
        offers: offers.collect(),
        taken: BTreeSet::new(),
        exclude_hosts: BTreeSet::new(),
    }
}

/// Prints how long it takes; what is asserted is that it is right.
#[test]
fn a_thousand_masters_on_two_thousand_hosts_are_quickly_placed() {
    let worlds = [(2_000, 40, 1), (2_000, 2_000, 1), (2_000, 0, 1), (2_000, 40, 2), (10, 0, 1), (7, 3, 1)];
    for (hosts, racks, replicas_per_master) in worlds {
        let mut case = plenty(hosts, racks);
        case.shape.replicas_per_master = replicas_per_master;
        if hosts < 100 {
            for offer in &mut case.offers {
                offer.cpu_millis *= 100;
                offer.mem *= 100;
            }
        }
        for masters in [1_000, 999] {
            case.shape.masters = masters;
            #[expect(clippy::disallowed_methods, reason = "printed for people")]
            let begin = std::time::Instant::now();
            let formed = form(case.shape, &case.need, &case.world()).unwrap();
            let took = begin.elapsed();
            println!("{masters} masters x {replicas_per_master}, {hosts} hosts, {racks} racks: {took:?}");
            assert_eq!(verify_cluster(case.shape, &seated(&formed), &case.rules), []);
        }
    }
}
