//! A store to run a scenario on, and what scenarios need beside it.

use std::{fmt::Debug, path::PathBuf, sync::Arc, time::Duration};

use futures::StreamExt as _;
use overlord_reconcile::{Clock, SystemClock, TokioClock};
use overlord_store::{
    Change, Changes, Committed, EtcdConfig, EtcdStore, MemoryStore, Revision, Snapshot, Store, Txn,
};
use tokio::time::timeout;

use crate::server::Etcd;

/// Longer than anything here takes on a slow machine; only a failed test waits for it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct World {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<dyn Clock>,
    hands: Hands,
}

/// What befalls a store.
enum Hands {
    Memory(MemoryStore),
    Etcd(Etcd),
}

/// A backup of either store.
pub(crate) enum Backup {
    Memory(Snapshot),
    Etcd(PathBuf),
}

impl World {
    pub(crate) fn in_memory() -> Self {
        let clock: Arc<dyn Clock> = Arc::new(TokioClock::starting_at(jiff::Timestamp::UNIX_EPOCH));
        let store = MemoryStore::new(Arc::clone(&clock));
        Self { store: Arc::new(store.clone()), clock, hands: Hands::Memory(store) }
    }

    pub(crate) async fn on_etcd() -> Self {
        let etcd = Etcd::start().await;
        let store = Arc::new(store_of(&[etcd.url()]));
        Self { store, clock: Arc::new(SystemClock::new()), hands: Hands::Etcd(etcd) }
    }

    pub(crate) async fn compact(&self, revision: Revision) {
        match &self.hands {
            Hands::Memory(store) => store.compact(revision),
            Hands::Etcd(etcd) => etcd.compact(revision).await,
        }
    }

    pub(crate) fn snapshot(&self) -> Backup {
        match &self.hands {
            Hands::Memory(store) => Backup::Memory(store.snapshot()),
            Hands::Etcd(etcd) => Backup::Etcd(etcd.snapshot()),
        }
    }

    /// Goes back to a backup, as an administrator does it: etcd is stopped, its data replaced, and started.
    pub(crate) async fn restore(&mut self, backup: &Backup) {
        match (&mut self.hands, backup) {
            (Hands::Memory(store), Backup::Memory(snapshot)) => store.restore(snapshot),
            (Hands::Etcd(etcd), Backup::Etcd(file)) => etcd.restore(file).await,
            _ => panic!("a backup of another store"),
        }
    }

    pub(crate) async fn set_full(&mut self, full: bool) {
        match &mut self.hands {
            Hands::Memory(store) => store.set_alarm_no_space(full),
            Hands::Etcd(etcd) => etcd.set_full(full).await,
        }
    }

    pub(crate) async fn set_alarm_no_space(&self, alarm: bool) {
        match &self.hands {
            Hands::Memory(store) => store.set_alarm_no_space(alarm),
            Hands::Etcd(etcd) => etcd.set_alarm_no_space(alarm).await,
        }
    }

    /// Writes one key, and gives its revision.
    pub(crate) async fn put(&self, key: &str, value: &'static str) -> Revision {
        committed(self.store.commit(Txn::unfenced().put(key, value)).await)
    }

    pub(crate) async fn delete(&self, key: &str) -> Revision {
        committed(self.store.commit(Txn::unfenced().delete(key)).await)
    }

    /// The value of a key, if it is there.
    pub(crate) async fn value(&self, key: &str) -> Option<String> {
        let found = self.store.get(key).await.unwrap();
        found.entries.first().map(|entry| String::from_utf8(entry.value.to_vec()).unwrap())
    }
}

pub(crate) fn store_of(urls: &[String]) -> EtcdStore {
    EtcdStore::new(config_of(urls)).unwrap()
}

/// Patient, for machines that are busy with other tests.
pub(crate) fn config_of(urls: &[String]) -> EtcdConfig {
    EtcdConfig { endpoints: urls.to_vec(), call_timeout: Duration::from_secs(10), ..EtcdConfig::default() }
}

#[track_caller]
pub(crate) fn committed<E: Debug>(answer: Result<Committed, E>) -> Revision {
    match answer {
        Ok(Committed::Yes(revision)) => revision,
        other => panic!("not committed: {other:?}"),
    }
}

/// The next batch of a watch.
pub(crate) async fn batch(changes: &mut Changes) -> Vec<Change> {
    let item = timeout(PATIENCE, changes.next()).await.expect("a change in time");
    item.expect("an open watch").expect("no error")
}

/// The next `count` changes, of however many batches, as short texts.
pub(crate) async fn take(changes: &mut Changes, count: usize) -> Vec<String> {
    let mut seen = Vec::new();
    while seen.len() < count {
        seen.extend(batch(changes).await.iter().map(brief));
    }
    seen
}

/// `put key=value` or `delete key`.
pub(crate) fn brief(change: &Change) -> String {
    match change {
        Change::Put(entry) => format!("put {}={}", entry.key, String::from_utf8_lossy(&entry.value)),
        Change::Delete { key, .. } => format!("delete {key}"),
    }
}

pub(crate) fn revision_of(change: &Change) -> Revision {
    match change {
        Change::Put(entry) => entry.mod_revision,
        Change::Delete { revision, .. } => *revision,
    }
}
