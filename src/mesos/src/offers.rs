//! The offer book: which offers we hold, and which we want. A pure state machine with one owner, who tells
//! it what happens, and carries out its commands in the order in which they come. Time is an argument.
//!
//! An offer is held only while its role is wanted and not beyond a deadline: what we hold, nobody else can
//! use. A role that is not wanted is suppressed, and its offers are refused for long; REVIVE drops those
//! refusals when the role is wanted again.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::v1::{AgentId, Offer, OfferId};

/// How the book deals with offers.
#[derive(Debug, Clone, PartialEq)]
pub struct OfferBookConfig {
    /// An offer that nobody took is declined after so long, or by `retry` later behind a call that failed.
    pub hold: Duration,
    /// Refusal for an offer that did not fit although its role is wanted; Mesos' default is 5.
    pub refuse_unused_seconds: f64,
    /// Refusal for an offer that nobody wants.
    pub refuse_unwanted_seconds: f64,
    /// Least time between two REVIVEs: each one makes the master run an allocation for the role.
    pub revive_interval: Duration,
    /// Pause before a command that failed is given again.
    pub retry: Duration,
    /// Offers beyond this number are declined at once.
    pub max_offers: usize,
}

impl Default for OfferBookConfig {
    fn default() -> Self {
        Self {
            hold: Duration::from_secs(5),
            refuse_unused_seconds: 5.0,
            refuse_unwanted_seconds: 3600.0,
            revive_interval: Duration::from_millis(200),
            retry: Duration::from_secs(1),
            max_offers: 20_000,
        }
    }
}

/// What the owner is to send.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// DECLINE.
    Decline {
        /// Which offers.
        offer_ids: Vec<OfferId>,
        /// For how long.
        refuse_seconds: f64,
    },
    /// REVIVE.
    Revive {
        /// For which roles; never empty.
        roles: Vec<String>,
    },
    /// SUPPRESS.
    Suppress {
        /// For which roles; never empty.
        roles: Vec<String>,
    },
}

#[derive(Debug, Default)]
struct Role {
    wanted: bool,
    suppressed: bool,
    revive: bool,
}

#[derive(Debug)]
struct Held {
    offer: Offer,
    until: Duration,
}

/// The offers of one subscription.
#[derive(Debug)]
pub struct OfferBook {
    config: OfferBookConfig,
    roles: BTreeMap<String, Role>,
    held: BTreeMap<OfferId, Held>,
    deadlines: BTreeSet<(Duration, OfferId)>,
    agents: BTreeSet<(AgentId, OfferId)>,
    /// To be declined; the flag says for long.
    declined: BTreeMap<OfferId, bool>,
    revived: Option<Duration>,
    /// No command before this time, after one that failed.
    not_before: Duration,
}

impl OfferBook {
    /// A book for a framework in these roles, of which none is wanted.
    pub fn new<S: Into<String>>(config: OfferBookConfig, roles: impl IntoIterator<Item = S>) -> Self {
        Self {
            config,
            roles: roles.into_iter().map(|role| (role.into(), Role::default())).collect(),
            held: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            agents: BTreeSet::new(),
            declined: BTreeMap::new(),
            revived: None,
            not_before: Duration::ZERO,
        }
    }

    /// A new subscription stands: earlier offers are void, filters are gone, no role is suppressed.
    pub fn clear(&mut self) {
        self.held.clear();
        self.deadlines.clear();
        self.agents.clear();
        self.declined.clear();
        self.revived = None;
        self.not_before = Duration::ZERO;
        for role in self.roles.values_mut() {
            role.suppressed = false;
            role.revive = false;
        }
    }

    /// Offers came.
    pub fn insert(&mut self, offers: impl IntoIterator<Item = Offer>, now: Duration) {
        for offer in offers {
            if self.held.contains_key(&offer.id) || self.declined.contains_key(&offer.id) {
                continue;
            }
            let wanted = self.roles.get(role_of(&offer)).is_some_and(|role| role.wanted);
            if !wanted || self.held.len() >= self.config.max_offers {
                self.declined.insert(offer.id, !wanted);
                continue;
            }
            let until = now + self.config.hold;
            self.deadlines.insert((until, offer.id.clone()));
            self.agents.insert((offer.agent_id.clone(), offer.id.clone()));
            self.held.insert(offer.id.clone(), Held { offer, until });
        }
    }

    /// An offer is void.
    pub fn rescind(&mut self, offer: &OfferId) {
        self.declined.remove(offer);
        self.remove(offer);
    }

    /// An agent is lost: its offers are void.
    pub fn remove_agent(&mut self, agent: &AgentId) {
        let first = (agent.clone(), OfferId::default());
        let gone: Vec<_> = self
            .agents
            .range(first..)
            .take_while(|(of, _)| of == agent)
            .map(|(_, offer)| offer.clone())
            .collect();
        for offer in gone {
            self.remove(&offer);
        }
    }

    /// The framework is in these roles from now on. New ones are not wanted yet; offers to those that it
    /// has left are declined.
    pub fn set_roles<S: Into<String>>(&mut self, roles: impl IntoIterator<Item = S>) {
        let roles: BTreeSet<String> = roles.into_iter().map(Into::into).collect();
        let left: Vec<String> = self.roles.keys().filter(|role| !roles.contains(*role)).cloned().collect();
        for role in left {
            self.unwant(&role);
            self.roles.remove(&role);
        }
        for role in roles {
            self.roles.entry(role).or_default();
        }
    }

    /// Hands these offers out, for one ACCEPT: all of them, or none when one is not held any more. They
    /// are no longer the book's.
    pub fn take(&mut self, offers: &[OfferId]) -> Option<Vec<Offer>> {
        let distinct: BTreeSet<_> = offers.iter().collect();
        if distinct.len() != offers.len() || !offers.iter().all(|offer| self.held.contains_key(offer)) {
            return None;
        }
        Some(offers.iter().filter_map(|offer| self.remove(offer)).collect())
    }

    /// An ACCEPT in this role was sent. While the role is wanted, what it left over is asked for again:
    /// by itself the master would offer it after the refusal and the next allocation only.
    pub fn accepted(&mut self, role: &str) {
        if let Some(role) = self.roles.get_mut(role) {
            role.revive = true;
        }
    }

    /// Somebody needs offers in this role. False when the framework is not in it.
    pub fn want(&mut self, role: &str) -> bool {
        let Some(role) = self.roles.get_mut(role) else { return false };
        if !role.wanted {
            role.wanted = true;
            // Long refusals may be in force, whether it is suppressed or not.
            role.revive = true;
        }
        true
    }

    /// Nobody needs offers in this role (any more): those held are declined for long.
    pub fn unwant(&mut self, role: &str) {
        let Some(state) = self.roles.get_mut(role) else { return };
        state.wanted = false;
        state.revive = false;
        let unwanted: Vec<_> =
            self.offers().filter(|offer| role_of(offer) == role).map(|offer| offer.id.clone()).collect();
        for offer in unwanted {
            self.remove(&offer);
            self.declined.insert(offer, true);
        }
    }

    /// Whether a role is wanted.
    pub fn is_wanted(&self, role: &str) -> bool {
        self.roles.get(role).is_some_and(|role| role.wanted)
    }

    /// All offers held, by id.
    pub fn offers(&self) -> impl Iterator<Item = &Offer> {
        self.held.values().map(|held| &held.offer)
    }

    /// One offer, if it is held.
    pub fn offer(&self, id: &OfferId) -> Option<&Offer> {
        self.held.get(id).map(|held| &held.offer)
    }

    /// The offers held, by agent and role: one ACCEPT can use several only within such a group.
    pub fn by_agent(&self) -> BTreeMap<(&AgentId, &str), Vec<&Offer>> {
        let mut groups: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for offer in self.offers() {
            groups.entry((&offer.agent_id, role_of(offer))).or_default().push(offer);
        }
        groups
    }

    /// The number of offers held.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether no offer is held.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// What is to be sent now. DECLINE comes before REVIVE, which would leave its filter in force.
    pub fn poll(&mut self, now: Duration) -> Vec<Command> {
        // Before that an overdue offer is held a little longer: whoever looks at what is held must not miss it
        // without having been told of its DECLINE.
        if now < self.not_before {
            return Vec::new();
        }
        while let Some((until, offer)) = self.deadlines.first().cloned()
            && until <= now
        {
            self.remove(&offer);
            self.declined.insert(offer, false);
        }
        let mut commands = Vec::new();
        let (long, short): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.declined).into_iter().partition(|(_, long)| *long);
        for (offers, refuse_seconds) in
            [(long, self.config.refuse_unwanted_seconds), (short, self.config.refuse_unused_seconds)]
        {
            let offer_ids: Vec<_> = offers.into_iter().map(|(offer, _)| offer).collect();
            if !offer_ids.is_empty() {
                commands.push(Command::Decline { offer_ids, refuse_seconds });
            }
        }
        let suppress = self.change_roles(
            |role| !role.wanted && !role.suppressed,
            |role| {
                role.suppressed = true;
                role.revive = false;
            },
        );
        if !suppress.is_empty() {
            commands.push(Command::Suppress { roles: suppress });
        }
        if self.revive_at().is_some_and(|at| at <= now) {
            let roles = self.change_roles(
                |role| role.wanted && role.revive,
                |role| {
                    role.suppressed = false;
                    role.revive = false;
                },
            );
            self.revived = Some(now);
            commands.push(Command::Revive { roles });
        }
        commands
    }

    /// A command could not be carried out: what it was for comes again after a pause. Not needed after a
    /// disconnect, since the next subscription starts anew.
    pub fn failed(&mut self, command: Command, now: Duration) {
        self.not_before = now + self.config.retry;
        match command {
            // Briefly: meanwhile the role may have been revived, and a long refusal would outlast that.
            Command::Decline { offer_ids, .. } => {
                self.declined.extend(offer_ids.into_iter().map(|offer| (offer, false)));
            }
            Command::Suppress { roles } => {
                for role in roles {
                    if let Some(role) = self.roles.get_mut(&role) {
                        role.suppressed = false;
                    }
                }
            }
            Command::Revive { roles } => {
                for role in roles {
                    self.accepted(&role);
                }
            }
        }
    }

    /// When [`poll`](Self::poll) should be called at the latest, if nothing happens before.
    pub fn next_deadline(&self) -> Option<Duration> {
        let expiry = self.deadlines.first().map(|(until, _)| *until);
        let immediate =
            !self.declined.is_empty() || self.roles.values().any(|role| !role.wanted && !role.suppressed);
        let command = immediate.then_some(Duration::ZERO).into_iter().chain(self.revive_at()).min();
        [expiry, command].into_iter().flatten().min().map(|at| at.max(self.not_before))
    }

    fn revive_at(&self) -> Option<Duration> {
        let due = self.roles.values().any(|role| role.wanted && role.revive);
        due.then(|| self.revived.map_or(Duration::ZERO, |last| last + self.config.revive_interval))
    }

    fn change_roles(&mut self, which: impl Fn(&Role) -> bool, change: impl Fn(&mut Role)) -> Vec<String> {
        let mut changed = Vec::new();
        for (name, role) in &mut self.roles {
            if which(role) {
                change(role);
                changed.push(name.clone());
            }
        }
        changed
    }

    fn remove(&mut self, offer: &OfferId) -> Option<Offer> {
        let held = self.held.remove(offer)?;
        self.deadlines.remove(&(held.until, offer.clone()));
        self.agents.remove(&(held.offer.agent_id.clone(), offer.clone()));
        Some(held.offer)
    }
}

/// The role an offer is for. A framework without `MULTI_ROLE` has but one, and its offers do not say it.
pub fn role_of(offer: &Offer) -> &str {
    offer.allocation_info.as_ref().and_then(|info| info.role.as_deref()).unwrap_or("*")
}

#[cfg(test)]
mod tests;
