//! Single rules by example; random worlds are in `tests/clusters.rs`.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use overlord_api::{Constraint, Operator, Spread};

use super::*;
use crate::{HostOffer, Placed, verify_cluster, verify_seats};

const GIB: u64 = 1 << 30;

/// A world that can be changed before it is asked.
struct Fixture {
    rules: overlord_api::Placement,
    placed: Vec<Placed>,
    offers: Vec<HostOffer>,
    taken: BTreeSet<Address>,
}

fn ip(n: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, n])
}

/// Room for eight members.
fn offer(n: u8, rack: &str) -> HostOffer {
    HostOffer {
        agent_id: format!("agent-{n:02}"),
        offer_ids: vec![format!("offer-{n}")],
        host: ip(n),
        hostname: format!("host-{n}.example"),
        rack: (!rack.is_empty()).then(|| rack.to_owned()),
        zone: None,
        attributes: BTreeMap::new(),
        cpu_millis: 8_000,
        mem: 8 * GIB,
        disk: 100 * GIB,
        ports: vec![(20_000, 20_099)],
        role: "*".to_owned(),
    }
}

const NEED: Need = Need { cpu_millis: 500, mem: GIB, disk: GIB, bus: Bus::AnyPort };

const fn shape(masters: u32, replicas_per_master: u32) -> Shape {
    Shape { masters, replicas_per_master }
}

impl Fixture {
    /// One host for each name of a rack; none for an empty name.
    fn new(racks: &[&str]) -> Self {
        Self {
            rules: overlord_api::Placement {
                roles: vec!["*".to_owned()],
                spread: Vec::new(),
                constraints: Vec::new(),
            },
            placed: Vec::new(),
            offers: (1..).zip(racks).map(|(n, rack)| offer(n, rack)).collect(),
            taken: BTreeSet::new(),
        }
    }

    fn hosts(count: usize) -> Self {
        Self::new(&vec![""; count])
    }

    fn required(mut self, by: Domain) -> Self {
        self.rules.spread.push(Spread { by, rule: Rule::Required });
        self
    }

    fn with<T>(&self, ask: impl FnOnce(&World<'_>) -> T) -> T {
        let Self { rules, placed, offers, taken } = self;
        ask(&World { rules, members: 0, placed, offers, taken, exclude_hosts: &BTreeSet::new() })
    }

    fn form(&self, shape: Shape) -> Formed {
        let formed = self.with(|world| form(shape, &NEED, world)).unwrap();
        let placements: Vec<Placement> = formed.seats.iter().map(|seat| seat.placement.clone()).collect();
        assert_eq!(self.with(|world| verify_seats(&NEED, &placements, world)), []);
        assert_eq!(verify_cluster(shape, &seated(&formed), &self.rules), []);
        formed
    }

    fn refused(&self, shape: Shape) -> String {
        self.with(|world| form(shape, &NEED, world)).unwrap_err().to_string()
    }

    fn reseat(&self, lost: &[Lost], seated: &[Seated], shape: Shape) -> (Vec<(u32, u8)>, Vec<String>) {
        let outcome = self.with(|world| reseat(lost, &NEED, seated, shape, world));
        assert_eq!(self.with(|world| verify_seats(&NEED, &outcome.placements, world)), []);
        (
            outcome.placements.iter().map(|placement| (placement.member, number(placement.host))).collect(),
            outcome.refusals.iter().map(ToString::to_string).collect(),
        )
    }
}

fn seated(formed: &Formed) -> Vec<Seated> {
    formed.seats.iter().map(Seated::from).collect()
}

fn number(host: IpAddr) -> u8 {
    match host {
        IpAddr::V4(ip) => ip.octets()[3],
        IpAddr::V6(_) => 0,
    }
}

/// Of each shard: its hosts, the master's first.
fn shards(formed: &Formed) -> Vec<Vec<u8>> {
    let mut shards: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
    for seat in &formed.seats {
        shards.entry(seat.shard).or_default().push(number(seat.placement.host));
    }
    shards.into_values().collect()
}

fn seat(member: u32, shard: u32, master: bool, host: u8, rack: &str) -> Seated {
    let address = Address::new(ip(host), 20_000 + u16::try_from(member).unwrap());
    let rack = (!rack.is_empty()).then(|| rack.to_owned());
    Seated { member, shard, master, address, rack, zone: None }
}

fn masters_per_host(formed: &Formed) -> Vec<u32> {
    let mut masters: BTreeMap<IpAddr, u32> = BTreeMap::new();
    for seat in &formed.seats {
        *masters.entry(seat.placement.host).or_default() += u32::from(seat.master);
    }
    masters.into_values().collect()
}

#[test]
fn masters_have_the_first_numbers_and_replicas_follow_by_shard() {
    assert_eq!([(0, 0), (0, 1), (2, 1)].map(|(shard, n)| shape(3, 2).replica(shard, n)), [3, 4, 8]);
    let formed = Fixture::hosts(3).form(shape(3, 2));
    let seats: Vec<_> = formed.seats.iter().map(|seat| (seat.member, seat.shard, seat.master)).collect();
    assert_eq!(seats[..4], [(0, 0, true), (1, 1, true), (2, 2, true), (3, 0, false)]);
    assert_eq!(seats[8], (8, 2, false));
    assert_eq!([3, 4, 5, 6, 7, 1_000].map(|masters| shape(masters, 0).most_masters()), [1, 1, 2, 2, 3, 499]);
}

#[test]
fn even_masters_with_one_replica_come_in_chunks() {
    let formed = Fixture::hosts(4).form(shape(4, 1));
    assert_eq!(shards(&formed), [[1, 2], [2, 1], [3, 4], [4, 3]]);
    let formed = Fixture::hosts(3).form(shape(6, 1));
    assert_eq!(masters_per_host(&formed), [2, 2, 2]);
    let pairs: BTreeSet<Vec<u8>> = shards(&formed).into_iter().collect();
    assert_eq!(pairs.len(), 6, "each pair of hosts has one chunk");
}

#[test]
fn chunks_spread_the_masters_of_a_host_over_many() {
    for (hosts, masters) in [(6, 12), (6, 30), (10, 40), (8, 56)] {
        let mut world = Fixture::hosts(hosts);
        for offer in &mut world.offers {
            (offer.mem, offer.cpu_millis) = (100 * GIB, 100_000);
        }
        let mut pairs: BTreeMap<Vec<u8>, u32> = BTreeMap::new();
        for shard in shards(&world.form(shape(masters, 1))) {
            *pairs.entry(shard).or_default() += 1;
        }
        let even = masters.div_ceil(u32::try_from(hosts * (hosts - 1)).unwrap());
        assert!(
            pairs.values().all(|links| *links <= even + 1),
            "{hosts} hosts, {masters} masters: {pairs:?}"
        );
    }
}

#[test]
fn chunks_cross_racks() {
    let world = Fixture::new(&["a", "a", "b", "b", "c", "c"]);
    let formed = world.form(shape(6, 1));
    assert_eq!(formed.notes, []);
    assert_eq!(masters_per_host(&formed), [1, 1, 1, 1, 1, 1]);
    let rack = |host: u8| (host - 1) / 2;
    assert!(shards(&formed).iter().all(|hosts| rack(hosts[0]) != rack(hosts[1])), "{:?}", shards(&formed));
}

#[test]
fn where_chunks_do_not_fit_members_are_dealt() {
    // No host has room for two.
    let mut world = Fixture::hosts(8);
    for offer in &mut world.offers {
        offer.mem = GIB;
    }
    assert_eq!(masters_per_host(&world.form(shape(4, 1))).iter().sum::<u32>(), 4);
    // The only way: masters on all, replicas on the first.
    let mut world = Fixture::hosts(4);
    for (offer, mem) in world.offers.iter_mut().zip([4, 2, 1, 1]) {
        offer.mem = mem * GIB;
    }
    let formed = world.form(shape(4, 1));
    assert_eq!(masters_per_host(&formed), [1, 1, 1, 1]);
    assert_eq!(shards(&Fixture::hosts(3).form(shape(3, 1))), [[1, 2], [2, 3], [3, 1]]);
}

#[test]
fn members_are_balanced_over_hosts() {
    for (masters, replicas, hosts) in [(6, 2, 6), (5, 1, 10), (7, 1, 7), (6, 2, 18), (9, 3, 6)] {
        let formed = Fixture::hosts(hosts).form(shape(masters, replicas));
        let mut members = vec![0_usize; hosts];
        for seat in &formed.seats {
            members[usize::from(number(seat.placement.host)) - 1] += 1;
        }
        let (least, most) = (members.iter().min().unwrap(), members.iter().max().unwrap());
        assert!(most - least <= 1, "{masters}+{replicas} on {hosts}: {members:?}");
        let most = masters_per_host(&formed).into_iter().max();
        assert_eq!(most, Some(masters.div_ceil(u32::try_from(hosts).unwrap())));
    }
}

#[test]
fn too_few_racks_are_noted_and_refused_if_required() {
    let world = Fixture::new(&["r1", "r1", "r1", "r2"]);
    let notes: Vec<String> = world.form(shape(4, 1)).notes.iter().map(ToString::to_string).collect();
    assert_eq!(notes, ["rack r1 holds 3 of 4 masters: its loss stops the cluster"]);
    let one = Fixture::new(&["r1", "r1", "r1", "r1"]).form(shape(4, 1));
    assert_eq!(
        one.notes.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [
            "rack r1 holds 4 of 4 masters: its loss stops the cluster",
            "rack r1 holds every copy of 4 shards from 0 to 3: its loss takes their keys"
        ]
    );
    assert_eq!(
        world.required(Domain::Rack).refused(shape(4, 1)),
        "4 masters need 4 racks (at most 1 of 4 on one rack): 2 offered"
    );
    // Two racks cannot save the majority, but every shard.
    let world = Fixture::new(&["r1", "r1", "r2", "r2"]);
    let notes: Vec<String> = world.form(shape(4, 1)).notes.iter().map(ToString::to_string).collect();
    assert_eq!(
        notes,
        ["r1", "r2"].map(|rack| format!("rack {rack} holds 2 of 4 masters: its loss stops the cluster"))
    );
    assert_eq!(Fixture::hosts(4).form(shape(4, 1)).notes, [], "racks that are not told");
}

#[test]
fn required_racks_keep_members_and_masters_apart() {
    let world = Fixture::new(&["a", "a", "a", "b", "c"]).required(Domain::Rack);
    let formed = world.form(shape(3, 2));
    assert_eq!(formed.notes, []);
    let mut untold = Fixture::new(&["a", "b", "c", ""]).required(Domain::Rack);
    assert_eq!(untold.form(shape(3, 1)).notes, []);
    untold.offers.remove(2);
    assert_eq!(
        untold.refused(shape(3, 1)),
        "3 masters with replicas need 3 hosts: 2 offered; attribute rack 1 agent"
    );
}

#[test]
fn racks_of_one_name_in_two_zones_are_two() {
    let mut world = Fixture::new(&["a", "a", "a"]).required(Domain::Rack);
    for (offer, zone) in world.offers.iter_mut().zip(["x", "y", "z"]) {
        offer.zone = Some(zone.to_owned());
    }
    assert_eq!(world.form(shape(3, 1)).notes, []);
    let world = world.required(Domain::Zone);
    assert_eq!(world.form(shape(3, 1)).notes, []);
}

#[test]
fn the_best_reason_is_told_with_its_numbers() {
    assert_eq!(Fixture::hosts(0).refused(shape(3, 1)), "no offers");
    assert_eq!(Fixture::hosts(2).refused(shape(3, 1)), "3 masters with replicas need 3 hosts: 2 offered");
    assert_eq!(Fixture::hosts(2).refused(shape(3, 0)), "3 masters need 3 hosts: 2 offered");
    assert_eq!(
        Fixture::hosts(3).refused(shape(4, 1)),
        "4 masters need 4 hosts (at most 1 of 4 on one host): 3 offered"
    );
    assert_eq!(
        Fixture::hosts(2).refused(shape(6, 1)),
        "6 masters need 3 hosts (at most 2 of 6 on one host): 2 offered"
    );
    assert_eq!(Fixture::hosts(4).refused(shape(3, 4)), "a master with 4 replicas needs 5 hosts: 4 offered");
    assert_eq!(Fixture::hosts(4).refused(shape(2, 1)), "a cluster has 3 to 16384 masters, 2 were asked for");
    let huge = shape(u32::MAX, u32::MAX);
    assert_eq!(
        Fixture::hosts(4).refused(huge),
        format!("a cluster has 3 to 16384 masters, {} were asked for", u32::MAX)
    );
    let wide = Fixture::hosts(4).refused(shape(16_384, u32::MAX));
    assert_eq!(wide, "a master with 4294967295 replicas needs 4294967295 hosts: 4 offered");
}

#[test]
fn what_agents_lack_is_counted() {
    let mut world = Fixture::hosts(5);
    world.offers[0].mem = GIB / 2;
    world.offers[1].mem = GIB / 2;
    assert_eq!(
        world.refused(shape(4, 1)),
        "4 masters need 4 hosts (at most 1 of 4 on one host): 3 of 5 offered have room: mem 2 agents"
    );
    let mut world = Fixture::hosts(5);
    for offer in &mut world.offers[1..] {
        offer.mem = GIB;
    }
    world.offers[0].ports = vec![(20_000, 20_005)];
    assert_eq!(
        world.refused(shape(4, 1)),
        "room for 7 of 8 members (no two of a shard on one host): mem 4 agents, ports taken or in quarantine 1"
    );
    // Room for many members, but only on hosts that may not have so many masters.
    let mut world = Fixture::hosts(3);
    world.offers[2].mem = GIB;
    assert_eq!(world.refused(shape(8, 0)), "room for 7 of 8 masters (at most 3 on one host): mem 1 agent");
}

#[test]
fn agents_that_are_not_eligible_are_counted_too() {
    let mut world = Fixture::hosts(4);
    world.offers[0].role = "prod".to_owned();
    let (attribute, value) = ("hostname".to_owned(), "host-2.example".to_owned());
    world.rules.constraints.push(Constraint { attribute, operator: Operator::IsNot, value });
    assert_eq!(
        world.refused(shape(3, 1)),
        "3 masters with replicas need 3 hosts: 2 offered; role 1 agent, attribute hostname 1"
    );
}

#[test]
fn agents_of_one_ip_are_one_host() {
    let mut world = Fixture::hosts(4);
    world.offers[3].host = ip(1);
    world.offers[3].ports = vec![(21_000, 21_099)];
    assert_eq!(world.refused(shape(4, 1)), "4 masters need 4 hosts (at most 1 of 4 on one host): 3 offered");
    for offer in &mut world.offers {
        offer.mem = GIB;
    }
    world.offers.push(offer(5, ""));
    assert_eq!(world.form(shape(3, 0)).seats.len(), 3);
    let mut other = offer(6, "elsewhere");
    other.host = ip(2);
    world.offers.push(other);
    assert!(world.refused(shape(7, 1)).contains("rack or zone unlike others of its ip 1"));
}

#[test]
fn a_lost_host_is_replaced_member_by_member() {
    let shape = shape(4, 1);
    let mut world = Fixture::hosts(6);
    let formed = world.form(shape);
    let mut left = seated(&formed);
    // Host 1 had master 0 and the replica of shard 1 (member 5); member 4 took over.
    let lost: Vec<Seated> = left.extract_if(.., |seat| seat.address.ip == ip(1)).collect();
    assert_eq!(lost.iter().map(|seat| seat.member).collect::<Vec<_>>(), [0, 5]);
    for seat in left.iter_mut().filter(|seat| seat.member == 4) {
        seat.master = true;
    }
    world.offers.remove(0);
    let lost = [Lost { member: 0, shard: 0, master: false }, Lost { member: 5, shard: 1, master: false }];
    // Hosts 5 and 6 are empty.
    assert_eq!(world.reseat(&lost, &left, shape), (vec![(0, 5), (5, 6)], vec![]));
    world.offers.truncate(2);
    let (placed, refused) = world.reseat(&lost, &left, shape);
    assert_eq!((placed, refused), (vec![(0, 3), (5, 3)], vec![]), "hosts 2 and 3 are left");
    world.offers.truncate(1);
    let (placed, refused) = world.reseat(&lost, &left, shape);
    assert_eq!((placed, refused), (vec![], vec!["host has its shard 1 agent".to_owned(); 2]));
}

#[test]
fn a_master_that_comes_back_needs_a_host_with_few_masters() {
    let seated: Vec<Seated> = (1..3).map(|n| seat(u32::from(n), u32::from(n), true, n, "")).collect();
    let lost = [Lost { member: 0, shard: 0, master: true }];
    let mut world = Fixture::hosts(2);
    assert_eq!(
        world.reseat(&lost, &seated, shape(3, 0)),
        (vec![], vec!["host has its most masters 2 agents".to_owned()])
    );
    world.offers.push(offer(3, ""));
    assert_eq!(world.reseat(&lost, &seated, shape(3, 0)), (vec![(0, 3)], vec![]));
}

#[test]
fn a_lost_replica_goes_to_another_rack_than_its_master() {
    let mut world = Fixture::new(&["a", "a", "b"]);
    let seated = [seat(0, 0, true, 1, "a"), seat(4, 1, false, 3, "b"), seat(5, 2, false, 3, "b")];
    let lost = [Lost { member: 3, shard: 0, master: false }];
    assert_eq!(world.reseat(&lost, &seated, shape(3, 1)).0, [(3, 3)], "though that is fuller");
    world.offers.pop();
    assert_eq!(world.reseat(&lost, &seated, shape(3, 1)).0, [(3, 2)]);
    let world = world.required(Domain::Rack);
    assert_eq!(
        world.reseat(&lost, &seated, shape(3, 1)).1,
        ["rack has its shard 2 agents, host has its shard 1"]
    );
}

#[test]
fn a_lost_member_moves_for_one_with_less_choice() {
    // Each host has room for one. Shard 0 must leave host 1, shard 1 may go anywhere.
    let mut world = Fixture::hosts(2);
    for offer in &mut world.offers {
        offer.mem = GIB;
    }
    let seated = [seat(0, 0, true, 1, ""), seat(1, 1, true, 3, "")];
    let lost = [Lost { member: 4, shard: 1, master: false }, Lost { member: 3, shard: 0, master: false }];
    let (mut placed, refused) = world.reseat(&lost, &seated, shape(3, 1));
    placed.sort_unstable();
    assert_eq!((placed, refused), (vec![(3, 2), (4, 1)], vec![]));
}

#[test]
fn a_lost_member_that_was_placed_makes_room_for_another() {
    // Room for one on each host, and host 2 looks best.
    let mut world = Fixture::hosts(3);
    for (offer, mem) in world.offers.iter_mut().zip([2, 3, 2]) {
        offer.mem = mem * GIB / 2;
    }
    let seated = [seat(0, 0, true, 3, ""), seat(1, 1, true, 1, ""), seat(2, 2, true, 1, "")];
    let lost = [0, 1, 2].map(|shard| Lost { member: 3 + shard, shard, master: false });
    assert_eq!(world.reseat(&lost, &seated, shape(3, 1)), (vec![(3, 1), (4, 3), (5, 2)], vec![]));
}

#[test]
fn addresses_of_the_seated_and_of_the_placed_are_not_given_again() {
    let mut world = Fixture::hosts(1);
    world.offers[0].ports = vec![(20_000, 20_003)];
    let bus_port = Some(20_003);
    world.placed =
        vec![Placed { member: 7, address: Address::new(ip(1), 20_002), rack: None, zone: None, bus_port }];
    let seated = [seat(1, 1, true, 1, "")];
    let lost = [Lost { member: 3, shard: 0, master: false }];
    assert_eq!(world.reseat(&lost, &seated, shape(3, 1)).1, ["ports taken or in quarantine 1 agent"]);
    world.placed.clear();
    assert_eq!(world.reseat(&lost, &seated, shape(3, 1)).0, [(3, 1)]);
}
