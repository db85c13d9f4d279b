//! What an agent tells about itself.

use overlord_mesos::v1::{CommandInfo, ExecutorInfo, FrameworkId};
use serde_json::{Value, json};

use super::{AGENT_CAPABILITIES, add_some, state, usage, version};
use crate::model::{
    Model,
    pool::{Format, Pool},
    types::{Agent, Executor},
};

/// `/state` of an agent.
pub(crate) fn state(model: &Model, name: &str) -> Option<Value> {
    let agent = model.agents.get(name)?;
    let mut used = Pool::default();
    for executor in agent.executors.values() {
        used.add(&executor.pool);
    }
    let tasks = model.tasks_of_agent(&agent.id);
    for task in tasks.iter().filter_map(|key| model.tasks.get(key)).filter(|task| !task.released) {
        used.add(&task.pool);
    }
    let mut frameworks: Vec<&FrameworkId> = agent.executors.keys().map(|(framework, _)| framework).collect();
    frameworks.dedup();
    let frameworks = frameworks.into_iter().map(|id| framework(model, agent, id));
    let mut value = version();
    add_some(
        &mut value,
        [
            ("start_time", Some(json!(model.seconds(agent.registered_at)))),
            ("id", Some(json!(agent.id.as_str()))),
            ("pid", Some(json!(format!("slave(1)@{}", agent.address)))),
            ("hostname", Some(json!(agent.hostname))),
            ("capabilities", Some(json!(AGENT_CAPABILITIES))),
        ],
    );
    add_some(&mut value, state::resources_of(agent));
    add_some(&mut value, state::reservations_full(agent));
    add_some(
        &mut value,
        [
            ("reserved_resources_allocated", Some(json!({}))),
            ("unreserved_resources_allocated", Some(usage::model(&used.reserved_for(None)))),
            ("resource_providers", Some(json!([]))),
            ("attributes", Some(state::attributes(agent))),
            ("master_hostname", Some(json!(model.master.ip().to_string()))),
            ("flags", Some(json!(super::flags::of_agent(model, agent)))),
            ("frameworks", Some(Value::Array(frameworks.collect()))),
            ("completed_frameworks", Some(json!([]))),
        ],
    );
    Some(value)
}

fn framework(model: &Model, agent: &Agent, id: &FrameworkId) -> Value {
    let info = model.frameworks.get(id).map(|framework| &framework.info);
    let own = agent.executors.iter().filter(|((owner, _), _)| owner == id);
    let executors = own.map(|((_, executor_id), executor)| {
        let of_executor = |queued: bool| -> Vec<Value> {
            let tasks = executor.tasks.iter().filter(|task| executor.queued.contains(task) == queued);
            let tasks = tasks.filter_map(|task| {
                let key = (id.clone(), task.clone());
                Some(state::task(&key, model.tasks.get(&key)?))
            });
            tasks.collect()
        };
        json!({
            "id": executor_id.as_str(), "name": executor.info.name.as_deref().unwrap_or_default(),
            "source": executor.info.source.as_deref().unwrap_or_default(),
            "container": executor.container.as_str(), "directory": directory(agent, id, executor),
            "resources": usage::model(&executor.pool), "role": executor.role,
            "type": executor.info.kind.map(overlord_mesos::v1::ExecutorType::as_str),
            "tasks": of_executor(false), "queued_tasks": of_executor(true), "completed_tasks": [],
        })
    });
    json!({
        "id": id.as_str(), "name": info.map_or("", |info| info.name.as_str()),
        "user": info.map_or("", |info| info.user.as_str()),
        "failover_timeout": info.and_then(|info| info.failover_timeout).unwrap_or(0.0),
        "checkpoint": info.and_then(|info| info.checkpoint).unwrap_or(false),
        "hostname": info.and_then(|info| info.hostname.as_deref()).unwrap_or_default(),
        "roles": model.frameworks.get(id).map(|framework| framework.roles.clone()).unwrap_or_default(),
        "executors": executors.collect::<Vec<_>>(), "completed_executors": [],
    })
}

fn directory(agent: &Agent, framework: &FrameworkId, executor: &Executor) -> String {
    let path =
        agent.work_dir.join("slaves").join(agent.id.as_str()).join("frameworks").join(framework.as_str());
    let path = path.join("executors").join(executor.info.executor_id.as_str()).join("runs");
    path.join(executor.container.as_str()).display().to_string()
}

/// `/containers`, and with `statistics_only` `/monitor/statistics`.
pub(crate) fn containers(model: &Model, name: &str, statistics_only: bool) -> Value {
    let Some(agent) = model.agents.get(name) else { return json!([]) };
    let all = agent.executors.iter().filter(|(_, executor)| executor.exited.is_none());
    let all = all.map(|((framework, id), executor)| {
        let mut value = json!({
            "executor_id": id.as_str(), "executor_name": executor.info.name.as_deref().unwrap_or_default(),
            "framework_id": framework.as_str(),
            "source": executor.info.source.as_deref().unwrap_or_default(),
            "statistics": statistics(model, framework, executor),
        });
        if !statistics_only {
            add_some(
                &mut value,
                [
                    ("container_id", Some(json!(executor.container.as_str()))),
                    ("status", Some(status(executor))),
                ],
            );
        }
        value
    });
    Value::Array(all.collect())
}

/// Limits only: what processes really take is not measured here.
fn statistics(model: &Model, framework: &FrameworkId, executor: &Executor) -> Value {
    let mut pool = executor.pool.clone();
    for task in &executor.tasks {
        if let Some(task) = model.tasks.get(&(framework.clone(), task.clone())) {
            pool.add(&task.pool);
        }
    }
    let bytes = pool.scalar("mem") / 1000 * (1 << 20);
    json!({
        "cpus_soft_limit": pool.scalar("cpus") as f64 / 1000.0, "cpus_system_time_secs": 0.0,
        "cpus_user_time_secs": 0.0, "mem_limit_bytes": bytes, "mem_soft_limit_bytes": bytes, "mem_rss_bytes": 0,
        "timestamp": model.timestamp(),
    })
}

fn status(executor: &Executor) -> Value {
    let mut value = json!({ "container_id": executor.container });
    add_some(&mut value, [("executor_pid", executor.pid.map(Value::from))]);
    value
}

/// The answer to a call of the agent's `POST /api/v1`; `None`: no such call.
pub(crate) fn answer(model: &Model, name: &str, kind: &str) -> Option<Value> {
    let agent = model.agents.get(name)?;
    let (field, body) = match kind {
        "GET_HEALTH" => ("get_health", json!({ "healthy": true })),
        "GET_VERSION" => ("get_version", json!({ "version_info": version() })),
        "GET_FLAGS" => {
            ("get_flags", json!({ "flags": super::flags::list(&super::flags::of_agent(model, agent)) }))
        }
        "GET_METRICS" => {
            let metrics = super::metrics::of_agent(model, agent);
            let list = metrics.iter().map(|(name, value)| json!({ "name": name, "value": value }));
            ("get_metrics", json!({ "metrics": list.collect::<Vec<_>>() }))
        }
        "GET_LOGGING_LEVEL" => ("get_logging_level", json!({ "level": 0 })),
        "GET_AGENT" => ("get_agent", json!({ "agent_info": agent.info() })),
        "GET_CONTAINERS" => ("get_containers", containers_v1(model, agent)),
        "GET_FRAMEWORKS" => ("get_frameworks", frameworks_v1(model, agent)),
        "GET_EXECUTORS" => ("get_executors", executors_v1(agent)),
        "GET_TASKS" => ("get_tasks", tasks_v1(model, agent)),
        "GET_STATE" => {
            let body = json!({
                "get_tasks": tasks_v1(model, agent), "get_executors": executors_v1(agent),
                "get_frameworks": frameworks_v1(model, agent),
            });
            ("get_state", body)
        }
        "GET_OPERATIONS" => ("get_operations", json!({})),
        "GET_RESOURCE_PROVIDERS" => ("get_resource_providers", json!({})),
        _ => return None,
    };
    let mut answer = serde_json::Map::new();
    answer.insert("type".to_owned(), kind.into());
    answer.insert(field.to_owned(), body);
    Some(Value::Object(answer))
}

fn containers_v1(model: &Model, agent: &Agent) -> Value {
    let all = agent.executors.iter().filter(|(_, executor)| executor.exited.is_none());
    let all: Vec<Value> = all
        .map(|((framework, id), executor)| {
            json!({
                "framework_id": framework, "executor_id": id,
                "executor_name": executor.info.name.as_deref().unwrap_or_default(),
                "container_id": executor.container, "container_status": status(executor),
                "resource_statistics": statistics(model, framework, executor),
            })
        })
        .collect();
    if all.is_empty() { json!({}) } else { json!({ "containers": all }) }
}

fn frameworks_v1(model: &Model, agent: &Agent) -> Value {
    let mut ids: Vec<&FrameworkId> = agent.executors.keys().map(|(framework, _)| framework).collect();
    ids.dedup();
    let all =
        ids.into_iter().filter_map(|id| Some(json!({ "framework_info": model.frameworks.get(id)?.info })));
    let all: Vec<Value> = all.collect();
    json!({ "frameworks": all, "completed_frameworks": [] })
}

fn executors_v1(agent: &Agent) -> Value {
    let all = agent.executors.iter().map(|((id, _), own)| json!({ "executor_info": executor_info(id, own) }));
    let all: Vec<Value> = all.collect();
    json!({ "executors": all, "completed_executors": [] })
}

/// What an agent makes up for a task without executor, as it shows it.
fn executor_info(framework: &FrameworkId, executor: &Executor) -> ExecutorInfo {
    let mut info = executor.info.clone();
    if executor.is_command() {
        let mut overhead = Pool::default();
        overhead.add_scalar("cpus", 0.1);
        overhead.add_scalar("mem", 32.0);
        info.framework_id = Some(framework.clone());
        info.resources = overhead.to_wire(Some(&executor.role), Format::Stack);
        info.command = Some(CommandInfo {
            shell: Some(false),
            value: Some("mesos-executor".to_owned()),
            arguments: vec!["mesos-executor".to_owned(), "--launcher_dir=.".to_owned()],
            user: info.command.and_then(|command| command.user),
            ..CommandInfo::default()
        });
    }
    info
}

fn tasks_v1(model: &Model, agent: &Agent) -> Value {
    let (mut queued, mut launched, mut terminated) = (Vec::new(), Vec::new(), Vec::new());
    for key in model.tasks_of_agent(&agent.id) {
        let Some(task) = model.tasks.get(&key) else { continue };
        let executor = agent.executors.get(&(key.0.clone(), task.executor.clone()));
        let value = super::v1::task(&key, task);
        if task.state.is_terminal() {
            terminated.push(value);
        } else if executor.is_some_and(|executor| executor.queued.contains(&key.1)) {
            queued.push(value);
        } else {
            launched.push(value);
        }
    }
    json!({
        "pending_tasks": [], "queued_tasks": queued, "launched_tasks": launched, "terminated_tasks": terminated,
        "completed_tasks": [],
    })
}
