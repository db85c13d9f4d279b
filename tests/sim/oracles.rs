//! What must hold at every moment: checked at each commit, each call to Mesos and each start of a process.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use overlord_api::{Address, ClusterName, Info, Quarantine, State, keys::Key};
use overlord_controllers::LABEL_CLUSTER;
use overlord_mesos::v1::{
    TaskInfo, TaskState, TaskStatus,
    scheduler::{Call, CallType},
};
use overlord_reconcile::Clock;
use overlord_store::{Error, Fetch, MemoryStore, Store as _};

use crate::{
    net::Net,
    store::Who,
    trace::Trace,
    view::{View, brief},
};

/// The least time between two status writes of one cluster by one leader.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);

/// A handle on the oracles of one run; clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Oracles {
    store: MemoryStore,
    net: Net,
    trace: Trace,
    clock: Arc<dyn Clock>,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    view: View,
    /// Where each Mesos task id was recorded first.
    tasks: BTreeMap<String, String>,
    /// Updates that were delivered to a scheduler, by uuid.
    delivered: BTreeMap<String, TaskStatus>,
    status_written: BTreeMap<String, (Who, Duration)>,
}

/// One key that changed.
struct Changed {
    key: Arc<str>,
    old: Option<Vec<u8>>,
    new: Option<Vec<u8>>,
}

impl Oracles {
    pub(crate) fn new(store: MemoryStore, net: Net, trace: Trace, clock: Arc<dyn Clock>) -> Self {
        Self { store, net, trace, clock, inner: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was in the store when it was last looked at.
    pub(crate) fn view(&self) -> View {
        self.lock().view.clone()
    }

    /// Looks at the store; what changed was done by `who`.
    pub(crate) async fn look(&self, who: Who) {
        // Cut off: whatever happens there is seen later.
        let Ok(listing) = self.store.list("/overlord/", Fetch::Values).await else { return };
        let mut inner = self.lock();
        let before = std::mem::take(&mut inner.view.entries);
        let mut changes = Vec::new();
        for entry in listing.entries {
            let old = before.get(&entry.key);
            if old.is_none_or(|old| old.mod_revision != entry.mod_revision) {
                changes.push(Changed {
                    key: Arc::clone(&entry.key),
                    old: old.map(|old| old.value.to_vec()),
                    new: Some(entry.value.to_vec()),
                });
            }
            inner.view.entries.insert(Arc::clone(&entry.key), entry);
        }
        for (key, old) in &before {
            if !inner.view.entries.contains_key(key) {
                let old = Some(old.value.to_vec());
                changes.push(Changed { key: Arc::clone(key), old, new: None });
            }
        }
        if changes.is_empty() {
            return;
        }
        let before = View { entries: before };
        self.tell(who, listing.revision, &changes);
        self.check_writer(who, &before, &changes);
        if changes.iter().any(|change| matches!(Key::parse(&change.key), Key::Info(..))) {
            self.check_infos(&mut inner, &before, &changes);
        }
        self.check_pace(&mut inner, who, &changes);
    }

    fn tell(&self, who: Who, revision: i64, changes: &[Changed]) {
        for change in changes {
            let short = change.key.strip_prefix("/overlord/").unwrap_or(&change.key);
            match &change.new {
                Some(new) => {
                    let text = format!("store {revision} {who}: {short} = {}", brief(&change.key, new));
                    self.trace.detailed(text, new);
                }
                None => self.trace.line(format!("store {revision} {who}: {short} deleted")),
            }
        }
    }

    /// A commit was refused.
    pub(crate) fn refused(&self, who: Who, error: &Error) {
        self.trace.line(format!("store refuses {who}: {error}"));
    }

    /// Each key has its writer, and what the leader owns is written by the leader of the moment.
    fn check_writer(&self, who: Who, before: &View, changes: &[Changed]) {
        for change in changes {
            let allowed = match (Key::parse(&change.key), who) {
                (Key::Config(_) | Key::Task(_), Who::User) | (Key::Leader, _) => true,
                (Key::Event(..) | Key::Other, Who::Time) => change.new.is_none(),
                (_, Who::User | Who::Executor | Who::Time) | (Key::Config(_), Who::Controller(_)) => false,
                (_, Who::Controller(_)) => before.leader() == Some(who.to_string()),
            };
            if !allowed {
                let leader = before.leader().unwrap_or_else(|| "nobody".to_owned());
                self.trace.violation(format!("{who} wrote {} while {leader} led", change.key));
            }
        }
    }

    /// Status is coalesced: at most one write a second and cluster by one leader.
    fn check_pace(&self, inner: &mut Inner, who: Who, changes: &[Changed]) {
        let now = self.clock.monotonic();
        // Who does not hear of a write may well repeat it.
        if self.net.is_store_shaky() {
            inner.status_written.clear();
            return;
        }
        for change in changes {
            let (Key::Status(cluster), Some(_), Some(_)) =
                (Key::parse(&change.key), &change.old, &change.new)
            else {
                continue;
            };
            let last = inner.status_written.insert(cluster.to_string(), (who, now));
            if let Some((by, at)) = last
                && by == who
                && now.saturating_sub(at) < STATUS_INTERVAL
            {
                let gap = now.saturating_sub(at);
                self.trace.violation(format!("status of {cluster} written twice within {gap:?}"));
            }
        }
    }

    fn check_infos(&self, inner: &mut Inner, before: &View, changes: &[Changed]) {
        let infos = inner.view.infos();
        let mut addresses: BTreeSet<Address> = BTreeSet::new();
        let mut members: BTreeSet<(String, u32)> = BTreeSet::new();
        let mut tasks: BTreeSet<&str> = BTreeSet::new();
        for (cluster, info) in &infos {
            let address = info.address();
            if !addresses.insert(address) {
                self.trace.violation(format!("address {address} belongs to two instances"));
            }
            if info.desired.state != State::Gone && !members.insert((info.uid.clone(), info.member)) {
                self.trace.violation(format!("member {cluster}/{} has two instances", info.member));
            }
            if !tasks.insert(&info.mesos_task_id) {
                self.trace.violation(format!("Mesos task {} has two instances", info.mesos_task_id));
            }
        }
        for change in changes {
            let (Key::Info(cluster, address), Some(new)) = (Key::parse(&change.key), &change.new) else {
                continue;
            };
            let Ok(info) = serde_json::from_slice::<Info>(new) else {
                self.trace.violation(format!("{} cannot be read", change.key));
                continue;
            };
            let old: Option<Info> = change.old.as_ref().and_then(|old| serde_json::from_slice(old).ok());
            let first =
                inner.tasks.entry(info.mesos_task_id.clone()).or_insert_with(|| change.key.to_string());
            if *first != *change.key || (old.is_none() && before.info_of_task(&info.mesos_task_id).is_some())
            {
                self.trace.violation(format!("Mesos task id {} is used twice", info.mesos_task_id));
            }
            if old.is_none() {
                self.check_quarantine(before.quarantine(address), &cluster, &info);
            }
        }
    }

    /// A new instance does not take an address that another one left a moment ago.
    fn check_quarantine(&self, quarantine: Option<Quarantine>, cluster: &ClusterName, info: &Info) {
        let Some(quarantine) = quarantine else { return };
        let own = quarantine.uid == info.uid && quarantine.member == info.member;
        if quarantine.until > self.clock.now() && !own {
            let (address, member) = (info.address(), info.member);
            self.trace.violation(format!("{cluster}/{member} got {address}, which is in quarantine"));
        }
    }

    /// A call of a scheduler arrives at the master.
    pub(crate) fn called(&self, who: Who, call: &Call) {
        let view = self.view();
        match call.kind {
            CallType::Accept => {
                let operations = call.accept.iter().flat_map(|accept| &accept.operations);
                for task in operations.filter_map(|o| o.launch.as_ref()).flat_map(|l| &l.task_infos) {
                    self.check_intent(&view, task);
                }
            }
            CallType::Kill => {
                if let Some(kill) = &call.kill {
                    self.check_kill(&view, kill.task_id.as_str());
                }
            }
            CallType::Acknowledge => {
                if let Some(acknowledge) = &call.acknowledge {
                    self.check_stored(&view, &acknowledge.uuid);
                }
            }
            CallType::Teardown => self.trace.violation(format!("{who} tears the framework down")),
            _ => {}
        }
    }

    /// Intent before effect: info, conf and address are in the store before the launch leaves. What another
    /// leader has changed since then is Mesos' to refuse: the stream of the old one is over.
    fn check_intent(&self, view: &View, task: &TaskInfo) {
        let id = task.task_id.as_str();
        let label = task.labels.iter().flat_map(|labels| &labels.labels).find(|l| l.key == LABEL_CLUSTER);
        let Some((cluster, info)) = view.info_of_task(id) else {
            let known = self.lock().tasks.contains_key(id);
            if !known {
                self.trace.violation(format!("{id} is launched and was never recorded"));
            }
            return;
        };
        if label.and_then(|label| label.value.as_deref()) != Some(cluster.as_str()) {
            self.trace.violation(format!("{id} is launched with the label of another cluster"));
        }
        if view.server_conf(&cluster, info.address()).is_none() {
            self.trace.violation(format!("{id} is launched without a recorded configuration"));
        }
        if info.agent_id != task.agent_id.as_str() {
            self.trace.violation(format!("{id} is launched on another agent than recorded"));
        }
    }

    /// Only what is recorded to end is killed: by its info, by a tombstone, or by a newer attempt.
    fn check_kill(&self, view: &View, task: &str) {
        if let Some((cluster, info)) = view.info_of_task(task) {
            if matches!(info.desired.state, State::Running) {
                self.trace.violation(format!("{task} of {cluster} is wanted running and gets a KILL"));
            }
            return;
        }
        let buried = view.records().iter().any(|(_, record)| record.tombstones.contains_key(task));
        if !buried && !self.lock().tasks.contains_key(task) {
            self.trace.violation(format!("{task} gets a KILL and nothing says why"));
        }
    }

    /// An update reaches a scheduler.
    pub(crate) fn delivered(&self, status: &TaskStatus) {
        if let Some(uuid) = &status.uuid {
            self.lock().delivered.insert(uuid.clone(), status.clone());
        }
    }

    /// Stored before acknowledged: an end that is acknowledged is recorded.
    fn check_stored(&self, view: &View, uuid: &str) {
        let Some(status) = self.lock().delivered.get(uuid).cloned() else {
            return self.trace.violation(format!("an update {uuid} is acknowledged that never came"));
        };
        let Some((_, info)) = view.info_of_task(status.task_id.as_str()) else { return };
        let task = &status.task_id;
        let over = matches!(status.state, TaskState::Failed | TaskState::Killed | TaskState::Lost);
        if over && !matches!(info.observed.state, State::Failed | State::Gone) {
            self.trace.violation(format!("the end of {task} is acknowledged and not stored"));
        }
        let begun = matches!(status.state, TaskState::Starting | TaskState::Running);
        if begun && info.observed.state == State::Pending {
            self.trace.violation(format!("the start of {task} is acknowledged and not stored"));
        }
    }
}
