//! Nothing that reached a replica is lost, whatever dies, with a controller and without: clusters are
//! written to all the time, and every confirmed write is read back in the end.
//!
//! `OVERLORD_ROUNDS` says how often each thing dies, `OVERLORD_TEST_SEED` which, and when.

use std::time::Duration;

use overlord_tests::{Redis, condition, eventually};

use crate::{
    arena::{Arena, ENOUGH, QUICK, Victim, median},
    manifest::address,
};

/// Rounds on one cluster without a controller: a server that dies ten times within minutes is given up by
/// its executor, and only a controller starts another.
const LIFE: u64 = 24;

/// Rounds on one cluster in which no node dies twice as a master: redis does not vote for the successor of the
/// same one again within twice the node timeout (7.0).
const ONCE_EACH: u64 = 6;

#[tokio::test]
async fn a_killed_replica_copies_again_without_a_controller() {
    Arena::batches(QUICK, false, Victim::Replica, LIFE).await;
}

/// The node timeout is redis' default: 15 s. Who waits for that long waits for redis' own election.
#[tokio::test]
async fn a_killed_masters_replica_takes_over_at_once_and_loses_nothing() {
    let away = Arena::batches("", true, Victim::Master, ONCE_EACH).await;
    let median = median(&away).unwrap();
    println!("slots of killed masters were away for {median:.3?} (median of {})", away.len());
    assert!(median < Duration::from_secs(5), "{median:?}");
}

/// redis does not vote again for the successor of one master within twice the node timeout, here 30 s, and a candidate
/// that was refused asks again only after a minute (7.0): the controller does without votes.
#[tokio::test]
async fn a_master_that_dies_again_and_again_is_succeeded_soon_each_time() {
    let mut arena = Arena::start("").await;
    for turn in 0..4 {
        // Always of shard 0: the third death is the first master's second.
        let (_, history) = arena.round_of(0, turn, Victim::Master).await;
        let addresses = arena.addresses().await;
        history.assert_kept(&addresses, &format!("death {turn} of the master of shard 0")).await;
    }
    let longest = arena.away.iter().max().copied().unwrap();
    assert!(longest < Duration::from_secs(12), "{:?}", arena.away);
    let log = arena.sandbox.log();
    println!("away {:?}; taken over without votes: {}", arena.away, log.contains("TakeOverOrdered"));
    arena.end().await;
}

#[tokio::test]
async fn a_killed_replica_loses_nothing() {
    Arena::start(QUICK).await.rounds(Victim::Replica).await;
}

#[tokio::test]
async fn a_killed_master_loses_nothing_without_a_controller() {
    Arena::batches(QUICK, false, Victim::Master, LIFE).await;
}

/// With a dump on its disk that is older than what its replica has.
async fn master_with_an_old_dump(mut arena: Arena) {
    for info in arena.sandbox.infos("orders").await {
        Redis::at(address(&info)).one(&["SAVE"]).await.unwrap();
    }
    arena.rounds(Victim::Master).await;
}

#[tokio::test]
async fn a_killed_master_with_an_old_dump_loses_nothing() {
    master_with_an_old_dump(Arena::start(&format!("{QUICK}  persistence: {{mode: rdb}}\n")).await).await;
}

#[tokio::test]
async fn a_killed_master_with_an_old_dump_loses_nothing_without_a_controller() {
    let mut arena = Arena::start(&format!("{QUICK}  persistence: {{mode: rdb}}\n")).await;
    arena.stop_controller().await;
    master_with_an_old_dump(arena).await;
}

#[tokio::test]
async fn both_of_a_shard_lose_nothing_with_an_append_only_file() {
    Arena::start(&format!("{QUICK}  persistence: {{mode: aof}}\n")).await.rounds(Victim::Both).await;
}

#[tokio::test]
async fn both_of_a_shard_without_persistence_lose_that_shard_and_it_is_told() {
    let mut arena = Arena::start(QUICK).await;
    for round in 0..arena.rounds {
        let (shard, history) = arena.round(round, Victim::Both).await;
        let addresses = arena.addresses().await;
        let losses = history.losses(&addresses).await;
        assert!(losses.iter().all(|loss| u64::from(loss.write.shard) == shard.number), "{}", losses[0]);
        assert!(losses.len() as u64 >= ENOUGH, "{} losses", losses.len());
        let message = eventually("it is told", || async {
            let status = arena.sandbox.status("orders").await;
            let found = condition(&status, "DataLost");
            let message = found["message"].as_str().unwrap_or_default().to_owned();
            let named = message.contains(&format!("shard {}", shard.number));
            if found["status"] == "True" && named { Ok(message) } else { Err(status) }
        })
        .await;
        let text = arena.sandbox.ok(&["describe", "cluster", "orders"]).await;
        assert!(text.contains(&message), "{message} in {text}");
        // It stays until somebody takes note.
        arena.sandbox.ok(&["task", "recover", "orders"]).await;
        eventually("it is not told any more", || async {
            let status = arena.sandbox.status("orders").await;
            if condition(&status, "DataLost")["status"] == "True" { Err(status) } else { Ok(()) }
        })
        .await;
    }
}

/// The last of them dies as soon as it is master: the one before it has all the data, and few know yet that it
/// follows. (redis itself would not elect a replica that was never linked: that takes a controller.)
#[tokio::test]
async fn killed_replicas_and_executors_and_masters_of_a_moment_lose_nothing() {
    let mut arena = Arena::start(QUICK).await;
    for victim in [Victim::Replica, Victim::ExecutorOfReplica, Victim::ExecutorOfMaster, Victim::Promoted] {
        arena.rounds(victim).await;
    }
}

/// With the node timeout of redis' default the votes of an election count again for half a minute, and for the epoch of
/// then: a master that is succeeded with them could not be told from one that nobody succeeded.
#[tokio::test]
async fn a_replica_that_was_elected_a_moment_ago_takes_over_again() {
    let mut arena = Arena::start("").await;
    arena.change_roles(0).await;
    let (_, history) = arena.round_of(0, 0, Victim::Promoted).await;
    let addresses = arena.addresses().await;
    history.assert_kept(&addresses, "elected twice within half a minute").await;
    arena.end().await;
}

#[tokio::test]
async fn a_host_that_goes_down_and_comes_back_loses_nothing() {
    Arena::start(QUICK).await.rounds(Victim::Host).await;
}
