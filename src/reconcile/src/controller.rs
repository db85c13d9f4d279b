//! The controller: turns changes into keys, and runs a reconciler per key.
//!
//! One loop owns the queue's consumer side; each reconcile is a task of its own, so that a panic
//! or a slow call is that key's matter only.

mod run;
#[cfg(test)]
mod tests;

use std::{
    fmt::{self, Debug},
    hash::Hash,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures::future::BoxFuture;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{Backoff, Cache, Clock, Lane, Metrics, Queue, Stats, Subscription, metrics::Observable};

/// What a controller does for one key. Told which key, never what happened: it reads the state in full.
#[async_trait]
pub trait Reconciler: Send + Sync + 'static {
    /// Names what is reconciled.
    type Key: Ord + Clone + Hash + Debug + Send + Sync + 'static;
    /// Why it did not work out. Logged once, with its causes, by the controller.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Makes the world look more like what is wanted for `key`. An error is retried with back-off.
    ///
    /// The future may be dropped at any await, when it takes too long.
    async fn reconcile(&self, key: &Self::Key) -> Result<Action, Self::Error>;
}

/// What comes after a reconcile that worked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Action(Option<Duration>);

impl Action {
    /// Nothing until something changes (or the next full pass).
    pub const fn await_change() -> Self {
        Self(None)
    }

    /// Another look after this time at the latest.
    pub const fn requeue(after: Duration) -> Self {
        Self(Some(after))
    }

    /// The time of [`Action::requeue`].
    pub const fn requeue_after(self) -> Option<Duration> {
        self.0
    }

    /// The one that looks again sooner.
    #[must_use]
    pub fn sooner(self, other: Self) -> Self {
        match (self.0, other.0) {
            (Some(a), Some(b)) => Self(Some(a.min(b))),
            (a, b) => Self(a.or(b)),
        }
    }
}

/// Enqueues keys from outside the loop: status updates, offers, timers. Clones share the queue. Works before
/// the controller runs, and does nothing once it has ended.
pub struct Trigger<K> {
    shared: Arc<Shared<K>>,
}

impl<K> Clone for Trigger<K> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<K> fmt::Debug for Trigger<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trigger").finish_non_exhaustive()
    }
}

impl<K: Ord + Clone + Hash> Trigger<K> {
    /// Runs the key as soon as possible.
    pub fn enqueue(&self, key: K) {
        self.enqueue_after(key, Duration::ZERO);
    }

    /// Runs the key after a while, or earlier for another reason.
    pub fn enqueue_after(&self, key: K, after: Duration) {
        self.shared.add(key, Lane::Change, after);
    }
}

/// The queue, and who waits for it.
pub(crate) struct Shared<K> {
    queue: Mutex<Queue<K>>,
    /// Set once nobody will take anything out any more.
    ended: AtomicBool,
    added: Notify,
    clock: Arc<dyn Clock>,
}

impl<K: Ord + Clone + Hash> Shared<K> {
    fn lock(&self) -> MutexGuard<'_, Queue<K>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, key: K, lane: Lane, after: Duration) {
        if self.ended.load(Ordering::Relaxed) {
            return;
        }
        let now = self.clock.monotonic();
        self.lock().add_after(key, lane, after, now);
        self.added.notify_one();
    }
}

/// Ends the queue with the loop, even if that is aborted.
struct End<K>(Arc<Shared<K>>);

impl<K> Drop for End<K> {
    fn drop(&mut self) {
        self.0.ended.store(true, Ordering::Relaxed);
    }
}

impl<K: Ord + Clone + Hash + Send + Sync> Observable for Shared<K> {
    fn stats(&self) -> Stats {
        let now = self.clock.monotonic();
        self.lock().stats(now)
    }
}

/// A cache as the controller sees it.
trait View: Send + Sync {
    fn keys(&self) -> Vec<Arc<str>>;
    fn synced(&self) -> BoxFuture<'_, ()>;
}

impl<T: Send + Sync + 'static> View for Cache<T> {
    fn keys(&self) -> Vec<Arc<str>> {
        Cache::keys(self, "")
    }

    fn synced(&self) -> BoxFuture<'_, ()> {
        Box::pin(Cache::synced(self))
    }
}

type Map<K> = Box<dyn Fn(&str) -> Vec<K> + Send + Sync>;

/// A watched cache and how its keys become ours.
struct Watched<K> {
    view: Box<dyn View>,
    subscription: Subscription,
    map: Map<K>,
    /// Whether a full pass lists it.
    primary: bool,
}

/// What a finished controller leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stopped<K> {
    /// Keys whose reconcile did not end within the drain deadline and was aborted.
    pub aborted: Vec<K>,
}

/// Builds and runs the loop for one kind of key.
pub struct Controller<K> {
    name: Arc<str>,
    shared: Arc<Shared<K>>,
    watched: Vec<Watched<K>>,
    concurrency: usize,
    resync: Duration,
    timeout: Duration,
    drain: Duration,
    metrics: Metrics,
}

impl<K> fmt::Debug for Controller<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Controller").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<K: Ord + Clone + Hash + Debug + Send + Sync + 'static> Controller<K> {
    /// A controller that watches nothing yet. Its defaults: 64 at once, a full pass each 5 minutes, 60 s a
    /// reconcile, 10 s to drain.
    pub fn new(name: impl Into<Arc<str>>, clock: Arc<dyn Clock>) -> Self {
        let name = name.into();
        let queue = Mutex::new(Queue::new(Backoff::KEYS.salted(&name)));
        Self {
            shared: Arc::new(Shared { queue, ended: AtomicBool::new(false), added: Notify::new(), clock }),
            name,
            watched: Vec::new(),
            concurrency: 64,
            resync: Duration::from_secs(300),
            timeout: Duration::from_secs(60),
            drain: Duration::from_secs(10),
            metrics: Metrics::default(),
        }
    }

    /// The collection whose entries are reconciled: each change runs the mapped keys, and all are listed on
    /// a full pass. There may be several.
    #[must_use]
    pub fn primary<T: Send + Sync + 'static>(
        self,
        cache: &Cache<T>,
        map: impl Fn(&str) -> Vec<K> + Send + Sync + 'static,
    ) -> Self {
        self.watch(cache, map, true)
    }

    /// A collection that the reconciler writes: changes run the mapped owners.
    #[must_use]
    pub fn owns<T: Send + Sync + 'static>(
        self,
        cache: &Cache<T>,
        map: impl Fn(&str) -> Vec<K> + Send + Sync + 'static,
    ) -> Self {
        self.watch(cache, map, false)
    }

    /// A collection that others write and the reconciler reads: changes run the mapped keys.
    #[must_use]
    pub fn watches<T: Send + Sync + 'static>(
        self,
        cache: &Cache<T>,
        map: impl Fn(&str) -> Vec<K> + Send + Sync + 'static,
    ) -> Self {
        self.watch(cache, map, false)
    }

    fn watch<T: Send + Sync + 'static>(
        mut self,
        cache: &Cache<T>,
        map: impl Fn(&str) -> Vec<K> + Send + Sync + 'static,
        primary: bool,
    ) -> Self {
        let subscription = cache.subscribe();
        self.watched.push(Watched {
            view: Box::new(cache.clone()),
            subscription,
            map: Box::new(map),
            primary,
        });
        self
    }

    /// A handle for enqueuing from outside.
    pub fn trigger(&self) -> Trigger<K> {
        Trigger { shared: Arc::clone(&self.shared) }
    }

    /// How many keys run at once, at least 1.
    #[must_use]
    pub fn concurrency(mut self, concurrency: usize) -> Self {
        self.concurrency = concurrency.max(1);
        self
    }

    /// How often all primary keys are run although nothing changed, give or take a tenth.
    #[must_use]
    pub fn resync(mut self, period: Duration) -> Self {
        self.resync = period;
        self
    }

    /// How long one reconcile may take.
    #[must_use]
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = limit;
        self
    }

    /// How long running reconciles are waited for at shutdown.
    #[must_use]
    pub fn drain(mut self, deadline: Duration) -> Self {
        self.drain = deadline;
        self
    }

    /// The back-off of failing keys.
    #[must_use]
    pub fn backoff(self, backoff: Backoff) -> Self {
        self.shared.lock().set_backoff(backoff.salted(&self.name));
        self
    }

    /// Where to count.
    #[must_use]
    pub fn metrics(mut self, metrics: &Metrics) -> Self {
        self.metrics = metrics.clone();
        self
    }

    /// Runs until `shutdown`, then lets running reconciles end. No reconcile starts before every watched cache
    /// has had its first listing.
    pub async fn run<R>(self, reconciler: Arc<R>, shutdown: CancellationToken) -> Stopped<K>
    where
        R: Reconciler<Key = K>,
    {
        let _end = End(Arc::clone(&self.shared));
        for watched in &self.watched {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Stopped { aborted: Vec::new() },
                () = watched.view.synced() => {}
            }
        }
        let observable: Arc<dyn Observable> = Arc::clone(&self.shared) as Arc<dyn Observable>;
        let recorder = self.metrics.controller(&self.name, self.concurrency, Arc::downgrade(&observable));
        run::Run::new(self, reconciler, recorder).until(shutdown).await
    }
}
