//! The files of redis cluster, held to the redis-server that is installed: it starts with every seed, forms
//! a cluster from seeds alone, and what it writes and says is read back.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a helper that fails fails its test"
)]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use overlord_api::{Address, Kind};
use overlord_engines::cluster::{
    Assessment, NodeId, NodesConf, Role, SeedNode, SlotSet, Topology, View, assess, patch_addresses,
    seed_nodes_conf, slot_ranges, successor,
};
use tempfile::TempDir;

use support::{Input, Server, free_port, installed, patiently};

const UID: &str = "0123456789abcdef0123456789abcdef";

fn input() -> Input {
    // Short, so that a killed master is replaced soon.
    Input::new(Kind::RedisCluster, &installed("redis-server")).with("cluster-node-timeout", "3000")
}

fn local(port: u16) -> Address {
    Address::new([127, 0, 0, 1].into(), port)
}

/// So many masters, then so many replicas of each, on free ports.
fn members(masters: u16, replicas: u16) -> Vec<SeedNode> {
    let id = |member: u16| NodeId::derive(UID, member.into(), 0);
    let shares = slot_ranges(masters).into_iter().map(|range| (None, SlotSet::from(range)));
    let copies = (0..masters * replicas).map(|copy| (Some(id(copy % masters)), SlotSet::new()));
    let numbered = (0..).zip(shares.chain(copies));
    let member = |(member, (master, slots))| SeedNode {
        id: id(member),
        address: local(free_port()),
        bus_port: Some(free_port()),
        master,
        slots,
        epoch: u64::from(member) + 1,
    };
    numbered.map(member).collect()
}

fn directory(nodes_conf: &str) -> TempDir {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("nodes.conf"), nodes_conf).unwrap();
    dir
}

fn start(member: &SeedNode, nodes_conf: &str) -> Result<Server, String> {
    Server::start_at(&input(), "", &directory(nodes_conf), (member.address.port, member.bus_port.unwrap()))
}

/// All of them, each with its seed and nothing else.
fn form(masters: u16, replicas: u16) -> (Vec<SeedNode>, Vec<Server>) {
    let mut said = String::new();
    // A port that was free may be taken before a server binds it.
    for _ in 0..3 {
        let members = members(masters, replicas);
        let seeds = members.iter().map(|member| seed_nodes_conf(&members, &member.id).unwrap());
        match members.iter().zip(seeds).map(|(member, seed)| start(member, &seed)).collect() {
            Ok(servers) => return (members, servers),
            Err(console) => said = console,
        }
    }
    panic!("the cluster did not start: {said}");
}

fn view(server: &Server) -> View {
    let answer = |section: &str| server.cli(&["CLUSTER", section]);
    View::parse(&answer("NODES"), &answer("INFO")).unwrap()
}

fn views(servers: &[Server]) -> Vec<View> {
    servers.iter().map(view).collect()
}

/// Serving everywhere, and every replica in sync.
fn is_ready(servers: &[Server]) -> bool {
    servers.iter().all(|server| {
        let replication = server.cli(&["INFO", "replication"]);
        server.cli(&["CLUSTER", "INFO"]).contains("cluster_state:ok")
            && (replication.contains("role:master") || replication.contains("master_link_status:up"))
    })
}

fn own_file(server: &Server) -> Vec<u8> {
    fs::read(server.dir().path().join("nodes.conf")).unwrap()
}

fn offsets(members: &[SeedNode], servers: &[Server]) -> BTreeMap<NodeId, u64> {
    let offset = |server: &Server| {
        let info = server.cli(&["INFO", "replication"]);
        info.lines().find_map(|line| line.trim().strip_prefix("slave_repl_offset:")?.parse().ok())
    };
    members.iter().zip(servers).filter_map(|(member, server)| Some((member.id, offset(server)?))).collect()
}

#[test]
fn redis_starts_with_the_seed_of_every_shape_as_the_node_it_names() {
    for (masters, replicas) in (3..=6).flat_map(|masters| (0..=2).map(move |replicas| (masters, replicas))) {
        let (mut said, mut started) = (String::new(), None);
        for _ in 0..3 {
            let members = members(masters, replicas);
            // The last: a replica, if there are any.
            let member = members.last().unwrap().clone();
            match start(&member, &seed_nodes_conf(&members, &member.id).unwrap()) {
                Ok(server) => {
                    started = Some((members, member, server));
                    break;
                }
                Err(console) => said = console,
            }
        }
        let Some((members, member, server)) = started else { panic!("{masters}x{replicas}: {said}") };
        let view = view(&server);
        assert_eq!(view.myself().id, member.id);
        let ids = |ids: &mut dyn Iterator<Item = NodeId>| ids.collect::<BTreeSet<_>>();
        assert_eq!(
            ids(&mut view.nodes().iter().map(|node| node.id)),
            ids(&mut members.iter().map(|member| member.id))
        );
        for member in &members {
            let node = view.nodes().iter().find(|node| node.id == member.id).unwrap();
            assert_eq!((node.master, &node.slots), (member.master, &member.slots));
            assert!(node.is_myself() || node.address.address() == Some(member.address));
            assert_eq!(node.address.bus_port(), member.bus_port);
        }
    }
}

#[test]
fn nodes_form_a_cluster_from_their_seeds_without_being_introduced() {
    let (members, servers) = form(3, 2);
    assert!(patiently(|| is_ready(&servers)), "{:#?}", views(&servers));
    let topology = Topology::agree(&views(&servers));
    assert!(topology.is_settled() && topology.majority_masters_reachable(), "{topology:#?}");
    let ours: BTreeSet<NodeId> = members.iter().map(|member| member.id).collect();
    assert!(topology.strangers(&ours).is_empty());
    for member in &members {
        let known = &topology.members()[&member.id];
        assert_eq!((known.master, known.known_by, known.answered), (member.master, 9, true));
        assert_eq!(known.address.address(), Some(member.address));
        if member.master.is_none() {
            let owner = &topology.owners()[&member.id];
            assert_eq!((owner.epoch, &owner.slots), (member.epoch, &member.slots));
        }
    }
    // The file is redis's own by now.
    for (member, server) in members.iter().zip(&servers) {
        match assess(Some(&own_file(server)), &member.id) {
            Assessment::Ours(conf) => {
                assert_eq!((conf.nodes().len(), &conf.myself().slots), (9, &member.slots));
                assert_eq!(NodesConf::parse(conf.to_string().as_bytes()), Ok(conf));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_failed_over_master_finds_its_successor_and_comes_back_at_a_new_address_with_its_own_file() {
    let (members, mut servers) = form(4, 1);
    assert!(patiently(|| is_ready(&servers)), "{:#?}", views(&servers));
    let before = NodesConf::parse(&own_file(&servers[0])).unwrap();
    let own = before.myself().clone();
    assert_eq!(servers[0].cli(&["SHUTDOWN", "NOSAVE"]), "");
    assert!(servers[0].ended());
    drop(servers.remove(0));
    let live = &members[1..];

    assert_eq!(successor(&views(&servers), &own.id, &own.slots, own.config_epoch), None);
    let best = Topology::agree(&views(&servers)).best_replica(&own.id, &offsets(live, &servers)).unwrap();
    assert_eq!(best, members[4].id, "its only replica");
    let at = live.iter().position(|member| member.id == best).unwrap();
    assert_eq!(servers[at].cli(&["CLUSTER", "FAILOVER", "FORCE"]), "OK");
    assert!(patiently(|| successor(&views(&servers), &own.id, &own.slots, own.config_epoch) == Some(best)));
    let owner = Topology::agree(&views(&servers)).owners()[&best].clone();
    assert!(owner.epoch > own.config_epoch && owner.slots == own.slots);

    let moved = SeedNode { address: local(free_port()), bus_port: Some(free_port()), ..members[0].clone() };
    let patched = patch_addresses(&before, &BTreeMap::from([(own.id, (moved.address, moved.bus_port))]));
    servers.push(start(&moved, &patched.to_string()).unwrap());
    assert!(
        patiently(|| {
            let topology = Topology::agree(&views(&servers));
            let back = &topology.members()[&own.id];
            let known = views(&servers)
                .iter()
                .all(|view| view.nodes().iter().any(|node| node.address.address() == Some(moved.address)));
            known && topology.is_settled() && back.role == Some(Role::Replica) && back.master == Some(best)
        }),
        "{:#?}",
        Topology::agree(&views(&servers))
    );
    assert!(patiently(|| is_ready(&servers)));
    let file = own_file(servers.last().unwrap());
    let Assessment::Ours(conf) = assess(Some(&file), &own.id) else { panic!("{file:?}") };
    assert_eq!(conf.myself().master, Some(best));
}

#[test]
fn what_is_called_damaged_keeps_redis_from_starting() {
    let members = members(3, 1);
    let (own, other) = (&members[0], members[1].id);
    let seed = seed_nodes_conf(&members, &own.id).unwrap();
    let of_other = format!("{other} {}@{} ", members[1].address, members[1].bus_port.unwrap());
    for damaged in [
        seed.replace("myself,", ""),
        seed.replace("myself,", "myself,witness,"),
        seed.replace(&of_other, &format!("{of_other}myself,")),
        seed.replace("16383", "16384"),
        seed.replace(" connected", ""),
        seed.replace(&own.id.to_string(), &own.id.to_string().to_uppercase()),
        format!("# by hand\n{seed}"),
    ] {
        assert_ne!(damaged, seed);
        assert!(matches!(assess(Some(damaged.as_bytes()), &own.id), Assessment::Damaged(_)), "{damaged}");
        // It may listen for a moment before it reads the file.
        if let Ok(mut server) = start(own, &damaged) {
            assert!(server.ended(), "{damaged}");
        }
    }
    // With a file cut between two lines it does start, and has forgotten who was on the others.
    let cut: String = seed.split_inclusive('\n').take(3).collect();
    assert!(matches!(assess(Some(cut.as_bytes()), &own.id), Assessment::Damaged(_)));
    let server = start(own, &cut).unwrap();
    assert_eq!(view(&server).nodes().len(), 3);
}
