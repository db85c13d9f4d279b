//! The whole loop in virtual time: a scripted reconciler on one thread.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use jiff::Timestamp;
use prometheus_client::registry::Registry;

use super::*;
use crate::{Change, Entry, Listing, Revision, Tasks, TokioClock};

/// What the reconciler does on a key's next run; without a script it succeeds at once.
#[derive(Debug, Clone)]
enum Act {
    Succeed,
    SleepThen(Duration, Box<Act>),
    Requeue(Duration),
    Fail,
    Panic,
    Hang,
}

#[derive(Debug, thiserror::Error)]
#[error("told to fail")]
struct Told;

#[derive(Default)]
struct Actor {
    scripts: Mutex<BTreeMap<String, VecDeque<Act>>>,
    always: Mutex<BTreeMap<String, Act>>,
    running: Mutex<BTreeMap<String, usize>>,
    /// Start of each run: key and seconds since the beginning.
    runs: Mutex<Vec<(String, f64)>>,
    at_once: AtomicUsize,
    most_at_once: AtomicUsize,
    clock: Mutex<Option<Arc<dyn Clock>>>,
}

impl Actor {
    fn on(&self, key: &str, acts: impl IntoIterator<Item = Act>) {
        self.scripts.lock().unwrap().entry(key.to_owned()).or_default().extend(acts);
    }

    fn always(&self, key: &str, act: Act) {
        self.always.lock().unwrap().insert(key.to_owned(), act);
    }

    fn runs_of(&self, key: &str) -> Vec<f64> {
        self.runs.lock().unwrap().iter().filter(|(other, _)| other == key).map(|(_, at)| *at).collect()
    }

    fn order(&self) -> Vec<String> {
        self.runs.lock().unwrap().iter().map(|(key, _)| key.clone()).collect()
    }
}

/// Notes the end of a run even if it is aborted.
struct Leave<'a>(&'a Actor, String);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        *self.0.running.lock().unwrap().get_mut(&self.1).unwrap() -= 1;
        self.0.at_once.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl Reconciler for Actor {
    type Key = String;
    type Error = Told;

    async fn reconcile(&self, key: &String) -> Result<Action, Told> {
        let at = self.clock.lock().unwrap().as_ref().unwrap().monotonic().as_secs_f64();
        self.runs.lock().unwrap().push((key.clone(), at));
        {
            let mut running = self.running.lock().unwrap();
            let count = running.entry(key.clone()).or_default();
            *count += 1;
            assert_eq!(*count, 1, "{key} runs twice at once");
            let at_once = self.at_once.fetch_add(1, Ordering::SeqCst) + 1;
            self.most_at_once.fetch_max(at_once, Ordering::SeqCst);
        }
        let _leave = Leave(self, key.clone());
        let scripted = self.scripts.lock().unwrap().get_mut(key).and_then(VecDeque::pop_front);
        let always = self.always.lock().unwrap().get(key).cloned();
        let mut act = scripted.or(always).unwrap_or(Act::Succeed);
        loop {
            match act {
                Act::Succeed => return Ok(Action::await_change()),
                Act::Requeue(after) => return Ok(Action::requeue(after)),
                Act::Fail => return Err(Told),
                Act::Panic => panic!("told to panic"),
                Act::Hang => std::future::pending().await,
                Act::SleepThen(time, next) => {
                    tokio::time::sleep(time).await;
                    act = *next;
                }
            }
        }
    }
}

struct World {
    actor: Arc<Actor>,
    cache: Cache<()>,
    revision: Revision,
    metrics: Metrics,
    tasks: Tasks,
    controller: Option<Controller<String>>,
    trigger: Trigger<String>,
}

const SECOND: Duration = Duration::from_secs(1);

fn sleeping(time: Duration) -> Act {
    Act::SleepThen(time, Box::new(Act::Succeed))
}

fn entry(key: &str, revision: Revision) -> Entry {
    Entry {
        key: key.into(),
        value: Bytes::new(),
        create_revision: revision,
        mod_revision: revision,
        lease: 0,
    }
}

impl World {
    /// A controller named `test` on one synced cache, whose keys `/x/...` stand for themselves.
    fn new(keys: &[&str]) -> Self {
        let cache = Cache::new(|_| ());
        let entries = keys.iter().map(|key| entry(&format!("/{key}"), 1)).collect();
        cache.replace(Listing { entries, revision: 1 }).unwrap();
        let clock: Arc<dyn Clock> = Arc::new(TokioClock::starting_at(Timestamp::UNIX_EPOCH));
        let actor = Arc::new(Actor::default());
        *actor.clock.lock().unwrap() = Some(Arc::clone(&clock));
        let metrics = Metrics::default();
        let controller = Controller::new("test", clock)
            .metrics(&metrics)
            .primary(&cache, |key| vec![key.trim_start_matches('/').to_owned()]);
        let trigger = controller.trigger();
        Self {
            actor,
            cache,
            revision: 1,
            metrics,
            tasks: Tasks::new(),
            controller: Some(controller),
            trigger,
        }
    }

    fn with(mut self, change: impl FnOnce(Controller<String>) -> Controller<String>) -> Self {
        self.controller = self.controller.map(change);
        self
    }

    fn start(&mut self) {
        let run = self.controller.take().unwrap().run(Arc::clone(&self.actor), self.tasks.token());
        self.tasks.spawn("controller", async move { drop(run.await) });
    }

    fn change(&mut self, key: &str) {
        self.revision += 1;
        self.cache.apply(vec![Change::Put(entry(&format!("/{key}"), self.revision))]);
    }

    fn metric(&self, name: &str) -> f64 {
        let mut registry = Registry::default();
        self.metrics.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let line =
            text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name} in {text}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }
}

async fn pass(seconds: f64) {
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn all_keys_run_at_the_start_and_then_only_what_changes() {
    let mut world = World::new(&["a", "b", "c"]);
    world.start();
    pass(1.0).await;
    assert_eq!(world.actor.order(), ["a", "b", "c"]);
    world.change("b");
    pass(1.0).await;
    assert_eq!(world.actor.order(), ["a", "b", "c", "b"]);
}

#[tokio::test(start_paused = true)]
async fn nothing_runs_before_the_first_listing() {
    let mut world = World::new(&[]);
    let unsynced: Cache<()> = Cache::new(|_| ());
    world = world.with(|controller| controller.watches(&unsynced, |_| Vec::new()));
    world.trigger.enqueue("early".to_owned());
    world.start();
    pass(10.0).await;
    assert!(world.actor.order().is_empty());
    unsynced.replace(Listing::default()).unwrap();
    pass(1.0).await;
    assert_eq!(world.actor.order(), ["early"]);
}

#[tokio::test(start_paused = true)]
async fn a_storm_of_changes_during_a_run_is_one_more_run() {
    let mut world = World::new(&["a"]);
    world.actor.on("a", [sleeping(SECOND)]);
    world.start();
    pass(0.5).await;
    for _ in 0..10_000 {
        world.change("a");
    }
    pass(10.0).await;
    assert_eq!(world.actor.runs_of("a").len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_key_never_runs_twice_at_once_whatever_enqueues_it() {
    let mut world = World::new(&["a"]);
    world.actor.always("a", sleeping(SECOND));
    world.start();
    for _ in 0..40 {
        world.change("a");
        world.trigger.enqueue("a".to_owned());
        world.trigger.enqueue_after("a".to_owned(), SECOND / 10);
        pass(0.25).await;
    }
    // The actor itself asserts; a panic there would be counted here.
    assert!(world.metric("controller_runtime_reconcile_panics_total") < 0.5);
    assert!(world.actor.runs_of("a").len() >= 10);
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_that_keys_error() {
    let mut world = World::new(&["bad", "good"]);
    world.actor.on("bad", [Act::Panic, Act::Panic]);
    world.start();
    pass(5.0).await;
    assert_eq!(world.actor.runs_of("bad").len(), 3, "retried until it worked");
    assert_eq!(world.actor.runs_of("good").len(), 1);
    assert!((world.metric("controller_runtime_reconcile_panics_total") - 2.0).abs() < 0.1);
    assert!((world.metric("controller_runtime_reconcile_errors_total") - 2.0).abs() < 0.1);
    assert!((world.metric("workqueue_retries_total") - 2.0).abs() < 0.1);
}

#[tokio::test(start_paused = true)]
async fn a_reconcile_that_hangs_is_ended_and_retried() {
    let mut world = World::new(&["a"]).with(|controller| controller.timeout(SECOND * 3));
    world.actor.on("a", [Act::Hang]);
    world.start();
    pass(2.0).await;
    assert!((world.metric("workqueue_longest_running_processor_seconds") - 2.0).abs() < 0.1);
    pass(2.0).await;
    assert_eq!(world.actor.runs_of("a").len(), 2);
    assert!((world.metric("controller_runtime_reconcile_timeouts_total") - 1.0).abs() < 0.1);
}

#[tokio::test(start_paused = true)]
async fn one_failing_key_costs_the_others_nothing() {
    let mut world = World::new(&["bad", "good"]).with(|controller| controller.concurrency(1));
    world.actor.always("bad", Act::Fail);
    world.start();
    pass(1.0).await;
    for n in 0..60_u32 {
        let before = world.actor.runs_of("good").len();
        world.change("good");
        pass(0.001).await;
        assert_eq!(world.actor.runs_of("good").len(), before + 1, "{n}");
        pass(0.999).await;
    }
    // 50 ms doubling to 60 s: about a dozen tries in a minute.
    assert!((7..=14).contains(&world.actor.runs_of("bad").len()), "{:?}", world.actor.runs_of("bad"));
}

#[tokio::test(start_paused = true)]
async fn a_fix_is_tried_at_once_during_back_off() {
    let mut world = World::new(&["a"]).with(|c| c.backoff(Backoff::new(SECOND * 100, SECOND * 100)));
    world.actor.on("a", [Act::Fail]);
    world.start();
    pass(10.0).await;
    assert_eq!(world.actor.runs_of("a").len(), 1);
    world.change("a");
    pass(0.01).await;
    assert_eq!(world.actor.runs_of("a").len(), 2);
    pass(200.0).await;
    assert_eq!(world.actor.runs_of("a").len(), 2, "it worked: no retry is left");
}

#[tokio::test(start_paused = true)]
async fn requeue_and_triggers_run_when_they_are_due() {
    let mut world = World::new(&["a"]);
    world.actor.on("a", [Act::Requeue(SECOND * 5), Act::Requeue(SECOND * 500)]);
    world.start();
    pass(6.0).await;
    world.trigger.enqueue_after("a".to_owned(), SECOND * 4);
    pass(10.0).await;
    let runs: Vec<u64> = world.actor.runs_of("a").into_iter().map(|at| at.round() as u64).collect();
    assert_eq!(runs, [0, 5, 10]);
}

#[tokio::test(start_paused = true)]
async fn concurrency_is_bounded_and_used() {
    let keys: Vec<String> = (0..30).map(|n| format!("k{n:02}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let mut world = World::new(&keys).with(|controller| controller.concurrency(8));
    for key in &keys {
        world.actor.on(key, [sleeping(SECOND)]);
    }
    world.start();
    pass(0.5).await;
    assert!((world.metric("workqueue_depth") - 22.0).abs() < 0.1);
    assert!((world.metric("controller_runtime_active_workers") - 8.0).abs() < 0.1);
    pass(3.6).await;
    assert_eq!(world.actor.order().len(), 30);
    assert_eq!(world.actor.most_at_once.load(Ordering::SeqCst), 8);
}

#[tokio::test(start_paused = true)]
async fn changes_overtake_a_long_full_pass() {
    let keys: Vec<String> = (0..100).map(|n| format!("k{n:03}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let mut world = World::new(&keys).with(|controller| controller.concurrency(1));
    for key in &keys {
        world.actor.always(key, sleeping(SECOND));
    }
    world.start();
    pass(2.5).await;
    world.change("k099");
    pass(1.0).await;
    assert_eq!(world.actor.order().last().map(String::as_str), Some("k099"));
}

#[tokio::test(start_paused = true)]
async fn a_full_pass_comes_again_and_again() {
    let mut world = World::new(&["a", "b"]).with(|controller| controller.resync(SECOND * 100));
    world.start();
    pass(330.0).await;
    assert_eq!(world.actor.runs_of("a").len(), 4);
    assert_eq!(world.actor.runs_of("b").len(), 4);
}

#[tokio::test(start_paused = true)]
async fn an_overflow_of_changes_becomes_a_full_pass_that_finds_vanished_keys_too() {
    let mut world = World::new(&["gone"]);
    world.start();
    pass(1.0).await;
    let mut entries: Vec<Entry> = (0..5_000).map(|n| entry(&format!("/k{n:04}"), 2)).collect();
    entries.sort_by(|a, b| a.key.cmp(&b.key));
    world.cache.replace(Listing { entries, revision: 2 }).unwrap();
    pass(1.0).await;
    assert_eq!(world.actor.order().len(), 1 + 5_000 + 1);
    assert_eq!(world.actor.runs_of("gone").len(), 2, "its deletion was not told, but noticed");
    // It is forgotten then.
    world.cache.apply((0..5_000).map(|n| Change::Put(entry(&format!("/k{n:04}"), 3))).collect());
    pass(1.0).await;
    assert_eq!(world.actor.order().len(), 1 + 5_000 + 1 + 5_000);
    assert_eq!(world.actor.runs_of("gone").len(), 2);
}

#[tokio::test(start_paused = true)]
async fn shutdown_lets_running_keys_end_and_starts_none() {
    let mut world = World::new(&["a", "b"]).with(|controller| controller.concurrency(1));
    world.actor.on("a", [sleeping(SECOND * 5)]);
    let run = world.controller.take().unwrap().run(Arc::clone(&world.actor), world.tasks.token());
    let stop = world.tasks.token();
    let (stopped, ()) = tokio::join!(biased; run, async {
        pass(1.0).await;
        world.trigger.enqueue("c".to_owned());
        stop.cancel();
    });
    assert!(stopped.aborted.is_empty());
    assert_eq!(world.actor.order(), ["a"]);
    assert!(world.actor.running.lock().unwrap().values().all(|count| *count == 0));
}

#[tokio::test(start_paused = true)]
async fn a_trigger_that_outlives_its_controller_keeps_nothing() {
    let mut world = World::new(&["a"]);
    let run = world.controller.take().unwrap().run(Arc::clone(&world.actor), world.tasks.token());
    assert!(tokio::time::timeout(SECOND, run).await.is_err(), "dropped while it waits");
    for n in 0..100 {
        world.trigger.enqueue(n.to_string());
    }
    assert!(world.trigger.shared.lock().is_empty());
}

#[tokio::test(start_paused = true)]
async fn shutdown_aborts_and_names_what_does_not_end_in_time() {
    let mut world = World::new(&["b", "a", "quick"]).with(|controller| controller.drain(SECOND * 2));
    world.actor.on("a", [Act::Hang]);
    world.actor.on("b", [Act::Hang]);
    let run = world.controller.take().unwrap().run(Arc::clone(&world.actor), world.tasks.token());
    let stop = world.tasks.token();
    let (stopped, ()) = tokio::join!(biased; run, async {
        pass(1.0).await;
        stop.cancel();
    });
    assert_eq!(stopped.aborted, ["a", "b"]);
    assert!(world.actor.running.lock().unwrap().values().all(|count| *count == 0), "they are really gone");
}

#[tokio::test(start_paused = true)]
async fn two_runs_of_one_history_are_equal() {
    async fn history() -> Vec<(String, f64)> {
        let keys = ["a", "b", "c", "d", "e"];
        let mut world = World::new(&keys).with(|controller| controller.concurrency(2));
        for (n, key) in keys.iter().enumerate() {
            let sleep = sleeping(SECOND * u32::try_from(n).unwrap());
            world.actor.on(key, [Act::Fail, sleep, Act::Fail, Act::Requeue(SECOND), Act::Panic]);
        }
        world.start();
        for n in 0..50 {
            world.change(keys[n * 7 % 5]);
            pass(0.3).await;
        }
        world.actor.runs.lock().unwrap().clone()
    }
    let first = history().await;
    assert!(first.len() > 30);
    assert_eq!(first, history().await);
}

#[tokio::test(start_paused = true)]
async fn metrics_carry_the_names_dashboards_know() {
    let mut world = World::new(&["a"]);
    world.actor.on("a", [Act::Requeue(SECOND), Act::Fail]);
    world.start();
    pass(5.0).await;
    for (name, value) in [
        ("controller_runtime_reconcile_total{controller=\"test\",result=\"requeue_after\"}", 1.0),
        ("controller_runtime_reconcile_total{controller=\"test\",result=\"error\"}", 1.0),
        ("controller_runtime_reconcile_total{controller=\"test\",result=\"success\"}", 1.0),
        ("controller_runtime_reconcile_errors_total{controller=\"test\"}", 1.0),
        ("controller_runtime_reconcile_time_seconds_count{controller=\"test\"}", 3.0),
        ("controller_runtime_max_concurrent_reconciles{controller=\"test\"}", 64.0),
        ("workqueue_depth{controller=\"test\",name=\"test\"}", 0.0),
        ("workqueue_adds_total{controller=\"test\",name=\"test\"}", 3.0),
        ("workqueue_retries_total{controller=\"test\",name=\"test\"}", 1.0),
        ("workqueue_queue_duration_seconds_count{controller=\"test\",name=\"test\"}", 3.0),
        ("workqueue_work_duration_seconds_count{controller=\"test\",name=\"test\"}", 3.0),
        ("workqueue_longest_running_processor_seconds{controller=\"test\",name=\"test\"}", 0.0),
        ("workqueue_unfinished_work_seconds{controller=\"test\",name=\"test\"}", 0.0),
    ] {
        assert!((world.metric(name) - value).abs() < 0.01, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn owned_entries_run_their_owner() {
    let owned: Cache<()> = Cache::new(|_| ());
    owned.replace(Listing::default()).unwrap();
    let mut world = World::new(&["a", "b"]).with(|controller| {
        controller.owns(&owned, |key| key.split('/').nth(2).map(str::to_owned).into_iter().collect())
    });
    world.start();
    pass(1.0).await;
    owned.absorb_put(&entry("/instances/b/1", 9));
    pass(1.0).await;
    assert_eq!(world.actor.order(), ["a", "b", "b"]);
}

/// On real threads and clocks, where orders of events occur that one thread never sees.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_threads_lose_no_key_and_double_none() {
    let mut world = World::new(&[]);
    let trigger = world.trigger.clone();
    world.start();
    let producers = Tasks::new();
    for producer in 0..4 {
        let trigger = trigger.clone();
        producers.spawn("producer", async move {
            for n in 0..500 {
                trigger.enqueue(format!("key-{}", (n * 7 + producer) % 50));
                trigger.enqueue_after(format!("late-{producer}-{n}"), Duration::from_millis(n % 5));
                tokio::task::yield_now().await;
            }
        });
    }
    producers.wait_idle().await;
    let all_ran = async {
        while world.actor.runs.lock().unwrap().iter().map(|(key, _)| key).collect::<BTreeSet<_>>().len()
            < 2_050
        {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(SECOND * 60, all_ran).await.unwrap();
    world.tasks.shutdown(SECOND * 10).await.unwrap();
    assert!(world.metric("controller_runtime_reconcile_panics_total") < 0.5, "a key ran twice at once");
    assert_eq!(world.actor.running.lock().unwrap().values().sum::<usize>(), 0);
}

#[test]
fn the_sooner_action_wins() {
    let (never, soon, late) = (Action::await_change(), Action::requeue(SECOND), Action::requeue(SECOND * 2));
    assert_eq!(soon.sooner(late), soon);
    assert_eq!(never.sooner(late), late);
    assert_eq!(late.sooner(never), late);
    assert_eq!(never.sooner(never), never);
}

/// Never run: the loop must be spawnable on a multi-threaded runtime.
#[expect(dead_code, reason = "it only has to compile")]
fn the_loop_is_send(controller: Controller<String>, actor: Arc<Actor>) {
    fn is_send(_: impl Send) {}
    is_send(controller.run(actor, CancellationToken::new()));
}
