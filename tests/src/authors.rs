//! Who wrote what: every change that etcd has seen, beside everything that controllers asked for through their
//! taps. Nothing that only a leader writes is written by anybody else, or by a leader whose term is over; what
//! the master took came from whom it listens to; what was launched was recorded before, and launched once.

mod judge;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::StreamExt as _;
use overlord_store::{Change, EtcdConfig, EtcdStore, Store as _};
use serde_json::Value;
use tokio::task::JoinSet;

pub use self::judge::{Counts, Verdict, judge};
use crate::{Sandbox, eventually, tap::Tape};

/// The leader key.
const LEADER: &str = "/overlord/leader";

/// Pause before a broken watch is begun again.
const PAUSE: Duration = Duration::from_millis(100);

/// A change as etcd tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// etcd's revision.
    pub revision: i64,
    /// What.
    pub what: What,
}

/// What changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// Somebody leads now: the epoch, and whose API it is.
    Leads {
        /// The leader key's create revision.
        epoch: i64,
        /// Who.
        api: String,
    },
    /// Nobody leads any more.
    Vacant,
    /// A key was written.
    Put(String),
    /// A key was deleted.
    Deleted(String),
}

/// Watches etcd, and knows what controllers asked for.
#[derive(Debug)]
pub struct Authors {
    seen: Arc<Mutex<Seen>>,
    tape: Tape,
    _watching: JoinSet<()>,
}

#[derive(Debug, Default)]
struct Seen {
    changes: Vec<Changed>,
    revision: i64,
}

impl Authors {
    /// Begins to watch, from an etcd in which nothing was written yet by the controllers on `tape`.
    ///
    /// # Panics
    /// When there is no way to etcd.
    #[expect(clippy::expect_used, reason = "the tests' own way to fail")]
    pub async fn start(sandbox: &Sandbox, tape: &Tape) -> Self {
        let config = EtcdConfig { endpoints: vec![sandbox.etcd()], ..EtcdConfig::default() };
        let store = EtcdStore::new(config).expect("etcd's address");
        let seen = Arc::new(Mutex::new(Seen { revision: sandbox.etcd_revision().await, ..Seen::default() }));
        let held = Arc::clone(&seen);
        let mut watching = JoinSet::new();
        watching.spawn(async move {
            loop {
                let after = lock(&held).revision;
                if let Ok(mut changes) = store.watch("/overlord/", after).await {
                    while let Some(Ok(batch)) = changes.next().await {
                        lock(&held).learn(&batch);
                    }
                }
                tokio::time::sleep(PAUSE).await;
            }
        });
        Self { seen, tape: tape.clone(), _watching: watching }
    }

    /// Waits until everything that is written now was seen here; what is wrong with it, and how much it is.
    pub async fn verdict(&self, sandbox: &Sandbox) -> Verdict {
        let (newest, wanted) = sandbox.newest("/overlord/").await;
        eventually(&format!("the watch has seen {newest} at {wanted}"), || async {
            let seen = lock(&self.seen).revision;
            if seen >= wanted { Ok(()) } else { Err(seen) }
        })
        .await;
        let changes = lock(&self.seen).changes.clone();
        judge(&changes, &self.tape.calls())
    }

    /// Whether the watch has seen so late a revision.
    pub fn revision(&self) -> i64 {
        lock(&self.seen).revision
    }

    /// Changes after that revision.
    pub fn since(&self, revision: i64) -> Vec<Changed> {
        lock(&self.seen).changes.iter().filter(|changed| changed.revision > revision).cloned().collect()
    }
}

impl Seen {
    fn learn(&mut self, batch: &[Change]) {
        for change in batch {
            let (revision, what) = match change {
                Change::Put(entry) if *entry.key == *LEADER => {
                    let value: Value = serde_json::from_slice(&entry.value).unwrap_or_default();
                    let api = value["api"].as_str().unwrap_or_default().to_owned();
                    (entry.mod_revision, What::Leads { epoch: entry.create_revision, api })
                }
                Change::Put(entry) => (entry.mod_revision, What::Put(entry.key.to_string())),
                Change::Delete { key, revision } if **key == *LEADER => (*revision, What::Vacant),
                Change::Delete { key, revision } => (*revision, What::Deleted(key.to_string())),
            };
            self.revision = self.revision.max(revision);
            self.changes.push(Changed { revision, what });
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
