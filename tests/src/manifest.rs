//! Manifests of small clusters.

use serde_json::Value;

/// A redis pool; `more` holds further lines of the spec, indented by two.
pub fn redis(name: &str, shards: u32, more: &str) -> String {
    format!(
        "apiVersion: overlord/v1\nkind: Redis\nmetadata: {{name: {name}}}\nspec:\n  version: \"7.0.15\"\n  \
         shards: {shards}\n  resources: {{cpu: \"0.1\", memory: 32Mi, disk: 32Mi}}\n{more}"
    )
}

/// A memcache pool; `more` as in [`redis`].
pub fn memcache(name: &str, instances: u32, more: &str) -> String {
    format!(
        "apiVersion: overlord/v1\nkind: Memcache\nmetadata: {{name: {name}}}\nspec:\n  version: \"1.6.18\"\n  \
         instances: {instances}\n  resources: {{cpu: \"0.1\", memory: 32Mi, disk: 32Mi}}\n{more}"
    )
}

/// Several manifests in one file.
pub fn all(manifests: &[String]) -> String {
    manifests.join("---\n")
}

/// The address of an instance.
///
/// # Panics
/// When the info has none.
#[expect(clippy::expect_used, reason = "the tests' own way to fail")]
pub fn address(info: &Value) -> String {
    format!("{}:{}", info["ip"].as_str().expect("an ip"), info["port"])
}

/// The process of an instance, as observed.
///
/// # Panics
/// When none is.
#[expect(clippy::expect_used, reason = "the tests' own way to fail")]
pub fn pid(info: &Value) -> u32 {
    u32::try_from(info["observed"]["pid"].as_u64().expect("a pid")).expect("a pid")
}

/// A redis cluster; `more` as in [`redis`].
pub fn redis_cluster(name: &str, masters: u16, replicas: u16, more: &str) -> String {
    format!(
        "apiVersion: overlord/v1\nkind: RedisCluster\nmetadata: {{name: {name}}}\nspec:\n  version: \"7.0.15\"\n  \
         masters: {masters}\n  replicasPerMaster: {replicas}\n  \
         resources: {{cpu: \"0.1\", memory: 64Mi, disk: 64Mi}}\n{more}"
    )
}
