//! The executor's side: what a custom executor saw, compared with what the recorded one saw. Calls are compared
//! with their answers, task by task, as are acknowledgements; the other events of a subscription are in order.

use serde_json::{Value, json};

use crate::{
    compare::unify_heads,
    model::{Head, Request, Transcript, What, event_type},
    names::Names,
    unify::{Difference, differ, show, unify},
};

/// One executor's transcript.
#[derive(Debug, Default)]
struct Side {
    environment: Vec<(String, String)>,
    calls: Vec<Call>,
    subscriptions: Vec<Subscription>,
    notes: Vec<String>,
    last_answered: Option<usize>,
}

/// A call and its answer.
#[derive(Debug)]
struct Call {
    line: usize,
    kind: String,
    /// Whose order it is in: its task's, or that of its kind.
    lane: String,
    body: String,
    answer: Option<(Head, String)>,
}

/// What came on a subscription.
#[derive(Debug)]
struct Subscription {
    line: usize,
    head: Head,
    events: Vec<(usize, Value)>,
    end: Option<What>,
}

impl Side {
    fn of(transcript: &Transcript) -> Self {
        let mut side = Self::default();
        for entry in &transcript.entries {
            match &entry.what {
                What::Note(note) => match note.strip_prefix("environment\n") {
                    Some(text) => {
                        let pairs = text.lines().filter_map(|line| line.split_once('='));
                        side.environment = pairs.map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
                    }
                    None => side.notes.push(note.clone()),
                },
                What::Sent(request) => side.calls.push(Call::of(entry.line, request)),
                What::Head(head) => side.answered(entry.line, head),
                What::Record(event) => {
                    let last = side.subscriptions.iter_mut().rfind(|one| one.end.is_none());
                    if let Some(one) = last {
                        one.events.push((entry.line, event.clone()));
                    }
                }
                // The old stream of two ends first, whether the new one's head is there or not.
                What::End | What::Eof => {
                    if let Some(one) = side.subscriptions.iter_mut().find(|one| one.end.is_none()) {
                        one.end = Some(entry.what.clone());
                    }
                }
                // It stands with its head.
                What::Body(body) => {
                    let answered = side.last_answered.and_then(|at| side.calls.get_mut(at));
                    if let Some((_, known)) = answered.and_then(|call| call.answer.as_mut()) {
                        known.clone_from(body);
                    }
                }
                What::Opaque(_) | What::Closed => {}
            }
        }
        side
    }

    /// Calls of one connection each are written down as they are answered: the longest waiting one is meant.
    fn answered(&mut self, line: usize, head: &Head) {
        let opens = head.status == 200;
        let meant = |call: &Call| call.answer.is_none() && (!opens || call.kind == "SUBSCRIBE");
        self.last_answered = self.calls.iter().position(meant);
        if let Some(call) = self.last_answered.and_then(|at| self.calls.get_mut(at)) {
            call.answer = Some((head.clone(), String::new()));
        }
        if opens {
            let head = head.clone();
            self.subscriptions.push(Subscription { line, head, events: Vec::new(), end: None });
        }
    }

    fn variable(&self, name: &str) -> Option<&str> {
        self.environment.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

impl Call {
    fn of(line: usize, request: &Request) -> Self {
        let body = request.json().unwrap_or_default();
        let kind = body["type"].as_str().unwrap_or_default().to_owned();
        let task = body.pointer("/update/status/task_id/value").and_then(Value::as_str);
        let whose = task.map_or_else(|| kind.clone(), |task| format!("{kind} of {task}"));
        Self { line, kind, lane: whose, body: request.body.clone(), answer: None }
    }
}

/// Everything that is not as recorded. `command` is what the executor was started with here.
pub fn compare(capture: &Transcript, got: &Transcript, command: &str, names: &mut Names) -> Vec<Difference> {
    let (expected, came) = (Side::of(capture), Side::of(got));
    let mut out = Vec::new();
    let name = &capture.name;
    environment(&expected, &came, &format!("{name}.txt environment"), &mut out);
    calls(&expected, &came, name, names, &mut out);
    for (at, wanted) in expected.subscriptions.iter().enumerate() {
        let place = format!("{name}.txt:{} subscription {}", wanted.line, at + 1);
        match came.subscriptions.get(at) {
            Some(one) => {
                unify_heads(names, &place, &wanted.head, &one.head, &mut out);
                events(wanted, one, &place, command, names, &mut out);
            }
            None => differ(&mut out, &place, "a subscription", "none"),
        }
    }
    if came.subscriptions.len() > expected.subscriptions.len() {
        let (a, b) = (expected.subscriptions.len(), came.subscriptions.len());
        differ(&mut out, &format!("{name}.txt"), &format!("{a} subscriptions"), &b.to_string());
    }
    for note in expected.notes.iter().filter(|note| note.contains("exit")) {
        if !came.notes.contains(note) {
            differ(&mut out, &format!("{name}.txt"), note, "nothing like it");
        }
    }
    out
}

/// Names and values, but for what differs from machine to machine.
fn environment(expected: &Side, got: &Side, place: &str, out: &mut Vec<Difference>) {
    // Python's own.
    let wanted: Vec<_> = expected.environment.iter().filter(|(name, _)| name != "LC_CTYPE").collect();
    for (name, value) in &wanted {
        let (value, other) = (plain(expected, value), got.variable(name).map(|value| plain(got, value)));
        if other.as_ref() != Some(&value) {
            let other = other.unwrap_or_else(|| "nothing".to_owned());
            differ(out, &format!("{place} {name}"), &value, &other);
        }
    }
    for (name, value) in &got.environment {
        if name != "LC_CTYPE" && !wanted.iter().any(|(known, _)| known == name) {
            differ(out, &format!("{place} {name}"), "nothing", value);
        }
    }
}

/// A value with words in the place of its own ids and addresses.
fn plain(side: &Side, value: &str) -> String {
    let sandbox = side.variable("MESOS_SANDBOX").unwrap_or_default();
    let endpoint = side.variable("MESOS_AGENT_ENDPOINT").unwrap_or_default();
    let mut words = vec![
        (sandbox.rsplit('/').next().unwrap_or_default(), "<container>"),
        (sandbox.split_once("/slaves/").map_or("", |(work, _)| work), "<work_dir>"),
        (side.variable("MESOS_FRAMEWORK_ID").unwrap_or_default(), "<framework>"),
        (side.variable("MESOS_SLAVE_ID").unwrap_or_default(), "<agent>"),
        (endpoint, "<agent's address>"),
        (endpoint.split(':').next().unwrap_or_default(), "<agent's ip>"),
    ];
    words.retain(|(text, _)| text.len() > 1);
    words.into_iter().fold(value.to_owned(), |value, (text, word)| value.replace(text, word))
}

fn calls(expected: &Side, got: &Side, name: &str, names: &mut Names, out: &mut Vec<Difference>) {
    let mut lanes: Vec<&str> = Vec::new();
    for call in expected.calls.iter().chain(&got.calls) {
        if !lanes.contains(&call.lane.as_str()) {
            lanes.push(&call.lane);
        }
    }
    for lane in lanes {
        let of = |side: &'_ Side| side.calls.iter().filter(|call| call.lane == lane).count();
        let (wanted, came) = (of(expected), of(got));
        if wanted != came {
            differ(out, &format!("{name}.txt {lane}"), &format!("{wanted} calls"), &came.to_string());
        }
        let pairs = expected.calls.iter().filter(|call| call.lane == lane);
        for (call, other) in pairs.zip(got.calls.iter().filter(|call| call.lane == lane)) {
            let place = format!("{name}.txt:{} {lane}", call.line);
            let json = |text: &str| serde_json::from_str::<Value>(text).ok();
            // Calls that are refused are wrong on purpose.
            let taken = call.answer.as_ref().is_none_or(|(head, _)| head.status < 300);
            match (json(&call.body), json(&other.body)) {
                (Some(_), Some(_)) if !taken => {}
                (Some(a), Some(b)) => unify(names, &format!("{place} (sent)"), &a, &b, out),
                _ if call.body == other.body => {}
                _ => differ(out, &place, &call.body, &other.body),
            }
            match (&call.answer, &other.answer) {
                (Some((head, body)), Some((other, came))) => {
                    unify_heads(names, &place, head, other, out);
                    if !names.same_text(body, came) {
                        differ(out, &place, &names.translate(body), came);
                    }
                }
                (Some((head, _)), None) => differ(out, &place, &head.status.to_string(), "no answer"),
                (None, _) => {}
            }
        }
    }
}

fn events(
    wanted: &Subscription,
    got: &Subscription,
    place: &str,
    command: &str,
    names: &mut Names,
    out: &mut Vec<Difference>,
) {
    let is_acknowledged = |event: &Value| event_type(event) == Some("ACKNOWLEDGED");
    let of = |one: &Subscription| -> Vec<Value> {
        one.events.iter().map(|(_, event)| event).filter(|event| !is_acknowledged(event)).cloned().collect()
    };
    let (ours, theirs) = (of(wanted), of(got));
    for (at, event) in ours.iter().enumerate() {
        let kind = event_type(event).unwrap_or_default();
        match theirs.get(at) {
            Some(other) if event_type(other) == Some(kind) => {
                let event = with_command(event, command);
                unify(names, &format!("{place} {kind}"), &event, other, out);
            }
            Some(other) => differ(out, place, kind, &show(other)),
            None => differ(out, place, &show(event), "nothing"),
        }
    }
    for other in theirs.iter().skip(ours.len()) {
        // The recorder took some files before the framework was torn down.
        if event_type(other) != Some("SHUTDOWN") {
            differ(out, place, "nothing more", &show(other));
        }
    }
    acknowledgements(wanted, got, place, names, out);
    match (&wanted.end, &got.end) {
        (Some(a), Some(b)) if a != b => differ(out, place, &a.to_string(), &b.to_string()),
        (Some(a), None) => differ(out, place, &a.to_string(), "nothing"),
        _ => {}
    }
}

fn acknowledgements(
    wanted: &Subscription,
    got: &Subscription,
    place: &str,
    names: &mut Names,
    out: &mut Vec<Difference>,
) {
    let of = |one: &Subscription| -> Vec<Value> {
        let mut all: Vec<Value> = one
            .events
            .iter()
            .map(|(_, event)| event)
            .filter(|e| e["acknowledged"].is_object())
            .cloned()
            .collect();
        // In the order of each task; those of two tasks pass each other.
        all.sort_by_key(|event| event["acknowledged"]["task_id"].to_string());
        all
    };
    let (ours, theirs) = (of(wanted), of(got));
    for (a, b) in ours.iter().zip(&theirs) {
        unify(names, &format!("{place} ACKNOWLEDGED"), a, b, out);
    }
    for event in ours.iter().skip(theirs.len()) {
        differ(out, place, &show(event), "nothing");
    }
    for event in theirs.iter().skip(ours.len()) {
        differ(out, place, "no further ACKNOWLEDGED", &show(event));
    }
}

/// The recorded command's text is that of the recorder's machine.
fn with_command(event: &Value, command: &str) -> Value {
    let mut event = event.clone();
    for pointer in [
        "/subscribed/executor_info/command/value",
        "/launch/task/executor/command/value",
        "/launch_group/executor/command/value",
    ] {
        if let Some(value) = event.pointer_mut(pointer) {
            *value = json!(command);
        }
    }
    event
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::parse;

    const COMMAND: &str = "exec python3 /srv/mesos/captures/tools/executor.py";

    fn read(name: &str) -> Transcript {
        let path = crate::captures().join(format!("{name}.txt"));
        parse(name, &std::fs::read(path).unwrap()).unwrap()
    }

    fn differences(a: &Transcript, b: &Transcript) -> Vec<Difference> {
        compare(a, b, COMMAND, &mut Names::default())
    }

    #[test]
    fn every_recorded_executor_is_as_itself() {
        let files = std::fs::read_dir(crate::captures()).unwrap();
        let names = files.map(|file| file.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned());
        let names: Vec<String> = names.filter(|name| name.ends_with(".executor_wire")).collect();
        assert!(names.len() >= 9, "{names:?}");
        for name in names {
            let side = read(&name);
            assert_eq!(differences(&side, &side), [], "{name}");
            assert!(!Side::of(&side).environment.is_empty(), "{name}");
        }
    }

    #[test]
    fn a_lost_event_an_altered_answer_and_another_environment_are_seen() {
        let side = read("12_executor_probe.probe.executor_wire");
        for at in 0..side.entries.len() {
            let mut other = side.clone();
            match &mut other.entries[at].what {
                What::Head(head) => head.status += 1,
                What::Body(body) => body.push('!'),
                What::Record(record) => record["type"] = json!("ERROR"),
                What::Note(note) if note.starts_with("environment") => note.push_str("\nHOME=/root"),
                _ => continue,
            }
            assert!(!differences(&side, &other).is_empty(), "{}", side.entries[at].what);
        }
        let mut other = side.clone();
        let lost = |entry: &crate::model::Entry| matches!(&entry.what, What::Record(r) if r["type"] == "ACKNOWLEDGED");
        other.entries.remove(side.entries.iter().position(lost).unwrap());
        assert!(!differences(&side, &other).is_empty());
    }

    #[test]
    fn tasks_of_one_executor_pass_each_other() {
        let side = read("09_custom_executor.ex09.executor_wire");
        let of = |entry: &crate::model::Entry, task: &str| matches!(&entry.what, What::Sent(r) if r.body.contains(task) && r.body.contains("STARTING"));
        let mut other = side.clone();
        let first = side.entries.iter().position(|entry| of(entry, "c-20")).unwrap();
        let second = side.entries.iter().position(|entry| of(entry, "c-21")).unwrap();
        other.entries.swap(first, second);
        assert_eq!(differences(&side, &other), []);
    }
}
