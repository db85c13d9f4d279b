//! Compares large documents, such as a master's whole state, by what tools look for in them: every field that was
//! recorded is there, with a value of its type. How many tasks and agents there are is not compared.

use serde_json::Value;

use crate::unify::{Difference, differ, show};

/// What has other fields on every master: its flags, its metrics, and what depends on the machine.
const OPAQUE: [&str; 5] = ["flags", "metrics", "attributes", "drain_info", "statistics"];

/// Notes what is missing, or of another type.
pub fn sketch(place: &str, expected: &Value, got: &Value, out: &mut Vec<Difference>) {
    match (expected, got) {
        (Value::Object(fields), Value::Object(others)) => {
            for (key, value) in fields {
                let path = format!("{place}.{key}");
                match others.get(key) {
                    Some(other) if OPAQUE.contains(&key.as_str()) => same_type(&path, value, other, out),
                    Some(other) => sketch(&path, value, other, out),
                    None if key == "attributes" || key.starts_with("git_") => {}
                    None => differ(out, &path, &show(value), "nothing"),
                }
            }
        }
        (Value::Array(items), Value::Array(others)) => {
            let Some(common) = items.iter().cloned().reduce(common) else { return };
            for other in others.iter().take(4) {
                sketch(&format!("{place}[]"), &common, other, out);
            }
        }
        _ => same_type(place, expected, got, out),
    }
}

/// What all items have.
fn common(a: Value, b: Value) -> Value {
    match (a, b) {
        (Value::Object(a), Value::Object(mut b)) => {
            let both = a.into_iter().filter_map(|(key, value)| {
                let other = b.remove(&key)?;
                Some((key, common(value, other)))
            });
            Value::Object(both.collect())
        }
        (Value::Array(mut a), Value::Array(b)) => {
            a.extend(b);
            Value::Array(a)
        }
        (a, _) => a,
    }
}

fn same_type(place: &str, expected: &Value, got: &Value, out: &mut Vec<Difference>) {
    if std::mem::discriminant(expected) != std::mem::discriminant(got) {
        differ(out, place, &show(expected), &show(got));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_must_be_there_and_of_their_type_in_every_item() {
        let recorded = json!({"tasks": [{"id": "a", "state": "x", "x": 1}, {"id": "b", "state": "y"}], "flags": {"a": 1}});
        let count = |got: Value| {
            let mut out = Vec::new();
            sketch("x", &recorded, &got, &mut out);
            out.len()
        };
        assert_eq!(
            count(json!({"tasks": [{"id": "c", "state": "z", "more": 1}], "flags": {"b": 2}, "more": 1})),
            0
        );
        assert_eq!(count(json!({"tasks": [], "flags": {}})), 0);
        assert_eq!(count(json!({"tasks": [{"id": "c", "state": "z"}, {"id": "d"}], "flags": {}})), 1);
        assert_eq!(count(json!({"tasks": [{"id": 1, "state": "z"}]})), 2);
    }
}
