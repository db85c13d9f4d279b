//! Elections: one leader, hand-over, and noticing the loss.

use std::{sync::Arc, time::Duration};

use overlord_store::{
    Committed, Error, Txn,
    election::{Candidate, Leadership},
};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::world::{PATIENCE, World, committed};

const KEY: &str = "/leader";
const TTL: Duration = Duration::from_secs(2);

fn candidate(world: &World, name: &'static str) -> Candidate {
    Candidate::new(Arc::clone(&world.store), Arc::clone(&world.clock), KEY, name, TTL)
}

async fn win(candidate: &Candidate) -> Leadership {
    let shutdown = CancellationToken::new();
    timeout(PATIENCE, candidate.campaign(&shutdown)).await.expect("won in time").unwrap()
}

pub(crate) async fn the_second_candidate_wins_when_the_first_resigns(world: &mut World) {
    let first = win(&candidate(world, "first")).await;
    assert!(first.is_valid());
    assert_eq!(world.value(KEY).await.as_deref(), Some("first"));
    let second = candidate(world, "second");
    let mut waiting = JoinSet::new();
    waiting.spawn(async move { win(&second).await });
    // A key that merely begins alike is no reason to wake up.
    world.put("/leader/other", "v").await;
    world.delete("/leader/other").await;
    sleep(Duration::from_millis(100)).await;
    assert!(waiting.try_join_next().is_none(), "one leader at a time");

    let (old, fence) = (first.epoch(), first.fence().clone());
    first.resign().await.unwrap();
    let second = waiting.join_next().await.unwrap().unwrap();
    assert!(second.epoch() > old);
    assert_eq!(world.value(KEY).await.as_deref(), Some("second"));
    let late = world.store.commit(Txn::fenced(&fence).put("/a", "late")).await;
    assert!(matches!(late, Err(Error::Fenced(_))));
    committed(world.store.commit(Txn::fenced(second.fence()).put("/a", "1")).await);
}

pub(crate) async fn the_second_candidate_wins_when_the_first_dies(world: &mut World) {
    let first = win(&candidate(world, "first")).await;
    let old = first.epoch();
    let second = candidate(world, "second");
    let mut waiting = JoinSet::new();
    waiting.spawn(async move { win(&second).await });
    drop(first);
    let second = waiting.join_next().await.unwrap().unwrap();
    assert!(second.epoch() > old);
    assert_eq!(world.value(KEY).await.as_deref(), Some("second"));
}

pub(crate) async fn a_key_that_no_lease_ends_is_freed(world: &mut World) {
    world.put(KEY, "by hand").await;
    let leader = win(&candidate(world, "first")).await;
    assert!(leader.is_valid());
    assert_eq!(world.value(KEY).await.as_deref(), Some("first"));
}

pub(crate) async fn a_leader_whose_key_is_deleted_has_lost(world: &mut World) {
    let leader = win(&candidate(world, "first")).await;
    assert!(matches!(world.store.commit(Txn::unfenced().delete(KEY)).await, Ok(Committed::Yes(_))));
    timeout(PATIENCE, leader.lost()).await.unwrap();
    assert!(!leader.is_valid());
}

pub(crate) async fn a_candidate_stops_waiting_at_shutdown(world: &mut World) {
    let leader = win(&candidate(world, "first")).await;
    let second = candidate(world, "second");
    let shutdown = CancellationToken::new();
    let mut waiting = JoinSet::new();
    let token = shutdown.clone();
    waiting.spawn(async move { second.campaign(&token).await });
    sleep(Duration::from_millis(50)).await;
    shutdown.cancel();
    let answer = timeout(PATIENCE, waiting.join_next()).await.unwrap().unwrap().unwrap();
    assert!(matches!(answer, Err(Error::Shutdown)));
    assert!(leader.is_valid());
}

pub(crate) async fn leadership_is_kept_while_it_is_renewed(world: &mut World) {
    let leader = win(&candidate(world, "first")).await;
    for _ in 0..8 {
        sleep(TTL / 4).await;
        assert!(leader.is_valid());
    }
    committed(world.store.commit(Txn::fenced(leader.fence()).put("/a", "1")).await);
    leader.resign().await.unwrap();
    assert_eq!(world.value(KEY).await, None);
}
