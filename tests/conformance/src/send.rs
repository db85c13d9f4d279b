//! Turns a recorded call into one that means the same to the target.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    book::{Live, counterpart, first_port, needs},
    model::{Entry, Request},
    replay::Replay,
};

/// How long to wait for an offer that a call needs: longer than filters of 5 s hold.
const FOR_AN_OFFER: Duration = Duration::from_secs(10);

impl Replay<'_> {
    /// Sends what the entry sent.
    pub(crate) async fn send(&mut self, entry: &Entry, request: &Request) {
        let mut body = request.json();
        if let Some(call) = &mut body {
            let shift = self.find_offers(entry, call).await;
            *call = self.translated(call);
            if shift != 0 {
                shift_ports(call, shift);
            }
        }
        let to = request.to.as_deref().unwrap_or_default();
        let address = self.addresses.get(to).copied().unwrap_or_else(|| self.target.master(to));
        let changed = body.filter(|body| Some(body) != request.json().as_ref());
        let body = changed.map_or_else(|| self.names.translate(&request.body), |body| body.to_string());
        let head = request.head.iter().enumerate().map(|(at, line)| {
            let name = line.split_once(':').map(|(name, _)| name.to_ascii_lowercase());
            match name.as_deref() {
                Some("host") if at > 0 && line.contains("127.0.0.1") => format!("Host: {address}"),
                Some("content-length") if at > 0 => format!("Content-Length: {}", body.len()),
                _ => self.names.translate(line),
            }
        });
        let translated = Request { to: Some(address.to_string()), head: head.collect(), body };
        self.open(&entry.connection, address, translated);
    }

    /// The call with the target's ids, and with an executor that exists.
    fn translated(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => match &self.case.cast {
                Some(cast) if text.contains("executor.py") => json!(cast.command),
                _ => json!(self.names.translate(text)),
            },
            Value::Array(items) => items.iter().map(|item| self.translated(item)).collect(),
            Value::Object(fields) => {
                fields.iter().map(|(key, value)| (key.clone(), self.translated(value))).collect()
            }
            other => other.clone(),
        }
    }

    /// Finds the target's offers for those that the call names. Says by how much the target's ports are higher.
    async fn find_offers(&mut self, entry: &Entry, call: &mut Value) -> i64 {
        let field = match call.get("type").and_then(Value::as_str) {
            Some("ACCEPT") => "accept",
            Some("DECLINE") => "decline",
            _ => return 0,
        };
        let pointer = format!("/{field}/offer_ids");
        let ids: Vec<String> = call
            .pointer(&pointer)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(|id| id.get("value")?.as_str().map(str::to_owned))
            .collect();
        let live = |id: &String| self.captured_offers.live.iter().find(|live| live.id == *id).cloned();
        let mut wanted: Vec<Live> =
            ids.iter().filter(|id| self.names.get(id).is_none()).filter_map(live).collect();
        wanted.dedup_by(|a, b| a.id == b.id);
        let all = !ids.is_empty() && self.captured_offers.live.iter().all(|live| ids.contains(&live.id));
        let mut shift = 0;
        let mut found = 0;
        if field == "accept" {
            let needs = needs(call);
            for wanted in &wanted {
                shift = self.find_offer(entry, wanted, &needs, FOR_AN_OFFER).await.unwrap_or(shift);
            }
        } else {
            for wanted in &wanted {
                let limit = if found == 0 { FOR_AN_OFFER } else { Duration::ZERO };
                found += usize::from(self.find_offer(entry, wanted, &[], limit).await.is_some());
            }
            // What was declined altogether is declined altogether, however it is cut into offers.
            let mut declined: Vec<Value> = ids
                .iter()
                .filter(|id| self.names.get(id).is_some() || wanted.iter().all(|w| w.id != **id))
                .map(|id| json!({"value": id}))
                .collect();
            if all {
                let others = self.offers.live.iter().filter(|live| self.names.reverse(&live.id).is_none());
                declined.extend(others.map(|live| json!({"value": live.id})));
            }
            if let Some(list) = call.pointer_mut(&pointer) {
                *list = Value::Array(declined);
            }
        }
        for id in &ids {
            self.captured_offers.used(id);
            if let Some(id) = self.names.get(id).map(str::to_owned) {
                self.offers.used(&id);
            }
        }
        if all && field == "decline" {
            self.offers.live.clear();
        }
        shift
    }

    async fn find_offer(
        &mut self,
        entry: &Entry,
        wanted: &Live,
        needs: &[(String, f64)],
        limit: Duration,
    ) -> Option<i64> {
        let agents = self.target.agents();
        self.until(limit, |r| counterpart(&r.names, wanted, needs, &r.offers, agents).is_some()).await;
        let Some(found) = counterpart(&self.names, wanted, needs, &self.offers, agents).cloned() else {
            if !limit.is_zero() {
                self.stall(format!("line {}: no offer like {} came in {limit:?}", entry.line, wanted.id));
            }
            return None;
        };
        self.bind_agent(wanted, &found);
        self.names.bind(&wanted.id, &found.id);
        let ports = first_port(&found.offer).zip(first_port(&wanted.offer));
        Some(ports.map_or(0, |(a, b)| i64::try_from(a).unwrap_or(0) - i64::try_from(b).unwrap_or(0)))
    }
}

/// Moves the ports that tasks ask for to where the target's are.
fn shift_ports(value: &mut Value, shift: i64) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| shift_ports(item, shift)),
        Value::Object(fields) => {
            for (key, value) in fields {
                match value.as_i64() {
                    Some(port) if key == "begin" || key == "end" => *value = json!(port + shift),
                    _ => shift_ports(value, shift),
                }
            }
        }
        _ => {}
    }
}
