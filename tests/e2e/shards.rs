//! A redis cluster in a sandbox: who is master and replica of which shard, and whether all is well.

use std::{collections::BTreeSet, time::Duration};

use overlord_engines::cluster::{key_slot, slot_ranges};
use overlord_reconcile::{Clock as _, SystemClock};
use overlord_tests::{
    ClusterClient, ClusterNode, Redis, Sandbox, cluster_faults, cluster_nodes, eventually, eventually_within,
    redis_cli_check,
};
use serde_json::Value;

use crate::manifest::address;

/// How long healing may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// A declared cluster.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cluster {
    pub(crate) name: &'static str,
    pub(crate) masters: u16,
}

/// The infos of those who serve the same slots, by the roles they have now.
#[derive(Debug, Clone)]
pub(crate) struct Shard {
    pub(crate) number: u64,
    pub(crate) master: Value,
    pub(crate) replicas: Vec<Value>,
}

impl Cluster {
    /// Waits until all is well as the controller, the nodes and `redis-cli` say; the infos.
    pub(crate) async fn well(&self, sandbox: &Sandbox) -> Vec<Value> {
        let name = self.name;
        let look = || async {
            let infos = sandbox.settled(&[name]).await;
            let nodes = self.agreed(&infos).await?;
            // What executors told of their own accord is what the nodes say.
            for info in &infos {
                let node = nodes.iter().find(|node| *node.id == info["nodeId"]).ok_or("no node")?;
                let (role, link) =
                    if node.serves() { ("master", None) } else { ("slave", Some(Value::from("up"))) };
                let observed = &info["observed"];
                if observed["role"] != role || link.is_some_and(|link| observed["link"] != link) {
                    return Err(format!("it is told of {} as {role}: {info}", node.address));
                }
            }
            redis_cli_check(&address(&infos[0])).await?;
            Ok(infos)
        };
        // Longer than what it waits for inside, whose message says more.
        eventually_within(2 * PATIENCE, &format!("{name} is well"), look).await
    }

    /// Waits until all is well among these instances, as far as they and `redis-cli` say.
    pub(crate) async fn serves(&self, infos: &[Value]) {
        let look = || async {
            self.agreed(infos).await?;
            redis_cli_check(&address(&infos[0])).await
        };
        eventually_within(PATIENCE, &format!("{} serves with all its nodes", self.name), look).await;
    }

    /// The nodes, when these instances are all there is, by their ids too, and all is well.
    async fn agreed(&self, infos: &[Value]) -> Result<Vec<ClusterNode>, String> {
        let addresses: Vec<String> = infos.iter().map(address).collect();
        let nodes = cluster_faults(&addresses, usize::from(self.masters)).await?;
        for info in infos {
            let node = nodes.iter().find(|node| node.address == address(info)).ok_or("no node")?;
            if *node.id != info["nodeId"] || node.bus_port.parse().ok() != info["busPort"].as_u64() {
                return Err(format!("{node:?} is not {info}"));
            }
        }
        Ok(nodes)
    }

    /// The shards of these instances, in order.
    pub(crate) async fn shards(&self, infos: &[Value]) -> Vec<Shard> {
        let nodes = cluster_nodes(&address(&infos[0])).await.unwrap();
        let serves = |info: &Value| nodes.iter().any(|node| *node.id == info["nodeId"] && node.serves());
        (0..u64::from(self.masters))
            .map(|number| {
                let own = infos.iter().filter(|info| info["shard"] == number).cloned();
                let (mut masters, replicas): (Vec<_>, Vec<_>) = own.partition(serves);
                assert_eq!(masters.len(), 1, "of shard {number}: {nodes:?}");
                Shard { number, master: masters.remove(0), replicas }
            })
            .collect()
    }

    /// One shard by what its members say of themselves, once one of them is master and the others follow.
    pub(crate) async fn shard(&self, infos: &[Value], number: u64) -> Shard {
        eventually_within(PATIENCE, &format!("shard {number} is whole"), || async {
            let (mut masters, mut replicas) = (Vec::new(), Vec::new());
            for info in infos.iter().filter(|info| info["shard"] == number) {
                let role =
                    Redis::at(address(info)).one(&["ROLE"]).await.map_err(|error| error.to_string())?;
                if role == "master" { &mut masters } else { &mut replicas }.push(info.clone());
            }
            if masters.len() != 1 {
                return Err(format!("masters: {masters:?}"));
            }
            Ok(Shard { number, master: masters.remove(0), replicas })
        })
        .await
    }

    /// Waits until slots of a shard take writes again, as seen from these nodes; how long that took.
    pub(crate) async fn takes_writes(&self, nodes: &[String], shard: u64) -> Duration {
        let clock = SystemClock::new();
        let range = slot_ranges(self.masters)[shard as usize].clone();
        let mut keys = (0..100_000).map(|n| format!("probe-{n}"));
        let key = keys.find(|key| range.contains(&key_slot(key.as_bytes())));
        let key = key.unwrap();
        let client = tokio::sync::Mutex::new(ClusterClient::new(nodes, shard));
        eventually_within(PATIENCE, &format!("shard {shard} takes writes"), || async {
            client.lock().await.ask(&["SET", &key, "x"]).await.map_err(|error| error.to_string())
        })
        .await;
        clock.monotonic()
    }
}

impl Shard {
    /// All of them.
    pub(crate) fn members(&self) -> impl Iterator<Item = &Value> {
        std::iter::once(&self.master).chain(&self.replicas)
    }
}

/// The process that listens there now.
pub(crate) async fn process_at(address: &str) -> Result<u32, String> {
    let info = Redis::at(address).one(&["INFO", "server"]).await.map_err(|error| error.to_string())?;
    let pid = info.lines().find_map(|line| line.strip_prefix("process_id:"));
    pid.and_then(|pid| pid.parse().ok()).ok_or(info)
}

/// Waits until another process than `old` listens there.
pub(crate) async fn restarted(address: &str, old: u32) {
    eventually_within(PATIENCE, &format!("{address} is restarted"), || async {
        let now = process_at(address).await?;
        if now == old { Err(format!("{old} is still there")) } else { Ok(()) }
    })
    .await;
}

/// Waits until nobody of these knows a node id, in whatever state.
pub(crate) async fn forgotten(infos: &[Value], id: &str) {
    eventually(&format!("nobody knows {id}"), || async {
        for info in infos {
            let nodes = cluster_nodes(&address(info)).await.map_err(|error| error.to_string())?;
            if nodes.iter().any(|node| node.id == id) {
                return Err(format!("{} knows {nodes:?}", address(info)));
            }
        }
        Ok(())
    })
    .await;
}

/// The hosts of some instances.
pub(crate) fn hosts<'i>(infos: impl IntoIterator<Item = &'i Value>) -> BTreeSet<String> {
    infos.into_iter().map(|info| info["host"].as_str().unwrap().to_owned()).collect()
}
