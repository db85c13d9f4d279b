//! As much of etcd's wire as tells who writes what: field numbers as in etcd's `rpc.proto`.

use prost::Message;
use serde_json::Value;

use super::{Asked, Outcome, WrittenKey};

/// Paths of the calls that write keys.
const TXN: &str = "/etcdserverpb.KV/Txn";
const PUT: &str = "/etcdserverpb.KV/Put";
const DELETE: &str = "/etcdserverpb.KV/DeleteRange";

/// The key whose create revision is the fence.
const LEADER: &[u8] = b"/overlord/leader";

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct Txn {
    #[prost(message, repeated, tag = "1")]
    pub(super) compare: Vec<Compare>,
    #[prost(message, repeated, tag = "2")]
    pub(super) success: Vec<Op>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct Compare {
    /// 0 is "equal".
    #[prost(int32, tag = "1")]
    pub(super) result: i32,
    /// 1 is "the create revision".
    #[prost(int32, tag = "2")]
    pub(super) target: i32,
    #[prost(bytes = "vec", tag = "3")]
    pub(super) key: Vec<u8>,
    #[prost(int64, tag = "5")]
    pub(super) create_revision: i64,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct Op {
    #[prost(message, optional, tag = "2")]
    pub(super) put: Option<Put>,
    #[prost(message, optional, tag = "3")]
    pub(super) delete: Option<Delete>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct Put {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) value: Vec<u8>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct Delete {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) range_end: Vec<u8>,
}

/// Answers to all three begin with the header; a transaction's says whether its compares held.
#[derive(Clone, PartialEq, Eq, Message)]
struct Answer {
    #[prost(message, optional, tag = "1")]
    header: Option<Header>,
    #[prost(bool, tag = "2")]
    succeeded: bool,
}

/// The same of a delete, whose second field is a number.
#[derive(Clone, PartialEq, Eq, Message)]
struct Plain {
    #[prost(message, optional, tag = "1")]
    header: Option<Header>,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct Header {
    #[prost(int64, tag = "3")]
    revision: i64,
}

/// Whether a call writes keys.
pub(super) fn writes(path: &str) -> bool {
    [TXN, PUT, DELETE].contains(&path)
}

/// The message of a unary call: a gRPC frame has five bytes before it, the first says whether it is compressed.
fn message(body: &[u8]) -> Option<&[u8]> {
    let (head, rest) = body.split_at_checked(5)?;
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
    if head[0] == 0 { rest.get(..length) } else { None }
}

/// What a call that writes asks for. `None`: it writes nothing, or cannot be read.
pub(super) fn asked(path: &str, body: &[u8]) -> Option<Asked> {
    let message = message(body)?;
    let (fence, keys) = match path {
        PUT => (None, vec![put(&Put::decode(message).ok()?)]),
        DELETE => (None, vec![delete(&Delete::decode(message).ok()?)]),
        _ => {
            let txn = Txn::decode(message).ok()?;
            let fence = txn.compare.iter().find(|compare| {
                // Zero asks that nobody leads: no fence.
                compare.key == LEADER
                    && compare.target == 1
                    && compare.result == 0
                    && compare.create_revision > 0
            });
            let keys = txn.success.iter().filter_map(|op| match op {
                Op { put: Some(own), .. } => Some(put(own)),
                Op { delete: Some(own), .. } => Some(delete(own)),
                Op { .. } => None,
            });
            (fence.map(|fence| fence.create_revision), keys.collect())
        }
    };
    (!keys.is_empty()).then_some(Asked::Write { fence, keys })
}

fn put(put: &Put) -> WrittenKey {
    let key = String::from_utf8_lossy(&put.key).into_owned();
    let value = || serde_json::from_slice::<Value>(&put.value).ok();
    let task = if key.ends_with("/info") { value() } else { None };
    let task = task.and_then(|info| Some(info["mesosTaskId"].as_str()?.to_owned()));
    WrittenKey { key, range: false, task }
}

fn delete(delete: &Delete) -> WrittenKey {
    let key = String::from_utf8_lossy(&delete.key).into_owned();
    WrittenKey { key, range: !delete.range_end.is_empty(), task: None }
}

/// What etcd's answer says. An answer without a message is an error, which may leave open what was done.
pub(super) fn outcome(path: &str, body: &[u8]) -> Outcome {
    let Some(message) = message(body) else { return Outcome::Open };
    let (header, done) = if path == TXN {
        let Ok(answer) = Answer::decode(message) else { return Outcome::Open };
        (answer.header, answer.succeeded)
    } else {
        let Ok(answer) = Plain::decode(message) else { return Outcome::Open };
        (answer.header, true)
    };
    header.map_or(Outcome::Open, |header| Outcome::Etcd { done, revision: header.revision })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(message: &impl Message) -> Vec<u8> {
        let bytes = message.encode_to_vec();
        [&[0][..], &(bytes.len() as u32).to_be_bytes(), &bytes].concat()
    }

    fn op(key: &str, value: &str) -> Op {
        Op { put: Some(Put { key: key.into(), value: value.into() }), delete: None }
    }

    #[test]
    fn a_transaction_tells_its_fence_its_keys_and_the_tasks_it_records() {
        let fence = Compare { result: 0, target: 1, key: LEADER.to_vec(), create_revision: 7 };
        let success =
            vec![op("/overlord/clusters/a/instances/x/info", "{\"mesosTaskId\":\"u.0.0.1\"}"), op("b", "")];
        let body = framed(&Txn { compare: vec![fence], success });
        let Some(Asked::Write { fence, keys }) = asked(TXN, &body) else { panic!("{body:?}") };
        assert_eq!(fence, Some(7));
        assert_eq!(keys[0].task.as_deref(), Some("u.0.0.1"));
        assert_eq!((keys[1].key.as_str(), keys[1].range), ("b", false));
        // Nothing written: nothing to tell.
        assert_eq!(asked(TXN, &framed(&Txn::default())), None);
        assert_eq!(asked(TXN, &[0, 0, 0, 0, 9, 1]), None, "a message cut short");
        let range = Delete { key: b"a/".to_vec(), range_end: b"a0".to_vec() };
        let Some(Asked::Write { fence, keys }) = asked(DELETE, &framed(&range)) else { panic!() };
        assert!(fence.is_none() && keys[0].range);
    }

    #[test]
    fn a_compare_with_nothing_is_no_fence() {
        let absent = Compare { result: 0, target: 1, key: LEADER.to_vec(), create_revision: 0 };
        let body = framed(&Txn { compare: vec![absent], success: vec![op("/overlord/leader", "{}")] });
        assert!(matches!(asked(TXN, &body), Some(Asked::Write { fence: None, .. })));
    }

    #[test]
    fn an_answer_tells_the_revision_and_whether_it_was_written() {
        let header = || Some(Header { revision: 9 });
        let refused = framed(&Answer { header: header(), succeeded: false });
        assert_eq!(outcome(TXN, &refused), Outcome::Etcd { done: false, revision: 9 });
        assert_eq!(
            outcome(PUT, &framed(&Plain { header: header() })),
            Outcome::Etcd { done: true, revision: 9 }
        );
        assert_eq!(outcome(TXN, b""), Outcome::Open);
    }
}
