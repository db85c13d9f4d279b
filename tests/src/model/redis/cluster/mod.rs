//! A node of a redis cluster: its table, its epochs, and what it makes of what it hears. It neither sends nor waits:
//! what is to be done is in its [`Todo`]. The rules are those of `cluster.c` of redis 7.0.15.

mod elect;
mod fail;
mod file;
mod gossip;
mod health;
mod manual;
mod orders;
pub(crate) mod packet;
pub(crate) mod peer;
mod receive;
mod slots;

use std::{collections::BTreeMap, time::Duration};

use overlord_api::Address;
use overlord_engines::cluster::{Flag, Flags, NodeId, SlotSet};

pub(crate) use elect::{Election, Standing};
pub(crate) use manual::Manual;
use packet::{Body, Header, Packet, Rumour};
use peer::{Peer, Place};

use super::queue::Event;

/// What of the configuration the cluster goes by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    pub(crate) node_timeout: Duration,
    pub(crate) validity_factor: u32,
    pub(crate) full_coverage: bool,
    pub(crate) no_failover: bool,
    pub(crate) replica_migration: bool,
    /// How often a master is heard of by its replicas at least.
    pub(crate) ping_period: Duration,
}

/// What a node is to do before it sleeps.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a thing to do")]
pub(crate) struct Todo {
    pub(crate) save: bool,
    pub(crate) state: bool,
    pub(crate) failover: bool,
    pub(crate) manual: bool,
    /// All others are to hear of it, with the next pings.
    pub(crate) tell: bool,
    /// Nodes that are to get a ping at once.
    pub(crate) ping: Vec<NodeId>,
    /// Packets, over the node's own links.
    pub(crate) mail: Vec<(NodeId, Packet)>,
    pub(crate) timers: Vec<(Duration, Event)>,
    /// Whom to copy from now on; several, one after the other.
    pub(crate) follow: Option<Address>,
    /// It is nobody's replica any more.
    pub(crate) unfollow: bool,
    /// Keys of these slots are not its own any more.
    pub(crate) drop_keys: SlotSet,
}

/// A node.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) me: Peer,
    pub(crate) others: BTreeMap<NodeId, Peer>,
    pub(crate) settings: Settings,
    pub(crate) current_epoch: u64,
    pub(crate) last_vote_epoch: u64,
    pub(crate) ok: bool,
    /// Masters with slots, when it was last looked.
    pub(crate) size: usize,
    pub(crate) election: Election,
    pub(crate) manual: Manual,
    /// Forgotten nodes, and until when they stay so.
    pub(crate) banned: BTreeMap<NodeId, Duration>,
    /// How far its process is in its stream of writes.
    pub(crate) offset: u64,
    pub(crate) todo: Todo,
    /// Slots that their owner did not claim when it was last heard.
    unclaimed: SlotSet,
    handshakes: u32,
    first_look: Option<Duration>,
    /// When it last saw too few masters.
    minority_at: Option<Duration>,
    in_minority: bool,
}

impl Cluster {
    /// A node that knows nobody.
    pub(crate) fn new(id: NodeId, place: Place, settings: Settings) -> Self {
        let flags = Flags::default().with(Flag::Myself).with(Flag::Master);
        Self {
            me: Peer::new(id, place, flags),
            others: BTreeMap::new(),
            settings,
            current_epoch: 0,
            last_vote_epoch: 0,
            ok: false,
            size: 1,
            election: Election::default(),
            manual: Manual::default(),
            banned: BTreeMap::new(),
            offset: 0,
            todo: Todo::default(),
            unclaimed: SlotSet::new(),
            handshakes: 0,
            first_look: None,
            minority_at: None,
            in_minority: false,
        }
    }

    pub(crate) fn peer(&self, id: &NodeId) -> Option<&Peer> {
        if *id == self.me.id { Some(&self.me) } else { self.others.get(id) }
    }

    fn peer_mut(&mut self, id: &NodeId) -> Option<&mut Peer> {
        if *id == self.me.id { Some(&mut self.me) } else { self.others.get_mut(id) }
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Peer> {
        std::iter::once(&self.me).chain(self.others.values())
    }

    fn all_mut(&mut self) -> impl Iterator<Item = &mut Peer> {
        std::iter::once(&mut self.me).chain(self.others.values_mut())
    }

    /// Whose replica it is.
    pub(crate) fn master(&self) -> Option<&Peer> {
        self.peer(&self.me.master?)
    }

    /// Itself, or the node it copies: whose slots it speaks of.
    fn shard(&self) -> &Peer {
        self.me.master.filter(|_| self.me.is_replica()).and_then(|id| self.peer(&id)).unwrap_or(&self.me)
    }

    pub(crate) fn needed(&self) -> usize {
        self.size / 2 + 1
    }

    pub(crate) fn header(&self) -> Header {
        let shard = self.shard();
        let mut flags = self.me.flags.without(Flag::Myself);
        if self.settings.no_failover {
            flags = flags.with(Flag::NoFailover);
        }
        Header {
            sender: self.me.id,
            place: self.me.place,
            flags,
            replica_of: self.me.master,
            current_epoch: self.current_epoch,
            config_epoch: shard.config_epoch,
            slots: shard.slots.clone(),
            offset: self.offset,
            paused: self.me.is_master() && self.manual.end.is_some(),
            force: false,
        }
    }

    /// What its pings tell of others. The real ones tell of a few at random and more often: over a second or two
    /// that comes to the same.
    pub(crate) fn rumours(&self) -> Vec<Rumour> {
        let told = self.others.values().filter(|peer| peer.is_told_of());
        told.map(|peer| Rumour { id: peer.id, place: peer.place, flags: peer.flags.without(Flag::Myself) })
            .collect()
    }

    fn packet(&self, body: Body) -> Packet {
        Packet { header: self.header(), body }
    }

    /// To everybody it has a link to.
    fn broadcast(&mut self, packet: &Packet) {
        let to = self.others.values().filter(|peer| peer.link && !peer.has(Flag::Handshake));
        let mail: Vec<_> = to.map(|peer| (peer.id, packet.clone())).collect();
        self.todo.mail.extend(mail);
    }

    fn timer(&mut self, at: Duration, event: Event) {
        self.todo.timers.push((at, event));
    }

    /// A node comes into the table.
    fn add(&mut self, peer: Peer) {
        self.todo.ping.push(peer.id);
        self.others.insert(peer.id, peer);
    }

    /// A node leaves the table, with its slots and what it said.
    pub(crate) fn remove(&mut self, id: &NodeId) {
        if let Some(gone) = self.others.remove(id) {
            self.unclaimed = &self.unclaimed - &gone.slots;
        }
        for peer in self.all_mut() {
            peer.reports.remove(id);
            if peer.master == Some(*id) {
                peer.master = None;
            }
        }
    }

    fn epochs(&self) -> BTreeMap<NodeId, u64> {
        self.all().map(|peer| (peer.id, peer.config_epoch)).collect()
    }

    /// The answer to `CLUSTER NODES`.
    pub(crate) fn nodes(&self) -> String {
        peer::lines(self.all(), &self.epochs(), |_| true)
    }
}
