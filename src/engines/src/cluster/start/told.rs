//! What the start rule keeps of one answer: a few lines of it, because there may be a thousand answers of two
//! thousand lines.

use std::collections::BTreeSet;

use overlord_api::Address;

use crate::cluster::{Claim, Direction, Flag, Node, NodeId, NodesConf, Replication, Role, SlotSet, View};

#[derive(Debug)]
pub(super) struct Told {
    pub(super) role: Option<Role>,
    pub(super) master: Option<NodeId>,
    /// Whether it is a master with slots: one that votes.
    pub(super) is_owner: bool,
    /// Whether it says that it has slots of this node, under whatever epoch.
    pub(super) has_mine: bool,
    pub(super) knows_me: bool,
    /// Whom it shows with slots of this node, under a higher epoch.
    pub(super) claims: Vec<Claim>,
    /// Slots that it is importing from this node: it goes on to show them there whoever else claims them.
    importing: SlotSet,
    /// Masters with slots, by its count.
    pub(super) size: usize,
    pub(super) current_epoch: u64,
    pub(super) replication: Replication,
    /// Those that may hold the data of this node, by its file or by this answer.
    relevant: Vec<Node>,
    /// Masters with slots of which the file of this node does not know.
    news: Vec<(NodeId, Option<Address>)>,
}

/// Whether a node may hold the data of the master `me`: it copies it; or it was the master before, and nobody has
/// heard yet that it copies `me` by now. Such a one is shown without slots, or with them under the older epoch.
pub(super) fn may_hold(node: &Node, me: &Node) -> bool {
    match node.role() {
        _ if node.id == me.id => false,
        Some(Role::Replica) => node.master == Some(me.id),
        Some(Role::Master) => {
            let had_mine = node.config_epoch <= me.config_epoch && !(&node.slots & &me.slots).is_empty();
            node.slots.is_empty() || had_mine
        }
        None => false,
    }
}

/// Slots on their way from `from` to a node, by its own line.
fn importing(own: &Node, from: &NodeId) -> SlotSet {
    let mut slots = SlotSet::new();
    for moving in own.moving.iter().filter(|moving| moving.peer == *from) {
        if moving.direction == Direction::Importing {
            slots.insert(moving.slot..=moving.slot);
        }
    }
    slots
}

impl Told {
    pub(super) fn of(view: &View, replication: Replication, conf: &NodesConf) -> Self {
        let (me, own) = (conf.myself(), view.myself());
        let ours: BTreeSet<NodeId> =
            conf.nodes().iter().filter(|node| may_hold(node, me)).map(|node| node.id).collect();
        let known: BTreeSet<NodeId> =
            conf.nodes().iter().filter(|node| !node.slots.is_empty()).map(|node| node.id).collect();
        let others = || {
            let all = view.nodes().iter();
            all.filter(|node| node.id != me.id && !node.flags.has(Flag::Handshake))
        };
        let claims = others().filter(|node| node.config_epoch > me.config_epoch).filter_map(|node| {
            let slots = &node.slots & &me.slots;
            let claim = Claim { id: node.id, address: node.address.clone(), epoch: node.config_epoch, slots };
            (!claim.slots.is_empty()).then_some(claim)
        });
        let news = others().filter(|node| !node.slots.is_empty() && !known.contains(&node.id));
        Self {
            role: own.role(),
            master: own.master,
            is_owner: own.role() == Some(Role::Master) && !own.slots.is_empty(),
            has_mine: !(&own.slots & &me.slots).is_empty(),
            knows_me: view.nodes().iter().any(|node| node.id == me.id),
            claims: claims.collect(),
            importing: importing(own, &me.id),
            size: usize::try_from(view.info().size).unwrap_or(usize::MAX),
            current_epoch: view.info().current_epoch,
            replication,
            relevant: others()
                .filter(|node| ours.contains(&node.id) || may_hold(node, me))
                .cloned()
                .collect(),
            news: news.map(|node| (node.id, node.address.address())).collect(),
        }
    }

    /// Whether it shows all of these slots with others, under higher epochs; but for those it is importing itself,
    /// about which a node does not listen to claims (redis 7.0).
    pub(super) fn claimed(&self, slots: &SlotSet) -> bool {
        let rest = self.claims.iter().fold(slots.clone(), |rest, claim| &rest - &claim.slots);
        !self.claims.is_empty() && rest.is_subset(&self.importing)
    }

    /// Whether it holds a replica for failed, or has forgotten it: then it was known to this node's own file.
    pub(super) fn holds_for_gone(&self, id: &NodeId, in_own_file: bool) -> bool {
        match self.relevant.iter().find(|node| node.id == *id) {
            Some(node) => node.flags.has(Flag::Fail),
            None => in_own_file,
        }
    }

    /// Whether it shows a node of the asking node's own file.
    pub(super) fn shows(&self, id: &NodeId) -> bool {
        self.relevant.iter().any(|node| node.id == *id)
    }

    /// Those that may hold the data of the node `me`, by this answer.
    pub(super) fn candidates(&self, me: &Node) -> impl Iterator<Item = NodeId> {
        self.relevant.iter().filter(move |node| may_hold(node, me)).map(|node| node.id)
    }

    /// Those worth asking, of whom this answer tells.
    pub(super) fn named(&self) -> impl Iterator<Item = NodeId> {
        let claims = self.claims.iter().map(|claim| claim.id);
        claims.chain(self.news.iter().map(|(id, _)| *id))
    }

    /// Where a node is, by this answer.
    pub(super) fn addresses(&self, id: NodeId) -> impl Iterator<Item = Address> {
        let claims = self.claims.iter().map(|claim| (claim.id, claim.address.address()));
        let relevant = self.relevant.iter().map(|node| (node.id, node.address.address()));
        let all = claims.chain(relevant).chain(self.news.iter().copied());
        all.filter(move |(known, _)| *known == id).filter_map(|(_, address)| address)
    }
}
