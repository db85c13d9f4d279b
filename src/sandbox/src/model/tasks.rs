//! KILL, RECONCILE, and what the master says about tasks by itself.

use overlord_mesos::v1::{
    AgentId, CapabilityType, FrameworkId, Source, TaskId, TaskState, TaskStatus, executor,
    scheduler::{Kill, Reconcile, ReconcileTask},
};
use serde_json::json;

use super::{
    Model,
    types::{ExecutorState, Registration, TaskKey},
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
        let known = self.tasks.get(&key).filter(|task| task.unreachable_since.is_none());
        let Some(task) = known else {
            // KILL of what the master does not know is a question about it.
            self.reconcile_one(id, &ReconcileTask { task_id: kill.task_id, agent_id: kill.agent_id });
            return;
        };
        if task.state.is_terminal() {
            return;
        }
        let agent_id = task.agent.clone();
        let connected = self.agent_by_id(&agent_id).is_some_and(|agent| agent.is_registered());
        if connected {
            self.kill_on_agent(&key, kill.kill_policy);
        } else if let Some(task) = self.tasks.get_mut(&key) {
            task.kill = Some(kill);
        }
    }

    /// Tells the executor, or takes the task back that it was not given yet.
    pub(super) fn kill_on_agent(&mut self, key: &TaskKey, policy: Option<overlord_mesos::v1::KillPolicy>) {
        let Some(task) = self.tasks.get(key) else { return };
        let executor_key = (key.0.clone(), task.executor.clone());
        let agent_id = task.agent.clone();
        let Some(name) = self.agent_names.get(&agent_id).cloned() else { return };
        let executor = self.agents.get_mut(&name).and_then(|a| a.executors.get_mut(&executor_key));
        let Some(executor) = executor else { return };
        if let Some(position) = executor.queued.iter().position(|task| *task == key.1) {
            executor.queued.remove(position);
            let (container, idle) = (executor.container.clone(), executor.queued.is_empty());
            let unused = idle && executor.state == ExecutorState::Registering && executor.tasks.len() <= 1;
            self.agent_update(
                &name,
                key,
                TaskState::Killed,
                "REASON_TASK_KILLED_DURING_LAUNCH",
                "Killed before delivery to the executor",
            );
            if unused {
                // An executor that has not registered and has nothing to do is not waited for.
                self.kill_container(&container);
            }
        } else if let Some(stream) = executor.stream {
            let kill = executor::Kill { task_id: key.1.clone(), kill_policy: policy };
            let event = executor::Event {
                kind: executor::EventType::Kill,
                kill: Some(kill),
                ..executor::Event::default()
            };
            self.send_executor(stream, event);
        }
    }

    pub(super) fn reconcile(&mut self, id: &FrameworkId, reconcile: &Reconcile) {
        if !reconcile.tasks.is_empty() {
            for task in &reconcile.tasks {
                self.reconcile_one(id, task);
            }
            return;
        }
        // Implicit: what the master holds; unreachable tasks are left out.
        let held: Vec<TaskKey> = self
            .tasks_of(id)
            .filter(|(_, task)| task.unreachable_since.is_none())
            .map(|(key, _)| key.clone())
            .collect();
        for key in held {
            if let Some(status) = self.latest_status(&key) {
                self.send_status(id, status);
            }
        }
    }

    fn reconcile_one(&mut self, id: &FrameworkId, question: &ReconcileTask) {
        const REASON: &str = "REASON_RECONCILIATION";
        let key: TaskKey = (id.clone(), question.task_id.clone());
        let unreachable = |model: &Self, agent: Option<AgentId>, since: std::time::Duration| {
            let text = "Reconciliation: Task is unreachable";
            let task = question.task_id.clone();
            let mut status = model.master_status(id, task, agent, TaskState::Unreachable, REASON, text);
            status.unreachable_time = Some(model.unreachable_time(since));
            status
        };
        let status = if let Some(task) = self.tasks.get(&key) {
            match task.unreachable_since {
                Some(since) if self.understood(id, TaskState::Unreachable) == TaskState::Unreachable => {
                    Some(unreachable(self, Some(task.agent.clone()), since))
                }
                Some(_) => Some(self.unknown_task(id, question)),
                None => self.latest_status(&key),
            }
        } else {
            let agent = question.agent_id.as_ref().and_then(|agent| self.agent_names.get(agent));
            match agent.and_then(|name| self.agents.get(name)).map(|agent| agent.registration) {
                Some(Registration::Unreachable { since }) => {
                    Some(unreachable(self, question.agent_id.clone(), since))
                }
                Some(_) => {
                    let text = "Reconciliation: Task is unknown to the agent";
                    let (task, agent) = (question.task_id.clone(), question.agent_id.clone());
                    Some(self.master_status(id, task, agent, TaskState::Gone, REASON, text))
                }
                None => Some(self.unknown_task(id, question)),
            }
        };
        if let Some(status) = status {
            self.send_status(id, status);
        }
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
        if task.info.executor.is_some() {
            status.executor_id = Some(task.executor.clone());
        }
        Some(status)
    }

    pub(super) fn unreachable_time(&self, since: std::time::Duration) -> serde_json::Value {
        let nanoseconds = u64::try_from((self.epoch + since).as_nanos()).unwrap_or(u64::MAX);
        json!({ "nanoseconds": nanoseconds })
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
