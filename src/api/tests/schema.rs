//! The JSON Schema and the checks agree: what one accepts, so does the other.

#![expect(clippy::unwrap_used, reason = "a test's helper may panic")]

mod common;

use common::{LEAST, REDIS, Tables};
use overlord_api::{json_schema, parse_file};
use serde_json::{Value, json};

/// The part of JSON Schema that ours uses, patterns aside.
fn accepts(root: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    if let Some(reference) = schema["$ref"].as_str() {
        let target = root.pointer(reference.trim_start_matches('#')).ok_or("dangling reference")?;
        accepts(root, target, value)?;
    }
    if let Some(choices) = schema["oneOf"].as_array() {
        let fits = choices.iter().filter(|choice| accepts(root, choice, value).is_ok()).count();
        return if fits == 1 { Ok(()) } else { Err(format!("{fits} of oneOf fit")) };
    }
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let fits = |wanted: &Value| wanted == kind || (wanted == "number" && kind == "integer");
    let legal = match &schema["type"] {
        Value::Null => true,
        Value::Array(types) => types.iter().any(fits),
        one => fits(one),
    };
    if !legal {
        return Err(format!("{value} is not {}", schema["type"]));
    }
    if schema["enum"].as_array().is_some_and(|words| !words.contains(value)) {
        return Err(format!("{value} not in {}", schema["enum"]));
    }
    if schema.get("const").is_some_and(|only| only != value) {
        return Err(format!("{value} is not {}", schema["const"]));
    }
    if let Some(number) = value.as_f64()
        && (schema["minimum"].as_f64().is_some_and(|least| number < least)
            || schema["maximum"].as_f64().is_some_and(|most| number > most))
    {
        return Err(format!("{number} is out of range"));
    }
    if let Some(items) = value.as_array() {
        let count = items.len() as u64;
        if schema["minItems"].as_u64().is_some_and(|least| count < least)
            || schema["maxItems"].as_u64().is_some_and(|most| count > most)
        {
            return Err(format!("{count} items"));
        }
        return items.iter().try_for_each(|item| accepts(root, &schema["items"], item));
    }
    let Some(fields) = value.as_object() else { return Ok(()) };
    for name in schema["required"].as_array().into_iter().flatten() {
        if !fields.contains_key(name.as_str().unwrap()) {
            return Err(format!("{name} is missing"));
        }
    }
    for (name, value) in fields {
        match (&schema["properties"][name], &schema["additionalProperties"]) {
            (Value::Null, Value::Bool(false)) => return Err(format!("unknown field {name}")),
            (Value::Null, other) => accepts(root, other, value)?,
            (known, _) => accepts(root, known, value)?,
        }
    }
    Ok(())
}

fn is_valid(text: &str) -> Result<(), String> {
    let schema = json_schema();
    let value: Value = serde_yaml::from_str(text).map_err(|error| error.to_string())?;
    accepts(&schema, &schema, &value)
}

#[test]
fn good_specs_and_what_is_printed_of_them_are_valid() {
    for text in LEAST.into_iter().chain([REDIS]) {
        assert_eq!(is_valid(text), Ok(()), "{text}");
        let cluster = parse_file(text, &Tables).remove(0).cluster.unwrap();
        assert_eq!(is_valid(&cluster.to_yaml()), Ok(()), "{}", cluster.to_yaml());
    }
}

#[test]
fn simple_mistakes_are_invalid_in_both() {
    for (find, replace) in [
        ("shards: 2", "shards: three"),
        ("shards: 2", "shards: 0"),
        ("shards: 2", "shards: 2\n  replicas: 1"),
        ("shards: 2", "masters: 3"),
        ("version: \"7.0.15\"", "version: 7.0"),
        ("memory: 512Mi, ", ""),
        ("protected: false", "protected: no"),
        ("by: host", "by: hots"),
        ("roles: [\"*\"]", "roles: []"),
        ("operator: is", "operator: equals"),
        ("name: orders", "title: orders"),
        ("kind: Redis", "kind: redis"),
        ("kind: Redis", "kind: Memcache"),
        ("apiVersion: overlord/v1", "apiVersion: v1"),
        ("team: pay", "team: 7"),
        ("disk: 1Gi", "disk: 1"),
    ] {
        let text = REDIS.replace(find, replace);
        assert!(is_valid(&text).is_err(), "{replace}");
        assert!(parse_file(&text, &Tables)[0].cluster.is_err(), "{replace}");
    }
}

/// Each property of the schema with its path and the schema of it.
fn properties<'s>(path: &str, schema: &'s Value, found: &mut Vec<(String, &'s Value)>) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}/{name}");
        properties(&path, property, found);
        found.push((path, property));
    }
    if schema["items"].is_object() {
        properties(&format!("{path}/0"), &schema["items"], found);
    }
}

#[test]
fn every_field_has_a_description_and_every_default_is_the_one_filled_in() {
    let schema = json_schema();
    for text in LEAST {
        let cluster = parse_file(text, &Tables).remove(0).cluster.unwrap();
        let printed = cluster.to_json();
        let kind = cluster.spec.shape.kind().manifest_kind();
        let mut found = Vec::new();
        properties("", &schema["$defs"][kind], &mut found);
        assert!(found.len() > 30, "{kind}");
        for (path, property) in found {
            assert!(property["description"].as_str().is_some_and(|about| about.ends_with('.')), "{path}");
            // Items of lists have no place in the least spec.
            if let (Some(default), false) = (property.get("default"), path.contains("/0/")) {
                assert_eq!(printed.pointer(&path), Some(default), "{kind} {path}");
            }
        }
    }
}

#[test]
fn every_property_is_a_field_that_the_checks_know_and_print() {
    let schema = json_schema();
    let full = json!({
        "metadata": {"name": "a", "labels": {"x": "y"}},
        "config": {"hz": "10"},
        "placement": {"spread": [{"by": "zone"}], "constraints": [{"attribute": "a", "value": "b"}]},
    });
    for text in LEAST {
        let mut given: Value = serde_yaml::from_str(text).unwrap();
        given["metadata"] = full["metadata"].clone();
        given["spec"]["config"] = full["config"].clone();
        given["spec"]["placement"] = full["placement"].clone();
        let kind = given["kind"].as_str().unwrap().to_owned();
        let cluster = parse_file(&given.to_string(), &Tables).remove(0).cluster.unwrap();
        let printed = cluster.to_json();
        let mut found = Vec::new();
        properties("", &schema["$defs"][&kind], &mut found);
        for (path, _) in found {
            assert!(printed.pointer(&path).is_some(), "{kind} does not print {path}");
        }
        assert_eq!(is_valid(&printed.to_string()), Ok(()));
    }
}
