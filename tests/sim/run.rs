//! Runs a story in a world of its own, and the same once more.

use std::collections::BTreeMap;

use tracing_subscriber::layer::SubscriberExt as _;

use crate::{
    log::StoryLayer,
    trace::{Told, Trace},
    world::World,
};

/// What a usual run logs: an executor without its agent says so every second.
pub(crate) const QUIET_LOG: &str = "warn,overlord_mesos::executor=error,overlord_controllers::step=debug";

/// A world that has ended.
pub(crate) struct Ended {
    pub(crate) told: Told,
    pub(crate) outcome: Result<(), String>,
}

/// Runs a story. Everything in its world happens on this thread, in virtual time.
pub(crate) fn simulate(
    seed: u64,
    story: &impl AsyncFn(&mut World) -> Result<(), String>,
    filter: &str,
    again: bool,
) -> Ended {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.unwrap_or_else(|error| panic!("no runtime: {error}"));
    let trace: std::cell::OnceCell<Trace> = std::cell::OnceCell::new();
    let outcome = runtime.block_on(async {
        let mut world = World::new(seed, again);
        let trace = trace.get_or_init(|| world.trace.clone());
        let layer = StoryLayer::new(trace.clone());
        let filter = tracing_subscriber::EnvFilter::new(filter);
        let subscriber = tracing_subscriber::registry().with(filter).with(layer);
        let _log = tracing::subscriber::set_default(subscriber);
        let outcome = story(&mut world).await;
        match world.trace.violated() {
            Some(violation) => Err(violation),
            None => outcome,
        }
    });
    let told = trace.get().map_or_else(|| panic!("no trace"), Trace::finish);
    Ended { told, outcome }
}

/// Runs a story once: it must come out well. What happened how often.
pub(crate) fn check_once(
    name: &str,
    seed: u64,
    story: &impl AsyncFn(&mut World) -> Result<(), String>,
) -> Result<BTreeMap<&'static str, u64>, String> {
    Ok(come_out_well(name, seed, story)?.counts)
}

/// Runs a story twice: it must come out well, and the same both times. What happened how often.
pub(crate) fn check(
    name: &str,
    seed: u64,
    story: &impl AsyncFn(&mut World) -> Result<(), String>,
) -> Result<BTreeMap<&'static str, u64>, String> {
    let first = come_out_well(name, seed, story)?;
    let second = simulate(seed, story, QUIET_LOG, true);
    if first.hash != second.told.hash {
        let difference = first.first_difference(&second.told);
        return Err(format!("world {name} {seed} is not the same twice: {difference}"));
    }
    Ok(first.counts)
}

fn come_out_well(
    name: &str,
    seed: u64,
    story: &impl AsyncFn(&mut World) -> Result<(), String>,
) -> Result<Told, String> {
    let Ended { told, outcome } = simulate(seed, story, QUIET_LOG, false);
    match outcome {
        Ok(()) => Ok(told),
        Err(failure) => Err(crate::story::of_failure(&told, name, seed, &failure)),
    }
}
