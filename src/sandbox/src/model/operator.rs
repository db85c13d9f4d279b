//! What operators call, and the stream of events they may follow.

use std::{sync::Arc, time::Duration};

use overlord_mesos::v1::{AgentId, FrameworkId, TaskStatus, scheduler::Operation};
use serde_json::{Value, json};

use super::{
    Answer, Model, Output, StreamKey,
    maintenance::{MachineId, Schedule},
    types::{Registration, TaskKey, Timer},
};

/// A call of an operator that changes something, or opens a stream.
#[derive(Debug, Clone)]
pub enum OperatorCall {
    /// Opens a stream of events.
    Subscribe,
    /// Ends a framework.
    Teardown(FrameworkId),
    /// Kills everything on an agent and offers it no more.
    Drain {
        /// Which.
        agent: AgentId,
        /// The most time a task gets to end.
        max_grace: Option<Duration>,
        /// Whether it is gone when it is empty.
        mark_gone: bool,
    },
    /// Offers an agent no more.
    Deactivate(AgentId),
    /// Offers it again.
    Reactivate(AgentId),
    /// Declares that an agent will not come back.
    MarkGone(AgentId),
    /// Announces maintenance; the JSON of a `Schedule`.
    UpdateMaintenanceSchedule(Value),
    /// Takes machines down; the JSON of a list of `MachineID`s.
    StartMaintenance(Value),
    /// Brings them up again.
    StopMaintenance(Value),
    /// Reserves, creates volumes and so on.
    Operation {
        /// Where.
        agent: AgentId,
        /// What.
        operation: Box<Operation>,
    },
}

impl Model {
    pub(super) fn operator_call(&mut self, call: OperatorCall) -> Answer {
        if let Some(refusal) = self.master_refuses() {
            return refusal;
        }
        match call {
            OperatorCall::Subscribe => self.operator_subscribes(),
            OperatorCall::Teardown(id) => {
                if self.frameworks.get(&id).is_none_or(|framework| framework.forgotten) {
                    return Answer::refused(400, "No framework found with specified ID");
                }
                self.remove_framework(&id);
                Answer::Done(Value::Null)
            }
            OperatorCall::Drain { agent, max_grace, mark_gone } => {
                self.drain_agent(&agent, max_grace, mark_gone)
            }
            OperatorCall::Deactivate(agent) => self.deactivate_agent(&agent),
            OperatorCall::Reactivate(agent) => self.reactivate_agent(&agent),
            OperatorCall::MarkGone(agent) => self.mark_agent_gone(&agent),
            OperatorCall::UpdateMaintenanceSchedule(schedule) => {
                match serde_json::from_value::<Schedule>(schedule) {
                    Ok(schedule) => self.update_maintenance(schedule),
                    Err(error) => Answer::refused(400, error.to_string()),
                }
            }
            OperatorCall::StartMaintenance(machines) => match machine_ids(machines) {
                Ok(machines) => self.start_maintenance(&machines),
                Err(refusal) => refusal,
            },
            OperatorCall::StopMaintenance(machines) => match machine_ids(machines) {
                Ok(machines) => self.stop_maintenance(&machines),
                Err(refusal) => refusal,
            },
            OperatorCall::Operation { agent, operation } => self.operator_operation(&agent, &operation),
        }
    }

    fn operator_subscribes(&mut self) -> Answer {
        let stream = self.new_stream();
        let subscribed = json!({
            "get_state": super::report::v1::state(self),
            "heartbeat_interval_seconds": self.timings.heartbeat.as_secs_f64(),
        });
        let state = json!({ "type": "SUBSCRIBED", "subscribed": subscribed });
        self.operators.insert(stream);
        self.out.push(Output::Operator(stream, Arc::new(state)));
        self.operator_heartbeat(stream);
        Answer::Subscribed { stream, stream_id: String::new() }
    }

    pub(super) fn operator_heartbeat(&mut self, stream: StreamKey) {
        self.out.push(Output::Operator(stream, Arc::new(json!({ "type": "HEARTBEAT" }))));
        self.after(self.timings.heartbeat, Timer::Heartbeat(stream));
    }

    /// Tells all operators that listen; nothing is made up for nobody.
    pub(super) fn tell_operators(&mut self, kind: &str, body: impl FnOnce(&Self) -> Value) {
        if self.operators.is_empty() {
            return;
        }
        let mut event = serde_json::Map::new();
        event.insert("type".to_owned(), kind.into());
        event.insert(kind.to_ascii_lowercase(), body(self));
        let event = Arc::new(Value::Object(event));
        self.out.extend(self.operators.iter().map(|stream| Output::Operator(*stream, Arc::clone(&event))));
    }

    pub(super) fn framework_event(&self, id: &FrameworkId) -> Value {
        let framework = self.frameworks.get(id);
        json!({ "framework": framework.map(|framework| super::report::v1::framework_record(self, framework)) })
    }

    pub(super) fn task_added_event(&self, key: &TaskKey) -> Value {
        json!({ "task": self.tasks.get(key).map(|task| super::report::v1::task(key, task)) })
    }

    /// Agents come when they register anew, and go when they are given up or removed; a short absence is no news.
    pub(super) fn registration_changed(&mut self, name: &str, was: Registration) {
        let Some(agent) = self.agents.get(name) else { return };
        let (id, known) = (agent.id.clone(), |state: Registration| {
            matches!(state, Registration::Registered | Registration::Disconnected)
        });
        match (known(was), known(agent.registration)) {
            (false, true) => self.tell_operators("AGENT_ADDED", |model| {
                let agent = model.agents.get(name);
                json!({ "agent": agent.map(|agent| super::report::v1::agent_record(model, agent)) })
            }),
            (true, false) => self.tell_operators("AGENT_REMOVED", |_| json!({ "agent_id": id })),
            _ => {}
        }
    }

    /// The master has heard of a task's state.
    pub(super) fn task_updated(&mut self, key: &TaskKey, status: &TaskStatus) {
        let Some(task) = self.tasks.get_mut(key) else { return };
        // Data is between the executor and the framework.
        let kept = TaskStatus { data: None, ..status.clone() };
        match task.statuses.last_mut() {
            // A repetition, or more about the same state.
            Some(last) if last.state == status.state => *last = kept,
            _ => task.statuses.push(kept),
        }
        // An executor may go back and forth between states as it likes.
        if task.statuses.len() > STATUSES_KEPT {
            task.statuses.remove(0);
        }
        let state = task.state;
        self.tell_operators(
            "TASK_UPDATED",
            |_| json!({ "framework_id": key.0, "status": status, "state": state }),
        );
    }
}

/// Changes of state that are kept of a task.
const STATUSES_KEPT: usize = 16;

fn machine_ids(value: Value) -> Result<Vec<MachineId>, Answer> {
    serde_json::from_value(value).map_err(|error| Answer::refused(400, error.to_string()))
}
