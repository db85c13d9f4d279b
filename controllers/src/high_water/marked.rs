//! The store through which everything goes: each answer is compared with how far it was.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::StreamExt as _;
use overlord_reconcile::{Change, Changes};
use overlord_store::{Committed, Error, Fetch, LeaseId, Listing, Revision, Store, Txn};

use super::HighWater;

/// A store whose every answer is compared with how far it was.
#[derive(Debug)]
pub(crate) struct MarkedStore {
    inner: Arc<dyn Store>,
    high_water: Arc<HighWater>,
}

impl MarkedStore {
    pub(crate) fn new(inner: Arc<dyn Store>, high_water: Arc<HighWater>) -> Self {
        Self { inner, high_water }
    }
}

#[async_trait]
impl Store for MarkedStore {
    async fn get(&self, key: &str) -> Result<Listing, Error> {
        let floor = self.high_water.floor();
        let listing = self.inner.get(key).await?;
        self.high_water.answered(floor, listing.revision);
        Ok(listing)
    }

    async fn list(&self, prefix: &str, fetch: Fetch) -> Result<Listing, Error> {
        let floor = self.high_water.floor();
        let listing = self.inner.list(prefix, fetch).await?;
        self.high_water.answered(floor, listing.revision);
        Ok(listing)
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<Changes, Error> {
        let changes = self.inner.watch(prefix, after).await;
        if matches!(changes, Err(Error::WentBack { .. })) {
            self.high_water.doubt.notify_one();
        }
        let high_water = Arc::clone(&self.high_water);
        let seen = move |batch: &Result<Vec<Change>, _>| match batch {
            Ok(batch) => {
                let newest = batch.iter().map(revision_of).max().unwrap_or(0);
                // What a watch brings was committed; it may come late.
                high_water.answered(0, newest);
            }
            Err(_) => high_water.doubt.notify_one(),
        };
        Ok(changes?.inspect(seen).boxed())
    }

    async fn commit(&self, txn: Txn) -> Result<Committed, Error> {
        let floor = self.high_water.floor();
        let answer = self.inner.commit(txn).await?;
        let (Committed::Yes(revision) | Committed::No(revision)) = answer;
        self.high_water.answered(floor, revision);
        Ok(answer)
    }

    async fn lease_grant(&self, ttl: Duration) -> Result<LeaseId, Error> {
        self.inner.lease_grant(ttl).await
    }

    async fn lease_keep_alive(&self, lease: LeaseId) -> Result<Option<Duration>, Error> {
        self.inner.lease_keep_alive(lease).await
    }

    async fn lease_revoke(&self, lease: LeaseId) -> Result<(), Error> {
        self.inner.lease_revoke(lease).await
    }
}

const fn revision_of(change: &Change) -> Revision {
    match change {
        Change::Put(entry) => entry.mod_revision,
        Change::Delete { revision, .. } => *revision,
    }
}
