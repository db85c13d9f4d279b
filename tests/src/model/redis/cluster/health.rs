//! Whether a node takes the cluster for ok, and so answers for keys.

use std::time::Duration;

use overlord_engines::cluster::{Flag, SLOTS, SlotSet};

use super::{Cluster, peer::Peer};
use crate::model::redis::queue::Event;

/// A master that was just started gives the others time to tell it news.
const WRITABLE_DELAY: Duration = Duration::from_secs(2);

/// How long a master that comes out of a minority waits, whatever the node timeout.
const REJOIN_DELAY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(5));

/// Just after.
const TICK: Duration = Duration::from_millis(100);

impl Cluster {
    pub(crate) fn update_state(&mut self, now: Duration) {
        // Its master has failed: whoever looks, looks at that too.
        if self.me.is_replica() && self.master().is_some_and(|master| master.has(Flag::Fail)) {
            self.todo.failover = true;
        }
        let first = *self.first_look.get_or_insert(now);
        if self.me.is_master() && !self.ok && now < first + WRITABLE_DELAY {
            self.timer(first + WRITABLE_DELAY, Event::State);
            return;
        }
        let serving = || self.all().filter(|peer| peer.serves());
        let size = serving().count();
        let reached = serving().filter(|peer| !peer.is_unwell()).count();
        let mut ok = !self.settings.full_coverage || self.is_covered();
        self.size = size;
        let minority = reached < self.needed();
        if minority {
            ok = false;
        }
        // The real one looks ten times a second as long as it is in a minority.
        if minority || self.in_minority {
            self.minority_at = Some(now);
        }
        self.in_minority = minority;
        if ok == self.ok {
            return;
        }
        let delay = self.settings.node_timeout.clamp(REJOIN_DELAY.0, REJOIN_DELAY.1);
        if ok
            && self.me.is_master()
            && let Some(until) = self.minority_at.map(|at| at + delay).filter(|until| now < *until)
        {
            self.timer(until + TICK, Event::State);
            return;
        }
        self.ok = ok;
    }

    fn is_covered(&self) -> bool {
        let mut owned = 0;
        for peer in self.all().filter(|peer| !peer.slots.is_empty()) {
            if peer.has(Flag::Fail) {
                return false;
            }
            owned += peer.slots.len();
        }
        owned == SLOTS
    }

    /// The answer to `CLUSTER INFO`.
    pub(crate) fn info(&self) -> String {
        let count = |wanted: &dyn Fn(&Peer) -> bool| -> u64 {
            self.all().filter(|peer| wanted(peer)).map(|peer| u64::from(peer.slots.len())).sum()
        };
        let failed = count(&|peer| peer.has(Flag::Fail));
        let suspected = count(&|peer| !peer.has(Flag::Fail) && peer.has(Flag::SuspectedFail));
        let assigned = count(&|_| true);
        format!(
            "cluster_state:{}\r\ncluster_slots_assigned:{assigned}\r\ncluster_slots_ok:{}\r\n\
             cluster_slots_pfail:{suspected}\r\ncluster_slots_fail:{failed}\r\ncluster_known_nodes:{}\r\n\
             cluster_size:{}\r\ncluster_current_epoch:{}\r\ncluster_my_epoch:{}\r\n\
             cluster_stats_messages_sent:0\r\ncluster_stats_messages_received:0\r\n\
             total_cluster_links_buffer_limit_exceeded:0\r\n",
            if self.ok { "ok" } else { "fail" },
            assigned - failed - suspected,
            self.others.len() + 1,
            self.size,
            self.current_epoch,
            self.shard().config_epoch,
        )
    }

    /// Who owns a slot.
    pub(crate) fn owner(&self, slot: u16) -> Option<&Peer> {
        self.all().find(|peer| peer.slots.contains(slot))
    }

    /// Slots that have an owner.
    pub(super) fn owned(&self) -> SlotSet {
        let mut owned = SlotSet::new();
        self.all().for_each(|peer| owned.extend(&peer.slots));
        owned
    }
}
