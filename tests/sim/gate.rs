//! The way in and out of a controller's process. While the process is stopped (SIGSTOP, a suspended machine) nothing
//! leaves it and nothing reaches it: what it was about to send leaves all at once when it goes on, however late that
//! is. Once the process is dead nothing passes any more.

use std::{
    collections::BTreeMap,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use crate::store::Who;

/// What a gate does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Flow {
    #[default]
    Open,
    Held,
    Shut,
}

/// One gate, and who waits for it: woken in the order in which they came, so that runs of one seed are the same. (A
/// watch channel wakes its receivers in a random order.)
#[derive(Debug, Default)]
struct Gate {
    flow: Flow,
    changed: Arc<Notify>,
}

/// The gates of all processes; who has none passes. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gates {
    gates: Arc<Mutex<BTreeMap<Who, Gate>>>,
}

impl Gates {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Who, Gate>> {
        self.gates.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, who: Who, flow: Flow) {
        let mut gates = self.lock();
        let gate = gates.entry(who).or_default();
        if gate.flow != Flow::Shut {
            gate.flow = flow;
            gate.changed.notify_waiters();
        }
    }

    /// Nothing passes until [`Self::open`].
    pub(crate) fn hold(&self, who: Who) {
        self.set(who, Flow::Held);
    }

    /// Everything passes.
    pub(crate) fn open(&self, who: Who) {
        self.set(who, Flow::Open);
    }

    /// Nothing passes any more.
    pub(crate) fn shut(&self, who: Who) {
        self.set(who, Flow::Shut);
    }

    /// Whether something waits for the gate to open.
    pub(crate) fn is_held(&self, who: Who) -> bool {
        self.lock().get(&who).is_some_and(|gate| gate.flow == Flow::Held)
    }

    /// Returns when the gate is open: never, once it is shut.
    pub(crate) async fn pass(&self, who: Who) {
        loop {
            let Some(changed) = self.closed(who) else { return };
            let mut changed = pin!(changed.notified());
            changed.as_mut().enable();
            // It may have changed before we began to listen.
            if self.closed(who).is_none() {
                return;
            }
            changed.await;
        }
    }

    /// What tells of changes, when the gate is not open.
    fn closed(&self, who: Who) -> Option<Arc<Notify>> {
        let gates = self.lock();
        let gate = gates.get(&who).filter(|gate| gate.flow != Flow::Open)?;
        Some(Arc::clone(&gate.changed))
    }
}
