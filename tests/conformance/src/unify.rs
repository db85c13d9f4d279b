//! Compares two JSON values by shape and meaning: names of fields, types, texts, and which id is which; not times,
//! addresses, versions and amounts of resources.

use serde_json::Value;

use crate::names::{Names, is_base64_uuid};

/// Something that is not as recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Where: capture, line, connection, path.
    pub place: String,
    /// What the capture has there.
    pub expected: String,
    /// What came.
    pub got: String,
}

/// Compares, binds ids, and notes what differs.
pub fn unify(names: &mut Names, place: &str, expected: &Value, got: &Value, out: &mut Vec<Difference>) {
    match (expected, got) {
        (Value::Object(fields), Value::Object(others)) => {
            let kind = fields.get("type").and_then(Value::as_str);
            let nested = expected.pointer("/container_id/parent").is_some();
            for (key, value) in fields {
                let path = format!("{place}.{key}");
                match others.get(key) {
                    _ if nested && varies(key) => {}
                    Some(other) => field(names, &path, key, value, other, out),
                    None if is_optional(key) => {}
                    None => differ(out, &path, &show(value), "nothing"),
                }
            }
            for (key, value) in others {
                let may_be = is_optional(key) || (nested && varies(key));
                if !fields.contains_key(key) && !may_be {
                    differ(out, &format!("{place}.{key}"), &format!("nothing{}", of(kind)), &show(value));
                }
            }
        }
        (Value::Array(items), Value::Array(others)) => {
            if items.len() != others.len() {
                let (a, b) = (show(expected), show(got));
                differ(out, place, &format!("{} items: {a}", items.len()), &format!("{}: {b}", others.len()));
                return;
            }
            for (at, (item, other)) in items.iter().zip(others).enumerate() {
                unify(names, &format!("{place}[{at}]"), item, other, out);
            }
        }
        (Value::String(a), Value::String(b)) if is_base64_uuid(a) => {
            if !is_base64_uuid(b) {
                differ(out, place, "base64 of 16 bytes", &format!("'{b}'"));
            } else if !names.bind(a, b) {
                let bound = names.get(a).unwrap_or("another uuid").to_owned();
                differ(out, place, &format!("'{bound}'"), &format!("'{b}'"));
            }
        }
        (Value::String(a), Value::String(b)) => {
            if !names.same_text(a, b) {
                differ(out, place, &format!("'{}'", names.translate(a)), &format!("'{b}'"));
            }
        }
        (Value::Number(a), Value::Number(b)) => {
            let same =
                a.as_f64().zip(b.as_f64()).is_some_and(|(a, b)| a.total_cmp(&b).is_eq() || is_time(a, b));
            if !same {
                differ(out, place, &a.to_string(), &b.to_string());
            }
        }
        _ if expected == got => {}
        _ => differ(out, place, &show(expected), &show(got)),
    }
}

fn field(
    names: &mut Names,
    place: &str,
    key: &str,
    expected: &Value,
    got: &Value,
    out: &mut Vec<Difference>,
) {
    match (expected, got) {
        (Value::Number(_), Value::Number(_)) if is_measured(key) => {}
        (Value::String(_), Value::String(_)) if is_local(key) => {}
        (Value::Array(_), Value::Array(_)) if key.ends_with("resources") => {
            unify(names, place, &resources(expected), &resources(got), out);
        }
        (Value::Array(_), Value::Array(_)) if key.ends_with("tasks") => {
            unify(names, place, &tasks(expected), &tasks(got), out);
        }
        // What an agent is given as attributes is its own affair.
        (Value::Array(_), Value::Array(_)) if key == "attributes" => {}
        _ => unify(names, place, expected, got, out),
    }
}

/// What an agent knows of a nested container depends on how fast it is asked.
fn varies(key: &str) -> bool {
    matches!(key, "network_infos" | "executor_pid")
}

/// Tasks in the order of their ids: a master has them in none.
fn tasks(value: &Value) -> Value {
    let mut all = value.as_array().cloned().unwrap_or_default();
    all.sort_by_key(|task| task["task_id"]["value"].to_string());
    Value::Array(all)
}

/// Resources in the order of their names, without amounts.
pub fn resources(value: &Value) -> Value {
    let mut all: Vec<Value> = value.as_array().into_iter().flatten().map(resource).collect();
    all.sort_by_key(ToString::to_string);
    Value::Array(all)
}

/// A resource without its amount.
pub fn resource(value: &Value) -> Value {
    let mut value = value.clone();
    if let Some(amount) = value.pointer_mut("/scalar/value")
        && amount.is_number()
    {
        *amount = Value::from(1.0);
    }
    if let Some(ranges) = value.pointer_mut("/ranges/range").and_then(Value::as_array_mut) {
        ranges.truncate(1);
        for key in ["begin", "end"] {
            if let Some(port) = ranges.first_mut().and_then(|r| r.get_mut(key)).filter(|p| p.is_number()) {
                *port = Value::from(0);
            }
        }
    }
    value
}

/// Numbers that no two runs share.
fn is_measured(key: &str) -> bool {
    matches!(key, "timestamp" | "executor_pid" | "port" | "ip" | "heartbeat_interval_seconds" | "pid")
        || key.ends_with("_time")
}

/// Texts that no two machines share.
fn is_local(key: &str) -> bool {
    matches!(
        key,
        "hostname"
            | "version"
            | "build_date"
            | "build_user"
            | "git_sha"
            | "git_tag"
            | "git_branch"
            | "directory"
    )
}

/// What a master may have been given or not.
fn is_optional(key: &str) -> bool {
    matches!(key, "domain" | "attributes" | "git_tag" | "git_branch")
}

/// Nanoseconds since 1970.
fn is_time(a: f64, b: f64) -> bool {
    a > 1e17 && b > 1e17
}

/// Notes a difference.
pub fn differ(out: &mut Vec<Difference>, place: &str, expected: &str, got: &str) {
    out.push(Difference { place: place.to_owned(), expected: expected.to_owned(), got: got.to_owned() });
}

fn of(kind: Option<&str>) -> String {
    kind.map(|kind| format!(" (in {kind})")).unwrap_or_default()
}

/// A value in one line, cut where it is long.
pub fn show(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(300) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn differences(a: &Value, b: &Value) -> Vec<Difference> {
        let mut out = Vec::new();
        unify(&mut Names::default(), "x", a, b, &mut out);
        out
    }

    #[test]
    fn times_addresses_and_amounts_do_not_matter() {
        let a = json!({"timestamp": 1.5, "hostname": "a", "resources": [{"name": "cpus", "scalar": {"value": 8.0}}]});
        let b = json!({"timestamp": 2, "hostname": "b", "resources": [{"name": "cpus", "scalar": {"value": 7.5}}]});
        assert_eq!(differences(&a, &b), []);
    }

    #[test]
    fn fields_types_texts_and_uuids_matter() {
        let a = json!({"state": "TASK_LOST", "uuid": "Lnr5mYh4SKqdHxwPxOJttg==", "n": 1, "l": [1, 2]});
        for other in [
            json!({"state": "TASK_LOST", "n": 1, "l": [1, 2]}),
            json!({"state": "TASK_LOST", "uuid": "YWJjZGU=", "n": 1, "l": [1, 2]}),
            json!({"state": "TASK_GONE", "uuid": "Lnr5mYh4SKqdHxwPxOJttg==", "n": 1, "l": [1, 2]}),
            json!({"state": "TASK_LOST", "uuid": "Lnr5mYh4SKqdHxwPxOJttg==", "n": "1", "l": [1, 2]}),
            json!({"state": "TASK_LOST", "uuid": "Lnr5mYh4SKqdHxwPxOJttg==", "n": 1, "l": [1]}),
            json!({"state": "TASK_LOST", "uuid": "Lnr5mYh4SKqdHxwPxOJttg==", "n": 1, "l": [2, 1]}),
            json!({"state": "TASK_LOST", "uuid": "Lnr5mYh4SKqdHxwPxOJttg==", "n": 1, "l": [1, 2], "more": 1}),
        ] {
            assert!(!differences(&a, &other).is_empty(), "{other}");
        }
    }
}
