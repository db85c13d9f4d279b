//! Agents that are lost, come back, restart, or come back as another. An agent's process and the master's view
//! of it are two things: executors live on while nobody hears of them.

use overlord_mesos::v1::{
    FrameworkId, TaskState,
    scheduler::{Event, EventType, Failure},
};

use super::{
    AgentFault, Answer, Model, Output,
    types::{AgentProcess, ExecutorKey, ExecutorState, Registration, TaskKey, Timer},
};

impl Model {
    pub(super) fn agent_fault(&mut self, name: &str, fault: AgentFault) -> Answer {
        let Some(agent) = self.agents.get_mut(name) else {
            return Answer::refused(404, format!("no agent is named '{name}'"));
        };
        match fault {
            AgentFault::Lost => self.agent_down(name),
            AgentFault::Return => {
                let generation = agent.generation;
                self.agent_starts(name, generation);
            }
            AgentFault::Restart => {
                self.agent_down(name);
                let generation = self.agents.get(name).map_or(0, |agent| agent.generation);
                self.after(self.timings.restart, Timer::Start { agent: name.to_owned(), generation });
            }
            AgentFault::NewId => self.agent_replaced(name),
        }
        Answer::Accepted
    }

    /// The agent's process is gone. The master notices at once, because the connection breaks.
    fn agent_down(&mut self, name: &str) {
        let Some(agent) = self.agents.get_mut(name) else { return };
        if agent.process == AgentProcess::Down {
            return;
        }
        agent.process = AgentProcess::Down;
        agent.generation += 1;
        let generation = agent.generation;
        let was_registered = agent.is_registered();
        self.out.push(Output::Endpoint { agent: name.to_owned(), up: false });
        self.cut_executors(name);
        if !was_registered {
            return;
        }
        agent_registration(self, name, Registration::Disconnected);
        self.rescind_all(name);
        self.drop_unchecked(name);
        self.after(self.ping_timeout, Timer::Ping { agent: name.to_owned(), generation });
    }

    /// A framework that does not checkpoint loses its tasks at once; its executors end by themselves.
    fn drop_unchecked(&mut self, name: &str) {
        let Some(agent) = self.agents.get(name) else { return };
        let (agent_id, host) = (agent.id.clone(), agent.address.ip());
        let message = format!("Agent {host} disconnected");
        let lost: Vec<TaskKey> = self
            .tasks
            .iter()
            .filter(|((framework, _), task)| task.agent == agent_id && !self.checkpoints(framework))
            .map(|(key, _)| key.clone())
            .collect();
        for key in lost {
            let live = self.tasks.get(&key).is_some_and(|task| !task.state.is_terminal());
            self.release_task(&key);
            self.tasks.remove(&key);
            if let Some(agent) = self.agents.get_mut(name) {
                agent.updates.remove(&key);
            }
            if live {
                let (task, agent) = (key.1.clone(), Some(agent_id.clone()));
                let reason = "REASON_AGENT_DISCONNECTED";
                let status =
                    self.master_status(&key.0, task, agent, TaskState::Lost, reason, message.clone());
                self.send_status(&key.0, status);
            }
        }
        let doomed: Vec<ExecutorKey> = self
            .agents
            .get(name)
            .into_iter()
            .flat_map(|agent| agent.executors.keys())
            .filter(|(framework, _)| !self.checkpoints(framework))
            .cloned()
            .collect();
        for key in doomed {
            let Some(executor) = self.agents.get_mut(name).and_then(|a| a.executors.get_mut(&key)) else {
                continue;
            };
            executor.tasks.clear();
            executor.queued.clear();
            let container = executor.container.clone();
            self.kill_container(&container);
        }
    }

    fn checkpoints(&self, framework: &FrameworkId) -> bool {
        self.frameworks.get(framework).is_none_or(super::Framework::checkpoints)
    }

    pub(super) fn ping_timed_out(&mut self, name: &str, generation: u64) {
        let Some(agent) = self.agents.get(name) else { return };
        // The pings go on while the agent recovers: only registration ends the count.
        if agent.registration != Registration::Disconnected || agent.generation < generation {
            return;
        }
        let agent_id = agent.id.clone();
        let since = self.now;
        agent_registration(self, name, Registration::Unreachable { since });
        let message = "health check timed out";
        for key in self.tasks_on(&agent_id) {
            let executor =
                self.tasks.get(&key).filter(|t| t.info.executor.is_some()).map(|t| t.executor.clone());
            let (task, agent) = (key.1.clone(), Some(agent_id.clone()));
            let reason = "REASON_AGENT_REMOVED";
            let mut status = self.master_status(&key.0, task, agent, TaskState::Unreachable, reason, message);
            status.executor_id = executor;
            status.unreachable_time = Some(self.unreachable_time(since));
            if let Some(task) = self.tasks.get_mut(&key) {
                task.unreachable_since = Some(since);
            }
            self.send_status(&key.0, status);
        }
        self.announce_failure(&agent_id);
    }

    /// Live tasks of an agent.
    fn tasks_on(&self, agent: &overlord_mesos::v1::AgentId) -> Vec<TaskKey> {
        let own = self.tasks.iter().filter(|(_, task)| task.agent == *agent && !task.state.is_terminal());
        own.map(|(key, _)| key.clone()).collect()
    }

    fn announce_failure(&mut self, agent: &overlord_mesos::v1::AgentId) {
        let frameworks: Vec<FrameworkId> = self.frameworks.keys().cloned().collect();
        for framework in frameworks {
            let failure = Some(Failure { agent_id: Some(agent.clone()), ..Failure::default() });
            self.send_to(&framework, Event { kind: EventType::Failure, failure, ..Event::default() });
        }
    }

    /// The agent's process starts with its work directory, and waits for its executors.
    pub(super) fn agent_starts(&mut self, name: &str, generation: u64) {
        let Some(agent) = self.agents.get_mut(name) else { return };
        if agent.process != AgentProcess::Down || agent.generation != generation {
            return;
        }
        agent.process = AgentProcess::Recovering;
        agent.generation += 1;
        let generation = agent.generation;
        let empty = agent.executors.is_empty();
        self.out.push(Output::Endpoint { agent: name.to_owned(), up: true });
        if empty {
            self.agent_recovered(name, generation);
        } else {
            self.after(self.timings.reregistration, Timer::Recovered { agent: name.to_owned(), generation });
        }
    }

    /// The agent has waited: who did not come back is over. Then it registers again.
    pub(super) fn agent_recovered(&mut self, name: &str, generation: u64) {
        let Some(agent) = self.agents.get_mut(name) else { return };
        if agent.process != AgentProcess::Recovering || agent.generation != generation {
            return;
        }
        agent.process = AgentProcess::Up;
        let mut ended: Vec<ExecutorKey> = Vec::new();
        let mut silent = Vec::new();
        let late = format!(
            "Executor did not reregister within {}",
            super::launch::duration_text(self.timings.reregistration)
        );
        for (key, executor) in &mut agent.executors {
            if executor.exited.is_some() {
                ended.push(key.clone());
            } else if !executor.resubscribed && executor.state != ExecutorState::Terminating {
                executor.cause = Some((late.clone(), "REASON_EXECUTOR_REREGISTRATION_TIMEOUT"));
                silent.push(executor.container.clone());
            }
        }
        for key in ended {
            self.bury(name, &key, false);
        }
        for container in silent {
            self.kill_container(&container);
        }
        self.agent_registers(name);
    }

    fn agent_registers(&mut self, name: &str) {
        let Some(agent) = self.agents.get(name) else { return };
        let (agent_id, was) = (agent.id.clone(), agent.registration);
        agent_registration(self, name, Registration::Registered);
        if matches!(was, Registration::Unreachable { .. }) {
            self.restore_tasks(&agent_id);
        }
        // A real agent sends what is pending when it has recovered, and once more when it has registered.
        let pending: Vec<TaskKey> = self
            .agents
            .get(name)
            .into_iter()
            .flat_map(|agent| &agent.updates)
            .filter(|(_, stream)| !stream.pending.is_empty())
            .map(|(key, _)| key.clone())
            .collect();
        for key in pending.iter().chain(&pending) {
            self.forward(name, key);
        }
        for key in self.tasks_on(&agent_id) {
            if let Some(kill) = self.tasks.get_mut(&key).and_then(|task| task.kill.take()) {
                self.kill_on_agent(&key, kill.kill_policy);
            }
        }
        if matches!(was, Registration::Unreachable { .. }) {
            self.allocate();
        }
    }

    /// Tells of the tasks of an agent that was given up and is back.
    fn restore_tasks(&mut self, agent: &overlord_mesos::v1::AgentId) {
        let back: Vec<TaskKey> = self
            .tasks
            .iter()
            .filter(|(_, task)| task.agent == *agent && task.unreachable_since.is_some())
            .map(|(key, _)| key.clone())
            .collect();
        for key in back {
            let Some(task) = self.tasks.get_mut(&key) else { continue };
            task.unreachable_since = None;
            if task.state.is_terminal() {
                continue;
            }
            // The spelling is the master's.
            let status =
                self.task_status(&key, "REASON_AGENT_REREGISTERED", "Unreachable agent re-reregistered");
            if let Some(status) = status {
                self.send_status(&key.0, status);
            }
        }
    }

    /// An agent with an empty work directory takes the place of this one.
    fn agent_replaced(&mut self, name: &str) {
        self.agent_down(name);
        let Some(agent) = self.agents.get(name) else { return };
        let (old_id, host, was) = (agent.id.clone(), agent.address.ip(), agent.registration);
        let containers: Vec<_> =
            agent.executors.values().map(|executor| executor.container.clone()).collect();
        for container in containers {
            self.kill_container(&container);
            self.containers.remove(&container);
        }
        let message = format!("Agent {host} removed: a new agent registered at the same address");
        let held: Vec<TaskKey> =
            self.tasks.iter().filter(|(_, task)| task.agent == old_id).map(|(key, _)| key.clone()).collect();
        for key in held {
            let live =
                self.tasks.get(&key).is_some_and(|t| !t.state.is_terminal() && t.unreachable_since.is_none());
            self.release_task(&key);
            self.tasks.remove(&key);
            if live {
                let (task, agent) = (key.1.clone(), Some(old_id.clone()));
                let reason = "REASON_AGENT_REMOVED";
                let status =
                    self.master_status(&key.0, task, agent, TaskState::Lost, reason, message.clone());
                self.send_status(&key.0, status);
            }
        }
        if !matches!(was, Registration::Unreachable { .. }) {
            self.announce_failure(&old_id);
        }
        self.agent_names.remove(&old_id);
        let new_id = self.new_agent_id();
        self.agent_names.insert(new_id.clone(), name.to_owned());
        let Some(agent) = self.agents.get_mut(name) else { return };
        agent.id = new_id;
        agent.updates.clear();
        agent.free = agent.total.clone();
        agent.process = AgentProcess::Up;
        agent.generation += 1;
        for (key, executor) in std::mem::take(&mut agent.executors) {
            self.discharge(&key.0, &executor.role, &executor.pool);
        }
        self.out.push(Output::Endpoint { agent: name.to_owned(), up: true });
        agent_registration(self, name, Registration::Registered);
        self.allocate();
    }
}

/// Changes the master's view of an agent: only a registered one is offered.
fn agent_registration(model: &mut Model, name: &str, registration: Registration) {
    let Some(agent) = model.agents.get_mut(name) else { return };
    agent.registration = registration;
    model.changes += 1;
    if registration != Registration::Registered {
        model.allocatable.remove(name);
    } else if agent.free.is_allocatable() {
        model.allocatable.insert(name.to_owned());
        model.allocate_by(model.now);
    }
}
