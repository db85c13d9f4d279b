//! What requests carry, read with this API's own errors.

use axum::{
    extract::{FromRequest, Request, rejection::BytesRejection},
    http::{HeaderMap, StatusCode, header},
    response::IntoResponse as _,
};
use bytes::Bytes;
use serde::{Deserialize, de::DeserializeOwned};

use crate::{error::ApiError, view::ErrorCode};

/// Header in which a client says who asks. For people: nothing is allowed or refused by it.
pub const REQUESTED_BY: &str = "overlord-requested-by";
/// Bytes of [`REQUESTED_BY`] that are kept.
const MAX_REQUESTED_BY: usize = 128;

/// Who asks, made harmless for listings.
pub(crate) fn requested_by(headers: &HeaderMap) -> String {
    let text = headers.get(REQUESTED_BY).and_then(|value| value.to_str().ok()).unwrap_or_default();
    text.chars().filter(char::is_ascii_graphic).take(MAX_REQUESTED_BY).collect()
}

/// The whole body.
pub(crate) struct Body(pub(crate) Bytes);

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        Bytes::from_request(request, state).await.map(Self).map_err(|rejection: BytesRejection| {
            let response = rejection.into_response();
            if response.status() == StatusCode::PAYLOAD_TOO_LARGE {
                ApiError::new(
                    ErrorCode::TooLarge,
                    "the body is too large",
                    "send one manifest of at most 64 KiB",
                )
            } else {
                ApiError::new(ErrorCode::BadRequest, "the body broke off", "send it again")
            }
        })
    }
}

/// A JSON body. The content type must say so: a web page cannot send that type elsewhere without asking first.
pub(crate) struct JsonBody<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        if content_type.is_none_or(|text| text.split(';').next().map(str::trim) != Some("application/json")) {
            return Err(ApiError::new(
                ErrorCode::BadRequest,
                "the body must be JSON",
                "send it with Content-Type: application/json",
            ));
        }
        let Body(bytes) = Body::from_request(request, state).await?;
        serde_json::from_slice(&bytes).map(Self).map_err(|error| {
            ApiError::new(
                ErrorCode::BadRequest,
                format!("the body is not what is expected here: {error}"),
                "",
            )
        })
    }
}

/// `?watch=true`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WatchQuery {
    #[serde(default)]
    pub(crate) watch: bool,
}
