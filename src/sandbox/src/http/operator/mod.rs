//! What operators and their tools ask a master over HTTP.

mod calls;
mod query;

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderValue, Method, StatusCode, header},
    response::Response,
};
pub(crate) use calls::{agent_call, master_call};
use overlord_mesos::v1::FrameworkId;
pub(crate) use query::Query;
use serde_json::{Value, json};

use super::{LARGEST_BODY, answer_of, json as json_response, not_found, only, text};
use crate::{
    Mesos,
    model::{Input, OperatorCall, report},
};

/// What `/` and `/help` say: there is no web interface here.
const PAGE: &str = "<!DOCTYPE html><html><head><title>Mesos</title></head><body>Mesos, as Overlord's sandbox plays \
                    it. See <a href=\"/state\">/state</a>.</body></html>";

/// What every master answers by itself, whether it leads or not.
pub(crate) fn local(mesos: &Mesos, path: &str, query: &Query) -> Option<Response> {
    Some(match path {
        "/health" => empty(),
        "/version" => query.answer(&report::version()),
        "/metrics/snapshot" => query.answer(&json!(mesos.read(report::metrics::of_master))),
        "/flags" => query.answer(&json!({ "flags": mesos.read(report::flags::of_master) })),
        "" | "/help" => html(),
        "/logging/toggle" => text(StatusCode::OK, "0\n".to_owned()),
        "/system/stats.json" => query.answer(&json!({
            "avg_load_15min": 0.0, "avg_load_1min": 0.0, "avg_load_5min": 0.0, "cpus_total": 1,
            "mem_free_bytes": 0, "mem_total_bytes": 0,
        })),
        _ => return None,
    })
}

/// What only the leading master answers.
pub(crate) async fn answer(mesos: &Mesos, path: &str, query: &Query, request: Request) -> Response {
    let read = |value: &Value| query.answer(value);
    match path {
        "/state" => read(&mesos.read(report::state::state)),
        "/state-summary" => read(&mesos.read(report::state::summary)),
        "/slaves" => read(&mesos.read(report::state::slaves)),
        "/frameworks" => read(&mesos.read(report::state::frameworks)),
        "/roles" | "/roles.json" => read(&mesos.read(report::state::roles)),
        "/tasks" => {
            let limit = query.number("limit").unwrap_or(100);
            let offset = query.number("offset").unwrap_or(0);
            let ascending = query.get("order").as_deref() == Some("asc");
            read(&mesos.read(|model| report::state::tasks(model, limit, offset, ascending)))
        }
        "/maintenance/status" => read(&mesos.read(report::maintenance_status)),
        "/maintenance/schedule" if request.method() == Method::POST => {
            operator_json(mesos, request, OperatorCall::UpdateMaintenanceSchedule).await
        }
        "/maintenance/schedule" => read(&mesos.read(report::maintenance_schedule)),
        "/machine/down" => posted(mesos, request, OperatorCall::StartMaintenance).await,
        "/machine/up" => posted(mesos, request, OperatorCall::StopMaintenance).await,
        "/quota" => read(&json!({})),
        "/weights" => read(&json!([])),
        "/teardown" => teardown(mesos, request).await,
        _ => not_found(),
    }
}

async fn posted(mesos: &Mesos, request: Request, call: impl FnOnce(Value) -> OperatorCall) -> Response {
    if request.method() != Method::POST {
        return only("POST", request.method());
    }
    operator_json(mesos, request, call).await
}

async fn operator_json(
    mesos: &Mesos,
    request: Request,
    call: impl FnOnce(Value) -> OperatorCall,
) -> Response {
    let Ok(bytes) = axum::body::to_bytes(request.into_body(), LARGEST_BODY).await else {
        return text(StatusCode::BAD_REQUEST, "Failed to read body".to_owned());
    };
    match serde_json::from_slice(&bytes) {
        Ok(value) => answer_of(mesos.step(Input::Operator(Box::new(call(value))))),
        Err(error) => {
            let line = error.line().max(1);
            text(StatusCode::BAD_REQUEST, format!("syntax error at line {line} near: "))
        }
    }
}

async fn teardown(mesos: &Mesos, request: Request) -> Response {
    if request.method() != Method::POST {
        return only("POST", request.method());
    }
    let Ok(bytes) = axum::body::to_bytes(request.into_body(), LARGEST_BODY).await else {
        return text(StatusCode::BAD_REQUEST, "Failed to read body".to_owned());
    };
    let form = Query::parse(&String::from_utf8_lossy(&bytes));
    let Some(id) = form.get("frameworkId") else {
        let body = "Missing 'frameworkId' query parameter in the request body";
        return text(StatusCode::BAD_REQUEST, body.to_owned());
    };
    let call = OperatorCall::Teardown(FrameworkId::new(id));
    answer_of(mesos.step(Input::Operator(Box::new(call))))
}

/// What an agent answers beside the executor API.
pub(crate) async fn agent_answer(
    mesos: &Mesos,
    name: &str,
    path: &str,
    query: &Query,
    request: Request,
) -> Response {
    match path {
        "/health" => empty(),
        "/version" => query.answer(&report::version()),
        "/state" => match mesos.read(|model| report::agent::state(model, name)) {
            Some(state) => query.answer(&state),
            None => not_found(),
        },
        "/flags" => match mesos.read(|model| report::agent_flags(model, name)) {
            Some(flags) => query.answer(&json!({ "flags": flags })),
            None => not_found(),
        },
        "/metrics/snapshot" => match mesos.read(|model| report::agent_metrics(model, name)) {
            Some(metrics) => query.answer(&json!(metrics)),
            None => not_found(),
        },
        "/containers" => query.answer(&mesos.read(|model| report::agent::containers(model, name, false))),
        "/monitor/statistics" | "/monitor/statistics.json" => {
            query.answer(&mesos.read(|model| report::agent::containers(model, name, true)))
        }
        "/api/v1" => agent_call(mesos, name, request).await,
        "/files/browse" | "/files/read" | "/files/download" => no_file(),
        _ => not_found(),
    }
}

/// Sandboxes of executors lie on this machine; nobody needs an agent to read them.
fn no_file() -> Response {
    text(StatusCode::NOT_FOUND, String::new())
}

fn empty() -> Response {
    Response::new(Body::empty())
}

fn html() -> Response {
    let mut response = Response::new(Body::from(PAGE));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html"));
    response
}

impl Query {
    /// JSON, or with `jsonp` a call of that function.
    pub(crate) fn answer(&self, value: &Value) -> Response {
        let Some(function) = self.get("jsonp") else { return json_response(value) };
        let mut response = Response::new(Body::from(format!("{function}({value})")));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/javascript"));
        response
    }
}
