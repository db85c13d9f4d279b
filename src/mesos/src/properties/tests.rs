//! The properties, with generated data; and with recordings of real masters, damaged.

use std::sync::LazyLock;

use proptest::{prelude::*, sample::Index};

use super::*;
use crate::testing::{fixture, fixture_body};

/// Every record of some recordings.
static RECORDS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    [
        "01_subscribe_new.s1.bin",
        "17_reserve.s1.bin",
        "41_agent_loss.s1.bin",
        "49_maintenance.s1.bin",
        "13_launch_group.s1.bin",
    ]
    .into_iter()
    .flat_map(|name| {
        let mut body = BytesMut::from(&fixture_body(name)[..]);
        let mut codec = RecordIo::default();
        let mut records = Vec::new();
        while let Some(record) = codec.decode(&mut body).unwrap() {
            records.push(record.to_vec());
        }
        records
    })
    .collect()
});

fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let damage = prop::collection::vec((any::<Index>(), any::<u8>(), 0..4_u8), 0..6);
    (any::<Index>(), damage).prop_map(|(record, damage)| {
        let mut bytes = record.get(RECORDS.as_slice()).clone();
        for (place, byte, how) in damage {
            if bytes.is_empty() {
                break;
            }
            let place = place.index(bytes.len());
            match how {
                0 => bytes[place] = byte,
                1 => drop(bytes.remove(place)),
                2 => bytes.insert(place, byte),
                _ => bytes.truncate(place),
            }
        }
        bytes
    })
}

/// JSON that is right, with values that are not.
fn odd_event() -> impl Strategy<Value = Vec<u8>> {
    let odd = prop_oneof![
        Just("null".to_owned()),
        Just("{}".to_owned()),
        Just("[]".to_owned()),
        Just("[{}]".to_owned()),
        Just("1e999".to_owned()),
        Just("-1".to_owned()),
        Just("18446744073709551615".to_owned()),
        Just("\"\\ud800\"".to_owned()),
        Just("{\"value\":{\"value\":1}}".to_owned()),
        (0..300_usize).prop_map(|depth| "[".repeat(depth) + &"]".repeat(depth)),
        any::<f64>().prop_map(|number| format!("{number:?}")),
    ];
    let field = prop::sample::select(vec![
        "\"type\":\"OFFERS\"",
        "\"name\":\"cpus\"",
        "\"value\":8.0",
        "\"begin\":20000",
        "\"end\":29999",
        "\"role\":\"*\"",
        "\"port\":5152",
        "\"state\":\"TASK_RUNNING\"",
        "\"type\":\"UPDATE\"",
        "\"scheme\":\"http\"",
    ]);
    (any::<Index>(), field, odd).prop_map(|(record, field, odd)| {
        let record: &Vec<u8> = record.get(RECORDS.as_slice());
        let text = String::from_utf8_lossy(record).into_owned();
        let name = field.split_once(':').map_or(field, |(name, _)| name);
        text.replace(field, &format!("{name}:{odd}")).into_bytes()
    })
}

proptest! {
    #[test]
    fn cuts_and_garbage_never_matter_to_the_framing(
        data in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..300),
            "([0-9]{1,3}\n[a-z]{0,40}){0,6}".prop_map(String::into_bytes),
            "[0-9]{15,25}\n?x{0,30}".prop_map(String::into_bytes),
            damaged().prop_map(|record| crate::recordio::encode(&record).to_vec()),
        ],
        cuts in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        record_io(&data, &cuts);
    }

    #[test]
    fn damaged_events_are_read_or_refused(data in damaged()) {
        event(&data);
    }

    #[test]
    fn events_with_odd_values_are_read_or_refused(data in odd_event()) {
        event(&data);
    }

    #[test]
    fn bytes_are_no_events(data in prop::collection::vec(any::<u8>(), 0..200)) {
        event(&data);
    }

    #[test]
    fn any_environment_is_read_or_refused(
        vars in prop::collection::vec(
            "(MESOS_(AGENT_ENDPOINT|FRAMEWORK_ID|EXECUTOR_ID|CHECKPOINT|RECOVERY_TIMEOUT|SUBSCRIPTION_BACKOFF_MAX|EXECUTOR_SHUTDOWN_GRACE_PERIOD)|LIBPROCESS_SSL_ENABLED)=(-?[0-9.e]{0,25}(ns|us|ms|secs|mins|hrs|days|weeks|x)?|1|true|[a-z0-9.]{1,9}:[0-9]{1,7})",
            0..12,
        ),
    ) {
        executor_env(vars.join("\n").as_bytes());
    }
}

#[test]
fn recorded_events_keep_all_that_they_say_when_written_again() {
    for record in RECORDS.iter() {
        let read: scheduler::Event = serde_json::from_slice(record).unwrap();
        let before: serde_json::Value = serde_json::from_slice(record).unwrap();
        let after = serde_json::to_value(&read).unwrap();
        assert_eq!(after, before);
    }
}

#[test]
fn nesting_without_end_is_neither_followed_nor_fatal_to_the_stream() {
    for deep in ["[", "{\"a\":"] {
        let depth = 1 << 20;
        let mut text = format!(
            "{{\"type\":\"OFFERS\",\"offers\":{{\"offers\":[{{\"resources\":[{{\"new\":{}",
            deep.repeat(depth)
        );
        event(text.as_bytes());
        text.push('1');
        text.push_str(&if deep == "[" { "]".repeat(depth) } else { "}".repeat(depth) });
        text.push_str("}]}]}}");
        let read = parse_event::<scheduler::Event>("test", text.as_bytes());
        assert_eq!(read, Ok(None), "an event that cannot be read costs itself only");
    }
}

#[test]
fn a_length_that_is_a_lie_reserves_no_memory() {
    let mut codec = RecordIo::default();
    let mut buffer = BytesMut::from(&b"16000000\nx"[..]);
    assert_eq!(codec.decode(&mut buffer).unwrap(), None);
    assert!(buffer.capacity() < 100_000, "{} bytes are reserved", buffer.capacity());
}

#[test]
fn heads_of_recordings_are_no_records() {
    record_io(&fixture("01_subscribe_new.s1.bin"), &[7, 1, 250]);
}
