//! Writes all over a cluster for as long as it is let, and remembers what was confirmed.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use overlord_engines::cluster::{key_slot, slot_ranges};
use overlord_reconcile::{Clock as _, SystemClock};
use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};
use tokio::task::JoinSet;

use super::{ClusterClient, History, Write, client::Written};
use crate::eventually_within;

/// Connections that write to each shard.
const LANES: u16 = 2;

/// Slots of its shard that a lane writes to.
const SLOTS: usize = 4;

/// Milliseconds `WAIT` may take.
const WAIT: Duration = Duration::from_millis(100);

/// Milliseconds between two writes of a lane.
const PAUSE: Range<u64> = 1..8;

/// The same for a writer that runs beside much else.
const LONG_PAUSE: Range<u64> = 20..60;

/// Writes of a lane, at most.
const MOST: u64 = 100_000;

/// How long a cluster may take to confirm writes again.
const PATIENCE: Duration = Duration::from_secs(120);

/// A running writer. Every key is written once, so a loss is not covered up by a later write, and a write
/// that is late in some socket undoes nothing. What was not confirmed is not repeated: it may be there or not.
#[derive(Debug)]
pub struct Writer {
    stopped: Arc<AtomicBool>,
    confirmed: Arc<[AtomicU64]>,
    lanes: JoinSet<History>,
}

/// One connection and its keys.
#[derive(Debug)]
struct Lane {
    name: String,
    shard: u16,
    /// Hash tags with their slots.
    tags: Vec<(String, u16)>,
    client: ClusterClient,
    pause: Range<u64>,
    rng: SmallRng,
    clock: SystemClock,
}

impl Writer {
    /// Begins to write to a cluster of so many shards. `name` begins the keys: no two writers to one
    /// cluster may have the same.
    pub fn start(name: &str, seed: u64, shards: u16, nodes: &[String]) -> Self {
        Self::paced(name, seed, shards, nodes, PAUSE)
    }

    /// The same, with longer pauses.
    pub fn start_gently(name: &str, seed: u64, shards: u16, nodes: &[String]) -> Self {
        Self::paced(name, seed, shards, nodes, LONG_PAUSE)
    }

    fn paced(name: &str, seed: u64, shards: u16, nodes: &[String], pause: Range<u64>) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let clock = SystemClock::new();
        let stopped = Arc::new(AtomicBool::new(false));
        let confirmed: Arc<[AtomicU64]> = (0..shards * LANES).map(|_| AtomicU64::new(0)).collect();
        let mut lanes = JoinSet::new();
        for (shard, range) in (0_u16..).zip(slot_ranges(shards)) {
            for lane in 0..LANES {
                let number = usize::from(shard * LANES + lane);
                let tags = std::iter::repeat_with(|| format!("{:x}", rng.random::<u32>()))
                    .map(|tag| (key_slot(tag.as_bytes()), tag))
                    .filter(|(slot, _)| range.contains(slot))
                    .map(|(slot, tag)| (tag, slot));
                let tags: Vec<_> = tags.take(SLOTS).collect();
                let lane = Lane {
                    name: format!("{name}:{number}"),
                    shard,
                    tags,
                    client: ClusterClient::new(nodes, rng.random()),
                    pause: pause.clone(),
                    rng: SmallRng::seed_from_u64(rng.random()),
                    clock,
                };
                let (stopped, confirmed) = (Arc::clone(&stopped), Arc::clone(&confirmed));
                lanes.spawn(async move { lane.run(&stopped, &confirmed[number]).await });
            }
        }
        Self { stopped, confirmed, lanes }
    }

    /// Waits until each lane, and so each shard, has `more` writes confirmed that are yet to be made.
    ///
    /// # Panics
    /// When that takes too long.
    pub async fn confirm(&self, more: u64) {
        self.confirm_among(&self.confirmed, more).await;
    }

    /// The same for one shard: both of it follow each other then.
    ///
    /// # Panics
    /// When that takes too long, or there is no such shard.
    pub async fn confirm_of(&self, shard: u16, more: u64) {
        let first = usize::from(shard * LANES);
        self.confirm_among(&self.confirmed[first..first + usize::from(LANES)], more).await;
    }

    async fn confirm_among(&self, lanes: &[AtomicU64], more: u64) {
        let counts = || lanes.iter().map(|count| count.load(Ordering::Relaxed)).collect::<Vec<_>>();
        let before = counts();
        eventually_within(PATIENCE, &format!("{more} more writes of each lane are confirmed"), || async {
            let now = counts();
            let done = before.iter().zip(&now).all(|(before, now)| *now >= before + more);
            if done { Ok(()) } else { Err(format!("{LANES} lanes a shard: {before:?}, now {now:?}")) }
        })
        .await;
    }

    /// Stops; what it knows.
    ///
    /// # Panics
    /// When a part of it has panicked.
    #[expect(clippy::expect_used, reason = "the tests' own way to fail")]
    pub async fn stop(mut self) -> History {
        self.stopped.store(true, Ordering::Relaxed);
        let mut history = History::default();
        while let Some(lane) = self.lanes.join_next().await {
            history.extend(lane.expect("a lane of the writer"));
        }
        history
    }
}

impl Lane {
    async fn run(mut self, stopped: &AtomicBool, confirmed: &AtomicU64) -> History {
        let mut history = History::default();
        for (n, (tag, slot)) in (0..MOST).zip(self.tags.iter().cycle()) {
            if stopped.load(Ordering::Relaxed) {
                break;
            }
            let (key, value) = (format!("{}:{n}{{{tag}}}", self.name), n.to_string());
            let written = self.client.write(&key, &value, WAIT).await;
            let at = self.clock.monotonic();
            let fault = match written {
                Ok(Written::Confirmed { node }) => {
                    let (slot, shard) = (*slot, self.shard);
                    history.confirmed.push(Write { key, value, slot, shard, node, at });
                    confirmed.fetch_add(1, Ordering::Relaxed);
                    None
                }
                Ok(Written::Unconfirmed { why }) => Some(why),
                Err(error) => Some(error.to_string()),
            };
            if let Some(fault) = fault {
                history.unconfirmed += 1;
                history.last_fault = format!("write {n} to shard {} at {at:.3?}: {fault}", self.shard);
            }
            tokio::time::sleep(Duration::from_millis(self.rng.random_range(self.pause.clone()))).await;
        }
        history
    }
}
