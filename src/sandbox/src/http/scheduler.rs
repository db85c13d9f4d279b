//! `/api/v1/scheduler` of the master.

use axum::{extract::Request, http::Method, response::Response};
use overlord_mesos::v1::scheduler::{Call, CallType};

use super::{body, only_post, refusal, schema, text};
use crate::{Mesos, model::Input};

/// Calls that Mesos knows and this model takes without doing anything.
const OTHERS: [&str; 6] = [
    "REQUEST",
    "ACCEPT_INVERSE_OFFERS",
    "DECLINE_INVERSE_OFFERS",
    "ACKNOWLEDGE_OPERATION_STATUS",
    "RECONCILE_OPERATIONS",
    "UPDATE_FRAMEWORK",
];

pub(crate) async fn answer(mesos: &Mesos, request: Request) -> Response {
    if request.method() != Method::POST {
        return only_post(request.method());
    }
    let body::Parsed { headers, kind, call } = match body::read::<Call>(request, schema::SCHEDULER_CALL).await
    {
        Ok(parsed) => parsed,
        Err((status, body)) => return text(status, body),
    };
    let stream_id =
        headers.get("Mesos-Stream-Id").map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    if kind.is_some_and(|kind| OTHERS.contains(&kind.as_str())) {
        let input = Input::SchedulerOther { stream_id, framework_id: call.framework_id };
        return refusal(mesos.step(input));
    }
    if call.kind != CallType::Subscribe {
        return refusal(mesos.step(Input::Scheduler { stream_id, call: Box::new(call) }));
    }
    if stream_id.is_none()
        && call.subscribe.is_some()
        && let Err((status, body)) = body::accepts_json(&headers)
    {
        return text(status, body);
    }
    match mesos.subscribe_scheduler(stream_id, call) {
        Ok((stream_id, events)) => body::records(events, Some(&stream_id)),
        Err(answer) => refusal(answer),
    }
}
