//! The offers at hand as placement sees them: one value per agent and role, made when an offer comes or goes and not
//! by each pass; and, of very many, the ones that are worth looking at.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp};
use overlord_api::{Domain, Placement};
use overlord_mesos::{
    OfferBook,
    offers::role_of,
    resources,
    v1::{AgentId, Attribute, Offer, OfferId, Unavailability},
};
use overlord_placement::{HostOffer, is_eligible};

use crate::settings::{ATTRIBUTE_DATA, ATTRIBUTE_IP, DEFAULT_DATA_ROOT};

/// MiB, the unit of Mesos' mem and disk.
pub(crate) const MIB: u64 = 1024 * 1024;

/// Nothing is launched on an agent whose maintenance begins within this time.
const AHEAD: SignedDuration = SignedDuration::from_hours(1);

/// Up to so many offers all are looked at.
const ALL: usize = 256;

/// Of more than [`ALL`], at least so many for each member that is placed.
const PER_MEMBER: usize = 4;

/// When an agent is planned to be away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Away {
    pub(crate) from: Timestamp,
    /// For ever when absent.
    pub(crate) until: Option<Timestamp>,
}

impl Away {
    pub(crate) fn of(unavailability: &Unavailability) -> Self {
        let at = |nanoseconds: i64| Timestamp::from_nanosecond(nanoseconds.into()).ok();
        let start = unavailability.start.nanoseconds;
        let end = unavailability.duration.map(|duration| start.saturating_add(duration.nanoseconds));
        Self { from: at(start).unwrap_or(Timestamp::MIN), until: end.and_then(at) }
    }

    /// Whether it is over.
    pub(crate) fn is_past(&self, now: Timestamp) -> bool {
        self.until.is_some_and(|until| until <= now)
    }

    /// Whether it has begun or begins soon.
    fn is_near(&self, now: Timestamp) -> bool {
        self.from.duration_since(now) <= AHEAD && !self.is_past(now)
    }
}

impl std::fmt::Display for Away {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "from {:.0}", self.from)?;
        match self.until {
            Some(until) => write!(f, " to {until:.0}"),
            None => f.write_str(" on"),
        }
    }
}

/// What an agent offers to a role.
#[derive(Debug)]
struct Group {
    offers: BTreeSet<OfferId>,
    /// Nothing when it cannot be used.
    host: Option<Arc<HostOffer>>,
}

type GroupKey = (AgentId, String);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct AtHand {
    groups: BTreeMap<GroupKey, Group>,
    of: BTreeMap<OfferId, GroupKey>,
    /// What is known of agents that are planned to be away.
    away: BTreeMap<AgentId, Away>,
}

impl AtHand {
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Maintenance of an agent is announced, or is not any more.
    pub(crate) fn announce(&mut self, agent: &AgentId, away: Option<Away>) {
        match away {
            Some(away) => self.away.insert(agent.clone(), away),
            None => self.away.remove(agent),
        };
    }

    /// When an agent is planned to be away.
    pub(crate) fn away(&self, agent: &AgentId) -> Option<Away> {
        self.away.get(agent).copied()
    }

    /// The book took offers: those of them that it holds are at hand. Gives what is new.
    pub(crate) fn insert(&mut self, book: &OfferBook, offers: &[Offer]) -> Vec<Arc<HostOffer>> {
        let mut touched: BTreeSet<GroupKey> = BTreeSet::new();
        for offer in offers {
            // An agent's offers say what is planned of it, always.
            self.announce(&offer.agent_id, offer.unavailability.as_ref().map(Away::of));
            if book.offer(&offer.id).is_some() && !self.of.contains_key(&offer.id) {
                let key = (offer.agent_id.clone(), role_of(offer).to_owned());
                self.of.insert(offer.id.clone(), key.clone());
                let group = self.groups.entry(key.clone());
                let group = group.or_insert_with(|| Group { offers: BTreeSet::new(), host: None });
                group.offers.insert(offer.id.clone());
                touched.insert(key);
            }
        }
        touched.into_iter().filter_map(|key| self.refresh(book, &key)).collect()
    }

    /// An offer is at hand no more.
    pub(crate) fn remove(&mut self, book: &OfferBook, offer: &OfferId) {
        let Some(key) = self.of.remove(offer) else { return };
        if let Some(group) = self.groups.get_mut(&key) {
            group.offers.remove(offer);
        }
        self.refresh(book, &key);
    }

    /// An agent is lost.
    pub(crate) fn remove_agent(&mut self, agent: &AgentId) {
        let from = (agent.clone(), String::new());
        let of_agent = self.groups.range(from..).take_while(|((of, _), _)| of == agent);
        let keys: Vec<GroupKey> = of_agent.map(|(key, _)| key.clone()).collect();
        for group in keys.iter().filter_map(|key| self.groups.remove(key)) {
            for offer in &group.offers {
                self.of.remove(offer);
            }
        }
        self.away.remove(agent);
    }

    /// The book gave up the offers to a role.
    pub(crate) fn remove_role(&mut self, role: &str) {
        self.groups.retain(|(_, of), _| of != role);
        self.of.retain(|_, (_, of)| of != role);
    }

    fn refresh(&mut self, book: &OfferBook, key: &GroupKey) -> Option<Arc<HostOffer>> {
        let group = self.groups.get_mut(key)?;
        let offers: Vec<&Offer> = group.offers.iter().filter_map(|id| book.offer(id)).collect();
        if offers.is_empty() {
            self.groups.remove(key);
            return None;
        }
        group.host = host_offer(&key.0, &key.1, &offers).map(Arc::new);
        group.host.clone()
    }

    /// Whether nothing is at hand.
    pub(crate) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// The offers of an agent to a role.
    pub(crate) fn ids(&self, agent: &AgentId, role: &str) -> Vec<OfferId> {
        let group = self.groups.get(&(agent.clone(), role.to_owned()));
        group.map(|group| group.offers.iter().cloned().collect()).unwrap_or_default()
    }

    /// Everything that may be used now, and how many agents may not because they go into maintenance.
    pub(crate) fn usable(&self, now: Timestamp) -> (Vec<Arc<HostOffer>>, usize) {
        let mut avoided: BTreeSet<&AgentId> = BTreeSet::new();
        let usable = self.groups.iter().filter_map(|((agent, _), group)| {
            let host = group.host.as_ref()?;
            if self.away.get(agent).is_some_and(|away| away.is_near(now)) {
                avoided.insert(agent);
                return None;
            }
            Some(Arc::clone(host))
        });
        let usable = usable.collect();
        (usable, avoided.len())
    }
}

/// The least that a member needs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Least {
    pub(crate) cpu_millis: u64,
    pub(crate) mem: u64,
    pub(crate) disk: u64,
}

impl Least {
    pub(crate) const fn fits(&self, offer: &HostOffer) -> bool {
        self.cpu_millis <= offer.cpu_millis && self.mem <= offer.mem && self.disk <= offer.disk
    }
}

/// What a pass looks for.
#[derive(Debug, Clone)]
pub(crate) struct Wish<'a> {
    pub(crate) rules: &'a Placement,
    /// How many members are to be placed.
    pub(crate) members: usize,
    pub(crate) least: Least,
    /// Hosts that some of them were on.
    pub(crate) hosts: BTreeSet<IpAddr>,
    /// Whether they may only have these hosts.
    pub(crate) only_hosts: bool,
    /// Hosts of other members of the cluster.
    pub(crate) occupied: BTreeSet<IpAddr>,
}

/// The offers worth looking at, when there are very many: those of the hosts that are asked for, and of each rack and
/// zone that matters those with most left. A choice among them is as good as one among all as long as it finds a place
/// for everybody: the best of each domain is always among them. Nothing: all are worth it.
pub(crate) fn narrow(offers: &[Arc<HostOffer>], wish: &Wish<'_>) -> Option<Vec<Arc<HostOffer>>> {
    let enough = ALL.max(wish.members.saturating_mul(PER_MEMBER));
    if offers.len() <= enough {
        return None;
    }
    let by = |domain: Domain| wish.rules.spread.iter().any(|spread| spread.by == domain);
    let (by_host, by_rack, by_zone) = (by(Domain::Host), by(Domain::Rack), by(Domain::Zone));
    let most_cpu = offers.iter().map(|offer| offer.cpu_millis).max().unwrap_or(0).max(1);
    let most_mem = offers.iter().map(|offer| offer.mem).max().unwrap_or(0).max(1);
    let share = |part: u64, whole: u64| u128::from(part) * 65_536 / u128::from(whole);
    let left = |offer: &HostOffer| {
        let (cpu, mem) = (share(offer.cpu_millis, most_cpu), share(offer.mem, most_mem));
        (cpu.min(mem), cpu + mem)
    };
    let mut chosen: Vec<Arc<HostOffer>> = Vec::new();
    let mut groups: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for offer in offers {
        if wish.hosts.contains(&offer.host) {
            chosen.push(Arc::clone(offer));
            continue;
        }
        // Others come before them, and there are plenty.
        let late = by_host && wish.occupied.contains(&offer.host);
        let fits = wish.least.fits(offer) && !late;
        if wish.only_hosts || !fits || !is_eligible(offer, wish.rules) {
            continue;
        }
        let rack = offer.rack.as_deref().filter(|_| by_rack);
        let zone = offer.zone.as_deref().filter(|_| by_zone);
        let ranked = (Reverse(left(offer)), offer.agent_id.as_str(), offer);
        groups.entry((rack, zone)).or_default().push(ranked);
    }
    let of_each = enough.div_ceil(groups.len().max(1)).max(2);
    for mut group in groups.into_values() {
        if group.len() > of_each {
            group.select_nth_unstable_by(of_each, |a, b| (a.0, a.1).cmp(&(b.0, b.1)));
            group.truncate(of_each);
        }
        chosen.extend(group.into_iter().map(|(_, _, offer)| Arc::clone(offer)));
    }
    Some(chosen)
}

/// The failure domains of an agent, as far as it tells them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Domains {
    pub(crate) rack: Option<String>,
    pub(crate) zone: Option<String>,
}

impl Domains {
    pub(crate) fn of(offer: &Offer) -> Self {
        Self { rack: attribute(offer, "rack"), zone: attribute(offer, "zone").or_else(|| fault_zone(offer)) }
    }
}

fn host_offer(agent: &AgentId, role: &str, offers: &[&Offer]) -> Option<HostOffer> {
    let first = offers.first()?;
    let host = address_of(first)?;
    let all: Vec<_> = offers.iter().flat_map(|offer| offer.resources.iter().cloned()).collect();
    let totals = resources::totals(&all).remove(role).unwrap_or_default();
    let whole = |value: f64| if value.is_finite() && value > 0.0 { value } else { 0.0 };
    let port = |port: u64| u16::try_from(port).ok();
    let Domains { rack, zone } = Domains::of(first);
    Some(HostOffer {
        agent_id: agent.to_string(),
        offer_ids: offers.iter().map(|offer| offer.id.to_string()).collect(),
        host,
        hostname: first.hostname.clone(),
        rack,
        zone,
        attributes: first.attributes.iter().filter_map(|a| Some((a.name.clone(), text(a)?))).collect(),
        cpu_millis: (whole(totals.cpus) * 1000.0).floor() as u64,
        mem: (whole(totals.mem) as u64).saturating_mul(MIB),
        disk: (whole(totals.disk) as u64).saturating_mul(MIB),
        ports: totals.ports.iter().filter_map(|r| Some((port(r.begin)?, port(r.end)?))).collect(),
        role: role.to_owned(),
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
pub(crate) fn data_root(offer: &Offer) -> String {
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

#[cfg(test)]
mod tests;
