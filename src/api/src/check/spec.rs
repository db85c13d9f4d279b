//! `spec`: each part into its type, with the rules that span several fields.

use std::{collections::BTreeMap, ops::Range};

use super::{
    section::{Section, Unknown, join},
    text, value,
};
use crate::{
    Constraint, Deletion, Domain, Kind, OnDisk, OnFailure, OnReturn, Operator, Persistence, Placement,
    Recovery, Resources, Rule, RuleFault, Rules, Shape, Spec, Spread, Update,
    fields::{self, CONSTRAINT, MAX_DIRECTIVES, SPREAD, Type},
    node::{Entry, Node, quoted},
    source::Faults,
};

/// Reads the whole spec; where there are faults, with something in their place.
pub(crate) fn check(faults: &mut Faults<'_>, kind: Kind, entry: &Entry, rules: &dyn Rules) -> Spec {
    let fields = fields::spec(kind);
    let spec =
        Section::open(faults, fields, "spec", &entry.value, &entry.key_span, |name| explain(kind, name));
    let shape = shape(faults, kind, &spec);
    let version = version(faults, kind, &spec, rules);
    Spec {
        shape,
        resources: resources(faults, &spec),
        config: config(faults, kind, version.as_deref(), &spec, rules),
        version: version.unwrap_or_default(),
        persistence: persistence(faults, kind, &spec),
        placement: placement(faults, &spec),
        update: update(faults, shape, &spec),
        recovery: recovery(faults, &spec),
        deletion: deletion(faults, &spec),
    }
}

/// Fields of other kinds, and why they are none of this one.
fn explain(kind: Kind, name: &str) -> Option<Unknown> {
    let lower = name.to_ascii_lowercase().replace(['_', '-'], "");
    let meant = match (kind, lower.as_str()) {
        (Kind::Redis, "replicas" | "replicaspermaster") => {
            let fault = RuleFault::new("kind Redis has no replicas in this version")
                .hint("remove it, or use kind: RedisCluster with masters and replicasPerMaster");
            return Some(Unknown { fault, meant: None });
        }
        (Kind::Memcache, "replicas" | "replicaspermaster") => {
            let fault = RuleFault::new("memcached has no replicas").hint("remove it");
            return Some(Unknown { fault, meant: None });
        }
        (Kind::Redis, "masters" | "instances") => "shards",
        (Kind::RedisCluster, "shards" | "instances") => "masters",
        (Kind::RedisCluster, "replicas") => "replicasPerMaster",
        (Kind::Memcache, "masters" | "shards") => "instances",
        _ => return None,
    };
    let fault = RuleFault::new(format!("not a field of kind {}", kind.manifest_kind()));
    Some(Unknown { fault: fault.hint(format!("write {meant}")), meant: Some(meant) })
}

fn shape(faults: &mut Faults<'_>, kind: Kind, spec: &Section<'_>) -> Shape {
    match kind {
        Kind::Redis => Shape::Redis { shards: spec.whole(faults, "shards") },
        Kind::RedisCluster => Shape::RedisCluster {
            masters: spec.whole(faults, "masters"),
            replicas_per_master: spec.whole(faults, "replicasPerMaster"),
        },
        Kind::Memcache => Shape::Memcache { instances: spec.whole(faults, "instances") },
    }
}

/// The version, when it is one that the rules know.
fn version(faults: &mut Faults<'_>, kind: Kind, spec: &Section<'_>, rules: &dyn Rules) -> Option<String> {
    let before = faults.count();
    let version = spec.text(faults, "version");
    let entry = spec.entry("version")?;
    if faults.count() > before {
        return None;
    }
    match rules.version(kind.engine(), &version) {
        Ok(()) => Some(version),
        Err(fault) => {
            faults.push(&spec.path("version"), entry.value.span.clone(), fault);
            None
        }
    }
}

fn resources(faults: &mut Faults<'_>, spec: &Section<'_>) -> Resources {
    let resources = spec.child(faults, "resources");
    Resources {
        cpu_millis: resources.cpu(faults, "cpu"),
        memory: resources.bytes(faults, "memory"),
        disk: resources.bytes(faults, "disk"),
    }
}

/// The directives. Without a known version only their form is checked.
fn config(
    faults: &mut Faults<'_>,
    kind: Kind,
    version: Option<&str>,
    spec: &Section<'_>,
    rules: &dyn Rules,
) -> BTreeMap<String, String> {
    let path = spec.path("config");
    let mut config = BTreeMap::new();
    for entry in spec.pairs(faults, "config", MAX_DIRECTIVES) {
        let path = join(&path, &entry.key);
        if let Err(why) = text::directive(&entry.key) {
            faults.push(
                &path,
                entry.key_span.clone(),
                RuleFault::new(format!("{} {why}", quoted(&entry.key))),
            );
            continue;
        }
        if entry.value.is_refused() {
            continue;
        }
        let value = match value::directive_value(&entry.value) {
            Ok(value) => value,
            Err(fault) => {
                faults.push(&path, entry.value.span.clone(), fault);
                continue;
            }
        };
        if let Some(Err(fault)) = version.map(|version| rules.directive(kind, version, &entry.key, &value)) {
            faults.push(&path, entry.span(), fault);
        }
        config.entry(entry.key.clone()).or_insert(value);
    }
    config
}

fn persistence(faults: &mut Faults<'_>, kind: Kind, spec: &Section<'_>) -> Persistence {
    let persistence = spec.child(faults, "persistence");
    let mode = persistence.entry("mode").filter(|_| kind == Kind::Memcache);
    if let Some(mode) = mode.filter(|mode| matches!(mode.value.text(), Some("rdb" | "aof"))) {
        let fault =
            RuleFault::new("memcached keeps nothing on disk").hint("write mode: none, or remove persistence");
        faults.push(&persistence.path("mode"), mode.value.span.clone(), fault);
        return Persistence::None;
    }
    persistence.word(faults, "mode").unwrap_or(Persistence::None)
}

fn placement(faults: &mut Faults<'_>, spec: &Section<'_>) -> Placement {
    let placement = spec.child(faults, "placement");
    let roles = placement.list(faults, "roles", |faults, holds, path, node| {
        let Type::Text { most, rule, .. } = holds else { return None };
        if node.is_refused() {
            return None;
        }
        keep(faults, path, node, value::bounded_text(node, *most, *rule))
            .map(|role| (role, node.span.clone()))
    });
    let spread = placement.list(faults, "spread", |faults, _, path, node| {
        let spread = Section::open(faults, &SPREAD, path, node, &node.span, |_| None);
        let by: Option<Domain> = spread.word(faults, "by");
        let rule = spread.word(faults, "rule").unwrap_or(Rule::Preferred);
        by.map(|by| (Spread { by, rule }, node.span.clone()))
    });
    let constraints =
        placement.list(faults, "constraints", |faults, _, path, node| Some(constraint(faults, path, node)));
    Placement {
        roles: distinct(faults, &placement.path("roles"), roles, String::clone),
        spread: distinct(faults, &placement.path("spread"), spread, |spread| spread.by.as_str().to_owned()),
        constraints,
    }
}

fn keep<T>(faults: &mut Faults<'_>, path: &str, node: &Node, read: Result<T, RuleFault>) -> Option<T> {
    read.map_err(|fault| faults.push(path, node.span.clone(), fault)).ok()
}

/// The items, with a fault for each that is there twice.
fn distinct<T>(
    faults: &mut Faults<'_>,
    path: &str,
    items: Vec<(T, Range<usize>)>,
    name: impl Fn(&T) -> String,
) -> Vec<T> {
    let mut seen = Vec::with_capacity(items.len());
    for (item, span) in &items {
        let name = name(item);
        if seen.contains(&name) {
            faults.push(
                path,
                span.clone(),
                RuleFault::new(format!("{name} is listed twice")).hint("keep one of them"),
            );
        }
        seen.push(name);
    }
    items.into_iter().map(|(item, _)| item).collect()
}

fn constraint(faults: &mut Faults<'_>, path: &str, node: &Node) -> Constraint {
    let before = faults.count();
    let section = Section::open(faults, &CONSTRAINT, path, node, &node.span, |_| None);
    let attribute = section.text(faults, "attribute");
    let operator = section.word(faults, "operator").unwrap_or(Operator::Is);
    let value = section.text(faults, "value");
    let given = section.entry("value");
    let at = given.map_or(node.span.clone(), |entry| entry.value.span.clone());
    let fault = match operator {
        _ if faults.count() > before || given.is_some_and(|entry| entry.value.is_refused()) => None,
        Operator::Exists if !value.is_empty() => {
            Some(RuleFault::new("exists compares with nothing").hint("remove value"))
        }
        Operator::Exists => None,
        _ if value.is_empty() => {
            Some(RuleFault::new("is missing").hint("write what the attribute is compared with"))
        }
        Operator::In | Operator::NotIn if value.split(',').any(|item| item.trim().is_empty()) => {
            Some(RuleFault::new(format!("{} has an empty item", quoted(&value))).hint("write value: a,b"))
        }
        Operator::Is | Operator::IsNot | Operator::In | Operator::NotIn => None,
    };
    if let Some(fault) = fault {
        faults.push(&section.path("value"), at, fault);
    }
    Constraint { attribute, operator, value }
}

fn update(faults: &mut Faults<'_>, shape: Shape, spec: &Section<'_>) -> Update {
    let before = faults.count();
    let section = spec.child(faults, "update");
    let update = Update {
        max_unavailable: section.whole(faults, "maxUnavailable"),
        min_ready: section.time(faults, "minReady"),
        deadline: section.time(faults, "deadline"),
        canary: section.whole(faults, "canary"),
        on_failure: section.word(faults, "onFailure").unwrap_or(OnFailure::Pause),
        allow_data_loss: section.flag(faults, "allowDataLoss"),
    };
    if faults.count() > before {
        return update;
    }
    if update.deadline <= update.min_ready {
        blame(faults, &section, &["deadline", "minReady"], "deadline must be longer than minReady");
    }
    let members = shape.members();
    if members > 0 && update.canary > members {
        let message = format!("more canaries than the {members} members");
        blame(faults, &section, &["canary"], &message);
    }
    update
}

fn recovery(faults: &mut Faults<'_>, spec: &Section<'_>) -> Recovery {
    let before = faults.count();
    let section = spec.child(faults, "recovery");
    let recovery = Recovery {
        restarts_before_replace: section.whole(faults, "restartsBeforeReplace"),
        unreachable_after: section.time(faults, "unreachableAfter"),
        replace_after: section.time(faults, "replaceAfter"),
        on_return: section.word(faults, "onReturn").unwrap_or(OnReturn::Keep),
        on_agent_loss: section.word(faults, "onAgentLoss").unwrap_or_default(),
    };
    if faults.count() == before && recovery.replace_after < recovery.unreachable_after {
        let message = "replaceAfter must not be shorter than unreachableAfter";
        blame(faults, &section, &["replaceAfter", "unreachableAfter"], message);
    }
    recovery
}

/// A fault at the first of `names` that is given.
fn blame(faults: &mut Faults<'_>, section: &Section<'_>, names: &[&str], message: &str) {
    if let Some((name, entry)) = names.iter().find_map(|name| Some((name, section.entry(name)?))) {
        faults.push(&section.path(name), entry.value.span.clone(), RuleFault::new(message));
    }
}

fn deletion(faults: &mut Faults<'_>, spec: &Section<'_>) -> Deletion {
    let section = spec.child(faults, "deletion");
    Deletion {
        protected: section.flag(faults, "protected"),
        on_disk: section.word(faults, "onDisk").unwrap_or(OnDisk::Delete),
    }
}
