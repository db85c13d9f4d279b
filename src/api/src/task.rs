//! `task/<id>` and its `status`: one unit of change on one cluster, asked for by anyone, admitted by the leader.

use std::{collections::BTreeMap, fmt};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ClusterName;

/// Longest task id, in bytes; its characters are those of a cluster name and the dot.
pub const MAX_TASK_ID: usize = 80;

/// Parameter of deploy and update tasks: the revision they were made for.
pub const PARAM_REVISION: &str = "revision";

/// Parameter of deploy and update tasks: `true` lets the change pass its canary.
pub const PARAM_PROMOTE: &str = "promote";

/// Parameter of restart tasks: which members.
pub const PARAM_ONLY: &str = "only";

/// Value of [`PARAM_ONLY`]: members whose executor was started with other settings than those of now.
pub const PARAM_ONLY_OUTDATED: &str = "outdated";

/// Why a task waits at its canary: its status' `error` begins with this.
pub const REASON_CANARY: &str = "Canary";

/// A request. Its id is the last part of its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Task {
    /// Version of this value, now 1.
    #[serde(default = "crate::value::first_version")]
    pub version: u32,
    /// What is wanted.
    pub kind: TaskKind,
    /// Of which cluster.
    pub cluster: ClusterName,
    /// Parameters of that kind.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub params: BTreeMap<String, String>,
    /// Who asks, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub requested_by: String,
    /// When.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested_at: Option<Timestamp>,
    /// Whether it shall go on.
    #[serde(default)]
    pub desired: TaskDesired,
}

/// Kinds of task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskKind {
    /// Bring a declared cluster up.
    Deploy,
    /// Remove a cluster and its instances.
    Destroy,
    /// Bring a cluster to its accepted revision.
    Update,
    /// Change the number of members.
    Scale,
    /// Restart processes in place.
    Restart,
    /// Put members elsewhere.
    Replace,
    /// Hand a master's role to its replica.
    Failover,
    /// Even out roles or slots.
    Rebalance,
    /// Empty a host.
    Drain,
    /// Give up what is lost, by a person's word.
    Recover,
}

impl fmt::Display for TaskKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Deploy => "deploy",
            Self::Destroy => "destroy",
            Self::Update => "update",
            Self::Scale => "scale",
            Self::Restart => "restart",
            Self::Replace => "replace",
            Self::Failover => "failover",
            Self::Rebalance => "rebalance",
            Self::Drain => "drain",
            Self::Recover => "recover",
        })
    }
}

/// Whether a task shall go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskDesired {
    /// Go on.
    #[default]
    Run,
    /// Stop where it is; healing goes on.
    Pause,
    /// End it where it is.
    Abort,
}

/// `task/<id>/status`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskStatus {
    /// Version of this value, now 1.
    pub version: u32,
    /// See [`TaskState`].
    pub state: TaskState,
    /// The accepted revision it works towards.
    pub revision: u64,
    /// What is done and to do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub phases: Vec<TaskPhase>,
    /// Members wanted.
    pub wanted: u32,
    /// Members serving as wanted.
    pub running: u32,
    /// When it left the queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
    /// Why it failed, is paused, or was superseded.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub error: String,
}

/// Where a task is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskState {
    /// Admitted, another one runs.
    Queued,
    /// At work.
    Running,
    /// Stopped by a person or by a failure; `error` says which.
    Paused,
    /// A newer revision took its place.
    Superseded,
    /// Wanted = running and serving.
    Done,
    /// Ended short; `error` says why.
    Failed,
    /// Ended by a person.
    Aborted,
}

impl TaskState {
    /// Whether it will never change again.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Superseded | Self::Done | Self::Failed | Self::Aborted)
    }
}

impl fmt::Display for TaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Superseded => "superseded",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Aborted => "aborted",
        })
    }
}

/// A part of a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskPhase {
    /// `place`, `launch`, `config`, `restart`, `remove`.
    pub name: String,
    /// Members done of those this phase touches.
    pub done: u32,
    /// Members this phase touches.
    pub total: u32,
    /// What is being done or waited for now, one sentence each, at most eight.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<String>,
}
