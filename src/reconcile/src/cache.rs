//! An in-memory view of a source: what an [`Informer`](crate::Informer) last read, plus our own commits written
//! through, so that a reader sees its own writes at once. Time never runs backwards for a key: the newest
//! revision wins, wherever it came from.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    ops::Bound,
    sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak},
};

use jiff::Timestamp;
use tokio::sync::watch;

use crate::{Change, Entry, Listing, Revision, SUBSCRIPTION_CAPACITY, Subscription, subscription::Inbox};

/// A projected value and the revisions it was read at.
#[derive(Debug)]
pub struct Versioned<T> {
    /// Revision at which the key was created.
    pub create_revision: Revision,
    /// Revision of the last change of the key.
    pub mod_revision: Revision,
    /// What the projection made of the entry.
    pub value: Arc<T>,
}

impl<T> Clone for Versioned<T> {
    fn clone(&self) -> Self {
        Self { value: Arc::clone(&self.value), ..*self }
    }
}

/// Something derived from a cache and kept in step with it: told of every change before a reader can see it.
pub trait Index<T>: Send + Sync {
    /// A key has another value, or none any more. Must not use the cache.
    fn changed(&self, key: &str, old: Option<&T>, new: Option<&T>);
}

/// A listing is older than what is known already: the store has gone back in time (it was restored from a
/// backup, or is another one). The newer view is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the store went back from revision {known} to {listed}")]
pub struct WentBack {
    /// What had been seen.
    pub known: Revision,
    /// What was listed.
    pub listed: Revision,
}

/// A handle on the view; clones share it.
pub struct Cache<T> {
    shared: Arc<Shared<T>>,
}

struct Shared<T> {
    project: Box<dyn Fn(&Entry) -> T + Send + Sync>,
    state: RwLock<State<T>>,
    inboxes: Mutex<Vec<Weak<Inbox>>>,
    synced: watch::Sender<bool>,
}

struct State<T> {
    entries: BTreeMap<Arc<str>, Versioned<T>>,
    /// Our own deletes that the watch has not passed yet: an older listing or event must not undo them.
    tombstones: BTreeMap<Arc<str>, Revision>,
    /// The newest revision that the listing or the watch has brought. Our own commits do not move it.
    revision: Revision,
    stale_since: Option<Timestamp>,
    indexes: Vec<Arc<dyn Index<T>>>,
}

impl<T> Clone for Cache<T> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<T> fmt::Debug for Cache<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.shared.read();
        f.debug_struct("Cache")
            .field("len", &state.entries.len())
            .field("revision", &state.revision)
            .field("stale_since", &state.stale_since)
            .finish_non_exhaustive()
    }
}

impl<T> Shared<T> {
    fn read(&self) -> RwLockReadGuard<'_, State<T>> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State<T>> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells every subscriber that lives; the others are forgotten.
    fn tell(&self, notice: impl Fn(&Inbox)) {
        let mut inboxes = self.inboxes.lock().unwrap_or_else(PoisonError::into_inner);
        inboxes.retain(|inbox| {
            inbox.upgrade().is_some_and(|inbox| {
                notice(&inbox);
                true
            })
        });
    }
}

impl<T> State<T> {
    fn tell_indexes(&self, key: &str, old: Option<&Versioned<T>>, new: Option<&Versioned<T>>) {
        for index in &self.indexes {
            index.changed(key, old.map(|old| &*old.value), new.map(|new| &*new.value));
        }
    }

    /// Takes a newer value. Whether it was news.
    fn put(
        &mut self,
        key: &Arc<str>,
        new: impl FnOnce(Option<&Versioned<T>>) -> Versioned<T>,
        at: Revision,
    ) -> bool {
        if self.tombstones.get(key).is_some_and(|deleted| *deleted >= at) {
            return false;
        }
        let old = self.entries.get(key);
        if old.is_some_and(|old| old.mod_revision >= at) {
            return false;
        }
        let new = new(old);
        self.tell_indexes(key, old, Some(&new));
        self.tombstones.remove(key);
        self.entries.insert(Arc::clone(key), new);
        true
    }

    /// Takes a newer delete. Whether it was news.
    fn delete(&mut self, key: &str, at: Revision) -> bool {
        let Some(old) = self.entries.get(key).filter(|old| old.mod_revision < at) else { return false };
        self.tell_indexes(key, Some(old), None);
        self.entries.remove(key);
        true
    }

    fn passed(&mut self, revision: Revision) {
        self.revision = self.revision.max(revision);
        let passed = self.revision;
        self.tombstones.retain(|_, deleted| *deleted > passed);
    }
}

impl<T> Cache<T> {
    /// An empty view that holds `project(entry)` of each entry.
    pub fn new(project: impl Fn(&Entry) -> T + Send + Sync + 'static) -> Self {
        let state = State {
            entries: BTreeMap::new(),
            tombstones: BTreeMap::new(),
            revision: 0,
            stale_since: None,
            indexes: Vec::new(),
        };
        Self {
            shared: Arc::new(Shared {
                project: Box::new(project),
                state: RwLock::new(state),
                inboxes: Mutex::default(),
                synced: watch::Sender::new(false),
            }),
        }
    }

    /// Keeps `index` in step from now on, beginning with all that is there.
    pub fn index(&self, index: Arc<dyn Index<T>>) {
        let mut state = self.shared.write();
        for (key, held) in &state.entries {
            index.changed(key, None, Some(&held.value));
        }
        state.indexes.push(index);
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<Versioned<T>> {
        self.shared.read().entries.get(key).cloned()
    }

    /// All keys with the prefix and their values, in key order, as of one moment.
    pub fn range(&self, prefix: &str) -> Vec<(Arc<str>, Versioned<T>)> {
        let state = self.shared.read();
        let from = (Bound::Included(prefix), Bound::Unbounded);
        let range = state.entries.range::<str, _>(from).take_while(|(key, _)| key.starts_with(prefix));
        range.map(|(key, value)| (Arc::clone(key), value.clone())).collect()
    }

    /// All keys with the prefix, in order.
    pub fn keys(&self, prefix: &str) -> Vec<Arc<str>> {
        let state = self.shared.read();
        let from = (Bound::Included(prefix), Bound::Unbounded);
        state
            .entries
            .range::<str, _>(from)
            .map(|(key, _)| key)
            .take_while(|key| key.starts_with(prefix))
            .cloned()
            .collect()
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.shared.read().entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The newest revision that the store has told of.
    pub fn revision(&self) -> Revision {
        self.shared.read().revision
    }

    /// Waits for the first listing.
    pub async fn synced(&self) {
        let mut synced = self.shared.synced.subscribe();
        // The sender lives in `self`, so the channel cannot be closed here.
        let _ = synced.wait_for(|synced| *synced).await;
    }

    /// Whether there was a listing.
    pub fn is_synced(&self) -> bool {
        *self.shared.synced.borrow()
    }

    /// Since when the source could not be read; `None` while it is watched.
    pub fn stale_since(&self) -> Option<Timestamp> {
        self.shared.read().stale_since
    }

    pub(crate) fn set_stale(&self, since: Option<Timestamp>) {
        let mut state = self.shared.write();
        state.stale_since = since.map(|now| state.stale_since.unwrap_or(now));
    }

    /// Notices of changes from now on, beginning with [`Changed::Everything`](crate::Changed::Everything) once
    /// there is a listing.
    pub fn subscribe(&self) -> Subscription {
        self.subscribe_with(SUBSCRIPTION_CAPACITY)
    }

    /// As [`Cache::subscribe`], holding at most `capacity` keys.
    pub fn subscribe_with(&self, capacity: usize) -> Subscription {
        let (subscription, inbox) = Subscription::new(capacity);
        self.shared.inboxes.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&inbox));
        // After the registration, so that a listing in between is not missed.
        if self.is_synced() {
            inbox.everything_changed();
        }
        subscription
    }

    /// Takes one of our own commits. `entry.create_revision` may be 0 when the writer does not know it: then
    /// that of the value it replaces is kept. Old news is ignored.
    pub fn absorb_put(&self, entry: &Entry) {
        let value = Arc::new((self.shared.project)(entry));
        let mut state = self.shared.write();
        // The store has told of it already, and perhaps of a delete since, of which nothing is left here.
        if entry.mod_revision <= state.revision {
            return;
        }
        let news = state.put(
            &entry.key,
            |old| Versioned {
                create_revision: match entry.create_revision {
                    0 => old.map_or(entry.mod_revision, |old| old.create_revision),
                    known => known,
                },
                mod_revision: entry.mod_revision,
                value,
            },
            entry.mod_revision,
        );
        drop(state);
        if news {
            self.shared.tell(|inbox| inbox.keys_changed([&entry.key]));
        }
    }

    /// Takes one of our own deletes, committed at `revision`. Old news is ignored.
    pub fn absorb_delete(&self, key: &str, revision: Revision) {
        let key: Arc<str> = Arc::from(key);
        let mut state = self.shared.write();
        if revision <= state.revision {
            return;
        }
        let news = state.delete(&key, revision);
        if !state.entries.contains_key(&key) {
            let deleted = state.tombstones.entry(Arc::clone(&key)).or_insert(revision);
            *deleted = revision.max(*deleted);
        }
        drop(state);
        if news {
            self.shared.tell(|inbox| inbox.keys_changed([&key]));
        }
    }

    /// Takes one of our own deletes of everything below a prefix.
    pub fn absorb_delete_prefix(&self, prefix: &str, revision: Revision) {
        for key in self.keys(prefix) {
            self.absorb_delete(&key, revision);
        }
    }

    /// Takes a batch of the watch: readers see all of it or nothing.
    pub fn apply(&self, batch: Vec<Change>) {
        let projected: Vec<_> = batch
            .into_iter()
            .map(|change| match change {
                Change::Put(entry) => {
                    let value = Arc::new((self.shared.project)(&entry));
                    let Entry { key, create_revision, mod_revision, .. } = entry;
                    (key, mod_revision, Some(Versioned { create_revision, mod_revision, value }))
                }
                Change::Delete { key, revision } => (key, revision, None),
            })
            .collect();
        let mut changed = Vec::new();
        let mut newest = 0;
        let mut state = self.shared.write();
        for (key, revision, value) in projected {
            newest = newest.max(revision);
            let news = match value {
                Some(value) => {
                    // The store knows the create revision; a writer through may have guessed it.
                    let same = state.entries.get_mut(&key).filter(|held| held.mod_revision == revision);
                    if let Some(held) = same {
                        held.create_revision = value.create_revision;
                    }
                    state.put(&key, |_| value, revision)
                }
                None => state.delete(&key, revision),
            };
            if news {
                changed.push(key);
            }
        }
        state.passed(newest);
        drop(state);
        if !changed.is_empty() {
            self.shared.tell(|inbox| inbox.keys_changed(&changed));
        }
    }

    /// Whether this view is at least as new as a listing made of the same source, of which only keys and revisions
    /// are looked at. `false` means that the watch has not brought all of it yet, or that the two are of
    /// different histories, which no waiting mends.
    pub fn has_all_of(&self, listing: &Listing) -> bool {
        let state = self.shared.read();
        let (listed, seen) = (listing.revision, state.revision);
        let held = listing.entries.iter().all(|entry| match state.entries.get(&*entry.key) {
            Some(held) => held.mod_revision == entry.mod_revision || held.mod_revision > listed,
            // Deleted since.
            None => {
                seen > listed || state.tombstones.get(&*entry.key).is_some_and(|deleted| *deleted > listed)
            }
        });
        let there: BTreeSet<&str> = listing.entries.iter().map(|entry| &*entry.key).collect();
        held && state.entries.iter().all(|(key, held)| held.mod_revision > listed || there.contains(&**key))
    }

    /// Swaps the view for a listing: readers see the old or the new one, never a mixture. What we
    /// committed after the listing's revision stays.
    pub fn replace(&self, listing: Listing) -> Result<(), WentBack> {
        let listed = listing.revision;
        let known = self.revision();
        if listed < known {
            return Err(WentBack { known, listed });
        }
        // Projected outside the lock; what did not change is shared with the old view.
        let mut fresh = BTreeMap::new();
        for entry in listing.entries {
            let held = self.get(&entry.key).filter(|held| held.mod_revision == entry.mod_revision);
            let value = held.map_or_else(|| Arc::new((self.shared.project)(&entry)), |held| held.value);
            let Entry { key, create_revision, mod_revision, .. } = entry;
            fresh.insert(key, Versioned { create_revision, mod_revision, value });
        }
        let mut changed = Vec::new();
        let mut state = self.shared.write();
        let old = std::mem::take(&mut state.entries);
        // Ours, newer than the listing.
        for (key, held) in &old {
            if held.mod_revision > listed {
                fresh.insert(Arc::clone(key), held.clone());
            }
        }
        for (key, deleted) in &state.tombstones {
            if *deleted > listed {
                fresh.remove(key);
            }
        }
        for (key, gone) in old.iter().filter(|(key, _)| !fresh.contains_key(*key)) {
            state.tell_indexes(key, Some(gone), None);
            changed.push(Arc::clone(key));
        }
        for (key, new) in &fresh {
            let old = old.get(key);
            if old.is_none_or(|old| old.mod_revision != new.mod_revision) {
                state.tell_indexes(key, old, Some(new));
                changed.push(Arc::clone(key));
            }
        }
        state.entries = fresh;
        state.passed(listed);
        drop(state);
        drop(old);
        if self.shared.synced.send_replace(true) {
            if !changed.is_empty() {
                self.shared.tell(|inbox| inbox.keys_changed(&changed));
            }
        } else {
            self.shared.tell(Inbox::everything_changed);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
