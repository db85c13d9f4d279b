//! What people may write under `spec.version` and `spec.config`, with the reason when they may not.

use overlord_api::{Cluster, Engine, Kind, RuleFault, Rules, Shape, nearest};

use crate::{
    conf::derived_memory,
    directive::{Directive, find, table},
    owned,
    value::{self, MAX_VALUE},
    version::{Minor, minor_of, newest, supported},
};

/// Connections of replicas, executor, controller and people that a node must have room for.
const CLIENTS_RESERVED: u64 = 32;

/// The tables of this crate as the validation of specs asks for them.
#[derive(Debug, Clone, Copy, Default)]
pub struct EngineRules;

impl Rules for EngineRules {
    fn version(&self, engine: Engine, version: &str) -> Result<(), RuleFault> {
        supported(engine, version).map(|_| ())
    }

    fn directive(&self, kind: Kind, version: &str, name: &str, value: &str) -> Result<(), RuleFault> {
        // A version without a table is a fault of its own; names are then judged by the newest.
        let release = supported(kind.engine(), version).unwrap_or_else(|_| newest(kind.engine()));
        let row = allowed(kind, release, name)?;
        check(row, release, name, value)
    }

    fn whole(&self, cluster: &Cluster) -> Vec<(String, RuleFault)> {
        match cluster.spec.shape {
            Shape::Redis { .. } => redis_whole(cluster, None),
            Shape::RedisCluster { replicas_per_master, .. } => {
                redis_whole(cluster, Some(replicas_per_master))
            }
            Shape::Memcache { .. } => memcache_whole(cluster),
        }
    }
}

/// The row of a directive that people may set on that kind and release.
fn allowed(kind: Kind, release: Minor, name: &str) -> Result<&'static Directive, RuleFault> {
    let engine = kind.engine();
    if let Some(row) = find(engine, release, name) {
        return if row.is_for(kind) {
            Ok(row)
        } else {
            Err(RuleFault::new(format!("{name} has no effect in kind {}", kind.manifest_kind()))
                .hint("remove it"))
        };
    }
    if let Some(why) = owned::owner(kind, name) {
        return Err(RuleFault::new(format!("{name} cannot be set here: {why}")).hint("remove it"));
    }
    let (major, minor) = release;
    if let Some(row) = table(engine).iter().find(|row| row.is_named(name)) {
        let (since_major, since_minor) = row.since;
        return Err(RuleFault::new(format!(
            "{engine} {major}.{minor} does not have {name}: it came with {since_major}.{since_minor}"
        ))
        .hint("remove it, or take a newer version"));
    }
    let names = table(engine).iter().filter(|row| row.is_in(release) && row.is_for(kind)).map(|row| row.name);
    let fault =
        RuleFault::new(format!("{engine} {major}.{minor} has no directive {} that may be set", shown(name)));
    Err(match nearest(name, names) {
        Some(near) => fault.hint(format!("did you mean {near}?")),
        None => fault,
    })
}

fn check(row: &Directive, release: Minor, name: &str, value: &str) -> Result<(), RuleFault> {
    if value.len() > MAX_VALUE {
        return Err(RuleFault::new(format!("the value of {name} is longer than {MAX_VALUE} bytes")));
    }
    // A line break would begin a directive of its own.
    if let Some(c) = value.chars().find(|c| c.is_control()) {
        return Err(RuleFault::new(format!("the value of {name} holds the control character {c:?}"))
            .hint("write it on one line"));
    }
    row.value.canonical(value, release).map(|_| ()).map_err(|expected| {
        let fault = RuleFault::new(format!("{name} is {}, expected {expected}", shown(value)));
        match advice(row, value) {
            Some(hint) => fault.hint(hint),
            None => fault,
        }
    })
}

fn advice(row: &Directive, value: &str) -> Option<String> {
    match row.value {
        value::ValueType::Enum(words) => {
            nearest(value, words.iter().copied()).map(|word| format!("did you mean {word}?"))
        }
        value::ValueType::Bytes { .. } => {
            let number = value.strip_suffix(['i', 'I'])?;
            let binary = format!("{}b", number.to_ascii_lowercase());
            value::bytes(&binary).map(|_| format!("write {binary}"))
        }
        _ => None,
    }
}

/// A word of people's input, safe to print and not too long.
fn shown(text: &str) -> String {
    const LONGEST: usize = 60;
    if text.chars().count() <= LONGEST {
        return format!("{text:?}");
    }
    let cut: String = text.chars().take(LONGEST).collect();
    format!("{cut:?}...")
}

fn redis_whole(cluster: &Cluster, replicas: Option<u32>) -> Vec<(String, RuleFault)> {
    let spec = &cluster.spec;
    let kind = spec.shape.kind();
    let release = minor_of(&spec.version).unwrap_or_else(|| newest(Engine::Redis));
    let mut faults = twice(cluster, release);
    let set = |name: &str| set(cluster, release, name);
    if let Some((name, value)) = set("maxmemory") {
        if value::bytes(value.trim()).is_some_and(|bytes| bytes > spec.resources.memory) {
            let derived = derived_memory(kind, spec.resources, spec.persistence) >> 20;
            faults.push(fault(
                name,
                RuleFault::new(format!(
                    "maxmemory {value} is more than spec.resources.memory gives to an instance"
                ))
                .hint(format!("remove it to get {derived}mb, or raise spec.resources.memory")),
            ));
        }
    } else if derived_memory(kind, spec.resources, spec.persistence) < 1 << 20 {
        faults.push(too_small());
    }
    if let (Some((name, value)), Shape::RedisCluster { .. }) = (set("maxclients"), spec.shape) {
        let nodes = u64::from(spec.shape.members());
        let least = CLIENTS_RESERVED + nodes.saturating_sub(1) * 2;
        if value.trim().parse::<u64>().is_ok_and(|clients| clients < least) {
            faults.push(fault(
                name,
                RuleFault::new(format!(
                    "maxclients {value} leaves no room for clients: the {nodes} nodes of this cluster hold two \
                     connections to each other, which count"
                ))
                .hint(format!("set at least {least}, and add the clients you expect")),
            ));
        }
    }
    if let Some((name, value)) = set("min-replicas-to-write") {
        let has = replicas.unwrap_or(0);
        if value.trim().parse::<u64>().is_ok_and(|wanted| wanted > u64::from(has)) {
            let shape = match replicas {
                None => "the servers of kind Redis have no replicas".to_owned(),
                Some(has) => format!("spec.replicasPerMaster is {has}"),
            };
            faults.push(fault(
                name,
                RuleFault::new(format!("{name} {value} would refuse every write: {shape}")).hint("lower it"),
            ));
        }
    }
    faults
}

fn memcache_whole(cluster: &Cluster) -> Vec<(String, RuleFault)> {
    const MIB: u64 = 1 << 20;
    let spec = &cluster.spec;
    let release = minor_of(&spec.version).unwrap_or_else(|| newest(Engine::Memcache));
    let mut faults = twice(cluster, release);
    let set = |name: &str| set(cluster, release, name);
    let number = |name: &str| set(name).and_then(|(_, value)| value.trim().parse::<u64>().ok());
    let derived = derived_memory(Kind::Memcache, spec.resources, spec.persistence) / MIB;
    let limit = number("memory-limit").unwrap_or(derived);
    match set("memory-limit") {
        Some((name, _)) if limit > spec.resources.memory / MIB => faults.push(fault(
            name,
            RuleFault::new(format!("memory-limit {limit} (MiB) is more than spec.resources.memory gives"))
                .hint(format!("remove it to get {derived}, or raise spec.resources.memory")),
        )),
        None if derived < 8 => faults.push(too_small()),
        _ => {}
    }
    // memcached ends at start when an item could take more than half of its memory.
    let too_large = |value: &str| value::size(value.trim()).is_some_and(|bytes| bytes > limit * MIB / 2);
    if let Some((name, value)) = set("max-item-size").filter(|(_, value)| too_large(value)) {
        faults.push(fault(
            name,
            RuleFault::new(format!("max-item-size {value} is more than half of memory-limit {limit} (MiB)"))
                .hint("memcached would not start; lower it, or raise spec.resources.memory"),
        ));
    }
    let (hot, warm) = (number("hot_lru_pct").unwrap_or(20), number("warm_lru_pct").unwrap_or(40));
    if let Some((name, _)) = set("hot_lru_pct").or(set("warm_lru_pct")).filter(|_| hot + warm > 80) {
        faults.push(fault(
            name,
            RuleFault::new(format!("hot_lru_pct {hot} and warm_lru_pct {warm} are together more than 80"))
                .hint("memcached would not start; lower one of them"),
        ));
    }
    let without_maintainer =
        set("lru_maintainer").and_then(|(_, value)| value::bool_of(value.trim())) == Some(false);
    if let (true, Some((name, _))) = (without_maintainer, set("temporary_ttl")) {
        faults.push(fault(
            name,
            RuleFault::new("temporary_ttl needs lru_maintainer")
                .hint("memcached would not start; remove one of them"),
        ));
    }
    faults
}

/// The value set for a directive under either spelling.
fn set<'c>(cluster: &'c Cluster, release: Minor, name: &str) -> Option<(&'c str, &'c str)> {
    let row = find(cluster.spec.shape.kind().engine(), release, name)?;
    let mut entries = cluster.spec.config.iter();
    entries.find(|(key, _)| row.is_named(key)).map(|(key, value)| (key.as_str(), value.as_str()))
}

/// Directives that are set under both of their spellings.
fn twice(cluster: &Cluster, release: Minor) -> Vec<(String, RuleFault)> {
    let engine = cluster.spec.shape.kind().engine();
    let mut faults = Vec::new();
    let mut seen: Vec<(&'static str, &str)> = Vec::new();
    for name in cluster.spec.config.keys() {
        let Some(row) = find(engine, release, name) else { continue };
        match seen.iter().find(|(canonical, _)| *canonical == row.name) {
            Some((_, other)) => faults.push(fault(
                name,
                RuleFault::new(format!("{name} and {other} are one directive")).hint("remove one of them"),
            )),
            None => seen.push((row.name, name)),
        }
    }
    faults
}

fn fault(name: &str, fault: RuleFault) -> (String, RuleFault) {
    (format!("spec.config.{name}"), fault)
}

fn too_small() -> (String, RuleFault) {
    let fault = RuleFault::new("too little memory for the engine to hold anything");
    ("spec.resources.memory".to_owned(), fault.hint("give at least 16Mi"))
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use overlord_api::{
        ClusterName, Deletion, OnAgentLoss, OnDisk, OnFailure, OnReturn, Persistence, Placement, Recovery,
        Resources, Spec, Update,
    };

    use super::*;

    fn refusal(kind: Kind, version: &str, name: &str, value: &str) -> String {
        EngineRules.directive(kind, version, name, value).unwrap_err().to_string()
    }

    #[test]
    fn a_refusal_says_what_to_do() {
        for (name, value, expected) in [
            ("maxmemory_policy", "noeviction", "did you mean maxmemory-policy?"),
            ("maxmemory-policy", "allkeys-lur", "did you mean allkeys-lru?"),
            ("maxmemory", "512Mi", "write 512mb"),
            ("port", "6379", "Overlord gives each instance its address"),
            ("requirepass", "x", "passwords are secrets"),
            ("tls-port", "1", "certificates"),
            ("save", "900 1", "spec.persistence decides it"),
            ("cluster-node-timeout", "5000", "no effect in kind Redis"),
            ("set-max-listpack-value", "64", "it came with 7.2"),
            ("hz", "501", "expected a whole number from 1 to 500"),
            ("hz", "10\nport 1", "control character"),
            ("colour", "blue", "no directive \"colour\""),
        ] {
            let said = refusal(Kind::Redis, "7.0.15", name, value);
            assert!(said.contains(expected), "{name}: {said}");
        }
        assert!(refusal(Kind::Memcache, "1.6.18", "no_lru_crawler", "yes").contains("the value no"));
        assert!(refusal(Kind::Memcache, "1.5.22", "disable-watch", "yes").contains("it came with 1.6"));
    }

    #[test]
    fn directives_are_judged_by_the_newest_release_when_the_version_is_in_doubt() {
        assert!(EngineRules.directive(Kind::Redis, "x", "set-max-listpack-value", "64").is_ok());
        assert!(EngineRules.version(Engine::Redis, "x").is_err());
    }

    fn faults(shape: Shape, memory_mib: u64, config: &[(&str, &str)]) -> Vec<String> {
        let second = Duration::from_secs(1);
        let version = if shape.kind() == Kind::Memcache { "1.6.18" } else { "7.0.15" };
        let cluster = Cluster {
            name: "orders".parse::<ClusterName>().unwrap(),
            labels: BTreeMap::new(),
            spec: Spec {
                shape,
                version: version.to_owned(),
                resources: Resources { cpu_millis: 100, memory: memory_mib << 20, disk: 0 },
                config: config
                    .iter()
                    .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                    .collect(),
                persistence: Persistence::None,
                placement: Placement { roles: Vec::new(), spread: Vec::new(), constraints: Vec::new() },
                update: Update {
                    max_unavailable: 1,
                    min_ready: second,
                    deadline: second,
                    canary: 0,
                    on_failure: OnFailure::Pause,
                    allow_data_loss: false,
                },
                recovery: Recovery {
                    restarts_before_replace: 5,
                    unreachable_after: second,
                    replace_after: second,
                    on_return: OnReturn::Keep,
                    on_agent_loss: OnAgentLoss::Keep,
                },
                deletion: Deletion { protected: false, on_disk: OnDisk::Delete },
            },
        };
        EngineRules.whole(&cluster).into_iter().map(|(path, fault)| format!("{path}: {fault}")).collect()
    }

    #[test]
    fn what_contradicts_the_rest_of_the_spec_is_found() {
        let nodes = Shape::RedisCluster { masters: 10, replicas_per_master: 1 };
        let said = faults(nodes, 64, &[("maxclients", "69")]).join("; ");
        assert!(said.contains("20 nodes") && said.contains("at least 70"), "{said}");
        assert!(faults(nodes, 64, &[("maxclients", "70")]).is_empty());
        let redis = Shape::Redis { shards: 2 };
        let cluster = Shape::RedisCluster { masters: 3, replicas_per_master: 1 };
        let memcache = Shape::Memcache { instances: 2 };
        for (shape, config, expected) in [
            (
                redis,
                [("maxmemory", "1gb"), ("hz", "10")],
                "spec.config.maxmemory: maxmemory 1gb is more than",
            ),
            (redis, [("min-slaves-to-write", "1"), ("hz", "10")], "would refuse every write"),
            (cluster, [("min-replicas-to-write", "2"), ("hz", "10")], "spec.replicasPerMaster is 1"),
            (redis, [("slave-priority", "1"), ("replica-priority", "1")], "are one directive"),
            (memcache, [("memory-limit", "1000"), ("threads", "2")], "memory-limit 1000 (MiB) is more than"),
            (
                memcache,
                [("max-item-size", "64m"), ("memory-limit", "100")],
                "more than half of memory-limit 100",
            ),
            (memcache, [("hot_lru_pct", "50"), ("warm_lru_pct", "31")], "together more than 80"),
            (memcache, [("temporary_ttl", "60"), ("lru_maintainer", "no")], "needs lru_maintainer"),
        ] {
            let found = faults(shape, 512, &config);
            assert!(found.len() == 1 && found[0].contains(expected), "{found:?}");
        }
        assert_eq!(faults(cluster, 512, &[("min-replicas-to-write", "1"), ("maxmemory", "400mb")]), [""; 0]);
        assert_eq!(faults(memcache, 512, &[("max-item-size", "8m"), ("hot_lru_pct", "40")]), [""; 0]);
        assert!(faults(memcache, 9, &[])[0].starts_with("spec.resources.memory: too little memory"));
    }
}
