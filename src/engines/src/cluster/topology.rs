//! What a cluster is, out of what several of its nodes say. Where they differ about a slot, the claim of the
//! highest config epoch holds, as it does among the nodes themselves.

use std::collections::{BTreeMap, BTreeSet};

use super::{Flag, LinkState, Node, NodeAddress, NodeId, Role, SlotSet, View};

/// The merged views.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Topology {
    members: BTreeMap<NodeId, Member>,
    owners: BTreeMap<NodeId, Owner>,
    disputed: SlotSet,
    answered: usize,
}

/// A node, as it says itself; as the node of the highest epoch says when it did not answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Where it is.
    pub address: NodeAddress,
    /// Its role, if it is known.
    pub role: Option<Role>,
    /// Whom it copies.
    pub master: Option<NodeId>,
    /// The epoch of its claims.
    pub config_epoch: u64,
    /// It will not stand for election.
    pub no_failover: bool,
    /// Whether it answered, so that all this comes from itself.
    pub answered: bool,
    /// How many of those that answered know it, itself among them.
    pub known_by: usize,
    /// How many of the others that answered hold it for failed (`fail`).
    pub failed_by: usize,
    /// How many of them do not reach it, and may be alone with that (`fail?`).
    pub suspected_by: usize,
    /// How many of them have no link to it on the bus.
    pub unlinked_by: usize,
}

/// A master's slots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The config epoch under which it has them.
    pub epoch: u64,
    /// Its slots, none of which another owner has.
    pub slots: SlotSet,
}

impl Topology {
    /// Merges views. A second view of one node is left out. Of a large cluster the views of its masters are
    /// enough. Nodes in handshake are left out, since their ids are placeholders.
    pub fn agree<'v>(views: impl IntoIterator<Item = &'v View>) -> Self {
        let mut ordered: Vec<&View> = views.into_iter().collect();
        // The latest first; ids make the order one that does not depend on who answered first.
        ordered.sort_by_key(|view| {
            (std::cmp::Reverse((view.info().current_epoch, view.info().my_epoch)), view.myself().id)
        });
        let mut seen = BTreeSet::new();
        ordered.retain(|view| seen.insert(view.myself().id));
        let owners = owners(&ordered);
        let disputed = disputed(&ordered, &owners);
        Self { members: members(&ordered), owners, disputed, answered: ordered.len() }
    }

    /// Every node that somebody knows.
    pub const fn members(&self) -> &BTreeMap<NodeId, Member> {
        &self.members
    }

    /// Who has which slots.
    pub const fn owners(&self) -> &BTreeMap<NodeId, Owner> {
        &self.owners
    }

    /// How many nodes answered.
    pub const fn answered(&self) -> usize {
        self.answered
    }

    /// Slots of which not all that answered say the same.
    pub const fn disputed(&self) -> &SlotSet {
        &self.disputed
    }

    /// Slots that nobody has.
    pub fn uncovered(&self) -> SlotSet {
        self.owners.values().fold(SlotSet::all(), |rest, owner| &rest - &owner.slots)
    }

    /// Whether all slots have an owner, and all that answered name the same one.
    pub fn is_settled(&self) -> bool {
        self.disputed.is_empty() && self.uncovered().is_empty()
    }

    /// The replicas of a master.
    pub fn replicas(&self, master: &NodeId) -> impl Iterator<Item = (&NodeId, &Member)> {
        let master = *master;
        self.members
            .iter()
            .filter(move |(_, member)| member.role == Some(Role::Replica) && member.master == Some(master))
    }

    /// Nodes that are none of ours: to be forgotten by everyone.
    pub fn strangers(&self, ours: &BTreeSet<NodeId>) -> Vec<NodeId> {
        self.members.keys().filter(|id| !ours.contains(id)).copied().collect()
    }

    /// Whether more than half of the masters with slots answered as masters and are not held for failed by
    /// half or more of the others that answered: without that nobody can be elected.
    pub fn majority_masters_reachable(&self) -> bool {
        let reachable = |id: &&NodeId| {
            self.members.get(*id).is_some_and(|member| {
                let others = self.answered.saturating_sub(1);
                let held_failed = others > 0 && member.failed_by * 2 >= others;
                member.answered && member.role == Some(Role::Master) && !held_failed
            })
        };
        self.owners.keys().filter(reachable).count() * 2 > self.owners.len()
    }

    /// The replica of a master that lost least: of those that answered and stand for election the one with the
    /// highest replication offset. `offsets` has only replicas that completed a sync with it once: another
    /// is empty, whatever its offset. The lowest id among equals.
    pub fn best_replica(&self, master: &NodeId, offsets: &BTreeMap<NodeId, u64>) -> Option<NodeId> {
        let able = self.replicas(master).filter(|(_, replica)| replica.answered && !replica.no_failover);
        let with_offset = able.filter_map(|(id, _)| Some((*id, *offsets.get(id)?)));
        with_offset.max_by_key(|(id, offset)| (*offset, std::cmp::Reverse(*id))).map(|(id, _)| id)
    }
}

/// The node that took over from `dead`: set once a majority of the masters with slots show all of its slots
/// under other ids with higher epochs. Then, and not before, may it start again, as that one's replica.
pub fn successor(views: &[View], dead: &NodeId, slots: &SlotSet, epoch: u64) -> Option<NodeId> {
    if slots.is_empty() {
        return None;
    }
    let topology = Topology::agree(views);
    let moved = |view: &View| {
        let mut rest = slots.clone();
        for node in view.nodes().iter().filter(|node| node.id != *dead && node.config_epoch > epoch) {
            rest = &rest - &node.slots;
        }
        rest.is_empty()
    };
    let mut voters = BTreeSet::new();
    for view in views.iter().filter(|view| moved(view)) {
        let id = view.myself().id;
        if id != *dead && view.myself().role() == Some(Role::Master) && topology.owners.contains_key(&id) {
            voters.insert(id);
        }
    }
    if voters.len() * 2 <= topology.owners.len() {
        return None;
    }
    // Slots of it may have moved to several; redis follows the one that takes the last of them.
    let shares = topology.owners.iter().filter(|(id, _)| *id != dead);
    let shares = shares.map(|(id, owner)| ((&owner.slots & slots).len(), std::cmp::Reverse(*id)));
    shares.max().filter(|(share, _)| *share > 0).map(|(_, std::cmp::Reverse(id))| id)
}

/// The nodes of a view without handshakes.
fn settled(view: &View) -> impl Iterator<Item = &Node> {
    view.nodes().iter().filter(|node| !node.flags.has(Flag::Handshake))
}

fn owners(views: &[&View]) -> BTreeMap<NodeId, Owner> {
    // All that anybody says a node had under an epoch.
    let mut claims: BTreeMap<(u64, NodeId), SlotSet> = BTreeMap::new();
    for node in views.iter().flat_map(|view| settled(view)).filter(|node| !node.slots.is_empty()) {
        let claim = claims.entry((node.config_epoch, node.id)).or_default();
        if *claim != node.slots {
            claim.extend(&node.slots);
        }
    }
    let mut owners: BTreeMap<NodeId, Owner> = BTreeMap::new();
    let mut taken = SlotSet::new();
    for ((epoch, id), slots) in claims.into_iter().rev() {
        let won = &slots - &taken;
        if !won.is_empty() {
            taken.extend(&won);
            owners.entry(id).or_insert_with(|| Owner { epoch, slots: SlotSet::new() }).slots.extend(&won);
        }
    }
    owners
}

fn disputed(views: &[&View], owners: &BTreeMap<NodeId, Owner>) -> SlotSet {
    let none = SlotSet::new();
    let covered = owners.values().fold(SlotSet::new(), |covered, owner| &covered | &owner.slots);
    let mut disputed = SlotSet::new();
    for view in views {
        let mut seen = SlotSet::new();
        for node in settled(view).filter(|node| !node.slots.is_empty()) {
            let owned = owners.get(&node.id).map_or(&none, |owner| &owner.slots);
            seen.extend(&node.slots);
            if *owned != node.slots {
                disputed.extend(&(&node.slots - owned));
            }
        }
        if seen != covered {
            disputed.extend(&(&covered - &seen));
        }
    }
    disputed
}

fn members(views: &[&View]) -> BTreeMap<NodeId, Member> {
    let mut members: BTreeMap<NodeId, Member> = BTreeMap::new();
    // Itself first, then the latest view.
    let own = views.iter().map(|view| (view.myself(), true));
    let others = views.iter().flat_map(|view| settled(view)).filter(|node| !node.is_myself());
    for (node, answered) in own.chain(others.map(|node| (node, false))) {
        let member = members.entry(node.id).or_insert_with(|| Member {
            address: node.address.clone(),
            role: node.role(),
            master: node.master,
            config_epoch: node.config_epoch,
            no_failover: node.flags.has(Flag::NoFailover),
            answered,
            known_by: 0,
            failed_by: 0,
            suspected_by: 0,
            unlinked_by: 0,
        });
        member.known_by += 1;
        if node.is_myself() {
            continue;
        }
        member.failed_by += usize::from(node.flags.has(Flag::Fail));
        member.suspected_by += usize::from(node.flags.has(Flag::SuspectedFail));
        member.unlinked_by += usize::from(node.link == LinkState::Disconnected);
        // A node often does not know its own ip.
        if member.address.address().is_none() && node.address.address().is_some() {
            member.address = node.address.clone();
        }
    }
    members
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use proptest::prelude::*;

    use super::{
        super::strategies::{confs, id, members},
        *,
    };

    /// What a node says of a cluster of three masters (0-2) and their replicas (3-5), after changes.
    struct World(Vec<Line>);

    #[derive(Clone)]
    struct Line {
        number: u32,
        flags: String,
        master: Option<u32>,
        epoch: u64,
        link: &'static str,
        slots: String,
    }

    impl World {
        fn new() -> Self {
            let line = |(number, member): (u32, super::super::SeedNode)| Line {
                number,
                flags: if number < 3 { "master" } else { "slave" }.to_owned(),
                master: (number >= 3).then(|| number - 3),
                epoch: member.epoch,
                link: "connected",
                slots: member.slots.to_string(),
            };
            Self((0..).zip(members(3, 1)).map(line).collect())
        }

        fn with(mut self, number: usize, change: impl Fn(&mut Line)) -> Self {
            change(&mut self.0[number]);
            self
        }

        /// Node 3 took over from 0.
        fn failed_over() -> Self {
            let slots = Self::new().0[0].slots.clone();
            Self::new()
                .with(0, |line| {
                    (line.flags, line.link, line.slots) =
                        ("master,fail".to_owned(), "disconnected", String::new());
                })
                .with(3, |line| {
                    (line.flags, line.master, line.epoch) = ("master".to_owned(), None, 4);
                    line.slots.clone_from(&slots);
                })
        }

        fn seen_by(&self, me: u32) -> View {
            let mut text = String::new();
            for line in &self.0 {
                let own = if line.number == me { "myself," } else { "" };
                let host = if line.number == me { "" } else { "127.0.0.1" };
                let master = line.master.map_or_else(|| "-".to_owned(), |master| id(master).to_string());
                let Line { number, flags, epoch, link, slots, .. } = line;
                let port = 7000 + number;
                let id = id(*number);
                writeln!(text, "{id} {host}:{port}@1{port} {own}{flags} {master} 0 0 {epoch} {link} {slots}")
                    .unwrap();
            }
            let epoch = self.0.iter().map(|line| line.epoch).max().unwrap();
            let info = format!(
                "cluster_state:ok\ncluster_slots_assigned:16384\ncluster_slots_ok:16384\ncluster_slots_pfail:0\n\
                 cluster_slots_fail:0\ncluster_known_nodes:6\ncluster_size:3\ncluster_current_epoch:{epoch}\n\
                 cluster_my_epoch:1\n"
            );
            View::parse(&text, &info).unwrap()
        }
    }

    fn healthy() -> Vec<View> {
        (0..6).map(|me| World::new().seen_by(me)).collect()
    }

    #[test]
    fn views_of_a_healthy_cluster_agree() {
        let topology = Topology::agree(&healthy());
        assert!(topology.is_settled() && topology.majority_masters_reachable());
        assert_eq!(
            topology.owners().keys().collect::<BTreeSet<_>>(),
            BTreeSet::from([&id(0), &id(1), &id(2)])
        );
        let owner = &topology.owners()[&id(1)];
        assert_eq!((owner.epoch, owner.slots.to_string().as_str()), (2, "5461-10922"));
        let member = &topology.members()[&id(4)];
        assert_eq!((member.role, member.master, member.known_by), (Some(Role::Replica), Some(id(1)), 6));
        assert!(member.answered && member.failed_by + member.suspected_by + member.unlinked_by == 0);
        // Its own line has no ip.
        assert_eq!(member.address.to_string(), "127.0.0.1:7004@17004");
        assert_eq!(topology.replicas(&id(1)).map(|(id, _)| *id).collect::<Vec<_>>(), [id(4)]);
    }

    #[test]
    fn the_claim_of_the_higher_epoch_holds_and_the_stale_view_is_a_dispute() {
        let mut views: Vec<View> = (1..6).map(|me| World::failed_over().seen_by(me)).collect();
        let settled = Topology::agree(&views);
        assert!(settled.is_settled() && settled.majority_masters_reachable());
        assert_eq!(settled.members()[&id(0)].failed_by, 5);
        // The old master comes back, and knows nothing of it yet.
        views.insert(0, World::new().seen_by(0));
        let topology = Topology::agree(&views);
        assert_eq!(topology.owners(), settled.owners());
        assert_eq!(topology.disputed(), &topology.owners()[&id(3)].slots);
        assert!(!topology.is_settled() && topology.uncovered().is_empty());
    }

    #[test]
    fn the_order_of_the_views_does_not_matter() {
        let mut views: Vec<View> = (1..6).map(|me| World::failed_over().seen_by(me)).collect();
        views.push(World::new().seen_by(0));
        let topology = Topology::agree(&views);
        views.reverse();
        assert_eq!(Topology::agree(&views), topology);
        views.rotate_left(2);
        views.push(views[0].clone());
        assert_eq!(Topology::agree(&views), topology);
    }

    #[test]
    fn slots_without_an_owner_are_uncovered() {
        let world = World::new().with(1, |line| line.slots = "5461-10000 10002-10922".to_owned());
        let topology = Topology::agree(&(0..6).map(|me| world.seen_by(me)).collect::<Vec<_>>());
        assert_eq!(topology.uncovered(), SlotSet::from(10_001..=10_001));
        assert!(topology.disputed().is_empty() && !topology.is_settled());
        assert_eq!(Topology::agree(&[]).uncovered(), SlotSet::all());
    }

    #[test]
    fn a_majority_is_more_than_half_of_the_masters_with_slots() {
        let of = |answering: &[usize]| {
            let views = healthy();
            Topology::agree(&answering.iter().map(|index| views[*index].clone()).collect::<Vec<_>>())
        };
        assert!(of(&[0, 2]).majority_masters_reachable());
        assert!(!of(&[0, 3, 4, 5]).majority_masters_reachable());
        assert!(!of(&[]).majority_masters_reachable());
        // Two answer, and everyone holds one of them for failed.
        let world = World::new().with(1, |line| line.flags = "master,fail".to_owned());
        let cut = [World::new().seen_by(1), world.seen_by(0), world.seen_by(3)];
        assert!(!Topology::agree(&cut).majority_masters_reachable());
    }

    #[test]
    fn the_best_replica_has_the_highest_offset_of_those_that_can_be_elected() {
        let world = World::new()
            .with(4, |line| line.master = Some(0))
            .with(5, |line| (line.master, line.flags) = (Some(0), "slave,nofailover".to_owned()));
        let topology = Topology::agree(&[1, 2, 3, 4, 5].map(|me| world.seen_by(me)));
        let best = |offsets: &[(u32, u64)]| {
            topology.best_replica(
                &id(0),
                &offsets.iter().map(|(number, offset)| (id(*number), *offset)).collect(),
            )
        };
        assert_eq!(best(&[(3, 10), (4, 11), (5, 99), (1, 99)]), Some(id(4)));
        assert_eq!(best(&[(3, 10), (4, 10)]), [id(3), id(4)].into_iter().min());
        assert_eq!(best(&[(3, 0)]), Some(id(3)));
        assert_eq!(best(&[]), None);
        let silent = Topology::agree(&[1, 2, 4].map(|me| world.seen_by(me)));
        assert_eq!(silent.best_replica(&id(0), &[(id(3), 9)].into()), None);
    }

    #[test]
    fn strangers_are_those_that_nobody_declared_and_handshakes_are_nobody() {
        let topology = Topology::agree(&healthy());
        let ours = (0..5).map(id).collect();
        assert_eq!(topology.strangers(&ours), [id(5)]);
        let world = World::new().with(5, |line| line.flags = "handshake".to_owned());
        assert!(Topology::agree(&[world.seen_by(0)]).strangers(&ours).is_empty());
    }

    #[test]
    fn a_successor_is_believed_once_a_majority_of_masters_shows_it() {
        let own = World::new().seen_by(0).myself().clone();
        let ask = |views: &[View]| successor(views, &own.id, &own.slots, own.config_epoch);
        let (old, new) = (World::new(), World::failed_over());
        assert_eq!(ask(&[1, 2, 3].map(|me| new.seen_by(me))), Some(id(3)));
        assert_eq!(ask(&[1, 2].map(|me| new.seen_by(me))), Some(id(3)));
        assert_eq!(ask(&[new.seen_by(3), old.seen_by(1), old.seen_by(2)]), None);
        // Replicas do not vote, and one master asked twice is one.
        assert_eq!(ask(&[new.seen_by(1), new.seen_by(4), new.seen_by(5), new.seen_by(1)]), None);
        assert_eq!(ask(&[1, 2, 3].map(|me| old.seen_by(me))), None);
        assert_eq!(ask(&[]), None);
        assert_eq!(successor(&[1, 2, 3].map(|me| new.seen_by(me)), &own.id, &SlotSet::new(), 0), None);
        assert_eq!(successor(&[1, 2, 3].map(|me| new.seen_by(me)), &own.id, &own.slots, 4), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn each_slot_has_at_most_one_owner_whatever_the_views(confs in proptest::collection::vec(confs(), 1..5)) {
            let info = "cluster_state:fail\ncluster_slots_assigned:0\ncluster_slots_ok:0\ncluster_slots_pfail:0\n\
                cluster_slots_fail:0\ncluster_known_nodes:1\ncluster_size:0\ncluster_current_epoch:0\ncluster_my_epoch:0\n";
            let views: Vec<View> = confs
                .iter()
                .map(|conf| {
                    let text = conf.to_string();
                    View::parse(text.split_once("vars").unwrap().0, info).unwrap()
                })
                .collect();
            let topology = Topology::agree(&views);
            let mut owned = SlotSet::new();
            for owner in topology.owners().values() {
                prop_assert!(!owner.slots.is_empty() && (&owned & &owner.slots).is_empty());
                owned.extend(&owner.slots);
            }
            prop_assert_eq!(&owned | &topology.uncovered(), SlotSet::all());
            prop_assert!(topology.disputed().is_subset(&SlotSet::all()));
        }
    }
}
