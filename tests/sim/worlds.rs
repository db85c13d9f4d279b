//! Many random worlds: each a day with its faults. What passed prints how often each fault and each kind of step
//! occurred, and fails when one never did.

use std::{
    collections::BTreeMap,
    io::Write as _,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use overlord_controllers::members::step::Step;

use crate::{
    log,
    run::{check, check_once, simulate},
    script::{KINDS, Script},
    story,
    world::World,
};

/// Random worlds in a usual run.
const SEEDS: u64 = 6;

/// With so many worlds every kind of fault and step must have occurred.
const ALL_OCCUR: u64 = 300;

/// Steps that only clusters of nodes take.
const OF_NODES: [&str; 3] = ["form", "order", "start-alone"];

/// A number from the environment.
pub(crate) fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is {text:?}, expected a number")))
}

/// The day of a seed.
pub(crate) async fn random(world: &mut World, seed: u64) -> Result<(), String> {
    // Long ones make quiet hours cheap.
    world.lease = Duration::from_secs(if seed.is_multiple_of(4) { 10 } else { 30 });
    world.play(&Script::of_seed(seed)).await
}

fn replay(seed: u64) {
    let day = async |world: &mut World| random(world, seed).await;
    let told = simulate(seed, &day, log::filter(), false);
    let outcome = told.outcome.clone().err().unwrap_or_else(|| "as it should be".to_owned());
    println!("{}\n{}world {seed}: {outcome}", story::whole(&told.told), Script::of_seed(seed));
    check("random", seed, &day).unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn random_worlds_converge_and_are_the_same_twice() {
    if let Some(seed) = number("OVERLORD_SIM_SEED") {
        return replay(seed);
    }
    let seeds = number("OVERLORD_SIM_SEEDS").unwrap_or(SEEDS);
    let from = number("OVERLORD_SIM_FROM").unwrap_or(0);
    let twice = number("OVERLORD_SIM_TWICE").unwrap_or(SEEDS).max(1);
    let next = AtomicU64::new(0);
    let counts: Mutex<BTreeMap<&str, u64>> = Mutex::default();
    let failures: Mutex<Vec<(u64, String)>> = Mutex::default();
    let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= seeds {
                        return;
                    }
                    let seed = from + number;
                    let day = async |world: &mut World| random(world, seed).await;
                    let told = if number.is_multiple_of(twice) {
                        check("random", seed, &day)
                    } else {
                        check_once("random", seed, &day)
                    };
                    match told {
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
                    if number % 500 == 499 {
                        let failed = failures.lock().unwrap_or_else(PoisonError::into_inner).len();
                        // Past the capture of the test harness.
                        let _ =
                            writeln!(std::io::stderr(), "{} of {seeds} worlds, {failed} failed", number + 1);
                    }
                }
            });
        }
    });
    let mut failures = failures.into_inner().unwrap_or_else(PoisonError::into_inner);
    failures.sort();
    let counts = counts.into_inner().unwrap_or_else(PoisonError::into_inner);
    let steps: Vec<&str> = Step::KINDS.into_iter().filter(|kind| !OF_NODES.contains(kind)).collect();
    let table = |kinds: &[&str]| -> String {
        let all = kinds.iter().map(|kind| format!("{kind} {}", counts.get(kind).copied().unwrap_or(0)));
        all.collect::<Vec<_>>().join(", ")
    };
    // What a passing run covered is worth a line, past the capture of the test harness.
    let _ = writeln!(
        std::io::stderr(),
        "{seeds} simulated worlds of a day or more\nfaults: {}\nsteps: {}\nbesides: {}",
        table(KINDS),
        table(&steps),
        table(&["leadership won", "write fenced off"]),
    );
    if let Some((_, first)) = failures.first() {
        let all: Vec<String> = failures.iter().map(|(seed, _)| seed.to_string()).collect();
        panic!("{first}\n{} of {seeds} worlds failed: {}", failures.len(), all.join(" "));
    }
    let never: Vec<&&str> = KINDS.iter().chain(&steps).filter(|kind| !counts.contains_key(**kind)).collect();
    assert!(never.is_empty() || seeds < ALL_OCCUR, "never happened: {never:?}");
}
