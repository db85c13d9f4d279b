//! The offers that may still be used, on both sides: the capture's, to know what a call meant, and the target's, to
//! find the ones that mean the same.

use serde_json::Value;

use crate::{
    names::Names,
    offers::{offers, text},
};

/// An offer that may still be used.
#[derive(Debug, Clone)]
pub struct Live {
    /// Its id.
    pub id: String,
    /// Whose resources it has.
    pub agent: String,
    /// The role it is for.
    pub role: Option<String>,
    /// The stream it came on.
    pub connection: String,
    /// As it came.
    pub offer: Value,
}

/// The offers of one side.
#[derive(Debug, Default)]
pub struct Book {
    /// Those that may still be used, the oldest first.
    pub live: Vec<Live>,
    /// All there ever were.
    pub known: Vec<Live>,
}

impl Book {
    /// Follows an event.
    pub fn event(&mut self, connection: &str, record: &Value) {
        match record.get("type").and_then(Value::as_str) {
            Some("OFFERS") => {
                for offer in offers(record) {
                    let (Some(id), Some(agent)) = (text(offer, "/id/value"), text(offer, "/agent_id/value"))
                    else {
                        continue;
                    };
                    let role = text(offer, "/allocation_info/role");
                    let connection = connection.to_owned();
                    let live = Live { id, agent, role, connection, offer: offer.clone() };
                    self.live.push(live.clone());
                    self.known.push(live);
                }
            }
            Some("RESCIND") => {
                if let Some(id) = text(record, "/rescind/offer_id/value") {
                    self.used(&id);
                }
            }
            // A new subscription makes void what an older one was offered.
            Some("SUBSCRIBED") => {
                let framework = text(record, "/subscribed/framework_id/value");
                self.live.retain(|live| {
                    live.connection == connection || text(&live.offer, "/framework_id/value") != framework
                });
            }
            _ => {}
        }
    }

    /// An offer that was accepted or declined.
    pub fn used(&mut self, id: &str) {
        self.live.retain(|live| live.id != id);
    }

    /// A subscription that is over.
    pub fn ended(&mut self, connection: &str) {
        self.live.retain(|live| live.connection != connection);
    }

    /// An offer, whether it may be used or not.
    pub fn find(&self, id: &str) -> Option<&Live> {
        self.known.iter().find(|known| known.id == id)
    }
}

/// The target's offer that can stand for the capture's: of the same agent and role, with room for what is wanted.
pub fn counterpart<'a>(
    names: &Names,
    wanted: &Live,
    needs: &[(String, f64)],
    target: &'a Book,
    agents_of_target: usize,
) -> Option<&'a Live> {
    let fits = |live: &&Live| {
        let agent = match names.get(&wanted.agent) {
            Some(agent) => agent == live.agent,
            None => names.reverse(&live.agent).is_none() || agents_of_target == 1,
        };
        // What the recorded offer had too little of, the target's may lack as well.
        let room = needs.iter().all(|(name, amount)| {
            amount_of(&live.offer, name) >= *amount || amount_of(&wanted.offer, name) < *amount
        });
        agent
            && live.role == wanted.role
            && names.reverse(&live.id).is_none()
            && room
            && has_reserved(wanted, live)
    };
    target.live.iter().find(fits)
}

/// A call that uses reserved resources needs an offer that has them.
fn has_reserved(wanted: &Live, live: &Live) -> bool {
    let reserved = |offer: &Value| {
        let all = offer.get("resources").and_then(Value::as_array).cloned().unwrap_or_default();
        let counted = all.iter().filter(|r| r.get("reservations").is_some()).count();
        (counted, all.iter().any(|r| r.get("disk").is_some()))
    };
    reserved(&wanted.offer) == reserved(&live.offer)
}

fn amount_of(offer: &Value, name: &str) -> f64 {
    let all = offer.get("resources").and_then(Value::as_array).into_iter().flatten();
    let named = all.filter(|resource| resource.get("name").and_then(Value::as_str) == Some(name));
    named.filter_map(|resource| resource.pointer("/scalar/value")?.as_f64()).sum()
}

/// What the tasks of an ACCEPT need, by resource.
pub fn needs(call: &Value) -> Vec<(String, f64)> {
    let mut all: Vec<(String, f64)> = Vec::new();
    collect(call.pointer("/accept/operations").unwrap_or(&Value::Null), &mut all);
    all
}

fn collect(value: &Value, all: &mut Vec<(String, f64)>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| collect(item, all)),
        Value::Object(fields) => {
            let scalar = value.pointer("/scalar/value").and_then(Value::as_f64);
            if let (Some(name), Some(amount)) = (fields.get("name").and_then(Value::as_str), scalar) {
                match all.iter_mut().find(|(known, _)| known == name) {
                    Some((_, sum)) => *sum += amount,
                    None => all.push((name.to_owned(), amount)),
                }
            } else {
                fields.values().for_each(|field| collect(field, all));
            }
        }
        _ => {}
    }
}

/// The first port of an offer's first range.
pub fn first_port(offer: &Value) -> Option<u64> {
    let all = offer.get("resources")?.as_array()?;
    all.iter().find_map(|resource| resource.pointer("/ranges/range/0/begin")?.as_u64())
}
