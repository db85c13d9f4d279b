//! How tasks of the agent's own executors end: by themselves, by KILL with a grace period, with their group,
//! with their executor.

use std::time::Duration;

use overlord_mesos::v1::{CapabilityType, ContainerId, KillPolicy, TaskId, TaskState};

use super::{ExecutorKind, Killing, LINGER, Why, others_of_group};
use crate::model::{
    Model, Output,
    types::{AgentProcess, ExecutorKey, ExecutorState, TaskKey, Timer},
};

/// Between SIGTERM and SIGKILL, for a task whose kill policy says nothing.
const GRACE: Duration = Duration::from_secs(3);
/// SIGKILL, as a wait status.
const KILLED: i32 = 9;

impl Model {
    /// Ends a task: SIGTERM, and SIGKILL after the grace period.
    pub(in crate::model) fn managed_kill(
        &mut self,
        name: &str,
        key: &ExecutorKey,
        task: &TaskId,
        policy: Option<KillPolicy>,
        why: Why,
    ) {
        let task_key: TaskKey = (key.0.clone(), task.clone());
        let own = self.tasks.get(&task_key).and_then(|task| task.info.kill_policy);
        let has_killing =
            self.frameworks.get(&key.0).is_some_and(|f| f.has(CapabilityType::TaskKillingState));
        let by_http = self.http_command_executor;
        let now = self.now;
        let Some(executor) = self.agents.get_mut(name).and_then(|agent| agent.executors.get_mut(key)) else {
            return;
        };
        // The command executor of the old driver never sees the policy of the call.
        let heeds = executor.kind == ExecutorKind::Default || by_http;
        let policy = policy.filter(|_| heeds).or(own);
        let Some(managed) = executor.managed.tasks.get_mut(task) else { return };
        let (container, running) = (managed.container.clone(), managed.running);
        self.next.timer += 1;
        let serial = self.next.timer;
        let again = managed.killing.is_some();
        let killing = managed.killing.get_or_insert(Killing { since: now, serial, why });
        // A second KILL may shorten or lengthen the patience, counted from the first one.
        killing.serial = serial;
        let at = killing.since.saturating_add(grace(policy));
        if !again {
            if has_killing && why != Why::Time {
                self.managed_status(name, key, task, TaskState::Killing, |_| {});
            }
            if running {
                self.out.push(Output::Terminate(container.clone()));
            }
        }
        self.at(at.max(now), Timer::Escalate { container, serial });
    }

    pub(in crate::model) fn managed_escalates(&mut self, container: &ContainerId, serial: u64) {
        let due = self
            .managed_task(container)
            .is_some_and(|managed| managed.killing.as_ref().is_some_and(|killing| killing.serial == serial));
        if due {
            self.out.push(Output::Kill(container.clone()));
        }
    }

    pub(in crate::model) fn managed_ran_too_long(&mut self, container: &ContainerId) {
        let Some((name, key, task)) = self.managed_of(container) else { return };
        if self.managed_task(container).is_some_and(|managed| managed.killing.is_none()) {
            self.managed_kill(&name, &key, &task, None, Why::Time);
        }
    }

    /// A task's process ended. Whether it was one of these.
    pub(in crate::model) fn managed_exited(&mut self, container: &ContainerId, status: i32) -> bool {
        // Its end may be told before its start.
        if !self.managed_started(container, None) {
            return false;
        }
        let Some((name, key, task)) = self.nested.remove(container) else { return true };
        let Some(executor) = self.agents.get_mut(&name).and_then(|agent| agent.executors.get_mut(&key))
        else {
            return true;
        };
        if executor.managed.destroyed {
            executor.managed.tasks.remove(&task);
            if executor.managed.tasks.is_empty() {
                self.managed_gone(&name, &key, KILLED);
            }
            return true;
        }
        let why = executor.managed.tasks.get(&task).and_then(|m| m.killing.as_ref()).map(|k| k.why);
        let (state, reason) = match why {
            Some(Why::Time) => (TaskState::Failed, Some("REASON_MAX_COMPLETION_TIME_REACHED")),
            Some(_) => (TaskState::Killed, None),
            None if status == 0 => (TaskState::Finished, None),
            None => (TaskState::Failed, None),
        };
        self.managed_status(&name, &key, &task, state, |update| {
            update.message = Some(format!("Command {}", wait_text(status)));
            update.reason = reason.map(str::to_owned);
            update.healthy = (why == Some(Why::Health)).then_some(false);
        });
        self.managed_over(&name, &key, &task, state);
        true
    }

    /// A task's process could not be started. Whether it was one of these.
    pub(in crate::model) fn managed_not_started(&mut self, container: &ContainerId, message: &str) -> bool {
        let Some((name, key, task)) = self.nested.remove(container) else { return false };
        let Some(executor) = self.agents.get_mut(&name).and_then(|agent| agent.executors.get_mut(&key))
        else {
            return true;
        };
        let (text, reason) =
            (format!("Failed to launch container: {message}"), "REASON_CONTAINER_LAUNCH_FAILED");
        let kind = executor.kind;
        if kind == ExecutorKind::Command || executor.managed.destroyed {
            executor.managed.tasks.remove(&task);
            if kind == ExecutorKind::Command {
                executor.cause = Some((text, reason));
            }
            if executor.managed.tasks.is_empty() {
                self.managed_gone(&name, &key, -1);
            }
            return true;
        }
        self.managed_status(&name, &key, &task, TaskState::Failed, |update| {
            update.message = Some(text);
            update.reason = Some(reason.to_owned());
        });
        self.managed_over(&name, &key, &task, TaskState::Failed);
        true
    }

    /// What follows from a task's end: its group ends unless it ended well; an executor without tasks leaves.
    fn managed_over(&mut self, name: &str, key: &ExecutorKey, task: &TaskId, state: TaskState) {
        let Some(executor) = self.agents.get_mut(name).and_then(|agent| agent.executors.get_mut(key)) else {
            return;
        };
        executor.managed.tasks.remove(task);
        let container = executor.container.clone();
        if state != TaskState::Finished {
            for other in others_of_group(executor, task) {
                self.managed_kill_quietly(name, key, &other);
            }
        }
        let idle = self
            .agents
            .get(name)
            .and_then(|agent| agent.executors.get(key))
            .is_some_and(|executor| executor.managed.tasks.is_empty() && executor.queued.is_empty());
        if idle {
            self.after(LINGER, Timer::Leave(container));
        }
    }

    /// As [`Self::managed_kill`], unless that has begun already.
    pub(in crate::model) fn managed_kill_quietly(&mut self, name: &str, key: &ExecutorKey, task: &TaskId) {
        let executor = self.agents.get(name).and_then(|agent| agent.executors.get(key));
        let lives = executor
            .and_then(|executor| executor.managed.tasks.get(task))
            .is_some_and(|managed| managed.killing.is_none());
        if lives {
            self.managed_kill(name, key, task, None, Why::Asked);
        }
    }

    /// KILL of one task: a default executor ends the whole group.
    pub(in crate::model) fn managed_kill_asked(
        &mut self,
        name: &str,
        key: &ExecutorKey,
        task: &TaskId,
        policy: Option<KillPolicy>,
    ) {
        self.managed_kill(name, key, task, policy, Why::Asked);
        let executor = self.agents.get(name).and_then(|agent| agent.executors.get(key));
        for other in executor.map(|executor| others_of_group(executor, task)).unwrap_or_default() {
            self.managed_kill_quietly(name, key, &other);
        }
    }

    /// The executor has nothing left to do.
    pub(in crate::model) fn managed_leaves(&mut self, container: &ContainerId) {
        let Some((name, key)) = self.containers.get(container).cloned() else { return };
        let executor = self.agents.get(&name).and_then(|agent| agent.executors.get(&key));
        if executor.is_some_and(|e| e.managed.tasks.is_empty() && e.queued.is_empty() && e.exited.is_none()) {
            self.managed_gone(&name, &key, 0);
        }
    }

    /// The executor is gone; its agent sees that now or when it is back.
    fn managed_gone(&mut self, name: &str, key: &ExecutorKey, status: i32) {
        let Some(agent) = self.agents.get_mut(name) else { return };
        let up = agent.process == AgentProcess::Up;
        let Some(executor) = agent.executors.get_mut(key) else { return };
        executor.exited = Some(status);
        let container = executor.container.clone();
        self.containers.remove(&container);
        if up {
            self.bury(name, key, true);
        }
    }

    /// Kills an executor with all it runs. Whether it is one of these.
    pub(in crate::model) fn managed_destroy(&mut self, container: &ContainerId) -> bool {
        let Some((name, key)) = self.containers.get(container).cloned() else { return false };
        let Some(executor) = self.agents.get_mut(&name).and_then(|agent| agent.executors.get_mut(&key))
        else {
            return false;
        };
        if executor.kind == ExecutorKind::Custom {
            return false;
        }
        if executor.exited.is_some() {
            return true;
        }
        executor.state = ExecutorState::Terminating;
        executor.managed.destroyed = true;
        executor.managed.unsent.clear();
        let running: Vec<ContainerId> =
            executor.managed.tasks.values().map(|m| m.container.clone()).collect();
        if running.is_empty() {
            self.managed_gone(&name, &key, KILLED);
        }
        for container in running {
            self.out.push(Output::Kill(container));
        }
        true
    }

    /// SHUTDOWN: all tasks are killed within the executor's grace period.
    pub(in crate::model) fn managed_shut_down(&mut self, name: &str, key: &ExecutorKey) {
        let Some(executor) = self.agents.get(name).and_then(|agent| agent.executors.get(key)) else { return };
        let container = executor.container.clone();
        let tasks: Vec<TaskId> = executor.managed.tasks.keys().cloned().collect();
        if executor.managed.tasks.values().any(|managed| managed.running) {
            for task in tasks {
                self.managed_kill_quietly(name, key, &task);
            }
        } else {
            self.kill_container(&container);
        }
    }
}

fn grace(policy: Option<KillPolicy>) -> Duration {
    let period = policy.and_then(|policy| policy.grace_period);
    period.and_then(|period| u64::try_from(period.nanoseconds).ok()).map_or(GRACE, Duration::from_nanos)
}

/// A wait status in words, as Mesos prints it (`strsignal(3)`).
pub(super) fn wait_text(status: i32) -> String {
    let signal = status & 0x7f;
    if signal == 0 {
        return format!("exited with status {}", (status >> 8) & 0xff);
    }
    let name = match signal {
        1 => "Hangup",
        2 => "Interrupt",
        3 => "Quit",
        4 => "Illegal instruction",
        5 => "Trace/breakpoint trap",
        6 => "Aborted",
        7 => "Bus error",
        8 => "Floating point exception",
        9 => "Killed",
        10 => "User defined signal 1",
        11 => "Segmentation fault",
        12 => "User defined signal 2",
        13 => "Broken pipe",
        14 => "Alarm clock",
        15 => "Terminated",
        24 => "CPU time limit exceeded",
        25 => "File size limit exceeded",
        31 => "Bad system call",
        other => return format!("terminated with signal Unknown signal {other}"),
    };
    let core = if status & 0x80 == 0 { "" } else { " (core dumped)" };
    format!("terminated with signal {name}{core}")
}
