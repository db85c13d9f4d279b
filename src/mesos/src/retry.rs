//! Pauses between attempts to connect: doubling, bounded, with jitter from a seeded generator, so that a
//! simulated run repeats itself.

use std::time::Duration;

use backoff::{ExponentialBackoff, ExponentialBackoffBuilder, backoff::Backoff as _};
use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};

/// Bounds of the pauses between attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryBounds {
    /// The first pause.
    pub min: Duration,
    /// No pause is longer.
    pub max: Duration,
}

#[derive(Debug)]
pub(crate) struct Retry {
    bounds: RetryBounds,
    intervals: ExponentialBackoff,
    rng: SmallRng,
}

impl Retry {
    pub(crate) fn new(bounds: RetryBounds, seed: u64) -> Self {
        // The package's own jitter cannot be seeded, and its default gives up after 15 minutes.
        let intervals = ExponentialBackoffBuilder::new()
            .with_initial_interval(bounds.min)
            .with_max_interval(bounds.max)
            .with_multiplier(2.0)
            .with_randomization_factor(0.0)
            .with_max_elapsed_time(None)
            .build();
        Self { bounds, intervals, rng: SmallRng::seed_from_u64(seed) }
    }

    /// The next pause: between half of the interval and all of it.
    pub(crate) fn next_pause(&mut self) -> Duration {
        let interval = self.intervals.next_backoff().unwrap_or(self.bounds.max).min(self.bounds.max);
        self.jittered(interval)
    }

    /// The longest pause, with jitter.
    pub(crate) fn longest_pause(&mut self) -> Duration {
        self.jittered(self.bounds.max)
    }

    pub(crate) fn reset(&mut self) {
        self.intervals.reset();
    }

    fn jittered(&mut self, interval: Duration) -> Duration {
        interval.mul_f64(0.5 + self.rng.random::<f64>() / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_bound_and_start_again_after_a_reset() {
        let bounds = RetryBounds { min: Duration::from_millis(100), max: Duration::from_secs(1) };
        let mut retry = Retry::new(bounds, 7);
        for interval in [100, 200, 400, 800, 1000, 1000] {
            let pause = retry.next_pause();
            let interval = Duration::from_millis(interval);
            assert!(pause >= interval / 2 && pause <= interval, "{pause:?} of {interval:?}");
        }
        retry.reset();
        assert!(retry.next_pause() <= bounds.min);
    }

    #[test]
    fn one_seed_gives_one_sequence() {
        let bounds = RetryBounds { min: Duration::from_millis(100), max: Duration::from_secs(1) };
        let pauses = |seed| {
            let mut retry = Retry::new(bounds, seed);
            (0..8).map(|_| retry.next_pause()).collect::<Vec<_>>()
        };
        assert_eq!(pauses(1), pauses(1));
        assert_ne!(pauses(1), pauses(2));
    }
}
