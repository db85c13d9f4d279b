//! `?watch=true`: a stream of JSON lines. Lists, then watches; the keys tell which objects to read
//! again, and an object is sent only when it differs from what was sent last.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};
use overlord_store::{Change, Changes, Store};
use serde_json::Value;
use tokio::{sync::OwnedSemaphorePermit, time};
use tokio_util::sync::CancellationToken;

use crate::{collection::Collection, view::WatchLine};

/// A client hears at least this often, so that it notices a connection that is dead.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(15);
/// First pause after the store could not be read; doubled up to [`MAX_PAUSE`].
const PAUSE: Duration = Duration::from_millis(200);
const MAX_PAUSE: Duration = Duration::from_secs(10);

type Line = WatchLine<Value>;

struct Watcher {
    store: Arc<dyn Store>,
    collection: Collection,
    /// `None`: list first.
    changes: Option<Changes>,
    /// Hash of what was sent last, by object.
    sent: BTreeMap<String, u64>,
    ready: VecDeque<Line>,
    pause: Duration,
    stale: bool,
    shutdown: CancellationToken,
    _permit: OwnedSemaphorePermit,
}

/// The body of a watch. Ends when the client goes or the server shuts down; holds `permit` until then.
pub(crate) fn lines(
    store: Arc<dyn Store>,
    collection: Collection,
    shutdown: CancellationToken,
    permit: OwnedSemaphorePermit,
) -> impl Stream<Item = Result<Bytes, std::convert::Infallible>> + Send + 'static {
    let watcher = Watcher {
        store,
        collection,
        changes: None,
        sent: BTreeMap::new(),
        ready: VecDeque::new(),
        pause: PAUSE,
        stale: false,
        shutdown,
        _permit: permit,
    };
    stream::unfold(watcher, |mut watcher| async move {
        let line = watcher.next().await?;
        let mut text = serde_json::to_vec(&line).unwrap_or_default();
        text.push(b'\n');
        Some((Ok(Bytes::from(text)), watcher))
    })
}

impl Watcher {
    async fn next(&mut self) -> Option<Line> {
        let shutdown = self.shutdown.clone();
        loop {
            if let Some(line) = self.ready.pop_front() {
                return Some(line);
            }
            let step = tokio::select! {
                biased;
                () = shutdown.cancelled() => return None,
                step = self.step() => step,
            };
            if let Err(message) = step {
                self.changes = None;
                // Said once, not with each attempt.
                if !std::mem::replace(&mut self.stale, true) {
                    self.ready.push_back(Line::Stale { message });
                }
            }
        }
    }

    /// Lists or waits for a change, and fills `ready`.
    async fn step(&mut self) -> Result<(), String> {
        let Some(changes) = &mut self.changes else {
            if self.stale {
                time::sleep(self.pause).await;
                self.pause = (self.pause * 2).min(MAX_PAUSE);
            }
            return self.list().await.map_err(|error| error.to_string());
        };
        let Ok(next) = time::timeout(HEARTBEAT, changes.next()).await else {
            self.ready.push_back(Line::Heartbeat);
            return Ok(());
        };
        match next {
            Some(Ok(batch)) => self.changed(&batch).await.map_err(|error| error.to_string()),
            Some(Err(error)) => Err(error.to_string()),
            None => Err("the watch ended".to_owned()),
        }
    }

    async fn list(&mut self) -> Result<(), overlord_store::Error> {
        let snapshot = self.collection.load_all(&*self.store).await?;
        self.changes = Some(self.store.watch(&self.collection.prefix(), snapshot.revision).await?);
        let gone: Vec<String> =
            self.sent.keys().filter(|id| !snapshot.objects.contains_key(*id)).cloned().collect();
        for id in gone {
            self.push(id, None);
        }
        for (id, object) in snapshot.objects {
            self.push(id, Some(object));
        }
        self.ready.push_back(Line::Synced);
        self.stale = false;
        self.pause = PAUSE;
        Ok(())
    }

    async fn changed(&mut self, batch: &[Change]) -> Result<(), overlord_store::Error> {
        let touched: BTreeSet<String> = batch
            .iter()
            .filter_map(|change| match change {
                Change::Put(entry) => self.collection.object_of(&entry.key),
                Change::Delete { key, .. } => self.collection.object_of(key),
            })
            .collect();
        for id in touched {
            let object = self.collection.load(&*self.store, &id).await?;
            self.push(id, object);
        }
        Ok(())
    }

    fn push(&mut self, id: String, object: Option<Value>) {
        match object {
            Some(object) => {
                let mut hasher = DefaultHasher::new();
                object.hash(&mut hasher);
                if self.sent.insert(id.clone(), hasher.finish()) != Some(hasher.finish()) {
                    self.ready.push_back(Line::Put { id, object });
                }
            }
            None => {
                if self.sent.remove(&id).is_some() {
                    self.ready.push_back(Line::Delete { id });
                }
            }
        }
    }
}
