//! The manifests that scripts declare: little is said, the rest is the product's default.

use serde_json::{Value, json};

/// The least that a manifest of that kind says here: agents are small.
pub(crate) fn manifest(kind: &str, cluster: &str) -> Value {
    let version = if kind == "Memcache" { "1.6.18" } else { "7.0.15" };
    // The nodes of a cluster find a dead one within seconds.
    let config = if kind == "RedisCluster" { json!({"cluster-node-timeout": "2000"}) } else { json!({}) };
    json!({
        "apiVersion": "overlord/v1",
        "kind": kind,
        "metadata": {"name": cluster},
        "spec": {"version": version, "resources": {"cpu": "0.1", "memory": "64Mi", "disk": "64Mi"}, "config": config},
    })
}

/// Sets `a.b=value` below `spec`; the value is YAML.
pub(crate) fn set(manifest: &mut Value, path: &str, value: &str) -> Result<(), String> {
    let value: Value = match path {
        // Directives and versions are texts, whatever they look like.
        _ if path.starts_with("config.") || path == "version" => Value::String(value.to_owned()),
        _ => serde_yaml::from_str(value).map_err(|error| format!("{path}: {error}"))?,
    };
    let mut place = &mut manifest["spec"];
    let mut parts = path.split('.').peekable();
    while let Some(part) = parts.next() {
        let Some(fields) = place.as_object_mut() else { return Err(format!("{path}: {part} is no field")) };
        place = fields
            .entry(part)
            .or_insert_with(|| if parts.peek().is_some() { json!({}) } else { Value::Null });
    }
    *place = value;
    Ok(())
}

/// The text that is put into the store.
pub(crate) fn text(manifest: &Value) -> Result<String, String> {
    serde_yaml::to_string(manifest).map_err(|error| error.to_string())
}
