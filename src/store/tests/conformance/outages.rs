//! What only real servers show: dead, hung and restarted ones.

use std::{sync::Arc, time::Duration};

use futures::StreamExt as _;
use overlord_reconcile::{SourceError, SystemClock};
use overlord_store::{Error, EtcdConfig, EtcdStore, Fetch, Store as _, Txn, election::Candidate};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::{
    relay::Relay,
    server::Etcd,
    world::{PATIENCE, batch, committed, config_of, revision_of, store_of, take},
};

fn put(key: &str, value: String) -> Txn {
    Txn::unfenced().put(key, value)
}

#[tokio::test]
async fn an_open_watch_survives_a_killed_and_restarted_server() {
    let mut etcd = Etcd::start().await;
    let store = store_of(&[etcd.url()]);
    let mut changes = store.watch("/w/", 0).await.unwrap();
    let (mut seen, mut expected) = (Vec::new(), Vec::new());
    for round in 0..4 {
        for n in 0..4 {
            committed(store.commit(put(&format!("/w/{n}"), format!("{round}"))).await);
            expected.push(format!("put /w/{n}={round}"));
            // In each round the server dies with more or less of it unread.
            if n == round {
                etcd.kill();
                assert!(etcd.launch().await);
            }
        }
        seen.extend(take(&mut changes, round + 1).await);
    }
    seen.extend(take(&mut changes, expected.len() - seen.len()).await);
    assert_eq!(seen, expected, "every change once and in order");
}

#[tokio::test]
async fn a_watch_that_finds_its_revision_compacted_after_an_outage_says_so() {
    let mut etcd = Etcd::start().await;
    let store = store_of(&[etcd.url()]);
    let mut changes = store.watch("/w/", 0).await.unwrap();
    committed(store.commit(put("/w/a", "1".to_owned())).await);
    let last = revision_of(batch(&mut changes).await.last().unwrap());
    etcd.kill();
    assert!(etcd.launch().await);
    let mut now = last;
    for _ in 0..3 {
        now = committed(store.commit(put("/w/a", "2".to_owned())).await);
    }
    etcd.compact(now).await;
    let item = timeout(PATIENCE, changes.next()).await.unwrap();
    assert!(matches!(item, Some(Err(SourceError::Compacted(at))) if at == last + 1), "{item:?}");
    assert!(changes.next().await.is_none());
}

#[tokio::test]
async fn one_dead_endpoint_of_three_fails_no_call() {
    let mut members = Etcd::cluster().await;
    let urls: Vec<_> = members.iter().map(Etcd::url).collect();
    let store = store_of(&urls);
    committed(store.commit(put("/k", "before".to_owned())).await);
    let mut changes = store.watch("/k", store.get("/k").await.unwrap().revision).await.unwrap();
    // The endpoint in use: the first one.
    members[0].kill();
    // Calls of a store that knew the dead member, and of one that meets it dead.
    for store in [store, store_of(&urls)] {
        store.list("/", Fetch::Values).await.unwrap();
        for n in 0..200 {
            match n % 4 {
                0 => committed(store.commit(put("/k", format!("{n}"))).await),
                1 => store.get("/k").await.unwrap().revision,
                2 => store.list("/", Fetch::KeysOnly).await.unwrap().revision,
                _ => {
                    let lease = store.lease_grant(Duration::from_mins(1)).await.unwrap();
                    assert!(store.lease_keep_alive(lease).await.unwrap().is_some());
                    store.lease_revoke(lease).await.unwrap();
                    1
                }
            };
        }
    }
    let seen = take(&mut changes, 100).await;
    let written: Vec<_> = (0..2).flat_map(|_| (0..200).step_by(4)).map(|n| format!("put /k={n}")).collect();
    assert_eq!(seen, written);
}

#[tokio::test]
async fn a_first_commit_is_not_lost_on_a_dead_endpoint() {
    let mut dead = Etcd::start().await;
    let alive = Etcd::start().await;
    let urls = [dead.url(), alive.url()];
    dead.kill();
    committed(store_of(&urls).commit(put("/k", "v".to_owned())).await);
}

#[tokio::test]
async fn a_hung_server_fails_calls_in_bounded_time() {
    let etcd = Etcd::start().await;
    let call_timeout = Duration::from_millis(300);
    let config = EtcdConfig { call_timeout, ..config_of(&[etcd.url()]) };
    let store = EtcdStore::new(config).unwrap();
    let lease = store.lease_grant(Duration::from_mins(1)).await.unwrap();
    let unavailable = |error: Error| assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
    etcd.freeze();
    let all = async {
        unavailable(store.get("/k").await.unwrap_err());
        unavailable(store.list("/", Fetch::Values).await.unwrap_err());
        let open = store.commit(put("/k", "v".to_owned())).await.unwrap_err();
        assert!(matches!(open, Error::Unanswered { .. }), "{open:?}");
        unavailable(store.watch("/k", 0).await.err().unwrap());
        unavailable(store.lease_keep_alive(lease).await.unwrap_err());
        unavailable(store.lease_grant(Duration::from_mins(1)).await.unwrap_err());
        unavailable(store.lease_revoke(lease).await.unwrap_err());
    };
    timeout(PATIENCE, all).await.unwrap();
    etcd.thaw();
    let found = async { while store.get("/k").await.is_err() {} };
    timeout(PATIENCE, found).await.unwrap();
}

#[tokio::test]
async fn a_hung_endpoint_of_three_fails_no_read() {
    let members = Etcd::cluster().await;
    let urls: Vec<_> = members.iter().map(Etcd::url).collect();
    let store = store_of(&urls);
    store.get("/k").await.unwrap();
    members[0].freeze();
    for _ in 0..20 {
        store.get("/k").await.unwrap();
    }
    committed(store.commit(put("/k", "v".to_owned())).await);
    members[0].thaw();
}

#[tokio::test]
async fn a_watch_leaves_a_hung_server() {
    let members = Etcd::cluster().await;
    let urls: Vec<_> = members.iter().map(Etcd::url).collect();
    let mut changes = store_of(&urls).watch("/w/", 0).await.unwrap();
    members[0].freeze();
    let others = store_of(&urls[1..]);
    // A read waits until the others have a leader.
    others.get("/w/a").await.unwrap();
    committed(others.commit(put("/w/a", "1".to_owned())).await);
    // Its connection looks alive: only unanswered pings tell.
    assert_eq!(take(&mut changes, 1).await, ["put /w/a=1"]);
    members[0].thaw();
}

#[tokio::test]
async fn a_store_without_server_says_where_it_looked() {
    let mut etcd = Etcd::start().await;
    etcd.kill();
    let call_timeout = Duration::from_millis(200);
    let config = EtcdConfig { call_timeout, ..config_of(&[etcd.url()]) };
    let error = EtcdStore::new(config).unwrap().get("/k").await.unwrap_err().to_string();
    assert!(error.contains(&etcd.url()) && error.contains("connect"), "{error}");
}

#[tokio::test]
async fn a_leader_cut_off_from_the_store_notices() {
    let etcd = Etcd::start().await;
    let store = Arc::new(store_of(&[etcd.url()]));
    let clock = Arc::new(SystemClock::new());
    let ttl = Duration::from_secs(2);
    let candidate = Candidate::new(store, clock, "/leader", "me", ttl);
    let leader = candidate.campaign(&CancellationToken::new()).await.unwrap();
    etcd.freeze();
    timeout(PATIENCE, leader.lost()).await.unwrap();
    assert!(!leader.is_valid());
    etcd.thaw();
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_told_apart_and_found_by_reading() {
    let etcd = Etcd::start().await;
    let relay = Relay::to(etcd.port()).await;
    let call_timeout = Duration::from_secs(1);
    let config = EtcdConfig { call_timeout, ..config_of(&[relay.url()]) };
    let store = EtcdStore::new(config).unwrap();
    committed(store.commit(put("/k", "1".to_owned())).await);
    relay.lose_answers(true);
    let open = store.commit(put("/k", "2".to_owned())).await.unwrap_err();
    assert!(matches!(open, Error::Unanswered { .. }), "{open:?}");
    // It happened, and is seen over a new connection: the old one is silent for ever.
    let direct = store_of(&[etcd.url()]);
    assert_eq!(&*direct.get("/k").await.unwrap().entries[0].value, b"2");
    relay.lose_answers(false);
    let found = async {
        loop {
            if let Ok(found) = store.get("/k").await {
                break found;
            }
        }
    };
    assert_eq!(&*timeout(PATIENCE, found).await.unwrap().entries[0].value, b"2");
}

#[tokio::test]
async fn a_commit_that_nobody_takes_is_surely_not_written() {
    let mut etcd = Etcd::start().await;
    let call_timeout = Duration::from_millis(500);
    let config = EtcdConfig { call_timeout, ..config_of(&[etcd.url()]) };
    let store = EtcdStore::new(config).unwrap();
    etcd.kill();
    let refused = store.commit(put("/k", "1".to_owned())).await.unwrap_err();
    assert!(matches!(refused, Error::Unavailable { .. }), "{refused:?}");
    assert!(etcd.launch().await);
    assert!(store.get("/k").await.unwrap().entries.is_empty());
    committed(store.commit(put("/k", "1".to_owned())).await);
}

#[tokio::test]
async fn without_quorum_nothing_is_read_or_written_and_with_it_all_goes_on() {
    let mut members = Etcd::cluster().await;
    let urls: Vec<_> = members.iter().map(Etcd::url).collect();
    let config = EtcdConfig { call_timeout: Duration::from_secs(2), ..config_of(&urls) };
    let store = EtcdStore::new(config).unwrap();
    let start = committed(store.commit(put("/k", "1".to_owned())).await);
    let lease = store.lease_grant(Duration::from_mins(1)).await.unwrap();
    let mut changes = store.watch("/k", start).await.unwrap();
    members[1].kill();
    members[2].kill();
    let unavailable = |error: &Error| matches!(error, Error::Unavailable { .. });
    let read = store.get("/k").await.unwrap_err();
    assert!(unavailable(&read), "{read:?}");
    // The member that is left notices its loss after an election timeout; before, it takes proposals that
    // nobody confirms.
    let refused = async {
        loop {
            match store.commit(put("/k", "2".to_owned())).await {
                Err(Error::Unavailable { message, .. }) => break message,
                Err(Error::Unanswered { .. }) => {}
                other => panic!("{other:?}"),
            }
        }
    };
    let message = timeout(PATIENCE, refused).await.unwrap();
    assert!(message.contains("no leader") || message.contains("refused"), "{message}");
    let grant = store.lease_grant(Duration::from_mins(1)).await.unwrap_err();
    assert!(unavailable(&grant), "{grant:?}");
    assert!(store.lease_keep_alive(lease).await.is_err());
    assert!(members[1].launch().await);
    let found = async { while store.get("/k").await.is_err() {} };
    timeout(PATIENCE, found).await.unwrap();
    committed(store.commit(put("/k", "3".to_owned())).await);
    // What was proposed in between may have happened after all, but only before.
    let seen = async { while take(&mut changes, 1).await != ["put /k=3"] {} };
    timeout(PATIENCE, seen).await.unwrap();
}

#[tokio::test]
async fn one_endpoint_that_never_answers_is_left_for_the_next_one() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let etcd = Etcd::start().await;
    let urls = [format!("http://{}", silent.local_addr().unwrap()), etcd.url()];
    let config = EtcdConfig { call_timeout: Duration::from_secs(2), ..config_of(&urls) };
    let store = EtcdStore::new(config.clone()).unwrap();
    store.get("/k").await.unwrap();
    committed(store.commit(put("/k", "1".to_owned())).await);
    // A first commit has nobody to tell it so: it says that it does not know, and the next one goes elsewhere.
    let store = EtcdStore::new(config).unwrap();
    let open = store.commit(put("/k", "2".to_owned())).await;
    assert!(matches!(open, Err(Error::Unanswered { .. } | Error::Unavailable { .. })), "{open:?}");
    committed(store.commit(put("/k", "3".to_owned())).await);
}
