//! Between etcd's messages and the types of the store.

use bytes::Bytes;
use etcd_client::{
    Compare as WireCompare, CompareOp, DeleteOptions, Event, EventType, GetOptions, KeyValue, PutOptions,
    Txn as WireTxn, TxnOp,
};

use crate::{Change, Compare, Entry, Revision, Txn, Write};

/// The first key after all keys with the prefix. `\0` is etcd's word for "no end".
pub(super) fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end;
        }
    }
    vec![0]
}

/// The first key of a prefix: etcd takes no empty key.
pub(super) fn prefix_start(prefix: &[u8]) -> Vec<u8> {
    if prefix.is_empty() { vec![0] } else { prefix.to_vec() }
}

/// The key right after `key`.
pub(super) fn successor(key: &[u8]) -> Vec<u8> {
    let mut next = key.to_vec();
    next.push(0);
    next
}

/// Keys that are no UTF-8 are none of ours; they are shown, but cannot be asked for.
fn key_text(kv: &KeyValue) -> std::sync::Arc<str> {
    String::from_utf8_lossy(kv.key()).into()
}

pub(super) fn entry(kv: KeyValue) -> Entry {
    Entry {
        key: key_text(&kv),
        create_revision: kv.create_revision(),
        mod_revision: kv.mod_revision(),
        lease: kv.lease(),
        value: Bytes::from(kv.into_key_value().1),
    }
}

pub(super) fn change(event: &Event) -> Option<Change> {
    let kv = event.kv()?;
    Some(match event.event_type() {
        EventType::Put => Change::Put(entry(kv.clone())),
        EventType::Delete => Change::Delete { key: key_text(kv), revision: kv.mod_revision() },
    })
}

pub(super) const fn revision_of(change: &Change) -> Revision {
    match change {
        Change::Put(entry) => entry.mod_revision,
        Change::Delete { revision, .. } => *revision,
    }
}

/// A fenced transaction reads the fence key when it fails, to tell whether it was the fence.
pub(super) fn transaction(txn: &Txn) -> WireTxn {
    let fence = txn
        .fence
        .iter()
        .map(|fence| WireCompare::create_revision(fence.key.as_bytes(), CompareOp::Equal, fence.epoch));
    let compares: Vec<_> = fence.chain(txn.compares.iter().map(compare)).collect();
    let writes: Vec<_> = txn.writes.iter().map(write).collect();
    let read_fence: Vec<_> = txn
        .fence
        .iter()
        .map(|fence| TxnOp::get(fence.key.as_bytes(), Some(GetOptions::new().with_keys_only())))
        .collect();
    WireTxn::new().when(compares).and_then(writes).or_else(read_fence)
}

fn compare(compare: &Compare) -> WireCompare {
    match compare {
        Compare::Absent(key) => WireCompare::create_revision(key.as_bytes(), CompareOp::Equal, 0),
        Compare::ModRevision(key, revision) => {
            WireCompare::mod_revision(key.as_bytes(), CompareOp::Equal, *revision)
        }
        Compare::CreateRevision(key, revision) => {
            WireCompare::create_revision(key.as_bytes(), CompareOp::Equal, *revision)
        }
    }
}

fn write(write: &Write) -> TxnOp {
    match write {
        Write::Put { key, value, lease } => {
            TxnOp::put(key.as_bytes(), value.as_ref(), Some(PutOptions::new().with_lease(*lease)))
        }
        Write::Delete(key) => TxnOp::delete(key.as_bytes(), None),
        Write::DeletePrefix(prefix) => TxnOp::delete(
            prefix_start(prefix.as_bytes()),
            Some(DeleteOptions::new().with_range(prefix_end(prefix.as_bytes()))),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_prefix_is_the_first_key_without_it() {
        assert_eq!(prefix_end(b"/a/"), b"/a0");
        assert_eq!(prefix_end(b"a\xff\xff"), b"b");
        assert_eq!(prefix_end(b"\xff"), b"\0");
        assert_eq!(prefix_end(b""), b"\0");
    }
}
