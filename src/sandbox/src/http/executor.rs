//! `/api/v1/executor` of an agent.

use axum::{extract::Request, http::Method, response::Response};
use overlord_mesos::v1::executor::{Call, CallType};

use super::{answer_of, body, only, schema, text};
use crate::{
    Mesos,
    model::{Answer, Input},
    protobuf,
};

pub(crate) async fn answer(mesos: &Mesos, agent: &str, request: Request) -> Response {
    if request.method() != Method::POST {
        return only("POST", request.method());
    }
    let body::Parsed { headers, kind, call } =
        match body::read::<Call>(request, protobuf::Kind::ExecutorCall, schema::EXECUTOR_CALL).await {
            Ok(parsed) => parsed,
            Err((status, body)) => return text(status, body),
        };
    // A sign of life that newer executors send; the agent has nothing to say to it.
    if kind.as_deref() == Some("HEARTBEAT") {
        return answer_of(Answer::Accepted);
    }
    if call.kind != CallType::Subscribe {
        return answer_of(mesos.step(Input::Executor { agent: agent.to_owned(), call: Box::new(call) }));
    }
    let encoding = match body::accepted(&headers) {
        Ok(encoding) => encoding,
        Err((status, body)) => return text(status, body),
    };
    match mesos.subscribe_executor(agent, call) {
        Ok(events) => body::records(events, encoding, protobuf::Kind::ExecutorEvent, None),
        Err(answer) => answer_of(answer),
    }
}
