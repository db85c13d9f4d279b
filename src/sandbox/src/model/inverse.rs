//! Inverse offers: frameworks with something on a machine that will be unavailable are asked to go.

use std::{collections::BTreeSet, time::Duration};

use overlord_mesos::v1::{
    FrameworkId, InverseOffer, OfferId,
    scheduler::{AnswerInverseOffers, Event, EventType, InverseOffers, RescindInverseOffer},
};

use super::{Model, offers};

/// An inverse offer that nobody has answered.
#[derive(Debug)]
pub(crate) struct OpenInverseOffer {
    pub(crate) framework: FrameworkId,
    pub(crate) agent: String,
}

impl Model {
    /// Asks whoever has something on a machine that is due; when to ask again those who do not want to be asked now.
    pub(super) fn make_inverse_offers(&mut self) -> Option<Duration> {
        if self.maintenance.is_empty() {
            return None;
        }
        let mut again: Option<Duration> = None;
        let names: Vec<String> = self
            .agents
            .iter()
            .filter(|(_, agent)| agent.is_registered())
            .map(|(name, _)| name.clone())
            .collect();
        for name in names {
            let Some(unavailability) = self.unavailability_of(&name) else { continue };
            for id in self.frameworks_on(&name) {
                let Some(agent) = self.agents.get(&name) else { continue };
                let (agent_id, url) = (agent.id.clone(), agent.url());
                let asked = |open: &OpenInverseOffer| open.framework == id && open.agent == name;
                let Some(framework) = self.frameworks.get(&id).filter(|f| f.subscription.is_some()) else {
                    continue;
                };
                let open = |offer| self.inverse_offers.get(offer).is_some_and(asked);
                if framework.inverse_offers.iter().any(open) {
                    continue;
                }
                if let Some(until) =
                    framework.inverse_filters.get(&agent_id).filter(|until| **until > self.now)
                {
                    again = Some(again.map_or(*until, |earlier| earlier.min(*until)));
                    continue;
                }
                let offer_id = OfferId::new(format!("{}-O{}", self.master_id, self.next.offer));
                self.next.offer += 1;
                let open = OpenInverseOffer { framework: id.clone(), agent: name.clone() };
                self.inverse_offers.insert(offer_id.clone(), open);
                if let Some(framework) = self.frameworks.get_mut(&id) {
                    framework.inverse_offers.insert(offer_id.clone());
                }
                let offer = InverseOffer {
                    id: offer_id,
                    url: Some(url),
                    framework_id: id.clone(),
                    agent_id: Some(agent_id),
                    unavailability,
                    ..InverseOffer::default()
                };
                let offers = Some(InverseOffers { inverse_offers: vec![offer] });
                let kind = EventType::InverseOffers;
                self.send_to(&id, Event { kind, inverse_offers: offers, ..Event::default() });
            }
        }
        again
    }

    /// Frameworks that use something of an agent, or are offered it.
    fn frameworks_on(&self, name: &str) -> BTreeSet<FrameworkId> {
        let Some(agent) = self.agents.get(name) else { return BTreeSet::new() };
        let offered = agent.offers.iter().filter_map(|offer| Some(self.offers.get(offer)?.framework.clone()));
        let running = agent.executors.keys().map(|(framework, _)| framework.clone());
        let tasks = self.tasks_by_agent.get(&agent.id).into_iter().flatten().map(|(id, _)| id.clone());
        offered.chain(running).chain(tasks).collect()
    }

    pub(super) fn answer_inverse_offers(
        &mut self,
        id: &FrameworkId,
        answer: &AnswerInverseOffers,
        accept: bool,
    ) {
        for offer in &answer.inverse_offer_ids {
            if self.inverse_offers.get(offer).is_none_or(|open| open.framework != *id) {
                continue;
            }
            let Some(open) = self.inverse_offers.remove(offer) else { continue };
            let refused = offers::refusal(answer.filters.as_ref());
            let until = self.now.saturating_add(refused);
            let agent_id = self.agents.get(&open.agent).map(|agent| agent.id.clone());
            if let (Some(framework), Some(agent_id)) = (self.frameworks.get_mut(id), agent_id) {
                framework.inverse_offers.remove(offer);
                framework.inverse_filters.insert(agent_id, until);
            }
            self.note_maintenance_answer(&open.agent, id, if accept { "ACCEPT" } else { "DECLINE" });
            self.allocate_by(until);
        }
    }

    /// Takes back what an agent's frameworks were asked.
    pub(super) fn rescind_inverse_offers(&mut self, name: &str) {
        let own: Vec<(OfferId, FrameworkId)> = self
            .inverse_offers
            .iter()
            .filter(|(_, open)| open.agent == name)
            .map(|(offer, open)| (offer.clone(), open.framework.clone()))
            .collect();
        let agent_id = self.agents.get(name).map(|agent| agent.id.clone());
        for (offer, id) in own {
            self.inverse_offers.remove(&offer);
            if let Some(framework) = self.frameworks.get_mut(&id) {
                framework.inverse_offers.remove(&offer);
            }
            let rescind = Some(RescindInverseOffer { inverse_offer_id: offer });
            let kind = EventType::RescindInverseOffer;
            self.send_to(&id, Event { kind, rescind_inverse_offer: rescind, ..Event::default() });
        }
        if let Some(agent_id) = agent_id {
            for framework in self.frameworks.values_mut() {
                framework.inverse_filters.remove(&agent_id);
            }
        }
    }

    /// Forgets what a framework was asked: it is away, or back with another stream.
    pub(super) fn forget_inverse_offers_of(&mut self, id: &FrameworkId) {
        let Some(framework) = self.frameworks.get_mut(id) else { return };
        for offer in std::mem::take(&mut framework.inverse_offers) {
            self.inverse_offers.remove(&offer);
        }
    }
}
