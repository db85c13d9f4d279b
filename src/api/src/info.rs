//! `instances/<ip>:<port>/info`: what is intended and observed of one instance. And the executor's
//! report, from which the observed half is folded.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Address, Engine, Kind, Resources};

/// The version of [`Info`] and [`Report`] values written by this build.
pub const INFO_VERSION: u32 = 1;

/// Bytes a [`Report`] may have as JSON (`TaskStatus.data`).
pub const MAX_REPORT: usize = 4096;

/// What is intended and observed of one instance. Written by the leader only.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Info {
    /// [`INFO_VERSION`] at the time of writing.
    pub version: u32,
    /// The cluster's uid: 32 lower-case hex digits, new with each creation of a cluster of that name.
    pub uid: String,
    /// Which member of the cluster.
    pub member: u32,
    /// How often the member was replaced.
    pub incarnation: u32,
    /// The cluster's kind.
    pub kind: Kind,
    /// Family of the binary.
    pub engine: Engine,
    /// Version of the binary.
    pub engine_version: String,
    /// Host part of the address.
    pub ip: std::net::IpAddr,
    /// Data port.
    pub port: u16,
    /// Bus port, for `redis_cluster`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bus_port: Option<u16>,
    /// Failure domain host: the agent's ip.
    pub host: String,
    /// Failure domain rack, when the agent says one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rack: Option<String>,
    /// Failure domain zone, when the agent says one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// The Mesos agent.
    pub agent_id: String,
    /// `<uid8>.<member>.<incarnation>.<attempt>`, never used twice.
    pub mesos_task_id: String,
    /// redis node id, for `redis_cluster`: SHA-1 of uid, member and incarnation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_id: Option<String>,
    /// Shard number, for `redis` and `redis_cluster`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<u32>,
    /// Name on the client's hash ring: stays with the member through replacements.
    pub alias: String,
    /// Weight on the hash ring.
    pub weight: u32,
    /// What the instance has of its agent, without the executor's share.
    pub resources: Resources,
    /// What happens to the directory when the instance is killed for good.
    pub on_disk: crate::OnDisk,
    /// What the instance does when its agent is gone for long.
    #[serde(default, skip_serializing_if = "crate::OnAgentLoss::is_keep")]
    pub on_agent_loss: crate::OnAgentLoss,
    /// How often this incarnation was launched before: 0 at its very first launch, when nothing of it can be
    /// anywhere yet.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub launches: u32,
    /// By what the executor was started: the digest of the controller's settings for it at that time. None: by a
    /// build that did not write it down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// What the leader wants.
    pub desired: Desired,
    /// What was last seen.
    pub observed: Observed,
}

impl Info {
    /// The instance's address and name.
    pub const fn address(&self) -> Address {
        Address::new(self.ip, self.port)
    }
}

/// What the leader wants of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Desired {
    /// `running`, `draining` or `gone`.
    pub state: State,
    /// Number of the `server.conf` text beside this value; grows by one with each rewrite.
    pub config: u64,
    /// Grows by one with each ordered restart of the process.
    pub restart: u64,
    /// `redis_cluster`: grows with each word of a person that the node need not wait any more for copies of its data
    /// that do not answer.
    #[serde(default, skip_serializing_if = "is_zero_word")]
    pub recover: i64,
}

/// What was last seen of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Observed {
    /// See [`State`].
    pub state: State,
    /// Number of the configuration that the process runs with.
    pub config: u64,
    /// The last ordered restart that was done.
    pub restart: u64,
    /// Process id on the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Since when the state holds.
    pub since: Timestamp,
    /// Role as the engine says it: `master` or `slave`; `single` outside `redis_cluster`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// `redis_cluster`'s config epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// Replication link, `up` or `down`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// Digest of the slots served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slots: Option<String>,
    /// Why it is so, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Whether a changed directive waits for a restart of the process.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub restart_needed: bool,
    /// Number of a configuration that the engine refused; `message` says what it said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_refused: Option<u64>,
    /// How often the process was restarted inside this Mesos task.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub restarts: u32,
    /// How often a `redis_cluster` master with slots had to be started without its keys inside this Mesos task:
    /// its shard lost them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub emptied: u32,
    /// Launches of this incarnation at this address that failed in a row.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub failures: u32,
    /// How Mesos refused this launch: nothing was started, and the next attempt is another Mesos task. `message`
    /// has its words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<Refusal>,
    /// Launches of this member that Mesos refused in a row.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub refusals: u32,
    /// Whether Mesos ended it because its agent is drained: it is not meant to come back there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub evicted: bool,
}

/// How Mesos refused a launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// The offers were void by then (`TASK_DROPPED`): with others it may succeed.
    Dropped,
    /// Its description is not accepted (`TASK_ERROR`): it will be refused again unless something changes.
    Invalid,
}

impl Observed {
    /// Of an intent that nothing was heard of yet.
    pub const fn pending(since: Timestamp) -> Self {
        Self {
            state: State::Pending,
            config: 0,
            restart: 0,
            pid: None,
            since,
            role: None,
            epoch: None,
            link: None,
            slots: None,
            message: String::new(),
            restart_needed: false,
            config_refused: None,
            restarts: 0,
            emptied: 0,
            failures: 0,
            refused: None,
            refusals: 0,
            evicted: false,
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
const fn is_zero(n: &u32) -> bool {
    *n == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
const fn is_zero_word(n: &i64) -> bool {
    *n == 0
}

/// The life of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Recorded, not yet accepted by Mesos.
    Pending,
    /// Mesos has it, and the process does not serve: it starts, loads, or has not answered for a while.
    Staging,
    /// Serving.
    Running,
    /// The process ended and is being started again inside its Mesos task.
    Restarting,
    /// The agent is lost to Mesos; the process may well serve.
    Unreachable,
    /// Being stopped on purpose.
    Draining,
    /// The Mesos task ended and was not asked to.
    Failed,
    /// Ended for good.
    Gone,
}

impl State {
    /// The word used in JSON and listings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Staging => "staging",
            Self::Running => "running",
            Self::Restarting => "restarting",
            Self::Unreachable => "unreachable",
            Self::Draining => "draining",
            Self::Failed => "failed",
            Self::Gone => "gone",
        }
    }
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// What an executor reports in `TaskStatus.data`, as JSON of at most [`MAX_REPORT`] bytes, only on change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// [`INFO_VERSION`] of the executor's build.
    pub version: u32,
    /// `staging` (starting or loading), `running` (serving), `restarting`, `draining`, `failed` or `gone`.
    pub state: State,
    /// Whose instance it is: of a task that no record names, nobody else can say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<crate::ClusterName>,
    /// Where it is: with this an info that was lost is made again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Address>,
    /// See [`Info::bus_port`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bus_port: Option<u16>,
    /// See [`Info::engine_version`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine_version: Option<String>,
    /// See [`Observed::config`].
    pub config: u64,
    /// See [`Observed::restart`].
    pub restart: u64,
    /// See [`Observed::restarts`].
    #[serde(default)]
    pub restarts: u32,
    /// Process id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// See [`Observed::role`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// See [`Observed::epoch`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// See [`Observed::link`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// See [`Observed::slots`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slots: Option<String>,
    /// See [`Observed::restart_needed`].
    #[serde(default)]
    pub restart_needed: bool,
    /// See [`Observed::emptied`].
    #[serde(default, skip_serializing_if = "is_zero")]
    pub emptied: u32,
    /// See [`Observed::config_refused`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_refused: Option<u64>,
    /// The latest state of the store that the executor knows of: an etcd that is older was restored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<crate::StoreMark>,
    /// The last term in the store's history at that state: see [`crate::History`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_term: Option<crate::TermId>,
    /// Whether the executor reads nothing because the store went back, in the generation of that state.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub store_went_back: bool,
    /// Why, for people: the exit status, the last lines of console.log, the engine's refusal.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

impl Report {
    /// What the executor saw of the store, where it saw it.
    pub fn sighting(&self) -> Option<crate::Sighting> {
        let mark = self.store?;
        Some(crate::Sighting { mark, term: self.store_term, went_back: self.store_went_back })
    }
}

/// How the message of a member begins that serves, and cannot write to its disk: it refuses writes, or loses them
/// when it ends.
pub const DISK_TROUBLE: &str = "cannot write to its disk";

/// What the leader tells an executor by a Mesos MESSAGE: read your keys in etcd again.
pub const NUDGE: &[u8] = b"overlord/v1 reread";

/// The same: report how you are, although nothing has changed. Executors of builds that do not know it disregard it.
pub const SPEAK: &[u8] = b"overlord/v1 speak";
