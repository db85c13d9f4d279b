//! What of a backup goes into a store: what is missing there, unless it is missing because the world went on. Pure.
//!
//! Nothing that is there is overwritten or deleted. Of a cluster that is there, an instance comes back only when
//! nothing was launched, replaced or changed since; of one that is not there, everything does when the store holds no
//! cluster at all (it was wiped), or when the cluster is named by a person: it may have been deleted on purpose.
//! Records come back marked: the controllers do nothing to such a cluster before Mesos has said what runs of it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use overlord_api::{
    ClusterName, Info, Quarantine, Record, Restored, Task, TaskKind, TaskStatus, UNKNOWN_ATTEMPTS,
    keys::{self, Key},
    read_value,
};
use sha2::{Digest as _, Sha256};

use super::file::{Header, Saved};

type Sum = [u8; 32];

/// What counts of a store or of a backup for the decision: no values but the records.
#[derive(Debug, Default)]
pub(crate) struct World {
    keys: BTreeMap<String, Sum>,
    records: BTreeMap<ClusterName, Record>,
    /// Members that have an info.
    members: BTreeMap<ClusterName, BTreeSet<u32>>,
    clusters: BTreeSet<ClusterName>,
    /// Requests that are over, or only say what the accepted spec says.
    harmless: BTreeSet<String>,
    kinds: BTreeMap<String, TaskKind>,
}

impl World {
    /// Takes note of a key.
    pub(crate) fn add(&mut self, key: &str, value: &[u8]) {
        self.keys.insert(key.to_owned(), Sha256::digest(value).into());
        match Key::parse(key) {
            Key::Config(name) => self.clusters.extend(ClusterName::new(name)),
            Key::Record(cluster) => {
                self.clusters.insert(cluster.clone());
                if let Ok(record) = read_value(value) {
                    self.records.insert(cluster, record);
                }
            }
            Key::Info(cluster, _) => {
                if let Ok(info) = read_value::<Info>(value) {
                    self.members.entry(cluster.clone()).or_default().insert(info.member);
                }
                self.clusters.insert(cluster);
            }
            Key::Task(id) => {
                if let Ok(task) = read_value::<Task>(value) {
                    self.kinds.insert(id.to_owned(), task.kind);
                }
            }
            Key::TaskStatus(id)
                if read_value::<TaskStatus>(value).is_ok_and(|status| status.state.is_terminal()) =>
            {
                self.harmless.insert(id.to_owned());
            }
            _ => {}
        }
    }

    /// How many keys there are.
    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Keys that `other` does not have.
    pub(crate) fn without<'w>(&'w self, other: &'w Self) -> impl Iterator<Item = &'w str> {
        self.keys.keys().filter(|key| !other.keys.contains_key(*key)).map(String::as_str)
    }

    fn is_harmless(&self, id: &str) -> bool {
        let declared = matches!(self.kinds.get(id), Some(TaskKind::Deploy | TaskKind::Update));
        declared || self.harmless.contains(id)
    }
}

/// What becomes of one key of the backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Decision {
    /// It is written, with this value, in this order.
    Restore(Stage, Vec<u8>),
    /// The store has the same.
    Same,
    /// The store keeps what it has, or has not; and why.
    Keep(String),
}

/// In which order keys are written: what is written of a cluster whose restore was interrupted is acted on by nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// Framework, quarantines, secrets, requests, revisions.
    Ground,
    /// Instances.
    Instances,
    /// Records.
    Records,
    /// Specs.
    Specs,
}

/// All stages, in order.
pub(crate) const STAGES: [Stage; 4] = [Stage::Ground, Stage::Instances, Stage::Records, Stage::Specs];

/// What decides.
#[derive(Debug)]
pub(crate) struct Restore<'a> {
    pub(crate) header: &'a Header,
    pub(crate) backup: &'a World,
    pub(crate) store: &'a World,
    /// Clusters that a person wants back although the store went on without them.
    pub(crate) named: &'a BTreeSet<ClusterName>,
    pub(crate) now: Timestamp,
}

impl Restore<'_> {
    /// Decides on one key of the backup.
    pub(crate) fn decide(&self, saved: &Saved) -> Decision {
        let Saved { key, value } = saved;
        if !super::is_copied(key) {
            return keep("it speaks of the controllers of then");
        }
        if let Some(sum) = self.store.keys.get(key) {
            let same = *sum == <Sum>::from(Sha256::digest(value));
            return if same { Decision::Same } else { keep("the store has another value") };
        }
        let put = |stage| Decision::Restore(stage, value.clone());
        match Key::parse(key) {
            Key::Config(name) => match ClusterName::new(name) {
                Ok(cluster) => self.spec(&cluster, value),
                Err(_) => keep("its name is illegal"),
            },
            Key::Record(cluster) => self.record(&cluster),
            Key::Info(cluster, _) => self.instance(&cluster, Some(value), value),
            Key::ServerConf(cluster, _) | Key::NodesConf(cluster, _) => self.instance(&cluster, None, value),
            Key::Revision(cluster, _) | Key::Endpoints(cluster) => match self.of_cluster(&cluster) {
                Ok(()) => put(Stage::Ground),
                Err(why) => Decision::Keep(why),
            },
            Key::Status(_) => keep("the leader makes it anew"),
            Key::Task(id) | Key::TaskStatus(id) if self.backup.is_harmless(id) => put(Stage::Ground),
            Key::Task(_) | Key::TaskStatus(_) => {
                keep("it was under way or waited, and may have been done since: ask again")
            }
            Key::Quarantine(_) => match read_value::<Quarantine>(value) {
                Ok(quarantine) if quarantine.until <= self.now => keep("it is over"),
                Ok(_) | Err(_) => put(Stage::Ground),
            },
            Key::Framework => put(Stage::Ground),
            _ if key.starts_with(keys::ROOT) => put(Stage::Ground),
            _ => keep("it is none of overlord's"),
        }
    }

    /// Whether anything of a cluster may come back.
    fn of_cluster(&self, cluster: &ClusterName) -> Result<(), String> {
        if !self.store.clusters.contains(cluster) {
            if self.store.clusters.is_empty() || self.named.contains(cluster) {
                return Ok(());
            }
            return Err(format!(
                "the store has other clusters and not {cluster}, which may have been deleted since: name it with \
                 --cluster {cluster}"
            ));
        }
        let (then, now) = (self.backup.records.get(cluster), self.store.records.get(cluster));
        match (then, now) {
            (Some(then), Some(now)) if then.uid != now.uid => {
                Err(format!("{cluster} is another cluster of that name now"))
            }
            (Some(then), Some(now)) => {
                if now.deletion.is_some() {
                    return Err(format!("{cluster} is being deleted"));
                }
                let counts = |record: &Record| (record.attempts, record.revision, record.next_member);
                if counts(then) != counts(now) || then.tombstones != now.tombstones {
                    return Err(format!(
                        "{cluster} went on since: revision {} and {} launches then, {} and {} now",
                        then.revision, then.attempts, now.revision, now.attempts
                    ));
                }
                Ok(())
            }
            (None, Some(_)) => Err(format!("the backup has no readable record of {cluster}")),
            // Its record is gone, and comes back with the rest; or there never was one.
            (Some(_) | None, None) => Ok(()),
        }
    }

    fn spec(&self, cluster: &ClusterName, value: &[u8]) -> Decision {
        if self.backup.records.get(cluster).is_some_and(|record| record.deletion.is_some()) {
            return keep("the cluster was being deleted or was deleted then");
        }
        match self.of_cluster(cluster) {
            Ok(()) => Decision::Restore(Stage::Specs, value.to_vec()),
            Err(why) => Decision::Keep(why),
        }
    }

    /// The record, as the backup of another time: numbers of the store it comes from mean nothing in this one.
    fn record(&self, cluster: &ClusterName) -> Decision {
        if let Err(why) = self.of_cluster(cluster) {
            return Decision::Keep(why);
        }
        let Some(record) = self.backup.records.get(cluster) else {
            return keep("it cannot be read");
        };
        let mut record = record.clone();
        record.restored =
            Some(Restored { taken_at: self.header.taken_at, store_revision: self.header.store_revision });
        record.attempts = record.attempts.saturating_add(UNKNOWN_ATTEMPTS);
        record.config_revision = 0;
        record.born = 0;
        if let Some(mark) = &mut record.deletion {
            mark.config_revision = 0;
        }
        match serde_json::to_vec(&record) {
            Ok(value) => Decision::Restore(Stage::Records, value),
            Err(error) => Decision::Keep(format!("it cannot be written: {error}")),
        }
    }

    /// An info, or a text beside it.
    fn instance(&self, cluster: &ClusterName, info: Option<&[u8]>, value: &[u8]) -> Decision {
        if let Err(why) = self.of_cluster(cluster) {
            return Decision::Keep(why);
        }
        if let Some(info) = info {
            let Ok(info) = read_value::<Info>(info) else { return keep("it cannot be read") };
            let taken = self.store.members.get(cluster).is_some_and(|members| members.contains(&info.member));
            if taken {
                return Decision::Keep(format!("member {} is recorded elsewhere by now", info.member));
            }
        }
        Decision::Restore(Stage::Instances, value.to_vec())
    }
}

fn keep(why: &str) -> Decision {
    Decision::Keep(why.to_owned())
}

#[cfg(test)]
mod tests;
