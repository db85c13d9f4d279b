//! Resources on the wire: with the role they are offered to, and reservations in the form the reader understands.

use std::fmt::Write as _;

use overlord_mesos::v1::{AllocationInfo, Range, Ranges, Resource, Scalar, Set, ValueType};
use serde_json::{Map, Value};

use super::{Amounts, Marks, Pool};

/// The order in which Mesos lists resources in offers.
const ORDER: [&str; 4] = ["ports", "cpus", "mem", "disk"];

/// In which form reservations are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// As stacks.
    Stack,
    /// As frameworks without `RESERVATION_REFINEMENT` read them: `role` and `reservation`.
    Old,
    /// Both, as operators see them.
    Both,
}

impl Pool {
    /// The wire form; `role` becomes `allocation_info`.
    pub(crate) fn to_wire(&self, role: Option<&str>, format: Format) -> Vec<Resource> {
        let mut out = Vec::with_capacity(4 * self.parts.len());
        let plain = self.parts.get(&Marks::default());
        // As Mesos lists them: the ports nobody reserved, what is reserved, the rest.
        if let Some(plain) = plain {
            write_part(
                &Marks::default(),
                plain,
                plain.ranges.keys().map(String::as_str),
                role,
                format,
                &mut out,
            );
        }
        for (marks, amounts) in self.parts.iter().filter(|(marks, _)| !marks.is_plain()) {
            write_part(marks, amounts, ordered(amounts), role, format, &mut out);
        }
        if let Some(plain) = plain {
            let rest = ordered(plain).filter(|name| !plain.ranges.contains_key(*name));
            write_part(&Marks::default(), plain, rest, role, format, &mut out);
        }
        out
    }

    /// As Mesos prints resources in messages.
    pub(crate) fn describe(&self, role: &str) -> String {
        describe(&self.to_wire(Some(role), Format::Stack), Some(role))
    }
}

fn ordered(amounts: &Amounts) -> impl Iterator<Item = &str> {
    let known = ORDER.into_iter().filter(|name| amounts.names().any(|own| own == *name));
    known.chain(amounts.names().filter(|name| !ORDER.contains(name)))
}

fn write_part<'a>(
    marks: &Marks,
    amounts: &'a Amounts,
    names: impl Iterator<Item = &'a str>,
    role: Option<&str>,
    format: Format,
    out: &mut Vec<Resource>,
) {
    let fields = fields(marks, format);
    for name in names {
        let mut resource = Resource { name: name.to_owned(), ..Resource::default() };
        if let Some(ranges) = amounts.ranges.get(name) {
            resource.kind = ValueType::Ranges;
            let range = ranges.iter().map(|&(begin, end)| Range { begin, end }).collect();
            resource.ranges = Some(Ranges { range });
        } else if let Some(items) = amounts.sets.get(name) {
            resource.kind = ValueType::Set;
            resource.set = Some(Set { item: items.iter().cloned().collect() });
        } else {
            resource.kind = ValueType::Scalar;
            let milli = amounts.scalars.get(name).copied().unwrap_or(0);
            resource.scalar = Some(Scalar { value: milli as f64 / 1000.0 });
        }
        resource.allocation_info = role.map(|role| AllocationInfo { role: Some(role.to_owned()) });
        out.push(if fields.is_empty() { resource } else { with_fields(resource, &fields) });
    }
}

/// The fields that stand for the marks.
fn fields(marks: &Marks, format: Format) -> Map<String, Value> {
    let mut fields = marks.fields();
    if format == Format::Stack {
        return fields;
    }
    let stack = marks.reservations();
    match stack.as_slice() {
        [] => {
            fields.insert("role".to_owned(), "*".into());
        }
        [one] => {
            fields.insert("role".to_owned(), one.get("role").cloned().unwrap_or_default());
            if marks.is_dynamic() {
                let kept = ["principal", "labels"]
                    .into_iter()
                    .filter_map(|name| Some((name.to_owned(), one.get(name)?.clone())));
                fields.insert("reservation".to_owned(), Value::Object(kept.collect()));
            }
            if format == Format::Old {
                fields.remove("reservations");
            }
        }
        // A refined reservation has no old form.
        _ => {}
    }
    fields
}

fn with_fields(resource: Resource, fields: &Map<String, Value>) -> Resource {
    let Ok(Value::Object(mut value)) = serde_json::to_value(&resource) else { return resource };
    value.extend(fields.iter().map(|(name, value)| (name.clone(), value.clone())));
    serde_json::from_value(Value::Object(value)).unwrap_or(resource)
}

/// As Mesos prints resources in messages, in the order they came, for `role` unless they name one.
pub(crate) fn describe(resources: &[Resource], role: Option<&str>) -> String {
    let texts: Vec<String> = resources.iter().map(|resource| describe_one(resource, role)).collect();
    if texts.is_empty() { "{}".to_owned() } else { texts.join("; ") }
}

pub(super) fn describe_one(resource: &Resource, role: Option<&str>) -> String {
    let mut text = resource.name.clone();
    if let Some(role) = resource.allocation_info.as_ref().and_then(|a| a.role.as_deref()).or(role) {
        let _infallible = write!(text, "(allocated: {role})");
    }
    text.push_str(&Marks::of(resource).describe());
    text.push(':');
    if let Some(scalar) = resource.scalar {
        let _infallible = write!(text, "{}", scalar.value);
    }
    if let Some(ranges) = &resource.ranges {
        let ranges: Vec<String> = ranges.range.iter().map(|r| format!("{}-{}", r.begin, r.end)).collect();
        let _infallible = write!(text, "[{}]", ranges.join(", "));
    }
    if let Some(set) = &resource.set {
        let _infallible = write!(text, "{{{}}}", set.item.join(", "));
    }
    text
}
