//! What a restart of the sandbox must not forget: ids, frameworks, tasks, reservations, and updates nobody
//! acknowledged. It is kept as records by key: each step writes those whose value it changed, as real masters and
//! agents write down a thing before they act on it. Executors do not outlive the sandbox; their tasks have failed
//! when it is back.

use std::collections::BTreeMap;

use overlord_mesos::v1::{
    AgentId, ExecutorId, FrameworkId, FrameworkInfo, Resource, TaskInfo, TaskState, TaskStatus,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    Counters, Model,
    pool::{Format, Pool},
    types::{Framework, Task, TaskKey},
};

/// Names a record.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Key {
    Counters,
    Maintenance,
    Agent(String),
    Framework(FrameworkId),
    Removed(FrameworkId),
    Task(TaskKey),
    /// The part of a task that changes.
    State(TaskKey),
    /// By the agent's name: ids of agents do not survive everything.
    Updates(String, TaskKey),
}

/// A key with its value; without one, the record is gone.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    key: Key,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<Value>,
}

/// The state of a model that is kept on disk.
#[derive(Debug, Clone, Default)]
pub struct Saved {
    records: BTreeMap<Key, Value>,
}

#[derive(Debug, Serialize, Deserialize)]
struct SavedAgent {
    id: AgentId,
    #[serde(default)]
    deactivated: bool,
    /// What it has, if operations changed that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    total: Option<Vec<Resource>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct SavedTask {
    executor: ExecutorId,
    role: String,
    info: TaskInfo,
}

#[derive(Debug, Serialize, Deserialize)]
struct SavedState {
    state: TaskState,
    shown: TaskState,
}

impl Saved {
    /// Takes over one record.
    pub(crate) fn apply(&mut self, record: Record) {
        match record.value {
            Some(value) => self.records.insert(record.key, value),
            None => self.records.remove(&record.key),
        };
    }

    /// All of it, as records.
    pub(crate) fn into_records(self) -> impl Iterator<Item = Record> {
        self.records.into_iter().map(|(key, value)| Record { key, value: Some(value) })
    }

    pub(super) fn counters(&self) -> Counters {
        self.get(&Key::Counters).unwrap_or_default()
    }

    pub(super) fn agent_ids(&self) -> BTreeMap<String, AgentId> {
        let agents = self.records.iter().filter_map(|(key, value)| match key {
            Key::Agent(name) => Some((name.clone(), read::<SavedAgent>(value)?.id)),
            _ => None,
        });
        agents.collect()
    }

    fn get<T: for<'a> Deserialize<'a>>(&self, key: &Key) -> Option<T> {
        read(self.records.get(key)?)
    }
}

fn read<T: for<'a> Deserialize<'a>>(value: &Value) -> Option<T> {
    T::deserialize(value).ok()
}

fn write(value: &impl Serialize) -> Option<Value> {
    serde_json::to_value(value).ok()
}

impl Model {
    /// Notes that the value of a record changed.
    pub(super) fn note(&mut self, key: Key) {
        if self.keeps {
            self.dirty.insert(key);
        }
    }

    /// Notes that a task came, went or changed.
    pub(super) fn note_state(&mut self, key: &TaskKey) {
        if self.keeps {
            self.note(Key::State(key.clone()));
        }
    }

    /// What changed since the last time.
    pub(crate) fn take_records(&mut self) -> Vec<Record> {
        if self.dirty.is_empty() {
            return Vec::new();
        }
        let dirty = std::mem::take(&mut self.dirty);
        dirty.into_iter().map(|key| Record { value: self.value(&key), key }).collect()
    }

    /// The state to keep.
    pub(crate) fn saved(&self) -> Saved {
        let mut keys = vec![Key::Counters, Key::Maintenance];
        keys.extend(self.agents.keys().cloned().map(Key::Agent));
        keys.extend(self.frameworks.keys().cloned().map(Key::Framework));
        keys.extend(self.removed.iter().cloned().map(Key::Removed));
        keys.extend(self.tasks.keys().flat_map(|key| [Key::Task(key.clone()), Key::State(key.clone())]));
        keys.extend(self.agents.iter().flat_map(|(name, agent)| {
            agent.updates.keys().map(move |key| Key::Updates(name.clone(), key.clone()))
        }));
        let records = keys.into_iter().filter_map(|key| Some((self.value(&key)?, key)));
        Saved { records: records.map(|(value, key)| (key, value)).collect() }
    }

    fn value(&self, key: &Key) -> Option<Value> {
        let kept = |id: &FrameworkId| self.frameworks.get(id).is_some_and(Framework::checkpoints);
        match key {
            Key::Counters => write(&self.next),
            Key::Maintenance => write(&self.maintenance.schedule),
            Key::Agent(name) => {
                let agent = self.agents.get(name)?;
                let changed = agent.total != agent.configured;
                let total = changed.then(|| agent.total.to_wire(None, Format::Stack));
                write(&SavedAgent { id: agent.id.clone(), deactivated: agent.deactivated, total })
            }
            Key::Framework(id) => write(&self.frameworks.get(id)?.info),
            Key::Removed(id) => self.removed.contains(id).then_some(Value::Bool(true)),
            Key::Task(key) => {
                let task = self.tasks.get(key).filter(|_| kept(&key.0))?;
                let (executor, role) = (task.executor.clone(), task.role.clone());
                write(&SavedTask { executor, role, info: task.info.clone() })
            }
            Key::State(key) => {
                let task = self.tasks.get(key).filter(|_| kept(&key.0))?;
                write(&SavedState { state: task.state, shown: task.shown })
            }
            Key::Updates(name, key) => {
                let stream = self.agents.get(name)?.updates.get(key)?;
                if stream.pending.is_empty() { None } else { write(&stream.pending) }
            }
        }
    }

    /// Takes over what an earlier model left; agents are there already.
    pub(super) fn restore(&mut self, saved: Saved) {
        let mut updates: Vec<(String, TaskKey, Vec<TaskStatus>)> = Vec::new();
        for (key, value) in &saved.records {
            match key {
                Key::Counters | Key::State(_) => {}
                Key::Maintenance => {
                    if let Some(schedule) = read(value) {
                        let _valid_when_it_was_kept = self.update_maintenance(schedule);
                    }
                }
                Key::Agent(name) => self.restore_agent(name, value),
                Key::Framework(id) => {
                    if let Some(info) = read::<FrameworkInfo>(value) {
                        let framework = Framework { recovered: true, ..Framework::new(info, self.now) };
                        self.frameworks.insert(id.clone(), framework);
                    }
                }
                Key::Removed(id) => {
                    self.removed.insert(id.clone());
                }
                Key::Task(key) => self.restore_task(&saved, key, value),
                Key::Updates(name, key) => {
                    if let Some(pending) = read(value) {
                        updates.push((name.clone(), key.clone(), pending));
                    }
                }
            }
        }
        for (name, key, pending) in updates {
            for status in pending {
                // Of an agent that this one replaced.
                let own =
                    self.agents.get(&name).is_some_and(|agent| status.agent_id.as_ref() == Some(&agent.id));
                if own && self.frameworks.contains_key(&key.0) {
                    self.take_update(&name, &key, status);
                }
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

    fn restore_agent(&mut self, name: &str, value: &Value) {
        let Some(saved) = read::<SavedAgent>(value) else { return };
        let Some(agent) = self.agents.get_mut(name) else { return };
        agent.deactivated = saved.deactivated;
        if let Some(total) = saved.total {
            let total = Pool::read(&total);
            // An agent that is configured otherwise by now has lost its reservations.
            let plain = |pool: &Pool| ["cpus", "mem", "disk"].map(|name| pool.scalar(name));
            if plain(&total) == plain(&agent.configured) {
                agent.free = total.clone();
                agent.total = total;
            }
        }
        self.offer_agent(name);
    }

    fn restore_task(&mut self, saved: &Saved, key: &TaskKey, value: &Value) {
        let (Some(task), Some(state)) =
            (read::<SavedTask>(value), saved.get::<SavedState>(&Key::State(key.clone())))
        else {
            return;
        };
        let agent = task.info.agent_id.clone();
        if !self.agent_names.contains_key(&agent) || !self.frameworks.contains_key(&key.0) {
            return;
        }
        let record = Task {
            agent,
            executor: task.executor,
            role: task.role,
            pool: Pool::default(),
            state: state.state,
            shown: state.shown,
            container_status: None,
            healthy: None,
            released: true,
            unreachable_since: None,
            kill: None,
            forgotten: false,
            statuses: Vec::new(),
            info: task.info,
        };
        self.insert_task(key.clone(), record);
    }
}
