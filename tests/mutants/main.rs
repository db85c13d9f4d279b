//! Mutants: the product with one safety rule taken out, each of which the simulation must notice, by the oracle that is
//! there for it, within a stated number of worlds. A rule whose mutant survives is not tested by anybody.
//!
//! A mutant is a file here, `<name>.toml`: why the rule is there, an edit of one file of the product (`find`, which occurs
//! exactly once, and `replace`, in which `MUTANT` stands for "this mutant is switched on"), and what catches it. All edits
//! are made at once in a copy of the workspace, each switched by a variable, so that the simulation is built once. Most
//! are hunted in the story that is told of their rule (`tests/scripts`): short, and it says what should happen instead.
//!
//! `make mutants` hunts all; `OVERLORD_MUTANTS=a,b` only some; `OVERLORD_MUTANTS_MEASURE=1` prints in which world each
//! is caught, and by which words, without holding it to its bound.
#![expect(clippy::panic, reason = "what is not as expected fails the test")]

mod copy;
mod hunt;
mod mutant;

use std::{
    collections::BTreeMap,
    io::Write as _,
    path::PathBuf,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::{
    hunt::{Hunt, Outcome},
    mutant::Mutant,
};

fn workspace() -> PathBuf {
    let tests = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    tests.parent().map(PathBuf::from).unwrap_or(tests)
}

fn all() -> Vec<Mutant> {
    Mutant::all(&workspace().join("tests/mutants")).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn each_mutant_is_one_edit_of_the_product_as_it_is() {
    let mutants = all();
    assert!(mutants.len() >= 15, "only {} mutants", mutants.len());
    let mut faults = Vec::new();
    if let Err(error) = copy::edited(&workspace(), &mutants) {
        faults.push(error);
    }
    for mutant in &mutants {
        if let Err(error) = mutant.check() {
            faults.push(error);
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
#[ignore = "builds a copy of the workspace and runs some hundred worlds: `make mutants`"]
fn every_mutant_is_caught_by_the_oracle_that_is_there_for_it() {
    let chosen = std::env::var("OVERLORD_MUTANTS").ok();
    let measure = std::env::var_os("OVERLORD_MUTANTS_MEASURE").is_some();
    let every = all();
    if let Some(names) = &chosen {
        let unknown: Vec<&str> =
            names.split(',').filter(|name| !every.iter().any(|mutant| mutant.name == *name)).collect();
        assert!(unknown.is_empty(), "no such mutants: {}", unknown.join(", "));
    }
    let is_chosen = |mutant: &&Mutant| {
        chosen.as_ref().is_none_or(|names| names.split(',').any(|name| name == mutant.name))
    };
    let edited = copy::edited(&workspace(), &every).unwrap_or_else(|error| panic!("{error}"));
    let scratch = copy::scratch();
    copy::make(&workspace(), &scratch, &edited).unwrap_or_else(|error| panic!("{error}"));
    let binary = hunt::build(&scratch).unwrap_or_else(|error| panic!("{error}"));

    // Without a mutant nothing is to be caught, in all the worlds and stories that the mutants are hunted in.
    let mutants: Vec<&Mutant> = every.iter().filter(is_chosen).collect();
    let mut hunts: Vec<Hunt<'_>> = hunt::of_nothing(&mutants);
    let healthy = hunts.len();
    hunts.extend(mutants.iter().map(|mutant| Hunt::of(mutant)));
    let next = AtomicUsize::new(0);
    let results: Mutex<BTreeMap<usize, Outcome>> = Mutex::default();
    let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(hunt) = hunts.get(at) else { return };
                    let outcome = hunt.run(&binary, &scratch);
                    // Past the capture of the test harness: this takes long.
                    let _ = writeln!(std::io::stderr(), "{}", hunt.tell(&outcome));
                    results.lock().unwrap_or_else(PoisonError::into_inner).insert(at, outcome);
                }
            });
        }
    });
    let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    let faults: Vec<String> = hunts
        .iter()
        .enumerate()
        .filter(|(at, _)| !(measure && *at >= healthy))
        .filter_map(|(at, hunt)| hunt.fault(results.get(&at)?))
        .collect();
    assert!(faults.is_empty(), "{} of {} hunts failed:\n{}", faults.len(), hunts.len(), faults.join("\n"));
}
