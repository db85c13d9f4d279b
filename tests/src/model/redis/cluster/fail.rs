//! Who is suspected to have failed, who has, and who is back.

use std::time::Duration;

use overlord_engines::cluster::{Flag, NodeId};

use super::{Cluster, packet::Body};
use crate::model::redis::queue::Event;

/// A failed master that still owns its slots is taken back after so many node timeouts.
const RESTORED_AFTER: u32 = 2;

/// What a master said of another counts for so many node timeouts after it was heard last.
const REPORT_LASTS: u32 = 2;

impl Cluster {
    /// A node does not answer; it is suspected after the timeout and `late` more.
    pub(crate) fn unanswered(&mut self, now: Duration, id: &NodeId, link: bool, late: Duration) {
        let timeout = self.settings.node_timeout;
        let Some(peer) = self.others.get_mut(id) else { return };
        peer.link = link;
        if peer.silent_since.is_none() {
            peer.silent_since = Some(now);
            if !peer.is_unwell() {
                self.timer(now + timeout + late, Event::Suspect(*id, now));
            }
        }
    }

    /// A node has been silent since that moment, for the whole timeout.
    pub(crate) fn suspect(&mut self, now: Duration, id: &NodeId, since: Duration) {
        let Some(peer) = self.others.get_mut(id).filter(|peer| peer.silent_since == Some(since)) else {
            return;
        };
        if peer.is_unwell() || peer.has(Flag::Handshake) || peer.has(Flag::NoAddress) {
            return;
        }
        peer.set(Flag::SuspectedFail);
        self.todo.state = true;
        self.todo.tell = true;
        self.judge(now, id);
    }

    /// A pong came, on this node's own link.
    pub(super) fn answered(&mut self, now: Duration, id: &NodeId) {
        let Some(peer) = self.others.get_mut(id) else { return };
        peer.pong_ms = now.as_millis() as u64;
        peer.silent_since = None;
        if !peer.link {
            peer.link = true;
        }
        if peer.has(Flag::SuspectedFail) {
            peer.clear(Flag::SuspectedFail);
            self.todo.save = true;
            self.todo.state = true;
            self.todo.tell = true;
        } else if peer.has(Flag::Fail) {
            self.restore(now, id);
        }
    }

    /// Takes a failed node back, if it may be.
    pub(crate) fn restore(&mut self, now: Duration, id: &NodeId) {
        let after = self.settings.node_timeout * RESTORED_AFTER;
        let Some(peer) = self.others.get_mut(id) else { return };
        if !peer.has(Flag::Fail) || peer.silent_since.is_some() {
            return;
        }
        if peer.serves() && now <= peer.failed_at + after {
            let at = peer.failed_at + after + Duration::from_millis(100);
            self.timer(at, Event::Restore(*id));
            return;
        }
        peer.clear(Flag::Fail);
        self.todo.save = true;
        self.todo.state = true;
        self.todo.tell = true;
    }

    /// A suspected node has failed when a majority of masters says so.
    pub(super) fn judge(&mut self, now: Duration, id: &NodeId) {
        let lasts = self.settings.node_timeout * REPORT_LASTS;
        let Some(peer) = self.others.get(id).filter(|peer| peer.has(Flag::SuspectedFail)) else { return };
        let fresh = |by: &&NodeId| {
            let by = self.others.get(by);
            by.is_some_and(|by| by.silent_since.is_none_or(|since| now < since + lasts))
        };
        let votes = peer.reports.iter().filter(fresh).count() + usize::from(self.me.is_master());
        if votes < self.needed() {
            return;
        }
        self.fail(now, id);
        let packet = self.packet(Body::Fail(*id));
        self.broadcast(&packet);
    }

    fn fail(&mut self, now: Duration, id: &NodeId) {
        let Some(peer) = self.others.get_mut(id) else { return };
        peer.clear(Flag::SuspectedFail);
        peer.set(Flag::Fail);
        peer.failed_at = now;
        if peer.silent_since.is_none() {
            self.todo.ping.push(*id);
        }
        self.todo.save = true;
        self.todo.state = true;
        self.todo.tell = true;
    }

    /// Another says that a majority says so.
    pub(super) fn hear_failed(&mut self, now: Duration, sender: Option<NodeId>, about: &NodeId) {
        let known = self.others.get(about).is_some_and(|peer| !peer.has(Flag::Fail));
        if sender.is_some() && known {
            self.fail(now, about);
        }
    }
}
