//! What holds in every recording, and so has to hold in whatever a target sends: rules that no capture shows alone.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::{
    model::{Entry, Request, Transcript, What, event_type, updated_task},
    names::is_base64_uuid,
    unify::{Difference, differ, show},
};

/// Everything that breaks a rule.
pub fn broken(transcript: &Transcript) -> Vec<Difference> {
    let mut watch = Watch { name: transcript.name.clone(), ..Watch::default() };
    for entry in &transcript.entries {
        watch.see(entry);
    }
    watch.out
}

#[derive(Default)]
struct Watch {
    name: String,
    streams: BTreeMap<String, Subscription>,
    /// Of each task: the update that waits for its acknowledgement.
    unacknowledged: BTreeMap<(String, String), String>,
    out: Vec<Difference>,
}

/// One scheduler's stream.
#[derive(Default)]
struct Subscription {
    framework: Option<String>,
    /// What the framework said it can do.
    capabilities: BTreeSet<String>,
    begun: bool,
    ended: bool,
    offered: BTreeSet<String>,
    failed: BTreeSet<String>,
    /// Executors whose tasks have failed because they ended.
    mourned: BTreeSet<String>,
}

impl Watch {
    fn see(&mut self, entry: &Entry) {
        let Entry { line, connection, what, .. } = entry;
        let place = format!("{}.txt:{line} {connection}", self.name);
        match what {
            What::Sent(request) => self.sent(request, connection),
            What::Record(record) if event_type(record).is_some() => {
                self.rules_of_events(&place, connection, record);
                match event_type(record).unwrap_or_default() {
                    "SUBSCRIBED" => {
                        let id = record.pointer("/subscribed/framework_id/value").and_then(Value::as_str);
                        self.stream(connection).framework = id.map(str::to_owned);
                    }
                    "OFFERS" => self.offers(&place, record, connection),
                    "RESCIND" => self.rescind(&place, record, connection),
                    "FAILURE" => self.failure(&place, record, connection),
                    "UPDATE" => self.update(&place, record, connection),
                    _ => {}
                }
            }
            What::End | What::Eof => self.stream(connection).ended = true,
            _ => {}
        }
    }

    fn stream(&mut self, connection: &str) -> &mut Subscription {
        self.streams.entry(connection.to_owned()).or_default()
    }

    fn sent(&mut self, request: &Request, connection: &str) {
        let Some(call) = request.json() else { return };
        let framework =
            call.pointer("/framework_id/value").and_then(Value::as_str).unwrap_or_default().to_owned();
        match call["type"].as_str().unwrap_or_default() {
            "SUBSCRIBE" => {
                let list = call.pointer("/subscribe/framework_info/capabilities").and_then(Value::as_array);
                let capabilities = list.into_iter().flatten().filter_map(|one| one["type"].as_str());
                let capabilities = capabilities.map(str::to_owned).collect();
                self.streams
                    .insert(connection.to_owned(), Subscription { capabilities, ..Subscription::default() });
                // What was in flight is sent again, whatever came last.
                self.unacknowledged.retain(|(owner, _), _| *owner != framework);
            }
            "ACKNOWLEDGE" => {
                let task =
                    call.pointer("/acknowledge/task_id/value").and_then(Value::as_str).unwrap_or_default();
                let uuid = call.pointer("/acknowledge/uuid").and_then(Value::as_str);
                let key = (framework, task.to_owned());
                if self.unacknowledged.get(&key).map(String::as_str) == uuid {
                    self.unacknowledged.remove(&key);
                }
            }
            _ => {}
        }
    }

    /// A stream begins with SUBSCRIBED or is an ERROR, and nothing comes after its end.
    fn rules_of_events(&mut self, place: &str, connection: &str, record: &Value) {
        let kind = event_type(record).unwrap_or_default().to_owned();
        let stream = self.stream(connection);
        let (begun, ended) = (stream.begun, stream.ended);
        stream.begun = true;
        if !begun && !matches!(kind.as_str(), "SUBSCRIBED" | "ERROR") {
            differ(&mut self.out, place, "SUBSCRIBED or ERROR as the first event", &kind);
        }
        if ended {
            differ(&mut self.out, place, "nothing after the end of the stream", &kind);
        }
    }

    /// Who can do with several roles is told which one an offer is for, and who can do with refined reservations
    /// gets them in their form.
    fn offers(&mut self, place: &str, record: &Value, connection: &str) {
        let capabilities = self.stream(connection).capabilities.clone();
        let (roles, refined) =
            (capabilities.contains("MULTI_ROLE"), capabilities.contains("RESERVATION_REFINEMENT"));
        for offer in crate::offers::offers(record) {
            let resources: Vec<&Value> = offer["resources"].as_array().into_iter().flatten().collect();
            let allocated = |value: &&Value| value.get("allocation_info").is_some() == roles;
            if !allocated(&offer) || !resources.iter().all(allocated) {
                differ(&mut self.out, place, &format!("allocation_info: {roles}"), &show(offer));
            }
            if resources.iter().any(|resource| resource.get("role").is_some() == refined) {
                differ(&mut self.out, place, &format!("resources with a role: {}", !refined), &show(offer));
            }
        }
        let ids: Vec<String> = crate::offers::offers(record)
            .filter_map(|offer| offer.pointer("/id/value")?.as_str().map(str::to_owned))
            .collect();
        let stream = self.stream(connection);
        stream.offered.extend(ids);
    }

    /// Only what was offered on a stream is rescinded there, and once.
    fn rescind(&mut self, place: &str, record: &Value, connection: &str) {
        let id = record.pointer("/rescind/offer_id/value").and_then(Value::as_str).unwrap_or_default();
        if !self.stream(connection).offered.remove(id) {
            differ(&mut self.out, place, "RESCIND of an offer that was made", &show(record));
        }
    }

    /// The FAILURE of an executor comes before its tasks'.
    fn failure(&mut self, place: &str, record: &Value, connection: &str) {
        let id = record.pointer("/failure/executor_id/value").and_then(Value::as_str);
        let has_agent = record.pointer("/failure/agent_id/value").is_some();
        let status = record.pointer("/failure/status");
        let stream = self.stream(connection);
        let late = id.is_some_and(|id| stream.mourned.contains(id));
        stream.failed.extend(id.map(str::to_owned));
        if late {
            differ(&mut self.out, place, "FAILURE before its tasks' TASK_FAILED", &show(record));
        }
        if !has_agent || id.is_some() != status.is_some() {
            differ(
                &mut self.out,
                place,
                "an agent, and a status just if there is an executor",
                &show(record),
            );
        }
    }

    fn update(&mut self, place: &str, record: &Value, connection: &str) {
        let status = &record["update"]["status"];
        let text = |key: &str| status.get(key).and_then(Value::as_str);
        let (source, reason) = (text("source").unwrap_or_default(), text("reason").unwrap_or_default());
        let uuid = text("uuid");
        // Only agents and executors wait for acknowledgements.
        match source {
            "SOURCE_MASTER" if uuid.is_some() => {
                differ(&mut self.out, place, "no uuid from the master", &show(record));
            }
            "SOURCE_MASTER" => {}
            "SOURCE_AGENT" | "SOURCE_EXECUTOR" if uuid.is_some_and(is_base64_uuid) => {}
            _ => differ(
                &mut self.out,
                place,
                "a known source, and a uuid from agents and executors",
                &show(record),
            ),
        }
        let is_reconciled = reason == "REASON_RECONCILIATION";
        if is_reconciled != text("message").is_some_and(|message| message.starts_with("Reconciliation: ")) {
            differ(&mut self.out, place, "REASON_RECONCILIATION with its message", &show(record));
        }
        if !status["timestamp"].is_number() {
            differ(&mut self.out, place, "a timestamp", &show(record));
        }
        self.states(place, record, connection);
        if reason == "REASON_EXECUTOR_TERMINATED"
            && let Some(id) = status.pointer("/executor_id/value").and_then(Value::as_str)
        {
            self.stream(connection).mourned.insert(id.to_owned());
        }
        let framework = self.stream(connection).framework.clone().unwrap_or_default();
        let (Some(task), Some(uuid)) = (updated_task(record), uuid) else { return };
        // What is not acknowledged holds back what comes after it.
        let waiting = self.unacknowledged.insert((framework, task.to_owned()), uuid.to_owned());
        if let Some(before) = waiting.filter(|before| before != uuid) {
            differ(&mut self.out, place, &format!("nothing before {before} is acknowledged"), &show(record));
        }
    }
}

impl Watch {
    /// Some states are for those who know them, and come with what belongs to them.
    fn states(&mut self, place: &str, record: &Value, connection: &str) {
        const OF_PARTITIONS: [&str; 5] =
            ["TASK_UNREACHABLE", "TASK_DROPPED", "TASK_GONE", "TASK_GONE_BY_OPERATOR", "TASK_UNKNOWN"];
        let status = &record["update"]["status"];
        let state = status["state"].as_str().unwrap_or_default();
        let capabilities = &self.stream(connection).capabilities;
        let knows = match state {
            "TASK_KILLING" => capabilities.contains("TASK_KILLING_STATE"),
            state if OF_PARTITIONS.contains(&state) => capabilities.contains("PARTITION_AWARE"),
            _ => true,
        };
        if !knows {
            differ(&mut self.out, place, "a state that the framework knows", state);
        }
        let since = status.get("unreachable_time").is_some();
        if since != (state == "TASK_UNREACHABLE") && !(since && state == "TASK_LOST") {
            differ(
                &mut self.out,
                place,
                "unreachable_time with TASK_UNREACHABLE, and only there",
                &show(record),
            );
        }
        let source = status["source"].as_str().unwrap_or_default();
        if source != "SOURCE_MASTER" && status.get("agent_id").is_none() {
            differ(&mut self.out, place, "the agent that says so", &show(record));
        }
        if source == "SOURCE_AGENT"
            && (status.get("container_status").is_some() || status.get("reason").is_none())
        {
            differ(&mut self.out, place, "a reason and no container_status from an agent", &show(record));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::parse::parse;

    #[test]
    fn every_recording_keeps_the_rules() {
        for file in std::fs::read_dir(crate::captures()).unwrap() {
            let path = file.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            if !name.ends_with(".executor_wire") {
                let transcript = parse(&name, &std::fs::read(&path).unwrap()).unwrap();
                assert_eq!(broken(&transcript), [], "{name}");
            }
        }
    }

    fn altered(name: &str, change: impl Fn(&mut Vec<Entry>)) -> Vec<Difference> {
        let path = crate::captures().join(format!("{name}.txt"));
        let mut transcript = parse(name, &std::fs::read(path).unwrap()).unwrap();
        change(&mut transcript.entries);
        broken(&transcript)
    }

    fn place(entries: &[Entry], text: &str) -> usize {
        entries
            .iter()
            .position(|entry| matches!(&entry.what, What::Record(r) if r.to_string().contains(text)))
            .unwrap()
    }

    #[test]
    fn broken_rules_are_seen() {
        let swapped = altered("10_executor_failures", |entries| {
            let failure = place(entries, "FAILURE");
            entries.swap(failure, failure + 1);
        });
        assert_eq!(swapped.len(), 1, "{swapped:?}");
        let acknowledged = altered("10_executor_failures", |entries| {
            let sent = |entry: &Entry| matches!(&entry.what, What::Sent(r) if r.body.contains("ACKNOWLEDGE"));
            let at = entries.iter().position(sent).unwrap();
            entries.remove(at);
        });
        assert_eq!(acknowledged.len(), 1, "{acknowledged:?}");
        let signed = altered("14_reconcile", |entries| {
            let at = place(entries, "SOURCE_MASTER");
            if let What::Record(record) = &mut entries[at].what {
                record["update"]["status"]["uuid"] = json!("Lnr5mYh4SKqdHxwPxOJttg==");
            }
        });
        assert!(!signed.is_empty());
        let rescinded = altered("41_agent_loss", |entries| {
            let at = place(entries, "RESCIND");
            let again = entries[at].clone();
            entries.insert(at, again);
        });
        assert_eq!(rescinded.len(), 1, "{rescinded:?}");
        let unknown = altered("08_kill_no_caps", |entries| {
            let at = place(entries, "TASK_KILLED");
            if let What::Record(record) = &mut entries[at].what {
                record["update"]["status"]["state"] = json!("TASK_KILLING");
            }
        });
        assert!(unknown.len() == 1, "{unknown:?}");
        let roles = altered("02_subscribe_minimal_disconnect", |entries| {
            let at = place(entries, "OFFERS");
            if let What::Record(record) = &mut entries[at].what {
                record["offers"]["offers"][0]["allocation_info"] = json!({"role": "*"});
            }
        });
        assert_eq!(roles.len(), 1, "{roles:?}");
    }
}
