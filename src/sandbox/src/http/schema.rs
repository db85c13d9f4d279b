//! The shape of the two calls, as far as Mesos answers a wrong one by name: required fields, JSON types of
//! fields, base64.

use serde_json::Value;

/// The fields of a message that are looked at; others pass.
pub(crate) type Message = &'static [Field];

/// A field.
pub(crate) struct Field {
    name: &'static str,
    kind: Kind,
    required: bool,
}

enum Kind {
    Text,
    /// base64.
    Bytes,
    /// An enum whose unknown values are refused, because the field is required.
    OneOf(&'static [&'static str]),
    One(Message),
    Many(Message),
}

const fn required(name: &'static str, kind: Kind) -> Field {
    Field { name, kind, required: true }
}

const fn optional(name: &'static str, kind: Kind) -> Field {
    Field { name, kind, required: false }
}

const ID: Message = &[required("value", Kind::Text)];

const FRAMEWORK_INFO: Message =
    &[required("user", Kind::Text), required("name", Kind::Text), optional("id", Kind::One(ID))];

const EXECUTOR_INFO: Message = &[
    required("executor_id", Kind::One(ID)),
    optional("framework_id", Kind::One(ID)),
    optional("data", Kind::Bytes),
];

const TASK_INFO: Message = &[
    required("name", Kind::Text),
    required("task_id", Kind::One(ID)),
    required("agent_id", Kind::One(ID)),
    optional("executor", Kind::One(EXECUTOR_INFO)),
    optional("data", Kind::Bytes),
];

const LAUNCH: Message = &[optional("task_infos", Kind::Many(TASK_INFO))];
const OPERATION: Message = &[optional("launch", Kind::One(LAUNCH))];
const SUBSCRIBE: Message = &[required("framework_info", Kind::One(FRAMEWORK_INFO))];
const ACCEPT: Message =
    &[optional("offer_ids", Kind::Many(ID)), optional("operations", Kind::Many(OPERATION))];
const DECLINE: Message = &[optional("offer_ids", Kind::Many(ID))];
const TASK_OF_AGENT: Message = &[required("task_id", Kind::One(ID)), optional("agent_id", Kind::One(ID))];
const RECONCILE: Message = &[optional("tasks", Kind::Many(TASK_OF_AGENT))];
const SHUTDOWN: Message = &[required("executor_id", Kind::One(ID)), optional("agent_id", Kind::One(ID))];

const ACKNOWLEDGE: Message =
    &[required("agent_id", Kind::One(ID)), required("task_id", Kind::One(ID)), required("uuid", Kind::Bytes)];

const MESSAGE: Message = &[
    required("agent_id", Kind::One(ID)),
    required("executor_id", Kind::One(ID)),
    required("data", Kind::Bytes),
];

/// `mesos.v1.scheduler.Call`
pub(crate) const SCHEDULER_CALL: Message = &[
    optional("framework_id", Kind::One(ID)),
    optional("type", Kind::Text),
    optional("subscribe", Kind::One(SUBSCRIBE)),
    optional("accept", Kind::One(ACCEPT)),
    optional("decline", Kind::One(DECLINE)),
    optional("kill", Kind::One(TASK_OF_AGENT)),
    optional("shutdown", Kind::One(SHUTDOWN)),
    optional("acknowledge", Kind::One(ACKNOWLEDGE)),
    optional("reconcile", Kind::One(RECONCILE)),
    optional("message", Kind::One(MESSAGE)),
];

const STATES: &[&str] = &[
    "TASK_STAGING",
    "TASK_STARTING",
    "TASK_RUNNING",
    "TASK_KILLING",
    "TASK_FINISHED",
    "TASK_FAILED",
    "TASK_KILLED",
    "TASK_ERROR",
    "TASK_LOST",
    "TASK_DROPPED",
    "TASK_UNREACHABLE",
    "TASK_GONE",
    "TASK_GONE_BY_OPERATOR",
    "TASK_UNKNOWN",
];

const STATUS: Message = &[
    required("task_id", Kind::One(ID)),
    required("state", Kind::OneOf(STATES)),
    optional("uuid", Kind::Bytes),
    optional("data", Kind::Bytes),
    optional("message", Kind::Text),
    optional("executor_id", Kind::One(ID)),
];

const UPDATE: Message = &[required("status", Kind::One(STATUS))];
const DATA: Message = &[required("data", Kind::Bytes)];

const EXECUTOR_SUBSCRIBE: Message = &[
    optional("unacknowledged_tasks", Kind::Many(TASK_INFO)),
    optional("unacknowledged_updates", Kind::Many(UPDATE)),
];

/// `mesos.v1.executor.Call`
pub(crate) const EXECUTOR_CALL: Message = &[
    required("executor_id", Kind::One(ID)),
    required("framework_id", Kind::One(ID)),
    optional("type", Kind::Text),
    optional("subscribe", Kind::One(EXECUTOR_SUBSCRIBE)),
    optional("update", Kind::One(UPDATE)),
    optional("message", Kind::One(DATA)),
];

/// Says what is wrong with a call, in the words of Mesos.
pub(crate) fn check(value: &Value, shape: Message) -> Result<(), String> {
    if !value.is_object() {
        return Err("Expecting a JSON object".to_owned());
    }
    let mut missing = Vec::new();
    message(value, shape, "", &mut missing)?;
    if missing.is_empty() { Ok(()) } else { Err(format!("Missing required fields: {}", missing.join(", "))) }
}

fn message(value: &Value, shape: Message, path: &str, missing: &mut Vec<String>) -> Result<(), String> {
    for field in shape {
        let path = format!("{path}{}", field.name);
        match value.get(field.name) {
            None | Some(Value::Null) if field.required => missing.push(path),
            None | Some(Value::Null) => {}
            Some(value) => check_field(field, value, &path, missing)?,
        }
    }
    Ok(())
}

fn check_field(field: &Field, value: &Value, path: &str, missing: &mut Vec<String>) -> Result<(), String> {
    let unexpected = || Err(format!("Not expecting a JSON {} for field '{}'", json_type(value), field.name));
    match (&field.kind, value) {
        (Kind::Text, Value::String(_)) => Ok(()),
        (Kind::Bytes, Value::String(text)) => match foreign_character(text) {
            None => Ok(()),
            Some(c) => {
                Err(format!("Failed to base64 decode bytes field '{}': Invalid character '{c}'", field.name))
            }
        },
        (Kind::OneOf(names), Value::String(name)) if names.contains(&name.as_str()) => Ok(()),
        (Kind::OneOf(_), Value::String(name)) => Err(format!("Failed to find enum for '{name}'")),
        (Kind::One(shape), Value::Object(_)) => message(value, shape, &format!("{path}."), missing),
        (Kind::Many(shape), Value::Array(items)) => items.iter().enumerate().try_for_each(|(index, item)| {
            if item.is_object() {
                message(item, shape, &format!("{path}[{index}]."), missing)
            } else {
                Err(format!("Not expecting a JSON {} for field '{}'", json_type(item), field.name))
            }
        }),
        _ => unexpected(),
    }
}

fn foreign_character(text: &str) -> Option<char> {
    text.trim_end_matches('=').chars().find(|c| !c.is_ascii_alphanumeric() && *c != '+' && *c != '/')
}

fn json_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_missing_field_is_named_with_its_path() {
        let call = json!({"type": "SUBSCRIBE", "subscribe": {"framework_info": {}}});
        let text = "Missing required fields: subscribe.framework_info.user, subscribe.framework_info.name";
        assert_eq!(check(&call, SCHEDULER_CALL), Err(text.to_owned()));
    }

    #[test]
    fn a_field_of_the_wrong_json_type_is_named() {
        let call = json!({"type": "REVIVE", "framework_id": "x"});
        let text = "Not expecting a JSON string for field 'framework_id'";
        assert_eq!(check(&call, SCHEDULER_CALL), Err(text.to_owned()));
        assert_eq!(check(&json!([]), SCHEDULER_CALL), Err("Expecting a JSON object".to_owned()));
    }

    #[test]
    fn the_first_character_that_is_not_base64_is_named() {
        let call = json!({"framework_id": {"value": "f"}, "executor_id": {"value": "e"}, "type": "MESSAGE",
            "message": {"data": "***"}});
        let text = "Failed to base64 decode bytes field 'data': Invalid character '*'";
        assert_eq!(check(&call, EXECUTOR_CALL), Err(text.to_owned()));
    }

    #[test]
    fn an_unknown_state_is_refused_and_an_unknown_field_is_not() {
        let status = |state: &str| {
            json!({"framework_id": {"value": "f"}, "executor_id": {"value": "e"}, "type": "UPDATE", "bogus": 1,
                "update": {"status": {"task_id": {"value": "t"}, "state": state}}})
        };
        assert_eq!(check(&status("TASK_RUNNING"), EXECUTOR_CALL), Ok(()));
        let text = "Failed to find enum for 'TASK_BOGUS'";
        assert_eq!(check(&status("TASK_BOGUS"), EXECUTOR_CALL), Err(text.to_owned()));
    }
}
