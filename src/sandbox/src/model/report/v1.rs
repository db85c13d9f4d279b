//! Answers of the operator API of a master: `POST /api/v1`.

use overlord_mesos::v1::{FrameworkId, TaskState};
use serde_json::{Map, Value, json};

use super::{AGENT_CAPABILITIES, VERSION, add_some, usage::Tally, version};
use crate::model::{
    Model,
    pool::Format,
    types::{Agent, Framework, Registration, Task, TaskKey},
};

/// The answer to a call that only reads; `None`: no such call.
pub(crate) fn answer(model: &Model, kind: &str) -> Option<Value> {
    let (field, body) = match kind {
        "GET_HEALTH" => ("get_health", json!({ "healthy": true })),
        "GET_VERSION" => ("get_version", json!({ "version_info": version() })),
        "GET_FLAGS" => ("get_flags", json!({ "flags": super::flags::list(&super::flags::of_master(model)) })),
        "GET_METRICS" => {
            let metrics = super::metrics::of_master(model);
            let list = metrics.iter().map(|(name, value)| json!({ "name": name, "value": value }));
            ("get_metrics", json!({ "metrics": list.collect::<Vec<_>>() }))
        }
        "GET_LOGGING_LEVEL" => ("get_logging_level", json!({ "level": 0 })),
        "GET_STATE" => ("get_state", state(model)),
        "GET_AGENTS" => ("get_agents", agents(model)),
        "GET_FRAMEWORKS" => ("get_frameworks", frameworks(model)),
        "GET_EXECUTORS" => ("get_executors", executors(model)),
        "GET_OPERATIONS" => ("get_operations", operations(model)),
        "GET_TASKS" => ("get_tasks", tasks(model)),
        "GET_ROLES" => ("get_roles", roles(model)),
        "GET_MASTER" => {
            let (start, elected) = (model.seconds(model.started_at), model.seconds(model.started_at));
            let body = json!({
                "master_info": model.master_info(), "start_time": start, "elected_time": elected,
            });
            ("get_master", body)
        }
        "GET_MAINTENANCE_STATUS" => {
            ("get_maintenance_status", json!({ "status": model.maintenance.status() }))
        }
        "GET_MAINTENANCE_SCHEDULE" => {
            ("get_maintenance_schedule", json!({ "schedule": model.maintenance.schedule }))
        }
        "GET_QUOTA" => ("get_quota", json!({ "status": {} })),
        // Without weights the field is missing.
        "GET_WEIGHTS" => return Some(json!({ "type": "GET_WEIGHTS" })),
        _ => return None,
    };
    let mut answer = Map::new();
    answer.insert("type".to_owned(), kind.into());
    answer.insert(field.to_owned(), body);
    Some(Value::Object(answer))
}

/// `GetState`
pub(crate) fn state(model: &Model) -> Value {
    json!({
        "get_tasks": tasks(model), "get_executors": executors(model), "get_frameworks": frameworks(model),
        "get_agents": agents(model),
    })
}

fn known(model: &Model) -> impl Iterator<Item = (&FrameworkId, &Framework)> {
    model.frameworks.iter().filter(|(_, framework)| !framework.forgotten)
}

/// A `Task`.
pub(crate) fn task(key: &TaskKey, task: &Task) -> Value {
    // Frameworks that do not know the state call it lost.
    let given_up = task.statuses.last().filter(|status| status.unreachable_time.is_some());
    let state = match (task.unreachable_since, given_up) {
        (Some(_), Some(status)) => status.state,
        (Some(_), None) => TaskState::Unreachable,
        (None, _) => task.state,
    };
    let info = &task.info;
    let mut value = json!({
        "name": info.name, "task_id": key.1, "framework_id": key.0, "agent_id": task.agent, "state": state,
        "resources": task.pool.to_wire(Some(&task.role), Format::Stack),
    });
    let executor = info.executor.as_ref().map(|_| json!(task.executor));
    let user = info
        .command
        .as_ref()
        .or_else(|| info.executor.as_ref()?.command.as_ref())
        .and_then(|command| command.user.as_ref());
    let last = task.statuses.last();
    add_some(
        &mut value,
        [
            ("executor_id", executor),
            ("statuses", (!task.statuses.is_empty()).then(|| json!(task.statuses))),
            ("status_update_state", last.map(|_| json!(task.shown))),
            (
                "status_update_uuid",
                task.statuses.iter().rev().find_map(|status| status.uuid.as_ref()).map(|uuid| json!(uuid)),
            ),
            ("labels", info.labels.as_ref().map(|labels| json!(labels))),
            ("discovery", info.discovery.as_ref().map(|discovery| json!(discovery))),
            ("container", info.container.clone()),
            ("health_check", info.health_check.as_ref().map(|check| json!(check))),
            ("kill_policy", info.kill_policy.map(|policy| json!(policy))),
            ("user", user.map(|user| json!(user))),
        ],
    );
    value
}

fn tasks(model: &Model) -> Value {
    let of = |wanted: &dyn Fn(&Task) -> bool| -> Vec<Value> {
        model.tasks.iter().filter(|(_, t)| !t.forgotten && wanted(t)).map(|(key, t)| task(key, t)).collect()
    };
    let completed = model.completed.iter().chain(known(model).map(|(_, framework)| framework));
    let completed = completed.flat_map(|framework| {
        let id = framework.info.id.clone().unwrap_or_default();
        framework.completed.iter().map(move |completed| {
            let own = &completed.task;
            task(&(id.clone(), own.info.task_id.clone()), own)
        })
    });
    json!({
        "tasks": of(&|task| task.unreachable_since.is_none()),
        "unreachable_tasks": of(&|task| task.unreachable_since.is_some()),
        "completed_tasks": completed.collect::<Vec<_>>(),
    })
}

fn executors(model: &Model) -> Value {
    let all = model.agents.values().filter(|agent| knows(agent)).flat_map(|agent| {
        let custom = agent.executors.values().filter(|executor| !executor.is_command());
        custom.map(|executor| json!({ "executor_info": executor.info, "agent_id": agent.id }))
    });
    json!({ "executors": all.collect::<Vec<_>>() })
}

/// Whether the master shows what it runs.
fn knows(agent: &Agent) -> bool {
    !matches!(
        agent.registration,
        Registration::Removed | Registration::Unreachable { .. } | Registration::Recovered
    )
}

fn operations(model: &Model) -> Value {
    let all: Vec<Value> = model
        .operations
        .iter()
        .map(|((framework, _), record)| {
            json!({
                "framework_id": framework, "agent_id": record.agent, "info": record.operation,
                "latest_status": record.status, "statuses": [record.status],
            })
        })
        .collect();
    if all.is_empty() { json!({}) } else { json!({ "operations": all }) }
}

/// `GetFrameworks.Framework`, without what it uses.
pub(crate) fn framework_record(model: &Model, framework: &Framework) -> Value {
    let connected = framework.subscription.is_some();
    json!({
        "framework_info": super::framework_info(&framework.info), "active": connected, "connected": connected,
        "recovered": framework.recovered, "registered_time": model.time_info(framework.registered),
        "reregistered_time": model.time_info(framework.reregistered),
        "unregistered_time": {"nanoseconds": 0},
    })
}

fn frameworks(model: &Model) -> Value {
    let tally = Tally::of(model);
    let all = known(model).map(|(id, framework)| {
        let mut value = framework_record(model, framework);
        let uses = tally.framework(id);
        let offers: Vec<Value> =
            framework.offers.iter().filter_map(|offer| offer_json(model, framework, offer)).collect();
        let inverse = framework.inverse_offers.iter().map(|offer| json!({ "id": offer, "framework_id": id }));
        let inverse: Vec<Value> = inverse.collect();
        let list = |items: Vec<Value>| (!items.is_empty()).then_some(Value::Array(items));
        if let Some(fields) = value.as_object_mut() {
            fields.remove("unregistered_time");
        }
        add_some(
            &mut value,
            [
                ("offers", list(offers)),
                ("inverse_offers", list(inverse)),
                ("allocated_resources", resources(uses.used.full())),
                ("offered_resources", resources(uses.offered.full())),
                ("offer_constraints", Some(json!({}))),
            ],
        );
        value
    });
    let all: Vec<Value> = all.collect();
    let completed: Vec<Value> = model
        .completed
        .iter()
        .map(|framework| {
            let mut value = framework_record(model, framework);
            let over = json!(model.time_info(framework.reregistered));
            add_some(&mut value, [("unregistered_time", Some(over)), ("offer_constraints", Some(json!({})))]);
            value
        })
        .collect();
    json!({ "frameworks": all, "completed_frameworks": completed })
}

fn resources(list: Vec<overlord_mesos::v1::Resource>) -> Option<Value> {
    (!list.is_empty()).then(|| json!(list))
}

/// An open offer as its framework got it.
fn offer_json(model: &Model, framework: &Framework, id: &overlord_mesos::v1::OfferId) -> Option<Value> {
    let offer = model.offers.get(id)?;
    let agent = model.agents.get(&offer.agent)?;
    let executors: Vec<_> = agent
        .executors
        .iter()
        .filter(|((owner, _), executor)| *owner == offer.framework && !executor.is_command())
        .map(|((_, executor), _)| executor)
        .collect();
    let mut value = json!({
        "id": id, "framework_id": framework.info.id, "agent_id": agent.id, "hostname": agent.hostname,
        "url": agent.url(), "resources": offer.pool.to_wire(Some(&offer.role), Format::Stack),
        "attributes": agent.attributes, "allocation_info": {"role": offer.role},
    });
    add_some(
        &mut value,
        [
            ("domain", agent.domain.as_ref().map(|domain| json!(domain))),
            ("executor_ids", (!executors.is_empty()).then(|| json!(executors))),
        ],
    );
    Some(value)
}

/// `GetAgents.Agent`, without what is used of it.
pub(crate) fn agent_record(model: &Model, agent: &Agent) -> Value {
    let mut info = json!(agent.info());
    add_some(&mut info, [("checkpoint", Some(json!(true)))]);
    let mut value = json!({
        "agent_info": info, "active": agent.is_registered() && !agent.deactivated,
        "deactivated": agent.deactivated, "version": VERSION,
        "pid": format!("slave(1)@{}", agent.address), "registered_time": model.time_info(agent.registered_at),
        "total_resources": agent.total.to_wire(None, Format::Both),
        "capabilities": AGENT_CAPABILITIES.map(|name| json!({ "type": name })),
    });
    let seconds = |at: std::time::Duration| {
        let seconds = (model.epoch + at).as_secs();
        json!({ "nanoseconds": seconds.saturating_mul(1_000_000_000) })
    };
    add_some(
        &mut value,
        [
            ("reregistered_time", agent.reregistered_at.map(|at| json!(model.time_info(at)))),
            ("drain_info", agent.drain.as_ref().map(super::super::drain::Drain::to_json)),
            ("estimated_drain_start_time", agent.drain.as_ref().map(|drain| seconds(drain.started))),
        ],
    );
    value
}

fn agents(model: &Model) -> Value {
    let tally = Tally::of(model);
    let all = model.agents.values().filter(|agent| knows(agent)).map(|agent| {
        let mut value = agent_record(model, agent);
        let uses = tally.agent(&agent.id);
        add_some(
            &mut value,
            [
                ("allocated_resources", resources(uses.used.full())),
                ("offered_resources", resources(uses.offered.full())),
            ],
        );
        value
    });
    let recovered = model
        .agents
        .values()
        .filter(|agent| agent.registration == Registration::Recovered && model.masters.remembers())
        .map(|agent| json!(agent.info()));
    json!({ "agents": all.collect::<Vec<_>>(), "recovered_agents": recovered.collect::<Vec<_>>() })
}

fn roles(model: &Model) -> Value {
    let tally = Tally::of(model);
    let all = super::state::role_names(model).into_iter().map(|(name, frameworks)| {
        let ids: Vec<Value> = frameworks.iter().map(|id| json!(id)).collect();
        let mut value = json!({ "name": name, "weight": 1.0, "frameworks": ids });
        let mut pool = tally.all.used.role(&name);
        pool.add(&tally.all.offered.role(&name));
        let mut list = pool.remarked(|_| crate::model::pool::Marks::default()).to_wire(None, Format::Stack);
        list.retain(|resource| resource.scalar.is_some());
        list.sort_by(|a, b| a.name.cmp(&b.name));
        add_some(&mut value, [("resources", resources(list))]);
        value
    });
    json!({ "roles": all.collect::<Vec<_>>() })
}
