//! What happens in etcd, and when it was seen.

use std::{sync::Arc, time::Duration};

use futures::StreamExt as _;
use overlord_api::keys::{Key, ROOT};
use overlord_reconcile::{Change, Changes, Clock as _, SystemClock};
use overlord_store::{EtcdConfig, EtcdStore, Fetch, Store as _};
use tokio::time::timeout;

use crate::Failure;

/// All changes since it was opened.
pub(crate) struct History {
    changes: Changes,
    clock: SystemClock,
    pub(crate) seen: Vec<Seen>,
    _store: EtcdStore,
}

/// One change.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) at: Duration,
    pub(crate) revision: i64,
    pub(crate) key: Arc<str>,
    /// `None`: deleted.
    pub(crate) value: Option<bytes::Bytes>,
}

impl History {
    pub(crate) async fn open(etcd: &str, clock: SystemClock) -> Result<Self, Failure> {
        let store = EtcdStore::new(EtcdConfig { endpoints: vec![etcd.to_owned()], ..EtcdConfig::default() })?;
        let now = store.list(ROOT, Fetch::KeysOnly).await?;
        let changes = store.watch(ROOT, now.revision).await?;
        Ok(Self { changes, clock, seen: Vec::new(), _store: store })
    }

    /// Waits for what happens next; it is at the end of `seen` from the index that is returned.
    pub(crate) async fn next(&mut self) -> Result<usize, Failure> {
        let batch = self.changes.next().await.ok_or("the watch of etcd ended")??;
        let (at, first) = (self.clock.monotonic(), self.seen.len());
        self.seen.extend(batch.into_iter().map(|change| match change {
            Change::Put(entry) => {
                Seen { at, revision: entry.mod_revision, key: entry.key, value: Some(entry.value) }
            }
            Change::Delete { key, revision } => Seen { at, revision, key, value: None },
        }));
        Ok(first)
    }

    /// Waits until nothing was written for `span`.
    pub(crate) async fn quiet(&mut self, span: Duration) -> Result<(), Failure> {
        while let Ok(news) = timeout(span, self.next()).await {
            news?;
        }
        Ok(())
    }
}

/// What kind of key it is, for counting.
pub(crate) fn class(key: &str) -> &'static str {
    match Key::parse(key) {
        Key::Config(_) => "config",
        Key::Record(_) => "record",
        Key::Status(_) => "status",
        Key::Endpoints(_) => "endpoints",
        Key::Revision(..) => "revision",
        Key::Info(..) => "info",
        Key::ServerConf(..) => "server.conf",
        Key::NodesConf(..) => "nodes.conf",
        Key::Task(_) => "task",
        Key::TaskStatus(_) => "task status",
        Key::Quarantine(_) => "quarantine",
        Key::Event(..) => "event",
        Key::Framework => "framework",
        Key::Leader => "leader",
        Key::Controller(_) => "controllers",
        Key::Other => "other",
    }
}
