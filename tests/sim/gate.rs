//! The way in and out of a controller's process. While the process is stopped (SIGSTOP, a suspended machine) nothing
//! leaves it and nothing reaches it: what it was about to send leaves all at once when it goes on, however late that
//! is. Once the process is dead nothing passes any more.

use std::{collections::BTreeMap, sync::Arc};

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::store::Who;

/// What a gate does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    Open,
    Held,
    Shut,
}

/// The gates of all processes; who has none passes. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gates {
    gates: Arc<Mutex<BTreeMap<Who, watch::Sender<Flow>>>>,
}

impl Gates {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Who, watch::Sender<Flow>>> {
        self.gates.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, who: Who, flow: Flow) {
        let mut gates = self.lock();
        let gate = gates.entry(who).or_insert_with(|| watch::channel(Flow::Open).0);
        if *gate.borrow() != Flow::Shut {
            gate.send_replace(flow);
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
        self.lock().get(&who).is_some_and(|gate| *gate.borrow() == Flow::Held)
    }

    /// Returns when the gate is open: never, once it is shut.
    pub(crate) async fn pass(&self, who: Who) {
        let gate = self.lock().get(&who).map(watch::Sender::subscribe);
        let Some(mut gate) = gate else { return };
        if gate.wait_for(|flow| *flow == Flow::Open).await.is_err() {
            // Not reached: gates live as long as the world.
            std::future::pending::<()>().await;
        }
    }
}
