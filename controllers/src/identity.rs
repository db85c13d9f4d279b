//! Names that the leader gives: uids, Mesos task ids, aliases.

use overlord_api::ClusterName;

/// The first eight digits of a cluster's uid, as they stand in task ids and directory names.
pub(crate) fn uid8(uid: &str) -> &str {
    uid.get(..8).unwrap_or(uid)
}

/// `<uid8>.<member>.<incarnation>.<attempt>`. The attempt counts over the whole cluster and only up,
/// so that no id is used twice: Mesos answers a used id with `TASK_ERROR` for the task that runs on.
pub(crate) fn mesos_task_id(uid: &str, member: u32, incarnation: u32, attempt: u64) -> String {
    format!("{}.{member}.{incarnation}.{attempt}", uid8(uid))
}

/// A member's name on the client's hash ring; stays through replacements.
pub(crate) fn alias(cluster: &ClusterName, member: u32) -> String {
    format!("{cluster}-{member}")
}

/// The id of the task that the leader makes for an accepted revision.
pub(crate) fn revision_task(cluster: &ClusterName, uid: &str, revision: u64) -> String {
    format!("{cluster}.{}.r{revision}", uid8(uid))
}
