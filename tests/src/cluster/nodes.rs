//! What the nodes of a cluster say of each other, and what `redis-cli` thinks of it.

use std::{collections::BTreeSet, io};

use tokio::process::Command;

use crate::Redis;

/// A line of `CLUSTER NODES`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterNode {
    /// Its id.
    pub id: String,
    /// `ip:port`
    pub address: String,
    /// The port of its bus.
    pub bus_port: String,
    /// As they are written, without `myself`.
    pub flags: Vec<String>,
    /// A replica's master.
    pub master: Option<String>,
    /// Whether the one who was asked is connected with it.
    pub connected: bool,
    /// Its slots as they are written.
    pub slots: Vec<String>,
}

impl ClusterNode {
    /// Whether it is a master with slots.
    pub fn serves(&self) -> bool {
        self.has("master") && !self.slots.is_empty()
    }

    /// Whether it has a flag.
    pub fn has(&self, flag: &str) -> bool {
        self.flags.iter().any(|own| own == flag)
    }

    fn parse(line: &str) -> Option<Self> {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let [id, address, flags, master, _, _, _, state, slots @ ..] = columns.as_slice() else {
            return None;
        };
        let (address, bus) = address.split_once('@')?;
        let owned = |text: &&str| (*text).to_owned();
        Some(Self {
            id: owned(id),
            address: address.to_owned(),
            bus_port: bus.split(',').next().unwrap_or_default().to_owned(),
            flags: flags.split(',').filter(|flag| *flag != "myself").map(ToOwned::to_owned).collect(),
            master: (*master != "-").then(|| owned(master)),
            connected: *state == "connected",
            slots: slots.iter().map(owned).collect(),
        })
    }
}

/// The nodes as the one at `address` knows them, by id.
///
/// # Errors
/// When it does not answer, or not with nodes.
pub async fn cluster_nodes(address: &str) -> io::Result<Vec<ClusterNode>> {
    let text = Redis::at(address).one(&["CLUSTER", "NODES"]).await?;
    let nodes: Option<Vec<_>> = text.lines().map(ClusterNode::parse).collect();
    let mut nodes = nodes.ok_or_else(|| io::Error::other(format!("{address}: {text}")))?;
    nodes.sort_by(|one, other| one.id.cmp(&other.id));
    Ok(nodes)
}

/// The nodes of a cluster in which all is well: these addresses are all there is, everybody says `ok` and
/// 16384 and knows the same, there are so many masters with slots, each with as many replicas as the next,
/// and their links are up.
///
/// # Errors
/// What is not well.
pub async fn cluster_faults(addresses: &[String], masters: usize) -> Result<Vec<ClusterNode>, String> {
    let wanted: BTreeSet<&str> = addresses.iter().map(String::as_str).collect();
    let mut agreed: Option<Vec<ClusterNode>> = None;
    for address in addresses {
        let told = |error: io::Error| format!("{address}: {error}");
        let redis = Redis::at(address);
        let info = redis.one(&["CLUSTER", "INFO"]).await.map_err(told)?;
        let known = format!("cluster_known_nodes:{}", addresses.len());
        for line in ["cluster_state:ok", "cluster_slots_ok:16384", "cluster_slots_assigned:16384", &known] {
            if !info.lines().any(|found| found == line) {
                return Err(format!("{address}: no {line} in {info}"));
            }
        }
        let nodes = cluster_nodes(address).await.map_err(told)?;
        let found: BTreeSet<&str> = nodes.iter().map(|node| node.address.as_str()).collect();
        if found != wanted || nodes.len() != addresses.len() {
            return Err(format!("{address} knows {nodes:?}, wanted are {wanted:?}"));
        }
        if let Some(node) = nodes.iter().find(|node| node.flags.len() != 1 || !node.connected) {
            return Err(format!("{address} says {node:?}"));
        }
        let replication = redis.one(&["INFO", "replication"]).await.map_err(told)?;
        if replication.contains("role:slave") && !replication.contains("master_link_status:up") {
            return Err(format!("{address}: {replication}"));
        }
        if let Some(agreed) = agreed.as_ref().filter(|agreed| **agreed != nodes) {
            return Err(format!("{address} says {nodes:?}, not {agreed:?}"));
        }
        agreed = Some(nodes);
    }
    let nodes = agreed.unwrap_or_default();
    let owners: Vec<&ClusterNode> = nodes.iter().filter(|node| node.serves()).collect();
    if owners.len() != masters {
        return Err(format!("{} masters with slots, not {masters}: {nodes:?}", owners.len()));
    }
    let replicas = (addresses.len() - masters) / masters.max(1);
    for owner in owners {
        let own = nodes.iter().filter(|node| node.master.as_ref() == Some(&owner.id)).count();
        if own != replicas {
            return Err(format!("{} has {own} replicas, not {replicas}: {nodes:?}", owner.address));
        }
    }
    Ok(nodes)
}

/// `redis-cli --cluster check`, as a person would ask.
///
/// # Errors
/// What it says, when that is not that all is well.
pub async fn redis_cli_check(address: &str) -> Result<(), String> {
    let output = Command::new("redis-cli")
        .args(["--cluster", "check", address])
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|error| format!("redis-cli: {error}"))?;
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let lines = ["[OK] All nodes agree about slots configuration.", "[OK] All 16384 slots covered."];
    let clean = output.status.success()
        && lines.iter().all(|line| text.contains(line))
        && !["[ERR]", "[WARNING]", "***"].iter().any(|word| text.contains(word));
    if clean { Ok(()) } else { Err(format!("{}\n{text}", output.status)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_as_redis_writes_it() {
        let (one, other) = ("1".repeat(40), "2".repeat(40));
        let line =
            format!("{one} 127.0.0.1:7101@17101,host,shard-id=x myself,slave,fail? {other} 0 1 2 connected");
        let node = ClusterNode::parse(&line).unwrap();
        assert_eq!((node.address.as_str(), node.bus_port.as_str()), ("127.0.0.1:7101", "17101"));
        assert_eq!((node.master.as_ref(), node.connected), (Some(&other), true));
        assert!(node.has("fail?") && !node.has("fail") && !node.serves());
        let line = format!("{one} 127.0.0.1:7101@17101 master - 0 1 2 disconnected 0-7 9 [10->-{other}]");
        let node = ClusterNode::parse(&line).unwrap();
        assert!(node.serves() && !node.connected && node.master.is_none());
        assert_eq!(node.slots[..2], ["0-7", "9"]);
        assert_eq!(ClusterNode::parse("ERR no"), None);
    }
}
