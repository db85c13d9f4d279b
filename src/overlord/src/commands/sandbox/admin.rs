//! The sandbox's own small API, for looking at it and breaking things: `GET /agents`,
//! `POST /agents/{name}/{fault}`, `POST /master/{fault}`, `POST /etcd/{fault}`.

use std::net::SocketAddr;

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
    routing::{get, post},
};
use overlord_sandbox::AgentState;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{AgentsArgs, FaultArgs, fault, hands::Hands};
use crate::{
    cli,
    failure::{Exit, Failure},
    output,
    settings::args::LogArgs,
    table::Table,
};

/// Answers to an order; also the error body.
#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    message: String,
}

/// An agent, as it is told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct AgentInfo {
    name: String,
    id: String,
    address: SocketAddr,
    /// registered, disconnected, unreachable, removed
    state: String,
    tasks: usize,
    /// Processes that run for Mesos tasks.
    containers: usize,
    free_cpus: f64,
    free_mem_mib: f64,
}

type Reply = (StatusCode, Json<Answer>);

fn reply(status: StatusCode, message: impl Into<String>) -> Reply {
    (status, Json(Answer { message: message.into() }))
}

/// Serves until `shutdown`.
pub(crate) async fn serve(
    listener: TcpListener,
    hands: Hands,
    shutdown: CancellationToken,
) -> Result<(), Failure> {
    let router = Router::new()
        .route("/agents", get(agents))
        .route("/agents/{name}/{fault}", post(agent_fault))
        .route("/master/{fault}", post(whole_fault))
        .route("/etcd/{fault}", post(whole_fault))
        .with_state(hands);
    axum::serve(listener, router)
        .with_graceful_shutdown(async move { shutdown.cancelled().await })
        .await
        .map_err(|error| Failure::io("the sandbox's admin address", &error))
}

async fn agents(State(hands): State<Hands>) -> Json<Vec<AgentInfo>> {
    let mesos = hands.mesos;
    let tasks = mesos.tasks();
    let agents = mesos.agents().into_iter().map(|agent| AgentInfo {
        tasks: tasks.iter().filter(|task| task.agent_id == agent.id && !task.state.is_terminal()).count(),
        id: agent.id.to_string(),
        address: agent.address,
        state: match agent.state {
            AgentState::Registered => "registered",
            AgentState::Disconnected => "disconnected",
            AgentState::Unreachable => "unreachable",
            AgentState::Removed => "removed",
        }
        .to_owned(),
        containers: agent.containers.len(),
        free_cpus: agent.free_cpus,
        free_mem_mib: agent.free_mem_mib,
        name: agent.name,
    });
    Json(agents.collect())
}

async fn agent_fault(
    State(hands): State<Hands>,
    headers: HeaderMap,
    Path((name, word)): Path<(String, String)>,
    body: Bytes,
) -> Reply {
    strike(&hands, &headers, &word, Some(&name), &body)
}

async fn whole_fault(
    State(hands): State<Hands>,
    headers: HeaderMap,
    Path(word): Path<String>,
    body: Bytes,
) -> Reply {
    strike(&hands, &headers, &word, None, &body)
}

fn strike(hands: &Hands, headers: &HeaderMap, word: &str, agent: Option<&str>, body: &[u8]) -> Reply {
    // A web page can send a plain POST anywhere, but not one of this type without asking first.
    if headers.get(header::CONTENT_TYPE).is_none_or(|kind| kind != "application/json") {
        return reply(StatusCode::BAD_REQUEST, "send it with Content-Type: application/json");
    }
    let more = if body.is_empty() { Ok(serde_json::Value::Null) } else { serde_json::from_slice(body) };
    let fault = match more {
        Ok(more) => fault::read(word, agent, more),
        Err(error) => Err(format!("the body is no JSON: {error}")),
    };
    let fault = match fault {
        Ok(fault) => fault,
        Err(message) => return reply(StatusCode::BAD_REQUEST, message),
    };
    match fault.strike(hands) {
        Ok(message) => {
            tracing::info!(fault = word, "{message}");
            reply(StatusCode::OK, message)
        }
        Err(error) => reply(StatusCode::NOT_FOUND, error.to_string()),
    }
}

/// `overlord sandbox fault`
pub(crate) fn order(args: &FaultArgs, log: &LogArgs) -> Result<(), Failure> {
    cli::start_log(log, "error")?;
    let (word, agent) = args.fault.address();
    let path = match agent {
        Some(agent) => format!("/agents/{}/{word}", crate::client::segment(&agent)),
        None if args.fault.is_etcd() => format!("/etcd/{word}"),
        None => format!("/master/{word}"),
    };
    let mut body = serde_json::to_value(&args.fault)
        .map_err(|error| Failure::failed(format!("the fault cannot be sent: {error}"), ""))?;
    if let Some(fields) = body.as_object_mut() {
        fields.remove("fault");
        fields.remove("agent");
    }
    let answer = cli::current_thread()?.block_on(ask::<Answer>(args.admin, &path, Some(body)))?;
    output::print(&(answer.message + "\n"))
}

/// `overlord sandbox agents`
pub(crate) fn list(args: &AgentsArgs, log: &LogArgs) -> Result<(), Failure> {
    cli::start_log(log, "error")?;
    let agents = cli::current_thread()?.block_on(ask::<Vec<AgentInfo>>(args.admin, "/agents", None))?;
    if args.json {
        return output::print(&output::json(&agents)?);
    }
    let mut table =
        Table::new(&["NAME", "STATE", "ADDRESS", "TASKS", "PROCESSES", "FREE CPUS", "FREE MEMORY", "ID"]);
    for agent in agents {
        table.row(vec![
            agent.name,
            agent.state,
            agent.address.to_string(),
            agent.tasks.to_string(),
            agent.containers.to_string(),
            format!("{:.2}", agent.free_cpus),
            format!("{:.0}Mi", agent.free_mem_mib),
            agent.id,
        ]);
    }
    output::print(&table.render())
}

async fn ask<T: serde::de::DeserializeOwned>(
    admin: SocketAddr,
    path: &str,
    body: Option<serde_json::Value>,
) -> Result<T, Failure> {
    let http = reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only([])
        .timeout(std::time::Duration::from_secs(10))
        .build()
        .map_err(|error| Failure::failed(format!("no HTTP client can be made: {error}"), ""))?;
    let url = format!("http://{admin}{path}");
    let unreachable = |_| {
        Failure::new(
            Exit::NoServer,
            format!("no sandbox answers at {admin}"),
            "start one with `overlord sandbox`, or name its address with --admin",
        )
    };
    let request = match body {
        Some(body) => http.post(url).json(&body),
        None => http.get(url),
    };
    let sent = request.send().await.map_err(unreachable)?;
    let foreign = |_| Failure::failed(format!("{admin} is no sandbox"), "");
    if sent.status().is_success() {
        return sent.json().await.map_err(foreign);
    }
    let refused: Answer = sent.json().await.map_err(foreign)?;
    Err(Failure::failed(refused.message, ""))
}
