//! Time as an argument. Waiting is done with `tokio::time`, which tests pause; reading the time goes through here.

use std::{fmt, time::Duration};

use jiff::Timestamp;

/// Reads the time.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// Wall-clock time, for what is written down.
    fn now(&self) -> Timestamp;

    /// Time since some fixed point of this process; never goes back. For deadlines and ages.
    fn monotonic(&self) -> Duration;
}

/// The machine's clocks.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    start: std::time::Instant,
}

impl SystemClock {
    /// A clock that counts from now.
    #[expect(clippy::disallowed_methods, reason = "the one home of the real clocks")]
    pub fn new() -> Self {
        Self { start: std::time::Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one home of the real clocks")]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }
}

/// tokio's clock on top of a fixed date: stands still and jumps with a paused runtime, so that a
/// simulated world has one time. Must be made and read inside a runtime.
#[derive(Debug, Clone, Copy)]
pub struct TokioClock {
    start: tokio::time::Instant,
    epoch: Timestamp,
}

impl TokioClock {
    /// A clock that shows `epoch` now.
    #[expect(clippy::disallowed_methods, reason = "the one home of the runtime's clock")]
    pub fn starting_at(epoch: Timestamp) -> Self {
        Self { start: tokio::time::Instant::now(), epoch }
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        self.epoch.saturating_add(self.monotonic()).unwrap_or(Timestamp::MAX)
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }
}
