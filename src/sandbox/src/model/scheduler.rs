//! Calls of schedulers: checks in the order of the master, then each call's work.

use overlord_mesos::v1::{
    FrameworkId,
    scheduler::{Call, CallType, Shutdown},
};

use super::{Answer, Model, validate};

impl Model {
    pub(super) fn scheduler_call(&mut self, stream_id: Option<&str>, call: Call) -> Answer {
        if let Some(refusal) = self.master_refuses() {
            return refusal;
        }
        if let Err(text) = validate::scheduler_call(&call) {
            return Answer::refused(400, text);
        }
        if call.kind == CallType::Subscribe {
            if stream_id.is_some() {
                return Answer::refused(
                    400,
                    "Subscribe calls should not include the 'Mesos-Stream-Id' header",
                );
            }
            return self.subscribe(call);
        }
        let id = match self.subscribed_framework(stream_id, call.framework_id.clone()) {
            Ok(id) => id,
            Err(refusal) => return refusal,
        };
        match call.kind {
            CallType::Teardown => self.remove_framework(&id),
            CallType::Accept => self.accept(&id, call.accept.unwrap_or_default()),
            CallType::Decline => {
                let decline = call.decline.unwrap_or_default();
                for offer_id in &decline.offer_ids {
                    if self.offers.get(offer_id).is_some_and(|offer| offer.framework == id)
                        && let Some(offer) = self.take_offer(offer_id)
                    {
                        let pool = offer.pool.clone();
                        self.refuse(&offer, &pool, decline.filters.as_ref());
                    }
                }
            }
            CallType::Revive => self.revive(&id, &call.revive.unwrap_or_default().roles),
            CallType::Suppress => {
                let roles = call.suppress.unwrap_or_default().roles;
                if let Some(framework) = self.frameworks.get_mut(&id) {
                    let own = framework.roles.iter().filter(|role| roles.is_empty() || roles.contains(role));
                    framework.suppressed.extend(own.cloned());
                }
            }
            CallType::Kill => self.kill(&id, call.kill.unwrap_or_default()),
            CallType::Shutdown => {
                let Shutdown { executor_id, agent_id } = call.shutdown.unwrap_or_default();
                if let Some(name) = self.agent_names.get(&agent_id).cloned() {
                    self.shut_down_executor(&name, &super::executor_key(&id, &executor_id));
                }
            }
            CallType::Acknowledge => self.acknowledge(&id, &call.acknowledge.unwrap_or_default()),
            CallType::Reconcile => self.reconcile(&id, &call.reconcile.unwrap_or_default()),
            CallType::Message => self.message_to_executor(&id, &call.message.unwrap_or_default()),
            CallType::AcceptInverseOffers => {
                self.answer_inverse_offers(&id, &call.accept_inverse_offers.unwrap_or_default(), true);
            }
            CallType::DeclineInverseOffers => {
                self.answer_inverse_offers(&id, &call.decline_inverse_offers.unwrap_or_default(), false);
            }
            CallType::AcknowledgeOperationStatus => {
                self.acknowledge_operation(&id, &call.acknowledge_operation_status.unwrap_or_default());
            }
            CallType::ReconcileOperations => {
                self.reconcile_operations(&id, &call.reconcile_operations.unwrap_or_default());
            }
            CallType::UpdateFramework => {
                return self.update_framework(&id, call.update_framework.unwrap_or_default());
            }
            // The allocator of Mesos does not listen to REQUEST.
            CallType::Request | CallType::Subscribe | CallType::Unknown => {}
        }
        Answer::Accepted
    }

    /// The framework, if the call may pass: known, subscribed, on its own stream.
    pub(super) fn subscribed_framework(
        &self,
        stream_id: Option<&str>,
        id: Option<FrameworkId>,
    ) -> Result<FrameworkId, Answer> {
        let Some(id) = id else {
            let text = "Failed to validate scheduler::Call: Expecting 'framework_id' to be present";
            return Err(Answer::refused(400, text));
        };
        let Some(framework) = self.frameworks.get(&id).filter(|framework| !framework.forgotten) else {
            return Err(Answer::refused(400, "Framework cannot be found"));
        };
        let Some((_, own)) = &framework.subscription else {
            return Err(Answer::refused(403, "Framework is not subscribed"));
        };
        let Some(given) = stream_id else {
            let text = "All non-subscribe calls should include the 'Mesos-Stream-Id' header";
            return Err(Answer::refused(400, text));
        };
        if given != own {
            let text = format!(
                "The stream ID '{given}' included in this request didn't match the stream ID currently associated \
                 with framework ID {id}"
            );
            return Err(Answer::refused(400, text));
        }
        Ok(id)
    }

    /// The principal that a framework subscribed with, for calls that come with credentials.
    pub(crate) fn principal_of(&self, id: &FrameworkId) -> Option<&str> {
        self.frameworks.get(id)?.info.principal.as_deref()
    }

    fn revive(&mut self, id: &FrameworkId, roles: &[String]) {
        let Some(framework) = self.frameworks.get_mut(id) else { return };
        let revived: Vec<String> =
            framework.roles.iter().filter(|role| roles.is_empty() || roles.contains(role)).cloned().collect();
        framework.filters.retain(|(_, role), _| !revived.contains(role));
        for role in &revived {
            framework.suppressed.remove(role);
        }
        self.allocate();
    }
}
