//! Why executors ended that never said a word: Mesos tells their exit status in a FAILURE, and right behind it, in a
//! status update, only that they ended.

use std::{collections::VecDeque, sync::Mutex};

use overlord_mesos::v1::{ExecutorId, TaskStatus, reason, scheduler::Failure};

use crate::{mesos_task::exit_reason, shared::lock};

/// The update comes a moment after the FAILURE, but thousands may fail at once.
const REMEMBERED: usize = 1024;

/// Exit statuses that say something, of executors whose update has not come yet.
#[derive(Debug, Default)]
pub(crate) struct Deaths {
    of: Mutex<VecDeque<(ExecutorId, &'static str)>>,
}

impl Deaths {
    pub(crate) fn note(&self, failure: &Failure) {
        let why = failure.status.and_then(exit_reason);
        let (Some(executor), Some(why)) = (&failure.executor_id, why) else { return };
        tracing::warn!(%executor, why, "an executor could not be started");
        let mut of = lock(&self.of);
        if of.len() >= REMEMBERED {
            of.pop_front();
        }
        of.push_back((executor.clone(), why));
    }

    /// The update with what is known of the executor's end in place of what Mesos says. It may come again.
    pub(crate) fn explain(&self, status: &TaskStatus) -> Option<TaskStatus> {
        if status.reason.as_deref() != Some(reason::EXECUTOR_TERMINATED) {
            return None;
        }
        // One executor runs one task, and both have one id.
        let of = lock(&self.of);
        let (_, why) = of.iter().rev().find(|(executor, _)| executor.as_str() == status.task_id.as_str())?;
        Some(TaskStatus { message: Some((*why).to_owned()), ..status.clone() })
    }
}

#[cfg(test)]
mod tests {
    use overlord_mesos::v1::{TaskId, TaskState};

    use super::*;

    #[test]
    fn the_end_of_an_executor_is_explained_by_its_exit_status() {
        let deaths = Deaths::default();
        let failure = |id: &str, status: i32| Failure {
            executor_id: Some(ExecutorId::new(id)),
            status: Some(status),
            ..Failure::default()
        };
        deaths.note(&failure("plain", 1 << 8));
        deaths.note(&failure("wrong", 86 << 8));
        let ended = |id: &str, reason: &str| TaskStatus {
            task_id: TaskId::new(id),
            state: TaskState::Failed,
            reason: Some(reason.to_owned()),
            message: Some(String::from("Executor terminated")),
            ..TaskStatus::default()
        };
        let told = deaths.explain(&ended("wrong", reason::EXECUTOR_TERMINATED)).unwrap();
        assert!(told.message.unwrap().contains("another sha256"));
        assert_eq!(deaths.explain(&ended("wrong", "REASON_OTHER")), None);
        assert_eq!(deaths.explain(&ended("plain", reason::EXECUTOR_TERMINATED)), None);
        for n in 0..3 * REMEMBERED {
            deaths.note(&failure(&n.to_string(), 86 << 8));
        }
        assert_eq!(lock(&deaths.of).len(), REMEMBERED);
    }
}
