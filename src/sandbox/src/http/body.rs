//! Requests in: content type, JSON, shape. Streams out: one RecordIO record a chunk.

use std::convert::Infallible;

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
    shape: schema::Message,
) -> Result<Parsed<C>, Refusal> {
    let (parts, body) = request.into_parts();
    let Some(content_type) = parts.headers.get(header::CONTENT_TYPE) else {
        return Err((StatusCode::BAD_REQUEST, "Expecting 'Content-Type' to be present".to_owned()));
    };
    match content_type.as_bytes() {
        b"application/json" => {}
        b"application/x-protobuf" => {
            return Err((StatusCode::BAD_REQUEST, "Failed to parse body into Call protobuf".to_owned()));
        }
        _ => {
            let body = "Expecting 'Content-Type' of application/json or application/x-protobuf";
            return Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, body.to_owned()));
        }
    }
    let bad = |message: String| (StatusCode::BAD_REQUEST, message);
    let bytes = axum::body::to_bytes(body, LARGEST_BODY)
        .await
        .map_err(|error| bad(format!("Failed to read body: {error}")))?;
    let value: Value = serde_json::from_slice(&bytes).map_err(|error| {
        bad(format!("Failed to parse body into JSON: syntax error at line {} near: ", error.line().max(1)))
    })?;
    let convert = |why: String| bad(format!("Failed to convert JSON into Call protobuf: {why}"));
    schema::check(&value, shape).map_err(convert)?;
    let kind = value.get("type").and_then(Value::as_str).map(str::to_owned);
    let call = serde_json::from_value(value).map_err(|error| convert(error.to_string()))?;
    Ok(Parsed { headers: parts.headers, kind, call })
}

/// Whether the client takes JSON.
pub(crate) fn accepts_json(headers: &HeaderMap) -> Result<(), Refusal> {
    let Some(accept) = headers.get(header::ACCEPT) else { return Ok(()) };
    let listed = accept.to_str().unwrap_or("");
    let fits = listed
        .split(',')
        .filter_map(|part| part.split(';').next())
        .any(|kind| matches!(kind.trim(), "*/*" | "application/*" | "application/json"));
    if fits {
        return Ok(());
    }
    let body = "Expecting 'Accept' to allow 'application/x-protobuf' or 'application/json'";
    Err((StatusCode::NOT_ACCEPTABLE, body.to_owned()))
}

/// A chunked stream of records.
pub(crate) fn records<E: Serialize + Send + 'static>(
    events: impl Stream<Item = E> + Send + 'static,
    stream_id: Option<&str>,
) -> Response {
    let chunks = events.map(|event| {
        let json = serde_json::to_vec(&event).unwrap_or_default();
        let mut record = format!("{}\n", json.len()).into_bytes();
        record.extend_from_slice(&json);
        Ok::<_, Infallible>(Bytes::from(record))
    });
    let mut response = Response::new(Body::from_stream(chunks));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(id) = stream_id.and_then(|id| HeaderValue::from_str(id).ok()) {
        headers.insert("Mesos-Stream-Id", id);
    }
    response
}
