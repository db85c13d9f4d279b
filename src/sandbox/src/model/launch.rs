//! Launching tasks, and the executors they need.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    path::{Path, PathBuf},
};

use overlord_mesos::v1::{
    AllocationInfo, CommandInfo, ContainerId, ExecutorId, ExecutorInfo, ExecutorType, FrameworkId, Resource,
    TaskGroup, TaskId, TaskInfo, TaskState, executor,
};

use super::{
    Model, Output, StartExecutor,
    accept::GoodTask,
    executor_key,
    managed::{ExecutorKind, Managed},
    pool::Pool,
    types::{Agent, Executor, ExecutorKey, ExecutorState, Task, TaskKey, Timer},
};

/// The agent's default path for executors.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What the master sends an agent to run.
#[derive(Debug)]
pub(crate) struct Launch {
    pub(crate) tasks: Vec<TaskKey>,
    kind: ExecutorKind,
    info: ExecutorInfo,
    pub(crate) role: String,
    /// What the executor takes, if it is new.
    pub(crate) pool: Pool,
    is_group: bool,
}

impl Model {
    /// Puts a checked task on its agent. Its resources are charged already, as part of the offer.
    pub(super) fn launch(&mut self, framework: &FrameworkId, name: &str, role: &str, good: GoodTask) {
        let (kind, info) = match &good.info.executor {
            Some(info) => (kind_of(info), info.clone()),
            None => (ExecutorKind::Command, command_executor(framework, role, &good.info)),
        };
        let pool = good.executor.unwrap_or_default();
        let key = self.admit(framework, role, &info.executor_id, good.info, good.pool);
        let launch = Launch { tasks: vec![key], kind, info, role: role.to_owned(), pool, is_group: false };
        self.send_launch(name, launch);
    }

    /// Puts a checked task group on its agent.
    pub(super) fn launch_group(
        &mut self,
        framework: &FrameworkId,
        name: &str,
        role: &str,
        info: ExecutorInfo,
        executor: Option<Pool>,
        tasks: Vec<GoodTask>,
    ) {
        let mut keys = Vec::with_capacity(tasks.len());
        for mut good in tasks {
            good.info.executor = Some(info.clone());
            keys.push(self.admit(framework, role, &info.executor_id, good.info, good.pool));
        }
        let (kind, pool) = (kind_of(&info), executor.unwrap_or_default());
        let launch = Launch { tasks: keys, kind, info, role: role.to_owned(), pool, is_group: true };
        self.send_launch(name, launch);
    }

    /// The master's record of a task.
    fn admit(
        &mut self,
        framework: &FrameworkId,
        role: &str,
        executor: &ExecutorId,
        info: TaskInfo,
        pool: Pool,
    ) -> TaskKey {
        let key: TaskKey = (framework.clone(), info.task_id.clone());
        let task = Task {
            agent: info.agent_id.clone(),
            executor: executor.clone(),
            role: role.to_owned(),
            pool,
            state: TaskState::Staging,
            shown: TaskState::Staging,
            container_status: None,
            healthy: None,
            released: false,
            unreachable_since: None,
            kill: None,
            statuses: Vec::new(),
            forgotten: false,
            info,
        };
        self.insert_task(key.clone(), task);
        key
    }

    fn send_launch(&mut self, name: &str, launch: Launch) {
        match self.agents.get_mut(name) {
            Some(agent) if agent.link.cut => agent.link.held.push(launch),
            _ => self.launch_on_agent(name, launch),
        }
    }

    /// The agent gets tasks to run.
    pub(super) fn launch_on_agent(&mut self, name: &str, launch: Launch) {
        let Launch { tasks, kind, info, role, pool, is_group } = launch;
        let Some(framework) = tasks.first().map(|(framework, _)| framework.clone()) else { return };
        let key = executor_key(&framework, &info.executor_id);
        let runs = self.agents.get(name).is_some_and(|agent| agent.executors.contains_key(&key));
        if !runs {
            self.start_executor(name, &role, &key, kind, info, pool);
        }
        let Some(executor) = self.agents.get_mut(name).and_then(|a| a.executors.get_mut(&key)) else {
            return;
        };
        let ids: Vec<TaskId> = tasks.iter().map(|(_, task)| task.clone()).collect();
        executor.tasks.extend(ids.iter().cloned());
        if is_group {
            executor.groups.push(ids.iter().cloned().collect());
        }
        match (executor.state, executor.stream) {
            (ExecutorState::Registered, Some(stream)) => self.hand_over(stream, &key, name, &ids),
            (ExecutorState::Registered, None) if executor.kind != ExecutorKind::Custom => {
                self.managed_group_begins(name, &key, &ids);
            }
            // The agent sends into a closed connection; what became of it shows when the executor subscribes.
            (ExecutorState::Registered, None) => {}
            (ExecutorState::Registering, _) => executor.queued.extend(ids),
            (ExecutorState::Terminating, _) => {
                for task in &tasks {
                    let text = "Executor terminating/terminated";
                    self.agent_update(name, task, TaskState::Dropped, "REASON_EXECUTOR_TERMINATED", text);
                }
            }
        }
    }

    /// Gives tasks to their executor, in order, those of a group together.
    pub(super) fn hand_over(
        &mut self,
        stream: super::StreamKey,
        key: &ExecutorKey,
        name: &str,
        tasks: &[TaskId],
    ) {
        let Some(executor) = self.agents.get(name).and_then(|agent| agent.executors.get(key)) else { return };
        let mut given: BTreeSet<TaskId> = BTreeSet::new();
        let mut events = Vec::new();
        for task in tasks {
            if given.contains(task) {
                continue;
            }
            let group = executor.groups.iter().find(|group| group.contains(task));
            let info = |task: &TaskId| self.tasks.get(&(key.0.clone(), task.clone())).map(|t| t.info.clone());
            if group.is_some() {
                let together = tasks.iter().filter(|other| group.is_some_and(|group| group.contains(*other)));
                let together: Vec<TaskInfo> = together
                    .inspect(|other| {
                        given.insert((*other).clone());
                    })
                    .filter_map(info)
                    .map(|task| TaskInfo { executor: None, ..task })
                    .collect();
                events.push(executor::Event {
                    kind: executor::EventType::LaunchGroup,
                    launch_group: Some(executor::LaunchGroup { task_group: TaskGroup { tasks: together } }),
                    ..executor::Event::default()
                });
            } else if let Some(task) = info(task) {
                events.push(executor::Event {
                    kind: executor::EventType::Launch,
                    launch: Some(executor::Launch { task }),
                    ..executor::Event::default()
                });
            }
        }
        for event in events {
            self.send_executor(stream, event);
        }
    }

    fn start_executor(
        &mut self,
        name: &str,
        role: &str,
        key: &ExecutorKey,
        kind: ExecutorKind,
        info: ExecutorInfo,
        pool: Pool,
    ) {
        let container = ContainerId::new(self.new_uuid());
        let Some(agent) = self.agents.get(name) else { return };
        let directory = run_directory(agent, key, &container);
        let command = info.command.clone().unwrap_or_default();
        let start = (kind == ExecutorKind::Custom).then(|| StartExecutor {
            agent: name.to_owned(),
            agent_id: agent.id.clone(),
            agent_endpoint: agent.address,
            framework_id: key.0.clone(),
            executor_id: key.1.clone(),
            container: container.clone(),
            environment: self.environment(agent, key, &info, &command, &directory),
            user: self.user_of(key, &command),
            cache: cache_directory(agent),
            command,
            directory,
        });
        let record = Executor {
            info,
            kind,
            managed: Managed::default(),
            groups: Vec::new(),
            container: container.clone(),
            state: ExecutorState::Registering,
            stream: None,
            pid: None,
            role: role.to_owned(),
            pool,
            tasks: BTreeSet::new(),
            queued: VecDeque::new(),
            cause: None,
            exited: None,
            resubscribed: true,
        };
        let Some(agent) = self.agents.get_mut(name) else { return };
        agent.executors.insert(key.clone(), record);
        self.containers.insert(container.clone(), (name.to_owned(), key.clone()));
        match start {
            Some(start) => {
                self.out.push(Output::Start(Box::new(start)));
                self.after(self.timings.registration, Timer::Registration(container));
            }
            None => self.after(self.timings.executor_start, Timer::Begin(container)),
        }
    }

    /// Everything an executor, or a task of the agent's own ones, finds in its environment.
    pub(super) fn environment(
        &self,
        agent: &Agent,
        key: &ExecutorKey,
        info: &ExecutorInfo,
        command: &CommandInfo,
        directory: &Path,
    ) -> BTreeMap<String, String> {
        let checkpoint = self.frameworks.get(&key.0).is_some_and(super::Framework::checkpoints);
        let flag = |set: bool| if set { "1" } else { "0" }.to_owned();
        let directory = directory.display().to_string();
        let grace = grace_text(info, self.timings.shutdown_grace);
        let fixed = [
            ("LIBPROCESS_IP", agent.address.ip().to_string()),
            ("LIBPROCESS_PORT", "0".to_owned()),
            ("MESOS_AGENT_ENDPOINT", agent.address.to_string()),
            ("MESOS_CHECKPOINT", flag(checkpoint)),
            ("MESOS_DIRECTORY", directory.clone()),
            ("MESOS_EXECUTOR_ID", key.1.as_str().to_owned()),
            ("MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD", grace),
            ("MESOS_FRAMEWORK_ID", key.0.as_str().to_owned()),
            ("MESOS_HTTP_COMMAND_EXECUTOR", flag(self.http_command_executor)),
            ("MESOS_RECOVERY_TIMEOUT", duration_text(self.timings.recovery)),
            ("MESOS_SANDBOX", directory.clone()),
            ("MESOS_SLAVE_ID", agent.id.to_string()),
            ("MESOS_SLAVE_PID", format!("slave(1)@{}", agent.address)),
            ("MESOS_SUBSCRIPTION_BACKOFF_MAX", duration_text(self.timings.reregistration)),
            ("PWD", directory),
        ];
        let mut environment = BTreeMap::from([("PATH".to_owned(), PATH.to_owned())]);
        environment.extend(own_variables(command));
        environment.extend(fixed.map(|(name, value)| (name.to_owned(), value)));
        environment
    }
}

/// Where an executor runs.
pub(super) fn run_directory(agent: &Agent, key: &ExecutorKey, container: &ContainerId) -> PathBuf {
    let mut directory = agent.work_dir.join("slaves").join(agent.id.as_str());
    for part in ["frameworks", key.0.as_str(), "executors", key.1.as_str(), "runs", container.as_str()] {
        directory.push(part);
    }
    directory
}

/// Where an agent keeps what it fetched for more than one.
pub(super) fn cache_directory(agent: &Agent) -> PathBuf {
    agent.work_dir.join("fetch")
}

fn kind_of(info: &ExecutorInfo) -> ExecutorKind {
    if info.kind == Some(ExecutorType::Default) { ExecutorKind::Default } else { ExecutorKind::Custom }
}

/// The executor that the agent makes up for a task with a command.
fn command_executor(framework: &FrameworkId, role: &str, task: &TaskInfo) -> ExecutorInfo {
    let own = task.command.clone().unwrap_or_default();
    let shown = own.value.as_deref().unwrap_or_default();
    let name = format!("Command Executor (Task: {}) (Command: sh -c '{shown}')", task.task_id);
    let command = CommandInfo {
        shell: Some(false),
        value: Some("mesos-executor".to_owned()),
        arguments: vec!["mesos-executor".to_owned(), "--launcher_dir=/usr/libexec/mesos".to_owned()],
        user: own.user,
        ..CommandInfo::default()
    };
    // What the agent adds for it, beyond what was offered.
    let mut resources = vec![Resource::scalar("cpus", 0.1), Resource::scalar("mem", 32.0)];
    for resource in &mut resources {
        resource.allocation_info = Some(AllocationInfo { role: Some(role.to_owned()) });
    }
    ExecutorInfo {
        executor_id: ExecutorId::new(task.task_id.as_str()),
        framework_id: Some(framework.clone()),
        name: Some(name),
        source: Some(task.task_id.to_string()),
        command: Some(command),
        resources,
        ..ExecutorInfo::default()
    }
}

fn own_variables(command: &CommandInfo) -> impl Iterator<Item = (String, String)> {
    let variables = command.environment.iter().flat_map(|environment| &environment.variables);
    variables.map(|variable| (variable.name.clone(), variable.value.clone().unwrap_or_default()))
}

fn grace_text(info: &ExecutorInfo, default: std::time::Duration) -> String {
    duration_text(grace(info, default))
}

/// How long an executor has after SHUTDOWN.
pub(super) fn grace(info: &ExecutorInfo, default: std::time::Duration) -> std::time::Duration {
    let own = info.shutdown_grace_period.and_then(|period| u64::try_from(period.nanoseconds).ok());
    own.map_or(default, std::time::Duration::from_nanos)
}

/// A duration as Mesos prints it: the largest unit that divides it.
pub(super) fn duration_text(duration: std::time::Duration) -> String {
    const UNITS: [(&str, u128); 8] = [
        ("weeks", 604_800_000_000_000),
        ("days", 86_400_000_000_000),
        ("hrs", 3_600_000_000_000),
        ("mins", 60_000_000_000),
        ("secs", 1_000_000_000),
        ("ms", 1_000_000),
        ("us", 1_000),
        ("ns", 1),
    ];
    let nanoseconds = duration.as_nanos();
    if nanoseconds == 0 {
        return "0ns".to_owned();
    }
    let unit = UNITS.into_iter().find(|(_, size)| nanoseconds.is_multiple_of(*size));
    unit.map_or_else(String::new, |(name, size)| format!("{}{name}", nanoseconds / size))
}
