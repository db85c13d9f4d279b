//! What a node makes of a packet.

use std::time::Duration;

use overlord_engines::cluster::{Flag, Flags, NodeId, SlotSet};

use super::{
    Cluster,
    packet::{Body, Header, Packet, Via},
    peer::{Peer, Place},
};
use crate::model::redis::queue::Event;

/// The least that a handshake may take.
const LEAST_HANDSHAKE: Duration = Duration::from_secs(1);

impl Cluster {
    /// Takes one packet.
    pub(crate) fn receive(&mut self, now: Duration, via: Via, packet: &Packet) {
        let header = &packet.header;
        // On our own link it is the node we think is there, until its name is looked at.
        let sender = match via {
            Via::Ours(id) if self.others.get(&id).is_some_and(|peer| !peer.has(Flag::Handshake)) => Some(id),
            Via::Ours(_) | Via::Theirs => Some(header.sender).filter(|id| self.others.contains_key(id)),
        };
        if let Some(id) = sender {
            // Who asks for votes has told everybody already.
            self.hear_epochs(&id, header, !matches!(packet.body, Body::AuthRequest));
        }
        match &packet.body {
            Body::Ping(rumours) => self.converse(now, via, sender, header, true, rumours),
            Body::Pong(rumours) => self.converse(now, via, sender, header, false, rumours),
            Body::Meet(rumours) => {
                if sender.is_none() {
                    let mut peer = Peer::new(self.fresh_id(), header.place, Flags::default());
                    peer.set(Flag::Handshake);
                    self.handshake(now, peer);
                    self.todo.save = true;
                }
                self.converse(now, via, sender, header, true, rumours);
            }
            Body::Fail(about) => self.hear_failed(now, sender, about),
            Body::AuthRequest => self.vote(now, sender, header),
            Body::AuthAck => self.count_vote(sender, header),
            Body::ManualStart => self.manual_asked(now, sender),
            Body::Update { about, config_epoch, slots } => {
                let Some(peer) = sender.and(self.peer(about)) else { return };
                if peer.config_epoch >= *config_epoch {
                    return;
                }
                self.set_as_master(about);
                if let Some(peer) = self.peer_mut(about) {
                    peer.config_epoch = *config_epoch;
                }
                self.todo.save = true;
                self.update_slots(*about, *config_epoch, slots);
            }
        }
    }

    /// A node comes into the table that is to be asked for its name.
    pub(crate) fn handshake(&mut self, now: Duration, peer: Peer) {
        let limit = self.settings.node_timeout.max(LEAST_HANDSHAKE) + Duration::from_millis(100);
        self.timer(now + limit, Event::Handshake(peer.id));
        self.add(peer);
    }

    fn hear_epochs(&mut self, id: &NodeId, header: &Header, tells: bool) {
        if header.current_epoch > self.current_epoch {
            self.current_epoch = header.current_epoch;
            self.todo.tell |= tells;
        }
        let Some(peer) = self.others.get_mut(id) else { return };
        if peer.has(Flag::Handshake) {
            return;
        }
        if header.config_epoch > peer.config_epoch {
            peer.config_epoch = header.config_epoch;
            self.todo.save = true;
        }
        let waits = self.manual.end.is_some() && self.manual.master_offset.is_none();
        if waits && self.me.is_replica() && self.me.master == Some(*id) && header.paused {
            self.manual.master_offset = Some(header.offset);
            self.todo.manual = true;
        }
    }

    /// Pings and pongs, on either link.
    fn converse(
        &mut self,
        now: Duration,
        via: Via,
        sender: Option<NodeId>,
        header: &Header,
        is_ping: bool,
        rumours: &[super::packet::Rumour],
    ) {
        if let Via::Ours(id) = via
            && !self.recognise(now, &id, sender, header)
        {
            return;
        }
        let Some(id) = sender else { return };
        if is_ping && via == Via::Theirs {
            self.follow_address(&id, header);
        }
        if let Via::Ours(id) = via
            && !is_ping
        {
            self.answered(now, &id);
        }
        if let Some(peer) = self.others.get_mut(&id) {
            peer.flags = if header.flags.has(Flag::NoFailover) {
                peer.flags.with(Flag::NoFailover)
            } else {
                peer.flags.without(Flag::NoFailover)
            };
        }
        self.hear_role(&id, header);
        self.hear_slots(&id, header);
        self.settle_epochs(&id, header);
        self.hear_rumours(now, &id, rumours);
    }

    /// Whether the one who answers is the one it was taken for.
    fn recognise(&mut self, now: Duration, id: &NodeId, sender: Option<NodeId>, header: &Header) -> bool {
        let Some(peer) = self.others.get_mut(id) else { return false };
        if peer.has(Flag::Handshake) {
            if let Some(known) = sender.or_else(|| (header.sender == self.me.id).then_some(header.sender)) {
                // Known already, by another address perhaps.
                self.follow_address(&known, header);
                self.remove(id);
                self.todo.save = true;
                return false;
            }
            let Some(mut peer) = self.others.remove(id) else { return false };
            peer.id = header.sender;
            peer.planned = None;
            peer.clear(Flag::Handshake);
            for role in [Flag::Master, Flag::Slave] {
                if header.flags.has(role) {
                    peer.set(role);
                }
            }
            peer.silent_since = None;
            peer.pong_ms = now.as_millis() as u64;
            self.add(peer);
            self.todo.save = true;
            self.todo.tell = true;
            return true;
        }
        if header.sender != *id {
            peer.set(Flag::NoAddress);
            peer.place = Place::default();
            peer.link = false;
            self.todo.save = true;
            self.todo.tell = true;
            return false;
        }
        true
    }

    /// A node that speaks from another address than the one it is known by has moved.
    fn follow_address(&mut self, id: &NodeId, header: &Header) {
        let Some(peer) = self.others.get_mut(id) else { return };
        if peer.place == header.place || peer.has(Flag::Handshake) {
            return;
        }
        peer.place = header.place;
        peer.link = false;
        peer.clear(Flag::NoAddress);
        self.todo.ping.push(*id);
        self.todo.save = true;
        self.todo.state = true;
        self.todo.tell = true;
        if self.me.is_replica() && self.me.master == Some(*id) {
            self.todo.follow = header.place.data();
        }
    }

    /// Master or replica, and whose.
    fn hear_role(&mut self, id: &NodeId, header: &Header) {
        let Some(master) = header.replica_of else { return self.set_as_master(id) };
        let known = self.peer(&master).is_some();
        let Some(peer) = self.others.get_mut(id) else { return };
        if peer.is_master() {
            self.unclaimed = &self.unclaimed - &peer.slots;
            peer.slots = SlotSet::new();
            peer.clear(Flag::Master);
            self.todo.state = true;
            self.todo.save = true;
        }
        peer.set(Flag::Slave);
        if known && peer.master != Some(master) {
            peer.master = Some(master);
            self.todo.save = true;
        }
    }

    pub(crate) fn set_as_master(&mut self, id: &NodeId) {
        let Some(peer) = self.peer_mut(id) else { return };
        if peer.is_master() {
            return;
        }
        peer.clear(Flag::Slave);
        peer.set(Flag::Master);
        peer.master = None;
        self.todo.save = true;
        self.todo.state = true;
    }

    /// Two masters with the same epoch: the one with the lower id takes another.
    fn settle_epochs(&mut self, id: &NodeId, header: &Header) {
        let Some(peer) = self.others.get(id) else { return };
        let same = header.config_epoch == self.me.config_epoch && peer.config_epoch == self.me.config_epoch;
        if !same || !self.me.is_master() || !peer.is_master() || *id <= self.me.id {
            return;
        }
        self.current_epoch += 1;
        self.me.config_epoch = self.current_epoch;
        self.todo.save = true;
        self.todo.tell = true;
    }
}

impl Cluster {
    /// A handshake that took too long is forgotten.
    pub(crate) fn handshake_over(&mut self, id: &NodeId) {
        if self.others.get(id).is_some_and(|peer| peer.has(Flag::Handshake)) {
            self.remove(id);
        }
    }
}
