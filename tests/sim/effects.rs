//! Every effect of the controllers on the world outside of them, counted: each write to the store, each call to
//! Mesos, each command to an engine. And the crash of a controller right before or right after one of them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use crate::{gate::Gates, store::Who, trace::Trace};

/// On which side of an effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Before,
    After,
}

/// Where a controller crashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CrashPoint {
    /// At which effect of all controllers, counted from 1.
    pub(crate) effect: u64,
    pub(crate) side: Side,
}

/// The effects of one run; clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Effects {
    gates: Gates,
    trace: Trace,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    count: u64,
    crash: Option<CrashPoint>,
    crashed: bool,
    processes: BTreeMap<Who, (AbortHandle, CancellationToken)>,
}

impl Effects {
    pub(crate) fn new(gates: Gates, trace: Trace) -> Self {
        Self { gates, trace, inner: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How to end a process: its own task, and what it has begun beside it.
    pub(crate) fn register(&self, who: Who, process: AbortHandle, rest: CancellationToken) {
        self.lock().processes.insert(who, (process, rest));
    }

    /// Whoever has the effect of that number from now on crashes there.
    pub(crate) fn crash_at(&self, effect: u64, side: Side) {
        let mut inner = self.lock();
        let effect = inner.count + effect;
        inner.crash = Some(CrashPoint { effect, side });
        inner.crashed = false;
    }

    /// Nobody crashes at an effect any more.
    pub(crate) fn calm(&self) {
        self.lock().crash = None;
    }

    /// Effects so far.
    pub(crate) fn count(&self) -> u64 {
        self.lock().count
    }

    /// Whether the crash happened.
    pub(crate) fn crashed(&self) -> bool {
        self.lock().crashed
    }

    /// Somebody is about to have an effect. Its number; nobody comes back from here who crashes before it.
    pub(crate) async fn begin(&self, who: Who, what: &str) -> u64 {
        if !matches!(who, Who::Controller(_)) {
            return 0;
        }
        let number = {
            let mut inner = self.lock();
            inner.count += 1;
            inner.count
        };
        self.crash_if_due(number, Side::Before, who, what).await;
        number
    }

    /// The effect happened, and whoever had it does not know yet.
    pub(crate) async fn end(&self, number: u64, who: Who, what: &str) {
        if number > 0 {
            self.crash_if_due(number, Side::After, who, what).await;
        }
    }

    async fn crash_if_due(&self, number: u64, side: Side, who: Who, what: &str) {
        let process = {
            let mut inner = self.lock();
            if inner.crash != Some(CrashPoint { effect: number, side }) {
                return;
            }
            inner.crash = None;
            inner.crashed = true;
            inner.processes.get(&who).cloned()
        };
        let side = if side == Side::Before { "before" } else { "after" };
        self.trace.line(format!("{who} crashes {side} effect {number}, {what}"));
        self.trace.count("crash at an effect");
        self.gates.shut(who);
        if let Some((process, rest)) = process {
            process.abort();
            rest.cancel();
        }
        std::future::pending::<()>().await;
    }
}
