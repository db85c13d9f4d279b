//! The nodes of a redis cluster, started by hand: plain processes, and what they answer.

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use overlord_api::Address;
use overlord_engines::cluster::{NodeId, Seed, SeedNode, SlotSet, slot_ranges};
use overlord_reconcile::Clock as _;
use overlord_tests::Redis;
use tokio::time::{sleep, timeout};

use crate::{
    Failure,
    floor::{Network, Plain},
    serving::serves,
    specs::{Pool, Setup, program},
};

/// As many as a sandbox has agents.
const HOSTS: u8 = 6;

/// Between two looks at all that are not well yet. More would take the processor from those it asks.
const LOOK: Duration = Duration::from_millis(20);

/// All looks.
const LIMIT: Duration = Duration::from_secs(300);

/// How the nodes become a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Each starts with a file in which the whole cluster is.
    Files,
    /// Each starts alone, and `redis-cli --cluster create` introduces them.
    Create,
}

/// Masters first, then a replica of each in the same order; with [`Way::Create`] redis-cli decides who is what.
#[derive(Debug)]
pub(crate) struct Nodes {
    pub(crate) servers: Vec<Plain>,
    _network: Network,
}

impl Nodes {
    /// Starts all processes, one after the other as fast as it goes, and does not wait for them.
    pub(crate) fn start(setup: &Setup, pool: &Pool, way: Way) -> Result<Self, Failure> {
        let root = setup.folder()?;
        let network = Network::take()?;
        let masters = u16::try_from(pool.instances / 2)?;
        let members = members(&network, masters);
        let seed = Seed::new(&members)?;
        let mut servers = Vec::with_capacity(members.len());
        for member in &members {
            let text = match way {
                Way::Files => Some(seed.nodes_conf(&member.id)?),
                Way::Create => None,
            };
            let dir = root.join(member.address.port.to_string());
            servers.push(Plain::start(setup, pool, &dir, member.address, text.as_deref())?);
        }
        Ok(Self { servers, _network: network })
    }

    /// Where they are.
    pub(crate) fn addresses(&self) -> Vec<Address> {
        self.servers.iter().map(|server| server.address).collect()
    }

    /// The one at this address.
    pub(crate) fn server(&mut self, address: Address) -> Result<&mut Plain, Failure> {
        let found = self.servers.iter_mut().find(|server| server.address == address);
        found.ok_or_else(|| format!("{address} is none of these nodes").into())
    }

    /// What a person would do by hand.
    pub(crate) async fn create(&self, setup: &Setup) -> Result<(), Failure> {
        for server in &self.servers {
            serves(&setup.clock, server.kind, server.address).await?;
        }
        let mut command = Command::new(program("redis-cli")?);
        command.args(["--cluster", "create"]).args(self.addresses().iter().map(Address::to_string));
        command.args(["--cluster-replicas", "1", "--cluster-yes"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // Not to be left behind when this is given up.
        let mut command = tokio::process::Command::from(command);
        let output = timeout(LIMIT, command.kill_on_drop(true).output()).await??;
        if output.status.success() {
            return Ok(());
        }
        let told = String::from_utf8_lossy(&output.stdout);
        let last = told.lines().last().unwrap_or_default();
        Err(format!("redis-cli --cluster create: {}: {last}", output.status).into())
    }
}

/// Masters and replicas, a replica on the host after its master's.
fn members(network: &Network, masters: u16) -> Vec<SeedNode> {
    // Any uid will do: each run has a network of its own.
    let id = |n| NodeId::derive("bench", n, 0);
    let address = |port: u16, host: u16| {
        let host = network.host(1 + (host % u16::from(HOSTS)) as u8);
        Address::new(host.into(), 20_000 + port)
    };
    let ranges = slot_ranges(masters);
    let mut members: Vec<SeedNode> = (0..masters)
        .zip(ranges)
        .map(|(n, slots)| SeedNode {
            id: id(n.into()),
            address: address(n, n),
            bus_port: None,
            master: None,
            slots: slots.into(),
            epoch: u64::from(n) + 1,
        })
        .collect();
    members.extend((0..masters).map(|n| SeedNode {
        id: id(u32::from(masters + n)),
        address: address(masters + n, n + 1),
        bus_port: None,
        master: Some(id(n.into())),
        slots: SlotSet::new(),
        epoch: 0,
    }));
    members
}

/// Waits until every node says that the cluster is ok and has so many nodes, half of them replicas whose link
/// to their master is up. When that was, on the clock.
pub(crate) async fn formed(setup: &Setup, addresses: &[Address]) -> Result<Duration, Failure> {
    let mut waiting = addresses.to_vec();
    let mut replicas = 0;
    let looking = async {
        loop {
            let mut rest = Vec::new();
            for address in waiting {
                match well(address, addresses.len()).await {
                    Some(role) => replicas += usize::from(role == Role::Replica),
                    None => rest.push(address),
                }
            }
            if rest.is_empty() && replicas * 2 == addresses.len() {
                return;
            }
            if rest.is_empty() {
                // Roles have changed between one look and another.
                (rest, replicas) = (addresses.to_vec(), 0);
            }
            waiting = rest;
            sleep(LOOK).await;
        }
    };
    timeout(LIMIT, looking).await.map_err(|_| {
        format!("the cluster of {} nodes is not well after {} s", addresses.len(), LIMIT.as_secs())
    })?;
    Ok(setup.clock.monotonic())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Master,
    Replica,
}

/// The role of a node that has nothing to complain about.
async fn well(address: Address, nodes: usize) -> Option<Role> {
    let redis = Redis::at(address.to_string());
    let info = redis.one(&["CLUSTER", "INFO"]).await.ok()?;
    let known = format!("cluster_known_nodes:{nodes}");
    for wanted in ["cluster_state:ok", "cluster_slots_ok:16384", known.as_str()] {
        info.lines().find(|line| *line == wanted)?;
    }
    let replication = redis.one(&["INFO", "replication"]).await.ok()?;
    let says = |wanted: &str| replication.lines().any(|line| line == wanted);
    if says("role:master") {
        Some(Role::Master)
    } else {
        says("master_link_status:up").then_some(Role::Replica)
    }
}
