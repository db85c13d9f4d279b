//! A small set of engine rules, as the engines' tables would give them, and a spec to break.
#![allow(dead_code, reason = "each test uses a part")]

use overlord_api::{Cluster, Engine, Kind, RuleFault, Rules, nearest, quantity};

/// Two redis versions, one of memcached, four directives.
pub(crate) struct Tables;

const DIRECTIVES: [&str; 4] = ["maxmemory", "maxmemory-policy", "save", "hz"];

impl Rules for Tables {
    fn version(&self, engine: Engine, version: &str) -> Result<(), RuleFault> {
        let known: &[&str] = match engine {
            Engine::Redis => &["6.2.14", "7.0.15"],
            Engine::Memcache => &["1.6.18"],
        };
        if known.contains(&version) {
            return Ok(());
        }
        Err(RuleFault::new(format!("no tables for {engine} {version}"))
            .hint(format!("known: {}", known.join(", "))))
    }

    fn directive(&self, _: Kind, _: &str, name: &str, value: &str) -> Result<(), RuleFault> {
        if !DIRECTIVES.contains(&name) {
            let fault = RuleFault::new("not on the allow-list");
            return Err(match nearest(name, DIRECTIVES) {
                Some(near) => fault.hint(format!("did you mean {near}?")),
                None => fault,
            });
        }
        if name == "hz" && value.parse::<u32>().is_err() {
            return Err(RuleFault::new(format!("expected a whole number, found {value}")));
        }
        Ok(())
    }

    fn whole(&self, cluster: &Cluster) -> Vec<(String, RuleFault)> {
        let given = cluster.spec.config.get("maxmemory").and_then(|given| quantity::parse_bytes(given).ok());
        if given.is_some_and(|bytes| bytes > cluster.spec.resources.memory) {
            return vec![("spec.config.maxmemory".to_owned(), RuleFault::new("is above resources.memory"))];
        }
        if cluster.spec.resources.memory > 1 << 40 {
            return vec![(
                "spec.config.maxmemory".to_owned(),
                RuleFault::new("must be given for so much memory"),
            )];
        }
        Vec::new()
    }
}

/// A good spec with something in every section.
pub(crate) const REDIS: &str = r#"apiVersion: overlord/v1
kind: Redis
metadata:
  name: orders
  labels: {team: pay}
spec:
  version: "7.0.15"
  shards: 2
  resources: {cpu: "0.5", memory: 512Mi, disk: 1Gi}
  config:
    maxmemory-policy: allkeys-lru
  placement:
    roles: ["*"]
    spread: [{by: host, rule: required}]
    constraints: [{attribute: disk, operator: is, value: ssd}]
  update: {maxUnavailable: 1, minReady: 5s, deadline: 10m}
  recovery: {unreachableAfter: 30s, replaceAfter: 10m}
  deletion: {protected: false}
"#;

/// The least that is accepted of each kind.
pub(crate) const LEAST: [&str; 3] = [
    r#"{apiVersion: overlord/v1, kind: Redis, metadata: {name: a}, spec: {version: "7.0.15", shards: 1, resources: {memory: 64Mi}}}"#,
    r#"{apiVersion: overlord/v1, kind: RedisCluster, metadata: {name: a}, spec: {version: "7.0.15", masters: 3, replicasPerMaster: 1, resources: {memory: 64Mi}}}"#,
    r#"{apiVersion: overlord/v1, kind: Memcache, metadata: {name: a}, spec: {version: "1.6.18", instances: 1, resources: {memory: 64Mi}}}"#,
];
