//! A whole controller with its store and its Mesos in memory, and an eye on the store: what is waited for is seen
//! in the changes, so that waiting costs nothing while nothing happens.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::{FutureExt as _, StreamExt as _};
use overlord_api::{Address, ClusterName, Engine, Info, Phase, Status, keys, keys::Key};
use overlord_controllers::{Binary, Catalogue, Controllers, Executor, Program, Settings};
use overlord_reconcile::{Change, Clock, Revision, TokioClock};
use overlord_sandbox::Mesos;
use overlord_store::{Changes, Fetch, MemoryStore, Store as _, Txn};
use overlord_tests::{StubEngines, StubExecutors};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::subscriber::DefaultGuard;

use crate::{
    counting::{Counting, Passes},
    mesos,
};

/// Virtual time after which something hangs.
const LIMIT: Duration = Duration::from_secs(4 * 3600);

/// How many clusters of how many members, and what each member takes.
pub(crate) struct Declared {
    pub(crate) clusters: usize,
    pub(crate) members: usize,
    pub(crate) resources: &'static str,
}

/// A controller, its store, its Mesos.
pub(crate) struct World {
    pub(crate) mesos: Mesos,
    pub(crate) stubs: StubExecutors,
    pub(crate) store: MemoryStore,
    pub(crate) transport: Counting,
    pub(crate) eye: Eye,
    /// Of the loop, so far.
    pub(crate) passes: Passes,
    declared: Declared,
    _counting: DefaultGuard,
    _driving: JoinSet<()>,
    _running: JoinSet<()>,
}

fn settings() -> Settings {
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

impl World {
    /// Declares everything, then starts the controller.
    pub(crate) async fn new(declared: Declared, agents: u32) -> Self {
        let passes = Passes::default();
        let counting = tracing::subscriber::set_default(passes.clone());
        let (mesos, stubs, driving) = mesos(agents);
        let transport = Counting::new(mesos.scheduler_transport());
        let clock: Arc<dyn Clock> = Arc::new(TokioClock::starting_at(jiff::Timestamp::UNIX_EPOCH));
        let store = MemoryStore::new(Arc::clone(&clock));
        let Declared { clusters, members, resources } = declared;
        for n in 0..clusters {
            let name = ClusterName::new(format!("c{n}")).expect("a name");
            let text = format!(
                "apiVersion: overlord/v1\nkind: Redis\nmetadata:\n  name: {name}\nspec:\n  version: \"7.0.15\"\n  \
                 shards: {members}\n  resources: {{{resources}}}\n"
            );
            store.commit(Txn::unfenced().put(keys::config(&name), text)).await.expect("stored");
        }
        let eye = Eye::open(&store).await;
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
        Self {
            mesos,
            stubs,
            store,
            transport,
            eye,
            passes,
            declared,
            _counting: counting,
            _driving: driving,
            _running: running,
        }
    }

    /// Returns when every cluster is Ready.
    pub(crate) async fn ready(&mut self) {
        let clusters = self.declared.clusters;
        self.eye.until(|eye| eye.ready.len() == clusters).await;
        let members = clusters * self.declared.members;
        assert_eq!(self.stubs.started(), members as u64, "nothing is launched twice");
    }

    /// Returns when every cluster is Ready, and what ends by time alone has ended.
    pub(crate) async fn quiet(&mut self) {
        self.ready().await;
        tokio::time::sleep(Duration::from_secs(1200)).await;
        self.eye.look();
    }
}

/// What the store holds, kept by its changes.
pub(crate) struct Eye {
    changes: Changes,
    /// Clusters whose status says Ready.
    pub(crate) ready: BTreeSet<ClusterName>,
    /// By instance, the agent that it is on.
    pub(crate) agents: BTreeMap<(ClusterName, Address), String>,
    /// By cluster, when its status was written.
    pub(crate) told: BTreeMap<ClusterName, Vec<tokio::time::Instant>>,
    /// By kind of key, how often one was put or deleted.
    pub(crate) operations: BTreeMap<&'static str, usize>,
    /// By the kinds of keys that they touched, the transactions.
    pub(crate) transactions: BTreeMap<BTreeSet<&'static str>, BTreeSet<Revision>>,
}

impl Eye {
    async fn open(store: &MemoryStore) -> Self {
        let from = store.list(keys::ROOT, Fetch::KeysOnly).await.expect("a listing").revision;
        let changes = store.watch(keys::ROOT, from).await.expect("a watch");
        Self {
            changes,
            ready: BTreeSet::new(),
            agents: BTreeMap::new(),
            told: BTreeMap::new(),
            operations: BTreeMap::new(),
            transactions: BTreeMap::new(),
        }
    }

    /// Waits for a change after which `is_so`.
    pub(crate) async fn until(&mut self, is_so: impl Fn(&Self) -> bool) {
        let waited = async {
            while !is_so(self) {
                let batch = self.changes.next().await.expect("a watch").expect("changes");
                self.take(&batch);
            }
        };
        tokio::time::timeout(LIMIT, waited).await.expect("it comes to that");
    }

    /// Takes what has changed until now.
    pub(crate) fn look(&mut self) {
        while let Some(batch) = self.changes.next().now_or_never() {
            self.take(&batch.expect("a watch").expect("changes"));
        }
    }

    /// From here on is counted.
    pub(crate) fn count_anew(&mut self) {
        self.look();
        self.told.clear();
        self.operations.clear();
        self.transactions.clear();
    }

    /// The changes of one transaction.
    fn take(&mut self, batch: &[Change]) {
        let mut kinds = BTreeSet::new();
        let mut at = 0;
        for change in batch {
            let (key, value) = match change {
                Change::Put(entry) => {
                    at = entry.mod_revision;
                    (&entry.key, Some(&entry.value))
                }
                Change::Delete { key, revision } => {
                    at = *revision;
                    (key, None)
                }
            };
            let key = Key::parse(key);
            let kind = name(&key);
            kinds.insert(kind);
            *self.operations.entry(kind).or_default() += 1;
            match (key, value) {
                (Key::Status(cluster), Some(value)) => {
                    let status: Status = serde_json::from_slice(value).expect("a status");
                    if status.phase == Phase::Ready {
                        self.ready.insert(cluster.clone());
                    } else {
                        self.ready.remove(&cluster);
                    }
                    #[expect(clippy::disallowed_methods, reason = "the runtime's virtual time")]
                    self.told.entry(cluster).or_default().push(tokio::time::Instant::now());
                }
                (Key::Info(cluster, address), Some(value)) => {
                    let info: Info = serde_json::from_slice(value).expect("an info");
                    self.agents.insert((cluster, address), info.agent_id);
                }
                (Key::Info(cluster, address), None) => {
                    self.agents.remove(&(cluster, address));
                }
                _ => {}
            }
        }
        self.transactions.entry(kinds).or_default().insert(at);
    }
}

fn name(key: &Key<'_>) -> &'static str {
    match key {
        Key::Config(_) => "config",
        Key::Record(_) => "record",
        Key::Status(_) => "status",
        Key::Endpoints(_) => "endpoints",
        Key::Revision(..) => "revision",
        Key::Info(..) => "info",
        Key::ServerConf(..) => "server.conf",
        Key::NodesConf(..) => "nodes.conf",
        Key::Task(_) | Key::TaskStatus(_) => "task",
        Key::Quarantine(_) => "quarantine",
        Key::Event(..) => "event",
        Key::Framework | Key::Leader | Key::Controller(_) => "controller",
        Key::Other => "other",
    }
}
