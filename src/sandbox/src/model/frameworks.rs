//! Subscriptions of frameworks: new ones, fail-overs, disconnects, and the end.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use overlord_mesos::v1::{
    CapabilityType, FrameworkId, FrameworkInfo, OfferId,
    scheduler::{Call, ErrorEvent, Event, EventType, Subscribe, Subscribed},
};
use serde_json::json;

use super::{Answer, Model, Output, REMOVED_KEPT, StreamKey, types::Framework, types::Timer};

impl Model {
    pub(super) fn subscribe(&mut self, call: Call) -> Answer {
        let Some(Subscribe { mut framework_info, suppressed_roles }) = call.subscribe else {
            return Answer::refused(
                400,
                "Failed to validate scheduler::Call: Expecting 'subscribe' to be present",
            );
        };
        if call.framework_id != framework_info.id {
            let text = "Failed to validate scheduler::Call: 'framework_id' differs from 'subscribe.framework_info.id'";
            return Answer::refused(400, text);
        }
        let stream = self.new_stream();
        let stream_id = self.new_uuid();
        let answer = Answer::Subscribed { stream, stream_id: stream_id.clone() };
        let removed = call.framework_id.as_ref().is_some_and(|id| self.removed.contains(id));
        let fault =
            if removed { Some("Framework has been removed".to_owned()) } else { fault(&framework_info) };
        if let Some(message) = fault {
            self.end_with_error(stream, message);
            return answer;
        }
        let id = call.framework_id.unwrap_or_else(|| {
            let id = FrameworkId::new(format!("{}-{:04}", self.master_id, self.next.framework));
            self.next.framework += 1;
            id
        });
        framework_info.id = Some(id.clone());
        let roles = roles(&framework_info);
        let framework = self.frameworks.entry(id.clone()).or_insert_with(|| Framework {
            info: FrameworkInfo::default(),
            roles: Vec::new(),
            suppressed: BTreeSet::new(),
            subscription: None,
            generation: 0,
            filters: BTreeMap::new(),
            offers: BTreeSet::new(),
            usage: BTreeMap::new(),
        });
        framework.info = framework_info;
        framework.roles = roles;
        framework.suppressed = suppressed_roles.into_iter().collect();
        framework.generation += 1;
        framework.filters.clear();
        let old = framework.subscription.replace((stream, stream_id));
        // The new stream does not hear RESCIND: what was offered before it is void by itself.
        let offers: Vec<OfferId> = framework.offers.iter().cloned().collect();
        self.changes += 1;
        self.scheduler_streams.insert(stream, id.clone());
        if let Some((old, _)) = old {
            self.scheduler_streams.remove(&old);
            self.end_with_error(old, "Framework failed over".to_owned());
        }
        for offer in offers {
            self.withdraw_offer(&offer);
        }
        let subscribed = Subscribed {
            framework_id: id.clone(),
            heartbeat_interval_seconds: Some(self.timings.heartbeat.as_secs_f64()),
            master_info: Some(self.master_info()),
        };
        self.send(
            stream,
            Event { kind: EventType::Subscribed, subscribed: Some(subscribed), ..Event::default() },
        );
        self.heartbeat(stream);
        self.allocate();
        self.resend_to(&id);
        answer
    }

    fn master_info(&self) -> serde_json::Value {
        let (ip, port) = (self.master.ip().to_string(), self.master.port());
        // A packed IPv4 address in network order, read as a little-endian number.
        let packed = match self.master.ip() {
            std::net::IpAddr::V4(ip) => u32::from_le_bytes(ip.octets()),
            std::net::IpAddr::V6(_) => 0,
        };
        json!({
            "id": self.master_id, "ip": packed, "port": port, "pid": format!("master@{}", self.master), "hostname": ip,
            "version": "1.11.1", "address": {"hostname": ip, "ip": ip, "port": port},
            // The third one is not in the v1 enum: an empty object, as from a real master.
            "capabilities": [{"type": "AGENT_UPDATE"}, {"type": "AGENT_DRAINING"}, {}],
        })
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
        let Some(framework) = self.frameworks.get(id) else { return };
        let offers: Vec<OfferId> = framework.offers.iter().cloned().collect();
        for offer in offers {
            self.withdraw_offer(&offer);
        }
        let keys: Vec<_> = self.tasks_of(id).map(|(key, _)| key.clone()).collect();
        for key in keys {
            self.release_task(&key);
            self.tasks.remove(&key);
        }
        let names: Vec<String> = self.agents.keys().cloned().collect();
        for name in names {
            self.shut_down_framework(&name, id);
        }
        if let Some(framework) = self.frameworks.remove(id) {
            for (role, usage) in framework.usage {
                let of_role = self.usage.entry(role).or_default();
                for (sum, own) in of_role.iter_mut().zip(usage) {
                    *sum -= own;
                }
            }
            if let Some((stream, _)) = framework.subscription {
                self.scheduler_streams.remove(&stream);
                self.out.push(Output::End(stream));
            }
        }
        self.removed.insert(id.clone());
        if self.removed.len() > REMOVED_KEPT {
            self.removed.pop_first();
        }
        self.changes += 1;
    }

    /// The tasks of one framework.
    pub(super) fn tasks_of(&self, id: &FrameworkId) -> impl Iterator<Item = (&super::TaskKey, &super::Task)> {
        let first = (id.clone(), overlord_mesos::v1::TaskId::default());
        self.tasks.range(first..).take_while(move |((owner, _), _)| owner == id)
    }
}

pub(super) fn roles(info: &FrameworkInfo) -> Vec<String> {
    if info.capabilities.iter().any(|c| c.kind == CapabilityType::MultiRole) {
        info.roles.clone()
    } else {
        vec![info.role.clone().unwrap_or_else(|| "*".to_owned())]
    }
}

/// What is wrong with a `FrameworkInfo`, in the words of the master.
fn fault(info: &FrameworkInfo) -> Option<String> {
    let multi_role = info.capabilities.iter().any(|c| c.kind == CapabilityType::MultiRole);
    if multi_role && info.role.is_some() {
        return Some(
            "'FrameworkInfo.role' must not be set when the framework is MULTI_ROLE capable".to_owned(),
        );
    }
    if !multi_role && !info.roles.is_empty() {
        let text = "'FrameworkInfo.roles' must not be set when the framework is not MULTI_ROLE capable";
        return Some(text.to_owned());
    }
    let mut seen = BTreeSet::new();
    let doubled: BTreeSet<&str> =
        info.roles.iter().map(String::as_str).filter(|role| !seen.insert(*role)).collect();
    if !doubled.is_empty() {
        let list: Vec<&str> = doubled.into_iter().collect();
        return Some(format!("'FrameworkInfo.roles' contains duplicate items: {{ {} }}", list.join(", ")));
    }
    for role in &info.roles {
        if let Some(why) = role_fault(role) {
            return Some(format!("'FrameworkInfo.roles' contains invalid role: {why}"));
        }
    }
    let timeout = info.failover_timeout.unwrap_or(0.0);
    // Mesos counts nanoseconds in 64 bits.
    if timeout.is_nan() || timeout > i64::MAX as f64 / 1e9 {
        return Some(format!("The framework failover_timeout ({}) is invalid", exponent(timeout)));
    }
    None
}

fn role_fault(role: &str) -> Option<String> {
    if role == "*" {
        return None;
    }
    if role.is_empty() {
        return Some("Empty role name is invalid".to_owned());
    }
    if role.starts_with('/') {
        return Some(format!("Role '{role}' cannot start with a slash"));
    }
    if role.ends_with('/') {
        return Some(format!("Role '{role}' cannot end with a slash"));
    }
    role.split('/').find_map(|part| {
        let why = if part.is_empty() {
            "contains two adjacent slashes"
        } else if part == "." || part == ".." || part == "*" {
            "includes an invalid component"
        } else if part.starts_with('-') {
            "is invalid because it begins with a dash"
        } else if part.contains(|c: char| c.is_whitespace() || c == '\u{8}') {
            "is invalid because it contains backspace or whitespace"
        } else {
            return None;
        };
        Some(format!("Role component '{part}' {why}"))
    })
}

/// A large number as C++ prints it: `1e+30`.
fn exponent(number: f64) -> String {
    format!("{number:e}").replace('e', "e+")
}
