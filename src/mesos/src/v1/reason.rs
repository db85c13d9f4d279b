//! Reasons of status updates (`TaskStatus.Reason`), by their names on the wire. They are texts and no
//! enum, because there are some sixty, newer masters add to them, and most are for people only.

/// The command or custom executor could not be launched, such as for a URI that cannot be fetched.
pub const CONTAINER_LAUNCH_FAILED: &str = "REASON_CONTAINER_LAUNCH_FAILED";
/// The container used more memory than it has.
pub const CONTAINER_LIMITATION_MEMORY: &str = "REASON_CONTAINER_LIMITATION_MEMORY";
/// The container used more disk than it has.
pub const CONTAINER_LIMITATION_DISK: &str = "REASON_CONTAINER_LIMITATION_DISK";
/// The container was preempted.
pub const CONTAINER_PREEMPTED: &str = "REASON_CONTAINER_PREEMPTED";
/// The executor ended without saying what became of the task.
pub const EXECUTOR_TERMINATED: &str = "REASON_EXECUTOR_TERMINATED";
/// The executor never subscribed.
pub const EXECUTOR_REGISTRATION_TIMEOUT: &str = "REASON_EXECUTOR_REGISTRATION_TIMEOUT";
/// The executor did not come back after a restart of its agent.
pub const EXECUTOR_REREGISTRATION_TIMEOUT: &str = "REASON_EXECUTOR_REREGISTRATION_TIMEOUT";
/// The framework is gone.
pub const FRAMEWORK_REMOVED: &str = "REASON_FRAMEWORK_REMOVED";
/// The ACCEPT used offers that are no longer valid.
pub const INVALID_OFFERS: &str = "REASON_INVALID_OFFERS";
/// The agent cannot be asked.
pub const AGENT_DISCONNECTED: &str = "REASON_AGENT_DISCONNECTED";
/// The agent is being drained.
pub const AGENT_DRAINING: &str = "REASON_AGENT_DRAINING";
/// The agent is gone.
pub const AGENT_REMOVED: &str = "REASON_AGENT_REMOVED";
/// An operator declared the agent gone.
pub const AGENT_REMOVED_BY_OPERATOR: &str = "REASON_AGENT_REMOVED_BY_OPERATOR";
/// The agent is back.
pub const AGENT_REREGISTERED: &str = "REASON_AGENT_REREGISTERED";
/// The agent restarted.
pub const AGENT_RESTARTED: &str = "REASON_AGENT_RESTARTED";
/// The agent knows nothing of the task.
pub const AGENT_UNKNOWN: &str = "REASON_AGENT_UNKNOWN";
/// The task ran longer than its `max_completion_time`.
pub const MAX_COMPLETION_TIME_REACHED: &str = "REASON_MAX_COMPLETION_TIME_REACHED";
/// The master answers a RECONCILE.
pub const RECONCILIATION: &str = "REASON_RECONCILIATION";
/// The resources are not there any more.
pub const RESOURCES_UNKNOWN: &str = "REASON_RESOURCES_UNKNOWN";
/// The outcome of a check changed.
pub const TASK_CHECK_STATUS_UPDATED: &str = "REASON_TASK_CHECK_STATUS_UPDATED";
/// The outcome of a health check changed.
pub const TASK_HEALTH_CHECK_STATUS_UPDATED: &str = "REASON_TASK_HEALTH_CHECK_STATUS_UPDATED";
/// The task group is wrong.
pub const TASK_GROUP_INVALID: &str = "REASON_TASK_GROUP_INVALID";
/// The task is wrong.
pub const TASK_INVALID: &str = "REASON_TASK_INVALID";
/// KILL came before the task had started.
pub const TASK_KILLED_DURING_LAUNCH: &str = "REASON_TASK_KILLED_DURING_LAUNCH";
