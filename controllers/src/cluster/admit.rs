//! From the text under `config/` to an accepted revision. Whatever is wrong with the text, the last
//! accepted revision goes on; and a text that is gone is no order to delete.

use std::{fmt::Write as _, sync::Arc};

use jiff::Timestamp;
use overlord_api::{
    Cluster, DeletionMark, EventLevel, Fault, Hold, Info, KEPT_REVISIONS, Kind, PARAM_REVISION, Record,
    Revision, Task, TaskDesired, TaskKind, UNKNOWN_ATTEMPTS, Unreadable, VALUES_VERSION, keys, read_value,
};

use super::{Accepted, Error, Pass};
use crate::{
    Happening, identity,
    ledger::{Batch, Expect, Seen},
    tasks::Admission,
    witnesses::homeless_of,
};

/// What the text under `config/` came to.
pub(super) struct Admitted {
    pub(super) accepted: Option<Accepted>,
    /// Why the newest text was refused.
    pub(super) refused: Option<String>,
    /// The config key's mod revision; 0 when it is not there.
    pub(super) config_revision: i64,
}

/// Faults named in a condition; the rest is counted.
const FAULTS_TOLD: usize = 5;

impl Pass<'_> {
    pub(super) async fn admit_spec(&self) -> Result<Admitted, Error> {
        let ledger = &self.shared.ledger;
        let record = ledger
            .record(self.cluster)
            .map_err(|why| Error::Damaged { key: keys::record(self.cluster), why })?;
        let config = ledger.config.get(&keys::config(self.cluster)).map(|seen| seen.mod_revision);
        let Some(revision) = config else {
            let accepted = match record {
                Some(record) => Some(self.accepted(record).await?),
                None => None,
            };
            return Ok(Admitted { accepted, refused: None, config_revision: 0 });
        };
        let settled = record.as_ref().is_some_and(|record| {
            let record = &record.value;
            match &record.deletion {
                // A deletion that has begun ends before anything new begins.
                Some(mark) => !mark.done || mark.config_revision == revision,
                None => record.config_revision == revision,
            }
        });
        let refused =
            self.shared.memo(self.cluster, |memo| memo.refused.clone()).filter(|(at, _)| *at == revision);
        if settled || refused.is_some() {
            let accepted = match record {
                Some(record) => Some(self.accepted_or_restored(record).await?),
                None => None,
            };
            let refused = if settled { None } else { refused.map(|(_, why)| why) };
            return Ok(Admitted { accepted, refused, config_revision: revision });
        }
        self.admit_text(record).await
    }

    /// Reads the newest text and accepts or refuses it.
    async fn admit_text(&self, record: Option<Seen<Record>>) -> Result<Admitted, Error> {
        let key = keys::config(self.cluster);
        let listing = self.shared.ledger.store.get(&key).await.map_err(|error| self.error(error.into()))?;
        let Some(entry) = listing.entries.into_iter().next() else {
            // Deleted since the cache saw it; the watch brings that.
            let accepted = match record {
                Some(record) => Some(self.accepted(record).await?),
                None => None,
            };
            return Ok(Admitted { accepted, refused: None, config_revision: 0 });
        };
        let revision = entry.mod_revision;
        let old = match record {
            Some(record) if record.value.deletion.is_none() => self.accepted_or_restored(record).await?,
            // Deleted and declared again: a new life, that remembers only what must still be killed.
            former => return self.accept_first(&entry.value, revision, former).await,
        };
        match self.judge(&entry.value, Some(&old.cluster)) {
            Ok(cluster) => {
                let accepted = self.accept_next(cluster, revision, old).await?;
                Ok(Admitted { accepted: Some(accepted), refused: None, config_revision: revision })
            }
            Err(why) => {
                self.refuse(revision, &why);
                Ok(Admitted { accepted: Some(old), refused: Some(why), config_revision: revision })
            }
        }
    }

    async fn accept_first(
        &self,
        text: &[u8],
        config_revision: i64,
        former: Option<Seen<Record>>,
    ) -> Result<Admitted, Error> {
        let cluster = match self.judge(text, None) {
            Ok(cluster) => cluster,
            Err(why) => {
                self.refuse(config_revision, &why);
                let accepted = match former {
                    Some(record) => Some(self.accepted(record).await?),
                    None => None,
                };
                return Ok(Admitted { accepted, refused: Some(why), config_revision });
            }
        };
        if let Some(why) = self.vanished(former.as_ref()) {
            self.refuse(config_revision, &why);
            return Ok(Admitted { accepted: None, refused: Some(why), config_revision });
        }
        let record = match self.rebuilt(former.as_ref()) {
            Some(record) => {
                let message = "the record was lost and is rebuilt from the instances".to_owned();
                self.happened("RecordRebuilt", EventLevel::Warning, message);
                record
            }
            None => self.new_record(cluster.spec.shape.kind(), config_revision, former.as_ref()),
        };
        if record.kind != cluster.spec.shape.kind() {
            let why =
                format!("{}: kind: what runs is {}", keys::config(self.cluster), record.kind.manifest_kind());
            self.refuse(config_revision, &why);
            return Ok(Admitted { accepted: None, refused: Some(why), config_revision });
        }
        let seen = Seen { value: record, revision: former.map_or(0, |former| former.revision) };
        let accepted = self.write_revision(cluster, config_revision, seen, TaskKind::Deploy).await?;
        Ok(Admitted { accepted: Some(accepted), refused: None, config_revision })
    }

    fn new_record(&self, kind: Kind, config_revision: i64, former: Option<&Seen<Record>>) -> Record {
        Record {
            version: 1,
            uid: self.shared.new_uid(),
            kind,
            formed: false,
            next_member: 0,
            revision: 0,
            config_revision,
            born: config_revision,
            attempts: 0,
            framework: None,
            hold: None,
            deletion: None,
            tombstones: former.map(|former| former.value.tombstones.clone()).unwrap_or_default(),
            losses: std::collections::BTreeMap::new(),
            generation: self.shared.high_water.mark_of(0).generation,
            restored: None,
        }
    }

    /// Why nothing new is made of a spec: all that was recorded of its cluster is gone, and was not removed by a
    /// leader. That is no word that what runs has ended; another cluster beside it would take its clients.
    fn vanished(&self, former: Option<&Seen<Record>>) -> Option<String> {
        if former.is_some() || !self.shared.ledger.instances(self.cluster).0.is_empty() {
            return None;
        }
        let homeless = homeless_of(self.shared, self.cluster);
        if let Some(first) = homeless.first() {
            return Some(format!(
                "mesos runs {} tasks of a cluster of this name that etcd does not know ({first}, ...): it was restored \
                 from a backup that is older than the cluster; restore a newer one, or end the tasks for a new cluster",
                homeless.len()
            ));
        }
        // Said once: who applies the spec again after that means a new one.
        let tasks = self.shared.memo(self.cluster, |memo| std::mem::take(&mut memo.recorded));
        let first = tasks.first()?;
        Some(format!(
            "everything below {} is gone, and {} Mesos tasks that were recorded there may run on ({first}, ...): put \
             the keys back, or end the tasks and apply the spec again for a new cluster",
            keys::cluster(self.cluster),
            tasks.len()
        ))
    }

    /// The record of instances that have none: somebody removed it. Their numbers must not be given again.
    fn rebuilt(&self, former: Option<&Seen<Record>>) -> Option<Record> {
        if former.is_some() {
            return None;
        }
        let (instances, _) = self.shared.ledger.instances(self.cluster);
        let first = &instances.first()?.info;
        let infos = || instances.iter().map(|instance| &instance.info).filter(|info| info.uid == first.uid);
        let attempt = |info: &Info| info.mesos_task_id.rsplit('.').next().and_then(|n| n.parse::<u64>().ok());
        Some(Record {
            uid: first.uid.clone(),
            formed: true,
            next_member: infos().map(|info| info.member.saturating_add(1)).max().unwrap_or(0),
            revision: self.shared.ledger.last_revision(self.cluster),
            // How many there were since is not known.
            attempts: infos()
                .filter_map(|info| attempt(info))
                .max()
                .unwrap_or(0)
                .saturating_add(UNKNOWN_ATTEMPTS),
            ..self.new_record(first.kind, 0, None)
        })
    }

    async fn accept_next(
        &self,
        cluster: Cluster,
        config_revision: i64,
        old: Accepted,
    ) -> Result<Accepted, Error> {
        if cluster == *old.cluster {
            // Another text for the same spec: nothing to roll out, only to remember which text it was.
            let mut record = old.record.value.clone();
            record.config_revision = config_revision;
            let mut batch = Batch::default();
            batch.put_json(keys::record(self.cluster), &record, Expect::At(old.record.revision));
            batch.require(keys::config(self.cluster), Expect::At(config_revision));
            let revision = self.shared.ledger.commit(batch).await.map_err(|source| self.error(source))?;
            return Ok(Accepted { record: Seen { value: record, revision }, cluster: old.cluster });
        }
        self.write_revision(cluster, config_revision, old.record, TaskKind::Update).await
    }

    /// Writes revision n + 1, the record that names it, and the task that brings it about.
    async fn write_revision(
        &self,
        cluster: Cluster,
        config_revision: i64,
        record: Seen<Record>,
        kind: TaskKind,
    ) -> Result<Accepted, Error> {
        let now = self.shared.clock.now();
        let mut next = record.value;
        next.revision += 1;
        next.config_revision = config_revision;
        let revision = Revision {
            version: VALUES_VERSION,
            revision: next.revision,
            config_revision,
            accepted_at: now,
            manifest: cluster.to_yaml(),
        };
        let mut batch = Batch::default();
        batch.require(keys::config(self.cluster), Expect::At(config_revision));
        let seen = Some(record.revision).filter(|&revision| revision > 0);
        batch.put_json(keys::record(self.cluster), &next, Expect::seen(seen));
        batch.put_json(keys::revision(self.cluster, next.revision), &revision, Expect::Any);
        if let Some(old) = next.revision.checked_sub(KEPT_REVISIONS).filter(|&n| n > 0) {
            batch.delete(keys::revision(self.cluster, old), Expect::Any);
        }
        let id = identity::revision_task(self.cluster, &next.uid, next.revision);
        batch.put_json(keys::task(&id), &self.task(kind, next.revision, now), Expect::Absent);
        let committed = self.shared.ledger.commit(batch).await.map_err(|source| self.error(source))?;
        let message = format!("revision {} is accepted", next.revision);
        let cluster = Arc::new(cluster);
        self.shared.memo(self.cluster, |memo| {
            memo.refused = None;
            memo.unplaceable = None;
            memo.spec = Some((next.uid.clone(), next.revision, Arc::clone(&cluster)));
        });
        self.happened("RevisionAccepted", EventLevel::Normal, message);
        Ok(Accepted { record: Seen { value: next, revision: committed }, cluster })
    }

    fn task(&self, kind: TaskKind, revision: u64, now: Timestamp) -> Task {
        Task {
            version: overlord_api::VALUES_VERSION,
            kind,
            cluster: self.cluster.clone(),
            params: [(PARAM_REVISION.to_owned(), revision.to_string())].into(),
            requested_by: format!("revision {revision}"),
            requested_at: Some(now),
            desired: TaskDesired::Run,
        }
    }

    /// Checks a text: its form, its values, the catalogue, and whether it may follow `old`.
    fn judge(&self, text: &[u8], old: Option<&Cluster>) -> Result<Cluster, String> {
        let key = keys::config(self.cluster);
        let cluster = overlord_api::parse_key(self.cluster, text, &self.shared.rules)
            .map_err(|faults| format!("{key}: {}", told(&faults)))?;
        let refused = old.map(|old| overlord_api::check_change(old, &cluster)).unwrap_or_default();
        if !refused.is_empty() {
            // What was parsed is UTF-8.
            let text = String::from_utf8_lossy(text);
            let faults: Vec<Fault> =
                refused.into_iter().map(|(path, fault)| overlord_api::locate(&text, path, fault)).collect();
            return Err(format!("{key}: {}", told(&faults)));
        }
        Ok(cluster)
    }

    fn refuse(&self, revision: i64, why: &str) {
        self.shared.memo(self.cluster, |memo| memo.refused = Some((revision, why.to_owned())));
        self.happened("SpecRefused", EventLevel::Warning, why.to_owned());
    }

    pub(super) fn happened(&self, reason: &'static str, level: EventLevel, message: String) {
        self.shared.events.record(self.cluster.as_str(), Happening::of_cluster(reason, level, message));
    }

    /// The accepted spec of a record; when its revision is lost, what stands under `config/` takes its place.
    async fn accepted_or_restored(&self, record: Seen<Record>) -> Result<Accepted, Error> {
        let damaged = match self.accepted(record.clone()).await {
            Err(damaged @ Error::Damaged { .. }) => damaged,
            outcome => return outcome,
        };
        let key = keys::config(self.cluster);
        let listing = self.shared.ledger.store.get(&key).await.map_err(|error| self.error(error.into()))?;
        let Some(entry) = listing.entries.first() else { return Err(damaged) };
        match self.judge(&entry.value, None) {
            Ok(cluster) if cluster.spec.shape.kind() == record.value.kind => {
                self.happened(
                    "RevisionRestored",
                    EventLevel::Warning,
                    format!("{damaged}; restored from {key}"),
                );
                self.write_revision(cluster, entry.mod_revision, record, TaskKind::Update).await
            }
            _ => Err(damaged),
        }
    }

    /// The accepted spec of a record.
    async fn accepted(&self, record: Seen<Record>) -> Result<Accepted, Error> {
        let (uid, n) = (&record.value.uid, record.value.revision);
        let held = self.shared.memo(self.cluster, |memo| memo.spec.clone());
        if let Some((_, _, cluster)) = held.filter(|(held, revision, _)| held == uid && *revision == n) {
            return Ok(Accepted { record, cluster });
        }
        let key = keys::revision(self.cluster, n);
        let listing = self.shared.ledger.store.get(&key).await.map_err(|error| self.error(error.into()))?;
        let damaged = |why: String| Error::Damaged { key: key.clone(), why };
        let entry = listing.entries.first().ok_or_else(|| damaged(String::from("it is missing")))?;
        let revision: Revision =
            read_value(&entry.value).map_err(|error: Unreadable| damaged(error.to_string()))?;
        let cluster =
            overlord_api::parse_revision(&revision.manifest).map_err(|faults| damaged(told(&faults)))?;
        let cluster = Arc::new(cluster);
        self.shared.memo(self.cluster, |memo| memo.spec = Some((uid.clone(), n, Arc::clone(&cluster))));
        Ok(Accepted { record, cluster })
    }

    /// Decides whether the cluster is to be deleted, and records it. Otherwise says why a missing
    /// config key is not followed.
    pub(super) async fn mark_deletion(
        &self,
        accepted: &mut Accepted,
        admission: &Admission,
        config_revision: i64,
    ) -> Result<Option<Hold>, Error> {
        if accepted.record.value.deletion.is_some() {
            return Ok(None);
        }
        let key = keys::config(self.cluster);
        let held = accepted.record.value.hold.clone();
        // The text that was there when the destruction was asked for must not bring the cluster back; a newer
        // one is a new life.
        let mut buried = 0;
        let by = if let Some((task, asked)) = &admission.destroy {
            buried = if config_revision <= *asked { config_revision } else { 0 };
            format!("task {task}")
        } else if config_revision != 0 {
            if held.is_some() {
                self.write_hold(accepted, None).await?;
            }
            return Ok(None);
        } else if accepted.cluster.spec.deletion.protected {
            let message = format!(
                "{key} is gone; the cluster is protected and goes on: apply its spec again, or apply it with deletion.protected: false and delete it"
            );
            return Ok(Some(hold("Protected", message)));
        } else if held.is_some() {
            return Ok(held);
        } else if let Some(missing) = self.over_ceiling() {
            let message = format!(
                "{key} is gone, and so were {} others at once: nothing is deleted; apply the spec again, or delete the cluster by a destroy task",
                missing - 1
            );
            return self.write_hold(accepted, Some(hold("DeletionCeiling", message))).await;
        } else {
            String::from("config removed")
        };
        let mut record = accepted.record.value.clone();
        record.deletion = Some(DeletionMark {
            at: self.shared.clock.now(),
            by: by.clone(),
            config_revision: buried,
            done: false,
        });
        let mut batch = Batch::default();
        batch.put_json(keys::record(self.cluster), &record, Expect::At(accepted.record.revision));
        if config_revision == 0 {
            batch.require(keys::config(self.cluster), Expect::Absent);
        }
        let revision = self.shared.ledger.commit(batch).await.map_err(|source| self.error(source))?;
        accepted.record = Seen { value: record, revision };
        self.happened("Deleting", EventLevel::Normal, format!("the cluster is being deleted ({by})"));
        Ok(None)
    }

    /// Remembers why the cluster is kept without its config key, or that this is over.
    async fn write_hold(&self, accepted: &mut Accepted, hold: Option<Hold>) -> Result<Option<Hold>, Error> {
        let mut record = accepted.record.value.clone();
        record.hold.clone_from(&hold);
        let mut batch = Batch::default();
        batch.put_json(keys::record(self.cluster), &record, Expect::At(accepted.record.revision));
        let revision = self.shared.ledger.commit(batch).await.map_err(|source| self.error(source))?;
        accepted.record = Seen { value: record, revision };
        Ok(hold)
    }

    /// How many clusters lost their config key and are not being deleted, when that is too many at once.
    fn over_ceiling(&self) -> Option<usize> {
        let ledger = &self.shared.ledger;
        let missing = ledger
            .known_clusters()
            .iter()
            .filter(|cluster| ledger.config.get(&keys::config(cluster)).is_none())
            .filter(|cluster| {
                ledger.record(cluster).is_ok_and(|r| r.is_some_and(|r| r.value.deletion.is_none()))
            })
            // Protected ones are safe by themselves.
            .filter(|cluster| {
                let spec = self.shared.memo(cluster, |memo| memo.spec.clone());
                spec.is_none_or(|(_, _, known)| !known.spec.deletion.protected)
            })
            .filter(|cluster| !ledger.requests(cluster).iter().any(crate::tasks::Request::is_open_destroy))
            .count();
        (missing > self.shared.settings.deletion_ceiling).then_some(missing)
    }
}

fn hold(reason: &str, message: String) -> Hold {
    Hold { reason: reason.to_owned(), message }
}

/// The first faults in one line each.
pub(super) fn told(faults: &[Fault]) -> String {
    let mut text = faults.iter().take(FAULTS_TOLD).map(ToString::to_string).collect::<Vec<_>>().join("; ");
    if faults.len() > FAULTS_TOLD {
        let _ = write!(text, "; and {} more", faults.len() - FAULTS_TOLD);
    }
    text
}
