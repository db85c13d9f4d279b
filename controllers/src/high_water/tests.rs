//! What tells a store that went back from one that did not.

use futures::StreamExt as _;
use overlord_reconcile::TokioClock;
use overlord_store::MemoryStore;

use super::*;

const KEY: &str = "/leader";

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

    /// A leader begins, and is gone: the next one begins after it.
    async fn led(&self, id: u64) {
        let _ = self.store.commit(Txn::unfenced().delete(KEY)).await;
        let Committed::Yes(epoch) = self.store.commit(Txn::unfenced().put(KEY, "x")).await.unwrap() else {
            panic!("not written")
        };
        let fence = Fence::new(KEY, epoch);
        self.high_water.begin_term(&self.marked, &fence, TermId(id)).await.unwrap();
    }

    /// Another process, without a memory.
    fn another(&self) -> Self {
        let high_water = HighWater::new(None);
        let marked = MarkedStore::new(Arc::new(self.store.clone()), Arc::clone(&high_water));
        Self { store: self.store.clone(), marked, high_water }
    }

    async fn check(&self) -> Option<WentBack> {
        self.high_water.check(&self.marked).await.unwrap()
    }
}

const fn mark(generation: u64, revision: i64) -> StoreMark {
    StoreMark { generation, revision }
}

/// Seen by somebody who did not read the history.
fn at(generation: u64, revision: i64) -> Sighting {
    Sighting { mark: mark(generation, revision), ..Sighting::default() }
}

/// Seen while this term was the last one.
fn in_term(id: u64, generation: u64, revision: i64) -> Sighting {
    Sighting { term: Some(TermId(id)), ..at(generation, revision) }
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
    world.high_water.heard(at(0, 3));
    assert_eq!(world.check().await, None);
    world.high_water.heard(at(0, 400));
    let back = world.check().await.unwrap();
    assert_eq!(back.known, mark(0, 400));
    world.put(keys::GENERATION, "1").await;
    assert_eq!(world.check().await, None);
    // Of the time before, told late.
    world.high_water.heard(at(0, 900));
    assert_eq!(world.check().await, None);
    world.high_water.heard(at(1, 900));
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
    assert!(world.check().await.is_some(), "a restart accepts nothing, and the revision has passed the mark");
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
    world.high_water.heard(at(1, 5));
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

#[tokio::test(start_paused = true)]
async fn a_witness_tells_a_store_that_grew_past_what_it_saw_from_the_store_itself() {
    let world = world_with(None);
    world.led(1).await;
    let backup = world.store.snapshot();
    // As many as it takes to lead what is restored: fewer are not told from those.
    for _ in 0..4 {
        world.put("/a", "1").await;
    }
    let seen = in_term(1, 0, world.high_water.floor());

    // The store itself, led by another: the witness told late.
    let next = world.another();
    next.led(2).await;
    next.high_water.heard(seen);
    assert_eq!(next.check().await, None);
    let seen_later = in_term(2, 0, next.high_water.floor());

    // The backup, led by a controller that knows nothing, and written to.
    world.store.restore(&backup);
    let restored = world.another();
    restored.led(3).await;
    for _ in 0..20 {
        restored.put("/b", "1").await;
    }
    assert_eq!(restored.check().await, None);
    for seen in [seen, seen_later] {
        let restored = restored.another();
        restored.led(4).await;
        restored.high_water.heard(seen);
        tokio::time::timeout(Duration::from_secs(1), restored.high_water.doubt.notified()).await.unwrap();
        let back = restored.check().await.unwrap();
        assert_eq!(back.known, restored.high_water.went_back().unwrap().known);
        assert!(back.known.revision >= seen.mark.revision);
    }
    // What was seen of the restored one is all right, and costs the store nothing.
    restored.high_water.heard(in_term(3, 0, restored.high_water.floor()));
    assert!(lock(&restored.high_water.state).sightings.is_empty());
    assert_eq!(restored.check().await, None);
    // A person accepts it.
    restored.high_water.heard(seen);
    assert!(restored.check().await.is_some());
    restored.put(keys::GENERATION, "1").await;
    assert_eq!(restored.check().await, None);
    restored.high_water.heard(seen_later);
    restored.led(5).await;
    assert_eq!(restored.check().await, None);
    restored.high_water.heard(in_term(5, 1, restored.high_water.floor()));
    assert_eq!(restored.check().await, None);
}

#[tokio::test(start_paused = true)]
async fn a_state_file_tells_a_store_that_grew_past_it_while_no_controller_ran() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("state");
    let world = world_with(Some(file.clone()));
    world.led(1).await;
    let backup = world.store.snapshot();
    // As many as it takes to lead what is restored: fewer are not told from those.
    for _ in 0..4 {
        world.put("/a", "1").await;
    }
    assert_eq!(world.check().await, None);
    world.high_water.remember();

    world.store.restore(&backup);
    let other = world.another();
    other.led(2).await;
    for _ in 0..20 {
        other.put("/b", "1").await;
    }
    let high_water = HighWater::new(Some(file));
    assert!(high_water.remembers());
    assert!(high_water.check(&world.store).await.unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn what_an_executor_saw_go_back_is_believed_in_its_generation_only() {
    let world = world_with(None);
    world.led(1).await;
    let told = |generation| Sighting { went_back: true, ..at(generation, 2) };
    world.put(keys::GENERATION, "1").await;
    assert_eq!(world.check().await, None);
    world.high_water.heard(told(0));
    assert_eq!(world.check().await, None);
    world.high_water.heard(told(1));
    assert!(world.check().await.is_some());
    world.put(keys::GENERATION, "2").await;
    assert_eq!(world.check().await, None);
}

#[tokio::test(start_paused = true)]
async fn what_the_store_has_forgotten_is_believed_whatever_its_revision_says() {
    let world = world_with(None);
    world.led(1).await;
    world.high_water.forgot();
    let back = world.check().await.unwrap();
    assert_eq!(back.known.generation, 0);
    world.put(keys::GENERATION, "1").await;
    assert_eq!(world.check().await, None);
    assert_eq!(world.check().await, None, "once");
}

#[tokio::test(start_paused = true)]
async fn an_unanswered_store_forgets_no_witness() {
    let world = world_with(None);
    world.led(1).await;
    world.high_water.heard(in_term(7, 0, 2));
    world.store.set_unavailable(true);
    assert!(world.high_water.check(&world.marked).await.is_err());
    world.store.set_unavailable(false);
    assert!(world.check().await.is_some(), "the store never had that term");
}

#[tokio::test(start_paused = true)]
async fn a_damaged_history_is_begun_anew_and_alarms_nobody() {
    let world = world_with(None);
    world.led(1).await;
    world.put(keys::HISTORY, "nonsense").await;
    world.high_water.heard(in_term(1, 0, 3));
    assert_eq!(world.check().await, None);
    world.led(2).await;
    world.high_water.heard(in_term(1, 0, 3));
    assert_eq!(world.check().await, None);
    let listing = world.store.get(keys::HISTORY).await.unwrap();
    let history: History = read_value(&listing.entries[0].value).unwrap();
    assert_eq!((history.complete, history.terms.len()), (false, 1));
}
