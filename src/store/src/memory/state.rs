//! What the in-memory store knows, and how each call changes it. No I/O, no clock, no waiting.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::{Change, Committed, Compare, Entry, Error, Fetch, LeaseId, Listing, Revision, Txn, Write, lease};

/// Transactions that are remembered without anybody compacting.
const MAX_HISTORY: usize = 100_000;

pub(super) struct State {
    revision: Revision,
    /// Watches may start at this revision or later.
    compacted: Revision,
    keys: BTreeMap<Arc<str>, Entry>,
    /// The changes of each transaction since `compacted`, oldest first.
    history: VecDeque<(Revision, Vec<Change>)>,
    leases: BTreeMap<LeaseId, Lease>,
    last_lease: LeaseId,
    watchers: BTreeMap<u64, Watcher>,
    last_watcher: u64,
    writes: u64,
    unavailable: bool,
    lose_answer: bool,
    no_space: bool,
}

/// What a backup holds: keys, revision, history and leases; neither watchers nor the alarm.
#[derive(Clone)]
pub(super) struct Backup {
    revision: Revision,
    compacted: Revision,
    keys: BTreeMap<Arc<str>, Entry>,
    history: VecDeque<(Revision, Vec<Change>)>,
    leases: BTreeMap<LeaseId, Duration>,
}

impl Backup {
    pub(super) const fn revision(&self) -> Revision {
        self.revision
    }
}

struct Lease {
    ttl: Duration,
    ends: Duration,
}

struct Watcher {
    prefix: Arc<str>,
    /// The first revision that it has not looked at.
    next: Revision,
    /// The last revision that it was given, or began after.
    given: Revision,
    cut_off: bool,
    wake: Arc<Notify>,
}

/// What a watcher finds when it looks.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// The changes of one transaction.
    Changes(Vec<Change>),
    /// Its next revision is compacted.
    Compacted(Revision),
    /// The store is at `found`, and it has seen `known`.
    WentBack { known: Revision, found: Revision },
    /// Nothing now. Leases may end, and change that, after this time at the earliest.
    Nothing(Option<Duration>),
}

impl State {
    pub(super) fn new() -> Self {
        Self {
            revision: 1,
            compacted: 0,
            keys: BTreeMap::new(),
            history: VecDeque::new(),
            leases: BTreeMap::new(),
            last_lease: 0,
            watchers: BTreeMap::new(),
            last_watcher: 0,
            writes: 0,
            unavailable: false,
            lose_answer: false,
            no_space: false,
        }
    }

    pub(super) fn get(&self, key: &str) -> Listing {
        Listing { entries: self.keys.get(key).cloned().into_iter().collect(), revision: self.revision }
    }

    pub(super) fn list(&self, prefix: &str, fetch: Fetch) -> Listing {
        let entries = self.with_prefix(prefix).map(|entry| match fetch {
            Fetch::Values => entry.clone(),
            Fetch::KeysOnly => Entry { value: Bytes::new(), ..entry.clone() },
        });
        Listing { entries: entries.collect(), revision: self.revision }
    }

    fn with_prefix<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a Entry> {
        let from = (std::ops::Bound::Included(prefix), std::ops::Bound::Unbounded);
        self.keys
            .range::<str, _>(from)
            .take_while(move |(key, _)| key.starts_with(prefix))
            .map(|(_, entry)| entry)
    }

    pub(super) fn commit(&mut self, txn: &Txn) -> Result<Committed, Error> {
        check_keys(txn)?;
        // Before any compare is looked at, and whatever would come of it; deletes need no space.
        if self.no_space && txn.writes.iter().any(|write| matches!(write, Write::Put { .. })) {
            return Err(no_space());
        }
        if let Some(fence) = &txn.fence
            && self.keys.get(&*fence.key).is_none_or(|entry| entry.create_revision != fence.epoch)
        {
            return Err(Error::Fenced(fence.clone()));
        }
        if !txn.compares.iter().all(|compare| self.holds(compare)) {
            return Ok(Committed::No(self.revision));
        }
        for write in &txn.writes {
            if let Write::Put { lease, .. } = write
                && *lease != 0
                && !self.leases.contains_key(lease)
            {
                return Err(Error::LeaseGone(*lease));
            }
        }
        let revision = self.revision + 1;
        let mut changes = Vec::with_capacity(txn.writes.len());
        for write in &txn.writes {
            match write {
                Write::Put { key, value, lease } => changes.push(Change::Put(Entry {
                    key: key.as_str().into(),
                    value: value.clone(),
                    create_revision: self.keys.get(&**key).map_or(revision, |old| old.create_revision),
                    mod_revision: revision,
                    lease: *lease,
                })),
                Write::Delete(key) => {
                    changes.extend(self.keys.get_key_value(&**key).map(|(key, _)| gone(key, revision)));
                }
                Write::DeletePrefix(prefix) => {
                    changes.extend(self.with_prefix(prefix).map(|entry| gone(&entry.key, revision)));
                }
            }
        }
        self.writes += u64::from(!txn.writes.is_empty());
        self.apply(changes);
        Ok(Committed::Yes(self.revision))
    }

    fn holds(&self, compare: &Compare) -> bool {
        match compare {
            Compare::Absent(key) => !self.keys.contains_key(&**key),
            Compare::ModRevision(key, revision) => {
                self.keys.get(&**key).is_some_and(|entry| entry.mod_revision == *revision)
            }
            Compare::CreateRevision(key, revision) => {
                self.keys.get(&**key).is_some_and(|entry| entry.create_revision == *revision)
            }
        }
    }

    /// Makes the changes of one transaction, which all have the next revision. Nothing changed, no revision.
    fn apply(&mut self, mut changes: Vec<Change>) {
        // Overlapping deletes of one transaction delete a key once.
        let mut applied = Vec::with_capacity(changes.len());
        for change in changes.drain(..) {
            match &change {
                Change::Put(entry) => {
                    self.keys.insert(Arc::clone(&entry.key), entry.clone());
                }
                Change::Delete { key, .. } => {
                    if self.keys.remove(key).is_none() {
                        continue;
                    }
                }
            }
            applied.push(change);
        }
        if applied.is_empty() {
            return;
        }
        self.revision += 1;
        for watcher in self.watchers.values() {
            if applied.iter().any(|change| key_of(change).starts_with(&*watcher.prefix)) {
                watcher.wake.notify_one();
            }
        }
        self.history.push_back((self.revision, applied));
        if self.history.len() > MAX_HISTORY
            && let Some((second, _)) = self.history.get(1)
        {
            self.compact(*second);
        }
    }

    pub(super) fn compact(&mut self, revision: Revision) {
        let revision = revision.min(self.revision);
        if revision <= self.compacted {
            return;
        }
        for watcher in self.watchers.values_mut() {
            let missed = self
                .history
                .iter()
                .take_while(|(at, _)| *at < revision)
                .filter(|(at, _)| *at >= watcher.next)
                .any(|(_, changes)| {
                    changes.iter().any(|change| key_of(change).starts_with(&*watcher.prefix))
                });
            if missed {
                watcher.cut_off = true;
                watcher.wake.notify_one();
            }
        }
        self.compacted = revision;
        let forgotten = self.history.partition_point(|(at, _)| *at < revision);
        self.history.drain(..forgotten);
    }

    pub(super) fn open_watch(&mut self, prefix: &str, after: Revision) -> Result<u64, Error> {
        if after > self.revision {
            return Err(Error::WentBack { known: after, found: self.revision });
        }
        let next = after.saturating_add(1);
        self.last_watcher += 1;
        let cut_off = next < self.compacted;
        let wake = Arc::new(Notify::new());
        self.watchers
            .insert(self.last_watcher, Watcher { prefix: prefix.into(), next, given: after, cut_off, wake });
        Ok(self.last_watcher)
    }

    pub(super) fn close_watch(&mut self, id: u64) {
        self.watchers.remove(&id);
    }

    /// The bell of a watcher: rung when there may be something to see.
    pub(super) fn bell(&self, id: u64) -> Option<Arc<Notify>> {
        self.watchers.get(&id).map(|watcher| Arc::clone(&watcher.wake))
    }

    /// What a watcher has not seen yet.
    pub(super) fn look(&mut self, id: u64) -> Look {
        let Some(watcher) = self.watchers.get_mut(&id) else { return Look::Nothing(None) };
        if self.unavailable {
            return Look::Nothing(None);
        }
        if watcher.given > self.revision {
            return Look::WentBack { known: watcher.given, found: self.revision };
        }
        if watcher.cut_off {
            return Look::Compacted(watcher.next);
        }
        let unseen = self.history.partition_point(|(at, _)| *at < watcher.next);
        for (at, changes) in self.history.range(unseen..) {
            watcher.next = at + 1;
            let seen = changes.iter().filter(|change| key_of(change).starts_with(&*watcher.prefix));
            let seen: Vec<Change> = seen.cloned().collect();
            if !seen.is_empty() {
                watcher.given = *at;
                return Look::Changes(seen);
            }
        }
        Look::Nothing(self.leases.values().map(|lease| lease.ends).min())
    }

    pub(super) fn grant(&mut self, ttl: Duration, now: Duration) -> Result<LeaseId, Error> {
        if self.no_space {
            return Err(no_space());
        }
        let ttl = Duration::from_secs(lease::whole_seconds(ttl));
        self.last_lease += 1;
        self.leases.insert(self.last_lease, Lease { ttl, ends: now.saturating_add(ttl) });
        // Those who wait must not sleep past the end of this one.
        self.ring_all();
        Ok(self.last_lease)
    }

    pub(super) fn keep_alive(&mut self, lease: LeaseId, now: Duration) -> Option<Duration> {
        let lease = self.leases.get_mut(&lease)?;
        lease.ends = now.saturating_add(lease.ttl);
        Some(lease.ttl)
    }

    pub(super) fn revoke(&mut self, lease: LeaseId) {
        if self.leases.remove(&lease).is_none() {
            return;
        }
        let revision = self.revision + 1;
        let bound = self.keys.values().filter(|entry| entry.lease == lease);
        let changes = bound.map(|entry| gone(&entry.key, revision)).collect();
        self.apply(changes);
    }

    /// Ends the leases that are over, earliest first.
    pub(super) fn expire(&mut self, now: Duration) {
        let over = self.leases.iter().filter(|(_, lease)| lease.ends <= now);
        let mut over: Vec<_> = over.map(|(id, lease)| (lease.ends, *id)).collect();
        over.sort_unstable();
        for (_, id) in over {
            self.revoke(id);
        }
    }

    pub(super) const fn writes(&self) -> u64 {
        self.writes
    }

    pub(super) const fn is_unavailable(&self) -> bool {
        self.unavailable
    }

    pub(super) fn set_unavailable(&mut self, unavailable: bool) {
        self.unavailable = unavailable;
        self.ring_all();
    }

    pub(super) const fn lose_next_answer(&mut self) {
        self.lose_answer = true;
    }

    pub(super) const fn take_lost_answer(&mut self) -> bool {
        std::mem::replace(&mut self.lose_answer, false)
    }

    pub(super) const fn set_no_space(&mut self, no_space: bool) {
        self.no_space = no_space;
    }

    pub(super) fn backup(&self) -> Backup {
        Backup {
            revision: self.revision,
            compacted: self.compacted,
            keys: self.keys.clone(),
            history: self.history.clone(),
            leases: self.leases.iter().map(|(id, lease)| (*id, lease.ttl)).collect(),
        }
    }

    /// Goes back to a backup. Its leases begin anew, ids of later ones are not given again.
    pub(super) fn restore(&mut self, backup: &Backup, now: Duration) {
        let Backup { revision, compacted, keys, history, leases } = backup.clone();
        self.revision = revision;
        self.compacted = compacted;
        self.keys = keys;
        self.history = history;
        let anew = |ttl: Duration| Lease { ttl, ends: now.saturating_add(ttl) };
        self.leases = leases.into_iter().map(|(id, ttl)| (id, anew(ttl))).collect();
        self.no_space = false;
        // Each goes on after what it was given last, as a client does that finds its server restarted.
        for watcher in self.watchers.values_mut() {
            watcher.next = watcher.given.saturating_add(1);
            watcher.cut_off = watcher.next < compacted;
        }
        self.ring_all();
    }

    fn ring_all(&self) {
        for watcher in self.watchers.values() {
            watcher.wake.notify_one();
        }
    }
}

/// etcd refuses an empty key, and a key that one transaction puts twice or puts and deletes.
fn check_keys(txn: &Txn) -> Result<(), Error> {
    let mut puts: Vec<&str> = Vec::new();
    for write in &txn.writes {
        match write {
            Write::Put { key, .. } if key.is_empty() => return Err(empty_key()),
            Write::Delete(key) if key.is_empty() => return Err(empty_key()),
            Write::Put { key, .. } => puts.push(key),
            Write::Delete(_) | Write::DeletePrefix(_) => {}
        }
    }
    puts.sort_unstable();
    let twice = puts.windows(2).any(|pair| pair.first() == pair.last());
    let deleted = txn.writes.iter().any(|write| match write {
        Write::Put { .. } => false,
        Write::Delete(key) => puts.contains(&key.as_str()),
        Write::DeletePrefix(prefix) => puts.iter().any(|key| key.starts_with(prefix.as_str())),
    });
    if twice || deleted {
        return Err(Error::Other("etcdserver: duplicate key given in txn request".to_owned()));
    }
    Ok(())
}

fn no_space() -> Error {
    Error::NoSpace("etcdserver: mvcc: database space exceeded".to_owned())
}

fn empty_key() -> Error {
    Error::Other("etcdserver: key is not provided".to_owned())
}

fn gone(key: &Arc<str>, revision: Revision) -> Change {
    Change::Delete { key: Arc::clone(key), revision }
}

fn key_of(change: &Change) -> &str {
    match change {
        Change::Put(entry) => &entry.key,
        Change::Delete { key, .. } => key,
    }
}
