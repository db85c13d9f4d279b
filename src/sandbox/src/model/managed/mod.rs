//! Mesos' own executors, as parts of the agent: the command executor, which runs a task's command, and the
//! default executor, which runs the tasks of a group side by side and ends them together. Only what they run are
//! processes. They outlive their agent's process as real ones do, and keep what they could not tell.

mod checks;
mod end;
mod start;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Duration,
};

use checks::Health;
use overlord_mesos::v1::{
    CheckStatusInfo, CheckStatusOutcome, CheckType, ContainerId, HttpCheckStatus, Source, TaskId, TaskInfo,
    TaskState, TaskStatus, TcpCheckStatus, executor::Update,
};
use serde_json::{Value, json};

use super::{
    Model,
    types::{Agent, AgentProcess, Executor, ExecutorKey, TaskKey},
    updates::new_uuid,
};

/// Who runs a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExecutorKind {
    /// A process of the framework's.
    Custom,
    /// Part of the agent, for one task with a command.
    Command,
    /// Part of the agent, for task groups.
    Default,
}

/// Between an executor's last word and its end.
const LINGER: Duration = Duration::from_millis(100);

/// What an executor that is part of the agent runs.
#[derive(Debug, Default)]
pub(crate) struct Managed {
    pub(crate) tasks: BTreeMap<TaskId, ManagedTask>,
    /// What it had to tell while its agent was away.
    pub(crate) unsent: Vec<TaskStatus>,
    /// It was killed as a whole: nobody is left to tell of its tasks.
    destroyed: bool,
}

/// A task of an executor that is part of the agent.
#[derive(Debug)]
pub(crate) struct ManagedTask {
    pub(crate) container: ContainerId,
    pub(crate) pid: Option<u32>,
    running: bool,
    environment: BTreeMap<String, String>,
    directory: PathBuf,
    killing: Option<Killing>,
    health: Health,
    /// The last outcome of its check.
    checked: Option<CheckStatusInfo>,
}

#[derive(Debug)]
struct Killing {
    since: Duration,
    /// Of the timer that ends the patience.
    serial: u64,
    why: Why,
}

/// Why a task is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// KILL, SHUTDOWN, or another task of its group.
    Asked,
    /// It failed its health check.
    Health,
    /// It ran longer than it may.
    Time,
}

impl Model {
    /// Something about a task, by the executor that is part of the agent.
    fn managed_status(
        &mut self,
        name: &str,
        key: &ExecutorKey,
        task: &TaskId,
        state: TaskState,
        change: impl FnOnce(&mut TaskStatus),
    ) {
        let task_key: TaskKey = (key.0.clone(), task.clone());
        let check_status = self.tasks.get(&task_key).and_then(|task| unchecked(&task.info));
        let mut status = TaskStatus {
            task_id: task.clone(),
            state,
            source: Some(Source::Executor),
            executor_id: Some(key.1.clone()),
            timestamp: Some(self.timestamp()),
            uuid: Some(new_uuid(&mut self.rng)),
            check_status,
            ..TaskStatus::default()
        };
        change(&mut status);
        let Some(agent) = self.agents.get_mut(name) else { return };
        if agent.process == AgentProcess::Down {
            if let Some(executor) = agent.executors.get_mut(key) {
                executor.managed.unsent.push(status);
            }
            return;
        }
        self.executor_update(name, key, Update { status });
    }

    /// The agent is back: its own executors find it at once, and tell what they kept.
    pub(super) fn managed_reconnect(&mut self, name: &str) {
        let Some(agent) = self.agents.get_mut(name) else { return };
        let mut kept = Vec::new();
        for (key, executor) in &mut agent.executors {
            if executor.kind != ExecutorKind::Custom {
                executor.resubscribed = true;
                kept.push((key.clone(), std::mem::take(&mut executor.managed.unsent)));
            }
        }
        for (key, statuses) in kept {
            for status in statuses {
                self.executor_update(name, &key, Update { status });
            }
        }
    }

    /// The agent has been away for longer than its executors wait for it.
    pub(super) fn managed_give_up(&mut self, name: &str, generation: u64) {
        let Some(agent) = self.agents.get(name) else { return };
        if agent.process != AgentProcess::Down || agent.generation != generation {
            return;
        }
        let own =
            agent.executors.iter().filter(|(_, e)| e.kind != ExecutorKind::Custom && e.exited.is_none());
        let containers: Vec<ContainerId> = own.map(|(_, executor)| executor.container.clone()).collect();
        for container in containers {
            self.kill_container(&container);
        }
    }

    fn managed_of(&mut self, container: &ContainerId) -> Option<(String, ExecutorKey, TaskId)> {
        self.nested.get(container).cloned()
    }

    fn managed_task(&mut self, container: &ContainerId) -> Option<&mut ManagedTask> {
        let (name, key, task) = self.nested.get(container)?;
        self.agents.get_mut(name)?.executors.get_mut(key)?.managed.tasks.get_mut(task)
    }
}

impl Executor {
    /// Whether the agent made it up for one task: frameworks do not see it.
    pub(crate) fn is_command(&self) -> bool {
        self.kind == ExecutorKind::Command
    }
}

/// Where a task runs, as an agent tells it with each status.
pub(crate) fn container_status(agent: &Agent, executor: &Executor, task: &TaskId, state: TaskState) -> Value {
    let ip = agent.address.ip().to_string();
    let networks = json!([{"ip_addresses": [{"protocol": "IPv4", "ip_address": ip}]}]);
    let mut pid = executor.pid;
    let mut status = json!({"container_id": {"value": executor.container.as_str()}});
    if executor.kind == ExecutorKind::Default {
        let Some(managed) = executor.managed.tasks.get(task) else { return status };
        let parent = json!({"value": executor.container.as_str()});
        status = json!({"container_id": {"value": managed.container.as_str(), "parent": parent}});
        // Nothing is known of a container that is not there any more.
        if state.is_terminal() {
            return status;
        }
        pid = managed.pid;
    }
    if let Some(fields) = status.as_object_mut() {
        fields.insert("network_infos".to_owned(), networks);
        if let Some(pid) = pid {
            fields.insert("executor_pid".to_owned(), pid.into());
        }
    }
    status
}

/// The status of a check that has no outcome: every status of a task with a check has one.
fn unchecked(info: &TaskInfo) -> Option<CheckStatusInfo> {
    let check = info.check.as_ref()?;
    let mut status = CheckStatusInfo { kind: check.kind, ..CheckStatusInfo::default() };
    match check.kind {
        CheckType::Command => status.command = Some(CheckStatusOutcome::default()),
        CheckType::Http => status.http = Some(HttpCheckStatus::default()),
        CheckType::Tcp => status.tcp = Some(TcpCheckStatus::default()),
        CheckType::Unknown => {}
    }
    Some(status)
}

/// The group that a task belongs to, without itself.
fn others_of_group(executor: &Executor, task: &TaskId) -> BTreeSet<TaskId> {
    let group = executor.groups.iter().find(|group| group.contains(task));
    group.map(|group| group.iter().filter(|other| *other != task).cloned().collect()).unwrap_or_default()
}
