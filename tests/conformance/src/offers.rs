//! What offers look like. Which offers come when, and how an agent's resources are cut into them, depends on where
//! a call falls between two allocations; what an offer and a resource are made of does not.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::unify::{Difference, differ, resource};

/// The shapes of all offers of a connection.
#[derive(Debug, Default)]
pub struct Shapes {
    offers: BTreeSet<String>,
    resources: BTreeSet<String>,
    /// The framework they are for.
    pub framework: Option<String>,
}

impl Shapes {
    /// Collects them.
    pub fn of(events: &[(usize, Value)]) -> Self {
        let mut shapes = Self::default();
        for offer in events.iter().flat_map(|(_, event)| offers(event)) {
            shapes.framework = text(offer, "/framework_id/value");
            for value in offer.get("resources").and_then(Value::as_array).into_iter().flatten() {
                // An agent may have more than the recorded ones had, such as gpus.
                let name = value.get("name").and_then(Value::as_str).unwrap_or_default();
                if matches!(name, "cpus" | "mem" | "disk" | "ports") {
                    let mut shape = resource(value);
                    if shape.get("type") == Some(&json!("SCALAR")) && shape.get("disk").is_none() {
                        shape["name"] = json!("cpus, mem or disk");
                    }
                    shapes.resources.insert(shape.to_string());
                }
            }
            shapes.offers.insert(shape(offer).to_string());
        }
        shapes
    }

    /// Whether there were no offers.
    pub fn is_empty(&self) -> bool {
        self.offers.is_empty()
    }

    /// Whether all shapes of the other are among these.
    pub fn include(&self, other: &Self) -> bool {
        other.offers.is_subset(&self.offers) && other.resources.is_subset(&self.resources)
    }

    /// What one has and the other has not.
    pub fn differences(&self, got: &Self, place: &str, out: &mut Vec<Difference>) {
        for (what, wanted, came) in
            [("an offer", &self.offers, &got.offers), ("a resource", &self.resources, &got.resources)]
        {
            for shape in wanted.difference(came) {
                differ(out, place, &format!("{what} like {shape}"), "none like it");
            }
            for shape in came.difference(wanted) {
                differ(out, place, &format!("no {} like this", &what[2..].trim()), shape);
            }
        }
    }
}

/// The offers of an OFFERS event.
pub fn offers(event: &Value) -> impl Iterator<Item = &Value> {
    event.pointer("/offers/offers").and_then(Value::as_array).into_iter().flatten()
}

/// A text at a JSON pointer.
pub fn text(value: &Value, pointer: &str) -> Option<String> {
    value.pointer(pointer)?.as_str().map(str::to_owned)
}

/// An offer with its ids, addresses and resources blanked out.
fn shape(offer: &Value) -> Value {
    let mut shape = offer.clone();
    for pointer in
        ["/id/value", "/framework_id/value", "/agent_id/value", "/hostname", "/url/address/hostname"]
    {
        blank(&mut shape, pointer, Value::is_string);
    }
    blank(&mut shape, "/url/address/ip", Value::is_string);
    blank(&mut shape, "/url/address/port", Value::is_u64);
    blank(&mut shape, "/resources", Value::is_array);
    blank(&mut shape, "/executor_ids", Value::is_array);
    if let Some(fields) = shape.as_object_mut() {
        fields.remove("domain");
        fields.remove("attributes");
    }
    shape
}

fn blank(value: &mut Value, pointer: &str, fits: fn(&Value) -> bool) {
    if let Some(place) = value.pointer_mut(pointer)
        && fits(place)
    {
        *place = json!("...");
    }
}
