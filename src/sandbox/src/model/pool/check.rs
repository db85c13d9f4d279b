//! What is wrong with resources by themselves, in the words of Mesos.

use overlord_mesos::v1::{Resource, ValueType};
use serde_json::Value;

use super::{Marks, wire::describe_one};
use crate::model::roles;

/// The first fault in a list of resources.
pub(crate) fn resources_fault(resources: &[Resource]) -> Option<String> {
    resources.iter().find_map(|resource| {
        let why = resource_fault(resource)?;
        Some(format!("Resource '{}' is invalid: {why}", describe_one(resource, None)))
    })
}

fn resource_fault(resource: &Resource) -> Option<String> {
    if resource.name.is_empty() {
        return Some("Empty resource name".to_owned());
    }
    let given = (resource.scalar.is_some(), resource.ranges.is_some(), resource.set.is_some());
    let why = match (resource.kind, given) {
        (ValueType::Scalar, (true, false, false)) => scalar_fault(resource),
        (ValueType::Scalar, _) => Some("Invalid scalar resource"),
        (ValueType::Ranges, (false, true, false)) => ranges_fault(resource),
        (ValueType::Ranges, _) => Some("Invalid ranges resource"),
        (ValueType::Set, (false, false, true)) => set_fault(resource),
        (ValueType::Set, _) => Some("Invalid set resource"),
        _ => Some("Unsupported resource type"),
    };
    if let Some(why) = why {
        return Some(why.to_owned());
    }
    let marks = Marks::of(resource);
    if marks.is_plain() {
        return None;
    }
    if marks.fields().contains_key("disk") && resource.name != "disk" {
        return Some(format!("DiskInfo should not be set for {} resource", resource.name));
    }
    reservations_fault(&marks.reservations())
}

fn scalar_fault(resource: &Resource) -> Option<&'static str> {
    let value = resource.scalar.map_or(0.0, |scalar| scalar.value);
    // Nothing at all is allowed, and counts for nothing.
    let bad = value.is_nan() || value.is_infinite() || (value != 0.0 && super::to_milli(value) <= 0);
    bad.then_some("Invalid scalar resource: value <= 0")
}

fn ranges_fault(resource: &Resource) -> Option<&'static str> {
    let mut ranges: Vec<(u64, u64)> = resource
        .ranges
        .iter()
        .flat_map(|ranges| &ranges.range)
        .map(|range| (range.begin, range.end))
        .collect();
    if ranges.iter().any(|(begin, end)| begin > end) {
        return Some("Invalid ranges resource: begin > end");
    }
    ranges.sort_unstable();
    let overlap = ranges.windows(2).any(|pair| matches!(pair, [(_, end), (begin, _)] if begin <= end));
    overlap.then_some("Invalid ranges resource: overlapping ranges")
}

fn set_fault(resource: &Resource) -> Option<&'static str> {
    let mut items: Vec<&String> = resource.set.iter().flat_map(|set| &set.item).collect();
    items.sort_unstable();
    let doubled = items.windows(2).any(|pair| matches!(pair, [a, b] if a == b));
    doubled.then_some("Invalid set resource: duplicated elements")
}

fn reservations_fault(stack: &[Value]) -> Option<String> {
    let part =
        |reservation: &'_ Value, name: &str| reservation.get(name).and_then(Value::as_str).map(str::to_owned);
    let mut above: Option<String> = None;
    for reservation in stack {
        let Some(kind) = part(reservation, "type") else {
            return Some(
                "Invalid reservation: 'Resource.ReservationInfo.type' field must be set.".to_owned(),
            );
        };
        let Some(role) = part(reservation, "role") else {
            return Some(
                "Invalid reservation: 'Resource.ReservationInfo.role' field must be set.".to_owned(),
            );
        };
        if let Some(fault) = roles::fault(&role) {
            return Some(fault);
        }
        if role == "*" {
            return Some("Invalid reservation: role \"*\" cannot be reserved".to_owned());
        }
        if let Some(above) = &above {
            if kind == "STATIC" {
                return Some(
                    "Invalid refined reservation: A refined reservation cannot be STATIC".to_owned(),
                );
            }
            if !roles::is_below(&role, above) {
                return Some(format!(
                    "Invalid refined reservation: role '{role}' is not a refinement of '{above}'"
                ));
            }
        }
        above = Some(role);
    }
    None
}

/// What is wrong with volumes as such.
pub(crate) fn volumes_fault(resources: &[Resource]) -> Option<String> {
    resources.iter().find_map(|resource| {
        let fields = Marks::of(resource).fields();
        let Some(disk) = fields.get("disk") else {
            return Some(format!("Resource {} does not have DiskInfo", describe_one(resource, None)));
        };
        if disk.get("persistence").is_none() {
            Some("'persistence' is not set in DiskInfo".to_owned())
        } else if disk.get("volume").is_none() {
            Some("Expecting 'volume' to be set for persistent volume".to_owned())
        } else if disk.pointer("/volume/mode").and_then(Value::as_str) == Some("RO") {
            Some("Read-only persistent volume not supported".to_owned())
        } else {
            None
        }
    })
}

/// What is wrong with the disks of a task, an executor, or an operation.
pub(crate) fn disks_fault(resources: &[Resource]) -> Option<String> {
    resources.iter().find_map(|resource| {
        let marks = Marks::of(resource);
        let fields = marks.fields();
        let disk = fields.get("disk")?;
        let why = if disk.get("persistence").is_some() {
            if marks.is_revocable() {
                "Persistent volumes cannot be created from revocable resources"
            } else if marks.reservations().is_empty() {
                "Persistent volumes cannot be created from unreserved resources"
            } else if disk.get("volume").is_none() {
                "Expecting 'volume' to be set for persistent volume"
            } else if disk.pointer("/volume/host_path").is_some() {
                "Expecting 'host_path' to be unset for persistent volume"
            } else {
                return None;
            }
        } else if disk.get("volume").is_some() {
            "Non-persistent volume not supported"
        } else if disk.get("source").is_none() {
            "DiskInfo is set but empty"
        } else {
            return None;
        };
        Some(why.to_owned())
    })
}

/// A persistence id that occurs twice for one role.
pub(crate) fn doubled_volume(resources: &[Resource]) -> Option<String> {
    let mut seen = std::collections::BTreeSet::new();
    resources.iter().find_map(|resource| {
        let marks = Marks::of(resource);
        let id = marks.persistence_id()?;
        let fresh = seen.insert((marks.role(), id.clone())) || marks.is_shared();
        (!fresh).then(|| format!("Persistence ID '{id}' is not unique"))
    })
}
