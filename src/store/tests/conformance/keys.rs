//! Reading: one key, a prefix, many pages.

use overlord_store::{Fetch, Txn};

use crate::world::{World, committed};

pub(crate) async fn a_missing_key_is_an_empty_listing_at_the_revision_of_now(world: &mut World) {
    let before = world.store.get("/none").await.unwrap();
    assert!(before.entries.is_empty());
    assert!(before.revision >= 1);
    let revision = world.put("/a", "1").await;
    assert_eq!(world.store.get("/none").await.unwrap().revision, revision);
    assert_eq!(revision, before.revision + 1);
}

pub(crate) async fn a_key_shows_its_value_and_revisions(world: &mut World) {
    let created = world.put("/a", "1").await;
    let changed = world.put("/a", "2").await;
    let found = world.store.get("/a").await.unwrap();
    let entry = found.entries.first().unwrap();
    assert_eq!((&*entry.key, &*entry.value), ("/a", &b"2"[..]));
    assert_eq!((entry.create_revision, entry.mod_revision, entry.lease), (created, changed, 0));
    assert!(world.store.get("/").await.unwrap().entries.is_empty(), "one key, not a prefix");

    world.delete("/a").await;
    let again = world.put("/a", "3").await;
    let found = world.store.get("/a").await.unwrap();
    assert_eq!(found.entries.first().unwrap().create_revision, again);
}

pub(crate) async fn a_listing_holds_exactly_the_prefix_in_key_order(world: &mut World) {
    for key in ["/p/b", "/p", "/p/", "/p/a", "/p0", "/o/z", "/p/a/x"] {
        world.put(key, "v").await;
    }
    let keys = |listing: overlord_store::Listing| -> Vec<String> {
        listing.entries.iter().map(|entry| entry.key.to_string()).collect()
    };
    let below = world.store.list("/p/", Fetch::Values).await.unwrap();
    assert_eq!(keys(below), ["/p/", "/p/a", "/p/a/x", "/p/b"]);
    let all = world.store.list("", Fetch::Values).await.unwrap();
    assert_eq!(keys(all), ["/o/z", "/p", "/p/", "/p/a", "/p/a/x", "/p/b", "/p0"]);
    let none = world.store.list("/q/", Fetch::Values).await.unwrap();
    assert!(none.entries.is_empty());
    assert!(none.revision > 1);
}

pub(crate) async fn a_listing_of_many_pages_is_of_one_revision(world: &mut World) {
    let mut last = 0;
    for block in 0..12 {
        let mut txn = Txn::unfenced();
        for key in 0..100 {
            txn = txn.put(format!("/many/{block:02}{key:02}"), format!("{block}.{key}"));
        }
        last = committed(world.store.commit(txn).await);
    }
    // Each writer round deletes one key and adds another, in one transaction: a listing that mixes
    // revisions would count more or fewer than 1200.
    let store = std::sync::Arc::clone(&world.store);
    let mut writer = tokio::task::JoinSet::new();
    writer.spawn(async move {
        for key in 0..100 {
            let txn =
                Txn::unfenced().delete(format!("/many/00{key:02}")).put(format!("/many/99{key:02}"), "moved");
            committed(store.commit(txn).await);
        }
    });
    loop {
        let listing = world.store.list("/many/", Fetch::Values).await.unwrap();
        assert_eq!(listing.entries.len(), 1200);
        assert!(listing.entries.is_sorted_by(|a, b| a.key < b.key));
        assert!(listing.entries.iter().all(|entry| entry.mod_revision <= listing.revision));
        let newest = listing.entries.iter().map(|entry| entry.mod_revision).max().unwrap();
        assert!(newest <= listing.revision && listing.revision >= last);
        last = listing.revision;
        if writer.try_join_next().is_some_and(|joined| joined.is_ok()) {
            break;
        }
        tokio::task::yield_now().await;
    }
}

pub(crate) async fn a_listing_of_keys_has_no_values(world: &mut World) {
    let revision = world.put("/a", "value").await;
    let listing = world.store.list("/", Fetch::KeysOnly).await.unwrap();
    let entry = listing.entries.first().unwrap();
    assert_eq!((&*entry.key, entry.mod_revision), ("/a", revision));
    assert!(entry.value.is_empty());
}
