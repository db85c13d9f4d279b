//! Launching tasks, and the executors they need.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use overlord_mesos::v1::{
    CommandInfo, ContainerId, ExecutorId, ExecutorInfo, FrameworkId, TaskState, executor,
};

use super::{
    Model, Output, StartExecutor,
    accept::GoodTask,
    executor_key,
    types::{Executor, ExecutorKey, ExecutorState, Task, TaskKey, Timer},
};

/// The agent's default path for executors.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl Model {
    /// Puts a checked task on its agent. Its resources are charged already, as part of the offer.
    pub(super) fn launch(&mut self, framework: &FrameworkId, name: &str, role: &str, good: GoodTask) {
        let key: TaskKey = (framework.clone(), good.info.task_id.clone());
        let executor = good.info.executor.clone();
        let executor_id = executor
            .as_ref()
            .map_or_else(|| ExecutorId::new(key.1.as_str()), |info| info.executor_id.clone());
        let task = Task {
            agent: good.info.agent_id.clone(),
            executor: executor_id,
            role: role.to_owned(),
            pool: good.pool,
            state: TaskState::Staging,
            shown: TaskState::Staging,
            container_status: None,
            healthy: None,
            released: false,
            unreachable_since: None,
            kill: None,
            info: good.info,
        };
        self.tasks.insert(key.clone(), task);
        self.changes += 1;
        let Some(info) = executor else {
            let text = "Failed to launch container: this Mesos has no command executor, only custom ones";
            self.agent_update(name, &key, TaskState::Failed, "REASON_CONTAINER_LAUNCH_FAILED", text);
            return;
        };
        let executor_key = executor_key(framework, &info.executor_id);
        if let Some(pool) = good.executor {
            self.start_executor(name, role, &executor_key, info, pool);
        }
        let Some(executor) = self.agents.get_mut(name).and_then(|a| a.executors.get_mut(&executor_key))
        else {
            return;
        };
        executor.tasks.insert(key.1.clone());
        match (executor.state, executor.stream) {
            (ExecutorState::Registered, Some(stream)) => self.hand_over(stream, &key),
            // The agent sends into a closed connection; what became of it shows when the executor subscribes.
            (ExecutorState::Registered, None) => {}
            (ExecutorState::Registering, _) => executor.queued.push_back(key.1),
            (ExecutorState::Terminating, _) => {
                self.agent_update(
                    name,
                    &key,
                    TaskState::Dropped,
                    "REASON_EXECUTOR_TERMINATED",
                    "Executor terminating/terminated",
                );
            }
        }
    }

    /// Gives a task to its executor.
    pub(super) fn hand_over(&mut self, stream: super::StreamKey, key: &TaskKey) {
        let Some(task) = self.tasks.get(key) else { return };
        let launch = executor::Launch { task: task.info.clone() };
        let event = executor::Event {
            kind: executor::EventType::Launch,
            launch: Some(launch),
            ..executor::Event::default()
        };
        self.send_executor(stream, event);
    }

    fn start_executor(
        &mut self,
        name: &str,
        role: &str,
        key: &ExecutorKey,
        info: ExecutorInfo,
        pool: super::pool::Pool,
    ) {
        let container = ContainerId::new(self.new_uuid());
        let checkpoint = self.frameworks.get(&key.0).is_some_and(super::Framework::checkpoints);
        let Some(agent) = self.agents.get_mut(name) else { return };
        let (framework, executor) = (key.0.as_str(), key.1.as_str());
        let directory = agent
            .work_dir
            .join("slaves")
            .join(agent.id.as_str())
            .join("frameworks")
            .join(framework)
            .join("executors")
            .join(executor)
            .join("runs")
            .join(container.as_str());
        let command = info.command.clone().unwrap_or_default();
        let directory_text = directory.display().to_string();
        let grace = grace_text(&info, self.timings.shutdown_grace);
        let fixed = [
            ("LIBPROCESS_IP", agent.address.ip().to_string()),
            ("LIBPROCESS_PORT", "0".to_owned()),
            ("MESOS_AGENT_ENDPOINT", agent.address.to_string()),
            ("MESOS_CHECKPOINT", if checkpoint { "1" } else { "0" }.to_owned()),
            ("MESOS_DIRECTORY", directory_text.clone()),
            ("MESOS_EXECUTOR_ID", executor.to_owned()),
            ("MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD", grace),
            ("MESOS_FRAMEWORK_ID", framework.to_owned()),
            ("MESOS_HTTP_COMMAND_EXECUTOR", "0".to_owned()),
            ("MESOS_RECOVERY_TIMEOUT", duration_text(self.timings.recovery)),
            ("MESOS_SANDBOX", directory_text.clone()),
            ("MESOS_SLAVE_ID", agent.id.to_string()),
            ("MESOS_SLAVE_PID", format!("slave(1)@{}", agent.address)),
            ("MESOS_SUBSCRIPTION_BACKOFF_MAX", duration_text(self.timings.reregistration)),
            ("PWD", directory_text),
        ];
        let mut environment = BTreeMap::from([("PATH".to_owned(), PATH.to_owned())]);
        environment.extend(own_variables(&command));
        environment.extend(fixed.map(|(name, value)| (name.to_owned(), value)));
        let start = StartExecutor {
            agent: name.to_owned(),
            agent_id: agent.id.clone(),
            agent_endpoint: agent.address,
            framework_id: key.0.clone(),
            executor_id: key.1.clone(),
            container: container.clone(),
            command,
            environment,
            directory,
        };
        let record = Executor {
            info,
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
        agent.executors.insert(key.clone(), record);
        self.containers.insert(container.clone(), (name.to_owned(), key.clone()));
        self.out.push(Output::Start(Box::new(start)));
        self.after(self.timings.registration, Timer::Registration(container));
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
