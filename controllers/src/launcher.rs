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
    offers::role_of,
    resources,
    v1::{AgentId, Attribute, Offer, OfferId},
};
use overlord_placement::{HostOffer, Placed, Placement, Request, World, assign};
use overlord_reconcile::{Clock, Trigger};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{
    settings::{ATTRIBUTE_DATA, ATTRIBUTE_IP, DEFAULT_DATA_ROOT},
    shared::{Subject, lock},
};

/// MiB, the unit of Mesos' mem and disk.
pub(crate) const MIB: u64 = 1024 * 1024;

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
    /// Members that share the hosts they must keep away from.
    pub(crate) groups: &'a [Group],
    pub(crate) rules: &'a overlord_api::Placement,
    pub(crate) members: u32,
    pub(crate) placed: &'a [Placed],
    pub(crate) taken: BTreeSet<Address>,
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
    /// Who could not be placed, and in which roles.
    demand: BTreeMap<ClusterName, Vec<String>>,
    /// Agents that made an offer or spoke in this subscription: they are registered.
    registered: BTreeSet<AgentId>,
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
        let state = State { book, demand: BTreeMap::new(), registered: BTreeSet::new(), subscription: 0 };
        Self { state: Mutex::new(state), desk: Arc::default(), roles, mesos, clock, trigger }
    }

    /// A new subscription stands, or none: all offers are void, and nobody knows who is registered.
    pub(crate) fn clear(&self) {
        let mut state = lock(&self.state);
        state.book.clear();
        state.registered.clear();
        state.subscription = 0;
        drop(state);
        self.desk.wake.notify_one();
    }

    /// Offers came: whoever waits for some looks again.
    pub(crate) fn offered(&self, subscription: u64, offers: Vec<Offer>) {
        let mut state = lock(&self.state);
        state.subscription = subscription;
        for offer in &offers {
            state.registered.insert(offer.agent_id.clone());
        }
        state.book.insert(offers, self.clock.monotonic());
        for cluster in state.demand.keys() {
            self.trigger.enqueue(Subject::Cluster(cluster.clone()));
        }
        drop(state);
        self.desk.wake.notify_one();
    }

    pub(crate) fn rescinded(&self, offer: &OfferId) {
        lock(&self.state).book.rescind(offer);
    }

    pub(crate) fn agent_lost(&self, agent: &AgentId) {
        let mut state = lock(&self.state);
        state.book.remove_agent(agent);
        state.registered.remove(agent);
    }

    pub(crate) fn agent_seen(&self, agent: &AgentId) {
        lock(&self.state).registered.insert(agent.clone());
    }

    pub(crate) fn is_registered(&self, agent: &AgentId) -> bool {
        lock(&self.state).registered.contains(agent)
    }

    /// Nothing of this cluster waits for offers.
    pub(crate) fn content(&self, cluster: &ClusterName) {
        let mut state = lock(&self.state);
        if state.demand.remove(cluster).is_some() {
            self.update_wants(&mut state);
            drop(state);
            self.desk.wake.notify_one();
        }
    }

    /// Places what can be placed with the offers at hand; the rest is remembered as demand, and the
    /// cluster looks again when offers come.
    pub(crate) fn place(&self, wanted: Wanted<'_>) -> Granted {
        let Wanted { cluster, groups, rules, members, placed, taken } = wanted;
        self.place_by(cluster, rules, taken, |offers, taken| {
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

    /// Lets `decide` choose places among the offers at hand, given every address that is taken, and hands out
    /// the offers it used. When it refuses anything, that is remembered as demand, and the cluster looks again
    /// when offers come.
    pub(crate) fn place_by(
        &self,
        cluster: &ClusterName,
        rules: &overlord_api::Placement,
        mut taken: BTreeSet<Address>,
        decide: impl FnOnce(&[HostOffer], &BTreeSet<Address>) -> Found,
    ) -> Granted {
        let mut state = lock(&self.state);
        self.take_back(&mut state);
        taken.extend(lock(&self.desk.reserved).iter().copied());
        let offers = host_offers(&state.book);
        let Found { placements, refused } = decide(&offers, &taken);
        let grants = self.grant(&mut state, placements, &offers);
        if refused.is_some() {
            state.demand.insert(cluster.clone(), self.wanted_roles(rules));
        } else {
            state.demand.remove(cluster);
        }
        self.update_wants(&mut state);
        drop(state);
        self.desk.wake.notify_one();
        Granted { grants, refused }
    }

    /// Hands out the offers of every agent that something was placed on.
    fn grant(&self, state: &mut State, placements: Vec<Placement>, offers: &[HostOffer]) -> Vec<Grant> {
        let mut by_agent: BTreeMap<(String, String), Vec<Placement>> = BTreeMap::new();
        for placement in placements {
            by_agent.entry((placement.agent_id.clone(), placement.role.clone())).or_default().push(placement);
        }
        let mut grants = Vec::new();
        for ((agent, role), placements) in by_agent {
            let ids: Vec<OfferId> = offers
                .iter()
                .filter(|offer| offer.agent_id == agent && offer.role == role)
                .flat_map(|offer| offer.offer_ids.iter().map(OfferId::new))
                .collect();
            // Held under this lock since they were listed.
            let Some(offers) = state.book.take(&ids) else { continue };
            lock(&self.desk.reserved).extend(placements.iter().flat_map(ports_of));
            grants.push(Grant {
                agent: AgentId::new(agent),
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
        let now = self.clock.monotonic();
        for (subscription, offers) in std::mem::take(&mut *lock(&self.desk.returned)) {
            if subscription == state.subscription {
                state.book.insert(offers, now);
            }
        }
    }

    /// An ACCEPT was sent: what it left over is wanted back while anybody waits.
    pub(crate) fn accepted(&self, role: &str) {
        lock(&self.state).book.accepted(role);
        self.desk.wake.notify_one();
    }

    /// The framework's roles that a cluster may use.
    fn wanted_roles(&self, rules: &overlord_api::Placement) -> Vec<String> {
        self.roles.iter().filter(|role| rules.roles.contains(role)).cloned().collect()
    }

    fn update_wants(&self, state: &mut State) {
        for role in &self.roles {
            if state.demand.values().any(|roles| roles.contains(role)) {
                state.book.want(role);
            } else {
                state.book.unwant(role);
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

/// One sentence about members without a place.
pub(crate) fn refusal(outcome: &overlord_placement::Outcome, offers: &[HostOffer]) -> String {
    let n = outcome.refusals.len();
    let members = if n == 1 { "1 member has" } else { &format!("{n} members have") };
    if offers.is_empty() {
        return format!("{members} no place: no agent offers anything");
    }
    let first = outcome.refusals.first().map(ToString::to_string).unwrap_or_default();
    format!("{members} no place: {first}")
}

/// The offers at hand as placement sees them, one per agent and role.
fn host_offers(book: &OfferBook) -> Vec<HostOffer> {
    book.by_agent()
        .into_iter()
        .filter_map(|((agent, role), offers)| host_offer(agent, role, &offers))
        .collect()
}

fn host_offer(agent: &AgentId, role: &str, offers: &[&Offer]) -> Option<HostOffer> {
    let first = offers.first()?;
    let host = address_of(first)?;
    let all: Vec<_> = offers.iter().flat_map(|offer| offer.resources.iter().cloned()).collect();
    let totals = resources::totals(&all).remove(role).unwrap_or_default();
    let whole = |value: f64| if value.is_finite() && value > 0.0 { value } else { 0.0 };
    let port = |port: u64| u16::try_from(port).ok();
    Some(HostOffer {
        agent_id: agent.to_string(),
        offer_ids: offers.iter().map(|offer| offer.id.to_string()).collect(),
        host,
        hostname: first.hostname.clone(),
        rack: attribute(first, "rack"),
        zone: attribute(first, "zone").or_else(|| fault_zone(first)),
        attributes: first.attributes.iter().filter_map(|a| Some((a.name.clone(), text(a)?))).collect(),
        cpu_millis: (whole(totals.cpus) * 1000.0).floor() as u64,
        mem: (whole(totals.mem) as u64).saturating_mul(MIB),
        disk: (whole(totals.disk) as u64).saturating_mul(MIB),
        ports: totals.ports.iter().filter_map(|r| Some((port(r.begin)?, port(r.end)?))).collect(),
        role: role_of(first).to_owned(),
    })
}

/// The agent's ip: its own attribute first, then what it registered with. Never a name look-up.
fn address_of(offer: &Offer) -> Option<IpAddr> {
    let text = attribute(offer, ATTRIBUTE_IP).or_else(|| offer.url.as_ref()?.address.ip.clone());
    let ip = text.as_deref().and_then(|text| text.parse().ok());
    if ip.is_none() {
        tracing::warn!(agent = %offer.agent_id, hostname = offer.hostname, "offer without an ip is not used");
    }
    ip
}

/// Where instances on the offer's agent keep their files.
fn data_root(offer: &Offer) -> String {
    attribute(offer, ATTRIBUTE_DATA).unwrap_or_else(|| DEFAULT_DATA_ROOT.to_owned())
}

fn fault_zone(offer: &Offer) -> Option<String> {
    Some(offer.domain.as_ref()?.fault_domain.as_ref()?.zone.name.clone()).filter(|zone| !zone.is_empty())
}

fn attribute(offer: &Offer, name: &str) -> Option<String> {
    offer.attributes.iter().find(|attribute| attribute.name == name).and_then(text)
}

/// An attribute as text: scalars as Mesos prints them; ranges and sets have no one text.
fn text(attribute: &Attribute) -> Option<String> {
    match (&attribute.text, &attribute.scalar) {
        (Some(text), _) => Some(text.value.clone()),
        (None, Some(scalar)) => Some(scalar.value.to_string()),
        (None, None) => None,
    }
}
