//! The sandbox's own small API, for breaking things: `POST /agents/{name}/{fault}`.

use std::net::SocketAddr;

use axum::{
    Json, Router,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
    routing::{get, post},
};
use overlord_sandbox::Mesos;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{Fault, FaultArgs};
use crate::{cli, failure::Failure, output, settings::args::LogArgs};

/// Answers to an order; also the error body.
#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    message: String,
}

type Reply = (StatusCode, Json<Answer>);

fn reply(status: StatusCode, message: impl Into<String>) -> Reply {
    (status, Json(Answer { message: message.into() }))
}

/// Serves until `shutdown`.
pub(crate) async fn serve(
    listener: TcpListener,
    mesos: Mesos,
    shutdown: CancellationToken,
) -> Result<(), Failure> {
    let router = Router::new()
        .route("/agents", get(agents))
        .route("/agents/{name}/{fault}", post(fault))
        .with_state(mesos);
    axum::serve(listener, router)
        .with_graceful_shutdown(async move { shutdown.cancelled().await })
        .await
        .map_err(|error| Failure::io("the sandbox's admin address", &error))
}

async fn agents(State(mesos): State<Mesos>) -> Json<Vec<String>> {
    Json(mesos.agents().into_iter().map(|agent| agent.name).collect())
}

async fn fault(
    State(mesos): State<Mesos>,
    headers: HeaderMap,
    Path((name, fault)): Path<(String, String)>,
) -> Reply {
    // A web page can send a plain POST anywhere, but not one of this type without asking first.
    if headers.get(header::CONTENT_TYPE).is_none_or(|kind| kind != "application/json") {
        return reply(StatusCode::BAD_REQUEST, "send it with Content-Type: application/json");
    }
    let Ok(fault) = <Fault as clap::ValueEnum>::from_str(&fault, false) else {
        return reply(StatusCode::NOT_FOUND, format!("there is no fault {fault:?}"));
    };
    let (taken, what) = match fault {
        Fault::AgentLost => (mesos.agent_lost(&name), "is lost"),
        Fault::AgentReturn => (mesos.agent_return(&name), "is back"),
        Fault::AgentRestart => (mesos.agent_restart(&name), "restarts"),
    };
    if taken {
        tracing::info!(agent = name, "{name} {what}");
        return reply(StatusCode::OK, format!("{name} {what}"));
    }
    let known: Vec<String> = mesos.agents().into_iter().map(|agent| agent.name).collect();
    reply(StatusCode::NOT_FOUND, format!("there is no agent {name:?}; there are {}", known.join(", ")))
}

/// `overlord sandbox fault`
pub(crate) fn order(args: &FaultArgs, log: &LogArgs) -> Result<(), Failure> {
    cli::start_log(log, "error")?;
    cli::current_thread()?.block_on(send(args.admin, args.fault, &args.agent))
}

async fn send(admin: SocketAddr, fault: Fault, agent: &str) -> Result<(), Failure> {
    let http = reqwest::Client::builder()
        .no_proxy()
        .timeout(std::time::Duration::from_secs(10))
        .build()
        .map_err(|error| Failure::failed(format!("no HTTP client can be made: {error}"), ""))?;
    let word = clap::ValueEnum::to_possible_value(&fault)
        .map(|value| value.get_name().to_owned())
        .unwrap_or_default();
    let url = format!("http://{admin}/agents/{}/{word}", crate::client::segment(agent));
    let unreachable = |_| {
        Failure::new(
            crate::failure::Exit::NoServer,
            format!("no sandbox answers at {admin}"),
            "start one with `overlord sandbox`, or name its address with --admin",
        )
    };
    let sent = http.post(url).header("content-type", "application/json").send().await.map_err(unreachable)?;
    let status = sent.status();
    let answer: Answer =
        sent.json().await.map_err(|_| Failure::failed(format!("{admin} is no sandbox"), ""))?;
    if status.is_success() {
        output::print(&(answer.message + "\n"))
    } else {
        Err(Failure::failed(answer.message, ""))
    }
}
