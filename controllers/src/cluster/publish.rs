//! Telling: status, endpoints and task progress, in one write of at most one a second and cluster, and
//! none when nothing changed.

use std::time::Duration;

use overlord_api::{ConditionType, Kind, Phase, Truth, keys};
use overlord_reconcile::Action;

use super::{Accepted, DAMAGED_RETRY, Error, Pass, until};
use crate::{
    ledger::{Batch, Expect},
    members::{
        observed::Instance,
        plan::{Control, Plan},
        status::{self, endpoints, status},
    },
    shared::{MesosLink, lock},
    tasks::{self, Admission, Request, Situation},
};

/// Least time between two status writes of one cluster.
pub(super) const INTERVAL: Duration = Duration::from_secs(1);

/// While a change is under way its news wait until nothing moved for this long: many changes are over by then.
const SETTLE: Duration = Duration::from_millis(500);

/// The same while a redis cluster forms: its masters wait for 2 s before they serve (redis' own delay), and the
/// word that it is Ready must not wait for the news before it.
const FORMING_SETTLE: Duration = Duration::from_millis(2500);

/// However much moves, news are not older than this; those of a cluster that forms: than three times this.
const NEWS: Duration = Duration::from_secs(3);

/// Requests told in one write.
const REQUESTS_AT_ONCE: usize = 60;

/// A task that was given up and never spoken of again is not waited for longer.
const TOMBSTONE_AGE: jiff::SignedDuration = jiff::SignedDuration::from_hours(30 * 24);

/// How long Mesos may be away before status says so.
const MESOS_PATIENCE: Duration = Duration::from_secs(5);

/// What a pass came to.
pub(super) struct Publication<'a> {
    pub(super) requests: &'a [Request],
    pub(super) situation: Situation,
    pub(super) admission: &'a Admission,
    pub(super) instances: &'a [Instance],
    pub(super) refused: Option<&'a str>,
    /// Infos that cannot be read, and why.
    pub(super) damaged: &'a [(String, String)],
    pub(super) spec_missing: Option<(&'a str, &'a str)>,
    pub(super) config_revision: i64,
    pub(super) plan: Option<&'a Plan>,
    pub(super) accepted: Option<&'a Accepted>,
}

impl Publication<'_> {
    /// Whether nothing of the cluster is left.
    fn is_over(&self) -> bool {
        self.accepted.is_none()
            && self.refused.is_none()
            && self.config_revision == 0
            && self.instances.is_empty()
            && self.damaged.is_empty()
    }
}

impl Pass<'_> {
    /// Writes what changed, if it is time; says when to look again. Who serves and how it is comes first, in
    /// a transaction of its own: no number of requests can hold it up.
    pub(super) async fn publish(&self, what: &Publication<'_>) -> Result<Option<Duration>, Error> {
        let mut state = Batch::default();
        let mut next = self.add_status(what, &mut state);
        next = sooner(next, self.add_endpoints(what, &mut state));
        self.add_record(what, &mut state);
        let mut requests = Batch::default();
        next = sooner(next, self.add_tasks(what, &mut requests));
        if state.is_empty() && requests.is_empty() {
            self.shared.memo(self.cluster, |memo| memo.unpublished_since = None);
            if what.is_over() {
                lock(&self.shared.memos).remove(self.cluster);
            }
            return Ok(next);
        }
        if let Some(wait) = self.too_soon(what) {
            return Ok(sooner(next, Some(wait)));
        }
        for batch in [state, requests] {
            if !batch.is_empty() {
                let outcome = self.shared.ledger.commit(batch).await;
                // Counted whatever came of it: a commit whose answer is lost may have happened.
                let tried = self.shared.clock.monotonic();
                self.shared.memo(self.cluster, |memo| memo.published = Some(tried));
                outcome.map_err(|source| self.error(source))?;
            }
        }
        self.shared.memo(self.cluster, |memo| memo.unpublished_since = None);
        Ok(next)
    }

    fn add_endpoints(&self, what: &Publication<'_>, batch: &mut Batch) -> Option<Duration> {
        let (Some(accepted), Some(_)) = (what.accepted, what.plan) else { return None };
        if accepted.record.value.deletion.is_some() {
            return None;
        }
        let now = self.shared.clock.now();
        let spec = &accepted.cluster.spec;
        let (mut list, changes_at) = endpoints(spec.shape.kind(), spec, what.instances, now);
        let (old, revision) = self.shared.ledger.endpoints(self.cluster);
        // An instance whose info cannot be read serves on: it keeps its place until somebody knows better.
        for old in old.iter().flat_map(|old| &old.endpoints) {
            let damaged = what.damaged.iter().any(|(key, _)| *key == keys::info(self.cluster, old.address));
            if damaged {
                list.endpoints.push(old.clone());
            }
        }
        list.endpoints.sort_by(|a, b| a.alias.cmp(&b.alias).then(a.address.cmp(&b.address)));
        if old.as_ref() != Some(&list) && self.may_write_anew(&keys::endpoints(self.cluster)) {
            batch.put_json(keys::endpoints(self.cluster), &list, Expect::seen(revision));
        }
        changes_at.map(|at| until(now, at))
    }

    /// A value of the leader's own cannot be read: nothing is done to the cluster, and that is said.
    pub(super) async fn tell_damaged(&self, key: &str, why: &str) -> Result<Action, Error> {
        self.shared.launcher.content(self.cluster);
        let text = format!("{key}: {why}");
        let message = format!("{key} cannot be used, and nothing is done to the cluster until it can: {why}");
        self.tell_value(key, "DamagedValue", message);
        if let (Some(mut status), revision) = self.shared.ledger.status(self.cluster) {
            let before = status.clone();
            status.phase = Phase::Degraded;
            for (kind, truth) in
                [(ConditionType::Progressing, Truth::False), (ConditionType::Ready, Truth::Unknown)]
            {
                if let Some(condition) = status.conditions.iter_mut().find(|condition| condition.kind == kind)
                {
                    if condition.status != truth {
                        condition.last_transition = self.shared.clock.now();
                    }
                    condition.status = truth;
                    condition.reason = String::from("DamagedValue");
                    condition.message.clone_from(&text);
                }
            }
            if status != before {
                let mut batch = Batch::default();
                batch.put_json(keys::status(self.cluster), &status, Expect::seen(revision));
                self.shared.ledger.commit(batch).await.map_err(|source| self.error(source))?;
            }
        }
        Ok(Action::requeue(DAMAGED_RETRY))
    }

    /// How long the write must wait, if it must.
    fn too_soon(&self, what: &Publication<'_>) -> Option<Duration> {
        let now = self.shared.clock.monotonic();
        let settled = what.plan.is_none_or(|plan| plan.is_converged() || !plan.blocked.is_empty());
        let progress = what.plan.map(|plan| plan.progress).unwrap_or_default();
        // That somebody serves no more is not held back by what else moves.
        let told = self.shared.ledger.status(self.cluster).0.map_or(0, |status| status.ready);
        let fewer = progress.serving < told;
        let forming = what.accepted.is_some_and(|accepted| {
            let record = &accepted.record.value;
            record.kind == Kind::RedisCluster && !record.formed && record.deletion.is_none()
        });
        let at = self.shared.memo(self.cluster, |memo| {
            let since = *memo.unpublished_since.get_or_insert(now);
            let moved = match memo.progress {
                Some((seen, at)) if seen == progress => at,
                _ => now,
            };
            memo.progress = Some((progress, moved));
            let spaced = memo.published.map_or(Duration::ZERO, |last| last + INTERVAL);
            let quiet = match (forming, memo.published) {
                (false, _) if fewer => since + SETTLE,
                (false, _) => (moved.max(since) + SETTLE).min(since + NEWS),
                // That it forms is told at once.
                (true, None) => now,
                (true, Some(_)) => (moved.max(since) + FORMING_SETTLE).min(since + NEWS * 3),
            };
            if settled { spaced } else { spaced.max(quiet) }
        });
        (at > now).then(|| at.saturating_sub(now))
    }

    fn add_status(&self, what: &Publication<'_>, batch: &mut Batch) -> Option<Duration> {
        let now = self.shared.clock.now();
        let (previous, revision) = self.shared.ledger.status(self.cluster);
        if what.is_over() {
            if revision.is_some() {
                batch.delete_prefix(keys::cluster(self.cluster));
            }
            return None;
        }
        let (stale, stale_at) = self.stale();
        let unplaceable = self.shared.memo(self.cluster, |memo| memo.unplaceable.clone());
        let deletion = what.accepted.and_then(|accepted| accepted.record.value.deletion.as_ref());
        let value = status(&status::Input {
            previous: previous.as_ref(),
            accepted: what.accepted.map(|accepted| {
                (accepted.record.value.kind, &accepted.cluster.spec, accepted.record.value.revision)
            }),
            config_revision: what.config_revision,
            refused: what.refused,
            formed: what.accepted.is_some_and(|accepted| accepted.record.value.formed),
            deletion: deletion.map(|mark| (mark.by.as_str(), mark.done)),
            spec_missing: what.spec_missing,
            stale: stale.as_ref().map(|(reason, message)| (*reason, message.as_str())),
            unplaceable: unplaceable.as_deref(),
            instances: what.instances,
            template: &self.shared.settings.template(),
            plan: what.plan,
            now,
        });
        if previous.as_ref() != Some(&value) && self.may_write_anew(&keys::status(self.cluster)) {
            batch.put_json(keys::status(self.cluster), &value, Expect::seen(revision));
        }
        stale_at
    }

    /// Why what is shown may be old; or when that must be said if nothing changes.
    fn stale(&self) -> (Option<(&'static str, String)>, Option<Duration>) {
        match &*lock(&self.shared.link) {
            MesosLink::Up => (None, None),
            MesosLink::Removed { message } => {
                let choices = MesosLink::AFTER_REMOVAL;
                let text = format!(
                    "mesos removed this framework for good ({message}), and its instances are gone or going: {choices}"
                );
                (Some(("FrameworkRemoved", text)), None)
            }
            MesosLink::Refused { message } => {
                let text = format!(
                    "the mesos master refuses this framework ({message}): mend its principal, credentials or roles in the controllers' settings, or the master's; what runs is left alone"
                );
                (Some(("FrameworkRefused", text)), None)
            }
            MesosLink::Down { since, reason } => {
                let say_at = since.saturating_add(MESOS_PATIENCE).unwrap_or(jiff::Timestamp::MAX);
                let wait = until(self.shared.clock.now(), say_at);
                if wait.is_zero() {
                    (Some(("MesosUnreachable", format!("mesos cannot be reached: {reason}"))), None)
                } else {
                    (None, Some(wait))
                }
            }
        }
    }

    fn add_tasks(&self, what: &Publication<'_>, batch: &mut Batch) -> Option<Duration> {
        let mut left_over = false;
        let mut put = |request: &Request, value: overlord_api::TaskStatus| {
            if request.status.as_ref() != Some(&value) {
                if batch.operations() > REQUESTS_AT_ONCE {
                    left_over = true;
                    return;
                }
                let revision = self.shared.ledger.task_status_revision(&request.id);
                batch.put_json(keys::task_status(&request.id), &value, Expect::seen(revision));
            }
        };
        let find = |id: &String| what.requests.iter().find(|request| request.id == *id);
        let mut next = None;
        for (id, state, error) in &what.admission.settled {
            if let Some(request) = find(id) {
                put(request, tasks::settled(request, *state, error, what.situation));
            }
        }
        if let (Some(request), Some(plan)) = (what.admission.current.as_ref().and_then(find), what.plan) {
            let stalled = self.stalled(request, plan, &what.admission.control);
            put(request, tasks::progress(request, what.situation, plan, stalled));
            next = (!plan.is_converged()).then(|| what.situation.deadline.saturating_sub(stalled));
        }
        if let (Some(request), Some(plan)) =
            (what.admission.destroy.as_ref().and_then(|(id, _)| find(id)), what.plan)
        {
            let mut value = tasks::settled(request, overlord_api::TaskState::Running, "", what.situation);
            value.phases = tasks::phases(plan);
            value.started_at = value.started_at.or(Some(what.situation.now));
            put(request, value);
        }
        for id in &what.admission.archive {
            if batch.operations() > REQUESTS_AT_ONCE {
                left_over = true;
                break;
            }
            batch.delete(keys::task(id), Expect::Any);
            batch.delete(keys::task_status(id), Expect::Any);
        }
        let next = next.filter(|next| !next.is_zero());
        if left_over { sooner(next, Some(INTERVAL)) } else { next }
    }

    /// How long nothing of the change at work moved; no time counts while it is meant to stand still.
    fn stalled(&self, request: &Request, plan: &Plan, control: &Control) -> Duration {
        let now = self.shared.clock.monotonic();
        let standing = matches!(control, Control::Hold { .. }) || !plan.blocked.is_empty();
        self.shared.memo(self.cluster, |memo| match &memo.moved {
            Some((id, progress, since)) if !standing && *id == request.id && *progress == plan.progress => {
                now.saturating_sub(*since)
            }
            _ => {
                memo.moved = Some((request.id.clone(), plan.progress, now));
                Duration::ZERO
            }
        })
    }

    /// What a pass learned for good: that all members served once, and which given-up tasks are over.
    fn add_record(&self, what: &Publication<'_>, batch: &mut Batch) {
        let Some(Accepted { record: seen, .. }) = what.accepted else { return };
        let mut record = seen.value.clone();
        if let Some(plan) = what.plan.filter(|_| record.deletion.is_none()) {
            record.formed |= plan.progress.serving >= plan.progress.wanted;
        }
        let now = self.shared.clock.now();
        record.tombstones.retain(|_, tomb| now.duration_since(tomb.at) < TOMBSTONE_AGE);
        self.shared.memo(self.cluster, |memo| {
            memo.buried_over.retain(|task| record.tombstones.remove(task).is_some());
        });
        if record != seen.value {
            batch.put_json(keys::record(self.cluster), &record, Expect::At(seen.revision));
        }
    }
}

fn sooner(a: Option<Duration>, b: Option<Duration>) -> Option<Duration> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
