//! Values that people edit into nonsense, or delete: each is named, what can be known again is put back, what cannot is
//! left alone, and nothing that runs is harmed. The table is in `controllers/src/cluster/mend.rs`.

use std::{fs, time::Duration};

use overlord_store::{EtcdConfig, EtcdStore, Store as _, Txn};
use overlord_tests::{Options, Sandbox, condition, eventually, eventually_within, signal};
use serde_json::{Value, json};

use crate::manifest::{address, all, memcache, pid, redis, redis_cluster};

/// How long a mended world may take to be well again.
const WELL: Duration = Duration::from_secs(60);

fn store(sandbox: &Sandbox) -> EtcdStore {
    EtcdStore::new(EtcdConfig { endpoints: vec![sandbox.etcd()], ..EtcdConfig::default() }).unwrap()
}

/// The kinds of nonsense; the last one is that nothing is there.
fn nonsense() -> Vec<(&'static str, Option<Vec<u8>>)> {
    vec![
        ("no JSON", Some(b"{\"version\": 1, ".to_vec())),
        ("JSON of another shape", Some(b"[1, {\"uid\": null}]".to_vec())),
        ("half of a value", Some(b"{\"version\": 1, \"kind\": \"redis\"}".to_vec())),
        ("empty", Some(Vec::new())),
        ("binary", Some(vec![0, 159, 146, 150, 255])),
        ("huge", Some(vec![b'x'; 1_000_000])),
        ("deleted", None),
    ]
}

async fn damage(sandbox: &Sandbox, keys: &[String], value: Option<&Vec<u8>>) {
    let store = store(sandbox);
    for key in keys {
        let txn = match value {
            Some(value) => Txn::unfenced().put(key.clone(), value.clone()),
            None => Txn::unfenced().delete(key.clone()),
        };
        store.commit(txn).await.unwrap();
    }
}

/// The messages of a cluster's events of one reason.
async fn told(sandbox: &Sandbox, folder: &str, reason: &str) -> Vec<String> {
    let events = sandbox.events(folder, reason).await;
    events.iter().map(|event| event["message"].as_str().unwrap_or_default().to_owned()).collect()
}

async fn wait_told(sandbox: &Sandbox, folder: &str, reason: &str, parts: &[&str]) {
    eventually_within(Duration::from_secs(90), &format!("{reason} of {folder} says {parts:?}"), || async {
        let told = told(sandbox, folder, reason).await;
        if told.iter().any(|text| parts.iter().all(|part| text.contains(part))) { Ok(()) } else { Err(told) }
    })
    .await;
}

/// A value as JSON; `Null` when it is none.
async fn json_at(sandbox: &Sandbox, key: &str) -> Value {
    let listing = store(sandbox).get(key).await.unwrap();
    let entry = listing.entries.into_iter().next();
    entry.and_then(|entry| serde_json::from_slice(&entry.value).ok()).unwrap_or_default()
}

async fn text_at(sandbox: &Sandbox, key: &str) -> Vec<u8> {
    let listing = store(sandbox).get(key).await.unwrap();
    listing.entries.into_iter().next().map(|entry| entry.value.to_vec()).unwrap_or_default()
}

/// Keys of a cluster's leader that are JSON, and what of each must be the same again.
async fn sound(sandbox: &Sandbox, keys: &[String]) -> Vec<Value> {
    let mut values = Vec::new();
    for key in keys {
        let value = json_at(sandbox, key).await;
        values.push(match key.rsplit('/').next().unwrap_or_default() {
            "record" => json!([value["uid"], value["attempts"], value["nextMember"]]),
            "info" => json!([value["uid"], value["mesosTaskId"], value["agentId"], value["observed"]["pid"]]),
            "status" => json!([value["phase"], value["ready"], value["wanted"]]),
            "endpoints" => value["endpoints"].clone(),
            _ => json!([value["revision"], value["manifest"]]),
        });
    }
    values
}

fn pids(infos: &[Value]) -> Vec<u32> {
    infos.iter().map(pid).collect()
}

#[tokio::test]
async fn every_value_of_the_leader_is_named_and_put_back_while_everything_runs_on() {
    let sandbox = Sandbox::start(Options::default()).await;
    let clusters = ["nodes", "orders", "pages"];
    sandbox
        .apply(&all(&[redis("orders", 2, ""), redis_cluster("nodes", 3, 1, ""), memcache("pages", 1, "")]))
        .await;
    let before = sandbox.settled(&clusters).await;
    let epoch = json_at(&sandbox, "/overlord/leader").await;

    // Wrong for all, and told in its own time.
    let host = sandbox.agent_ip(1);
    let quarantine = format!("/overlord/quarantine/{host}:22766");
    damage(&sandbox, std::slice::from_ref(&quarantine), Some(&b"?".to_vec())).await;
    let framework = sandbox.etcd_get("/overlord/framework").await.unwrap();
    sandbox.etcdctl(&["put", "/overlord/framework", "nonsense"]).await;
    sandbox.etcdctl(&["put", "/overlord/events/orders/cluster.Odd", "nonsense"]).await;

    let mut keys = Vec::new();
    let mut texts = Vec::new();
    for cluster in ["orders", "nodes"] {
        let folder = format!("/overlord/clusters/{cluster}");
        let infos: Vec<&Value> =
            before.iter().filter(|info| info["alias"].as_str().unwrap().starts_with(cluster)).collect();
        keys.extend(["record", "status", "endpoints", "revisions/1"].map(|leaf| format!("{folder}/{leaf}")));
        keys.extend(infos.iter().map(|info| format!("{folder}/instances/{}/info", address(info))));
        texts.push(format!("{folder}/instances/{}/server.conf", address(infos[0])));
    }
    let node = before.iter().find(|info| info["busPort"].is_u64()).unwrap();
    let seed = format!("/overlord/clusters/nodes/instances/{}/nodes.conf", address(node));
    assert!(!text_at(&sandbox, &seed).await.is_empty());
    let good = sound(&sandbox, &keys).await;
    let mut confs = Vec::new();
    for key in &texts {
        confs.push(text_at(&sandbox, key).await);
    }
    for (what, value) in nonsense() {
        println!("{what}");
        damage(&sandbox, &keys, value.as_ref()).await;
        damage(&sandbox, &texts, value.as_ref()).await;
        damage(&sandbox, std::slice::from_ref(&seed), value.as_ref()).await;
        eventually_within(WELL, &format!("{what}: all is as it was"), || async {
            let now = sound(&sandbox, &keys).await;
            let wrong: Vec<_> = keys.iter().zip(good.iter().zip(&now)).filter(|(_, (a, b))| a != b).collect();
            if !wrong.is_empty() {
                return Err(format!("{wrong:?}"));
            }
            for (key, conf) in texts.iter().zip(&confs) {
                if text_at(&sandbox, key).await != *conf {
                    return Err(key.clone());
                }
            }
            Ok(())
        })
        .await;
        for cluster in clusters {
            sandbox.ready(cluster).await;
        }
    }
    for key in keys.iter().chain(&texts).chain([&seed]) {
        let cluster = key.split('/').nth(3).unwrap();
        wait_told(&sandbox, cluster, "ValueRestored", &[key]).await;
    }
    let after = sandbox.settled(&clusters).await;
    assert_eq!(pids(&before), pids(&after), "nothing was restarted");
    assert_eq!(json_at(&sandbox, "/overlord/leader").await, epoch, "the controller went on");
    assert_eq!(
        told(&sandbox, "pages", "ValueRestored").await,
        Vec::<String>::new(),
        "others are not concerned"
    );

    wait_told(&sandbox, "_", "DamagedValue", &[&quarantine]).await;
    assert_eq!(sandbox.etcd_get(&quarantine).await.as_deref(), Some("?"), "what nobody knows is left alone");
    wait_told(&sandbox, "_", "ValueRestored", &["/overlord/framework", "nonsense"]).await;
    assert_eq!(sandbox.etcd_get("/overlord/framework").await, Some(framework));
    assert!(!sandbox.log().contains("panicked"), "{}", sandbox.log());
    sandbox.ok(&["describe", "cluster", "orders"]).await;
    sandbox.end().await;
}

#[tokio::test]
async fn values_of_newer_builds_and_of_other_clusters_do_no_harm() {
    let sandbox = Sandbox::start(Options { agents: 4, ..Options::default() }).await;
    sandbox.apply(&all(&[redis("orders", 2, ""), memcache("pages", 1, "")])).await;
    let before = sandbox.settled(&["orders", "pages"]).await;
    let folder = "/overlord/clusters/orders";
    let info = format!("{folder}/instances/{}/info", address(&before[0]));

    // Somebody else's values, in good order.
    let foreign =
        sandbox.etcd_get(&format!("/overlord/clusters/pages/instances/{}/info", address(&before[2]))).await;
    let mut stranger: Value = serde_json::from_str(&sandbox.etcd_get(&info).await.unwrap()).unwrap();
    stranger["uid"] = json!("f".repeat(32));
    for value in [foreign.unwrap(), stranger.to_string()] {
        sandbox.etcdctl(&["put", &info, &value]).await;
        eventually("the own info is back", || async {
            let now = json_at(&sandbox, &info).await;
            if now["mesosTaskId"] == before[0]["mesosTaskId"] && now["uid"] == before[0]["uid"] {
                Ok(())
            } else {
                Err(now)
            }
        })
        .await;
    }
    let record = sandbox.etcd_get("/overlord/clusters/pages/record").await.unwrap();
    sandbox.etcdctl(&["put", &format!("{folder}/record"), &record]).await;
    wait_told(&sandbox, "orders", "ValueRestored", &["orders/record", "another"]).await;
    assert_eq!(json_at(&sandbox, &format!("{folder}/record")).await["uid"], before[0]["uid"]);

    // A newer build's are named and stay.
    let newer = r#"{"version": 2, "tomorrow": true}"#;
    let keys = [info.clone(), format!("{folder}/endpoints"), format!("{folder}/revisions/1")];
    let mut saved = Vec::new();
    for key in &keys {
        saved.push(sandbox.etcd_get(key).await.unwrap());
        sandbox.etcdctl(&["put", key, newer]).await;
    }
    wait_told(&sandbox, "orders", "DamagedValue", &[&info, "version 2"]).await;
    let message = sandbox.wait_condition("orders", "Progressing", "False", "DamagedValue").await;
    assert!(message.contains(&info) && message.contains("version 2"), "{message}");
    let record = format!("{folder}/record");
    let record_before = sandbox.etcd_get(&record).await.unwrap();
    sandbox.etcdctl(&["put", &record, newer]).await;
    wait_told(&sandbox, "orders", "DamagedValue", &[&record, "version 2"]).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    for key in keys.iter().chain([&record]) {
        assert_eq!(sandbox.etcd_get(key).await.as_deref(), Some(newer), "{key}");
    }
    assert_eq!(sandbox.servers().len(), 3);
    sandbox.ready("pages").await;

    sandbox.etcdctl(&["put", &record, &record_before]).await;
    for (key, value) in keys.iter().zip(&saved) {
        sandbox.etcdctl(&["put", key, value]).await;
    }
    let after = sandbox.settled(&["orders", "pages"]).await;
    assert_eq!(pids(&before), pids(&after));
    sandbox.end().await;
}

#[tokio::test]
async fn the_progress_of_a_request_is_put_back_and_nothing_is_done_twice() {
    let sandbox = Sandbox::start(Options { agents: 3, ..Options::default() }).await;
    sandbox.apply(&redis("orders", 1, "")).await;
    let before = sandbox.settled(&["orders"]).await;
    // It would destroy the cluster, were it taken for a new one.
    sandbox
        .etcdctl(&[
            "put",
            "/overlord/task/d",
            r#"{"kind": "destroy", "cluster": "orders", "desired": "abort"}"#,
        ])
        .await;
    sandbox.wait_task("d", "aborted").await;
    for value in [Some("nonsense"), Some(""), None] {
        let key = "/overlord/task/d/status";
        match value {
            Some(value) => sandbox.etcdctl(&["put", key, value]).await,
            None => sandbox.etcdctl(&["del", key]).await,
        };
        sandbox.wait_task("d", "aborted").await;
    }
    wait_told(&sandbox, "orders", "ValueRestored", &["/overlord/task/d/status"]).await;
    assert_eq!(pids(&before), pids(&sandbox.settled(&["orders"]).await));
    sandbox.end().await;
}

#[tokio::test]
async fn what_was_damaged_while_nobody_led_is_made_again_from_what_runs() {
    let mut sandbox = Sandbox::start(Options { controller: false, ..Options::default() }).await;
    let controller = sandbox.start_controller().await;
    sandbox.apply(&all(&[redis("orders", 3, ""), redis_cluster("nodes", 3, 1, "")])).await;
    let before = sandbox.settled(&["nodes", "orders"]).await;
    controller.stop().await;

    let nodes: Vec<&Value> = before.iter().filter(|info| info["busPort"].is_u64()).collect();
    let orders: Vec<&Value> = before.iter().filter(|info| !info["busPort"].is_u64()).collect();
    let key = |cluster: &str, info: &Value, leaf: &str| {
        format!("/overlord/clusters/{cluster}/instances/{}/{leaf}", address(info))
    };
    sandbox.etcdctl(&["put", &key("orders", orders[0], "info"), "nonsense"]).await;
    sandbox.etcdctl(&["del", &key("orders", orders[1], "info")]).await;
    sandbox.etcdctl(&["del", "--prefix", &key("orders", orders[2], "")]).await;
    sandbox.etcdctl(&["del", &key("nodes", nodes[0], "info")]).await;
    sandbox.etcdctl(&["del", "/overlord/clusters/nodes/record"]).await;
    sandbox.etcdctl(&["put", "/overlord/clusters/orders/revisions/1", "nonsense"]).await;
    sandbox.etcdctl(&["del", "/overlord/framework"]).await;

    let _controller = sandbox.start_controller().await;
    wait_told(&sandbox, "nodes", "RecordRebuilt", &[]).await;
    wait_told(&sandbox, "orders", "RevisionRestored", &[]).await;
    for info in orders.iter().chain(&nodes[..1]) {
        let (cluster, task) =
            (info["alias"].as_str().unwrap().split('-').next().unwrap(), &info["mesosTaskId"]);
        wait_told(&sandbox, cluster, "InfoRebuilt", &[task.as_str().unwrap()]).await;
    }
    let after = sandbox.settled(&["nodes", "orders"]).await;
    assert_eq!(pids(&before), pids(&after), "no restart, no double");
    let tasks = |infos: &[Value]| infos.iter().map(|info| info["mesosTaskId"].clone()).collect::<Vec<_>>();
    assert_eq!(tasks(&before), tasks(&after));
    assert_eq!(sandbox.etcd_json("/overlord/clusters/nodes/record").await["uid"], nodes[0]["uid"]);
    let racks = |infos: &[Value]| infos.iter().map(|info| info["rack"].clone()).collect::<Vec<_>>();
    assert!(racks(&before).iter().all(Value::is_string), "{before:?}");
    eventually("the racks are known again", || async {
        let now = sandbox.settled(&["nodes", "orders"]).await;
        if racks(&now) == racks(&before) { Ok(()) } else { Err(format!("{now:?}")) }
    })
    .await;
    sandbox.end().await;
}

#[tokio::test]
async fn a_damaged_nodes_conf_on_disk_is_made_again_from_the_peers() {
    let sandbox = Sandbox::start(Options::default()).await;
    sandbox.apply(&redis_cluster("nodes", 3, 1, "")).await;
    let before = sandbox.settled(&["nodes"]).await;
    let replica = before.iter().find(|info| info["observed"]["role"] == "slave").unwrap();
    let data = sandbox.agent_data(sandbox.agent_at(&address(replica)));
    let file = data.join(format!("redis_cluster/{}/nodes.conf", replica["port"]));
    fs::write(&file, "nonsense\n").unwrap();
    signal(pid(replica), rustix::process::Signal::KILL);
    eventually_within(WELL, "the replica is back", || async {
        let info = sandbox.member("nodes", replica["member"].as_u64().unwrap()).await;
        let back = info["observed"]["restarts"] == 1 && info["observed"]["state"] == "running";
        if back { Ok(()) } else { Err(info) }
    })
    .await;
    sandbox.settled(&["nodes"]).await;
    let status = sandbox.status("nodes").await;
    assert_eq!(condition(&status, "Ready")["status"], "True", "{status}");
    let conf = fs::read_to_string(&file).unwrap();
    assert!(conf.contains(replica["nodeId"].as_str().unwrap()), "{conf}");
    sandbox.end().await;
}
