//! Crash points: a controller that dies right before and right after every single effect it has: each write to the
//! store, each call to Mesos, each order to an engine. Another one stands by, and must finish what was begun.

use std::{io::Write as _, time::Duration};

use crate::{
    converge::{self, BOUND},
    effects::Side,
    pool::Pool,
    run::{QUIET_LOG, check_once, simulate},
    world::World,
    worlds::number,
};

const SECOND: Duration = Duration::from_secs(1);

/// Every n-th effect in a usual run; `OVERLORD_SIM_CRASHES=1` takes all of them.
const EVERY: u64 = 9;

/// A short life: created, a member killed, scaled, changed live and by restart, an agent lost for long, deleted. Every
/// stage ends when the world is as declared.
async fn life(world: &mut World, crash: Option<(u64, Side)>) -> Result<u64, String> {
    if let Some((effect, side)) = crash {
        world.effects.crash_at(effect, side);
    }
    world.start_controller();
    world.pass(SECOND).await;
    world.start_standby();
    world.apply(Pool::new("cart", 2)).await;
    world.apply(Pool::new("page", 1)).await;
    converge::converge(world, BOUND).await?;
    world.kill_executor(1);
    world.pass(SECOND).await;
    converge::converge(world, BOUND).await?;
    world.apply(Pool::new("cart", 3)).await;
    world.pass(SECOND).await;
    converge::converge(world, BOUND).await?;
    world.apply(Pool::new("cart", 3).with("databases", 20)).await;
    world.pass(SECOND).await;
    converge::converge(world, BOUND).await?;
    world.lose_agent(0);
    world.pass(120 * SECOND).await;
    world.return_agent(0);
    converge::converge(world, BOUND).await?;
    world.apply(Pool::new("cart", 1).with("databases", 20)).await;
    world.delete("page").await;
    world.pass(SECOND).await;
    converge::converge(world, BOUND).await?;
    let effects = world.effects.count();
    let writes = converge::settle(world).await;
    world.pass(600 * SECOND).await;
    converge::stayed_quiet(world, writes).await?;
    Ok(effects)
}

#[test]
fn a_controller_that_dies_before_or_after_any_effect_is_followed_by_one_that_finishes() {
    let counted = std::cell::Cell::new(0);
    let ended = simulate(
        1,
        &async |world: &mut World| {
            counted.set(life(world, None).await?);
            Ok(())
        },
        QUIET_LOG,
        false,
    );
    ended.outcome.unwrap_or_else(|failure| panic!("without any crash: {failure}"));
    let (effects, every) = (counted.get(), number("OVERLORD_SIM_CRASHES").unwrap_or(EVERY).max(1));
    let mut failures = Vec::new();
    let mut crashes = 0;
    for (effect, side) in (1..=effects).flat_map(|n| [(n, Side::Before), (n, Side::After)]) {
        if (2 * effect + u64::from(side == Side::After)) % every != 0 {
            continue;
        }
        let name = format!("crash {side:?} effect {effect} of {effects}");
        let story = async |world: &mut World| -> Result<(), String> {
            life(world, Some((effect, side))).await?;
            if world.effects.crashed() { Ok(()) } else { Err("nobody crashed".to_owned()) }
        };
        crashes += 1;
        if let Err(failure) = check_once(&name, 1, &story) {
            failures.push((name, failure));
        }
    }
    // Past the capture of the test harness.
    let _ = writeln!(std::io::stderr(), "{crashes} crashes at {effects} effects, {} failed", failures.len());
    if let Some((_, first)) = failures.first() {
        let names: Vec<&str> = failures.iter().map(|(name, _)| name.as_str()).collect();
        panic!("{first}\n{} failed: {}", failures.len(), names.join("; "));
    }
}
