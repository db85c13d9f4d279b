//! A cluster as the manifest it is declared by, with every default filled in.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    Cluster, Constraint, Deletion, Domain, OnAgentLoss, OnDisk, OnFailure, OnReturn, Operator, Persistence,
    Placement, Recovery, Resources, Rule, Shape, Spec, Spread, Update, fields::API_VERSION, quantity,
};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest<'c> {
    api_version: &'static str,
    kind: &'static str,
    metadata: Metadata<'c>,
    spec: Fields<'c>,
}

#[derive(Serialize)]
struct Metadata<'c> {
    name: &'c str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: &'c BTreeMap<String, String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Fields<'c> {
    version: &'c str,
    #[serde(flatten)]
    size: Size,
    resources: Amounts,
    config: &'c BTreeMap<String, String>,
    persistence: Mode,
    placement: Place<'c>,
    update: Rollout,
    recovery: Healing,
    deletion: Removal,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Size {
    Redis {
        shards: u32,
    },
    #[serde(rename_all = "camelCase")]
    RedisCluster {
        masters: u32,
        replicas_per_master: u32,
    },
    Memcache {
        instances: u32,
    },
}

#[derive(Serialize)]
struct Amounts {
    cpu: String,
    memory: String,
    disk: String,
}

#[derive(Serialize)]
struct Mode {
    mode: Persistence,
}

#[derive(Serialize)]
struct Place<'c> {
    roles: &'c [String],
    spread: Vec<Apart>,
    constraints: Vec<Condition<'c>>,
}

#[derive(Serialize)]
struct Apart {
    by: Domain,
    rule: Rule,
}

#[derive(Serialize)]
struct Condition<'c> {
    attribute: &'c str,
    operator: Operator,
    #[serde(skip_serializing_if = "str::is_empty")]
    value: &'c str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Rollout {
    max_unavailable: u32,
    min_ready: String,
    deadline: String,
    canary: u32,
    on_failure: OnFailure,
    allow_data_loss: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Healing {
    restarts_before_replace: u32,
    unreachable_after: String,
    replace_after: String,
    on_return: OnReturn,
    on_agent_loss: OnAgentLoss,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Removal {
    protected: bool,
    on_disk: OnDisk,
}

impl Cluster {
    /// The manifest with every default filled in, as YAML. [`crate::parse_revision`] reads it back to the
    /// same value.
    pub fn to_yaml(&self) -> String {
        printed(serde_yaml::to_string(&Manifest::of(self)))
    }

    /// The same manifest as JSON.
    pub fn to_json(&self) -> serde_json::Value {
        printed(serde_json::to_value(Manifest::of(self)))
    }
}

#[expect(
    clippy::expect_used,
    reason = "structs of texts, numbers and words always print; a property test says so"
)]
fn printed<T, E: std::fmt::Debug>(result: Result<T, E>) -> T {
    result.expect("a manifest prints")
}

impl<'c> Manifest<'c> {
    fn of(cluster: &'c Cluster) -> Self {
        let Cluster { name, labels, spec } = cluster;
        Self {
            api_version: API_VERSION,
            kind: spec.shape.kind().manifest_kind(),
            metadata: Metadata { name: name.as_str(), labels },
            spec: Fields::of(spec),
        }
    }
}

impl<'c> Fields<'c> {
    fn of(spec: &'c Spec) -> Self {
        let Spec { shape, version, resources, config, persistence, placement, update, recovery, deletion } =
            spec;
        let Resources { cpu_millis, memory, disk } = *resources;
        let Update { max_unavailable, min_ready, deadline, canary, on_failure, allow_data_loss } = *update;
        let Recovery { restarts_before_replace, unreachable_after, replace_after, on_return, on_agent_loss } =
            *recovery;
        let Deletion { protected, on_disk } = *deletion;
        Self {
            version,
            size: match *shape {
                Shape::Redis { shards } => Size::Redis { shards },
                Shape::RedisCluster { masters, replicas_per_master } => {
                    Size::RedisCluster { masters, replicas_per_master }
                }
                Shape::Memcache { instances } => Size::Memcache { instances },
            },
            resources: Amounts {
                cpu: quantity::print_cpu(cpu_millis),
                memory: quantity::print_bytes(memory),
                disk: quantity::print_bytes(disk),
            },
            config,
            persistence: Mode { mode: *persistence },
            placement: Place::of(placement),
            update: Rollout {
                max_unavailable,
                min_ready: quantity::print_duration(min_ready),
                deadline: quantity::print_duration(deadline),
                canary,
                on_failure,
                allow_data_loss,
            },
            recovery: Healing {
                restarts_before_replace,
                unreachable_after: quantity::print_duration(unreachable_after),
                replace_after: quantity::print_duration(replace_after),
                on_return,
                on_agent_loss,
            },
            deletion: Removal { protected, on_disk },
        }
    }
}

impl<'c> Place<'c> {
    fn of(placement: &'c Placement) -> Self {
        let Placement { roles, spread, constraints } = placement;
        Self {
            roles,
            spread: spread.iter().map(|Spread { by, rule }| Apart { by: *by, rule: *rule }).collect(),
            constraints: constraints
                .iter()
                .map(|Constraint { attribute, operator, value }| Condition {
                    attribute,
                    operator: *operator,
                    value,
                })
                .collect(),
        }
    }
}
