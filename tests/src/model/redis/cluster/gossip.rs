//! What a node hears of third nodes.

use std::time::Duration;

use overlord_engines::cluster::{Flag, NodeId};

use super::{Cluster, packet::Rumour, peer::Peer};

impl Cluster {
    /// Rumours of a node that is known.
    pub(super) fn hear_rumours(&mut self, now: Duration, from: &NodeId, rumours: &[Rumour]) {
        let from_master = self.others.get(from).is_some_and(Peer::is_master);
        for rumour in rumours {
            if rumour.id == self.me.id {
                continue;
            }
            let unwell = rumour.flags.has(Flag::SuspectedFail) || rumour.flags.has(Flag::Fail);
            let Some(peer) = self.others.get_mut(&rumour.id) else {
                self.hear_of(now, rumour);
                continue;
            };
            if from_master {
                if unwell {
                    peer.reports.insert(*from);
                } else {
                    peer.reports.remove(from);
                }
            }
            // Somebody reaches it elsewhere.
            if peer.is_unwell() && !unwell && !rumour.flags.has(Flag::NoAddress) && peer.place != rumour.place
            {
                peer.place = rumour.place;
                peer.link = false;
                peer.clear(Flag::NoAddress);
                self.todo.ping.push(rumour.id);
            }
            if from_master && unwell {
                self.judge(now, &rumour.id);
            }
        }
        self.rumours_fade(rumours, from, from_master);
    }

    /// What a master does not speak of, it does not complain of.
    fn rumours_fade(&mut self, rumours: &[Rumour], from: &NodeId, from_master: bool) {
        if !from_master {
            return;
        }
        for peer in self.others.values_mut().filter(|peer| peer.reports.contains(from)) {
            if !rumours.iter().any(|rumour| rumour.id == peer.id) && !peer.has(Flag::Fail) {
                peer.reports.remove(from);
            }
        }
    }

    fn hear_of(&mut self, now: Duration, rumour: &Rumour) {
        let banned = self.banned.get(&rumour.id).is_some_and(|until| *until > now);
        if banned || rumour.flags.has(Flag::NoAddress) {
            return;
        }
        // By its id: whoever has that address now and another id is not taken for it, and not met.
        self.add(Peer::new(rumour.id, rumour.place, rumour.flags));
        self.todo.tell = true;
    }
}
