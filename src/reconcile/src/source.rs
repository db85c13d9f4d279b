//! What the loop reads from: a keyed, revisioned collection that can be listed and watched.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

/// A store revision: grows with every change anywhere in the store.
pub type Revision = i64;

/// One key and its value at a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The full key.
    pub key: Arc<str>,
    /// The value; empty in keys-only listings.
    pub value: Bytes,
    /// Revision at which the key was created.
    pub create_revision: Revision,
    /// Revision of the last change of the key.
    pub mod_revision: Revision,
    /// The lease the key is bound to; 0 means none.
    pub lease: i64,
}

/// All entries of a source at one revision, in key order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// The entries, sorted by key.
    pub entries: Vec<Entry>,
    /// The store's revision at which they were read: watch after this one.
    pub revision: Revision,
}

/// One change of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The key was written.
    Put(Entry),
    /// The key was deleted at `revision`.
    Delete {
        /// The full key.
        key: Arc<str>,
        /// The deleting revision.
        revision: Revision,
    },
}

/// Why a source cannot be read now.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The asked revision is gone: list again.
    #[error("revision {0} is compacted")]
    Compacted(Revision),
    /// The store does not answer, or the stream broke: try again after a while.
    #[error("source unavailable")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// A stream of batches; the changes of one store transaction are never split over batches.
pub type Changes = BoxStream<'static, Result<Vec<Change>, SourceError>>;

/// Something that can be listed, then watched from the list's revision.
#[async_trait]
pub trait Source: Send + Sync + 'static {
    /// Reads all entries at one revision.
    async fn list(&self) -> Result<Listing, SourceError>;

    /// Streams all changes after `after`, in order, without a gap. An `Err` item or the end of the
    /// stream means that it must be opened anew.
    async fn watch(&self, after: Revision) -> Result<Changes, SourceError>;
}
