//! What happened lately, for people: one key per object and reason, counted, under a lease, written
//! in batches beside the work and never in its way.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use overlord_api::{EVENT_TTL_HOURS, Event, EventLevel, MAX_EVENTS, keys};
use overlord_reconcile::Clock;
use overlord_store::{Error, Fence, Fetch, LeaseId, Store, Txn};
use tokio_util::sync::CancellationToken;

/// Before the events of earlier leaders are read again after that failed.
const LOAD_AGAIN: Duration = Duration::from_secs(1);

/// How often counted events are written.
const FLUSH: Duration = Duration::from_secs(1);

/// A lease is used for new events for so long, then the next one is taken.
const LEASE_REUSE: Duration = Duration::from_secs(3600);

/// Bytes of an object's name in an event.
const MAX_OBJECT: usize = 120;

/// Bytes of an event's message.
const MAX_MESSAGE: usize = 1024;

/// The folder of events that belong to no legal cluster name.
pub(crate) const NO_CLUSTER: &str = "_";

/// The first `most` bytes of a text, at a character's end.
fn cut(text: &str, most: usize) -> &str {
    let end = (0..=most.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    &text[..end]
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Happening {
    /// `cluster`, `member/<n>` or `<ip>:<port>`.
    pub object: String,
    /// CamelCase word.
    pub reason: &'static str,
    /// How much it matters.
    pub level: EventLevel,
    /// One sentence.
    pub message: String,
}

impl Happening {
    /// Something about the cluster as a whole.
    pub fn of_cluster(reason: &'static str, level: EventLevel, message: impl Into<String>) -> Self {
        Self { object: String::from("cluster"), reason, level, message: message.into() }
    }
}

/// Counts what happened and writes it, one batch a second.
#[derive(Debug)]
pub(crate) struct Recorder {
    store: Arc<dyn Store>,
    fence: Fence,
    clock: Arc<dyn Clock>,
    inner: Mutex<Inner>,
    wake: tokio::sync::Notify,
}

#[derive(Debug, Default)]
struct Inner {
    /// Everything counted so far, by folder, then by key name.
    folders: BTreeMap<String, BTreeMap<String, Event>>,
    /// Folder and key name of what is not written yet.
    dirty: std::collections::BTreeSet<(String, String)>,
    dropped: u64,
    lease: Option<(LeaseId, Duration)>,
}

impl Recorder {
    pub(crate) fn new(store: Arc<dyn Store>, fence: Fence, clock: Arc<dyn Clock>) -> Self {
        Self { store, fence, clock, inner: Mutex::default(), wake: tokio::sync::Notify::new() }
    }

    /// Reads what earlier leaders counted, so that counts go on. Not waited for by the term: what is counted in the
    /// meantime is added to it.
    async fn load(&self) -> Result<(), Error> {
        let listing = self.store.list(keys::EVENTS, Fetch::Values).await?;
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        for entry in listing.entries {
            let Some((folder, name)) =
                entry.key.strip_prefix(keys::EVENTS).and_then(|rest| rest.split_once('/'))
            else {
                continue;
            };
            if let Ok(event) = overlord_api::read_value::<Event>(&entry.value) {
                let events = inner.folders.entry(folder.to_owned()).or_default();
                match events.get_mut(name) {
                    Some(counted) => {
                        counted.count = counted.count.saturating_add(event.count);
                        counted.first = counted.first.min(event.first);
                    }
                    None => {
                        events.insert(name.to_owned(), event);
                    }
                }
            }
        }
        Ok(())
    }

    /// Counts `happening` in `folder` (a cluster's name or [`NO_CLUSTER`]).
    pub(crate) fn record(&self, folder: &str, happening: Happening) {
        let now = self.clock.now();
        let Happening { object, reason, level, message } = happening;
        match level {
            EventLevel::Warning => tracing::warn!(cluster = folder, object, reason, message, "event"),
            EventLevel::Normal => tracing::info!(cluster = folder, object, reason, message, "event"),
        }
        let object = cut(&object, MAX_OBJECT).to_owned();
        let message = cut(&message, MAX_MESSAGE).to_owned();
        let name = format!("{}.{reason}", object.replace('/', "-"));
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let events = inner.folders.entry(folder.to_owned()).or_default();
        if !events.contains_key(&name) && events.len() >= MAX_EVENTS {
            // Make room by the oldest one whose lease has ended by now.
            let ttl = jiff::SignedDuration::from_hours(i64::from(EVENT_TTL_HOURS));
            let ended = events
                .iter()
                .min_by_key(|(_, event)| event.last)
                .map(|(name, event)| (name.clone(), event.last));
            match ended {
                Some((oldest, last)) if now.duration_since(last) > ttl => {
                    events.remove(&oldest);
                }
                _ => {
                    inner.dropped += 1;
                    return;
                }
            }
        }
        let event = events.entry(name.clone()).or_insert_with(|| Event {
            version: overlord_api::VALUES_VERSION,
            object,
            reason: reason.to_owned(),
            level,
            message: String::new(),
            count: 0,
            first: now,
            last: now,
        });
        event.count = event.count.saturating_add(1);
        event.last = now;
        event.level = level;
        event.message = message;
        inner.dirty.insert((folder.to_owned(), name));
        drop(inner);
        self.wake.notify_one();
    }

    /// Forgets events whose lease has ended.
    pub(crate) fn prune(&self) {
        let now = self.clock.now();
        let ttl = jiff::SignedDuration::from_hours(i64::from(EVENT_TTL_HOURS));
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        for events in inner.folders.values_mut() {
            events.retain(|_, event| now.duration_since(event.last) <= ttl);
        }
        inner.folders.retain(|_, events| !events.is_empty());
    }

    /// Writes what was counted, until `shutdown`; then once more.
    pub(crate) async fn run(&self, shutdown: CancellationToken) {
        let load = async {
            while let Err(error) = self.load().await {
                tracing::warn!(%error, "events are not read yet");
                tokio::time::sleep(LOAD_AGAIN).await;
            }
        };
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            () = load => {}
        }
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                () = self.wake.notified() => {}
            }
            if let Err(error) = self.flush().await {
                if matches!(error, Error::Fenced(_)) {
                    return;
                }
                tracing::warn!(%error, "events not written yet");
                self.wake.notify_one();
            }
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                () = tokio::time::sleep(FLUSH) => {}
            }
        }
        if let Err(error) = self.flush().await {
            tracing::warn!(%error, "events not written");
        }
    }

    async fn flush(&self) -> Result<(), Error> {
        loop {
            let (batch, dropped) = {
                let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
                let names: Vec<(String, String)> =
                    inner.dirty.iter().take(Txn::MAX_OPERATIONS / 2).cloned().collect();
                let mut batch = Vec::with_capacity(names.len());
                for name in names {
                    match inner.folders.get(&name.0).and_then(|events| events.get(&name.1)).cloned() {
                        Some(event) => batch.push((name, event)),
                        // It made room for another one before it was written.
                        None => {
                            inner.dirty.remove(&name);
                        }
                    }
                }
                (batch, std::mem::take(&mut inner.dropped))
            };
            if dropped > 0 {
                tracing::warn!(dropped, "events dropped: a cluster has too many different ones");
            }
            if batch.is_empty() {
                return Ok(());
            }
            let lease = self.lease().await?;
            let mut txn = Txn::fenced(&self.fence);
            for ((folder, name), event) in &batch {
                let Ok(value) = serde_json::to_vec(event) else { continue };
                txn = txn.put_leased(format!("{}{folder}/{name}", keys::EVENTS), value, lease);
            }
            match self.store.commit(txn).await {
                Ok(_) => {}
                Err(Error::LeaseGone(_)) => {
                    self.inner.lock().unwrap_or_else(PoisonError::into_inner).lease = None;
                    continue;
                }
                Err(error) => return Err(error),
            }
            let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
            for (name, event) in batch {
                // Counted again meanwhile: it stays to be written.
                let same = inner.folders.get(&name.0).and_then(|events| events.get(&name.1)) == Some(&event);
                if same {
                    inner.dirty.remove(&name);
                }
            }
        }
    }

    async fn lease(&self) -> Result<LeaseId, Error> {
        let now = self.clock.monotonic();
        let held = self.inner.lock().unwrap_or_else(PoisonError::into_inner).lease;
        if let Some((lease, since)) = held
            && now.saturating_sub(since) < LEASE_REUSE
        {
            return Ok(lease);
        }
        let ttl = Duration::from_secs(u64::from(EVENT_TTL_HOURS) * 3600) + LEASE_REUSE;
        let lease = self.store.lease_grant(ttl).await?;
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).lease = Some((lease, now));
        Ok(lease)
    }
}
