//! The older endpoints of a master: `/state`, `/state-summary`, `/slaves`, `/frameworks`, `/tasks`, `/roles`.

use std::collections::{BTreeMap, BTreeSet};

use overlord_mesos::v1::{CapabilityType, CommandInfo, FrameworkId, TaskState, ValueType};
use serde_json::{Map, Value, json};

use super::{
    AGENT_CAPABILITIES, VERSION, add_some,
    usage::{self, Tally},
    version,
};
use crate::model::{
    Model,
    pool::{Format, Pool},
    types::{Agent, Executor, Framework, Registration, Task, TaskKey},
};

/// The states that `/state-summary` counts.
const COUNTED: [TaskState; 10] = [
    TaskState::Staging,
    TaskState::Starting,
    TaskState::Running,
    TaskState::Killing,
    TaskState::Finished,
    TaskState::Killed,
    TaskState::Failed,
    TaskState::Lost,
    TaskState::Error,
    TaskState::Unreachable,
];

/// `/state`
pub(crate) fn state(model: &Model) -> Value {
    let tally = Tally::of(model);
    let registered = |active: bool| {
        let count = model.agents.values().filter(|a| shown(a) && is_active(a) == active).count();
        count as f64
    };
    let unreachable =
        model.agents.values().filter(|a| matches!(a.registration, Registration::Unreachable { .. })).count();
    let start = model.seconds(model.started_at);
    let mut state = version();
    let pid = format!("master@{}", model.master);
    let host = model.master.ip().to_string();
    let leader = json!({ "id": model.master_id, "pid": pid, "port": model.master.port(), "hostname": host });
    let recovered = model
        .agents
        .values()
        .filter(|agent| agent.registration == Registration::Recovered && model.masters.remembers())
        .map(|agent| json!({ "id": agent.id.as_str(), "hostname": agent.hostname, "port": agent.address.port() }));
    add_some(
        &mut state,
        [
            ("start_time", Some(json!(start))),
            ("elected_time", Some(json!(start))),
            ("id", Some(json!(model.master_id))),
            ("pid", Some(json!(pid))),
            ("hostname", Some(json!(host))),
            ("capabilities", Some(json!(["AGENT_UPDATE", "AGENT_DRAINING", "QUOTA_V2"]))),
            ("activated_slaves", Some(json!(registered(true)))),
            ("deactivated_slaves", Some(json!(registered(false)))),
            ("unreachable_slaves", Some(json!(unreachable as f64))),
            ("leader", Some(json!(pid))),
            ("leader_info", Some(leader)),
            ("flags", Some(json!(super::flags::of_master(model)))),
            ("slaves", Some(Value::Array(agents(model, &tally, false)))),
            ("recovered_slaves", Some(Value::Array(recovered.collect()))),
            ("frameworks", Some(Value::Array(known(model).map(|f| framework(model, &tally, f)).collect()))),
            (
                "completed_frameworks",
                Some(Value::Array(model.completed.iter().map(|f| framework(model, &tally, f)).collect())),
            ),
            ("orphan_tasks", Some(json!([]))),
            ("unregistered_frameworks", Some(json!([]))),
        ],
    );
    state
}

/// `/state-summary`
pub(crate) fn summary(model: &Model) -> Value {
    let tally = Tally::of(model);
    let mut by_agent: BTreeMap<&str, BTreeMap<TaskState, u64>> = BTreeMap::new();
    let mut by_framework: BTreeMap<&str, BTreeMap<TaskState, u64>> = BTreeMap::new();
    let mut meet: BTreeSet<(&str, &str)> = BTreeSet::new();
    let mut count = |agent, framework, state: TaskState| {
        *by_agent.entry(agent).or_default().entry(state).or_default() += 1;
        *by_framework.entry(framework).or_default().entry(state).or_default() += 1;
        meet.insert((agent, framework));
    };
    for ((framework, _), task) in model.tasks.iter().filter(|(_, task)| !task.forgotten) {
        let state = if task.unreachable_since.is_some() { TaskState::Unreachable } else { task.state };
        count(task.agent.as_str(), framework.as_str(), state);
    }
    for framework in known(model) {
        let id = framework.info.id.as_ref().map_or("", |id| id.as_str());
        for completed in &framework.completed {
            count(completed.task.agent.as_str(), id, completed.task.state);
        }
    }
    let counts = |value: &mut Value, own: Option<&BTreeMap<TaskState, u64>>| {
        let fields = COUNTED.map(|state| {
            (state.as_str(), Some(json!(own.and_then(|own| own.get(&state)).copied().unwrap_or(0))))
        });
        add_some(value, fields);
    };
    let agents: Vec<Value> = model
        .agents
        .values()
        .filter(|agent| shown(agent))
        .map(|own| {
            let mut value = agent(model, &tally, own);
            counts(&mut value, by_agent.get(own.id.as_str()));
            let ids: Vec<&str> =
                meet.iter().filter(|(a, _)| *a == own.id.as_str()).map(|(_, framework)| *framework).collect();
            add_some(&mut value, [("framework_ids", Some(json!(ids)))]);
            value
        })
        .collect();
    let frameworks: Vec<Value> = known(model)
        .map(|own| {
            let id = own.info.id.as_ref().map_or("", |id| id.as_str());
            let mut value = framework_head(&tally, own);
            counts(&mut value, by_framework.get(id));
            let ids: Vec<&str> =
                meet.iter().filter(|(_, framework)| *framework == id).map(|(agent, _)| *agent).collect();
            add_some(&mut value, [("slave_ids", Some(json!(ids)))]);
            value
        })
        .collect();
    json!({ "hostname": model.master.ip().to_string(), "slaves": agents, "frameworks": frameworks })
}

/// `/slaves`
pub(crate) fn slaves(model: &Model) -> Value {
    json!({ "slaves": agents(model, &Tally::of(model), true), "recovered_slaves": [] })
}

/// `/frameworks`
pub(crate) fn frameworks(model: &Model) -> Value {
    let tally = Tally::of(model);
    let live: Vec<Value> = known(model).map(|own| framework(model, &tally, own)).collect();
    let completed: Vec<Value> = model.completed.iter().map(|own| framework(model, &tally, own)).collect();
    json!({ "frameworks": live, "completed_frameworks": completed, "unregistered_frameworks": [] })
}

/// `/tasks`: the newest first unless asked otherwise.
pub(crate) fn tasks(model: &Model, limit: usize, offset: usize, ascending: bool) -> Value {
    let mut all: Vec<(f64, Value)> = Vec::new();
    let first = |task: &Task| task.statuses.first().and_then(|status| status.timestamp).unwrap_or(f64::MAX);
    for (key, own) in model.tasks.iter().filter(|(_, task)| !task.forgotten) {
        all.push((first(own), task(key, own)));
    }
    for framework in known(model).chain(&model.completed) {
        let id = framework.info.id.clone().unwrap_or_default();
        for completed in &framework.completed {
            let own = &completed.task;
            all.push((first(own), task(&(id.clone(), own.info.task_id.clone()), own)));
        }
    }
    all.sort_by(|(a, _), (b, _)| if ascending { a.total_cmp(b) } else { b.total_cmp(a) });
    let page: Vec<Value> = all.into_iter().skip(offset).take(limit).map(|(_, task)| task).collect();
    json!({ "tasks": page })
}

/// Roles that someone has, with the frameworks in them.
pub(super) fn role_names(model: &Model) -> BTreeMap<String, BTreeSet<FrameworkId>> {
    let mut roles: BTreeMap<String, BTreeSet<FrameworkId>> = BTreeMap::new();
    for (id, framework) in model.frameworks.iter().filter(|(_, framework)| !framework.forgotten) {
        for role in &framework.roles {
            roles.entry(role.clone()).or_default().insert(id.clone());
        }
    }
    for agent in model.agents.values() {
        for role in agent.total.reservation_roles() {
            roles.entry(role).or_default();
        }
    }
    roles
}

/// `/roles`
pub(crate) fn roles(model: &Model) -> Value {
    let tally = Tally::of(model);
    let all = role_names(model).into_iter().map(|(name, frameworks)| {
        let (used, offered) = (tally.all.used.role(&name), tally.all.offered.role(&name));
        let mut sum = used.clone();
        sum.add(&offered);
        let mut reserved = Pool::default();
        for agent in model.agents.values() {
            reserved.add(&agent.total.reserved_for(Some(&name)));
        }
        let allocated = usage::quantities(&used);
        let ids: Vec<&str> = frameworks.iter().map(FrameworkId::as_str).collect();
        json!({
            "name": name, "weight": 1.0,
            "quota": {"role": name, "guarantee": {}, "limit": {}, "consumed": allocated},
            "resources": usage::quantities(&sum), "allocated": allocated, "offered": usage::quantities(&offered),
            "reserved": usage::quantities(&reserved), "frameworks": ids,
        })
    });
    json!({ "roles": all.collect::<Vec<_>>() })
}

fn known(model: &Model) -> impl Iterator<Item = &Framework> {
    model.frameworks.values().filter(|framework| !framework.forgotten)
}

fn shown(agent: &Agent) -> bool {
    matches!(agent.registration, Registration::Registered | Registration::Disconnected)
}

fn is_active(agent: &Agent) -> bool {
    agent.is_registered() && !agent.deactivated
}

fn agents(model: &Model, tally: &Tally, full: bool) -> Vec<Value> {
    let all = model.agents.values().filter(|agent| shown(agent));
    all.map(|own| {
        let mut value = agent(model, tally, own);
        if full {
            let uses = tally.agent(&own.id);
            add_some(&mut value, reservations_full(own));
            add_some(
                &mut value,
                [
                    ("used_resources_full", Some(json!(uses.used.full()))),
                    ("offered_resources_full", Some(json!(uses.offered.full()))),
                ],
            );
        }
        value
    })
    .collect()
}

/// Every resource of an agent, by the role it is reserved for.
pub(super) fn reservations_full(agent: &Agent) -> [(&'static str, Option<Value>); 2] {
    let reserved: Map<String, Value> = agent
        .total
        .reservation_roles()
        .into_iter()
        .map(|role| {
            let own = agent.total.reserved_for(Some(&role)).to_wire(None, Format::Both);
            (role, json!(own))
        })
        .collect();
    let unreserved = agent.total.reserved_for(None).to_wire(None, Format::Both);
    [
        ("reserved_resources_full", Some(Value::Object(reserved))),
        ("unreserved_resources_full", Some(json!(unreserved))),
    ]
}

pub(super) fn attributes(agent: &Agent) -> Value {
    let mut fields = Map::new();
    for attribute in &agent.attributes {
        let value = match attribute.kind {
            ValueType::Scalar => json!(attribute.scalar.map_or(0.0, |scalar| scalar.value)),
            _ => json!(attribute.text.as_ref().map_or("", |text| text.value.as_str())),
        };
        fields.insert(attribute.name.clone(), value);
    }
    Value::Object(fields)
}

/// What an agent has, reserved and not, in short.
pub(super) fn resources_of(agent: &Agent) -> [(&'static str, Option<Value>); 3] {
    let reserved: Map<String, Value> = agent
        .total
        .reservation_roles()
        .into_iter()
        .map(|role| {
            let own = usage::model(&agent.total.reserved_for(Some(&role)));
            (role, own)
        })
        .collect();
    [
        ("resources", Some(usage::model(&agent.total))),
        ("reserved_resources", Some(Value::Object(reserved))),
        ("unreserved_resources", Some(usage::model(&agent.total.reserved_for(None)))),
    ]
}

fn agent(model: &Model, tally: &Tally, agent: &Agent) -> Value {
    let uses = tally.agent(&agent.id);
    let mut value = json!({
        "id": agent.id.as_str(), "hostname": agent.hostname, "port": agent.address.port(),
        "attributes": attributes(agent), "pid": format!("slave(1)@{}", agent.address),
        "registered_time": model.seconds(agent.registered_at),
        "used_resources": usage::model(&uses.used.sum()), "offered_resources": usage::model(&uses.offered.sum()),
        "active": is_active(agent), "deactivated": agent.deactivated, "version": VERSION,
        "capabilities": AGENT_CAPABILITIES,
    });
    add_some(&mut value, resources_of(agent));
    add_some(
        &mut value,
        [
            ("reregistered_time", agent.reregistered_at.map(|at| json!(model.seconds(at)))),
            ("domain", agent.domain.as_ref().map(|domain| json!(domain))),
            ("drain_info", agent.drain.as_ref().map(super::super::drain::Drain::to_json)),
            (
                "estimated_drain_start_time_seconds",
                agent.drain.as_ref().map(|drain| json!((model.epoch + drain.started).as_secs())),
            ),
        ],
    );
    value
}

fn framework_head(tally: &Tally, framework: &Framework) -> Value {
    let info = &framework.info;
    let id = info.id.clone().unwrap_or_default();
    let uses = tally.framework(&id);
    let connected = framework.subscription.is_some();
    let capabilities = info.capabilities.iter().filter(|c| c.kind != CapabilityType::Unknown);
    json!({
        "id": id.as_str(), "name": info.name, "used_resources": usage::model(&uses.used.sum()),
        "offered_resources": usage::model(&uses.offered.sum()),
        "capabilities": capabilities.map(|c| c.kind.as_str()).collect::<Vec<_>>(),
        "hostname": info.hostname.as_deref().unwrap_or_default(),
        "webui_url": info.webui_url.as_deref().unwrap_or_default(), "active": connected, "connected": connected,
        "recovered": framework.recovered,
    })
}

fn framework(model: &Model, tally: &Tally, framework: &Framework) -> Value {
    let info = &framework.info;
    let id = info.id.clone().unwrap_or_default();
    let over = model.completed.iter().any(|completed| std::ptr::eq(completed, framework));
    let uses = tally.framework(&id);
    let mut sum = uses.used.sum();
    sum.add(&uses.offered.sum());
    let of = |unreachable: bool| -> Vec<Value> {
        if over {
            return Vec::new();
        }
        let own =
            model.tasks_of(&id).filter(|(_, t)| !t.forgotten && t.unreachable_since.is_some() == unreachable);
        own.map(|(key, own)| task(key, own)).collect()
    };
    let completed = framework.completed.iter().map(|completed| {
        let own = &completed.task;
        task(&(id.clone(), own.info.task_id.clone()), own)
    });
    let offers = framework.offers.iter().filter_map(|offer| {
        let open = model.offers.get(offer)?;
        let agent = model.agents.get(&open.agent)?;
        Some(json!({
            "id": offer.as_str(), "framework_id": id.as_str(), "allocation_info": {"role": open.role},
            "slave_id": agent.id.as_str(), "resources": usage::model(&open.pool),
        }))
    });
    let executors = model.agents.values().filter(|agent| shown(agent)).flat_map(|agent| {
        let first = crate::model::executor_key(&id, &overlord_mesos::v1::ExecutorId::default());
        let own = agent.executors.range(first..).take_while(|((owner, _), _)| *owner == id);
        let own = own.filter(|(_, executor)| !executor.is_command() && !over);
        own.map(|(_, own)| executor(agent, &id, own)).collect::<Vec<_>>()
    });
    let mut value = framework_head(tally, framework);
    let unregistered = if over { model.seconds(framework.reregistered) } else { 0.0 };
    let multi_role = framework.has(CapabilityType::MultiRole);
    let reregistered = (framework.reregistered != framework.registered && !over)
        .then(|| json!(model.seconds(framework.reregistered)));
    add_some(
        &mut value,
        [
            ("user", Some(json!(info.user))),
            ("failover_timeout", Some(json!(info.failover_timeout.unwrap_or(0.0)))),
            ("checkpoint", Some(json!(framework.checkpoints()))),
            ("registered_time", Some(json!(model.seconds(framework.registered)))),
            ("unregistered_time", Some(json!(unregistered))),
            ("reregistered_time", reregistered),
            ("principal", info.principal.as_ref().map(|principal| json!(principal))),
            ("resources", Some(usage::model(&sum))),
            ("roles", multi_role.then(|| json!(info.roles))),
            ("role", (!multi_role).then(|| json!(info.role.as_deref().unwrap_or("*")))),
            ("tasks", Some(Value::Array(of(false)))),
            ("unreachable_tasks", Some(Value::Array(of(true)))),
            ("completed_tasks", Some(Value::Array(completed.collect()))),
            ("offers", Some(Value::Array(offers.collect()))),
            ("executors", Some(Value::Array(executors.collect()))),
            ("offer_constraints", Some(json!({}))),
            ("labels", info.labels.as_ref().map(|labels| json!(labels.labels))),
        ],
    );
    value
}

fn executor(agent: &Agent, framework: &FrameworkId, executor: &Executor) -> Value {
    let info = &executor.info;
    json!({
        "executor_id": info.executor_id.as_str(), "name": info.name.as_deref().unwrap_or_default(),
        "framework_id": framework.as_str(), "command": command(info.command.as_ref()),
        "resources": usage::model(&executor.pool), "role": executor.role, "slave_id": agent.id.as_str(),
    })
}

fn command(command: Option<&CommandInfo>) -> Value {
    let Some(command) = command else { return json!({}) };
    let mut value = json!({
        "shell": command.shell.unwrap_or(true), "argv": command.arguments,
        "environment": command.environment.as_ref().map_or_else(|| json!({}), |own| json!(own)),
        "uris": command.uris,
    });
    add_some(&mut value, [("value", command.value.as_ref().map(|text| json!(text)))]);
    value
}

pub(super) fn task(key: &TaskKey, task: &Task) -> Value {
    let info = &task.info;
    let state = if task.unreachable_since.is_some() { TaskState::Unreachable } else { task.state };
    let executor = if info.executor.is_some() { task.executor.as_str() } else { "" };
    let statuses: Vec<Value> = task
        .statuses
        .iter()
        .map(|status| {
            let mut value = json!({ "state": status.state, "timestamp": status.timestamp });
            let mut container = status.container_status.clone();
            if let Some(fields) = container.as_mut().and_then(Value::as_object_mut) {
                fields.remove("executor_pid");
            }
            add_some(
                &mut value,
                [
                    ("labels", status.labels.as_ref().map(|labels| json!(labels.labels))),
                    ("container_status", container),
                    ("healthy", status.healthy.map(Value::from)),
                    ("check_status", status.check_status.as_ref().map(|check| json!(check))),
                ],
            );
            value
        })
        .collect();
    let mut value = json!({
        "id": key.1.as_str(), "name": info.name, "framework_id": key.0.as_str(), "executor_id": executor,
        "slave_id": task.agent.as_str(), "state": state, "resources": usage::model(&task.pool),
        "role": task.role, "statuses": statuses,
    });
    let user = info
        .command
        .as_ref()
        .or_else(|| info.executor.as_ref()?.command.as_ref())
        .and_then(|command| command.user.as_ref());
    add_some(
        &mut value,
        [
            ("user", user.map(|user| json!(user))),
            ("labels", info.labels.as_ref().map(|labels| json!(labels.labels))),
            ("discovery", info.discovery.as_ref().map(|discovery| json!(discovery))),
            ("container", info.container.clone()),
            ("health_check", info.health_check.as_ref().map(|check| json!(check))),
        ],
    );
    value
}
