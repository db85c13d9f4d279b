//! From a manifest to serving caches, and what is written on the way.

use std::{collections::BTreeSet, fs, os::unix::fs::PermissionsExt as _, path::Path};

use overlord_tests::{ClusterClient, Memcached, Options, Redis, Sandbox, condition, redis_cli_check};
use serde_json::{Value, json};

use crate::manifest::{address, all, memcache, pid, redis};

#[tokio::test]
async fn pools_come_up_serve_and_are_recorded_as_documented() {
    let sandbox = Sandbox::start(Options::default()).await;
    let manifest = all(&[redis("orders", 2, ""), memcache("pages", 2, "")]);
    assert_eq!(sandbox.apply(&manifest).await, "redis/orders created\nmemcache/pages created\n");
    let infos = sandbox.settled(&["orders", "pages"]).await;
    assert_eq!(infos.len(), 4);

    let (orders, pages) = (sandbox.endpoints("orders").await, sandbox.endpoints("pages").await);
    assert_eq!((orders.len(), pages.len()), (2, 2));
    for endpoint in &orders {
        let server = Redis::at(endpoint);
        assert_eq!(server.one(&["SET", "greeting", endpoint]).await.unwrap(), "OK");
        assert_eq!(server.one(&["GET", "greeting"]).await.unwrap(), *endpoint);
    }
    for endpoint in &pages {
        let server = Memcached::at(endpoint);
        server.set("greeting", endpoint).await.unwrap();
        assert_eq!(server.get("greeting").await.unwrap().as_ref(), Some(endpoint));
    }

    record_and_revision(&sandbox).await;
    status_and_endpoints(&sandbox).await;
    for cluster in ["orders", "pages"] {
        for info in sandbox.infos(cluster).await {
            instance(&sandbox, cluster, &info).await;
        }
    }
    deploy_task(&sandbox).await;

    let revision = sandbox.etcd_revision().await;
    assert_eq!(sandbox.apply(&manifest).await, "redis/orders unchanged\nmemcache/pages unchanged\n");
    // Another text of the same meaning is the same spec.
    let respelled = redis("orders", 2, "  # two\n").replace("32Mi", "32768Ki");
    assert_eq!(sandbox.apply(&respelled).await, "redis/orders unchanged\n");
    assert_eq!(sandbox.etcd_revision().await, revision);
    sandbox.end().await;
}

async fn record_and_revision(sandbox: &Sandbox) {
    let record = sandbox.etcd_json("/overlord/clusters/orders/record").await;
    let uid = record["uid"].as_str().unwrap();
    assert!(uid.len() == 32 && uid.chars().all(|c| c.is_ascii_hexdigit()), "{uid}");
    let config = sandbox.mod_revision("/overlord/config/orders").await;
    for (field, value) in [
        ("version", json!(1)),
        ("kind", json!("redis")),
        ("formed", json!(true)),
        ("nextMember", json!(2)),
        ("revision", json!(1)),
        ("configRevision", json!(config)),
        ("attempts", json!(2)),
        ("deletion", Value::Null),
        ("tombstones", Value::Null),
    ] {
        assert_eq!(record[field], value, "{field} of {record}");
    }

    let revision = sandbox.etcd_json("/overlord/clusters/orders/revisions/1").await;
    assert_eq!((&revision["revision"], &revision["configRevision"]), (&json!(1), &json!(config)));
    assert!(revision["acceptedAt"].is_string());
    let manifest = revision["manifest"].as_str().unwrap();
    for filled_in in ["replaceAfter: 10m", "protected: false", "maxUnavailable: 1", "by: host"] {
        assert!(manifest.contains(filled_in), "{manifest}");
    }
    assert_eq!(sandbox.ok(&["get", "cluster", "orders", "-o", "yaml"]).await, manifest);
    // The text as given stays as it was given.
    assert_eq!(
        sandbox.etcd_get("/overlord/config/orders").await.unwrap().trim(),
        redis("orders", 2, "").trim()
    );
}

async fn status_and_endpoints(sandbox: &Sandbox) {
    let status = sandbox.status("orders").await;
    let config = sandbox.mod_revision("/overlord/config/orders").await;
    for (field, value) in [
        ("version", json!(1)),
        ("kind", json!("redis")),
        ("phase", json!("Ready")),
        ("revision", json!(1)),
        ("configRevision", json!(config)),
        ("counts", json!({"running": 2})),
        ("wanted", json!(2)),
        ("ready", json!(2)),
        ("updated", json!(2)),
    ] {
        assert_eq!(status[field], value, "{field} of {status}");
    }
    for (kind, truth) in
        [("Accepted", "True"), ("Ready", "True"), ("Progressing", "False"), ("Degraded", "False")]
    {
        let found = condition(&status, kind);
        assert_eq!(found["status"], truth, "{status}");
        assert_eq!(found["observedRevision"], 1);
        for field in ["reason", "message", "lastTransition"] {
            assert!(found[field].is_string(), "{found}");
        }
    }
    let endpoints = sandbox.etcd_json("/overlord/clusters/pages/endpoints").await;
    assert_eq!((&endpoints["version"], &endpoints["kind"]), (&json!(1), &json!("memcache")));
    let aliases: Vec<&Value> =
        endpoints["endpoints"].as_array().unwrap().iter().map(|endpoint| &endpoint["alias"]).collect();
    assert_eq!(aliases, ["pages-0", "pages-1"]);
    assert_eq!(endpoints["endpoints"][0]["weight"], 1);
    assert_eq!(endpoints["endpoints"][0]["role"], "single");
}

/// One instance: its keys, and the same things on its agent.
async fn instance(sandbox: &Sandbox, cluster: &str, info: &Value) {
    let (kind, engine_version) =
        if cluster == "orders" { ("redis", "7.0.15") } else { ("memcache", "1.6.18") };
    let uid = sandbox.etcd_json(&format!("/overlord/clusters/{cluster}/record")).await["uid"].clone();
    let member = info["member"].as_u64().unwrap();
    let address = address(info);
    for (field, value) in [
        ("version", json!(1)),
        ("uid", uid.clone()),
        ("incarnation", json!(0)),
        ("kind", json!(kind)),
        ("engine", json!(kind)),
        ("engineVersion", json!(engine_version)),
        ("host", info["ip"].clone()),
        ("alias", json!(format!("{cluster}-{member}"))),
        ("weight", json!(1)),
        ("resources", json!({"cpuMillis": 100, "memory": 32 << 20, "disk": 32 << 20})),
        ("desired", json!({"state": "running", "config": 1, "restart": 0})),
    ] {
        assert_eq!(info[field], value, "{field} of {info}");
    }
    assert_eq!(info["shard"], if kind == "redis" { json!(member) } else { Value::Null });
    let port = info["port"].as_u64().unwrap();
    assert!((20_000..=22_767).contains(&port), "{port}");
    let uid8 = &uid.as_str().unwrap()[..8];
    let task = info["mesosTaskId"].as_str().unwrap();
    assert!(task.starts_with(&format!("{uid8}.{member}.0.")), "{task}");
    for (field, value) in [("state", json!("running")), ("config", json!(1)), ("role", json!("single"))] {
        assert_eq!(info["observed"][field], value, "{info}");
    }

    let conf =
        sandbox.etcd_get(&format!("/overlord/clusters/{cluster}/instances/{address}/server.conf")).await;
    let data = sandbox.agent_data(sandbox.agent_at(&address));
    let dir = data.join(format!("{kind}/{port}"));
    assert_eq!(fs::read_to_string(dir.join(format!("{kind}.conf"))).unwrap(), conf.unwrap());
    assert_eq!(fs::read_to_string(dir.join(format!("{kind}.pid"))).unwrap().trim(), pid(info).to_string());
    let meta = fs::read_to_string(dir.join("meta.toml")).unwrap();
    for line in [format!("uid = {uid}"), format!("member = {member}"), format!("cluster = \"{cluster}\"")] {
        assert!(meta.contains(&line), "{line} in {meta}");
    }
    assert!(dir.join("console.log").is_file());
    assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o7777, 0o755);
    assert!(data.join(format!("var/overlord/tmp/{task}")).is_dir());
}

async fn deploy_task(sandbox: &Sandbox) {
    let tasks = sandbox.etcd_list("/overlord/task/orders.").await;
    let [(key, task), (status_key, status)] = tasks.as_slice() else { panic!("{tasks:?}") };
    assert_eq!(*status_key, format!("{key}/status"));
    let (task, status): (Value, Value) =
        (serde_json::from_str(task).unwrap(), serde_json::from_str(status).unwrap());
    for (field, value) in [("kind", "deploy"), ("cluster", "orders"), ("desired", "run")] {
        assert_eq!(task[field], value, "{task}");
    }
    assert!(task["requestedBy"].is_string() && task["requestedAt"].is_string(), "{task}");
    for (field, value) in [
        ("version", json!(1)),
        ("state", json!("done")),
        ("revision", json!(1)),
        ("wanted", json!(2)),
        ("running", json!(2)),
    ] {
        assert_eq!(status[field], value, "{status}");
    }
    assert!(status["startedAt"].is_string() && status["finishedAt"].is_string(), "{status}");
}

#[tokio::test]
async fn all_examples_come_up_together() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let sandbox = Sandbox::start(Options::default()).await;
    let applied = sandbox.ok(&["apply", "-f", examples.to_str().unwrap(), "--wait", "--timeout", "3m"]).await;
    let names: Vec<&str> = applied
        .lines()
        .map(|line| line.strip_suffix(" created").and_then(|line| line.split_once('/')).unwrap().1)
        .collect();
    assert!(names.len() >= fs::read_dir(&examples).unwrap().count(), "{applied}");
    sandbox.settled(&names).await;
    for name in &names {
        let kind = sandbox.status(name).await["kind"].clone();
        let endpoints = sandbox.endpoints(name).await;
        assert!(!endpoints.is_empty());
        if kind == "redis_cluster" {
            redis_cli_check(&endpoints[0]).await.unwrap();
            let mut client = ClusterClient::new(&endpoints, 1);
            client.ask(&["SET", "a", "b"]).await.unwrap();
            continue;
        }
        for endpoint in endpoints {
            if kind == "redis" {
                assert_eq!(Redis::at(&endpoint).one(&["SET", "a", "b"]).await.unwrap(), "OK", "{name}");
            } else {
                Memcached::at(&endpoint).set("a", "b").await.unwrap();
            }
        }
    }
    // The one that says where it wants to be is there.
    let spread = sandbox.infos("spread").await;
    let hosts: BTreeSet<&str> = spread.iter().map(|info| info["host"].as_str().unwrap()).collect();
    assert_eq!(hosts.len(), 3, "{spread:?}");
    for info in &spread {
        assert!(matches!(info["rack"].as_str(), Some("r1" | "r2")), "{info}");
    }
    sandbox.end().await;
}

#[tokio::test]
async fn what_cannot_run_says_why() {
    let sandbox = Sandbox::start(Options { agents: 2, ..Options::default() }).await;
    let crowded = redis("crowded", 3, "  placement: {spread: [{by: host, rule: required}]}\n");
    let nowhere =
        redis("nowhere", 1, "  placement: {constraints: [{attribute: disk, operator: is, value: ssd}]}\n");
    let huge = memcache("huge", 1, "").replace("memory: 32Mi", "memory: 64Gi");
    sandbox.declare(&all(&[crowded, nowhere, huge])).await;
    // Two of three find a place; the third one names what is in its way. How many agents are counted
    // depends on whose offers are in hand.
    let message = sandbox.wait_condition("crowded", "Unplaceable", "True", "NoSuitableOffer").await;
    assert!(message.contains("host already used"), "{message}");
    let message = sandbox.wait_condition("nowhere", "Unplaceable", "True", "NoSuitableOffer").await;
    assert!(message.contains("disk"), "{message}");
    let message = sandbox.wait_condition("huge", "Unplaceable", "True", "NoSuitableOffer").await;
    assert!(message.contains("mem "), "{message}");
    let listed = sandbox.ok(&["get", "clusters"]).await;
    assert!(listed.lines().any(|line| line.starts_with("huge") && line.contains("Unplaceable")), "{listed}");

    // With the hindrance gone they come up.
    sandbox.apply(&all(&[redis("crowded", 2, ""), redis("nowhere", 1, ""), memcache("huge", 1, "")])).await;
    sandbox.settled(&["crowded", "nowhere", "huge"]).await;
    let status = sandbox.status("huge").await;
    assert_eq!(condition(&status, "Unplaceable")["status"], "False", "{status}");
}
