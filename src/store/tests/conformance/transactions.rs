//! Writing: compares, atomicity, the fence, limits.

use overlord_store::{Committed, Compare, Error, Fence, Fetch, Txn};

use crate::world::{World, committed};

pub(crate) async fn compares_decide_whether_anything_is_written(world: &mut World) {
    let created = world.put("/there", "1").await;
    let changed = world.put("/there", "2").await;
    let there = || "/there".to_owned();
    let gone = || "/gone".to_owned();
    for (compare, holds) in [
        (Compare::Absent(gone()), true),
        (Compare::Absent(there()), false),
        (Compare::ModRevision(there(), changed), true),
        (Compare::ModRevision(there(), created), false),
        (Compare::ModRevision(gone(), changed), false),
        (Compare::CreateRevision(there(), created), true),
        (Compare::CreateRevision(there(), changed), false),
        (Compare::CreateRevision(gone(), created), false),
    ] {
        let before = world.store.get("/out").await.unwrap().revision;
        let txn = Txn::unfenced().when(compare.clone()).put("/out", "x");
        let answer = world.store.commit(txn).await.unwrap();
        let expected = if holds { Committed::Yes(before + 1) } else { Committed::No(before) };
        assert_eq!(answer, expected, "{compare:?}");
    }
    // All must hold.
    let txn = Txn::unfenced().when(Compare::Absent(gone())).when(Compare::Absent(there())).delete("/there");
    assert!(matches!(world.store.commit(txn).await, Ok(Committed::No(_))));
    assert_eq!(world.value("/there").await.as_deref(), Some("2"));
}

pub(crate) async fn all_writes_of_a_transaction_share_one_revision(world: &mut World) {
    world.put("/old", "1").await;
    let txn = Txn::unfenced().put("/a", "1").put("/b", "2").delete("/old").delete("/never-there");
    let revision = committed(world.store.commit(txn).await);
    let listing = world.store.list("/", Fetch::Values).await.unwrap();
    assert_eq!(listing.revision, revision);
    let keys: Vec<_> = listing.entries.iter().map(|entry| (&*entry.key, entry.mod_revision)).collect();
    assert_eq!(keys, [("/a", revision), ("/b", revision)]);
}

pub(crate) async fn a_transaction_that_changes_nothing_makes_no_revision(world: &mut World) {
    let before = world.put("/a", "1").await;
    for txn in [
        Txn::unfenced(),
        Txn::unfenced().when(Compare::ModRevision("/a".to_owned(), before)),
        Txn::unfenced().delete("/none"),
        Txn::unfenced().delete_prefix("/none/"),
    ] {
        assert_eq!(world.store.commit(txn).await.unwrap(), Committed::Yes(before));
    }
    // The same value again is a change.
    assert_eq!(world.put("/a", "1").await, before + 1);
}

pub(crate) async fn a_prefix_is_deleted_with_everything_below_it(world: &mut World) {
    for key in ["/c/x/a", "/c/x/b/c", "/c/x", "/c/xy/a"] {
        world.put(key, "v").await;
    }
    committed(world.store.commit(Txn::unfenced().delete_prefix("/c/x/")).await);
    let listing = world.store.list("/c/", Fetch::KeysOnly).await.unwrap();
    let keys: Vec<_> = listing.entries.iter().map(|entry| &*entry.key).collect();
    assert_eq!(keys, ["/c/x", "/c/xy/a"]);
}

pub(crate) async fn writes_pass_a_fence_that_holds(world: &mut World) {
    let epoch = world.put("/leader", "me").await;
    // The value may change, the epoch stays.
    world.put("/leader", "me, elsewhere").await;
    let fence = Fence::new("/leader", epoch);
    committed(world.store.commit(Txn::fenced(&fence).put("/a", "1")).await);
    assert_eq!(world.value("/a").await.as_deref(), Some("1"));
}

pub(crate) async fn writes_of_a_former_leader_are_fenced_off(world: &mut World) {
    let epoch = world.put("/leader", "me").await;
    let fence = Fence::new("/leader", epoch);
    world.delete("/leader").await;
    let write = || Txn::fenced(&fence).put("/a", "1");
    let fenced = |answer: Result<Committed, Error>| matches!(answer, Err(Error::Fenced(f)) if f == fence);
    assert!(fenced(world.store.commit(write()).await), "nobody leads");
    world.put("/leader", "another").await;
    assert!(fenced(world.store.commit(write()).await), "another leads");
    // That other compares fail as well does not hide it.
    let txn = write().when(Compare::ModRevision("/a".to_owned(), 1));
    assert!(fenced(world.store.commit(txn).await));
    assert_eq!(world.value("/a").await, None);
}

pub(crate) async fn a_failed_compare_behind_a_good_fence_is_not_called_fenced(world: &mut World) {
    let epoch = world.put("/leader", "me").await;
    world.put("/a", "1").await;
    let txn =
        Txn::fenced(&Fence::new("/leader", epoch)).when(Compare::Absent("/a".to_owned())).put("/a", "2");
    assert!(matches!(world.store.commit(txn).await, Ok(Committed::No(_))));
    assert_eq!(world.value("/a").await.as_deref(), Some("1"));
}

pub(crate) async fn a_transaction_too_large_is_refused_before_anything_is_written(world: &mut World) {
    let many = (0..=Txn::MAX_OPERATIONS).fold(Txn::unfenced(), |txn, n| txn.put(format!("/{n}"), "v"));
    let answer = world.store.commit(many).await;
    assert!(matches!(answer, Err(Error::TooLarge { operations: 129, .. })), "{answer:?}");
    let large = Txn::unfenced().put("/large", vec![0; Txn::MAX_BYTES]);
    assert!(matches!(world.store.commit(large).await, Err(Error::TooLarge { operations: 1, .. })));
    assert!(world.store.list("", Fetch::KeysOnly).await.unwrap().entries.is_empty());
}

pub(crate) async fn the_largest_transaction_is_taken(world: &mut World) {
    let epoch = world.put("/leader", "me").await;
    let mut txn = Txn::fenced(&Fence::new("/leader", epoch));
    for n in 0..Txn::MAX_OPERATIONS {
        if n > 0 {
            txn = txn.when(Compare::Absent(format!("/n/{n}")));
        }
        txn = txn.put(format!("/n/{n}"), vec![b'x'; 10_000]);
    }
    let rest = Txn::MAX_BYTES - txn.bytes();
    assert_eq!(txn.operations(), Txn::MAX_OPERATIONS);
    // Up to the last byte.
    let txn = txn.when(Compare::Absent("y".repeat(rest)));
    assert!(matches!(world.store.commit(txn).await, Err(Error::TooLarge { operations: 129, .. })));

    let value = vec![b'x'; Txn::MAX_BYTES - "/large".len()];
    committed(world.store.commit(Txn::unfenced().put("/large", value)).await);
    let found = world.store.get("/large").await.unwrap();
    assert_eq!(found.entries.first().unwrap().value.len(), Txn::MAX_BYTES - 6);

    let fence = Fence::new("/leader", epoch);
    let full = (1..Txn::MAX_OPERATIONS).fold(Txn::fenced(&fence), |txn, n| {
        txn.when(Compare::Absent(format!("/m/{n}"))).put(format!("/m/{n}"), "v")
    });
    committed(world.store.commit(full.put("/m/0", "v")).await);
    assert_eq!(world.store.list("/m/", Fetch::KeysOnly).await.unwrap().entries.len(), Txn::MAX_OPERATIONS);
}

pub(crate) async fn a_key_cannot_be_written_twice_in_a_transaction(world: &mut World) {
    for txn in [
        Txn::unfenced().put("/a", "1").put("/a", "2"),
        Txn::unfenced().put("/a", "1").delete("/a"),
        Txn::unfenced().delete_prefix("/").put("/a", "1"),
        Txn::unfenced().put("", "1"),
    ] {
        let answer = world.store.commit(txn).await;
        assert!(matches!(answer, Err(Error::Other(_))), "{answer:?}");
    }
    assert_eq!(world.value("/a").await, None);
    // Deleting twice is no contradiction.
    world.put("/a", "1").await;
    committed(world.store.commit(Txn::unfenced().delete("/a").delete_prefix("/")).await);
    assert_eq!(world.value("/a").await, None);
}
