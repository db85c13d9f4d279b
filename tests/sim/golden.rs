//! Golden scripts: `tests/scripts/*.txt`, short stories in plain commands with what must come of them, in order. They
//! are the specification that people read: one for each failure that hurt the users of systems like this one.
//!
//! `OVERLORD_SCRIPT=<name>` plays one; `OVERLORD_SCRIPT_ALOUD=1` prints the events as they are, to help writing, and
//! holds nothing to those that are written; `OVERLORD_SCRIPT_STORY=1` tells all that happened.

mod command;
mod events;
mod expect;
mod grammar;
mod play;
mod script;
mod spec;
mod words;

use std::{
    cell::Cell,
    fs,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use self::{play::Player, script::Script};
use crate::{log, run::simulate, world::World};

/// Each script is played in so many worlds, unless `OVERLORD_SCRIPT_WORLDS` says otherwise: each has its own delays.
const SEEDS: u64 = 3;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts")
}

/// All scripts, by name.
fn all() -> Vec<(String, String)> {
    let folder = folder();
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let paths = entries.flatten().map(|entry| entry.path());
    let mut scripts: Vec<(String, String)> = paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .map(|path| {
            let text =
                fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            (path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default(), text)
        })
        .collect();
    scripts.sort();
    scripts
}

/// Plays a script in a world of this seed.
fn play(name: &str, script: &Script, seed: u64, aloud: bool) -> Result<(), String> {
    let story = std::env::var_os("OVERLORD_SCRIPT_STORY").is_some();
    let filter = if story { log::filter() } else { "error,overlord_mesos::executor=off" };
    let at = Cell::new(0);
    let played = async |world: &mut World| {
        let outcome = Player::new(world, aloud).play(script).await;
        outcome.map_err(|(line, why)| {
            at.set(line);
            why
        })
    };
    let ended = simulate(seed, &played, filter, false);
    let told = if story { crate::story::whole(&ended.told) } else { String::new() };
    let line = at.get();
    match ended.outcome {
        Ok(()) if story => {
            println!("{told}");
            Ok(())
        }
        Ok(()) => Ok(()),
        Err(why) => Err(format!("{told}tests/scripts/{name}.txt:{line}: in world {seed}: {why}")),
    }
}

#[test]
fn scripts_come_out_as_they_are_written() {
    let chosen = std::env::var("OVERLORD_SCRIPT").ok();
    let aloud = std::env::var_os("OVERLORD_SCRIPT_ALOUD").is_some();
    let worlds = crate::number("OVERLORD_SCRIPT_WORLDS").unwrap_or(SEEDS);
    let mut scripts = all();
    if let Some(name) = &chosen {
        scripts.retain(|(of, _)| of == name);
        assert!(!scripts.is_empty(), "there is no tests/scripts/{name}.txt");
    }
    let next = AtomicUsize::new(0);
    let failures: Mutex<Vec<String>> = Mutex::default();
    let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((name, text)) = scripts.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let failed = match Script::parse(text) {
                        Err(faults) => {
                            let lines =
                                faults.iter().map(|fault| format!("tests/scripts/{name}.txt:{fault}"));
                            Some(lines.collect::<Vec<_>>().join("\n"))
                        }
                        Ok(script) => {
                            let seeds = if aloud { 0..1 } else { 0..worlds };
                            { seeds }.find_map(|seed| play(name, &script, seed, aloud).err())
                        }
                    };
                    failures.lock().unwrap_or_else(PoisonError::into_inner).extend(failed);
                }
            });
        }
    });
    let mut failures = failures.into_inner().unwrap_or_else(PoisonError::into_inner);
    failures.sort();
    assert!(
        failures.is_empty(),
        "{}\n{} of {} scripts failed",
        failures.join("\n"),
        failures.len(),
        scripts.len()
    );
}
