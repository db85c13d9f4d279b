//! KILL, RECONCILE, and what the master says about tasks by itself.

use overlord_mesos::v1::{
    AgentId, CapabilityType, FrameworkId, Source, TaskId, TaskState, TaskStatus, TimeInfo,
    scheduler::{Kill, Reconcile, ReconcileTask},
};

use super::{
    Model,
    types::{Registration, TaskKey},
};

impl Model {
    /// A status that the master makes: without uuid, so it must not be acknowledged.
    pub(super) fn master_status(
        &self,
        framework: &FrameworkId,
        task_id: TaskId,
        agent_id: Option<AgentId>,
        state: TaskState,
        reason: &str,
        message: impl Into<String>,
    ) -> TaskStatus {
        TaskStatus {
            task_id,
            state: self.understood(framework, state),
            message: Some(message.into()),
            source: Some(Source::Master),
            reason: Some(reason.to_owned()),
            agent_id,
            timestamp: Some(self.timestamp()),
            ..TaskStatus::default()
        }
    }

    /// The state as the framework knows it: the newer ones need the capability `PARTITION_AWARE`.
    pub(super) fn understood(&self, framework: &FrameworkId, state: TaskState) -> TaskState {
        let newer = matches!(
            state,
            TaskState::Unreachable
                | TaskState::Gone
                | TaskState::GoneByOperator
                | TaskState::Dropped
                | TaskState::NotKnown
        );
        let aware = self.frameworks.get(framework).is_some_and(|f| f.has(CapabilityType::PartitionAware));
        if newer && !aware { TaskState::Lost } else { state }
    }

    pub(super) fn kill(&mut self, id: &FrameworkId, kill: Kill) {
        let key: TaskKey = (id.clone(), kill.task_id.clone());
        let known = self.tasks.get(&key).filter(|task| task.unreachable_since.is_none() && !task.forgotten);
        let Some(task) = known else {
            // KILL of what the master does not know is a question about it.
            let question = ReconcileTask { task_id: kill.task_id, agent_id: kill.agent_id };
            let waiting = self.waits_for_agents();
            self.reconcile_one(id, &question, waiting);
            return;
        };
        if task.state.is_terminal() {
            return;
        }
        let agent_id = task.agent.clone();
        let connected = self.agent_by_id(&agent_id).is_some_and(|agent| agent.is_reached());
        if connected {
            if !self.loses_kill(&agent_id) {
                self.kill_on_agent(&key, kill.kill_policy);
            }
        } else if let Some(task) = self.tasks.get_mut(&key) {
            task.kill = Some(kill);
        }
    }

    pub(super) fn reconcile(&mut self, id: &FrameworkId, reconcile: &Reconcile) {
        if !reconcile.tasks.is_empty() {
            let waiting = self.waits_for_agents();
            for task in &reconcile.tasks {
                self.reconcile_one(id, task, waiting);
            }
            return;
        }
        // Implicit: what the master holds; unreachable tasks are left out.
        let held: Vec<TaskKey> = self
            .tasks_of(id)
            .filter(|(_, task)| task.unreachable_since.is_none() && !task.forgotten)
            .map(|(key, _)| key.clone())
            .collect();
        for key in held {
            if let Some(status) = self.latest_status(&key) {
                self.send_status(id, status);
            }
        }
    }

    /// Whether agents of the registry have not come back to a new master: then silence is its answer to what it
    /// does not know.
    fn waits_for_agents(&self) -> bool {
        self.masters.remembers()
            && self.agents.values().any(|agent| agent.registration == Registration::Recovered)
    }

    fn reconcile_one(&mut self, id: &FrameworkId, question: &ReconcileTask, waiting: bool) {
        let key: TaskKey = (id.clone(), question.task_id.clone());
        let known = self.tasks.get(&key).filter(|task| !task.forgotten);
        let aware = self.understood(id, TaskState::Unreachable) == TaskState::Unreachable;
        let status = match known.map(|task| (task.unreachable_since, task.agent.clone())) {
            Some((None, _)) => self.latest_status(&key),
            Some((Some(since), agent)) if aware => {
                Some(self.unreachable_task(id, question, Some(agent), since))
            }
            // A framework that is not aware of partitions was told that the task is lost.
            Some((Some(_), _)) | None => self.answer_by_agent(id, question, waiting),
        };
        if let Some(status) = status {
            self.send_status(id, status);
        }
    }

    /// What the master says of a task that it does not know: it depends on the agent that the question names.
    fn answer_by_agent(
        &self,
        id: &FrameworkId,
        question: &ReconcileTask,
        waiting: bool,
    ) -> Option<TaskStatus> {
        const REASON: &str = "REASON_RECONCILIATION";
        let (task, agent) = (question.task_id.clone(), question.agent_id.clone());
        let Some(agent_id) = &question.agent_id else {
            return (!waiting).then(|| self.unknown_task(id, question));
        };
        if self.gone.contains(agent_id) {
            let text = "Reconciliation: Task is gone";
            return Some(self.master_status(id, task, agent, TaskState::GoneByOperator, REASON, text));
        }
        let record = self.agent_names.get(agent_id).and_then(|name| self.agents.get(name));
        match record.map(|agent| agent.registration) {
            Some(Registration::Recovered) if self.masters.remembers() => None,
            Some(Registration::Unreachable { since }) => {
                Some(self.unreachable_task(id, question, agent, since))
            }
            Some(Registration::Registered | Registration::Disconnected) => {
                let text = "Reconciliation: Task is unknown to the agent";
                Some(self.master_status(id, task, agent, TaskState::Gone, REASON, text))
            }
            Some(Registration::Removed | Registration::Recovered) | None => {
                Some(self.unknown_task(id, question))
            }
        }
    }

    fn unreachable_task(
        &self,
        id: &FrameworkId,
        question: &ReconcileTask,
        agent: Option<AgentId>,
        since: std::time::Duration,
    ) -> TaskStatus {
        let (text, task) = ("Reconciliation: Task is unreachable", question.task_id.clone());
        let reason = "REASON_RECONCILIATION";
        let mut status = self.master_status(id, task, agent, TaskState::Unreachable, reason, text);
        status.unreachable_time = Some(self.unreachable_time(since));
        status
    }

    fn unknown_task(&self, id: &FrameworkId, question: &ReconcileTask) -> TaskStatus {
        let (task, agent) = (question.task_id.clone(), question.agent_id.clone());
        let text = "Reconciliation: Task is unknown";
        self.master_status(id, task, agent, TaskState::NotKnown, "REASON_RECONCILIATION", text)
    }

    fn latest_status(&self, key: &TaskKey) -> Option<TaskStatus> {
        let mut status =
            self.task_status(key, "REASON_RECONCILIATION", "Reconciliation: Latest task state")?;
        status.state = self.understood(&key.0, self.tasks.get(key)?.shown);
        Some(status)
    }

    /// The master's word on a task that it knows.
    pub(super) fn task_status(&self, key: &TaskKey, reason: &str, message: &str) -> Option<TaskStatus> {
        let task = self.tasks.get(key)?;
        let mut status =
            self.master_status(&key.0, key.1.clone(), Some(task.agent.clone()), task.shown, reason, message);
        status.container_status.clone_from(&task.container_status);
        status.healthy = task.healthy;
        status.check_status = task.statuses.last().and_then(|last| last.check_status.clone());
        if task.info.executor.is_some() {
            status.executor_id = Some(task.executor.clone());
        }
        Some(status)
    }

    pub(super) fn unreachable_time(&self, since: std::time::Duration) -> TimeInfo {
        self.time_info(since)
    }

    pub(crate) fn time_info(&self, at: std::time::Duration) -> TimeInfo {
        TimeInfo { nanoseconds: i64::try_from((self.epoch + at).as_nanos()).unwrap_or(i64::MAX) }
    }

    /// Gives a task's resources back, once.
    pub(super) fn release_task(&mut self, key: &TaskKey) {
        let Some(task) = self.tasks.get_mut(key) else { return };
        if task.released {
            return;
        }
        task.released = true;
        let (role, pool, agent) = (task.role.clone(), task.pool.clone(), task.agent.clone());
        if let Some(name) = self.agent_names.get(&agent).cloned() {
            self.release(&key.0, &role, &name, &pool);
        }
    }
}
