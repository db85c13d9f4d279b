//! Offers at hand: in step with the book, maintenance left out, and as good when few are looked at as when all are.

use std::time::Duration;

use overlord_api::{Address, Rule, Spread};
use overlord_mesos::{
    OfferBookConfig,
    v1::{AllocationInfo, DurationInfo, Resource, Scalar, TimeInfo, Url, ValueType},
};
use overlord_placement::{Bus, Request, World, assign};

use super::*;

fn scalar(name: &str, value: f64) -> Resource {
    Resource {
        name: name.to_owned(),
        kind: ValueType::Scalar,
        scalar: Some(Scalar { value }),
        allocation_info: Some(AllocationInfo { role: Some(String::from("*")) }),
        ..Resource::default()
    }
}

fn offer(id: &str, agent: &str, mem: f64) -> Offer {
    let mut url = Url::default();
    url.address.ip = Some(String::from("10.0.0.1"));
    Offer {
        id: OfferId::new(id),
        agent_id: AgentId::new(agent),
        url: Some(url),
        resources: vec![scalar("cpus", 1.0), scalar("mem", mem)],
        allocation_info: Some(AllocationInfo { role: Some(String::from("*")) }),
        ..Offer::default()
    }
}

fn now() -> Timestamp {
    crate::samples::at(0)
}

struct Desk {
    book: OfferBook,
    hand: AtHand,
}

impl Desk {
    fn new() -> Self {
        let mut book = OfferBook::new(OfferBookConfig::default(), ["*"]);
        book.want("*");
        Self { book, hand: AtHand::default() }
    }

    fn offered(&mut self, offers: &[Offer]) -> usize {
        self.book.insert(offers.iter().cloned(), Duration::ZERO);
        self.hand.insert(&self.book, offers).len()
    }

    fn mem(&self) -> Vec<u64> {
        self.hand.usable(now()).0.iter().map(|host| host.mem / MIB).collect()
    }
}

#[test]
fn offers_of_one_agent_are_one_until_they_are_gone() {
    let mut desk = Desk::new();
    assert_eq!(desk.offered(&[offer("o1", "a", 100.0), offer("o2", "a", 50.0), offer("o3", "b", 10.0)]), 2);
    assert_eq!(desk.mem(), [150, 10]);
    assert_eq!(desk.hand.ids(&AgentId::new("a"), "*"), [OfferId::new("o1"), OfferId::new("o2")]);
    desk.book.rescind(&OfferId::new("o1"));
    desk.hand.remove(&desk.book, &OfferId::new("o1"));
    assert_eq!(desk.mem(), [50, 10]);
    desk.book.remove_agent(&AgentId::new("a"));
    desk.hand.remove_agent(&AgentId::new("a"));
    assert_eq!(desk.mem(), [10]);
    desk.hand.remove_role("*");
    assert!(desk.hand.is_empty() && desk.hand.of.is_empty());
}

#[test]
fn what_the_book_does_not_hold_is_not_at_hand() {
    let mut desk = Desk::new();
    desk.book.unwant("*");
    assert_eq!(desk.offered(&[offer("o1", "a", 100.0)]), 0);
    assert!(desk.hand.is_empty());
}

#[test]
fn an_agent_that_goes_into_maintenance_soon_is_left_out_until_that_is_over_or_called_off() {
    let away = |from_minutes: i64| {
        let start = now() + SignedDuration::from_mins(from_minutes);
        let start = TimeInfo { nanoseconds: i64::try_from(start.as_nanosecond()).unwrap() };
        let duration = Some(DurationInfo { nanoseconds: 600 * 1_000_000_000 });
        Some(Unavailability { start, duration })
    };
    for (minutes, used) in [(-5, false), (30, false), (90, true), (-15, true)] {
        let mut desk = Desk::new();
        desk.offered(&[Offer { unavailability: away(minutes), ..offer("o", "a", 7.0) }]);
        let (usable, avoided) = desk.hand.usable(now());
        assert_eq!((usable.len(), avoided), (usize::from(used), usize::from(!used)), "{minutes} min");
        desk.offered(&[offer("o2", "a", 7.0)]);
        assert_eq!(desk.mem(), [14]);
    }
    let forever = Unavailability { duration: None, ..away(-100).unwrap() };
    assert!(Away::of(&forever).is_near(now()));
}

/// Agents with different room in 40 racks, at addresses of their own.
fn many(count: u32) -> Vec<Arc<HostOffer>> {
    let host = |n: u32| {
        let [_, b, c, d] = n.to_be_bytes();
        Arc::new(HostOffer {
            agent_id: format!("a{n:05}"),
            offer_ids: vec![format!("o{n}")],
            host: [10, b, c, d].into(),
            hostname: format!("host{n}"),
            rack: Some(format!("r{}", n % 40)),
            zone: None,
            attributes: [(
                String::from("disk"),
                String::from(if n.is_multiple_of(7) { "ssd" } else { "hdd" }),
            )]
            .into(),
            cpu_millis: u64::from(1000 + n * 37 % 8000),
            mem: u64::from(512 + n * 101 % 16_000) * MIB,
            disk: u64::from(n % 3) * 1000 * MIB,
            ports: vec![(20_000, 20_099)],
            role: String::from("*"),
        })
    };
    (0..count).map(host).collect()
}

fn request(member: u32) -> Request {
    Request {
        member,
        cpu_millis: 500,
        mem: 512 * MIB,
        disk: 500 * MIB,
        bus: Bus::None,
        prefer: None,
        only: None,
    }
}

#[test]
fn a_choice_among_the_promising_is_the_choice_among_all() {
    let all = many(2000);
    let spreads = [
        vec![],
        vec![Spread { by: Domain::Host, rule: Rule::Required }],
        vec![
            Spread { by: Domain::Host, rule: Rule::Required },
            Spread { by: Domain::Rack, rule: Rule::Preferred },
        ],
        vec![Spread { by: Domain::Rack, rule: Rule::Required }],
    ];
    for spread in spreads {
        for constrained in [false, true] {
            let ssd = overlord_api::Constraint {
                attribute: String::from("disk"),
                operator: overlord_api::Operator::Is,
                value: String::from("ssd"),
            };
            let rules = Placement {
                roles: vec![String::from("*")],
                spread: spread.clone(),
                constraints: if constrained { vec![ssd] } else { Vec::new() },
            };
            let requests: Vec<Request> = (0..6).map(request).collect();
            let wish = Wish {
                rules: &rules,
                members: requests.len(),
                least: Least { cpu_millis: 500, mem: 512 * MIB, disk: 500 * MIB },
                hosts: BTreeSet::new(),
                only_hosts: false,
                occupied: BTreeSet::new(),
            };
            let (taken, nobody): (BTreeSet<Address>, _) = (BTreeSet::new(), BTreeSet::new());
            let choose = |offers: &[Arc<HostOffer>]| {
                let offers: Vec<HostOffer> = offers.iter().map(|offer| (**offer).clone()).collect();
                let world = World {
                    rules: &rules,
                    members: 6,
                    placed: &[],
                    offers: &offers,
                    taken: &taken,
                    exclude_hosts: &nobody,
                };
                assign(&requests, &world)
            };
            let few = narrow(&all, &wish).unwrap();
            assert!(few.len() < 400, "{}", few.len());
            assert_eq!(choose(&few), choose(&all), "{rules:?}");
        }
    }
}

#[test]
fn hosts_that_are_asked_for_are_always_looked_at_and_few_offers_are_all_looked_at() {
    let all = many(2000);
    let rules = Placement { roles: vec![String::from("*")], spread: Vec::new(), constraints: Vec::new() };
    let wish = |only_hosts| Wish {
        rules: &rules,
        members: 1,
        least: Least { cpu_millis: u64::MAX, ..Least::default() },
        hosts: [all[7].host].into(),
        only_hosts,
        occupied: BTreeSet::new(),
    };
    for only_hosts in [true, false] {
        let chosen = narrow(&all, &wish(only_hosts)).unwrap();
        assert_eq!(chosen.iter().map(|offer| offer.host).collect::<Vec<_>>(), [all[7].host]);
    }
    assert!(narrow(&all[..ALL], &wish(true)).is_none());
}
