//! Removes what has served its time: quarantines that ended, and requests of clusters that are gone.
//! Remembers how far the store has come.

use std::time::Duration;

use jiff::SignedDuration;
use overlord_api::{
    ClusterName,
    keys::{self, Key},
};
use tokio_util::sync::CancellationToken;

use crate::{
    leader::remember,
    ledger::{Batch, Expect, TaskValue},
    mesos_events::remember_framework_once,
    shared::Shared,
};

/// How often it looks.
const PERIOD: Duration = Duration::from_secs(60);

/// Keys removed in one transaction.
const AT_ONCE: usize = 100;

/// An ended request of a cluster that is gone is kept for this long.
const ORPHANED_TASK: SignedDuration = SignedDuration::from_hours(24);

/// Sweeps until `shutdown`.
pub(crate) async fn run(shared: &Shared, shutdown: CancellationToken) {
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(PERIOD) => {}
        }
        if let (Some(file), false) = (&shared.settings.state_file, shared.went_back) {
            let caches = [shared.ledger.clusters.revision(), shared.ledger.tasks.revision()];
            remember(file, caches.into_iter().max().unwrap_or_default());
        }
        shared.events.prune();
        if let Some(id) = shared.mesos.framework_id()
            && let Err(error) = remember_framework_once(shared, &id).await
        {
            tracing::debug!(%error, "framework id not checked");
        }
        loop {
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
