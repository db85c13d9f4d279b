//! What befalls a store: no space, a restored backup, compaction.

use std::{sync::Arc, time::Duration};

use futures::StreamExt as _;
use overlord_reconcile::SourceError;
use overlord_store::{
    Changes, Committed, Compare, Error, Fence, Fetch, Txn,
    election::{Candidate, Leadership},
};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::world::{PATIENCE, World, committed, take};

const TTL: Duration = Duration::from_secs(3);

fn put(key: &str, value: &'static str) -> Txn {
    Txn::unfenced().put(key, value)
}

async fn win(world: &World, key: &str, name: &'static str) -> Leadership {
    let candidate = Candidate::new(Arc::clone(&world.store), Arc::clone(&world.clock), key, name, TTL);
    timeout(PATIENCE, candidate.campaign(&CancellationToken::new())).await.expect("won in time").unwrap()
}

pub(crate) async fn without_space_puts_and_leases_are_refused_and_all_else_goes_on(world: &mut World) {
    let lease = world.store.lease_grant(Duration::from_mins(10)).await.unwrap();
    let other = world.store.lease_grant(Duration::from_mins(10)).await.unwrap();
    let start = world.put("/a", "1").await;
    committed(world.store.commit(Txn::unfenced().put_leased("/l", "v", other)).await);
    let mut changes = world.store.watch("/", start + 1).await.unwrap();
    world.set_alarm_no_space(true).await;

    let full =
        |answer: Result<Committed, Error>| assert!(matches!(answer, Err(Error::NoSpace(_))), "{answer:?}");
    full(world.store.commit(put("/b", "1")).await);
    full(world.store.commit(put("/b", "1").delete("/a")).await);
    // Whatever the compares would have said.
    full(world.store.commit(put("/b", "1").when(Compare::Absent("/a".to_owned()))).await);
    full(world.store.commit(Txn::fenced(&Fence::new("/leader", 1)).put("/b", "1")).await);
    let refused = world.store.lease_grant(TTL).await;
    assert!(matches!(refused, Err(Error::NoSpace(_))), "{refused:?}");

    assert_eq!(world.value("/a").await.as_deref(), Some("1"));
    assert_eq!(world.store.list("/", Fetch::Values).await.unwrap().entries.len(), 2);
    assert!(world.store.lease_keep_alive(lease).await.unwrap().is_some());
    let fenced = world.store.commit(Txn::fenced(&Fence::new("/leader", 1)).delete("/a")).await;
    assert!(matches!(fenced, Err(Error::Fenced(_))), "{fenced:?}");
    committed(world.store.commit(Txn::unfenced().delete("/a")).await);
    world.store.lease_revoke(other).await.unwrap();
    assert_eq!(take(&mut changes, 2).await, ["delete /a", "delete /l"]);

    world.set_alarm_no_space(false).await;
    world.put("/b", "2").await;
    assert_eq!(take(&mut changes, 1).await, ["put /b=2"]);
}

pub(crate) async fn a_file_beyond_its_quota_is_as_good_as_the_alarm(world: &mut World) {
    let start = world.put("/a", "1").await;
    let lease = world.store.lease_grant(Duration::from_mins(10)).await.unwrap();
    committed(world.store.commit(Txn::unfenced().put_leased("/l", "v", lease)).await);
    world.set_full(true).await;
    let mut changes = world.store.watch("/", start + 1).await.unwrap();
    let answer = world.store.commit(put("/b", "1")).await;
    assert!(matches!(answer, Err(Error::NoSpace(_))), "{answer:?}");
    assert!(matches!(world.store.lease_grant(TTL).await, Err(Error::NoSpace(_))));
    assert_eq!(world.value("/a").await.as_deref(), Some("1"));
    committed(world.store.commit(Txn::unfenced()).await);
    committed(world.store.commit(Txn::unfenced().delete("/a")).await);
    assert!(world.store.lease_keep_alive(lease).await.unwrap().is_some());
    world.store.lease_revoke(lease).await.unwrap();
    assert_eq!(take(&mut changes, 2).await, ["delete /a", "delete /l"]);
    world.set_full(false).await;
    world.put("/b", "2").await;
    assert_eq!(take(&mut changes, 1).await, ["put /b=2"]);
}

pub(crate) async fn without_space_a_leader_keeps_its_lease_and_nobody_else_wins(world: &mut World) {
    let leader = win(world, "/leader", "first").await;
    world.set_alarm_no_space(true).await;
    tokio::time::sleep(TTL * 2).await;
    assert!(leader.is_valid());
    let other = Candidate::new(Arc::clone(&world.store), Arc::clone(&world.clock), "/other", "second", TTL);
    assert!(timeout(TTL, other.campaign(&CancellationToken::new())).await.is_err());
    world.set_alarm_no_space(false).await;
    timeout(PATIENCE, other.campaign(&CancellationToken::new())).await.unwrap().unwrap();
    committed(world.store.commit(Txn::fenced(leader.fence()).put("/a", "1")).await);
}

pub(crate) async fn a_restored_store_has_the_keys_the_history_and_the_revision_of_its_backup(
    world: &mut World,
) {
    let created = world.put("/w/a", "1").await;
    let compacted = world.put("/w/a", "2").await;
    world.compact(compacted).await;
    let last = world.put("/w/b", "1").await;
    let backup = world.snapshot();
    world.put("/w/a", "3").await;
    world.put("/w/c", "1").await;
    world.delete("/w/b").await;
    world.restore(&backup).await;

    let listing = world.store.list("/w/", Fetch::Values).await.unwrap();
    assert_eq!(listing.revision, last);
    let shown: Vec<_> =
        listing.entries.iter().map(|e| (&*e.key, &*e.value, e.create_revision, e.mod_revision)).collect();
    assert_eq!(shown, [("/w/a", &b"2"[..], created, compacted), ("/w/b", &b"1"[..], last, last)]);
    // Its history too, as far as it was kept.
    let mut changes = world.store.watch("/w/", compacted - 1).await.unwrap();
    assert_eq!(take(&mut changes, 2).await, ["put /w/a=2", "put /w/b=1"]);
    let mut changes: Changes = world.store.watch("/w/", created - 1).await.unwrap();
    let item = timeout(PATIENCE, changes.next()).await.unwrap();
    assert!(matches!(item, Some(Err(SourceError::Compacted(_)))), "{item:?}");
    // Revisions are given a second time.
    assert_eq!(world.put("/w/d", "1").await, last + 1);
}

pub(crate) async fn leases_of_a_backup_begin_anew_and_later_ones_are_unknown(world: &mut World) {
    let old = world.store.lease_grant(Duration::from_mins(10)).await.unwrap();
    committed(world.store.commit(Txn::unfenced().put_leased("/old", "v", old)).await);
    let backup = world.snapshot();
    world.store.lease_revoke(old).await.unwrap();
    let new = world.store.lease_grant(Duration::from_mins(10)).await.unwrap();
    committed(world.store.commit(Txn::unfenced().put_leased("/new", "v", new)).await);
    world.restore(&backup).await;

    assert_eq!(world.value("/old").await.as_deref(), Some("v"));
    assert_eq!(world.value("/new").await, None);
    assert_eq!(world.store.lease_keep_alive(old).await.unwrap(), Some(Duration::from_mins(10)));
    assert_eq!(world.store.lease_keep_alive(new).await.unwrap(), None);
    let write = world.store.commit(Txn::unfenced().put_leased("/new", "v", new)).await;
    assert!(matches!(write, Err(Error::LeaseGone(gone)) if gone == new), "{write:?}");
    world.store.lease_revoke(old).await.unwrap();
    assert_eq!(world.value("/old").await, None);
}

pub(crate) async fn a_watch_that_saw_less_than_the_backup_goes_on(world: &mut World) {
    let start = world.put("/w/a", "1").await;
    let mut changes = world.store.watch("/w/", start).await.unwrap();
    world.put("/w/a", "2").await;
    assert_eq!(take(&mut changes, 1).await, ["put /w/a=2"]);
    let backup = world.snapshot();
    // It is told nothing of these, so it has nothing to forget.
    world.put("/elsewhere", "1").await;
    world.put("/elsewhere", "2").await;
    world.restore(&backup).await;
    world.put("/w/a", "3").await;
    assert_eq!(take(&mut changes, 1).await, ["put /w/a=3"]);
}

pub(crate) async fn a_watch_that_saw_more_than_the_backup_says_that_the_store_went_back(world: &mut World) {
    let start = world.put("/w/a", "1").await;
    let mut changes = world.store.watch("/w/", start).await.unwrap();
    let backup = world.snapshot();
    world.put("/w/a", "2").await;
    let known = world.put("/w/a", "3").await;
    assert_eq!(take(&mut changes, 2).await, ["put /w/a=2", "put /w/a=3"]);
    world.restore(&backup).await;
    let item = timeout(PATIENCE, changes.next()).await.unwrap();
    let Some(Err(SourceError::Unavailable(cause))) = item else { panic!("{item:?}") };
    let cause = cause.downcast_ref::<Error>();
    assert!(
        matches!(cause, Some(Error::WentBack { known: k, found }) if *k == known && *found == start),
        "{cause:?}"
    );
    assert!(changes.next().await.is_none(), "it ends with that");
}

pub(crate) async fn a_watch_from_a_revision_that_never_was_is_refused(world: &mut World) {
    let now = world.put("/w/a", "1").await;
    assert!(world.store.watch("/w/", now).await.is_ok());
    let refused = world.store.watch("/w/", now + 1).await.err();
    assert!(
        matches!(refused, Some(Error::WentBack { known, found }) if known == now + 1 && found == now),
        "{refused:?}"
    );
}

pub(crate) async fn a_leader_that_won_after_the_backup_has_lost(world: &mut World) {
    world.put("/a", "1").await;
    let backup = world.snapshot();
    let leader = win(world, "/leader", "first").await;
    world.restore(&backup).await;
    timeout(PATIENCE, leader.lost()).await.unwrap();
    let late = world.store.commit(Txn::fenced(leader.fence()).put("/a", "late")).await;
    assert!(matches!(late, Err(Error::Fenced(_))), "{late:?}");
    let next = win(world, "/leader", "second").await;
    // Epochs do not grow over a restore.
    assert!(next.epoch() <= leader.epoch());
}

pub(crate) async fn a_leader_that_won_before_the_backup_leads_on(world: &mut World) {
    let leader = win(world, "/leader", "first").await;
    let backup = world.snapshot();
    world.put("/a", "1").await;
    world.restore(&backup).await;
    tokio::time::sleep(TTL * 2).await;
    assert!(leader.is_valid());
    committed(world.store.commit(Txn::fenced(leader.fence()).put("/a", "2")).await);
}

pub(crate) async fn a_compaction_under_a_watch_that_reads_on_costs_it_nothing(world: &mut World) {
    let start = world.put("/w/a", "0").await;
    let mut changes = world.store.watch("/w/", start).await.unwrap();
    for value in ["1", "2", "3"] {
        let now = world.put("/w/a", value).await;
        assert_eq!(take(&mut changes, 1).await, [format!("put /w/a={value}")]);
        world.compact(now).await;
    }
    world.put("/w/a", "4").await;
    assert_eq!(take(&mut changes, 1).await, ["put /w/a=4"]);
}
