//! `/api/v1/scheduler` of the leading master.

use axum::{extract::Request, http::Method, response::Response};
use overlord_mesos::v1::scheduler::{Call, CallType};

use super::{answer_of, body, only, schema, text};
use crate::{Mesos, model::Answer, model::Input, protobuf};

/// Answers a call; `principal` is who it comes from, where masters ask that.
pub(crate) async fn answer(mesos: &Mesos, principal: Option<&str>, request: Request) -> Response {
    if request.method() != Method::POST {
        return only("POST", request.method());
    }
    let body::Parsed { headers, call, .. } =
        match body::read::<Call>(request, protobuf::Kind::SchedulerCall, schema::SCHEDULER_CALL).await {
            Ok(parsed) => parsed,
            Err((status, body)) => return text(status, body),
        };
    let stream_id =
        headers.get("Mesos-Stream-Id").map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    if let Some(refusal) = foreign_principal(mesos, principal, &call) {
        return answer_of(refusal);
    }
    if call.kind != CallType::Subscribe {
        return answer_of(mesos.step(Input::Scheduler { stream_id, call: Box::new(call) }));
    }
    let encoding = match body::accepted(&headers) {
        Ok(encoding) => encoding,
        Err((status, body)) if stream_id.is_none() && call.subscribe.is_some() => return text(status, body),
        // What is wrong with the call itself is said first.
        Err(_) => body::Encoding::Json,
    };
    match mesos.subscribe_scheduler(stream_id, call) {
        Ok((stream_id, events)) => {
            body::records(events, encoding, protobuf::Kind::SchedulerEvent, Some(&stream_id))
        }
        Err(answer) => answer_of(answer),
    }
}

/// A framework speaks for the principal in its info only.
fn foreign_principal(mesos: &Mesos, principal: Option<&str>, call: &Call) -> Option<Answer> {
    let principal = principal?;
    let claimed = match (&call.subscribe, &call.framework_id) {
        (Some(subscribe), _) if call.kind == CallType::Subscribe => {
            subscribe.framework_info.principal.clone()
        }
        (_, Some(id)) => mesos.read(|model| model.principal_of(id).map(str::to_owned)),
        _ => None,
    }?;
    if claimed == principal {
        return None;
    }
    let prefix = if call.kind == CallType::Subscribe { "Failed to validate scheduler::Call: " } else { "" };
    let text = format!(
        "{prefix}Authenticated principal '{principal}' does not match principal '{claimed}' set in `FrameworkInfo`"
    );
    Some(Answer::Refused { status: 400, text })
}
