//! The view only ever goes forward, and readers see whole steps.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::Changed;

fn entry(key: &str, value: &str, mod_revision: Revision) -> Entry {
    Entry {
        key: Arc::from(key),
        value: Bytes::copy_from_slice(value.as_bytes()),
        create_revision: mod_revision,
        mod_revision,
        lease: 0,
    }
}

fn put(key: &str, value: &str, revision: Revision) -> Change {
    Change::Put(entry(key, value, revision))
}

fn delete(key: &str, revision: Revision) -> Change {
    Change::Delete { key: Arc::from(key), revision }
}

fn listing(revision: Revision, entries: &[(&str, &str, Revision)]) -> Listing {
    Listing { revision, entries: entries.iter().map(|(key, value, at)| entry(key, value, *at)).collect() }
}

fn text() -> Cache<String> {
    Cache::new(|entry| String::from_utf8_lossy(&entry.value).into_owned())
}

fn value(cache: &Cache<String>, key: &str) -> Option<String> {
    cache.get(key).map(|held| (*held.value).clone())
}

fn names(keys: &[&str]) -> Changed {
    Changed::Keys(keys.iter().map(|key| Arc::from(*key)).collect())
}

#[test]
fn a_projection_is_all_that_is_held() {
    let cache = Cache::new(|entry| entry.value.len());
    cache.replace(listing(5, &[("/a", "four", 3), ("/b", "", 4)])).unwrap();
    let held = cache.get("/a").unwrap();
    assert_eq!((*held.value, held.mod_revision, cache.revision(), cache.len()), (4, 3, 5, 2));
}

#[test]
fn a_range_is_what_has_the_prefix_in_key_order() {
    let cache = text();
    cache.replace(listing(9, &[("/a/2", "", 1), ("/a/1", "", 2), ("/b", "", 3), ("/a", "", 4)])).unwrap();
    let keys: Vec<_> = cache.range("/a/").into_iter().map(|(key, _)| key.to_string()).collect();
    assert_eq!(keys, ["/a/1", "/a/2"]);
    assert_eq!(cache.keys("").len(), 4);
    assert!(cache.range("/c").is_empty());
}

#[test]
fn our_own_write_is_seen_at_once_and_its_echo_is_no_news() {
    let cache = text();
    cache.replace(listing(5, &[("/a", "old", 3)])).unwrap();
    let mut subscription = cache.subscribe();
    assert_eq!(subscription.try_changed(), Some(Changed::Everything));
    cache.absorb_put(&Entry { create_revision: 0, ..entry("/a", "new", 8) });
    assert_eq!(value(&cache, "/a").unwrap(), "new");
    assert_eq!(cache.get("/a").unwrap().create_revision, 3, "kept from the value it replaces");
    assert_eq!(subscription.try_changed(), Some(names(&["/a"])), "other readers hear of it");
    cache.apply(vec![put("/a", "new", 8)]);
    assert_eq!(subscription.try_changed(), None);
}

#[test]
fn an_older_event_does_not_undo_our_write() {
    let cache = text();
    cache.replace(listing(5, &[("/a", "first", 3)])).unwrap();
    cache.absorb_put(&entry("/a", "ours", 8));
    cache.apply(vec![put("/a", "theirs", 6)]);
    cache.apply(vec![delete("/a", 7)]);
    assert_eq!(value(&cache, "/a").unwrap(), "ours");
    cache.apply(vec![put("/a", "later", 9)]);
    assert_eq!(value(&cache, "/a").unwrap(), "later");
}

#[test]
fn an_older_event_does_not_undo_our_delete() {
    let cache = text();
    cache.replace(listing(5, &[("/a", "first", 3)])).unwrap();
    cache.absorb_delete("/a", 8);
    cache.apply(vec![put("/a", "theirs", 6)]);
    assert_eq!(value(&cache, "/a"), None);
    cache.absorb_put(&entry("/a", "stale", 7));
    assert_eq!(value(&cache, "/a"), None);
    cache.apply(vec![delete("/a", 8)]);
    assert!(cache.shared.read().tombstones.is_empty(), "forgotten once the watch has passed it");
    cache.apply(vec![put("/a", "again", 9)]);
    assert_eq!(value(&cache, "/a").unwrap(), "again");
}

#[test]
fn a_write_through_that_comes_late_does_not_undo_what_was_seen_since() {
    let cache = text();
    cache.replace(listing(5, &[])).unwrap();
    cache.apply(vec![put("/a", "ours", 6), delete("/a", 7)]);
    cache.absorb_put(&entry("/a", "ours", 6));
    assert_eq!(value(&cache, "/a"), None);
}

#[test]
fn an_older_listing_undoes_neither_our_writes_nor_our_deletes() {
    let cache = text();
    cache.replace(listing(5, &[("/a", "a", 1), ("/b", "b", 2)])).unwrap();
    cache.absorb_put(&entry("/a", "ours", 8));
    cache.absorb_put(&entry("/new", "ours", 8));
    cache.absorb_delete("/b", 9);
    cache.replace(listing(7, &[("/a", "theirs", 6), ("/b", "b", 2), ("/c", "c", 7)])).unwrap();
    let all: Vec<_> =
        cache.range("").into_iter().map(|(key, held)| format!("{key}={}", held.value)).collect();
    assert_eq!(all, ["/a=ours", "/c=c", "/new=ours"]);
    // A listing that is new enough knows better.
    cache.replace(listing(10, &[("/b", "back", 10)])).unwrap();
    assert_eq!(cache.keys("").len(), 1);
    assert_eq!(value(&cache, "/b").unwrap(), "back");
}

#[test]
fn a_store_that_went_back_in_time_is_not_believed() {
    let cache = text();
    cache.replace(listing(50, &[("/a", "a", 40)])).unwrap();
    let error = cache.replace(listing(3, &[])).unwrap_err();
    assert_eq!(error.to_string(), "the store went back from revision 50 to 3");
    assert_eq!(value(&cache, "/a").unwrap(), "a");
}

#[test]
fn a_view_has_all_of_a_listing_once_the_watch_has_brought_it() {
    let cache = text();
    cache.replace(listing(10, &[("/a", "1", 3), ("/b", "1", 4), ("/c", "1", 5)])).unwrap();
    assert!(cache.has_all_of(&listing(90, &[("/a", "", 3), ("/b", "", 4), ("/c", "", 5)])), "quiet since 10");
    let later = listing(20, &[("/a", "", 12), ("/b", "", 4)]);
    assert!(!cache.has_all_of(&later));
    cache.apply(vec![put("/a", "2", 12)]);
    assert!(!cache.has_all_of(&later), "/c is deleted there");
    cache.apply(vec![delete("/c", 13)]);
    assert!(cache.has_all_of(&later));
    cache.apply(vec![put("/a", "3", 21), put("/n", "1", 22), delete("/b", 23)]);
    assert!(cache.has_all_of(&later), "what came after it does not matter");
    cache.absorb_put(&entry("/n", "2", 30));
    cache.absorb_delete("/a", 31);
    assert!(cache.has_all_of(&listing(25, &[("/a", "", 21), ("/n", "", 22)])), "our own writes are newer");
}

#[test]
fn a_listing_of_another_history_is_never_had() {
    let cache = text();
    cache.replace(listing(1000, &[("/a", "1", 900), ("/b", "1", 400)])).unwrap();
    assert!(!cache.has_all_of(&listing(1200, &[("/a", "", 510), ("/b", "", 400)])));
    assert!(!cache.has_all_of(&listing(1200, &[("/b", "", 400)])));
}

#[test]
fn a_new_listing_tells_only_what_differs() {
    let cache = text();
    cache.replace(listing(5, &[("/a", "a", 1), ("/b", "b", 2), ("/c", "c", 3)])).unwrap();
    let same = cache.get("/a").unwrap().value;
    let mut subscription = cache.subscribe();
    subscription.try_changed();
    cache.replace(listing(9, &[("/a", "a", 1), ("/b", "B", 8), ("/d", "d", 9)])).unwrap();
    assert_eq!(subscription.try_changed(), Some(names(&["/b", "/c", "/d"])));
    assert!(Arc::ptr_eq(&same, &cache.get("/a").unwrap().value), "what did not change is not held twice");
    cache.replace(listing(10, &[("/a", "a", 1), ("/b", "B", 8), ("/d", "d", 9)])).unwrap();
    assert_eq!(subscription.try_changed(), None);
}

#[test]
fn a_subscription_that_overflows_says_everything() {
    let cache = text();
    cache.replace(listing(1, &[])).unwrap();
    let mut subscription = cache.subscribe_with(3);
    subscription.try_changed();
    cache.apply((0..4).map(|n| put(&format!("/{n}"), "", 2)).collect());
    assert_eq!(subscription.try_changed(), Some(Changed::Everything));
}

#[test]
fn deleting_a_prefix_spares_what_was_written_later() {
    let cache = text();
    cache.replace(listing(5, &[("/x/1", "", 1), ("/x/2", "", 2), ("/y", "", 3)])).unwrap();
    cache.absorb_put(&entry("/x/3", "", 9));
    cache.absorb_delete_prefix("/x/", 8);
    assert_eq!(cache.keys("").iter().map(ToString::to_string).collect::<Vec<_>>(), ["/x/3", "/y"]);
}

#[test]
fn a_dropped_subscription_is_forgotten() {
    let cache = text();
    drop(cache.subscribe());
    cache.replace(listing(1, &[])).unwrap();
    assert!(cache.shared.inboxes.lock().unwrap().is_empty());
}

#[test]
fn readers_see_a_listing_or_a_batch_whole_or_not_at_all() {
    let cache = text();
    cache.replace(listing(1, &[("/a", "0", 1), ("/b", "0", 1)])).unwrap();
    let reader = cache.clone();
    std::thread::scope(|scope| {
        let seen = scope.spawn(move || {
            let mut newest = 0;
            while newest < 2_000 {
                let all = reader.range("");
                assert_eq!(all.len(), 2);
                assert_eq!(all[0].1.value, all[1].1.value);
                newest = all[0].1.mod_revision;
            }
        });
        for revision in 2..=2_000 {
            let text = revision.to_string();
            if revision % 2 == 0 {
                cache
                    .replace(listing(revision, &[("/a", &text, revision), ("/b", &text, revision)]))
                    .unwrap();
            } else {
                cache.apply(vec![put("/a", &text, revision), put("/b", &text, revision)]);
            }
        }
        seen.join().unwrap();
    });
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    /// A history of writes, of which some are ours and absorbed early, arrives by a watch that lags and
    /// by listings at any revision between: no key ever shows an older state than one shown before, and
    /// in the end all is as in the store.
    #[test]
    fn no_key_ever_goes_back(
        history in proptest::collection::vec((0..4_u8, any::<bool>(), any::<bool>()), 1..40),
        steps in proptest::collection::vec((0..3_u8, 0..40_usize), 1..60),
    ) {
        let changes: Vec<(bool, Change)> = history
            .iter()
            .enumerate()
            .map(|(n, (key, is_put, ours))| {
                let (revision, key) = (Revision::try_from(n).unwrap() + 1, format!("/{key}"));
                (*ours, if *is_put { put(&key, &revision.to_string(), revision) } else { delete(&key, revision) })
            })
            .collect();
        let at = |revision: usize| {
            let mut entries = BTreeMap::new();
            for (_, change) in &changes[..revision] {
                match change {
                    Change::Put(entry) => { entries.insert(entry.key.clone(), entry.clone()); }
                    Change::Delete { key, .. } => { entries.remove(key); }
                }
            }
            Listing { revision: Revision::try_from(revision).unwrap(), entries: entries.into_values().collect() }
        };
        let cache = text();
        let (mut watched, mut absorbed) = (0, 0);
        // What a key showed last: the revision, and of which kind.
        let mut shown: BTreeMap<String, Revision> = BTreeMap::new();
        cache.replace(at(0)).unwrap();
        for (step, how_many) in steps {
            match step {
                0 => {
                    let until = (watched + how_many).min(changes.len());
                    cache.apply(changes[watched..until].iter().map(|(_, change)| change.clone()).collect());
                    watched = until;
                }
                1 => {
                    let until = (absorbed + how_many).min(changes.len());
                    for (_, change) in changes[absorbed..until].iter().filter(|(ours, _)| *ours) {
                        match change {
                            Change::Put(entry) => cache.absorb_put(entry),
                            Change::Delete { key, revision } => cache.absorb_delete(key, *revision),
                        }
                    }
                    absorbed = absorbed.max(until);
                }
                _ => {
                    let until = (watched + how_many).min(changes.len());
                    cache.replace(at(until)).unwrap();
                    watched = until;
                }
            }
            for key in 0..4_u8 {
                let key = format!("/{key}");
                if let Some(held) = cache.get(&key) {
                    let last = shown.insert(key.clone(), held.mod_revision).unwrap_or(0);
                    prop_assert!(held.mod_revision >= last, "{key} went from {last} to {}", held.mod_revision);
                }
            }
            // All of ours so far are reflected: each key is at least as new as our last change of it.
            for (_, change) in changes[..absorbed].iter().filter(|(ours, _)| *ours) {
                if let Change::Delete { key, revision } = change {
                    prop_assert!(cache.get(key).is_none_or(|held| held.mod_revision > *revision), "{key} is back");
                }
            }
        }
        cache.apply(changes[watched..].iter().map(|(_, change)| change.clone()).collect());
        let expected: Vec<_> = at(changes.len()).entries.into_iter().map(|e| (e.key, e.mod_revision)).collect();
        let held: Vec<_> = cache.range("").into_iter().map(|(key, held)| (key, held.mod_revision)).collect();
        prop_assert_eq!(held, expected);
        prop_assert!(cache.shared.read().tombstones.is_empty());
    }
}

/// The texts in the cache, and under which keys: kept by an index.
#[derive(Default)]
struct ByText(Mutex<BTreeMap<String, Vec<String>>>);

impl Index<String> for ByText {
    fn changed(&self, key: &str, old: Option<&String>, new: Option<&String>) {
        let mut held = self.0.lock().unwrap();
        if let Some(old) = old {
            let keys = held.get_mut(old).unwrap();
            keys.retain(|known| known != key);
            if keys.is_empty() {
                held.remove(old);
            }
        }
        if let Some(new) = new {
            held.entry(new.clone()).or_default().push(key.to_owned());
        }
    }
}

#[test]
fn an_index_is_always_what_would_be_made_of_the_view() {
    let cache = text();
    cache.replace(listing(5, &[("a", "x", 4), ("b", "y", 5)])).unwrap();
    let index = Arc::new(ByText::default());
    cache.index(Arc::clone(&index) as Arc<dyn Index<String>>);
    let check = |expected: &[(&str, &[&str])]| {
        let owned = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>();
        let expected = expected.iter().map(|(text, keys)| ((*text).to_owned(), owned(keys)));
        assert_eq!(*index.0.lock().unwrap(), expected.collect::<BTreeMap<_, _>>());
    };
    check(&[("x", &["a"]), ("y", &["b"])]);
    cache.apply(vec![put("c", "x", 6), delete("b", 7)]);
    check(&[("x", &["a", "c"])]);
    // Old news is none.
    cache.apply(vec![put("c", "old", 6), delete("a", 3)]);
    check(&[("x", &["a", "c"])]);
    cache.absorb_put(&entry("a", "z", 8));
    cache.absorb_delete("c", 9);
    check(&[("z", &["a"])]);
    cache.replace(listing(10, &[("a", "z", 8), ("d", "w", 10)])).unwrap();
    check(&[("w", &["d"]), ("z", &["a"])]);
    cache.replace(listing(11, &[])).unwrap();
    check(&[]);
}
