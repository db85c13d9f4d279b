//! The allocator: who is offered what, and when. What is free on an agent and may be offered to a role goes to
//! it as a whole; the role and framework with the smallest dominant share are next. Allocation runs at once after
//! SUBSCRIBE, REVIVE and a new agent, else at the next multiple of the allocation interval.

use std::{collections::BTreeMap, time::Duration};

use overlord_mesos::v1::{
    Address, AllocationInfo, CapabilityType, DomainInfo, FrameworkId, Offer, OfferId, Url,
    scheduler::{Event, EventType, Filters, Offers, Rescind},
};
use rand::seq::SliceRandom as _;

use super::{
    Model,
    managed::ExecutorKind,
    pool::{Format, Pool},
    types::{Agent, Filter, Framework, OpenOffer, Timer},
};

/// What a dominant share is made of.
pub(crate) const MEASURED: [&str; 3] = ["cpus", "mem", "disk"];
/// What a refusal lasts that does not say.
const DEFAULT_REFUSAL: Duration = Duration::from_secs(5);
/// The longest refusal (Mesos caps it, too).
const LONGEST_REFUSAL: Duration = Duration::from_secs(365 * 24 * 3600);

/// Who wants offers.
struct Wanting {
    framework: FrameworkId,
    role: String,
    by_role: f64,
    by_framework: f64,
}

impl Model {
    /// Offers what is free to whoever wants it.
    pub(super) fn allocate(&mut self) {
        self.allocation_at = None;
        if !self.masters.leads() {
            return;
        }
        let mut wanting = self.wanting();
        let mut offered: BTreeMap<FrameworkId, Vec<Offer>> = BTreeMap::new();
        let mut retry: Option<Duration> = None;
        if !wanting.is_empty() {
            let mut names: Vec<String> = self.allocatable.iter().cloned().collect();
            names.shuffle(&mut self.rng);
            for name in names {
                // What one role cannot have, because it is reserved, another may.
                while let Some(index) = self.next_in_line(&name, &wanting, &mut retry) {
                    let Some(next) = wanting.get(index) else { break };
                    let (framework, role) = (next.framework.clone(), next.role.clone());
                    let Some(offer) = self.offer(&framework, &role, &name) else { break };
                    offered.entry(framework.clone()).or_default().push(offer);
                    self.update_shares(&mut wanting, &framework, &role);
                }
            }
        }
        for (framework, offers) in offered {
            let offers = Some(Offers { offers });
            self.send_to(&framework, Event { kind: EventType::Offers, offers, ..Event::default() });
        }
        if let Some(until) = self.make_inverse_offers() {
            retry = Some(retry.map_or(until, |r| r.min(until)));
        }
        if let Some(until) = retry {
            self.allocate_by(until);
        }
    }

    fn wanting(&self) -> Vec<Wanting> {
        let subscribed = self.frameworks.iter().filter(|(_, framework)| framework.subscription.is_some());
        subscribed
            .flat_map(|(id, framework)| {
                let roles = framework.roles.iter().filter(|role| !framework.suppressed.contains(*role));
                roles.map(|role| Wanting {
                    framework: id.clone(),
                    role: role.clone(),
                    by_role: self.usage.get(role).map_or(0.0, |usage| share(usage, &self.total)),
                    by_framework: framework.usage.get(role).map_or(0.0, |usage| share(usage, &self.total)),
                })
            })
            .collect()
    }

    fn update_shares(&self, wanting: &mut [Wanting], framework: &FrameworkId, role: &str) {
        let by_role = self.usage.get(role).map_or(0.0, |usage| share(usage, &self.total));
        for other in wanting.iter_mut().filter(|other| other.role == role) {
            other.by_role = by_role;
            if other.framework == *framework {
                let usage = self.frameworks.get(framework).and_then(|f| f.usage.get(role));
                other.by_framework = usage.map_or(0.0, |usage| share(usage, &self.total));
            }
        }
    }

    /// Who is offered the agent's free resources next.
    fn next_in_line(
        &mut self,
        name: &str,
        wanting: &[Wanting],
        retry: &mut Option<Duration>,
    ) -> Option<usize> {
        let agent = self.agents.get(name)?;
        if agent.free.is_empty() {
            return None;
        }
        let remote = is_remote(self.domain.as_ref(), agent.domain.as_ref());
        let mut best: Option<(f64, f64, usize)> = None;
        for (index, candidate) in wanting.iter().enumerate() {
            let key = (candidate.by_role, candidate.by_framework);
            if best.is_some_and(|(role, framework, _)| key >= (role, framework)) {
                continue;
            }
            let Some(framework) = self.frameworks.get_mut(&candidate.framework) else { continue };
            if remote && !framework.has(CapabilityType::RegionAware) {
                continue;
            }
            let pool = agent.free.offerable(&candidate.role, framework.understands());
            if !pool.is_allocatable() {
                continue;
            }
            if let Some(until) = refused_until(framework, agent, &candidate.role, &pool, self.now) {
                *retry = Some(retry.map_or(until, |r| r.min(until)));
                continue;
            }
            best = Some((key.0, key.1, index));
        }
        best.map(|(_, _, index)| index)
    }

    /// Allocates at the first tick that is not before `due`.
    pub(super) fn allocate_by(&mut self, due: Duration) {
        let interval = self.timings.allocation.as_nanos().max(1);
        let due = due.max(self.now.saturating_add(Duration::from_nanos(1)));
        let ticks = due.as_nanos().div_ceil(interval);
        let tick = u64::try_from(ticks.saturating_mul(interval)).map_or(Duration::MAX, Duration::from_nanos);
        if self.allocation_at.is_none_or(|at| at > tick) {
            self.allocation_at = Some(tick);
            self.at(tick, Timer::Allocate);
        }
    }

    pub(super) fn allocation_due(&mut self) {
        if self.allocation_at.is_some_and(|at| at <= self.now) {
            self.allocate();
        }
    }

    fn offer(&mut self, id: &FrameworkId, role: &str, name: &str) -> Option<Offer> {
        let unavailability = self.unavailability_of(name);
        let agent = self.agents.get_mut(name)?;
        let framework = self.frameworks.get_mut(id)?;
        let pool = agent.free.offerable(role, framework.understands());
        agent.free.subtract(&pool);
        if !agent.free.is_allocatable() {
            self.allocatable.remove(name);
        }
        let offer_id = OfferId::new(format!("{}-O{}", self.master_id, self.next.offer));
        self.next.offer += 1;
        agent.offers.insert(offer_id.clone());
        framework.offers.insert(offer_id.clone());
        let multi_role = framework.has(CapabilityType::MultiRole);
        let refined = framework.has(CapabilityType::ReservationRefinement);
        let format = if refined { Format::Stack } else { Format::Old };
        let first = super::executor_key(id, &overlord_mesos::v1::ExecutorId::default());
        let executors = agent
            .executors
            .range(first..)
            .take_while(|((owner, _), _)| owner == id)
            .filter(|(_, executor)| executor.exited.is_none() && executor.kind != ExecutorKind::Command);
        let offer = Offer {
            id: offer_id.clone(),
            framework_id: id.clone(),
            agent_id: agent.id.clone(),
            hostname: agent.hostname.clone(),
            url: Some(agent.url()),
            domain: agent.domain.clone(),
            resources: pool.to_wire(multi_role.then_some(role), format),
            attributes: agent.attributes.clone(),
            executor_ids: executors.map(|((_, executor), _)| executor.clone()).collect(),
            unavailability,
            allocation_info: multi_role.then(|| AllocationInfo { role: Some(role.to_owned()) }),
        };
        self.charge(id, role, &pool);
        let open = OpenOffer { framework: id.clone(), agent: name.to_owned(), role: role.to_owned(), pool };
        self.offers.insert(offer_id.clone(), open);
        if let Some(timeout) = self.offer_timeout {
            self.after(timeout, Timer::Offer(offer_id));
        }
        Some(offer)
    }

    pub(super) fn offer_timed_out(&mut self, id: &OfferId) {
        if self.offers.contains_key(id) {
            self.rescind(id);
        }
    }

    /// Takes an offer off the books; its resources are the caller's, and still charged.
    pub(super) fn take_offer(&mut self, id: &OfferId) -> Option<OpenOffer> {
        let offer = self.offers.remove(id)?;
        if let Some(framework) = self.frameworks.get_mut(&offer.framework) {
            framework.offers.remove(id);
        }
        if let Some(agent) = self.agents.get_mut(&offer.agent) {
            agent.offers.remove(id);
        }
        Some(offer)
    }

    /// Voids an offer and gives its resources back.
    pub(super) fn withdraw_offer(&mut self, id: &OfferId) {
        if let Some(offer) = self.take_offer(id) {
            self.release(&offer.framework, &offer.role, &offer.agent, &offer.pool);
        }
    }

    /// Voids an offer and says so.
    pub(super) fn rescind(&mut self, id: &OfferId) {
        let framework = self.offers.get(id).map(|offer| offer.framework.clone());
        self.withdraw_offer(id);
        if let Some(framework) = framework {
            let rescind = Some(Rescind { offer_id: id.clone() });
            self.send_to(&framework, Event { kind: EventType::Rescind, rescind, ..Event::default() });
        }
    }

    /// Voids all offers of an agent and tells their frameworks.
    pub(super) fn rescind_all(&mut self, name: &str) {
        let ids: Vec<OfferId> =
            self.agents.get(name).map(|a| a.offers.iter().cloned().collect()).unwrap_or_default();
        for id in ids {
            self.rescind(&id);
        }
    }

    /// DECLINE, or what an ACCEPT left over.
    pub(super) fn refuse(&mut self, offer: &OpenOffer, rest: &Pool, filters: Option<&Filters>) {
        let refused = refusal(filters);
        if !refused.is_zero()
            && !rest.is_empty()
            && let Some(agent) = self.agents.get(&offer.agent)
            && let Some(framework) = self.frameworks.get_mut(&offer.framework)
        {
            let until = self.now.saturating_add(refused.max(self.timings.allocation));
            let filter = Filter { refused: rest.clone(), until };
            framework.filters.entry((agent.id.clone(), offer.role.clone())).or_default().push(filter);
        }
        self.release(&offer.framework, &offer.role, &offer.agent, rest);
    }

    /// Gives resources back to an agent, to be offered at the next tick.
    pub(super) fn release(&mut self, framework: &FrameworkId, role: &str, agent: &str, pool: &Pool) {
        self.discharge(framework, role, pool);
        let Some(record) = self.agents.get_mut(agent) else { return };
        record.free.add(pool);
        self.offer_agent(agent);
    }

    /// Counts an agent among those with something to offer, if it may be offered.
    pub(super) fn offer_agent(&mut self, name: &str) {
        let Some(agent) = self.agents.get(name) else { return };
        if agent.is_registered() && !agent.deactivated && agent.free.is_allocatable() {
            self.allocatable.insert(name.to_owned());
            self.allocate_by(self.now);
        } else {
            self.allocatable.remove(name);
        }
    }

    /// Counts resources as used by a role of a framework.
    pub(super) fn charge(&mut self, framework: &FrameworkId, role: &str, pool: &Pool) {
        self.count(framework, role, pool, 1);
    }

    pub(super) fn discharge(&mut self, framework: &FrameworkId, role: &str, pool: &Pool) {
        self.count(framework, role, pool, -1);
    }

    fn count(&mut self, id: &FrameworkId, role: &str, pool: &Pool, sign: i64) {
        // A removed framework's usage was taken off when it was removed.
        let Some(framework) = self.frameworks.get_mut(id) else { return };
        let of_framework = framework.usage.entry(role.to_owned()).or_default();
        let of_role = self.usage.entry(role.to_owned()).or_default();
        for (index, name) in MEASURED.into_iter().enumerate() {
            let amount = sign * pool.scalar(name);
            if let (Some(a), Some(b)) = (of_framework.get_mut(index), of_role.get_mut(index)) {
                *a += amount;
                *b += amount;
            }
        }
    }
}

impl Agent {
    /// Where its API is.
    pub(crate) fn url(&self) -> Url {
        Url {
            scheme: "http".to_owned(),
            address: Address {
                hostname: Some(self.hostname.clone()),
                ip: Some(self.address.ip().to_string()),
                port: u32::from(self.address.port()),
            },
            path: Some("/slave(1)".to_owned()),
        }
    }
}

/// For how long a framework refuses. Negative or not a number: the default, as the master does.
pub(super) fn refusal(filters: Option<&Filters>) -> Duration {
    filters.and_then(|f| f.refuse_seconds).map_or(DEFAULT_REFUSAL, |seconds| {
        let seconds = seconds.min(LONGEST_REFUSAL.as_secs_f64());
        Duration::try_from_secs_f64(seconds).unwrap_or(DEFAULT_REFUSAL)
    })
}

/// Whether an agent is in another region than the master.
fn is_remote(master: Option<&DomainInfo>, agent: Option<&DomainInfo>) -> bool {
    let region = |domain: Option<&DomainInfo>| domain?.fault_domain.as_ref().map(|f| f.region.name.clone());
    match (region(master), region(agent)) {
        (Some(master), Some(agent)) => master != agent,
        _ => false,
    }
}

/// Until when a filter keeps these resources from the framework's role.
fn refused_until(
    framework: &mut Framework,
    agent: &Agent,
    role: &str,
    pool: &Pool,
    now: Duration,
) -> Option<Duration> {
    if framework.filters.is_empty() {
        return None;
    }
    let key = (agent.id.clone(), role.to_owned());
    let filters = framework.filters.get_mut(&key)?;
    filters.retain(|filter| filter.until > now);
    // A filter refuses what it was made for and less; more is offered again.
    let until = filters.iter().filter(|f| f.refused.contains(pool)).map(|f| f.until).max();
    if filters.is_empty() {
        framework.filters.remove(&key);
    }
    until
}

fn share(usage: &[i64; 3], total: &[i64; 3]) -> f64 {
    usage
        .iter()
        .zip(total)
        .map(|(used, total)| if *total > 0 { *used as f64 / *total as f64 } else { 0.0 })
        .fold(0.0, f64::max)
}
