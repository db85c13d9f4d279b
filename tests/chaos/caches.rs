//! Writers on redis and memcache pools. What a redis server with an append-only file has taken is there for as
//! long as the member is itself, whoever was killed. What a memcached has taken is there for as long as its
//! process lives. And no key ever has another key's value.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use overlord_store::{EtcdConfig, EtcdStore, Fetch, Store as _};
use overlord_tests::{Memcached, Redis, Sandbox};
use serde_json::Value;
use tokio::task::JoinSet;

use crate::user::{ORDERS, PAGES};

/// Between two writes to the same server.
const PAUSE: Duration = Duration::from_millis(100);

/// Between two looks at who there is.
const LOOK: Duration = Duration::from_millis(500);

/// Writes to one server that are remembered, and read back after each round.
const MOST: usize = 600;

/// Keys read in one command.
const BATCH: usize = 500;

/// Who took a write.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Keeper {
    /// A member of a redis pool with its directory: uid, member, incarnation, address.
    Redis(String, u64, u64, String),
    /// A memcached process: address, pid.
    Memcached(String, String),
}

/// A cluster's name, and the info of an instance.
type Roster = Arc<Mutex<Vec<(&'static str, Value)>>>;

/// Writes that were acknowledged, by who took them.
type Taken = Arc<Mutex<BTreeMap<Keeper, Vec<u64>>>>;

/// The running writers.
pub(crate) struct Caches {
    taken: Taken,
    _writing: JoinSet<()>,
}

/// What was read back.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ReadBack {
    pub(crate) violations: Vec<String>,
    pub(crate) kept: usize,
    /// Writes to a keeper that is no more.
    pub(crate) gone: usize,
}

fn key(number: u64) -> String {
    format!("chaos:{number}")
}

/// The only value that the key ever has.
fn value(number: u64) -> String {
    format!("value of {number}")
}

impl Caches {
    pub(crate) fn start(sandbox: &Sandbox) -> Self {
        let config = EtcdConfig { endpoints: vec![sandbox.etcd()], ..EtcdConfig::default() };
        let store = EtcdStore::new(config).unwrap();
        let (roster, taken): (Roster, Taken) = Default::default();
        let mut writing = JoinSet::new();
        writing.spawn(look(store, Arc::clone(&roster)));
        // One lane for each member of either.
        for lane in 0..3 {
            writing.spawn(write(ORDERS, lane, Arc::clone(&roster), Arc::clone(&taken)));
            writing.spawn(write(PAGES, lane, Arc::clone(&roster), Arc::clone(&taken)));
        }
        Self { taken, _writing: writing }
    }

    /// Reads back what these instances have taken.
    pub(crate) async fn read_back(&self, infos: &[Value]) -> ReadBack {
        let taken = self.taken.lock().unwrap().clone();
        let mut found = ReadBack::default();
        for (keeper, numbers) in &taken {
            // Its address may be a server's of another kind by now, which does not understand the question.
            let here = infos
                .iter()
                .any(|info| address_of(info) == *address(keeper) && info["engine"] == engine(keeper));
            match keeper {
                _ if !here => found.gone += numbers.len(),
                Keeper::Redis(..) if infos.iter().any(|info| redis_keeper(info).as_ref() == Some(keeper)) => {
                    redis_has(address(keeper), numbers, &mut found).await;
                }
                Keeper::Memcached(address, pid) => memcached_has(address, pid, numbers, &mut found).await,
                Keeper::Redis(..) => found.gone += numbers.len(),
            }
        }
        found
    }
}

const fn engine(keeper: &Keeper) -> &'static str {
    match keeper {
        Keeper::Redis(..) => "redis",
        Keeper::Memcached(..) => "memcache",
    }
}

const fn address(keeper: &Keeper) -> &String {
    match keeper {
        Keeper::Redis(.., address) | Keeper::Memcached(address, _) => address,
    }
}

fn address_of(info: &Value) -> String {
    format!("{}:{}", info["ip"].as_str().unwrap_or_default(), info["port"])
}

fn redis_keeper(info: &Value) -> Option<Keeper> {
    let number = |name: &str| info[name].as_u64();
    Some(Keeper::Redis(
        info["uid"].as_str()?.to_owned(),
        number("member")?,
        number("incarnation")?,
        address_of(info),
    ))
}

/// Keeps the roster: etcd may be away at any time.
async fn look(store: EtcdStore, roster: Roster) {
    loop {
        let mut found = Vec::new();
        let mut whole = true;
        for name in [ORDERS, PAGES] {
            let prefix = format!("/overlord/clusters/{name}/instances/");
            let Ok(listing) = store.list(&prefix, Fetch::Values).await else {
                whole = false;
                continue;
            };
            let infos = listing.entries.iter().filter(|entry| entry.key.ends_with("/info"));
            found.extend(infos.filter_map(|entry| Some((name, serde_json::from_slice(&entry.value).ok()?))));
        }
        if whole {
            *roster.lock().unwrap() = found;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Writes to one member of a pool, wherever it is.
async fn write(cluster: &'static str, lane: u64, roster: Roster, taken: Taken) {
    let mut number = lane * 1_000_000_000 + u64::from(cluster == PAGES) * 500_000_000;
    loop {
        let info = {
            let roster = roster.lock().unwrap();
            roster.iter().find(|(name, info)| *name == cluster && info["member"] == lane).cloned()
        };
        if let Some((_, info)) = info {
            number += 1;
            let done = if cluster == ORDERS {
                to_redis(&info, number).await
            } else {
                to_memcached(&info, number).await
            };
            if let Ok(keeper) = done {
                let mut taken = taken.lock().unwrap();
                let own = taken.entry(keeper).or_default();
                if own.len() >= MOST {
                    own.remove(0);
                }
                own.push(number);
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// The write counts when the process is the one that the record names, before and after.
async fn to_redis(info: &Value, number: u64) -> Result<Keeper, String> {
    let told = |error: std::io::Error| error.to_string();
    let redis = Redis::at(address_of(info));
    let recorded = format!("process_id:{}", info["observed"]["pid"]);
    let same = || async {
        let server = redis.one(&["INFO", "server"]).await.map_err(told)?;
        if server.lines().any(|line| line == recorded) { Ok(()) } else { Err("another process".to_owned()) }
    };
    same().await?;
    redis.one(&["SET", &key(number), &value(number)]).await.map_err(told)?;
    same().await?;
    redis_keeper(info).ok_or_else(|| "no member".to_owned())
}

async fn to_memcached(info: &Value, number: u64) -> Result<Keeper, String> {
    let told = |error: std::io::Error| error.to_string();
    let address = address_of(info);
    let memcached = Memcached::at(&address);
    let before = memcached.stat("", "pid").await.map_err(told)?;
    memcached.set(&key(number), &value(number)).await.map_err(told)?;
    let after = memcached.stat("", "pid").await.map_err(told)?;
    if before == after && !before.is_empty() {
        Ok(Keeper::Memcached(address, before))
    } else {
        Err("another process".to_owned())
    }
}

async fn redis_has(address: &str, numbers: &[u64], read_back: &mut ReadBack) {
    for numbers in numbers.chunks(BATCH) {
        let keys: Vec<String> = numbers.iter().map(|number| key(*number)).collect();
        let words: Vec<&str> = std::iter::once("MGET").chain(keys.iter().map(String::as_str)).collect();
        match Redis::at(address).ask(&words).await {
            Err(error) => read_back.violations.push(format!("{address} is not read: {error}")),
            Ok(found) => {
                for (number, found) in numbers.iter().zip(found) {
                    judge(address, *number, Some(found).filter(|found| !found.is_empty()), true, read_back);
                }
            }
        }
    }
}

async fn memcached_has(address: &str, pid: &str, numbers: &[u64], read_back: &mut ReadBack) {
    let memcached = Memcached::at(address);
    let lives = memcached.stat("", "pid").await.is_ok_and(|now| now == *pid);
    // Of a process that is gone only a wrong value counts; a few are enough for that.
    let few = if lives { numbers.len() } else { 20 };
    for number in numbers.iter().rev().take(few) {
        match memcached.get(&key(*number)).await {
            Err(error) => read_back.violations.push(format!("{address} is not read: {error}")),
            Ok(found) => judge(address, *number, found, lives, read_back),
        }
    }
}

/// Whether what is found will do.
fn judge(address: &str, number: u64, found: Option<String>, must: bool, read_back: &mut ReadBack) {
    match found {
        Some(found) if found == value(number) => read_back.kept += 1,
        Some(found) => {
            read_back
                .violations
                .push(format!("{address}: {} has {found:?}, which is not its value", key(number)));
        }
        None if must => read_back.violations.push(format!("{address}: {} is lost", key(number))),
        None => read_back.gone += 1,
    }
}

#[test]
fn a_wrong_value_is_always_told_and_a_missing_one_when_its_keeper_lives() {
    let mut read_back = ReadBack::default();
    judge("a", 1, Some(value(1)), true, &mut read_back);
    judge("a", 2, None, false, &mut read_back);
    assert_eq!(read_back, ReadBack { violations: Vec::new(), kept: 1, gone: 1 });
    judge("a", 3, None, true, &mut read_back);
    judge("a", 4, Some(value(3)), false, &mut read_back);
    assert_eq!(read_back.violations.len(), 2);
    assert!(read_back.violations[0].contains("chaos:3 is lost"));
    assert!(read_back.violations[1].contains("chaos:4 has \"value of 3\""));
}
