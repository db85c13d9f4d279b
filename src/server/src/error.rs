//! Errors of the API: a status, a code for machines, one sentence and the next step for people.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};

use crate::view::{ErrorBody, ErrorCode, ErrorView, FaultView};

/// An answer that is no success.
#[derive(Debug, Clone)]
pub(crate) struct ApiError {
    view: ErrorView,
}

impl ApiError {
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { view: ErrorView { code, message: message.into(), hint: hint.into(), details: Vec::new() } }
    }

    pub(crate) fn not_found(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(ErrorCode::NotFound, what, hint)
    }

    pub(crate) fn invalid(message: impl Into<String>, details: Vec<FaultView>) -> Self {
        let mut error = Self::new(ErrorCode::Invalid, message, "correct the manifest and apply it again");
        error.view.details = details;
        error
    }

    pub(crate) fn into_message(self) -> String {
        self.view.message
    }

    const fn status(&self) -> StatusCode {
        match self.view.code {
            ErrorCode::BadRequest => StatusCode::BAD_REQUEST,
            ErrorCode::Forbidden => StatusCode::FORBIDDEN,
            ErrorCode::NotFound => StatusCode::NOT_FOUND,
            ErrorCode::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            ErrorCode::Conflict | ErrorCode::Protected => StatusCode::CONFLICT,
            ErrorCode::RevisionMismatch => StatusCode::PRECONDITION_FAILED,
            ErrorCode::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            ErrorCode::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
            ErrorCode::Busy => StatusCode::TOO_MANY_REQUESTS,
            ErrorCode::StoreUnavailable | ErrorCode::NoLeader => StatusCode::SERVICE_UNAVAILABLE,
            ErrorCode::LeaderUnreachable => StatusCode::BAD_GATEWAY,
            ErrorCode::Timeout => StatusCode::GATEWAY_TIMEOUT,
            ErrorCode::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = self.status();
        (status, Json(ErrorBody { error: self.view })).into_response()
    }
}

impl From<overlord_store::Error> for ApiError {
    fn from(error: overlord_store::Error) -> Self {
        use overlord_store::Error;
        let (code, hint) = match &error {
            Error::Unavailable { .. } => (
                ErrorCode::StoreUnavailable,
                "nothing was written; check that etcd runs at these endpoints and most of its members are up",
            ),
            Error::Unanswered { .. } => (
                ErrorCode::StoreUnavailable,
                "what was asked for may or may not have been written, asking again is safe; check that etcd runs \
                 at these endpoints and most of its members are up",
            ),
            Error::WentBack { .. } => (
                ErrorCode::StoreUnavailable,
                "ask again; if etcd was restored from a backup, the controllers' conditions say what to do",
            ),
            Error::NoSpace(_) => (
                ErrorCode::StoreUnavailable,
                "compact and defragment etcd or raise its quota, then clear the alarm",
            ),
            Error::Denied(_) => {
                (ErrorCode::StoreUnavailable, "check [etcd] user and password_file of the controller")
            }
            Error::TooLarge { .. } => (ErrorCode::TooLarge, "write less at once"),
            Error::Shutdown => {
                (ErrorCode::StoreUnavailable, "ask another controller, or wait until this one is back")
            }
            Error::BadEndpoint { .. }
            | Error::Fenced(_)
            | Error::Compacted(_)
            | Error::LeaseGone(_)
            | Error::Other(_) => {
                (ErrorCode::Internal, "try again; if it stays so, look at the controller's log")
            }
        };
        Self::new(code, error.to_string(), hint)
    }
}
