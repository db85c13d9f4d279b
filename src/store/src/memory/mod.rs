//! The store in memory: the twin of etcd for tests and simulation, held to it by the conformance suite.
//!
//! Time comes from the clock that is passed in, watchers wake in the order in which they were opened,
//! lease ids count from 1: the same calls at the same times give the same answers.
//!
//! Beside the calls of a [`Store`] it has hands for what befalls an etcd: [`MemoryStore::compact`],
//! [`MemoryStore::snapshot`] and [`MemoryStore::restore`], [`MemoryStore::set_alarm_no_space`],
//! [`MemoryStore::expire`], [`MemoryStore::set_unavailable`], [`MemoryStore::lose_next_answer`].

mod state;
mod watch;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use overlord_reconcile::Clock;

use self::state::{Backup, State};
use crate::{Changes, Committed, Error, Fetch, LeaseId, Listing, Revision, Store, Txn};

/// A store in memory. Clones share it.
#[derive(Clone)]
pub struct MemoryStore {
    shared: Arc<Shared>,
}

struct Shared {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

impl MemoryStore {
    /// An empty store at revision 1, as a new etcd is.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { shared: Arc::new(Shared { clock, state: Mutex::new(State::new()) }) }
    }

    /// Forgets history before `revision`, at most up to now ([`Revision::MAX`]): watches cannot start there
    /// any more, and watchers that have not read it yet are cut off.
    pub fn compact(&self, revision: Revision) {
        self.shared.now_state().compact(revision);
    }

    /// Transactions with writes that were committed so far.
    pub fn writes(&self) -> u64 {
        self.shared.now_state().writes()
    }

    /// Cuts the store off, or connects it again: while cut off, calls fail and watches are silent;
    /// leases go on ending.
    pub fn set_unavailable(&self, unavailable: bool) {
        self.shared.now_state().set_unavailable(unavailable);
    }

    /// The next commit is applied, but its answer is lost: its caller is told [`Error::Unanswered`].
    pub fn lose_next_answer(&self) {
        self.shared.now_state().lose_next_answer();
    }

    /// A backup, as `etcdctl snapshot save` makes it.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot { backup: Arc::new(self.shared.now_state().backup()) }
    }

    /// Goes back to a backup, as `etcdctl snapshot restore` does into an empty directory, followed by the
    /// start of etcd: keys, history and the revision are those of the backup; its leases live, each with its
    /// whole time before it, those granted later are unknown; the alarm is off.
    ///
    /// Watchers go on after what they were given last. One that was given a revision which the store does
    /// not have any more ends with [`Error::WentBack`].
    pub fn restore(&self, snapshot: &Snapshot) {
        let now = self.shared.clock.monotonic();
        self.shared.now_state().restore(&snapshot.backup, now);
    }

    /// Raises or clears etcd's alarm for an exceeded quota: whatever puts a key is refused before its
    /// compares are looked at, new leases too ([`Error::NoSpace`]); reads, watches, deletes, renewed, revoked
    /// and ending leases go on.
    pub fn set_alarm_no_space(&self, alarm: bool) {
        self.shared.now_state().set_no_space(alarm);
    }

    /// Ends a lease at once and deletes its keys, as if nobody had renewed it.
    pub fn expire(&self, lease: LeaseId) {
        self.shared.now_state().revoke(lease);
    }
}

/// A backup of a [`MemoryStore`].
#[derive(Clone)]
pub struct Snapshot {
    backup: Arc<Backup>,
}

impl Snapshot {
    /// The store's revision when it was made.
    pub fn revision(&self) -> Revision {
        self.backup.revision()
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Snapshot(revision {})", self.revision())
    }
}

impl Shared {
    /// The state, with leases ended that are over by now.
    fn now_state(&self) -> MutexGuard<'_, State> {
        // The state is changed only by total functions: a panic elsewhere leaves it whole.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.expire(self.clock.monotonic());
        state
    }

    /// The same, unless the store is cut off.
    fn connected(&self) -> Result<MutexGuard<'_, State>, Error> {
        let state = self.now_state();
        if state.is_unavailable() { Err(unavailable()) } else { Ok(state) }
    }
}

fn unavailable() -> Error {
    Error::Unavailable { endpoints: "memory".to_owned(), message: "cut off".to_owned() }
}

fn unanswered() -> Error {
    Error::Unanswered { endpoints: "memory".to_owned(), message: "the answer was lost".to_owned() }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemoryStore")
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn get(&self, key: &str) -> Result<Listing, Error> {
        Ok(self.shared.connected()?.get(key))
    }

    async fn list(&self, prefix: &str, fetch: Fetch) -> Result<Listing, Error> {
        Ok(self.shared.connected()?.list(prefix, fetch))
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<Changes, Error> {
        let id = self.shared.connected()?.open_watch(prefix, after)?;
        Ok(watch::stream(Arc::clone(&self.shared), id))
    }

    async fn commit(&self, txn: Txn) -> Result<Committed, Error> {
        txn.check_size()?;
        let mut state = self.shared.connected()?;
        let answer = state.commit(&txn)?;
        if state.take_lost_answer() { Err(unanswered()) } else { Ok(answer) }
    }

    async fn lease_grant(&self, ttl: Duration) -> Result<LeaseId, Error> {
        let now = self.shared.clock.monotonic();
        self.shared.connected()?.grant(ttl, now)
    }

    async fn lease_keep_alive(&self, lease: LeaseId) -> Result<Option<Duration>, Error> {
        let now = self.shared.clock.monotonic();
        Ok(self.shared.connected()?.keep_alive(lease, now))
    }

    async fn lease_revoke(&self, lease: LeaseId) -> Result<(), Error> {
        self.shared.connected()?.revoke(lease);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt as _, StreamExt as _};
    use overlord_reconcile::{Change, SourceError, TokioClock};
    use tokio::{sync::mpsc, task::JoinSet, time::sleep};

    use super::*;

    fn store() -> MemoryStore {
        MemoryStore::new(Arc::new(TokioClock::starting_at(jiff::Timestamp::UNIX_EPOCH)))
    }

    async fn put(store: &MemoryStore, key: &str) -> Revision {
        match store.commit(Txn::unfenced().put(key, "v")).await {
            Ok(Committed::Yes(revision)) => revision,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_ends_wakes_a_watcher_at_that_moment() {
        let store = store();
        let mut changes = store.watch("/", 1).await.unwrap();
        let mut waiting = JoinSet::new();
        waiting.spawn(async move { changes.next().await });
        sleep(Duration::from_millis(500)).await;
        // Granted while the watcher already waits.
        let lease = store.lease_grant(Duration::from_secs(5)).await.unwrap();
        store.commit(Txn::unfenced().put_leased("/other", "v", lease)).await.unwrap();
        waiting.join_next().await.unwrap().unwrap().unwrap().unwrap();
        let mut changes = store.watch("/", 2).await.unwrap();
        let batch = changes.next().await.unwrap().unwrap();
        assert!(matches!(&batch[..], [Change::Delete { key, .. }] if &**key == "/other"));
        assert_eq!(store.shared.clock.monotonic().as_millis(), 5500);
    }

    #[tokio::test(start_paused = true)]
    async fn while_cut_off_calls_fail_watches_are_silent_and_leases_end() {
        let store = store();
        let lease = store.lease_grant(Duration::from_secs(5)).await.unwrap();
        store.commit(Txn::unfenced().put_leased("/l", "v", lease)).await.unwrap();
        let mut changes = store.watch("/", 2).await.unwrap();
        store.set_unavailable(true);
        let unavailable = |error: Error| assert!(matches!(error, Error::Unavailable { .. }));
        unavailable(store.get("/l").await.unwrap_err());
        unavailable(store.commit(Txn::unfenced().put("/a", "v")).await.unwrap_err());
        unavailable(store.watch("/", 0).await.err().unwrap());
        unavailable(store.lease_keep_alive(lease).await.unwrap_err());
        sleep(Duration::from_secs(6)).await;
        assert!(changes.next().now_or_never().is_none());
        store.set_unavailable(false);
        let batch = changes.next().await.unwrap().unwrap();
        assert!(matches!(&batch[..], [Change::Delete { .. }]));
        assert_eq!(store.lease_keep_alive(lease).await.unwrap(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_answer_hides_a_commit_that_happened() {
        let store = store();
        store.lose_next_answer();
        let answer = store.commit(Txn::unfenced().put("/a", "v")).await;
        assert!(matches!(answer, Err(Error::Unanswered { .. })));
        assert_eq!(store.get("/a").await.unwrap().entries.len(), 1);
        put(&store, "/b").await;
    }

    #[tokio::test(start_paused = true)]
    async fn an_expired_lease_takes_its_keys_along_at_once() {
        let store = store();
        let lease = store.lease_grant(Duration::from_secs(500)).await.unwrap();
        store.commit(Txn::unfenced().put_leased("/l", "v", lease)).await.unwrap();
        store.expire(lease);
        store.expire(lease);
        assert!(store.get("/l").await.unwrap().entries.is_empty());
        assert_eq!(store.lease_keep_alive(lease).await.unwrap(), None);
        assert_eq!(store.shared.clock.monotonic(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn lease_ids_are_not_given_again_after_a_restore() {
        let store = store();
        let backup = store.snapshot();
        let lost = store.lease_grant(Duration::from_secs(5)).await.unwrap();
        store.restore(&backup);
        assert_ne!(store.lease_grant(Duration::from_secs(5)).await.unwrap(), lost);
    }

    #[tokio::test(start_paused = true)]
    async fn only_committed_transactions_with_writes_are_counted() {
        let store = store();
        put(&store, "/a").await;
        store.commit(Txn::unfenced()).await.unwrap();
        let refused = Txn::unfenced().when(crate::Compare::Absent("/a".to_owned())).put("/a", "v");
        store.commit(refused).await.unwrap();
        store.get("/a").await.unwrap();
        assert_eq!(store.writes(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_watcher_that_has_not_read_what_is_compacted_is_cut_off() {
        let store = store();
        let mut slow = store.watch("/a", 1).await.unwrap();
        let mut unconcerned = store.watch("/b", 1).await.unwrap();
        put(&store, "/a").await;
        put(&store, "/a").await;
        let last = put(&store, "/b").await;
        store.compact(last);
        assert!(matches!(slow.next().await, Some(Err(SourceError::Compacted(2)))));
        assert!(slow.next().await.is_none());
        assert_eq!(unconcerned.next().await.unwrap().unwrap().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn history_is_bounded() {
        let store = store();
        for _ in 0..100_001 {
            put(&store, "/a").await;
        }
        let mut changes = store.watch("/", 1).await.unwrap();
        assert!(matches!(changes.next().await, Some(Err(SourceError::Compacted(2)))));
        let mut changes = store.watch("/", 2).await.unwrap();
        assert!(matches!(changes.next().await, Some(Ok(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn watchers_wake_in_the_order_in_which_they_were_opened() {
        let store = store();
        let (seen, mut order) = mpsc::unbounded_channel();
        let mut tasks = JoinSet::new();
        for n in 0..20 {
            let mut changes = store.watch("/", 1).await.unwrap();
            let seen = seen.clone();
            tasks.spawn(async move {
                while changes.next().await.is_some() {
                    seen.send(n).unwrap();
                }
            });
        }
        sleep(Duration::from_millis(1)).await;
        for _ in 0..3 {
            put(&store, "/a").await;
            sleep(Duration::from_millis(1)).await;
        }
        let mut woken = Vec::new();
        order.recv_many(&mut woken, 60).await;
        assert_eq!(woken, (0..3).flat_map(|_| 0..20).collect::<Vec<_>>());
    }
}
