//! What the specs say, and whether the world is that.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use overlord_tests::{Memcached, Redis, Sandbox, cluster_faults, eventually_within};
use rand::{Rng as _, rngs::SmallRng, seq::IndexedRandom as _};
use serde_json::Value;

use super::oracle::faults;
use crate::manifest::{address, memcache, redis, redis_cluster};

/// How long it may take on a busy machine until the world is what the specs say.
const PATIENCE: Duration = Duration::from_secs(240);

/// Masters of the redis cluster, each with a replica.
const MASTERS: u16 = 3;

/// Values of `maxmemory-policy`, which servers take while they run.
const POLICIES: [&str; 3] = ["allkeys-lru", "allkeys-lfu", "allkeys-random"];

/// The clusters that come and go.
const NAMES: [&str; 4] = ["orders", "quick", "pages", "ring"];

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

/// All specs.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    declared: BTreeMap<&'static str, Declared>,
}

/// What is put under a cluster's key.
fn manifest(name: &str, declared: &Declared) -> String {
    let Declared { members, policy } = declared;
    let config = format!("  config: {{maxmemory-policy: {policy}}}\n");
    // Gives up a member whose agent is away sooner than the others do.
    let quick = "  recovery: {unreachableAfter: 1s, replaceAfter: 2s}\n";
    let nodes = format!("  config: {{maxmemory-policy: {policy}, cluster-node-timeout: \"2000\"}}\n");
    match name {
        "orders" => redis(name, *members, &config),
        "quick" => redis(name, *members, &format!("{config}{quick}")),
        "ring" => redis_cluster(name, MASTERS, 1, &nodes),
        _ => memcache(name, *members, ""),
    }
}

impl Wanted {
    /// One change, by hand: there may be no controller that listens. What it is.
    pub(crate) async fn change(&mut self, sandbox: &Sandbox, rng: &mut SmallRng) -> String {
        let name = *NAMES.choose(rng).unwrap();
        let key = format!("/overlord/config/{name}");
        if self.declared.contains_key(name) && rng.random_bool(0.25) {
            self.declared.remove(name);
            sandbox.etcdctl(&["del", &key]).await;
            return format!("{name} is deleted");
        }
        let members = if name == "ring" { u32::from(MASTERS) * 2 } else { rng.random_range(1..=4) };
        let declared = Declared { members, policy: POLICIES.choose(rng).unwrap() };
        sandbox.etcdctl(&["put", &key, &manifest(name, &declared)]).await;
        let said = match self.declared.get(name) {
            Some(before) => format!("{name}: {before} -> {declared}"),
            None => format!("{name}: {declared}"),
        };
        self.declared.insert(name, declared);
        said
    }

    /// Deletes every cluster, one after the other: many at once would be taken for a mistake.
    pub(crate) async fn delete_all(&mut self, sandbox: &Sandbox) {
        while let Some((name, _)) = self.declared.pop_first() {
            sandbox.etcdctl(&["del", &format!("/overlord/config/{name}")]).await;
        }
    }

    /// Waits until the world is what the specs say, and nothing else.
    pub(crate) async fn reached(&self, sandbox: &Sandbox, when: &str) {
        let what = format!("{when}: the world is {:?}", self.declared);
        eventually_within(PATIENCE, &what, || async {
            let names: Vec<&str> = self.declared.keys().copied().collect();
            let infos = sandbox.settled(&names).await;
            let told = faults(sandbox, &infos).await;
            if !told.is_empty() {
                return Err(told.join("; "));
            }
            for (name, declared) in &self.declared {
                let own: Vec<&Value> = infos.iter().filter(|info| of(info, name)).collect();
                self.serves(sandbox, name, declared, &own).await?;
            }
            Ok(())
        })
        .await;
    }

    /// One cluster: as many members as declared, each is itself, serves, and runs with the declared value.
    async fn serves(
        &self,
        sandbox: &Sandbox,
        name: &str,
        declared: &Declared,
        infos: &[&Value],
    ) -> Result<(), String> {
        let members: Vec<u64> = infos.iter().filter_map(|info| info["member"].as_u64()).collect();
        let distinct = members.iter().collect::<BTreeSet<_>>().len();
        if members.len() as u64 != u64::from(declared.members) || distinct != members.len() {
            return Err(format!("{name} has members {members:?}"));
        }
        let told = |error: std::io::Error| error.to_string();
        for info in infos {
            let address = address(info);
            if name == "pages" {
                // Nothing is stored: what holds keys is not removed without a person's word.
                Memcached::at(&address).get("a").await.map_err(told)?;
                continue;
            }
            let policy = Redis::at(&address).config("maxmemory-policy").await.map_err(told)?;
            if policy != declared.policy {
                return Err(format!("{address} runs with {policy}"));
            }
        }
        if name == "ring" {
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
}

/// Whether an info belongs to that cluster: its members' names on the ring begin with it.
fn of(info: &Value, name: &str) -> bool {
    let alias = info["alias"].as_str().unwrap_or_default();
    alias.strip_prefix(name).is_some_and(|rest| rest.starts_with('-'))
}
