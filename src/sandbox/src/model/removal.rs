//! Agents that the master forgets: unregistered, marked gone, with a machine that is down, or replaced by a new one
//! at the same address.

use overlord_mesos::v1::{AgentId, CapabilityType, TaskState};

use super::{
    Model, Output,
    agents::agent_registration,
    saved::Key,
    types::{AgentProcess, ExecutorKey, Registration, TaskKey},
};

/// Why an agent is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Removal {
    /// An operator declared it gone.
    Gone,
    /// It left by itself.
    Unregistered,
    /// Its machine is under maintenance.
    MachineDown,
    /// Another one registered at its address.
    Replaced,
}

impl Model {
    /// Removes an agent with its tasks and offers, tells everyone, and lets it shut down if it is there.
    pub(super) fn remove_agent(&mut self, name: &str, why: Removal) {
        let Some(agent) = self.agents.get(name) else { return };
        let (id, host, was) = (agent.id.clone(), agent.hostname.clone(), agent.registration);
        if was == Registration::Removed {
            return;
        }
        self.forget_tasks(&id, &host, why);
        self.rescind_all(name);
        // Of an unreachable one the failure was told already.
        if Self::is_expected(was) || was == Registration::Recovered {
            self.announce_failure(&id);
        }
        self.agent_names.remove(&id);
        if why == Removal::Gone {
            self.gone.insert(id);
        }
        if why == Removal::Replaced {
            return;
        }
        agent_registration(self, name, Registration::Removed);
        self.agent_shuts_down(name);
    }

    fn forget_tasks(&mut self, id: &AgentId, host: &str, why: Removal) {
        for key in self.tasks_of_agent(id) {
            let Some(task) = self.tasks.get(&key) else { continue };
            // A lost one was told of already, unless it is now known to be gone.
            let told = task.unreachable_since.is_some() && why != Removal::Gone;
            let executor = task.info.executor.is_some().then(|| task.executor.clone());
            let live = !task.state.is_terminal();
            self.release_task(&key);
            // It stays unreachable, as far as anyone will ever know.
            if told && live {
                continue;
            }
            self.remove_task(&key);
            if live {
                let (state, reason, text) = self.removal_words(&key, host, why);
                let (task, agent) = (key.1.clone(), Some(id.clone()));
                let mut status = self.master_status(&key.0, task, agent, state, reason, text);
                status.executor_id = executor;
                self.send_status(&key.0, status);
            }
        }
    }

    fn removal_words(&self, key: &TaskKey, host: &str, why: Removal) -> (TaskState, &'static str, String) {
        let removed =
            |text: &str| (TaskState::Lost, "REASON_AGENT_REMOVED", format!("Agent {host} removed: {text}"));
        match why {
            Removal::Gone => {
                let aware =
                    self.frameworks.get(&key.0).is_some_and(|f| f.has(CapabilityType::PartitionAware));
                let reason = if aware { "REASON_AGENT_REMOVED_BY_OPERATOR" } else { "REASON_AGENT_REMOVED" };
                (TaskState::GoneByOperator, reason, "Agent has been marked gone".to_owned())
            }
            Removal::Unregistered => removed("the agent unregistered"),
            Removal::MachineDown => removed("Operator initiated 'Machine DOWN'"),
            Removal::Replaced => removed("a new agent registered at the same address"),
        }
    }

    /// The agent ends its executors, then itself. It comes back as another one, if at all.
    fn agent_shuts_down(&mut self, name: &str) {
        let Some(agent) = self.agents.get_mut(name) else { return };
        agent.replaced = true;
        agent.updates.clear();
        if agent.process == AgentProcess::Down {
            return;
        }
        agent.leaving = true;
        let executors: Vec<ExecutorKey> = agent.executors.keys().cloned().collect();
        for key in executors {
            self.shut_down_executor(name, &key);
            if let Some(executor) = self.agents.get_mut(name).and_then(|a| a.executors.get_mut(&key)) {
                executor.tasks.clear();
                executor.queued.clear();
            }
        }
        self.leave_if_empty(name);
    }

    /// The process of a removed agent ends when nothing runs on it any more.
    pub(super) fn leave_if_empty(&mut self, name: &str) {
        let Some(agent) = self.agents.get_mut(name) else { return };
        if !agent.leaving || !agent.executors.is_empty() {
            return;
        }
        agent.leaving = false;
        agent.process = AgentProcess::Down;
        agent.generation += 1;
        self.out.push(Output::Endpoint { agent: name.to_owned(), up: false });
    }

    /// An agent with an empty work directory takes the place of this one, whose process is not there.
    pub(super) fn agent_replaced(&mut self, name: &str) {
        self.end_executors(name);
        self.remove_agent(name, Removal::Replaced);
        let held = self.agents.get_mut(name).map(|agent| std::mem::take(&mut agent.link.held));
        self.lose_launches(name, held.unwrap_or_default());
        let new_id = self.new_agent_id();
        self.agent_names.insert(new_id.clone(), name.to_owned());
        self.note(Key::Agent(name.to_owned()));
        let now = self.now;
        let Some(agent) = self.agents.get_mut(name) else { return };
        agent.id = new_id;
        agent.updates.clear();
        agent.total = agent.configured.clone();
        agent.free = agent.total.clone();
        agent.process = AgentProcess::Up;
        agent.generation += 1;
        agent.replaced = false;
        agent.leaving = false;
        agent.registered_at = now;
        agent.reregistered_at = None;
        let executors = std::mem::take(&mut agent.executors);
        for (key, executor) in executors {
            self.containers.remove(&executor.container);
            for managed in executor.managed.tasks.values() {
                self.nested.remove(&managed.container);
            }
            self.discharge(&key.0, &executor.role, &executor.pool);
        }
        self.out.push(Output::Endpoint { agent: name.to_owned(), up: true });
        agent_registration(self, name, Registration::Registered);
        self.allocate();
    }
}
