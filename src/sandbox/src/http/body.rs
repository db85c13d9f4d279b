//! Requests in: content type, JSON or protobuf, shape. Streams out: one RecordIO record a chunk.

use std::{convert::Infallible, sync::Arc};

use axum::{
    body::{Body, Bytes},
    extract::Request,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::Response,
};
use futures::{Stream, StreamExt as _};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{LARGEST_BODY, schema};
use crate::protobuf;

/// Status and text of an answer.
pub(crate) type Refusal = (StatusCode, String);

/// A call as it came, and as it is understood.
pub(crate) struct Parsed<C> {
    pub(crate) headers: HeaderMap,
    /// The `type` as it was written.
    pub(crate) kind: Option<String>,
    pub(crate) call: C,
}

/// Reads a call; the error is the answer.
pub(crate) async fn read<C: DeserializeOwned>(
    request: Request,
    message: protobuf::Kind,
    shape: schema::Message,
) -> Result<Parsed<C>, Refusal> {
    let (parts, body) = request.into_parts();
    let Some(content_type) = parts.headers.get(header::CONTENT_TYPE) else {
        return Err((StatusCode::BAD_REQUEST, "Expecting 'Content-Type' to be present".to_owned()));
    };
    let is_json = match content_type.as_bytes() {
        b"application/json" => true,
        b"application/x-protobuf" => false,
        _ => {
            let body = "Expecting 'Content-Type' of application/json or application/x-protobuf";
            return Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, body.to_owned()));
        }
    };
    let bad = |message: String| (StatusCode::BAD_REQUEST, message);
    let bytes = axum::body::to_bytes(body, LARGEST_BODY)
        .await
        .map_err(|error| bad(format!("Failed to read body: {error}")))?;
    let value = if is_json {
        let value: Value = serde_json::from_slice(&bytes).map_err(|error| {
            let line = error.line().max(1);
            bad(format!("Failed to parse body into JSON: syntax error at line {line} near: "))
        })?;
        let convert = |why: String| bad(format!("Failed to convert JSON into Call protobuf: {why}"));
        schema::check(&value, shape).map_err(convert)?;
        value
    } else {
        let value = protobuf::to_json(message, bytes).ok();
        value
            .filter(|value| schema::check(value, shape).is_ok())
            .ok_or_else(|| bad("Failed to parse body into Call protobuf".to_owned()))?
    };
    let kind = value.get("type").and_then(Value::as_str).map(str::to_owned);
    let call = serde_json::from_value(value)
        .map_err(|error| bad(format!("Failed to convert JSON into Call protobuf: {error}")))?;
    Ok(Parsed { headers: parts.headers, kind, call })
}

/// How events are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Json,
    Protobuf,
}

/// How the client wants its events: JSON when it takes that, whatever it sent itself.
pub(crate) fn accepted(headers: &HeaderMap) -> Result<Encoding, Refusal> {
    let Some(accept) = headers.get(header::ACCEPT) else { return Ok(Encoding::Json) };
    let listed = accept.to_str().unwrap_or("");
    let takes = |wanted: &str| {
        listed
            .split(',')
            .filter_map(|part| part.split(';').next())
            .any(|kind| matches!(kind.trim(), "*/*" | "application/*") || kind.trim() == wanted)
    };
    if takes("application/json") {
        Ok(Encoding::Json)
    } else if takes("application/x-protobuf") {
        Ok(Encoding::Protobuf)
    } else {
        let body = "Expecting 'Accept' to allow 'application/x-protobuf' or 'application/json'";
        Err((StatusCode::NOT_ACCEPTABLE, body.to_owned()))
    }
}

/// A chunked stream of records.
pub(crate) fn records<E: Serialize + Send + 'static>(
    events: impl Stream<Item = E> + Send + 'static,
    encoding: Encoding,
    message: protobuf::Kind,
    stream_id: Option<&str>,
) -> Response {
    let chunks = events.map(move |event| {
        let payload = match encoding {
            Encoding::Json => serde_json::to_vec(&event).unwrap_or_default(),
            Encoding::Protobuf => as_protobuf(message, &event),
        };
        let mut record = format!("{}\n", payload.len()).into_bytes();
        record.extend_from_slice(&payload);
        Ok::<_, Infallible>(Bytes::from(record))
    });
    let mut response = Response::new(Body::from_stream(chunks));
    let headers = response.headers_mut();
    let kind = match encoding {
        Encoding::Json => "application/json",
        Encoding::Protobuf => "application/x-protobuf",
    };
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    if let Some(id) = stream_id.and_then(|id| HeaderValue::from_str(id).ok()) {
        headers.insert("Mesos-Stream-Id", id);
    }
    response
}

fn as_protobuf<E: Serialize>(message: protobuf::Kind, event: &E) -> Vec<u8> {
    let value = serde_json::to_value(event).unwrap_or_default();
    protobuf::from_json(message, &value).unwrap_or_else(|error| {
        tracing::error!(%error, ?message, "event not translated");
        Vec::new()
    })
}

/// A chunked stream of records for an operator.
pub(crate) fn operator_records(events: impl Stream<Item = Arc<Value>> + Send + 'static) -> Response {
    let chunks = events.map(|event| {
        let text = event.to_string();
        Ok::<_, Infallible>(Bytes::from(format!("{}\n{text}", text.len())))
    });
    let mut response = Response::new(Body::from_stream(chunks));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
