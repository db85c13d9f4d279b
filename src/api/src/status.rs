//! `clusters/<cluster>/status`: phase, conditions and counts, for people and for `--wait`.

use std::{collections::BTreeMap, fmt};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::Kind;

/// The state of one cluster. Written by the leader, at most once a second and only on change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Version of this value, now 1.
    pub version: u32,
    /// The kind, when known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<Kind>,
    /// One word.
    pub phase: Phase,
    /// The accepted revision that this status speaks of; 0 when none was ever accepted.
    pub revision: u64,
    /// The config key's mod revision that was last looked at, accepted or not.
    pub config_revision: i64,
    /// At most one of each type, in the order of [`ConditionType`].
    pub conditions: Vec<Condition>,
    /// How many members there are of each state, by [`crate::State`] word.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub counts: BTreeMap<String, u32>,
    /// Members wanted.
    pub wanted: u32,
    /// Members serving.
    pub ready: u32,
    /// Members whose process runs the current configuration.
    pub updated: u32,
    /// Members whose executor was started with other settings than the controller's of now; they are left as they
    /// are until a `restart` task asks for them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub outdated: u32,
    /// What executors are started by now, as in [`crate::Info::template`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
const fn is_zero(n: &u32) -> bool {
    *n == 0
}

impl Status {
    /// The condition of that type.
    pub fn condition(&self, kind: ConditionType) -> Option<&Condition> {
        self.conditions.iter().find(|c| c.kind == kind)
    }

    /// Whether the condition of that type is there and true.
    pub fn is(&self, kind: ConditionType) -> bool {
        self.condition(kind).is_some_and(|c| c.status == Truth::True)
    }
}

/// One word for the state of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Nothing accepted yet.
    Pending,
    /// Members are being launched for the first time.
    Creating,
    /// All members serve with the accepted revision.
    Ready,
    /// A change is being rolled out.
    Updating,
    /// Members are missing or broken.
    Degraded,
    /// A change is stopped and waits for a person.
    Paused,
    /// Being deleted.
    Deleting,
    /// Deleted; the key stays until the config key is gone.
    Deleted,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Pending => "Pending",
            Self::Creating => "Creating",
            Self::Ready => "Ready",
            Self::Updating => "Updating",
            Self::Degraded => "Degraded",
            Self::Paused => "Paused",
            Self::Deleting => "Deleting",
            Self::Deleted => "Deleted",
        })
    }
}

/// The closed list of conditions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ConditionType {
    /// The value under `config/` was accepted. False: the message says what is wrong, where.
    Accepted,
    /// All members serve.
    Ready,
    /// A change is under way. False with a reason when it stopped short.
    Progressing,
    /// A member is missing, unreachable or restarting.
    Degraded,
    /// Members that no offer can take, and why.
    Unplaceable,
    /// `redis_cluster`: too few masters to elect.
    QuorumLost,
    /// Data is known to be lost; the message names the shard.
    DataLost,
    /// The config key is gone and the cluster is kept all the same.
    SpecMissing,
    /// What is shown may be old: Mesos or etcd cannot be reached.
    Stale,
}

impl fmt::Display for ConditionType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Accepted => "Accepted",
            Self::Ready => "Ready",
            Self::Progressing => "Progressing",
            Self::Degraded => "Degraded",
            Self::Unplaceable => "Unplaceable",
            Self::QuorumLost => "QuorumLost",
            Self::DataLost => "DataLost",
            Self::SpecMissing => "SpecMissing",
            Self::Stale => "Stale",
        })
    }
}

/// `True`, `False` or `Unknown`, as in Kubernetes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Truth {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// It cannot be told.
    Unknown,
}

impl fmt::Display for Truth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        })
    }
}

/// One condition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Which.
    #[serde(rename = "type")]
    pub kind: ConditionType,
    /// Whether it holds.
    pub status: Truth,
    /// CamelCase word for machines.
    pub reason: String,
    /// One sentence for people.
    pub message: String,
    /// When `status` last changed.
    pub last_transition: Timestamp,
    /// The accepted revision it speaks of.
    pub observed_revision: u64,
}
