//! What is counted: what goes over a scheduler's way to the master, and the passes of the loop.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use futures::StreamExt as _;
use overlord_mesos::{
    SchedulerTransport, Subscription, TransportError,
    v1::scheduler::{Call, Event},
};
use overlord_sandbox::MemoryScheduler;
use tracing::{
    Event as LogEvent, Metadata, Subscriber,
    span::{Attributes, Id, Record},
};

/// What went over it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Calls, by type.
    pub(crate) calls: BTreeMap<String, usize>,
    /// Events, by type, without heartbeats.
    pub(crate) events: BTreeMap<String, usize>,
    /// Offers in all events.
    pub(crate) offers: usize,
    /// Offers in all DECLINEs.
    pub(crate) declined: usize,
    /// JSON of calls and events.
    pub(crate) bytes: usize,
}

impl Counts {
    pub(crate) fn call(&self, kind: &str) -> usize {
        self.calls.get(kind).copied().unwrap_or_default()
    }

    pub(crate) fn event(&self, kind: &str) -> usize {
        self.events.get(kind).copied().unwrap_or_default()
    }
}

/// The counting way; clones share the counts.
#[derive(Debug, Clone)]
pub(crate) struct Counting {
    inner: MemoryScheduler,
    counts: Arc<Mutex<Counts>>,
}

impl Counting {
    pub(crate) fn new(inner: MemoryScheduler) -> Self {
        Self { inner, counts: Arc::default() }
    }

    pub(crate) fn counts(&self) -> Counts {
        lock(&self.counts).clone()
    }
}

fn lock(counts: &Mutex<Counts>) -> MutexGuard<'_, Counts> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

fn count_event(counts: &Mutex<Counts>, event: &Event) {
    let kind = event.kind.to_string();
    if kind == "HEARTBEAT" {
        return;
    }
    let bytes = serde_json::to_vec(event).unwrap_or_default().len();
    let mut counts = lock(counts);
    counts.bytes += bytes;
    counts.offers += event.offers.as_ref().map_or(0, |offers| offers.offers.len());
    *counts.events.entry(kind).or_default() += 1;
}

#[async_trait]
impl SchedulerTransport for Counting {
    async fn subscribe(&self, call: &Call) -> Result<Subscription, TransportError> {
        let opened = self.inner.subscribe(call).await?;
        let counts = Arc::clone(&self.counts);
        let counted = opened.events.inspect(move |event| {
            if let Ok(event) = event {
                count_event(&counts, event);
            }
        });
        Ok(Subscription { stream_id: opened.stream_id, events: counted.boxed() })
    }

    async fn call(&self, stream_id: &str, call: &Call) -> Result<(), TransportError> {
        let bytes = serde_json::to_vec(call).unwrap_or_default().len();
        {
            let mut counts = lock(&self.counts);
            counts.bytes += bytes;
            counts.declined += call.decline.as_ref().map_or(0, |decline| decline.offer_ids.len());
            *counts.calls.entry(call.kind.to_string()).or_default() += 1;
        }
        self.inner.call(stream_id, call).await
    }
}

/// Counts passes by their spans; clones share the count.
#[derive(Debug, Clone, Default)]
pub(crate) struct Passes(Arc<AtomicU64>);

impl Passes {
    pub(crate) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Subscriber for Passes {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_span() && metadata.name() == "reconcile"
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(self.0.fetch_add(1, Ordering::Relaxed) + 1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &LogEvent<'_>) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}
