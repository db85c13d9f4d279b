//! Thousands of broken specs put into etcd itself: none of them harms the controller or another cluster.

use std::{collections::BTreeSet, time::Duration};

use overlord_store::{EtcdConfig, EtcdStore, Fetch, Store as _, Txn};
use overlord_tests::{Options, Sandbox, condition, eventually_within};
use rand::{Rng as _, SeedableRng as _, rngs::SmallRng, seq::IndexedRandom as _};
use serde_json::Value;

use crate::manifest::{all, memcache, pid, redis, redis_cluster};

/// Specs unless `OVERLORD_TEST_SPECS` says otherwise.
const SPECS: u64 = 1500;

/// Written in one transaction.
const AT_ONCE: usize = 100;

/// What is put in somewhere.
const PIECES: [&str; 26] = [
    "{",
    "}",
    "[",
    "]",
    ":",
    "- ",
    "\n",
    "\n\n---\n",
    "\t",
    "\u{0}",
    "\u{feff}",
    "&a ",
    "*a",
    "!!binary ",
    "<<: ",
    "null",
    "~",
    "-1",
    "1e309",
    "18446744073709551616",
    "\"",
    "'",
    "% ",
    "😀",
    "0x7f",
    ".inf",
];

fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// A spec that is good, and that no agent suits, so that none of its kin is ever launched; broken in a few places.
fn broken(name: &str, rng: &mut SmallRng) -> Vec<u8> {
    let sound = match rng.random_range(0..3) {
        0 => {
            redis(name, 2, "  config: {maxmemory-policy: allkeys-lru}\n  update: {minReady: 1s, canary: 1}\n")
        }
        1 => memcache(name, 2, "  config: {threads: \"2\"}\n  deletion: {protected: false}\n"),
        _ => redis_cluster(name, 3, 1, "  recovery: {replaceAfter: 1h}\n"),
    };
    // Ahead of all else, so that what is cut off is never this alone.
    let nowhere = "spec:\n  placement: {constraints: [{attribute: nowhere, operator: is, value: nowhere}]}\n";
    let mut text = sound.replacen("spec:\n", nowhere, 1).into_bytes();
    for _ in 0..rng.random_range(1..=4) {
        let at = rng.random_range(0..=text.len());
        let end = (at + rng.random_range(0..30)).min(text.len());
        match rng.random_range(0..8) {
            0 => text.truncate(at),
            1 => {
                text.drain(at..end);
            }
            2 => {
                let again = text[at..end].to_vec();
                text.splice(at..at, again);
            }
            3 => text.insert(at, rng.random()),
            4 => {
                let piece = PIECES.choose(rng).copied().unwrap_or_default();
                text.splice(at..at, piece.bytes());
            }
            5 => {
                let piece = PIECES.choose(rng).copied().unwrap_or_default();
                text.splice(at..end, piece.bytes());
            }
            6 => text.splice(at..at, "[".repeat(rng.random_range(1..5000)).into_bytes()).for_each(drop),
            _ => text.splice(at..at, "a: ".repeat(rng.random_range(1..3000)).into_bytes()).for_each(drop),
        }
    }
    text
}

#[tokio::test]
async fn broken_specs_by_the_thousand_harm_nobody() {
    let seed = number("OVERLORD_TEST_SEED", uuid::Uuid::new_v4().as_u64_pair().0);
    let specs = number("OVERLORD_TEST_SPECS", SPECS);
    println!("OVERLORD_TEST_SEED={seed} OVERLORD_TEST_SPECS={specs}");
    let mut rng = SmallRng::seed_from_u64(seed);
    let sandbox = Sandbox::start(Options::default()).await;
    let good = all(&[redis("orders", 2, ""), memcache("pages", 1, "")]);
    sandbox.apply(&good).await;
    let before = sandbox.settled(&["orders", "pages"]).await;
    let leader = sandbox.mod_revision("/overlord/leader").await;
    let store =
        EtcdStore::new(EtcdConfig { endpoints: vec![sandbox.etcd()], ..EtcdConfig::default() }).unwrap();

    let names: Vec<String> = (0..specs).map(|n| format!("z{n}")).collect();
    for names in names.chunks(AT_ONCE) {
        let mut txn = Txn::unfenced();
        for name in names {
            txn = txn.put(format!("/overlord/config/{name}"), broken(name, &mut rng));
        }
        store.commit(txn).await.unwrap();
    }
    // Each one is judged, and those that are refused say why and where.
    let wanted: BTreeSet<String> = names.iter().cloned().collect();
    let statuses = eventually_within(Duration::from_secs(120), "all are judged", || async {
        let listing =
            store.list("/overlord/clusters/z", Fetch::Values).await.map_err(|error| error.to_string())?;
        let statuses: Vec<(String, Value)> = listing
            .entries
            .iter()
            .filter_map(|entry| {
                let name = entry.key.strip_prefix("/overlord/clusters/")?.strip_suffix("/status")?;
                Some((name.to_owned(), serde_json::from_slice(&entry.value).ok()?))
            })
            .collect();
        let judged: BTreeSet<String> = statuses.iter().map(|(name, _)| name.clone()).collect();
        if judged == wanted { Ok(statuses) } else { Err(format!("{} of {}", judged.len(), wanted.len())) }
    })
    .await;
    let mut refused = 0;
    for (name, status) in &statuses {
        let accepted = condition(status, "Accepted");
        if accepted["status"] == "False" {
            refused += 1;
            let message = accepted["message"].as_str().unwrap_or_default();
            assert!(message.contains(&format!("/overlord/config/{name}")), "{status}");
        } else {
            assert_eq!(accepted["status"], "True", "{status}");
        }
    }
    println!("{refused} of {specs} are refused");
    assert!(refused > specs / 2 && refused < specs, "{refused} of {specs}");

    let panicked = sandbox.log();
    assert!(!panicked.contains("panicked"), "{panicked}");
    assert_eq!(sandbox.mod_revision("/overlord/leader").await, leader, "the controller went on");
    for cluster in ["orders", "pages"] {
        sandbox.ready(cluster).await;
    }
    // Who is declared now is served as ever.
    sandbox.apply(&redis("late", 1, "")).await;
    let mut after = Vec::new();
    for cluster in ["orders", "pages"] {
        after.extend(sandbox.infos(cluster).await);
    }
    assert_eq!(before.iter().map(pid).collect::<Vec<_>>(), after.iter().map(pid).collect::<Vec<_>>());
    assert_eq!(sandbox.servers().len(), 4);
    sandbox.end().await;
}
