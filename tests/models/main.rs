//! The model of redis is held to redis-server 7.0.15: the same scripts run on real processes and on the model, and
//! what is of matter for decisions must come out the same: roles, owners of slots, the order of epochs, links,
//! which keys are left, first words of answers. Times are not compared. Where they differ, the real one is right.
//!
//! `SCRIPT=<part of a name>` runs some of them; `TRACE=1` prints what came out.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod modelled;
mod real;
mod scripts;
mod seen;
mod stage;

use std::{collections::BTreeMap, pin::Pin, sync::Arc};

use stage::Stage;
use tokio::{
    sync::Semaphore,
    task::{JoinError, JoinSet},
};

/// Scripts on real processes at once: most of their time is waiting.
const AT_ONCE: usize = 14;

type Running<'s> = Pin<Box<dyn Future<Output = ()> + Send + 's>>;

/// A script, by name.
#[derive(Clone, Copy)]
struct Script {
    name: &'static str,
    run: for<'s> fn(&'s mut Stage) -> Running<'s>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_script_comes_out_on_the_model_as_on_redis() {
    let wanted = std::env::var("SCRIPT").unwrap_or_default();
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let mut runs = JoinSet::new();
    let mut names = BTreeMap::new();
    for script in scripts::ALL.iter().filter(|script| script.name.contains(&wanted)) {
        let turns = Arc::clone(&turns);
        let run = runs.spawn(async move {
            let _turn = turns.acquire().await.unwrap();
            let mut real = Stage::real();
            (script.run)(&mut real).await;
            let mut modelled = Stage::modelled(script.name);
            (script.run)(&mut modelled).await;
            (real.into_trace(), modelled.into_trace())
        });
        names.insert(run.id(), script.name);
    }
    assert!(!names.is_empty(), "no script is called {wanted}");
    let mut differing = Vec::new();
    while let Some(run) = runs.join_next_with_id().await {
        let id = run.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
        let name = names[&id];
        match run {
            Ok((_, (real, modelled))) => {
                if std::env::var_os("TRACE").is_some() {
                    println!("== {name}\n{}", real.join("\n"));
                }
                assert!(real.len() > 1, "{name} saw nothing");
                if real != modelled {
                    differing.push(format!("== {name}\n{}", difference(&real, &modelled)));
                }
            }
            Err(error) => differing.push(format!("== {name}: {error}")),
        }
    }
    assert!(differing.is_empty(), "the model is not as redis is:\n{}", differing.join("\n"));
}

/// Both, line by line.
fn difference(real: &[String], modelled: &[String]) -> String {
    let lines = (0..real.len().max(modelled.len())).map(|at| match (real.get(at), modelled.get(at)) {
        (Some(real), Some(modelled)) if real == modelled => format!("   {real}"),
        (real, modelled) => {
            let told = |line: Option<&String>| line.map_or("(nothing)".to_owned(), Clone::clone);
            format!(" R {}\n M {}", told(real), told(modelled))
        }
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_same_seed_gives_the_same_world() {
    let run = |script: &Script| {
        let work = async {
            let mut stage = Stage::modelled(script.name);
            (script.run)(&mut stage).await;
            (stage.time(), stage.into_trace())
        };
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(work)
    };
    // Others are held to it by the model's own tests.
    for script in scripts::ALL.iter().step_by(4) {
        assert_eq!(run(script), run(script), "{}", script.name);
    }
}
