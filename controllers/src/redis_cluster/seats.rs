//! The members of a cluster with what the nodes say of them: who owns a shard, who copies it, who is dead.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use overlord_api::{Address, State};
use overlord_engines::cluster::{Flag, LinkState, Node, NodeId, Role, SlotSet, slot_ranges};
use overlord_placement::cluster::{Seated, Shape};

use super::{
    observed::{Answer, Look, Sight},
    seed::node_id,
    shard_of,
};
use crate::members::observed::Instance;

/// One member.
#[derive(Debug)]
pub struct Seat<'a> {
    /// Its instance.
    pub instance: &'a Instance,
    /// Its node.
    pub id: NodeId,
    /// The shard it is a copy of.
    pub shard: u32,
}

impl Seat<'_> {
    /// Which member.
    pub fn member(&self) -> u32 {
        self.instance.info.member
    }

    /// Where it is.
    pub fn address(&self) -> Address {
        self.instance.info.address()
    }

    fn state(&self) -> State {
        self.instance.info.observed.state
    }
}

/// All members, and the sight of them.
#[derive(Debug)]
pub struct Seats<'a> {
    /// By member.
    seats: BTreeMap<u32, Seat<'a>>,
    sight: &'a Sight,
}

impl<'a> Seats<'a> {
    /// The seats of `instances`, one a member.
    pub fn new(shape: Shape, instances: impl IntoIterator<Item = &'a Instance>, sight: &'a Sight) -> Self {
        let seats = instances
            .into_iter()
            .map(|instance| {
                let member = instance.info.member;
                (member, Seat { instance, id: node_id(&instance.info), shard: shard_of(shape, member) })
            })
            .collect();
        Self { seats, sight }
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Seat<'a>> {
        self.seats.values()
    }

    /// One of them.
    pub fn get(&self, member: u32) -> Option<&Seat<'a>> {
        self.seats.get(&member)
    }

    /// The nodes that belong to the cluster.
    pub fn ids(&self) -> BTreeSet<NodeId> {
        self.seats.values().map(|seat| seat.id).collect()
    }

    /// What came of asking the member.
    pub fn look(&self, seat: &Seat<'_>) -> Option<&'a Look> {
        self.sight.look(seat.address())
    }

    /// What the member said.
    pub fn answer(&self, seat: &Seat<'_>) -> Option<&'a Answer> {
        self.sight.answer(seat.address())
    }

    /// Slots that the nodes say the member has.
    pub fn slots(&self, seat: &Seat<'_>) -> Option<&'a SlotSet> {
        self.sight.topology().owners().get(&seat.id).map(|owner| &owner.slots)
    }

    /// The member that has the slots of a shard: the latest, should the nodes not agree.
    pub fn owner(&self, shard: u32) -> Option<&Seat<'a>> {
        let epoch = |seat: &Seat<'_>| self.sight.topology().owners().get(&seat.id).map(|owner| owner.epoch);
        let of_shard = self.seats.values().filter(|seat| seat.shard == shard);
        let owners = of_shard.filter_map(|seat| Some((epoch(seat)?, seat)));
        owners.max_by_key(|(epoch, seat)| (*epoch, seat.id)).map(|(_, seat)| seat)
    }

    /// Whether the member's process is known not to run: its executor or Mesos says so, or nobody listens at its
    /// port. An agent that Mesos lost proves nothing alone; then the other nodes must miss it too.
    pub fn is_dead(&self, seat: &Seat<'_>) -> bool {
        match self.sight.look(seat.address()) {
            Some(Look::Answered(_) | Look::Loading) => false,
            Some(Look::Refused | Look::Other(_) | Look::Silent(_)) | None => {
                self.is_certainly_dead(seat) || self.is_missed(seat)
            }
        }
    }

    /// The same, where neither silence nor the others' opinion counts.
    pub fn is_certainly_dead(&self, seat: &Seat<'_>) -> bool {
        match self.sight.look(seat.address()) {
            Some(Look::Answered(_) | Look::Loading) => false,
            Some(Look::Refused | Look::Other(_)) => true,
            Some(Look::Silent(_)) | None => {
                matches!(seat.state(), State::Restarting | State::Failed | State::Gone)
            }
        }
    }

    /// Whether more than half of the masters say that they do not reach it.
    fn is_missed(&self, seat: &Seat<'_>) -> bool {
        let missing = |answer: &Answer| {
            let nodes = answer.view.nodes();
            nodes.iter().any(|node| {
                node.id == seat.id && (node.flags.has(Flag::Fail) || node.flags.has(Flag::SuspectedFail))
            })
        };
        self.is_majority(missing)
    }

    /// Whether more than half of the masters with slots answered so.
    fn is_majority(&self, says: impl Fn(&Answer) -> bool) -> bool {
        let owners = self.sight.topology().owners();
        let masters = self.sight.answers().filter(|(_, answer)| {
            let own = answer.view.myself();
            own.role() == Some(Role::Master) && owners.contains_key(&own.id) && says(answer)
        });
        masters.count() * 2 > owners.len()
    }

    /// The replicas of a shard, other than its owner.
    pub fn replicas(&self, shard: u32, owner: Option<&Seat<'_>>) -> impl Iterator<Item = &Seat<'a>> {
        let owner = owner.map(Seat::member);
        self.seats.values().filter(move |seat| seat.shard == shard && Some(seat.member()) != owner)
    }

    /// The replica that lost least of its dead master's data: the one with the highest offset of those that
    /// hold its data in this life of their process, and followed it until it died, `dead_for` ago. Others are empty,
    /// or have what a dump had, or what there was long ago.
    pub fn heir(&self, owner: &Seat<'_>, dead_for: Option<Duration>) -> Option<&Seat<'a>> {
        self.best(owner, |seat, answer| followed(answer, dead_for) && self.can_be_elected(seat))
    }

    /// The same where nobody votes.
    pub fn heir_without_votes(&self, owner: &Seat<'_>, dead_for: Option<Duration>) -> Option<&Seat<'a>> {
        self.best(owner, |_, answer| followed(answer, dead_for))
    }

    /// The replica with the most data whatever it is worth, for a master that will not come back.
    pub fn remnant(&self, owner: &Seat<'_>) -> Option<&Seat<'a>> {
        self.best(owner, |seat, _| self.can_be_elected(seat))
    }

    /// Who has taken over from a dead master and is not believed, unless `heir` has more of its data. A replica that
    /// was elected not long ago may win again with the votes of then, under the epoch of then (redis 7.0): in its own
    /// eyes it is the master, the others stay with the dead one, whose epoch is higher, and nothing will change that.
    /// An old master that comes back from afar is none such: it does not know of the epoch that took its slots.
    pub fn unheard(&self, owner: &Seat<'_>, heir: Option<&Seat<'_>>) -> Option<&Seat<'a>> {
        let slots = self.slots(owner)?;
        let offset = |seat: &Seat<'_>| self.answer(seat).map(|answer| answer.replication.offset);
        let took_over = |seat: &&Seat<'a>| {
            self.answer(seat).is_some_and(|answer| {
                let own = answer.view.myself();
                let knows_better = |node: &Node| node.id == owner.id && node.config_epoch > own.config_epoch;
                own.role() == Some(Role::Master)
                    && !(&own.slots & slots).is_empty()
                    && answer.view.nodes().iter().any(knows_better)
            })
        };
        let latest =
            self.replicas(owner.shard, Some(owner)).filter(took_over).max_by_key(|seat| offset(seat));
        latest.filter(|seat| heir.and_then(offset) <= offset(seat))
    }

    /// The replica to which a living master can hand over without a loss.
    pub fn successor(&self, owner: &Seat<'_>) -> Option<&Seat<'a>> {
        self.best(owner, |seat, answer| answer.replication.link_up && self.can_be_elected(seat))
    }

    /// Whether the votes of a majority would reach the node: a vote goes over the voter's own link to it, and one
    /// that is granted and lost on the way keeps the voter from another for a while (redis 7.0).
    fn can_be_elected(&self, seat: &Seat<'_>) -> bool {
        self.is_majority(|answer| {
            let nodes = answer.view.nodes();
            nodes.iter().any(|node| node.id == seat.id && node.link == LinkState::Connected)
        })
    }

    /// Of the replicas that copy the owner the one with the highest offset, the lowest member among equals. One that
    /// will not stand for election by itself takes over when it is told to.
    fn best(&self, owner: &Seat<'_>, able: impl Fn(&Seat<'a>, &Answer) -> bool) -> Option<&Seat<'a>> {
        let replicas = self.replicas(owner.shard, Some(owner));
        let able = replicas.filter(|seat| self.copies(seat, &owner.id)).filter_map(|seat| {
            let answer = self.answer(seat)?;
            able(seat, answer).then_some((answer.replication.offset, Reverse(seat.member()), seat))
        });
        able.max_by_key(|(offset, member, _)| (*offset, *member)).map(|(.., seat)| seat)
    }

    /// Slots of a shard that none of its members has: those of a node that is no member any more.
    pub fn orphaned(&self, shape: Shape, shard: u32) -> SlotSet {
        let mut slots = SlotSet::new();
        let ranges = slot_ranges(u16::try_from(shape.masters).unwrap_or(u16::MAX));
        if let Some(range) = ranges.get(shard as usize) {
            slots.insert(range.clone());
        }
        let owners = self.sight.topology().owners();
        let of_members = self.seats.values().filter_map(|seat| owners.get(&seat.id));
        of_members.fold(slots, |rest, owner| &rest - &owner.slots)
    }

    /// Whether a node that is no member any more is kept for a while: it copies a shard of which a member is not
    /// linked yet, and may be the only other one with the data.
    pub fn is_spare(&self, stranger: &NodeId) -> bool {
        let Some(node) = self.sight.topology().members().get(stranger) else { return false };
        let of = |master: &NodeId| self.seats.values().find(|seat| seat.id == *master);
        let Some(owner) = node.master.as_ref().and_then(of) else { return false };
        let linked = |seat: &Seat<'_>| {
            self.copies(seat, &owner.id) && self.answer(seat).is_some_and(|answer| answer.replication.link_up)
        };
        node.failed_by == 0 && !self.replicas(owner.shard, Some(owner)).all(linked)
    }

    /// Whether the node says that it is a replica of `master`.
    pub fn copies(&self, seat: &Seat<'_>, master: &NodeId) -> bool {
        self.answer(seat).is_some_and(|answer| {
            let own = answer.view.myself();
            own.role() == Some(Role::Replica) && own.master.as_ref() == Some(master)
        })
    }

    /// All members in their roles of now, for placement. A shard without an owner counts the member of its
    /// number as master.
    pub fn seated(&self) -> Vec<Seated> {
        self.seats
            .values()
            .map(|seat| {
                let info = &seat.instance.info;
                let master = match self.owner(seat.shard) {
                    Some(owner) => owner.member() == seat.member(),
                    None => seat.member() == seat.shard,
                };
                let (rack, zone) = (info.rack.clone(), info.zone.clone());
                Seated { member: info.member, shard: seat.shard, master, address: info.address(), rack, zone }
            })
            .collect()
    }
}

/// Whether a replica followed its master until that died; one that holds its data did if nobody knows when that was.
fn followed(answer: &Answer, dead_for: Option<Duration>) -> bool {
    let replication = &answer.replication;
    dead_for
        .map_or_else(|| replication.holds_data(), |dead_for| replication.followed_until(dead_for.as_secs()))
}
