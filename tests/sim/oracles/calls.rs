//! What controllers ask of Mesos: intent before effect, no kill without a cause, stored before acknowledged, and
//! nothing in the name of a leadership that is long over.

use std::{collections::BTreeMap, time::Duration};

use base64::Engine as _;
use overlord_api::{Report, State};
use overlord_controllers::LABEL_CLUSTER;
use overlord_mesos::v1::{
    TaskInfo, TaskState, TaskStatus,
    scheduler::{Call, CallType, Event, EventType},
};

use super::{Inner, Oracles};
use crate::{store::Who, view::View};

/// Who does not hold the leader key any more stops to act within this time, unless it was stopped itself.
const LINGER: Duration = Duration::from_secs(31);

/// An offer that was taken back so long ago is known to be.
const RESCIND_GRACE: Duration = Duration::from_secs(1);

/// So many launches of one member within [`STORM`] are too many: the back-off doubles from a second.
const LAUNCHES: usize = 9;
const STORM: Duration = Duration::from_secs(60);

impl Oracles {
    /// A call of a scheduler leaves.
    pub(crate) fn called(&self, who: Who, call: &Call) {
        let view = self.view();
        match call.kind {
            CallType::Accept => {
                let operations = call.accept.iter().flat_map(|accept| &accept.operations);
                for task in operations.filter_map(|o| o.launch.as_ref()).flat_map(|l| &l.task_infos) {
                    self.check_intent(&view, task);
                    self.check_fresh(&view, task);
                }
                let offers = call.accept.iter().flat_map(|accept| &accept.offer_ids);
                self.check_offers(who, offers.map(overlord_mesos::v1::OfferId::as_str));
            }
            CallType::Kill => {
                if let Some(kill) = &call.kill {
                    self.check_kill(&view, kill.task_id.as_str());
                }
            }
            CallType::Acknowledge => {
                if let Some(acknowledge) = &call.acknowledge {
                    self.check_stored(&view, &acknowledge.uuid);
                }
            }
            CallType::Teardown => self.trace.violation(format!("{who} tears the framework down")),
            _ => {}
        }
    }

    /// A process that was stopped goes on: it cannot know better before it asks.
    pub(crate) fn continued(&self, who: Who) {
        let now = self.clock.monotonic();
        if let Some(at) = self.lock().dethroned.get_mut(&who) {
            *at = now;
        }
    }

    /// Whoever acts leads, or has not led for a moment only.
    pub(crate) fn check_reign(&self, who: Who, what: &str) {
        let now = self.clock.monotonic();
        let Some(since) = self.lock().dethroned.get(&who).copied() else { return };
        let ago = now.saturating_sub(since);
        if ago > LINGER {
            self.trace.violation(format!("{who} sends {what} {ago:?} after its leadership ended"));
        }
    }

    /// Each offer is used once, in the subscription that brought it, and not after it was taken back.
    fn check_offers<'a>(&self, who: Who, offers: impl Iterator<Item = &'a str>) {
        let now = self.clock.monotonic();
        let mut inner = self.lock();
        let held = inner.offers.entry(who).or_default();
        for offer in offers {
            match held.get_mut(offer) {
                None => {
                    self.trace.violation(format!("{who} accepts offer {offer}, which it does not hold"));
                }
                Some(Some(since)) if now.saturating_sub(*since) > RESCIND_GRACE => {
                    self.trace.violation(format!("{who} accepts offer {offer}, which was taken back"));
                }
                Some(_) => {}
            }
        }
    }

    /// An event reaches a scheduler.
    pub(crate) fn received(&self, who: Who, event: &Event) {
        let now = self.clock.monotonic();
        let mut guard = self.lock();
        let inner: &mut Inner = &mut guard;
        match event.kind {
            EventType::Subscribed => {
                inner.offers.insert(who, BTreeMap::default());
            }
            EventType::Offers => {
                let ids =
                    event.offers.iter().flat_map(|offers| &offers.offers).map(|o| o.id.as_str().to_owned());
                inner.offers.entry(who).or_default().extend(ids.map(|id| (id, None)));
            }
            EventType::Rescind => {
                let id = event.rescind.as_ref().map(|rescind| rescind.offer_id.as_str());
                let held = inner.offers.entry(who).or_default();
                if let Some(offer) = id.and_then(|id| held.get_mut(id)) {
                    offer.get_or_insert(now);
                }
            }
            EventType::Update => {
                let status = event.update.as_ref().map(|update| &update.status);
                if let Some((status, uuid)) = status.and_then(|status| Some((status, status.uuid.clone()?))) {
                    inner.delivered.insert(uuid, status.clone());
                }
            }
            _ => {}
        }
    }

    /// Each Mesos task id is launched once, and no member again and again without a pause.
    fn check_fresh(&self, view: &View, task: &TaskInfo) {
        let id = task.task_id.as_str();
        let now = self.clock.monotonic();
        let mut inner = self.lock();
        if !inner.launched.insert(id.to_owned()) {
            self.trace.violation(format!("{id} is launched twice"));
        }
        let Some((cluster, info)) = view.info_of_task(id) else { return };
        let launches = inner.launches.entry((info.uid.clone(), info.member)).or_default();
        launches.push_back(now);
        while launches.front().is_some_and(|at| now.saturating_sub(*at) > STORM) {
            launches.pop_front();
        }
        if launches.len() > LAUNCHES {
            let (n, member) = (launches.len(), info.member);
            self.trace.violation(format!("{cluster}/{member} is launched {n} times within {STORM:?}"));
        }
    }

    /// Intent before effect: info, conf and address are in the store before the launch leaves. What another
    /// leader has changed since then is Mesos' to refuse: the stream of the old one is over.
    fn check_intent(&self, view: &View, task: &TaskInfo) {
        let id = task.task_id.as_str();
        let label = task.labels.iter().flat_map(|labels| &labels.labels).find(|l| l.key == LABEL_CLUSTER);
        let Some((cluster, info)) = view.info_of_task(id) else {
            let known = self.lock().tasks.contains_key(id);
            if !known {
                self.trace.violation(format!("{id} is launched and was never recorded"));
            }
            return;
        };
        if label.and_then(|label| label.value.as_deref()) != Some(cluster.as_str()) {
            self.trace.violation(format!("{id} is launched with the label of another cluster"));
        }
        if view.server_conf(&cluster, info.address()).is_none() {
            self.trace.violation(format!("{id} is launched without a recorded configuration"));
        }
        if info.agent_id != task.agent_id.as_str() {
            self.trace.violation(format!("{id} is launched on another agent than recorded"));
        }
    }

    /// Only what is recorded to end is killed: by its info, by a tombstone, or by a newer attempt.
    fn check_kill(&self, view: &View, task: &str) {
        if let Some((cluster, info)) = view.info_of_task(task) {
            if matches!(info.desired.state, State::Running) {
                self.trace.violation(format!("{task} of {cluster} is wanted running and gets a KILL"));
            }
            return;
        }
        let buried = view.records().iter().any(|(_, record)| record.tombstones.contains_key(task));
        if !buried && !self.lock().tasks.contains_key(task) {
            self.trace.violation(format!("{task} gets a KILL and nothing says why"));
        }
    }

    /// Stored before acknowledged: what an update says is recorded when its acknowledgement leaves.
    fn check_stored(&self, view: &View, uuid: &str) {
        let Some(status) = self.lock().delivered.get(uuid).cloned() else {
            return self.trace.violation(format!("an update {uuid} is acknowledged that never came"));
        };
        let Some((_, info)) = view.info_of_task(status.task_id.as_str()) else { return };
        let task = &status.task_id;
        let over = matches!(status.state, TaskState::Failed | TaskState::Killed | TaskState::Lost);
        if over && !matches!(info.observed.state, State::Failed | State::Gone) {
            self.trace.violation(format!("the end of {task} is acknowledged and not stored"));
        }
        let begun = matches!(status.state, TaskState::Starting | TaskState::Running);
        if begun && info.observed.state == State::Pending {
            self.trace.violation(format!("the start of {task} is acknowledged and not stored"));
        }
        if begun
            && let Some(report) = report_of(&status)
            && (report.config > info.observed.config || report.restart > info.observed.restart)
        {
            self.trace.violation(format!("news of {task} are acknowledged and not stored"));
        }
    }
}

/// What the executor says in an update.
fn report_of(status: &TaskStatus) -> Option<Report> {
    let data = base64::engine::general_purpose::STANDARD.decode(status.data.as_ref()?).ok()?;
    serde_json::from_slice(&data).ok()
}
