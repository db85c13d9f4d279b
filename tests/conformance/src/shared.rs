//! A master that others use, too, tells operators of everybody's frameworks: what is not of a case is left out before
//! its answers are compared.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{
    model::{Transcript, What},
    names::{framework_id, parts},
};

/// Leaves out of answers and events what is of other frameworks than these.
pub fn leave_out_others(transcript: &mut Transcript, own: &BTreeSet<String>) {
    for entry in &mut transcript.entries {
        match &mut entry.what {
            What::Body(body) => {
                if let Ok(mut value) = serde_json::from_str(body) {
                    prune(&mut value, own);
                    *body = value.to_string();
                }
            }
            What::Record(record) => prune(record, own),
            _ => {}
        }
    }
}

fn prune(value: &mut Value, own: &BTreeSet<String>) {
    match value {
        Value::Array(items) => {
            items.retain(|item| {
                let mut ids = BTreeSet::new();
                frameworks(item, &mut ids);
                ids.is_empty() || ids.iter().any(|id| own.contains(id))
            });
            for item in items {
                prune(item, own);
            }
        }
        Value::Object(fields) => {
            for field in fields.values_mut() {
                prune(field, own);
            }
        }
        _ => {}
    }
}

/// The ids of frameworks in a value.
fn frameworks(value: &Value, ids: &mut BTreeSet<String>) {
    match value {
        Value::String(text) => ids.extend(parts(text).into_iter().filter_map(framework_id)),
        Value::Array(items) => {
            for item in items {
                frameworks(item, ids);
            }
        }
        Value::Object(fields) => {
            for field in fields.values() {
                frameworks(field, ids);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_names_only_other_frameworks_is_left_out() {
        let (mine, other) =
            ("a5031e63-d60c-4f63-835e-6c72ba9877f7-0001", "a5031e63-d60c-4f63-835e-6c72ba9877f7-0002");
        let mut value = json!({
            "frameworks": [{"id": mine}, {"id": other}],
            "roles": [{"name": "*", "frameworks": [mine, other]}, {"name": "x", "frameworks": []}],
            "slaves": [{"id": "a5031e63-d60c-4f63-835e-6c72ba9877f7-S0"}],
        });
        prune(&mut value, &BTreeSet::from([mine.to_owned()]));
        assert_eq!(
            value,
            json!({
                "frameworks": [{"id": mine}],
                "roles": [{"name": "*", "frameworks": [mine]}, {"name": "x", "frameworks": []}],
                "slaves": [{"id": "a5031e63-d60c-4f63-835e-6c72ba9877f7-S0"}],
            })
        );
    }
}
