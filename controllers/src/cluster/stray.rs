//! Keys that name no cluster: a config key with an illegal name, a request that cannot be read. Each is
//! told under its own name, and disturbs nobody.

use overlord_api::{
    ClusterName, EventLevel, TaskState, TaskStatus,
    keys::{self, Key},
};

use crate::{
    events::{Happening, NO_CLUSTER},
    ledger::{Batch, Expect, LedgerError, TaskValue},
    shared::Shared,
};

/// Reports one such key.
pub(super) async fn report(shared: &Shared, key: &str) -> Result<(), LedgerError> {
    if let Some(name) = key.strip_prefix(keys::CONFIG) {
        if let (Err(error), true) = (ClusterName::new(name), shared.ledger.config.get(key).is_some()) {
            shared.events.record(
                NO_CLUSTER,
                Happening {
                    object: format!("config-{}", name.escape_debug()),
                    reason: "IllegalName",
                    level: EventLevel::Warning,
                    message: format!("{} is not used: {error}", key.escape_debug()),
                },
            );
        }
        return Ok(());
    }
    let Some(seen) = shared.ledger.tasks.get(key) else { return Ok(()) };
    let TaskValue::Damaged(why) = &*seen.value else { return Ok(()) };
    let Key::Task(id) = Key::parse(key) else { return Ok(()) };
    let error = format!("{key}: {why}");
    if let Some(TaskValue::Status(status)) =
        shared.ledger.tasks.get(&keys::task_status(id)).as_ref().map(|seen| &*seen.value)
        && status.error == error
    {
        return Ok(());
    }
    let status = TaskStatus {
        version: 1,
        state: TaskState::Failed,
        revision: 0,
        phases: Vec::new(),
        wanted: 0,
        running: 0,
        started_at: None,
        finished_at: Some(shared.clock.now()),
        error,
    };
    let mut batch = Batch::default();
    batch.require(key.to_owned(), Expect::At(seen.mod_revision));
    batch.put_json(keys::task_status(id), &status, Expect::Any);
    shared.ledger.commit(batch).await.map(|_| ())
}
