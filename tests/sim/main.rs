//! Simulation: the real controllers, loop, Mesos client and executor logic on one thread in virtual time, in
//! worlds drawn from seeds. Each world is run twice: the traces must be equal.
//!
//! `OVERLORD_SIM_SEEDS=N` runs N random worlds, `OVERLORD_SIM_SEED=K` replays world K and tells its whole story,
//! with the log of `OVERLORD_SIM_LOG` (a filter such as `overlord_controllers=debug`) in it.
#![expect(clippy::panic, reason = "what is not as expected fails the test")]

mod converge;
mod launcher;
mod log;
mod machine;
mod net;
mod oracles;
mod pool;
mod run;
mod scenarios;
mod scheduler;
mod script;
mod store;
mod trace;
mod view;
mod world;

use std::{
    collections::BTreeMap,
    io::Write as _,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{
    run::{check, simulate},
    script::{KINDS, Script},
};

/// Random worlds in a usual run.
const SEEDS: u64 = 30;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is {text:?}, expected a number")))
}

async fn random(world: &mut world::World, seed: u64) -> Result<(), String> {
    let script = Script::of_seed(seed);
    world.play(&script).await?;
    converge::converge(world, converge::BOUND).await?;
    converge::stay_quiet(world).await
}

#[test]
fn random_worlds_converge_and_are_the_same_twice() {
    if let Some(seed) = number("OVERLORD_SIM_SEED") {
        let told =
            simulate(seed, &async |world: &mut world::World| random(world, seed).await, log::filter(), false);
        let outcome = told.outcome.clone().err().unwrap_or_else(|| "as it should be".to_owned());
        println!("{}\n{}world {seed}: {outcome}", told.told.story(true), Script::of_seed(seed));
        check("random", seed, &async |world: &mut world::World| random(world, seed).await)
            .unwrap_or_else(|failure| panic!("{failure}"));
        return;
    }
    let seeds = number("OVERLORD_SIM_SEEDS").unwrap_or(SEEDS);
    let next = AtomicU64::new(0);
    let counts: Mutex<BTreeMap<&str, u64>> = Mutex::default();
    let failures: Mutex<Vec<(u64, String)>> = Mutex::default();
    let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        return;
                    }
                    match check("random", seed, &async |world: &mut world::World| random(world, seed).await) {
                        Ok(told) => {
                            let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
                            for (kind, count) in told {
                                *counts.entry(kind).or_default() += count;
                            }
                        }
                        Err(failure) => {
                            let text = format!("{failure}\nthe script:\n{}", Script::of_seed(seed));
                            failures.lock().unwrap_or_else(PoisonError::into_inner).push((seed, text));
                        }
                    }
                }
            });
        }
    });
    let mut failures = failures.into_inner().unwrap_or_else(PoisonError::into_inner);
    failures.sort();
    if let Some((_, first)) = failures.first() {
        let all: Vec<String> = failures.iter().map(|(seed, _)| seed.to_string()).collect();
        panic!("{first}\n{} of {seeds} worlds failed: {}", failures.len(), all.join(" "));
    }
    let counts = counts.into_inner().unwrap_or_else(PoisonError::into_inner);
    let fired: Vec<String> =
        KINDS.iter().map(|kind| format!("{kind} {}", counts.get(kind).copied().unwrap_or(0))).collect();
    // Past the capture of the test harness: what a passing run covered is worth a line.
    let _ = writeln!(std::io::stderr(), "{seeds} simulated worlds: {}", fired.join(", "));
    let never: Vec<&&str> = KINDS.iter().filter(|kind| !counts.contains_key(**kind)).collect();
    assert!(never.is_empty() || seeds < SEEDS, "never happened: {never:?}");
}
