//! What a pass asks the nodes of a cluster: what each says of the cluster and of its replication. Asked only
//! while there is something to do, or now and then.

use std::{collections::BTreeMap, fmt, time::Duration};

use async_trait::async_trait;
use futures::{StreamExt as _, stream};
use overlord_api::Address;
use overlord_engines::cluster::{NodeId, Replication, Topology, View};

use crate::Engines;

/// Nodes asked at once.
const ASKED_AT_ONCE: usize = 32;

/// How long a node may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// The same for one whose agent is lost: all others wait for it.
const LOST_PATIENCE: Duration = Duration::from_millis(200);

/// All of them together may take so long: a pass over a cluster that hangs must end, as others wait for its place.
const LOOKING: Duration = Duration::from_secs(10);

/// What came of asking one node.
#[derive(Debug)]
pub enum Look {
    /// It told.
    Answered(Box<Answer>),
    /// Nobody listens at its port: there is no process.
    Refused,
    /// It reads its data from disk, and says nothing else until it has.
    Loading,
    /// Another node answers at its address.
    Other(NodeId),
    /// Nobody knows: no answer, or none that can be read.
    Silent(String),
}

/// What a node says.
#[derive(Debug)]
pub struct Answer {
    /// Of its cluster.
    pub view: View,
    /// Of its replication.
    pub replication: Replication,
}

/// An order to one node. Done twice it does no more than once.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Command {
    /// To a replica: take over from its master; `force` when that one is dead.
    Failover {
        /// See above.
        force: bool,
    },
    /// To a replica: take over although no majority can agree to it. By a person's word only.
    TakeOver,
    /// To a replica that has taken over under an old epoch: take a new one, which the others believe.
    BumpEpoch,
    /// Get to know a node.
    Meet {
        /// Where it is.
        address: Address,
        /// The port of its bus.
        bus_port: u16,
    },
    /// Copy this master.
    Replicate {
        /// Whom.
        master: NodeId,
    },
    /// Forget a node that is none of the cluster any more.
    Forget {
        /// Whom.
        id: NodeId,
    },
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failover { force: true } => f.write_str("take over from its dead master"),
            Self::Failover { force: false } => f.write_str("change roles with its master"),
            Self::TakeOver => f.write_str("take over without a majority"),
            Self::BumpEpoch => f.write_str("take a new epoch for its slots"),
            Self::Meet { address, .. } => write!(f, "meet {address}"),
            Self::Replicate { master } => write!(f, "copy {master}"),
            Self::Forget { id } => write!(f, "forget {id}"),
        }
    }
}

/// A fenced connection to one node, opened and not used yet.
#[async_trait]
pub trait Commander: Send {
    /// Gives one order.
    async fn run(&mut self, command: &Command) -> Result<(), String>;
}

/// A node that is asked.
#[derive(Debug, Clone, Copy)]
pub struct Expected {
    /// Who should answer.
    pub id: NodeId,
    /// Its agent is lost: it is not waited for as long as others.
    pub lost: bool,
}

/// What the nodes of a cluster said in one pass.
#[derive(Debug)]
pub struct Sight {
    looks: BTreeMap<Address, Look>,
    topology: Topology,
}

impl Sight {
    /// Merges what was said. Who answers at an address where another node is expected is not believed.
    pub fn new(mut looks: BTreeMap<Address, Look>, expected: &BTreeMap<Address, Expected>) -> Self {
        for (address, look) in &mut looks {
            if let Look::Answered(answer) = look {
                let id = answer.view.myself().id;
                if expected.get(address).map(|expected| expected.id) != Some(id) {
                    *look = Look::Other(id);
                }
            }
        }
        let views = looks.values().filter_map(|look| match look {
            Look::Answered(answer) => Some(&answer.view),
            Look::Refused | Look::Loading | Look::Other(_) | Look::Silent(_) => None,
        });
        Self { topology: Topology::agree(views), looks }
    }

    /// What came of asking that node.
    pub fn look(&self, address: Address) -> Option<&Look> {
        self.looks.get(&address)
    }

    /// What that node said.
    pub fn answer(&self, address: Address) -> Option<&Answer> {
        match self.looks.get(&address)? {
            Look::Answered(answer) => Some(answer),
            Look::Refused | Look::Loading | Look::Other(_) | Look::Silent(_) => None,
        }
    }

    /// All that answered.
    pub fn answers(&self) -> impl Iterator<Item = (Address, &Answer)> {
        self.looks.iter().filter_map(|(address, look)| match look {
            Look::Answered(answer) => Some((*address, &**answer)),
            Look::Refused | Look::Loading | Look::Other(_) | Look::Silent(_) => None,
        })
    }

    /// All views merged.
    pub const fn topology(&self) -> &Topology {
        &self.topology
    }
}

/// Asks every one of the nodes that are `expected`. Of those that had no turn because others did not answer, nobody
/// knows.
pub(crate) async fn look(engines: &dyn Engines, expected: &BTreeMap<Address, Expected>) -> Sight {
    let nodes: Vec<(Address, bool)> = expected.iter().map(|(address, node)| (*address, node.lost)).collect();
    let mut looks: BTreeMap<Address, Look> = stream::iter(nodes)
        .map(|(address, lost)| async move {
            (address, engines.look(address, if lost { LOST_PATIENCE } else { PATIENCE }).await)
        })
        .buffer_unordered(ASKED_AT_ONCE)
        .take_until(tokio::time::sleep(LOOKING))
        .collect()
        .await;
    for address in expected.keys() {
        looks.entry(*address).or_insert_with(|| Look::Silent(String::from("too many others did not answer")));
    }
    Sight::new(looks, expected)
}

#[cfg(test)]
mod tests {
    use overlord_api::Kind;
    use overlord_engines::cluster::NodeId;
    use overlord_reconcile::{Clock as _, Revision, TokioClock};

    use super::*;
    use crate::Known;

    /// Redis servers that accept, and never answer.
    #[derive(Debug)]
    struct Deaf;

    #[async_trait]
    impl Engines for Deaf {
        async fn keys(&self, _: Kind, _: Address, _: Revision) -> Known<u64> {
            std::future::pending().await
        }

        async fn look(&self, _: Address, patience: Duration) -> Look {
            tokio::time::sleep(patience).await;
            Look::Silent(String::from("no answer"))
        }

        async fn open(&self, _: Address, _: Revision) -> Result<Box<dyn Commander>, String> {
            std::future::pending().await
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_cluster_that_hangs_as_a_whole_holds_a_pass_for_a_bounded_time() {
        let clock = TokioClock::starting_at(jiff::Timestamp::UNIX_EPOCH);
        let address = |n: u16| Address::new([10, 0, 0, 1].into(), 20_000 + n);
        let node = |n: u16| (address(n), Expected { id: NodeId::derive("u", u32::from(n), 0), lost: false });
        let expected: BTreeMap<Address, Expected> = (0..1000).map(node).collect();
        let sight = look(&Deaf, &expected).await;
        assert!((0..1000).all(|n| matches!(sight.look(address(n)), Some(Look::Silent(_)))));
        assert!(clock.monotonic() <= LOOKING + PATIENCE, "{:?}", clock.monotonic());
        let addresses = expected.keys().copied().collect();
        let before = clock.monotonic();
        let keys = crate::members::observed::ask_keys(&Deaf, Kind::Redis, 1, &addresses).await;
        assert_eq!(keys.len(), 1000);
        assert!(clock.monotonic().saturating_sub(before) <= LOOKING);
    }
}
