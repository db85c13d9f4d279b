//! From candidate to leader and back: wins the key, reads what is, subscribes, settles what is open,
//! reconciles; and stops all of it the moment the lease is in doubt.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use overlord_api::{ClusterName, Leader, keys};
use overlord_mesos::{SchedulerConfig, SchedulerEvent, SchedulerTransport, scheduler, v1::FrameworkId};
use overlord_reconcile::{Cache, Clock, Controller, Index, Informer, Metrics, Tasks};
use overlord_store::{
    Error as StoreError, Fence, Fetch, PrefixSource, Store,
    election::{Candidate, Leadership},
};
use prometheus_client::registry::Registry;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    Engines, Settings,
    cluster::ClusterReconciler,
    deaths::Deaths,
    events::Recorder,
    janitor,
    launcher::Launcher,
    ledger::{Ledger, TaskValue, Value, cluster_of, project_cluster, project_quarantine, project_task},
    maintenance::Maintenance,
    mesos_events::listen,
    reconciliation::Reconciliation,
    shared::{MesosLink, Shared, Subject, lock, seeded},
};

/// How long what runs may take to end when leadership ends.
const DRAIN: Duration = Duration::from_secs(5);

/// How long the first listing may take before the leadership is given back.
const FIRST_LISTING: Duration = Duration::from_secs(120);

/// After a term shorter than this the next one waits as long.
const SHORT_TERM: Duration = Duration::from_secs(5);

/// Put under `/overlord/framework`, it asks for a new id although something runs under another one.
pub(crate) const NEW_FRAMEWORK: &str = "new";

/// A controller that cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store refuses for good.
    #[error("store refuses: {0}")]
    Store(#[source] StoreError),
}

/// The long-lived service: campaigns, leads, and campaigns again.
pub struct Controllers {
    settings: Settings,
    store: Arc<dyn Store>,
    transport: Arc<dyn SchedulerTransport>,
    engines: Arc<dyn Engines>,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    seed: u64,
}

impl std::fmt::Debug for Controllers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Controllers").field("id", &self.settings.id).finish_non_exhaustive()
    }
}

impl Controllers {
    /// A controller that does nothing until it runs. `seed` is for uids and jitter.
    pub fn new(
        settings: Settings,
        store: Arc<dyn Store>,
        transport: Arc<dyn SchedulerTransport>,
        engines: Arc<dyn Engines>,
        clock: Arc<dyn Clock>,
        seed: u64,
    ) -> Self {
        Self { settings, store, transport, engines, clock, metrics: Metrics::default(), seed }
    }

    /// Registers the loop's metrics, under the names that controller-runtime gave them.
    pub fn register_metrics(&self, registry: &mut Registry) {
        self.metrics.register(registry);
    }

    /// Runs until `shutdown`; gives the leadership back then.
    pub async fn run(&self, shutdown: CancellationToken) -> Result<(), Error> {
        let me = Leader { id: self.settings.id.clone(), api: self.settings.api.clone() };
        let value = serde_json::to_vec(&me).unwrap_or_default();
        let candidate = Candidate::new(
            Arc::clone(&self.store),
            Arc::clone(&self.clock),
            keys::LEADER,
            value,
            self.settings.lease,
        );
        let mut terms: u64 = 0;
        while !shutdown.is_cancelled() {
            let leadership = match candidate.campaign(&shutdown).await {
                Ok(leadership) => leadership,
                Err(StoreError::Shutdown) => return Ok(()),
                Err(error) => return Err(Error::Store(error)),
            };
            tracing::info!(epoch = leadership.epoch(), "leading");
            terms += 1;
            let began = self.clock.monotonic();
            self.lead(&leadership, terms, &shutdown).await;
            tracing::info!(epoch = leadership.epoch(), "not leading any more");
            if let Err(error) = leadership.resign().await {
                tracing::warn!(%error, "leadership not given back; it ends with its lease");
            }
            if self.clock.monotonic().saturating_sub(began) < SHORT_TERM {
                // What ended it so soon is most likely still there.
                tokio::select! {
                    biased;
                    () = shutdown.cancelled() => {}
                    () = tokio::time::sleep(SHORT_TERM) => {}
                }
            }
        }
        Ok(())
    }

    /// One term, until the lease is in doubt or `shutdown`.
    async fn lead(&self, leadership: &Leadership, term: u64, shutdown: &CancellationToken) {
        let tasks = Tasks::child_of(shutdown);
        let over = tasks.token();
        let started = self.start(leadership.fence(), term, &tasks);
        tokio::select! {
            biased;
            () = leadership.lost() => tracing::warn!("the lease is lost"),
            () = over.cancelled() => {}
            panicked = tasks.panicked() => tracing::error!(%panicked, "a part of the controller panicked: giving the leadership back"),
            failed = started => match failed {
                // Runs as long as the term.
                Ok(never) => match never {},
                Err(error) => tracing::error!(%error, "the term ends"),
            }
        }
        if let Err(unfinished) = tasks.shutdown(DRAIN).await {
            tracing::warn!(%unfinished, "aborted");
        }
    }

    /// Starts every part, then pends; ends only with an error.
    async fn start(
        &self,
        fence: &Fence,
        term: u64,
        tasks: &Tasks,
    ) -> Result<std::convert::Infallible, StoreError> {
        let ledger = self.ledger(fence, tasks);
        let synced = async {
            ledger.config.synced().await;
            ledger.clusters.synced().await;
            ledger.tasks.synced().await;
            ledger.quarantine.synced().await;
        };
        if tokio::time::timeout(FIRST_LISTING, synced).await.is_err() {
            return Err(StoreError::Unavailable {
                endpoints: String::from("the store"),
                message: format!("the first listing took longer than {} s", FIRST_LISTING.as_secs()),
            });
        }
        let went_back = self.went_back(ledger.clusters.revision());
        let framework_id = self.framework_id(&ledger).await?;
        let mut config = SchedulerConfig::new(
            &self.settings.framework.user,
            &self.settings.framework.name,
            self.settings.framework.roles.clone(),
            self.settings.framework.failover_timeout,
        );
        config.framework.principal.clone_from(&self.settings.framework.principal);
        config.framework.webui_url = Some(self.settings.api.clone());
        config.framework_id = framework_id;
        let seed = self.seed.wrapping_add(term);
        let (mesos, driver, events) = scheduler(config, Arc::clone(&self.transport), seed);

        let controller = self.controller(&ledger);
        let trigger = controller.trigger();
        let clock = Arc::clone(&self.clock);
        let recorder = Recorder::new(Arc::clone(&self.store), fence.clone(), Arc::clone(&clock));
        recorder.load().await?;
        let launcher = Launcher::new(
            self.settings.framework.roles.clone(),
            mesos.clone(),
            Arc::clone(&clock),
            trigger.clone(),
        );
        let down = MesosLink::Down { since: clock.now(), reason: String::from("not subscribed yet") };
        let shared = Arc::new(Shared {
            settings: self.settings.clone(),
            ledger,
            clock,
            events: recorder,
            mesos,
            launcher,
            sync: Reconciliation::default(),
            maintenance: Maintenance::default(),
            deaths: Deaths::default(),
            told: Mutex::default(),
            engines: Arc::clone(&self.engines),
            rules: self.settings.catalogue.rules(),
            trigger,
            link: Mutex::new(down),
            went_back,
            memos: Mutex::default(),
            rng: Mutex::new(seeded(seed)),
        });
        spawn(&shared, tasks, driver, events, controller);
        std::future::pending().await
    }

    fn ledger(&self, fence: &Fence, tasks: &Tasks) -> Ledger {
        let source =
            |prefix: &str, fetch| Arc::new(PrefixSource::new(Arc::clone(&self.store), prefix, fetch));
        let clock = || Arc::clone(&self.clock);
        let config = Informer::new("config", source(keys::CONFIG, Fetch::KeysOnly), clock(), |_| ());
        let clusters =
            Informer::new("clusters", source(keys::CLUSTERS, Fetch::Values), clock(), project_cluster);
        let requests = Informer::new("task", source(keys::TASK, Fetch::Values), clock(), project_task);
        let quarantine =
            Informer::new("quarantine", source(keys::QUARANTINE, Fetch::Values), clock(), project_quarantine);
        let ledger = Ledger {
            store: Arc::clone(&self.store),
            fence: fence.clone(),
            config: config.cache(),
            clusters: clusters.cache(),
            tasks: requests.cache(),
            quarantine: quarantine.cache(),
            index: Arc::default(),
            requests: Arc::default(),
        };
        ledger.clusters.index(Arc::clone(&ledger.index) as Arc<dyn Index<Value>>);
        ledger.tasks.index(Arc::clone(&ledger.requests) as Arc<dyn Index<TaskValue>>);
        tasks.spawn("config informer", config.run(tasks.token()));
        tasks.spawn("clusters informer", clusters.run(tasks.token()));
        tasks.spawn("task informer", requests.run(tasks.token()));
        tasks.spawn("quarantine informer", quarantine.run(tasks.token()));
        ledger
    }

    fn controller(&self, ledger: &Ledger) -> Controller<Subject> {
        let config = |key: &str| {
            let name = key.strip_prefix(keys::CONFIG).unwrap_or(key);
            vec![ClusterName::new(name).map_or_else(|_| Subject::Stray(key.to_owned()), Subject::Cluster)]
        };
        let clusters = |key: &str| cluster_of(key).map(Subject::Cluster).into_iter().collect();
        let tasks = ledger.tasks.clone();
        let owners: Mutex<BTreeMap<String, ClusterName>> = Mutex::default();
        let requests = move |key: &str| subjects_of_task(&tasks, &owners, key);
        Controller::new("clusters", Arc::clone(&self.clock))
            .primary(&ledger.config, config)
            .primary(&ledger.clusters, clusters)
            .primary(&ledger.tasks, requests)
            .concurrency(self.settings.concurrency)
            .resync(self.settings.resync)
            .metrics(&self.metrics)
    }

    /// The framework id to subscribe with. What runs was launched under the id in the records: another one
    /// cannot speak of it, and would launch all of it again. So a lost or edited key is put right from them.
    async fn framework_id(&self, ledger: &Ledger) -> Result<Option<FrameworkId>, StoreError> {
        let listing = self.store.get(keys::FRAMEWORK).await?;
        let key =
            listing.entries.first().map(|entry| String::from_utf8_lossy(&entry.value).trim().to_owned());
        if key.as_deref() == Some(NEW_FRAMEWORK) {
            tracing::warn!("subscribing as a new framework, as a person asked for");
            return Ok(None);
        }
        let launched_by = launched_by(ledger);
        let id = match (key, launched_by.first()) {
            (Some(key), _) if launched_by.is_empty() || launched_by.contains(&key) => Some(key),
            (key, Some(known)) => {
                tracing::error!(
                    found = key.unwrap_or_default(),
                    known,
                    "/overlord/framework is not the id that launched what runs: using that one"
                );
                Some(known.clone())
            }
            (_, None) => None,
        };
        Ok(id.filter(|id| !id.is_empty()).map(FrameworkId::new))
    }

    /// Whether the store is older than this controller has seen it.
    fn went_back(&self, revision: i64) -> bool {
        let Some(file) = &self.settings.state_file else { return false };
        let highest = high_water(file);
        if highest.is_some_and(|highest| highest > revision) {
            tracing::error!(
                highest,
                revision,
                file = %file.display(),
                "etcd is older than before: no cluster is deleted because its config key is gone; remove the file to accept this etcd"
            );
            return true;
        }
        remember(file, revision);
        false
    }
}

/// Starts the parts of a term.
fn spawn(
    shared: &Arc<Shared>,
    tasks: &Tasks,
    driver: overlord_mesos::SchedulerDriver,
    events: mpsc::Receiver<SchedulerEvent>,
    controller: Controller<Subject>,
) {
    let token = tasks.token();
    let run = |shared: &Arc<Shared>| (Arc::clone(shared), token.clone());
    let (s, t) = run(shared);
    tasks.spawn("events", async move { s.events.run(t).await });
    let (s, t) = run(shared);
    tasks.spawn("offers", async move { s.launcher.run(t).await });
    let (s, t) = run(shared);
    tasks.spawn("maintenance", async move { s.maintenance.run(&s, t).await });
    let (s, t) = run(shared);
    tasks.spawn("reconciliation", async move { s.sync.run(&s.mesos, &*s.clock, t).await });
    let (s, t) = run(shared);
    tasks.spawn("janitor", async move { janitor::run(&s, t).await });
    let (s, t) = run(shared);
    let ending = tasks.token();
    tasks.spawn("mesos events", async move {
        if let Err(error) = listen(&s, events, t).await {
            tracing::error!(%error, "status updates cannot be stored: the term ends");
        }
        ending.cancel();
    });
    tasks.spawn("mesos", driver.run(token.clone()));
    let reconciler = Arc::new(ClusterReconciler { shared: Arc::clone(shared) });
    let t = token.clone();
    tasks.spawn("clusters", async move {
        let stopped = controller.run(reconciler, t).await;
        if !stopped.aborted.is_empty() {
            tracing::warn!(aborted = stopped.aborted.len(), "reconciles aborted");
        }
    });
}

/// The framework ids under which something runs.
fn launched_by(ledger: &Ledger) -> BTreeSet<String> {
    let clusters = ledger.known_clusters();
    let records = clusters.iter().filter(|cluster| !ledger.instances(cluster).0.is_empty());
    records.filter_map(|cluster| ledger.record(cluster).ok()??.value.framework).collect()
}

/// The highest store revision that was ever written down.
fn high_water(file: &Path) -> Option<i64> {
    std::fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// Writes the high-water mark, which never goes down; a failure costs the check, nothing else.
pub(crate) fn remember(file: &Path, revision: i64) {
    if high_water(file).is_some_and(|highest| highest >= revision) {
        return;
    }
    let fresh = file.with_extension("new");
    let written = std::fs::write(&fresh, revision.to_string()).and_then(|()| std::fs::rename(&fresh, file));
    if let Err(error) = written {
        tracing::warn!(file = %file.display(), %error, "high-water mark not written");
    }
}

/// Whom a change of a request concerns: its cluster, and the one it named before.
fn subjects_of_task(
    tasks: &Cache<TaskValue>,
    owners: &Mutex<BTreeMap<String, ClusterName>>,
    key: &str,
) -> Vec<Subject> {
    let request = key.strip_suffix("/status").unwrap_or(key);
    let mut owners = lock(owners);
    let before = owners.remove(request);
    let mut subjects: Vec<Subject> = match tasks.get(request).as_ref().map(|seen| &*seen.value) {
        Some(TaskValue::Task(task)) => {
            owners.insert(request.to_owned(), task.cluster.clone());
            vec![Subject::Cluster(task.cluster.clone())]
        }
        Some(_) => vec![Subject::Stray(request.to_owned())],
        None => Vec::new(),
    };
    subjects.extend(before.map(Subject::Cluster).filter(|before| !subjects.contains(before)));
    subjects
}
