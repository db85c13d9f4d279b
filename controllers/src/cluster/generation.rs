//! What it means to a cluster that the store went back: while nobody has accepted it, nothing is done, and that is
//! said; once it is accepted, no record is believed before Mesos has told what runs.

use std::time::Duration;

use overlord_api::{Condition, ConditionType, Phase, Restored, Status, Truth, UNKNOWN_ATTEMPTS, keys};
use overlord_reconcile::Action;

use super::{Error, Pass, adopt::ANSWERS, publish::INTERVAL};
use crate::{
    high_water::WentBack,
    ledger::{Batch, Expect},
};

/// The reason of the conditions while the store is not accepted.
pub(super) const WENT_BACK: &str = "StoreWentBack";

/// While answers of Mesos are awaited.
pub(super) const LOOK_AGAIN: Duration = Duration::from_secs(1);

impl Pass<'_> {
    /// Tells that nothing is done, and does nothing.
    pub(super) async fn stand_still(&self, back: WentBack) -> Result<Action, Error> {
        self.shared.launcher.content(self.cluster);
        // Tasks that nobody recorded are told by this.
        if self.shared.sync.listed().is_none() {
            self.shared.sync.list_all();
        }
        let ledger = &self.shared.ledger;
        let (previous, revision) = ledger.status(self.cluster);
        let there = revision.is_some()
            || matches!(ledger.record(self.cluster), Ok(Some(_)))
            || ledger.config.get(&keys::config(self.cluster)).is_some();
        // A status that cannot be read is one more thing that waits.
        if !there || (revision.is_some() && previous.is_none()) {
            return Ok(Action::await_change());
        }
        let now = self.shared.clock.now();
        let mut status = previous.clone().unwrap_or_else(|| blank(self.config_revision()));
        status.phase = Phase::Degraded;
        let message = back.to_string();
        for (kind, truth) in [
            (ConditionType::Stale, Truth::True),
            (ConditionType::Progressing, Truth::False),
            (ConditionType::Ready, Truth::Unknown),
        ] {
            let before = status.condition(kind);
            let last_transition = match before {
                Some(before) if before.status == truth => before.last_transition,
                _ => now,
            };
            let condition = Condition {
                kind,
                status: truth,
                reason: WENT_BACK.to_owned(),
                message: message.clone(),
                last_transition,
                observed_revision: status.revision,
            };
            match status.conditions.iter_mut().find(|condition| condition.kind == kind) {
                Some(held) => *held = condition,
                None => status.conditions.push(condition),
            }
        }
        let (instances, _) = ledger.instances(self.cluster);
        status.counts.clear();
        for instance in &instances {
            let state = instance.info.observed.state.as_str().to_owned();
            *status.counts.entry(state).or_default() += 1;
        }
        if previous.as_ref() != Some(&status) {
            let now = self.shared.clock.monotonic();
            let due =
                self.shared.memo(self.cluster, |memo| memo.published.map_or(now, |last| last + INTERVAL));
            if due > now {
                return Ok(Action::requeue(due.saturating_sub(now)));
            }
            let mut batch = Batch::default();
            batch.put_json(keys::status(self.cluster), &status, Expect::seen(revision));
            let outcome = ledger.commit(batch).await;
            let tried = self.shared.clock.monotonic();
            self.shared.memo(self.cluster, |memo| memo.published = Some(tried));
            outcome.map_err(|source| self.error(source))?;
        }
        Ok(Action::await_change())
    }

    /// Makes a record of an earlier generation one of now: what it says is verified with Mesos before anything is done,
    /// and no id of a launch that it forgot is given again. Whether to go on now.
    pub(super) async fn begin_generation(&self) -> Result<bool, Error> {
        let generation = self.shared.high_water.mark_of(0).generation;
        if generation == 0 {
            return Ok(true);
        }
        let ledger = &self.shared.ledger;
        let Ok(record) = ledger.record(self.cluster) else { return Ok(true) };
        let Some(record) = record else {
            // A spec without a record: its cluster may run, and the record be forgotten.
            let asked = self.shared.sync.listed();
            if asked.is_none() {
                self.shared.sync.list_all();
            }
            let now = self.shared.clock.monotonic();
            return Ok(self.config_revision() == 0 || asked.is_some_and(|at| at + ANSWERS <= now));
        };
        if record.value.generation >= generation {
            return Ok(true);
        }
        let mut next = record.value;
        next.generation = generation;
        next.attempts = next.attempts.saturating_add(UNKNOWN_ATTEMPTS);
        let taken_at = self.shared.clock.now();
        next.restored.get_or_insert(Restored { taken_at, store_revision: record.revision });
        let mut batch = Batch::default();
        batch.put_json(keys::record(self.cluster), &next, Expect::At(record.revision));
        ledger.commit(batch).await.map_err(|source| self.error(source))?;
        Ok(true)
    }

    fn config_revision(&self) -> i64 {
        let seen = self.shared.ledger.config.get(&keys::config(self.cluster));
        seen.map_or(0, |seen| seen.mod_revision)
    }
}

/// The status of a cluster of which nothing was told yet.
fn blank(config_revision: i64) -> Status {
    Status {
        version: 1,
        kind: None,
        phase: Phase::Pending,
        revision: 0,
        config_revision,
        conditions: Vec::new(),
        counts: std::collections::BTreeMap::new(),
        wanted: 0,
        ready: 0,
        updated: 0,
        outdated: 0,
        template: None,
    }
}
