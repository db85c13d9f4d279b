//! What a user declares while everything breaks, and whether the world is that.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use overlord_tests::{
    Memcached, Redis, Sandbox, cluster_faults, eventually, faults,
    manifest::{address, memcache, redis, redis_cluster},
};
use rand::{Rng as _, rngs::SmallRng, seq::IndexedRandom as _};
use serde_json::Value;

/// How long a command of the user may take: who is asked may be stopped.
const PATIENCE: Duration = Duration::from_secs(15);

/// Masters of the redis cluster, each with a replica.
pub(crate) const MASTERS: u16 = 3;

/// The redis cluster, the redis pool and the memcache pool that stay, and are written to.
pub(crate) const RING: &str = "ring";
pub(crate) const ORDERS: &str = "orders";
pub(crate) const PAGES: &str = "pages";

/// Pools that come and go. The first gives up members of lost agents soon.
pub(crate) const QUICK: &str = "quick";
const SPARE: &str = "spare";

/// Values of `maxmemory-policy`, which servers take while they run.
const POLICIES: [&str; 3] = ["allkeys-lru", "allkeys-lfu", "allkeys-random"];

/// Where a change is made.
const NAMES: [&str; 6] = [ORDERS, RING, QUICK, QUICK, SPARE, SPARE];

/// One cluster as it is declared.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Declared {
    members: u32,
    policy: &'static str,
}

impl fmt::Display for Declared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} with {}", self.members, self.policy)
    }
}

/// All that is declared.
#[derive(Debug, Default)]
pub(crate) struct User {
    declared: BTreeMap<&'static str, Declared>,
}

fn manifest(name: &str, declared: &Declared) -> String {
    let Declared { members, policy } = declared;
    let config = format!("  config: {{maxmemory-policy: {policy}}}\n");
    let kept = "  persistence: {mode: aof}\n";
    let quick = "  recovery: {unreachableAfter: 1s, replaceAfter: 2s}\n";
    let nodes = format!("  config: {{maxmemory-policy: {policy}, cluster-node-timeout: \"2000\"}}\n");
    match name {
        ORDERS => redis(name, *members, &format!("{config}{kept}")),
        QUICK => redis(name, *members, &format!("{config}{quick}")),
        RING => redis_cluster(name, MASTERS, 1, &nodes),
        _ => memcache(name, *members, ""),
    }
}

fn key(name: &str) -> String {
    format!("/overlord/config/{name}")
}

impl User {
    /// Declares what stays.
    pub(crate) async fn begin(&mut self, sandbox: &Sandbox) {
        for (name, members) in [(ORDERS, 3), (PAGES, 3), (RING, u32::from(MASTERS) * 2)] {
            self.declared.insert(name, Declared { members, policy: POLICIES[0] });
        }
        self.assert_declared(sandbox).await;
    }

    /// One change: at one of these controllers, or by hand where none answers. What it is.
    pub(crate) async fn change(&mut self, sandbox: &Sandbox, apis: &[String], rng: &mut SmallRng) -> String {
        let name = *NAMES.choose(rng).unwrap();
        let api = apis.choose(rng).filter(|_| rng.random_bool(0.5));
        let goes = [QUICK, SPARE].contains(&name);
        let before = self.declared.get(name).cloned();
        if goes && before.is_some() && rng.random_bool(0.3) {
            self.declared.remove(name);
            let done = match api {
                Some(api) => asked(sandbox, &["delete", "cluster", name, "--yes", "--server", api], "").await,
                None => false,
            };
            if !done {
                by_hand(sandbox, &["del", &key(name)]).await;
            }
            return format!("user: {name} is deleted{}", how(done));
        }
        let members = match &before {
            Some(before) if !goes => before.members,
            _ => rng.random_range(1..=4),
        };
        let declared = Declared { members, policy: POLICIES.choose(rng).unwrap() };
        let text = manifest(name, &declared);
        let done = match api {
            Some(api) => asked(sandbox, &["apply", "-f", "-", "--server", api], &text).await,
            None => false,
        };
        if !done {
            by_hand(sandbox, &["put", &key(name), &text]).await;
        }
        let from = before.map_or_else(|| "new".to_owned(), |before| before.to_string());
        let said = format!("user: {name}: {from} -> {declared}{}", how(done));
        self.declared.insert(name, declared);
        said
    }

    /// A change that needs a launch.
    pub(crate) async fn grow(&mut self, sandbox: &Sandbox) -> String {
        let before = self.declared.get(QUICK).map_or(0, |declared| declared.members);
        // As many as come with the largest change, and one more: each time there is something to launch.
        let members = if before > 4 { 1 } else { before + 1 };
        let name = if before > 4 { SPARE } else { QUICK };
        if before > 4 {
            self.declared.remove(QUICK);
            by_hand(sandbox, &["del", &key(QUICK)]).await;
        }
        let members = members.max(self.declared.get(name).map_or(0, |declared| declared.members + 1));
        let declared = Declared { members, policy: POLICIES[0] };
        by_hand(sandbox, &["put", &key(name), &manifest(name, &declared)]).await;
        let said = format!("user: {name} grows to {members}");
        self.declared.insert(name, declared);
        said
    }

    /// Looks after all changes: one that was given up may have come late, and undone a later one.
    pub(crate) async fn assert_declared(&self, sandbox: &Sandbox) {
        let found: BTreeMap<String, String> =
            sandbox.etcd_list("/overlord/config/").await.into_iter().collect();
        for (name, declared) in &self.declared {
            let text = manifest(name, declared);
            if found.get(&key(name)) != Some(&text) {
                by_hand(sandbox, &["put", &key(name), &text]).await;
            }
        }
        let wanted: BTreeSet<String> = self.declared.keys().map(|name| key(name)).collect();
        for extra in found.keys().filter(|found| !wanted.contains(*found)) {
            by_hand(sandbox, &["del", extra]).await;
        }
    }

    /// Deletes every cluster, one after the other: many at once would be taken for a mistake.
    pub(crate) async fn delete_all(&mut self, sandbox: &Sandbox) {
        while let Some((name, _)) = self.declared.pop_first() {
            by_hand(sandbox, &["del", &key(name)]).await;
        }
    }

    /// Whether the world is what is declared, and nothing else; the infos.
    pub(crate) async fn reached(&self, sandbox: &Sandbox) -> Result<Vec<Value>, String> {
        let names: Vec<&str> = self.declared.keys().copied().collect();
        let infos = sandbox.is_settled(&names).await?;
        let told = faults(sandbox, &infos).await;
        if !told.is_empty() {
            return Err(told.join("; "));
        }
        for (name, declared) in &self.declared {
            let own: Vec<&Value> = infos.iter().filter(|info| of(info, name)).collect();
            serves(sandbox, name, declared, &own).await?;
        }
        Ok(infos)
    }
}

/// One cluster: as many members as declared, each is itself, serves, and runs with the declared value.
async fn serves(sandbox: &Sandbox, name: &str, declared: &Declared, infos: &[&Value]) -> Result<(), String> {
    let members: Vec<u64> = infos.iter().filter_map(|info| info["member"].as_u64()).collect();
    let distinct = members.iter().collect::<BTreeSet<_>>().len();
    if members.len() as u64 != u64::from(declared.members) || distinct != members.len() {
        return Err(format!("{name} has members {members:?}"));
    }
    let told = |error: std::io::Error| error.to_string();
    for info in infos {
        let address = address(info);
        if [PAGES, SPARE].contains(&name) {
            Memcached::at(&address).get("a").await.map_err(told)?;
            continue;
        }
        let policy = Redis::at(&address).config("maxmemory-policy").await.map_err(told)?;
        if policy != declared.policy {
            return Err(format!("{address} runs with {policy}"));
        }
    }
    if name == RING {
        let addresses: Vec<String> = infos.iter().map(|info| address(info)).collect();
        cluster_faults(&addresses, usize::from(MASTERS)).await?;
    }
    let endpoints = sandbox.endpoints(name).await;
    let served: BTreeSet<String> = infos.iter().map(|info| address(info)).collect();
    if endpoints.iter().cloned().collect::<BTreeSet<_>>() != served {
        return Err(format!("{name} is published as {endpoints:?}"));
    }
    let record = sandbox.etcd_json(&format!("/overlord/clusters/{name}/record")).await;
    if !record["tombstones"].is_null() {
        return Err(format!("{name} has tombstones: {record}"));
    }
    Ok(())
}

/// Whether an info belongs to that cluster: its members' names on the ring begin with it.
pub(crate) fn of(info: &Value, name: &str) -> bool {
    let alias = info["alias"].as_str().unwrap_or_default();
    alias.strip_prefix(name).is_some_and(|rest| rest.starts_with('-'))
}

const fn how(by_api: bool) -> &'static str {
    if by_api { ", by a controller's API" } else { ", by hand" }
}

/// Whether a command of the user succeeds in time.
async fn asked(sandbox: &Sandbox, arguments: &[&str], input: &str) -> bool {
    let asked = tokio::time::timeout(PATIENCE, sandbox.run_with(arguments, input)).await;
    asked.is_ok_and(|output| output.status.success())
}

/// `etcdctl`, until etcd answers.
async fn by_hand(sandbox: &Sandbox, arguments: &[&str]) {
    eventually(&format!("etcdctl {arguments:?}"), || async {
        let output = tokio::process::Command::new("etcdctl")
            .env("ETCDCTL_API", "3")
            .arg(format!("--endpoints={}", sandbox.etcd()))
            .args(arguments)
            .kill_on_drop(true)
            .output()
            .await
            .map_err(|error| error.to_string())?;
        if output.status.success() {
            Ok(())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    })
    .await;
}
