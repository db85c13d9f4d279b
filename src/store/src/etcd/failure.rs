//! What a failed etcd call means: may it be tried again, and what is the caller told.

use std::error::Error as _;

use tonic::{Code, ConnectError, Status};

use crate::Error;

/// A failed attempt at one endpoint.
#[derive(Debug)]
pub(super) enum Failure {
    /// It was surely not applied: never sent, or turned away before it was proposed.
    Unapplied(String),
    /// Nobody knows whether it was applied.
    Ambiguous(String),
    /// etcd answered no; another endpoint would say the same.
    Refused(Refusal),
}

/// A final answer.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The asked revision is compacted.
    Compacted,
    /// The asked revision is yet to come.
    Future,
    /// The lease is not there.
    LeaseGone,
    /// The request has too many operations or bytes.
    RequestTooLarge,
    /// The answer is larger than this client takes.
    AnswerTooLarge,
    /// Everything that needs no more context.
    Error(Error),
}

impl Failure {
    /// Sorts an error of the client.
    pub(super) fn of(error: &etcd_client::Error) -> Self {
        use etcd_client::Error as E;
        match error {
            E::GRpcStatus(status) if was_never_sent(status) => Self::Unapplied(text(status)),
            E::GRpcStatus(status) => Self::of_answer(status),
            // How the client reports a keep-alive answered with ttl 0.
            E::LeaseKeepAliveError(message) if message.contains("lease not found") => {
                Self::Refused(Refusal::LeaseGone)
            }
            E::InvalidArgs(_) | E::InvalidUri(_) | E::InvalidMetadataValue(_) | E::Utf8Error(_) => {
                Self::Refused(Refusal::Error(Error::Other(error.to_string())))
            }
            _ => Self::Ambiguous(error.to_string()),
        }
    }

    /// Codes alone do not tell a full disk from a busy server; etcd's messages are part of its API
    /// (api/v3rpc/rpctypes/error.go).
    fn of_answer(status: &Status) -> Self {
        let says = |part: &str| status.message().contains(part);
        let error = |error: fn(String) -> Error| Self::Refused(Refusal::Error(error(text(status))));
        match status.code() {
            // With `hasleader` set, a member without a leader turns requests away before it proposes
            // them; a busy one does so too.
            Code::Unavailable if says("etcdserver: no leader") => Self::Unapplied(text(status)),
            Code::ResourceExhausted if says("too many requests") => Self::Unapplied(text(status)),
            Code::ResourceExhausted if says("space exceeded") => error(Error::NoSpace),
            Code::OutOfRange if says("has been compacted") => Self::Refused(Refusal::Compacted),
            Code::OutOfRange if says("future revision") => Self::Refused(Refusal::Future),
            Code::OutOfRange if says("message length too large") => Self::Refused(Refusal::AnswerTooLarge),
            Code::NotFound if says("lease not found") => Self::Refused(Refusal::LeaseGone),
            Code::InvalidArgument if says("too many operations") || says("request is too large") => {
                Self::Refused(Refusal::RequestTooLarge)
            }
            Code::PermissionDenied | Code::Unauthenticated => error(Error::Denied),
            Code::InvalidArgument | Code::FailedPrecondition
                if says("authentication") || says("user name is empty") =>
            {
                error(Error::Denied)
            }
            // What remains of these comes from the transport, or from a server that is going away
            // or has lost its quorum.
            Code::Unavailable
            | Code::Cancelled
            | Code::DeadlineExceeded
            | Code::Aborted
            | Code::Internal
            | Code::ResourceExhausted => Self::Ambiguous(text(status)),
            Code::Unknown if !status.message().starts_with("etcdserver:") => Self::Ambiguous(text(status)),
            _ => error(Error::Other),
        }
    }

    /// The same failure of something that comes before the request is sent.
    pub(super) fn before_sending(self) -> Self {
        match self {
            Self::Ambiguous(message) => Self::Unapplied(message),
            other => other,
        }
    }
}

impl Refusal {
    /// For calls to which the special answers are not given.
    pub(super) fn into_error(self) -> Error {
        match self {
            Self::Compacted => Error::Other("the revision is compacted".to_owned()),
            Self::Future => Error::Other("the revision is yet to come".to_owned()),
            Self::LeaseGone => Error::Other("the lease is not there".to_owned()),
            Self::RequestTooLarge => Error::Other("the request is too large".to_owned()),
            Self::AnswerTooLarge => Error::Other("the answer is too large".to_owned()),
            Self::Error(error) => error,
        }
    }
}

/// A connection that never came about carried no request.
fn was_never_sent(status: &Status) -> bool {
    let mut cause = status.source();
    while let Some(error) = cause {
        if error.is::<ConnectError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// The message, with the innermost cause when that says more ("tcp connect error: connection refused").
fn text(status: &Status) -> String {
    let mut cause = status.source();
    while let Some(inner) = cause.and_then(std::error::Error::source) {
        cause = Some(inner);
    }
    match cause.map(ToString::to_string) {
        Some(cause) if !status.message().contains(&cause) => format!("{}: {cause}", status.message()),
        _ => status.message().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(code: Code, message: &str) -> Failure {
        Failure::of(&etcd_client::Error::GRpcStatus(Status::new(code, message)))
    }

    #[test]
    fn a_broken_connection_leaves_open_whether_the_request_was_applied() {
        for (code, message) in [
            (Code::Unknown, "h2 protocol error: error reading a body from connection"),
            (Code::Unavailable, "etcdserver: request timed out"),
            (Code::Unavailable, "etcdserver: leader changed"),
            (Code::Cancelled, "Timeout expired"),
            // The words of a failed connect, but not its cause.
            (Code::Unavailable, "tcp connect error"),
        ] {
            assert!(matches!(sorted(code, message), Failure::Ambiguous(_)), "{message}");
        }
    }

    #[test]
    fn a_member_without_leader_has_not_applied_the_request() {
        assert!(matches!(sorted(Code::Unavailable, "etcdserver: no leader"), Failure::Unapplied(_)));
    }

    #[test]
    fn a_full_quota_is_told_apart_from_a_busy_server() {
        assert!(matches!(
            sorted(Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded"),
            Failure::Refused(Refusal::Error(Error::NoSpace(_)))
        ));
        assert!(matches!(
            sorted(Code::ResourceExhausted, "etcdserver: too many requests"),
            Failure::Unapplied(_)
        ));
    }

    #[test]
    fn refused_credentials_are_final() {
        for (code, message) in [
            (Code::PermissionDenied, "etcdserver: permission denied"),
            (Code::Unauthenticated, "etcdserver: invalid auth token"),
            (Code::InvalidArgument, "etcdserver: authentication failed, invalid user ID or password"),
            (Code::InvalidArgument, "etcdserver: user name is empty"),
            (Code::FailedPrecondition, "etcdserver: authentication is not enabled"),
        ] {
            assert!(
                matches!(sorted(code, message), Failure::Refused(Refusal::Error(Error::Denied(_)))),
                "{message}"
            );
        }
    }
}
