//! What can go wrong with the store, by what the caller can do about it.

use overlord_reconcile::SourceError;

use crate::{Fence, Revision};

/// A failed call to the store.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No endpoint answers, or not in time. For a commit: it may or may not have happened.
    #[error("etcd is unavailable at {endpoints}: {message}")]
    Unavailable {
        /// The endpoints that were tried.
        endpoints: String,
        /// What the last one said.
        message: String,
    },
    /// The fence does not hold: another leader took over, or the lease ended. Nothing was written.
    #[error("fenced off: {0} is not the leader any more")]
    Fenced(Fence),
    /// The revision is compacted.
    #[error("revision {0} is compacted")]
    Compacted(Revision),
    /// More operations than [`crate::Txn::MAX_OPERATIONS`] or more bytes than [`crate::Txn::MAX_BYTES`].
    #[error("transaction too large: {operations} operations, {bytes} bytes")]
    TooLarge {
        /// Compares and writes.
        operations: usize,
        /// Keys and values.
        bytes: usize,
    },
    /// The lease is unknown or has ended.
    #[error("lease {0:x} is gone")]
    LeaseGone(crate::LeaseId),
    /// etcd is out of space (quota exceeded) and takes no writes.
    #[error("etcd is out of space: {0}")]
    NoSpace(String),
    /// Not allowed with these credentials.
    #[error("etcd refused the credentials: {0}")]
    Denied(String),
    /// An endpoint of the configuration cannot be used.
    #[error("etcd endpoint {endpoint:?} is unusable: {reason}")]
    BadEndpoint {
        /// As configured.
        endpoint: String,
        /// What is wrong with it, and what is expected.
        reason: String,
    },
    /// The caller's shutdown came before the call was done.
    #[error("stopped by shutdown")]
    Shutdown,
    /// Anything else etcd says.
    #[error("etcd answered: {0}")]
    Other(String),
}

impl From<Error> for SourceError {
    fn from(error: Error) -> Self {
        match error {
            Error::Compacted(revision) => Self::Compacted(revision),
            other => Self::Unavailable(Box::new(other)),
        }
    }
}
