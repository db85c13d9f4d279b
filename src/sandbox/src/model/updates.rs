//! Status updates from agents: written down per task, sent one at a time, repeated until acknowledged.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use overlord_mesos::v1::{AgentId, FrameworkId, Source, TaskState, TaskStatus, scheduler::Acknowledge};
use rand::{Rng as _, rngs::SmallRng};

use super::{
    Model,
    saved::Key,
    types::{TaskKey, Timer},
};

/// Repetitions of an unacknowledged update are never further apart.
const LONGEST_RETRY: Duration = Duration::from_secs(600);

impl Model {
    /// An update that the agent makes itself.
    pub(super) fn agent_update(
        &mut self,
        agent: &str,
        key: &TaskKey,
        state: TaskState,
        reason: &str,
        message: &str,
    ) {
        let status = TaskStatus {
            task_id: key.1.clone(),
            state,
            message: Some(message.to_owned()),
            source: Some(Source::Agent),
            reason: Some(reason.to_owned()),
            executor_id: self.tasks.get(key).map(|task| task.executor.clone()),
            timestamp: Some(self.timestamp()),
            uuid: Some(new_uuid(&mut self.rng)),
            ..TaskStatus::default()
        };
        self.take_update(agent, key, status);
    }

    /// Writes an update down, and forwards it if no older one of the task is in flight.
    pub(super) fn take_update(&mut self, name: &str, key: &TaskKey, mut status: TaskStatus) {
        // Nobody would ever acknowledge it.
        if !self.frameworks.contains_key(&key.0) {
            return;
        }
        let now = self.timestamp();
        let Some(agent) = self.agents.get_mut(name).filter(|agent| !agent.leaving) else { return };
        status.agent_id = Some(agent.id.clone());
        status.timestamp.get_or_insert(now);
        let stream = agent.updates.entry(key.clone()).or_default();
        let Some(uuid) = status.uuid.clone() else { return };
        if !stream.seen.insert(uuid) {
            return;
        }
        let state = status.state;
        stream.pending.push_back(status);
        let first = stream.pending.len() == 1;
        self.note(Key::Updates(name.to_owned(), key.clone()));
        self.note_state(key);
        if let Some(task) = self.tasks.get_mut(key)
            && !task.state.is_terminal()
        {
            task.state = state;
            if state.is_terminal() {
                let executor_key = (key.0.clone(), task.executor.clone());
                if let Some(executor) =
                    self.agents.get_mut(name).and_then(|a| a.executors.get_mut(&executor_key))
                {
                    executor.tasks.remove(&key.1);
                    executor.queued.retain(|queued| *queued != key.1);
                }
                self.release_task(key);
            }
        }
        if first {
            self.forward(name, key);
        }
    }

    /// Sends the update in flight of a task, and sets the time of its repetition.
    pub(super) fn forward(&mut self, name: &str, key: &TaskKey) {
        let Some(agent) = self.agents.get_mut(name) else { return };
        if !agent.is_reached() {
            return;
        }
        let agent_id = agent.id.clone();
        let Some(stream) = agent.updates.get_mut(key) else { return };
        let Some(status) = stream.pending.front().cloned() else { return };
        self.next.timer += 1;
        let delay = self.timings.update_retry.saturating_mul(1 << stream.attempts.min(10)).min(LONGEST_RETRY);
        stream.attempts += 1;
        // Only the last timer counts: an update that is sent again early is not sent twice later.
        stream.serial = self.next.timer;
        let serial = stream.serial;
        self.carry_update(name, key, status);
        self.after(delay, Timer::Retry { agent: agent_id, task: key.clone(), serial });
    }

    pub(super) fn retry_due(&mut self, agent: &AgentId, key: &TaskKey, serial: u64) {
        let Some(name) = self.agent_names.get(agent).cloned() else { return };
        let stream = self.agents.get(&name).and_then(|a| a.updates.get(key));
        if stream.is_some_and(|stream| stream.serial == serial && !stream.pending.is_empty()) {
            self.forward(&name, key);
        }
    }

    pub(super) fn acknowledge(&mut self, id: &FrameworkId, acknowledge: &Acknowledge) {
        let Some(name) = self.agent_names.get(&acknowledge.agent_id).cloned() else { return };
        let key: TaskKey = (id.clone(), acknowledge.task_id.clone());
        let Some(agent) = self.agents.get_mut(&name) else { return };
        // An agent that is away cannot be told; it sends the update again when it is back.
        if !agent.is_reached() {
            return;
        }
        let Some(stream) = agent.updates.get_mut(&key) else { return };
        let matches =
            stream.pending.front().is_some_and(|s| s.uuid.as_deref() == Some(acknowledge.uuid.as_str()));
        if !matches {
            return;
        }
        let done = stream.pending.pop_front().is_some_and(|status| status.state.is_terminal());
        stream.attempts = 0;
        stream.serial = 0;
        if done && stream.pending.is_empty() {
            agent.updates.remove(&key);
        }
        self.note(Key::Updates(name.clone(), key.clone()));
        if done {
            self.release_task(&key);
            self.complete_task(&key);
        }
        self.forward(&name, &key);
    }

    /// A framework is back: what is in flight goes out again at once.
    pub(super) fn resend_to(&mut self, id: &FrameworkId) {
        let waiting: Vec<(String, TaskKey)> = self
            .agents
            .iter()
            .flat_map(|(name, agent)| {
                let first = (id.clone(), overlord_mesos::v1::TaskId::default());
                let own = agent.updates.range(first..).take_while(|((owner, _), _)| owner == id);
                own.filter(|(_, s)| !s.pending.is_empty()).map(|(key, _)| (name.clone(), key.clone()))
            })
            .collect();
        for (name, key) in waiting {
            if let Some(stream) = self.agents.get_mut(&name).and_then(|a| a.updates.get_mut(&key)) {
                stream.attempts = 0;
            }
            self.forward(&name, &key);
        }
    }
}

/// What names an update: 16 bytes, as base64.
pub(super) fn new_uuid(rng: &mut SmallRng) -> String {
    let bytes: [u8; 16] = rng.random();
    STANDARD.encode(bytes)
}
