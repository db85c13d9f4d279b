//! Field names of stored values are interfaces: other versions and other programs read them.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test's helper may panic")]

use overlord_api::{
    DeletionMark, Endpoints, Event, Info, Leader, Quarantine, Record, Report, Revision, Status, Task,
    TaskStatus,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

/// The JSON reads as the type, and the type prints as the same JSON.
fn pinned<T: Serialize + DeserializeOwned>(value: &Value) {
    let read: T = serde_json::from_value(value.clone()).unwrap_or_else(|error| panic!("{error}: {value}"));
    assert_eq!(&serde_json::to_value(&read).unwrap(), value);
}

const TIME: &str = "2026-11-22T10:00:00Z";
const UID: &str = "0123456789abcdef0123456789abcdef";

#[test]
fn info_keeps_its_field_names() {
    let observed = json!({
        "state": "restarting", "config": 3, "restart": 1, "pid": 4711, "since": TIME, "role": "master", "epoch": 7,
        "link": "up", "slots": "0-5460", "message": "exit status 1", "restartNeeded": true, "configRefused": 4,
        "restarts": 2, "emptied": 1, "failures": 1, "refused": "dropped", "refusals": 2, "evicted": true,
    });
    pinned::<Info>(&json!({
        "version": 1, "uid": UID, "member": 2, "incarnation": 1, "kind": "redis_cluster", "engine": "redis",
        "engineVersion": "7.0.15", "ip": "127.0.0.3", "port": 20001, "busPort": 20002, "host": "127.0.0.3",
        "rack": "r1", "zone": "z1", "agentId": "S1", "mesosTaskId": "01234567.2.1.9", "nodeId": "ab12", "shard": 1,
        "alias": "orders-2", "weight": 1, "resources": {"cpuMillis": 500, "memory": 536_870_912, "disk": 1_073_741_824},
        "onDisk": "retain", "onAgentLoss": "stop", "launches": 2, "template": "0a1b2c3d4e5f", "observed": observed,
        "desired": {"state": "running", "config": 3, "restart": 1, "recover": 15},
    }));
    pinned::<Report>(&json!({
        "version": 1, "state": "running", "config": 3, "restart": 1, "restarts": 2, "pid": 4711, "role": "single",
        "epoch": 7, "link": "up", "slots": "0-5460", "restartNeeded": false, "configRefused": 4, "message": "m",
        "emptied": 1, "address": "127.0.0.3:20001", "busPort": 20002, "engineVersion": "7.0.15",
    }));
    // What older builds wrote.
    let report: Report = serde_json::from_value(
        json!({"version": 1, "state": "running", "config": 3, "restart": 1, "restartNeeded": false}),
    )
    .unwrap();
    assert_eq!((report.emptied, report.restarts), (0, 0));
}

#[test]
fn status_keeps_its_field_names() {
    let condition = |kind: &str, status: &str| json!({"type": kind, "status": status, "reason": "Rolled", "message": "m", "lastTransition": TIME, "observedRevision": 2});
    let conditions: Vec<Value> = [
        ("Accepted", "True"),
        ("Ready", "False"),
        ("Progressing", "Unknown"),
        ("Degraded", "True"),
        ("Unplaceable", "True"),
        ("QuorumLost", "True"),
        ("DataLost", "True"),
        ("SpecMissing", "True"),
        ("Stale", "True"),
    ]
    .map(|(kind, status)| condition(kind, status))
    .to_vec();
    for phase in ["Pending", "Creating", "Ready", "Updating", "Degraded", "Paused", "Deleting", "Deleted"] {
        pinned::<Status>(&json!({
            "version": 1, "kind": "memcache", "phase": phase, "revision": 2, "configRevision": 17,
            "conditions": conditions, "counts": {"running": 2}, "wanted": 3, "ready": 2, "updated": 1,
            "outdated": 1, "template": "0a1b2c3d4e5f",
        }));
    }
}

#[test]
fn tasks_keep_their_field_names() {
    for (kind, desired) in [
        ("deploy", "run"),
        ("destroy", "pause"),
        ("update", "abort"),
        ("scale", "run"),
        ("restart", "run"),
        ("replace", "run"),
        ("failover", "run"),
        ("rebalance", "run"),
        ("drain", "run"),
        ("recover", "run"),
    ] {
        pinned::<Task>(&json!({
            "version": 1, "kind": kind, "cluster": "orders", "params": {"member": "2"}, "requestedBy": "ann", "requestedAt": TIME,
            "desired": desired,
        }));
    }
    for state in ["queued", "running", "paused", "superseded", "done", "failed", "aborted"] {
        pinned::<TaskStatus>(&json!({
            "version": 1, "state": state, "revision": 2,
            "phases": [{"name": "launch", "done": 1, "total": 2, "steps": ["launch orders/1"]}],
            "wanted": 2, "running": 1, "startedAt": TIME, "finishedAt": TIME, "error": "why",
        }));
    }
}

#[test]
fn a_task_put_by_hand_needs_only_its_kind_and_cluster() {
    let task: Task = serde_json::from_value(json!({"kind": "destroy", "cluster": "orders"})).unwrap();
    assert_eq!(
        serde_json::to_value(task).unwrap(),
        json!({"version": 1, "kind": "destroy", "cluster": "orders", "desired": "run"})
    );
    assert!(
        serde_json::from_value::<Task>(json!({"kind": "destroy", "cluster": "orders", "foo": 1})).is_err()
    );
    assert!(serde_json::from_value::<Task>(json!({"kind": "destroy", "cluster": "../x"})).is_err());
}

#[test]
fn events_and_endpoints_keep_their_field_names() {
    for level in ["normal", "warning"] {
        pinned::<Event>(&json!({
            "version": 1, "object": "member/1", "reason": "Restarted", "level": level, "message": "m", "count": 3, "first": TIME,
            "last": TIME,
        }));
    }
    pinned::<Endpoints>(&json!({
        "version": 1, "kind": "redis",
        "endpoints": [{"alias": "orders-0", "address": "127.0.0.3:20001", "weight": 1, "role": "single", "slots": "0-1"}],
    }));
}

#[test]
fn the_leaders_own_values_keep_their_field_names() {
    let deletion = json!({"at": TIME, "by": "task t1", "configRevision": 5, "done": true});
    pinned::<DeletionMark>(&deletion);
    pinned::<Record>(&json!({
        "version": 1, "uid": UID, "kind": "redis", "formed": true, "nextMember": 3, "revision": 2, "configRevision": 17,
        "born": 15, "attempts": 9,
        "losses": {"01234567.2.1.9#1": {"shard": 2, "at": TIME, "message": "m", "acknowledged": true}}, "deletion": deletion,
        "tombstones": {"01234567.2.1.9": {"address": "127.0.0.3:20001", "agentId": "S1", "at": TIME, "reason": "lost"}},
        "restored": {"takenAt": TIME, "storeRevision": 41},
    }));
    pinned::<Revision>(
        &json!({"version": 1, "revision": 2, "configRevision": 17, "acceptedAt": TIME, "manifest": "kind: Redis\n"}),
    );
    pinned::<Quarantine>(&json!({
        "version": 1, "until": TIME, "uid": UID, "cluster": "orders", "member": 2, "incarnation": 1, "busPort": 20002,
    }));
    pinned::<Leader>(&json!({"version": 1, "id": "host/1", "api": "http://127.0.0.1:8880"}));
}

#[test]
fn values_of_newer_builds_are_read_without_their_new_fields() {
    let endpoints: Endpoints =
        serde_json::from_value(json!({"version": 2, "kind": "redis", "endpoints": [], "new": {"x": 1}}))
            .unwrap();
    assert_eq!(endpoints.version, 2);
}
