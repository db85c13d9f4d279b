//! Elections: a replica of a failed master asks the masters for their votes.

use std::time::Duration;

use overlord_engines::cluster::{Flag, NodeId};

use super::{
    Cluster,
    packet::{Body, Header},
    peer::Peer,
};
use crate::model::redis::queue::Event;

/// Time for the news of the failure to reach all masters.
const FIXED_DELAY: Duration = Duration::from_millis(500);

/// For each replica with more data.
const RANK_DELAY: Duration = Duration::from_secs(1);

/// The least time for the answers.
const LEAST_TIMEOUT: Duration = Duration::from_secs(2);

/// A master votes for replicas of one master once in so many node timeouts.
const VOTES_APART: u32 = 2;

const TICK: Duration = Duration::from_millis(1);

/// An election, as the replica sees it that asks.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Election {
    /// When it begins, or began.
    at: Option<Duration>,
    epoch: u64,
    votes: usize,
    sent: bool,
    rank: u32,
    timer: Option<Duration>,
}

/// What a replica's process knows of its data.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Standing {
    /// Since when it has not followed its master; none if it never did.
    pub(crate) data_age: Option<Duration>,
    /// How many replicas of the same master have more.
    pub(crate) rank: u32,
    /// The random part of the delay.
    pub(crate) jitter: Duration,
}

impl Cluster {
    /// A replica looks whether it is to stand for election, and how that is going.
    pub(crate) fn handle_failover(&mut self, now: Duration, standing: Standing) {
        let Settled { manual, by_person } = self.settled();
        let Some(master) = self.master().filter(|_| self.me.is_replica()) else { return };
        let may = (master.has(Flag::Fail) && !self.settings.no_failover) || manual;
        if !may || master.slots.is_empty() || (!manual && !self.is_recent(standing.data_age)) {
            return;
        }
        let timeout = (self.settings.node_timeout * 2).max(LEAST_TIMEOUT);
        let retry = timeout * 2;
        let Some(at) = self.election.at.filter(|at| now <= *at + retry) else {
            let delay = FIXED_DELAY + standing.jitter + RANK_DELAY * standing.rank;
            let (at, rank) = if by_person { (now, 0) } else { (now + delay, standing.rank) };
            self.election = Election { at: Some(at), rank, ..Election::default() };
            self.wake(at);
            return;
        };
        let mut at = at;
        if !self.election.sent && !by_person && standing.rank > self.election.rank {
            at += RANK_DELAY * (standing.rank - self.election.rank);
            self.election.rank = standing.rank;
            self.election.at = Some(at);
        }
        if now < at {
            return self.wake(at);
        }
        if now > at + timeout {
            return self.wake(at + retry + TICK);
        }
        if !self.election.sent {
            self.current_epoch += 1;
            self.election.epoch = self.current_epoch;
            self.election.sent = true;
            let mut packet = self.packet(Body::AuthRequest);
            packet.header.force = self.manual.end.is_some();
            self.broadcast(&packet);
            self.todo.save = true;
            self.todo.state = true;
            return self.wake(at + retry + TICK);
        }
        if self.election.votes >= self.needed() {
            self.me.config_epoch = self.me.config_epoch.max(self.election.epoch);
            self.replace_master(now);
        }
    }

    fn settled(&self) -> Settled {
        Settled {
            manual: self.manual.end.is_some() && self.manual.can_start,
            by_person: self.manual.end.is_some(),
        }
    }

    /// Whether its data is not too old to be a master's.
    fn is_recent(&self, age: Option<Duration>) -> bool {
        let factor = self.settings.validity_factor;
        if factor == 0 {
            return true;
        }
        let Some(mut age) = age else { return false };
        if age > self.settings.node_timeout {
            age -= self.settings.node_timeout;
        }
        age <= self.settings.ping_period + self.settings.node_timeout * factor
    }

    fn wake(&mut self, at: Duration) {
        if self.election.timer != Some(at) {
            self.election.timer = Some(at);
            self.timer(at, Event::Election);
        }
    }

    /// A replica takes its master's place and slots.
    pub(super) fn replace_master(&mut self, now: Duration) {
        let Some(old) = self.me.master.filter(|_| self.me.is_replica()) else { return };
        let me = self.me.id;
        self.set_as_master(&me);
        self.todo.unfollow = true;
        if let Some(old) = self.others.get_mut(&old) {
            let slots = std::mem::take(&mut old.slots);
            self.unclaimed = &self.unclaimed - &slots;
            self.me.slots.extend(&slots);
        }
        self.update_state(now);
        self.todo.save = true;
        self.todo.tell = true;
        let packet = self.packet(Body::Pong(self.rumours()));
        self.broadcast(&packet);
        self.reset_manual();
    }

    /// A master is asked for its vote.
    pub(super) fn vote(&mut self, now: Duration, sender: Option<NodeId>, request: &Header) {
        let Some(id) = sender else { return };
        if !self.me.serves()
            || request.current_epoch < self.current_epoch
            || self.last_vote_epoch == self.current_epoch
        {
            return;
        }
        let Some(asks) = self.others.get(&id).filter(|peer| !peer.is_master()) else { return };
        let Some(master) = asks.master.and_then(|master| self.peer(&master)) else { return };
        let apart = self.settings.node_timeout * VOTES_APART;
        if !(master.has(Flag::Fail) || request.force) || master.voted_at.is_some_and(|at| now < at + apart) {
            return;
        }
        // Somebody else has the slots, with a higher epoch.
        let newer = |peer: &Peer| {
            peer.config_epoch > request.config_epoch
                && !(&(&peer.slots & &request.slots) - &self.unclaimed).is_empty()
        };
        if self.all().any(newer) {
            return;
        }
        let master = master.id;
        self.last_vote_epoch = self.current_epoch;
        if let Some(master) = self.peer_mut(&master) {
            master.voted_at = Some(now);
        }
        self.todo.save = true;
        let packet = self.packet(Body::AuthAck);
        self.todo.mail.push((id, packet));
    }

    pub(super) fn count_vote(&mut self, sender: Option<NodeId>, header: &Header) {
        let counts = sender.and_then(|id| self.others.get(&id)).is_some_and(Peer::serves);
        if counts && header.current_epoch >= self.election.epoch {
            self.election.votes += 1;
            self.todo.failover = true;
        }
    }
}

struct Settled {
    /// A manual failover that may begin.
    manual: bool,
    /// A manual failover.
    by_person: bool,
}
