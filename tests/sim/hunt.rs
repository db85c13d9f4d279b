//! Looks for the first random world in which an oracle says certain words: how the `mutants` target finds out in how
//! many worlds a mutant is caught, and by what. Each world is run once.
//!
//! `OVERLORD_HUNT` holds the words, `OVERLORD_HUNT_SEEDS` the number of worlds.

use overlord_tests::says;

use crate::{number, random, run::simulate, world::World};

/// In front of each line for the hunter.
const MARK: &str = "hunt:";

/// What the parts log is of no use here; their panics are.
const LOG: &str = "error,overlord_mesos::executor=off";

#[test]
#[ignore = "run by the `mutants` target, which says what to look for"]
fn hunt() {
    let words = std::env::var("OVERLORD_HUNT").unwrap_or_default();
    let seeds = number("OVERLORD_HUNT_SEEDS").unwrap_or(1);
    for seed in 0..seeds {
        let ended = simulate(seed, &async |world: &mut World| random(world, seed).await, LOG, false);
        let Err(outcome) = &ended.outcome else { continue };
        let all = std::iter::once(outcome).chain(&ended.told.violations);
        let caught = all.clone().find(|text| says(text, &words));
        match caught {
            Some(text) => return println!("{MARK} caught {seed} {}", one_line(text)),
            None => println!("{MARK} other {seed} {}", one_line(outcome)),
        }
    }
    println!("{MARK} over {seeds}");
}

fn one_line(text: &str) -> String {
    let line: String = text.lines().collect::<Vec<_>>().join(" | ");
    line.chars().take(400).collect()
}
