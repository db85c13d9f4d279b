//! The reconciler of clusters: admit the spec, admit requests, plan, apply, tell. Each phase is a file;
//! this one reads like their table of contents.

mod admit;
mod adopt;
mod generation;
mod mend;
mod publish;
mod room;
mod stray;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use overlord_api::{
    Address, Cluster, ClusterName, ConditionType, KEPT_LOSSES, Kind, OnFailure, ShardLoss, State, keys,
};
use overlord_mesos::v1::{AgentId, TaskId};
use overlord_reconcile::{Action, Reconciler};

use self::publish::Publication;
use crate::{
    Digest, Known, digest,
    ledger::{Batch, Expect, LedgerError, Seen},
    members::{
        apply,
        observed::{Instance, ask_keys},
        plan::{self, Plan, plan},
    },
    redis_cluster::{
        STRANGER,
        observed::{Expected, Sight, look},
        seed::node_id,
    },
    shared::{Shared, Subject},
    tasks::{self, Admission, Situation},
    witnesses,
};

/// Why a pass failed; the queue tries again with back-off.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Writing or reading the store.
    #[error("reconcile {cluster}")]
    Ledger {
        /// Which cluster.
        cluster: String,
        /// How.
        #[source]
        source: LedgerError,
    },
    /// A value of the leader's own was edited into something that cannot be read.
    #[error("{key} cannot be read: {why}")]
    Damaged {
        /// Which key.
        key: String,
        /// How.
        why: String,
    },
}

/// An intent from which nothing was heard for this long is asked after.
const INTENT_PATIENCE: jiff::SignedDuration = jiff::SignedDuration::from_secs(15);

/// The nodes of a `RedisCluster` with which all was well are asked again after this long.
const WHOLE_FOR: Duration = Duration::from_secs(60);

/// Nodes that took so long hang, and not only one of them: they are not asked again before as long has passed.
const SLOW_LOOK: Duration = Duration::from_secs(5);

/// A cluster whose own values cannot be read is looked at again after this long, or when they change.
const DAMAGED_RETRY: Duration = Duration::from_secs(60);

/// Reconciles clusters, and reports keys that belong to none.
pub(crate) struct ClusterReconciler {
    pub(crate) shared: Arc<Shared>,
}

#[async_trait]
impl Reconciler for ClusterReconciler {
    type Key = Subject;
    type Error = Error;

    async fn reconcile(&self, subject: &Subject) -> Result<Action, Error> {
        match subject {
            Subject::Cluster(cluster) => {
                let pass = Pass { shared: &self.shared, cluster };
                match pass.run().await {
                    Err(Error::Damaged { key, why }) => pass.tell_damaged(&key, &why).await,
                    outcome => outcome,
                }
            }
            Subject::Stray(key) => {
                let again = stray::report(&self.shared, key)
                    .await
                    .map_err(|source| Error::Ledger { cluster: key.clone(), source })?;
                Ok(after(again))
            }
        }
    }
}

/// One pass over one cluster.
struct Pass<'a> {
    shared: &'a Shared,
    cluster: &'a ClusterName,
}

/// What the cluster is by its accepted spec.
struct Accepted {
    record: Seen<overlord_api::Record>,
    cluster: Arc<Cluster>,
}

impl Pass<'_> {
    async fn run(&self) -> Result<Action, Error> {
        if let Some(back) = self.shared.went_back {
            return self.stand_still(back).await;
        }
        if self.shared.witnesses.awaited(self.shared.clock.monotonic()) {
            return Ok(Action::requeue(witnesses::LOOK_AGAIN));
        }
        if !self.begin_generation().await? {
            return Ok(Action::requeue(generation::LOOK_AGAIN));
        }
        self.mend().await?;
        let admitted = self.admit_spec().await?;
        if let Some(accepted) = &admitted.accepted {
            self.adopt(accepted).await?;
            self.complete().await?;
        }
        let requests = self.shared.ledger.requests(self.cluster);
        let (instances, mut damaged) = self.shared.ledger.instances(self.cluster);
        if let Some(accepted) = &admitted.accepted {
            damaged.extend(self.unexplained(accepted).await?);
        }
        self.report_damaged(&damaged);
        self.report_requests(&requests);
        self.ask_after_intents(&instances);

        if admitted.accepted.is_some() {
            self.remember(&instances);
        }
        let Some(mut accepted) = admitted.accepted else {
            self.shared.launcher.content(self.cluster);
            let situation = self.situation(None, admitted.config_revision);
            let admission = tasks::admit(&requests, situation);
            let publication = Publication {
                requests: &requests,
                situation,
                admission: &admission,
                instances: &instances,
                refused: admitted.refused.as_deref(),
                damaged: &damaged,
                spec_missing: None,
                config_revision: admitted.config_revision,
                plan: None,
                accepted: None,
            };
            return self.publish(&publication).await.map(after);
        };

        let situation = self.situation(Some(&accepted), admitted.config_revision);
        let mut admission = tasks::admit(&requests, situation);
        let missing = self.mark_deletion(&mut accepted, &admission, admitted.config_revision).await?;
        if admission.recover.is_some() {
            self.acknowledge(&mut accepted).await?;
        }
        let situation = self.situation(Some(&accepted), admitted.config_revision);

        let (mut plan, sight) = self.plan(&accepted, &instances, &damaged, &admission).await;
        self.verify_restored(&mut accepted, &instances, &mut plan).await?;
        // Giving up goes on until the masters can elect again.
        if plan.conditions.iter().any(|(kind, ..)| *kind == ConditionType::QuorumLost) {
            let recover = admission.recover.as_ref().map(|(id, _)| id);
            admission.settled.retain(|(id, ..)| Some(id) != recover);
        }
        self.record_losses(&mut accepted, &plan).await?;
        if !plan.steps.is_empty() {
            tracing::debug!(cluster = %self.cluster, steps = plan.steps.len(), "applying");
        }
        apply::apply(
            self.shared,
            self.cluster,
            &accepted.cluster.spec,
            &mut accepted.record,
            &instances,
            sight.as_ref(),
            &plan.steps,
        )
        .await
        .map_err(|source| self.error(source))?;
        if accepted.record.value.deletion.is_some() && instances.is_empty() && damaged.is_empty() {
            return self.finish_deletion(&accepted, &requests, admitted.config_revision).await;
        }

        // What was applied is in the caches by now: tell what is, not what was.
        let (instances, _) = self.shared.ledger.instances(self.cluster);
        self.remember(&instances);
        let publication = Publication {
            requests: &requests,
            situation,
            admission: &admission,
            instances: &instances,
            refused: admitted.refused.as_deref(),
            damaged: &damaged,
            spec_missing: missing.as_ref().map(|hold| (hold.reason.as_str(), hold.message.as_str())),
            config_revision: admitted.config_revision,
            plan: Some(&plan),
            accepted: Some(&accepted),
        };
        let published = self.publish(&publication).await?;
        let look = self.next_look(&accepted, &plan, &damaged);
        Ok(after(published.into_iter().chain(look).min()))
    }

    /// When to look again although nothing changes that would be told.
    fn next_look(&self, accepted: &Accepted, plan: &Plan, damaged: &[(String, String)]) -> Option<Duration> {
        let now = self.shared.clock.now();
        let next = plan.next().map(|at| until(now, at));
        // What changes in the nodes alone is told by nobody.
        let is_cluster = accepted.record.value.kind == Kind::RedisCluster && plan.is_converged();
        let next = next.or_else(|| is_cluster.then_some(WHOLE_FOR));
        // Mesos is asked about what cannot be read or is gone.
        let asked = (!damaged.is_empty()).then_some(adopt::ANSWERS);
        next.into_iter().chain(asked).min()
    }

    fn error(&self, source: LedgerError) -> Error {
        Error::Ledger { cluster: self.cluster.to_string(), source }
    }

    fn situation(&self, accepted: Option<&Accepted>, config_revision: i64) -> Situation {
        let now = self.shared.clock.now();
        match accepted {
            Some(Accepted { record, cluster }) => {
                let deletion = record.value.deletion.as_ref();
                let done = deletion.is_some_and(|mark| mark.done);
                Situation {
                    revision: record.value.revision,
                    born: record.value.born,
                    protected: cluster.spec.deletion.protected,
                    deleting: deletion.is_some(),
                    deleted: done,
                    deadline: cluster.spec.update.deadline,
                    on_failure: cluster.spec.update.on_failure,
                    now,
                }
            }
            // Without a record nothing is left of the cluster; a destroy is done before it began.
            None => Situation {
                revision: 0,
                born: 0,
                protected: false,
                deleting: false,
                deleted: config_revision == 0,
                deadline: Duration::from_secs(600),
                on_failure: OnFailure::Pause,
                now,
            },
        }
    }

    /// Plans; asks instances how many keys they hold, and nodes what they know, only when that decides.
    async fn plan(
        &self,
        accepted: &Accepted,
        instances: &[Instance],
        damaged: &[(String, String)],
        admission: &Admission,
    ) -> (Plan, Option<Sight>) {
        let tasks: BTreeSet<&str> = instances.iter().map(|i| i.info.mesos_task_id.as_str()).collect();
        let observed = fingerprint(instances);
        let monotonic = self.shared.clock.monotonic();
        let (sent, settled) = self.shared.memo(self.cluster, |memo| {
            memo.sent.retain(&tasks);
            let settled = memo
                .whole
                .as_ref()
                .is_some_and(|(at, seen)| *seen == observed && monotonic < *at + WHOLE_FOR);
            (memo.sent.clone(), settled)
        });
        let mut sight: Option<Sight> = None;
        let unconfirmed: BTreeSet<String> = tasks
            .into_iter()
            .filter(|task| !self.shared.sync.is_confirmed(task))
            .map(str::to_owned)
            .collect();
        let mut keys: BTreeMap<Address, Known<u64>> = BTreeMap::new();
        let mut room: BTreeMap<Address, Option<String>> = BTreeMap::new();
        let strangers = self.shared.memo(self.cluster, |memo| {
            memo.strangers.iter().map(|(task, stranger)| (stranger.member, task.clone())).collect::<Vec<_>>()
        });
        let confs = self.shared.memo(self.cluster, |memo| memo.confs.of(&accepted.cluster, instances.len()));
        let template = self.shared.settings.template();
        loop {
            let input = plan::Input {
                cluster: self.cluster,
                spec: &accepted.cluster.spec,
                record: &accepted.record.value,
                instances,
                keys: &keys,
                room: &room,
                sent: &sent,
                sight: sight.as_ref(),
                settled,
                unconfirmed: &unconfirmed,
                damaged,
                strangers: &strangers,
                confs: &confs,
                template: &template,
                renew: admission.renew,
                recover: admission.recover.as_ref().map(|(_, revision)| *revision),
                task: admission.current.as_deref(),
                control: &admission.control,
                now: self.shared.clock.now(),
            };
            let plan = plan(&input);
            let unasked: BTreeSet<Address> =
                plan.room.iter().copied().filter(|address| !room.contains_key(address)).collect();
            if !unasked.is_empty() {
                // All at once: who has no place is one demand.
                room = self.room(&accepted.cluster.spec, instances, &plan.room);
                continue;
            }
            let no_room = plan.room.iter().find_map(|address| room.get(address).cloned().flatten());
            self.shared.memo(self.cluster, |memo| memo.no_room = no_room);
            let unknown: BTreeSet<Address> =
                plan.ask.iter().copied().filter(|address| !keys.contains_key(address)).collect();
            if plan.look && sight.is_none() {
                let nodes = nodes(instances);
                let wait = self.until_look(monotonic, nodes.len());
                if !wait.is_zero() {
                    let mut plan = plan;
                    plan.look_in(self.shared.clock.now(), wait);
                    // What the nodes said a moment ago still holds.
                    self.shared.memo(self.cluster, |memo| {
                        memo.undecided = true;
                        let said = memo.said.0.iter().filter(|(kind, ..)| *kind != ConditionType::DataLost);
                        plan.conditions.extend(said.cloned());
                        plan.blocked.extend(memo.said.1.iter().cloned());
                    });
                    return (plan, None);
                }
                sight = Some(look(&*self.shared.engines, &nodes).await);
                let asked = self.shared.clock.monotonic();
                let took = asked.saturating_sub(monotonic);
                if took >= SLOW_LOOK {
                    // Half of the time a place among those that run at once is left to other clusters.
                    self.shared.memo(self.cluster, |memo| memo.looked = Some(asked + took));
                }
                continue;
            }
            if unknown.is_empty() {
                self.shared.memo(self.cluster, |memo| memo.undecided = false);
                if sight.is_some() {
                    let whole = plan.whole.then_some((monotonic, observed));
                    let strangers = plan.blocked.iter().filter(|blocked| blocked.reason == STRANGER);
                    let said = (plan.conditions.clone(), strangers.cloned().collect());
                    self.shared.memo(self.cluster, |memo| (memo.whole, memo.said) = (whole, said));
                }
                return (plan, sight);
            }
            let kind = accepted.cluster.spec.shape.kind();
            let epoch = self.shared.ledger.fence.epoch();
            keys.extend(ask_keys(&*self.shared.engines, kind, epoch, &unknown).await);
        }
    }

    /// How long to wait before the nodes are looked at again; they are looked at now if that is zero.
    fn until_look(&self, monotonic: Duration, nodes: usize) -> Duration {
        self.shared.memo(self.cluster, |memo| {
            let due = memo.looked.map_or(monotonic, |last| last + look_interval(nodes));
            if due <= monotonic {
                memo.looked = Some(monotonic);
            }
            due.saturating_sub(monotonic)
        })
    }

    /// A person took note of the keys that were lost.
    async fn acknowledge(&self, accepted: &mut Accepted) -> Result<(), Error> {
        let mut next = accepted.record.value.clone();
        for loss in next.losses.values_mut() {
            loss.acknowledged = true;
        }
        self.put_record(accepted, next).await
    }

    /// What is lost is recorded before anything is done about it.
    async fn record_losses(&self, accepted: &mut Accepted, plan: &Plan) -> Result<(), Error> {
        let mut next = accepted.record.value.clone();
        let now = self.shared.clock.now();
        for (evidence, loss) in &plan.losses {
            let plan::Loss { shard, message } = loss.clone();
            // Before a cluster was complete there was nothing to lose.
            let acknowledged = !next.formed;
            next.losses.insert(evidence.clone(), ShardLoss { shard, at: now, message, acknowledged });
        }
        while next.losses.len() > KEPT_LOSSES {
            let oldest = next.losses.iter().min_by_key(|(_, loss)| (!loss.acknowledged, loss.at));
            let Some(oldest) = oldest.map(|(evidence, _)| evidence.clone()) else { break };
            next.losses.remove(&oldest);
        }
        let told = next.formed && !plan.losses.is_empty();
        self.put_record(accepted, next).await?;
        for loss in plan.losses.values().filter(|_| told) {
            let level = overlord_api::EventLevel::Warning;
            let lost = crate::Happening::of_cluster("DataLost", level, loss.message.clone());
            self.shared.events.record(self.cluster.as_str(), lost);
        }
        Ok(())
    }

    async fn put_record(&self, accepted: &mut Accepted, next: overlord_api::Record) -> Result<(), Error> {
        if next == accepted.record.value {
            return Ok(());
        }
        let mut batch = Batch::default();
        batch.put_json(keys::record(self.cluster), &next, Expect::At(accepted.record.revision));
        let revision = self.shared.ledger.commit(batch).await.map_err(|source| self.error(source))?;
        accepted.record = Seen { value: next, revision };
        Ok(())
    }

    /// What is recorded and meant to run, should all of it be gone in the next pass. When it is gone already, it
    /// went after this pass began: what was remembered before is what counts.
    fn remember(&self, instances: &[Instance]) {
        if instances.is_empty() && !matches!(self.shared.ledger.record(self.cluster), Ok(Some(_))) {
            return;
        }
        let running = instances.iter().map(|instance| &instance.info).filter(|info| {
            info.desired.state == State::Running
                && !matches!(info.observed.state, State::Failed | State::Gone)
        });
        let tasks = running.map(|info| info.mesos_task_id.clone()).collect();
        self.shared.memo(self.cluster, |memo| memo.recorded = tasks);
    }

    /// Intents from which nothing was heard for long are asked after, whatever became of the pass that made them.
    fn ask_after_intents(&self, instances: &[Instance]) {
        let now = self.shared.clock.now();
        for info in instances.iter().map(|instance| &instance.info) {
            let age = now.duration_since(info.observed.since);
            if info.observed.state == State::Pending && age > INTENT_PATIENCE {
                let (task, agent) = (TaskId::new(&info.mesos_task_id), AgentId::new(&info.agent_id));
                self.shared.sync.ask(self.shared.clock.monotonic(), task, Some(agent));
            }
        }
    }

    /// Nothing of the cluster runs any more.
    async fn finish_deletion(
        &self,
        accepted: &Accepted,
        requests: &[tasks::Request],
        config_revision: i64,
    ) -> Result<Action, Error> {
        let record = &accepted.record;
        let Some(mark) = &record.value.deletion else { return Ok(Action::await_change()) };
        // The key that a destroy task left behind must not bring the cluster back; a tombstone must not be lost.
        let keep = !record.value.tombstones.is_empty()
            || (config_revision != 0 && config_revision == mark.config_revision);
        let mut batch = Batch::default();
        let by = mark.by.clone();
        if keep && mark.done {
            // Said already.
        } else if keep {
            let mut next = record.value.clone();
            if let Some(mark) = &mut next.deletion {
                mark.done = true;
            }
            batch.put_json(keys::record(self.cluster), &next, Expect::At(record.revision));
            batch.delete(keys::endpoints(self.cluster), Expect::Any);
        } else {
            batch.require(keys::record(self.cluster), Expect::At(record.revision));
            batch.delete_prefix(keys::cluster(self.cluster));
        }
        if !batch.is_empty() {
            self.shared.ledger.commit(batch).await.map_err(|source| self.error(source))?;
            let left = record.value.tombstones.len();
            let message = match left {
                0 => format!("deleted ({by})"),
                _ => format!(
                    "deleted ({by}); {left} instances could not be reached and are killed when they return"
                ),
            };
            self.shared.events.record(
                self.cluster.as_str(),
                crate::Happening::of_cluster("Deleted", overlord_api::EventLevel::Normal, message),
            );
            // What is left to tell is told by a pass over what is left.
            self.shared.enqueue(self.cluster);
            return Ok(Action::await_change());
        }
        let situation = self.situation(Some(accepted), config_revision);
        let admission = tasks::admit(requests, situation);
        let publication = Publication {
            requests,
            situation,
            admission: &admission,
            instances: &[],
            refused: None,
            damaged: &[],
            spec_missing: None,
            config_revision,
            plan: None,
            accepted: Some(accepted),
        };
        self.publish(&publication).await.map(after)
    }
}

/// Least time between two questions to all nodes of a cluster: each answers with a line for every other.
fn look_interval(nodes: usize) -> Duration {
    Duration::from_millis(50) + Duration::from_millis(2) * u32::try_from(nodes).unwrap_or(u32::MAX)
}

/// The nodes of a cluster, and where each is expected.
fn nodes(instances: &[Instance]) -> BTreeMap<Address, Expected> {
    let meant_to_stay = instances.iter().filter(|instance| instance.info.desired.state != State::Gone);
    let expected = meant_to_stay.map(|Instance { info, .. }| {
        let lost = info.observed.state == State::Unreachable;
        (info.address(), Expected { id: node_id(info), lost })
    });
    expected.collect()
}

/// Everything observed of the instances that tells of a change in the cluster.
fn fingerprint(instances: &[Instance]) -> Digest {
    let mut text = String::new();
    for Instance { info, .. } in instances {
        let observed = &info.observed;
        let (task, state) = (&info.mesos_task_id, observed.state);
        let (role, epoch, link, slots) = (&observed.role, observed.epoch, &observed.link, &observed.slots);
        // Writing to a string does not fail.
        let _ = writeln!(text, "{task} {state} {role:?} {epoch:?} {link:?} {slots:?} {}", observed.restarts);
    }
    digest(text.as_bytes())
}

/// Another look after `delay`, or when something changes.
fn after(delay: Option<Duration>) -> Action {
    delay.map_or_else(Action::await_change, Action::requeue)
}

/// How long until `at`; nothing when it has passed.
fn until(now: Timestamp, at: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(now)).unwrap_or_default()
}
