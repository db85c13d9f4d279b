//! What every part of a leading controller shares.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use overlord_api::{Cluster, ClusterName, ConditionType, InstalledRules, Report};
use overlord_mesos::{SchedulerHandle, v1::AgentId};
use overlord_reconcile::{Clock, Revision, Trigger};
use rand::{RngCore as _, SeedableRng as _, rngs::SmallRng};

use crate::{
    Engines, Happening, Settings,
    deaths::Deaths,
    events::{NO_CLUSTER, Recorder},
    gate::Gate,
    high_water::{HighWater, WentBack},
    launcher::Launcher,
    ledger::Ledger,
    maintenance::Maintenance,
    members::plan::{Blocked, Progress, Sent},
    reconciliation::Reconciliation,
    standing::Post,
    witnesses::Witnesses,
};

/// What a queue key stands for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Subject {
    /// A cluster.
    Cluster(ClusterName),
    /// A key below `config/` or `task/` that names no cluster.
    Stray(String),
}

/// Shared by the reconcilers of one leadership.
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) ledger: Ledger,
    /// What orders to engines pass.
    pub(crate) gate: Gate,
    pub(crate) post: Post,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) events: Recorder,
    pub(crate) mesos: SchedulerHandle,
    pub(crate) launcher: Launcher,
    pub(crate) sync: Reconciliation,
    pub(crate) maintenance: Maintenance,
    pub(crate) deaths: Deaths,
    /// Keys that belong to no cluster, with what was told of them last.
    pub(crate) told: Mutex<BTreeMap<String, String>>,
    pub(crate) engines: Arc<dyn Engines>,
    pub(crate) rules: InstalledRules,
    pub(crate) trigger: Trigger<Subject>,
    pub(crate) link: Mutex<MesosLink>,
    pub(crate) high_water: Arc<HighWater>,
    /// Asked once a process.
    pub(crate) witnesses: Arc<Witnesses>,
    /// Mesos tasks that no record names, with the cluster that their executors name.
    pub(crate) homeless: Mutex<BTreeMap<String, Option<ClusterName>>>,
    /// In this term nothing is done: the store is older than what was seen of it.
    pub(crate) went_back: Option<WentBack>,
    pub(crate) memos: Mutex<BTreeMap<ClusterName, Memo>>,
    pub(crate) rng: Mutex<SmallRng>,
}

impl Shared {
    /// What is remembered of a cluster between passes. Never held over an await.
    pub(crate) fn memo<R>(&self, cluster: &ClusterName, with: impl FnOnce(&mut Memo) -> R) -> R {
        let mut memos = lock(&self.memos);
        with(memos.entry(cluster.clone()).or_default())
    }

    /// 32 random lower-case hex digits.
    pub(crate) fn new_uid(&self) -> String {
        let mut bytes = [0; 16];
        lock(&self.rng).fill_bytes(&mut bytes);
        uuid::Uuid::from_bytes(bytes).simple().to_string()
    }

    /// Tells people of a key that belongs to no cluster, once for each thing that is wrong with it.
    pub(crate) fn tell_once(&self, key: &str, what: Happening) {
        let fresh = lock(&self.told)
            .insert(key.to_owned(), what.message.clone())
            .is_none_or(|old| old != what.message);
        if fresh {
            self.events.record(NO_CLUSTER, what);
        }
    }

    pub(crate) fn enqueue(&self, cluster: &ClusterName) {
        self.trigger.enqueue(Subject::Cluster(cluster.clone()));
    }
}

/// A generator for everything that must differ and need not be guessed.
pub(crate) fn seeded(seed: u64) -> SmallRng {
    SmallRng::seed_from_u64(seed)
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How it stands with Mesos.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum MesosLink {
    /// Not subscribed since then, and why.
    Down { since: Timestamp, reason: String },
    /// Subscribed.
    Up,
    /// A master is there, and does not want this framework as it is.
    Refused { message: String },
    /// The master removed the framework for good.
    Removed { message: String },
}

impl MesosLink {
    /// What a person can do about a framework that was removed.
    pub(crate) const AFTER_REMOVAL: &'static str = "nothing is launched under its id any more; make sure that none of its processes runs, then put `new` under /overlord/framework, and the controllers subscribe as another framework and launch what the specs say; or delete the clusters";
}

/// What is remembered of a cluster between passes; lost with the leadership, and rebuilt.
#[derive(Debug, Default)]
pub(crate) struct Memo {
    /// What was sent to executors.
    pub(crate) sent: Sent,
    /// The accepted spec, by uid and revision.
    pub(crate) spec: Option<(String, u64, Arc<Cluster>)>,
    /// The configurations that its processes should have.
    pub(crate) confs: crate::members::confs::Kept,
    /// The config revision that was refused, and why.
    pub(crate) refused: Option<(i64, String)>,
    /// When status was last written, by the monotonic clock.
    pub(crate) published: Option<Duration>,
    /// Since when the status in etcd is not what it should be.
    pub(crate) unpublished_since: Option<Duration>,
    /// Counts of the last pass that had news, and since when they are so.
    pub(crate) progress: Option<(Progress, Duration)>,
    /// What last moved of which request, and when, for the deadline of changes.
    pub(crate) moved: Option<(String, Progress, Duration)>,
    /// Why members could not be placed in the last pass that tried.
    pub(crate) unplaceable: Option<String>,
    /// Why members go on with less than the spec says, as of the last plan.
    pub(crate) no_room: Option<String>,
    /// `RedisCluster`: the last plan was made without asking the nodes, which were asked a moment ago; what it wants
    /// launched is not known.
    pub(crate) undecided: bool,
    /// `RedisCluster`: when its nodes were asked last and all was well, by the monotonic clock, and what was
    /// observed of the instances then.
    pub(crate) whole: Option<(Duration, crate::Digest)>,
    /// `RedisCluster`: conditions and strangers as of the last time its nodes were asked.
    pub(crate) said: (Vec<(ConditionType, &'static str, String)>, Vec<Blocked>),
    /// `RedisCluster`: when its nodes were asked last, by the monotonic clock.
    pub(crate) looked: Option<Duration>,
    /// Mesos tasks that were recorded in the last pass and meant to run.
    pub(crate) recorded: std::collections::BTreeSet<String>,
    /// What was told of damaged values, by reason and key; and at which revision of the key.
    pub(crate) damaged: BTreeMap<(&'static str, String), (Option<Revision>, String)>,
    /// Mesos tasks of this cluster that run and that no info names.
    pub(crate) strangers: BTreeMap<String, Stranger>,
    /// Tombstones whose Mesos task is known to be over.
    pub(crate) buried_over: std::collections::BTreeSet<String>,
}

/// A Mesos task of a cluster that runs and that no info names.
#[derive(Debug, Clone)]
pub(crate) struct Stranger {
    /// By its id.
    pub(crate) member: u32,
    /// By its id.
    pub(crate) incarnation: u32,
    /// By its id.
    pub(crate) attempt: u64,
    /// Where it runs, when Mesos said so.
    pub(crate) agent: Option<AgentId>,
    /// What its executor said of itself.
    pub(crate) report: Option<Report>,
}
