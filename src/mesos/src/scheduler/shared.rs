//! What handles and driver share: the standing subscription and the offers that are open in it.

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use crate::v1::{FrameworkId, FrameworkInfo, Offer, OfferId};

/// A master with so many offers in our hands is broken, or we are.
const MAX_OPEN_OFFERS: usize = 100_000;

/// A subscription that stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Live {
    pub(super) framework_id: FrameworkId,
    pub(super) stream_id: String,
    pub(super) number: u64,
}

/// What a call's answer says about the subscription it was made in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Void {
    /// The master knows of no subscription.
    Forgotten,
    /// Somebody else subscribed with our framework id.
    TakenOver,
}

#[derive(Debug, Default)]
struct State {
    live: Option<Live>,
    number: u64,
    open: BTreeSet<OfferId>,
    void: Option<(u64, Void, String)>,
    torn_down: bool,
    profile: Profile,
}

/// Who subscribes, and in which of its roles it wants nothing.
#[derive(Debug, Clone, Default)]
pub(super) struct Profile {
    pub(super) framework: FrameworkInfo,
    pub(super) suppressed_roles: Vec<String>,
}

#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    void: Notify,
}

impl Shared {
    pub(super) fn new(framework: FrameworkInfo, suppressed_roles: Vec<String>) -> Self {
        let profile = Profile { framework, suppressed_roles };
        Self { state: Mutex::new(State { profile, ..State::default() }), void: Notify::new() }
    }

    pub(super) fn profile(&self) -> Profile {
        self.state().profile.clone()
    }

    /// Changes what the next subscription says; gives what it would have said.
    pub(super) fn set_profile(&self, profile: Profile) -> Profile {
        std::mem::replace(&mut self.state().profile, profile)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn live(&self) -> Option<Live> {
        self.state().live.clone()
    }

    /// A subscription stands; gives its number.
    pub(super) fn connected(&self, framework_id: FrameworkId, stream_id: String) -> u64 {
        let mut state = self.state();
        state.number += 1;
        let number = state.number;
        state.live = Some(Live { framework_id, stream_id, number });
        state.open.clear();
        state.void = None;
        number
    }

    pub(super) fn disconnected(&self) {
        let mut state = self.state();
        state.live = None;
        state.open.clear();
    }

    /// Notes offers; false when there are far too many.
    pub(super) fn offered(&self, offers: &[Offer]) -> bool {
        let mut state = self.state();
        state.open.extend(offers.iter().map(|offer| offer.id.clone()));
        state.open.len() <= MAX_OPEN_OFFERS
    }

    pub(super) fn rescinded(&self, offer: &OfferId) {
        self.state().open.remove(offer);
    }

    /// Takes all of these offers out of the open ones, or none: then the first that is not open is given.
    pub(super) fn use_offers(&self, number: u64, offers: &[OfferId]) -> Result<(), OfferId> {
        let mut state = self.state();
        let current = state.live.as_ref().is_some_and(|live| live.number == number);
        if let Some(stale) = offers.iter().find(|offer| !current || !state.open.contains(offer)) {
            return Err(stale.clone());
        }
        for offer in offers {
            state.open.remove(offer);
        }
        Ok(())
    }

    /// Takes those of the offers that are open out of the open ones.
    pub(super) fn drop_offers(&self, number: u64, mut offers: Vec<OfferId>) -> Vec<OfferId> {
        let mut state = self.state();
        let current = state.live.as_ref().is_some_and(|live| live.number == number);
        offers.retain(|offer| current && state.open.remove(offer));
        offers
    }

    /// Gives offers back that a call did not use after all.
    pub(super) fn reopen_offers(&self, number: u64, offers: &[OfferId]) {
        let mut state = self.state();
        if state.live.as_ref().is_some_and(|live| live.number == number) {
            state.open.extend(offers.iter().cloned());
        }
    }

    pub(super) fn set_torn_down(&self, torn_down: bool) {
        self.state().torn_down = torn_down;
    }

    pub(super) fn is_torn_down(&self) -> bool {
        self.state().torn_down
    }

    /// Tells the driver that its subscription is no good although its stream is open.
    pub(super) fn declare_void(&self, number: u64, void: Void, message: &str) {
        self.state().void = Some((number, void, message.to_owned()));
        self.void.notify_one();
    }

    /// Waits until the subscription with this number is declared void.
    pub(super) async fn voided(&self, number: u64) -> (Void, String) {
        loop {
            self.void.notified().await;
            match self.state().void.take() {
                Some((of, void, message)) if of == number => return (void, message),
                _ => {}
            }
        }
    }
}
