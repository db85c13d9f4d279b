//! What runs long and what breaks big: the writes that the loss of a full agent costs, and a thousand converged
//! clusters over a simulated week, which write nothing and remember nothing more from day to day.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::StreamExt as _;
use overlord_api::{ClusterName, Info, Phase, Status, keys, keys::Key};
use overlord_controllers::Controllers;
use overlord_reconcile::{Change, Clock, TokioClock};
use overlord_sandbox::Mesos;
use overlord_store::{Fetch, MemoryStore, Store as _, Txn};
use overlord_tests::{StubEngines, StubExecutors};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    control::settings,
    counting::{Counting, Counts},
    mesos, virtually,
};

/// Virtual time after which something hangs.
const LIMIT: Duration = Duration::from_secs(4 * 3600);

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A controller, its store, its Mesos.
struct World {
    mesos: Mesos,
    stubs: StubExecutors,
    store: MemoryStore,
    transport: Counting,
    _driving: JoinSet<()>,
    _running: JoinSet<()>,
}

impl World {
    async fn new(clusters: usize, members: usize, agents: u32) -> Self {
        let (mesos, stubs, driving) = mesos(agents);
        let transport = Counting::new(mesos.scheduler_transport());
        let clock: Arc<dyn Clock> = Arc::new(TokioClock::starting_at(jiff::Timestamp::UNIX_EPOCH));
        let store = MemoryStore::new(Arc::clone(&clock));
        for n in 0..clusters {
            let name = ClusterName::new(format!("c{n}")).expect("a name");
            let text = format!(
                "apiVersion: overlord/v1\nkind: Redis\nmetadata:\n  name: {name}\nspec:\n  version: \"7.0.15\"\n  \
                 shards: {members}\n  resources: {{cpu: \"0.01\", memory: 16Mi, disk: 16Mi}}\n"
            );
            store.commit(Txn::unfenced().put(keys::config(&name), text)).await.expect("stored");
        }
        let controllers = Controllers::new(
            settings(),
            Arc::new(store.clone()),
            Arc::new(transport.clone()),
            Arc::new(StubEngines),
            clock,
            1,
        );
        let mut running = JoinSet::new();
        running.spawn(async move {
            let ended = controllers.run(CancellationToken::new()).await;
            assert!(ended.is_ok(), "{ended:?}");
        });
        let world = Self { mesos, stubs, store, transport, _driving: driving, _running: running };
        world.all_ready(clusters).await;
        assert_eq!(world.stubs.started(), (clusters * members) as u64, "nothing is launched twice");
        // Until what ends by time alone has ended.
        tokio::time::sleep(Duration::from_secs(600)).await;
        world
    }

    async fn infos(&self) -> Vec<Info> {
        let listing = self.store.list(keys::CLUSTERS, Fetch::Values).await.expect("a listing");
        let infos = listing.entries.iter().filter(|entry| matches!(Key::parse(&entry.key), Key::Info(..)));
        infos.map(|entry| serde_json::from_slice(&entry.value).expect("an info")).collect()
    }

    /// Returns when so many clusters are Ready.
    async fn all_ready(&self, clusters: usize) {
        let look = async {
            loop {
                let listing = self.store.list(keys::CLUSTERS, Fetch::Values).await.expect("a listing");
                let statuses =
                    listing.entries.iter().filter(|e| matches!(Key::parse(&e.key), Key::Status(_)));
                let ready = statuses.filter(|entry| {
                    let status: Status = serde_json::from_slice(&entry.value).expect("a status");
                    status.phase == Phase::Ready
                });
                if ready.count() == clusters {
                    return;
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        tokio::time::timeout(LIMIT, look).await.expect("every cluster is Ready");
    }
}

#[test]
#[ignore = "takes minutes"]
fn the_loss_of_an_agent_with_200_instances_costs_two_writes_an_instance_at_most() {
    const CLUSTERS: usize = 10;
    virtually(async {
        let world = World::new(CLUSTERS, 100, 5).await;
        let mut by_agent: BTreeMap<String, usize> = BTreeMap::new();
        for info in world.infos().await {
            *by_agent.entry(info.agent_id).or_default() += 1;
        }
        let (lost, instances) = by_agent.into_iter().max_by_key(|(_, n)| *n).expect("agents");
        assert!(instances >= 200, "{instances} on the fullest agent");
        let agent = world.mesos.agents().into_iter().find(|agent| agent.id.as_str() == lost).expect("it");
        let from = world.store.get(keys::LEADER).await.expect("an answer").revision;
        let mut watch = world.store.watch(keys::ROOT, from).await.expect("a watch");
        let before = world.store.writes();
        assert!(world.mesos.agent_lost(&agent.name));
        let gone = async {
            while world.infos().await.iter().any(|info| info.agent_id == lost) {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        // Statuses are written as it goes: when each was, to the second.
        let mut written: BTreeMap<String, Vec<tokio::time::Instant>> = BTreeMap::new();
        let mut statuses: BTreeSet<i64> = BTreeSet::new();
        let follow = async {
            while let Some(Ok(batch)) = watch.next().await {
                for change in batch {
                    let Change::Put(entry) = change else { continue };
                    if let Key::Status(cluster) = Key::parse(&entry.key) {
                        statuses.insert(entry.mod_revision);
                        #[expect(clippy::disallowed_methods, reason = "the runtime's virtual time")]
                        written.entry(cluster.to_string()).or_default().push(tokio::time::Instant::now());
                    }
                }
            }
        };
        let over = async {
            gone.await;
            world.all_ready(CLUSTERS).await;
        };
        tokio::select! {
            biased;
            () = follow => panic!("the watch ended"),
            done = tokio::time::timeout(LIMIT, over) => done.expect("all members are replaced"),
        }
        let writes = world.store.writes() - before;
        let others = writes - statuses.len() as u64;
        println!(
            "{instances} instances lost: {writes} transactions, {} of them with a status",
            statuses.len()
        );
        assert!(others <= 2 * instances as u64, "{others} transactions for {instances} instances");
        for (cluster, times) in written {
            let gaps = times.windows(2).map(|pair| pair[1] - pair[0]);
            let least = gaps.min().unwrap_or(Duration::MAX);
            assert!(least >= Duration::from_secs(1), "two statuses of {cluster} within {least:?}");
        }
    });
}

/// Resident memory of this process in KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("procfs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a line");
    line.split_whitespace().nth(1).expect("a number").parse().expect("a number")
}

/// What happened in each day of so many, and what was resident after it.
fn days(clusters: usize, agents: u32, days: u32) -> Vec<(u64, Counts, u64)> {
    virtually(async {
        let world = World::new(clusters, 1, agents).await;
        let mut told = Vec::new();
        for day in 1..=days {
            let (writes, calls) = (world.store.writes(), world.transport.counts());
            tokio::time::sleep(DAY).await;
            let now = world.transport.counts();
            let mut new = now.clone();
            for (kind, count) in &mut new.calls {
                *count -= calls.call(kind);
            }
            new.bytes -= calls.bytes;
            told.push((world.store.writes() - writes, new, resident()));
            println!("day {day}: {} writes, {:?}", world.store.writes() - writes, told.last());
        }
        told
    })
}

#[test]
fn a_hundred_converged_clusters_write_nothing_all_day() {
    for (writes, counts, _) in days(100, 4, 1) {
        assert_eq!(writes, 0, "a converged system writes nothing");
        // Mesos is asked for what it knows every ten minutes.
        assert!(counts.calls.values().sum::<usize>() <= 24 * 6 + 10, "{counts:?}");
    }
}

/// Alone in its process, or other tests count as well: `cargo test -p overlord-tests --test size -- --ignored`.
#[test]
#[ignore = "takes minutes"]
fn a_thousand_converged_clusters_write_nothing_and_grow_not_at_all_in_a_week() {
    let week = days(1000, 40, 7);
    for (writes, ..) in &week {
        assert_eq!(*writes, 0, "a converged system writes nothing");
    }
    let (first, last) = (week[0].2, week[6].2);
    // The allocator's own ups and downs.
    assert!(last < first + first / 20, "{first} KiB after the first day, {last} KiB after the seventh");
}
