//! The gate that everything passes which a leader does to others besides writing to the store: calls to Mesos and
//! orders to engines. It is shut the moment the lease is in doubt, and before the leadership is given back.
//!
//! Writes need no gate, as each compares the fence. A call to Mesos that was handed to the network just before the gate
//! shut may still arrive: Mesos refuses it once the successor has subscribed, and the successor acts only then. An
//! order to an engine may too: it is one that changes nothing when it is given twice or late, or is checked by the engine.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use async_trait::async_trait;
use overlord_mesos::{SchedulerTransport, Subscription, TransportError, v1::scheduler::Call};
use overlord_store::{Fence, Store, election::License};
use tokio::{sync::RwLock, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::ledger::leads;

/// How long acts that began are waited for when the gate is shut. They are dropped by then as a rule.
const CLOSING: Duration = Duration::from_secs(1);

/// See the module. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Gate {
    license: License,
    closed: CancellationToken,
    /// Held for reading by each act.
    acts: Arc<RwLock<()>>,
}

/// The gate is shut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this controller leads no more")]
pub(crate) struct Shut {
    /// Whether the act had begun: then it may have had an effect.
    pub(crate) begun: bool,
}

impl Gate {
    pub(crate) fn new(license: License) -> Self {
        Self { license, closed: CancellationToken::new(), acts: Arc::default() }
    }

    /// Carries out `act` while this leads. The clock is read before each of its steps: what a process that was
    /// stopped and goes on finds ready to run first is mostly such a step.
    pub(crate) async fn pass<F: Future>(&self, act: F) -> Result<F::Output, Shut> {
        let _held = self.acts.read().await;
        let mut act = pin!(act);
        let mut lost = pin!(self.license.lost());
        let mut closed = pin!(self.closed.cancelled());
        let mut begun = false;
        poll_fn(|context| {
            // Both, so that both wake this.
            let (lost, closed) = (lost.as_mut().poll(context), closed.as_mut().poll(context));
            if lost.is_ready() || closed.is_ready() || !self.license.is_valid() {
                return Poll::Ready(Err(Shut { begun }));
            }
            begun = true;
            act.as_mut().poll(context).map(Ok)
        })
        .await
    }

    /// Lets nothing through any more; returns when nothing is under way.
    pub(crate) async fn close(&self) {
        self.closed.cancel();
        if timeout(CLOSING, self.acts.write()).await.is_err() {
            tracing::warn!("something done in the leader's name did not end");
        }
    }
}

/// Calls to Mesos through the gate.
pub(crate) struct GatedScheduler {
    pub(crate) inner: Arc<dyn SchedulerTransport>,
    pub(crate) gate: Gate,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) fence: Fence,
}

#[async_trait]
impl SchedulerTransport for GatedScheduler {
    /// A leader that was stopped finds its stream broken when it goes on. Before it opens another one, which would
    /// throw out its successor, the store must say that it leads still.
    async fn subscribe(&self, call: &Call) -> Result<Subscription, TransportError> {
        match leads(&*self.store, &self.fence).await {
            Ok(true) => {}
            Ok(false) => return Err(Shut { begun: false }.into()),
            Err(error) => {
                let message = format!("whether this controller leads cannot be told: {error}");
                return Err(TransportError::Withheld { message });
            }
        }
        self.gate.pass(self.inner.subscribe(call)).await?
    }

    async fn call(&self, stream_id: &str, call: &Call) -> Result<(), TransportError> {
        self.gate.pass(self.inner.call(stream_id, call)).await?
    }
}

impl From<Shut> for TransportError {
    fn from(shut: Shut) -> Self {
        let message = shut.to_string();
        if shut.begun {
            Self::Unavailable { peer: String::from("mesos"), message }
        } else {
            Self::Withheld { message }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    };

    use jiff::Timestamp;
    use overlord_api::keys;
    use overlord_reconcile::{Clock, TokioClock};
    use overlord_store::{
        MemoryStore,
        election::{Candidate, Leadership},
    };
    use tokio::time::sleep;

    use super::*;

    const TTL: Duration = Duration::from_secs(10);

    /// The clock of a process that can be stopped: what its own timers do not notice.
    #[derive(Debug)]
    struct Stopped {
        clock: TokioClock,
        ahead: Mutex<Duration>,
    }

    impl Clock for Stopped {
        fn now(&self) -> Timestamp {
            self.clock.now()
        }

        fn monotonic(&self) -> Duration {
            self.clock.monotonic() + *self.ahead.lock().unwrap()
        }
    }

    async fn led() -> (Leadership, Gate, Arc<Stopped>, MemoryStore) {
        let clock = Arc::new(Stopped {
            clock: TokioClock::starting_at(Timestamp::UNIX_EPOCH),
            ahead: Mutex::default(),
        });
        let store = MemoryStore::new(Arc::clone(&clock) as Arc<dyn Clock>);
        let shared: Arc<dyn Clock> = Arc::clone(&clock) as Arc<dyn Clock>;
        let candidate = Candidate::new(Arc::new(store.clone()), shared, keys::LEADER, "me", TTL);
        let leadership = candidate.campaign(&CancellationToken::new()).await.unwrap();
        let gate = Gate::new(leadership.license());
        (leadership, gate, clock, store)
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_ready_when_a_stopped_leader_goes_on_is_not_done() {
        let (_leadership, gate, clock, _) = led().await;
        let steps = AtomicU32::new(0);
        let act = async {
            steps.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
            // Stopped here, and continued after the lease.
            *clock.ahead.lock().unwrap() += TTL;
            tokio::task::yield_now().await;
            steps.fetch_add(1, Ordering::Relaxed);
        };
        assert_eq!(gate.pass(act).await, Err(Shut { begun: true }));
        assert_eq!(steps.load(Ordering::Relaxed), 1);
        let never = AtomicBool::new(false);
        let late = gate.pass(async { never.store(true, Ordering::Relaxed) }).await;
        assert_eq!((late, never.load(Ordering::Relaxed)), (Err(Shut { begun: false }), false));
    }

    #[tokio::test(start_paused = true)]
    async fn an_act_that_hangs_ends_with_the_lease() {
        let (_leadership, gate, _, store) = led().await;
        store.set_unavailable(true);
        assert_eq!(gate.pass(std::future::pending::<()>()).await, Err(Shut { begun: true }));
    }

    #[tokio::test(start_paused = true)]
    async fn a_gate_is_closed_once_nothing_is_under_way() {
        let (_leadership, gate, _, _) = led().await;
        let other = gate.clone();
        let ended = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&ended);
        let tasks = overlord_reconcile::Tasks::new();
        tasks.spawn("act", async move {
            assert!(other.pass(sleep(TTL)).await.is_err());
            seen.store(true, Ordering::Relaxed);
        });
        tokio::task::yield_now().await;
        gate.close().await;
        tasks.wait_idle().await;
        assert!(ended.load(Ordering::Relaxed) && tasks.panics() == 0);
        assert_eq!(gate.pass(async {}).await, Err(Shut { begun: false }));
    }

    /// A master that counts.
    #[derive(Default)]
    struct Master {
        subscribed: AtomicU32,
    }

    #[async_trait]
    impl SchedulerTransport for Master {
        async fn subscribe(&self, _: &Call) -> Result<Subscription, TransportError> {
            self.subscribed.fetch_add(1, Ordering::Relaxed);
            Ok(Subscription { stream_id: String::from("s"), events: Box::pin(futures::stream::pending()) })
        }

        async fn call(&self, _: &str, _: &Call) -> Result<(), TransportError> {
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_deposed_without_noticing_throws_nobody_out_of_mesos() {
        let (leadership, gate, _, store) = led().await;
        let master = Arc::new(Master::default());
        let gated = GatedScheduler {
            inner: Arc::clone(&master) as Arc<dyn SchedulerTransport>,
            gate: gate.clone(),
            store: Arc::new(store.clone()),
            fence: leadership.fence().clone(),
        };
        assert!(gated.subscribe(&Call::default()).await.is_ok());
        assert!(gated.call("s", &Call::default()).await.is_ok());
        // The key goes while the lease is still believed in.
        store.commit(overlord_store::Txn::unfenced().delete(keys::LEADER)).await.unwrap();
        assert!(matches!(gated.subscribe(&Call::default()).await, Err(TransportError::Withheld { .. })));
        gate.close().await;
        assert!(matches!(gated.call("s", &Call::default()).await, Err(TransportError::Withheld { .. })));
        assert_eq!(master.subscribed.load(Ordering::Relaxed), 1);
    }
}
