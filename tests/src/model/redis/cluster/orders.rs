//! What a node is told to do with its cluster: `CLUSTER MEET`, `REPLICATE`, `FORGET`, slots.

use std::time::Duration;

use overlord_engines::cluster::{Flag, NodeId, SlotSet};

use super::{
    Cluster,
    peer::{Peer, Place},
};
use crate::model::redis::queue::Event;

/// For how long a forgotten node is not heard of again.
const BAN: Duration = Duration::from_secs(60);

impl Cluster {
    /// `CLUSTER MEET`.
    pub(crate) fn order_meet(&mut self, now: Duration, place: Place) {
        let under_way = self.others.values().any(|peer| peer.has(Flag::Handshake) && peer.place == place);
        if under_way {
            return;
        }
        let mut peer = Peer::new(self.fresh_id(), place, overlord_engines::cluster::Flags::default());
        peer.set(Flag::Handshake);
        peer.meet = true;
        self.handshake(now, peer);
    }

    /// An id for a node whose own is not known yet.
    pub(super) fn fresh_id(&mut self) -> NodeId {
        self.handshakes += 1;
        NodeId::derive(&self.me.id.to_string(), self.handshakes, 0)
    }

    /// `CLUSTER REPLICATE`.
    pub(crate) fn order_replicate(&mut self, id: &str, has_keys: bool) -> Result<(), String> {
        let master = self.known(id)?;
        if master == self.me.id {
            return Err("ERR Can't replicate myself".to_owned());
        }
        if self.others.get(&master).is_some_and(Peer::is_replica) {
            return Err("ERR I can only replicate a master, not a replica.".to_owned());
        }
        if self.me.is_master() && (has_keys || !self.me.slots.is_empty()) {
            return Err("ERR To set a master the node must be empty and without assigned slots.".to_owned());
        }
        self.follow(&master);
        Ok(())
    }

    /// `CLUSTER FORGET`.
    pub(crate) fn order_forget(&mut self, now: Duration, id: &str) -> Result<(), String> {
        let node = self.known(id)?;
        if node == self.me.id {
            return Err("ERR I tried hard but I can't forget myself...".to_owned());
        }
        if self.me.is_replica() && self.me.master == Some(node) {
            return Err("ERR Can't forget my master!".to_owned());
        }
        self.banned.insert(node, now + BAN);
        self.timer(now + BAN + Duration::from_secs(1), Event::BanOver(node));
        self.remove(&node);
        self.todo.state = true;
        self.todo.save = true;
        Ok(())
    }

    /// `CLUSTER ADDSLOTS`.
    pub(crate) fn order_add_slots(&mut self, slots: &SlotSet) -> Result<(), String> {
        if let Some(slot) = (&self.owned() & slots).first() {
            return Err(format!("ERR Slot {slot} is already busy"));
        }
        self.me.slots.extend(slots);
        self.slots_changed();
        Ok(())
    }

    /// `CLUSTER DELSLOTS`.
    pub(crate) fn order_delete_slots(&mut self, slots: &SlotSet) -> Result<(), String> {
        if let Some(slot) = (slots - &self.owned()).first() {
            return Err(format!("ERR Slot {slot} is already unassigned"));
        }
        for peer in self.all_mut() {
            peer.slots = &peer.slots - slots;
        }
        self.unclaimed = &self.unclaimed - slots;
        self.slots_changed();
        Ok(())
    }

    /// `CLUSTER SET-CONFIG-EPOCH`.
    pub(crate) fn order_epoch(&mut self, epoch: u64) -> Result<(), String> {
        if !self.others.is_empty() {
            return Err(
                "ERR The user can assign a config epoch only when the node does not know any other node."
                    .to_owned(),
            );
        }
        if self.me.config_epoch != 0 {
            return Err("ERR Node config epoch is already non-zero".to_owned());
        }
        self.me.config_epoch = epoch;
        self.current_epoch = self.current_epoch.max(epoch);
        self.todo.state = true;
        self.todo.save = true;
        Ok(())
    }

    fn slots_changed(&mut self) {
        self.todo.state = true;
        self.todo.save = true;
        self.todo.tell = true;
    }

    fn known(&self, id: &str) -> Result<NodeId, String> {
        let parsed = id.parse::<NodeId>().ok().filter(|id| self.peer(id).is_some());
        parsed.ok_or_else(|| format!("ERR Unknown node {id}"))
    }
}
