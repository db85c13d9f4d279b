//! Leader election: one key, bound to the lease of whoever created it.
//!
//! Winning gives a [`Fence`] on the key's create revision. The lease only says when to stop trying;
//! what keeps two leaders apart is that each write compares the fence.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures::StreamExt as _;
use overlord_reconcile::{Change, Clock};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::{Committed, Compare, Error, Fence, LeaseId, Listing, Revision, Store, Txn, lease};

/// First pause after a failure; doubled up to [`MAX_PAUSE`].
const MIN_PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(3);

/// Somebody who wants to lead.
#[derive(Debug, Clone)]
pub struct Candidate {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    key: Arc<str>,
    value: Bytes,
    ttl: Duration,
}

/// Leadership, kept while this lives: dropping it stops the renewals, [`Leadership::resign`] hands over at once.
#[derive(Debug)]
pub struct Leadership {
    store: Arc<dyn Store>,
    fence: Fence,
    lease: LeaseId,
    term: Arc<Term>,
    renewals: JoinSet<()>,
}

/// The right to act as the leader, asked right before an act. Clones share it.
#[derive(Debug, Clone)]
pub struct License {
    term: Arc<Term>,
}

/// What the renewing task and its owner share.
#[derive(Debug)]
struct Term {
    clock: Arc<dyn Clock>,
    /// When the leader must have stopped, unless the lease is renewed before.
    until: Mutex<Duration>,
    over: CancellationToken,
}

/// How an attempt to create the key ended.
enum Attempt {
    Won(LeaseId, Revision),
    Taken,
}

impl Candidate {
    /// A candidate for `key` that writes `value` there. `ttl` is in whole seconds; leadership of a
    /// leader that dies passes on after about that long.
    pub fn new(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        key: impl Into<Arc<str>>,
        value: impl Into<Bytes>,
        ttl: Duration,
    ) -> Self {
        let ttl = Duration::from_secs(lease::whole_seconds(ttl));
        Self { store, clock, key: key.into(), value: value.into(), ttl }
    }

    /// Waits until the key is ours. Final are only errors that a person's hand must end in our own settings;
    /// all others are waited out. [`Error::Shutdown`] when `shutdown` comes first.
    pub async fn campaign(&self, shutdown: &CancellationToken) -> Result<Leadership, Error> {
        let mut failures = 0;
        let mut told = String::new();
        loop {
            match self.round(shutdown).await {
                Ok(Some(leadership)) => return Ok(leadership),
                Ok(None) => failures = 0,
                Err(error @ (Error::Denied(_) | Error::BadEndpoint { .. } | Error::Shutdown)) => {
                    return Err(error);
                }
                Err(error) => {
                    let pause = self.pause(failures);
                    failures += 1;
                    let message = error.to_string();
                    if message == told {
                        debug!(key = &*self.key, error = message, ?pause, "campaign interrupted");
                    } else {
                        warn!(key = &*self.key, error = message, ?pause, "campaign interrupted");
                        told = message;
                    }
                    unless(shutdown, sleep(pause)).await?;
                }
            }
        }
    }

    /// Takes the key if it is free, else waits until it seems to be.
    async fn round(&self, shutdown: &CancellationToken) -> Result<Option<Leadership>, Error> {
        let holder = unless(shutdown, self.store.get(&self.key)).await??;
        if holder.entries.is_empty() {
            let sent = self.clock.monotonic();
            // Not cut short by shutdown: a key that nobody knows of would keep others waiting.
            if let Attempt::Won(lease, epoch) = self.take().await? {
                info!(key = &*self.key, epoch, "leadership won");
                return Ok(Some(self.lead(lease, epoch, sent)));
            }
            return Ok(None);
        }
        // Events alone are not relied on: the key is read again now and then.
        match unless(shutdown, timeout(self.ttl, self.deletion(holder.revision))).await? {
            Ok(Err(error)) => Err(error),
            Ok(Ok(())) => Ok(None),
            Err(_) => {
                self.free_unleased(&holder).await?;
                Ok(None)
            }
        }
    }

    /// A key without a lease was written by hand, and no death of its writer ever frees it. Deleting it is
    /// safe: a leader that lives under it is fenced off by that, and campaigns again.
    async fn free_unleased(&self, holder: &Listing) -> Result<(), Error> {
        let Some(entry) = holder.entries.first().filter(|entry| entry.lease == 0) else { return Ok(()) };
        warn!(
            key = &*self.key,
            "the leader key is bound to no lease, somebody wrote it by hand: it is freed"
        );
        let same = Compare::ModRevision(self.key.to_string(), entry.mod_revision);
        self.store.commit(Txn::unfenced().when(same).delete(&*self.key)).await.map(|_| ())
    }

    /// Creates the key under a new lease, if it is still absent.
    async fn take(&self) -> Result<Attempt, Error> {
        let lease = self.store.lease_grant(self.ttl).await?;
        let txn = Txn::unfenced().when(Compare::Absent(self.key.to_string())).put_leased(
            &*self.key,
            self.value.clone(),
            lease,
        );
        let result = match self.store.commit(txn).await {
            Ok(Committed::Yes(epoch)) => return Ok(Attempt::Won(lease, epoch)),
            Ok(Committed::No(_)) | Err(Error::LeaseGone(_)) => Ok(Attempt::Taken),
            // It may have happened: the lease in the key says so.
            Err(Error::Unanswered { .. }) => match self.store.get(&self.key).await {
                Ok(found) => match found.entries.first() {
                    Some(entry) if entry.lease == lease => {
                        return Ok(Attempt::Won(lease, entry.create_revision));
                    }
                    _ => Ok(Attempt::Taken),
                },
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        };
        // Revoking also undoes a commit that arrives late. If it fails, the lease ends by itself.
        if let Err(error) = self.store.lease_revoke(lease).await {
            debug!(key = &*self.key, %error, "lease of a lost campaign not revoked");
        }
        result
    }

    /// Waits until the key is deleted after `revision`, or the watch ends.
    async fn deletion(&self, revision: Revision) -> Result<(), Error> {
        let mut changes = self.store.watch(&self.key, revision).await?;
        while let Some(batch) = changes.next().await {
            let Ok(batch) = batch else { break };
            // The watch is of a prefix: longer keys are none of ours.
            let deleted = |change: &Change| matches!(change, Change::Delete { key, .. } if *key == self.key);
            if batch.iter().any(deleted) {
                return Ok(());
            }
        }
        // A broken watch: read the key again, but not at once.
        sleep(self.pause(0)).await;
        Ok(())
    }

    fn lead(&self, lease: LeaseId, epoch: Revision, sent: Duration) -> Leadership {
        let term = Arc::new(Term {
            clock: Arc::clone(&self.clock),
            until: Mutex::new(sent.saturating_add(validity(self.ttl))),
            over: CancellationToken::new(),
        });
        let fence = Fence::new(Arc::clone(&self.key), epoch);
        let mut renewals = JoinSet::new();
        renewals.spawn(renew(Arc::clone(&self.store), fence.clone(), lease, self.ttl, Arc::clone(&term)));
        Leadership { store: Arc::clone(&self.store), fence, lease, term, renewals }
    }

    /// Grows with failures; the jitter differs between candidates and is the same in every replay.
    fn pause(&self, failures: u32) -> Duration {
        let full = MIN_PAUSE.saturating_mul(1 << failures.min(10)).min(MAX_PAUSE);
        let mut hasher = DefaultHasher::new();
        (&self.key, &self.value, failures).hash(&mut hasher);
        let half = full / 2;
        half + half.mul_f64((hasher.finish() % 1000) as f64 / 1000.0)
    }
}

impl Leadership {
    /// What each write of this leader compares.
    pub const fn fence(&self) -> &Fence {
        &self.fence
    }

    /// The create revision of the leader key: larger for each leader.
    pub const fn epoch(&self) -> Revision {
        self.fence.epoch()
    }

    /// Whether the lease surely still runs: counted from before its last renewal was sent, less a margin.
    pub fn is_valid(&self) -> bool {
        self.term.is_valid()
    }

    /// Resolves when this is not the leader any more: the lease or the key is gone, or could not be
    /// renewed in time.
    pub async fn lost(&self) {
        self.term.over.cancelled().await;
    }

    /// The right to act, for those who act in the leader's name. It ends with this leadership.
    pub fn license(&self) -> License {
        License { term: Arc::clone(&self.term) }
    }

    /// Gives the key back, so that another candidate wins at once.
    pub async fn resign(mut self) -> Result<(), Error> {
        // First stop acting as the leader, then let others lead.
        self.term.over.cancel();
        self.renewals.shutdown().await;
        self.store.lease_revoke(self.lease).await
    }
}

impl License {
    /// Whether the lease surely still runs. Read from the clock, so that a process which was stopped and goes
    /// on sees its end before any timer of its own has told of it.
    pub fn is_valid(&self) -> bool {
        self.term.is_valid()
    }

    /// Resolves when it is over.
    pub async fn lost(&self) {
        self.term.over.cancelled().await;
    }
}

/// Nobody renews any more.
impl Drop for Leadership {
    fn drop(&mut self) {
        self.term.over.cancel();
    }
}

impl Term {
    fn is_valid(&self) -> bool {
        !self.over.is_cancelled() && !self.left().is_zero()
    }

    fn left(&self) -> Duration {
        self.until().saturating_sub(self.clock.monotonic())
    }

    fn until(&self) -> Duration {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn extend(&self, until: Duration) {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) = until;
    }
}

async fn unless<T>(shutdown: &CancellationToken, work: impl Future<Output = T>) -> Result<T, Error> {
    tokio::select! {
        biased;
        () = shutdown.cancelled() => Err(Error::Shutdown),
        done = work => Ok(done),
    }
}

/// How long a lease of `ttl` is relied on. The rest is for clocks that differ in speed, and for what
/// was begun just before the end.
fn validity(ttl: Duration) -> Duration {
    ttl.mul_f64(0.8)
}

/// Renews the lease until it is lost, then says so.
async fn renew(store: Arc<dyn Store>, fence: Fence, lease: LeaseId, ttl: Duration, term: Arc<Term>) {
    let mut pause = ttl / 3;
    loop {
        sleep(pause.min(term.left())).await;
        let left = term.left();
        if left.is_zero() {
            warn!(%fence, "leadership lost: the lease could not be renewed in time");
            break;
        }
        let sent = term.clock.monotonic();
        match timeout(left, store.lease_keep_alive(lease)).await {
            Ok(Ok(Some(granted))) => {
                term.extend(sent.saturating_add(validity(ttl.min(granted))));
                pause = ttl / 3;
            }
            Ok(Ok(None)) => {
                warn!(%fence, "leadership lost: the lease is gone");
                break;
            }
            Ok(Err(error)) => {
                debug!(%fence, %error, "lease not renewed yet");
                pause = ttl / 20;
                continue;
            }
            Err(_elapsed) => continue,
        }
        // The key can go while the lease lives, by a person's hand: no write would pass the fence then.
        if let Ok(Ok(found)) = timeout(term.left(), store.get(&fence.key)).await
            && found.entries.first().is_none_or(|entry| entry.create_revision != fence.epoch)
        {
            warn!(%fence, "leadership lost: the key is gone");
            break;
        }
    }
    term.over.cancel();
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use async_trait::async_trait;
    use overlord_reconcile::TokioClock;

    use super::*;
    use crate::{Changes, Fetch, MemoryStore};

    const TTL: Duration = Duration::from_secs(10);

    fn world() -> (MemoryStore, Arc<dyn Clock>) {
        let clock: Arc<dyn Clock> = Arc::new(TokioClock::starting_at(jiff::Timestamp::UNIX_EPOCH));
        (MemoryStore::new(Arc::clone(&clock)), clock)
    }

    fn candidate(store: &MemoryStore, clock: &Arc<dyn Clock>, name: &'static str) -> Candidate {
        Candidate::new(Arc::new(store.clone()), Arc::clone(clock), "/leader", name, TTL)
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_created_by_a_commit_whose_answer_was_lost_is_won() {
        let (store, clock) = world();
        store.lose_next_answer();
        let leader = candidate(&store, &clock, "a").campaign(&CancellationToken::new()).await.unwrap();
        let entry = store.get("/leader").await.unwrap().entries.remove(0);
        assert_eq!(leader.epoch(), entry.create_revision);
        assert!(leader.is_valid());
        assert_eq!(store.writes(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_cut_off_stops_before_another_can_win() {
        let (store, clock) = world();
        let leader = candidate(&store, &clock, "a").campaign(&CancellationToken::new()).await.unwrap();
        // Past a few renewals, then silence.
        sleep(TTL * 3).await;
        assert!(leader.is_valid());
        let cut_off = clock.monotonic();
        store.set_unavailable(true);
        leader.lost().await;
        assert!(!leader.is_valid());
        let lost = clock.monotonic();
        assert!(lost <= cut_off + validity(TTL), "cut off at {cut_off:?}, lost at {lost:?}");
        store.set_unavailable(false);
        assert_eq!(store.get("/leader").await.unwrap().entries.len(), 1, "the lease still runs");
        sleep(TTL).await;
        assert!(store.get("/leader").await.unwrap().entries.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_license_ends_with_its_leadership() {
        let (store, clock) = world();
        let leader = candidate(&store, &clock, "a").campaign(&CancellationToken::new()).await.unwrap();
        let license = leader.license();
        assert!(license.is_valid());
        leader.resign().await.unwrap();
        assert!(!license.is_valid());
        license.lost().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_short_outage_costs_no_leadership() {
        let (store, clock) = world();
        let leader = candidate(&store, &clock, "a").campaign(&CancellationToken::new()).await.unwrap();
        for _ in 0..5 {
            store.set_unavailable(true);
            sleep(TTL * 4 / 10).await;
            store.set_unavailable(false);
            sleep(TTL).await;
            assert!(leader.is_valid());
        }
        assert_eq!(store.writes(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_campaign_waits_an_outage_out() {
        let (store, clock) = world();
        store.set_unavailable(true);
        let other = candidate(&store, &clock, "a");
        let mut campaign = JoinSet::new();
        campaign.spawn(async move { other.campaign(&CancellationToken::new()).await });
        sleep(TTL * 10).await;
        assert!(campaign.try_join_next().is_none());
        store.set_unavailable(false);
        let leader = campaign.join_next().await.unwrap().unwrap().unwrap();
        assert!(leader.is_valid());
    }

    /// A store that answers the next reads, or leases, with errors.
    #[derive(Debug)]
    struct Sick {
        store: MemoryStore,
        gets: Mutex<VecDeque<Error>>,
        leases: Mutex<VecDeque<Error>>,
    }

    fn next(errors: &Mutex<VecDeque<Error>>) -> Result<(), Error> {
        errors.lock().unwrap().pop_front().map_or(Ok(()), Err)
    }

    #[async_trait]
    impl Store for Sick {
        async fn get(&self, key: &str) -> Result<Listing, Error> {
            next(&self.gets)?;
            self.store.get(key).await
        }

        async fn list(&self, prefix: &str, fetch: Fetch) -> Result<Listing, Error> {
            self.store.list(prefix, fetch).await
        }

        async fn watch(&self, prefix: &str, after: Revision) -> Result<Changes, Error> {
            self.store.watch(prefix, after).await
        }

        async fn commit(&self, txn: Txn) -> Result<Committed, Error> {
            self.store.commit(txn).await
        }

        async fn lease_grant(&self, ttl: Duration) -> Result<LeaseId, Error> {
            next(&self.leases)?;
            self.store.lease_grant(ttl).await
        }

        async fn lease_keep_alive(&self, lease: LeaseId) -> Result<Option<Duration>, Error> {
            self.store.lease_keep_alive(lease).await
        }

        async fn lease_revoke(&self, lease: LeaseId) -> Result<(), Error> {
            self.store.lease_revoke(lease).await
        }
    }

    async fn campaign_in(gets: Vec<Error>, leases: Vec<Error>) -> Result<Leadership, Error> {
        let (store, clock) = world();
        let store =
            Arc::new(Sick { store, gets: Mutex::new(gets.into()), leases: Mutex::new(leases.into()) });
        Candidate::new(store, clock, "/leader", "a", TTL).campaign(&CancellationToken::new()).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_campaign_waits_a_full_store_out() {
        let full = || Error::NoSpace("quota exceeded".to_owned());
        let other = Error::Other("too many requests".to_owned());
        let leader =
            campaign_in(vec![other, Error::Compacted(7), full()], vec![full(), full()]).await.unwrap();
        assert!(leader.is_valid());
    }

    #[tokio::test(start_paused = true)]
    async fn a_campaign_ends_when_only_other_settings_would_help() {
        let denied = Error::Denied("no such user".to_owned());
        assert!(matches!(campaign_in(vec![denied], vec![]).await, Err(Error::Denied(_))));
        let bad = Error::BadEndpoint { endpoint: "x".to_owned(), reason: "no port".to_owned() };
        assert!(matches!(campaign_in(vec![], vec![bad]).await, Err(Error::BadEndpoint { .. })));
    }

    #[tokio::test(start_paused = true)]
    async fn a_dropped_leadership_is_renewed_no_more() {
        let (store, clock) = world();
        let leader = candidate(&store, &clock, "a").campaign(&CancellationToken::new()).await.unwrap();
        drop(leader);
        sleep(TTL + Duration::from_millis(1)).await;
        assert!(store.get("/leader").await.unwrap().entries.is_empty());
    }

    #[test]
    fn pauses_grow_and_differ_between_candidates() {
        let clock: Arc<dyn Clock> = Arc::new(overlord_reconcile::SystemClock::new());
        let store = MemoryStore::new(Arc::clone(&clock));
        let (a, b) = (candidate(&store, &clock, "a"), candidate(&store, &clock, "b"));
        assert_ne!(a.pause(0), b.pause(0));
        assert_eq!(a.pause(3), a.pause(3));
        assert!(a.pause(0) >= MIN_PAUSE / 2 && a.pause(0) <= MIN_PAUSE);
        assert!(a.pause(u32::MAX) >= MAX_PAUSE / 2 && a.pause(u32::MAX) <= MAX_PAUSE);
    }
}
