//! Announced maintenance: people are told which members are concerned, and the master whether anything of ours still
//! stands in the way.

use std::{collections::BTreeMap, sync::Mutex, time::Duration};

use overlord_api::{EventLevel, Info, State, keys};
use overlord_mesos::{
    CallError,
    v1::{AgentId, InverseOffer, OfferId},
};
use tokio_util::sync::CancellationToken;

use crate::{
    at_hand::Away,
    events::Happening,
    ledger::Value,
    shared::{Shared, lock},
};

/// The master asks again after this long when something of ours is still there ...
const ASK_AGAIN_SECONDS: f64 = 30.0;

/// ... and when nothing is.
const AGREED_SECONDS: f64 = 300.0;

/// Before an answer that the master did not take is given again.
const RETRY: Duration = Duration::from_secs(5);

/// Inverse offers beyond this number are left unanswered: the master asks again.
const MOST: usize = 10_000;

/// The inverse offers that were not answered yet.
#[derive(Debug, Default)]
pub(crate) struct Maintenance {
    asked: Mutex<BTreeMap<OfferId, Option<AgentId>>>,
    wake: tokio::sync::Notify,
}

impl Maintenance {
    /// The subscription ended, and its inverse offers with it.
    pub(crate) fn clear(&self) {
        lock(&self.asked).clear();
    }

    /// The master wants agents back.
    pub(crate) fn announced(&self, shared: &Shared, offers: Vec<InverseOffer>) {
        for offer in offers {
            if let Some(agent) = &offer.agent_id {
                let away = Away::of(&offer.unavailability);
                if shared.launcher.announced(agent, away) {
                    tell(shared, agent, away);
                }
            }
            let mut asked = lock(&self.asked);
            if asked.len() < MOST {
                asked.insert(offer.id, offer.agent_id);
            }
        }
        self.wake.notify_one();
    }

    /// It does not any more, or asks in other words.
    pub(crate) fn rescinded(&self, shared: &Shared, offer: &OfferId) {
        if let Some(Some(agent)) = lock(&self.asked).remove(offer) {
            shared.launcher.called_off(&agent);
        }
    }

    /// Answers, until `shutdown`. The master keeps the last answer of each for the operator to see.
    pub(crate) async fn run(&self, shared: &Shared, shutdown: CancellationToken) {
        loop {
            let asked = lock(&self.asked).clone();
            let (held, free): (Vec<_>, Vec<_>) = asked.into_iter().partition(|(_, agent)| match agent {
                Some(agent) => is_in_use(shared, agent),
                // Everything that we have.
                None => true,
            });
            let ids = |offers: Vec<(OfferId, _)>| offers.into_iter().map(|(id, _)| id).collect::<Vec<_>>();
            let (held, free) = (ids(held), ids(free));
            let mut failed = false;
            if !free.is_empty() {
                let sent = shared.mesos.accept_inverse_offers(free.clone(), AGREED_SECONDS).await;
                failed |= !self.settle(&free, sent);
            }
            if !held.is_empty() {
                let sent = shared.mesos.decline_inverse_offers(held.clone(), ASK_AGAIN_SECONDS).await;
                failed |= !self.settle(&held, sent);
            }
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                () = self.wake.notified() => {}
                () = tokio::time::sleep(RETRY), if failed => {}
            }
        }
    }

    /// What was answered is not open any more. What was not stays so: the master asks once for each.
    fn settle(&self, offers: &[OfferId], sent: Result<(), CallError>) -> bool {
        match sent {
            Ok(()) => {
                let mut asked = lock(&self.asked);
                for offer in offers {
                    asked.remove(offer);
                }
                true
            }
            Err(error) => {
                tracing::debug!(%error, "inverse offers not answered");
                false
            }
        }
    }
}

/// The recorded instances on an agent that may run.
fn on_agent(shared: &Shared, agent: &AgentId) -> Vec<(overlord_api::ClusterName, std::sync::Arc<Info>)> {
    let spots = shared.ledger.index.on_agent(agent.as_str());
    let infos = spots.into_iter().filter_map(|(cluster, address)| {
        let seen = shared.ledger.clusters.get(&keys::info(&cluster, address))?;
        match &*seen.value {
            Value::Info(info) if !matches!(info.observed.state, State::Failed | State::Gone) => {
                Some((cluster, std::sync::Arc::clone(info)))
            }
            _ => None,
        }
    });
    infos.collect()
}

fn is_in_use(shared: &Shared, agent: &AgentId) -> bool {
    !on_agent(shared, agent).is_empty()
}

/// Tells of each member on the agent.
fn tell(shared: &Shared, agent: &AgentId, away: Away) {
    if away.is_past(shared.clock.now()) {
        return;
    }
    for (cluster, info) in on_agent(shared, agent) {
        let (member, address) = (info.member, info.address());
        let message = format!(
            "member {member} at {address} is on agent {agent}, for which maintenance is announced {away}: it is away with it, unless it is moved before"
        );
        let object = format!("member/{member}");
        let level = EventLevel::Warning;
        shared
            .events
            .record(cluster.as_str(), Happening { object, reason: "AgentMaintenance", level, message });
    }
}
