//! Named stories of clusters of redis nodes: forming, failovers, rolling restarts, lost majorities, damaged files.

use std::time::Duration;

use overlord_api::{Address, ClusterName, ConditionType, Truth};
use overlord_executor::Ended;

use crate::{
    cluster::{Node, nodes},
    converge::{BOUND, converge, stay_quiet},
    pool::Pool,
    run::check,
    world::{AGENTS, World, agent_ip, caches::Damage},
};

const SECOND: Duration = Duration::from_secs(1);

/// Runs a story with several seeds: each has its own delays.
macro_rules! story {
    ($(#[$meta:meta])* $name:ident, $world:ident, $body:block) => {
        #[test]
        $(#[$meta])*
        fn $name() {
            for seed in 0..2 {
                let story = async |$world: &mut World| -> Result<(), String> { $body };
                check(stringify!($name), seed, &story).unwrap_or_else(|failure| panic!("{failure}"));
            }
        }
    };
}

fn ensure(holds: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what()) }
}

/// A cluster, ready and written to.
async fn formed(world: &mut World, pool: Pool) -> Result<(), String> {
    world.start_controller();
    world.apply(pool).await;
    let took = converge(world, BOUND).await?;
    ensure(took < 60 * SECOND, || format!("forming took {took:?}"))?;
    for _ in 0..40 {
        world.users.write().await;
    }
    Ok(())
}

/// All masters with slots.
fn masters(world: &World) -> Vec<(Address, Node)> {
    nodes(&world.hosts).into_iter().filter(|(_, node)| node.is_master && !node.slots.is_empty()).collect()
}

fn a_master(world: &World) -> Result<(Address, Node), String> {
    masters(world).into_iter().next().ok_or_else(|| "there is no master".to_owned())
}

fn replicas_of(world: &World, master: &Node) -> Vec<(Address, Node)> {
    nodes(&world.hosts).into_iter().filter(|(_, node)| node.replica_of == Some(master.id)).collect()
}

fn kill(world: &World, node: &Node) {
    world.trace.line(format!("somebody kills process {}", node.pid));
    world.hosts.end(node.pid, Ended::Signal(9), "");
}

/// The number of the agent at an address.
fn agent_of(address: Address) -> u8 {
    (0..AGENTS).find(|agent| agent_ip(*agent) == address.ip).unwrap_or_default()
}

story!(a_cluster_forms_is_written_to_and_goes, world, {
    formed(world, Pool::nodes("orders", 3, 1)).await?;
    converge(world, SECOND).await?;
    stay_quiet(world).await?;
    world.delete("orders").await;
    converge(world, 60 * SECOND).await?;
    stay_quiet(world).await
});

story!(clusters_of_four_masters_and_of_two_replicas_each_form, world, {
    formed(world, Pool::nodes("orders", 4, 1)).await?;
    world.apply(Pool::nodes("fleet", 3, 2)).await;
    converge(world, 60 * SECOND).await?;
    stay_quiet(world).await
});

story!(a_killed_master_is_followed_by_its_replica_and_comes_back_as_one, world, {
    formed(world, Pool::nodes("orders", 3, 1)).await?;
    let (address, master) = a_master(world)?;
    kill(world, &master);
    let took = converge(world, 60 * SECOND).await?;
    let now = nodes(&world.hosts);
    ensure(now.get(&address).is_some_and(|node| !node.is_master), || format!("{address} is a master again"))?;
    ensure(took < 20 * SECOND, || format!("it took {took:?}"))?;
    stay_quiet(world).await
});

story!(a_master_and_its_replica_killed_together_lose_what_redis_loses_and_no_more, world, {
    formed(world, Pool::nodes("orders", 3, 1)).await?;
    let (_, master) = a_master(world)?;
    let replica = replicas_of(world, &master);
    kill(world, &master);
    for (_, node) in &replica {
        kill(world, node);
    }
    converge(world, BOUND).await?;
    stay_quiet(world).await
});

story!(a_master_and_its_replica_with_a_file_come_back_with_their_data, world, {
    formed(world, Pool::nodes("orders", 3, 1).durable()).await?;
    let (_, master) = a_master(world)?;
    let replica = replicas_of(world, &master);
    for (_, node) in replica.iter().chain([&(Address::new(agent_ip(0), 1), master)]) {
        kill(world, node);
    }
    converge(world, BOUND).await?;
    stay_quiet(world).await
});

story!(a_lost_host_costs_its_members_only, world, {
    formed(world, Pool::nodes("orders", 3, 1)).await?;
    let (address, _) = a_master(world)?;
    let agent = agent_of(address);
    ensure(world.mark_agent_gone(agent, 600 * SECOND), || "it is not lost".to_owned())?;
    converge(world, BOUND).await?;
    world.mended_by_time().await;
    converge(world, BOUND).await?;
    stay_quiet(world).await
});

story!(a_change_that_needs_restarts_loses_nothing, world, {
    formed(world, Pool::nodes("orders", 3, 1)).await?;
    world.apply(Pool::nodes("orders", 3, 1).with("tcp-backlog", 400)).await;
    for _ in 0..200 {
        world.users.write().await;
    }
    converge(world, BOUND).await?;
    stay_quiet(world).await
});

story!(a_controller_that_crashes_in_the_middle_of_a_rolling_restart_loses_nothing, world, {
    formed(world, Pool::nodes("orders", 3, 1)).await?;
    world.apply(Pool::nodes("orders", 3, 1).with("tcp-backlog", 400)).await;
    for _ in 0..8 {
        let pause = world.net.millis(200, 6000);
        world.pass(pause).await;
        world.users.write().await;
        world.crash_controller().await;
        world.start_controller();
    }
    converge(world, BOUND).await?;
    stay_quiet(world).await
});

story!(a_controller_that_crashes_while_a_cluster_forms_forms_it_in_the_end, world, {
    world.start_controller();
    world.apply(Pool::nodes("orders", 3, 1)).await;
    for _ in 0..5 {
        let pause = world.net.millis(10, 1500);
        world.pass(pause).await;
        world.crash_controller().await;
        world.start_controller();
    }
    converge(world, BOUND).await?;
    stay_quiet(world).await
});

story!(a_master_that_hangs_is_followed_and_becomes_a_replica, world, {
    formed(world, Pool::nodes("orders", 3, 1)).await?;
    let (_, master) = a_master(world)?;
    ensure(world.hang(master.pid, 40 * SECOND), || "it does not hang".to_owned())?;
    world.mended_by_time().await;
    converge(world, BOUND).await?;
    stay_quiet(world).await
});

/// Without a majority it is told, and nobody takes over or starts empty.
async fn without_a_majority(world: &World, left: usize) -> Result<(), String> {
    world.pass(300 * SECOND).await;
    let name = ClusterName::new("orders").map_err(|error| error.to_string())?;
    let status = world.view().await.status(&name).ok_or("there is no status")?;
    let told = status.condition(ConditionType::QuorumLost).is_some_and(|c| c.status == Truth::True);
    ensure(told, || format!("it is not told: {status:?}"))?;
    let all = masters(world);
    ensure(all.len() == left, || format!("{left} masters were left, and now there are {all:?}"))
}

story!(a_majority_that_is_lost_comes_back_by_a_persons_word, world, {
    formed(world, Pool::nodes("orders", 3, 1)).await?;
    // One of three cannot vote. The replicas of the others keep what they hold.
    for (_, master) in masters(world).iter().take(2) {
        kill(world, master);
    }
    without_a_majority(world, 1).await?;
    world.recover("orders").await;
    converge(world, BOUND).await?;
    stay_quiet(world).await
});

story!(a_majority_that_is_lost_with_its_hosts_comes_back_by_a_persons_word, world, {
    formed(world, Pool::nodes("orders", 3, 1)).await?;
    for (address, _) in masters(world).iter().take(2) {
        ensure(world.mark_agent_gone(agent_of(*address), 1200 * SECOND), || "it is not lost".to_owned())?;
    }
    without_a_majority(world, 1).await?;
    world.recover("orders").await;
    converge(world, BOUND).await?;
    world.mended_by_time().await;
    converge(world, BOUND).await?;
    stay_quiet(world).await
});

story!(hosts_that_are_cut_off_for_a_while_join_again, world, {
    formed(world, Pool::nodes("orders", 3, 1)).await?;
    let (address, _) = a_master(world)?;
    world.cut_host_off(agent_of(address), 30 * SECOND);
    world.mended_by_time().await;
    converge(world, BOUND).await?;
    stay_quiet(world).await
});

story!(damaged_files_cost_nothing_when_their_node_starts_again, world, {
    formed(world, Pool::nodes("orders", 3, 1)).await?;
    for (number, damage) in (0..).zip(Damage::ALL) {
        let (address, master) = a_master(world)?;
        let places = {
            let inner = world.hosts.lock();
            let place = |place: &&crate::hosts::Place| place.1 == overlord_api::Kind::RedisCluster;
            inner.dirs.keys().filter(place).copied().collect::<Vec<_>>()
        };
        let own = places.iter().position(|place| (place.0, place.2) == (address.ip, address.port));
        kill(world, &master);
        let index = u32::try_from(own.unwrap_or_default()).unwrap_or(number);
        ensure(world.damage_nodes_conf(index, damage), || "nothing is damaged".to_owned())?;
        converge(world, BOUND).await?;
        world.users.write().await;
    }
    stay_quiet(world).await
});

story!(a_full_disk_harms_nobody_that_runs, world, {
    formed(world, Pool::nodes("orders", 3, 1)).await?;
    let (address, master) = a_master(world)?;
    world.fill_disk(agent_of(address), 120 * SECOND);
    kill(world, &master);
    world.mended_by_time().await;
    converge(world, BOUND).await?;
    stay_quiet(world).await
});
