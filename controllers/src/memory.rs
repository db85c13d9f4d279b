//! What the leader remembers of its own values: the last good one of each key below `clusters/`, and of the status of
//! each request. Nobody else writes them; when one is edited into nonsense or deleted by hand, this is where the truth
//! still is. It is worth one term: what a former leader removed looks, to who only watches, like a deletion by hand.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::{Arc, Mutex},
};

use overlord_api::{
    Info, Record, TaskStatus,
    keys::{self, Key},
};
use overlord_reconcile::Index;

use crate::{
    Digest,
    ledger::{TaskValue, Value, misplaced},
    shared::lock,
};

/// A good value.
#[derive(Debug, Clone)]
pub(crate) enum Good {
    Record(Arc<Record>),
    Info(Arc<Info>),
    /// A `server.conf` or `nodes.conf`, of which only the digest is held.
    Conf(Digest),
    /// A value that is made from others: status, endpoints, revisions.
    Derived,
    /// The status of a request.
    Task(Arc<TaskStatus>),
}

impl Good {
    fn of(value: &Value) -> Option<Self> {
        Some(match value {
            Value::Record(record) => Self::Record(Arc::clone(record)),
            Value::Info(info) => Self::Info(Arc::clone(info)),
            Value::Conf(digest) => Self::Conf(*digest),
            Value::Status(_) | Value::Endpoints(_) | Value::Revision => Self::Derived,
            Value::Damaged(_) | Value::Other => return None,
        })
    }

    /// Whether another value in its place means that somebody else wrote it, and nothing that can be followed.
    fn is_lost_in(&self, now: &Value) -> bool {
        match (self, now) {
            (Self::Record(good), Value::Record(record)) => good.uid != record.uid || good.kind != record.kind,
            (Self::Info(good), Value::Info(info)) => misplaced(info, Some(&good.uid)).is_some(),
            (Self::Conf(good), Value::Conf(digest)) => good != digest,
            (_, now) => Self::of(now).is_none(),
        }
    }
}

/// What a write touches.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Touched<'k> {
    Key(&'k str),
    /// All keys that begin so.
    Below(&'k str),
}

/// The last good values of a term, and which of them are not in etcd any more.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    good: BTreeMap<String, Good>,
    /// Keys whose value was lost, and not by us.
    lost: BTreeSet<String>,
}

impl Memory {
    /// Forgets everything: a new term begins.
    pub(crate) fn clear(&self) {
        *lock(&self.inner) = Inner::default();
    }

    /// A value that we wrote ourselves, or found when the term began.
    pub(crate) fn keep(&self, key: &str, value: &Value) {
        if let Some(good) = Good::of(value) {
            self.put(key, good);
        }
    }

    /// The same of a request.
    pub(crate) fn keep_task(&self, key: &str, value: &TaskValue) {
        if let TaskValue::Status(status) = value {
            self.put(key, Good::Task(Arc::clone(status)));
        }
    }

    fn put(&self, key: &str, good: Good) {
        let mut inner = lock(&self.inner);
        inner.lost.remove(key);
        inner.good.insert(key.to_owned(), good);
    }

    /// A key that we deleted ourselves, or that is given up.
    pub(crate) fn forget(&self, key: &str) {
        let mut inner = lock(&self.inner);
        inner.lost.remove(key);
        inner.good.remove(key);
    }

    /// Everything below a prefix that we deleted ourselves.
    pub(crate) fn forget_below(&self, prefix: &str) {
        let mut inner = lock(&self.inner);
        inner.lost.retain(|key| !key.starts_with(prefix));
        inner.good.retain(|key, _| !key.starts_with(prefix));
    }

    /// Keys that a write of our own may have changed, or may yet change: whatever they have next is believed.
    pub(crate) fn doubt<'k>(&self, touched: impl IntoIterator<Item = Touched<'k>>) {
        for touched in touched {
            match touched {
                Touched::Key(key) => self.forget(key),
                Touched::Below(prefix) => self.forget_below(prefix),
            }
        }
    }

    /// The lost values below a prefix.
    pub(crate) fn lost(&self, prefix: &str) -> Vec<(String, Good)> {
        let inner = lock(&self.inner);
        let from = (Bound::Included(prefix), Bound::Unbounded);
        let lost = inner.lost.range::<str, _>(from).take_while(|key| key.starts_with(prefix));
        lost.filter_map(|key| Some((key.clone(), inner.good.get(key)?.clone()))).collect()
    }

    /// The last good value of a key.
    pub(crate) fn get(&self, key: &str) -> Option<Good> {
        lock(&self.inner).good.get(key).cloned()
    }

    fn seen(&self, key: &str, lost: impl FnOnce(&Good) -> bool, new: impl FnOnce() -> Option<Good>) {
        let mut inner = lock(&self.inner);
        match inner.good.get(key) {
            Some(good) if lost(good) => {
                inner.lost.insert(key.to_owned());
            }
            Some(_) => {
                inner.lost.remove(key);
            }
            None => {
                if let Some(good) = new() {
                    inner.good.insert(key.to_owned(), good);
                }
            }
        }
    }
}

impl Index<Value> for Memory {
    fn changed(&self, key: &str, _old: Option<&Value>, new: Option<&Value>) {
        self.seen(key, |good| new.is_none_or(|new| good.is_lost_in(new)), || Good::of(new?));
    }
}

impl Index<TaskValue> for Memory {
    fn changed(&self, key: &str, _old: Option<&TaskValue>, new: Option<&TaskValue>) {
        match Key::parse(key) {
            Key::TaskStatus(_) => {}
            // A status speaks of its request alone.
            Key::Task(id) if new.is_none() => return self.forget(&keys::task_status(id)),
            _ => return,
        }
        let is_status = |value: &TaskValue| matches!(value, TaskValue::Status(_));
        self.seen(
            key,
            |_| !new.is_some_and(is_status),
            || match new? {
                TaskValue::Status(status) => Some(Good::Task(Arc::clone(status))),
                TaskValue::Task(_) | TaskValue::Damaged(_) => None,
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use overlord_api::{State, Unreadable};

    use super::*;
    use crate::samples;

    fn info(member: u32) -> (String, Value) {
        let info = samples::info(member, State::Running);
        (keys::info(&samples::cluster(), info.address()), Value::Info(Arc::new(info)))
    }

    fn lost(memory: &Memory) -> Vec<String> {
        memory.lost(keys::CLUSTERS).into_iter().map(|(key, _)| key).collect()
    }

    fn see(memory: &Memory, key: &str, new: Option<&Value>) {
        Index::<Value>::changed(memory, key, None, new);
    }

    #[test]
    fn what_others_take_away_is_lost_until_it_is_back() {
        let memory = Memory::default();
        let (key, value) = info(1);
        see(&memory, &key, Some(&value));
        assert_eq!(lost(&memory), Vec::<String>::new());
        for gone in [None, Some(Value::Damaged(Unreadable::Damaged(String::from("?"))))] {
            see(&memory, &key, gone.as_ref());
            assert_eq!(lost(&memory), std::slice::from_ref(&key));
            see(&memory, &key, Some(&value));
            assert_eq!(lost(&memory), Vec::<String>::new());
        }
        // Somebody else's value.
        let Value::Info(own) = &value else { panic!("an info") };
        let foreign = Info { uid: "f".repeat(32), ..(**own).clone() };
        see(&memory, &key, Some(&Value::Info(Arc::new(foreign))));
        assert_eq!(lost(&memory), [key]);
    }

    #[test]
    fn what_the_leader_removes_is_not_lost_whichever_comes_first() {
        let (key, value) = info(1);
        for watch_first in [true, false] {
            let memory = Memory::default();
            see(&memory, &key, Some(&value));
            if watch_first {
                see(&memory, &key, None);
                memory.forget(&key);
            } else {
                memory.forget(&key);
                see(&memory, &key, None);
            }
            assert_eq!(lost(&memory), Vec::<String>::new());
        }
    }

    #[test]
    fn what_a_write_without_an_answer_removed_is_not_lost() {
        let (key, value) = info(1);
        for watch_first in [true, false] {
            let memory = Memory::default();
            see(&memory, &key, Some(&value));
            if watch_first {
                see(&memory, &key, None);
            }
            memory.doubt([Touched::Key(&key)]);
            see(&memory, &key, None);
            assert_eq!(lost(&memory), Vec::<String>::new());
            // What is there next is good, and is missed again.
            see(&memory, &key, Some(&value));
            see(&memory, &key, None);
            assert_eq!(lost(&memory), std::slice::from_ref(&key));
        }
    }

    #[test]
    fn a_term_remembers_nothing_of_the_one_before() {
        let memory = Memory::default();
        let (key, value) = info(1);
        see(&memory, &key, Some(&value));
        see(&memory, &key, None);
        memory.clear();
        assert_eq!(lost(&memory), Vec::<String>::new());
        memory.keep(&key, &value);
        see(&memory, &key, None);
        assert_eq!(lost(&memory), [key]);
    }
}
