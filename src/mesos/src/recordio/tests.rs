//! The decoder against tables, garbage and recorded bytes.

use proptest::prelude::*;
use tokio_util::codec::Decoder as _;

use super::*;
use crate::{
    testing::fixture_body,
    v1::{
        TaskState,
        scheduler::{Event, EventType},
    },
};

fn decode_all(codec: &mut RecordIo, chunks: &[&[u8]]) -> Result<Vec<Bytes>, RecordIoError> {
    let mut buffer = BytesMut::new();
    let mut records = Vec::new();
    for chunk in chunks {
        buffer.extend_from_slice(chunk);
        while let Some(record) = codec.decode(&mut buffer)? {
            records.push(record);
        }
    }
    while let Some(record) = codec.decode_eof(&mut buffer)? {
        records.push(record);
    }
    Ok(records)
}

fn events(fixture: &str) -> Vec<Event> {
    let body = fixture_body(fixture);
    let records = decode_all(&mut RecordIo::default(), &[&body]).unwrap();
    records.iter().map(|record| serde_json::from_slice(record).unwrap()).collect()
}

fn kinds(events: &[Event]) -> Vec<EventType> {
    events.iter().map(|event| event.kind).collect()
}

fn states(events: &[Event], task: &str) -> Vec<TaskState> {
    let statuses = events.iter().filter_map(|event| event.update.as_ref()).map(|update| &update.status);
    statuses.filter(|status| status.task_id.value.starts_with(task)).map(|status| status.state).collect()
}

#[test]
fn a_recorded_subscription_is_read() {
    let events = events("01_subscribe_new.s1.bin");
    assert_eq!(
        kinds(&events),
        [
            EventType::Subscribed,
            EventType::Heartbeat,
            EventType::Offers,
            EventType::Heartbeat,
            EventType::Heartbeat
        ]
    );
    let subscribed = events[0].subscribed.as_ref().unwrap();
    assert_eq!(subscribed.framework_id.as_str(), "a5031e63-d60c-4f63-835e-6c72ba9877f7-0000");
    assert_eq!(subscribed.heartbeat_interval_seconds, Some(15.0));
    let offers = &events[2].offers.as_ref().unwrap().offers;
    assert_eq!(offers.len(), 2);
    assert_eq!(crate::offers::role_of(&offers[0]), "r2");
    assert_eq!(offers[0].url.as_ref().unwrap().address.ip.as_deref(), Some("127.0.0.1"));
    assert_eq!(offers[0].attributes[0].text.as_ref().unwrap().value, "r1");
    let totals = &crate::resources::totals(&offers[0].resources)["r2"];
    assert_eq!((totals.cpus, totals.mem, totals.disk), (8.0, 8192.0, 20000.0));
    assert_eq!((totals.ports[0].begin, totals.ports[0].end), (20000, 29999));
}

#[test]
fn a_recorded_refusal_is_one_error() {
    let events = events("02_subscribe_minimal_disconnect.s2.bin");
    assert_eq!(kinds(&events), [EventType::Error]);
    assert_eq!(events[0].error.as_ref().unwrap().message, "Framework has been removed");
}

#[test]
fn recorded_command_tasks_are_read() {
    let events = events("05_launch_command.s1.bin");
    let states = states(&events, "");
    for state in [TaskState::Starting, TaskState::Running, TaskState::Finished, TaskState::Failed] {
        assert!(states.contains(&state), "{state}");
    }
}

#[test]
fn recorded_custom_executor_updates_carry_their_payload() {
    let events = events("09_custom_executor.s1.bin");
    assert_eq!(states(&events, "c-20"), [TaskState::Starting, TaskState::Running, TaskState::Finished],);
    let running = events.iter().filter_map(|event| event.update.as_ref()).map(|update| &update.status);
    let running = running.filter(|status| status.state == TaskState::Running).collect::<Vec<_>>();
    assert_eq!(running[0].data.as_deref(), Some("cGF5bG9hZA=="));
    assert!(running[0].uuid.is_some());
    let message = events.iter().find_map(|event| event.message.as_ref()).unwrap();
    assert_eq!((message.executor_id.as_str(), message.data.as_str()), ("ex09", "ZWNobzpoZWxsbw=="));
    let failure = events.iter().find_map(|event| event.failure.as_ref()).unwrap();
    assert_eq!(failure.status, Some(0));
    let offered = events.iter().filter_map(|event| event.offers.as_ref()).flat_map(|offers| &offers.offers);
    assert!(offered.clone().any(|offer| offer.executor_ids.iter().any(|id| id.as_str() == "ex09")));
}

#[test]
fn recorded_reconciliation_answers_have_no_uuid() {
    let events = events("14_reconcile.s1.bin");
    let statuses = events.iter().filter_map(|event| event.update.as_ref()).map(|update| &update.status);
    let answers = statuses
        .filter(|status| status.reason.as_deref() == Some("REASON_RECONCILIATION"))
        .collect::<Vec<_>>();
    assert!(answers.len() > 3);
    assert!(answers.iter().all(|status| status.uuid.is_none()));
    let states: Vec<_> = answers.iter().map(|status| status.state).collect();
    for state in [TaskState::Running, TaskState::Gone, TaskState::NotKnown] {
        assert!(states.contains(&state), "{state}");
    }
}

#[test]
fn recorded_reservations_and_volumes_survive_a_round_trip() {
    let events = events("17_reserve.s1.bin");
    let mut volumes = 0;
    for offer in events.iter().filter_map(|event| event.offers.as_ref()).flat_map(|offers| &offers.offers) {
        for resource in &offer.resources {
            volumes += usize::from(!crate::resources::is_plain(resource));
            let written = serde_json::to_value(resource).unwrap();
            let read: crate::v1::Resource = serde_json::from_value(written).unwrap();
            assert_eq!(&read, resource);
        }
    }
    assert!(volumes > 0, "the recording holds a persistent volume");
}

#[test]
fn recorded_bad_accepts_are_answered_by_updates_without_uuid() {
    let events = events("18_accept_invalid.s1.bin");
    let statuses: Vec<_> =
        events.iter().filter_map(|event| event.update.as_ref()).map(|update| &update.status).collect();
    for (state, reason) in
        [(TaskState::Dropped, "REASON_INVALID_OFFERS"), (TaskState::Error, "REASON_TASK_INVALID")]
    {
        let status = statuses.iter().find(|status| status.state == state).unwrap();
        assert_eq!(status.reason.as_deref(), Some(reason));
        assert_eq!(status.uuid, None);
    }
}

#[test]
fn a_recorded_agent_loss_and_return_is_read() {
    let events = events("41_agent_loss.s1.bin");
    assert!(kinds(&events).contains(&EventType::Rescind));
    let statuses = events.iter().filter_map(|event| event.update.as_ref()).map(|update| &update.status);
    let unreachable = statuses.clone().find(|status| status.state == TaskState::Unreachable).unwrap();
    assert!(unreachable.unreachable_time.is_some());
    let back = statuses.clone().find(|status| status.reason.as_deref() == Some("REASON_AGENT_REREGISTERED"));
    assert_eq!(back.unwrap().state, TaskState::Running);
    let failure = events.iter().find_map(|event| event.failure.as_ref()).unwrap();
    assert!(failure.agent_id.is_some() && failure.executor_id.is_none());
}

#[test]
fn a_recorded_agent_restart_repeats_an_update_with_one_uuid() {
    let events = events("42_agent_restart.s1.bin");
    let finished: Vec<_> = events
        .iter()
        .filter_map(|event| event.update.as_ref())
        .filter(|update| update.status.state == TaskState::Finished)
        .map(|update| update.status.uuid.clone())
        .collect();
    assert_eq!(finished.len(), 2);
    assert_eq!(finished[0], finished[1]);
}

#[test]
fn what_is_written_can_be_read() {
    let mut buffer = BytesMut::new();
    let mut codec = RecordIo::new(16);
    for record in [&b"hello"[..], b"", b"{}"] {
        codec.encode(record, &mut buffer).unwrap();
        assert!(buffer.ends_with(&encode(record)));
    }
    assert_eq!(&buffer[..], b"5\nhello0\n2\n{}");
    let records = decode_all(&mut codec, &[&buffer]).unwrap();
    assert_eq!(records, [&b"hello"[..], b"", b"{}"]);
    assert!(codec.encode(&[0; 17], &mut buffer).is_err());
}

#[test]
fn faults_are_named() {
    for (input, expected) in [
        (&b"x\n"[..], "bad record length \"x\\\\n\""),
        (b"\n", "bad record length \"\\\\n\""),
        (b"-1\n", "bad record length \"-1\\\\n\""),
        (b"5 \nhello", "bad record length \"5 \\\\nhello\""),
        (b"99999999999999999999\n", "bad record length \"99999999999999999999\\\\n\""),
        (b"000000000000000000000000001\n", "bad record length \"000000000000000000000\""),
        (b"101\n", "record of 101 bytes exceeds the limit of 100"),
        (b"18446744073709551615\n", "record of 18446744073709551615 bytes exceeds the limit of 100"),
        (b"12", "stream ended within a record: 1 bytes of its length are missing"),
        (b"5\nhel", "stream ended within a record: 2 bytes of its body are missing"),
    ] {
        let error = decode_all(&mut RecordIo::new(100), &[input]).unwrap_err();
        assert_eq!(error.to_string(), expected, "{}", input.escape_ascii());
    }
}

#[test]
fn nothing_is_read_behind_a_fault() {
    let mut codec = RecordIo::new(100);
    let mut buffer = BytesMut::from(&b"oops\n2\n{}"[..]);
    assert!(codec.decode(&mut buffer).is_err());
    assert_eq!(codec.decode(&mut buffer).unwrap(), None);
    assert!(buffer.is_empty());
}

proptest! {
    #[test]
    fn records_survive_any_split(
        records in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..64), 0..8),
        cuts in prop::collection::vec(1..20_usize, 0..40),
    ) {
        let stream: Vec<u8> = records.iter().flat_map(|record| encode(record).to_vec()).collect();
        let mut chunks = Vec::new();
        let mut rest = &stream[..];
        for cut in cuts {
            let (chunk, tail) = rest.split_at(cut.min(rest.len()));
            chunks.push(chunk);
            rest = tail;
        }
        chunks.push(rest);
        let read = decode_all(&mut RecordIo::new(64), &chunks).unwrap();
        prop_assert_eq!(read, records);
    }

    #[test]
    fn garbage_never_panics_and_never_yields_more_than_the_bound(
        chunks in prop::collection::vec("[0-9x\n{}]{0,30}", 0..20),
    ) {
        let mut codec = RecordIo::new(50);
        let mut buffer = BytesMut::new();
        for chunk in &chunks {
            buffer.extend_from_slice(chunk.as_bytes());
            while let Ok(Some(record)) = codec.decode(&mut buffer) {
                prop_assert!(record.len() <= 50);
            }
            prop_assert!(buffer.capacity() < 4096, "buffer grew to {}", buffer.capacity());
        }
        let _ = codec.decode_eof(&mut buffer);
    }

    #[test]
    fn a_claimed_size_allocates_no_more_than_the_bound(length in any::<u64>()) {
        let mut codec = RecordIo::new(1 << 20);
        let mut buffer = BytesMut::from(format!("{length}\nx").as_bytes());
        let _ = codec.decode(&mut buffer);
        prop_assert!(buffer.capacity() <= 2 << 20);
    }
}
