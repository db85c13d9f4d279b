//! The leader's view of etcd: typed caches kept by list and watch, and the one way to write. A commit
//! is absorbed by the caches at once, so that no pass acts on a view older than what it last wrote.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use bytes::Bytes;
use jiff::Timestamp;
use overlord_api::{
    Address, ClusterName, Endpoints, Info, Quarantine, Record, Revision as Accepted, State, Status, Task,
    TaskStatus, Unreadable,
    keys::{self, Key},
    read_value,
};
use overlord_reconcile::{Cache, Entry, Revision, Versioned};
use overlord_store::{Committed, Compare, Error, Fence, Store, Txn};
use serde::de::DeserializeOwned;

use crate::{
    Digest, digest,
    identity::uid8,
    index::{ClusterIndex, RequestIndex, quarantines_on},
    members::observed::Instance,
    memory::{Memory, Touched},
    tasks::Request,
};

/// A value below `clusters/`, as far as it is held.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Record(Arc<Record>),
    Status(Box<Status>),
    Endpoints(Box<Endpoints>),
    /// An accepted revision, which is read when it is needed.
    Revision,
    Info(Arc<Info>),
    /// A `server.conf` or `nodes.conf`: only what it is compared by.
    Conf(Digest),
    /// A value that cannot be read.
    Damaged(Unreadable),
    /// Anything else: nothing is held.
    Other,
}

/// Projects an entry below `clusters/`.
pub(crate) fn project_cluster(entry: &Entry) -> Value {
    fn read<T: DeserializeOwned>(entry: &Entry, wrap: impl FnOnce(T) -> Value) -> Value {
        read_value(&entry.value).map_or_else(Value::Damaged, wrap)
    }
    match Key::parse(&entry.key) {
        Key::Record(_) => read(entry, |record| Value::Record(Arc::new(record))),
        Key::Status(_) => read(entry, |status| Value::Status(Box::new(status))),
        Key::Endpoints(_) => read(entry, |endpoints| Value::Endpoints(Box::new(endpoints))),
        Key::Info(_, address) => match read(entry, |info: Info| Value::Info(Arc::new(info))) {
            Value::Info(info) if info.address() != address => Value::Damaged(Unreadable::Damaged(format!(
                "it names {} but lies at {address}",
                info.address()
            ))),
            value => value,
        },
        Key::ServerConf(..) | Key::NodesConf(..) => Value::Conf(digest(&entry.value)),
        Key::Revision(..) => read(entry, |_: Accepted| Value::Revision),
        _ => Value::Other,
    }
}

/// A value below `task/`.
#[derive(Debug, Clone)]
pub(crate) enum TaskValue {
    Task(Box<Task>),
    Status(Arc<TaskStatus>),
    /// A value that cannot be read.
    Damaged(Unreadable),
}

/// Projects an entry below `task/`.
pub(crate) fn project_task(entry: &Entry) -> TaskValue {
    let value = &entry.value;
    match Key::parse(&entry.key) {
        Key::Task(_) => {
            read_value(value).map_or_else(TaskValue::Damaged, |task| TaskValue::Task(Box::new(task)))
        }
        Key::TaskStatus(_) => {
            read_value(value).map_or_else(TaskValue::Damaged, |status| TaskValue::Status(Arc::new(status)))
        }
        _ => TaskValue::Damaged(Unreadable::Damaged(String::from(
            "the key is neither task/<id> nor task/<id>/status",
        ))),
    }
}

/// Projects an entry below `quarantine/`; `None` when it cannot be read.
pub(crate) fn project_quarantine(entry: &Entry) -> Option<Quarantine> {
    read_value(&entry.value).ok()
}

/// What a batch expects of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expect {
    /// Anything.
    Any,
    /// That it does not exist.
    Absent,
    /// That it was last written at this revision.
    At(Revision),
}

impl Expect {
    /// What was seen: a revision, or nothing.
    pub(crate) fn seen(revision: Option<Revision>) -> Self {
        revision.map_or(Self::Absent, Self::At)
    }
}

/// Writes that happen together or not at all.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    edits: Vec<Edit>,
}

#[derive(Debug)]
struct Edit {
    key: String,
    expect: Expect,
    act: Act,
}

#[derive(Debug)]
enum Act {
    Nothing,
    Put(Bytes),
    Delete,
    DeletePrefix,
}

impl Batch {
    pub(crate) fn put(&mut self, key: String, value: impl Into<Bytes>, expect: Expect) {
        self.edits.push(Edit { key, expect, act: Act::Put(value.into()) });
    }

    /// Puts a value as JSON.
    pub(crate) fn put_json<T: serde::Serialize>(&mut self, key: String, value: &T, expect: Expect) {
        match serde_json::to_vec(value) {
            Ok(bytes) => self.put(key, bytes, expect),
            // Our own types have string keys and finite numbers only.
            Err(error) => tracing::error!(key, %error, "a value cannot be written as JSON"),
        }
    }

    pub(crate) fn delete(&mut self, key: String, expect: Expect) {
        self.edits.push(Edit { key, expect, act: Act::Delete });
    }

    pub(crate) fn delete_prefix(&mut self, prefix: String) {
        self.edits.push(Edit { key: prefix, expect: Expect::Any, act: Act::DeletePrefix });
    }

    /// Only when the key still is as seen.
    pub(crate) fn require(&mut self, key: String, expect: Expect) {
        self.edits.push(Edit { key, expect, act: Act::Nothing });
    }

    pub(crate) fn is_empty(&self) -> bool {
        !self.edits.iter().any(|edit| !matches!(edit.act, Act::Nothing))
    }

    /// Bytes to be written so far.
    pub(crate) fn bytes(&self) -> usize {
        let of = |edit: &Edit| match &edit.act {
            Act::Put(value) => value.len() + edit.key.len(),
            Act::Nothing | Act::Delete | Act::DeletePrefix => edit.key.len(),
        };
        self.edits.iter().map(of).sum()
    }

    /// Operations so far, to keep below [`Txn::MAX_OPERATIONS`].
    pub(crate) fn operations(&self) -> usize {
        self.edits.len() + 1
    }
}

/// Whether the leader of that fence leads at this moment: answered by the store, as reads are linearizable.
pub(crate) async fn leads(store: &dyn Store, fence: &Fence) -> Result<bool, Error> {
    let listing = store.get(keys::LEADER).await?;
    Ok(listing.entries.first().is_some_and(|entry| entry.create_revision == fence.epoch()))
}

/// Why a commit did not happen.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// Something was written in between: look again.
    #[error("another write came first")]
    Conflict,
    /// The store.
    #[error("store: {0}")]
    Store(Error),
}

impl From<Error> for LedgerError {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

/// The leader's view of etcd.
#[derive(Debug, Clone)]
pub(crate) struct Ledger {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) fence: Fence,
    /// `config/`: which keys exist, at which revision; texts are read when needed.
    pub(crate) config: Cache<()>,
    pub(crate) clusters: Cache<Value>,
    pub(crate) tasks: Cache<TaskValue>,
    pub(crate) quarantine: Cache<Option<Quarantine>>,
    /// Of `clusters`.
    pub(crate) index: Arc<ClusterIndex>,
    /// Of `tasks`.
    pub(crate) requests: Arc<RequestIndex>,
    /// Of both: what we wrote last.
    pub(crate) memory: Arc<Memory>,
}

/// A value with the revision it was read at.
#[derive(Debug, Clone)]
pub(crate) struct Seen<T> {
    pub(crate) value: T,
    pub(crate) revision: Revision,
}

/// A write on its way. As long as nobody knows what became of it, what it touched is not taken for somebody else's doing:
/// it may have happened, or happen late.
struct Unanswered<'a> {
    memory: &'a Memory,
    edits: Vec<Edit>,
}

impl Unanswered<'_> {
    /// It was answered: its edits.
    fn answered(mut self) -> Vec<Edit> {
        std::mem::take(&mut self.edits)
    }
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        self.memory.doubt(self.edits.iter().filter_map(|edit| match edit.act {
            Act::Nothing => None,
            Act::Put(_) | Act::Delete => Some(Touched::Key(&edit.key)),
            Act::DeletePrefix => Some(Touched::Below(&edit.key)),
        }));
    }
}

impl Ledger {
    /// Commits a batch under the fence and absorbs it.
    pub(crate) async fn commit(&self, batch: Batch) -> Result<Revision, LedgerError> {
        let mut txn = Txn::fenced(&self.fence);
        for edit in &batch.edits {
            txn = match edit.expect {
                Expect::Any => txn,
                Expect::Absent => txn.when(Compare::Absent(edit.key.clone())),
                Expect::At(revision) => txn.when(Compare::ModRevision(edit.key.clone(), revision)),
            };
            txn = match &edit.act {
                Act::Nothing => txn,
                Act::Put(value) => txn.put(edit.key.clone(), value.clone()),
                Act::Delete => txn.delete(edit.key.clone()),
                Act::DeletePrefix => txn.delete_prefix(edit.key.clone()),
            };
        }
        // Also when whoever waits for the answer is dropped.
        let unanswered = Unanswered { memory: &self.memory, edits: batch.edits };
        let committed = self.store.commit(txn).await;
        let edits = match &committed {
            Ok(_) | Err(Error::Fenced(_)) => unanswered.answered(),
            Err(_) => Vec::new(),
        };
        match committed? {
            Committed::No(_) => Err(LedgerError::Conflict),
            Committed::Yes(revision) => {
                self.absorb(edits, revision);
                Ok(revision)
            }
        }
    }

    /// That this is the leader still: answered by the store, at this moment.
    pub(crate) async fn verify(&self) -> Result<(), LedgerError> {
        if leads(&*self.store, &self.fence).await? {
            Ok(())
        } else {
            Err(Error::Fenced(self.fence.clone()).into())
        }
    }

    fn absorb(&self, edits: Vec<Edit>, revision: Revision) {
        for Edit { key, act, .. } in edits {
            match act {
                Act::Nothing => {}
                Act::Put(value) => {
                    let create_revision = self.create_revision(&key).unwrap_or(revision);
                    let entry =
                        Entry { key: key.into(), value, create_revision, mod_revision: revision, lease: 0 };
                    self.absorb_put(&entry);
                }
                Act::Delete => self.absorb_delete(&key, revision),
                Act::DeletePrefix => {
                    self.memory.forget_below(&key);
                    let below: Vec<Arc<str>> =
                        self.clusters.range(&key).into_iter().map(|(key, _)| key).collect();
                    for key in below {
                        self.absorb_delete(&key, revision);
                    }
                }
            }
        }
    }

    fn create_revision(&self, key: &str) -> Option<Revision> {
        if key.starts_with(keys::CLUSTERS) {
            self.clusters.get(key).map(|seen| seen.create_revision)
        } else if key.starts_with(keys::TASK) {
            self.tasks.get(key).map(|seen| seen.create_revision)
        } else {
            self.quarantine.get(key).map(|seen| seen.create_revision)
        }
    }

    fn absorb_put(&self, entry: &Entry) {
        if entry.key.starts_with(keys::CLUSTERS) {
            self.clusters.absorb_put(entry);
            self.memory.keep(&entry.key, &project_cluster(entry));
        } else if entry.key.starts_with(keys::TASK) {
            self.tasks.absorb_put(entry);
            self.memory.keep_task(&entry.key, &project_task(entry));
        } else if entry.key.starts_with(keys::QUARANTINE) {
            self.quarantine.absorb_put(entry);
        }
    }

    fn absorb_delete(&self, key: &str, revision: Revision) {
        self.memory.forget(key);
        if key.starts_with(keys::CLUSTERS) {
            self.clusters.absorb_delete(key, revision);
        } else if key.starts_with(keys::TASK) {
            self.tasks.absorb_delete(key, revision);
        } else if key.starts_with(keys::QUARANTINE) {
            self.quarantine.absorb_delete(key, revision);
        }
    }

    /// A new term begins: what is there now is what is remembered.
    pub(crate) fn remember(&self) {
        self.memory.clear();
        for (key, seen) in self.clusters.range(keys::CLUSTERS) {
            self.memory.keep(&key, &seen.value);
        }
        for (key, seen) in self.tasks.range(keys::TASK) {
            self.memory.keep_task(&key, &seen.value);
        }
    }

    /// Why the value of a key below `clusters/` cannot be read, if it cannot.
    pub(crate) fn unreadable(&self, key: &str) -> Option<Unreadable> {
        match &*self.clusters.get(key)?.value {
            Value::Damaged(why) => Some(why.clone()),
            _ => None,
        }
    }

    /// The revision of a key below `task/`, and why its value cannot be read, if it cannot.
    pub(crate) fn unreadable_task(&self, key: &str) -> (Option<Revision>, Option<Unreadable>) {
        match self.tasks.get(key) {
            None => (None, None),
            Some(seen) => match &*seen.value {
                TaskValue::Damaged(why) => (Some(seen.mod_revision), Some(why.clone())),
                TaskValue::Task(_) | TaskValue::Status(_) => (Some(seen.mod_revision), None),
            },
        }
    }

    /// The cluster's record. `Err`: it is there and cannot be read.
    pub(crate) fn record(&self, cluster: &ClusterName) -> Result<Option<Seen<Record>>, String> {
        match self.clusters.get(&keys::record(cluster)) {
            None => Ok(None),
            Some(Versioned { mod_revision, value, .. }) => match &*value {
                Value::Record(record) => Ok(Some(Seen { value: (**record).clone(), revision: mod_revision })),
                Value::Damaged(why) => Err(why.to_string()),
                _ => Ok(None),
            },
        }
    }

    /// The cluster's status, and the revision of its key; a damaged one reads as none.
    pub(crate) fn status(&self, cluster: &ClusterName) -> (Option<Status>, Option<Revision>) {
        match self.clusters.get(&keys::status(cluster)) {
            None => (None, None),
            Some(seen) => match &*seen.value {
                Value::Status(status) => (Some((**status).clone()), Some(seen.mod_revision)),
                _ => (None, Some(seen.mod_revision)),
            },
        }
    }

    /// The cluster's endpoints, and the revision of their key.
    pub(crate) fn endpoints(&self, cluster: &ClusterName) -> (Option<Endpoints>, Option<Revision>) {
        match self.clusters.get(&keys::endpoints(cluster)) {
            None => (None, None),
            Some(seen) => match &*seen.value {
                Value::Endpoints(endpoints) => (Some((**endpoints).clone()), Some(seen.mod_revision)),
                _ => (None, Some(seen.mod_revision)),
            },
        }
    }

    /// Every instance of a cluster, by address; and the infos that cannot be read, by key.
    pub(crate) fn instances(&self, cluster: &ClusterName) -> (Vec<Instance>, Vec<(String, String)>) {
        let uid = self.record(cluster).ok().flatten().map(|record| record.value.uid);
        let mut infos: BTreeMap<Address, (Arc<Info>, Revision)> = BTreeMap::new();
        let mut confs: BTreeMap<Address, Digest> = BTreeMap::new();
        let mut damaged = Vec::new();
        for (key, seen) in self.clusters.range(&keys::instances(cluster)) {
            match (&*seen.value, Key::parse(&key)) {
                (Value::Info(info), _) if misplaced(info, uid.as_deref()).is_some() => {
                    damaged.extend(misplaced(info, uid.as_deref()).map(|why| (key.to_string(), why)));
                }
                (Value::Info(info), _) => {
                    infos.insert(info.address(), (Arc::clone(info), seen.mod_revision));
                }
                (Value::Conf(digest), Key::ServerConf(_, address)) => {
                    confs.insert(address, *digest);
                }
                (Value::Damaged(why), _) => damaged.push((key.to_string(), why.to_string())),
                _ => {}
            }
        }
        let instances = infos
            .into_iter()
            .map(|(address, (info, revision))| Instance {
                info,
                revision,
                conf: confs.get(&address).copied(),
            })
            .collect();
        (instances, damaged)
    }

    /// Where an instance of a cluster must have been recorded that is not any more, and by what it is told: nobody
    /// but the leader removes an info, and then its address is quarantined, and its other keys are gone too.
    pub(crate) fn traces(&self, cluster: &ClusterName) -> BTreeMap<Address, &'static str> {
        let gone = |address: &Address| {
            self.clusters.get(&keys::info(cluster, *address)).is_none()
                && self.quarantine.get(&keys::quarantine(*address)).is_none()
        };
        let (endpoints, _) = self.endpoints(cluster);
        let served = endpoints.into_iter().flat_map(|list| list.endpoints).map(|endpoint| endpoint.address);
        let mut traces: BTreeMap<Address, &'static str> =
            served.filter(gone).map(|address| (address, "endpoints name it")).collect();
        for key in self.clusters.keys(&keys::instances(cluster)) {
            if let Key::ServerConf(_, address) = Key::parse(&key)
                && gone(&address)
            {
                traces.insert(address, "server.conf beside it is still there");
            }
        }
        traces
    }

    /// Every cluster that has a record, a status or instances.
    pub(crate) fn known_clusters(&self) -> BTreeSet<ClusterName> {
        self.index.clusters()
    }

    /// The highest revision of a cluster's accepted specs.
    pub(crate) fn last_revision(&self, cluster: &ClusterName) -> u64 {
        let keys = self.clusters.keys(&keys::revisions(cluster));
        let number = |key: &Arc<str>| match Key::parse(key) {
            Key::Revision(_, n) => Some(n),
            _ => None,
        };
        keys.iter().filter_map(number).max().unwrap_or(0)
    }

    /// Every address on these hosts that is recorded or quarantined.
    pub(crate) fn taken(&self, hosts: &BTreeSet<IpAddr>, now: Timestamp) -> BTreeSet<Address> {
        let mut taken = self.index.taken(hosts);
        let quarantined = hosts.iter().flat_map(|host| self.quarantine.range(&quarantines_on(*host)));
        for (key, seen) in quarantined {
            let Key::Quarantine(address) = Key::parse(&key) else { continue };
            if let Some(quarantine) = &*seen.value {
                if quarantine.until <= now {
                    continue;
                }
                taken.extend(quarantine.bus_port.map(|port| Address::new(address.ip, port)));
            }
            taken.insert(address);
        }
        taken
    }

    /// The requests on a cluster, in the order they were made.
    pub(crate) fn requests(&self, cluster: &ClusterName) -> Vec<Request> {
        let mut requests: Vec<Request> = Vec::new();
        for id in &self.requests.of(cluster) {
            let Some(seen) = self.tasks.get(&keys::task(id)) else { continue };
            let TaskValue::Task(task) = &*seen.value else { continue };
            if task.cluster != *cluster {
                continue;
            }
            let status = match self.tasks.get(&keys::task_status(id)).as_ref().map(|seen| &*seen.value) {
                Some(TaskValue::Status(status)) => Some((**status).clone()),
                _ => None,
            };
            let unreadable = match self.tasks.get(&keys::task_status(id)).as_ref().map(|seen| &*seen.value) {
                Some(TaskValue::Damaged(why)) => Some(why.clone()),
                _ => None,
            };
            requests.push(Request {
                id: id.clone(),
                task: (**task).clone(),
                create_revision: seen.create_revision,
                status,
                unreadable,
            });
        }
        requests.sort_by(|a, b| (a.create_revision, &a.id).cmp(&(b.create_revision, &b.id)));
        requests
    }

    /// The revision of a task status key, for the compare of its next write.
    pub(crate) fn task_status_revision(&self, id: &str) -> Option<Revision> {
        self.tasks.get(&keys::task_status(id)).map(|seen| seen.mod_revision)
    }
}

/// Why an info that can be read is not believed: nothing may be decided by another cluster's instance.
pub(crate) fn misplaced(info: &Info, uid: Option<&str>) -> Option<String> {
    if uid.is_some_and(|uid| uid != info.uid) {
        return Some(format!("it is of another cluster, uid {}", info.uid));
    }
    let (member, incarnation) = (info.member, info.incarnation);
    if !info.mesos_task_id.starts_with(&format!("{}.{member}.{incarnation}.", uid8(&info.uid))) {
        return Some(format!(
            "mesos task {} is not of incarnation {incarnation} of member {member} of uid {}",
            info.mesos_task_id, info.uid
        ));
    }
    if !matches!(info.desired.state, State::Running | State::Draining | State::Gone) {
        return Some(format!("desired.state {} is none that is ever wanted", info.desired.state));
    }
    None
}

/// The cluster whose folder below `clusters/` a key lies in.
pub(crate) fn cluster_of(key: &str) -> Option<ClusterName> {
    let (cluster, _) = key.strip_prefix(keys::CLUSTERS)?.split_once('/')?;
    ClusterName::new(cluster).ok()
}
