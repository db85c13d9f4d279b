//! The leader's own values: `record`, `revisions/<n>`, `quarantine/<address>`, `endpoints`, `leader`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Address, Kind};

/// `clusters/<cluster>/record`: what must not be lost or guessed about a cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Version of this value, now 1.
    pub version: u32,
    /// 32 lower-case hex digits, new with each creation of a cluster of this name.
    pub uid: String,
    /// The kind, which never changes.
    pub kind: Kind,
    /// Whether the cluster was complete once: from then on a missing member is healed, not created.
    pub formed: bool,
    /// The number the next new member gets.
    pub next_member: u32,
    /// The accepted revision, the `n` of `revisions/<n>`.
    pub revision: u64,
    /// The config key's mod revision that became [`Record::revision`].
    pub config_revision: i64,
    /// The config key's mod revision with which this life of the cluster began: what was asked for before it
    /// was asked of another one of that name. 0: not known.
    #[serde(default)]
    pub born: i64,
    /// Launch attempts so far: the last part of Mesos task ids, never used twice.
    pub attempts: u64,
    /// The Mesos framework that launched what runs; another one cannot speak of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub framework: Option<String>,
    /// Why the cluster is kept although its config key is gone: a hold once taken is not dropped because
    /// other keys come back. Cleared when this cluster's own key is there again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
    /// Set once the cluster is being deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion: Option<DeletionMark>,
    /// Mesos task ids of instances that were given up while unreachable: killed when they come back.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tombstones: BTreeMap<String, Tombstone>,
    /// `redis_cluster`: losses of keys, by what tells each from all others; bounded.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub losses: BTreeMap<String, ShardLoss>,
    /// The [`crate::StoreMark::generation`] in which it was last believed.
    #[serde(default, skip_serializing_if = "is_first")]
    pub generation: u64,
    /// Set when the record comes from a backup: what runs by now is asked of Mesos before anything is launched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored: Option<Restored>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands it so")]
const fn is_first(generation: &u64) -> bool {
    *generation == 0
}

/// From which backup a record comes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Restored {
    /// When the backup was made.
    pub taken_at: Timestamp,
    /// The store's revision then.
    pub store_revision: i64,
}

/// By how much [`Record::attempts`] is raised when nobody knows how many launches there were: no id of a Mesos task is
/// ever used twice.
pub const UNKNOWN_ATTEMPTS: u64 = 10_000;

/// Keys of a shard that are lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ShardLoss {
    /// Which shard.
    pub shard: u32,
    /// When it was noticed.
    pub at: Timestamp,
    /// One sentence.
    pub message: String,
    /// Whether a person took note of it (task `recover`).
    #[serde(default)]
    pub acknowledged: bool,
}

/// How many losses are kept of one cluster; those that a person took note of give way first.
pub const KEPT_LOSSES: usize = 64;

/// Why a cluster is kept although its config key is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hold {
    /// `DeletionCeiling` or `StoreWentBack`, the reason of condition `SpecMissing`.
    pub reason: String,
    /// One sentence with the next step.
    pub message: String,
}

/// Why and since when a cluster is being deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeletionMark {
    /// When it was decided.
    pub at: Timestamp,
    /// By what: `config removed` or `task <id>`.
    pub by: String,
    /// The config key's mod revision that must not bring the cluster back (a destroy task leaves the key). 0: none.
    pub config_revision: i64,
    /// Set when nothing is left to remove.
    #[serde(default)]
    pub done: bool,
}

/// An instance given up while nobody could reach it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tombstone {
    /// Where it was.
    pub address: Address,
    /// Its agent.
    pub agent_id: String,
    /// When it was given up.
    pub at: Timestamp,
    /// Why.
    pub reason: String,
}

/// `revisions/<n>`: an accepted spec with its defaults.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Revision {
    /// Version of this value, now 1.
    #[serde(default = "crate::value::first_version")]
    pub version: u32,
    /// Its number, from 1.
    pub revision: u64,
    /// The config key's mod revision it was made from.
    pub config_revision: i64,
    /// When it was accepted.
    pub accepted_at: Timestamp,
    /// The whole manifest with defaults, as YAML that [`crate::parse_revision`] reads back to the same value.
    pub manifest: String,
}

/// How many revisions are kept.
pub const KEPT_REVISIONS: u64 = 20;

/// `quarantine/<ip>:<port>`: an address that must not be used again yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Quarantine {
    /// Version of this value, now 1.
    #[serde(default = "crate::value::first_version")]
    pub version: u32,
    /// Until when.
    pub until: Timestamp,
    /// Whose it was: the cluster's uid.
    pub uid: String,
    /// Which cluster.
    pub cluster: String,
    /// Which member.
    pub member: u32,
    /// Which incarnation: the same one is exempt.
    pub incarnation: u32,
    /// The bus port that is quarantined with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bus_port: Option<u16>,
}

/// `clusters/<cluster>/endpoints`: who serves, for clients and proxies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Endpoints {
    /// Version of this value, now 1.
    pub version: u32,
    /// The cluster's kind.
    pub kind: Kind,
    /// Sorted by alias.
    pub endpoints: Vec<Endpoint>,
}

/// One serving instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// Name on the hash ring.
    pub alias: String,
    /// Where to connect.
    pub address: Address,
    /// Weight on the hash ring.
    pub weight: u32,
    /// `single`, `master` or `slave`.
    pub role: String,
    /// Slots served, for a master of a `redis_cluster`: ranges, such as `0-5460`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slots: Option<String>,
}

/// `leader`: the leading controller, bound to its lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Leader {
    /// Version of this value.
    #[serde(default = "crate::value::first_version")]
    pub version: u32,
    /// Host name, process id and start time: for people.
    pub id: String,
    /// Where its API answers, `http://ip:port`.
    pub api: String,
}

impl Leader {
    /// A value of the version of now.
    pub fn new(id: impl Into<String>, api: impl Into<String>) -> Self {
        Self { version: crate::VALUES_VERSION, id: id.into(), api: api.into() }
    }
}
