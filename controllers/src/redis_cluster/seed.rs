//! The `nodes.conf` with which members boot: at forming, so that each knows everyone and nobody has to be
//! introduced; later for a member that joins, so that it copies its shard at once.

use std::collections::BTreeMap;

use overlord_api::{Address, Info};
use overlord_engines::cluster::{NodeId, Role, Seed, SeedError, SeedNode, SlotSet, Topology, slot_ranges};
use overlord_placement::cluster::Shape;

use super::shard_of;

/// The id of the node that fills a member.
pub(crate) fn node_id(info: &Info) -> NodeId {
    NodeId::derive(&info.uid, info.member, info.incarnation)
}

/// The seeds of a cluster that is being formed: every member in the role of its number, every master with
/// an epoch of its own.
pub(crate) fn forming(shape: Shape, infos: &[&Info]) -> Result<Seed, SeedError> {
    let ids: BTreeMap<u32, NodeId> = infos.iter().map(|info| (info.member, node_id(info))).collect();
    let ranges = slot_ranges(u16::try_from(shape.masters).unwrap_or(u16::MAX));
    let nodes: Vec<SeedNode> = infos
        .iter()
        .map(|info| {
            let shard = shard_of(shape, info.member);
            let is_master = info.member < shape.masters;
            let mut slots = SlotSet::new();
            if let Some(range) = ranges.get(shard as usize).filter(|_| is_master) {
                slots.insert(range.clone());
            }
            SeedNode {
                id: node_id(info),
                address: info.address(),
                bus_port: info.bus_port,
                master: if is_master { None } else { ids.get(&shard).copied() },
                slots,
                // From 1: an epoch of 0 is that of a node that was never given one.
                epoch: u64::from(shard) + 1,
            }
        })
        .collect();
    Seed::new(&nodes)
}

/// What a member that joins a cluster will be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Joining {
    /// A copy of that node.
    ReplicaOf(NodeId),
    /// The master of a shard of which nothing is left, with these slots.
    Master(SlotSet),
}

/// The seed of a member that joins: the cluster as `topology` has it at the addresses of `others`, and itself.
pub(crate) fn joining(
    info: &Info,
    joining: &Joining,
    others: &[&Info],
    topology: &Topology,
) -> Result<String, SeedError> {
    let id = node_id(info);
    let mut known: BTreeMap<NodeId, (Address, Option<u16>)> = BTreeMap::new();
    for other in others {
        let id = node_id(other);
        if topology.members().contains_key(&id) {
            known.insert(id, (other.address(), other.bus_port));
        }
    }
    let mut top = topology.owners().values().map(|owner| owner.epoch).max().unwrap_or_default();
    let mut nodes: Vec<SeedNode> = Vec::with_capacity(known.len() + 1);
    for (id, (address, bus_port)) in &known {
        let Some(member) = topology.members().get(id) else { continue };
        let owner = topology.owners().get(id);
        let master = member.master.filter(|_| member.role == Some(Role::Replica) && owner.is_none());
        // A replica whose master is nobody that is told of would be given one that nobody knows.
        if master.is_some_and(|master| !known.contains_key(&master)) {
            continue;
        }
        let mut slots = owner.map(|owner| owner.slots.clone()).unwrap_or_default();
        if let Joining::Master(own) = joining {
            slots = &slots - own;
        }
        // Masters without slots have any epoch, also another's; theirs does not count.
        let epoch = match owner {
            Some(owner) => owner.epoch,
            None if master.is_some() => 0,
            None => continue,
        };
        nodes.push(SeedNode { id: *id, address: *address, bus_port: *bus_port, master, slots, epoch });
    }
    top += 1;
    let (master, slots) = match joining {
        Joining::ReplicaOf(master) => {
            (nodes.iter().any(|node| node.id == *master).then_some(*master), SlotSet::new())
        }
        Joining::Master(slots) => (None, slots.clone()),
    };
    nodes.push(SeedNode { id, address: info.address(), bus_port: info.bus_port, master, slots, epoch: top });
    Seed::new(&nodes)?.nodes_conf(&id)
}

/// The seed of a member that knows nobody yet.
pub(crate) fn alone(info: &Info) -> Result<String, SeedError> {
    let id = node_id(info);
    let node = SeedNode {
        id,
        address: info.address(),
        bus_port: info.bus_port,
        master: None,
        slots: SlotSet::new(),
        epoch: 0,
    };
    Seed::new(&[node])?.nodes_conf(&id)
}

#[cfg(test)]
mod tests {
    use overlord_api::State;
    use overlord_engines::cluster::{NodesConf, View};

    use super::*;
    use crate::samples;

    const SHAPE: Shape = Shape { masters: 3, replicas_per_master: 1 };

    fn infos() -> Vec<Info> {
        let with_bus = |member| Info { bus_port: Some(22_000), ..samples::info(member, State::Running) };
        (0..6).map(with_bus).collect()
    }

    fn formed(me: &Info) -> NodesConf {
        let all = infos();
        let seed = forming(SHAPE, &all.iter().collect::<Vec<_>>()).unwrap();
        NodesConf::parse(seed.nodes_conf(&node_id(me)).unwrap().as_bytes()).unwrap()
    }

    fn topology() -> Topology {
        let info = "cluster_state:ok\ncluster_slots_assigned:16384\ncluster_slots_ok:16384\ncluster_slots_pfail:0\n\
                    cluster_slots_fail:0\ncluster_known_nodes:6\ncluster_size:3\ncluster_current_epoch:3\ncluster_my_epoch:1\n";
        let text = formed(&infos()[0]).to_string();
        let nodes: Vec<&str> = text.lines().filter(|line| !line.starts_with("vars")).collect();
        let nodes = nodes.join("\n");
        Topology::agree(&[View::parse(&nodes, info).unwrap()])
    }

    #[test]
    fn every_member_of_a_forming_cluster_knows_all_and_all_slots_have_one_owner() {
        for me in infos() {
            let conf = formed(&me);
            assert_eq!((conf.nodes().len(), conf.myself().id), (6, node_id(&me)));
            let owned: u32 = conf.nodes().iter().map(|node| u32::from(node.slots.len())).sum();
            assert_eq!(owned, 16_384);
            let epochs: Vec<u64> = conf.nodes().iter().take(3).map(|node| node.config_epoch).collect();
            assert_eq!(epochs, [1, 2, 3]);
            assert_eq!(
                conf.myself().master,
                (me.member >= 3).then(|| node_id(&infos()[me.member as usize - 3]))
            );
        }
    }

    #[test]
    fn a_member_that_joins_copies_its_shard_from_the_start() {
        let all = infos();
        let others: Vec<&Info> = all.iter().filter(|info| info.member != 4).collect();
        let new = Info { incarnation: 1, port: 20_005, ..all[4].clone() };
        let text = joining(&new, &Joining::ReplicaOf(node_id(&all[1])), &others, &topology()).unwrap();
        let conf = NodesConf::parse(text.as_bytes()).unwrap();
        assert_eq!((conf.nodes().len(), conf.myself().id), (6, node_id(&new)));
        assert_eq!(conf.myself().master, Some(node_id(&all[1])));
        assert!(conf.node(&node_id(&all[4])).is_none(), "the node it takes the place of is known");
    }

    #[test]
    fn the_master_of_a_shard_that_is_lost_claims_its_slots_above_all_others() {
        let all = infos();
        let others: Vec<&Info> = all.iter().filter(|info| info.member != 1).collect();
        let new = Info { incarnation: 1, port: 20_005, ..all[1].clone() };
        let topology = topology();
        let slots = topology.owners()[&node_id(&all[1])].slots.clone();
        let text = joining(&new, &Joining::Master(slots.clone()), &others, &topology).unwrap();
        let conf = NodesConf::parse(text.as_bytes()).unwrap();
        assert_eq!((&conf.myself().slots, conf.myself().config_epoch), (&slots, 4));
        assert!(
            conf.nodes()
                .iter()
                .filter(|node| !node.is_myself())
                .all(|node| (&node.slots & &slots).is_empty())
        );
    }
}
