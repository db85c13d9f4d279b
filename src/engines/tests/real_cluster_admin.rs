//! The commands to a cluster's nodes, and the files that the start rule makes, held to the redis-server that is
//! installed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a helper that fails fails its test"
)]

mod support;

use std::{fs, time::Duration};

use overlord_api::{Address, Kind, Persistence};
use overlord_engines::{
    AdminError, ClusterAdmin,
    cluster::{
        Answer, LinkState, Next, Node, NodeId, NodesConf, Origin, Replication, Role, SeedNode, SlotSet,
        StartRule, Verdict, View, key_slot, seed_nodes_conf, slot_ranges,
    },
    fence,
};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

use support::{Input, Server, TIMEOUT, free_port, installed};

fn id(member: u32, incarnation: u32) -> NodeId {
    NodeId::derive("0123456789abcdef0123456789abcdef", member, incarnation)
}

fn input(persistence: Persistence) -> Input {
    // Long: nothing here is to happen of its own accord.
    let input = Input::new(Kind::RedisCluster, &installed("redis-server"));
    input.with("cluster-node-timeout", "60000").persistence(persistence)
}

fn node(member: u32, incarnation: u32, master: Option<NodeId>, slots: SlotSet) -> SeedNode {
    SeedNode {
        id: id(member, incarnation),
        address: Address::new([127, 0, 0, 1].into(), free_port()),
        bus_port: Some(free_port()),
        master,
        slots,
        epoch: u64::from(member) + 1,
    }
}

struct Cluster {
    input: Input,
    members: Vec<SeedNode>,
    servers: Vec<Option<Server>>,
}

impl Cluster {
    /// Masters 0-2 and replicas 3-5, all of them well.
    async fn formed(persistence: Persistence) -> Self {
        let input = input(persistence);
        let shares = slot_ranges(3).into_iter().zip(0..).map(|(range, n)| node(n, 0, None, range.into()));
        let copies = (3..6).map(|n| node(n, 0, Some(id(n - 3, 0)), SlotSet::new()));
        let members: Vec<SeedNode> = shares.chain(copies).collect();
        let mut cluster = Self { input, servers: members.iter().map(|_| None).collect(), members };
        for member in 0..6 {
            let seed = seed_nodes_conf(&cluster.members, &cluster.members[member].id).unwrap();
            cluster.start(member, &seed, &TempDir::new().unwrap());
        }
        cluster.well().await;
        cluster
    }

    /// Starts a member with a file, in a copy of a directory.
    fn start(&mut self, member: usize, nodes_conf: &str, files: &TempDir) {
        fs::write(files.path().join("nodes.conf"), nodes_conf).unwrap();
        let at = (self.members[member].address.port, self.members[member].bus_port.unwrap());
        self.servers[member] = Some(Server::start_at(&self.input, "", files, at).unwrap());
    }

    /// As kill -9 ends it; what is left of its directory.
    fn kill(&mut self, member: usize) -> TempDir {
        let server = self.servers[member].take().unwrap();
        let left = TempDir::new().unwrap();
        for file in fs::read_dir(server.dir().path()).unwrap().flatten() {
            fs::copy(file.path(), left.path().join(file.file_name())).unwrap();
        }
        drop(server);
        left
    }

    async fn admin(&self, member: usize) -> ClusterAdmin {
        ClusterAdmin::connect(self.members[member].address, TIMEOUT, None).await.unwrap()
    }

    async fn look(&self, member: usize) -> (View, Replication) {
        self.admin(member).await.look().await.unwrap()
    }

    fn cli(&self, member: usize, words: &[&str]) -> String {
        self.servers[member].as_ref().unwrap().cli(words)
    }

    /// Waits until every living member fits.
    async fn until(&self, what: &str, fits: impl Fn(usize, &View, &Replication) -> bool) {
        let all = async {
            for member in (0..self.servers.len()).filter(|member| self.servers[*member].is_some()) {
                loop {
                    let mut admin = self.admin(member).await;
                    if admin.look().await.is_ok_and(|(view, replication)| fits(member, &view, &replication)) {
                        break;
                    }
                    sleep(Duration::from_millis(20)).await;
                }
            }
        };
        assert!(timeout(TIMEOUT, all).await.is_ok(), "{what}: it never came");
    }

    async fn well(&self) {
        self.until("well", |_, view, replication| {
            let linked = view.myself().role() == Some(Role::Master) || replication.link_up;
            view.info().ok && view.info().slots_ok == 16_384 && linked
        })
        .await;
    }

    /// What the rule says for a dead master without an append-only file, by what it left.
    async fn verdict(&self, left: &TempDir) -> Verdict {
        let conf = NodesConf::parse(&fs::read(left.path().join("nodes.conf")).unwrap()).unwrap();
        let own_data = left.path().join("dump.rdb").exists();
        let mut rule = StartRule::new(conf, Origin::Redis, false, own_data, 0);
        loop {
            let who = match rule.proceed() {
                Next::Done(verdict) => return verdict,
                Next::Ask(who) => who,
            };
            for (id, address) in who {
                let answer = match ClusterAdmin::connect(address, TIMEOUT, None).await {
                    Ok(mut admin) => Answer::Told(Box::new(admin.look().await.unwrap())),
                    Err(_) => Answer::Silent,
                };
                rule.hear(id, answer);
            }
        }
    }

    /// Sets a key of the first shard on its master, whichever that is, and waits for its replica.
    fn set(&self, member: usize, name: &str) {
        let key = key(&self.members[0].slots, name);
        let said = self.servers[member]
            .as_ref()
            .unwrap()
            .cli_script(&[format!("SET {key} 1"), "WAIT 1 10000".to_owned()]);
        assert_eq!(said, ["OK", "1"]);
    }

    fn has(&self, member: usize, name: &str) -> bool {
        self.cli(member, &["EXISTS", &key(&self.members[0].slots, name)]) == "1"
    }
}

/// A key in one of these slots.
fn key(slots: &SlotSet, name: &str) -> String {
    let tag = (0..u32::MAX).find(|tag| slots.contains(key_slot(tag.to_string().as_bytes()))).unwrap();
    format!("{{{tag}}}{name}")
}

#[tokio::test]
async fn a_look_tells_place_and_replication() {
    let cluster = Cluster::formed(Persistence::None).await;
    let (view, master) = cluster.look(0).await;
    assert_eq!((view.myself().id, view.nodes().len(), view.info().size), (id(0, 0), 6, 3));
    assert!(!master.is_replica && master.connected_replicas == 1 && master.syncs_served == 1);
    let (view, replica) = cluster.look(3).await;
    assert_eq!(view.myself().master, Some(id(0, 0)));
    assert!(replica.is_replica && replica.link_up && replica.linked_in_this_life() && replica.holds_data());
    assert!(replica.link_down_seconds.is_none() && !replica.syncing && !replica.loading);
    cluster.set(0, "a");
    let mut admin = cluster.admin(3).await;
    assert_eq!((admin.keys().await.unwrap(), admin.view().await.unwrap().nodes().len()), (1, 6));
    let offset = admin.replication().await.unwrap().offset;
    assert!(offset > 0 && offset <= cluster.look(0).await.1.offset);
}

#[tokio::test]
async fn data_that_reached_a_replica_survives_its_master_with_and_without_a_dump() {
    for persistence in [Persistence::None, Persistence::Rdb] {
        let mut cluster = Cluster::formed(persistence).await;
        cluster.set(0, "a");
        if persistence == Persistence::Rdb {
            assert_eq!(cluster.cli(0, &["SAVE"]), "OK");
        }
        cluster.set(0, "b");
        let left = cluster.kill(0);
        let waits = cluster.verdict(&left).await;
        assert!(matches!(&waits, Verdict::Wait(why) if why.contains("holds the data")), "{waits:?}");
        // Its link is down, and has been up: it holds the data. It is told to take over at once.
        cluster.until("down", |member, _, replication| member != 3 || !replication.link_up).await;
        assert!(cluster.look(3).await.1.holds_data());
        cluster.admin(3).await.failover(true).await.unwrap();
        cluster
            .until("agreed", |_, view, _| {
                view.nodes().iter().any(|node| node.id == id(3, 0) && !node.slots.is_empty())
            })
            .await;
        let back = cluster.verdict(&left).await;
        let Verdict::Start { conf: Some(conf), successor: Some(successor), emptied: false } = back else {
            panic!("{back:?}")
        };
        assert_eq!(successor, id(3, 0));
        cluster.start(0, &conf.to_string(), &left);
        cluster.well().await;
        let (view, _) = cluster.look(0).await;
        assert_eq!((view.myself().role(), view.myself().master), (Some(Role::Replica), Some(id(3, 0))));
        for member in [0, 3] {
            assert_eq!(cluster.admin(member).await.keys().await.unwrap(), 2, "{persistence:?} {member}");
        }
        assert!(cluster.has(3, "a") && cluster.has(3, "b"));
        // A vote needs the voter's own link to the candidate: without it, it is given and never arrives.
        let linked =
            |node: &Node| node.id != id(0, 0) || node.is_myself() || node.link == LinkState::Connected;
        cluster.until("linked", |_, view, _| view.nodes().iter().all(linked)).await;
        // In agreement the roles go home again; the old owner holds the data before its link is up, too.
        cluster.admin(0).await.failover(false).await.unwrap();
        cluster
            .until("home", |member, view, _| member != 0 || view.myself().role() == Some(Role::Master))
            .await;
        cluster
            .until("demoted", |member, view, _| member != 3 || view.myself().role() == Some(Role::Replica))
            .await;
        assert!(cluster.look(3).await.1.holds_data());
        cluster.well().await;
    }
}

#[tokio::test]
async fn a_restarted_replica_holds_nothing_and_its_master_starts_with_its_own() {
    let mut cluster = Cluster::formed(Persistence::None).await;
    cluster.set(0, "a");
    let (master, replica) = (cluster.kill(0), cluster.kill(3));
    let waits = cluster.verdict(&master).await;
    assert!(matches!(&waits, Verdict::Wait(why) if why.contains("does not answer")), "{waits:?}");
    let file = fs::read_to_string(replica.path().join("nodes.conf")).unwrap();
    cluster.start(3, &file, &replica);
    let (_, restarted) = cluster.look(3).await;
    assert!(!restarted.linked_in_this_life() && !restarted.holds_data(), "{restarted:?}");
    let start = cluster.verdict(&master).await;
    assert_eq!(start, Verdict::Start { conf: None, successor: None, emptied: true });
    let file = fs::read_to_string(master.path().join("nodes.conf")).unwrap();
    cluster.start(0, &file, &master);
    cluster.well().await;
    assert_eq!(cluster.admin(3).await.keys().await.unwrap(), 0);
}

#[tokio::test]
async fn a_replacement_is_met_made_a_replica_and_the_dead_one_forgotten() {
    let mut cluster = Cluster::formed(Persistence::None).await;
    cluster.set(0, "a");
    cluster.kill(3);
    // It knows nobody but itself, as one whose seed is of no use.
    let new = node(3, 1, None, SlotSet::new());
    let seed = seed_nodes_conf(std::slice::from_ref(&new), &new.id).unwrap();
    let dead = std::mem::replace(&mut cluster.members[3], new);
    cluster.start(3, &seed, &TempDir::new().unwrap());
    let (address, bus_port) = (cluster.members[3].address, cluster.members[3].bus_port.unwrap());
    cluster.admin(1).await.meet(address, bus_port).await.unwrap();
    cluster.until("met", |_, view, _| view.nodes().iter().any(|node| node.id == id(3, 1))).await;
    cluster.until("met back", |member, view, _| member != 3 || view.nodes().len() >= 6).await;
    let mut admin = cluster.admin(3).await;
    let unknown = admin.replicate(&id(9, 9)).await;
    assert!(matches!(unknown, Err(AdminError::Refused { .. })), "{unknown:?}");
    admin.replicate(&id(0, 0)).await.unwrap();
    admin.replicate(&id(0, 0)).await.unwrap();
    for member in 0..6 {
        let mut admin = cluster.admin(member).await;
        admin.forget(&dead.id).await.unwrap();
        admin.forget(&dead.id).await.unwrap();
    }
    cluster.until("forgotten", |_, view, _| view.nodes().iter().all(|node| node.id != dead.id)).await;
    cluster.well().await;
    assert_eq!(cluster.admin(3).await.keys().await.unwrap(), 1);
    let own = cluster.admin(3).await.forget(&id(0, 0)).await;
    assert!(matches!(own, Err(AdminError::Refused { .. })), "its own master: {own:?}");
    let master = cluster.admin(0).await.failover(true).await;
    assert!(matches!(master, Err(AdminError::Refused { .. })), "{master:?}");
}

#[tokio::test]
async fn a_later_leader_ends_the_connections_of_the_one_before_it() {
    let server = Server::start(&input(Persistence::None));
    let address = server.address();
    let connect = |epoch| async move {
        let name = fence::client_name(epoch);
        ClusterAdmin::connect(address, TIMEOUT, Some(&name)).await
    };
    let mut first = connect(3).await.unwrap();
    first.view().await.unwrap();
    let mut second = connect(5).await.unwrap();
    second.view().await.unwrap();
    assert!(matches!(first.view().await, Err(AdminError::Broken { .. })));
    assert!(
        matches!(first.failover(true).await, Err(AdminError::Closed { .. })),
        "never opened again by itself"
    );
    assert!(matches!(connect(4).await, Err(AdminError::Fenced { ours: 4, theirs: 5, .. })));
}

#[tokio::test]
async fn what_is_no_node_of_a_cluster_is_told_apart() {
    let server = Server::start(&Input::new(Kind::Redis, &installed("redis-server")));
    let mut admin = ClusterAdmin::connect(server.address(), TIMEOUT, None).await.unwrap();
    assert!(matches!(admin.view().await, Err(AdminError::Refused { .. })));
    assert!(!admin.replication().await.unwrap().is_replica);
}
