//! Agents that an operator drains, or keeps from being offered.

use std::time::Duration;

use overlord_mesos::v1::{AgentId, DurationInfo, KillPolicy};
use serde_json::{Value, json};

use super::{
    Answer, Model,
    removal::Removal,
    saved::Key,
    types::{Registration, Timer},
};

/// An agent that is to be empty.
#[derive(Debug, Clone)]
pub(crate) struct Drain {
    pub(crate) started: Duration,
    pub(crate) max_grace: Option<Duration>,
    pub(crate) mark_gone: bool,
    pub(crate) drained: bool,
}

impl Drain {
    /// `DrainInfo`
    pub(crate) fn to_json(&self) -> Value {
        let mut config = json!({ "mark_gone": self.mark_gone });
        if let (Some(grace), Some(fields)) = (self.max_grace, config.as_object_mut()) {
            let nanoseconds = i64::try_from(grace.as_nanos()).unwrap_or(i64::MAX);
            fields.insert("max_grace_period".to_owned(), json!({ "nanoseconds": nanoseconds }));
        }
        json!({ "state": if self.drained { "DRAINED" } else { "DRAINING" }, "config": config })
    }
}

impl Model {
    /// Kills everything on an agent, each task with at most this much time, and offers it no more.
    pub(super) fn drain_agent(
        &mut self,
        id: &AgentId,
        max_grace: Option<Duration>,
        mark_gone: bool,
    ) -> Answer {
        let Some(name) = self.known_agent(id) else { return Answer::refused(400, "Unknown agent") };
        if let Some(machine) = self.scheduled_machine(&name) {
            let text = format!("Agent {id} is part of a maintenance schedule under Machine {machine}");
            return Answer::refused(400, text);
        }
        let started = self.now;
        let Some(agent) = self.agents.get_mut(&name) else { return Answer::Unavailable };
        agent.drain = Some(Drain { started, max_grace, mark_gone, drained: false });
        agent.deactivated = true;
        self.note(Key::Agent(name.clone()));
        self.offer_agent(&name);
        self.rescind_all(&name);
        let grace_period = max_grace
            .map(|grace| DurationInfo { nanoseconds: i64::try_from(grace.as_nanos()).unwrap_or(i64::MAX) });
        let policy = grace_period.map(|grace| KillPolicy { grace_period: Some(grace) });
        for key in self.tasks_of_agent(id) {
            if self.tasks.get(&key).is_some_and(|task| !task.state.is_terminal()) {
                self.kill_on_agent(&key, policy);
            }
        }
        self.check_drained(id);
        Answer::Done(Value::Null)
    }

    pub(super) fn deactivate_agent(&mut self, id: &AgentId) -> Answer {
        let Some(name) = self.known_agent(id) else { return Answer::refused(400, "Unknown agent") };
        if let Some(agent) = self.agents.get_mut(&name) {
            agent.deactivated = true;
        }
        self.note(Key::Agent(name.clone()));
        self.offer_agent(&name);
        self.rescind_all(&name);
        Answer::Done(Value::Null)
    }

    pub(super) fn reactivate_agent(&mut self, id: &AgentId) -> Answer {
        let Some(name) = self.known_agent(id) else {
            return Answer::refused(400, "Agent is not deactivated");
        };
        let Some(agent) = self.agents.get_mut(&name).filter(|agent| agent.deactivated) else {
            return Answer::refused(400, "Agent is not deactivated");
        };
        if agent.drain.as_ref().is_some_and(|drain| !drain.drained) {
            return Answer::refused(400, "Agent is still in the DRAINING state");
        }
        agent.drain = None;
        agent.deactivated = false;
        self.note(Key::Agent(name.clone()));
        self.offer_agent(&name);
        Answer::Done(Value::Null)
    }

    pub(super) fn mark_agent_gone(&mut self, id: &AgentId) -> Answer {
        if self.gone.contains(id) {
            return Answer::Done(Value::Null);
        }
        let Some(name) = self.known_agent(id) else {
            return Answer::refused(404, format!("Agent '{id}' not found"));
        };
        self.remove_agent(&name, Removal::Gone);
        Answer::Done(Value::Null)
    }

    fn known_agent(&self, id: &AgentId) -> Option<String> {
        let name = self.agent_names.get(id)?;
        let agent = self.agents.get(name)?;
        (agent.registration != Registration::Removed).then(|| name.clone())
    }

    /// A draining agent without tasks is drained, whatever its tasks ended with.
    pub(super) fn check_drained(&mut self, id: &AgentId) {
        if self.tasks_by_agent.contains_key(id) {
            return;
        }
        let Some(agent) = self.agent_by_id(id) else { return };
        let Some(drain) = agent.drain.as_mut().filter(|drain| !drain.drained) else { return };
        drain.drained = true;
        if drain.mark_gone {
            let id = id.clone();
            self.after(Duration::ZERO, Timer::Drained(id));
        }
    }

    /// A drained agent that was wanted gone.
    pub(super) fn drained_is_gone(&mut self, id: &AgentId) {
        if let Some(name) = self.agent_names.get(id).cloned() {
            self.remove_agent(&name, Removal::Gone);
        }
    }
}
