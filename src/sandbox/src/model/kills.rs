//! KILL on the agent's side.

use overlord_mesos::v1::{AgentId, KillPolicy, TaskId, TaskState, executor};

use super::{
    Model,
    managed::ExecutorKind,
    types::{ExecutorState, TaskKey},
};

impl Model {
    /// Whether a KILL to this agent is lost on the way.
    pub(super) fn loses_kill(&mut self, agent: &AgentId) -> bool {
        let Some(link) = self.agent_by_id(agent).map(|agent| &mut agent.link) else { return false };
        let lost = link.drop_kills > 0;
        link.drop_kills = link.drop_kills.saturating_sub(1);
        lost
    }

    /// Tells the executor, or takes back what it was not given yet.
    pub(super) fn kill_on_agent(&mut self, key: &TaskKey, policy: Option<KillPolicy>) {
        let Some(task) = self.tasks.get(key) else { return };
        let executor_key = (key.0.clone(), task.executor.clone());
        let Some(name) = self.agent_names.get(&task.agent).cloned() else { return };
        let Some(agent) = self.agents.get_mut(&name) else { return };
        let Some(executor) = agent.executors.get_mut(&executor_key) else { return };
        if executor.queued.contains(&key.1) {
            // A group that was not delivered is taken back as a whole.
            let group = executor.groups.iter().find(|group| group.contains(&key.1));
            let together: Vec<TaskId> =
                group.map_or_else(|| vec![key.1.clone()], |group| group.iter().cloned().collect());
            executor.queued.retain(|queued| !together.contains(queued));
            let container = executor.container.clone();
            let idle = executor.queued.is_empty() && executor.state == ExecutorState::Registering;
            let unused = idle && executor.tasks.iter().all(|task| together.contains(task));
            for task in together {
                self.agent_update(
                    &name,
                    &(key.0.clone(), task),
                    TaskState::Killed,
                    "REASON_TASK_KILLED_DURING_LAUNCH",
                    "Killed before delivery to the executor",
                );
            }
            if unused {
                // An executor that has not registered and has nothing to do is not waited for.
                self.kill_container(&container);
            }
        } else if executor.kind != ExecutorKind::Custom {
            self.managed_kill_asked(&name, &executor_key, &key.1, policy);
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
}
