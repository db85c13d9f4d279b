//! Random worlds: whatever is assigned breaks no rule, and whatever is refused has no place.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use overlord_api::{Address, Constraint, Domain, Operator, Rule, Spread};
use overlord_placement::{Bus, HostOffer, Placed, Placement, Request, World, assign, verify};
use proptest::prelude::*;

#[derive(Debug, Clone)]
struct Case {
    rules: overlord_api::Placement,
    placed: Vec<Placed>,
    offers: Vec<HostOffer>,
    taken: BTreeSet<Address>,
    exclude_hosts: BTreeSet<IpAddr>,
    requests: Vec<Request>,
}

impl Case {
    fn world(&self) -> World<'_> {
        World {
            rules: &self.rules,
            members: 9,
            placed: &self.placed,
            offers: &self.offers,
            taken: &self.taken,
            exclude_hosts: &self.exclude_hosts,
        }
    }
}

const FIRST_PORT: u16 = 20_000;

fn ip(n: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, n])
}

fn name(prefix: &str, n: u8) -> Option<String> {
    (n > 0).then(|| format!("{prefix}{n}"))
}

fn offer() -> impl Strategy<Value = HostOffer> {
    let ports = prop_oneof![
        2 => (0..4_u16, 0..5_u16).prop_map(|(from, more)| vec![(FIRST_PORT + from, FIRST_PORT + from + more)]),
        2 => (0..3_u16).prop_map(|n| vec![(FIRST_PORT, FIRST_PORT + 2), (30_000, 30_000 + n)]),
        1 => Just(Vec::new()),
    ];
    let place = (0..6_u8, 0..4_u8, 0..3_u8);
    (place, 0..8_u64, 0..8_u64, 0..8_u64, ports, 0..5_u8, 0..3_u8).prop_map(
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

fn request() -> impl Strategy<Value = Request> {
    let bus = prop_oneof![
        4 => Just(Bus::None),
        2 => Just(Bus::AnyPort),
        1 => Just(Bus::Plus10000),
        1 => Just(Bus::Unreserved),
    ];
    let place = || proptest::option::weighted(0.2, address());
    (0..3_u64, 0..3_u64, 0..3_u64, bus, place(), place()).prop_map(|(cpu, mem, disk, bus, prefer, only)| {
        Request { member: 0, cpu_millis: cpu * 100, mem, disk, bus, prefer, only }
    })
}

fn address() -> impl Strategy<Value = Address> {
    (0..6_u8, 0..6_u16).prop_map(|(host, port)| Address::new(ip(host), FIRST_PORT + port))
}

fn placed() -> impl Strategy<Value = Placed> {
    (0..12_u32, address(), 0..4_u8, 0..3_u8).prop_map(|(member, address, rack, zone)| Placed {
        member,
        address,
        rack: name("r", rack),
        zone: name("z", zone),
        bus_port: None,
    })
}

fn spread() -> impl Strategy<Value = Vec<Spread>> {
    let by = prop_oneof![Just(Domain::Host), Just(Domain::Rack), Just(Domain::Zone)];
    let rule = prop_oneof![1 => Just(Rule::Required), 3 => Just(Rule::Preferred)];
    proptest::collection::vec((by, rule).prop_map(|(by, rule)| Spread { by, rule }), 0..4)
}

fn constraint() -> impl Strategy<Value = Constraint> {
    let attribute = prop_oneof![Just("disk"), Just("rack"), Just("hostname"), Just("host")];
    let operator = prop_oneof![
        Just(Operator::Is),
        Just(Operator::IsNot),
        Just(Operator::In),
        Just(Operator::NotIn),
        Just(Operator::Exists)
    ];
    let value = prop_oneof![Just("ssd1"), Just("r1, r2"), Just("host-1,host-2"), Just("10.0.0.3")];
    (attribute, operator, value).prop_map(|(attribute, operator, value)| Constraint {
        attribute: attribute.to_owned(),
        operator,
        value: value.to_owned(),
    })
}

fn case() -> impl Strategy<Value = Case> {
    (
        spread(),
        proptest::collection::vec(constraint(), 0..2),
        proptest::collection::vec(placed(), 0..3),
        proptest::collection::vec(offer(), 0..8),
        proptest::collection::btree_set(address(), 0..6),
        proptest::option::weighted(0.2, 0..6_u8),
        proptest::collection::vec(request(), 1..7),
    )
        .prop_map(|(spread, constraints, placed, mut offers, taken, excluded, mut requests)| {
            for (n, offer) in offers.iter_mut().enumerate() {
                offer.agent_id = format!("agent-{n}");
            }
            // Some agents offer to a second role.
            if let Some(second) = offers.first().filter(|offer| offer.cpu_millis > 300).cloned() {
                let role = if second.role == "*" { "prod" } else { "*" }.to_owned();
                offers.push(HostOffer { role, ..second });
            }
            for (member, request) in (0..).zip(&mut requests) {
                request.member = member;
            }
            let rules = overlord_api::Placement { roles: vec!["*".to_owned()], spread, constraints };
            let exclude_hosts = excluded.map(ip).into_iter().collect();
            Case { rules, placed, offers, taken, exclude_hosts, requests }
        })
}

/// Every place that anyone could think of for the request.
fn candidates(request: &Request, world: &World<'_>) -> Vec<Placement> {
    let mut candidates = Vec::new();
    for offer in world.offers {
        let ports = || offer.ports.iter().flat_map(|(low, high)| *low..=*high);
        for port in ports() {
            let buses: Vec<Option<u16>> = match request.bus {
                Bus::None => vec![None],
                Bus::AnyPort => ports().map(Some).collect(),
                Bus::Plus10000 | Bus::Unreserved => vec![port.checked_add(10_000)],
            };
            candidates.extend(buses.into_iter().map(|bus_port| Placement {
                member: request.member,
                address: Address::new(offer.host, port),
                bus_port,
                agent_id: offer.agent_id.clone(),
                host: offer.host,
                rack: offer.rack.clone(),
                zone: offer.zone.clone(),
                role: offer.role.clone(),
            }));
        }
    }
    candidates
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(600) })]

    #[test]
    fn nothing_assigned_breaks_a_rule(case in case()) {
        let outcome = assign(&case.requests, &case.world());
        prop_assert_eq!(verify(&case.requests, &outcome.placements, &case.world()), []);
        prop_assert_eq!(outcome.placements.len() + outcome.refusals.len(), case.requests.len());
    }

    #[test]
    fn the_order_of_offers_does_not_matter(case in case(), seed in any::<u64>()) {
        let outcome = assign(&case.requests, &case.world());
        let mut shuffled = case.clone();
        let order = |offer: &HostOffer| (offer.mem.wrapping_mul(seed | 1), offer.agent_id.len(), offer.cpu_millis);
        shuffled.offers.sort_by_key(order);
        shuffled.placed.reverse();
        prop_assert_eq!(outcome, assign(&case.requests, &shuffled.world()));
    }

    #[test]
    fn what_is_refused_has_no_place(case in case()) {
        // The last of the requests: what was placed before it is what it found.
        let outcome = assign(&case.requests, &case.world());
        let last = case.requests.last().unwrap();
        let refused = outcome.refusals.iter().find(|refusal| refusal.member == last.member);
        if let Some(refusal) = refused {
            for candidate in candidates(last, &case.world()) {
                let mut placements = outcome.placements.clone();
                placements.push(candidate.clone());
                let violations = verify(&case.requests, &placements, &case.world());
                prop_assert!(!violations.is_empty(), "{:?} is free, but: {}", candidate, refusal);
            }
            let agents: BTreeSet<_> = case.offers.iter().map(|offer| &offer.agent_id).collect();
            prop_assert_eq!(refusal.offers_seen as usize, agents.len());
            prop_assert!(refusal.reasons.values().all(|agents| *agents <= refusal.offers_seen));
            prop_assert!(refusal.reasons.values().sum::<u32>() >= refusal.offers_seen, "an agent without a reason");
        }
    }

    #[test]
    fn a_preference_never_refuses(case in case()) {
        let mut preferred = case.clone();
        for spread in &mut preferred.rules.spread {
            spread.rule = Rule::Preferred;
        }
        let mut free = preferred.clone();
        free.rules.spread.clear();
        // For one request; of several, another order of hosts may use up the ports of one sooner.
        let one = &case.requests[..1];
        let refused = |case: &Case| assign(one, &case.world()).refusals.len();
        prop_assert_eq!(refused(&preferred), refused(&free));
    }

    #[test]
    fn the_emptiest_domain_comes_first(count in 1..30_u32, racks in 1..6_u8) {
        let offers = (0..12).map(|n| HostOffer {
            agent_id: format!("agent-{n:02}"),
            offer_ids: Vec::new(),
            host: ip(n),
            hostname: String::new(),
            rack: name("r", n % racks + 1),
            zone: None,
            attributes: BTreeMap::new(),
            cpu_millis: 100_000,
            mem: 1_000,
            disk: 1_000,
            ports: vec![(FIRST_PORT, FIRST_PORT + 99)],
            role: "*".to_owned(),
        });
        let spread = [Domain::Rack, Domain::Host].map(|by| Spread { by, rule: Rule::Preferred }).to_vec();
        let requests = (0..count)
            .map(|member| Request { member, cpu_millis: 1, mem: 1, disk: 1, bus: Bus::None, prefer: None, only: None })
            .collect();
        let case = Case {
            rules: overlord_api::Placement { roles: vec!["*".to_owned()], spread, constraints: Vec::new() },
            placed: Vec::new(),
            offers: offers.collect(),
            taken: BTreeSet::new(),
            exclude_hosts: BTreeSet::new(),
            requests,
        };
        let placements = assign(&case.requests, &case.world()).placements;
        let mut per_rack: BTreeMap<_, u32> = (1..=racks).map(|n| (name("r", n), 0)).collect();
        for placement in &placements {
            *per_rack.entry(placement.rack.clone()).or_default() += 1;
        }
        let (least, most) = (per_rack.values().min().unwrap(), per_rack.values().max().unwrap());
        prop_assert!(most - least <= 1, "{per_rack:?}");
    }
}

/// How the work grows is what this is for: it would take minutes if each request looked at each agent's ports.
#[test]
fn a_thousand_members_on_two_thousand_agents_are_quickly_placed() {
    let offers = (0..2_000_u16).map(|n| HostOffer {
        agent_id: format!("agent-{n:04}"),
        offer_ids: Vec::new(),
        host: IpAddr::from([10, 1, (n / 250) as u8, (n % 250) as u8]),
        hostname: String::new(),
        rack: Some(format!("rack-{}", n % 40)),
        zone: Some(format!("zone-{}", n % 3)),
        attributes: BTreeMap::new(),
        cpu_millis: 16_000 + u64::from(n),
        mem: 64 << 30,
        disk: 1 << 40,
        ports: vec![(20_000, 29_999)],
        role: "*".to_owned(),
    });
    let spread =
        [Domain::Zone, Domain::Rack, Domain::Host].map(|by| Spread { by, rule: Rule::Preferred }).to_vec();
    let sizes = |member: u32| 1 << (20 + member % 3);
    let case = Case {
        rules: overlord_api::Placement { roles: vec!["*".to_owned()], spread, constraints: Vec::new() },
        placed: Vec::new(),
        offers: offers.collect(),
        taken: (0..2_000_u16)
            .flat_map(|n| (20_000..20_020).map(move |port| (n, port)))
            .map(|(n, port)| Address::new(IpAddr::from([10, 1, (n / 250) as u8, (n % 250) as u8]), port))
            .collect(),
        exclude_hosts: BTreeSet::new(),
        requests: (0..1_000)
            .map(|member| Request {
                member,
                cpu_millis: 500,
                mem: sizes(member),
                disk: 0,
                bus: Bus::AnyPort,
                prefer: None,
                only: None,
            })
            .collect(),
    };
    let outcome = assign(&case.requests, &case.world());
    assert_eq!(outcome.placements.len(), 1_000);
    let hosts: BTreeSet<IpAddr> = outcome.placements.iter().map(|placement| placement.host).collect();
    assert_eq!(hosts.len(), 1_000);
}
