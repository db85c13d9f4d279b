//! `POST /api/v1` of a master and of an agent.

use std::time::Duration;

use axum::{
    extract::Request,
    http::{Method, StatusCode, header},
    response::Response,
};
use overlord_mesos::v1::{
    AgentId, FrameworkId,
    scheduler::{Operation, OperationType},
};
use serde_json::Value;

use super::super::{LARGEST_BODY, answer_of, body, json, only, text};
use crate::{
    Mesos,
    model::{Input, OperatorCall, report},
};

/// Calls that a real master knows and this one does not serve.
const UNSERVED: [&str; 8] = [
    "SET_LOGGING_LEVEL",
    "LIST_FILES",
    "READ_FILE",
    "UPDATE_WEIGHTS",
    "UPDATE_QUOTA",
    "SET_QUOTA",
    "REMOVE_QUOTA",
    "GET_LOGGING",
];

type Refusal = (StatusCode, String);

/// Reads a call of an operator.
async fn read(request: Request) -> Result<(axum::http::HeaderMap, Value), Refusal> {
    let (parts, body) = request.into_parts();
    let bad = |text: String| (StatusCode::BAD_REQUEST, text);
    match parts.headers.get(header::CONTENT_TYPE).map(header::HeaderValue::as_bytes) {
        None => return Err(bad("Expecting 'Content-Type' to be present".to_owned())),
        Some(b"application/json") => {}
        Some(b"application/x-protobuf") => {
            return Err(bad("Failed to parse body into Call protobuf".to_owned()));
        }
        Some(_) => {
            let body = "Expecting 'Content-Type' of application/json or application/x-protobuf";
            return Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, body.to_owned()));
        }
    }
    let bytes = axum::body::to_bytes(body, LARGEST_BODY)
        .await
        .map_err(|error| bad(format!("Failed to read body: {error}")))?;
    let value: Value = serde_json::from_slice(&bytes).map_err(|error| {
        let line = error.line().max(1);
        bad(format!("Failed to parse body into JSON: syntax error at line {line} near: "))
    })?;
    if !value.is_object() {
        let text = "Failed to convert JSON into Call protobuf: Expecting a JSON object";
        return Err(bad(text.to_owned()));
    }
    Ok((parts.headers, value))
}

/// `/api/v1` of the leading master.
pub(crate) async fn master_call(mesos: &Mesos, request: Request) -> Response {
    if request.method() != Method::POST {
        return only("POST", request.method());
    }
    let (headers, call) = match read(request).await {
        Ok(read) => read,
        Err((status, body)) => return text(status, body),
    };
    let kind = call.get("type").and_then(Value::as_str).unwrap_or_default();
    if kind == "SUBSCRIBE" {
        return match (body::accepted(&headers), mesos.subscribe_operator()) {
            (Err((status, body)), _) => text(status, body),
            (Ok(_), Ok(events)) => body::operator_records(events),
            (Ok(_), Err(answer)) => answer_of(answer),
        };
    }
    if let Some(answer) = mesos.read(|model| report::v1::answer(model, kind)) {
        if kind == "GET_METRICS" && call.get("get_metrics").is_none() {
            return invalid("master", "Expecting 'get_metrics' to be present");
        }
        return json(&answer);
    }
    match operator_call(kind, &call) {
        Ok(Some(call)) => answer_of(mesos.step(Input::Operator(Box::new(call)))),
        Ok(None) if UNSERVED.contains(&kind) => {
            text(StatusCode::NOT_IMPLEMENTED, format!("'{kind}' is not served by this sandbox"))
        }
        Ok(None) => invalid("master", "Expecting 'type' to be present"),
        Err(refusal) => text(StatusCode::BAD_REQUEST, refusal),
    }
}

/// `/api/v1` of an agent.
pub(crate) async fn agent_call(mesos: &Mesos, name: &str, request: Request) -> Response {
    if request.method() != Method::POST {
        return only("POST", request.method());
    }
    let (_, call) = match read(request).await {
        Ok(read) => read,
        Err((status, body)) => return text(status, body),
    };
    let kind = call.get("type").and_then(Value::as_str).unwrap_or_default();
    match mesos.read(|model| report::agent::answer(model, name, kind)) {
        Some(answer) => json(&answer),
        None => invalid("agent", "Expecting 'type' to be present"),
    }
}

fn invalid(whose: &str, why: &str) -> Response {
    text(StatusCode::BAD_REQUEST, format!("Failed to validate {whose}::Call: {why}"))
}

/// The call that changes something; `None`: it is no such call.
fn operator_call(kind: &str, call: &Value) -> Result<Option<OperatorCall>, String> {
    let field = kind.to_ascii_lowercase();
    let body = || {
        call.get(&field)
            .ok_or_else(|| format!("Failed to validate master::Call: Expecting '{field}' to be present"))
    };
    let agent = |body: &Value| -> Result<AgentId, String> {
        let id = body.pointer("/agent_id/value").and_then(Value::as_str);
        id.map(AgentId::new).ok_or_else(|| missing(&field, "agent_id"))
    };
    let call = match kind {
        "TEARDOWN" => {
            let id = body()?.pointer("/framework_id/value").and_then(Value::as_str);
            OperatorCall::Teardown(FrameworkId::new(id.ok_or_else(|| missing(&field, "framework_id"))?))
        }
        "DRAIN_AGENT" => {
            let body = body()?;
            OperatorCall::Drain {
                agent: agent(body)?,
                max_grace: body.get("max_grace_period").and_then(duration),
                mark_gone: body.get("mark_gone").and_then(Value::as_bool).unwrap_or(false),
            }
        }
        "DEACTIVATE_AGENT" => OperatorCall::Deactivate(agent(body()?)?),
        "REACTIVATE_AGENT" => OperatorCall::Reactivate(agent(body()?)?),
        "MARK_AGENT_GONE" => OperatorCall::MarkGone(agent(body()?)?),
        "UPDATE_MAINTENANCE_SCHEDULE" => {
            OperatorCall::UpdateMaintenanceSchedule(body()?.get("schedule").cloned().unwrap_or_default())
        }
        "START_MAINTENANCE" => OperatorCall::StartMaintenance(
            body()?.get("machines").cloned().unwrap_or(Value::Array(Vec::new())),
        ),
        "STOP_MAINTENANCE" => OperatorCall::StopMaintenance(
            body()?.get("machines").cloned().unwrap_or(Value::Array(Vec::new())),
        ),
        _ => {
            let Some((kind, field)) = operation_kind(kind) else { return Ok(None) };
            let body = body()?;
            let mut operation = serde_json::Map::new();
            operation.insert("type".to_owned(), kind.as_str().into());
            operation.insert(field.to_owned(), body.clone());
            let operation: Operation = serde_json::from_value(Value::Object(operation))
                .map_err(|error| format!("Failed to convert JSON into Call protobuf: {error}"))?;
            OperatorCall::Operation { agent: agent(body)?, operation: Box::new(operation) }
        }
    };
    Ok(Some(call))
}

/// The operation that a call stands for, and the field of an `Operation` its body goes to.
fn operation_kind(kind: &str) -> Option<(OperationType, &'static str)> {
    Some(match kind {
        "RESERVE_RESOURCES" => (OperationType::Reserve, "reserve"),
        "UNRESERVE_RESOURCES" => (OperationType::Unreserve, "unreserve"),
        "CREATE_VOLUMES" => (OperationType::Create, "create"),
        "DESTROY_VOLUMES" => (OperationType::Destroy, "destroy"),
        "GROW_VOLUME" => (OperationType::GrowVolume, "grow_volume"),
        "SHRINK_VOLUME" => (OperationType::ShrinkVolume, "shrink_volume"),
        _ => return None,
    })
}

fn missing(field: &str, part: &str) -> String {
    format!("Failed to convert JSON into Call protobuf: Missing required fields: {field}.{part}")
}

/// `DurationInfo`, or protobuf's own `Duration` of seconds and nanoseconds.
fn duration(value: &Value) -> Option<Duration> {
    let part = |name: &str| value.get(name).and_then(Value::as_u64);
    match (part("seconds"), part("nanoseconds").or_else(|| part("nanos"))) {
        (None, None) => None,
        (seconds, nanoseconds) => {
            Some(Duration::from_secs(seconds.unwrap_or(0)) + Duration::from_nanos(nanoseconds.unwrap_or(0)))
        }
    }
}
