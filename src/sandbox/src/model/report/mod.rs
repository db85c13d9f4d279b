//! What operators read of the model: in the v1 API and in the older endpoints.

pub(crate) mod agent;
pub(crate) mod flags;
pub(crate) mod metrics;
pub(crate) mod state;
pub(crate) mod usage;
pub(crate) mod v1;

use std::collections::BTreeMap;

use overlord_mesos::v1::FrameworkInfo;
use serde_json::{Value, json};

use super::Model;

/// What this Mesos says it is.
pub(crate) const VERSION: &str = "1.11.1";

/// Capabilities of agents.
pub(super) const AGENT_CAPABILITIES: [&str; 8] = [
    "MULTI_ROLE",
    "HIERARCHICAL_ROLE",
    "RESERVATION_REFINEMENT",
    "RESOURCE_PROVIDER",
    "RESIZE_VOLUME",
    "AGENT_OPERATION_FEEDBACK",
    "AGENT_DRAINING",
    "TASK_RESOURCE_LIMITS",
];

/// `GET /version`
pub(crate) fn version() -> Value {
    json!({
        "build_date": "2026-01-01", "build_time": 1_767_225_600.0, "build_user": "overlord",
        "git_sha": "0000000000000000000000000000000000000000", "version": VERSION,
    })
}

/// A `FrameworkInfo` as operators see it.
pub(crate) fn framework_info(info: &FrameworkInfo) -> Value {
    json!(info)
}

/// `/maintenance/status`
pub(crate) fn maintenance_status(model: &Model) -> Value {
    model.maintenance.status()
}

/// `/maintenance/schedule`
pub(crate) fn maintenance_schedule(model: &Model) -> Value {
    json!(model.maintenance.schedule)
}

/// `/flags` of an agent.
pub(crate) fn agent_flags(model: &Model, name: &str) -> Option<BTreeMap<&'static str, String>> {
    model.agents.get(name).map(|agent| flags::of_agent(model, agent))
}

/// `/metrics/snapshot` of an agent.
pub(crate) fn agent_metrics(model: &Model, name: &str) -> Option<BTreeMap<String, f64>> {
    model.agents.get(name).map(|agent| metrics::of_agent(model, agent))
}

/// Adds fields that are there, in the order of the list.
pub(super) fn add_some(value: &mut Value, fields: impl IntoIterator<Item = (&'static str, Option<Value>)>) {
    if let Some(object) = value.as_object_mut() {
        let some = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        object.extend(some);
    }
}
