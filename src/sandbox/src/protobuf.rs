//! The other content type of the v1 API: protobuf in place of JSON, translated by the messages' descriptions.
//! JSON is what the rest of the model speaks.

use std::sync::LazyLock;

use bytes::Bytes;
use prost::Message as _;
use prost_reflect::{
    DescriptorPool, DeserializeOptions, DynamicMessage, Kind as FieldKind, MessageDescriptor,
    ReflectMessage as _, SerializeOptions, Value as FieldValue,
};
use serde_json::Value;

/// Which message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `mesos.v1.scheduler.Call`
    SchedulerCall,
    /// `mesos.v1.scheduler.Event`
    SchedulerEvent,
    /// `mesos.v1.executor.Call`
    ExecutorCall,
    /// `mesos.v1.executor.Event`
    ExecutorEvent,
}

/// Why a message cannot be translated.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// No such message.
    #[error("the message is not described")]
    Undescribed,
    /// Bytes that are no such message.
    #[error("not a protobuf message: {0}")]
    Bytes(#[source] prost::DecodeError),
    /// JSON that is no such message.
    #[error("not a message: {0}")]
    Json(#[source] serde_json::Error),
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::SchedulerCall => "mesos.v1.scheduler.Call",
            Self::SchedulerEvent => "mesos.v1.scheduler.Event",
            Self::ExecutorCall => "mesos.v1.executor.Call",
            Self::ExecutorEvent => "mesos.v1.executor.Event",
        }
    }

    fn descriptor(self) -> Result<MessageDescriptor, Error> {
        POOL.get_message_by_name(self.name()).ok_or(Error::Undescribed)
    }
}

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    // An empty pool describes nothing, and every use of it says so; a test reads what is built in.
    DescriptorPool::decode(include_bytes!(concat!(env!("OUT_DIR"), "/mesos.bin")).as_slice())
        .unwrap_or_default()
});

/// A message's description.
pub(crate) fn described(name: &str) -> Option<MessageDescriptor> {
    POOL.get_message_by_name(name)
}

/// A message as the JSON that Mesos would take for it: fields by their own names, numbers as numbers. As in Mesos,
/// a name that an enum does not have is as if the field were not there.
pub(crate) fn to_json(kind: Kind, bytes: Bytes) -> Result<Value, Error> {
    let mut message = DynamicMessage::decode(kind.descriptor()?, bytes).map_err(Error::Bytes)?;
    drop_unknown_names(&mut message);
    let options = SerializeOptions::new().stringify_64_bit_integers(false).use_proto_field_name(true);
    message.serialize_with_options(serde_json::value::Serializer, &options).map_err(Error::Json)
}

/// The same the other way round; fields that the message does not have are left out.
pub(crate) fn from_json(kind: Kind, value: &Value) -> Result<Vec<u8>, Error> {
    let options = DeserializeOptions::new().deny_unknown_fields(false);
    let message =
        DynamicMessage::deserialize_with_options(kind.descriptor()?, value, &options).map_err(Error::Json)?;
    Ok(message.encode_to_vec())
}

fn drop_unknown_names(message: &mut DynamicMessage) {
    let fields: Vec<_> = message.descriptor().fields().filter(|field| message.has_field(field)).collect();
    for field in fields {
        match field.kind() {
            FieldKind::Enum(described) => {
                let known = |value: &FieldValue| {
                    value.as_enum_number().is_some_and(|number| described.get_value(number).is_some())
                };
                let whole = match message.get_field_mut(&field) {
                    FieldValue::List(values) => {
                        values.retain(known);
                        true
                    }
                    value => known(value),
                };
                if !whole {
                    message.clear_field(&field);
                }
            }
            FieldKind::Message(_) => match message.get_field_mut(&field) {
                FieldValue::List(values) => {
                    for value in values {
                        if let Some(inner) = value.as_message_mut() {
                            drop_unknown_names(inner);
                        }
                    }
                }
                value => {
                    if let Some(inner) = value.as_message_mut() {
                        drop_unknown_names(inner);
                    }
                }
            },
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What a Mesos 1.11.1 master sent to a client that asked for protobuf.
    const STREAM: &[u8] = include_bytes!("../../../tests/fixtures/mesos/22_protobuf_accept.s1.bin");

    /// The records in the chunks of an HTTP response.
    fn records() -> Vec<Bytes> {
        let start = STREAM.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
        let mut rest = &STREAM[start..];
        let mut records = Vec::new();
        while let Some(end) = rest.windows(2).position(|two| two == b"\r\n") {
            let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
            if size == 0 || rest.len() < end + 2 + size {
                break;
            }
            let chunk = &rest[end + 2..end + 2 + size];
            let line = chunk.iter().position(|byte| *byte == b'\n').unwrap();
            let length: usize = std::str::from_utf8(&chunk[..line]).unwrap().parse().unwrap();
            assert_eq!(chunk.len(), line + 1 + length);
            records.push(Bytes::copy_from_slice(&chunk[line + 1..]));
            rest = &rest[end + 2 + size + 2..];
        }
        records
    }

    #[test]
    fn what_a_master_sends_reads_as_json_and_comes_back_byte_by_byte() {
        let records = records();
        assert!(records.len() >= 3, "{}", records.len());
        let mut kinds = Vec::new();
        for record in records {
            let value = to_json(Kind::SchedulerEvent, record.clone()).unwrap();
            let event: overlord_mesos::v1::scheduler::Event = serde_json::from_value(value.clone()).unwrap();
            kinds.push(event.kind.to_string());
            assert_eq!(from_json(Kind::SchedulerEvent, &value).unwrap(), record, "{value}");
        }
        assert_eq!(kinds[..3], ["SUBSCRIBED", "HEARTBEAT", "OFFERS"]);
    }

    #[test]
    fn a_name_that_an_enum_does_not_have_is_left_out() {
        let call = json!({"framework_id": {"value": "f"}, "type": "REVIVE", "bogus": 1});
        let bytes = from_json(Kind::SchedulerCall, &call).unwrap();
        let back = to_json(Kind::SchedulerCall, bytes.into()).unwrap();
        assert_eq!(back, json!({"framework_id": {"value": "f"}, "type": "REVIVE"}));
        // Field 2, type, is 4711.
        let unknown = to_json(Kind::SchedulerCall, Bytes::from_static(&[0x10, 0xe7, 0x24])).unwrap();
        assert_eq!(unknown, json!({}));
    }

    #[test]
    fn bytes_that_are_no_message_are_refused() {
        let cut = to_json(Kind::ExecutorCall, Bytes::from_static(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f]));
        assert!(matches!(cut, Err(Error::Bytes(_))), "{cut:?}");
    }
}
