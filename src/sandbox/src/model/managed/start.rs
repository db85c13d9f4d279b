//! How the agent's own executors begin: a moment to register, then a process for each task.

use overlord_mesos::v1::{ContainerId, TaskId, TaskState};

use super::{ExecutorKind, ManagedTask, checks::Health};
use crate::model::{
    Model, Output, StartExecutor, launch,
    probe::ProbeUse,
    types::{AgentProcess, ExecutorKey, ExecutorState, TaskKey, Timer},
};

/// Before an executor whose agent is away tries again.
const AGAIN: std::time::Duration = std::time::Duration::from_secs(1);

impl Model {
    /// The executor's process would have registered by now.
    pub(in crate::model) fn managed_begins(&mut self, container: &ContainerId) {
        let Some((name, key)) = self.containers.get(container).cloned() else { return };
        let Some(agent) = self.agents.get_mut(&name) else { return };
        if agent.process == AgentProcess::Down {
            self.after(AGAIN, Timer::Begin(container.clone()));
            return;
        }
        let Some(executor) = agent.executors.get_mut(&key) else { return };
        if executor.state != ExecutorState::Registering {
            return;
        }
        match executor.kind {
            ExecutorKind::Custom => {}
            // The task counts as delivered once its process runs.
            ExecutorKind::Command => {
                if let Some(task) = executor.queued.front().cloned() {
                    self.managed_start(&name, &key, &task, container.clone());
                }
            }
            ExecutorKind::Default => {
                executor.state = ExecutorState::Registered;
                let tasks: Vec<TaskId> = executor.queued.drain(..).collect();
                self.managed_group_begins(&name, &key, &tasks);
            }
        }
    }

    /// Starts tasks of a default executor.
    pub(in crate::model) fn managed_group_begins(&mut self, name: &str, key: &ExecutorKey, tasks: &[TaskId]) {
        for task in tasks {
            let container = ContainerId::new(self.new_uuid());
            self.managed_start(name, key, task, container);
            self.managed_status(name, key, task, TaskState::Starting, |_| {});
        }
    }

    fn managed_start(&mut self, name: &str, key: &ExecutorKey, task: &TaskId, container: ContainerId) {
        let task_key: TaskKey = (key.0.clone(), task.clone());
        let Some(command) = self.tasks.get(&task_key).map(|t| t.info.command.clone().unwrap_or_default())
        else {
            return;
        };
        let Some(agent) = self.agents.get(name) else { return };
        let Some(executor) = agent.executors.get(key) else { return };
        let mut directory = launch::run_directory(agent, key, &executor.container);
        if executor.kind == ExecutorKind::Default {
            directory = directory.join("containers").join(container.as_str());
        }
        let environment = self.environment(agent, key, &executor.info, &command, &directory);
        let start = StartExecutor {
            agent: name.to_owned(),
            agent_id: agent.id.clone(),
            agent_endpoint: agent.address,
            framework_id: key.0.clone(),
            executor_id: key.1.clone(),
            container: container.clone(),
            user: self.user_of(key, &command),
            cache: launch::cache_directory(agent),
            command,
            environment: environment.clone(),
            directory: directory.clone(),
        };
        let record = ManagedTask {
            container: container.clone(),
            pid: None,
            running: false,
            environment,
            directory,
            killing: None,
            health: Health::default(),
            checked: None,
        };
        if let Some(executor) = self.agents.get_mut(name).and_then(|a| a.executors.get_mut(key)) {
            executor.managed.tasks.insert(task.clone(), record);
        }
        self.nested.insert(container, (name.to_owned(), key.clone(), task.clone()));
        self.out.push(Output::Start(Box::new(start)));
    }

    /// A task's process runs. Whether it was one of these.
    pub(in crate::model) fn managed_started(&mut self, container: &ContainerId, pid: Option<u32>) -> bool {
        let Some((name, key, task)) = self.managed_of(container) else { return false };
        let now = self.now;
        let Some(executor) = self.agents.get_mut(&name).and_then(|agent| agent.executors.get_mut(&key))
        else {
            return true;
        };
        let Some(managed) = executor.managed.tasks.get_mut(&task).filter(|managed| !managed.running) else {
            return true;
        };
        managed.pid = pid;
        managed.running = true;
        managed.health.since = now;
        if executor.managed.destroyed {
            return true;
        }
        let is_command = executor.kind == ExecutorKind::Command;
        if is_command {
            executor.pid = pid;
            executor.state = ExecutorState::Registered;
            executor.queued.clear();
            self.managed_status(&name, &key, &task, TaskState::Starting, |_| {});
        }
        // A task that was killed while it started is told to end now.
        if self.managed_task(container).is_some_and(|managed| managed.killing.is_some()) {
            self.out.push(Output::Terminate(container.clone()));
            return true;
        }
        self.managed_status(&name, &key, &task, TaskState::Running, |_| {});
        let task_key = (key.0.clone(), task);
        let Some(info) = self.tasks.get(&task_key).map(|task| &task.info) else { return true };
        let (health, check) = (super::checks::health_delay(info), super::checks::check_delay(info));
        let limit = info.max_completion_time.and_then(|limit| u64::try_from(limit.nanoseconds).ok());
        if let Some(delay) = health {
            self.after(delay, Timer::Look(container.clone(), ProbeUse::Health));
        }
        if let Some(delay) = check {
            self.after(delay, Timer::Look(container.clone(), ProbeUse::Check));
        }
        if let Some(limit) = limit {
            self.after(std::time::Duration::from_nanos(limit), Timer::MaxCompletion(container.clone()));
        }
        true
    }

    /// Whom a command runs as.
    pub(in crate::model) fn user_of(
        &self,
        key: &ExecutorKey,
        command: &overlord_mesos::v1::CommandInfo,
    ) -> Option<String> {
        let of_framework = || self.frameworks.get(&key.0).map(|framework| framework.info.user.clone());
        command.user.clone().or_else(of_framework).filter(|user| !user.is_empty())
    }
}
