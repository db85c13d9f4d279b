//! The store on a real etcd (3.4 or newer).

mod config;
mod endpoints;
mod failure;
mod pages;
mod watch;
mod wire;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use etcd_client::{GetOptions, GetResponse, TxnOpResponse};

pub use self::{
    config::{EtcdConfig, TlsConfig},
    pages::Pages,
};
use self::{
    endpoints::{Endpoints, Repeat},
    failure::Refusal,
};
use crate::{Changes, Committed, Error, Fence, Fetch, LeaseId, Listing, Revision, Store, Txn, lease};

/// etcd, through one endpoint at a time.
#[derive(Debug, Clone)]
pub struct EtcdStore {
    endpoints: Arc<Endpoints>,
}

impl EtcdStore {
    /// Checks the configuration. Connections are made by the first call, which must run inside tokio.
    pub fn new(config: EtcdConfig) -> Result<Self, Error> {
        config.check()?;
        Ok(Self { endpoints: Arc::new(Endpoints::new(&config)) })
    }

    /// The keys with the prefix and their values, page by page: as [`Store::list`], without holding all of it.
    pub fn pages(&self, prefix: &str) -> Pages {
        Pages::new(Arc::clone(&self.endpoints), prefix, Fetch::Values)
    }
}

#[async_trait]
impl Store for EtcdStore {
    async fn get(&self, key: &str) -> Result<Listing, Error> {
        let mut answer = self
            .endpoints
            .range(key.as_bytes(), &[], &GetOptions::new())
            .await
            .map_err(Refusal::into_error)?;
        Ok(Listing {
            revision: revision_of(&answer),
            entries: answer.take_kvs().into_iter().map(wire::entry).collect(),
        })
    }

    async fn list(&self, prefix: &str, fetch: Fetch) -> Result<Listing, Error> {
        let mut pages = Pages::new(Arc::clone(&self.endpoints), prefix, fetch);
        let mut entries = Vec::new();
        while let Some(page) = pages.next().await? {
            entries.extend(page);
        }
        Ok(Listing { revision: pages.revision(), entries })
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<Changes, Error> {
        watch::open(Arc::clone(&self.endpoints), prefix, after).await
    }

    async fn commit(&self, txn: Txn) -> Result<Committed, Error> {
        txn.check_size()?;
        let request = wire::transaction(&txn);
        let answer = self
            .endpoints
            .call("txn", Repeat::IfUnapplied, |mut clients| {
                let request = request.clone();
                async move { clients.kv.txn(request).await }
            })
            .await
            .map_err(|refusal| match refusal {
                Refusal::LeaseGone => Error::LeaseGone(txn.first_lease()),
                Refusal::RequestTooLarge => {
                    Error::TooLarge { operations: txn.operations(), bytes: txn.bytes() }
                }
                refusal => refusal.into_error(),
            })?;
        let revision = answer.header().map_or(0, etcd_client::ResponseHeader::revision);
        if answer.succeeded() {
            return Ok(Committed::Yes(revision));
        }
        match &txn.fence {
            Some(fence) if !holds(fence, &answer.op_responses()) => Err(Error::Fenced(fence.clone())),
            _ => Ok(Committed::No(revision)),
        }
    }

    async fn lease_grant(&self, ttl: Duration) -> Result<LeaseId, Error> {
        // An answer lost on the way leaves a lease that nobody knows: it ends by itself.
        let seconds = i64::try_from(lease::whole_seconds(ttl)).unwrap_or(i64::MAX);
        let answer = self
            .endpoints
            .call("lease grant", Repeat::Harmless, |mut clients| async move {
                clients.lease.grant(seconds, None).await
            })
            .await
            .map_err(Refusal::into_error)?;
        Ok(answer.id())
    }

    async fn lease_keep_alive(&self, lease: LeaseId) -> Result<Option<Duration>, Error> {
        let answer = self
            .endpoints
            .call("lease keep-alive", Repeat::Harmless, |mut clients| async move {
                // Opening the stream renews the lease once, but the client keeps that answer's
                // time-to-live to itself.
                let (mut keeper, mut answers) = clients.lease.keep_alive(lease).await?;
                keeper.keep_alive().await?;
                Ok(answers.message().await?.map(|answer| answer.ttl()))
            })
            .await;
        match answer {
            Ok(Some(ttl)) => Ok(u64::try_from(ttl).ok().filter(|ttl| *ttl > 0).map(Duration::from_secs)),
            Ok(None) => Err(Error::Other("lease keep-alive stream closed without an answer".to_owned())),
            Err(Refusal::LeaseGone) => Ok(None),
            Err(refusal) => Err(refusal.into_error()),
        }
    }

    async fn lease_revoke(&self, lease: LeaseId) -> Result<(), Error> {
        let answer =
            self.endpoints
                .call("lease revoke", Repeat::Harmless, |mut clients| async move {
                    clients.lease.revoke(lease).await
                })
                .await;
        match answer {
            Ok(_) | Err(Refusal::LeaseGone) => Ok(()),
            Err(refusal) => Err(refusal.into_error()),
        }
    }
}

/// The store's revision when it answered.
fn revision_of(answer: &GetResponse) -> Revision {
    answer.header().map_or(0, etcd_client::ResponseHeader::revision)
}

impl Endpoints {
    /// One page of a listing, or one key when `end` is empty.
    async fn range(&self, start: &[u8], end: &[u8], options: &GetOptions) -> Result<GetResponse, Refusal> {
        self.call("range", Repeat::Harmless, |mut clients| {
            let start = start.to_vec();
            let options = options.clone();
            let options = if end.is_empty() { options } else { options.with_range(end) };
            async move { clients.kv.get(start, Some(options)).await }
        })
        .await
    }

    /// The revision of now, linearizably: no member that lags behind answers this.
    async fn revision(&self) -> Result<Revision, Refusal> {
        let options = GetOptions::new().with_limit(1).with_keys_only();
        Ok(revision_of(&self.range(&[0], &[], &options).await?))
    }
}

fn holds(fence: &Fence, answers: &[TxnOpResponse]) -> bool {
    answers.iter().any(|answer| match answer {
        TxnOpResponse::Get(found) => found.kvs().iter().any(|kv| kv.create_revision() == fence.epoch),
        TxnOpResponse::Put(_) | TxnOpResponse::Delete(_) | TxnOpResponse::Txn(_) => false,
    })
}
