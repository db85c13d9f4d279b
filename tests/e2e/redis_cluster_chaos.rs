//! One thing dies after the other in a redis cluster, the controller among them, while others still come
//! back. A shard is let come back itself before it is struck again, and no two masters die at once: then
//! nothing that was confirmed is lost, and all is well in the end without anybody's help.
//!
//! `OVERLORD_ROUNDS` says how often all is let become well, `OVERLORD_TEST_SEED` what dies, and when.

use std::time::Duration;

use rand::{Rng as _, seq::IndexedRandom as _};

use crate::{
    arena::{Arena, ENOUGH, ORDERS, QUICK, Victim},
    manifest::address,
};

/// Deaths of a round.
const DEATHS: u64 = 6;

/// Milliseconds between two deaths, at most.
const LONGEST: u64 = 1500;

const VICTIMS: [Victim; 4] =
    [Victim::Replica, Victim::Master, Victim::ExecutorOfReplica, Victim::ExecutorOfMaster];

#[tokio::test]
async fn whatever_dies_one_after_the_other_nothing_is_lost_and_all_comes_back() {
    let mut arena = Arena::start(QUICK).await;
    // Each has as many deaths as several rounds of other tests.
    for round in 0..arena.rounds.div_ceil(2) {
        let infos = arena.sandbox.infos("orders").await;
        let addresses: Vec<String> = infos.iter().map(address).collect();
        let writer = arena.writer(&addresses).await;
        for _ in 0..DEATHS {
            let shard = arena.rng.random_range(0..3_u16);
            let victim = *VICTIMS.choose(&mut arena.rng).unwrap();
            // Only a controller starts executors.
            let all_run = arena.sandbox.executors().len() == infos.len();
            if arena.rng.random_bool(0.5) || !is_process(victim) || !all_run {
                arena.start_controller().await;
            }
            writer.confirm_of(shard, ENOUGH).await;
            for other in 0..3 {
                ORDERS.takes_writes(&addresses, other).await;
            }
            let struck = ORDERS.shard(&infos, shard.into()).await;
            println!("round {round}: {victim:?} of shard {shard}, {}", address(&struck.master));
            arena.kill(victim, &struck).await;
            if is_process(victim) && arena.controller.is_some() && arena.rng.random_bool(0.4) {
                tokio::time::sleep(Duration::from_millis(arena.rng.random_range(0..300))).await;
                println!("round {round}: the controller");
                arena.stop_controller().await;
            }
            tokio::time::sleep(Duration::from_millis(arena.rng.random_range(0..LONGEST))).await;
        }
        arena.start_controller().await;
        ORDERS.well(&arena.sandbox).await;
        writer.confirm(ENOUGH).await;
        let history = writer.stop().await;
        println!("round {round}: {} confirmed, {} not", history.confirmed.len(), history.unconfirmed);
        history.assert_kept(&addresses, &format!("round {round}")).await;
        arena.history.extend(history);
    }
    arena.end().await;
}

/// Whether only a server dies, which its executor starts again.
const fn is_process(victim: Victim) -> bool {
    matches!(victim, Victim::Replica | Victim::Master)
}
