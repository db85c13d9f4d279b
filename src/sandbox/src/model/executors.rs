//! Executors: their calls, their processes, their end.

use overlord_mesos::v1::{
    ContainerId, FrameworkId, TaskId, TaskState,
    executor::{Acknowledged, Call, CallType, Data, Event, EventType, Subscribe, Subscribed, Update},
    scheduler,
};

use super::{
    Answer, Model, Output, StreamKey, executor_key, launch,
    managed::{ExecutorKind, container_status},
    types::{AgentProcess, ExecutorKey, ExecutorState, Task, TaskKey, Timer},
    validate,
};

/// Between signs of life to executors (`DEFAULT_EXECUTOR_HEARTBEAT_INTERVAL` in slave/constants.hpp).
const HEARTBEAT: std::time::Duration = std::time::Duration::from_secs(30 * 60);

impl Model {
    pub(super) fn executor_call(&mut self, name: &str, call: Call) -> Answer {
        let Some(agent) = self.agents.get(name).filter(|agent| agent.process != AgentProcess::Down) else {
            return Answer::Unavailable;
        };
        if let Err(text) = validate::executor_call(&call) {
            return Answer::refused(400, text);
        }
        let key = executor_key(&call.framework_id, &call.executor_id);
        let first = executor_key(&call.framework_id, &overlord_mesos::v1::ExecutorId::default());
        let mut of_framework =
            agent.executors.range(first..).take_while(|((owner, _), _)| *owner == call.framework_id);
        if of_framework.next().is_none() {
            return Answer::refused(400, "Framework cannot be found");
        }
        // Those that are part of the agent do not call it.
        let Some(executor) = agent.executors.get(&key).filter(|e| e.kind == ExecutorKind::Custom) else {
            return Answer::refused(400, "Executor cannot be found");
        };
        let subscribed = executor.state != ExecutorState::Registering && executor.resubscribed;
        if call.kind != CallType::Subscribe && !subscribed {
            return Answer::refused(403, "Executor is not subscribed");
        }
        match call.kind {
            CallType::Subscribe => {
                return self.executor_subscribes(name, &key, call.subscribe.unwrap_or_default());
            }
            CallType::Update => self.executor_update(name, &key, call.update.unwrap_or_default()),
            CallType::Message => {
                let message = scheduler::Message {
                    agent_id: agent.id.clone(),
                    executor_id: call.executor_id,
                    data: call.message.unwrap_or_default().data,
                };
                let event = scheduler::Event {
                    kind: scheduler::EventType::Message,
                    message: Some(message),
                    ..scheduler::Event::default()
                };
                if agent.is_reached() {
                    self.send_to(&key.0, event);
                }
            }
            CallType::Heartbeat | CallType::Unknown => {}
        }
        Answer::Accepted
    }

    pub(super) fn executor_heartbeat(&mut self, stream: StreamKey) {
        if self.executor_streams.contains_key(&stream) {
            self.send_executor(stream, Event { kind: EventType::Heartbeat, ..Event::default() });
            self.after(HEARTBEAT, Timer::ExecutorHeartbeat(stream));
        }
    }

    fn executor_subscribes(&mut self, name: &str, key: &ExecutorKey, subscribe: Subscribe) -> Answer {
        let stream = self.new_stream();
        self.after(HEARTBEAT, Timer::ExecutorHeartbeat(stream));
        let answer = Answer::Subscribed { stream, stream_id: String::new() };
        let framework_info = self.frameworks.get(&key.0).map(|f| f.info.clone()).unwrap_or_default();
        let Some(agent) = self.agents.get_mut(name) else { return Answer::Unavailable };
        let agent_info = agent.info();
        let Some(executor) = agent.executors.get_mut(key) else { return Answer::Unavailable };
        let old = executor.stream.replace(stream);
        executor.resubscribed = true;
        self.executor_streams.insert(stream, (name.to_owned(), key.clone()));
        if let Some(old) = old {
            self.executor_streams.remove(&old);
            self.out.push(Output::End(old));
        }
        if executor.state == ExecutorState::Terminating {
            self.send_executor(stream, Event { kind: EventType::Shutdown, ..Event::default() });
            return answer;
        }
        let again = executor.state == ExecutorState::Registered;
        executor.state = ExecutorState::Registered;
        let subscribed = Subscribed {
            executor_info: executor.info.clone(),
            framework_info,
            agent_info,
            container_id: Some(executor.container.clone()),
        };
        let queued: Vec<TaskId> = executor.queued.drain(..).collect();
        let held: Vec<TaskId> = executor.tasks.iter().cloned().collect();
        self.send_executor(
            stream,
            Event { kind: EventType::Subscribed, subscribed: Some(subscribed), ..Event::default() },
        );
        for update in subscribe.unacknowledged_updates {
            self.executor_update(name, key, update);
        }
        self.hand_over(stream, key, name, &queued);
        if again {
            // What was sent to it and never arrived.
            let arrived: Vec<&TaskId> =
                subscribe.unacknowledged_tasks.iter().map(|task| &task.task_id).collect();
            for task in held.iter().filter(|task| !queued.contains(task) && !arrived.contains(task)) {
                let task_key: TaskKey = (key.0.clone(), task.clone());
                if self.tasks.get(&task_key).is_some_and(|task| task.state == TaskState::Staging) {
                    let text = "Task launched during agent restart";
                    self.agent_update(name, &task_key, TaskState::Dropped, "REASON_AGENT_RESTARTED", text);
                }
            }
        }
        answer
    }

    pub(super) fn executor_update(&mut self, name: &str, key: &ExecutorKey, update: Update) {
        let mut status = update.status;
        let task_key: TaskKey = (key.0.clone(), status.task_id.clone());
        let Some(agent) = self.agents.get(name) else { return };
        let Some(executor) = agent.executors.get(key) else { return };
        // Of other tasks, and of those whose end the framework has acknowledged, the agent passes on what it is
        // told, and says nothing to the executor.
        let known = self.tasks.get(&task_key).is_some_and(|task: &Task| task.executor == key.1);
        if known {
            status.container_status = Some(container_status(agent, executor, &status.task_id, status.state));
        }
        if agent.drain.is_some() && matches!(status.state, TaskState::Killing | TaskState::Killed) {
            status.reason = Some("REASON_AGENT_DRAINING".to_owned());
        }
        let acknowledged =
            Acknowledged { task_id: status.task_id.clone(), uuid: status.uuid.clone().unwrap_or_default() };
        let stream = executor.stream;
        self.take_update(name, &task_key, status);
        // The agent has written it down, whatever becomes of it further on.
        if let Some(stream) = stream.filter(|_| known) {
            self.send_executor(
                stream,
                Event { kind: EventType::Acknowledged, acknowledged: Some(acknowledged), ..Event::default() },
            );
        }
    }

    pub(super) fn message_to_executor(&mut self, framework: &FrameworkId, message: &scheduler::Message) {
        let Some(agent) = self.agent_by_id(&message.agent_id).filter(|agent| agent.is_reached()) else {
            return;
        };
        let executor = agent.executors.get(&executor_key(framework, &message.executor_id));
        if let Some(stream) = executor.and_then(|executor| executor.stream) {
            let data = Data { data: message.data.clone() };
            self.send_executor(
                stream,
                Event { kind: EventType::Message, message: Some(data), ..Event::default() },
            );
        }
    }

    pub(super) fn executor_started(&mut self, container: &ContainerId, pid: Option<u32>) {
        if self.managed_started(container, pid) {
            return;
        }
        if let Some(executor) = self.executor_of(container) {
            executor.pid = pid;
        }
    }

    pub(super) fn executor_not_started(&mut self, container: &ContainerId, message: &str) {
        if self.managed_not_started(container, message) {
            return;
        }
        if let Some(executor) = self.executor_of(container) {
            let text = format!("Failed to launch container: {message}");
            executor.cause = Some((text, "REASON_CONTAINER_LAUNCH_FAILED"));
        }
        // A container that never was has no wait status; the agent says -1.
        self.executor_exited(container, -1);
    }

    pub(super) fn executor_exited(&mut self, container: &ContainerId, status: i32) {
        if self.managed_exited(container, status) {
            return;
        }
        let Some((name, key)) = self.containers.remove(container) else { return };
        let Some(agent) = self.agents.get_mut(&name) else { return };
        let up = agent.process == AgentProcess::Up;
        let Some(executor) = agent.executors.get_mut(&key).filter(|e| e.container == *container) else {
            return;
        };
        if let Some(stream) = executor.stream.take() {
            self.executor_streams.remove(&stream);
            self.out.push(Output::End(stream));
        }
        executor.exited = Some(status);
        if up {
            self.bury(&name, &key, true);
        }
    }

    /// Ends the record of an executor whose process is gone, and its tasks. The agent sees the end while it is
    /// up; of one that it finds gone when it starts there is no FAILURE.
    pub(super) fn bury(&mut self, name: &str, key: &ExecutorKey, seen: bool) {
        let Some(agent) = self.agents.get_mut(name) else { return };
        let (agent_id, reached) = (agent.id.clone(), agent.is_reached());
        let Some(executor) = agent.executors.remove(key) else { return };
        self.containers.remove(&executor.container);
        for managed in executor.managed.tasks.values() {
            self.nested.remove(&managed.container);
        }
        self.leave_if_empty(name);
        if !self.frameworks.contains_key(&key.0) {
            return;
        }
        // Of an executor that the agent made up for a task, the framework knows nothing.
        if seen && reached && executor.kind != ExecutorKind::Command {
            let failure = scheduler::Failure {
                agent_id: Some(agent_id),
                executor_id: Some(key.1.clone()),
                status: executor.exited,
            };
            let event = scheduler::Event {
                kind: scheduler::EventType::Failure,
                failure: Some(failure),
                ..scheduler::Event::default()
            };
            self.send_to(&key.0, event);
        }
        let (text, reason) = executor
            .cause
            .unwrap_or_else(|| ("Executor terminated".to_owned(), "REASON_EXECUTOR_TERMINATED"));
        for task in executor.tasks {
            self.agent_update(name, &(key.0.clone(), task), TaskState::Failed, reason, &text);
        }
        self.release(&key.0, &executor.role, name, &executor.pool);
    }

    pub(super) fn registration_due(&mut self, container: &ContainerId) {
        let text =
            format!("Executor did not register within {}", launch::duration_text(self.timings.registration));
        let Some(executor) = self.executor_of(container) else { return };
        if executor.state == ExecutorState::Registering {
            executor.cause = Some((text, "REASON_EXECUTOR_REGISTRATION_TIMEOUT"));
            self.kill_container(container);
        }
    }

    /// SHUTDOWN, then SIGKILL after the grace period.
    pub(super) fn shut_down_executor(&mut self, name: &str, key: &ExecutorKey) {
        let default = self.timings.shutdown_grace;
        let Some(agent) = self.agents.get_mut(name) else { return };
        let up = agent.process == AgentProcess::Up;
        let Some(executor) = agent.executors.get_mut(key) else { return };
        if executor.state == ExecutorState::Terminating {
            return;
        }
        executor.state = ExecutorState::Terminating;
        let (container, stream) = (executor.container.clone(), executor.stream);
        let grace = launch::grace(&executor.info, default);
        match stream {
            Some(stream) if up => {
                self.send_executor(stream, Event { kind: EventType::Shutdown, ..Event::default() });
                self.after(grace, Timer::Grace(container));
            }
            // It hears nothing; it is told when it subscribes, and killed if it does not.
            _ => {
                let managed = executor.kind != ExecutorKind::Custom;
                self.after(grace, Timer::Grace(container));
                if managed {
                    self.managed_shut_down(name, key);
                }
            }
        }
    }

    pub(super) fn grace_over(&mut self, container: &ContainerId) {
        if self.executor_of(container).is_some() {
            self.kill_container(container);
        }
    }

    /// Shuts down what a removed framework runs on an agent, and forgets what it still had to report.
    pub(super) fn shut_down_framework(&mut self, name: &str, id: &FrameworkId) {
        let Some(agent) = self.agents.get_mut(name) else { return };
        let cut = agent.link.cut;
        let first = executor_key(id, &overlord_mesos::v1::ExecutorId::default());
        let own: Vec<ExecutorKey> = agent
            .executors
            .range(first..)
            .take_while(|((owner, _), _)| owner == id)
            .map(|(key, _)| key.clone())
            .collect();
        for key in own {
            // An agent that is not reached is told when it is.
            if !cut {
                self.shut_down_executor(name, &key);
            }
            let Some(executor) = self.agents.get_mut(name).and_then(|a| a.executors.get_mut(&key)) else {
                continue;
            };
            if !cut {
                executor.tasks.clear();
                executor.queued.clear();
            }
            let (role, pool) = (executor.role.clone(), std::mem::take(&mut executor.pool));
            // The master gives the resources out again at once, before the executor is gone.
            self.release(id, &role, name, &pool);
        }
        let first = (id.clone(), TaskId::default());
        // Also what its executors said just now.
        let Some(agent) = self.agents.get_mut(name) else { return };
        let reported: Vec<TaskKey> = agent
            .updates
            .range(first..)
            .take_while(|((owner, _), _)| owner == id)
            .map(|(key, _)| key.clone())
            .collect();
        for key in reported {
            agent.updates.remove(&key);
        }
    }

    pub(super) fn kill_container(&mut self, container: &ContainerId) {
        if self.managed_destroy(container) {
            return;
        }
        if let Some(executor) = self.executor_of(container)
            && executor.exited.is_none()
        {
            executor.state = ExecutorState::Terminating;
            self.out.push(Output::Kill(container.clone()));
        }
    }

    fn executor_of(&mut self, container: &ContainerId) -> Option<&mut super::types::Executor> {
        let (name, key) = self.containers.get(container)?;
        self.agents.get_mut(name)?.executors.get_mut(key)
    }

    /// Ends all executor streams of an agent: its process is gone.
    pub(super) fn cut_executors(&mut self, name: &str) {
        let Some(agent) = self.agents.get_mut(name) else { return };
        let mut cut: Vec<StreamKey> = Vec::new();
        for executor in agent.executors.values_mut() {
            executor.resubscribed = executor.kind != ExecutorKind::Custom;
            cut.extend(executor.stream.take());
        }
        for stream in cut {
            self.executor_streams.remove(&stream);
            self.out.push(Output::End(stream));
        }
    }
}
