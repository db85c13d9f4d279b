//! From candidate to leader and back. The order of a take-over, each step only after the one before it:
//!
//! 1. The key is won, under a lease ([`Candidate`]). From here on each write compares its create revision, the epoch,
//!    and nothing else leaves but through the [`Gate`], which the end of the lease shuts. The term is written into the
//!    store's history, by which an older backup of it is told from it ([`HighWater`]).
//! 2. What is known of etcd is at least as new as the epoch ([`Views::catch_up`]): what the leader before recorded
//!    last is seen.
//! 3. SUBSCRIBE with the stored framework id, once the store says again that this leads ([`GatedScheduler`]). It ends
//!    the stream of the leader before, and with it all offers it had and all calls it may still send.
//! 4. Mesos is asked for every task that is recorded (`mesos_events::take` at SUBSCRIBED). Until it answers for one in
//!    this subscription, nothing is concluded from its state (`Reconciliation::is_confirmed`).
//! 5. Only then an open intent is finished or undone: relaunched after a terminal answer, `TASK_DROPPED`, or "unknown" by
//!    a master that knows its agent (`fold`). Launches need offers, which only this subscription brings.
//!
//! Reconcilers run from step 3 on: what needs no Mesos (orders to engines, which have a fence of their own; status)
//! does not wait for it.
//!
//! The way back: nothing new begins, what runs is given [`DRAIN`] to end and is dropped then, the gate is closed, and
//! the key is given back.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use overlord_api::{ClusterName, Leader, Registration, TermId, VALUES_VERSION, keys};
use overlord_mesos::{SchedulerConfig, SchedulerEvent, SchedulerTransport, scheduler, v1::FrameworkId};
use overlord_reconcile::{Cache, Clock, Controller, Metrics, Revision, SteadyClock, Tasks};
use overlord_store::{
    Error as StoreError, Fence, Store,
    election::{Candidate, Leadership},
};
use prometheus_client::registry::Registry;
use rand::RngCore as _;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    Engines, Settings,
    cluster::ClusterReconciler,
    deaths::Deaths,
    events::Recorder,
    gate::{Gate, GatedScheduler},
    high_water::{HighWater, MarkedStore, WentBack},
    janitor,
    launcher::Launcher,
    ledger::{Ledger, TaskValue, cluster_of},
    maintenance::Maintenance,
    mesos_events::listen,
    reconciliation::Reconciliation,
    registration,
    shared::{MesosLink, Shared, Subject, lock, seeded},
    standing::Post,
    views::{Unusable, Views},
    witnesses::Witnesses,
};

/// How long what runs may take to end when leadership ends. Short: a successor waits for it, and whatever is dropped
/// half way is taken up by it.
const DRAIN: Duration = Duration::from_secs(2);

/// The same for passes over clusters, which are dropped with their names told.
const DRAIN_PASSES: Duration = Duration::from_millis(1500);

/// Before the view is looked at again after the store did not answer.
const STORE_RETRY: Duration = Duration::from_millis(500);

/// A controller that died is listed for so many leases more.
const LISTED_FOR: u32 = 3;

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
    post: Post,
    high_water: Arc<HighWater>,
    witnesses: Arc<Witnesses>,
    /// What is read while this runs, and since which turn of the store; another one after each turn.
    views: Mutex<Option<Arc<Views>>>,
    read_at: AtomicU64,
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
        let clock: Arc<dyn Clock> = Arc::new(SteadyClock::new(clock));
        let (metrics, views, read_at) = (Metrics::default(), Mutex::default(), AtomicU64::default());
        let high_water = HighWater::new(settings.state_file.clone());
        let post = Post::new(&settings.id, &clock, &high_water);
        let store = Arc::new(MarkedStore::new(store, Arc::clone(&high_water)));
        let witnesses = Arc::default();
        Self {
            settings,
            store,
            transport,
            engines,
            clock,
            metrics,
            post,
            high_water,
            witnesses,
            views,
            read_at,
            seed,
        }
    }

    /// Registers the loop's metrics, under the names that controller-runtime gave them, and those of leadership.
    pub fn register_metrics(&self, registry: &mut Registry) {
        self.metrics.register(registry);
        self.post.register_metrics(registry);
    }

    /// Tells how this controller stands.
    pub fn post(&self) -> Post {
        self.post.clone()
    }

    /// Runs until `shutdown`; gives the leadership back then.
    pub async fn run(&self, shutdown: CancellationToken) -> Result<(), Error> {
        self.read(&shutdown);
        let registration = Registration {
            version: VALUES_VERSION,
            id: self.settings.id.clone(),
            api: self.settings.api.clone(),
            program: String::from(env!("CARGO_PKG_VERSION")),
            since: self.clock.now(),
        };
        let registered = shutdown.child_token();
        let listed_for = self.settings.lease * LISTED_FOR;
        let campaigns = async {
            let ended = self.campaigns(&shutdown).await;
            registered.cancel();
            ended
        };
        let (ended, (), ()) = tokio::join!(
            biased;
            campaigns,
            self.mind_the_past(&registered),
            registration::keep(&self.store, &registration, listed_for, &registered),
        );
        self.post.ends();
        *lock(&self.views) = None;
        ended
    }

    async fn campaigns(&self, shutdown: &CancellationToken) -> Result<(), Error> {
        let me = Leader::new(&self.settings.id, &self.settings.api);
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
            let leadership = match candidate.campaign(shutdown).await {
                Ok(leadership) => leadership,
                Err(StoreError::Shutdown) => return Ok(()),
                Err(error) => return Err(Error::Store(error)),
            };
            tracing::info!(epoch = leadership.epoch(), "leading");
            terms += 1;
            let began = self.clock.monotonic();
            self.post.leads(Some(leadership.epoch()));
            self.lead(&leadership, terms, shutdown).await;
            self.post.leads(None);
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

    /// Begins to read everything, anew if it was read before.
    fn read(&self, shutdown: &CancellationToken) -> Arc<Views> {
        let views = Views::start(&self.store, &self.clock, shutdown);
        self.post.reads(&views);
        if let Some(old) = lock(&self.views).replace(Arc::clone(&views)) {
            old.stop();
        }
        views
    }

    /// The same, when the store went back or was accepted since: what was read of it before is of another past.
    fn read_if_turned(&self, shutdown: &CancellationToken) {
        let turn = *self.high_water.turns().borrow();
        if self.read_at.swap(turn, Ordering::AcqRel) != turn {
            self.read(shutdown);
        }
    }

    /// Notices a store that went back or was accepted, leader or not, until `shutdown`.
    async fn mind_the_past(&self, shutdown: &CancellationToken) {
        let mut turns = self.high_water.turns();
        let turned = async {
            while turns.changed().await.is_ok() {
                self.read_if_turned(shutdown);
            }
        };
        tokio::select! {
            biased;
            () = self.high_water.run(&*self.store, shutdown) => {}
            () = turned => {}
        }
    }

    /// One term, until the lease is in doubt, the store went back or was accepted, or `shutdown`.
    async fn lead(&self, leadership: &Leadership, term: u64, shutdown: &CancellationToken) {
        let tasks = Tasks::child_of(shutdown);
        let over = tasks.token();
        let gate = Gate::new(leadership.license());
        let mut turns = self.high_water.turns();
        let started = async {
            let back = self.high_water.check_until_answered(&*self.store).await?;
            if back.is_none() {
                let id =
                    TermId(seeded(self.seed ^ leadership.epoch().cast_unsigned().rotate_left(32)).next_u64());
                self.high_water.begin_term(&*self.store, leadership.fence(), id).await?;
            }
            let back = self.high_water.went_back();
            let turn = *turns.borrow_and_update();
            self.read_if_turned(shutdown);
            tokio::select! {
                biased;
                _ = turns.wait_for(|now| *now != turn) => Ok(()),
                ended = self.start(leadership.fence(), &gate, term, &tasks, shutdown, back) => match ended {
                    Ok(never) => match never {},
                    Err(error) => Err(error),
                },
            }
        };
        tokio::select! {
            biased;
            () = leadership.lost() => tracing::warn!("the lease is lost"),
            () = over.cancelled() => {}
            panicked = tasks.panicked() => tracing::error!(%panicked, "a part of the controller panicked: giving the leadership back"),
            failed = started => match failed {
                Ok(()) => tracing::warn!("the store went back or was accepted: the term ends"),
                Err::<_, StoreError>(error) => tracing::error!(%error, "the term ends"),
            }
        }
        if let Err(unfinished) = tasks.shutdown(DRAIN).await {
            tracing::warn!(%unfinished, "aborted");
        }
        gate.close().await;
    }

    /// What is known of etcd, at least as new as the key that was won; and the store's revision at that moment.
    async fn current(&self, shutdown: &CancellationToken) -> Result<(Arc<Views>, Revision), StoreError> {
        let views = lock(&self.views).clone();
        let views = views.unwrap_or_else(|| self.read(shutdown));
        views.synced().await?;
        loop {
            match views.catch_up().await {
                Ok(revision) => return Ok((views, revision)),
                Err(Unusable::Store(error @ StoreError::Denied(_))) => return Err(error),
                Err(Unusable::Store(error)) => {
                    tracing::warn!(%error, "the view is not compared yet");
                    tokio::time::sleep(STORE_RETRY).await;
                }
                Err(why @ (Unusable::WentBack { .. } | Unusable::Differs { .. })) => {
                    tracing::warn!(%why, "everything is listed anew");
                    // Listed after the key was won.
                    let views = self.read(shutdown);
                    views.synced().await?;
                    let revision = views.revision();
                    return Ok((views, revision));
                }
            }
        }
    }

    /// Starts every part, then pends; ends only with an error.
    async fn start(
        &self,
        fence: &Fence,
        gate: &Gate,
        term: u64,
        tasks: &Tasks,
        shutdown: &CancellationToken,
        went_back: Option<WentBack>,
    ) -> Result<std::convert::Infallible, StoreError> {
        let (views, _) = self.current(shutdown).await?;
        let ledger = views.ledger(fence);
        ledger.remember();
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
        let transport = Arc::new(GatedScheduler {
            inner: Arc::clone(&self.transport),
            gate: gate.clone(),
            store: Arc::clone(&self.store),
            fence: fence.clone(),
        });
        let (mesos, driver, events) = scheduler(config, transport, seed);

        let controller = self.controller(&ledger);
        let trigger = controller.trigger();
        let clock = Arc::clone(&self.clock);
        let recorder = Recorder::new(Arc::clone(&self.store), fence.clone(), Arc::clone(&clock));
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
            gate: gate.clone(),
            post: self.post.clone(),
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
            high_water: Arc::clone(&self.high_water),
            witnesses: Arc::clone(&self.witnesses),
            homeless: Mutex::default(),
            went_back,
            memos: Mutex::default(),
            rng: Mutex::new(seeded(seed)),
        });
        self.post.acts(&shared);
        spawn(&shared, tasks, driver, events, controller);
        std::future::pending().await
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
            .drain(DRAIN_PASSES)
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
            // The store has forgotten under which id everything runs.
            (_, None) if self.high_water.went_back().is_some() => self.high_water.framework(),
            (_, None) => None,
        };
        Ok(id.filter(|id| !id.is_empty()).map(FrameworkId::new))
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
    let framework = |cluster| ledger.record(cluster).ok()??.value.framework;
    let running = clusters.iter().filter(|cluster| !ledger.instances(cluster).0.is_empty());
    let ids: BTreeSet<String> = running.filter_map(framework).collect();
    // Where no info can be read, what runs may be found all the same.
    if ids.is_empty() { clusters.iter().filter_map(framework).collect() } else { ids }
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
