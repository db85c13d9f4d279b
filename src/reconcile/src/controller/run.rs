//! The running controller: takes changes in, hands keys out, and keeps what runs apart.

use std::{
    collections::{BTreeSet, HashMap},
    future::poll_fn,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use tokio::{
    task::{Id, JoinError, JoinSet},
    time::error::Elapsed,
};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::{Action, Controller, Reconciler, Stopped, Watched};
use crate::{
    Changed, Job, Lane, Outcome,
    backoff::jittered,
    metrics::{Ran, Recorder},
    report::Report,
    tasks::panic_message,
};

/// How a reconcile ended inside its task.
type Ended<E> = Result<Result<Action, E>, Elapsed>;

pub(super) struct Run<R: Reconciler> {
    controller: Controller<R::Key>,
    reconciler: Arc<R>,
    recorder: Recorder,
    set: JoinSet<Ended<R::Error>>,
    /// Only looked up by id, never iterated for a decision.
    running: HashMap<Id, Running<R::Key>>,
    /// Keys of the last full pass and those changed since: one whose entry vanished unnoticed is run once more
    /// by the next full pass, and then forgotten.
    known: BTreeSet<R::Key>,
    resync_at: Duration,
    passes: u64,
}

struct Running<K> {
    job: Job<K>,
    since: Duration,
    span: tracing::Span,
}

impl<R: Reconciler> Run<R> {
    pub(super) fn new(controller: Controller<R::Key>, reconciler: Arc<R>, recorder: Recorder) -> Self {
        let mut run = Self {
            controller,
            reconciler,
            recorder,
            set: JoinSet::new(),
            running: HashMap::new(),
            known: BTreeSet::new(),
            resync_at: Duration::ZERO,
            passes: 0,
        };
        run.schedule_resync();
        run
    }

    fn now(&self) -> Duration {
        self.controller.shared.clock.monotonic()
    }

    pub(super) async fn until(mut self, shutdown: CancellationToken) -> Stopped<R::Key> {
        while !shutdown.is_cancelled() {
            // Each of these takes what is there without waiting, so that none starves another.
            while let Some(joined) = self.set.try_join_next_with_id() {
                self.finish(joined);
            }
            self.take_changes();
            if self.now() >= self.resync_at {
                self.list_all(None);
                self.schedule_resync();
            }
            self.hand_out();
            let nap = self.next_event().saturating_sub(self.now());
            tokio::select! {
                biased;
                () = shutdown.cancelled() => {}
                Some(joined) = self.set.join_next_with_id() => self.finish(joined),
                () = changed(&mut self.controller.watched) => {}
                () = self.controller.shared.added.notified() => {}
                () = tokio::time::sleep(nap) => {}
            }
        }
        self.drain().await
    }

    /// When there is something to do although nothing happens.
    fn next_event(&self) -> Duration {
        let due = self.controller.shared.lock().next_wakeup();
        due.filter(|_| self.running.len() < self.controller.concurrency)
            .map_or(self.resync_at, |due| due.min(self.resync_at))
    }

    fn schedule_resync(&mut self) {
        self.passes += 1;
        let period = jittered(self.controller.resync, &(&self.controller.name, self.passes));
        self.resync_at = self.now().saturating_add(period);
    }

    fn take_changes(&mut self) {
        for index in 0..self.controller.watched.len() {
            let watched = &mut self.controller.watched[index];
            match watched.subscription.try_changed() {
                None => {}
                Some(Changed::Keys(keys)) => {
                    let keys = keys.iter().flat_map(|key| (watched.map)(key)).collect();
                    self.add_all(keys, Lane::Change);
                }
                Some(Changed::Everything) => self.list_all(Some(index)),
            }
        }
    }

    /// Queues all primary keys, those of one more cache, and those that may have vanished.
    fn list_all(&mut self, and: Option<usize>) {
        let mut keys = BTreeSet::new();
        for (index, watched) in self.controller.watched.iter().enumerate() {
            if watched.primary || and == Some(index) {
                keys.extend(watched.view.keys().iter().flat_map(|key| (watched.map)(key)));
            }
        }
        let vanished = std::mem::replace(&mut self.known, keys.clone());
        keys.extend(vanished);
        tracing::debug!(controller = %self.controller.name, keys = keys.len(), "full pass");
        self.add_all(keys, Lane::Resync);
    }

    fn add_all(&self, keys: BTreeSet<R::Key>, lane: Lane) {
        let now = self.now();
        let mut queue = self.controller.shared.lock();
        for key in keys {
            queue.add(key, lane, now);
        }
    }

    fn hand_out(&mut self) {
        while self.running.len() < self.controller.concurrency {
            let now = self.now();
            let Some(job) = self.controller.shared.lock().next(now) else { return };
            if job.lane == Lane::Change {
                self.known.insert(job.key.clone());
            }
            self.recorder.started(job.waited);
            let span = tracing::info_span!(
                "reconcile",
                controller = %self.controller.name,
                key = ?job.key,
                attempt = job.attempt
            );
            let (reconciler, key, limit) =
                (Arc::clone(&self.reconciler), job.key.clone(), self.controller.timeout);
            let reconcile = async move { tokio::time::timeout(limit, reconciler.reconcile(&key)).await }
                .instrument(span.clone());
            let id = self.set.spawn(reconcile).id();
            self.running.insert(id, Running { job, since: now, span });
        }
    }

    fn finish(&mut self, joined: Result<(Id, Ended<R::Error>), JoinError>) {
        let id = joined.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
        let Some(Running { job, since, span }) = self.running.remove(&id) else { return };
        let now = self.now();
        let (ran, outcome, error) = match joined {
            Ok((_, Ok(Ok(Action(None))))) => (Ran::Success, Outcome::Success, None),
            Ok((_, Ok(Ok(Action(Some(after)))))) => (Ran::Requeue, Outcome::Requeue(after), None),
            Ok((_, Ok(Err(error)))) => (Ran::Failed, Outcome::Failure, Some(Report(&error).to_string())),
            Ok((_, Err(_))) => {
                let error = format!("took longer than {:?}", self.controller.timeout);
                (Ran::TimedOut, Outcome::Failure, Some(error))
            }
            Err(error) => {
                let message = match error.try_into_panic() {
                    Ok(panic) => format!("panicked: {}", panic_message(&*panic)),
                    Err(error) => error.to_string(),
                };
                (Ran::Panicked, Outcome::Failure, Some(message))
            }
        };
        self.recorder.finished(ran, now.saturating_sub(since));
        let due = self.controller.shared.lock().done(&job.key, outcome, now);
        if let Some(error) = error {
            let retry_in = due.map(|due| due.saturating_sub(now));
            span.in_scope(|| tracing::warn!(error, ?retry_in, "reconcile failed"));
        }
    }

    /// Starts nothing more; lets what runs end, up to the deadline.
    async fn drain(mut self) -> Stopped<R::Key> {
        let deadline = tokio::time::sleep(self.controller.drain);
        tokio::pin!(deadline);
        loop {
            tokio::select! {
                biased;
                joined = self.set.join_next_with_id() => match joined {
                    Some(joined) => self.finish(joined),
                    None => break,
                },
                () = &mut deadline => break,
            }
        }
        let mut aborted: Vec<_> = self.running.drain().map(|(_, running)| running.job.key).collect();
        aborted.sort();
        if !aborted.is_empty() {
            tracing::warn!(controller = %self.controller.name, keys = ?aborted, "reconciles aborted at shutdown");
        }
        // Waits until the aborted ones are really gone: none of them may act after this returns.
        self.set.shutdown().await;
        Stopped { aborted }
    }
}

/// Waits until one of the caches has news.
async fn changed<K>(watched: &mut [Watched<K>]) {
    poll_fn(|cx| {
        let news = watched.iter_mut().any(|watched| watched.subscription.poll_ready(cx).is_ready());
        if news { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}
