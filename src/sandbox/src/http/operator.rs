//! What people and scripts ask a master: health, version, a small `/state`.

use axum::{http::StatusCode, response::Response};
use serde_json::{Value, json};

use super::{json as json_response, not_found, text};
use crate::{
    Mesos,
    model::{AgentState, TaskView},
};

pub(crate) fn answer(mesos: &Mesos, path: &str) -> Response {
    match path {
        "/health" => text(StatusCode::OK, String::new()),
        "/version" => version(),
        "/state" => json_response(&state(mesos)),
        _ => not_found(),
    }
}

pub(crate) fn version() -> Response {
    json_response(&json!({ "version": "1.11.1", "build_user": "overlord sandbox" }))
}

fn state(mesos: &Mesos) -> Value {
    let tasks = mesos.tasks();
    let agents: Vec<Value> = mesos
        .agents()
        .into_iter()
        .filter(|agent| agent.state != AgentState::Unreachable)
        .map(|agent| {
            json!({
                "id": agent.id.as_str(), "hostname": agent.address.ip().to_string(), "port": agent.address.port(),
                "pid": format!("slave(1)@{}", agent.address), "active": agent.state == AgentState::Registered,
            })
        })
        .collect();
    let frameworks: Vec<Value> = mesos
        .frameworks()
        .into_iter()
        .map(|framework| {
            let own = tasks.iter().filter(|task| task.framework_id == framework.id).map(task);
            json!({
                "id": framework.id.as_str(), "name": framework.name, "active": framework.connected,
                "connected": framework.connected, "tasks": own.collect::<Vec<_>>(),
            })
        })
        .collect();
    json!({
        "version": "1.11.1", "id": mesos.master_id(), "activated_slaves": agents.len(),
        "slaves": agents, "frameworks": frameworks,
    })
}

fn task(task: &TaskView) -> Value {
    json!({
        "id": task.task_id.as_str(), "name": task.name, "framework_id": task.framework_id.as_str(),
        "executor_id": task.executor_id.as_str(), "slave_id": task.agent_id.as_str(), "state": task.state.as_str(),
    })
}
