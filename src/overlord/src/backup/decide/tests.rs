//! What comes back from a backup, and what does not.

use overlord_api::Address;
use serde_json::json;

use super::*;

const TIME: &str = "2026-11-22T10:00:00Z";
const UID: &str = "0123456789abcdef0123456789abcdef";

fn name(text: &str) -> ClusterName {
    ClusterName::new(text).unwrap()
}

fn address(member: u32) -> Address {
    format!("127.0.0.{}:20000", member + 1).parse().unwrap()
}

fn record(attempts: u64) -> Vec<u8> {
    let value = json!({
        "version": 1, "uid": UID, "kind": "redis", "formed": true, "nextMember": 2, "revision": 1, "configRevision": 17,
        "born": 15, "attempts": attempts,
    });
    serde_json::to_vec(&value).unwrap()
}

fn info(member: u32) -> Vec<u8> {
    let address = address(member);
    let value = json!({
        "version": 1, "uid": UID, "member": member, "incarnation": 0, "kind": "redis", "engine": "redis",
        "engineVersion": "7.0.15", "ip": address.ip, "port": address.port, "host": address.ip, "agentId": "S1",
        "mesosTaskId": format!("01234567.{member}.0.1"), "alias": format!("orders-{member}"), "weight": 1,
        "resources": {"cpuMillis": 500, "memory": 1, "disk": 1}, "onDisk": "delete",
        "desired": {"state": "running", "config": 1, "restart": 0},
        "observed": {"state": "running", "config": 1, "restart": 0, "since": TIME},
    });
    serde_json::to_vec(&value).unwrap()
}

fn task(kind: &str) -> Vec<u8> {
    serde_json::to_vec(&json!({"kind": kind, "cluster": "orders"})).unwrap()
}

fn task_status(state: &str) -> Vec<u8> {
    serde_json::to_vec(&json!({"version": 1, "state": state, "revision": 1, "wanted": 1, "running": 1}))
        .unwrap()
}

fn orders(attempts: u64) -> Vec<(String, Vec<u8>)> {
    let cluster = name("orders");
    vec![
        (keys::FRAMEWORK.to_owned(), b"f".to_vec()),
        (keys::config(&cluster), b"kind: Redis\n".to_vec()),
        (keys::record(&cluster), record(attempts)),
        (keys::status(&cluster), b"{}".to_vec()),
        (keys::endpoints(&cluster), b"{}".to_vec()),
        (keys::revision(&cluster, 1), b"{}".to_vec()),
        (keys::info(&cluster, address(0)), info(0)),
        (keys::server_conf(&cluster, address(0)), b"port 20000".to_vec()),
        (keys::info(&cluster, address(1)), info(1)),
    ]
}

fn world(entries: &[(String, Vec<u8>)]) -> World {
    let mut world = World::default();
    for (key, value) in entries {
        world.add(key, value);
    }
    world
}

/// The keys that come back, in order of their stages; and why others do not.
fn decide(
    backup: &[(String, Vec<u8>)],
    store: &[(String, Vec<u8>)],
    named: &[&str],
) -> (Vec<String>, Vec<(String, String)>) {
    let header = Header {
        overlord_backup: 1,
        store_revision: 41,
        taken_at: TIME.parse().unwrap(),
        program: String::new(),
    };
    let (of_backup, of_store) = (world(backup), world(store));
    let named = named.iter().map(|text| name(text)).collect();
    let restore = Restore {
        header: &header,
        backup: &of_backup,
        store: &of_store,
        named: &named,
        now: TIME.parse().unwrap(),
    };
    let (mut back, mut kept) = (Vec::new(), Vec::new());
    for (key, value) in backup {
        match restore.decide(&Saved { key: key.clone(), value: value.clone() }) {
            Decision::Restore(stage, _) => back.push((stage, key.clone())),
            Decision::Same => {}
            Decision::Keep(why) => kept.push((key.clone(), why)),
        }
    }
    back.sort_by_key(|(stage, _)| *stage);
    (back.into_iter().map(|(_, key)| key).collect(), kept)
}

fn why<'k>(kept: &'k [(String, String)], key: &str) -> &'k str {
    kept.iter().find(|(of, _)| of.contains(key)).map_or("", |(_, why)| why)
}

#[test]
fn a_wiped_store_gets_everything_back_but_what_is_derived_records_after_instances_and_specs_last() {
    let (back, kept) = decide(&orders(2), &[], &[]);
    assert_eq!(back.len(), orders(2).len() - 1, "{kept:?}");
    assert_eq!(why(&kept, "/status"), "the leader makes it anew");
    let at = |part: &str| back.iter().position(|key| key.contains(part)).unwrap();
    assert!(at("/framework") < at("/info") && at("/info") < at("/record") && at("/record") < at("/config/"));
}

#[test]
fn a_record_comes_back_to_be_verified_and_with_numbers_that_were_never_used() {
    let entries = orders(2);
    let (of_backup, of_store) = (world(&entries), World::default());
    let header = Header {
        overlord_backup: 1,
        store_revision: 41,
        taken_at: TIME.parse().unwrap(),
        program: String::new(),
    };
    let named = BTreeSet::new();
    let now = TIME.parse().unwrap();
    let restore = Restore { header: &header, backup: &of_backup, store: &of_store, named: &named, now };
    let saved = Saved { key: entries[2].0.clone(), value: entries[2].1.clone() };
    let Decision::Restore(Stage::Records, value) = restore.decide(&saved) else { panic!("not restored") };
    let record: Record = read_value(&value).unwrap();
    assert_eq!(record.restored.map(|restored| restored.store_revision), Some(41));
    assert_eq!((record.attempts, record.config_revision, record.born), (2 + UNKNOWN_ATTEMPTS, 0, 0));
    assert_eq!(record.uid, UID);
}

#[test]
fn what_is_there_is_never_overwritten() {
    let mut store = orders(2);
    assert_eq!(decide(&orders(2), &store, &[]), (Vec::new(), Vec::new()), "the same");
    store[1].1 = b"kind: Redis # newer\n".to_vec();
    store[0].1 = b"another".to_vec();
    let (back, kept) = decide(&orders(2), &store, &[]);
    assert_eq!((back.len(), kept.len()), (0, 2));
    assert_eq!(why(&kept, "/framework"), "the store has another value");
}

#[test]
fn an_instance_comes_back_only_when_nothing_was_launched_since() {
    let without: Vec<_> = orders(2).into_iter().filter(|(key, _)| !key.contains("127.0.0.2")).collect();
    let (back, _) = decide(&orders(2), &without, &[]);
    assert_eq!(back, [keys::info(&name("orders"), address(1))]);
    let mut newer = without;
    newer[2].1 = record(3);
    let (back, kept) = decide(&orders(2), &newer, &[]);
    assert_eq!(back, Vec::<String>::new());
    assert!(why(&kept, "127.0.0.2").contains("2 launches then"), "{kept:?}");
}

#[test]
fn a_cluster_that_may_have_been_deleted_since_comes_back_only_by_name() {
    let others = vec![(keys::config(&name("pages")), b"kind: Memcache\n".to_vec())];
    let (back, kept) = decide(&orders(2), &others, &[]);
    assert_eq!(back, [keys::FRAMEWORK]);
    assert!(why(&kept, "/config/orders").contains("--cluster orders"), "{kept:?}");
    let (back, _) = decide(&orders(2), &others, &["orders"]);
    assert_eq!(back.len(), orders(2).len() - 1);
}

#[test]
fn a_cluster_that_was_being_deleted_goes_on_being_deleted() {
    let mut backup = orders(2);
    let mut value: serde_json::Value = serde_json::from_slice(&backup[2].1).unwrap();
    value["deletion"] = json!({"at": TIME, "by": "task t", "configRevision": 17, "done": false});
    backup[2].1 = serde_json::to_vec(&value).unwrap();
    let (back, kept) = decide(&backup, &[], &[]);
    assert!(
        back.iter().any(|key| key.ends_with("/record")) && !back.iter().any(|key| key.contains("/config/"))
    );
    assert!(why(&kept, "/config/").contains("deleted"), "{kept:?}");
}

#[test]
fn a_request_that_may_have_been_done_since_is_not_asked_again() {
    let key = |id: &str| keys::task(id);
    let backup = vec![
        (key("open"), task("destroy")),
        (key("over"), task("destroy")),
        (keys::task_status("over"), task_status("done")),
        (key("declared"), task("update")),
        (keys::task_status("declared"), task_status("paused")),
        (key("odd"), b"?".to_vec()),
    ];
    let (back, kept) = decide(&backup, &[], &[]);
    assert_eq!(
        back,
        [key("over"), keys::task_status("over"), key("declared"), keys::task_status("declared")]
    );
    assert!(why(&kept, "/open").contains("ask again"), "{kept:?}");
}

#[test]
fn what_speaks_of_other_controllers_or_is_over_stays_where_it_is() {
    let over = json!({"until": "2026-11-22T09:00:00Z", "uid": UID, "cluster": "orders", "member": 1, "incarnation": 0});
    let backup = vec![
        (keys::LEADER.to_owned(), b"{}".to_vec()),
        (format!("{}x", keys::CONTROLLERS), b"{}".to_vec()),
        (String::from("/overlord/generation"), b"1".to_vec()),
        (keys::quarantine(address(0)), serde_json::to_vec(&over).unwrap()),
        (String::from("/other"), b"1".to_vec()),
        (String::from("/overlord/secrets/a"), b"1".to_vec()),
    ];
    let (back, _) = decide(&backup, &[], &[]);
    assert_eq!(back, ["/overlord/secrets/a"]);
}
