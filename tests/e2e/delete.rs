//! Growing, shrinking and deleting.

use std::{fs, path::PathBuf};

use overlord_tests::{Options, Redis, Sandbox, eventually};
use serde_json::Value;

use crate::manifest::{address, all, memcache, pid, redis};

/// The working directory of an instance.
fn dir(sandbox: &Sandbox, info: &Value) -> PathBuf {
    let data = sandbox.agent_data(sandbox.agent_at(&address(info)));
    data.join(info["kind"].as_str().unwrap()).join(info["port"].to_string())
}

/// Directories moved aside of an instance: `<port>.<uid8>.<time>`.
fn moved_aside(sandbox: &Sandbox, info: &Value) -> Vec<PathBuf> {
    let dir = dir(sandbox, info);
    let prefix = format!("{}.{}.", info["port"], &info["uid"].as_str().unwrap()[..8]);
    let entries = fs::read_dir(dir.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with(&prefix)).collect()
}

async fn is_quarantined(sandbox: &Sandbox, cluster: &str, info: &Value) {
    let value = sandbox.etcd_json(&format!("/overlord/quarantine/{}", address(info))).await;
    assert_eq!((&value["cluster"], &value["uid"]), (&cluster.into(), &info["uid"]), "{value}");
    assert_eq!((&value["member"], &value["incarnation"]), (&info["member"], &info["incarnation"]), "{value}");
    assert!(value["until"].is_string(), "{value}");
}

#[tokio::test]
async fn a_pool_grows_and_shrinks_and_says_what_that_costs() {
    let sandbox = Sandbox::start(Options::default()).await;
    sandbox.apply(&redis("orders", 1, "")).await;
    let first = sandbox.settled(&["orders"]).await.remove(0);
    Redis::at(address(&first)).one(&["SET", "a", "b"]).await.unwrap();

    sandbox.apply(&redis("orders", 3, "")).await;
    let grown = sandbox.settled(&["orders"]).await;
    assert_eq!(grown.iter().map(|info| info["member"].as_u64().unwrap()).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(pid(&grown[0]), pid(&first));
    assert_eq!(Redis::at(address(&first)).one(&["GET", "a"]).await.unwrap(), "b");
    assert_eq!(sandbox.endpoints("orders").await, grown.iter().map(address).collect::<Vec<_>>());
    for key in ["a", "b"] {
        Redis::at(address(&grown[2])).one(&["SET", key, "x"]).await.unwrap();
    }

    // The newest go first. The empty one may go; the one with keys needs leave.
    sandbox.declare(&redis("orders", 1, "")).await;
    let message = sandbox.wait_condition("orders", "Progressing", "False", "DataLossNotAllowed").await;
    assert!(message.contains("member 2") && message.contains("loses 2 keys"), "{message}");
    assert_eq!(Redis::at(address(&grown[2])).one(&["DBSIZE"]).await.unwrap(), "2");
    assert_eq!(pid(&sandbox.member("orders", 2).await), pid(&grown[2]));

    sandbox.apply(&redis("orders", 1, "  update: {allowDataLoss: true}\n")).await;
    let shrunk = sandbox.settled(&["orders"]).await;
    assert_eq!(shrunk.iter().map(pid).collect::<Vec<_>>(), [pid(&first)]);
    assert_eq!(sandbox.endpoints("orders").await, [address(&first)]);
    for gone in &grown[1..] {
        assert!(!dir(&sandbox, gone).exists());
        is_quarantined(&sandbox, "orders", gone).await;
    }

    // Numbers and quarantined addresses are not used again.
    sandbox.apply(&redis("orders", 2, "")).await;
    let again = sandbox.settled(&["orders"]).await;
    assert_eq!(again[1]["member"], 3);
    assert!(grown.iter().all(|old| address(old) != address(&again[1])), "{again:?}");
    assert_eq!(again[1]["alias"], "orders-3");
    sandbox.end().await;
}

#[tokio::test]
async fn a_deleted_cluster_leaves_nothing_but_what_it_was_told_to_keep() {
    let sandbox = Sandbox::start(Options::default()).await;
    let retain = "  persistence: {mode: rdb}\n  deletion: {onDisk: retain}\n";
    let protected = "  deletion: {protected: true}\n";
    let manifest = all(&[
        redis("kept", 1, retain),
        redis("plain", 2, ""),
        memcache("pages", 1, ""),
        redis("vault", 1, protected),
    ]);
    sandbox.apply(&manifest).await;
    let infos = sandbox.settled(&["kept", "plain", "pages", "vault"]).await;
    let [kept, plain, _, pages, vault] = infos.as_slice() else { panic!("{infos:?}") };
    Redis::at(address(kept)).one(&["SET", "a", "b"]).await.unwrap();

    refused(&sandbox, vault).await;
    let output = sandbox.run(&["delete", "cluster", "plain"]).await;
    assert_eq!(output.status.code(), Some(2), "nobody was there to ask: {output:?}");
    let output = sandbox.run(&["delete", "cluster", "nothing", "--yes"]).await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");

    for name in ["kept", "plain", "pages"] {
        let told = sandbox.ok(&["delete", "cluster", name, "--yes"]).await;
        let id = told.split("task ").nth(1).unwrap().trim_end_matches(")\n").to_owned();
        sandbox.wait_gone(&format!("/overlord/clusters/{name}/")).await;
        sandbox.wait_task(&id, "done").await;
        assert_eq!(sandbox.etcd_get(&format!("/overlord/config/{name}")).await, None);
    }
    sandbox.settled(&["vault"]).await;
    for gone in &infos[..4] {
        assert!(!dir(&sandbox, gone).exists(), "{gone}");
        is_quarantined(&sandbox, gone["alias"].as_str().unwrap().rsplit_once('-').unwrap().0, gone).await;
    }
    assert!(moved_aside(&sandbox, plain).is_empty());
    assert!(moved_aside(&sandbox, pages).is_empty());
    let aside = moved_aside(&sandbox, kept);
    assert_eq!(aside.len(), 1, "{aside:?}");
    let names = ["meta.toml", "redis.conf", "console.log", "dump.rdb"];
    assert!(names.iter().all(|name| aside[0].join(name).is_file()), "{:?}", fs::read_dir(&aside[0]));

    // The same name again is a new cluster: another uid, another place, no data.
    sandbox.apply(&redis("kept", 1, retain)).await;
    let again = sandbox.settled(&["kept", "vault"]).await.remove(0);
    assert_ne!(again["uid"], kept["uid"]);
    assert_ne!(address(&again), address(kept));
    assert_eq!(Redis::at(address(&again)).one(&["DBSIZE"]).await.unwrap(), "0");

    // Protection ends by a spec, and by nothing else.
    sandbox.apply(&redis("vault", 1, "")).await;
    assert_eq!(pid(&sandbox.member("vault", 0).await), pid(vault));
    sandbox.ok(&["delete", "cluster", "vault", "--yes"]).await;
    sandbox.wait_gone("/overlord/clusters/vault/").await;
    sandbox.settled(&["kept"]).await;
    sandbox.end().await;
}

/// Nothing deletes a protected cluster.
async fn refused(sandbox: &Sandbox, vault: &Value) {
    let output = sandbox.run(&["delete", "cluster", "vault", "--yes"]).await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("protected"), "{told}");
    sandbox.etcdctl(&["put", "/overlord/task/by-hand", r#"{"kind": "destroy", "cluster": "vault"}"#]).await;
    let status = sandbox.wait_task("by-hand", "failed").await;
    assert!(status["error"].as_str().unwrap().contains("protected"), "{status}");
    eventually("it runs on", || async {
        let info = sandbox.member("vault", 0).await;
        if info["observed"]["state"] == "running" && pid(&info) == pid(vault) { Ok(()) } else { Err(info) }
    })
    .await;
}
