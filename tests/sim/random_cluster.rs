//! Random days of one cluster of redis nodes: faults close together and apart, drawn from a seed. A cluster that has
//! lost its majority is recovered by a person.

use std::time::Duration;

use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};

use crate::{
    converge::{BOUND, converge, stay_quiet},
    log,
    pool::Pool,
    run::{check, simulate},
    story,
    world::{AGENTS, World, caches::Damage},
    worlds::number,
};

/// Random clusters in a usual run.
const SEEDS: u64 = 3;

const SECOND: Duration = Duration::from_secs(1);

/// How long a cluster may be without a majority until somebody gives up what does not answer.
const PATIENCE: Duration = Duration::from_secs(10 * 60);

async fn one_fault(world: &mut World, rng: &mut SmallRng, pool: &mut Pool) {
    let agent = rng.random_range(0..AGENTS);
    let number = rng.random_range(0..1000);
    let time = match rng.random_range(0..3) {
        0 => Duration::from_millis(rng.random_range(500..8_000)),
        1 => Duration::from_secs(rng.random_range(8..50)),
        _ => Duration::from_secs(rng.random_range(50..200)),
    };
    world.users.write().await;
    match rng.random_range(0..18) {
        0..4 => drop(world.kill_process(number)),
        4..6 => drop(world.hang_process(number, time)),
        6 => world.cut_host_off(agent, time),
        7 => {
            let damage = Damage::ALL[number as usize % Damage::ALL.len()];
            world.damage_nodes_conf(number, damage);
        }
        8 => world.fill_disk(agent, time),
        9 => {
            if world.lose_agent(agent) {
                world.pass(time).await;
                world.return_agent(agent);
            }
        }
        10 => drop(world.mark_agent_gone(agent, time)),
        11 => {
            world.crash_controller().await;
            world.pass(time / 4).await;
            world.ensure_controller();
        }
        12 => {
            world.start_standby();
            world.pause_controller(time, number % 2 == 0);
        }
        13 => drop(world.kill_executor(number)),
        14 => {
            *pool = pool.clone().with("tcp-backlog", 200 + number % 50);
            world.apply(pool.clone()).await;
        }
        15 => {
            *pool = pool.clone().with("maxmemory-samples", 14 + number % 20);
            world.apply(pool.clone()).await;
        }
        16 => drop(world.restart_agent(agent)),
        _ => drop(world.drain_agent(agent, time * 2)),
    }
}

async fn day(world: &mut World, seed: u64) -> Result<(), String> {
    let mut rng = SmallRng::seed_from_u64(seed ^ 0xc105_7e25);
    let (masters, replicas) = [(3, 1), (3, 1), (4, 1), (3, 2)][rng.random_range(0..4)];
    let mut pool = Pool::nodes("orders", masters, replicas);
    if rng.random_range(0..3) == 0 {
        pool = pool.durable();
    }
    world.start_controller();
    world.apply(pool.clone()).await;
    converge(world, BOUND).await?;
    for _ in 0..20 {
        world.users.write().await;
    }
    for _ in 0..rng.random_range(6..=16) {
        let gap = match rng.random_range(0..4) {
            0 => Duration::from_millis(rng.random_range(0..500)),
            1 => Duration::from_millis(rng.random_range(500..5_000)),
            2 => Duration::from_secs(rng.random_range(5..90)),
            _ => {
                world.mended_by_time().await;
                come_back(world).await?;
                Duration::ZERO
            }
        };
        world.pass(gap).await;
        one_fault(world, &mut rng, &mut pool).await;
        if let Some(violation) = world.trace.violated() {
            return Err(violation);
        }
    }
    world.mended_by_time().await;
    world.ensure_controller();
    come_back(world).await?;
    stay_quiet(world).await
}

/// Waits for the world to be as declared; a person helps where only a person may.
async fn come_back(world: &mut World) -> Result<(), String> {
    world.ensure_controller();
    let first = converge(world, PATIENCE).await;
    let view = world.view().await;
    let status = view.status(&Pool::cluster("orders"));
    let helpless = status.is_some_and(|status| {
        let kinds = ["QuorumLost", "DataLost"];
        status
            .conditions
            .iter()
            .any(|c| kinds.contains(&c.kind.to_string().as_str()) && c.status == overlord_api::Truth::True)
    });
    if first.is_ok() || !helpless {
        return first.map(drop);
    }
    world.recover("orders").await;
    converge(world, BOUND).await?;
    world.pass(SECOND).await;
    Ok(())
}

#[test]
fn random_clusters_converge_and_are_the_same_twice() {
    if let Some(seed) = number("OVERLORD_SIM_CLUSTER_SEED") {
        let told = simulate(seed, &async |world: &mut World| day(world, seed).await, log::filter(), false);
        let outcome = told.outcome.clone().err().unwrap_or_else(|| "as it should be".to_owned());
        println!("{}\ncluster {seed}: {outcome}", story::whole(&told.told));
        return;
    }
    let (from, seeds) =
        (number("OVERLORD_SIM_FROM").unwrap_or(0), number("OVERLORD_SIM_CLUSTER_SEEDS").unwrap_or(SEEDS));
    let mut failures = Vec::new();
    for seed in from..from + seeds {
        if let Err(failure) = check("cluster", seed, &async |world: &mut World| day(world, seed).await) {
            failures.push((seed, failure));
        }
    }
    if let Some((_, first)) = failures.first() {
        let all: Vec<String> = failures
            .iter()
            .map(|(seed, text)| {
                let what = text.split("WHAT IS WRONG").nth(1).unwrap_or_default();
                format!("{seed}: {}", what.lines().take(3).collect::<Vec<_>>().join(" "))
            })
            .collect();
        panic!("{first}\n{} of {seeds} clusters failed:\n{}", failures.len(), all.join("\n"));
    }
}
