//! The declared state, validated and with every default filled in. Made only by [`crate::parse_file`] and [`crate::parse_key`]
//! (from people's YAML or JSON) or read back from `revisions/<n>`.

use std::{collections::BTreeMap, fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::ClusterName;

/// The three kinds of cluster. In manifests `Redis`, `RedisCluster`, `Memcache`; in status keys,
/// directories and on the command line `redis`, `redis_cluster`, `memcache`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// N independent redis servers, a hash ring on the client side.
    Redis,
    /// One redis cluster with masters, replicas and 16384 slots.
    RedisCluster,
    /// N independent memcached servers.
    Memcache,
}

impl Kind {
    /// All kinds, in the order they are documented.
    pub const ALL: [Self; 3] = [Self::Redis, Self::RedisCluster, Self::Memcache];

    /// The word used in status values, directories and listings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::RedisCluster => "redis_cluster",
            Self::Memcache => "memcache",
        }
    }

    /// The word used in manifests.
    pub const fn manifest_kind(self) -> &'static str {
        match self {
            Self::Redis => "Redis",
            Self::RedisCluster => "RedisCluster",
            Self::Memcache => "Memcache",
        }
    }

    /// Which binary serves it.
    pub const fn engine(self) -> Engine {
        match self {
            Self::Redis | Self::RedisCluster => Engine::Redis,
            Self::Memcache => Engine::Memcache,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A family of binaries, versions and configuration directives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Engine {
    /// `redis-server`
    Redis,
    /// `memcached`
    Memcache,
}

impl Engine {
    /// The word used in the catalogue (`[engines.<word>."<version>"]`) and in directories.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::Memcache => "memcache",
        }
    }

    /// The name of the server binary.
    pub const fn binary(self) -> &'static str {
        match self {
            Self::Redis => "redis-server",
            Self::Memcache => "memcached",
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A cluster as declared: what `revisions/<n>` keeps.
#[derive(Debug, Clone, PartialEq)]
pub struct Cluster {
    /// `metadata.name`
    pub name: ClusterName,
    /// `metadata.labels`, at most 32.
    pub labels: BTreeMap<String, String>,
    /// `spec`
    pub spec: Spec,
}

/// The validated spec of any kind.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    /// Kind and size.
    pub shape: Shape,
    /// Engine version, one of the controller's catalogue.
    pub version: String,
    /// Per instance, without the executor's own share.
    pub resources: Resources,
    /// Directives from people, name to value, each on the engine's allow-list.
    pub config: BTreeMap<String, String>,
    /// What survives a restart. Always [`Persistence::None`] for memcache.
    pub persistence: Persistence,
    /// Where instances may run.
    pub placement: Placement,
    /// How changes are rolled out.
    pub update: Update,
    /// How losses are healed.
    pub recovery: Recovery,
    /// What a delete may do.
    pub deletion: Deletion,
}

/// Kind and size of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// `kind: Redis`
    Redis {
        /// Number of independent servers, at least 1.
        shards: u32,
    },
    /// `kind: RedisCluster`
    RedisCluster {
        /// At least 3.
        masters: u32,
        /// At least 0.
        replicas_per_master: u32,
    },
    /// `kind: Memcache`
    Memcache {
        /// Number of independent servers, at least 1.
        instances: u32,
    },
}

impl Shape {
    /// The kind alone.
    pub const fn kind(self) -> Kind {
        match self {
            Self::Redis { .. } => Kind::Redis,
            Self::RedisCluster { .. } => Kind::RedisCluster,
            Self::Memcache { .. } => Kind::Memcache,
        }
    }

    /// How many members the cluster has when complete.
    pub const fn members(self) -> u32 {
        match self {
            Self::Redis { shards } => shards,
            Self::RedisCluster { masters, replicas_per_master } => masters * (1 + replicas_per_master),
            Self::Memcache { instances } => instances,
        }
    }
}

/// What one instance gets from its agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// Thousandths of a core.
    pub cpu_millis: u32,
    /// Bytes.
    pub memory: u64,
    /// Bytes.
    pub disk: u64,
}

/// What survives a restart of a redis process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Persistence {
    /// Nothing.
    None,
    /// Snapshots.
    Rdb,
    /// Append-only file.
    Aof,
}

/// `spec.placement`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// Mesos roles whose offers may be used.
    pub roles: Vec<String>,
    /// How members are kept apart.
    pub spread: Vec<Spread>,
    /// Which agents are eligible.
    pub constraints: Vec<Constraint>,
}

/// Keep members apart by a failure domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spread {
    /// Which domain.
    pub by: Domain,
    /// Whether it may be broken when there is no other place.
    pub rule: Rule,
}

/// A failure domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Domain {
    /// The agent's ip.
    Host,
    /// Agent attribute `rack`.
    Rack,
    /// Agent attribute `zone`, or the zone of its fault domain.
    Zone,
}

impl Domain {
    /// The word used in manifests.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Rack => "rack",
            Self::Zone => "zone",
        }
    }
}

/// How strictly a [`Spread`] holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// No two members share the domain; a member that would is not placed.
    Required,
    /// The domain with the fewest members of the cluster comes first; nobody is refused for it.
    Preferred,
}

/// A condition on an agent's attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Constraint {
    /// Attribute name; `host` and `hostname` name the agent itself.
    pub attribute: String,
    /// How it is compared.
    pub operator: Operator,
    /// What it is compared with. For `in` and `not-in` a comma-separated list.
    pub value: String,
}

/// How a [`Constraint`] compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Operator {
    /// Equal as text.
    Is,
    /// Not equal, or absent.
    IsNot,
    /// One of a list.
    In,
    /// None of a list, or absent.
    NotIn,
    /// Present with any value; `value` is empty.
    Exists,
}

/// `spec.update`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Update {
    /// How many members may be down at once by our act.
    pub max_unavailable: u32,
    /// How long a member must serve before the next one is touched.
    pub min_ready: Duration,
    /// A change without progress for this long fails.
    pub deadline: Duration,
    /// This many members are changed first, and the rest waits for a person (`desired: run`).
    pub canary: u32,
    /// What happens when a change fails.
    pub on_failure: OnFailure,
    /// Whether steps may lose data that is nowhere else.
    pub allow_data_loss: bool,
}

/// What happens when a change fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// Stop where it is and say so.
    Pause,
    /// Go on with the other members.
    Continue,
}

/// `spec.recovery`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recovery {
    /// Failed starts of one member on one address before it is placed elsewhere.
    pub restarts_before_replace: u32,
    /// How long an unreachable member stays in `endpoints`, so that a flapping agent does not move keys about.
    pub unreachable_after: Duration,
    /// How long a member may be unreachable before it is replaced elsewhere.
    pub replace_after: Duration,
    /// What happens to an instance that comes back before it was replaced.
    pub on_return: OnReturn,
    /// What an instance does when its Mesos agent is gone for longer than the agent's `--recovery_timeout`.
    pub on_agent_loss: OnAgentLoss,
}

/// What an instance does when its Mesos agent is gone for longer than the agent's `--recovery_timeout`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnAgentLoss {
    /// It serves on, and is Mesos' again when the agent is back.
    #[default]
    Keep,
    /// It is stopped in order; its directory stays.
    Stop,
}

impl OnAgentLoss {
    /// Whether it is the default.
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
    pub(crate) const fn is_keep(&self) -> bool {
        matches!(self, Self::Keep)
    }
}

/// What happens to an instance that comes back before it was replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnReturn {
    /// It goes on as it is.
    Keep,
}

/// `spec.deletion`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deletion {
    /// A protected cluster is not deleted, neither by a task nor by a missing key.
    pub protected: bool,
    /// What happens to its directories.
    pub on_disk: OnDisk,
}

/// What happens to the directories of a deleted instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnDisk {
    /// Removed with the instance.
    Delete,
    /// Moved aside, as `<port>.<uid8>.<time>`.
    Retain,
}
