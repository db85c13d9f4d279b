//! What may be done with the `nodes.conf` that a directory has. It belongs to redis: a readable file of
//! the node itself is kept, because it knows of failovers, votes and moved slots that no seed knows of.
//! (redis 7.0.15: a promoted master that was restarted with its first seed left its slots without an owner.)

use std::collections::BTreeMap;

use overlord_api::Address;

use super::{
    Flag, Flags, LinkState, Node, NodeAddress, NodeId, NodesConf, NodesConfError, Role, SlotSet, View,
};

/// What a node finds in its directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Assessment {
    /// There is no file: a seed may be written.
    Absent,
    /// redis would not start with it, or not as the node it was: a seed may replace it, and people are told.
    Damaged(NodesConfError),
    /// It is whole, and of another node, as which nothing may be started here.
    Foreign(NodeId),
    /// It is the node's own and must not be replaced.
    Ours(NodesConf),
}

/// Judges the file of a directory in which the node `expect` is to start.
pub fn assess(file: Option<&[u8]>, expect: &NodeId) -> Assessment {
    match file.map(NodesConf::parse) {
        None => Assessment::Absent,
        Some(Err(why)) => Assessment::Damaged(why),
        Some(Ok(conf)) if conf.myself().id != *expect => Assessment::Foreign(conf.myself().id),
        Some(Ok(conf)) => Assessment::Ours(conf),
    }
}

/// A file in which nodes are where they are now, by their ids, each with the port of its bus (none: data
/// port + 10000). Roles, slots, epochs and votes stay, and so do nodes of which no address is given.
pub fn patch_addresses(
    existing: &NodesConf,
    addresses: &BTreeMap<NodeId, (Address, Option<u16>)>,
) -> NodesConf {
    let mut patched = existing.clone();
    for node in patched.nodes_mut() {
        let Some((address, bus_port)) = addresses.get(&node.id) else { continue };
        node.address.relocate(*address, *bus_port);
        // redis does not connect to a node with this flag, whatever its address.
        node.flags = node.flags.without(Flag::NoAddress);
    }
    patched
}

/// What a node was given of the slots of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Who has them now.
    pub id: NodeId,
    /// Where it is.
    pub address: NodeAddress,
    /// The config epoch under which it has them.
    pub epoch: u64,
    /// Which.
    pub slots: SlotSet,
}

/// The file of a master that was failed over while it was away, as redis itself makes it of an UPDATE: the slots are
/// with those who claim them, and the node is a replica of the first of these. So it comes back without ever
/// having been a master again. The votes stay.
pub fn demote(
    existing: &NodesConf,
    claims: &[Claim],
    current_epoch: u64,
) -> Result<NodesConf, NodesConfError> {
    let Some(successor) = claims.first() else { return Ok(existing.clone()) };
    let mut nodes = existing.nodes().to_vec();
    for claim in claims {
        for node in &mut nodes {
            node.slots = &node.slots - &claim.slots;
        }
        if nodes.iter().all(|node| node.id != claim.id) {
            nodes.push(Node::fresh(claim.id, claim.address.clone(), None));
        }
        let owner = nodes.iter_mut().find(|node| node.id == claim.id);
        if let Some(owner) = owner.filter(|owner| !owner.is_myself()) {
            owner.flags = Flags::of(Role::Master);
            owner.master = None;
            owner.config_epoch = claim.epoch;
            owner.slots.extend(&claim.slots);
            if claim.address.address().is_some() {
                owner.address.clone_from(&claim.address);
            }
        }
    }
    for me in nodes.iter_mut().filter(|node| node.is_myself()) {
        me.flags = me.flags.without(Flag::Master).with(Flag::Slave);
        me.master = Some(successor.id);
        me.config_epoch = successor.epoch;
        me.slots = SlotSet::new();
        me.moving.clear();
    }
    let epochs = claims.iter().map(|claim| claim.epoch).chain([existing.current_epoch(), current_epoch]);
    NodesConf::new(nodes, epochs.max().unwrap_or_default(), existing.last_vote_epoch())
}

/// The file of a node that lost its own, out of what another node knows: a seed may be older than the last
/// failover. Its address is that of the seed. Whom it voted for is lost with the file, so it has voted in every
/// epoch up to now. None when the other does not know it.
pub fn refresh(seed: &NodesConf, view: &View) -> Option<Result<NodesConf, NodesConfError>> {
    let me = seed.myself();
    view.nodes().iter().find(|node| node.id == me.id)?;
    let known = view.nodes().iter().filter(|node| !node.flags.has(Flag::Handshake) && node.role().is_some());
    let nodes = known.filter_map(|node| {
        let is_me = node.id == me.id;
        // A node may not know its own ip; that of a lost one is known to the seed at best.
        let address = Some(&node.address).filter(|address| !is_me && address.address().is_some());
        let address = address.or_else(|| seed.node(&node.id).map(|node| &node.address))?.clone();
        let kept =
            [Flag::Master, Flag::Slave, Flag::NoFailover].into_iter().filter(|flag| node.flags.has(*flag));
        let flags = kept.fold(Flags::default(), Flags::with);
        Some(Node {
            address,
            flags: if is_me { flags.with(Flag::Myself) } else { flags },
            ping_sent: 0,
            pong_received: 0,
            link: LinkState::Connected,
            moving: Vec::new(),
            ..node.clone()
        })
    });
    let epoch = view.info().current_epoch.max(seed.current_epoch());
    Some(NodesConf::new(nodes.collect(), epoch, epoch))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::{
            Node, SlotSet, seed_nodes_conf,
            strategies::{confs, id, members, mutated},
        },
        *,
    };

    #[test]
    fn a_readable_file_of_the_node_itself_is_ours() {
        let text = seed_nodes_conf(&members(3, 1), &id(4)).unwrap();
        assert_eq!(assess(None, &id(4)), Assessment::Absent);
        assert_eq!(assess(Some(b""), &id(4)), Assessment::Damaged(NodesConfError::Empty));
        let cut = &text.as_bytes()[..text.len() - 1];
        assert_eq!(assess(Some(cut), &id(4)), Assessment::Damaged(NodesConfError::Torn));
        assert_eq!(assess(Some(text.as_bytes()), &id(3)), Assessment::Foreign(id(4)));
        match assess(Some(text.as_bytes()), &id(4)) {
            Assessment::Ours(conf) => assert_eq!(conf.to_string(), text),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_node_whose_address_was_lost_is_found_again() {
        let text = seed_nodes_conf(&members(3, 0), &id(0)).unwrap();
        let lost = text.replace("127.0.0.2:7000@17000 master", ":0@0 master,fail,noaddr");
        let conf = NodesConf::parse(lost.as_bytes()).unwrap();
        let there = BTreeMap::from([(id(1), ("127.0.0.9:7300".parse().unwrap(), Some(7301)))]);
        let patched = patch_addresses(&conf, &there);
        let line = patched.node(&id(1)).unwrap().to_string();
        assert!(line.contains(" 127.0.0.9:7300@7301 master,fail - "), "{line}");
        assert_eq!(patched.node(&id(2)), conf.node(&id(2)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_patch_changes_addresses_and_nothing_else(
            conf in confs(),
            known in proptest::collection::btree_map(0..20_u32, (any::<u32>(), 1..u16::MAX, any::<Option<u16>>()), 0..12),
        ) {
            let addresses: BTreeMap<_, _> = known
                .into_iter()
                .map(|(number, (ip, port, bus))| (id(number), (Address::new(std::net::Ipv4Addr::from(ip).into(), port), bus)))
                .collect();
            let patched = patch_addresses(&conf, &addresses);
            prop_assert_eq!(patch_addresses(&patched, &addresses), patched.clone());
            prop_assert_eq!(NodesConf::parse(patched.to_string().as_bytes()), Ok(patched.clone()));
            prop_assert_eq!(patched.last_vote_epoch(), conf.last_vote_epoch());
            prop_assert_eq!(patched.current_epoch(), conf.current_epoch());
            prop_assert_eq!(patched.myself().id, conf.myself().id);
            for (new, old) in patched.nodes().iter().zip(conf.nodes()) {
                if let Some((address, bus_port)) = addresses.get(&new.id) {
                    prop_assert_eq!(new.address.address(), Some(*address));
                    prop_assert!(bus_port.is_none() || new.address.bus_port() == *bus_port);
                }
                let flags = if addresses.contains_key(&new.id) { old.flags.without(Flag::NoAddress) } else { old.flags };
                prop_assert_eq!(new, &Node { address: new.address.clone(), flags, ..old.clone() });
            }
            let slots = |conf: &NodesConf| conf.nodes().iter().fold(SlotSet::new(), |all, node| &all | &node.slots);
            prop_assert_eq!(slots(&patched), slots(&conf));
        }

        #[test]
        fn any_file_is_judged(file in mutated(confs().prop_map(|conf| conf.to_string()))) {
            match assess(Some(&file), &id(0)) {
                Assessment::Ours(conf) => prop_assert_eq!(conf.myself().id, id(0)),
                Assessment::Foreign(other) => prop_assert_ne!(other, id(0)),
                Assessment::Absent => prop_assert!(false, "there is a file"),
                Assessment::Damaged(_) => {}
            }
        }
    }
}
