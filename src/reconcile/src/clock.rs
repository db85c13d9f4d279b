//! Time as an argument. Waiting is done with `tokio::time`, which tests pause; reading the time goes through here.

mod steady;

use std::{fmt, time::Duration};

use jiff::Timestamp;
use rustix::time::{ClockId, clock_gettime};

pub use steady::SteadyClock;

/// Reads the time.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// Wall-clock time, for what is written down.
    fn now(&self) -> Timestamp;

    /// Time since some fixed point of this process; never goes back, and goes on while the machine sleeps, as the
    /// leases of others do. For deadlines and ages.
    fn monotonic(&self) -> Duration;
}

/// The machine's clocks.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    start: Duration,
}

impl SystemClock {
    /// A clock that counts from now.
    pub fn new() -> Self {
        Self { start: since_boot() }
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
        since_boot().saturating_sub(self.start)
    }
}

/// `std`'s monotonic clock stands still while the machine is suspended (`clock_gettime(2)`): a leader would wake up
/// believing in a lease that ended long ago.
fn since_boot() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_monotonic_clock_counts_from_its_making() {
        let clock = SystemClock::new();
        let first = clock.monotonic();
        assert!(first < Duration::from_secs(60), "{first:?}");
        assert!(clock.monotonic() >= first);
    }
}
