//! The clock of one process: it may be wrong, it may jump, and it stands still while its machine is suspended.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use overlord_reconcile::Clock;

/// A clock beside the world's.
#[derive(Debug)]
pub(crate) struct OwnClock {
    world: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// How far its wall clock is off.
    off: SignedDuration,
    /// What its monotonic clock missed while it stood still.
    missed: Duration,
    /// Since when it stands still.
    stands_since: Option<Duration>,
}

impl OwnClock {
    pub(crate) fn new(world: Arc<dyn Clock>) -> Self {
        Self { world, state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The wall clock jumps, forwards or backwards.
    pub(crate) fn jump(&self, by: SignedDuration) {
        let mut state = self.lock();
        state.off = state.off.saturating_add(by);
    }

    /// The wall clock is set right.
    pub(crate) fn set_right(&self) {
        self.lock().off = SignedDuration::ZERO;
    }

    /// The monotonic clock stands still from now on: as `CLOCK_MONOTONIC` of Linux does while a machine is suspended.
    pub(crate) fn stop(&self) {
        let now = self.world.monotonic();
        self.lock().stands_since.get_or_insert(now);
    }

    /// It goes on.
    pub(crate) fn go_on(&self) {
        let now = self.world.monotonic();
        let mut state = self.lock();
        if let Some(since) = state.stands_since.take() {
            state.missed += now.saturating_sub(since);
        }
    }
}

impl Clock for OwnClock {
    fn now(&self) -> Timestamp {
        let off = self.lock().off;
        self.world.now().saturating_add(off).unwrap_or(Timestamp::MAX)
    }

    fn monotonic(&self) -> Duration {
        let state = self.lock();
        state.stands_since.unwrap_or_else(|| self.world.monotonic()).saturating_sub(state.missed)
    }
}
