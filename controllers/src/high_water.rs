//! How far the store was: what tells an etcd that was restored from an older backup, or is another one.
//!
//! A restored etcd has forgotten what was launched since its backup, and which orders were carried out. Whoever
//! believes it deletes what is needed and launches a second time what runs. So the latest [`StoreMark`] that was ever
//! seen is kept in four places, each of which can be lost alone: in this process, in its state file, in a label of
//! each Mesos task, and in the executors, which tell it with their reports. A store that is older has gone back. Then
//! nothing is done to any cluster, and the condition `Stale` says so, until a person accepts the store as it is: by
//! the next number under [`keys::GENERATION`]. Marks of earlier generations count no more. That the revision comes as
//! far again is no acceptance.

use std::{
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use futures::StreamExt as _;
use overlord_api::{StoreMark, keys};
use overlord_reconcile::{Change, Changes};
use overlord_store::{Committed, Error, Fetch, LeaseId, Listing, Revision, Store, Txn};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::shared::lock;

/// How often a store that went back is looked at, whether it was accepted.
const ACCEPTED_YET: Duration = Duration::from_secs(5);

/// How often the state file is written.
const REMEMBER: Duration = Duration::from_secs(60);

/// Before a store that did not answer is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// The line of the state file that says that the store went back and was not accepted yet.
const NOT_ACCEPTED: &str = "went back";

/// The line of the state file with the framework id begins with this.
const FRAMEWORK: &str = "framework ";

/// The store is older than what was seen of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WentBack {
    /// The latest that was seen.
    pub(crate) known: StoreMark,
    /// What it was when that was noticed.
    pub(crate) found: StoreMark,
}

impl fmt::Display for WentBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { known, found } = self;
        write!(
            f,
            "etcd went back from {known} to {found} (generation.revision): it was restored from an older backup, or is \
             another etcd. What runs is left alone, and nothing is launched, changed or removed. Restore a newer backup, \
             or accept this one: etcdctl put {} {}",
            keys::GENERATION,
            known.generation + 1
        )
    }
}

/// The latest mark that a controller knows of. One a process, over all its terms.
#[derive(Debug)]
pub(crate) struct HighWater {
    file: Option<PathBuf>,
    state: Mutex<State>,
    /// Rung when the store may have gone back.
    doubt: Notify,
    /// Counts how often it went back or was accepted.
    turns: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    known: StoreMark,
    /// What others say that they saw, and the store was not asked about yet.
    claimed: StoreMark,
    /// The mark of a store that went back, when that was noticed.
    back: Option<StoreMark>,
    framework: Option<String>,
    /// What stands in the file.
    written: String,
}

impl State {
    /// From the text of a state file.
    fn parse(text: String) -> Self {
        let mut state = Self::default();
        for line in text.lines().map(str::trim) {
            if line == NOT_ACCEPTED {
                state.back = Some(StoreMark::default());
            } else if let Some(id) = line.strip_prefix(FRAMEWORK) {
                state.framework = Some(id.to_owned());
            } else if let Ok(mark) = line.parse() {
                state.known = mark;
            }
        }
        state.written = text;
        state
    }

    fn text(&self) -> String {
        let framework = self.framework.as_ref().map(|id| format!("{FRAMEWORK}{id}\n")).unwrap_or_default();
        let refused = if self.back.is_some() { format!("{NOT_ACCEPTED}\n") } else { String::new() };
        format!("{}\n{framework}{refused}", self.known)
    }
}

impl HighWater {
    /// What the state file knows, where there is one.
    pub(crate) fn new(file: Option<PathBuf>) -> Arc<Self> {
        let state = match file.as_deref().map(std::fs::read_to_string) {
            Some(Ok(text)) => State::parse(text),
            Some(Err(error)) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(%error, file = ?file, "the state file cannot be read");
                State::default()
            }
            _ => State::default(),
        };
        Arc::new(Self { file, state: Mutex::new(state), doubt: Notify::new(), turns: watch::Sender::new(0) })
    }

    /// The store as of the last look, when it went back and nobody accepted it.
    pub(crate) fn went_back(&self) -> Option<WentBack> {
        let state = lock(&self.state);
        state.back.map(|found| WentBack { known: state.known, found })
    }

    /// How often the store went back or was accepted, from now on and later.
    pub(crate) fn turns(&self) -> watch::Receiver<u64> {
        self.turns.subscribe()
    }

    /// The mark of something that was written at `revision`.
    pub(crate) fn mark_of(&self, revision: Revision) -> StoreMark {
        StoreMark { generation: lock(&self.state).known.generation, revision }
    }

    /// Somebody saw the store as far as this. What is not known here yet is asked of the store itself.
    pub(crate) fn heard(&self, mark: StoreMark) {
        let mut state = lock(&self.state);
        if mark > state.known.max(state.claimed) {
            state.claimed = mark;
            self.doubt.notify_one();
        }
    }

    /// The framework id that this controller subscribed with last.
    pub(crate) fn framework(&self) -> Option<String> {
        lock(&self.state).framework.clone()
    }

    /// Keeps the framework id beside the mark: a store that went back far enough does not know it.
    pub(crate) fn subscribed(&self, framework: &str) {
        lock(&self.state).framework = Some(framework.to_owned());
        self.remember();
    }

    /// Asks the store how far it is and which generation, and settles what that means.
    pub(crate) async fn check(&self, store: &dyn Store) -> Result<Option<WentBack>, Error> {
        // What is seen while this is on its way may be later than its answer.
        let before = {
            let mut state = lock(&self.state);
            let claimed = std::mem::take(&mut state.claimed);
            state.known.max(claimed)
        };
        let listing = match store.get(keys::GENERATION).await {
            Ok(listing) => listing,
            Err(error) => {
                let mut state = lock(&self.state);
                state.claimed = state.claimed.max(before);
                return Err(error);
            }
        };
        let generation = match listing.entries.first() {
            None => 0,
            Some(entry) => String::from_utf8_lossy(&entry.value).trim().parse().unwrap_or_else(|_| {
                let key = keys::GENERATION;
                tracing::error!(key, value = ?entry.value, "is no number, and counts as 0");
                0
            }),
        };
        self.settle(before, StoreMark { generation, revision: listing.revision });
        Ok(self.went_back())
    }

    /// The same, until the store answers.
    pub(crate) async fn check_until_answered(&self, store: &dyn Store) -> Result<Option<WentBack>, Error> {
        loop {
            match self.check(store).await {
                Err(error @ (Error::Denied(_) | Error::BadEndpoint { .. })) => return Err(error),
                Err(error) => {
                    tracing::debug!(%error, "how far the store is, is not known yet");
                    tokio::time::sleep(ASK_AGAIN).await;
                }
                Ok(went_back) => return Ok(went_back),
            }
        }
    }

    /// The store is at `found`, as asked when `before` was the latest that was known.
    fn settle(&self, before: StoreMark, found: StoreMark) {
        let mut state = lock(&self.state);
        let was = state.back;
        state.back = match was {
            Some(_) if found.generation > before.generation => None,
            Some(first) => Some(if first == StoreMark::default() { found } else { first }),
            None => (before > found).then_some(found),
        };
        state.known = state.known.max(if state.back.is_some() { before } else { found });
        let turned = was.is_some() != state.back.is_some();
        let told = state.back.map(|found| WentBack { known: state.known, found });
        drop(state);
        if !turned {
            return;
        }
        if let Some(went_back) = told {
            tracing::error!("{went_back}");
        } else {
            tracing::warn!(store = %found, "this etcd was accepted by a person: going on with it");
        }
        self.remember();
        self.turns.send_modify(|turns| *turns += 1);
    }

    /// A linearizable answer of the store that was asked for when `floor` was known.
    fn answered(&self, floor: Revision, revision: Revision) {
        let mut state = lock(&self.state);
        if state.back.is_some() {
            return;
        }
        state.known.revision = state.known.revision.max(revision);
        if revision < floor {
            self.doubt.notify_one();
        }
    }

    fn floor(&self) -> Revision {
        lock(&self.state).known.revision
    }

    /// Writes the state file when there is news; a failure costs the check after the next start, nothing else.
    fn remember(&self) {
        let Some(file) = &self.file else { return };
        let mut state = lock(&self.state);
        let text = state.text();
        if text == state.written {
            return;
        }
        let fresh = file.with_extension("new");
        match std::fs::write(&fresh, &text).and_then(|()| std::fs::rename(&fresh, file)) {
            Ok(()) => state.written = text,
            Err(error) => tracing::warn!(file = %file.display(), %error, "high-water mark not written"),
        }
    }

    /// Looks when there is doubt, and whether a store that went back was accepted; until `shutdown`.
    pub(crate) async fn run(&self, store: &dyn Store, shutdown: &CancellationToken) {
        loop {
            let back = self.went_back().is_some();
            let pause = match (back, &self.file) {
                (true, _) => Some(ACCEPTED_YET),
                (false, Some(_)) => Some(REMEMBER),
                (false, None) => None,
            };
            let doubted = tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                () = self.doubt.notified() => true,
                () = sleep_or_not(pause) => back,
            };
            if doubted {
                tokio::select! {
                    biased;
                    () = shutdown.cancelled() => break,
                    checked = self.check_until_answered(store) => if let Err(error) = checked {
                        tracing::warn!(%error, "how far the store is cannot be asked");
                        tokio::time::sleep(ASK_AGAIN).await;
                    },
                }
            }
            self.remember();
        }
        self.remember();
    }
}

async fn sleep_or_not(pause: Option<Duration>) {
    match pause {
        Some(pause) => tokio::time::sleep(pause).await,
        None => std::future::pending().await,
    }
}

/// A store whose every answer is compared with how far it was.
#[derive(Debug)]
pub(crate) struct MarkedStore {
    inner: Arc<dyn Store>,
    high_water: Arc<HighWater>,
}

impl MarkedStore {
    pub(crate) fn new(inner: Arc<dyn Store>, high_water: Arc<HighWater>) -> Self {
        Self { inner, high_water }
    }
}

#[async_trait]
impl Store for MarkedStore {
    async fn get(&self, key: &str) -> Result<Listing, Error> {
        let floor = self.high_water.floor();
        let listing = self.inner.get(key).await?;
        self.high_water.answered(floor, listing.revision);
        Ok(listing)
    }

    async fn list(&self, prefix: &str, fetch: Fetch) -> Result<Listing, Error> {
        let floor = self.high_water.floor();
        let listing = self.inner.list(prefix, fetch).await?;
        self.high_water.answered(floor, listing.revision);
        Ok(listing)
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<Changes, Error> {
        let changes = self.inner.watch(prefix, after).await;
        if matches!(changes, Err(Error::WentBack { .. })) {
            self.high_water.doubt.notify_one();
        }
        let high_water = Arc::clone(&self.high_water);
        let seen = move |batch: &Result<Vec<Change>, _>| match batch {
            Ok(batch) => {
                let newest = batch.iter().map(revision_of).max().unwrap_or(0);
                // What a watch brings was committed; it may come late.
                high_water.answered(0, newest);
            }
            Err(_) => high_water.doubt.notify_one(),
        };
        Ok(changes?.inspect(seen).boxed())
    }

    async fn commit(&self, txn: Txn) -> Result<Committed, Error> {
        let floor = self.high_water.floor();
        let answer = self.inner.commit(txn).await?;
        let (Committed::Yes(revision) | Committed::No(revision)) = answer;
        self.high_water.answered(floor, revision);
        Ok(answer)
    }

    async fn lease_grant(&self, ttl: Duration) -> Result<LeaseId, Error> {
        self.inner.lease_grant(ttl).await
    }

    async fn lease_keep_alive(&self, lease: LeaseId) -> Result<Option<Duration>, Error> {
        self.inner.lease_keep_alive(lease).await
    }

    async fn lease_revoke(&self, lease: LeaseId) -> Result<(), Error> {
        self.inner.lease_revoke(lease).await
    }
}

const fn revision_of(change: &Change) -> Revision {
    match change {
        Change::Put(entry) => entry.mod_revision,
        Change::Delete { revision, .. } => *revision,
    }
}

#[cfg(test)]
mod tests {
    use overlord_reconcile::TokioClock;
    use overlord_store::MemoryStore;

    use super::*;

    struct World {
        store: MemoryStore,
        marked: MarkedStore,
        high_water: Arc<HighWater>,
    }

    fn world_with(file: Option<PathBuf>) -> World {
        let clock = Arc::new(TokioClock::starting_at(jiff::Timestamp::UNIX_EPOCH));
        let store = MemoryStore::new(clock);
        let high_water = HighWater::new(file);
        let marked = MarkedStore::new(Arc::new(store.clone()), Arc::clone(&high_water));
        World { store, marked, high_water }
    }

    impl World {
        async fn put(&self, key: &str, value: &'static str) {
            self.marked.commit(Txn::unfenced().put(key, value)).await.unwrap();
        }

        async fn check(&self) -> Option<WentBack> {
            self.high_water.check(&self.marked).await.unwrap()
        }
    }

    const fn mark(generation: u64, revision: i64) -> StoreMark {
        StoreMark { generation, revision }
    }

    #[tokio::test(start_paused = true)]
    async fn a_restored_store_is_noticed_by_the_next_answer_and_stays_refused_until_a_person_accepts_it() {
        let world = world_with(None);
        world.put("/a", "1").await;
        let backup = world.store.snapshot();
        world.put("/a", "2").await;
        assert_eq!(world.check().await, None);
        let mut turns = world.high_water.turns();
        let shutdown = CancellationToken::new();
        let (high_water, marked) = (Arc::clone(&world.high_water), world.store.clone());
        let mut tasks = tokio::task::JoinSet::new();
        let token = shutdown.clone();
        tasks.spawn(async move { high_water.run(&marked, &token).await });

        world.store.restore(&backup);
        world.marked.get("/a").await.unwrap();
        turns.changed().await.unwrap();
        let back = world.high_water.went_back().unwrap();
        assert_eq!((back.known, back.found), (mark(0, 3), mark(0, 2)));
        // It comes as far again, and is no newer for that.
        for _ in 0..9 {
            world.put("/b", "1").await;
        }
        tokio::time::sleep(ACCEPTED_YET * 3).await;
        assert_eq!(world.high_water.went_back(), Some(back));

        assert!(back.to_string().contains("etcdctl put /overlord/generation 1"), "{back}");
        world.put(keys::GENERATION, "1").await;
        turns.changed().await.unwrap();
        assert_eq!(world.high_water.went_back(), None);
        assert_eq!(world.high_water.mark_of(50), mark(1, 50));
        shutdown.cancel();
        tasks.join_all().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_others_saw_further_on_has_gone_back_and_one_that_they_read_sooner_has_not() {
        let world = world_with(None);
        world.put("/a", "1").await;
        assert_eq!(world.check().await, None);
        // Committed by somebody else, and heard of before it is read here.
        world.store.commit(Txn::unfenced().put("/a", "2")).await.unwrap();
        world.high_water.heard(mark(0, 3));
        assert_eq!(world.check().await, None);
        world.high_water.heard(mark(0, 400));
        let back = world.check().await.unwrap();
        assert_eq!(back.known, mark(0, 400));
        world.put(keys::GENERATION, "1").await;
        assert_eq!(world.check().await, None);
        // Of the time before, told late.
        world.high_water.heard(mark(0, 900));
        assert_eq!(world.check().await, None);
        world.high_water.heard(mark(1, 900));
        assert!(world.check().await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn the_state_file_outlives_the_process_and_so_does_what_it_says() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("state");
        // As it was written before there were generations.
        std::fs::write(&file, "20").unwrap();
        let world = world_with(Some(file.clone()));
        world.high_water.subscribed("f-1");
        assert!(world.check().await.is_some());
        for _ in 0..30 {
            world.put("/a", "1").await;
        }
        let world = World { high_water: HighWater::new(Some(file.clone())), ..world };
        assert!(
            world.check().await.is_some(),
            "a restart accepts nothing, and the revision has passed the mark"
        );
        assert_eq!(world.high_water.framework().as_deref(), Some("f-1"));
        world.put(keys::GENERATION, "1").await;
        assert_eq!(world.check().await, None);
        let text = std::fs::read_to_string(&file).unwrap();
        assert_eq!(text, "1.32\nframework f-1\n");
        assert_eq!(HighWater::new(Some(file)).went_back(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_damaged_generation_accepts_nothing() {
        let world = world_with(None);
        world.high_water.heard(mark(1, 5));
        world.put(keys::GENERATION, "two").await;
        assert!(world.check().await.is_some());
        world.put(keys::GENERATION, " 2\n").await;
        assert_eq!(world.check().await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_breaks_over_a_restore_raises_doubt() {
        let world = world_with(None);
        let mut changes = world.marked.watch("/", 1).await.unwrap();
        let backup = world.store.snapshot();
        world.store.commit(Txn::unfenced().put("/a", "2")).await.unwrap();
        changes.next().await.unwrap().unwrap();
        assert_eq!(world.high_water.floor(), 2);
        world.store.restore(&backup);
        assert!(changes.next().await.unwrap().is_err());
        tokio::time::timeout(Duration::from_secs(1), world.high_water.doubt.notified()).await.unwrap();
    }
}
