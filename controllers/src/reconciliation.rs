//! Explicit reconciliation with Mesos: every task whose state must be confirmed is asked for until an
//! answer comes, with truncated back-off. Silence is never taken for an answer. A task that cannot be reached is
//! asked for as long as that is so: that its agent is back is told once, by an update that nobody acknowledges.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use overlord_mesos::{
    SchedulerHandle,
    v1::{AgentId, TaskId, TaskStatus},
};
use overlord_reconcile::Clock;
use tokio_util::sync::CancellationToken;

/// First pause between two questions about one task.
const FIRST_PAUSE: Duration = Duration::from_secs(2);

/// Longest pause between two questions about one task.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A launched task from which nothing was heard is asked for after this long.
const LAUNCH_PATIENCE: Duration = Duration::from_secs(10);

/// Tasks asked for in one go; the rest follows at once.
const ASKED_AT_ONCE: usize = 1000;

/// How often Mesos is asked for everything it knows, to learn of tasks that nobody recorded.
const IMPLICIT: Duration = Duration::from_secs(600);

#[derive(Debug, Clone)]
struct Question {
    agent: Option<AgentId>,
    due: Duration,
    pause: Duration,
    /// The end that was told and is not believed before this is answered.
    doubted: Option<TaskStatus>,
    /// How it is was said in this subscription; asked is whether it is still so.
    confirmed: bool,
}

impl Question {
    const fn open(agent: Option<AgentId>, due: Duration, pause: Duration) -> Self {
        Self { agent, due, pause, doubted: None, confirmed: false }
    }
}

/// The open questions, and in which order they are due.
#[derive(Debug, Default)]
struct Questions {
    by_task: BTreeMap<TaskId, Question>,
    due: BTreeSet<(Duration, TaskId)>,
}

impl Questions {
    /// Asks unless it is asked already.
    fn insert(&mut self, task: TaskId, question: Question) {
        if self.by_task.get(&task).is_some_and(|before| before.confirmed) {
            self.remove(&task);
        }
        if let Entry::Vacant(entry) = self.by_task.entry(task) {
            self.due.insert((question.due, entry.key().clone()));
            entry.insert(question);
        }
    }

    fn remove(&mut self, task: &TaskId) -> Option<Question> {
        let question = self.by_task.remove(task)?;
        self.due.remove(&(question.due, task.clone()));
        Some(question)
    }
}

/// What Mesos is asked.
#[derive(Debug, Default)]
pub(crate) struct Reconciliation {
    questions: Mutex<Questions>,
    /// When Mesos was asked for everything it knows in this subscription; and whether that is wanted at once.
    listed: Mutex<(Option<Duration>, bool)>,
    /// Whether a subscription stands: without one nothing is confirmed.
    standing: AtomicBool,
    wake: tokio::sync::Notify,
}

impl Reconciliation {
    fn questions(&self) -> MutexGuard<'_, Questions> {
        self.questions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for these at once, and for nothing else: a new subscription stands.
    pub(crate) fn restart(&self, now: Duration, tasks: impl IntoIterator<Item = (TaskId, Option<AgentId>)>) {
        let mut questions = self.questions();
        *questions = Questions::default();
        for (task, agent) in tasks {
            questions.insert(task, Question::open(agent, now, FIRST_PAUSE));
        }
        drop(questions);
        self.listed.lock().unwrap_or_else(PoisonError::into_inner).0 = None;
        self.standing.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    /// When Mesos was asked for everything it knows in this subscription, if it was.
    pub(crate) fn listed(&self) -> Option<Duration> {
        if !self.standing.load(Ordering::Acquire) {
            return None;
        }
        self.listed.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    /// Asks Mesos at once for everything it knows, instead of when that is due.
    pub(crate) fn list_all(&self) {
        self.listed.lock().unwrap_or_else(PoisonError::into_inner).1 = true;
        self.wake.notify_one();
    }

    /// The subscription is gone: what was confirmed in it counts no more.
    pub(crate) fn suspend(&self) {
        self.standing.store(false, Ordering::Release);
    }

    /// Whether Mesos has said in this subscription how it is with a task. Only then may a loss be acted on.
    pub(crate) fn is_confirmed(&self, task: &str) -> bool {
        let asked = |questions: &Questions| {
            questions.by_task.get(&TaskId::new(task)).is_some_and(|question| !question.confirmed)
        };
        self.standing.load(Ordering::Acquire) && !asked(&self.questions())
    }

    /// Asks for one task at once.
    pub(crate) fn ask(&self, now: Duration, task: TaskId, agent: Option<AgentId>) {
        self.insert(task, Question::open(agent, now, FIRST_PAUSE));
    }

    /// Asks for one task after a pause, and then after longer ones: it is known, and should not be any more.
    pub(crate) fn ask_after(&self, now: Duration, pause: Duration, task: TaskId, agent: Option<AgentId>) {
        self.insert(task, Question::open(agent, now + pause, pause));
    }

    /// A task was launched: asked for when nothing is heard of it.
    pub(crate) fn launched(&self, now: Duration, task: TaskId, agent: AgentId) {
        self.insert(task, Question::open(Some(agent), now + LAUNCH_PATIENCE, FIRST_PAUSE));
    }

    /// An end was told that is not believed as it is: asked for at once, whatever was asked before.
    pub(crate) fn doubt(&self, now: Duration, agent: AgentId, status: TaskStatus) {
        let mut questions = self.questions();
        let task = status.task_id.clone();
        let pause = questions.remove(&task).map_or(FIRST_PAUSE, |before| before.pause);
        let doubted = Some(status);
        questions.insert(task, Question { doubted, ..Question::open(Some(agent), now, pause) });
        drop(questions);
        self.wake.notify_one();
    }

    /// The end of a task that was told and not believed, as long as nothing more was heard.
    pub(crate) fn doubted(&self, task: &TaskId) -> Option<TaskStatus> {
        self.questions().by_task.get(task)?.doubted.clone()
    }

    fn insert(&self, task: TaskId, question: Question) {
        self.questions().insert(task, question);
        self.wake.notify_one();
    }

    /// The answer is stored. Whether anybody was waiting for it.
    pub(crate) fn heard(&self, task: &TaskId) -> bool {
        self.questions().remove(task).is_some_and(|question| !question.confirmed)
    }

    /// The answer, that it cannot be reached, is stored: it is asked for again, later and later, and counts until
    /// then. Whether anybody was waiting for it.
    pub(crate) fn unreachable(&self, now: Duration, task: TaskId, agent: AgentId) -> bool {
        let mut questions = self.questions();
        let before = questions.remove(&task);
        let pause = before.as_ref().map_or(FIRST_PAUSE, |before| before.pause);
        let question = Question { confirmed: true, ..Question::open(Some(agent), now + pause, pause) };
        questions.insert(task, question);
        drop(questions);
        self.wake.notify_one();
        before.is_some_and(|before| !before.confirmed)
    }

    /// The answer is taken; gives how long the next pause would have been.
    pub(crate) fn paused(&self, task: &TaskId) -> Option<Duration> {
        self.questions().remove(task).map(|question| question.pause)
    }

    /// What is due now, but not too much of it, and when the next question is.
    fn due(&self, now: Duration) -> (Vec<(TaskId, Option<AgentId>)>, Option<Duration>) {
        let mut questions = self.questions();
        let mut due = Vec::new();
        while let Some((at, task)) = questions.due.first().cloned()
            && at <= now
            && due.len() < ASKED_AT_ONCE
        {
            questions.due.pop_first();
            let Some(question) = questions.by_task.get_mut(&task) else { continue };
            question.due = now + question.pause;
            question.pause = (question.pause * 2).min(LONGEST_PAUSE);
            let (next, agent) = (question.due, question.agent.clone());
            questions.due.insert((next, task.clone()));
            due.push((task, agent));
        }
        (due, questions.due.first().map(|(at, _)| *at))
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
            let standing = self.standing.load(Ordering::Acquire);
            let wanted =
                standing && std::mem::take(&mut self.listed.lock().unwrap_or_else(PoisonError::into_inner).1);
            if now >= implicit || wanted {
                implicit = now + IMPLICIT;
                match mesos.reconcile(Vec::new()).await {
                    Ok(()) => self.listed.lock().unwrap_or_else(PoisonError::into_inner).0 = Some(now),
                    // The next subscription, or who wants it, asks again.
                    Err(error) => tracing::debug!(%error, "implicit reconciliation not sent"),
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
    use overlord_mesos::v1::TaskState;

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
    fn what_cannot_be_reached_is_asked_for_ever_later_and_is_known_until_then() {
        let sync = Reconciliation::default();
        let (task, agent) = (TaskId::new("t"), AgentId::new("a"));
        sync.restart(Duration::ZERO, [(task.clone(), Some(agent.clone()))]);
        let (mut now, mut pauses) = (Duration::ZERO, Vec::new());
        for answers in 0..8 {
            assert_eq!(sync.due(now).0.len(), 1);
            // Only the first answer was waited for.
            assert_eq!(sync.unreachable(now, task.clone(), agent.clone()), answers == 0);
            assert!(sync.is_confirmed("t"));
            let next = sync.due(now).1.unwrap();
            pauses.push(next.saturating_sub(now).as_secs());
            now = next;
        }
        assert_eq!(pauses, [4, 8, 16, 32, 60, 60, 60, 60]);
        // Who must know asks at once, and knows nothing until the answer.
        sync.ask(now, task.clone(), Some(agent));
        assert!(!sync.is_confirmed("t"));
        assert_eq!(sync.due(now).0.len(), 1);
        assert!(sync.heard(&task));
        assert_eq!(sync.due(now + LONGEST_PAUSE), (vec![], None));
    }

    #[test]
    fn what_is_doubted_is_asked_for_at_once_and_forgotten_with_the_answer() {
        let sync = Reconciliation::default();
        let task = TaskId::new("t");
        sync.launched(Duration::ZERO, task.clone(), AgentId::new("a"));
        let lost = TaskStatus { task_id: task.clone(), state: TaskState::Lost, ..TaskStatus::default() };
        sync.doubt(Duration::ZERO, AgentId::new("a"), lost.clone());
        assert_eq!(sync.due(Duration::ZERO).0, vec![(task.clone(), Some(AgentId::new("a")))]);
        assert_eq!(sync.doubted(&task), Some(lost));
        sync.heard(&task);
        assert_eq!((sync.doubted(&task), sync.due(LONGEST_PAUSE)), (None, (vec![], None)));
    }

    #[test]
    fn ten_thousand_questions_go_out_in_portions() {
        let sync = Reconciliation::default();
        let tasks = (0..10_000).map(|n| (TaskId::new(format!("t{n}")), None));
        sync.restart(Duration::ZERO, tasks);
        let portions: Vec<usize> = (0..10).map(|_| sync.due(Duration::ZERO).0.len()).collect();
        assert_eq!(portions, vec![ASKED_AT_ONCE; 10]);
        assert_eq!(sync.due(Duration::ZERO), (vec![], Some(FIRST_PAUSE)));
    }

    #[test]
    fn a_launched_task_is_asked_for_only_when_nothing_is_heard() {
        let sync = Reconciliation::default();
        sync.launched(Duration::ZERO, TaskId::new("t"), AgentId::new("a"));
        assert!(sync.due(Duration::from_secs(1)).0.is_empty());
        assert_eq!(sync.due(LAUNCH_PATIENCE).0.len(), 1);
    }
}
