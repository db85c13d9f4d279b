//! Which tasks there are, and which of their updates the agent has not confirmed. Pure: no time, no I/O.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use uuid::Uuid;

use crate::v1::{
    ExecutorId, Source, TaskId, TaskInfo, TaskState, TaskStatus, encode_data,
    executor::{Subscribe, Update},
};

/// Updates that wait for the agent. More means that something reports in a loop.
const MAX_PENDING: usize = 1024;
/// Agents and masters keep every update in memory, and the agent on disk.
const MAX_DATA: usize = 16 * 1024;
/// A message is for people.
const MAX_MESSAGE: usize = 4 * 1024;

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
    /// Too many updates wait for the agent.
    #[error("{MAX_PENDING} updates already wait for the agent")]
    Full,
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
}

#[derive(Debug)]
pub(super) struct Ledger {
    executor_id: ExecutorId,
    tasks: BTreeMap<TaskId, Task>,
    pending: VecDeque<Pending>,
}

impl Ledger {
    pub(super) fn new(executor_id: ExecutorId) -> Self {
        Self { executor_id, tasks: BTreeMap::new(), pending: VecDeque::new() }
    }

    pub(super) fn launched(&mut self, task: &TaskInfo) {
        let fresh = Task { unconfirmed: Some(task.clone()), ended: false };
        self.tasks.entry(task.task_id.clone()).or_insert(fresh);
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
        if self.pending.len() >= MAX_PENDING {
            return Err(UpdateError::Full);
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
        self.pending.push_back(Pending { uuid, update: Update { status }, sent: false });
        Ok(())
    }

    /// The agent confirmed an update; whether it was one that waited.
    pub(super) fn acknowledged(&mut self, uuid: Uuid) -> bool {
        let Some(index) = self.pending.iter().position(|pending| pending.uuid == uuid) else { return false };
        let Some(Pending { update, .. }) = self.pending.remove(index) else { return false };
        let id = &update.status.task_id;
        if let Some(task) = self.tasks.get_mut(id) {
            task.unconfirmed = None;
            let more = self.pending.iter().any(|pending| &pending.update.status.task_id == id);
            if task.ended && !more {
                self.tasks.remove(id);
            }
        }
        true
    }

    /// The next update that was not sent in this subscription.
    pub(super) fn unsent(&self) -> Option<(Uuid, Update)> {
        self.pending
            .iter()
            .find(|pending| !pending.sent)
            .map(|pending| (pending.uuid, pending.update.clone()))
    }

    pub(super) fn set_sent(&mut self, uuid: Uuid) {
        if let Some(pending) = self.pending.iter_mut().find(|pending| pending.uuid == uuid) {
            pending.sent = true;
        }
    }

    /// Everything that waits is to be sent once more. The agent forwards one uuid once.
    pub(super) fn resend(&mut self) {
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
