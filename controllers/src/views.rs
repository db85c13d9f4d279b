//! What a controller knows of etcd, leader or not: caches kept by list and watch from the start of the process, so
//! that whoever takes over has it all at hand. Before a term acts on them they are compared with the keys of now.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use jiff::Timestamp;
use overlord_api::{Leader, Quarantine, keys, read_value};
use overlord_reconcile::{Cache, Clock, Index, Informer, Revision, Tasks};
use overlord_store::{Error as StoreError, Fence, Fetch, PrefixSource, Store};
use tokio_util::sync::CancellationToken;

use crate::{
    index::{ClusterIndex, RequestIndex},
    ledger::{Ledger, TaskValue, Value, project_cluster, project_quarantine, project_task},
    memory::Memory,
    shared::lock,
};

/// How long the first listing may take before the leadership is given back.
const FIRST_LISTING: Duration = Duration::from_secs(120);

/// How long a watch may take to bring what was committed before the term; then everything is listed again.
const BEHIND: Duration = Duration::from_secs(5);

/// How often a watch that is behind is looked at although it brought nothing.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// Why a view cannot be used in a new term.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unusable {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store is older than what was seen of it.
    #[error("the store went back from revision {seen} to {listed}")]
    WentBack { seen: Revision, listed: Revision },
    /// It does not become what the store says.
    #[error("what is known of {prefix} differs from what is there")]
    Differs { prefix: &'static str },
}

/// See the module. Dropped, its informers end.
pub(crate) struct Views {
    store: Arc<dyn Store>,
    config: Cache<()>,
    clusters: Cache<Value>,
    tasks: Cache<TaskValue>,
    quarantine: Cache<Option<Quarantine>>,
    leader: Cache<Option<Leader>>,
    index: Arc<ClusterIndex>,
    requests: Arc<RequestIndex>,
    memory: Arc<Memory>,
    /// Since when nobody leads, as far as is known.
    leaderless: Mutex<Option<Timestamp>>,
    informers: Tasks,
}

impl Views {
    /// Begins to read, until `shutdown`.
    pub(crate) fn start(
        store: &Arc<dyn Store>,
        clock: &Arc<dyn Clock>,
        shutdown: &CancellationToken,
    ) -> Arc<Self> {
        let informers = Tasks::child_of(shutdown);
        let source = |prefix: &str, fetch| Arc::new(PrefixSource::new(Arc::clone(store), prefix, fetch));
        let clock = || Arc::clone(clock);
        let config = Informer::new("config", source(keys::CONFIG, Fetch::KeysOnly), clock(), |_| ());
        let clusters =
            Informer::new("clusters", source(keys::CLUSTERS, Fetch::Values), clock(), project_cluster);
        let requests = Informer::new("task", source(keys::TASK, Fetch::Values), clock(), project_task);
        let quarantine =
            Informer::new("quarantine", source(keys::QUARANTINE, Fetch::Values), clock(), project_quarantine);
        let leader = Informer::new("leader", source(keys::LEADER, Fetch::Values), clock(), |entry| {
            read_value::<Leader>(&entry.value).ok()
        });
        let views = Arc::new(Self {
            store: Arc::clone(store),
            config: config.cache(),
            clusters: clusters.cache(),
            tasks: requests.cache(),
            quarantine: quarantine.cache(),
            leader: leader.cache(),
            index: Arc::default(),
            requests: Arc::default(),
            memory: Arc::default(),
            leaderless: Mutex::new(Some(clock().now())),
            informers: informers.clone(),
        });
        views.clusters.index(Arc::clone(&views.index) as Arc<dyn Index<Value>>);
        views.tasks.index(Arc::clone(&views.requests) as Arc<dyn Index<TaskValue>>);
        views.clusters.index(Arc::clone(&views.memory) as Arc<dyn Index<Value>>);
        views.tasks.index(Arc::clone(&views.memory) as Arc<dyn Index<TaskValue>>);
        informers.spawn("config informer", config.run(informers.token()));
        informers.spawn("clusters informer", clusters.run(informers.token()));
        informers.spawn("task informer", requests.run(informers.token()));
        informers.spawn("quarantine informer", quarantine.run(informers.token()));
        let mut changes = views.leader.subscribe();
        informers.spawn("leader informer", leader.run(informers.token()));
        // Weak: a task of the set must not keep the set.
        let (seen, token) = (Arc::downgrade(&views), informers.token());
        let clock = clock();
        informers.spawn("leader", async move {
            loop {
                tokio::select! {
                    biased;
                    () = token.cancelled() => return,
                    _ = changes.changed() => {}
                }
                let Some(views) = seen.upgrade() else { return };
                let led = views.leader.get(keys::LEADER).is_some();
                let mut leaderless = lock(&views.leaderless);
                *leaderless = if led { None } else { Some(leaderless.unwrap_or_else(|| clock.now())) };
            }
        });
        views
    }

    /// Stops reading.
    pub(crate) fn stop(&self) {
        self.informers.token().cancel();
    }

    /// The ledger of a term.
    pub(crate) fn ledger(&self, fence: &Fence) -> Ledger {
        Ledger {
            store: Arc::clone(&self.store),
            fence: fence.clone(),
            config: self.config.clone(),
            clusters: self.clusters.clone(),
            tasks: self.tasks.clone(),
            quarantine: self.quarantine.clone(),
            index: Arc::clone(&self.index),
            requests: Arc::clone(&self.requests),
            memory: Arc::clone(&self.memory),
        }
    }

    /// Who leads, as far as is known; or since when nobody does.
    pub(crate) fn leader(&self) -> Result<Option<Leader>, Timestamp> {
        match (self.leader.get(keys::LEADER), *lock(&self.leaderless)) {
            (Some(seen), _) => Ok((*seen.value).clone()),
            (None, Some(since)) => Err(since),
            // Its end was seen a moment ago.
            (None, None) => Ok(None),
        }
    }

    /// Whether everything was read once.
    pub(crate) fn is_synced(&self) -> bool {
        self.config.is_synced()
            && self.clusters.is_synced()
            && self.tasks.is_synced()
            && self.quarantine.is_synced()
            && self.leader.is_synced()
    }

    /// Since when something is not kept up to date.
    pub(crate) fn stale_since(&self) -> Option<Timestamp> {
        let stale = [
            self.config.stale_since(),
            self.clusters.stale_since(),
            self.tasks.stale_since(),
            self.quarantine.stale_since(),
            self.leader.stale_since(),
        ];
        stale.into_iter().flatten().min()
    }

    /// The newest revision that was seen of the store.
    pub(crate) fn revision(&self) -> Revision {
        let of_requests = self.tasks.revision().max(self.quarantine.revision());
        self.config.revision().max(self.clusters.revision()).max(of_requests)
    }

    /// Waits for the first listing of everything that a term acts on.
    pub(crate) async fn synced(&self) -> Result<(), StoreError> {
        let synced = async {
            self.config.synced().await;
            self.clusters.synced().await;
            self.tasks.synced().await;
            self.quarantine.synced().await;
        };
        tokio::time::timeout(FIRST_LISTING, synced).await.map_err(|_| StoreError::Unavailable {
            endpoints: String::from("the store"),
            message: format!("the first listing took longer than {} s", FIRST_LISTING.as_secs()),
        })
    }

    /// Waits until all of it is at least as new as the keys of now are. The store's revision of now.
    ///
    /// A watch alone does not tell how far it is: in a quiet store it brings nothing, as it does when it is behind.
    pub(crate) async fn catch_up(&self) -> Result<Revision, Unusable> {
        let (config, clusters, tasks, quarantine) = tokio::try_join!(
            biased;
            self.compare(&self.config, keys::CONFIG),
            self.compare(&self.clusters, keys::CLUSTERS),
            self.compare(&self.tasks, keys::TASK),
            self.compare(&self.quarantine, keys::QUARANTINE),
        )?;
        Ok(config.max(clusters).max(tasks).max(quarantine))
    }

    async fn compare<T: Send + Sync + 'static>(
        &self,
        cache: &Cache<T>,
        prefix: &'static str,
    ) -> Result<Revision, Unusable> {
        let seen = cache.revision();
        let listing = self.store.list(prefix, Fetch::KeysOnly).await?;
        let listed = listing.revision;
        if listed < seen {
            return Err(Unusable::WentBack { seen, listed });
        }
        let mut changes = cache.subscribe();
        let caught_up = async {
            while !cache.has_all_of(&listing) {
                tokio::select! {
                    biased;
                    _ = changes.changed() => {}
                    () = tokio::time::sleep(LOOK_AGAIN) => {}
                }
            }
        };
        tokio::time::timeout(BEHIND, caught_up).await.map_err(|_| Unusable::Differs { prefix })?;
        Ok(listed)
    }
}

#[cfg(test)]
mod tests {
    use overlord_reconcile::TokioClock;
    use overlord_store::{MemoryStore, Txn};

    use super::*;

    fn world() -> (MemoryStore, Arc<dyn Store>, Arc<dyn Clock>) {
        let clock: Arc<dyn Clock> = Arc::new(TokioClock::starting_at(Timestamp::UNIX_EPOCH));
        let store = MemoryStore::new(Arc::clone(&clock));
        (store.clone(), Arc::new(store), clock)
    }

    async fn write(store: &Arc<dyn Store>, key: &str) -> Revision {
        match store.commit(Txn::unfenced().put(key, "x")).await.unwrap() {
            overlord_store::Committed::Yes(revision) => revision,
            other @ overlord_store::Committed::No(_) => panic!("{other:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_view_that_followed_all_along_is_taken_over_as_it_is() {
        let (_, store, clock) = world();
        write(&store, "/overlord/config/a").await;
        let views = Views::start(&store, &clock, &CancellationToken::new());
        views.synced().await.unwrap();
        // Others write elsewhere: the view's own revision stays behind, and it is whole all the same.
        let now = write(&store, "/overlord/elsewhere").await;
        assert_eq!(views.catch_up().await.unwrap(), now);
        write(&store, "/overlord/config/b").await;
        views.catch_up().await.unwrap();
        assert_eq!(views.config.len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_view_that_follows_no_more_is_not_taken_over() {
        let (_, store, clock) = world();
        let views = Views::start(&store, &clock, &CancellationToken::new());
        views.synced().await.unwrap();
        views.stop();
        views.informers.wait_idle().await;
        write(&store, "/overlord/config/a").await;
        let unusable = views.catch_up().await.unwrap_err();
        assert!(matches!(unusable, Unusable::Differs { prefix: keys::CONFIG }), "{unusable}");
    }

    #[tokio::test(start_paused = true)]
    async fn since_when_nobody_leads_is_known() {
        let (_, store, clock) = world();
        let leader = Leader::new("h.1", "http://h:1");
        let value = serde_json::to_vec(&leader).unwrap();
        store.commit(Txn::unfenced().put(keys::LEADER, value)).await.unwrap();
        let views = Views::start(&store, &clock, &CancellationToken::new());
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(views.leader(), Ok(Some(leader)));
        assert!(views.is_synced() && views.stale_since().is_none());
        store.commit(Txn::unfenced().delete(keys::LEADER)).await.unwrap();
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(views.leader(), Err(clock.now() - Duration::from_secs(60)));
    }
}
