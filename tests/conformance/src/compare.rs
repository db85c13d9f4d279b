//! Compares what came with what was recorded.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{
    model::{Head, Transcript, What},
    names::Names,
    offers::Shapes,
    sketch::sketch,
    stream::{Content, Item, Lane, Stream},
    unify::{Difference, differ, show, unify},
};

/// The headers whose values matter. The others may be there or not.
const HEADERS: [&str; 6] =
    ["Content-Type", "Allow", "Location", "WWW-Authenticate", "Transfer-Encoding", "Mesos-Stream-Id"];

/// What is compared how.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// Connections whose answers are whole states: see [`crate::sketch`].
    pub loose: BTreeSet<String>,
    /// Connections whose answers are some JSON object or other, such as metrics.
    pub opaque: BTreeSet<String>,
    /// Connections that are not compared.
    pub ignored: BTreeSet<String>,
    /// Whether the offers' shapes are not compared.
    pub any_offers: bool,
}

/// Everything that is not as recorded.
pub fn compare(capture: &Transcript, got: &Transcript, names: Names, rules: &Rules) -> Vec<Difference> {
    let mut names = names;
    let mut out = Vec::new();
    for connection in connections(capture, got) {
        if rules.ignored.contains(&connection) {
            continue;
        }
        let expected = Stream::of(&capture.entries, &connection);
        let came = Stream::of(&got.entries, &connection);
        let mut place =
            Place { names: &mut names, capture: &capture.name, connection: &connection, out: &mut out };
        place.heads(&expected, &came);
        if rules.opaque.contains(&connection) {
            place.some_object(&came);
        } else {
            place.bodies(&expected, &came, rules.loose.contains(&connection));
        }
        place.items(&expected, &came, rules.loose.contains(&connection));
        if !rules.any_offers {
            place.offers(&expected, &came);
        }
    }
    out
}

/// Connections by their first appearance in the capture; those that only the target has are last.
fn connections(capture: &Transcript, got: &Transcript) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for entry in capture.entries.iter().chain(&got.entries) {
        if !matches!(entry.what, What::Note(_)) && !all.contains(&entry.connection) {
            all.push(entry.connection.clone());
        }
    }
    all
}

struct Place<'a> {
    names: &'a mut Names,
    capture: &'a str,
    connection: &'a str,
    out: &'a mut Vec<Difference>,
}

impl Place<'_> {
    fn at(&self, line: usize) -> String {
        format!("{}.txt:{line} {}", self.capture, self.connection)
    }

    fn heads(&mut self, expected: &Stream, got: &Stream) {
        for (at, (line, head)) in expected.heads.iter().enumerate() {
            let place = self.at(*line);
            match got.heads.get(at) {
                Some((_, other)) => unify_heads(self.names, &place, head, other, self.out),
                None => differ(self.out, &place, &format!("{} {}", head.status, head.reason), "no response"),
            }
        }
        for (_, head) in got.heads.iter().skip(expected.heads.len()) {
            differ(self.out, &self.at(0), "no response", &format!("{} {}", head.status, head.reason));
        }
    }

    fn some_object(&mut self, got: &Stream) {
        let body = got.bodies.first().map_or("no body", |(_, body)| body);
        let value = serde_json::from_str::<Value>(body);
        if !value.is_ok_and(|value| value.is_object()) {
            differ(self.out, &format!("{} body", self.at(0)), "a JSON object", body);
        }
    }

    fn bodies(&mut self, expected: &Stream, got: &Stream, loose: bool) {
        for (at, (line, body)) in expected.bodies.iter().enumerate() {
            let place = format!("{} body", self.at(*line));
            let Some((_, other)) = got.bodies.get(at) else {
                if !expected.is_head {
                    differ(self.out, &place, body, "no body");
                }
                continue;
            };
            let json = |text: &str| serde_json::from_str::<Value>(without_callback(text)).ok();
            match (json(body), json(other)) {
                (Some(a), Some(b)) if loose => sketch(&place, &a, &b, self.out),
                (Some(a), Some(b)) => unify(self.names, &place, &a, &b, self.out),
                _ if loose && body.starts_with('<') && other.starts_with('<') => {}
                _ => {
                    if !self.names.same_text(body, other) {
                        differ(self.out, &place, &self.names.translate(body), other);
                    }
                }
            }
        }
        for (_, body) in got.bodies.iter().skip(expected.bodies.len()).filter(|(_, body)| !body.is_empty()) {
            differ(self.out, &format!("{} body", self.at(0)), "no body", body);
        }
    }

    fn items(&mut self, expected: &Stream, got: &Stream, loose: bool) {
        if expected.first.is_some() && got.first.is_some() && expected.first != got.first {
            let label = |first: &Option<String>| first.clone().unwrap_or_default();
            differ(
                self.out,
                &format!("{} first event", self.at(0)),
                &label(&expected.first),
                &label(&got.first),
            );
        }
        if expected.heartbeats > 0 && got.heartbeats == 0 {
            differ(self.out, &self.at(0), "a HEARTBEAT", "none");
        }
        let mut lanes = expected.lanes();
        lanes.extend(got.lanes().into_iter().filter(|lane| !expected.lanes().contains(lane)));
        for lane in &lanes {
            let mut number = 0;
            loop {
                match (expected.in_lane(lane, number), got.in_lane(lane, number)) {
                    (None, None) => break,
                    (Some(item), Some(other)) => self.item(item, other, loose),
                    (Some(item), None) => {
                        differ(
                            self.out,
                            &self.at(item.line),
                            &describe(item),
                            &format!("nothing{}", after(got, lane)),
                        );
                    }
                    (None, Some(other)) => {
                        let place = format!("{}{}", self.at(0), after(expected, lane));
                        differ(self.out, &place, "nothing more", &describe(other));
                    }
                }
                number += 1;
            }
            let (a, b) = (expected.order_with(lane), got.order_with(lane));
            let mut sorted = (a.clone(), b.clone());
            sorted.0.sort();
            sorted.1.sort();
            if a != b && sorted.0 == sorted.1 && *lane != Lane::Connection {
                differ(self.out, &format!("{} order", self.at(0)), &a.join(", "), &b.join(", "));
            }
        }
    }

    fn item(&mut self, item: &Item, other: &Item, loose: bool) {
        let place = self.at(item.line);
        match (&item.content, &other.content) {
            // An operator's SUBSCRIBED is the whole state.
            (Content::Record(a), Content::Record(b)) if loose && [a, b].iter().all(|r| is_subscribed(r)) => {
                sketch(&place, a, b, self.out);
            }
            (Content::Record(a), Content::Record(b)) if item.content.label() == other.content.label() => {
                let place = format!("{place} {}", item.content.label());
                unify(self.names, &place, a, b, self.out);
            }
            (a, b) if a.label() == b.label() => {}
            _ => differ(self.out, &place, &describe(item), &describe(other)),
        }
    }

    fn offers(&mut self, expected: &Stream, got: &Stream) {
        if expected.offers.is_empty() {
            return;
        }
        let (wanted, came) = (Shapes::of(&expected.offers), Shapes::of(&got.offers));
        let line = expected.offers.first().map_or(0, |(line, _)| *line);
        let place = format!("{} OFFERS", self.at(line));
        if came.is_empty() {
            differ(self.out, &place, "offers", "none");
            return;
        }
        wanted.differences(&came, &place, self.out);
        if let (Some(a), Some(b)) = (wanted.framework, came.framework)
            && !self.names.bind(&a, &b)
        {
            let bound = self.names.get(&a).unwrap_or("another framework").to_owned();
            differ(self.out, &format!("{place} framework_id"), &bound, &b);
        }
    }
}

/// Compares two heads of responses.
pub fn unify_heads(names: &mut Names, place: &str, expected: &Head, got: &Head, out: &mut Vec<Difference>) {
    if (expected.status, &expected.reason) != (got.status, &got.reason) {
        let status = |head: &Head| format!("{} {}", head.status, head.reason);
        differ(out, place, &status(expected), &status(got));
        return;
    }
    for name in HEADERS {
        let place = format!("{place} {name}");
        match (expected.header(name), got.header(name)) {
            (None, None) => {}
            // Whether a whole body is sent in chunks is the server's affair.
            (None, Some(_)) if name == "Transfer-Encoding" => {}
            (Some(a), Some(b)) => {
                let same = if name == "Location" { names.same_location(a, b) } else { names.same_text(a, b) };
                if !same {
                    differ(out, &place, a, b);
                }
            }
            (a, b) => differ(out, &place, a.unwrap_or("none"), b.unwrap_or("none")),
        }
    }
}

/// The JSON in an answer to `?jsonp=cb`.
fn without_callback(text: &str) -> &str {
    text.strip_prefix("cb(").and_then(|text| text.strip_suffix(')')).unwrap_or(text)
}

fn is_subscribed(record: &Value) -> bool {
    crate::model::event_type(record) == Some("SUBSCRIBED")
}

fn describe(item: &Item) -> String {
    let Content::Record(record) = &item.content else { return item.content.label() };
    let status = |field: &str| record.pointer(&format!("/update/status/{field}")).and_then(Value::as_str);
    match record.get("update") {
        Some(_) => {
            let words = [status("task_id/value"), status("source"), status("reason"), status("message")];
            let words: Vec<&str> = words.into_iter().flatten().collect();
            format!("{} {}", item.content.label(), words.join(", "))
        }
        None => show(record),
    }
}

fn after(stream: &Stream, lane: &Lane) -> String {
    let last = stream.items.iter().rfind(|item| item.lane == *lane);
    let task = match lane {
        Lane::Connection => String::new(),
        Lane::Task(task) => format!(" for task {task}"),
    };
    last.map_or_else(|| task.clone(), |item| format!("{task} after {}", item.content.label()))
}
