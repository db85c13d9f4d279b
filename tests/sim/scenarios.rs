//! Named stories, one each for what must not break.

use std::{collections::BTreeSet, time::Duration};

use overlord_api::State;

use crate::{
    converge::{BOUND, converge, stay_quiet},
    machine::Seen,
    pool::Pool,
    run::check,
    world::{AGENTS, PING_TIMEOUT, World, agent_ip, agent_name},
};

const SECOND: Duration = Duration::from_secs(1);

/// Runs a story with several seeds: each has its own delays.
macro_rules! story {
    ($name:ident, $world:ident, $body:block) => {
        #[test]
        fn $name() {
            for seed in 0..3 {
                let story = async |$world: &mut World| -> Result<(), String> { $body };
                check(stringify!($name), seed, &story).unwrap_or_else(|failure| panic!("{failure}"));
            }
        }
    };
}

fn ensure(holds: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what()) }
}

/// A redis and a memcache pool, ready.
async fn two_pools(world: &mut World) -> Result<(), String> {
    world.start_controller();
    world.apply(Pool::new("cart", 2)).await;
    world.apply(Pool::new("page", 3)).await;
    let took = converge(world, BOUND).await?;
    ensure(took < 15 * SECOND, || format!("two pools took {took:?}"))
}

/// The number of the agent on which a process runs.
fn agent_of(seen: &Seen) -> u8 {
    (0..AGENTS).find(|agent| agent_ip(*agent) == seen.instance.address.ip).unwrap_or_default()
}

fn process(world: &World) -> Result<Seen, String> {
    world.hosts.processes().into_iter().next().ok_or_else(|| "no process lives".to_owned())
}

/// The process of the same member now.
fn successor(world: &World, of: &Seen) -> Option<Seen> {
    let same =
        |seen: &Seen| seen.instance.uid == of.instance.uid && seen.instance.member == of.instance.member;
    world.hosts.processes().into_iter().filter(|seen| seen.pid != of.pid).find(same)
}

story!(two_pools_come_up_change_grow_and_go, world, {
    two_pools(world).await?;
    stay_quiet(world).await?;
    world.apply(Pool::new("cart", 2).with("maxmemory-policy", "allkeys-lru")).await;
    converge(world, 10 * SECOND).await?;
    world.apply(Pool::new("cart", 4).with("maxmemory-policy", "allkeys-lru")).await;
    converge(world, 15 * SECOND).await?;
    world.delete("cart").await;
    world.delete("page").await;
    converge(world, 30 * SECOND).await?;
    stay_quiet(world).await
});

story!(a_live_change_restarts_nothing, world, {
    two_pools(world).await?;
    let pids = |world: &World| world.hosts.processes().iter().map(|seen| seen.pid).collect::<Vec<_>>();
    let before = pids(world);
    world.apply(Pool::new("cart", 2).with("maxmemory-policy", "volatile-ttl")).await;
    converge(world, 10 * SECOND).await?;
    ensure(pids(world) == before, || "a process was restarted".to_owned())
});

story!(a_killed_process_serves_again_within_a_second_in_its_mesos_task, world, {
    two_pools(world).await?;
    let Some(killed) = world.kill_process(1) else { return Err("no process lives".to_owned()) };
    world.pass(Duration::from_millis(50)).await;
    let again = successor(world, &killed).ok_or("it is not started again at once")?;
    ensure(again.instance.task_id == killed.instance.task_id, || "it has another Mesos task".to_owned())?;
    // It may be there again before anybody has heard that it was not.
    world.pass(SECOND).await;
    converge(world, 10 * SECOND).await?;
    let view = world.view().await;
    let info = view.info_of_task(&again.instance.task_id).ok_or("its info is gone")?.1;
    ensure(info.observed.restarts == 1, || format!("{} restarts are recorded", info.observed.restarts))?;
    stay_quiet(world).await
});

story!(a_killed_executor_is_replaced_at_the_same_address, world, {
    two_pools(world).await?;
    let before = process(world)?;
    world.kill_executor(0);
    converge(world, 15 * SECOND).await?;
    ensure(world.hosts.processes().len() == 5, || "not five processes".to_owned())?;
    let _ = before;
    stay_quiet(world).await
});

story!(what_is_killed_without_a_controller_is_healed_without_or_as_soon_as_there_is_one, world, {
    two_pools(world).await?;
    world.crash_controller().await;
    let killed = world.kill_process(0).ok_or("no process lives")?;
    let other = world.hosts.processes().pop().ok_or("no other process lives")?;
    world.kill_executor_of(&other.instance.task_id);
    world.pass(SECOND).await;
    let again = successor(world, &killed).ok_or("the executor alone does not restart it")?;
    ensure(again.instance.task_id == killed.instance.task_id, || "it has another Mesos task".to_owned())?;
    world.start_controller();
    converge(world, 30 * SECOND).await?;
    stay_quiet(world).await
});

story!(members_of_a_lost_agent_are_kept_when_it_returns_in_time, world, {
    two_pools(world).await?;
    let kept = process(world)?;
    let agent = agent_of(&kept);
    world.lose_agent(agent);
    world.pass(PING_TIMEOUT + 5 * SECOND).await;
    let view = world.view().await;
    let info = view.info_of_task(&kept.instance.task_id).ok_or("its info is gone")?.1;
    ensure(info.observed.state == State::Unreachable, || format!("it is {}", info.observed.state))?;
    world.return_agent(agent);
    converge(world, 10 * SECOND).await?;
    let lives = world.hosts.processes().iter().any(|seen| seen.pid == kept.pid);
    ensure(lives, || "it was not kept".to_owned())?;
    stay_quiet(world).await
});

story!(members_of_an_agent_lost_for_long_are_replaced_and_their_old_ones_end, world, {
    two_pools(world).await?;
    let old = process(world)?;
    let agent = agent_of(&old);
    world.lose_agent(agent);
    world.pass(PING_TIMEOUT + 50 * SECOND).await;
    ensure(successor(world, &old).is_none(), || "it was replaced too early".to_owned())?;
    world.pass(20 * SECOND).await;
    let new = successor(world, &old).ok_or("it was not replaced")?;
    ensure(new.instance.address.ip != old.instance.address.ip, || "it is on the lost host".to_owned())?;
    world.return_agent(agent);
    converge(world, 30 * SECOND).await?;
    let lives = world.hosts.processes().iter().any(|seen| seen.pid == old.pid);
    ensure(!lives, || "the old one still lives".to_owned())?;
    stay_quiet(world).await
});

/// A controller that dies at any moment of a creation, and the one after it.
#[test]
fn a_controller_that_dies_at_any_moment_doubles_nothing() {
    for millis in (0..1500).step_by(75) {
        let story = async |world: &mut World| -> Result<(), String> {
            world.start_controller();
            world.pass(Duration::from_millis(300)).await;
            world.apply(Pool::new("cart", 3)).await;
            world.pass(Duration::from_millis(millis)).await;
            world.crash_controller().await;
            world.start_controller();
            converge(world, 60 * SECOND).await.map(|_| ())
        };
        check("crash", millis, &story).unwrap_or_else(|failure| panic!("{failure}"));
    }
}

/// Whether a process of ours runs on the agent.
fn is_used(world: &World, agent: u8) -> bool {
    world.hosts.processes().iter().any(|seen| agent_of(seen) == agent)
}

fn pids(world: &World) -> BTreeSet<u32> {
    world.hosts.processes().iter().map(|seen| seen.pid).collect()
}

story!(a_drained_agent_is_left_at_once_and_used_again_only_when_it_is_reactivated, world, {
    two_pools(world).await?;
    let agent = agent_of(&process(world)?);
    ensure(world.mesos.drain(&agent_name(agent), None), || "it is not drained".to_owned())?;
    world.pass(2 * SECOND).await;
    converge(world, 10 * SECOND).await?;
    ensure(!is_used(world, agent), || "something runs on the drained agent".to_owned())?;
    world.kill_executor(1);
    world.pass(SECOND).await;
    converge(world, 20 * SECOND).await?;
    ensure(!is_used(world, agent), || "something was launched on the drained agent".to_owned())?;
    ensure(world.mesos.reactivate(&agent_name(agent)), || "it is not reactivated".to_owned())?;
    stay_quiet(world).await
});

story!(members_of_an_agent_that_unregisters_or_is_marked_gone_are_launched_elsewhere, world, {
    two_pools(world).await?;
    let agent = agent_of(&process(world)?);
    ensure(world.mesos.agent_unregister(&agent_name(agent)), || "it does not unregister".to_owned())?;
    world.pass(2 * SECOND).await;
    ensure(!is_used(world, agent), || "something runs on the agent".to_owned())?;
    converge(world, 30 * SECOND).await?;
    let agent = agent_of(&process(world)?);
    ensure(world.mesos.mark_gone(&agent_name(agent)), || "it is not marked gone".to_owned())?;
    world.pass(2 * SECOND).await;
    ensure(!is_used(world, agent), || "something runs on the agent that is gone".to_owned())?;
    converge(world, 30 * SECOND).await?;
    stay_quiet(world).await
});

story!(a_master_that_knows_of_no_agent_yet_makes_nobody_launch_anything_again, world, {
    two_pools(world).await?;
    let before = pids(world);
    for keeps in [true, false] {
        world.trace.line("the master dies");
        world.mesos.master_kill();
        world.pass(20 * SECOND).await;
        world.trace.line("another master leads");
        world.mesos.master_start(keeps);
        world.pass(120 * SECOND).await;
        converge(world, 60 * SECOND).await?;
        ensure(pids(world) == before, || "something was launched again".to_owned())?;
    }
    stay_quiet(world).await
});

story!(launches_with_offers_that_were_taken_back_are_made_again_with_others, world, {
    world.start_controller();
    world.apply(Pool::new("cart", 3)).await;
    world.apply(Pool::new("page", 3)).await;
    for _ in 0..40 {
        let pause = world.net.millis(1, 120);
        world.pass(pause).await;
        for agent in 0..AGENTS {
            world.mesos.rescind(&agent_name(agent));
        }
    }
    converge(world, 60 * SECOND).await?;
    ensure(world.hosts.processes().len() == 6, || "not six processes".to_owned())?;
    stay_quiet(world).await
});

story!(kills_and_updates_that_get_lost_or_come_twice_cost_time_only, world, {
    two_pools(world).await?;
    for agent in 0..AGENTS {
        world.mesos.drop_kills(&agent_name(agent), 2);
        world.mesos.drop_updates(&agent_name(agent), 1);
        world.mesos.duplicate_updates(&agent_name(agent), 3);
    }
    world.apply(Pool::new("page", 1)).await;
    world.delete("cart").await;
    converge(world, 120 * SECOND).await?;
    stay_quiet(world).await
});
