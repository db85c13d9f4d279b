//! Keys that name no cluster: a config key with an illegal name, a request that cannot be read. Each is
//! told under its own name, and disturbs nobody.

use overlord_api::{
    ClusterName, EventLevel, TaskState, TaskStatus,
    keys::{self, Key},
};

use crate::{
    Happening,
    ledger::{Batch, Expect, LedgerError, TaskValue},
    shared::Shared,
};

/// Characters of an illegal name that are told.
const NAME_TOLD: usize = 80;

/// Reports one such key.
pub(super) async fn report(shared: &Shared, key: &str) -> Result<(), LedgerError> {
    if let Some(name) = key.strip_prefix(keys::CONFIG) {
        if let (Err(error), true) = (ClusterName::new(name), shared.ledger.config.get(key).is_some()) {
            let short: String = name.chars().take(NAME_TOLD).collect();
            let message = format!("{}{} is not used: {error}", keys::CONFIG, short.escape_debug());
            let object = format!("config-{}", short.escape_debug());
            let level = EventLevel::Warning;
            shared.tell_once(key, Happening { object, reason: "IllegalName", level, message });
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
        // Not over: corrected, it is admitted like any other.
        state: TaskState::Queued,
        revision: 0,
        phases: Vec::new(),
        wanted: 0,
        running: 0,
        started_at: None,
        finished_at: None,
        error,
    };
    let mut batch = Batch::default();
    batch.require(key.to_owned(), Expect::At(seen.mod_revision));
    batch.put_json(keys::task_status(id), &status, Expect::Any);
    shared.ledger.commit(batch).await.map(|_| ())
}
