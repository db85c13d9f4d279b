//! `/metrics/snapshot`: what can be counted, under the names of Mesos.

use std::collections::BTreeMap;

use overlord_mesos::v1::TaskState;

use super::usage::Tally;
use crate::model::{
    Model,
    types::{Agent, Registration},
};

type Metrics = BTreeMap<String, f64>;

const LIVE: [(TaskState, &str); 5] = [
    (TaskState::Staging, "master/tasks_staging"),
    (TaskState::Starting, "master/tasks_starting"),
    (TaskState::Running, "master/tasks_running"),
    (TaskState::Killing, "master/tasks_killing"),
    (TaskState::Unreachable, "master/tasks_unreachable"),
];

const ENDED: [(TaskState, &str); 8] = [
    (TaskState::Finished, "master/tasks_finished"),
    (TaskState::Failed, "master/tasks_failed"),
    (TaskState::Killed, "master/tasks_killed"),
    (TaskState::Error, "master/tasks_error"),
    (TaskState::Lost, "master/tasks_lost"),
    (TaskState::Dropped, "master/tasks_dropped"),
    (TaskState::Gone, "master/tasks_gone"),
    (TaskState::GoneByOperator, "master/tasks_gone_by_operator"),
];

/// Of the leading master.
pub(crate) fn of_master(model: &Model) -> Metrics {
    let mut metrics = Metrics::new();
    let mut set = |name: &str, value: f64| {
        metrics.insert(name.to_owned(), value);
    };
    let uptime = model.now.saturating_sub(model.started_at).as_secs_f64();
    set("master/uptime_secs", uptime);
    set("master/elected", if model.masters.leads() { 1.0 } else { 0.0 });
    let agents = |wanted: &dyn Fn(&Agent) -> bool| model.agents.values().filter(|a| wanted(a)).count() as f64;
    let connected = |agent: &Agent| agent.is_registered();
    let away = |agent: &Agent| agent.registration == Registration::Disconnected;
    set("master/slaves_connected", agents(&connected));
    set("master/slaves_active", agents(&|agent| connected(agent) && !agent.deactivated));
    set("master/slaves_inactive", agents(&|agent| away(agent) || (connected(agent) && agent.deactivated)));
    set("master/slaves_disconnected", agents(&away));
    set(
        "master/slaves_unreachable",
        agents(&|agent| matches!(agent.registration, Registration::Unreachable { .. })),
    );
    let known = model.frameworks.values().filter(|framework| !framework.forgotten);
    let (mut subscribed, mut absent) = (0.0, 0.0);
    for framework in known {
        if framework.subscription.is_some() {
            subscribed += 1.0;
        } else {
            absent += 1.0;
        }
    }
    set("master/frameworks_connected", subscribed);
    set("master/frameworks_active", subscribed);
    set("master/frameworks_disconnected", absent);
    set("master/frameworks_inactive", absent);
    set("master/outstanding_offers", model.offers.len() as f64);
    set("allocator/event_queue_dispatches", 0.0);
    let mut live: BTreeMap<TaskState, f64> = BTreeMap::new();
    for task in model.tasks.values().filter(|task| !task.forgotten) {
        let state = if task.unreachable_since.is_some() { TaskState::Unreachable } else { task.state };
        *live.entry(state).or_default() += 1.0;
    }
    for (state, name) in LIVE {
        set(name, live.get(&state).copied().unwrap_or(0.0));
    }
    for (state, name) in ENDED {
        set(name, model.ended.get(&state).copied().unwrap_or(0) as f64);
    }
    let tally = Tally::of(model);
    let used = tally.all.used.sum();
    for (name, total) in super::super::offers::MEASURED.into_iter().zip(model.total) {
        let (total, used) = (total as f64 / 1000.0, used.scalar(name) as f64 / 1000.0);
        set(&format!("master/{name}_total"), total);
        set(&format!("master/{name}_used"), used);
        set(&format!("master/{name}_percent"), if total > 0.0 { used / total } else { 0.0 });
    }
    metrics
}

/// Of an agent.
pub(crate) fn of_agent(model: &Model, agent: &Agent) -> Metrics {
    let mut metrics = Metrics::new();
    let uptime = model.now.saturating_sub(agent.registered_at).as_secs_f64();
    metrics.insert("slave/uptime_secs".to_owned(), uptime);
    metrics.insert("slave/registered".to_owned(), if agent.is_registered() { 1.0 } else { 0.0 });
    let executors = agent.executors.values().filter(|executor| executor.exited.is_none()).count();
    metrics.insert("slave/executors_running".to_owned(), executors as f64);
    for name in super::super::offers::MEASURED {
        let total = agent.total.scalar(name) as f64 / 1000.0;
        metrics.insert(format!("slave/{name}_total"), total);
    }
    metrics
}
