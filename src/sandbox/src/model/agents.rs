//! Agents that are lost, come back, restart, or come back as another. An agent's process and the master's view
//! of it are two things: executors live on while nobody hears of them.

use overlord_mesos::v1::{
    FrameworkId, TaskState,
    scheduler::{Event, EventType, Failure},
};

use super::{
    Model, Output,
    managed::ExecutorKind,
    types::{AgentProcess, ExecutorKey, ExecutorState, Registration, TaskKey, Timer},
};

impl Model {
    /// The agent's process is gone. The master notices at once, because the connection breaks, unless the way
    /// between them is cut.
    pub(super) fn agent_down(&mut self, name: &str) {
        let Some(agent) = self.agents.get_mut(name) else { return };
        if agent.process == AgentProcess::Down {
            return;
        }
        agent.process = AgentProcess::Down;
        agent.leaving = false;
        agent.generation += 1;
        let generation = agent.generation;
        let noticed = agent.is_reached();
        let own = agent.executors.values().any(|executor| executor.kind != ExecutorKind::Custom);
        self.out.push(Output::Endpoint { agent: name.to_owned(), up: false });
        self.cut_executors(name);
        self.end_unchecked(name);
        if own {
            self.after(self.timings.recovery, Timer::GiveUp { agent: name.to_owned(), generation });
        }
        if !noticed {
            return;
        }
        agent_registration(self, name, Registration::Disconnected);
        self.rescind_all(name);
        self.drop_unchecked(name);
        self.expect_pings(name);
    }

    /// A framework that does not checkpoint loses its tasks at once.
    pub(super) fn drop_unchecked(&mut self, name: &str) {
        let Some(agent) = self.agents.get(name) else { return };
        let (agent_id, host) = (agent.id.clone(), agent.hostname.clone());
        let message = format!("Agent {host} disconnected");
        let held = self.tasks_of_agent(&agent_id);
        for key in held.into_iter().filter(|(framework, _)| !self.checkpoints(framework)).collect::<Vec<_>>()
        {
            let live = self.tasks.get(&key).is_some_and(|task| !task.state.is_terminal());
            self.release_task(&key);
            self.remove_task(&key);
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
    }

    /// Executors of frameworks that do not checkpoint end with their agent.
    fn end_unchecked(&mut self, name: &str) {
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

    pub(super) fn ping_timed_out(&mut self, name: &str, disconnect: u64) {
        let Some(agent) = self.agents.get(name) else { return };
        // The pings go on while the agent recovers: only registration, or an open way, ends the count.
        let silent =
            agent.registration == Registration::Disconnected || (agent.is_registered() && agent.link.cut);
        if !silent || agent.link.disconnects != disconnect {
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
            status.unreachable_time = Some(self.unreachable_time(since));
            if let Some(task) = self.tasks.get_mut(&key) {
                task.unreachable_since = Some(since);
            }
            self.task_updated(&key, &status);
            status.executor_id = executor;
            self.send_status(&key.0, status);
        }
        self.rescind_all(name);
        self.announce_failure(&agent_id);
    }

    /// Live tasks of an agent.
    pub(super) fn tasks_on(&self, agent: &overlord_mesos::v1::AgentId) -> Vec<TaskKey> {
        let mut own = self.tasks_of_agent(agent);
        own.retain(|key| self.tasks.get(key).is_some_and(|task| !task.state.is_terminal()));
        own
    }

    pub(super) fn announce_failure(&mut self, agent: &overlord_mesos::v1::AgentId) {
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
        if agent.replaced {
            self.agent_replaced(name);
            return;
        }
        agent.process = AgentProcess::Recovering;
        agent.generation += 1;
        let generation = agent.generation;
        let empty = agent.executors.is_empty();
        self.out.push(Output::Endpoint { agent: name.to_owned(), up: true });
        self.managed_reconnect(name);
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
        if self.agents.get(name).is_some_and(|agent| !agent.link.cut) {
            // A real agent sends what is pending when it has recovered, and once more when it has registered.
            self.agent_registers(name, 2);
        }
    }

    /// The agent is there again for the master; what is pending goes out so many times.
    pub(super) fn agent_registers(&mut self, name: &str, times: usize) {
        if !self.masters.leads() {
            // It turns to the next master when there is one.
            return;
        }
        let now = self.now;
        let Some(agent) = self.agents.get_mut(name) else { return };
        agent.link.disconnects += 1;
        agent.reregistered_at = Some(now);
        let (agent_id, was) = (agent.id.clone(), agent.registration);
        agent_registration(self, name, Registration::Registered);
        let was_lost = matches!(was, Registration::Unreachable { .. });
        if was_lost {
            self.restore_tasks(&agent_id);
        }
        self.learn_from_agent(name);
        self.agent_catches_up(name, times);
        if was_lost || was == Registration::Recovered {
            self.allocate();
        }
    }

    /// Agent and master tell each other what they could not: updates, KILLs, frameworks that are over.
    pub(super) fn agent_catches_up(&mut self, name: &str, times: usize) {
        let Some(agent) = self.agents.get(name) else { return };
        let agent_id = agent.id.clone();
        let pending: Vec<TaskKey> = agent
            .updates
            .iter()
            .filter(|(_, stream)| !stream.pending.is_empty())
            .map(|(key, _)| key.clone())
            .collect();
        let mut over: Vec<FrameworkId> =
            agent.executors.keys().map(|(framework, _)| framework.clone()).collect();
        over.retain(|framework| !self.frameworks.contains_key(framework));
        over.dedup();
        for _ in 0..times {
            for key in &pending {
                self.forward(name, key);
            }
        }
        for key in self.tasks_on(&agent_id) {
            if let Some(kill) = self.tasks.get_mut(&key).and_then(|task| task.kill.take()) {
                self.kill_on_agent(&key, kill.kill_policy);
            }
        }
        for framework in over {
            self.shut_down_framework(name, &framework);
        }
    }

    /// Tells of the tasks of an agent that was given up and is back.
    fn restore_tasks(&mut self, agent: &overlord_mesos::v1::AgentId) {
        for key in self.tasks_of_agent(agent) {
            let Some(task) = self.tasks.get_mut(&key) else { continue };
            if task.unreachable_since.take().is_none() {
                continue;
            }
            // What the agent knows of it counts again.
            task.statuses.retain(|status| status.unreachable_time.is_none());
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
}

/// Changes the master's view of an agent: only a registered one is offered.
pub(super) fn agent_registration(model: &mut Model, name: &str, registration: Registration) {
    let Some(agent) = model.agents.get_mut(name) else { return };
    let was = std::mem::replace(&mut agent.registration, registration);
    if registration != Registration::Registered {
        model.allocatable.remove(name);
    } else if !agent.deactivated && agent.free.is_allocatable() {
        model.allocatable.insert(name.to_owned());
        model.allocate_by(model.now);
    }
    model.registration_changed(name, was);
}
