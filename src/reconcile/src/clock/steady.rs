//! A wall clock that is not moved by every hand that sets the machine's.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};

use super::Clock;

/// Followed at once: what an NTP client slews away, and what passes between two readings.
const DRIFT: SignedDuration = SignedDuration::from_secs(1);

/// Followed at once too, since what comes of it in the worst case is that something waits for so much longer: a
/// machine that slept, where the monotonic clock stands still then.
const LITTLE: SignedDuration = SignedDuration::from_mins(5);

/// A wall clock that is off in the same way for this long was set right, or is off for good.
const BELIEVED: Duration = Duration::from_mins(15);

/// Wall-clock time that goes on as the monotonic clock does, from what the wall clock showed first. Times that are
/// written down and compared later (quarantines, deadlines, "since") must not come from a clock that is wrong for a
/// moment: a deadline would be over at once, or be a day away for good.
///
/// Small differences are followed at once. A jump is followed once it has lasted for a quarter of an hour, and is told both times.
#[derive(Debug)]
pub struct SteadyClock {
    machine: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// What this clock showed last, and when that was on the monotonic clock.
    shown: Timestamp,
    at: Duration,
    jump: Option<Jump>,
}

/// The machine's wall clock is elsewhere.
#[derive(Debug, Clone, Copy)]
struct Jump {
    off: SignedDuration,
    /// On the monotonic clock.
    since: Duration,
}

impl SteadyClock {
    /// A clock that shows what the machine's shows now.
    pub fn new(machine: Arc<dyn Clock>) -> Self {
        let state = State { shown: machine.now(), at: machine.monotonic(), jump: None };
        Self { machine, state: Mutex::new(state) }
    }
}

impl Clock for SteadyClock {
    fn now(&self) -> Timestamp {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (wall, at) = (self.machine.now(), self.machine.monotonic());
        let steady = state.shown.saturating_add(at.saturating_sub(state.at)).unwrap_or(Timestamp::MAX);
        let off = wall.duration_since(steady);
        let is_small = (-DRIFT..=LITTLE).contains(&off);
        // The same one as before, give or take what it drifts meanwhile.
        let before = state.jump.filter(|jump| (off - jump.off).abs() <= DRIFT);
        let lasted = before.is_some_and(|jump| at.saturating_sub(jump.since) >= BELIEVED);
        if is_small || lasted {
            if lasted {
                tracing::warn!(by = %format_args!("{off:#}"), "the wall clock stayed where it jumped to: it is followed");
            }
            (state.shown, state.at, state.jump) = (wall, at, None);
            return wall;
        }
        if before.is_none() {
            tracing::warn!(
                by = %format_args!("{off:#}"),
                "the wall clock jumped: it is followed if it stays there for a quarter of an hour"
            );
            state.jump = Some(Jump { off, since: at });
        }
        (state.shown, state.at) = (steady, at);
        steady
    }

    fn monotonic(&self) -> Duration {
        self.machine.monotonic()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Clocks that show what they are told.
    #[derive(Debug)]
    struct Told(Mutex<(Timestamp, Duration)>);

    impl Clock for Told {
        fn now(&self) -> Timestamp {
            self.0.lock().unwrap().0
        }

        fn monotonic(&self) -> Duration {
            self.0.lock().unwrap().1
        }
    }

    impl Told {
        fn pass(&self, time: Duration) {
            let mut told = self.0.lock().unwrap();
            told.0 += time;
            told.1 += time;
        }

        fn jump(&self, by: SignedDuration) {
            self.0.lock().unwrap().0 += by;
        }
    }

    fn clocks() -> (Arc<Told>, SteadyClock) {
        let told = Arc::new(Told(Mutex::new((at(0), Duration::from_secs(7)))));
        let steady = SteadyClock::new(Arc::clone(&told) as Arc<dyn Clock>);
        (told, steady)
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    #[test]
    fn a_jump_of_a_moment_is_not_seen() {
        for by in
            [SignedDuration::from_hours(24), SignedDuration::from_hours(-1), SignedDuration::from_secs(-2)]
        {
            let (machine, clock) = clocks();
            machine.jump(by);
            for second in 1..=60 {
                machine.pass(Duration::from_secs(1));
                assert_eq!(clock.now(), at(second), "{by:#}");
            }
            machine.jump(-by);
            assert_eq!(clock.now(), at(60));
        }
    }

    #[test]
    fn a_jump_that_lasts_is_followed() {
        let (machine, clock) = clocks();
        machine.jump(SignedDuration::from_hours(-3));
        assert_eq!(clock.now(), at(0));
        machine.pass(BELIEVED);
        assert_eq!(clock.now(), machine.now());
        // A second one begins anew.
        machine.jump(SignedDuration::from_hours(1));
        let before = clock.now();
        machine.jump(SignedDuration::from_hours(1));
        machine.pass(BELIEVED);
        assert_eq!(clock.now(), before + BELIEVED);
        machine.pass(BELIEVED);
        assert_eq!(clock.now(), machine.now());
    }

    #[test]
    fn a_jump_that_was_undone_does_not_count_later() {
        let (machine, clock) = clocks();
        machine.jump(SignedDuration::from_hours(1));
        assert_eq!(clock.now(), at(0));
        machine.jump(SignedDuration::from_hours(-1));
        machine.pass(BELIEVED);
        assert_eq!(clock.now(), at(900));
        machine.jump(SignedDuration::from_hours(1));
        assert_eq!(clock.now(), at(900));
    }

    #[test]
    fn drift_and_a_little_sleep_are_followed() {
        let (machine, clock) = clocks();
        machine.jump(SignedDuration::from_millis(-900));
        assert_eq!(clock.now(), machine.now());
        machine.jump(SignedDuration::from_secs(290));
        assert_eq!(clock.now(), machine.now());
    }
}
