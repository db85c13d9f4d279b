//! Effects of the steps. No decisions: what is recorded first, what is sent after, in that order.

mod cluster;
mod launch;

use std::{
    collections::{BTreeMap, btree_map::Entry},
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use overlord_api::{
    Address, ClusterName, EventLevel, Info, Kind, NUDGE, Persistence, Quarantine, Record, Spec, State,
    Tombstone, keys,
};
use overlord_mesos::v1::{AgentId, ExecutorId, TaskId};

pub(crate) use self::launch::placed;
use super::{
    observed::Instance,
    plan::Killed,
    step::{Launch, Order, Step},
};
use crate::{
    events::Happening,
    ledger::{Batch, Expect, LedgerError, Seen},
    redis_cluster::{self, node_timeout, observed::Sight},
    shared::Shared,
};

/// Operations of a batch are kept below this, so that one more instance always fits.
const BATCH_OPERATIONS: usize = 110;

/// Messages and kills under way at once: a master that takes calls and answers none costs a pass one time limit, not
/// one for each of them.
const SENT_AT_ONCE: usize = 32;

/// Bytes of a batch after which it is committed: one more instance always fits below etcd's 1.5 MiB.
const BATCH_BYTES: usize = 1 << 20;

/// Applies `steps` in order of their kinds: what heals first, then what changes, then what ends.
pub(crate) async fn apply(
    shared: &Shared,
    cluster: &ClusterName,
    spec: &Spec,
    record: &mut Seen<Record>,
    instances: &[Instance],
    sight: Option<&Sight>,
    steps: &[Step],
) -> Result<(), LedgerError> {
    for step in steps {
        tracing::debug!(target: "overlord_controllers::step", %cluster, kind = step.kind(), "{step}");
    }
    let by_address = instances.iter().map(|instance| (instance.info.address(), instance)).collect();
    let orders: Vec<&Order> = steps
        .iter()
        .filter_map(|step| match step {
            Step::Order(order) => Some(order),
            _ => None,
        })
        .collect();
    // A shard without a master waits for nothing else.
    redis_cluster::apply::give(shared, cluster, &orders).await?;
    let mut apply = Apply { shared, cluster, spec, record, by_address, sight };
    let launches: Vec<&Launch> = steps
        .iter()
        .filter_map(|step| match step {
            Step::Launch(launch) => Some(launch),
            _ => None,
        })
        .collect();
    // Nothing that ends waits for an offer.
    apply.edit(steps).await?;
    apply.forget(steps).await?;
    apply.send(steps).await;
    match steps.iter().find_map(|step| if let Step::Form(form) = step { Some(form) } else { None }) {
        Some(form) => apply.form(form).await,
        None => apply.launch(&launches).await,
    }
}

struct Apply<'a> {
    shared: &'a Shared,
    cluster: &'a ClusterName,
    spec: &'a Spec,
    record: &'a mut Seen<Record>,
    by_address: BTreeMap<Address, &'a Instance>,
    /// `RedisCluster`: what its nodes said in this pass.
    sight: Option<&'a Sight>,
}

impl Apply<'_> {
    fn instance(&self, address: Address) -> Result<&Instance, LedgerError> {
        // A step speaks of what the same pass saw.
        self.by_address.get(&address).copied().ok_or(LedgerError::Conflict)
    }

    /// Steps that change what is wanted of an instance.
    async fn edit(&mut self, steps: &[Step]) -> Result<(), LedgerError> {
        // Several steps may speak of one instance: it is written once.
        let mut edited: BTreeMap<Address, Info> = BTreeMap::new();
        let mut texts: BTreeMap<Address, &str> = BTreeMap::new();
        let mut told: Vec<Happening> = Vec::new();
        let mut nudged: Vec<Address> = Vec::new();
        for step in steps {
            let address = match step {
                Step::WriteConfig { address, .. }
                | Step::Restart { address, .. }
                | Step::StartAlone { address, .. }
                | Step::Retire { address, .. }
                | Step::Amend { address, .. } => *address,
                Step::Form(_)
                | Step::Launch(_)
                | Step::Order(_)
                | Step::Kill { .. }
                | Step::Nudge { .. }
                | Step::Forget { .. } => continue,
            };
            let info = match edited.entry(address) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => entry.insert((*self.instance(address)?.info).clone()),
            };
            match step {
                Step::WriteConfig { text, config, .. } => {
                    info.desired.config = *config;
                    texts.insert(address, text);
                    nudged.push(address);
                }
                Step::Restart { restart, member, loses, .. } => {
                    info.desired.restart = *restart;
                    nudged.push(address);
                    told.push(ordered(*member, "RestartOrdered", *loses, step));
                }
                Step::StartAlone { word, member, .. } => {
                    info.desired.recover = *word;
                    nudged.push(address);
                    told.push(ordered(*member, "StartAloneOrdered", 1, step));
                }
                Step::Retire { relaunch, on_disk, member, loses, .. } => {
                    info.desired.state = if *relaunch { State::Draining } else { State::Gone };
                    info.on_disk = *on_disk;
                    told.push(ordered(
                        *member,
                        if *relaunch { "Relaunching" } else { "Removing" },
                        *loses,
                        step,
                    ));
                }
                Step::Amend { on_disk, on_agent_loss, .. } => {
                    info.on_disk = *on_disk;
                    info.on_agent_loss = *on_agent_loss;
                }
                Step::Form(_)
                | Step::Launch(_)
                | Step::Order(_)
                | Step::Kill { .. }
                | Step::Nudge { .. }
                | Step::Forget { .. } => {}
            }
        }
        let mut batch = Batch::default();
        for (address, info) in &edited {
            let revision = self.instance(*address)?.revision;
            batch.put_json(keys::info(self.cluster, *address), info, Expect::At(revision));
            if let Some(text) = texts.get(address) {
                batch.put(keys::server_conf(self.cluster, *address), text.as_bytes().to_vec(), Expect::Any);
            }
            if batch.operations() >= BATCH_OPERATIONS {
                self.shared.ledger.commit(std::mem::take(&mut batch)).await?;
            }
        }
        if !batch.is_empty() {
            self.shared.ledger.commit(batch).await?;
        }
        for happening in told {
            self.shared.events.record(self.cluster.as_str(), happening);
        }
        let this = &*self;
        stream::iter(nudged).for_each_concurrent(SENT_AT_ONCE, |address| this.nudge(address)).await;
        // What was retired is told to end in the same pass.
        let retired = edited
            .values()
            .filter(|info| matches!(info.desired.state, State::Gone | State::Draining))
            .map(|info| this.send_kill(&info.mesos_task_id, &info.agent_id));
        stream::iter(retired).for_each_concurrent(SENT_AT_ONCE, |sent| sent).await;
        Ok(())
    }

    /// Tells an executor to read its keys again. It also does so now and then by itself, so that a lost
    /// message costs time only.
    async fn nudge(&self, address: Address) {
        let Ok(instance) = self.instance(address) else { return };
        let info = &instance.info;
        let now = self.shared.clock.now();
        self.shared.memo(self.cluster, |memo| memo.sent.nudges.insert(info.mesos_task_id.clone(), now));
        let sent = self
            .shared
            .mesos
            .message(
                AgentId::new(info.agent_id.as_str()),
                ExecutorId::new(info.mesos_task_id.as_str()),
                Bytes::from_static(NUDGE),
            )
            .await;
        if let Err(error) = sent {
            tracing::debug!(%address, %error, "nudge not sent");
        }
    }

    /// Steps that send something and record nothing.
    async fn send(&self, steps: &[Step]) {
        stream::iter(steps)
            .for_each_concurrent(SENT_AT_ONCE, |step| async move {
                match step {
                    Step::Kill { mesos_task_id, agent_id, .. } => {
                        self.send_kill(mesos_task_id, agent_id).await;
                    }
                    Step::Nudge { address } => self.nudge(*address).await,
                    _ => {}
                }
            })
            .await;
    }

    async fn send_kill(&self, task: &str, agent: &str) {
        let now = self.shared.clock.now();
        self.shared.memo(self.cluster, |memo| {
            let before = memo.sent.kills.get(task).copied();
            memo.sent.kills.insert(task.to_owned(), Killed::again(before, now));
        });
        let (task_id, agent_id) = (TaskId::new(task), AgentId::new(agent));
        let grace = stop_grace(self.spec.shape.kind(), self.spec.persistence);
        if let Err(error) = self.shared.mesos.kill(task_id, Some(agent_id), Some(grace)).await {
            tracing::debug!(task, %error, "kill not sent");
        }
    }

    /// Removes what is recorded of instances that ended or are given up.
    async fn forget(&mut self, steps: &[Step]) -> Result<(), LedgerError> {
        let mut batch = Batch::default();
        let mut record = self.record.value.clone();
        let mut told: Vec<Happening> = Vec::new();
        let mut forgotten: Vec<String> = Vec::new();
        for step in steps {
            let Step::Forget { address, member, tombstone, why } = step else { continue };
            let instance = self.instance(*address)?;
            forgotten.push(instance.info.mesos_task_id.clone());
            let expect = Expect::At(instance.revision);
            remove(self.shared, self.cluster, self.spec, instance, &mut batch, expect);
            if *tombstone {
                bury(&mut record, &instance.info, why, self.shared.clock.now());
                told.push(ordered(*member, "GivenUp", 0, step));
            }
            if batch.operations() >= BATCH_OPERATIONS {
                self.commit_with_record(std::mem::take(&mut batch), &record).await?;
            }
        }
        if !batch.is_empty() {
            self.commit_with_record(batch, &record).await?;
        }
        self.shared.memo(self.cluster, |memo| {
            for task in &forgotten {
                memo.sent.kills.remove(task);
                memo.sent.nudges.remove(task);
            }
        });
        for happening in told {
            self.shared.events.record(self.cluster.as_str(), happening);
        }
        Ok(())
    }

    /// Commits under the condition that the record is as seen; writes it when it changed.
    async fn commit_with_record(&mut self, mut batch: Batch, record: &Record) -> Result<(), LedgerError> {
        let key = keys::record(self.cluster);
        let changed = *record != self.record.value;
        if changed {
            batch.put_json(key, record, Expect::At(self.record.revision));
        } else {
            batch.require(key, Expect::At(self.record.revision));
        }
        let revision = self.shared.ledger.commit(batch).await?;
        if changed {
            *self.record = Seen { value: record.clone(), revision };
        }
        Ok(())
    }
}

/// How long an instance may take to stop: a memcache forgets everything at once, and a redis with a large data set
/// writes it down first.
const fn stop_grace(kind: Kind, persistence: Persistence) -> Duration {
    match (kind, persistence) {
        (Kind::Memcache, _) => Duration::from_secs(5),
        (Kind::Redis | Kind::RedisCluster, Persistence::None) => Duration::from_secs(15),
        (Kind::Redis | Kind::RedisCluster, _) => Duration::from_secs(60),
    }
}

/// Deletes an instance's keys and quarantines its address.
fn remove(
    shared: &Shared,
    cluster: &ClusterName,
    spec: &Spec,
    instance: &Instance,
    batch: &mut Batch,
    expect: Expect,
) {
    let info = &instance.info;
    let address = info.address();
    batch.delete(keys::info(cluster, address), expect);
    batch.delete(keys::server_conf(cluster, address), Expect::Any);
    batch.delete(keys::nodes_conf(cluster, address), Expect::Any);
    let mut quarantine = shared.settings.quarantine;
    if info.kind == Kind::RedisCluster {
        // Until no gossip speaks of it any more.
        quarantine = quarantine.max(node_timeout(spec).saturating_mul(10));
    }
    let until = shared.clock.now().saturating_add(quarantine);
    let quarantine = Quarantine {
        version: overlord_api::VALUES_VERSION,
        until: until.unwrap_or(jiff::Timestamp::MAX),
        uid: info.uid.clone(),
        cluster: cluster.to_string(),
        member: info.member,
        incarnation: info.incarnation,
        bus_port: info.bus_port,
    };
    batch.put_json(keys::quarantine(address), &quarantine, Expect::Any);
}

/// Remembers a Mesos task that may still run somewhere, to be killed when it comes back.
fn bury(record: &mut Record, info: &Info, why: &str, now: jiff::Timestamp) {
    record.tombstones.insert(
        info.mesos_task_id.clone(),
        Tombstone {
            address: info.address(),
            agent_id: info.agent_id.clone(),
            at: now,
            reason: why.to_owned(),
        },
    );
}

/// An ordered step as an event; what costs data is a warning.
fn ordered(member: u32, reason: &'static str, loses: u64, step: &Step) -> Happening {
    let level = if loses > 0 { EventLevel::Warning } else { EventLevel::Normal };
    Happening { object: format!("member/{member}"), reason, level, message: step.to_string() }
}
