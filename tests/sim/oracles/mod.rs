//! What must hold at every moment: checked at each commit, each call to Mesos, each order to an engine and each
//! start of a process. None of it asks the product what it thinks: who wrote what, who led then, what ran where.

mod calls;
mod instances;
mod writes;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use overlord_api::{Address, keys::Key};
use overlord_mesos::v1::TaskStatus;
use overlord_reconcile::Clock;
use overlord_store::{Error, Fetch, MemoryStore, Store as _};

use crate::{
    net::Net,
    store::Who,
    trace::Trace,
    view::{View, brief},
};

/// A handle on the oracles of one run; clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Oracles {
    store: MemoryStore,
    net: Net,
    trace: Trace,
    clock: Arc<dyn Clock>,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    view: View,
    /// The revision up to which the store was looked at.
    revision: i64,
    /// Where each Mesos task id was recorded first.
    tasks: BTreeMap<String, String>,
    /// Mesos tasks that were launched.
    launched: BTreeSet<String>,
    /// When each member was launched lately, by uid and number.
    launches: BTreeMap<(String, u32), VecDeque<Duration>>,
    /// Updates that were delivered to a scheduler, by uuid.
    delivered: BTreeMap<String, TaskStatus>,
    /// By whom, in which term, and when each status was written last.
    status_written: BTreeMap<String, (Who, Option<i64>, Duration)>,
    /// When an address was left, and by which member.
    left: BTreeMap<Address, (Duration, String, u32)>,
    /// Members that were removed for good, by uid and number.
    removed: BTreeSet<(String, u32)>,
    /// When each controller stopped to hold the leader key, or was last stopped by force since.
    dethroned: BTreeMap<Who, Duration>,
    /// The offers that each controller holds: `Some` since they were taken back.
    offers: BTreeMap<Who, BTreeMap<String, Option<Duration>>>,
    /// Commits that did nothing else than remove requests which have served their time.
    sweeps: u64,
}

/// One key that changed.
struct Changed {
    key: Arc<str>,
    old: Option<Vec<u8>>,
    new: Option<Vec<u8>>,
}

/// One look at the store.
struct Look<'a> {
    who: Who,
    /// The create revision of the leader key under which `who` led when it sent this.
    term: Option<i64>,
    before: &'a View,
    changes: &'a [Changed],
}

impl Oracles {
    pub(crate) fn new(store: MemoryStore, net: Net, trace: Trace, clock: Arc<dyn Clock>) -> Self {
        Self { store, net, trace, clock, inner: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was in the store when it was last looked at.
    pub(crate) fn view(&self) -> View {
        self.lock().view.clone()
    }

    /// How many commits removed requests of clusters that are gone, as is due a day after their end.
    pub(crate) fn sweeps(&self) -> u64 {
        self.lock().sweeps
    }

    /// The create revision of the leader key, if it is this one's.
    pub(crate) fn term_of(&self, who: Who) -> Option<i64> {
        let inner = self.lock();
        let (leader, term) = inner.view.leader_and_term()?;
        (leader == who.to_string()).then_some(term)
    }

    /// Looks at the store; what changed was done by `who`, who led under `term` when it sent that.
    pub(crate) async fn look(&self, who: Who, term: Option<i64>) {
        // Cut off: whatever happens there is seen later.
        let Ok(listing) = self.store.list("/overlord/", Fetch::Values).await else { return };
        let mut guard = self.lock();
        let inner = &mut *guard;
        if listing.revision == inner.revision {
            return;
        }
        inner.revision = listing.revision;
        let before = std::mem::take(&mut inner.view.entries);
        let mut changes = Vec::new();
        for entry in listing.entries {
            let old = before.get(&entry.key);
            if old.is_none_or(|old| old.mod_revision != entry.mod_revision) {
                changes.push(Changed {
                    key: Arc::clone(&entry.key),
                    old: old.map(|old| old.value.to_vec()),
                    new: Some(entry.value.to_vec()),
                });
            }
            inner.view.entries.insert(Arc::clone(&entry.key), entry);
        }
        for (key, old) in &before {
            if !inner.view.entries.contains_key(key) {
                let old = Some(old.value.to_vec());
                changes.push(Changed { key: Arc::clone(key), old, new: None });
            }
        }
        if changes.is_empty() {
            return;
        }
        let is_old_request = |change: &Changed| {
            change.new.is_none() && matches!(Key::parse(&change.key), Key::Task(_) | Key::TaskStatus(_))
        };
        inner.sweeps += u64::from(matches!(who, Who::Controller(_)) && changes.iter().all(is_old_request));
        let before = View { entries: before };
        self.tell(who, listing.revision, &changes);
        let look = Look { who, term, before: &before, changes: &changes };
        self.check_writer(inner, &look);
        self.check_instances(inner, &look);
        self.check_pace(inner, &look);
    }

    fn tell(&self, who: Who, revision: i64, changes: &[Changed]) {
        for change in changes {
            let short = change.key.strip_prefix("/overlord/").unwrap_or(&change.key);
            match &change.new {
                Some(new) => {
                    let text = format!("store {revision} {who}: {short} = {}", brief(&change.key, new));
                    self.trace.detailed(text, new);
                }
                None => self.trace.line(format!("store {revision} {who}: {short} deleted")),
            }
        }
    }

    /// A commit was refused.
    pub(crate) fn refused(&self, who: Who, error: &Error) {
        if matches!(error, Error::Fenced(_)) {
            self.trace.count("write fenced off");
        }
        self.trace.line(format!("store refuses {who}: {error}"));
    }

    /// The store was restored from a snapshot: what it has forgotten never was.
    #[allow(dead_code, reason = "for the restore fault")]
    pub(crate) fn restored(&self) {
        let mut guard = self.lock();
        let inner = &mut *guard;
        inner.status_written.clear();
        inner.revision = 0;
    }
}
