//! What must hold of all changes and all calls together. Pure, so that it can be fed violations.

use std::collections::{BTreeMap, BTreeSet};

use super::{Changed, What};
use crate::tap::{Asked, Call, Outcome, WrittenKey};

/// What was found, and how much was looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// What is wrong.
    pub violations: Vec<String>,
    /// How much there was.
    pub counts: Counts,
}

/// How much there was of everything: a verdict on nothing would be worth nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Terms of leaders.
    pub terms: usize,
    /// Changes that only a leader makes.
    pub writes: usize,
    /// Writes that were sent when the term they belong to was over, and refused.
    pub refused: usize,
    /// Calls that the master took.
    pub calls: usize,
    /// Calls of those who were not listened to any more, and which were refused.
    pub unheard: usize,
    /// Tasks that were launched.
    pub launched: usize,
}

/// One term: who leads from this revision on.
struct Term<'a> {
    epoch: i64,
    api: &'a str,
}

/// Whether only a leader writes that key.
fn is_leaders(key: &str) -> bool {
    let of_task = || key.starts_with("/overlord/task/") && key.ends_with("/status");
    let keys = [
        "/overlord/clusters/",
        "/overlord/quarantine/",
        "/overlord/events/",
        "/overlord/framework",
        "/overlord/history",
    ];
    keys.iter().any(|prefix| key.starts_with(prefix)) || of_task()
}

/// Whether a key goes with its lease too, and not only by somebody's hand.
fn is_leased(key: &str) -> bool {
    key.starts_with("/overlord/events/")
}

/// Judges all changes, in the order of revisions, with all calls of all controllers.
pub fn judge(changes: &[Changed], calls: &[Call]) -> Verdict {
    let mut verdict = Verdict::default();
    let terms: BTreeMap<i64, &str> = changes
        .iter()
        .filter_map(|changed| match &changed.what {
            What::Leads { epoch, api } => Some((*epoch, api.as_str())),
            _ => None,
        })
        .collect();
    verdict.counts.terms = terms.len();
    fences(calls, &terms, &mut verdict);
    authors(changes, calls, &mut verdict);
    listened_to(calls, &mut verdict);
    launches(calls, &mut verdict);
    verdict
}

fn written(call: &Call) -> Option<(Option<i64>, &[WrittenKey])> {
    match &call.asked {
        Asked::Write { fence, keys } => Some((*fence, keys)),
        Asked::Call { .. } => None,
    }
}

/// Every write of what is a leader's carries the fence of a term of whoever sends it.
fn fences(calls: &[Call], terms: &BTreeMap<i64, &str>, verdict: &mut Verdict) {
    for call in calls {
        let Some((fence, keys)) = written(call) else { continue };
        let Some(own) = keys.iter().find(|key| is_leaders(&key.key)) else { continue };
        let (by, key) = (&call.by, &own.key);
        match (fence, fence.and_then(|fence| terms.get(&fence))) {
            (None, _) => verdict.violations.push(format!("{by} writes {key} without a fence: {call:?}")),
            (Some(fence), Some(leader)) if leader != by => {
                verdict.violations.push(format!("{by} writes {key} in term {fence}, which is {leader}'s"));
            }
            // A term that the watch has not seen yet: it is looked at again with the next verdict.
            (Some(_), _) => {}
        }
        if let (Some(fence), Outcome::Etcd { done: false, revision }) = (fence, call.outcome)
            && terms.range(fence + 1..=revision).next().is_some()
        {
            verdict.counts.refused += 1;
        }
    }
}

/// Every change of what is a leader's was made in somebody's term, by nobody else.
fn authors(changes: &[Changed], calls: &[Call], verdict: &mut Verdict) {
    let mut by_revision: BTreeMap<i64, &Call> = BTreeMap::new();
    let mut open: BTreeMap<&str, Vec<&[WrittenKey]>> = BTreeMap::new();
    for call in calls {
        let Some((_, keys)) = written(call) else { continue };
        match call.outcome {
            Outcome::Etcd { done: true, revision } => {
                by_revision.insert(revision, call);
            }
            // The answer never came: it may have been done.
            Outcome::Open if call.sent.is_some() => open.entry(&call.by).or_default().push(keys),
            _ => {}
        }
    }
    let mut term: Option<Term<'_>> = None;
    for changed in changes {
        let revision = changed.revision;
        let key = match &changed.what {
            What::Leads { epoch, api } => {
                term = Some(Term { epoch: *epoch, api });
                continue;
            }
            What::Vacant => {
                term = None;
                continue;
            }
            What::Put(key) => key,
            What::Deleted(key) if !is_leased(key) => key,
            What::Deleted(_) => continue,
        };
        if !is_leaders(key) {
            continue;
        }
        verdict.counts.writes += 1;
        let Some(Term { epoch, api }) = &term else {
            let by = by_revision.get(&revision).map_or("nobody known", |call| call.by.as_str());
            verdict.violations.push(format!("{key} changes at {revision} while nobody leads, by {by}"));
            continue;
        };
        match by_revision.get(&revision) {
            Some(call) if call.by == *api => {}
            Some(call) => verdict
                .violations
                .push(format!("{key} changes at {revision} by {}, in the term {epoch} of {api}", call.by)),
            None => {
                let own = open.get(api).is_some_and(|open| open.iter().any(|keys| touches(keys, key)));
                if !own {
                    verdict.violations.push(format!(
                        "{key} changes at {revision}, in the term {epoch} of {api}, by nobody"
                    ));
                }
            }
        }
    }
}

fn touches(keys: &[WrittenKey], key: &str) -> bool {
    keys.iter().any(|own| own.key == key || (own.range && key.starts_with(&own.key)))
}

/// The master takes calls of whoever subscribed last.
fn listened_to(calls: &[Call], verdict: &mut Verdict) {
    let accepted = |call: &Call| matches!(call.outcome, Outcome::Status(200..=299));
    let kind = |call: &Call| match &call.asked {
        Asked::Call { kind, .. } => Some(kind.clone()),
        Asked::Write { .. } => None,
    };
    let subscriptions: Vec<&Call> =
        calls.iter().filter(|call| accepted(call) && kind(call).as_deref() == Some("SUBSCRIBE")).collect();
    for call in calls {
        let Some(kind) = kind(call).filter(|kind| kind != "SUBSCRIBE") else { continue };
        let Some(sent) = call.sent else { continue };
        let before = |other: &&&Call| other.answered.is_some_and(|answered| answered < sent);
        let own = subscriptions.iter().filter(before).rfind(|other| other.by == call.by);
        let later = subscriptions.iter().filter(before).find(|other| {
            // Two that were under way at once may have come in either order.
            other.by != call.by && own.is_none_or(|own| other.sent > own.answered)
        });
        let taken = accepted(call);
        verdict.counts.calls += usize::from(taken);
        if let Some(later) = later {
            if taken {
                let (by, other) = (&call.by, &later.by);
                verdict.violations.push(format!("the master took {kind} of {by} after {other} subscribed"));
            } else {
                verdict.counts.unheard += 1;
            }
        }
    }
}

/// What is launched was recorded before, and is launched once.
fn launches(calls: &[Call], verdict: &mut Verdict) {
    let mut recorded: BTreeMap<&str, u64> = BTreeMap::new();
    for call in calls {
        let done = match call.outcome {
            Outcome::Etcd { done: true, .. } => call.answered,
            Outcome::Open => call.sent,
            _ => None,
        };
        let (Some((_, keys)), Some(done)) = (written(call), done) else { continue };
        for task in keys.iter().filter_map(|key| key.task.as_deref()) {
            let first = recorded.entry(task).or_insert(done);
            *first = (*first).min(done);
        }
    }
    let mut launched = BTreeSet::new();
    for call in calls {
        let Asked::Call { launches, .. } = &call.asked else { continue };
        let (Some(sent), Outcome::Status(200..=299)) = (call.sent, call.outcome) else { continue };
        for task in launches {
            verdict.counts.launched += 1;
            if recorded.get(task.as_str()).is_none_or(|recorded| *recorded > sent) {
                verdict.violations.push(format!("{} launches {task} before it is recorded", call.by));
            }
            if !launched.insert(task) {
                verdict.violations.push(format!("{} launches {task} again", call.by));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFO: &str = "/overlord/clusters/a/instances/1.1.1.1:1/info";

    fn key(key: &str, task: Option<&str>) -> WrittenKey {
        WrittenKey { key: key.to_owned(), range: false, task: task.map(ToOwned::to_owned) }
    }

    fn call(by: &str, moment: u64, asked: Asked, outcome: Outcome) -> Call {
        Call { by: by.to_owned(), asked, sent: Some(moment), answered: Some(moment + 1), outcome }
    }

    fn write(by: &str, moment: u64, fence: Option<i64>, own: WrittenKey, revision: Option<i64>) -> Call {
        let outcome = revision.map_or(Outcome::Open, |revision| Outcome::Etcd { done: true, revision });
        call(by, moment, Asked::Write { fence, keys: vec![own] }, outcome)
    }

    fn to_master(by: &str, moment: u64, kind: &str, launches: &[&str], status: u16) -> Call {
        let launches = launches.iter().map(|&task| task.to_owned()).collect();
        call(by, moment, Asked::Call { kind: kind.to_owned(), launches }, Outcome::Status(status))
    }

    fn leads(revision: i64, api: &str) -> Changed {
        Changed { revision, what: What::Leads { epoch: revision, api: api.to_owned() } }
    }

    fn put(revision: i64, key: &str) -> Changed {
        Changed { revision, what: What::Put(key.to_owned()) }
    }

    fn gone(revision: i64) -> Changed {
        Changed { revision, what: What::Vacant }
    }

    /// a leads from 1 on and writes at 2; b leads from 4 on and writes at 5. What a user writes is nobody's.
    fn world() -> (Vec<Changed>, Vec<Call>) {
        let changes = vec![
            leads(1, "a"),
            put(2, INFO),
            put(2, "/overlord/config/x"),
            gone(3),
            put(4, "/overlord/config/x"),
            leads(4, "b"),
            put(5, INFO),
        ];
        let calls = vec![
            to_master("a", 10, "SUBSCRIBE", &[], 200),
            write("a", 20, Some(1), key(INFO, Some("t.0")), Some(2)),
            to_master("a", 30, "ACCEPT", &["t.0"], 202),
            to_master("b", 40, "SUBSCRIBE", &[], 200),
            write("b", 50, Some(4), key(INFO, Some("t.1")), Some(5)),
            to_master("b", 60, "ACCEPT", &["t.1"], 202),
        ];
        (changes, calls)
    }

    fn told(changes: &[Changed], calls: &[Call]) -> String {
        judge(changes, calls).violations.join("\n")
    }

    #[test]
    fn two_leaders_one_after_the_other_are_in_order() {
        let (changes, calls) = world();
        let verdict = judge(&changes, &calls);
        assert_eq!(verdict.violations, Vec::<String>::new());
        let counts = Counts { terms: 2, writes: 2, refused: 0, calls: 2, unheard: 0, launched: 2 };
        assert_eq!(verdict.counts, counts);
    }

    #[test]
    fn a_write_of_a_deposed_leader_is_found_whether_it_was_fenced_or_not() {
        for fence in [None, Some(1)] {
            let (mut changes, mut calls) = world();
            changes.push(put(6, INFO));
            calls.push(write("a", 70, fence, key(INFO, None), Some(6)));
            let told = told(&changes, &calls);
            assert!(told.contains("changes at 6 by a, in the term 4 of b"), "{told}");
            assert_eq!(told.contains("without a fence"), fence.is_none(), "{told}");
        }
    }

    #[test]
    fn a_write_of_a_deposed_leader_that_was_refused_counts_and_is_none() {
        let (changes, mut calls) = world();
        let refused = Outcome::Etcd { done: false, revision: 5 };
        let asked = Asked::Write { fence: Some(1), keys: vec![key(INFO, None)] };
        calls.push(call("a", 70, asked, refused));
        let verdict = judge(&changes, &calls);
        assert_eq!((verdict.violations.len(), verdict.counts.refused), (0, 1), "{verdict:?}");
    }

    #[test]
    fn a_write_under_another_s_fence_is_found() {
        let (mut changes, mut calls) = world();
        changes.push(put(6, INFO));
        calls.push(write("a", 70, Some(4), key(INFO, None), Some(6)));
        assert!(told(&changes, &calls).contains("in term 4, which is b's"));
    }

    #[test]
    fn a_write_while_nobody_leads_and_one_of_nobody_are_found() {
        let (mut changes, calls) = world();
        changes.insert(4, put(3, INFO));
        assert!(told(&changes, &calls).contains("at 3 while nobody leads"));
        let (mut changes, mut calls) = world();
        changes.push(put(6, "/overlord/events/a/x"));
        assert!(told(&changes, &calls).contains("by nobody"));
        // An answer that never came may be the one.
        calls.push(write("b", 70, Some(4), key("/overlord/events/a/x", None), None));
        assert_eq!(told(&changes, &calls), "");
        calls.last_mut().unwrap().by = "a".to_owned();
        assert!(told(&changes, &calls).contains("by nobody"));
    }

    #[test]
    fn an_order_that_the_master_takes_from_a_deposed_leader_is_found() {
        let (changes, mut calls) = world();
        calls.push(to_master("a", 70, "KILL", &[], 403));
        let verdict = judge(&changes, &calls);
        assert_eq!((verdict.violations.len(), verdict.counts.unheard), (0, 1), "{verdict:?}");
        calls.push(to_master("a", 80, "KILL", &[], 202));
        assert!(told(&changes, &calls).contains("took KILL of a after b subscribed"));
        // Unless it is listened to again.
        calls.insert(6, to_master("a", 65, "SUBSCRIBE", &[], 200));
        assert_eq!(told(&changes, &calls), "");
    }

    #[test]
    fn a_task_launched_twice_or_before_it_is_recorded_is_found() {
        let (changes, mut calls) = world();
        calls.push(to_master("b", 70, "ACCEPT", &["t.1"], 202));
        assert!(told(&changes, &calls).contains("launches t.1 again"));
        let (changes, mut calls) = world();
        calls.push(to_master("b", 70, "ACCEPT", &["t.2"], 202));
        assert!(told(&changes, &calls).contains("launches t.2 before it is recorded"));
        calls.push(write("b", 80, Some(4), key(INFO, Some("t.2")), Some(5)));
        assert!(told(&changes, &calls).contains("launches t.2 before it is recorded"));
    }
}
