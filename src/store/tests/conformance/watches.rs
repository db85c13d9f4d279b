//! Watching: order, no gap, whole transactions, compaction.

use futures::StreamExt as _;
use overlord_reconcile::{Source as _, SourceError};
use overlord_store::{Change, Changes, Error, Fetch, PrefixSource, Store, Txn};
use tokio::time::timeout;

use crate::world::{PATIENCE, World, batch, brief, committed, revision_of, take};

pub(crate) async fn a_watch_shows_every_change_after_its_revision_in_order(world: &mut World) {
    let before = world.put("/w/a", "before").await;
    let mut changes = world.store.watch("/w/", before).await.unwrap();
    world.put("/w/a", "1").await;
    world.put("/w/b", "2").await;
    let deleted = world.delete("/w/a").await;
    world.put("/w/a", "3").await;
    let mut seen = Vec::new();
    while seen.len() < 4 {
        seen.extend(batch(&mut changes).await);
    }
    assert!(matches!(&seen[2], Change::Delete { key, revision } if &**key == "/w/a" && *revision == deleted));
    let Change::Put(again) = &seen[3] else { panic!("{seen:?}") };
    assert_eq!((again.create_revision, again.mod_revision), (deleted + 1, deleted + 1));
    assert_eq!(
        seen.iter().map(revision_of).collect::<Vec<_>>(),
        [before + 1, before + 2, before + 3, before + 4]
    );
    assert_eq!(
        seen.iter().map(brief).collect::<Vec<_>>(),
        ["put /w/a=1", "put /w/b=2", "delete /w/a", "put /w/a=3"]
    );
}

pub(crate) async fn a_watch_shows_only_its_prefix(world: &mut World) {
    let start = world.put("/o/x", "0").await;
    let mut changes = world.store.watch("/w/", start).await.unwrap();
    let mut everything = world.store.watch("", start).await.unwrap();
    for key in ["/o/x", "/w", "/w0", "/w/a"] {
        world.put(key, "1").await;
    }
    assert_eq!(take(&mut changes, 1).await, ["put /w/a=1"]);
    assert_eq!(take(&mut everything, 4).await.len(), 4);
}

pub(crate) async fn changes_of_one_transaction_come_together(world: &mut World) {
    for n in 0..5 {
        world.put(["/w/0", "/w/1", "/w/2", "/w/3", "/w/4"][n], "old").await;
    }
    let start = world.store.get("/").await.unwrap().revision;
    let mut live = world.store.watch("/w/", start).await.unwrap();
    let txn = Txn::unfenced().put("/w/z", "1").put("/w/y", "2").put("/elsewhere", "3").delete_prefix("/w/");
    // A prefix of deletes may not overlap with puts of the same transaction.
    assert!(matches!(world.store.commit(txn).await, Err(Error::Other(_))));
    let txn = Txn::unfenced()
        .put("/w/z", "1")
        .delete("/w/3")
        .put("/elsewhere", "3")
        .put("/w/y", "2")
        .delete("/w/0");
    let revision = committed(world.store.commit(txn).await);
    let big = (0..128).fold(Txn::unfenced(), |txn, n| txn.put(format!("/w/big{n:03}"), vec![b'x'; 10_000]));
    committed(world.store.commit(big).await);

    let mut late = world.store.watch("/w/", start).await.unwrap();
    for changes in [&mut live, &mut late] {
        let mut batches = Vec::new();
        while batches.iter().map(Vec::len).sum::<usize>() < 4 + 128 {
            batches.push(batch(changes).await);
        }
        let together = batches.iter().find(|batch| batch.iter().any(|c| revision_of(c) == revision)).unwrap();
        let together: Vec<_> = together.iter().filter(|c| revision_of(c) == revision).map(brief).collect();
        assert_eq!(together, ["put /w/z=1", "delete /w/3", "put /w/y=2", "delete /w/0"]);
        let large = batches.iter().filter(|batch| batch.iter().any(|c| revision_of(c) == revision + 1));
        assert_eq!(large.count(), 1, "the large transaction is in one batch");
    }
}

pub(crate) async fn a_watch_from_the_past_catches_up_without_a_gap(world: &mut World) {
    let start = world.put("/w/k", "0").await;
    let values = ["1", "2", "3", "4", "5", "6", "7", "8", "9"];
    for value in &values[..5] {
        world.put("/w/k", value).await;
    }
    let mut changes = world.store.watch("/w/", start).await.unwrap();
    for value in &values[5..] {
        world.put("/w/k", value).await;
    }
    let expected: Vec<_> = values.iter().map(|value| format!("put /w/k={value}")).collect();
    assert_eq!(take(&mut changes, 9).await, expected);
    // And from the very beginning.
    let mut changes = world.store.watch("/w/", 0).await.unwrap();
    assert_eq!(take(&mut changes, 10).await.first().unwrap(), "put /w/k=0");
}

pub(crate) async fn a_watch_from_a_compacted_revision_says_so(world: &mut World) {
    for value in ["1", "2", "3", "4"] {
        world.put("/w/k", value).await;
    }
    let now = world.put("/w/k", "5").await;
    world.compact(now - 1).await;
    assert_eq!(compacted(world, now - 3).await, now - 2);
    // The compacted revision itself is kept.
    let mut changes = world.store.watch("/w/", now - 2).await.unwrap();
    assert_eq!(take(&mut changes, 2).await, ["put /w/k=4", "put /w/k=5"]);
    assert_eq!(world.value("/w/k").await.as_deref(), Some("5"));
}

async fn compacted(world: &World, after: i64) -> i64 {
    let mut changes: Changes = world.store.watch("/w/", after).await.unwrap();
    let item = timeout(PATIENCE, changes.next()).await.unwrap();
    let Some(Err(SourceError::Compacted(revision))) = item else { panic!("{item:?}") };
    assert!(changes.next().await.is_none(), "it ends with that");
    revision
}

pub(crate) async fn a_watch_that_is_up_to_date_outlives_compaction(world: &mut World) {
    let start = world.put("/w/k", "1").await;
    let mut changes = world.store.watch("/w/", start).await.unwrap();
    world.put("/w/k", "2").await;
    assert_eq!(take(&mut changes, 1).await, ["put /w/k=2"]);
    // Compaction far beyond what this quiet watch has seen.
    let mut now = 0;
    for _ in 0..10 {
        now = world.put("/elsewhere", "x").await;
    }
    world.compact(now).await;
    world.put("/w/k", "3").await;
    assert_eq!(take(&mut changes, 1).await, ["put /w/k=3"]);
}

pub(crate) async fn a_source_lists_then_watches_without_values(world: &mut World) {
    world.put("/w/a", "1").await;
    let source = PrefixSource::new(std::sync::Arc::clone(&world.store), "/w/", Fetch::KeysOnly);
    let listing = source.list().await.unwrap();
    assert!(listing.entries.iter().all(|entry| entry.value.is_empty()));
    let mut changes = source.watch(listing.revision).await.unwrap();
    world.put("/w/b", "2").await;
    world.delete("/w/a").await;
    assert_eq!(take(&mut changes, 2).await, ["put /w/b=", "delete /w/a"]);

    let store: std::sync::Arc<dyn Store> = std::sync::Arc::clone(&world.store);
    let source = PrefixSource::new(store, "/w/", Fetch::Values);
    let mut changes = source.watch(listing.revision).await.unwrap();
    assert_eq!(take(&mut changes, 2).await, ["put /w/b=2", "delete /w/a"]);
}
