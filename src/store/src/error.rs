//! What can go wrong with the store, by what the caller can do about it.

use overlord_reconcile::SourceError;

use crate::{Fence, Revision};

/// A failed call to the store.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No endpoint takes the call, or a read is not answered in time: nothing was written. Nobody listens,
    /// or those who do have no quorum. Try again later.
    #[error("etcd is unavailable at {endpoints}: {message}")]
    Unavailable {
        /// The endpoints that were tried.
        endpoints: String,
        /// What the last one said.
        message: String,
    },
    /// A commit was sent and not answered, or not in time: it may or may not have happened, and may even
    /// happen later. Read what is there before writing again.
    #[error("etcd did not answer a write at {endpoints}, which may have happened or not: {message}")]
    Unanswered {
        /// The endpoints that were tried.
        endpoints: String,
        /// What the last one said.
        message: String,
    },
    /// The store is older than what was read of it before: it was restored from a backup, or is another
    /// one. Views of it must be read anew, and nobody knows what the lost time brought.
    #[error("etcd went back from revision {known} to {found}")]
    WentBack {
        /// What had been seen.
        known: Revision,
        /// What it has now.
        found: Revision,
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
    /// etcd is out of space (`--quota-backend-bytes`) and refuses whatever puts a key, and new leases; reads,
    /// deletes and renewals go on. Nothing was written. A person compacts, defragments or raises the quota,
    /// then clears the alarm: `etcdctl alarm disarm`.
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
