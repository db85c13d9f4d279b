//! Leases: keys that disappear with them.

use std::time::Duration;

use overlord_store::{Error, LeaseId, Txn};
use tokio::time::sleep;

use crate::world::{World, batch, committed, revision_of, take};

const TTL: Duration = Duration::from_secs(2);

async fn put_leased(world: &World, key: &str, lease: LeaseId) -> i64 {
    committed(world.store.commit(Txn::unfenced().put_leased(key, "v", lease)).await)
}

pub(crate) async fn a_lease_that_nobody_renews_takes_its_keys_along(world: &mut World) {
    let lease = world.store.lease_grant(TTL).await.unwrap();
    assert_ne!(lease, 0);
    put_leased(world, "/l/b", lease).await;
    let start = put_leased(world, "/l/a", lease).await;
    let found = world.store.get("/l/a").await.unwrap();
    assert_eq!(found.entries.first().unwrap().lease, lease);
    world.put("/l/free", "v").await;

    let mut changes = world.store.watch("/l/", start + 1).await.unwrap();
    let ended = batch(&mut changes).await;
    assert_eq!(ended.iter().map(crate::world::brief).collect::<Vec<_>>(), ["delete /l/a", "delete /l/b"]);
    assert!(ended.iter().all(|change| revision_of(change) == start + 2), "both in one transaction");
    assert_eq!(world.value("/l/a").await, None);
    assert_eq!(world.value("/l/free").await.as_deref(), Some("v"));
    assert_eq!(world.store.lease_keep_alive(lease).await.unwrap(), None);
}

pub(crate) async fn a_renewed_lease_lives_on(world: &mut World) {
    let lease = world.store.lease_grant(TTL).await.unwrap();
    put_leased(world, "/l/a", lease).await;
    for _ in 0..6 {
        sleep(TTL / 3).await;
        assert_eq!(world.store.lease_keep_alive(lease).await.unwrap(), Some(TTL));
    }
    assert_eq!(world.value("/l/a").await.as_deref(), Some("v"));
}

pub(crate) async fn a_revoked_lease_takes_its_keys_along_at_once(world: &mut World) {
    let lease = world.store.lease_grant(Duration::from_mins(10)).await.unwrap();
    let start = put_leased(world, "/l/a", lease).await;
    let mut changes = world.store.watch("/l/", start).await.unwrap();
    world.store.lease_revoke(lease).await.unwrap();
    assert_eq!(world.value("/l/a").await, None);
    assert_eq!(take(&mut changes, 1).await, ["delete /l/a"]);
    world.store.lease_revoke(lease).await.unwrap();
}

pub(crate) async fn a_lease_that_is_gone_is_told_so(world: &mut World) {
    let lease = world.store.lease_grant(TTL).await.unwrap();
    world.store.lease_revoke(lease).await.unwrap();
    assert_eq!(world.store.lease_keep_alive(lease).await.unwrap(), None);
    let write = Txn::unfenced().put("/l/b", "v").put_leased("/l/a", "v", lease);
    let answer = world.store.commit(write).await;
    assert!(matches!(answer, Err(Error::LeaseGone(gone)) if gone == lease), "{answer:?}");
    assert_eq!(world.value("/l/b").await, None);
    world.store.lease_revoke(0x0bad_cafe).await.unwrap();
}

pub(crate) async fn a_key_written_without_the_lease_stays(world: &mut World) {
    let lease = world.store.lease_grant(TTL).await.unwrap();
    put_leased(world, "/l/a", lease).await;
    world.put("/l/a", "mine").await;
    world.store.lease_revoke(lease).await.unwrap();
    assert_eq!(world.value("/l/a").await.as_deref(), Some("mine"));
}
