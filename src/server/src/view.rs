//! The JSON that the API takes and answers with. Field names are interfaces; the command line reads
//! the same types.

use jiff::Timestamp;
use overlord_api::{
    Address, Event, Info, Kind, Record, Revision, Role, Status, StoreWentBack, Task, TaskDesired, TaskStatus,
};
use serde::{Deserialize, Serialize};

/// The answer to a listing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListView<T> {
    /// The objects, in key order.
    pub items: Vec<T>,
    /// The store's revision at which they were listed.
    pub store_revision: i64,
}

/// All that is known of one cluster.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterView {
    /// The last part of its keys; not checked, so that a badly named config key is shown too.
    pub name: String,
    /// Its kind, when known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<Kind>,
    /// The config key's mod revision; absent when there is no config key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_revision: Option<i64>,
    /// The spec as it was given. Only when one cluster is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec: Option<String>,
    /// The accepted revision with all defaults, as YAML. Only when one cluster is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<String>,
    /// The leader's record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<Record>,
    /// The leader's status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// Values that cannot be read, with their keys.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<String>,
}

/// One instance of one cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceView {
    /// Whose.
    pub cluster: String,
    /// Its name.
    pub address: Address,
    /// What is intended and observed of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub info: Option<Info>,
    /// Why `info` is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// One task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskView {
    /// The last part of its key.
    pub id: String,
    /// The request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<Task>,
    /// Its progress; absent until a leader has seen it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<TaskStatus>,
    /// Values that cannot be read, with their keys.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<String>,
}

/// One event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EventView {
    /// The last part of its key, `<object>.<reason>`.
    pub id: String,
    /// What happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<Event>,
    /// Why `event` is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// One accepted revision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RevisionView {
    /// Its number.
    pub number: u64,
    /// Its content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<Revision>,
    /// Why `revision` is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A line of a watch (`?watch=true`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum WatchLine<T> {
    /// The object as it is now. First all that are there, then each one that changed.
    Put {
        /// Name of the object within the listing.
        id: String,
        /// The object.
        object: T,
    },
    /// The object is gone.
    Delete {
        /// Name of the object within the listing.
        id: String,
    },
    /// All objects that were there at the beginning have been sent.
    Synced,
    /// Nothing happened for a while.
    Heartbeat,
    /// The store cannot be read now: what was sent may be old. The watch goes on.
    Stale {
        /// Why.
        message: String,
    },
}

/// What a PUT of a manifest did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Applied {
    /// There was none, or only what is left of a deleted one.
    Created,
    /// It differs from the one before.
    Configured,
    /// It means the same as the one before; nothing was written.
    Unchanged,
}

/// The answer to a PUT of a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApplyView {
    /// The cluster.
    pub name: String,
    /// Its kind.
    pub kind: Kind,
    /// What was done.
    pub result: Applied,
    /// The config key's mod revision: `status.configRevision` reaches it once the controller has seen the text.
    pub config_revision: i64,
}

/// The answer to a DELETE of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeleteView {
    /// The cluster.
    pub name: String,
    /// The destroy task that follows it; absent when the cluster was being deleted already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
}

/// The body of a PATCH of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TaskPatch {
    /// Whether it shall go on.
    pub desired: TaskDesired,
    /// `true` lets it pass its canary, too. Nothing takes that back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promote: Option<bool>,
}

/// The answer of `/version`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VersionView {
    /// This build's version.
    pub version: String,
    /// Version of this API.
    pub api: String,
    /// Engine versions that may be declared, by engine.
    pub engines: crate::Catalogue,
}

/// The answer of `/readyz`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReadyView {
    /// Whether this controller can serve: etcd answers. The status of the answer says the same.
    pub ready: bool,
    /// The leading controller's id, when there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<String>,
    /// What this controller is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// `etcd`, `view` (what this controller knows of etcd), `leader`, `mesos` (as the leader says).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<CheckView>,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckView {
    /// What.
    pub name: String,
    /// Whether it is as it should be.
    pub ok: bool,
    /// How it is, for people.
    pub message: String,
}

impl CheckView {
    pub(crate) fn good(name: &str, message: impl Into<String>) -> Self {
        Self { name: name.to_owned(), ok: true, message: message.into() }
    }

    pub(crate) fn bad(name: &str, message: impl Into<String>) -> Self {
        Self { name: name.to_owned(), ok: false, message: message.into() }
    }
}

/// One controller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ControllerView {
    /// Its name: host, process id, start time.
    pub id: String,
    /// What it is.
    pub role: Role,
    /// Where its API answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api: Option<String>,
    /// The version of its program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
    /// Since when it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// The leader: the number of its term.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<i64>,
    /// Why its entry cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The store as the controllers believe it or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StoreView {
    /// How often a store that went back was accepted by a person.
    pub generation: u64,
    /// How far it is.
    pub revision: i64,
    /// That it is not believed now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub went_back: Option<StoreWentBack>,
    /// The generation as which it can be accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_generation: Option<u64>,
    /// Clusters that have a spec in it.
    pub declared: Vec<String>,
    /// Clusters that are recorded in it, and have no spec: once it is accepted they are deleted, unless they are protected.
    pub undeclared: Vec<String>,
}

/// The body with which a store is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StoreAccept {
    /// [`StoreView::next_generation`]: what was looked at is what is accepted.
    pub generation: u64,
}

/// The body of every answer that is no success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// What went wrong.
    pub error: ErrorView,
}

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ErrorView {
    /// Word for machines.
    pub code: ErrorCode,
    /// One sentence for people.
    pub message: String,
    /// What to do next.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hint: String,
    /// The faults of a manifest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<FaultView>,
}

/// One fault of a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FaultView {
    /// Line, from 1; 0 when the fault has no place in the text.
    pub line: usize,
    /// Column in characters, from 1; 0 when the fault has no place in the text.
    pub column: usize,
    /// First byte of the place.
    pub start: usize,
    /// End of the place, in bytes.
    pub end: usize,
    /// Path of the field, as `spec.config.maxmemory`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hint: String,
}

/// The closed list of error codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// 400: the request cannot be understood.
    BadRequest,
    /// 403: the request came from where it must not come from.
    Forbidden,
    /// 404: no such thing.
    NotFound,
    /// 405: this path does not take that method.
    MethodNotAllowed,
    /// 409: not while it is as it is.
    Conflict,
    /// 409: protected against deletion.
    Protected,
    /// 412: `If-Match` names another revision than there is.
    RevisionMismatch,
    /// 413: the body is too large.
    TooLarge,
    /// 422: the manifest has faults, see `details`.
    Invalid,
    /// 429: too many requests at once.
    Busy,
    /// 503: etcd does not answer.
    StoreUnavailable,
    /// 503: no controller leads.
    NoLeader,
    /// 502: only the leader can tell, and it does not answer.
    LeaderUnreachable,
    /// 504: it took too long.
    Timeout,
    /// 500: a fault of the server.
    Internal,
}
