//! What marks a resource besides its name and amount: reservations, a volume, revocable, shared. Two resources
//! with the same marks add up; others never do.

use std::{fmt::Write as _, sync::Arc};

use overlord_mesos::v1::Resource;
use serde_json::{Map, Value};

/// Fields of a resource that are no marks: its amount, whom it is offered to, and the old form of a reservation.
const NO_MARKS: [&str; 8] =
    ["name", "type", "scalar", "ranges", "set", "allocation_info", "role", "reservation"];

/// The marks of a resource, as canonical JSON; empty for a plain one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Marks(Arc<str>);

impl Marks {
    /// The marks of a resource in the old or the new form of reservations.
    pub(crate) fn of(resource: &Resource) -> Self {
        let plain = resource.reservations.is_empty()
            && resource.role.as_deref().is_none_or(|role| role == "*")
            && resource.disk.is_none()
            && resource.revocable.is_none()
            && resource.shared.is_none()
            && resource.provider_id.is_none()
            && resource.other.is_empty();
        if plain {
            return Self::default();
        }
        let Ok(Value::Object(mut fields)) = serde_json::to_value(resource) else { return Self::default() };
        let stack = fields.get("reservations").and_then(Value::as_array).is_some_and(|s| !s.is_empty());
        let role = fields.get("role").and_then(Value::as_str).filter(|role| *role != "*");
        if let (false, Some(role)) = (stack, role) {
            let mut reservation = Map::new();
            let kind = if fields.contains_key("reservation") { "DYNAMIC" } else { "STATIC" };
            reservation.insert("role".to_owned(), role.into());
            reservation.insert("type".to_owned(), kind.into());
            if let Some(Value::Object(old)) = fields.get("reservation") {
                let kept = old.iter().filter(|(name, _)| matches!(name.as_str(), "principal" | "labels"));
                reservation.extend(kept.map(|(name, value)| (name.clone(), value.clone())));
            }
            fields.insert("reservations".to_owned(), Value::Array(vec![Value::Object(reservation)]));
        }
        fields.retain(|name, value| !NO_MARKS.contains(&name.as_str()) && !is_nothing(name, value));
        Self::from_fields(fields)
    }

    /// A static reservation.
    pub(crate) fn reserved(role: &str) -> Self {
        let mut fields = Map::new();
        fields.insert("reservations".to_owned(), serde_json::json!([{"type": "STATIC", "role": role}]));
        Self::from_fields(fields)
    }

    fn from_fields(fields: Map<String, Value>) -> Self {
        if fields.is_empty() {
            return Self::default();
        }
        let mut text = String::new();
        canonical(&Value::Object(fields), &mut text);
        Self(text.into())
    }

    pub(crate) fn is_plain(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn fields(&self) -> Map<String, Value> {
        if self.is_plain() {
            return Map::new();
        }
        match serde_json::from_str(&self.0) {
            Ok(Value::Object(fields)) => fields,
            _ => Map::new(),
        }
    }

    pub(crate) fn reservations(&self) -> Vec<Value> {
        match self.fields().remove("reservations") {
            Some(Value::Array(stack)) => stack,
            _ => Vec::new(),
        }
    }

    /// Whom it is reserved for.
    pub(crate) fn role(&self) -> Option<String> {
        self.reservations().last()?.get("role")?.as_str().map(str::to_owned)
    }

    pub(crate) fn is_refined(&self) -> bool {
        self.reservations().len() > 1
    }

    pub(crate) fn is_dynamic(&self) -> bool {
        self.reservations().last().and_then(|r| r.get("type")).and_then(Value::as_str) == Some("DYNAMIC")
    }

    pub(crate) fn is_shared(&self) -> bool {
        self.has("shared")
    }

    pub(crate) fn is_revocable(&self) -> bool {
        self.has("revocable")
    }

    pub(crate) fn persistence_id(&self) -> Option<String> {
        Some(self.fields().get("disk")?.get("persistence")?.get("id")?.as_str()?.to_owned())
    }

    fn has(&self, field: &str) -> bool {
        !self.is_plain() && self.fields().contains_key(field)
    }

    /// Without the last reservation; what RESERVE consumes.
    pub(crate) fn unreserved(&self) -> Self {
        let mut fields = self.fields();
        let mut stack = self.reservations();
        stack.pop();
        if stack.is_empty() {
            fields.remove("reservations");
        } else {
            fields.insert("reservations".to_owned(), Value::Array(stack));
        }
        Self::from_fields(fields)
    }

    /// Without the volume; what CREATE consumes. A disk with a source keeps it.
    pub(crate) fn without_volume(&self) -> Self {
        let mut fields = self.fields();
        fields.remove("shared");
        if let Some(Value::Object(mut disk)) = fields.remove("disk") {
            disk.retain(|name, _| !matches!(name.as_str(), "persistence" | "volume"));
            if !disk.is_empty() {
                fields.insert("disk".to_owned(), Value::Object(disk));
            }
        }
        Self::from_fields(fields)
    }

    /// As messages of Mesos show them, between the name and the amount.
    pub(crate) fn describe(&self) -> String {
        let mut text = String::new();
        if self.is_plain() {
            return text;
        }
        let stack: Vec<String> = self.reservations().iter().map(describe_reservation).collect();
        if !stack.is_empty() {
            let _infallible = write!(text, "(reservations: [{}])", stack.join(","));
        }
        let fields = self.fields();
        if let Some(disk) = fields.get("disk") {
            let part = |path: &str| disk.pointer(path).and_then(Value::as_str);
            let id = part("/persistence/id").unwrap_or_default();
            let _infallible = write!(text, "[{id}");
            if let Some(path) = part("/volume/container_path") {
                let _infallible = write!(text, ":{path}");
            }
            text.push(']');
        }
        if fields.contains_key("revocable") {
            text.push_str("{REV}");
        }
        if fields.contains_key("shared") {
            text.push_str("<SHARED>");
        }
        text
    }
}

fn describe_reservation(reservation: &Value) -> String {
    let part = |name: &str| reservation.get(name).and_then(Value::as_str);
    let mut text = format!("({},{}", part("type").unwrap_or_default(), part("role").unwrap_or_default());
    if let Some(principal) = part("principal") {
        let _infallible = write!(text, ",{principal}");
    }
    let labels = reservation.pointer("/labels/labels").and_then(Value::as_array);
    if let Some(labels) = labels {
        let pair = |label: &Value| {
            let part = |name: &str| label.get(name).and_then(Value::as_str);
            match part("value") {
                Some(value) => format!("{}: {value}", part("key").unwrap_or_default()),
                None => part("key").unwrap_or_default().to_owned(),
            }
        };
        let pairs: Vec<String> = labels.iter().map(pair).collect();
        let _infallible = write!(text, ",{{{}}}", pairs.join(", "));
    }
    text.push(')');
    text
}

/// Fields that say nothing: absent ones, and empty lists. An empty object is a mark (`"shared": {}`), save for
/// an empty disk.
fn is_nothing(name: &str, value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => name == "disk" && fields.is_empty(),
        _ => false,
    }
}

/// JSON with sorted keys, so that equal marks have one text.
fn canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(fields) => {
            let mut names: Vec<&String> = fields.keys().collect();
            names.sort();
            out.push('{');
            for (index, name) in names.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                let _infallible = write!(out, "{}:", Value::String(name.clone()));
                if let Some(value) = fields.get(name) {
                    canonical(value, out);
                }
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                canonical(item, out);
            }
            out.push(']');
        }
        other => {
            let _infallible = write!(out, "{other}");
        }
    }
}
