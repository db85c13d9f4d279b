//! Messages as texts of errors show them: protobuf's text format, fields in the order of their numbers.

use std::fmt::Write as _;

use overlord_mesos::v1::ExecutorInfo;
use prost_reflect::{DeserializeOptions, DynamicMessage, Kind, Value};

use crate::protobuf;

/// An `ExecutorInfo`, as `DebugString` has it.
pub(crate) fn executor_info(info: &ExecutorInfo) -> String {
    let mut info = info.clone();
    let variables =
        info.command.iter_mut().filter_map(|c| c.environment.as_mut()).flat_map(|e| &mut e.variables);
    for variable in variables {
        // The default, which is only written out in JSON.
        variable.kind = variable.kind.take().filter(|kind| kind != "VALUE");
    }
    let json = serde_json::to_value(&info).unwrap_or_default();
    let message = protobuf::described("mesos.v1.ExecutorInfo").and_then(|described| {
        let options = DeserializeOptions::new().deny_unknown_fields(false);
        DynamicMessage::deserialize_with_options(described, &json, &options).ok()
    });
    let mut text = String::new();
    match message {
        Some(message) => fields(&message, 0, &mut text),
        // It came as JSON, which may hold what the message does not.
        None => text = json.to_string(),
    }
    text
}

fn fields(message: &DynamicMessage, depth: usize, text: &mut String) {
    let mut all: Vec<_> = message.fields().collect();
    all.sort_by_key(|(field, _)| field.number());
    for (field, value) in all {
        match value {
            Value::List(values) => {
                for value in values {
                    one(field.name(), &field.kind(), value, depth, text);
                }
            }
            value => one(field.name(), &field.kind(), value, depth, text),
        }
    }
}

fn one(name: &str, kind: &Kind, value: &Value, depth: usize, text: &mut String) {
    let indent = "  ".repeat(depth);
    // Writing to a String does not fail.
    let _ = match (kind, value) {
        (_, Value::Message(message)) => {
            let _ = writeln!(text, "{indent}{name} {{");
            fields(message, depth + 1, text);
            writeln!(text, "{indent}}}")
        }
        (Kind::Enum(described), Value::EnumNumber(number)) => match described.get_value(*number) {
            Some(known) => writeln!(text, "{indent}{name}: {}", known.name()),
            None => writeln!(text, "{indent}{name}: {number}"),
        },
        (_, Value::String(string)) => writeln!(text, "{indent}{name}: \"{}\"", escaped(string.as_bytes())),
        (_, Value::Bytes(bytes)) => writeln!(text, "{indent}{name}: \"{}\"", escaped(bytes)),
        (_, Value::Bool(value)) => writeln!(text, "{indent}{name}: {value}"),
        (_, Value::F64(value)) => writeln!(text, "{indent}{name}: {value}"),
        (_, Value::F32(value)) => writeln!(text, "{indent}{name}: {value}"),
        (_, Value::I32(value)) => writeln!(text, "{indent}{name}: {value}"),
        (_, Value::I64(value)) => writeln!(text, "{indent}{name}: {value}"),
        (_, Value::U32(value)) => writeln!(text, "{indent}{name}: {value}"),
        (_, Value::U64(value)) => writeln!(text, "{indent}{name}: {value}"),
        // Mesos has no maps.
        (_, Value::EnumNumber(_) | Value::List(_) | Value::Map(_)) => Ok(()),
    };
}

/// As C has it in string literals.
fn escaped(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        match byte {
            b'\n' => text.push_str("\\n"),
            b'\r' => text.push_str("\\r"),
            b'\t' => text.push_str("\\t"),
            b'"' => text.push_str("\\\""),
            b'\'' => text.push_str("\\'"),
            b'\\' => text.push_str("\\\\"),
            b' '..=b'~' => text.push(char::from(*byte)),
            _ => {
                let _ = write!(text, "\\{byte:03o}");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_stand_in_the_order_of_their_numbers_and_defaults_are_left_out() {
        let info: ExecutorInfo = serde_json::from_value(json!({
            "type": "CUSTOM", "executor_id": {"value": "a\"\u{e9}"}, "name": "n",
            "command": {"value": "x", "shell": true, "environment": {"variables": [{"name": "A", "type": "VALUE", "value": "b"}]}},
            "resources": [{"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.1}}],
            "data": "AAo=",
        }))
        .unwrap();
        assert_eq!(
            executor_info(&info),
            "executor_id {\n  value: \"a\\\"\\303\\251\"\n}\ndata: \"\\000\\n\"\nresources {\n  name: \"cpus\"\n  type: SCALAR\n  \
             scalar {\n    value: 0.1\n  }\n}\ncommand {\n  environment {\n    variables {\n      name: \"A\"\n      \
             value: \"b\"\n    }\n  }\n  value: \"x\"\n  shell: true\n}\nname: \"n\"\ntype: CUSTOM\n"
        );
    }
}
