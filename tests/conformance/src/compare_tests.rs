//! The comparator is worth what it finds: every recording is like itself, and unlike itself with one thing changed.

use serde_json::{Value, json};

use crate::{
    captures,
    compare::{Rules, compare},
    model::{Entry, Transcript, What},
    names::Names,
    parse::parse,
    unify::Difference,
};

fn capture(name: &str) -> Transcript {
    parse(name, &std::fs::read(captures().join(format!("{name}.txt"))).unwrap()).unwrap()
}

fn differences(a: &Transcript, b: &Transcript) -> Vec<Difference> {
    compare(a, b, Names::default(), &Rules::default())
}

/// Changes the first record that the function changes.
fn change(transcript: &Transcript, change: impl Fn(&mut Value) -> bool) -> Transcript {
    let mut changed = transcript.clone();
    let hit = changed.entries.iter_mut().any(|entry| match &mut entry.what {
        What::Record(record) => change(record),
        _ => false,
    });
    assert!(hit, "nothing was changed");
    changed
}

fn updates(transcript: &Transcript) -> Vec<usize> {
    let all = transcript.entries.iter().enumerate();
    all.filter(|(_, entry)| entry.event() == Some("UPDATE")).map(|(at, _)| at).collect()
}

fn assert_caught(name: &str, transcript: &Transcript, changed: &Transcript) {
    let found = differences(transcript, changed);
    assert!(!found.is_empty(), "{name}: the change was not found");
}

#[test]
fn every_recording_is_like_itself() {
    for file in std::fs::read_dir(captures()).unwrap() {
        let name = file.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned();
        let transcript = capture(&name);
        assert_eq!(differences(&transcript, &transcript), [], "{name}");
    }
}

#[test]
fn other_ids_times_and_amounts_are_the_same_thing() {
    let name = "05_launch_command";
    let text = String::from_utf8(std::fs::read(captures().join(format!("{name}.txt"))).unwrap()).unwrap();
    let other = text
        .replace("a5031e63-d60c-4f63-835e-6c72ba9877f7", "b5031e63-d60c-4f63-835e-6c72ba9877f8")
        .replace("127.0.0.1:5150", "127.0.0.9:6150")
        .replace("\"value\":8128.0}", "\"value\":4064.0}")
        .replace("\"timestamp\":17", "\"timestamp\":18");
    assert_ne!(text, other);
    let other = parse(name, other.as_bytes()).unwrap();
    assert_eq!(differences(&capture(name), &other), []);
}

#[test]
fn a_missing_field_a_new_one_and_another_text_are_found() {
    for name in ["05_launch_command", "14_reconcile", "18_accept_invalid"] {
        let original = capture(name);
        let in_update = |edit: fn(&mut serde_json::Map<String, Value>) -> bool| {
            change(&original, |record| {
                record.pointer_mut("/update/status").and_then(Value::as_object_mut).is_some_and(edit)
            })
        };
        for changed in [
            in_update(|status| status.remove("agent_id").is_some()),
            in_update(|status| status.remove("source").is_some()),
            in_update(|status| status.remove("uuid").is_some()),
            in_update(|status| status.remove("message").is_some()),
            in_update(|status| {
                status.insert("reason".to_owned(), json!("REASON_OTHER")).is_none_or(|r| r != "REASON_OTHER")
            }),
            in_update(|status| status.insert("state".to_owned(), json!("TASK_ODD")).is_some()),
            in_update(|status| {
                status.get_mut("message").is_some_and(|m| {
                    *m = json!("another");
                    true
                })
            }),
            in_update(|status| {
                status.get_mut("timestamp").is_some_and(|t| {
                    *t = json!("a text");
                    true
                })
            }),
        ] {
            assert_caught(name, &original, &changed);
        }
    }
}

#[test]
fn a_uuid_where_there_was_none_is_found() {
    let original = capture("14_reconcile");
    let changed = change(&original, |record| {
        let status = record.pointer_mut("/update/status").and_then(Value::as_object_mut);
        status.filter(|s| !s.contains_key("uuid")).is_some_and(|s| {
            s.insert("uuid".to_owned(), json!("Lnr5mYh4SKqdHxwPxOJttg=="));
            true
        })
    });
    assert_caught("14", &original, &changed);
}

#[test]
fn a_retry_under_another_uuid_is_found() {
    let original = capture("06_no_ack_retry");
    let mut changed = original.clone();
    let second = updates(&changed)[1];
    let What::Record(record) = &mut changed.entries[second].what else { panic!("no record") };
    record["update"]["status"]["uuid"] = json!("5G56sXnJRuSWqgcIlQpjZg==");
    assert_caught("06", &original, &changed);
}

#[test]
fn the_same_ids_swapped_between_two_agents_are_found() {
    let original = capture("18_accept_invalid");
    let mut changed = original.clone();
    let update =
        changed.entries.iter_mut().find(|e| e.what.to_string().contains("REASON_INVALID_OFFERS")).unwrap();
    let What::Record(record) = &mut update.what else { panic!("no record") };
    let agent = record.pointer_mut("/update/status/agent_id/value").unwrap();
    let other = if agent.as_str().unwrap().ends_with("S0") { "S1" } else { "S0" };
    *agent = json!(format!("{}{other}", &agent.as_str().unwrap()[..37]));
    assert_caught("18", &original, &changed);
}

#[test]
fn a_lost_a_repeated_and_a_swapped_event_are_found() {
    for name in ["05_launch_command", "10_executor_failures", "41_agent_loss", "14_reconcile"] {
        let original = capture(name);
        let at = updates(&original);
        let mut lost = original.clone();
        lost.entries.remove(at[2]);
        assert_caught(name, &original, &lost);
        let mut repeated = original.clone();
        let again = repeated.entries[at[2]].clone();
        repeated.entries.insert(at[2], again);
        assert_caught(name, &original, &repeated);
        let mut swapped = original.clone();
        let pair =
            at.windows(2).find(|w| task(&original.entries[w[0]]) == task(&original.entries[w[1]])).unwrap();
        swapped.entries.swap(pair[0], pair[1]);
        assert_caught(name, &original, &swapped);
    }
}

fn task(entry: &Entry) -> Option<String> {
    let What::Record(record) = &entry.what else { return None };
    crate::model::updated_task(record).map(str::to_owned)
}

#[test]
fn a_failure_after_its_task_failed_is_found() {
    let original = capture("10_executor_failures");
    let failure = original.entries.iter().position(|e| e.event() == Some("FAILURE")).unwrap();
    let update =
        failure + original.entries[failure..].iter().position(|e| e.event() == Some("UPDATE")).unwrap();
    let mut swapped = original.clone();
    swapped.entries.swap(failure, update);
    assert_caught("10", &original, &swapped);
}

#[test]
fn an_end_of_stream_that_does_not_come_or_comes_unexpectedly_is_found() {
    let original = capture("03_resubscribe_failover");
    let end = original.entries.iter().position(|e| e.what == What::End).unwrap();
    let mut without = original.clone();
    without.entries.remove(end);
    without.entries.retain(|e| e.what != What::Eof);
    assert_caught("03", &original, &without);
    let mut more = capture("14_reconcile");
    let original = more.clone();
    more.entries
        .insert(40, Entry { what: What::End, connection: "s1".to_owned(), ..more.entries[40].clone() });
    assert_caught("14", &original, &more);
}

#[test]
fn another_status_header_or_body_of_a_response_is_found() {
    let original = capture("20_http_errors");
    for (from, to) in [
        ("Allow: POST", "Allow: GET"),
        ("Content-Type: text/plain; charset=utf-8", "Content-Type: text/plain"),
        ("HTTP/1.1 415 Unsupported Media Type", "HTTP/1.1 400 Bad Request"),
        ("Framework is not subscribed\n", "Framework is not Subscribed\n"),
        ("Mesos-Stream-Id: 6091c047", "X-Stream-Id: 6091c047"),
    ] {
        let text = String::from_utf8(std::fs::read(captures().join("20_http_errors.txt")).unwrap()).unwrap();
        assert!(text.contains(from), "{from}");
        let changed = parse("20_http_errors", text.replacen(from, to, 1).as_bytes()).unwrap();
        assert_caught(from, &original, &changed);
    }
}

#[test]
fn offers_of_another_make_are_found() {
    let original = capture("17_reserve");
    let in_offer = |edit: fn(&mut Value) -> bool| {
        change(&original, |record| record.pointer_mut("/offers/offers/0").is_some_and(edit))
    };
    let every_reservation = {
        let mut changed = original.clone();
        for entry in &mut changed.entries {
            if let What::Record(record) = &mut entry.what {
                let offers = record.pointer_mut("/offers/offers").and_then(Value::as_array_mut);
                for resource in
                    offers.into_iter().flatten().filter_map(|o| o["resources"].as_array_mut()).flatten()
                {
                    resource.as_object_mut().map(|fields| fields.remove("reservations"));
                }
            }
        }
        changed
    };
    for changed in [
        in_offer(|offer| offer.as_object_mut().is_some_and(|o| o.remove("allocation_info").is_some())),
        in_offer(|offer| {
            offer["resources"][0].as_object_mut().is_some_and(|r| r.remove("allocation_info").is_some())
        }),
        in_offer(|offer| {
            offer["url"]["address"]["port"] = json!("5051");
            true
        }),
        every_reservation,
    ] {
        assert_caught("17", &original, &changed);
    }
}

#[test]
fn a_stream_without_a_heartbeat_or_without_offers_is_found() {
    for kind in ["HEARTBEAT", "OFFERS"] {
        let original = capture("01_subscribe_new");
        let mut changed = original.clone();
        changed.entries.retain(|entry| entry.event() != Some(kind));
        assert_caught(kind, &original, &changed);
    }
}
