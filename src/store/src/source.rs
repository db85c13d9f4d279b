//! One prefix of the store as a source of the reconcile loop.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use overlord_reconcile::{Change, Changes, Listing, Revision, Source, SourceError};

use crate::{Fetch, Store};

/// Lists and watches the keys with one prefix.
#[derive(Debug, Clone)]
pub struct PrefixSource {
    store: Arc<dyn Store>,
    prefix: Arc<str>,
    fetch: Fetch,
}

impl PrefixSource {
    /// A source of `prefix`. With [`Fetch::KeysOnly`] the values of changes are empty too, so that
    /// nothing downstream holds them.
    pub fn new(store: Arc<dyn Store>, prefix: impl Into<Arc<str>>, fetch: Fetch) -> Self {
        Self { store, prefix: prefix.into(), fetch }
    }
}

#[async_trait]
impl Source for PrefixSource {
    async fn list(&self) -> Result<Listing, SourceError> {
        Ok(self.store.list(&self.prefix, self.fetch).await?)
    }

    async fn watch(&self, after: Revision) -> Result<Changes, SourceError> {
        let changes = self.store.watch(&self.prefix, after).await?;
        Ok(match self.fetch {
            Fetch::Values => changes,
            Fetch::KeysOnly => changes.map_ok(without_values).boxed(),
        })
    }
}

/// etcd has no watch without values, so they are dropped here.
fn without_values(mut changes: Vec<Change>) -> Vec<Change> {
    for change in &mut changes {
        if let Change::Put(entry) = change {
            entry.value = Bytes::new();
        }
    }
    changes
}
