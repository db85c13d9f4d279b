//! Which tasks there are, and which of their updates the agent has not confirmed. Pure: no time, no I/O.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use uuid::Uuid;

use crate::v1::{
    ExecutorId, Source, TaskId, TaskInfo, TaskState, TaskStatus, encode_data,
    executor::{Subscribe, Update},
};

/// Updates that wait for the agent. With more, the oldest ones that end nothing give way: a newer one says more.
pub(super) const MAX_PENDING: usize = 1024;
/// Tasks of one executor.
pub(super) const MAX_TASKS: usize = 1024;
/// Ended tasks that are remembered, so that none of them begins anew.
const MAX_ENDED: usize = 1024;
/// Agents and masters keep every update in memory, and the agent on disk.
const MAX_DATA: usize = 16 * 1024;
/// A message is for people.
const MAX_MESSAGE: usize = 4 * 1024;
/// An update that the agent calls wrong is wrong the next time too.
const MAX_REFUSALS: u8 = 3;
/// An agent that has forgotten a task takes its updates and confirms none of them (Mesos 1.11). So often must
/// it have taken those of a task that ended, until they count as told.
const MAX_TAKEN: u8 = 5;

/// Why an update was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UpdateError {
    /// The task was never launched here, or it ended and all is confirmed. An agent would forward such an
    /// update, and the framework would be misled.
    #[error("task {task} is not known to this executor")]
    UnknownTask {
        /// Which one.
        task: TaskId,
    },
    /// The task has ended: nothing may follow its terminal update.
    #[error("task {task} has already ended")]
    Ended {
        /// Which one.
        task: TaskId,
    },
    /// Not a state that an executor may report.
    #[error("an executor cannot report {state}")]
    BadState {
        /// Which one.
        state: TaskState,
    },
    /// The data is larger than an update should carry.
    #[error("data of {length} bytes exceeds the limit of {MAX_DATA}")]
    TooLarge {
        /// Its size.
        length: usize,
    },
}

/// What is to be reported.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) task: TaskId,
    pub(super) state: TaskState,
    pub(super) message: String,
    pub(super) data: Bytes,
    pub(super) timestamp: Option<f64>,
    pub(super) uuid: Uuid,
}

/// What an order is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// A task that is new here.
    New,
    /// One that goes on.
    Known,
    /// One that ended: nothing may be said of it any more.
    Ended,
    /// One too many.
    TooMany,
}

#[derive(Debug)]
struct Task {
    /// Until the agent has confirmed one update of the task: it may not know of it.
    unconfirmed: Option<TaskInfo>,
    ended: bool,
}

#[derive(Debug)]
struct Pending {
    uuid: Uuid,
    update: Update,
    sent: bool,
    /// How often the agent took it.
    taken: u8,
    /// How often the agent called it wrong.
    refusals: u8,
}

impl Pending {
    fn is_last(&self) -> bool {
        is_terminal(self.update.status.state) == Some(true)
    }
}

#[derive(Debug)]
pub(super) struct Ledger {
    executor_id: ExecutorId,
    tasks: BTreeMap<TaskId, Task>,
    /// Tasks that are over and told, the latest last.
    ended: VecDeque<TaskId>,
    pending: VecDeque<Pending>,
    /// Updates that gave way to newer ones.
    superseded: u64,
}

impl Ledger {
    pub(super) fn new(executor_id: ExecutorId) -> Self {
        Self {
            executor_id,
            tasks: BTreeMap::new(),
            ended: VecDeque::new(),
            pending: VecDeque::new(),
            superseded: 0,
        }
    }

    /// A task to be launched.
    pub(super) fn launched(&mut self, task: &TaskInfo) -> Heard {
        self.hear(&task.task_id, Some(task))
    }

    /// A task to be killed. One that is not known is one whose LAUNCH got lost: the agent waits for its end.
    pub(super) fn killed(&mut self, task: &TaskId) -> Heard {
        self.hear(task, None)
    }

    fn hear(&mut self, id: &TaskId, info: Option<&TaskInfo>) -> Heard {
        match self.tasks.get(id) {
            Some(task) if task.ended => return Heard::Ended,
            Some(_) => return Heard::Known,
            None if self.ended.contains(id) => return Heard::Ended,
            None if self.tasks.len() >= MAX_TASKS => return Heard::TooMany,
            None => {}
        }
        self.tasks.insert(id.clone(), Task { unconfirmed: info.cloned(), ended: false });
        Heard::New
    }

    pub(super) fn report(&mut self, report: Report) -> Result<(), UpdateError> {
        let Report { task, state, message, data, timestamp, uuid } = report;
        let Some(known) = self.tasks.get_mut(&task) else { return Err(UpdateError::UnknownTask { task }) };
        if known.ended {
            return Err(UpdateError::Ended { task });
        }
        let terminal = is_terminal(state).ok_or(UpdateError::BadState { state })?;
        if data.len() > MAX_DATA {
            return Err(UpdateError::TooLarge { length: data.len() });
        }
        known.ended = terminal;
        let message = cut(message);
        let status = TaskStatus {
            task_id: task,
            state,
            message: (!message.is_empty()).then_some(message),
            // Anything else is refused with 400.
            source: Some(Source::Executor),
            data: (!data.is_empty()).then(|| encode_data(&data)),
            // The agent does not add it.
            executor_id: Some(self.executor_id.clone()),
            timestamp,
            uuid: Some(encode_data(uuid.as_bytes())),
            ..TaskStatus::default()
        };
        self.pending.push_back(Pending {
            uuid,
            update: Update { status },
            sent: false,
            taken: 0,
            refusals: 0,
        });
        self.make_room();
        Ok(())
    }

    /// There is at most one terminal update of each task, and so always another one that can go.
    fn make_room(&mut self) {
        if self.pending.len() <= MAX_PENDING {
            return;
        }
        let newest = self.pending.len() - 1;
        if let Some(index) = self.pending.iter().take(newest).position(|pending| !pending.is_last()) {
            self.pending.remove(index);
            self.superseded += 1;
            if self.superseded.is_power_of_two() {
                tracing::warn!(
                    superseded = self.superseded,
                    "the agent confirms nothing: old updates give way to new ones"
                );
            }
        }
    }

    /// The agent confirmed an update; whether it was one that waited.
    pub(super) fn acknowledged(&mut self, uuid: Uuid) -> bool {
        let Some(update) = self.take(uuid) else { return false };
        let id = &update.status.task_id;
        if let Some(task) = self.tasks.get_mut(id) {
            task.unconfirmed = None;
        }
        self.settle(id);
        true
    }

    /// The agent calls an update wrong; whether it is given up, because it was said often enough.
    pub(super) fn refused(&mut self, uuid: Uuid) -> bool {
        let Some(pending) = self.pending.iter_mut().find(|pending| pending.uuid == uuid) else {
            return false;
        };
        pending.refusals = pending.refusals.saturating_add(1);
        if pending.refusals < MAX_REFUSALS {
            return false;
        }
        if let Some(update) = self.take(uuid) {
            self.settle(&update.status.task_id);
        }
        true
    }

    fn take(&mut self, uuid: Uuid) -> Option<Update> {
        let index = self.pending.iter().position(|pending| pending.uuid == uuid)?;
        self.pending.remove(index).map(|pending| pending.update)
    }

    /// Forgets a task that ended and has nothing left to say.
    fn settle(&mut self, id: &TaskId) {
        let ended = self.tasks.get(id).is_some_and(|task| task.ended);
        if !ended || self.pending.iter().any(|pending| &pending.update.status.task_id == id) {
            return;
        }
        self.tasks.remove(id);
        if self.ended.len() >= MAX_ENDED {
            self.ended.pop_front();
        }
        self.ended.push_back(id.clone());
    }

    /// The next update that was not sent in this subscription.
    pub(super) fn unsent(&self) -> Option<(Uuid, Update)> {
        self.pending
            .iter()
            .find(|pending| !pending.sent)
            .map(|pending| (pending.uuid, pending.update.clone()))
    }

    /// The agent took an update.
    pub(super) fn set_sent(&mut self, uuid: Uuid) {
        if let Some(pending) = self.pending.iter_mut().find(|pending| pending.uuid == uuid) {
            pending.sent = true;
            pending.taken = pending.taken.saturating_add(1);
        }
    }

    /// The agent took a SUBSCRIBE, and with it the updates that it carried.
    pub(super) fn subscribed(&mut self) {
        for pending in self.pending.iter_mut().filter(|pending| pending.sent) {
            pending.taken = pending.taken.saturating_add(1);
        }
    }

    /// Everything that waits is to be sent once more, in order: the agent forwards one uuid once. Of tasks that it
    /// does not keep any more it confirms nothing.
    pub(super) fn resend(&mut self) {
        let told = |pending: &Pending| pending.is_last() && pending.taken >= MAX_TAKEN;
        let told: Vec<TaskId> = self
            .pending
            .iter()
            .filter(|pending| told(pending))
            .map(|pending| pending.update.status.task_id.clone())
            .collect();
        for id in told {
            tracing::warn!(task = %id, "the agent takes the last update and does not confirm it: it counts as told");
            self.pending.retain(|pending| pending.update.status.task_id != id);
            self.settle(&id);
        }
        for pending in &mut self.pending {
            pending.sent = false;
        }
    }

    /// What a SUBSCRIBE says; its updates count as sent.
    pub(super) fn subscribe(&mut self) -> Subscribe {
        for pending in &mut self.pending {
            pending.sent = true;
        }
        Subscribe {
            unacknowledged_tasks: self.tasks.values().filter_map(|task| task.unconfirmed.clone()).collect(),
            unacknowledged_updates: self.pending.iter().map(|pending| pending.update.clone()).collect(),
        }
    }

    pub(super) fn waiting(&self) -> usize {
        self.pending.len()
    }

    /// How much is remembered: tasks, ended ones, updates.
    #[cfg(test)]
    pub(super) fn sizes(&self) -> (usize, usize, usize) {
        (self.tasks.len(), self.ended.len(), self.pending.len())
    }
}

/// Whether a state ends a task, for those that an executor may report.
fn is_terminal(state: TaskState) -> Option<bool> {
    match state {
        TaskState::Starting | TaskState::Running | TaskState::Killing => Some(false),
        TaskState::Finished | TaskState::Failed | TaskState::Killed | TaskState::Error => Some(true),
        TaskState::Staging
        | TaskState::Lost
        | TaskState::Dropped
        | TaskState::Unreachable
        | TaskState::Gone
        | TaskState::GoneByOperator
        | TaskState::NotKnown
        | TaskState::Unknown => None,
    }
}

fn cut(mut message: String) -> String {
    if message.len() > MAX_MESSAGE {
        let end = (0..=MAX_MESSAGE).rev().find(|end| message.is_char_boundary(*end)).unwrap_or(0);
        message.truncate(end);
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger() -> Ledger {
        Ledger::new(ExecutorId::new("ex"))
    }

    fn task(id: &str) -> TaskInfo {
        TaskInfo { task_id: TaskId::new(id), ..TaskInfo::default() }
    }

    fn report(ledger: &mut Ledger, id: &str, state: TaskState, n: u128) -> Result<(), UpdateError> {
        let (message, data) = (String::new(), Bytes::new());
        let uuid = Uuid::from_u128(n);
        ledger.report(Report { task: TaskId::new(id), state, message, data, timestamp: None, uuid })
    }

    #[test]
    fn a_task_that_ended_does_not_begin_anew() {
        let mut ledger = ledger();
        assert_eq!(ledger.launched(&task("t")), Heard::New);
        assert_eq!(ledger.launched(&task("t")), Heard::Known);
        report(&mut ledger, "t", TaskState::Finished, 1).unwrap();
        assert_eq!(ledger.launched(&task("t")), Heard::Ended);
        assert!(ledger.acknowledged(Uuid::from_u128(1)));
        assert_eq!(ledger.launched(&task("t")), Heard::Ended);
        assert_eq!(ledger.killed(&TaskId::new("t")), Heard::Ended);
        assert!(report(&mut ledger, "t", TaskState::Running, 2).is_err());
    }

    #[test]
    fn a_kill_of_a_task_whose_launch_got_lost_can_be_answered() {
        let mut ledger = ledger();
        assert_eq!(ledger.killed(&TaskId::new("t")), Heard::New);
        report(&mut ledger, "t", TaskState::Killed, 1).unwrap();
        let subscribe = ledger.subscribe();
        assert!(subscribe.unacknowledged_tasks.is_empty(), "nobody knows its description");
        assert_eq!(subscribe.unacknowledged_updates.len(), 1);
    }

    #[test]
    fn the_oldest_updates_give_way_but_never_the_last_one_of_a_task() {
        let mut ledger = ledger();
        ledger.launched(&task("short"));
        ledger.launched(&task("long"));
        report(&mut ledger, "short", TaskState::Finished, 0).unwrap();
        for n in 1..=3 * MAX_PENDING as u128 {
            report(&mut ledger, "long", TaskState::Running, n).unwrap();
        }
        report(&mut ledger, "long", TaskState::Killed, u128::MAX).unwrap();
        assert_eq!(ledger.waiting(), MAX_PENDING);
        let states: Vec<_> = ledger.pending.iter().map(|pending| pending.update.status.state).collect();
        assert_eq!(states[0], TaskState::Finished);
        assert_eq!(states[MAX_PENDING - 1], TaskState::Killed);
        assert_eq!(ledger.pending[MAX_PENDING - 2].uuid.as_u128(), 3 * MAX_PENDING as u128);
    }

    #[test]
    fn an_update_that_is_wrong_is_given_up_after_a_few_times() {
        let mut ledger = ledger();
        ledger.launched(&task("t"));
        report(&mut ledger, "t", TaskState::Failed, 1).unwrap();
        let uuid = Uuid::from_u128(1);
        assert!(!ledger.refused(uuid) && !ledger.refused(uuid));
        assert!(ledger.refused(uuid));
        assert_eq!((ledger.waiting(), ledger.sizes()), (0, (0, 1, 0)));
    }

    #[test]
    fn an_end_that_the_agent_takes_and_never_confirms_counts_as_told() {
        let mut ledger = ledger();
        ledger.launched(&task("t"));
        report(&mut ledger, "t", TaskState::Running, 1).unwrap();
        for _ in 0..20 {
            ledger.set_sent(Uuid::from_u128(1));
            ledger.resend();
        }
        assert_eq!(ledger.waiting(), 1, "the task goes on: it is said until it is confirmed");
        report(&mut ledger, "t", TaskState::Finished, 2).unwrap();
        for _ in 0..MAX_TAKEN {
            assert_eq!(ledger.waiting(), 2);
            ledger.subscribe();
            ledger.subscribed();
            ledger.resend();
        }
        assert_eq!(ledger.sizes(), (0, 1, 0));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut ledger = ledger();
        for n in 0..3000_u32 {
            let id = n.to_string();
            let heard = ledger.launched(&task(&id));
            assert_eq!(heard == Heard::TooMany, n >= 1024);
        }
        for n in 0..1024_u32 {
            report(&mut ledger, &n.to_string(), TaskState::Failed, n.into()).unwrap();
            ledger.acknowledged(Uuid::from_u128(n.into()));
        }
        for n in 5000..6000_u32 {
            ledger.launched(&task(&n.to_string()));
            report(&mut ledger, &n.to_string(), TaskState::Failed, n.into()).unwrap();
            ledger.acknowledged(Uuid::from_u128(n.into()));
        }
        assert_eq!(ledger.sizes(), (0, MAX_ENDED, 0));
    }
}
