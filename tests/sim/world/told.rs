//! What a script says of one thing by its name, and of the store as a whole.

use std::time::Duration;

use overlord_store::Snapshot;

use super::{World, agent_name};
use crate::store::Who;

/// Between two probes of an engine by an executor: `Limits::default().probe_interval` in whole seconds.
const PROBES: Duration = Duration::from_secs(1);

impl World {
    /// `kill -9` of the executor of a Mesos task. Whether there was one.
    pub(crate) fn kill_executor_of(&self, task: &str) -> bool {
        let Some((container, agent)) = self.launcher.container_of(task) else { return false };
        let lost = self.lost.iter().any(|number| agent_name(*number) == agent);
        self.launcher.kill_executor(&container, lost);
        true
    }

    /// Executors look at their engines as often as real ones do: what is slow to start is seen soon.
    pub(crate) fn probe_often(&self) {
        self.launcher.probes.store(PROBES.as_secs(), std::sync::atomic::Ordering::Relaxed);
    }

    /// The store as it is, as a backup.
    pub(crate) fn snapshot_store(&self) -> Snapshot {
        let snapshot = self.store.snapshot();
        self.trace.line(format!("somebody makes a backup of the store at revision {}", snapshot.revision()));
        snapshot
    }

    /// The store is as it was then.
    pub(crate) async fn restore_store(&self, snapshot: &Snapshot) {
        self.trace.line(format!("the store is restored from its backup of revision {}", snapshot.revision()));
        self.store.restore(snapshot);
        self.oracles.restored();
        self.oracles.look(Who::Hand, None).await;
    }

    /// The store has no room any more, or has some again.
    pub(crate) fn fill_store(&self, full: bool) {
        self.trace.line(if full { "the store has no room left" } else { "the store has room again" });
        self.store.set_alarm_no_space(full);
    }
}
