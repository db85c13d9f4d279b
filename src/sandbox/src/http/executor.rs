//! `/api/v1/executor` of an agent.

use axum::{extract::Request, http::Method, response::Response};
use overlord_mesos::v1::executor::{Call, CallType};

use super::{body, only_post, refusal, schema, text};
use crate::{
    Mesos,
    model::{Answer, Input},
};

pub(crate) async fn answer(mesos: &Mesos, agent: &str, request: Request) -> Response {
    if request.method() != Method::POST {
        return only_post(request.method());
    }
    let body::Parsed { headers, kind, call } = match body::read::<Call>(request, schema::EXECUTOR_CALL).await
    {
        Ok(parsed) => parsed,
        Err((status, body)) => return text(status, body),
    };
    // A sign of life that newer executors send; the agent has nothing to say to it.
    if kind.as_deref() == Some("HEARTBEAT") {
        return refusal(Answer::Accepted);
    }
    if call.kind != CallType::Subscribe {
        return refusal(mesos.step(Input::Executor { agent: agent.to_owned(), call: Box::new(call) }));
    }
    if let Err((status, body)) = body::accepts_json(&headers) {
        return text(status, body);
    }
    match mesos.subscribe_executor(agent, call) {
        Ok(events) => body::records(events, None),
        Err(answer) => refusal(answer),
    }
}
