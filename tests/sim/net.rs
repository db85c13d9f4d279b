//! The network between the parts: seeded delays, requests that arrive although their sender is gone, calls
//! that get lost, links that are cut.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};
use tokio::{sync::oneshot, task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::store::Who;

/// A handle on the network; clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Net {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    rng: Mutex<SmallRng>,
    /// The longest way of one request or answer, in milliseconds.
    slowest: u64,
    flights: Mutex<JoinSet<()>>,
    /// Writes that are late, and not there yet.
    late: AtomicU64,
    faults: Mutex<Faults>,
}

#[derive(Debug, Default)]
struct Faults {
    /// Percent of the controllers' calls to Mesos that get lost, or whose answer does.
    mesos_loss: u32,
    /// The same of their calls to the store.
    store_loss: u32,
    /// Ends standing subscriptions to Mesos.
    mesos_cut: CancellationToken,
    /// Ends the controllers' watches.
    watch_cut: CancellationToken,
    /// Who does not reach the store.
    away: BTreeSet<Who>,
    /// The longest time that the store takes for one thing, in milliseconds.
    store_slowest: u64,
    /// How late writes to the store arrive, in milliseconds.
    late_writes: u64,
    /// How late the store tells of changes, at most, in milliseconds.
    late_news: u64,
    /// So many updates of tasks that run are followed by word of their end, which is not so.
    false_ends: u32,
    /// Whether the store takes calls and answers none: it has no quorum.
    no_quorum: bool,
}

/// Where a call goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    Mesos,
    Store,
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Arrives,
    Lost,
    AnswerLost,
}

impl Net {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        // Some worlds are quick, some slow.
        let slowest = [0, 2, 8, 40][rng.random_range(0..4)];
        let rng = Mutex::new(rng);
        let shared = Shared {
            rng,
            slowest,
            flights: Mutex::default(),
            late: AtomicU64::new(0),
            faults: Mutex::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    fn faults(&self) -> MutexGuard<'_, Faults> {
        self.shared.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number below `end`.
    pub(crate) fn below(&self, end: u64) -> u64 {
        self.shared.rng.lock().unwrap_or_else(PoisonError::into_inner).random_range(0..end.max(1))
    }

    /// A pause from `least` to `most` milliseconds.
    pub(crate) fn millis(&self, least: u64, most: u64) -> Duration {
        Duration::from_millis(least + self.below(most - least + 1))
    }

    /// Runs beside everything, whoever asked for it.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut flights = self.shared.flights.lock().unwrap_or_else(PoisonError::into_inner);
        while flights.try_join_next().is_some() {}
        flights.spawn(task);
    }

    /// Carries a request to whoever answers it, and the answer back. A request that was sent arrives even if
    /// its sender has died meanwhile.
    pub(crate) async fn ask<T: Send + 'static>(&self, answer: impl Future<Output = T> + Send + 'static) -> T {
        let (there, back) = (self.millis(0, self.shared.slowest), self.millis(0, self.shared.slowest));
        let (sender, receiver) = oneshot::channel();
        self.spawn(async move {
            sleep(there).await;
            let value = answer.await;
            sleep(back).await;
            // The sender may have died.
            let _ = sender.send(value);
        });
        match receiver.await {
            Ok(value) => value,
            // Not reached: flights are not cancelled while the world lives.
            Err(_) => std::future::pending().await,
        }
    }

    /// How many percent of the controllers' calls get lost from now on.
    pub(crate) fn set_loss(&self, peer: Peer, percent: u32) {
        match peer {
            Peer::Mesos => self.faults().mesos_loss = percent,
            Peer::Store => self.faults().store_loss = percent,
        }
    }

    /// What becomes of the next call.
    pub(crate) fn fate(&self, who: Who, peer: Peer) -> Fate {
        let loss = {
            let faults = self.faults();
            if peer == Peer::Store && faults.away.contains(&who) {
                return Fate::Lost;
            }
            u64::from(if peer == Peer::Mesos { faults.mesos_loss } else { faults.store_loss })
        };
        if loss == 0 || !matches!(who, Who::Controller(_)) {
            return Fate::Arrives;
        }
        match self.below(200) {
            n if n < loss => Fate::Lost,
            n if n < 2 * loss => Fate::AnswerLost,
            _ => Fate::Arrives,
        }
    }

    /// Whether somebody may not hear what became of a write.
    pub(crate) fn is_store_shaky(&self) -> bool {
        let faults = self.faults();
        faults.store_loss > 0
            || faults.store_slowest > 0
            || faults.late_writes > 0
            || self.shared.late.load(Ordering::Relaxed) > 0
            || faults.no_quorum
            || !faults.away.is_empty()
    }

    /// How long the store may take for one thing; zero ends it.
    pub(crate) fn set_store_slowness(&self, slowest: Duration) {
        self.faults().store_slowest = u64::try_from(slowest.as_millis()).unwrap_or(u64::MAX);
    }

    /// How late writes that are sent from now on arrive; zero ends it.
    pub(crate) fn set_late_writes(&self, late: Duration) {
        self.faults().late_writes = u64::try_from(late.as_millis()).unwrap_or(u64::MAX);
    }

    /// How late a write arrives that is sent now.
    pub(crate) fn lateness(&self) -> Duration {
        let late = self.faults().late_writes;
        if late == 0 { Duration::ZERO } else { self.millis(late / 2, late) }
    }

    /// A late write is on its way, until [`Self::late_arrives`].
    pub(crate) fn late_leaves(&self) {
        self.shared.late.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn late_arrives(&self) {
        self.shared.late.fetch_sub(1, Ordering::Relaxed);
    }

    /// How late the store tells of changes from now on; zero ends it.
    pub(crate) fn set_late_news(&self, late: Duration) {
        self.faults().late_news = u64::try_from(late.as_millis()).unwrap_or(u64::MAX);
    }

    /// How late it tells of a change now.
    pub(crate) fn lateness_of_news(&self) -> Duration {
        let late = self.faults().late_news;
        if late == 0 { Duration::ZERO } else { self.millis(late / 2, late) }
    }

    /// The master says of the next so many tasks that run that they ended.
    pub(crate) fn set_false_ends(&self, number: u32) {
        self.faults().false_ends = number;
    }

    /// Whether the master says so of one now.
    pub(crate) fn ends_falsely(&self) -> bool {
        let mut faults = self.faults();
        let falsely = faults.false_ends > 0;
        faults.false_ends = faults.false_ends.saturating_sub(1);
        falsely
    }

    /// The store has no quorum, or one again: meanwhile it answers nothing.
    pub(crate) fn set_no_quorum(&self, no_quorum: bool) {
        self.faults().no_quorum = no_quorum;
    }

    /// How long the store takes this time before it does a thing, and before it says so.
    pub(crate) fn store_slowness(&self) -> (Duration, Duration) {
        let (slowest, no_quorum) = {
            let faults = self.faults();
            (faults.store_slowest, faults.no_quorum)
        };
        if no_quorum {
            // The proposal waits for a quorum longer than anybody waits for the answer, and then fails.
            return (Duration::from_secs(365 * 24 * 3600), Duration::ZERO);
        }
        if slowest == 0 {
            return (Duration::ZERO, Duration::ZERO);
        }
        (self.millis(0, slowest), self.millis(0, slowest))
    }

    /// Breaks the subscription to Mesos, if there is one.
    pub(crate) fn cut_mesos(&self) {
        std::mem::take(&mut self.faults().mesos_cut).cancel();
    }

    /// Cancelled when the stream from there that is opened now is broken.
    pub(crate) fn cut_token(&self, peer: Peer) -> CancellationToken {
        match peer {
            Peer::Mesos => self.faults().mesos_cut.clone(),
            Peer::Store => self.faults().watch_cut.clone(),
        }
    }

    /// Somebody does not reach the store any more, or does again.
    pub(crate) fn set_away(&self, who: Who, away: bool) {
        let mut faults = self.faults();
        if away {
            faults.away.insert(who);
        } else {
            faults.away.remove(&who);
        }
        std::mem::take(&mut faults.watch_cut).cancel();
    }

    /// Everybody reaches everybody again.
    pub(crate) fn mend(&self) {
        let mut faults = self.faults();
        faults.mesos_loss = 0;
        faults.store_loss = 0;
        faults.store_slowest = 0;
        faults.late_writes = 0;
        faults.late_news = 0;
        faults.no_quorum = false;
        faults.away.clear();
    }
}
