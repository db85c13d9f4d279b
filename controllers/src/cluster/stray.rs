//! Keys that name no cluster: a config key with an illegal name, a request that cannot be read. Each is
//! told under its own name, and disturbs nobody.

use std::time::Duration;

use jiff::SignedDuration;
use overlord_api::{
    ClusterName, EventLevel, TaskState, TaskStatus, VALUES_VERSION,
    keys::{self, Key},
};

use crate::{
    Happening,
    ledger::{Batch, Expect, LedgerError, TaskValue},
    shared::Shared,
};

/// Characters of an illegal name that are told.
const NAME_TOLD: usize = 80;

/// A request that cannot be read may be corrected for this long; then it has failed.
const PATIENCE: SignedDuration = SignedDuration::from_mins(10);

/// Reports one such key; says when to look again.
pub(super) async fn report(shared: &Shared, key: &str) -> Result<Option<Duration>, LedgerError> {
    if let Some(name) = key.strip_prefix(keys::CONFIG) {
        if let (Err(error), true) = (ClusterName::new(name), shared.ledger.config.get(key).is_some()) {
            let short: String = name.chars().take(NAME_TOLD).collect();
            let message = format!("{}{} is not used: {error}", keys::CONFIG, short.escape_debug());
            let object = format!("config-{}", short.escape_debug());
            let level = EventLevel::Warning;
            shared.tell_once(key, Happening { object, reason: "IllegalName", level, message });
        }
        return Ok(None);
    }
    let Some(seen) = shared.ledger.tasks.get(key) else { return Ok(None) };
    let TaskValue::Damaged(why) = &*seen.value else { return Ok(None) };
    let Key::Task(id) = Key::parse(key) else { return Ok(None) };
    let before = shared.ledger.tasks.get(&keys::task_status(id));
    let before = match before.as_ref().map(|seen| &*seen.value) {
        Some(TaskValue::Status(status)) => Some(&**status),
        Some(TaskValue::Damaged(why)) if why.is_newer() => return Ok(None),
        Some(TaskValue::Task(_) | TaskValue::Damaged(_)) | None => None,
    };
    if before.is_some_and(|before| before.state.is_terminal()) {
        return Ok(None);
    }
    let now = shared.clock.now();
    // Since when people are told; it outlives the leader.
    let since = before.and_then(|before| before.started_at).unwrap_or(now);
    let left = since.saturating_add(PATIENCE).map_or(SignedDuration::ZERO, |until| until.duration_since(now));
    // A newer build may come and read it.
    let over = !why.is_newer() && left <= SignedDuration::ZERO;
    let status = TaskStatus {
        version: VALUES_VERSION,
        // Not over at first: corrected, it is admitted like any other.
        state: if over { TaskState::Failed } else { TaskState::Queued },
        revision: 0,
        phases: Vec::new(),
        wanted: 0,
        running: 0,
        started_at: Some(since),
        finished_at: over.then_some(now),
        error: if over {
            format!(
                "{key} was not corrected within {} minutes: {why}; ask again under another id",
                PATIENCE.as_mins()
            )
        } else {
            format!("{key}: {why}")
        },
    };
    if before != Some(&status) {
        let mut batch = Batch::default();
        batch.require(key.to_owned(), Expect::At(seen.mod_revision));
        batch.put_json(keys::task_status(id), &status, Expect::Any);
        shared.ledger.commit(batch).await?;
    }
    let again = Duration::try_from(left).unwrap_or_default();
    Ok((!over && !why.is_newer()).then_some(again.max(Duration::from_secs(1))))
}
