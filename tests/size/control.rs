//! The whole controller in front: what clusters of a hundred members cost in transactions, calls and events.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::StreamExt as _;
use overlord_api::{ClusterName, Engine, Phase, Status, keys, keys::Key};
use overlord_controllers::{Binary, Catalogue, Controllers, Executor, Program, Settings};
use overlord_reconcile::{Change, Clock, TokioClock};
use overlord_store::{MemoryStore, Store as _, Txn};
use overlord_tests::StubEngines;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    counting::{Counting, Counts},
    mesos, virtually,
};

const MEMBERS: usize = 100;

/// Virtual time after which something hangs.
const LIMIT: Duration = Duration::from_secs(3600);

pub(crate) fn settings() -> Settings {
    let versions = BTreeMap::from([("7.0.15".to_owned(), Binary::Preinstalled)]);
    let catalogue = Catalogue { engines: [(Engine::Redis, versions)].into() };
    let executor = Executor {
        program: Program::Installed("/usr/bin/overlord".to_owned()),
        etcd: vec!["http://10.0.0.100:2379".to_owned()],
        etcd_credentials: None,
        environment: BTreeMap::new(),
    };
    Settings::new("size", executor, catalogue)
}

fn manifest(name: &str) -> String {
    format!(
        "apiVersion: overlord/v1\nkind: Redis\nmetadata:\n  name: {name}\nspec:\n  version: \"7.0.15\"\n  \
         shards: {MEMBERS}\n  resources: {{cpu: \"0.1\", memory: 64Mi, disk: 64Mi}}\n"
    )
}

/// What it took until every cluster was Ready: transactions that wrote, and what went to and from Mesos.
fn ready(clusters: usize, agents: u32) -> (u64, Counts) {
    virtually(async {
        let (mesos, stubs, _driving) = mesos(agents);
        let transport = Counting::new(mesos.scheduler_transport());
        let clock: Arc<dyn Clock> = Arc::new(TokioClock::starting_at(jiff::Timestamp::UNIX_EPOCH));
        let store = MemoryStore::new(Arc::clone(&clock));
        for n in 0..clusters {
            let name = ClusterName::new(format!("c{n}")).expect("a name");
            let text = manifest(name.as_str());
            store.commit(Txn::unfenced().put(keys::config(&name), text)).await.expect("stored");
        }
        let declared = store.writes();
        let mut watch = store.watch(keys::ROOT, 0).await.expect("a watch");
        let controllers = Controllers::new(
            settings(),
            Arc::new(store.clone()),
            Arc::new(transport.clone()),
            Arc::new(StubEngines),
            clock,
            1,
        );
        let mut running = JoinSet::new();
        running.spawn(async move { controllers.run(CancellationToken::new()).await });
        let mut ready: BTreeSet<String> = BTreeSet::new();
        let follow = async {
            while ready.len() < clusters {
                for change in watch.next().await.expect("a watch").expect("changes") {
                    let Change::Put(entry) = change else { continue };
                    let Key::Status(name) = Key::parse(&entry.key) else { continue };
                    let status: Status = serde_json::from_slice(&entry.value).expect("a status");
                    if status.phase == Phase::Ready {
                        ready.insert(name.to_string());
                    }
                }
            }
        };
        tokio::time::timeout(LIMIT, follow).await.expect("every cluster becomes Ready");
        assert_eq!(stubs.started(), (clusters * MEMBERS) as u64, "nothing is launched twice");
        (store.writes() - declared, transport.counts())
    })
}

#[test]
fn twice_the_clusters_on_twice_the_agents_take_twice_the_writes_and_calls() {
    let (few, many) = (5, 10);
    let [(few_writes, few_counts), (many_writes, many_counts)] =
        [few, many].map(|clusters| ready(clusters, clusters as u32 * 20));
    for (clusters, writes, counts) in [(few, few_writes, &few_counts), (many, many_writes, &many_counts)] {
        let members = clusters * MEMBERS;
        // Intents and reports go in batches; a transaction for each would be thrice as many as members.
        assert!(writes * 2 < members as u64, "{writes} transactions for {members} members");
        assert_eq!(counts.call("ACKNOWLEDGE"), 2 * members, "{counts:?}");
        // Each pass of a cluster uses each agent once at most.
        assert!(counts.call("ACCEPT") <= members, "{counts:?}");
        // Whoever waits asks for offers again: not more often than there are clusters that do.
        assert!(counts.event("OFFERS") <= 3 * clusters + 10, "{counts:?}");
        assert!(counts.call("DECLINE") <= counts.event("OFFERS") + 1, "{counts:?}");
    }
    assert!(many_writes <= 3 * few_writes, "{few_writes} transactions have become {many_writes}");
    assert!(many_counts.bytes <= 3 * few_counts.bytes, "{few_counts:?} has become {many_counts:?}");
}
