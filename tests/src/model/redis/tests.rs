//! The model by itself: a quiet world is quiet, the same calls give the same world, and hazards that scripts on real
//! processes cannot bring about (networks that are cut, full disks).

use std::{net::IpAddr, time::Duration};

use overlord_api::Address;
use overlord_engines::cluster::{NodeId, SeedNode, SlotSet, key_slot, seed_nodes_conf, slot_ranges};
use proptest::prelude::*;

use super::{ClientId, DirId, LinkView, NoConnection, Outcome, Pid, Redises};

const PORT: u16 = 20_000;

struct Six {
    redises: Redises,
    now: Duration,
    pids: Vec<Pid>,
}

fn ip(n: usize) -> IpAddr {
    [127, 0, 1, n as u8 + 1].into()
}

fn dir(n: usize) -> DirId {
    DirId(format!("n{n}"))
}

fn id(n: usize) -> NodeId {
    NodeId::derive("six", n as u32, 0)
}

fn conf(n: usize) -> String {
    format!(
        "bind {}\nport {PORT}\ncluster-port 30000\ncluster-enabled yes\ncluster-node-timeout 1000\nsave \"\"\n\
         repl-diskless-sync-delay 0\nrdb-del-sync-files yes\n",
        ip(n)
    )
}

/// The slots of a cluster of three masters with a replica each.
fn seeds() -> Vec<SeedNode> {
    let seed = |n: usize| SeedNode {
        id: id(n),
        address: Address::new(ip(n), PORT),
        bus_port: Some(30_000),
        master: (n >= 3).then(|| id(n - 3)),
        slots: slot_ranges(3).get(n).cloned().map_or_else(SlotSet::new, Into::into),
        epoch: n as u64 + 1,
    };
    (0..6).map(seed).collect()
}

impl Six {
    fn new(seed: u64) -> Self {
        let mut redises = Redises::new(seed);
        for n in 0..6 {
            redises.files(&dir(n)).nodes_conf = Some(seed_nodes_conf(&seeds(), &id(n)).unwrap());
        }
        let now = Duration::from_secs(100);
        let pids = (0..6).map(|n| redises.start(now, &dir(n), &conf(n)).unwrap()).collect();
        let mut six = Self { redises, now, pids };
        six.pass(10);
        six
    }

    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        self.redises.advance(self.now);
    }

    fn ask(&mut self, n: usize, command: &str) -> String {
        let client = self.redises.connect(self.now, Address::new(ip(n), PORT)).unwrap();
        let words: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
        let outcome = self.redises.command(self.now, client, &words);
        self.redises.disconnect(self.now, client);
        outcome.text()
    }

    fn link(&self, n: usize) -> LinkView {
        self.redises.process(self.pids[n]).unwrap().link
    }

    fn is_master(&self, n: usize) -> bool {
        self.redises.process(self.pids[n]).and_then(|process| process.node).is_some_and(|node| node.is_master)
    }

    /// A key of the first shard.
    fn key() -> String {
        let tag = (0..u32::MAX).find(|tag| key_slot(tag.to_string().as_bytes()) <= 5460).unwrap();
        format!("{{{tag}}}k")
    }

    fn cut(&mut self, sides: [&[usize]; 2], cut: bool) {
        for (a, b) in sides[0].iter().flat_map(|a| sides[1].iter().map(move |b| (*a, *b))) {
            self.redises.cut(self.now, ip(a), ip(b), cut);
        }
    }
}

#[test]
fn a_quiet_world_has_no_events() {
    let mut six = Six::new(1);
    six.pass(100);
    assert_eq!(six.redises.next_event(), None);
    assert!((0..6).all(|n| six.redises.process(six.pids[n]).unwrap().node.unwrap().ok));
    assert!((3..6).all(|n| six.link(n) == LinkView::Up));
}

#[test]
fn a_master_cut_off_from_the_majority_is_replaced_and_follows_when_it_is_back() {
    let mut six = Six::new(2);
    let key = Six::key();
    assert_eq!(six.ask(0, &format!("SET {key} old")), "+OK");
    assert_eq!(six.ask(0, "WAIT 1 1000"), ":1");
    six.cut([&[0], &[1, 2, 3, 4, 5]], true);
    // Until it notices, it takes writes that nobody else will ever have.
    assert_eq!(six.ask(0, &format!("SET {key} lost")), "+OK");
    assert_eq!(six.ask(0, "WAIT 1 1000"), ":0");
    six.pass(6);
    assert!(six.is_master(3) && six.is_master(0));
    assert!(six.ask(0, &format!("SET {key} late")).starts_with("-CLUSTERDOWN"));
    assert_eq!(six.ask(3, &format!("GET {key}")), "old");
    six.cut([&[0], &[1, 2, 3, 4, 5]], false);
    six.pass(6);
    assert!(six.is_master(3) && !six.is_master(0));
    assert_eq!(six.link(0), LinkView::Up);
    six.pass(300);
    assert_eq!(six.redises.next_event(), None);
}

#[test]
fn a_replica_cut_off_from_its_master_only_is_not_elected() {
    let mut six = Six::new(3);
    six.cut([&[0], &[3]], true);
    six.pass(30);
    assert!(six.is_master(0) && !six.is_master(3));
    // The link is given up after the timeout of replication, and comes back with the network.
    six.pass(60);
    assert_eq!(six.link(3), LinkView::Down);
    six.cut([&[0], &[3]], false);
    six.pass(5);
    assert_eq!(six.link(3), LinkView::Up);
}

#[test]
fn a_machine_cut_off_from_all_answers_nobody() {
    let mut six = Six::new(4);
    let client = six.redises.connect(six.now, Address::new(ip(0), PORT)).unwrap();
    six.redises.isolate(six.now, ip(0), true);
    assert_eq!(six.redises.connect(six.now, Address::new(ip(0), PORT)), Err(NoConnection::Silent));
    assert_eq!(six.redises.command(six.now, client, &[b"PING"]), Outcome::Silent);
    six.pass(6);
    assert!(six.is_master(3));
}

#[test]
fn a_command_to_a_stopped_process_is_carried_out_when_it_goes_on() {
    let mut six = Six::new(5);
    let client = six.redises.connect(six.now, Address::new(ip(3), PORT)).unwrap();
    six.redises.pause(six.now, six.pids[3]);
    assert_eq!(six.redises.command(six.now, client, &[b"CLUSTER", b"FAILOVER"]), Outcome::Silent);
    six.redises.disconnect(six.now, client);
    six.redises.resume(six.now, six.pids[3]);
    six.pass(2);
    assert!(six.is_master(3) && !six.is_master(0));
}

#[test]
fn a_full_disk_ends_a_node_that_has_to_write_its_file() {
    let mut six = Six::new(6);
    six.redises.files(&dir(3)).full = true;
    six.pass(10);
    assert!(six.redises.process(six.pids[3]).is_some());
    six.redises.kill(six.now, six.pids[0], false);
    six.pass(10);
    assert!(six.redises.process(six.pids[3]).is_none());
    assert_eq!(
        six.redises.start(six.now, &dir(3), &conf(3)),
        Err("Fatal: can't update cluster config file.".to_owned())
    );
}

#[test]
fn forgotten_by_one_only_it_is_heard_of_again_after_a_minute() {
    let mut six = Six::new(7);
    assert_eq!(six.ask(0, &format!("CLUSTER FORGET {}", id(5))), "+OK");
    let knows = |six: &Six| six.redises.process(six.pids[0]).unwrap().node.unwrap().knows.contains(&id(5));
    six.pass(55);
    assert!(!knows(&six));
    six.pass(10);
    assert!(knows(&six));
}

#[test]
fn a_reused_address_joins_no_clusters_but_tells_of_its_epochs() {
    let mut six = Six::new(8);
    six.redises.kill(six.now, six.pids[5], false);
    let foreign = DirId("stranger".to_owned());
    let other = NodeId::derive("stranger", 0, 0);
    let line =
        format!("{other} :0@0 myself,master - 0 0 70 connected\nvars currentEpoch 70 lastVoteEpoch 0\n");
    six.redises.files(&foreign).nodes_conf = Some(line);
    let stranger = six.redises.start(six.now, &foreign, &conf(5)).unwrap();
    six.pass(120);
    assert_eq!(six.redises.process(stranger).unwrap().node.unwrap().knows, [other]);
    let node = six.redises.process(six.pids[0]).unwrap().node.unwrap();
    assert!(!node.knows.contains(&other) && node.current_epoch == 70);
    assert!(six.ask(0, "CLUSTER NODES").contains("noaddr"));
}

#[test]
fn the_process_of_a_client_that_was_killed_is_gone_for_it() {
    let mut six = Six::new(9);
    let client = six.redises.connect(six.now, Address::new(ip(0), PORT)).unwrap();
    let ClientId(number) = client;
    assert_eq!(six.ask(0, &format!("CLIENT KILL ID {number}")), ":1");
    assert_eq!(six.redises.command(six.now, client, &[b"PING"]), Outcome::Closed);
    assert!(!six.redises.is_connected(client));
    six.redises.kill(six.now, six.pids[0], false);
    assert_eq!(six.redises.connect(six.now, Address::new(ip(0), PORT)), Err(NoConnection::Refused));
}

/// What may happen to six nodes.
#[derive(Debug, Clone)]
enum Step {
    Kill(usize, bool),
    Start(usize),
    Pause(usize),
    Resume(usize),
    Cut(usize, usize, bool),
    Order(usize, u8),
    Write(usize),
    Pass(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let node = || 0..6_usize;
    let step = prop_oneof![
        (node(), any::<bool>()).prop_map(|(n, graceful)| Step::Kill(n, graceful)),
        node().prop_map(Step::Start),
        node().prop_map(Step::Pause),
        node().prop_map(Step::Resume),
        (node(), node(), any::<bool>()).prop_map(|(a, b, cut)| Step::Cut(a, b, cut)),
        (node(), 0..6_u8).prop_map(|(n, order)| Step::Order(n, order)),
        node().prop_map(Step::Write),
        (0..8_u64).prop_map(Step::Pass),
    ];
    proptest::collection::vec(step, 0..40)
}

fn play(six: &mut Six, step: &Step) {
    let now = six.now;
    let (key, of) = (Six::key(), |n: usize| Address::new(ip(n), PORT));
    match step {
        Step::Kill(n, graceful) => six.redises.kill(now, six.pids[*n], *graceful),
        Step::Start(n) => {
            if let Ok(pid) = six.redises.start(now, &dir(*n), &conf(*n)) {
                six.pids[*n] = pid;
            }
        }
        Step::Pause(n) => six.redises.pause(now, six.pids[*n]),
        Step::Resume(n) => six.redises.resume(now, six.pids[*n]),
        Step::Cut(a, b, cut) => six.redises.cut(now, ip(*a), ip(*b), *cut),
        Step::Order(n, order) => {
            let orders = ["FAILOVER", "FAILOVER FORCE", "FAILOVER TAKEOVER", "BUMPEPOCH", "NODES", "INFO"];
            if six.redises.connect(now, of(*n)).is_ok() {
                six.ask(*n, &format!("CLUSTER {}", orders[usize::from(*order)]));
            }
        }
        Step::Write(n) => {
            if six.redises.connect(now, of(*n)).is_ok() {
                six.ask(*n, &format!("SET {key} {}", now.as_millis()));
            }
        }
        Step::Pass(seconds) => six.pass(*seconds),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever happens, once all run and reach each other they agree, every slot is owned once, replicas follow,
    /// and nothing happens any more.
    #[test]
    fn after_any_faults_all_agree_and_are_quiet(seed in 0..1000_u64, steps in steps()) {
        let mut six = Six::new(seed);
        for step in &steps {
            play(&mut six, step);
        }
        for a in 0..6 {
            six.redises.resume(six.now, six.pids[a]);
            for b in 0..6 {
                six.redises.cut(six.now, ip(a), ip(b), false);
            }
        }
        six.pass(1);
        for n in 0..6 {
            play(&mut six, &Step::Start(n));
        }
        six.pass(400);
        prop_assert_eq!(six.redises.next_event(), None);
        let mut owned = SlotSet::new();
        for process in six.redises.processes() {
            let node = process.node.unwrap();
            prop_assert_eq!(node.knows.len(), 6);
            prop_assert!((&owned & node.slots).is_empty(), "{} has slots of another", process.dir);
            owned.extend(node.slots);
        }
    }

    /// The same calls give the same world.
    #[test]
    fn the_same_seed_gives_the_same_world(seed in 0..1000_u64, steps in steps()) {
        let run = || {
            let mut six = Six::new(seed);
            for step in &steps {
                play(&mut six, step);
            }
            six.pass(5);
            let told: Vec<String> = six.redises.processes().map(|process| format!("{process:?}")).collect();
            (six.redises.next_event(), told)
        };
        prop_assert_eq!(run(), run());
    }
}
