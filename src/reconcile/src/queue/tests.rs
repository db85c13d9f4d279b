//! The queue's rules, one example each. Random histories are in `model.rs`.

use super::*;

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn queue() -> Queue<&'static str> {
    Queue::new(Backoff::new(ms(100), ms(10_000)))
}

fn take(queue: &mut Queue<&'static str>, now: Duration) -> Option<&'static str> {
    queue.next(now).map(|job| job.key)
}

#[test]
fn a_key_added_twice_runs_once() {
    let mut q = queue();
    assert_eq!(q.add("a", Lane::Change, ms(0)), Added::Queued);
    assert_eq!(q.add("a", Lane::Resync, ms(0)), Added::Merged);
    assert_eq!(take(&mut q, ms(0)), Some("a"));
    assert_eq!(take(&mut q, ms(0)), None);
    q.done(&"a", Outcome::Success, ms(0));
    assert_eq!(take(&mut q, ms(9_999)), None);
    assert!(q.is_empty());
}

#[test]
fn a_change_during_a_run_runs_the_key_once_more_after_it() {
    let mut q = queue();
    q.add("a", Lane::Change, ms(0));
    assert_eq!(take(&mut q, ms(0)), Some("a"));
    q.add("a", Lane::Change, ms(1));
    q.add("a", Lane::Change, ms(2));
    assert_eq!(take(&mut q, ms(3)), None, "it still runs");
    q.done(&"a", Outcome::Success, ms(4));
    assert_eq!(take(&mut q, ms(4)), Some("a"));
    q.done(&"a", Outcome::Success, ms(5));
    assert_eq!(take(&mut q, ms(5)), None);
}

#[test]
fn the_earliest_time_wins() {
    let mut q = queue();
    q.add_after("a", Lane::Change, ms(500), ms(0));
    q.add_after("a", Lane::Change, ms(200), ms(0));
    q.add_after("a", Lane::Change, ms(900), ms(0));
    assert_eq!(q.next_wakeup(), Some(ms(200)));
    assert_eq!(take(&mut q, ms(199)), None);
    assert_eq!(take(&mut q, ms(200)), Some("a"));
    q.done(&"a", Outcome::Success, ms(200));
    assert_eq!(q.next_wakeup(), None, "the later requests were answered by that run");
}

#[test]
fn changes_go_first_and_resyncs_do_not_starve() {
    let mut q: Queue<u32> = Queue::new(Backoff::KEYS);
    for key in 0..100 {
        q.add(key, Lane::Resync, ms(0));
    }
    for key in 1_000..1_100 {
        q.add(key, Lane::Change, ms(1));
    }
    let lanes: Vec<Lane> = (0..80).filter_map(|_| q.next(ms(2))).map(|job| job.lane).collect();
    assert_eq!(lanes.iter().filter(|lane| **lane == Lane::Resync).count(), 10);
    assert!(lanes[..7].iter().all(|lane| *lane == Lane::Change));
    assert_eq!(lanes[7], Lane::Resync);
}

#[test]
fn a_change_lifts_a_waiting_resync_of_the_same_key() {
    let mut q = queue();
    q.add("old", Lane::Resync, ms(0));
    q.add("a", Lane::Resync, ms(1));
    q.add("a", Lane::Change, ms(2));
    assert_eq!(q.stats(ms(2)).depth, 2);
    assert_eq!(take(&mut q, ms(2)), Some("a"));
    assert_eq!(take(&mut q, ms(2)), Some("old"));
    assert_eq!(take(&mut q, ms(2)), None);
}

#[test]
fn keys_that_come_back_at_once_let_the_others_go_first() {
    let mut q = queue();
    for key in ["a", "b", "c"] {
        q.add(key, Lane::Change, ms(0));
    }
    let mut order = Vec::new();
    for now in 0..6 {
        let key = take(&mut q, ms(now)).unwrap();
        order.push(key);
        q.done(&key, Outcome::Requeue(ms(0)), ms(now));
    }
    assert_eq!(order, ["a", "b", "c", "a", "b", "c"]);
}

#[test]
fn failures_wait_longer_and_success_resets_them() {
    let mut q = queue();
    q.add("a", Lane::Change, ms(0));
    let mut now = ms(0);
    let mut waits = Vec::new();
    for attempt in 1..=5 {
        let job = q.next(now).unwrap();
        assert_eq!(job.attempt, attempt);
        let due = q.done(&"a", Outcome::Failure, now).unwrap();
        waits.push(due.saturating_sub(now));
        now = due;
    }
    for (n, wait) in waits.iter().enumerate() {
        let whole = ms(100 << n);
        assert!(*wait <= whole && *wait >= whole / 2, "{n}: {wait:?}");
    }
    q.next(now).unwrap();
    q.done(&"a", Outcome::Success, now);
    q.add("a", Lane::Change, now);
    assert_eq!(q.next(now).unwrap().attempt, 1);
    assert_eq!(q.stats(now).retries, 5);
}

#[test]
fn resyncs_and_timers_neither_shorten_nor_grow_a_back_off() {
    let mut q = queue();
    q.add("a", Lane::Change, ms(0));
    q.next(ms(0)).unwrap();
    let due = q.done(&"a", Outcome::Failure, ms(0)).unwrap();
    for t in 1..40 {
        q.add("a", Lane::Resync, ms(t));
        assert_eq!(take(&mut q, ms(t)), None);
    }
    assert_eq!(q.next_wakeup(), Some(due));
    assert_eq!(q.next(due).unwrap().attempt, 2);
}

#[test]
fn a_change_during_back_off_runs_at_once_but_only_once() {
    let mut q = queue();
    q.add("a", Lane::Change, ms(0));
    q.next(ms(0)).unwrap();
    let due = q.done(&"a", Outcome::Failure, ms(0)).unwrap();
    q.add("a", Lane::Change, ms(10));
    let early = q.next(ms(10)).unwrap();
    assert_eq!(early.attempt, 2);
    assert_eq!(q.done(&"a", Outcome::Failure, ms(11)), Some(due), "the retry stays when it was");
    for t in 12..40 {
        q.add("a", Lane::Change, ms(t));
        assert_eq!(take(&mut q, ms(t)), None);
    }
    assert_eq!(q.next(due).unwrap().attempt, 2, "the early run did not count");
    let second = q.done(&"a", Outcome::Failure, due).unwrap();
    assert!(second.saturating_sub(due) >= ms(100), "the second failure in a row waits 100 to 200 ms");
    q.add("a", Lane::Change, due);
    assert!(q.next(due).is_some(), "a new period allows a change again");
}

#[test]
fn a_fix_that_works_ends_the_back_off() {
    let mut q = queue();
    q.add("a", Lane::Resync, ms(0));
    q.next(ms(0)).unwrap();
    q.done(&"a", Outcome::Failure, ms(0));
    q.add("a", Lane::Change, ms(1));
    q.next(ms(1)).unwrap();
    assert_eq!(q.done(&"a", Outcome::Success, ms(2)), None);
    assert!(q.is_empty());
}

#[test]
fn an_early_run_that_outlasts_the_back_off_counts_as_the_retry() {
    let mut q = queue();
    q.add("a", Lane::Change, ms(0));
    q.next(ms(0)).unwrap();
    q.done(&"a", Outcome::Failure, ms(0));
    q.add("a", Lane::Change, ms(1));
    q.next(ms(1)).unwrap();
    let due = q.done(&"a", Outcome::Failure, ms(5_000)).unwrap();
    assert!(due >= ms(5_100), "no run back to back: {due:?}");
    assert_eq!(q.next(due).unwrap().attempt, 3);
}

#[test]
fn one_failing_key_costs_the_others_nothing() {
    let mut q = queue();
    q.add("broken", Lane::Change, ms(0));
    q.next(ms(0)).unwrap();
    q.done(&"broken", Outcome::Failure, ms(0));
    for n in 0..20 {
        q.add("fine", Lane::Change, ms(n));
        let job = q.next(ms(n)).unwrap();
        assert_eq!((job.key, job.attempt, job.waited), ("fine", 1, ms(0)));
        q.done(&"fine", Outcome::Success, ms(n));
    }
}

#[test]
fn a_full_queue_refuses_new_keys_and_keeps_the_old() {
    let mut q = Queue::new(Backoff::KEYS).with_capacity_limit(2);
    q.add("a", Lane::Change, ms(0));
    q.add("b", Lane::Change, ms(0));
    assert_eq!(q.add("c", Lane::Change, ms(0)), Added::Refused);
    assert_eq!(q.add("a", Lane::Change, ms(0)), Added::Merged);
    let key = take(&mut q, ms(0)).unwrap();
    assert_eq!(q.add(key, Lane::Change, ms(0)), Added::Queued, "a running key always has room");
    assert_eq!(q.stats(ms(0)).refused, 1);
}

#[test]
fn finishing_a_key_that_does_not_run_changes_nothing() {
    let mut q = queue();
    q.add("a", Lane::Change, ms(5));
    assert_eq!(q.done(&"a", Outcome::Failure, ms(0)), None);
    assert_eq!(q.done(&"never", Outcome::Success, ms(0)), None);
    assert_eq!(q.next_wakeup(), Some(ms(5)));
}

#[test]
fn times_beyond_the_end_of_time_are_never_due() {
    let mut q = queue();
    q.add_after("a", Lane::Change, Duration::MAX, ms(5));
    assert_eq!(q.next_wakeup(), Some(Duration::MAX));
    assert_eq!(take(&mut q, ms(1 << 40)), None);
}

#[test]
fn gauges_follow_the_queue() {
    let mut q = queue();
    q.add("a", Lane::Change, ms(0));
    q.add("b", Lane::Resync, ms(0));
    q.add("later", Lane::Change, ms(900));
    assert_eq!(q.stats(ms(0)).depth, 2);
    take(&mut q, ms(10)).unwrap();
    take(&mut q, ms(20)).unwrap();
    let stats = q.stats(ms(50));
    assert_eq!((stats.depth, stats.running), (0, 2));
    assert_eq!((stats.longest_running, stats.unfinished), (ms(40), ms(70)));
    assert_eq!(stats.adds, 3);
}
