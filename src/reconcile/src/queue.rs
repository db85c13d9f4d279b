//! The work queue: a pure state machine. It holds no lock, does no I/O and reads no clock: `now` is an
//! argument, counted from any fixed point.
//!
//! Rules
//! - A key is queued at most once, and never handed out while it runs. What is added meanwhile makes it
//!   run once more after [`Queue::done`].
//! - The earliest time asked for wins. A run answers every request for that key made before it.
//! - [`Lane::Change`] goes before [`Lane::Resync`], but of every [`RESYNC_SHARE`] keys handed out while both
//!   wait, one is a resync. Within a lane the one due first goes first, then the one asked for first.
//! - A failure starts a back-off period that ends with the retry. Within it, resyncs and further triggers
//!   neither shorten nor lengthen the wait, with one exception: a change may run the key at once, **once per
//!   period**, so that a person's fix takes effect immediately while a reconciler that fails and
//!   triggers itself costs a broken dependency at most twice the retries. If that early run fails
//!   within the period, the retry stays when it was and counts as it would have.
//! - Success ends the back-off.

use std::{
    collections::{BTreeMap, btree_map::Entry as MapEntry},
    hash::Hash,
    time::Duration,
};

use crate::Backoff;

/// One of this many keys handed out is a resync while changes wait too.
pub const RESYNC_SHARE: u32 = 8;

/// Why a key is queued: decides who goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Something changed.
    Change,
    /// Nothing is known to have changed: a full pass, a first listing.
    Resync,
}

impl Lane {
    const ALL: [Self; 2] = [Self::Change, Self::Resync];

    const fn index(self) -> usize {
        match self {
            Self::Change => 0,
            Self::Resync => 1,
        }
    }
}

/// What a run came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Done until something changes.
    Success,
    /// Done, and to be looked at again after this time.
    Requeue(Duration),
    /// To be tried again after the back-off.
    Failure,
}

/// What came of an addition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Added {
    /// The key was idle and is queued now.
    Queued,
    /// The key was queued already.
    Merged,
    /// The queue is full; the next full pass repairs it.
    Refused,
}

/// A key handed out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job<K> {
    /// The key: it is not handed out again before [`Queue::done`].
    pub key: K,
    /// One more than the failures in a row so far.
    pub attempt: u32,
    /// The lane it came by.
    pub lane: Lane,
    /// How long it was due before it was handed out.
    pub waited: Duration,
}

/// Counters and gauges of a queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Additions that queued an idle key.
    pub adds: u64,
    /// Failures that led to a retry.
    pub retries: u64,
    /// Additions refused because the queue was full.
    pub refused: u64,
    /// Keys that are due and not running.
    pub depth: usize,
    /// Keys that run.
    pub running: usize,
    /// The longest time that one of them has run so far.
    pub longest_running: Duration,
    /// The sum of those times.
    pub unfinished: Duration,
}

/// The queue. See the module's rules.
#[derive(Debug)]
pub struct Queue<K> {
    slots: BTreeMap<K, Slot>,
    /// Per lane, the keys that wait, by due time and order of asking. Running keys are in none.
    lanes: [BTreeMap<Ticket, K>; 2],
    running: BTreeMap<K, Running>,
    next_order: u64,
    changes_in_row: u32,
    backoff: Backoff,
    capacity: usize,
    adds: u64,
    retries: u64,
    refused: u64,
}

/// When a key is due, and in which order it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Ticket {
    at: Duration,
    order: u64,
}

/// All that is known of a key that waits, runs or backs off.
#[derive(Debug, Default)]
struct Slot {
    /// Per lane. While the key runs these are not in [`Queue::lanes`].
    tickets: [Option<Ticket>; 2],
    failures: u32,
    period: Option<Period>,
}

/// A back-off period: from a failure to its retry.
#[derive(Debug, Clone, Copy)]
struct Period {
    until: Duration,
    /// Whether a change ran the key early already.
    bypassed: bool,
}

#[derive(Debug, Clone, Copy)]
struct Running {
    since: Duration,
    lane: Lane,
    /// Started by a change before its back-off ended.
    early: bool,
}

impl Slot {
    /// The earliest time at which a request of `lane` for `at` may run.
    fn allowed(&self, lane: Lane, at: Duration) -> Duration {
        match self.period {
            Some(period) if lane == Lane::Resync || period.bypassed => at.max(period.until),
            Some(_) | None => at,
        }
    }

    fn is_queued(&self) -> bool {
        self.tickets.iter().any(Option::is_some)
    }
}

impl<K: Ord + Clone + Hash> Queue<K> {
    /// Keys held at most when nothing else is said.
    pub const DEFAULT_CAPACITY: usize = 1 << 20;

    /// An empty queue.
    pub fn new(backoff: Backoff) -> Self {
        Self {
            slots: BTreeMap::new(),
            lanes: [BTreeMap::new(), BTreeMap::new()],
            running: BTreeMap::new(),
            next_order: 0,
            changes_in_row: 0,
            backoff,
            capacity: Self::DEFAULT_CAPACITY,
            adds: 0,
            retries: 0,
            refused: 0,
        }
    }

    /// Holds at most `capacity` keys; further ones are refused and counted.
    #[must_use]
    pub fn with_capacity_limit(mut self, capacity: usize) -> Self {
        self.capacity = capacity;
        self
    }

    /// Replaces the back-off of failures to come.
    pub fn set_backoff(&mut self, backoff: Backoff) {
        self.backoff = backoff;
    }

    /// Asks for a run of `key` at `at` (now or later).
    pub fn add(&mut self, key: K, lane: Lane, at: Duration) -> Added {
        let full = self.slots.len() >= self.capacity;
        let slot = match self.slots.entry(key.clone()) {
            MapEntry::Occupied(entry) => entry.into_mut(),
            MapEntry::Vacant(_) if full => {
                self.refused += 1;
                return Added::Refused;
            }
            MapEntry::Vacant(entry) => entry.insert(Slot::default()),
        };
        let added = if slot.is_queued() { Added::Merged } else { Added::Queued };
        if added == Added::Queued {
            self.adds += 1;
        }
        let ticket = Ticket { at, order: self.next_order };
        self.next_order += 1;
        if self.running.contains_key(&key) {
            // Only noted: how its run ends decides when it may run again.
            let noted = &mut slot.tickets[lane.index()];
            if noted.is_none_or(|old| ticket.at < old.at) {
                *noted = Some(ticket);
            }
        } else {
            Self::enqueue(slot, &mut self.lanes, key, lane, ticket);
        }
        added
    }

    /// Asks for a run of `key` after a while.
    pub fn add_after(&mut self, key: K, lane: Lane, after: Duration, now: Duration) -> Added {
        self.add(key, lane, now.saturating_add(after))
    }

    fn enqueue(slot: &mut Slot, lanes: &mut [BTreeMap<Ticket, K>; 2], key: K, lane: Lane, ticket: Ticket) {
        let ticket = Ticket { at: slot.allowed(lane, ticket.at), ..ticket };
        let (held, waiting) = (&mut slot.tickets[lane.index()], &mut lanes[lane.index()]);
        if let Some(old) = held {
            if old.at <= ticket.at {
                return;
            }
            waiting.remove(old);
        }
        *held = Some(ticket);
        waiting.insert(ticket, key);
    }

    /// Hands out the next key that is due, if any.
    pub fn next(&mut self, now: Duration) -> Option<Job<K>> {
        let due = Lane::ALL.map(|lane| {
            self.lanes[lane.index()].first_key_value().is_some_and(|(ticket, _)| ticket.at <= now)
        });
        let lane = match due {
            [false, false] => return None,
            [true, true] if self.changes_in_row + 1 < RESYNC_SHARE => {
                self.changes_in_row += 1;
                Lane::Change
            }
            [true, false] => {
                self.changes_in_row = 0;
                Lane::Change
            }
            [_, true] => {
                self.changes_in_row = 0;
                Lane::Resync
            }
        };
        let (ticket, key) = self.lanes[lane.index()].pop_first()?;
        let slot = self.slots.get_mut(&key)?;
        for other in Lane::ALL {
            if let Some(ticket) = slot.tickets[other.index()].take() {
                self.lanes[other.index()].remove(&ticket);
            }
        }
        let early = slot.period.as_mut().is_some_and(|period| {
            let early = now < period.until;
            period.bypassed |= early;
            early
        });
        let attempt = slot.failures.saturating_add(1);
        self.running.insert(key.clone(), Running { since: now, lane, early });
        Some(Job { key, attempt, lane, waited: now.saturating_sub(ticket.at) })
    }

    /// Ends the run of `key`. Answers when the key is due next, if it is queued. A key that does not run
    /// is left alone.
    pub fn done(&mut self, key: &K, outcome: Outcome, now: Duration) -> Option<Duration> {
        let running = self.running.remove(key)?;
        let slot = self.slots.get_mut(key)?;
        let mut again = None;
        match outcome {
            Outcome::Success | Outcome::Requeue(_) => {
                slot.failures = 0;
                slot.period = None;
                if let Outcome::Requeue(after) = outcome {
                    again = Some(now.saturating_add(after));
                }
            }
            Outcome::Failure => {
                self.retries += 1;
                let until = match slot.period {
                    Some(period) if running.early && now < period.until => period.until,
                    Some(_) | None => {
                        slot.failures = slot.failures.saturating_add(1);
                        let until = now.saturating_add(self.backoff.delay(key, slot.failures));
                        slot.period = Some(Period { until, bypassed: false });
                        until
                    }
                };
                again = Some(until);
            }
        }
        if let Some(at) = again {
            if !slot.is_queued() {
                self.adds += 1;
            }
            let ticket = Ticket { at, order: self.next_order };
            self.next_order += 1;
            let noted = &mut slot.tickets[running.lane.index()];
            if noted.is_none_or(|old| ticket.at < old.at) {
                *noted = Some(ticket);
            }
        }
        for lane in Lane::ALL {
            if let Some(ticket) = slot.tickets[lane.index()].take() {
                Self::enqueue(slot, &mut self.lanes, key.clone(), lane, ticket);
            }
        }
        let due = slot.tickets.iter().flatten().map(|ticket| ticket.at).min();
        if due.is_none() && slot.failures == 0 {
            self.slots.remove(key);
        }
        due
    }

    /// When [`Queue::next`] has something to hand out: past or present if it has now, `None` if only
    /// an addition or the end of a run can bring something.
    pub fn next_wakeup(&self) -> Option<Duration> {
        self.lanes.iter().filter_map(|lane| lane.first_key_value().map(|(ticket, _)| ticket.at)).min()
    }

    /// Counters and gauges. Takes time with the number of keys that are due.
    pub fn stats(&self, now: Duration) -> Stats {
        let due = |lane: Lane| {
            self.lanes[lane.index()]
                .iter()
                .take_while(move |(ticket, _)| ticket.at <= now)
                .map(|(_, key)| key)
        };
        // A key that is due in both lanes counts once.
        let resync_only = due(Lane::Resync)
            .filter(|key| {
                let change = self.slots.get(*key).and_then(|slot| slot.tickets[Lane::Change.index()]);
                change.is_none_or(|ticket| ticket.at > now)
            })
            .count();
        let ages = || self.running.values().map(|running| now.saturating_sub(running.since));
        Stats {
            adds: self.adds,
            retries: self.retries,
            refused: self.refused,
            depth: due(Lane::Change).count() + resync_only,
            running: self.running.len(),
            longest_running: ages().max().unwrap_or_default(),
            unfinished: ages().sum(),
        }
    }

    /// Keys that wait, run or back off.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether nothing waits, runs or backs off.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
