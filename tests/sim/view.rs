//! What is in the store, read for the oracles and for the story.

use std::{collections::BTreeMap, sync::Arc};

use overlord_api::{
    Address, ClusterName, Endpoints, Info, Leader, Placement, Quarantine, Record, Revision, Status,
    TaskStatus, Truth,
    keys::{self, Key},
    parse_revision,
};
use overlord_store::Entry;
use serde::de::DeserializeOwned;

/// The contents of the store at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct View {
    pub(crate) entries: BTreeMap<Arc<str>, Entry>,
}

impl View {
    fn read<T: DeserializeOwned>(&self, key: &str) -> Option<T> {
        serde_json::from_slice(&self.entries.get(key)?.value).ok()
    }

    /// All recorded instances, in the order of their keys.
    pub(crate) fn infos(&self) -> Vec<(ClusterName, Info)> {
        let infos = self.entries.iter().filter_map(|(key, entry)| match Key::parse(key) {
            Key::Info(cluster, _) => Some((cluster, serde_json::from_slice(&entry.value).ok()?)),
            _ => None,
        });
        infos.collect()
    }

    /// The instance whose Mesos task that is.
    pub(crate) fn info_of_task(&self, task: &str) -> Option<(ClusterName, Info)> {
        self.infos().into_iter().find(|(_, info)| info.mesos_task_id == task)
    }

    pub(crate) fn record(&self, cluster: &ClusterName) -> Option<Record> {
        self.read(&keys::record(cluster))
    }

    pub(crate) fn records(&self) -> Vec<(ClusterName, Record)> {
        let records = self.entries.iter().filter_map(|(key, entry)| match Key::parse(key) {
            Key::Record(cluster) => Some((cluster, serde_json::from_slice(&entry.value).ok()?)),
            _ => None,
        });
        records.collect()
    }

    pub(crate) fn status(&self, cluster: &ClusterName) -> Option<Status> {
        self.read(&keys::status(cluster))
    }

    pub(crate) fn endpoints(&self, cluster: &ClusterName) -> Option<Endpoints> {
        self.read(&keys::endpoints(cluster))
    }

    pub(crate) fn quarantine(&self, address: Address) -> Option<Quarantine> {
        self.read(&keys::quarantine(address))
    }

    pub(crate) fn server_conf(&self, cluster: &ClusterName, address: Address) -> Option<String> {
        let entry = self.entries.get(keys::server_conf(cluster, address).as_str())?;
        String::from_utf8(entry.value.to_vec()).ok()
    }

    /// The placement rules of a cluster's accepted revision.
    pub(crate) fn placement(&self, cluster: &ClusterName) -> Option<Placement> {
        let revision = self.record(cluster)?.revision;
        let accepted: Revision = self.read(&keys::revision(cluster, revision))?;
        Some(parse_revision(&accepted.manifest).ok()?.spec.placement)
    }

    /// Who holds the leader key.
    pub(crate) fn leader(&self) -> Option<String> {
        self.read::<Leader>(keys::LEADER).map(|leader| leader.id)
    }

    /// The same, with the create revision of the key.
    pub(crate) fn leader_and_term(&self) -> Option<(String, i64)> {
        Some((self.leader()?, self.entries.get(keys::LEADER)?.create_revision))
    }

    /// The text of a spec.
    pub(crate) fn config(&self, cluster: &ClusterName) -> Option<String> {
        let entry = self.entries.get(keys::config(cluster).as_str())?;
        String::from_utf8(entry.value.to_vec()).ok()
    }

    /// The revision at which a key was last written; 0 when it is not there.
    pub(crate) fn mod_revision(&self, key: &str) -> i64 {
        self.entries.get(key).map_or(0, |entry| entry.mod_revision)
    }

    /// Keys that begin so.
    pub(crate) fn keys(&self, prefix: &str) -> Vec<Arc<str>> {
        self.entries.keys().filter(|key| key.starts_with(prefix)).cloned().collect()
    }
}

/// A value in a few words.
pub(crate) fn brief(key: &str, value: &[u8]) -> String {
    fn read<T: DeserializeOwned>(value: &[u8], tell: impl FnOnce(T) -> String) -> String {
        serde_json::from_slice(value).map_or_else(|error| format!("unreadable: {error}"), tell)
    }
    match Key::parse(key) {
        Key::Info(..) => read(value, |info: Info| {
            let (desired, seen) = (&info.desired, &info.observed);
            format!(
                "task {} wants {} config {} restart {}, is {} {}config {} restart {} restarts {} failures {}{}{}",
                info.mesos_task_id,
                desired.state,
                desired.config,
                desired.restart,
                seen.state,
                seen.role.as_deref().map_or_else(String::new, |role| {
                    format!("{role} epoch {:?} link {:?} of {:?} ", seen.epoch, seen.link, seen.slots)
                }),
                seen.config,
                seen.restart,
                seen.restarts,
                seen.failures,
                if seen.message.is_empty() { "" } else { ": " },
                seen.message
            )
        }),
        Key::Record(_) => read(value, |record: Record| {
            format!(
                "revision {} of {} next {} attempts {} formed {} deletion {:?} tombstones {:?}",
                record.revision,
                record.config_revision,
                record.next_member,
                record.attempts,
                record.formed,
                record.deletion.map(|mark| mark.done),
                record.tombstones.keys().collect::<Vec<_>>()
            )
        }),
        Key::Status(_) => read(value, |status: Status| {
            let bad = status.conditions.iter().filter(|c| c.status != Truth::True || !c.message.is_empty());
            let bad: Vec<String> =
                bad.map(|c| format!("{} {:?} {}: {}", c.kind, c.status, c.reason, c.message)).collect();
            let (ready, wanted) = (status.ready, status.wanted);
            format!("{} revision {} {ready}/{wanted} [{}]", status.phase, status.revision, bad.join("; "))
        }),
        Key::TaskStatus(_) => read(value, |status: TaskStatus| format!("{} {}", status.state, status.error)),
        Key::Endpoints(_) => read(value, |list: Endpoints| {
            let all: Vec<String> =
                list.endpoints.iter().map(|endpoint| endpoint.address.to_string()).collect();
            all.join(" ")
        }),
        Key::Config(_) | Key::Revision(..) | Key::ServerConf(..) | Key::NodesConf(..) => {
            format!("{} bytes", value.len())
        }
        Key::Task(_)
        | Key::Quarantine(_)
        | Key::Event(..)
        | Key::Framework
        | Key::Leader
        | Key::Controller(_)
        | Key::Other => String::from_utf8_lossy(value).chars().take(160).collect(),
    }
}
