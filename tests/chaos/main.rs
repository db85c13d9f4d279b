//! Chaos on real parts: a sandbox with real etcd, redis and memcached, two controllers of their own processes,
//! clusters of all kinds with writers on them; everything dies, stops, is cut off or answers late at random
//! moments while a user goes on declaring things. Whatever happens, nothing runs twice, nothing is written by a
//! leader whose term is over, nothing that was kept is lost, and all is as declared soon after it is let alone.
//!
//! `make chaos MINUTES=15 SEED=7`, or a short one with every `cargo test`.
#![cfg(test)]

mod bite;
mod caches;
mod run;
mod strikes;
mod user;

use std::time::Duration;

/// The seed of the short run: the same each time, so that what it finds is found again.
const SHORT_SEED: u64 = 20_240_229;

/// No round begins after this in the short run.
const SHORT: Duration = Duration::from_secs(20);

/// Minutes of the long one, unless `MINUTES` says otherwise.
const MINUTES: u64 = 15;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().and_then(|text| text.trim().parse().ok())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_short_round_of_chaos_leaves_nothing_half_done() {
    run::run(SHORT_SEED, SHORT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: make chaos"]
async fn minutes_of_chaos() {
    let seed = number("SEED").unwrap_or_else(|| uuid::Uuid::new_v4().as_u64_pair().0 % 1_000_000_000);
    let minutes = number("MINUTES").unwrap_or(MINUTES);
    run::run(seed, Duration::from_secs(60 * minutes)).await;
}
