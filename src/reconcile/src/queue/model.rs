//! Random histories against a naive model: a flat list of requests, searched in full each time.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Op {
    Add(u8, Lane, u16),
    Next,
    Done(u8, Outcome),
    Pass(u16),
}

fn op() -> impl Strategy<Value = Op> {
    let lane = prop_oneof![Just(Lane::Change), Just(Lane::Resync)];
    let outcome = prop_oneof![
        1 => Just(Outcome::Success),
        1 => (0..500_u64).prop_map(|after| Outcome::Requeue(Duration::from_millis(after))),
        2 => Just(Outcome::Failure),
    ];
    let after = prop_oneof![3 => Just(0_u16), 1 => 1..500_u16];
    prop_oneof![
        4 => (0..12_u8, lane, after).prop_map(|(key, lane, after)| Op::Add(key, lane, after)),
        4 => Just(Op::Next),
        3 => (0..12_u8, outcome).prop_map(|(nth, outcome)| Op::Done(nth, outcome)),
        2 => (0..300_u16).prop_map(Op::Pass),
    ]
}

#[derive(Default)]
struct Model {
    /// Every request since the start of the key's last run: key, lane, time asked for.
    requests: Vec<(u8, Lane, Duration)>,
    /// Running keys: lane, and whether they run before the end of their back-off.
    running: BTreeMap<u8, (Lane, bool)>,
    failures: BTreeMap<u8, u32>,
    /// End of the back-off, and whether a change was let through.
    periods: BTreeMap<u8, (Duration, bool)>,
    changes_in_row: u32,
}

impl Model {
    fn due_at(&self, (key, lane, at): (u8, Lane, Duration)) -> Duration {
        match self.periods.get(&key) {
            Some((until, bypassed)) if lane == Lane::Resync || *bypassed => at.max(*until),
            _ => at,
        }
    }

    /// Keys that may be handed out in a lane, with the time at which they became due.
    fn eligible(&self, lane: Lane, now: Duration) -> BTreeMap<u8, Duration> {
        let mut eligible: BTreeMap<u8, Duration> = BTreeMap::new();
        for request in self.requests.iter().filter(|r| r.1 == lane && !self.running.contains_key(&r.0)) {
            let due = self.due_at(*request);
            if due <= now {
                eligible.entry(request.0).and_modify(|old| *old = due.min(*old)).or_insert(due);
            }
        }
        eligible
    }

    fn wakeup(&self) -> Option<Duration> {
        let idle = self.requests.iter().filter(|r| !self.running.contains_key(&r.0));
        idle.map(|r| self.due_at(*r)).min()
    }
}

fn check_next(queue: &mut Queue<u8>, model: &mut Model, now: Duration) -> Result<(), TestCaseError> {
    let changes = model.eligible(Lane::Change, now);
    let resyncs = model.eligible(Lane::Resync, now);
    let Some(job) = queue.next(now) else {
        // None lost: with nothing handed out nothing may be due.
        prop_assert!(changes.is_empty() && resyncs.is_empty(), "{changes:?} {resyncs:?} are due");
        return Ok(());
    };
    prop_assert!(!model.running.contains_key(&job.key), "handed out twice at once");
    // Neither lane starves.
    let lane = match (changes.is_empty(), resyncs.is_empty()) {
        (false, false) if model.changes_in_row < RESYNC_SHARE - 1 => {
            model.changes_in_row += 1;
            Lane::Change
        }
        (false, true) => {
            model.changes_in_row = 0;
            Lane::Change
        }
        _ => {
            model.changes_in_row = 0;
            Lane::Resync
        }
    };
    prop_assert_eq!(job.lane, lane);
    // Fair: nobody in that lane has been due for longer.
    let eligible = if lane == Lane::Change { &changes } else { &resyncs };
    let first = eligible.values().min().copied();
    prop_assert_eq!(eligible.get(&job.key).copied(), first, "{} was not first of {:?}", job.key, eligible);
    prop_assert_eq!(now.checked_sub(job.waited), first);
    prop_assert_eq!(job.attempt, model.failures.get(&job.key).copied().unwrap_or(0) + 1);
    model.requests.retain(|r| r.0 != job.key);
    let early = model.periods.get_mut(&job.key).is_some_and(|(until, bypassed)| {
        *bypassed |= now < *until;
        now < *until
    });
    model.running.insert(job.key, (lane, early));
    Ok(())
}

fn done(
    queue: &mut Queue<u8>,
    model: &mut Model,
    key: u8,
    outcome: Outcome,
    now: Duration,
    backoff: &Backoff,
) {
    queue.done(&key, outcome, now);
    let Some((lane, early)) = model.running.remove(&key) else { return };
    match outcome {
        Outcome::Success | Outcome::Requeue(_) => {
            model.failures.remove(&key);
            model.periods.remove(&key);
            if let Outcome::Requeue(after) = outcome {
                model.requests.push((key, lane, now + after));
            }
        }
        Outcome::Failure => {
            let kept = model.periods.get(&key).filter(|(until, _)| early && now < *until);
            if kept.is_none() {
                let failures = model.failures.entry(key).or_default();
                *failures += 1;
                model.periods.insert(key, (now + backoff.delay(&key, *failures), false));
            }
            model.requests.push((key, lane, model.periods[&key].0));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn any_history_keeps_the_rules(ops in proptest::collection::vec(op(), 1..300)) {
        let backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        let mut queue: Queue<u8> = Queue::new(backoff);
        let mut model = Model::default();
        let mut now = Duration::ZERO;
        for op in ops {
            match op {
                Op::Add(key, lane, after) => {
                    let at = now + Duration::from_millis(after.into());
                    let idle = !model.requests.iter().any(|r| r.0 == key);
                    // De-duplicated: a key that waits is merged.
                    let expected = if idle { Added::Queued } else { Added::Merged };
                    prop_assert_eq!(queue.add(key, lane, at), expected);
                    model.requests.push((key, lane, at));
                }
                Op::Next => check_next(&mut queue, &mut model, now)?,
                Op::Done(nth, outcome) => {
                    let running: Vec<u8> = model.running.keys().copied().collect();
                    let key = running.get(usize::from(nth) % running.len().max(1)).copied().unwrap_or(nth);
                    done(&mut queue, &mut model, key, outcome, now, &backoff);
                }
                Op::Pass(millis) => now += Duration::from_millis(millis.into()),
            }
            prop_assert_eq!(queue.next_wakeup(), model.wakeup());
            let eligible: BTreeSet<u8> = [Lane::Change, Lane::Resync]
                .into_iter()
                .flat_map(|lane| model.eligible(lane, now).into_keys())
                .collect();
            let stats = queue.stats(now);
            prop_assert_eq!(stats.depth, eligible.len());
            prop_assert_eq!(stats.running, model.running.len());
            // Bounded: nothing is remembered of a key that neither waits, runs nor backs off.
            let known: BTreeSet<u8> = model.requests.iter().map(|r| r.0).chain(model.running.keys().copied())
                .chain(model.failures.keys().copied()).collect();
            prop_assert_eq!(queue.len(), known.len());
        }
        // None lost: whatever is left runs, given time.
        for _ in 0..100 {
            for key in model.running.keys().copied().collect::<Vec<_>>() {
                done(&mut queue, &mut model, key, Outcome::Success, now, &backoff);
            }
            let Some(at) = queue.next_wakeup() else { break };
            now = now.max(at);
            check_next(&mut queue, &mut model, now)?;
        }
        prop_assert!(queue.is_empty() && model.requests.is_empty());
    }
}
