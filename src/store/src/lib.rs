//! etcd behind a narrow trait: list, watch, transactions, leases, election. And its in-memory twin.

pub mod election;
mod error;
mod etcd;
mod fence;
mod lease;
mod memory;
mod source;
mod txn;

use std::{fmt::Debug, time::Duration};

use async_trait::async_trait;
pub use error::Error;
pub use etcd::{EtcdConfig, EtcdStore, Pages, TlsConfig};
pub use fence::Fence;
pub use lease::LeaseId;
pub use memory::{MemoryStore, Snapshot};
pub use overlord_reconcile::{Change, Changes, Clock, Entry, Listing, Revision, TokioClock};
pub use source::PrefixSource;
pub use txn::{Committed, Compare, Txn, Write};

/// How much of the entries a listing brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fetch {
    /// Keys and values.
    Values,
    /// Keys and revisions only; values are empty.
    KeysOnly,
}

/// The store as the rest of the system sees it. Every call has a time limit of its own.
#[async_trait]
pub trait Store: Debug + Send + Sync + 'static {
    /// Reads one key, linearizably. The listing has zero or one entry, and the store's revision.
    async fn get(&self, key: &str) -> Result<Listing, Error>;

    /// Reads every key with the prefix at one revision, in pages.
    async fn list(&self, prefix: &str, fetch: Fetch) -> Result<Listing, Error>;

    /// Streams changes of keys with the prefix after revision `after`. Survives reconnection inside
    /// where that is possible without a gap. That `after` is compacted shows in the stream, as its
    /// last item; so does a store that stays away for long, and one that is older than what was read.
    async fn watch(&self, prefix: &str, after: Revision) -> Result<Changes, Error>;

    /// Commits all writes if all compares hold, else nothing. [`Error::Unanswered`] leaves open which.
    async fn commit(&self, txn: Txn) -> Result<Committed, Error>;

    /// Makes a lease of `ttl` (whole seconds, at least 1).
    async fn lease_grant(&self, ttl: Duration) -> Result<LeaseId, Error>;

    /// Renews a lease once. `Ok(None)`: it is gone.
    async fn lease_keep_alive(&self, lease: LeaseId) -> Result<Option<Duration>, Error>;

    /// Ends a lease and deletes its keys. A lease that is gone already is no error.
    async fn lease_revoke(&self, lease: LeaseId) -> Result<(), Error>;
}
