//! The store as each part reaches it: the in-memory one behind the network, with the oracles looking at every
//! commit.

use std::{fmt, time::Duration};

use async_trait::async_trait;
use futures::StreamExt as _;
use overlord_store::{Changes, Committed, Error, Fetch, LeaseId, Listing, MemoryStore, Revision, Store, Txn};

use crate::{
    net::{Fate, Net, Peer},
    oracles::Oracles,
};

/// Who acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Who {
    /// A person.
    User,
    /// The controller process that was started as the n-th.
    Controller(u32),
    /// An executor.
    Executor,
    /// Nobody: a lease ended.
    Time,
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User => f.write_str("user"),
            Self::Controller(n) => write!(f, "controller-{n}"),
            Self::Executor => f.write_str("executor"),
            Self::Time => f.write_str("time"),
        }
    }
}

/// One part's way to the store.
#[derive(Debug, Clone)]
pub(crate) struct SimStore {
    pub(crate) who: Who,
    pub(crate) inner: MemoryStore,
    pub(crate) net: Net,
    pub(crate) oracles: Oracles,
}

impl SimStore {
    /// Asks the store, as far as it is reached.
    async fn ask<T: Send + 'static>(
        &self,
        answer: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let fate = self.net.fate(self.who, Peer::Store);
        let carried = async move {
            let answer = if fate == Fate::Lost { None } else { Some(answer.await) };
            answer.filter(|_| fate == Fate::Arrives)
        };
        self.net.ask(carried).await.unwrap_or_else(|| {
            let endpoints = "http://10.0.0.100:2379".to_owned();
            Err(Error::Unavailable { endpoints, message: "connection reset".to_owned() })
        })
    }
}

#[async_trait]
impl Store for SimStore {
    async fn get(&self, key: &str) -> Result<Listing, Error> {
        let (inner, key) = (self.inner.clone(), key.to_owned());
        self.ask(async move { inner.get(&key).await }).await
    }

    async fn list(&self, prefix: &str, fetch: Fetch) -> Result<Listing, Error> {
        let (inner, prefix) = (self.inner.clone(), prefix.to_owned());
        self.ask(async move { inner.list(&prefix, fetch).await }).await
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<Changes, Error> {
        let (inner, prefix) = (self.inner.clone(), prefix.to_owned());
        let cut = self.net.cut_token(Peer::Store);
        let changes = self.ask(async move { inner.watch(&prefix, after).await }).await?;
        Ok(changes.take_until(cut.cancelled_owned()).boxed())
    }

    async fn commit(&self, txn: Txn) -> Result<Committed, Error> {
        let Self { who, inner, oracles, .. } = self.clone();
        let commit = async move {
            oracles.look(Who::Time).await;
            let answer = inner.commit(txn).await;
            if let Err(error) = &answer {
                oracles.refused(who, error);
            }
            oracles.look(who).await;
            answer
        };
        self.ask(commit).await
    }

    async fn lease_grant(&self, ttl: Duration) -> Result<LeaseId, Error> {
        let inner = self.inner.clone();
        self.ask(async move { inner.lease_grant(ttl).await }).await
    }

    async fn lease_keep_alive(&self, lease: LeaseId) -> Result<Option<Duration>, Error> {
        let inner = self.inner.clone();
        self.ask(async move { inner.lease_keep_alive(lease).await }).await
    }

    async fn lease_revoke(&self, lease: LeaseId) -> Result<(), Error> {
        let (inner, oracles, who) = (self.inner.clone(), self.oracles.clone(), self.who);
        let revoke = async move {
            oracles.look(Who::Time).await;
            let answer = inner.lease_revoke(lease).await;
            oracles.look(who).await;
            answer
        };
        self.ask(revoke).await
    }
}
