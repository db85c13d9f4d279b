//! How a controller stands: kept while it runs, read by its API and by metrics.

use std::{
    fmt,
    sync::{Arc, Mutex},
};

use jiff::Timestamp;
use overlord_api::{MesosStanding, MesosState, Role, Standing, StoreWentBack};
use overlord_reconcile::Clock;
use prometheus_client::{metrics::gauge::Gauge, registry::Registry};

use crate::{
    high_water::HighWater,
    shared::{MesosLink, Shared, lock},
    views::Views,
};

/// Tells how a controller stands, at any time and without asking anybody. Clones tell of the same one.
#[derive(Clone)]
pub struct Post {
    id: Arc<str>,
    clock: Arc<dyn Clock>,
    inner: Arc<Mutex<Inner>>,
    high_water: Arc<HighWater>,
    metrics: Metrics,
}

struct Inner {
    /// Since when the role is what it is.
    since: Timestamp,
    epoch: Option<i64>,
    views: Option<Arc<Views>>,
    /// Of the term, once it has begun to act.
    term: Option<Arc<Shared>>,
}

/// `leader_election_master_status` is controller-runtime's and client-go's name.
#[derive(Debug, Clone, Default)]
struct Metrics {
    leads: Gauge,
    epoch: Gauge,
    subscribed: Gauge,
}

impl fmt::Debug for Post {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Post").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Post {
    pub(crate) fn new(id: &str, clock: &Arc<dyn Clock>, high_water: &Arc<HighWater>) -> Self {
        let inner = Inner { since: clock.now(), epoch: None, views: None, term: None };
        Self {
            id: id.into(),
            clock: Arc::clone(clock),
            inner: Arc::new(Mutex::new(inner)),
            high_water: Arc::clone(high_water),
            metrics: Metrics::default(),
        }
    }

    pub(crate) fn register_metrics(&self, registry: &mut Registry) {
        let Metrics { leads, epoch, subscribed } = &self.metrics;
        registry.register("leader_election_master_status", "1 while this controller leads", leads.clone());
        registry.register(
            "overlord_leader_epoch",
            "The term in which this controller leads, or 0",
            epoch.clone(),
        );
        registry.register(
            "overlord_mesos_subscribed",
            "1 while this controller leads and is subscribed to Mesos",
            subscribed.clone(),
        );
    }

    /// What is read from now on.
    pub(crate) fn reads(&self, views: &Arc<Views>) {
        lock(&self.inner).views = Some(Arc::clone(views));
    }

    /// The key is won, or the leadership over.
    pub(crate) fn leads(&self, epoch: Option<i64>) {
        let mut inner = lock(&self.inner);
        inner.since = self.clock.now();
        inner.epoch = epoch;
        inner.term = None;
        drop(inner);
        self.metrics.leads.set(i64::from(epoch.is_some()));
        self.metrics.epoch.set(epoch.unwrap_or(0));
        self.metrics.subscribed.set(0);
    }

    /// The term has everything it works with.
    pub(crate) fn acts(&self, term: &Arc<Shared>) {
        lock(&self.inner).term = Some(Arc::clone(term));
    }

    /// The subscription to Mesos came or went.
    pub(crate) fn subscribed(&self, subscribed: bool) {
        self.metrics.subscribed.set(i64::from(subscribed));
    }

    /// Nothing is read any more.
    pub(crate) fn ends(&self) {
        let mut inner = lock(&self.inner);
        inner.views = None;
        inner.term = None;
    }

    /// How it stands.
    pub fn standing(&self) -> Standing {
        let inner = lock(&self.inner);
        let views = inner.views.as_ref();
        let leader = views.map(|views| views.leader());
        let role = if inner.epoch.is_some() { Role::Leader } else { Role::Standby };
        Standing {
            id: self.id.to_string(),
            role,
            since: inner.since,
            epoch: inner.epoch,
            synced: views.is_some_and(|views| views.is_synced()),
            stale_since: views.and_then(|views| views.stale_since()),
            leader: leader.as_ref().and_then(|leader| leader.clone().ok().flatten()),
            no_leader_since: leader.and_then(Result::err),
            mesos: inner.epoch.map(|_| match &inner.term {
                Some(term) => with_mesos(&lock(&term.link)),
                None => MesosStanding {
                    state: MesosState::Unreachable,
                    since: Some(inner.since),
                    message: String::from("the term begins"),
                },
            }),
            store_went_back: self
                .high_water
                .went_back()
                .map(|back| StoreWentBack { known: back.known, found: back.found }),
        }
    }
}

fn with_mesos(link: &MesosLink) -> MesosStanding {
    let (state, since, message) = match link {
        MesosLink::Up => (MesosState::Subscribed, None, String::new()),
        MesosLink::Down { since, reason } => (MesosState::Unreachable, Some(*since), reason.clone()),
        MesosLink::Refused { message } => (MesosState::Refused, None, message.clone()),
        MesosLink::Removed { message } => (MesosState::Removed, None, message.clone()),
    };
    MesosStanding { state, since, message }
}
