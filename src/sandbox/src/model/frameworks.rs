//! Subscriptions of frameworks: new ones, fail-overs, disconnects, and the end.

use std::time::Duration;

use overlord_mesos::v1::{
    FrameworkId, FrameworkInfo, OfferId, TaskId, TaskState,
    scheduler::{Call, ErrorEvent, Event, EventType, Subscribe, Subscribed},
};
use serde_json::{Value, json};

pub(super) use super::framework_info::roles;
use super::{
    Answer, Model, Output, REMOVED_KEPT, StreamKey,
    framework_info::{self, PRINCIPAL_CHANGED},
    saved::Key,
    types::{Completed, Framework, Task, TaskKey, Timer},
};

/// Frameworks that are over and still shown (`--max_completed_frameworks`).
const COMPLETED_KEPT: usize = 50;
/// Tasks that are over and still shown, for each framework (`--max_completed_tasks_per_framework`).
const COMPLETED_TASKS_KEPT: usize = 1000;

impl Model {
    pub(super) fn subscribe(&mut self, call: Call) -> Answer {
        let Some(Subscribe { mut framework_info, suppressed_roles }) = call.subscribe else {
            let text = "Failed to validate scheduler::Call: Expecting 'subscribe' to be present";
            return Answer::refused(400, text);
        };
        let stream = self.new_stream();
        let stream_id = self.new_uuid();
        let answer = Answer::Subscribed { stream, stream_id: stream_id.clone() };
        // An empty id is none.
        let known = call.framework_id.filter(|id| !id.as_str().is_empty());
        let roles = roles(&framework_info);
        let fault = framework_info::fault(&framework_info)
            .or_else(|| framework_info::suppression_fault(&roles, &suppressed_roles))
            .or_else(|| self.subscription_fault(known.as_ref(), &framework_info));
        if let Some(message) = fault {
            self.end_with_error(stream, message);
            return answer;
        }
        let id = known.unwrap_or_else(|| self.new_framework_id());
        framework_info.id = Some(id.clone());
        let now = self.now;
        let existing = self.frameworks.get(&id).is_some_and(|framework| !framework.forgotten);
        if let Some(framework) = self.frameworks.get(&id) {
            // These two cannot change; the old value is kept without a word.
            framework_info.user.clone_from(&framework.info.user);
            framework_info.checkpoint = framework.info.checkpoint;
        }
        let framework =
            self.frameworks.entry(id.clone()).or_insert_with(|| Framework::new(framework_info.clone(), now));
        framework.info = framework_info;
        framework.roles = roles;
        framework.suppressed = suppressed_roles.into_iter().collect();
        framework.generation += 1;
        framework.filters.clear();
        framework.inverse_filters.clear();
        framework.reregistered = now;
        if framework.forgotten {
            framework.registered = now;
        }
        framework.forgotten = false;
        framework.recovered = false;
        let old = framework.subscription.replace((stream, stream_id));
        // The new stream does not hear RESCIND: what was offered before it is void by itself.
        let offers: Vec<OfferId> = framework.offers.iter().cloned().collect();
        self.note(Key::Framework(id.clone()));
        self.scheduler_streams.insert(stream, id.clone());
        if let Some((old, _)) = old {
            self.scheduler_streams.remove(&old);
            self.end_with_error(old, "Framework failed over".to_owned());
        }
        for offer in offers {
            self.withdraw_offer(&offer);
        }
        self.forget_inverse_offers_of(&id);
        let subscribed = Subscribed {
            framework_id: id.clone(),
            heartbeat_interval_seconds: Some(self.timings.heartbeat.as_secs_f64()),
            master_info: Some(self.master_info()),
        };
        self.send(
            stream,
            Event { kind: EventType::Subscribed, subscribed: Some(subscribed), ..Event::default() },
        );
        let kind = if existing { "FRAMEWORK_UPDATED" } else { "FRAMEWORK_ADDED" };
        self.tell_operators(kind, |model| model.framework_event(&id));
        self.heartbeat(stream);
        self.allocate();
        self.resend_to(&id);
        self.resend_operations_to(&id);
        answer
    }

    /// What a subscription is refused for that is right by itself.
    fn subscription_fault(&self, id: Option<&FrameworkId>, info: &FrameworkInfo) -> Option<String> {
        let id = id?;
        if self.removed.contains(id) {
            return Some("Framework has been removed".to_owned());
        }
        let old = self.frameworks.get(id).filter(|framework| !framework.forgotten)?;
        (old.info.principal != info.principal).then(|| PRINCIPAL_CHANGED.to_owned())
    }

    fn new_framework_id(&mut self) -> FrameworkId {
        let id = FrameworkId::new(format!("{}-{:04}", self.master_id, self.next.framework));
        self.next.framework += 1;
        id
    }

    /// `MasterInfo` of the leading master.
    pub(crate) fn master_info(&self) -> Value {
        let (ip, port) = (self.master.ip().to_string(), self.master.port());
        // A packed IPv4 address in network order, read as a little-endian number.
        let packed = match self.master.ip() {
            std::net::IpAddr::V4(ip) => u32::from_le_bytes(ip.octets()),
            std::net::IpAddr::V6(_) => 0,
        };
        let mut info = json!({
            "id": self.master_id, "ip": packed, "port": port, "pid": format!("master@{}", self.master), "hostname": ip,
            "version": "1.11.1", "address": {"hostname": ip, "ip": ip, "port": port},
            // The third one is not in the v1 enum: an empty object, as from a real master.
            "capabilities": [{"type": "AGENT_UPDATE"}, {"type": "AGENT_DRAINING"}, {}],
        });
        if let (Some(domain), Some(fields)) = (&self.domain, info.as_object_mut()) {
            fields.insert("domain".to_owned(), json!(domain));
        }
        info
    }

    fn end_with_error(&mut self, stream: StreamKey, message: String) {
        let error = Some(ErrorEvent { message });
        self.send(stream, Event { kind: EventType::Error, error, ..Event::default() });
        self.out.push(Output::End(stream));
    }

    pub(super) fn stream_gone(&mut self, stream: StreamKey) {
        if let Some(id) = self.scheduler_streams.remove(&stream) {
            self.framework_disconnected(&id);
        } else if let Some((agent, key)) = self.executor_streams.remove(&stream) {
            // Nothing else: an executor may go on without a stream, and come back.
            let executor = self.agents.get_mut(&agent).and_then(|a| a.executors.get_mut(&key));
            if let Some(executor) = executor
                && executor.stream == Some(stream)
            {
                executor.stream = None;
            }
        } else {
            self.operators.remove(&stream);
        }
    }

    fn framework_disconnected(&mut self, id: &FrameworkId) {
        let Some(framework) = self.frameworks.get_mut(id) else { return };
        framework.subscription = None;
        framework.generation += 1;
        framework.filters.clear();
        let offers: Vec<OfferId> = framework.offers.iter().cloned().collect();
        for offer in offers {
            self.withdraw_offer(&offer);
        }
        self.forget_inverse_offers_of(id);
        self.tell_operators("FRAMEWORK_UPDATED", |model| model.framework_event(id));
        self.expect_failover(id);
    }

    /// Gives a framework without a subscription its fail-over time-out.
    pub(super) fn expect_failover(&mut self, id: &FrameworkId) {
        let Some(framework) = self.frameworks.get(id) else { return };
        let (timeout, generation) = (framework.failover_timeout(), framework.generation);
        if timeout == Duration::ZERO {
            self.remove_framework(id);
        } else {
            self.after(timeout, Timer::Failover { framework: id.clone(), generation });
        }
    }

    pub(super) fn failover_due(&mut self, id: &FrameworkId, generation: u64) {
        if self.frameworks.get(id).is_some_and(|f| f.generation == generation && f.subscription.is_none()) {
            self.remove_framework(id);
        }
    }

    /// Ends a framework for good: its executors are shut down, its tasks forgotten, its id refused.
    pub(super) fn remove_framework(&mut self, id: &FrameworkId) {
        let Some(framework) = self.frameworks.get_mut(id) else { return };
        // It hears nothing of what its removal brings about.
        if let Some((stream, _)) = framework.subscription.take() {
            self.scheduler_streams.remove(&stream);
            self.out.push(Output::End(stream));
        }
        let offers: Vec<OfferId> = framework.offers.iter().cloned().collect();
        for offer in offers {
            self.withdraw_offer(&offer);
        }
        self.forget_inverse_offers_of(id);
        let keys: Vec<_> = self.tasks_of(id).map(|(key, _)| key.clone()).collect();
        for key in keys {
            self.release_task(&key);
            self.task_removed(id, &key);
            self.complete_task(&key);
        }
        self.operations.retain(|(owner, _), _| owner != id);
        if let Some(mut framework) = self.frameworks.remove(id) {
            for (role, usage) in std::mem::take(&mut framework.usage) {
                let of_role = self.usage.entry(role).or_default();
                for (sum, own) in of_role.iter_mut().zip(usage) {
                    *sum -= own;
                }
            }
            self.tell_operators(
                "FRAMEWORK_REMOVED",
                |_| json!({ "framework_info": super::report::framework_info(&framework.info) }),
            );
            framework.reregistered = self.now;
            self.completed.push_back(framework);
            if self.completed.len() > COMPLETED_KEPT {
                self.completed.pop_front();
            }
        }
        // Nobody hears of it any more.
        let names: Vec<String> = self.agents.keys().cloned().collect();
        for name in names {
            self.shut_down_framework(&name, id);
        }
        self.removed.insert(id.clone());
        if self.removed.len() > REMOVED_KEPT
            && let Some(oldest) = self.removed.pop_first()
        {
            self.note(Key::Removed(oldest));
        }
        self.note(Key::Framework(id.clone()));
        self.note(Key::Removed(id.clone()));
    }

    /// The tasks of one framework.
    pub(super) fn tasks_of(&self, id: &FrameworkId) -> impl Iterator<Item = (&TaskKey, &Task)> {
        let first = (id.clone(), TaskId::default());
        self.tasks.range(first..).take_while(move |((owner, _), _)| owner == id)
    }

    pub(super) fn insert_task(&mut self, key: TaskKey, task: Task) {
        self.tasks_by_agent.entry(task.agent.clone()).or_default().insert(key.clone());
        self.note(Key::Task(key.clone()));
        self.note_state(&key);
        self.tasks.insert(key.clone(), task);
        self.tell_operators("TASK_ADDED", |model| model.task_added_event(&key));
    }

    /// Takes a task off the books.
    pub(super) fn remove_task(&mut self, key: &TaskKey) -> Option<Task> {
        let task = self.tasks.remove(key)?;
        if let Some(own) = self.tasks_by_agent.get_mut(&task.agent) {
            own.remove(key);
            if own.is_empty() {
                self.tasks_by_agent.remove(&task.agent);
            }
        }
        self.note(Key::Task(key.clone()));
        self.note_state(key);
        self.check_drained(&task.agent);
        Some(task)
    }

    /// Takes a task off the books that is over, and keeps it for people to look at.
    pub(super) fn complete_task(&mut self, key: &TaskKey) {
        let Some(task) = self.remove_task(key) else { return };
        if let Some(framework) = self.frameworks.get_mut(&key.0) {
            framework.completed.push_back(Completed { task: Box::new(task) });
            if framework.completed.len() > COMPLETED_TASKS_KEPT {
                framework.completed.pop_front();
            }
        }
    }

    /// What the master writes down of a task that goes with its framework. Nobody is told.
    fn task_removed(&mut self, id: &FrameworkId, key: &TaskKey) {
        let Some(task) = self.tasks.get(key).filter(|task| !task.state.is_terminal()) else { return };
        let (agent, text) = (Some(task.agent.clone()), format!("Framework {id} removed"));
        let reason = "REASON_FRAMEWORK_REMOVED";
        let status = self.master_status(id, key.1.clone(), agent, TaskState::Killed, reason, text);
        if let Some(task) = self.tasks.get_mut(key) {
            task.state = TaskState::Killed;
            task.unreachable_since = None;
        }
        self.task_updated(key, &status);
    }

    /// All tasks that the master counts to an agent.
    pub(super) fn tasks_of_agent(&self, agent: &overlord_mesos::v1::AgentId) -> Vec<TaskKey> {
        self.tasks_by_agent.get(agent).map(|own| own.iter().cloned().collect()).unwrap_or_default()
    }
}
