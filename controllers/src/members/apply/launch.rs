//! Launching: places are found, the intent is recorded, and only then the offers are used.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use futures::{StreamExt as _, stream};
use overlord_api::{
    Address, Desired, EventLevel, INFO_VERSION, Info, Kind, Observed, Record, Spec, State, keys,
};
use overlord_engines::cluster::Seed;
use overlord_mesos::{
    CallError, resources,
    v1::{AgentId, Source, TaskId, TaskState, TaskStatus, scheduler::Operation},
};
use overlord_placement::{Bus, Placed, Placement, Request};

use super::{Apply, BATCH_BYTES, BATCH_OPERATIONS, bury, remove};
use crate::{
    at_hand::{Least, Wish},
    events::Happening,
    identity::{alias, mesos_task_id},
    instances::absorb,
    launcher::{Grant, Group, Wanted},
    ledger::{Batch, Expect, LedgerError, Seen},
    members::{
        confs::render,
        observed::Instance,
        plan::cause,
        step::{Launch, Place},
    },
    mesos_task::Launching,
    redis_cluster::{node_and_shard, seed, shape_of},
    settings::{EXECUTOR_CPU_MILLIS, EXECUTOR_MEMORY},
};

/// Agents told at once.
const ACCEPTS_AT_ONCE: usize = 16;

/// What one ACCEPT leaves over is refused for no time: another cluster may want it at once.
const REFUSE_NOTHING: f64 = 0.0;

/// What is to be recorded of one member.
pub(super) struct Draft {
    pub(super) info: Info,
    /// The instance whose place it takes.
    pub(super) old: Option<Instance>,
    /// Its `server.conf`.
    pub(super) text: String,
}

/// The `nodes.conf` of members that are launched.
pub(super) enum Seeds {
    /// Of kinds that have none.
    None,
    /// Of a cluster that is being formed.
    Forming(Seed),
    /// Of single members, by address.
    Joining(BTreeMap<Address, String>),
}

impl Seeds {
    fn of(&self, info: &Info) -> Option<String> {
        match self {
            Self::None => None,
            // Its own members were seeded together.
            Self::Forming(seed) => seed.nodes_conf(&seed::node_id(info)).ok(),
            Self::Joining(texts) => texts.get(&info.address()).cloned(),
        }
    }
}

impl Apply<'_> {
    /// Places and launches as many of `launches` as the offers at hand allow.
    pub(super) async fn launch(&mut self, launches: &[&Launch]) -> Result<(), LedgerError> {
        if launches.is_empty() {
            let waits = self.shared.memo(self.cluster, |memo| {
                if !memo.undecided {
                    memo.unplaceable.clone_from(&memo.no_room);
                }
                memo.undecided || memo.no_room.is_some()
            });
            if !waits {
                self.shared.launcher.content(self.cluster);
            }
            return Ok(());
        }
        if let Some(shape) = shape_of(self.spec) {
            return self.launch_members(shape, launches).await;
        }
        let wishes: BTreeMap<u32, Place> =
            launches.iter().map(|launch| (launch.member, launch.place)).collect();
        let placed: Vec<Placed> = self
            .by_address
            .values()
            .filter(|instance| instance.info.desired.state == State::Running)
            .filter(|instance| !wishes.contains_key(&instance.info.member))
            .map(|instance| placed(&instance.info))
            .collect();
        let mut own: BTreeSet<Address> = BTreeSet::new();
        // Only those that must leave a host are kept away from it.
        let [mut anywhere, mut away] = [Group::default(), Group::default()];
        for launch in launches {
            match launch.place {
                Place::Same(address) | Place::Rather(address) | Place::Any(address) => {
                    own.insert(address);
                    anywhere.requests.push(request(self.spec, launch));
                }
                Place::Elsewhere(address) => {
                    away.exclude_hosts.insert(address.ip);
                    away.requests.push(request(self.spec, launch));
                }
                Place::Anywhere => anywhere.requests.push(request(self.spec, launch)),
            }
        }
        let occupied = placed.iter().map(|placed| placed.address.ip).collect();
        let wanted =
            Wanted { cluster: self.cluster, wish: self.wish(launches.iter().copied(), occupied), own };
        let members = self.spec.shape.members();
        let groups = [anywhere, away];
        let mut granted = self.shared.launcher.place(&self.shared.ledger, wanted, &groups, members, &placed);
        let mut placements: Vec<&mut Placement> =
            granted.grants.iter_mut().flat_map(|grant| &mut grant.placements).collect();
        untangle(&mut placements, &wishes);
        self.shared.memo(self.cluster, |memo| memo.unplaceable.clone_from(&granted.refused));
        // What is recorded is launched, even if the rest could not be recorded.
        let mut record = self.record.value.clone();
        let drafts = self.draft(&mut record, granted.grants, &wishes);
        self.record_and_accept(record, drafts, &Seeds::None, false).await
    }

    /// What the launches look for among the offers.
    pub(super) fn wish<'l>(
        &self,
        launches: impl Iterator<Item = &'l Launch>,
        occupied: BTreeSet<IpAddr>,
    ) -> Wish<'_> {
        let need = self.need();
        let mut wish = Wish {
            rules: &self.spec.placement,
            members: 0,
            least: Least { cpu_millis: need.cpu_millis, mem: need.mem, disk: need.disk },
            hosts: BTreeSet::new(),
            only_hosts: true,
            occupied,
        };
        for launch in launches {
            wish.members += 1;
            wish.only_hosts &= matches!(launch.place, Place::Same(_));
            if let Place::Same(address) | Place::Rather(address) | Place::Any(address) = launch.place {
                wish.hosts.insert(address.ip);
            }
        }
        wish
    }

    /// What is to be recorded of the members that found a place.
    pub(super) fn draft(
        &self,
        record: &mut Record,
        grants: Vec<Grant>,
        wishes: &BTreeMap<u32, Place>,
    ) -> Vec<(Grant, Vec<Draft>)> {
        grants
            .into_iter()
            .map(|grant| {
                let mut drafts = Vec::with_capacity(grant.placements.len());
                for placement in &grant.placements {
                    let old = wishes
                        .get(&placement.member)
                        .and_then(|place| place.replaces())
                        .and_then(|address| self.by_address.get(&address).copied());
                    // An address that another member is about to have again; the next pass places anew.
                    let others = self.by_address.get(&placement.address);
                    if others.is_some_and(|other| other.info.member != placement.member) {
                        self.shared.enqueue(self.cluster);
                        continue;
                    }
                    let Ok(text) = render(self.spec, placement.address, placement.bus_port) else { continue };
                    let info = self.info(record, placement, &grant.agent, old);
                    drafts.push(Draft { info, old: old.cloned(), text });
                }
                // Masters first: of those that boot together they are waited for longest.
                drafts.sort_by_key(|draft: &Draft| draft.info.member);
                (grant, drafts)
            })
            .collect()
    }

    /// Records the intents, then uses the offers. Unless it is all or nothing, what is recorded is launched
    /// even if the rest could not be recorded.
    pub(super) async fn record_and_accept(
        &mut self,
        record: Record,
        drafts: Vec<(Grant, Vec<Draft>)>,
        seeds: &Seeds,
        all_or_nothing: bool,
    ) -> Result<(), LedgerError> {
        let mut recorded = Vec::with_capacity(drafts.len());
        let outcome = self.record_intents(record, drafts, seeds, &mut recorded).await;
        if all_or_nothing && outcome.is_err() {
            return outcome;
        }
        let this = &*self;
        stream::iter(recorded)
            .for_each_concurrent(ACCEPTS_AT_ONCE, |(mut grant, infos)| async move {
                this.accept(&mut grant, &infos).await;
            })
            .await;
        outcome
    }

    /// Records the intents of all grants, in as few transactions as their limits allow.
    async fn record_intents(
        &mut self,
        mut record: Record,
        drafts: Vec<(Grant, Vec<Draft>)>,
        seeds: &Seeds,
        recorded: &mut Vec<(Grant, Vec<Info>)>,
    ) -> Result<(), LedgerError> {
        let mut batch = Batch::default();
        let mut told: Vec<Happening> = Vec::new();
        // Whole in the batch that is not committed yet.
        let mut open: Vec<(Grant, Vec<Info>)> = Vec::new();
        for (grant, drafts) in drafts {
            let mut infos: Vec<Info> = Vec::with_capacity(drafts.len());
            for Draft { info, old, text } in drafts {
                self.expect_answers(&info, old.as_ref());
                let address = info.address();
                let moved = old.as_ref().filter(|old| old.info.address() != address);
                let expect = match &old {
                    Some(old) if moved.is_none() => Expect::At(old.revision),
                    _ => Expect::Absent,
                };
                batch.put_json(keys::info(self.cluster, address), &info, expect);
                batch.put(keys::server_conf(self.cluster, address), text.into_bytes(), Expect::Any);
                if let Some(seed) = seeds.of(&info) {
                    batch.put(keys::nodes_conf(self.cluster, address), seed.into_bytes(), Expect::Any);
                }
                if let Some(old) = moved {
                    let now = self.shared.clock.now();
                    remove(self.shared, self.cluster, self.spec, old, &mut batch, Expect::At(old.revision));
                    if old.info.observed.state == State::Unreachable {
                        bury(&mut record, &old.info, "replaced while its agent could not be reached", now);
                    }
                    told.push(replaced(&old.info, &info));
                }
                infos.push(info);
                if batch.operations() >= BATCH_OPERATIONS || batch.bytes() >= BATCH_BYTES {
                    self.commit_intents(std::mem::take(&mut batch), &record).await?;
                    recorded.append(&mut open);
                }
            }
            open.push((grant, infos));
        }
        if !batch.is_empty() {
            self.commit_intents(batch, &record).await?;
        }
        recorded.append(&mut open);
        for happening in told {
            self.shared.events.record(self.cluster.as_str(), happening);
        }
        Ok(())
    }

    /// Whatever happens to this pass, the intent does not stay open for ever: Mesos is asked after it. A
    /// question about a task that was never recorded is answered too, and harms nobody.
    fn expect_answers(&self, info: &Info, old: Option<&Instance>) {
        let now = self.shared.clock.monotonic();
        let (task, agent) = (TaskId::new(&info.mesos_task_id), AgentId::new(&info.agent_id));
        self.shared.sync.launched(now, task, agent);
        if let Some(old) = old {
            // Recorded as ended; should Mesos know better, it is killed as the older attempt that it is.
            let (task, agent) = (TaskId::new(&old.info.mesos_task_id), AgentId::new(&old.info.agent_id));
            self.shared.sync.ask(now, task, Some(agent));
        }
    }

    async fn commit_intents(&mut self, mut batch: Batch, record: &Record) -> Result<(), LedgerError> {
        batch.put_json(keys::record(self.cluster), record, Expect::At(self.record.revision));
        let revision = self.shared.ledger.commit(batch).await?;
        *self.record = Seen { value: record.clone(), revision };
        Ok(())
    }

    /// Uses the offers. Whatever becomes of the call, the intents are recorded: an answer from Mesos
    /// settles each of them, and silence is asked after.
    async fn accept(&self, grant: &mut Grant, infos: &[Info]) {
        let shared = self.shared;
        let launching = Launching {
            settings: &shared.settings,
            cluster: self.cluster,
            data_root: &grant.data_root,
            store: shared.high_water.mark_of(self.record.revision),
        };
        let mut rest = resources::combine(&grant.offers).unwrap_or_default();
        let mut task_infos = Vec::with_capacity(infos.len());
        for info in infos {
            match launching.task(info, &rest) {
                Ok((task, remainder)) => {
                    rest = remainder;
                    task_infos.push(task);
                }
                // Placement counted the same resources; asked after, the intent ends and is placed again.
                Err(error) => {
                    tracing::error!(member = info.member, %error, "offer does not hold what was placed on it");
                }
            }
        }
        let operation = Operation::launch(task_infos);
        let offer_ids: Vec<_> = grant.offers.iter().map(|offer| offer.id.clone()).collect();
        match shared.mesos.accept(offer_ids.clone(), vec![operation], REFUSE_NOTHING).await {
            Ok(()) => grant.used(),
            Err(error) => {
                tracing::warn!(cluster = %self.cluster, agent = %grant.agent, %error, "accept not taken");
                if error.may_have_arrived() {
                    grant.used();
                    // One that did not arrive must not launch any more after the tasks were asked about, and its
                    // offers are held by nobody else. To those that were used a DECLINE does nothing.
                    if let Err(error) = shared.mesos.decline(offer_ids, REFUSE_NOTHING).await {
                        tracing::warn!(cluster = %self.cluster, agent = %grant.agent, %error, "decline not taken");
                    }
                }
                if let CallError::StaleOffer { offer } = &error {
                    grant.void(offer);
                }
                if error.may_have_arrived() {
                    self.ask_at_once(infos);
                } else {
                    self.drop_intents(infos, &error).await;
                }
            }
        }
        shared.launcher.accepted(&grant.role);
    }

    /// Whether these were launched, Mesos must say.
    fn ask_at_once(&self, infos: &[Info]) {
        let now = self.shared.clock.monotonic();
        for info in infos {
            let (task, agent) =
                (TaskId::new(info.mesos_task_id.as_str()), AgentId::new(info.agent_id.as_str()));
            self.shared.sync.heard(&task);
            self.shared.sync.ask(now, task, Some(agent));
        }
    }

    /// These were surely not launched: that is stored as if Mesos had said it. It would be asked in vain when the agent
    /// is gone with its offers: "unknown" is no answer then. Who leads no more stores nothing.
    async fn drop_intents(&self, infos: &[Info], error: &CallError) {
        let dropped = infos.iter().map(|info| not_launched(info, error));
        if let Err(error) = absorb(self.shared, dropped.collect()).await {
            tracing::warn!(cluster = %self.cluster, %error, "not stored that nothing was launched");
        }
    }

    /// The value of a new intent.
    fn info(
        &self,
        record: &mut Record,
        placement: &Placement,
        agent: &AgentId,
        old: Option<&Instance>,
    ) -> Info {
        let kind = self.spec.shape.kind();
        let member = placement.member;
        let address = placement.address;
        let same = old.filter(|old| old.info.address() == address).map(|old| &old.info);
        // A node that never served is known by its id in the seeds of all others: it keeps it wherever it goes,
        // once its process is known to have ended.
        let ended = |old: &Instance| matches!(old.info.observed.state, State::Failed | State::Gone);
        let seeded = kind == Kind::RedisCluster && !record.formed && old.is_some_and(ended);
        let incarnation = match (same, old) {
            (Some(same), _) => same.incarnation,
            (None, Some(old)) if seeded => old.info.incarnation,
            (None, Some(old)) => old.info.incarnation.saturating_add(1),
            (None, None) => 0,
        };
        let launches = match old {
            Some(old) if old.info.incarnation == incarnation => old.info.launches.saturating_add(1),
            Some(_) | None => 0,
        };
        let (node_id, shard) = node_and_shard(self.spec, &record.uid, member, incarnation);
        record.attempts = record.attempts.saturating_add(1);
        record.framework =
            self.shared.mesos.framework_id().map(|id| id.value).or_else(|| record.framework.take());
        record.next_member = record.next_member.max(member.saturating_add(1));
        let previous = old.map(|old| &old.info.desired);
        // A spec that fails everywhere does so on each new host too; a host that was lost says nothing of the next.
        let fails = |old: &&Instance| same.is_some() || old.info.observed.state == State::Failed;
        let mut observed = Observed {
            failures: old.filter(fails).map_or(0, |old| old.info.observed.failures),
            refusals: old.map_or(0, |old| old.info.observed.refusals),
            ..Observed::pending(self.shared.clock.now())
        };
        if let Some(old) = old.filter(|old| old.info.observed.refused.is_some()) {
            observed.message = format!("mesos refused the attempt before: {}", cause(&old.info));
        }
        Info {
            version: INFO_VERSION,
            uid: record.uid.clone(),
            member,
            incarnation,
            kind,
            engine: kind.engine(),
            engine_version: self.spec.version.clone(),
            ip: address.ip,
            port: address.port,
            bus_port: placement.bus_port,
            host: placement.host.to_string(),
            rack: placement.rack.clone(),
            zone: placement.zone.clone(),
            agent_id: agent.to_string(),
            mesos_task_id: mesos_task_id(&record.uid, member, incarnation, record.attempts),
            node_id,
            shard,
            alias: alias(self.cluster, member),
            weight: old.map_or(1, |old| old.info.weight),
            resources: self.spec.resources,
            on_disk: self.spec.deletion.on_disk,
            on_agent_loss: self.spec.recovery.on_agent_loss,
            launches,
            template: Some(self.shared.settings.template()),
            desired: Desired {
                state: State::Running,
                config: previous.map_or(1, |desired| desired.config.saturating_add(1)),
                restart: previous.map_or(0, |desired| desired.restart),
                recover: previous.map_or(0, |desired| desired.recover),
            },
            observed,
        }
    }
}

/// What a member needs of an agent, the executor's share included.
pub(super) fn request(spec: &Spec, launch: &Launch) -> Request {
    let resources = spec.resources;
    Request {
        member: launch.member,
        cpu_millis: u64::from(resources.cpu_millis + EXECUTOR_CPU_MILLIS),
        mem: resources.memory.next_multiple_of(crate::launcher::MIB) + EXECUTOR_MEMORY,
        disk: resources.disk.next_multiple_of(crate::launcher::MIB),
        bus: Bus::None,
        prefer: match launch.place {
            Place::Rather(address) => Some(address),
            _ => None,
        },
        only: match launch.place {
            Place::Same(address) => Some(address),
            _ => None,
        },
    }
}

pub(crate) fn placed(info: &Info) -> Placed {
    Placed {
        member: info.member,
        address: info.address(),
        rack: info.rack.clone(),
        zone: info.zone.clone(),
        bus_port: info.bus_port,
    }
}

fn replaced(old: &Info, new: &Info) -> Happening {
    let why =
        if old.observed.message.is_empty() { String::new() } else { format!(" ({})", old.observed.message) };
    Happening {
        object: format!("member/{}", new.member),
        reason: "Replaced",
        level: EventLevel::Warning,
        message: format!(
            "member {} moves from {} to {}{why}; what was kept at {} is not moved",
            new.member,
            old.address(),
            new.address(),
            old.address()
        ),
    }
}

/// Members of a pool are alike. One that was given the former address of another, which found a place itself,
/// exchanges places with it: an address keeps its member, and the next pass would come to the same two places.
fn untangle(placements: &mut [&mut Placement], wishes: &BTreeMap<u32, Place>) {
    let movable = |member: u32| !matches!(wishes.get(&member), Some(Place::Elsewhere(_)));
    let owners: BTreeMap<Address, u32> = wishes
        .iter()
        .filter(|(member, _)| movable(**member))
        .filter_map(|(member, place)| Some((place.replaces()?, *member)))
        .collect();
    for at in 0..placements.len() {
        let Some(owner) = owners.get(&placements[at].address).copied() else { continue };
        let other = placements.iter().position(|placement| placement.member == owner);
        if let Some(other) = other.filter(|other| *other != at && movable(placements[at].member)) {
            placements[other].member = placements[at].member;
            placements[at].member = owner;
        }
    }
}

/// What a master says of offers that are void, said of an intent that was surely not sent.
fn not_launched(info: &Info, error: &CallError) -> TaskStatus {
    TaskStatus {
        task_id: TaskId::new(info.mesos_task_id.as_str()),
        agent_id: Some(AgentId::new(info.agent_id.as_str())),
        source: Some(Source::Master),
        reason: Some(String::from("REASON_INVALID_OFFERS")),
        message: Some(format!("it was not launched: {error}")),
        state: TaskState::Dropped,
        ..TaskStatus::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fold::{Context, Folded, fold},
        samples,
    };

    #[test]
    fn an_intent_that_was_surely_not_sent_is_over_without_asking_and_counts_as_no_failure_of_the_member() {
        let info = samples::info(0, State::Pending);
        let offer = overlord_mesos::v1::OfferId::new("O1");
        let said = not_launched(&info, &CallError::StaleOffer { offer });
        // Its agent may be gone with its offers.
        let context = Context { agent_registered: false, doubted: None, now: samples::at(1) };
        let Folded::Changed(over, happening) = fold(&info, &said, context) else { panic!("{said:?}") };
        assert_eq!((over.observed.state, over.observed.failures), (State::Failed, 0));
        assert_eq!(
            (over.observed.refused, over.observed.refusals),
            (Some(overlord_api::Refusal::Dropped), 1)
        );
        assert!(over.observed.message.starts_with("it was not launched: "), "{}", over.observed.message);
        assert_eq!(happening.map(|happening| happening.reason), Some("LaunchRefused"));
    }

    fn address(host: u8) -> Address {
        Address::new([10, 0, 0, host].into(), 20_000)
    }

    fn placement(member: u32, host: u8) -> Placement {
        Placement {
            member,
            address: address(host),
            bus_port: None,
            agent_id: format!("a{host}"),
            host: address(host).ip,
            rack: None,
            zone: None,
            role: String::from("*"),
        }
    }

    fn untangled(placed: &[(u32, u8)], wishes: &[(u32, Place)]) -> Vec<(u32, Address)> {
        let mut placements: Vec<Placement> =
            placed.iter().map(|(member, host)| placement(*member, *host)).collect();
        untangle(&mut placements.iter_mut().collect::<Vec<_>>(), &wishes.iter().copied().collect());
        placements.iter().map(|placement| (placement.member, placement.address)).collect()
    }

    #[test]
    fn members_that_were_placed_on_each_others_address_take_their_own() {
        let any = |member: u32, host| (member, Place::Any(address(host)));
        let circle = untangled(&[(0, 2), (1, 3), (2, 1)], &[any(0, 1), any(1, 2), any(2, 3)]);
        assert_eq!(circle, [(1, address(2)), (2, address(3)), (0, address(1))]);
        let moved = untangled(&[(0, 2), (1, 5)], &[any(0, 1), any(1, 2)]);
        assert_eq!(moved, [(1, address(2)), (0, address(5))]);
    }

    #[test]
    fn who_must_leave_its_host_is_not_exchanged() {
        let wishes = [(0, Place::Elsewhere(address(1))), (1, Place::Any(address(2)))];
        assert_eq!(untangled(&[(0, 2), (1, 1)], &wishes), [(0, address(2)), (1, address(1))]);
    }
}
