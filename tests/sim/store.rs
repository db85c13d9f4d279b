//! The store as each part reaches it: the in-memory one behind the network, with the oracles looking at every
//! commit.

use std::{fmt, time::Duration};

use async_trait::async_trait;
use futures::StreamExt as _;
use overlord_store::{Changes, Committed, Error, Fetch, LeaseId, Listing, MemoryStore, Revision, Store, Txn};
use tokio::time::{sleep, timeout};

use crate::{
    effects::Effects,
    gate::Gates,
    net::{Fate, Net, Peer},
    oracles::Oracles,
};

/// How long the client of etcd waits for an answer (`EtcdConfig::call_timeout`). What it gave up may still happen.
const CALL_TIMEOUT: Duration = Duration::from_secs(3);

/// Who acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Who {
    /// A person.
    User,
    /// The controller process that was started as the n-th.
    Controller(u32),
    /// A person with `etcdctl`, who may write or delete anything.
    Hand,
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
            Self::Hand => f.write_str("somebody's hand"),
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
    pub(crate) gates: Gates,
    pub(crate) effects: Effects,
}

fn unavailable(message: &str) -> Error {
    Error::Unavailable { endpoints: "http://10.0.0.100:2379".to_owned(), message: message.to_owned() }
}

impl SimStore {
    /// Asks the store, as far as it is reached.
    async fn ask<T: Send + 'static>(
        &self,
        answer: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        self.carry(answer).await.unwrap_or_else(|message| Err(unavailable(message)))
    }

    /// Carries a call there and its answer back; or says why there is none.
    async fn carry<T: Send + 'static>(
        &self,
        answer: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, &'static str> {
        let fate = self.net.fate(self.who, Peer::Store);
        let (who, gates, net) = (self.who, self.gates.clone(), self.net.clone());
        let carried = async move {
            gates.pass(who).await;
            if fate == Fate::Lost {
                return None;
            }
            let (before, after) = net.store_slowness();
            sleep(before).await;
            let answer = answer.await;
            sleep(after).await;
            (fate == Fate::Arrives).then_some(answer)
        };
        let answer = timeout(CALL_TIMEOUT, self.net.ask(carried)).await;
        // A process that is stopped hears of nothing.
        self.gates.pass(self.who).await;
        match answer {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => Err("connection reset"),
            Err(_) => Err("no answer within 3s"),
        }
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
        let (who, gates, net) = (self.who, self.gates.clone(), self.net.clone());
        let received = changes.then(move |batch| {
            let (gates, late) = (gates.clone(), net.lateness_of_news());
            async move {
                if !late.is_zero() {
                    sleep(late).await;
                }
                gates.pass(who).await;
                batch
            }
        });
        Ok(received.take_until(cut.cancelled_owned()).boxed())
    }

    async fn commit(&self, txn: Txn) -> Result<Committed, Error> {
        let Self { who, inner, oracles, effects, .. } = self.clone();
        let writes = !txn.is_empty();
        let effect = if writes { effects.begin(who, "a write to the store").await } else { 0 };
        // What it knows of its own leadership when it sends this.
        let term = oracles.term_of(who);
        let late = if writes && who != Who::User { self.net.lateness() } else { Duration::ZERO };
        let net = self.net.clone();
        if !late.is_zero() {
            net.late_leaves();
        }
        let commit = async move {
            sleep(late).await;
            oracles.look(Who::Time, None).await;
            let answer = inner.commit(txn).await;
            if let Err(error) = &answer {
                oracles.refused(who, error);
            }
            oracles.look(who, term).await;
            if !late.is_zero() {
                net.late_arrives();
            }
            effects.end(effect, who, "a write to the store").await;
            answer
        };
        // Whoever hears nothing of a commit that was sent cannot know whether it happened, or will.
        self.carry(commit).await.unwrap_or_else(|message| {
            let endpoints = "http://10.0.0.100:2379".to_owned();
            Err(Error::Unanswered { endpoints, message: message.to_owned() })
        })
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
            oracles.look(Who::Time, None).await;
            let answer = inner.lease_revoke(lease).await;
            oracles.look(who, None).await;
            answer
        };
        self.ask(revoke).await
    }
}
