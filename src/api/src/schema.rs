//! The JSON Schema of manifests, written from the table of fields.

use serde_json::{Map, Value, json};

use crate::{
    Kind, MAX_CLUSTER_NAME,
    check::{default_of, text},
    fields::{self, DOCUMENT, Field, MAX_DIRECTIVES, MAX_LABELS, Need, Object, Type},
    node::{Node, Value as NodeValue},
    quantity,
    scalar::Resolved,
};

/// Where the schema is said to live.
const ID: &str = "https://overlord-operator.github.io/schema/overlord-v1.json";

/// The JSON Schema (draft 2020-12) of one manifest, for editors and other tools: fields with their meaning,
/// defaults and bounds. What it accepts may still be refused, by the rules that span several fields and by
/// the engine's tables.
pub fn json_schema() -> Value {
    let kinds: Vec<Value> = Kind::ALL.into_iter().map(|kind| json!({"$ref": reference(kind)})).collect();
    let definitions: Map<String, Value> =
        Kind::ALL.into_iter().map(|kind| (kind.manifest_kind().to_owned(), document(kind))).collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": ID,
        "title": "Overlord cluster",
        "description": "A cluster of caches: what is declared, and kept so by the controller.",
        "type": "object",
        "required": ["kind"],
        "oneOf": kinds,
        "$defs": definitions,
    })
}

fn reference(kind: Kind) -> String {
    format!("#/$defs/{}", kind.manifest_kind())
}

fn document(kind: Kind) -> Value {
    let mut schema = object(&DOCUMENT);
    schema["properties"]["kind"]["const"] = json!(kind.manifest_kind());
    if let Some(kind) = schema["properties"]["kind"].as_object_mut() {
        kind.remove("enum");
    }
    let about = schema["properties"]["spec"]["description"].clone();
    schema["properties"]["spec"] = object(fields::spec(kind));
    schema["properties"]["spec"]["description"] = about;
    schema["title"] = json!(kind.manifest_kind());
    schema
}

fn object(object: &Object) -> Value {
    let required: Vec<&str> = object
        .fields
        .iter()
        .filter(|field| matches!(field.need, Need::Required(_)))
        .map(|field| field.name)
        .collect();
    let properties: Map<String, Value> =
        object.fields.iter().map(|field| (field.name.to_owned(), property(field))).collect();
    let mut schema = json!({"type": "object", "additionalProperties": false, "properties": properties});
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

fn property(field: &Field) -> Value {
    let mut schema = of(&field.holds);
    schema["description"] = json!(field.about);
    if let Some(default) = default_of(field) {
        schema["default"] = plain(&default, &field.holds);
    }
    // An empty `labels:` or `update:` is none.
    if matches!(field.need, Need::Optional)
        && matches!(field.holds, Type::Object(_) | Type::Labels | Type::Config)
    {
        schema["type"] = json!(["object", "null"]);
    }
    if matches!(field.holds, Type::List { .. }) {
        schema["type"] = json!(["array", "null"]);
    }
    schema
}

fn of(holds: &Type) -> Value {
    match holds {
        Type::Object(fields) => object(fields),
        Type::List { of: item, most, least } => {
            json!({"type": "array", "items": of(item), "minItems": least, "maxItems": most})
        }
        Type::Labels => json!({
            "type": "object",
            "maxProperties": MAX_LABELS,
            "propertyNames": {"pattern": text::LABEL, "maxLength": text::MAX_LABEL},
            "additionalProperties": {"type": "string", "pattern": text::LABEL_VALUE, "maxLength": text::MAX_LABEL},
        }),
        Type::Config => json!({
            "type": "object",
            "maxProperties": MAX_DIRECTIVES,
            "propertyNames": {"pattern": text::DIRECTIVE, "maxLength": text::MAX_DIRECTIVE_NAME},
            "additionalProperties": {
                "type": ["string", "number", "boolean"],
                "pattern": text::PLAIN,
                "maxLength": text::MAX_DIRECTIVE_VALUE,
            },
        }),
        Type::Name => {
            json!({"type": "string", "pattern": "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$", "maxLength": MAX_CLUSTER_NAME})
        }
        Type::Version => json!({"type": "string", "pattern": text::VERSION, "maxLength": 32}),
        Type::Word(words) => json!({"type": "string", "enum": words}),
        Type::Text { most, pattern, .. } => json!({"type": "string", "pattern": pattern, "maxLength": most}),
        Type::Flag => json!({"type": "boolean"}),
        Type::Whole { least, most } => json!({"type": "integer", "minimum": least, "maximum": most}),
        Type::Cpu { least, most } => json!({
            "type": ["string", "number"],
            "pattern": r"^([0-9]+(\.[0-9]{1,3})?|[0-9]+m)$",
            "minimum": f64::from(*least) / 1000.0,
            "maximum": f64::from(*most) / 1000.0,
        }),
        Type::Bytes { least, most } => json!({
            "type": ["string", "integer"],
            "pattern": r"^[0-9]+(\.[0-9]{1,3})?(Ki|Mi|Gi|Ti|k|M|G|T)?$",
            "minimum": least,
            "maximum": most,
        }),
        Type::Time { least, most } => {
            let show = |millis: &u64| quantity::print_duration(std::time::Duration::from_millis(*millis));
            json!({
                "type": "string",
                "pattern": "^([0-9]+d *)?([0-9]+h *)?([0-9]+m *)?([0-9]+s *)?([0-9]+ms)?$",
                "minLength": 2,
                "$comment": format!("from {} to {}", show(least), show(most)),
            })
        }
    }
}

/// A default as JSON: amounts stay text, as people write them.
fn plain(node: &Node, holds: &Type) -> Value {
    match &node.value {
        NodeValue::List(items) => items.iter().map(|item| plain(item, holds)).collect(),
        NodeValue::Mapping(entries) => entries
            .iter()
            .map(|entry| (entry.key.clone(), plain(&entry.value, holds)))
            .collect::<Map<_, _>>()
            .into(),
        NodeValue::Refused => Value::Null,
        NodeValue::Scalar(scalar) => match (holds, scalar.resolve()) {
            (Type::Whole { .. }, Resolved::Whole(number)) => json!(i64::try_from(number).unwrap_or_default()),
            (Type::Flag, Resolved::Flag(flag)) => json!(flag),
            _ => json!(scalar.text),
        },
    }
}
