//! What a restart of the sandbox must not forget: ids, frameworks, tasks, and updates nobody acknowledged.
//! Executors do not outlive the sandbox; their tasks have failed when it is back.

use std::collections::BTreeMap;

use overlord_mesos::v1::{
    AgentId, ExecutorId, FrameworkId, FrameworkInfo, TaskId, TaskInfo, TaskState, TaskStatus,
};
use serde::{Deserialize, Serialize};

use super::{
    Counters, Model,
    frameworks::roles,
    pool::Pool,
    types::{Framework, Task, TaskKey},
};

/// The state of a model that is kept on disk.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Saved {
    counters: Counters,
    agents: BTreeMap<String, AgentId>,
    frameworks: BTreeMap<String, FrameworkInfo>,
    removed: Vec<FrameworkId>,
    tasks: Vec<SavedTask>,
    updates: Vec<SavedUpdates>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct SavedTask {
    framework: FrameworkId,
    executor: ExecutorId,
    role: String,
    state: TaskState,
    shown: TaskState,
    info: TaskInfo,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct SavedUpdates {
    agent: String,
    framework: FrameworkId,
    task: TaskId,
    pending: Vec<TaskStatus>,
}

impl Saved {
    pub(super) fn starts(&self) -> u64 {
        self.counters.starts
    }

    pub(super) fn counters(&self) -> Counters {
        self.counters
    }

    pub(super) fn agent_ids(&self) -> BTreeMap<String, AgentId> {
        self.agents.clone()
    }
}

impl Model {
    /// The state to keep.
    pub fn saved(&self) -> Saved {
        Saved {
            counters: self.next,
            agents: self.agents.iter().map(|(name, agent)| (name.clone(), agent.id.clone())).collect(),
            frameworks: self.frameworks.iter().map(|(id, f)| (id.value.clone(), f.info.clone())).collect(),
            removed: self.removed.iter().cloned().collect(),
            tasks: self
                .tasks
                .iter()
                .filter(|((framework, _), _)| {
                    self.frameworks.get(framework).is_some_and(Framework::checkpoints)
                })
                .map(|((framework, _), task)| SavedTask {
                    framework: framework.clone(),
                    executor: task.executor.clone(),
                    role: task.role.clone(),
                    state: task.state,
                    shown: task.shown,
                    info: task.info.clone(),
                })
                .collect(),
            updates: self
                .agents
                .iter()
                .flat_map(|(name, agent)| agent.updates.iter().map(move |(key, stream)| (name, key, stream)))
                .filter(|(_, _, stream)| !stream.pending.is_empty())
                .map(|(name, (framework, task), stream)| SavedUpdates {
                    agent: name.clone(),
                    framework: framework.clone(),
                    task: task.clone(),
                    pending: stream.pending.iter().cloned().collect(),
                })
                .collect(),
        }
    }

    /// Takes over what an earlier model left; agents are there already.
    pub(super) fn restore(&mut self, saved: Saved) {
        self.removed = saved.removed.into_iter().collect();
        for (id, info) in saved.frameworks {
            let framework = Framework {
                roles: roles(&info),
                info,
                suppressed: std::collections::BTreeSet::new(),
                subscription: None,
                generation: 0,
                filters: BTreeMap::new(),
                offers: std::collections::BTreeSet::new(),
                usage: BTreeMap::new(),
            };
            self.frameworks.insert(FrameworkId::new(id), framework);
        }
        for task in saved.tasks {
            if !self.agent_names.contains_key(&task.info.agent_id)
                || !self.frameworks.contains_key(&task.framework)
            {
                continue;
            }
            let key: TaskKey = (task.framework, task.info.task_id.clone());
            let record = Task {
                agent: task.info.agent_id.clone(),
                executor: task.executor,
                role: task.role,
                pool: Pool::default(),
                state: task.state,
                shown: task.shown,
                container_status: None,
                healthy: None,
                released: true,
                unreachable_since: None,
                kill: None,
                info: task.info,
            };
            self.tasks.insert(key, record);
        }
        for updates in saved.updates {
            if !self.frameworks.contains_key(&updates.framework) {
                continue;
            }
            for status in updates.pending {
                self.take_update(&updates.agent, &(updates.framework.clone(), updates.task.clone()), status);
            }
        }
        let live: Vec<(TaskKey, AgentId)> = self
            .tasks
            .iter()
            .filter(|(_, task)| !task.state.is_terminal())
            .map(|(key, task)| (key.clone(), task.agent.clone()))
            .collect();
        for (key, agent) in live {
            if let Some(name) = self.agent_names.get(&agent).cloned() {
                let reason = "REASON_EXECUTOR_TERMINATED";
                self.agent_update(&name, &key, TaskState::Failed, reason, "Executor terminated");
            }
        }
        let ids: Vec<FrameworkId> = self.frameworks.keys().cloned().collect();
        for id in ids {
            self.expect_failover(&id);
        }
        // Nobody listens yet.
        self.out.clear();
    }
}
