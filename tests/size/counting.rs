//! A scheduler's way to the master that counts what goes over it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use futures::StreamExt as _;
use overlord_mesos::{
    SchedulerTransport, Subscription, TransportError,
    v1::scheduler::{Call, Event},
};
use overlord_sandbox::MemoryScheduler;

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
