//! Flags as `/flags` and `GET_FLAGS` show them: what this Mesos was started with, in the names of the real one.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};

use crate::model::{Model, launch::duration_text, types::Agent};

type Flags = BTreeMap<&'static str, String>;

/// Those that nothing here changes.
const MASTER: [(&str, &str); 33] = [
    ("allocator", "hierarchical"),
    ("allocator_agent_recovery_factor", "0.8"),
    ("allocator_recovery_timeout", "10mins"),
    ("authenticate_agents", "false"),
    ("authenticate_frameworks", "false"),
    ("authenticate_http_readonly", "false"),
    ("authenticate_http_readwrite", "false"),
    ("authentication_v0_timeout", "15secs"),
    ("authenticators", "crammd5"),
    ("authorizers", "local"),
    ("filter_gpu_resources", "true"),
    ("framework_sorter", "drf"),
    ("help", "false"),
    ("hostname_lookup", "false"),
    ("http_authenticators", "basic"),
    ("logging_level", "INFO"),
    ("max_completed_frameworks", "50"),
    ("max_completed_tasks_per_framework", "1000"),
    ("max_operator_event_stream_subscribers", "1000"),
    ("max_unreachable_tasks_per_framework", "1000"),
    ("min_allocatable_resources", "cpus:0.01|mem:32"),
    ("publish_per_framework_metrics", "true"),
    ("quiet", "false"),
    ("quorum", "1"),
    ("recovery_agent_removal_limit", "100%"),
    ("registry", "replicated_log"),
    ("registry_max_agent_age", "2weeks"),
    ("registry_max_agent_count", "102400"),
    ("registry_strict", "false"),
    ("require_agent_domain", "false"),
    ("role_sorter", "drf"),
    ("root_submissions", "true"),
    ("version", "false"),
];

const AGENT: [(&str, &str); 10] = [
    ("authenticate_http_readonly", "false"),
    ("authenticate_http_readwrite", "false"),
    ("containerizers", "mesos"),
    ("default_role", "*"),
    ("hostname_lookup", "false"),
    ("isolation", "posix/cpu,posix/mem"),
    ("launcher", "posix"),
    ("logging_level", "INFO"),
    ("recover", "reconnect"),
    ("strict", "true"),
];

fn fixed(flags: &[(&'static str, &str)]) -> Flags {
    flags.iter().map(|(name, value)| (*name, (*value).to_owned())).collect()
}

/// Flags of the leading master.
pub(crate) fn of_master(model: &Model) -> Flags {
    let mut flags = fixed(&MASTER);
    let ip = model.master.ip().to_string();
    // The time-out is all there is here; a real master counts five pings.
    let ping = Duration::from_millis(u64::try_from(model.ping_timeout.as_millis() / 5).unwrap_or(u64::MAX));
    flags.extend([
        ("advertise_ip", ip.clone()),
        ("agent_ping_timeout", duration_text(ping)),
        ("agent_reregister_timeout", duration_text(model.timings.agent_reregister)),
        ("allocation_interval", duration_text(model.timings.allocation)),
        ("authenticate_http_frameworks", model.authenticates.to_string()),
        ("hostname", ip.clone()),
        ("ip", ip),
        ("max_agent_ping_timeouts", "5".to_owned()),
        ("port", model.master.port().to_string()),
    ]);
    if let Some(timeout) = model.offer_timeout {
        flags.insert("offer_timeout", duration_text(timeout));
    }
    flags
}

/// Flags of an agent.
pub(crate) fn of_agent(model: &Model, agent: &Agent) -> Flags {
    let mut flags = fixed(&AGENT);
    let ip = agent.address.ip().to_string();
    flags.extend([
        ("advertise_ip", ip.clone()),
        ("executor_registration_timeout", duration_text(model.timings.registration)),
        ("executor_reregistration_timeout", duration_text(model.timings.reregistration)),
        ("executor_shutdown_grace_period", duration_text(model.timings.shutdown_grace)),
        ("hostname", agent.hostname.clone()),
        ("ip", ip),
        ("master", model.master.to_string()),
        ("port", agent.address.port().to_string()),
        ("recovery_timeout", duration_text(model.timings.recovery)),
        ("work_dir", agent.work_dir.display().to_string()),
    ]);
    flags
}

/// As `GET_FLAGS` lists them.
pub(crate) fn list(flags: &Flags) -> Vec<Value> {
    flags.iter().map(|(name, value)| json!({ "name": name, "value": value })).collect()
}
