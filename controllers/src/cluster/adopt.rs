//! Instances that run and are not recorded: their info was lost while no leader remembered it, or the records come
//! from a backup that is older than they are. Mesos names their task and agent, the executor says where it is and how;
//! the rest follows from the record and the accepted spec.

use std::{collections::BTreeMap, time::Duration};

use overlord_api::{
    Address, ClusterName, Desired, EventLevel, INFO_VERSION, Info, Observed, Record, Report, Spec, State,
    Unreadable, keys,
};
use overlord_mesos::v1::{AgentId, TaskId};

use super::{Accepted, Error, Pass};
use crate::{
    Happening,
    at_hand::Domains,
    fold,
    identity::alias,
    ledger::{Batch, Expect},
    members::{
        observed::Instance,
        plan::{Plan, Waiting},
    },
    redis_cluster::node_and_shard,
    shared::Stranger,
};

/// How long after Mesos was asked for all it knows its answers are waited for: nothing marks the last one.
pub(super) const ANSWERS: Duration = Duration::from_secs(10);

/// Infos completed in one transaction.
const AT_ONCE: usize = 60;

impl Pass<'_> {
    /// Records the instances that run unrecorded, as far as they are known by now.
    pub(super) async fn adopt(&self, accepted: &Accepted) -> Result<(), Error> {
        let strangers = self.shared.memo(self.cluster, |memo| {
            // Those whose info was put back meanwhile.
            memo.strangers.retain(|task, _| self.shared.ledger.index.task(task).is_empty());
            memo.strangers.clone()
        });
        for (task, stranger) in strangers {
            let (Some(report), Some(agent)) = (&stranger.report, &stranger.agent) else { continue };
            let Some(address) = report.address else { continue };
            let Some(mut batch) = self.room_for(&stranger, address) else { continue };
            let (record, spec) = (&accepted.record.value, &accepted.cluster.spec);
            let now = self.shared.clock.now();
            let mut info = self.rebuilt_info(record, spec, &task, &stranger, agent, address);
            info.observed.since = now;
            fold::apply(&mut info, report);
            batch.put_json(keys::info(self.cluster, address), &info, self.expect(address));
            batch.require(keys::record(self.cluster), Expect::At(accepted.record.revision));
            self.shared.ledger.commit(batch).await.map_err(|source| self.error(source))?;
            self.shared.memo(self.cluster, |memo| memo.strangers.remove(&task));
            self.shared.sync.ask(self.shared.clock.monotonic(), TaskId::new(&task), Some(agent.clone()));
            let member = stranger.member;
            self.shared.events.record(
                self.cluster.as_str(),
                Happening {
                    object: format!("member/{member}"),
                    reason: "InfoRebuilt",
                    level: EventLevel::Warning,
                    message: format!(
                        "mesos runs {task} at {address}, which was not recorded: its info is made again from what \
                         mesos, its executor and the accepted spec say"
                    ),
                },
            );
        }
        Ok(())
    }

    /// Completes infos that do not say in which rack or zone they are, once an offer of their agent has told it: those
    /// that were made again, and those of agents that were given these attributes later.
    pub(super) async fn complete(&self) -> Result<(), Error> {
        let (mut instances, _) = self.shared.ledger.instances(self.cluster);
        instances.retain(|instance| instance.info.rack.is_none() || instance.info.zone.is_none());
        if instances.is_empty() {
            return Ok(());
        }
        let agents = instances.iter().map(|instance| instance.info.agent_id.as_str());
        let domains = self.shared.launcher.domains(agents);
        let mut batch = Batch::default();
        for (instance, Domains { rack, zone }) in instances.iter().zip(domains) {
            let known = &instance.info;
            if (known.rack.is_some() || rack.is_none()) && (known.zone.is_some() || zone.is_none()) {
                continue;
            }
            let mut info = (**known).clone();
            info.rack = info.rack.or(rack);
            info.zone = info.zone.or(zone);
            batch.put_json(keys::info(self.cluster, info.address()), &info, Expect::At(instance.revision));
            if batch.operations() >= AT_ONCE {
                let batch = std::mem::take(&mut batch);
                self.shared.ledger.commit(batch).await.map_err(|source| self.error(source))?;
            }
        }
        if !batch.is_empty() {
            self.shared.ledger.commit(batch).await.map_err(|source| self.error(source))?;
        }
        Ok(())
    }

    /// Infos that are gone and were not removed by a leader. Once Mesos has told all it knows, what is still not
    /// found does not run, and is given up; until then it may.
    pub(super) async fn unexplained(&self, accepted: &Accepted) -> Result<Vec<(String, String)>, Error> {
        let ledger = &self.shared.ledger;
        let (_, unreadable) = ledger.instances(self.cluster);
        let traces = match accepted.record.value.deletion {
            Some(_) => BTreeMap::new(),
            None => ledger.traces(self.cluster),
        };
        if traces.is_empty() && unreadable.is_empty() {
            return Ok(Vec::new());
        }
        let Some(listed) = self.shared.sync.listed() else {
            self.shared.sync.list_all();
            return Ok(told(self.cluster, &traces));
        };
        let strangers = self.shared.memo(self.cluster, |memo| !memo.strangers.is_empty());
        let answered = listed + ANSWERS <= self.shared.clock.monotonic();
        if traces.is_empty() || strangers || !answered {
            return Ok(told(self.cluster, &traces));
        }
        let mut batch = Batch::default();
        batch.require(keys::record(self.cluster), Expect::At(accepted.record.revision));
        for address in traces.keys() {
            batch.delete(keys::server_conf(self.cluster, *address), Expect::Any);
            batch.delete(keys::nodes_conf(self.cluster, *address), Expect::Any);
            let key = keys::info(self.cluster, *address);
            self.tell_value(
                &key,
                "ValueLost",
                format!("{key} was deleted, and mesos runs nothing that belongs there: it is given up"),
            );
        }
        self.shared.ledger.commit(batch).await.map_err(|source| self.error(source))?;
        Ok(Vec::new())
    }

    /// What has to go for a stranger; `None` when it has no place: another instance of the same member is recorded
    /// and may run, or its address is somebody else's.
    fn room_for(&self, stranger: &Stranger, address: Address) -> Option<Batch> {
        let ledger = &self.shared.ledger;
        let key = keys::info(self.cluster, address);
        if matches!(ledger.unreadable(&key), Some(Unreadable::Newer(_))) {
            return None;
        }
        let mut batch = Batch::default();
        for instance in &ledger.instances(self.cluster).0 {
            let info = &instance.info;
            if info.member != stranger.member {
                if info.address() == address {
                    return None;
                }
                continue;
            }
            // One that mesos does not find is over, too: a newer attempt is never launched beside one that may run.
            let over = matches!(info.observed.state, State::Failed | State::Gone | State::Unreachable);
            let older = attempt(&info.mesos_task_id) < Some(stranger.attempt);
            if !(over && older && self.shared.sync.is_confirmed(&info.mesos_task_id)) {
                return None;
            }
            if info.address() != address {
                let there = info.address();
                batch.delete(keys::info(self.cluster, there), Expect::At(instance.revision));
                batch.delete(keys::server_conf(self.cluster, there), Expect::Any);
                batch.delete(keys::nodes_conf(self.cluster, there), Expect::Any);
            }
        }
        Some(batch)
    }

    fn expect(&self, address: Address) -> Expect {
        let key = keys::info(self.cluster, address);
        Expect::seen(self.shared.ledger.clusters.get(&key).map(|seen| seen.mod_revision))
    }

    fn rebuilt_info(
        &self,
        record: &Record,
        spec: &Spec,
        task: &str,
        stranger: &Stranger,
        agent: &AgentId,
        address: Address,
    ) -> Info {
        let kind = record.kind;
        let &Stranger { member, incarnation, .. } = stranger;
        let report = stranger.report.as_ref();
        let (node_id, shard) = node_and_shard(spec, &record.uid, member, incarnation);
        let of_report = |number: fn(&Report) -> u64| report.map_or(0, number);
        Info {
            version: INFO_VERSION,
            uid: record.uid.clone(),
            member,
            incarnation,
            kind,
            engine: kind.engine(),
            engine_version: report
                .and_then(|report| report.engine_version.clone())
                .unwrap_or_else(|| spec.version.clone()),
            ip: address.ip,
            port: address.port,
            bus_port: report.and_then(|report| report.bus_port),
            host: address.ip.to_string(),
            // Its agent's offers say them: see `complete`.
            rack: None,
            zone: None,
            agent_id: agent.to_string(),
            mesos_task_id: task.to_owned(),
            node_id,
            shard,
            alias: alias(self.cluster, member),
            weight: 1,
            resources: spec.resources,
            on_disk: spec.deletion.on_disk,
            on_agent_loss: spec.recovery.on_agent_loss,
            // It may have been there before: what lies on its disk counts.
            launches: 1,
            template: None,
            desired: Desired {
                state: State::Running,
                config: of_report(|report| report.config).max(1),
                restart: of_report(|report| report.restart),
                recover: 0,
            },
            observed: Observed::pending(self.shared.clock.now()),
        }
    }

    /// Records that come from a backup are believed once Mesos has said what runs of them: until then nothing is
    /// done to the cluster.
    pub(super) async fn verify_restored(
        &self,
        accepted: &mut Accepted,
        instances: &[Instance],
        plan: &mut Plan,
    ) -> Result<(), Error> {
        let Some(restored) = accepted.record.value.restored.clone() else { return Ok(()) };
        let now = self.shared.clock.monotonic();
        let confirmed = instances.iter().all(|i| self.shared.sync.is_confirmed(&i.info.mesos_task_id));
        let listed = self.shared.sync.listed();
        if confirmed && listed.is_some_and(|at| at + ANSWERS <= now) {
            let mut next = accepted.record.value.clone();
            next.restored = None;
            self.put_record(accepted, next).await?;
            let message = format!(
                "the records from the backup of {} are verified: mesos has said what runs",
                restored.taken_at
            );
            self.happened("BackupVerified", EventLevel::Normal, message);
            return Ok(());
        }
        if listed.is_none() {
            self.shared.sync.list_all();
        }
        plan.steps.clear();
        plan.ask.clear();
        let again = self.shared.clock.now().saturating_add(Duration::from_secs(1)).ok();
        plan.waiting.insert(
            0,
            Waiting {
                member: 0,
                why: format!(
                    "the records are from a backup of {}: mesos is asked what runs of them before anything is done",
                    restored.taken_at
                ),
                until: again,
            },
        );
        Ok(())
    }
}

/// The number of the attempt, the last part of a Mesos task id.
fn attempt(task: &str) -> Option<u64> {
    task.rsplit('.').next()?.parse().ok()
}

fn told(cluster: &ClusterName, traces: &BTreeMap<Address, &'static str>) -> Vec<(String, String)> {
    let why = |trace: &str| format!("it is gone, and {trace}: mesos is asked whether it runs");
    traces.iter().map(|(address, trace)| (keys::info(cluster, *address), why(trace))).collect()
}
