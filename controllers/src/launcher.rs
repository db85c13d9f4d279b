//! The one owner of offers: knows who wants some, hands them out under a lock so that parallel passes
//! never see the same one, and gives back what nobody wants.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::{Arc, Mutex},
};

use overlord_api::{Address, ClusterName};
use overlord_mesos::{
    Command, OfferBook, SchedulerHandle,
    v1::{AgentId, Offer, OfferId},
};
use overlord_placement::{HostOffer, Placed, Placement, Request, World, assign};
use overlord_reconcile::{Clock, Trigger};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{
    at_hand::{AtHand, Away, Domains, Wish, data_root, narrow},
    demand::{Demand, Demands},
    ledger::Ledger,
    shared::{Subject, lock},
};

pub(crate) use crate::at_hand::MIB;

/// Members placed on one agent, and the offers to launch them with. Dropped, it frees its addresses (by
/// then they are recorded, or not used), and gives back the offers unless they were used.
#[derive(Debug)]
pub(crate) struct Grant {
    pub(crate) agent: AgentId,
    pub(crate) data_root: String,
    pub(crate) role: String,
    pub(crate) offers: Vec<Offer>,
    pub(crate) placements: Vec<Placement>,
    /// The subscription that the offers belong to.
    subscription: u64,
    used: bool,
    desk: Arc<Desk>,
}

impl Grant {
    /// The offers went out with an ACCEPT.
    pub(crate) fn used(&mut self) {
        self.used = true;
    }

    /// One of the offers is void.
    pub(crate) fn void(&mut self, offer: &OfferId) {
        self.offers.retain(|held| held.id != *offer);
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        let mut reserved = lock(&self.desk.reserved);
        for address in self.placements.iter().flat_map(ports_of) {
            reserved.remove(&address);
        }
        drop(reserved);
        if !self.used {
            let offers = std::mem::take(&mut self.offers);
            lock(&self.desk.returned).push((self.subscription, offers));
            self.desk.wake.notify_one();
        }
    }
}

/// Where grants give back what they did not use.
#[derive(Debug, Default)]
struct Desk {
    /// Addresses of grants that are not settled.
    reserved: Mutex<BTreeSet<Address>>,
    /// Offers that were not used, with the subscription they belong to.
    returned: Mutex<Vec<(u64, Vec<Offer>)>>,
    wake: Notify,
}

/// What a choice among offers came to.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) placements: Vec<Placement>,
    /// Why some members have no place: one sentence.
    pub(crate) refused: Option<String>,
}

impl Found {
    /// Those of `offers` that nothing was placed on yet: what a choice used of an agent is not counted down, so its
    /// offers are out of the question for the next one.
    pub(crate) fn unused(&self, offers: &[HostOffer]) -> Vec<HostOffer> {
        let used: BTreeSet<(&str, &str)> =
            self.placements.iter().map(|p| (p.agent_id.as_str(), p.role.as_str())).collect();
        let unused =
            offers.iter().filter(|offer| !used.contains(&(offer.agent_id.as_str(), offer.role.as_str())));
        unused.cloned().collect()
    }
}

/// What placing came to.
#[derive(Debug)]
pub(crate) struct Granted {
    pub(crate) grants: Vec<Grant>,
    /// Why some members have no place: one sentence.
    pub(crate) refused: Option<String>,
}

/// What a pass wants placed.
#[derive(Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) cluster: &'a ClusterName,
    pub(crate) wish: Wish<'a>,
    /// Addresses that are recorded and free for this cluster all the same.
    pub(crate) own: BTreeSet<Address>,
}

/// Members to be placed, and the hosts they must keep away from.
#[derive(Debug, Default)]
pub(crate) struct Group {
    pub(crate) requests: Vec<Request>,
    pub(crate) exclude_hosts: BTreeSet<IpAddr>,
}

#[derive(Debug)]
struct State {
    book: OfferBook,
    hand: AtHand,
    /// Who could not be placed, and what they wait for.
    demands: Demands,
    /// Agents that made an offer or spoke in this subscription: they are registered.
    registered: BTreeSet<AgentId>,
    /// Of agents that tell them in their offers. An agent's id outlives its offers, and the subscription.
    domains: BTreeMap<AgentId, Domains>,
    /// The subscription whose offers are in the book.
    subscription: u64,
}

/// See the module.
pub(crate) struct Launcher {
    state: Mutex<State>,
    desk: Arc<Desk>,
    roles: Vec<String>,
    mesos: SchedulerHandle,
    clock: Arc<dyn Clock>,
    trigger: Trigger<Subject>,
}

impl Launcher {
    pub(crate) fn new(
        roles: Vec<String>,
        mesos: SchedulerHandle,
        clock: Arc<dyn Clock>,
        trigger: Trigger<Subject>,
    ) -> Self {
        let book = OfferBook::new(overlord_mesos::OfferBookConfig::default(), roles.iter().cloned());
        let state = State {
            book,
            hand: AtHand::default(),
            demands: Demands::default(),
            registered: BTreeSet::new(),
            domains: BTreeMap::new(),
            subscription: 0,
        };
        Self { state: Mutex::new(state), desk: Arc::default(), roles, mesos, clock, trigger }
    }

    /// A new subscription stands, or none: all offers are void, and nobody knows who is registered.
    pub(crate) fn clear(&self) {
        let mut state = lock(&self.state);
        state.book.clear();
        state.hand.clear();
        state.registered.clear();
        state.subscription = 0;
        drop(state);
        self.desk.wake.notify_one();
    }

    /// Offers came: those who wait for such look again.
    pub(crate) fn offered(&self, subscription: u64, offers: Vec<Offer>) {
        let mut state = lock(&self.state);
        state.subscription = subscription;
        for offer in &offers {
            state.registered.insert(offer.agent_id.clone());
            let domains = Domains::of(offer);
            if domains != Domains::default() && state.domains.get(&offer.agent_id) != Some(&domains) {
                state.domains.insert(offer.agent_id.clone(), domains);
            }
        }
        self.arrived(&mut state, offers);
        drop(state);
        self.desk.wake.notify_one();
    }

    fn arrived(&self, state: &mut State, offers: Vec<Offer>) {
        let State { book, hand, demands, .. } = state;
        book.insert(offers.iter().cloned(), self.clock.monotonic());
        for cluster in demands.arrived(&hand.insert(book, &offers)) {
            self.trigger.enqueue(Subject::Cluster(cluster));
        }
    }

    /// The next of those who wait looks at what is at hand.
    fn wake_next(&self, state: &mut State) {
        if !state.hand.is_empty()
            && let Some(cluster) = state.demands.next()
        {
            self.trigger.enqueue(Subject::Cluster(cluster));
        }
    }

    pub(crate) fn rescinded(&self, offer: &OfferId) {
        let State { book, hand, .. } = &mut *lock(&self.state);
        book.rescind(offer);
        hand.remove(book, offer);
    }

    pub(crate) fn agent_lost(&self, agent: &AgentId) {
        let mut state = lock(&self.state);
        state.book.remove_agent(agent);
        state.hand.remove_agent(agent);
        state.registered.remove(agent);
        state.domains.remove(agent);
    }

    /// In which rack and zone these agents are, as far as their offers have told it.
    pub(crate) fn domains<'a>(&self, agents: impl Iterator<Item = &'a str>) -> Vec<Domains> {
        let state = lock(&self.state);
        agents.map(|agent| state.domains.get(&AgentId::new(agent)).cloned().unwrap_or_default()).collect()
    }

    pub(crate) fn agent_seen(&self, agent: &AgentId) {
        let mut state = lock(&self.state);
        if !state.registered.contains(agent) {
            state.registered.insert(agent.clone());
        }
    }

    pub(crate) fn is_registered(&self, agent: &AgentId) -> bool {
        lock(&self.state).registered.contains(agent)
    }

    /// Maintenance of an agent is announced. Whether that is news.
    pub(crate) fn announced(&self, agent: &AgentId, away: Away) -> bool {
        let mut state = lock(&self.state);
        let news = state.hand.away(agent) != Some(away);
        state.hand.announce(agent, Some(away));
        news
    }

    /// Maintenance of an agent is not planned any more.
    pub(crate) fn called_off(&self, agent: &AgentId) {
        lock(&self.state).hand.announce(agent, None);
    }

    /// Nothing of this cluster waits for offers.
    pub(crate) fn content(&self, cluster: &ClusterName) {
        let mut state = lock(&self.state);
        if state.demands.remove(cluster) {
            self.update_wants(&mut state);
            self.wake_next(&mut state);
            drop(state);
            self.desk.wake.notify_one();
        }
    }

    /// Places the members of `groups` as far as the offers at hand allow; the rest is remembered as demand, and the
    /// cluster looks again when offers come.
    pub(crate) fn place(
        &self,
        ledger: &Ledger,
        wanted: Wanted<'_>,
        groups: &[Group],
        members: u32,
        placed: &[Placed],
    ) -> Granted {
        let rules = wanted.wish.rules;
        self.place_by(ledger, wanted, |offers, taken| {
            let mut taken = taken.clone();
            let mut placed = placed.to_vec();
            let mut found = Found::default();
            for group in groups.iter().filter(|group| !group.requests.is_empty()) {
                let offers = found.unused(offers);
                let world = World {
                    rules,
                    members,
                    placed: &placed,
                    offers: &offers,
                    taken: &taken,
                    exclude_hosts: &group.exclude_hosts,
                };
                let outcome = assign(&group.requests, &world);
                if !outcome.refusals.is_empty() {
                    found.refused.get_or_insert_with(|| refusal(&outcome, &offers));
                }
                for placement in &outcome.placements {
                    taken.extend(ports_of(placement));
                    placed.push(Placed {
                        member: placement.member,
                        address: placement.address,
                        rack: placement.rack.clone(),
                        zone: placement.zone.clone(),
                        bus_port: placement.bus_port,
                    });
                }
                found.placements.extend(outcome.placements);
            }
            found
        })
    }

    /// Lets `decide` choose places among the offers at hand, given every address that is taken there, and hands out
    /// the offers it used. When it refuses anything, that is remembered as demand, and the cluster looks again
    /// when offers come. Of very many offers the most promising are tried first, and all before a refusal.
    pub(crate) fn place_by(
        &self,
        ledger: &Ledger,
        wanted: Wanted<'_>,
        decide: impl Fn(&[HostOffer], &BTreeSet<Address>) -> Found,
    ) -> Granted {
        let Wanted { cluster, wish, own } = wanted;
        let now = self.clock.now();
        let mut state = lock(&self.state);
        self.take_back(&mut state);
        let attempt = |offers: &[Arc<HostOffer>]| {
            let hosts: BTreeSet<IpAddr> = offers.iter().map(|offer| offer.host).collect();
            let mut taken = ledger.taken(&hosts, now);
            taken.retain(|address| !own.contains(address));
            taken.extend(lock(&self.desk.reserved).iter().copied());
            let offers: Vec<HostOffer> = offers.iter().map(|offer| HostOffer::clone(offer)).collect();
            decide(&offers, &taken)
        };
        let (usable, avoided) = state.hand.usable(now);
        let narrowed = narrow(&usable, &wish).map(|offers| attempt(&offers));
        let Found { placements, refused } =
            narrowed.filter(|found| found.refused.is_none()).unwrap_or_else(|| attempt(&usable));
        let roles: Vec<String> =
            self.roles.iter().filter(|role| wish.rules.roles.contains(role)).cloned().collect();
        let refused = refused.map(|why| explained(&why, avoided, &roles, &wish.rules.roles, &self.roles));
        let placed: usize = placements.len();
        let grants = self.grant(&mut state, placements);
        let granted: usize = grants.iter().map(|grant| grant.placements.len()).sum();
        if refused.is_some() || granted < placed {
            let hosts = wish.only_hosts.then_some(wish.hosts);
            state.demands.insert(cluster, Demand { roles, least: wish.least, hosts });
        } else {
            state.demands.remove(cluster);
        }
        self.update_wants(&mut state);
        self.wake_next(&mut state);
        drop(state);
        self.desk.wake.notify_one();
        Granted { grants, refused }
    }

    /// Hands out the offers of every agent that something was placed on.
    fn grant(&self, state: &mut State, placements: Vec<Placement>) -> Vec<Grant> {
        let mut by_agent: BTreeMap<(String, String), Vec<Placement>> = BTreeMap::new();
        for placement in placements {
            by_agent.entry((placement.agent_id.clone(), placement.role.clone())).or_default().push(placement);
        }
        let mut grants = Vec::new();
        for ((agent, role), placements) in by_agent {
            let agent = AgentId::new(agent);
            let ids = state.hand.ids(&agent, &role);
            // Held under this lock since they were listed.
            let Some(offers) = state.book.take(&ids) else {
                tracing::error!(%agent, role, "offers at hand that the book does not hold");
                for id in &ids {
                    state.hand.remove(&state.book, id);
                }
                continue;
            };
            for id in &ids {
                state.hand.remove(&state.book, id);
            }
            lock(&self.desk.reserved).extend(placements.iter().flat_map(ports_of));
            grants.push(Grant {
                agent,
                data_root: offers.first().map_or_else(String::new, data_root),
                role,
                offers,
                placements,
                subscription: state.subscription,
                used: false,
                desk: Arc::clone(&self.desk),
            });
        }
        grants
    }

    /// Takes back the offers that grants did not use; those of an older subscription are void.
    fn take_back(&self, state: &mut State) {
        let returned = std::mem::take(&mut *lock(&self.desk.returned));
        for (subscription, offers) in returned {
            if subscription == state.subscription {
                self.arrived(state, offers);
            }
        }
    }

    /// An ACCEPT was sent: what it left over is wanted back while anybody waits.
    pub(crate) fn accepted(&self, role: &str) {
        lock(&self.state).book.accepted(role);
        self.desk.wake.notify_one();
    }

    fn update_wants(&self, state: &mut State) {
        for role in &self.roles {
            if state.demands.wants(role) {
                state.book.want(role);
            } else if state.book.is_wanted(role) {
                state.book.unwant(role);
                state.hand.remove_role(role);
            }
        }
    }

    /// Carries out the book's commands, until `shutdown`.
    pub(crate) async fn run(&self, shutdown: CancellationToken) {
        loop {
            let now = self.clock.monotonic();
            let (commands, next) = {
                let mut state = lock(&self.state);
                // Without a subscription there is nobody to tell; the next one starts anew.
                self.take_back(&mut state);
                if self.mesos.subscription().is_some() {
                    let commands = state.book.poll(now);
                    let State { book, hand, .. } = &mut *state;
                    for command in &commands {
                        if let Command::Decline { offer_ids, .. } = command {
                            for id in offer_ids {
                                hand.remove(book, id);
                            }
                        }
                    }
                    (commands, state.book.next_deadline())
                } else {
                    (Vec::new(), None)
                }
            };
            for command in commands {
                let sent = match command.clone() {
                    Command::Decline { offer_ids, refuse_seconds } => {
                        self.mesos.decline(offer_ids, refuse_seconds).await
                    }
                    Command::Revive { roles } => self.mesos.revive(roles).await,
                    Command::Suppress { roles } => self.mesos.suppress(roles).await,
                };
                if let Err(error) = sent {
                    tracing::debug!(%error, "offer call not taken");
                    lock(&self.state).book.failed(command, self.clock.monotonic());
                }
            }
            let pause = next.map(|next| next.saturating_sub(self.clock.monotonic()));
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                () = self.desk.wake.notified() => {}
                () = sleep(pause) => {}
            }
        }
    }
}

async fn sleep(pause: Option<std::time::Duration>) {
    match pause {
        // At least a millisecond: the clock and the timer may round differently.
        Some(pause) => tokio::time::sleep(pause.max(std::time::Duration::from_millis(1))).await,
        None => std::future::pending().await,
    }
}

/// The addresses that a placement takes: data, and bus if it has one.
fn ports_of(placement: &Placement) -> impl Iterator<Item = Address> + use<> {
    let ip = placement.address.ip;
    let bus = placement.bus_port.map(|port| Address::new(ip, port));
    std::iter::once(placement.address).chain(bus)
}

/// A refusal with what placement cannot know: agents that are left out, and roles that nobody has.
fn explained(why: &str, avoided: usize, usable: &[String], wanted: &[String], ours: &[String]) -> String {
    if usable.is_empty() {
        let (wanted, ours) = (wanted.join(", "), ours.join(", "));
        return format!("{why}; placement.roles is {wanted}, and the framework has the roles {ours} only");
    }
    match avoided {
        0 => why.to_owned(),
        1 => format!("{why}; 1 agent is left out, which goes into maintenance"),
        n => format!("{why}; {n} agents are left out, which go into maintenance"),
    }
}

/// One sentence about members without a place.
pub(crate) fn refusal(outcome: &overlord_placement::Outcome, offers: &[HostOffer]) -> String {
    let n = outcome.refusals.len();
    let members = if n == 1 { "1 member has" } else { &format!("{n} members have") };
    if offers.is_empty() {
        return format!("{members} no place: no agent that could take them offers anything");
    }
    let first = outcome.refusals.first().map(ToString::to_string).unwrap_or_default();
    format!("{members} no place: {first}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_roles_that_nobody_has_and_agents_that_are_left_out() {
        let list = |roles: &[&str]| roles.iter().map(|role| (*role).to_owned()).collect::<Vec<_>>();
        let (ours, wanted) = (list(&["*", "dev"]), list(&["prod"]));
        assert_eq!(
            explained("1 member has no place", 3, &[], &wanted, &ours),
            "1 member has no place; placement.roles is prod, and the framework has the roles *, dev only"
        );
        let text = |avoided| explained("no place", avoided, &ours, &ours, &ours);
        assert_eq!(text(0), "no place");
        assert_eq!(text(1), "no place; 1 agent is left out, which goes into maintenance");
        assert_eq!(text(2), "no place; 2 agents are left out, which go into maintenance");
    }
}
