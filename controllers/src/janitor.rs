//! Removes what has served its time: quarantines that ended, and requests of clusters that are gone.

use std::time::Duration;

use jiff::SignedDuration;
use overlord_api::{
    ClusterName, EventLevel,
    keys::{self, Key},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Happening,
    ledger::{Batch, Expect, TaskValue},
    mesos_events::remember_framework_once,
    shared::Shared,
};

/// How often it looks.
const PERIOD: Duration = Duration::from_secs(60);

/// How often it looks for values that cannot be read.
const TELL: Duration = Duration::from_secs(15);

/// Keys removed in one transaction.
const AT_ONCE: usize = 100;

/// An ended request of a cluster that is gone is kept for this long.
const ORPHANED_TASK: SignedDuration = SignedDuration::from_hours(24);

/// Sweeps until `shutdown`.
pub(crate) async fn run(shared: &Shared, shutdown: CancellationToken) {
    let mut waited = Duration::ZERO;
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(TELL) => {}
        }
        tell_unreadable(shared);
        waited += TELL;
        if waited < PERIOD {
            continue;
        }
        waited = Duration::ZERO;
        shared.events.prune();
        if let Some(id) = shared.mesos.framework_id()
            && let Err(error) = remember_framework_once(shared, &id).await
        {
            tracing::debug!(%error, "framework id not checked");
        }
        // Nothing is removed from a store that may have forgotten more than it.
        while shared.went_back.is_none() {
            let batch = expired(shared);
            if batch.is_empty() || shutdown.is_cancelled() {
                break;
            }
            if let Err(error) = shared.ledger.commit(batch).await {
                tracing::debug!(%error, "sweep not written");
                break;
            }
        }
    }
}

/// Quarantines that cannot be read belong to no cluster.
fn tell_unreadable(shared: &Shared) {
    for (key, seen) in shared.ledger.quarantine.range(keys::QUARANTINE) {
        if seen.value.is_none() {
            let object = key.strip_prefix(keys::ROOT).unwrap_or(&key).to_owned();
            let message = format!(
                "{key} cannot be read, so nobody knows how long it counts: the address is not used until the key is \
                 removed"
            );
            let level = EventLevel::Warning;
            shared.tell_once(&key, Happening { object, reason: "DamagedValue", level, message });
        }
    }
}

fn expired(shared: &Shared) -> Batch {
    let now = shared.clock.now();
    let mut batch = Batch::default();
    for (key, seen) in shared.ledger.quarantine.range(keys::QUARANTINE) {
        // One that cannot be read is kept: nobody knows how long it counts.
        let over = seen.value.as_ref().as_ref().is_some_and(|quarantine| quarantine.until <= now);
        if over && batch.operations() < AT_ONCE {
            batch.delete(key.to_string(), Expect::At(seen.mod_revision));
        }
    }
    for (key, seen) in shared.ledger.tasks.range(keys::TASK) {
        let (Key::TaskStatus(id), TaskValue::Status(status)) = (Key::parse(&key), &*seen.value) else {
            continue;
        };
        // A status without its request speaks of nothing.
        let alone = shared.ledger.tasks.get(&keys::task(id)).is_none();
        let old = alone || status.finished_at.is_some_and(|at| now.duration_since(at) > ORPHANED_TASK);
        if old && batch.operations() < AT_ONCE && is_orphan(shared, id) {
            batch.delete(key.to_string(), Expect::At(seen.mod_revision));
            batch.delete(keys::task(id), Expect::Any);
        }
    }
    batch
}

/// Whether a request's cluster is gone.
fn is_orphan(shared: &Shared, id: &str) -> bool {
    let gone = |cluster: &ClusterName| {
        shared.ledger.clusters.get(&keys::record(cluster)).is_none()
            && shared.ledger.config.get(&keys::config(cluster)).is_none()
    };
    match shared.ledger.tasks.get(&keys::task(id)).as_ref().map(|seen| &*seen.value) {
        Some(TaskValue::Task(task)) => gone(&task.cluster),
        Some(_) | None => true,
    }
}
