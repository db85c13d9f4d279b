//! The network between the parts: seeded delays, requests that arrive although their sender is gone, calls
//! that get lost.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};
use tokio::{
    sync::oneshot,
    task::JoinSet,
    time::sleep,
};
use tokio_util::sync::CancellationToken;

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
    faults: Mutex<Faults>,
}

#[derive(Debug, Default)]
struct Faults {
    /// Percent of the scheduler's calls that get lost, or whose answer does.
    loss: u32,
    /// Ends the scheduler's standing subscription.
    cut: CancellationToken,
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
        let shared = Shared {
            rng: Mutex::new(rng),
            slowest,
            flights: Mutex::default(),
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
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        answer: impl Future<Output = T> + Send + 'static,
    ) -> T {
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

    /// How many percent of the scheduler's calls get lost from now on.
    pub(crate) fn set_loss(&self, percent: u32) {
        self.faults().loss = percent;
    }

    /// What becomes of the next call.
    pub(crate) fn fate(&self) -> Fate {
        let loss = u64::from(self.faults().loss);
        if loss == 0 {
            return Fate::Arrives;
        }
        match self.below(200) {
            n if n < loss => Fate::Lost,
            n if n < 2 * loss => Fate::AnswerLost,
            _ => Fate::Arrives,
        }
    }

    /// Breaks the scheduler's subscription, if there is one.
    pub(crate) fn cut(&self) {
        std::mem::take(&mut self.faults().cut).cancel();
    }

    /// Cancelled when the subscription that is opened now is broken.
    pub(crate) fn cut_token(&self) -> CancellationToken {
        self.faults().cut.clone()
    }
}
