//! A redis cluster kept by its executors alone, without a controller: whatever is killed, nothing that reached a
//! replica is lost, and the cluster serves again by itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod common;

use std::{collections::BTreeMap, fs, net::TcpListener, path::Path, time::Duration};

use common::{World, is_alive, signal};
use overlord_api::{Address, Kind, Persistence, Report, Resources, State};
use overlord_engines::{
    ConfInput, ServerConf,
    cluster::{
        Assessment, NodeId, NodesConf, SeedNode, SlotSet, assess, key_slot, seed_nodes_conf, slot_ranges,
    },
};
use overlord_executor::Meta;
use overlord_mesos::v1::TaskState;
use rustix::process::Signal;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    time::{sleep, timeout},
};

const UID: &str = "0123456789abcdef0123456789abcdef";
const BUS_PORT: u16 = 21_001;
const MASTERS: u16 = 3;

/// Nothing here takes a fifth of it.
const PATIENCE: Duration = Duration::from_secs(60);

/// Masters 0-2 and their replicas 3-5.
struct Cluster {
    worlds: Vec<World>,
    members: Vec<SeedNode>,
}

fn conf(address: Address, persistence: Persistence) -> String {
    let config = BTreeMap::from([("cluster-node-timeout".to_owned(), "2000".to_owned())]);
    let input = ConfInput {
        kind: Kind::RedisCluster,
        version: "7.0.15",
        address,
        bus_port: Some(BUS_PORT),
        resources: Resources { cpu_millis: 100, memory: 64 << 20, disk: 0 },
        config: &config,
        persistence,
    };
    ServerConf::render(&input).unwrap().as_str().to_owned()
}

impl Cluster {
    fn new(persistence: Persistence) -> Self {
        let worlds: Vec<World> = (0..MASTERS * 2)
            .map(|_| World::new(Kind::RedisCluster, |address| conf(address, persistence)))
            .collect();
        let id = |member: u16| NodeId::derive(UID, member.into(), 0);
        let shares = slot_ranges(MASTERS).into_iter().map(|range| (None, SlotSet::from(range)));
        let copies = (0..MASTERS).map(|copy| (Some(id(copy)), SlotSet::new()));
        let members = worlds.iter().zip((0..).zip(shares.chain(copies)));
        let members: Vec<SeedNode> = members
            .map(|(world, (member, (master, slots)))| SeedNode {
                id: id(member),
                address: world.address,
                bus_port: Some(BUS_PORT),
                master,
                slots,
                epoch: u64::from(member) + 1,
            })
            .collect();
        for (world, member) in worlds.iter().zip(0..) {
            world.change(|keys| {
                keys.info.member = member;
                keys.info.node_id = Some(members[member as usize].id.to_string());
                keys.info.bus_port = Some(BUS_PORT);
                keys.nodes_conf = Some(seed_nodes_conf(&members, &members[member as usize].id).unwrap());
            });
        }
        Self { worlds, members }
    }

    async fn formed(persistence: Persistence) -> Self {
        let mut cluster = Self::new(persistence);
        cluster.worlds.iter_mut().for_each(World::launch);
        for number in 0..cluster.worlds.len() {
            let report = cluster.worlds[number].running().await;
            assert_eq!((report.emptied, report.message.as_str()), (0, ""));
            let link = if number < 3 { None } else { Some("up") };
            assert_eq!(
                (report.role(), report.link.as_deref()),
                (if number < 3 { "master" } else { "slave" }, link)
            );
        }
        cluster
    }

    fn id(&self, member: usize) -> String {
        self.members[member].id.to_string()
    }

    /// One line for each command.
    async fn lines(&self, member: usize, commands: &[String]) -> Vec<String> {
        let stream = TcpStream::connect(self.worlds[member].address.socket()).await.unwrap();
        let mut stream = BufReader::new(stream);
        stream.get_mut().write_all(format!("{}\r\n", commands.join("\r\n")).as_bytes()).await.unwrap();
        let mut lines = Vec::new();
        for _ in commands {
            let mut line = String::new();
            timeout(PATIENCE, stream.read_line(&mut line)).await.unwrap().unwrap();
            lines.push(line.trim_end().to_owned());
        }
        lines
    }

    async fn line(&self, member: usize, command: &str) -> String {
        self.lines(member, &[command.to_owned()]).await.remove(0)
    }

    /// Writes keys to a member's shard, and waits until its replica has them.
    async fn write(&self, member: usize, shard: usize, prefix: &str) {
        let pairs = keys(&self.members[shard].slots, prefix).join(" 1 ");
        let said = self.lines(member, &[format!("MSET {pairs} 1"), "WAIT 1 20000".to_owned()]).await;
        assert_eq!(said, ["+OK", ":1"]);
    }

    async fn has(&self, member: usize, shard: usize, prefix: &str) -> bool {
        let keys = keys(&self.members[shard].slots, prefix);
        self.line(member, &format!("EXISTS {}", keys.join(" "))).await == format!(":{}", keys.len())
    }

    fn pid(&self, member: usize) -> u32 {
        let text = fs::read_to_string(self.worlds[member].dir().join("redis.pid")).unwrap();
        text.trim().parse().unwrap()
    }

    fn end(&self, members: &[usize]) {
        for member in members {
            signal(self.pid(*member), Signal::KILL);
        }
    }

    async fn restarting(&mut self, member: usize) -> Report {
        self.worlds[member].update("restarting", |_, report| report.state == State::Restarting).await
    }

    /// All serve, and agree.
    async fn is_well(&self) {
        let mut all = 0..self.worlds.len();
        let check = async {
            for member in all.by_ref() {
                loop {
                    let info = self.worlds[member].ask("CLUSTER INFO").await;
                    let replication = self.worlds[member].ask("INFO replication").await;
                    let linked =
                        replication.contains("role:master") || replication.contains("master_link_status:up");
                    if linked
                        && ["state:ok", "slots_ok:16384", "known_nodes:6"]
                            .iter()
                            .all(|part| info.contains(part))
                    {
                        break;
                    }
                    sleep(Duration::from_millis(50)).await;
                }
            }
        };
        assert!(timeout(PATIENCE, check).await.is_ok(), "the cluster is not well");
    }

    /// Takes away all executors, as if their agents were gone; their servers live.
    async fn abandon(&mut self) {
        for world in &mut self.worlds {
            world.abort_executor().await;
        }
    }
}

trait Told {
    fn role(&self) -> &str;
}

impl Told for Report {
    fn role(&self) -> &str {
        self.role.as_deref().unwrap_or("none")
    }
}

/// Fifty keys in one of these slots.
fn keys(slots: &SlotSet, prefix: &str) -> Vec<String> {
    let tag = (0..u32::MAX).find(|tag| slots.contains(key_slot(tag.to_string().as_bytes()))).unwrap();
    (0..50).map(|number| format!("{{{tag}}}{prefix}{number}")).collect()
}

fn aside(dir: &Path) -> usize {
    let names = fs::read_dir(dir).unwrap().flatten();
    names.filter(|entry| entry.file_name().to_string_lossy().starts_with("nodes.conf.damaged.")).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_replica_and_then_a_killed_master_lose_nothing() {
    let mut cluster = Cluster::formed(Persistence::None).await;
    let meta: Meta =
        toml::from_str(&fs::read_to_string(cluster.worlds[0].dir().join("meta.toml")).unwrap()).unwrap();
    assert_eq!((meta.node_id, meta.bus_port), (Some(cluster.id(0)), Some(BUS_PORT)));
    cluster.write(0, 0, "a").await;

    cluster.end(&[3]);
    cluster.restarting(3).await;
    let back = cluster.worlds[3].running().await;
    assert_eq!((back.role(), back.link.as_deref(), back.restarts), ("slave", Some("up"), 1));
    assert!(!fs::exists(cluster.worlds[3].dir().join("dump.rdb")).unwrap(), "no dump to come back with");

    cluster.write(0, 0, "b").await;
    cluster.end(&[0]);
    cluster.restarting(0).await;
    let waits = cluster.worlds[0].update("the reason", |_, report| report.message.contains("waits")).await;
    assert!(
        waits.message.contains(&format!("replica {} holds the data", cluster.id(3))),
        "{}",
        waits.message
    );
    let new = cluster.worlds[3].update("promoted", |_, report| report.role() == "master").await;
    assert!(
        new.epoch > Some(3) && new.slots.as_deref().is_some_and(|slots| slots.starts_with("5461:")),
        "{new:?}"
    );
    let old = cluster.worlds[0].running().await;
    assert_eq!((old.role(), old.link.as_deref(), old.emptied), ("slave", Some("up"), 0));
    assert!(!old.message.contains("replica"), "its role tells that: {}", old.message);
    cluster.is_well().await;
    assert!(cluster.has(3, 0, "a").await && cluster.has(3, 0, "b").await);

    // And back again: the promoted one is a master like others, and its file is its own.
    cluster.write(3, 0, "c").await;
    cluster.end(&[3]);
    cluster.restarting(3).await;
    let old = cluster.worlds[3].running().await;
    assert_eq!(old.role(), "slave");
    cluster.is_well().await;
    assert!(cluster.has(0, 0, "a").await && cluster.has(0, 0, "b").await && cluster.has(0, 0, "c").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_with_an_older_dump_does_not_come_back_with_it() {
    let mut cluster = Cluster::formed(Persistence::Rdb).await;
    cluster.write(1, 1, "a").await;
    assert_eq!(cluster.line(1, "SAVE").await, "+OK");
    cluster.write(1, 1, "b").await;
    cluster.end(&[1]);
    cluster.restarting(1).await;
    let old = cluster.worlds[1].running().await;
    assert_eq!((old.role(), old.emptied), ("slave", 0));
    cluster.is_well().await;
    assert!(cluster.has(4, 1, "a").await && cluster.has(4, 1, "b").await);

    // Both of a shard: what is on disk comes back.
    assert_eq!(cluster.line(4, "SAVE").await, "+OK");
    cluster.end(&[4, 1]);
    cluster.restarting(4).await;
    let back = cluster.worlds[4].running().await;
    assert_eq!((back.role(), back.emptied), ("master", 0));
    cluster.is_well().await;
    assert!(cluster.has(4, 1, "a").await && cluster.has(4, 1, "b").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_of_a_shard_without_persistence_come_back_empty_and_say_so() {
    let mut cluster = Cluster::formed(Persistence::None).await;
    cluster.write(2, 2, "a").await;
    cluster.write(0, 0, "a").await;
    cluster.end(&[2, 5]);
    cluster.restarting(2).await;
    let back = cluster.worlds[2].running().await;
    assert_eq!((back.role(), back.emptied), ("master", 1));
    assert!(back.message.contains("starts as a master without data"), "{}", back.message);
    let replica = cluster.worlds[5]
        .update("linked", |_, report| report.restarts == 1 && report.state == State::Running);
    assert_eq!(replica.await.emptied, 0);
    cluster.is_well().await;
    assert_eq!((cluster.line(2, "DBSIZE").await.as_str(), cluster.has(0, 0, "a").await), (":0", true));
    cluster.write(2, 2, "b").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_cluster_that_was_stopped_comes_back_by_itself() {
    let mut cluster = Cluster::formed(Persistence::Rdb).await;
    for shard in 0..3 {
        cluster.write(shard, shard, "a").await;
        assert_eq!(cluster.line(shard, "SAVE").await, "+OK");
    }
    let pids: Vec<u32> = (0..6).map(|member| cluster.pid(member)).collect();
    cluster.abandon().await;
    assert!(pids.iter().all(|pid| is_alive(*pid)));
    cluster.end(&[0, 1, 2, 3, 4, 5]);
    for world in &mut cluster.worlds {
        world.change(|keys| keys.info.launches = 1);
        world.launch();
    }
    for member in 0..6 {
        let report = cluster.worlds[member].running().await;
        assert_eq!((report.role(), report.emptied), (if member < 3 { "master" } else { "slave" }, 0));
    }
    cluster.is_well().await;
    for shard in 0..3 {
        assert!(cluster.has(shard, shard, "a").await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_damaged_and_foreign_files_are_made_again_from_what_the_peers_know() {
    let mut cluster = Cluster::formed(Persistence::None).await;
    cluster.write(0, 0, "a").await;
    let file = |cluster: &Cluster, member: usize| cluster.worlds[member].dir().join("nodes.conf");
    // redis may write its file at any time, so it is stopped while it is changed.
    let halt = |cluster: &Cluster, member: usize| signal(cluster.pid(member), Signal::STOP);
    // A replica without its file.
    halt(&cluster, 4);
    fs::remove_file(file(&cluster, 4)).unwrap();
    cluster.end(&[4]);
    let back = cluster.restarting(4).await;
    assert_eq!(back.restarts, 1);
    let back = cluster.worlds[4].running().await;
    assert_eq!((back.role(), back.message.contains("aside")), ("slave", false));
    // A master with half of its file.
    halt(&cluster, 0);
    let whole = fs::read_to_string(file(&cluster, 0)).unwrap();
    fs::write(file(&cluster, 0), &whole[..whole.len() / 2]).unwrap();
    cluster.end(&[0]);
    cluster.restarting(0).await;
    let back = cluster.worlds[0].running().await;
    assert_eq!((back.role(), back.emptied), ("slave", 0), "its replica had the data");
    assert!(back.message.contains("nodes.conf was damaged"), "{}", back.message);
    assert_eq!(aside(&cluster.worlds[0].dir()), 1);
    cluster.is_well().await;
    assert!(cluster.has(3, 0, "a").await);
    // The promoted one with a file of another: the seed in etcd says that it is a replica.
    halt(&cluster, 3);
    fs::write(file(&cluster, 3), seed_nodes_conf(&cluster.members, &cluster.members[1].id).unwrap()).unwrap();
    cluster.end(&[3]);
    cluster.restarting(3).await;
    let back = cluster.worlds[3].running().await;
    assert!(back.message.contains(&format!("was that of node {}", cluster.id(1))), "{}", back.message);
    assert_eq!((back.role(), back.emptied), ("slave", 0));
    cluster.is_well().await;
    assert!(cluster.has(0, 0, "a").await);
    for member in 0..6 {
        let text = fs::read(file(&cluster, member)).unwrap();
        let Assessment::Ours(conf) = assess(Some(&text), &cluster.members[member].id) else {
            panic!("{text:?}")
        };
        assert_eq!(NodesConf::parse(conf.to_string().as_bytes()), Ok(conf));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_replaced_meanwhile_stays_away() {
    let mut cluster = Cluster::formed(Persistence::None).await;
    cluster.end(&[0]);
    cluster.restarting(0).await;
    for member in [1, 2, 4, 5] {
        assert_eq!(cluster.line(member, &format!("CLUSTER FORGET {}", cluster.id(0))).await, "+OK");
    }
    let waits = cluster.worlds[0]
        .update("replaced", |_, report| report.message.starts_with("waits: replaced: 2 of "))
        .await;
    assert_eq!((waits.state, waits.pid), (State::Restarting, None));
    // It ends when it is told to, and its directory stays for whoever says so.
    cluster.worlds[0].agent.kill(common::TASK);
    cluster.worlds[0].update("killed", |state, _| state == TaskState::Killed).await;
    cluster.worlds[0].ended().await;
    assert!(cluster.worlds[0].dir().join("nodes.conf").exists());
}

#[tokio::test]
async fn what_a_node_cannot_start_with_is_named() {
    let mut cluster = Cluster::new(Persistence::None);
    let taken = TcpListener::bind((cluster.worlds[0].address.ip, BUS_PORT)).unwrap();
    cluster.worlds[0].launch();
    let message = cluster.worlds[0].failed().await;
    assert!(message.starts_with(&format!("port {BUS_PORT} is taken by pid ")), "{message}");
    drop(taken);

    cluster.worlds[1].change(|keys| keys.nodes_conf = None);
    cluster.worlds[1].launch();
    let message = cluster.worlds[1].failed().await;
    assert!(message.contains("etcd has no /overlord/clusters/orders/instances/"), "{message}");

    let other = seed_nodes_conf(&cluster.members, &cluster.members[5].id).unwrap();
    cluster.worlds[2].change(|keys| keys.nodes_conf = Some(other));
    cluster.worlds[2].launch();
    let message = cluster.worlds[2].failed().await;
    assert!(message.contains(&format!("it is that of node {}", cluster.id(5))), "{message}");

    // A relaunch with a seed that may be old does not start before it knows more of its replica.
    cluster.worlds[0].abort_executor().await;
    cluster.worlds[0].change(|keys| keys.info.launches = 1);
    cluster.worlds[0].launch();
    let waits = cluster.worlds[0].update("waits", |state, report| {
        state == TaskState::Starting && report.message.starts_with("waits: replica")
    });
    assert!(waits.await.message.contains("does not answer"));
}
