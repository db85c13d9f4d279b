//! What will happen, in the order of time: the model never ticks.

use std::{collections::BTreeMap, time::Duration};

use overlord_engines::cluster::NodeId;

use super::Pid;

/// Something that happens to a process by itself. What it no longer applies to is passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// It sends a ping to another node, as planned for this moment.
    Ping(NodeId, Duration),
    /// A node that has been silent since that moment is suspected to have failed.
    Suspect(NodeId, Duration),
    /// A failed master that answers again may be taken back.
    Restore(NodeId),
    /// It looks whether the cluster is ok.
    State,
    /// Its election may go on.
    Election,
    /// A manual failover is given up when it has not come about.
    Manual,
    /// A handshake that came to nothing is forgotten.
    Handshake(NodeId),
    /// It may hear of a forgotten node again.
    BanOver(NodeId),
    /// A replica just started begins to copy its master.
    Begin,
    /// A replica tries to reach its master.
    Link,
    /// A copy of the whole data, begun at that moment, is complete.
    Synced(Duration),
    /// A master silent since that moment is given up by its replica.
    LinkLost(Duration),
    /// What was written goes to the replicas.
    Stream,
    /// Its data is read.
    Loaded,
    /// A save point may be due.
    SavePoint,
}

/// Events to come.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    events: BTreeMap<(Duration, u64), (Pid, Event)>,
    count: u64,
}

impl Queue {
    /// Adds one; those of the same moment happen in the order in which they were added.
    pub(crate) fn add(&mut self, at: Duration, pid: Pid, event: Event) {
        self.count += 1;
        self.events.insert((at, self.count), (pid, event));
    }

    /// When the next one is due.
    pub(crate) fn next(&self) -> Option<Duration> {
        self.events.keys().next().map(|(at, _)| *at)
    }

    /// The next one that is due by then.
    pub(crate) fn take(&mut self, until: Duration) -> Option<(Duration, Pid, Event)> {
        let entry = self.events.first_entry().filter(|entry| entry.key().0 <= until)?;
        let at = entry.key().0;
        let (pid, event) = entry.remove();
        Some((at, pid, event))
    }

    /// Leaves out what was to happen to a process that is gone.
    pub(crate) fn forget(&mut self, pid: Pid) {
        self.events.retain(|_, (of, _)| *of != pid);
    }
}
