//! A redis cluster of plain processes: nobody restarts them, and nobody decides anything but redis.

use std::{fs, path::PathBuf, process::Stdio, time::Duration};

use overlord_api::Address;
use overlord_engines::cluster::{NodeId, Seed, SeedNode, SlotSet, slot_ranges};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::cluster_faults;
use crate::{Network, eventually, eventually_within};

/// Each node has an ip of its own, so all have the same ports, below the ephemeral ones.
const PORT: u16 = 20_000;
const BUS_PORT: u16 = 30_000;

/// Plain processes that began with ready-made `nodes.conf` files. Dropped, they are killed.
#[derive(Debug)]
pub struct PlainCluster {
    masters: u16,
    processes: Vec<Option<Child>>,
    config: String,
    network: Network,
    dir: TempDir,
}

#[expect(clippy::expect_used, reason = "the tests' own way to fail")]
impl PlainCluster {
    /// Starts `masters` nodes, then as many replicas of each, and waits until all is well. `config`
    /// holds further lines for all.
    ///
    /// # Panics
    /// When it does not come up.
    pub async fn start(masters: u16, replicas: u16, config: &str) -> Self {
        let nodes = u32::from(masters * (1 + replicas));
        let dir = tempfile::Builder::new().prefix("overlord-plain-").tempdir().expect("temp dir");
        let network = Network::take();
        let processes = (0..nodes).map(|_| None).collect();
        let mut cluster = Self { masters, processes, config: config.to_owned(), network, dir };
        let id = |n: u32| NodeId::derive("plain", n, 0);
        let members: Vec<SeedNode> = (0..nodes)
            .map(|n| {
                let of = n.checked_sub(u32::from(masters)).map(|n| n / u32::from(replicas));
                SeedNode {
                    id: id(n),
                    address: Address::new(cluster.ip(n as usize).into(), PORT),
                    bus_port: Some(BUS_PORT),
                    master: of.map(id),
                    slots: slot_ranges(masters)
                        .get(n as usize)
                        .cloned()
                        .map_or_else(SlotSet::new, Into::into),
                    epoch: u64::from(n) + 1,
                }
            })
            .collect();
        let seed = Seed::new(&members).expect("a seed");
        for (n, member) in members.iter().enumerate() {
            fs::create_dir_all(cluster.folder(n)).expect("directory");
            let text = seed.nodes_conf(&member.id).expect("nodes.conf");
            fs::write(cluster.folder(n).join("nodes.conf"), text).expect("nodes.conf");
            cluster.boot(n);
        }
        cluster.well().await;
        cluster
    }

    fn ip(&self, n: usize) -> std::net::Ipv4Addr {
        self.network.ip(n as u8 + 1)
    }

    /// Where node `n` works.
    pub fn folder(&self, n: usize) -> PathBuf {
        self.dir.path().join(n.to_string())
    }

    /// `ip:port` of node `n`.
    pub fn address(&self, n: usize) -> String {
        format!("{}:{PORT}", self.ip(n))
    }

    /// All of them.
    pub fn addresses(&self) -> Vec<String> {
        (0..self.processes.len()).map(|n| self.address(n)).collect()
    }

    /// Starts node `n` with what is in its directory.
    ///
    /// # Panics
    /// When there is no process to be had.
    pub fn boot(&mut self, n: usize) {
        let log =
            fs::File::options().create(true).append(true).open(self.folder(n).join("log")).expect("log");
        let conf = format!(
            "bind {ip}\ncluster-announce-ip {ip}\nport {PORT}\ncluster-port {BUS_PORT}\ncluster-enabled yes\n\
             cluster-config-file nodes.conf\nprotected-mode no\nrepl-diskless-sync-delay 0\nsave \"\"\n{}\n",
            self.config,
            ip = self.ip(n),
        );
        fs::write(self.folder(n).join("redis.conf"), conf).expect("redis.conf");
        let child = Command::new("redis-server")
            .arg("redis.conf")
            .current_dir(self.folder(n))
            .stdin(Stdio::null())
            .stdout(log)
            .kill_on_drop(true)
            .spawn()
            .expect("redis-server");
        self.processes[n] = Some(child);
    }

    /// Kills node `n` with SIGKILL.
    ///
    /// # Panics
    /// When it cannot be waited for.
    pub async fn kill(&mut self, n: usize) {
        if let Some(mut child) = self.processes[n].take() {
            child.kill().await.expect("kill a node");
        }
    }

    /// Waits until all is well.
    ///
    /// # Panics
    /// When it does not become so.
    pub async fn well(&self) {
        let (addresses, masters) = (self.addresses(), usize::from(self.masters));
        eventually("all is well", || cluster_faults(&addresses, masters)).await;
    }

    /// Waits until the slots of shard 0, 1, ... of forming are served by that node.
    ///
    /// # Panics
    /// When that does not come to be.
    pub async fn serves(&self, n: usize) {
        let address = self.address(n);
        eventually_within(Duration::from_secs(60), &format!("{address} serves"), || async {
            let nodes = super::cluster_nodes(&address).await.map_err(|error| error.to_string())?;
            if nodes.iter().any(|node| node.address == address && node.serves()) {
                Ok(())
            } else {
                Err(format!("{nodes:?}"))
            }
        })
        .await;
    }
}
