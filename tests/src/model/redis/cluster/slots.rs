//! Who owns which slots: the claim with the higher epoch wins, and who loses its last slot follows the winner.

use overlord_engines::cluster::{Flag, NodeId, SlotSet};

use super::{
    Cluster,
    packet::{Body, Header},
};

impl Cluster {
    /// What a sender says of its slots, or of its master's.
    pub(super) fn hear_slots(&mut self, id: &NodeId, header: &Header) {
        let Some(sender) = self.others.get(id) else { return };
        let is_master = sender.is_master();
        let shard =
            if is_master { Some(sender) } else { sender.master.and_then(|master| self.peer(&master)) };
        if shard.is_none_or(|shard| shard.slots == header.slots) {
            return;
        }
        if is_master {
            self.update_slots(*id, header.config_epoch, &header.slots);
        }
        // It claims what another has with a higher epoch: it is told so, of the first of them.
        let stale = self.all().filter(|peer| peer.id != *id && peer.config_epoch > header.config_epoch);
        let stale = stale.filter_map(|peer| {
            let slots = &(&peer.slots & &header.slots) - &self.unclaimed;
            slots.first().map(|slot| (slot, peer))
        });
        let Some((_, owner)) = stale.min_by_key(|(slot, _)| *slot) else { return };
        let (about, config_epoch, slots) = (owner.id, owner.config_epoch, owner.slots.clone());
        let packet = self.packet(Body::Update { about, config_epoch, slots });
        if self.others.get(id).is_some_and(|peer| peer.link) {
            self.todo.mail.push((*id, packet));
        }
    }

    /// A claim to slots.
    pub(super) fn update_slots(&mut self, sender: NodeId, epoch: u64, claimed: &SlotSet) {
        if sender == self.me.id {
            return;
        }
        let Some(held) = self.peer(&sender).map(|peer| peer.slots.clone()) else { return };
        self.unclaimed = &(&self.unclaimed - &(claimed & &held)) | &(&held - claimed);
        let wanted = claimed - &held;
        let current = if self.me.is_master() { Some(self.me.id) } else { self.me.master };
        let (me, unclaimed) = (self.me.id, self.unclaimed.clone());
        let mut gained = SlotSet::new();
        let mut owned = SlotSet::new();
        let mut lost_by_me = SlotSet::new();
        let mut moved = 0;
        for peer in self.all_mut() {
            let overlap = &peer.slots & &wanted;
            if overlap.is_empty() {
                continue;
            }
            owned.extend(&overlap);
            let takes = if peer.config_epoch < epoch { overlap } else { &overlap & &unclaimed };
            if takes.is_empty() {
                continue;
            }
            peer.slots = &peer.slots - &takes;
            if peer.id == me {
                lost_by_me.extend(&takes);
            }
            if Some(peer.id) == current {
                moved += takes.len();
            }
            gained.extend(&takes);
        }
        gained.extend(&(&wanted - &owned));
        if !gained.is_empty() {
            self.unclaimed = &self.unclaimed - &gained;
            if let Some(peer) = self.peer_mut(&sender) {
                peer.slots.extend(&gained);
            }
            self.todo.save = true;
            self.todo.state = true;
        }
        let emptied = current.and_then(|id| self.peer(&id)).is_some_and(|peer| peer.slots.is_empty());
        if moved > 0 && emptied && (self.settings.replica_migration || claimed.len() == moved) {
            self.follow(&sender);
            return;
        }
        let grandmaster = self.master().and_then(|master| master.master).filter(|grand| *grand != me);
        if let Some(grandmaster) = grandmaster {
            self.follow(&grandmaster);
        } else {
            self.todo.drop_keys.extend(&lost_by_me);
        }
    }

    /// This node becomes the replica of another.
    pub(crate) fn follow(&mut self, master: &NodeId) {
        if *master == self.me.id {
            return;
        }
        self.me.clear(Flag::Master);
        self.me.set(Flag::Slave);
        self.me.master = Some(*master);
        self.todo.follow = self.others.get(master).and_then(|peer| peer.place.data());
        self.reset_manual();
        self.todo.save = true;
        self.todo.state = true;
        self.todo.tell = true;
    }
}
