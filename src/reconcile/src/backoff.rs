//! How long to wait after a failure: exponential, capped, with jitter that is a function of what fails
//! and how often, so that a simulated run repeats itself exactly.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

/// Exponential back-off: doubles from `first` to `most`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    salt: u64,
}

impl Backoff {
    /// For keys of a queue. The start is short because the commonest failure is a lost compare-and-swap,
    /// which succeeds at once with a fresh view; the cap is what a repaired dependency is waited for at most.
    pub const KEYS: Self = Self::new(Duration::from_millis(50), Duration::from_secs(60));

    /// For connections and listings.
    pub const CONNECTIONS: Self = Self::new(Duration::from_millis(100), Duration::from_secs(15));

    /// Doubles from `first` to `most`.
    pub const fn new(first: Duration, most: Duration) -> Self {
        Self { first, most, salt: 0 }
    }

    /// Another jitter for the same subjects, so that two users of one back-off do not move in step.
    #[must_use]
    pub fn salted(mut self, salt: &impl Hash) -> Self {
        self.salt = hash(&(self.salt, salt));
        self
    }

    /// The wait after the `failures`th failure in a row of `subject`: between half of and the whole of the
    /// doubled time. The same arguments give the same wait.
    pub fn delay(&self, subject: &impl Hash, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        let whole = self.first.saturating_mul(1 << doublings).min(self.most);
        // The upper half of the hash as a fraction of one half: [0, 0.5].
        let jitter = hash(&(self.salt, failures, subject)) >> 32;
        whole.saturating_sub(whole.mul_f64(jitter as f64 / f64::from(u32::MAX) / 2.0))
    }
}

/// `period`, up to a tenth longer or shorter, by `subject`: so that what starts together does not stay together.
pub(crate) fn jittered(period: Duration, subject: &impl Hash) -> Duration {
    let fraction = (hash(subject) >> 32) as f64 / f64::from(u32::MAX);
    period.mul_f64(0.9 + fraction / 5.0)
}

/// Without a random key: equal in every process of one build.
fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_cap_within_their_jitter() {
        let backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));
        for (failures, whole) in [(1, 100), (2, 200), (3, 400), (7, 6_400), (8, 10_000), (u32::MAX, 10_000)] {
            for key in 0..50 {
                let delay = backoff.delay(&key, failures);
                assert!(delay <= Duration::from_millis(whole), "{failures}: {delay:?}");
                assert!(delay >= Duration::from_millis(whole / 2), "{failures}: {delay:?}");
            }
        }
    }

    #[test]
    fn jitter_depends_on_subject_attempt_and_salt_only() {
        let backoff = Backoff::KEYS;
        assert_eq!(backoff.delay(&"a", 3), backoff.delay(&"a", 3));
        assert_ne!(backoff.delay(&"a", 3), backoff.delay(&"b", 3));
        assert_ne!(backoff.delay(&"a", 3), backoff.salted(&"other").delay(&"a", 3));
    }

    #[test]
    fn a_zero_back_off_is_no_wait() {
        let backoff = Backoff::new(Duration::ZERO, Duration::ZERO);
        assert_eq!(backoff.delay(&"a", 9), Duration::ZERO);
    }
}
