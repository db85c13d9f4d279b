//! The `nodes.conf` with which a node boots that has none: it knows everyone, and nobody has to be
//! introduced. Only what must be decided is in it: ids, addresses, roles, slots and epochs. Whatever else an
//! engine keeps there is its own to make.

use std::collections::{BTreeMap, BTreeSet};

use overlord_api::Address;

use super::{
    MAX_NODES, Node, NodeAddress, NodeId, SlotSet, node_address::default_bus_port, nodes_conf::vars,
};

/// One node of a cluster to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeedNode {
    /// Its id.
    pub id: NodeId,
    /// Where it listens.
    pub address: Address,
    /// The port of its bus; none: its data port + 10000.
    pub bus_port: Option<u16>,
    /// A replica's master.
    pub master: Option<NodeId>,
    /// A master's slots.
    pub slots: SlotSet,
    /// A master's config epoch, of which no other master has the same. A replica's is its master's.
    pub epoch: u64,
}

/// Nodes that make no cluster.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SeedError {
    /// More than [`MAX_NODES`].
    #[error("a cluster cannot be seeded with more than {MAX_NODES} nodes")]
    TooManyNodes,
    /// The node that is to start is none of them.
    #[error("{0} is not among the nodes of its own seed")]
    NotAMember(NodeId),
    /// Two nodes of one id.
    #[error("node {0} is listed twice")]
    NodeTwice(NodeId),
    /// Two nodes, or data and bus of one, on one port.
    #[error("{0} is used twice, as data or bus port")]
    AddressTwice(Address),
    /// Above 55535 the bus port must be said.
    #[error("{0} has no bus port: its data port + 10000 is none")]
    BusPort(Address),
    /// redis would make up a node of that name.
    #[error("the master {master} of replica {replica} is not among the nodes")]
    NoMaster {
        /// The replica.
        replica: NodeId,
        /// Its master.
        master: NodeId,
    },
    /// A replica copies a master only.
    #[error("the master {master} of replica {replica} is a replica itself")]
    MasterIsReplica {
        /// The replica.
        replica: NodeId,
        /// Its master.
        master: NodeId,
    },
    /// Only masters have slots.
    #[error("replica {0} has slots")]
    ReplicaWithSlots(NodeId),
    /// redis would give it to the first of them, without a word.
    #[error("slot {slot} has two owners, {second} and one before it")]
    SlotTwice {
        /// The lowest slot.
        slot: u16,
        /// The later owner.
        second: NodeId,
    },
    /// redis would settle it by giving new ones, at length.
    #[error("two masters have the config epoch {0}")]
    EpochTwice(u64),
}

/// The seeds of all nodes of a cluster, checked once: they differ only in who is `myself`.
#[derive(Debug, Clone)]
pub struct Seed {
    /// Of each node: its line before the flags, and from them on.
    lines: Vec<(String, String)>,
    ids: BTreeMap<NodeId, usize>,
    vars: String,
}

impl Seed {
    /// The seeds of these nodes. They may lack slots: those of a shard that is lost.
    pub fn new(members: &[SeedNode]) -> Result<Self, SeedError> {
        if members.len() > MAX_NODES {
            return Err(SeedError::TooManyNodes);
        }
        let mut ids = BTreeMap::new();
        for (index, member) in members.iter().enumerate() {
            if ids.insert(member.id, index).is_some() {
                return Err(SeedError::NodeTwice(member.id));
            }
        }
        let mut taken = Taken::default();
        let mut lines = Vec::with_capacity(members.len());
        for member in members {
            let bus_port = taken.ports(member)?;
            let address = NodeAddress::new(member.address, Some(bus_port));
            let mut node = Node::fresh(member.id, address, member.master);
            match member.master {
                None => {
                    taken.master(member)?;
                    node.slots.clone_from(&member.slots);
                    node.config_epoch = member.epoch;
                }
                Some(master) => {
                    let of = ids.get(&master).and_then(|index| members.get(*index));
                    node.config_epoch = master_of(member, master, of)?;
                }
            }
            let head = format!("{} {} ", node.id, node.address);
            let tail = node.to_string().split_off(head.len());
            lines.push((head, tail));
        }
        // The last vote is in no epoch: nobody has voted.
        let current_epoch = taken.epochs.last().copied().unwrap_or_default();
        Ok(Self { lines, ids, vars: vars(current_epoch, 0) })
    }

    /// The file of one of them.
    pub fn nodes_conf(&self, myself: &NodeId) -> Result<String, SeedError> {
        let own = *self.ids.get(myself).ok_or(SeedError::NotAMember(*myself))?;
        let bytes: usize = self.lines.iter().map(|(head, tail)| head.len() + tail.len() + 1).sum();
        let mut text = String::with_capacity(bytes + self.vars.len() + 8);
        for (index, (head, tail)) in self.lines.iter().enumerate() {
            text.push_str(head);
            if index == own {
                text.push_str("myself,");
            }
            text.push_str(tail);
            text.push('\n');
        }
        text.push_str(&self.vars);
        text.push('\n');
        Ok(text)
    }
}

/// The file of one node among these. For many of one cluster make a [`Seed`].
pub fn seed_nodes_conf(members: &[SeedNode], myself: &NodeId) -> Result<String, SeedError> {
    Seed::new(members)?.nodes_conf(myself)
}

/// What only one can have.
#[derive(Default)]
struct Taken {
    addresses: BTreeSet<Address>,
    epochs: BTreeSet<u64>,
    slots: SlotSet,
}

impl Taken {
    fn ports(&mut self, member: &SeedNode) -> Result<u16, SeedError> {
        let bus_port = member.bus_port.or_else(|| default_bus_port(member.address.port));
        let bus_port = bus_port.ok_or(SeedError::BusPort(member.address))?;
        for address in [member.address, Address::new(member.address.ip, bus_port)] {
            if !self.addresses.insert(address) {
                return Err(SeedError::AddressTwice(address));
            }
        }
        Ok(bus_port)
    }

    fn master(&mut self, master: &SeedNode) -> Result<(), SeedError> {
        if !self.epochs.insert(master.epoch) {
            return Err(SeedError::EpochTwice(master.epoch));
        }
        if let Some(slot) = (&self.slots & &master.slots).first() {
            return Err(SeedError::SlotTwice { slot, second: master.id });
        }
        self.slots.extend(&master.slots);
        Ok(())
    }
}

/// The epoch of a replica's master.
fn master_of(replica: &SeedNode, master: NodeId, found: Option<&SeedNode>) -> Result<u64, SeedError> {
    let id = replica.id;
    match found {
        None => Err(SeedError::NoMaster { replica: id, master }),
        Some(found) if found.master.is_some() => Err(SeedError::MasterIsReplica { replica: id, master }),
        Some(_) if !replica.slots.is_empty() => Err(SeedError::ReplicaWithSlots(id)),
        Some(found) => Ok(found.epoch),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::{
            NodesConf, Role,
            strategies::{id, members},
        },
        *,
    };

    /// Tried on redis 7.0.15: with these six files the nodes form a cluster of their own accord.
    #[test]
    fn the_seed_is_the_text_that_redis_was_tried_with() {
        let ids: Vec<NodeId> = (1..=6).map(|n: u32| n.to_string().repeat(40).parse().unwrap()).collect();
        let members: Vec<SeedNode> = (0_u16..6)
            .map(|n| SeedNode {
                id: ids[usize::from(n)],
                address: Address::new([127, 0, 0, 1].into(), 7101 + n),
                bus_port: (n != 2).then_some(17_101 + n),
                master: (n >= 3).then(|| ids[usize::from(n - 3)]),
                slots: if n < 3 {
                    super::super::slot_ranges(3)[usize::from(n)].clone().into()
                } else {
                    SlotSet::new()
                },
                epoch: if n < 3 { u64::from(n) + 1 } else { 99 },
            })
            .collect();
        let text = "\
1 127.0.0.1:7101@17101 master - 0 0 1 connected 0-5460
2 127.0.0.1:7102@17102 master - 0 0 2 connected 5461-10922
3 127.0.0.1:7103@17103 master - 0 0 3 connected 10923-16383
4 127.0.0.1:7104@17104 slave 1 0 0 1 connected
5 127.0.0.1:7105@17105 myself,slave 2 0 0 2 connected
6 127.0.0.1:7106@17106 slave 3 0 0 3 connected
";
        let mut lines: Vec<String> = Vec::new();
        for line in text.lines() {
            let (first, rest) = line.split_at(1);
            let rest = ["1", "2", "3"].into_iter().fold(rest.to_owned(), |rest, n| {
                rest.replace(&format!("slave {n} "), &format!("slave {} ", n.repeat(40)))
            });
            lines.push(format!("{}{rest}\n", first.repeat(40)));
        }
        let expected = format!("{}vars currentEpoch 3 lastVoteEpoch 0\n", lines.concat());
        assert_eq!(seed_nodes_conf(&members, &ids[4]), Ok(expected));
    }

    #[test]
    fn nodes_that_make_no_cluster_are_refused() {
        let fault = |change: &dyn Fn(&mut Vec<SeedNode>)| {
            let mut members = members(3, 1);
            change(&mut members);
            Seed::new(&members).map(|_| ()).unwrap_err()
        };
        let all = members(3, 1);
        assert_eq!(seed_nodes_conf(&all, &id(77)), Err(SeedError::NotAMember(id(77))));
        assert_eq!(fault(&|m| m[1].id = m[0].id), SeedError::NodeTwice(id(0)));
        assert_eq!(fault(&|m| m[1].address = m[0].address), SeedError::AddressTwice(all[0].address));
        let bus = Address::new(all[0].address.ip, 17_000);
        assert_eq!(fault(&|m| m[4].address = bus), SeedError::AddressTwice(bus));
        let high = Address::new([127, 0, 0, 1].into(), 55_536);
        assert_eq!(fault(&|m| (m[1].address, m[1].bus_port) = (high, None)), SeedError::BusPort(high));
        assert_eq!(
            fault(&|m| m[3].master = Some(id(77))),
            SeedError::NoMaster { replica: id(3), master: id(77) }
        );
        assert_eq!(
            fault(&|m| m[3].master = Some(id(4))),
            SeedError::MasterIsReplica { replica: id(3), master: id(4) }
        );
        assert_eq!(fault(&|m| m[3].slots.insert(0..=0)), SeedError::ReplicaWithSlots(id(3)));
        assert_eq!(fault(&|m| m[2].slots.insert(7..=9)), SeedError::SlotTwice { slot: 7, second: id(2) });
        assert_eq!(fault(&|m| m[2].epoch = 1), SeedError::EpochTwice(1));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn every_shape_has_a_seed_that_the_model_takes(
            masters in prop_oneof![4 => 1..40_u16, 1 => 40..1000_u16],
            replicas in 0..4_u16,
            own in any::<prop::sample::Index>(),
        ) {
            let members = members(masters, replicas);
            let own = members[own.index(members.len())].id;
            let text = seed_nodes_conf(&members, &own).unwrap();
            let conf = NodesConf::parse(text.as_bytes()).unwrap();
            prop_assert_eq!(conf.to_string(), text);
            prop_assert_eq!(conf.myself().id, own);
            prop_assert_eq!(conf.nodes().len(), members.len());
            let mut owned = SlotSet::new();
            let mut epochs = BTreeSet::new();
            for node in conf.nodes() {
                match node.master {
                    None => {
                        prop_assert!((&owned & &node.slots).is_empty() && !node.slots.is_empty());
                        prop_assert!(epochs.insert(node.config_epoch));
                        owned.extend(&node.slots);
                    }
                    Some(master) => {
                        let master = conf.node(&master).unwrap();
                        prop_assert_eq!(master.role(), Some(Role::Master));
                        prop_assert!(node.slots.is_empty() && node.config_epoch == master.config_epoch);
                    }
                }
            }
            prop_assert_eq!(owned, SlotSet::all());
            prop_assert_eq!(epochs.last().copied(), Some(conf.current_epoch()));
        }
    }
}
