//! Failovers that somebody ordered: in agreement with the master, by force, or without anybody's vote.

use std::time::Duration;

use overlord_engines::cluster::{Flag, NodeId};

use super::{Cluster, packet::Body};
use crate::model::redis::queue::Event;

/// How long one may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A manual failover, as either side sees it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Manual {
    /// When it is given up.
    pub(crate) end: Option<Duration>,
    /// The replica may ask for votes.
    pub(crate) can_start: bool,
    /// How far the master was when it stopped taking writes.
    pub(crate) master_offset: Option<u64>,
    /// The master takes no writes until then.
    pub(crate) pause: Option<Duration>,
}

impl Cluster {
    pub(super) fn reset_manual(&mut self) {
        self.manual = Manual::default();
    }

    /// `CLUSTER FAILOVER`.
    pub(crate) fn order_failover(
        &mut self,
        now: Duration,
        force: bool,
        take_over: bool,
    ) -> Result<(), String> {
        if self.me.is_master() {
            return Err("ERR You should send CLUSTER FAILOVER to a replica".to_owned());
        }
        let Some(master) = self.master() else {
            return Err("ERR I'm a replica but my master is unknown to me".to_owned());
        };
        if (master.has(Flag::Fail) || !master.link) && !force && !take_over {
            return Err("ERR Master is down or failed, please use CLUSTER FAILOVER FORCE".to_owned());
        }
        let master = master.id;
        self.reset_manual();
        self.manual.end = Some(now + TIMEOUT);
        self.timer(now + TIMEOUT + Duration::from_millis(100), Event::Manual);
        if take_over {
            self.bump_epoch();
            self.replace_master(now);
        } else if force {
            self.manual.can_start = true;
            self.todo.failover = true;
        } else {
            let packet = self.packet(Body::ManualStart);
            self.todo.mail.push((master, packet));
        }
        Ok(())
    }

    /// A new config epoch by nobody's leave.
    pub(crate) fn bump_epoch(&mut self) -> bool {
        let highest = self.all().map(|peer| peer.config_epoch).max().unwrap_or(0).max(self.current_epoch);
        if self.me.config_epoch != 0 && self.me.config_epoch == highest {
            return false;
        }
        self.current_epoch += 1;
        self.me.config_epoch = self.current_epoch;
        self.todo.save = true;
        self.todo.tell = true;
        true
    }

    /// A replica asks its master to stop taking writes.
    pub(super) fn manual_asked(&mut self, now: Duration, sender: Option<NodeId>) {
        let Some(id) = sender else { return };
        if self.others.get(&id).is_none_or(|peer| peer.master != Some(self.me.id)) {
            return;
        }
        self.reset_manual();
        self.manual.end = Some(now + TIMEOUT);
        self.manual.pause = Some(now + TIMEOUT * 2);
        self.timer(now + TIMEOUT + Duration::from_millis(100), Event::Manual);
        let packet = self.packet(Body::Ping(self.rumours()));
        self.todo.mail.push((id, packet));
    }

    /// The replica has all that the master had.
    pub(crate) fn handle_manual(&mut self) {
        if self.manual.end.is_none() || self.manual.can_start {
            return;
        }
        if self.manual.master_offset == Some(self.offset) {
            self.manual.can_start = true;
            self.todo.failover = true;
        }
    }

    /// Gives it up when its time is over.
    pub(crate) fn manual_over(&mut self, now: Duration) {
        if self.manual.end.is_some_and(|end| end < now) {
            self.reset_manual();
        }
    }
}
