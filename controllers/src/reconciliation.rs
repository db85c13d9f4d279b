//! Explicit reconciliation with Mesos: every task whose state must be confirmed is asked for until an
//! answer comes, with truncated back-off. Silence is never taken for an answer.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use overlord_mesos::{
    SchedulerHandle,
    v1::{AgentId, TaskId},
};
use overlord_reconcile::Clock;
use tokio_util::sync::CancellationToken;

/// First pause between two questions about one task.
const FIRST_PAUSE: Duration = Duration::from_secs(2);

/// Longest pause between two questions about one task.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A launched task from which nothing was heard is asked for after this long.
const LAUNCH_PATIENCE: Duration = Duration::from_secs(10);

/// How often Mesos is asked for everything it knows, to learn of tasks that nobody recorded.
const IMPLICIT: Duration = Duration::from_secs(600);

#[derive(Debug, Clone)]
struct Question {
    agent: Option<AgentId>,
    due: Duration,
    pause: Duration,
}

/// The open questions.
#[derive(Debug, Default)]
pub(crate) struct Reconciliation {
    questions: Mutex<BTreeMap<TaskId, Question>>,
    /// Whether a subscription stands: without one nothing is confirmed.
    standing: AtomicBool,
    wake: tokio::sync::Notify,
}

impl Reconciliation {
    /// Asks for these at once, and for nothing else: a new subscription stands.
    pub(crate) fn restart(&self, now: Duration, tasks: impl IntoIterator<Item = (TaskId, Option<AgentId>)>) {
        let mut questions = self.questions.lock().unwrap_or_else(PoisonError::into_inner);
        *questions = tasks
            .into_iter()
            .map(|(task, agent)| (task, Question { agent, due: now, pause: FIRST_PAUSE }))
            .collect();
        self.standing.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    /// The subscription is gone: what was confirmed in it counts no more.
    pub(crate) fn suspend(&self) {
        self.standing.store(false, Ordering::Release);
    }

    /// Whether Mesos has said in this subscription how it is with a task. Only then may a loss be acted on.
    pub(crate) fn is_confirmed(&self, task: &str) -> bool {
        self.standing.load(Ordering::Acquire)
            && !self.questions.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&TaskId::new(task))
    }

    /// Asks for one task at once.
    pub(crate) fn ask(&self, now: Duration, task: TaskId, agent: Option<AgentId>) {
        self.insert(task, Question { agent, due: now, pause: FIRST_PAUSE });
    }

    /// A task was launched: asked for when nothing is heard of it.
    pub(crate) fn launched(&self, now: Duration, task: TaskId, agent: AgentId) {
        self.insert(task, Question { agent: Some(agent), due: now + LAUNCH_PATIENCE, pause: FIRST_PAUSE });
    }

    fn insert(&self, task: TaskId, question: Question) {
        let mut questions = self.questions.lock().unwrap_or_else(PoisonError::into_inner);
        questions.entry(task).or_insert(question);
        self.wake.notify_one();
    }

    /// The answer is stored. Whether anybody had asked.
    pub(crate) fn heard(&self, task: &TaskId) -> bool {
        self.questions.lock().unwrap_or_else(PoisonError::into_inner).remove(task).is_some()
    }

    /// What is due now, and when the next question is.
    fn due(&self, now: Duration) -> (Vec<(TaskId, Option<AgentId>)>, Option<Duration>) {
        let mut questions = self.questions.lock().unwrap_or_else(PoisonError::into_inner);
        let mut due = Vec::new();
        for (task, question) in questions.iter_mut().filter(|(_, question)| question.due <= now) {
            due.push((task.clone(), question.agent.clone()));
            question.due = now + question.pause;
            question.pause = (question.pause * 2).min(LONGEST_PAUSE);
        }
        (due, questions.values().map(|question| question.due).min())
    }

    /// Asks, until `shutdown`.
    pub(crate) async fn run(&self, mesos: &SchedulerHandle, clock: &dyn Clock, shutdown: CancellationToken) {
        let mut implicit = clock.monotonic() + IMPLICIT;
        loop {
            let now = clock.monotonic();
            let (due, next) = self.due(now);
            if !due.is_empty() {
                tracing::debug!(tasks = due.len(), "explicit reconciliation");
                if let Err(error) = mesos.reconcile(due).await {
                    // The next subscription asks for everything again.
                    tracing::debug!(%error, "reconciliation not sent");
                }
            }
            if now >= implicit {
                implicit = now + IMPLICIT;
                if let Err(error) = mesos.reconcile(Vec::new()).await {
                    tracing::debug!(%error, "implicit reconciliation not sent");
                }
            }
            let until = next.map_or(implicit, |next| next.min(implicit));
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                () = self.wake.notified() => {}
                () = tokio::time::sleep(until.saturating_sub(now)) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_repeated_with_growing_pauses_until_answered() {
        let sync = Reconciliation::default();
        let second = Duration::from_secs(1);
        sync.ask(Duration::ZERO, TaskId::new("t"), None);
        assert_eq!(sync.due(Duration::ZERO).0.len(), 1);
        assert_eq!(sync.due(second), (vec![], Some(second * 2)));
        assert_eq!(sync.due(second * 2), (vec![(TaskId::new("t"), None)], Some(second * 6)));
        assert!(sync.heard(&TaskId::new("t")));
        assert!(!sync.heard(&TaskId::new("t")));
        assert_eq!(sync.due(second * 100), (vec![], None));
    }

    #[test]
    fn nothing_is_confirmed_before_mesos_was_asked_in_this_subscription() {
        let sync = Reconciliation::default();
        assert!(!sync.is_confirmed("t"));
        sync.restart(Duration::ZERO, [(TaskId::new("t"), None)]);
        assert!(!sync.is_confirmed("t") && sync.is_confirmed("another"));
        sync.heard(&TaskId::new("t"));
        assert!(sync.is_confirmed("t"));
        sync.suspend();
        assert!(!sync.is_confirmed("t"));
    }

    #[test]
    fn a_launched_task_is_asked_for_only_when_nothing_is_heard() {
        let sync = Reconciliation::default();
        sync.launched(Duration::ZERO, TaskId::new("t"), AgentId::new("a"));
        assert!(sync.due(Duration::from_secs(1)).0.is_empty());
        assert_eq!(sync.due(LAUNCH_PATIENCE).0.len(), 1);
    }
}
