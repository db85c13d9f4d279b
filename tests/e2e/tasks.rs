//! Requests: put by hand, damaged, unsupported; paused, resumed and aborted.

use std::time::Duration;

use overlord_tests::{Options, Redis, Sandbox, condition, eventually, signal};
use serde_json::{Value, json};

use crate::manifest::{address, all, memcache, pid, redis};

async fn put(sandbox: &Sandbox, id: &str, task: &str) {
    sandbox.etcdctl(&["put", &format!("/overlord/task/{id}"), task]).await;
}

#[tokio::test]
async fn tasks_put_by_hand_are_carried_out_or_refused_with_a_reason() {
    let mut sandbox = Sandbox::start(Options { controller: false, ..Options::default() }).await;
    let controller = sandbox.start_controller().await;
    let manifest = all(&[redis("orders", 2, ""), memcache("pages", 1, ""), memcache("thumbs", 1, "")]);
    sandbox.apply(&manifest).await;
    let before = sandbox.settled(&["orders", "pages", "thumbs"]).await;

    // A deploy of what runs is done at once; one of what nobody declared waits for it.
    put(&sandbox, "again", r#"{"kind": "deploy", "cluster": "orders", "requestedBy": "me"}"#).await;
    let status = sandbox.wait_task("again", "done").await;
    assert_eq!((&status["wanted"], &status["running"]), (&json!(2), &json!(2)), "{status}");
    put(&sandbox, "early", r#"{"kind": "deploy", "cluster": "later"}"#).await;
    let status = sandbox.wait_task("early", "queued").await;
    assert!(status["error"].as_str().unwrap().contains("/overlord/config/later"), "{status}");
    sandbox.etcdctl(&["put", "/overlord/config/later", &memcache("later", 1, "")]).await;
    sandbox.ready("later").await;
    sandbox.wait_task("early", "done").await;

    for (id, text, state, reason) in [
        // What cannot be read may be corrected; what can be read and not be done is over.
        ("damaged", r#"{"kind": "destroy", "clus"#, "queued", "/overlord/task/damaged"),
        ("no-cluster", r#"{"kind": "destroy"}"#, "queued", "cluster"),
        ("unknown-kind", r#"{"kind": "explode", "cluster": "orders"}"#, "queued", "explode"),
        ("unknown-field", r#"{"kind": "destroy", "cluster": "orders", "force": true}"#, "queued", "force"),
        ("illegal-name", r#"{"kind": "destroy", "cluster": "Orders!"}"#, "queued", "not 'O'"),
        ("not-yet", r#"{"kind": "rebalance", "cluster": "orders"}"#, "failed", "not supported"),
        ("drain", r#"{"kind": "drain", "cluster": "pages"}"#, "failed", "not supported"),
    ] {
        put(&sandbox, id, text).await;
        let status = sandbox.wait_task(id, state).await;
        assert!(status["error"].as_str().unwrap().contains(reason), "{id}: {status}");
        assert_eq!(status["finishedAt"].is_string(), state == "failed", "{status}");
    }
    put(&sandbox, "damaged", r#"{"kind": "deploy", "cluster": "orders"}"#).await;
    sandbox.wait_task("damaged", "done").await;
    let listed = sandbox.ok(&["get", "tasks"]).await;
    assert!(
        listed.lines().any(|line| line.starts_with("unknown-kind") && line.contains("explode")),
        "{listed}"
    );
    let after = sandbox.settled(&["orders", "pages", "thumbs", "later"]).await;
    assert_eq!(before.iter().map(pid).collect::<Vec<_>>(), after[..4].iter().map(pid).collect::<Vec<_>>());

    // Destroyed; the spec that is still there does not bring it back.
    put(&sandbox, "remove-pages", r#"{"kind": "destroy", "cluster": "pages"}"#).await;
    sandbox.wait_task("remove-pages", "done").await;
    eventually("the cluster is gone, and said to be", || async {
        let status = sandbox.status("pages").await;
        if status["phase"] == "Deleted" && sandbox.infos("pages").await.is_empty() {
            Ok(())
        } else {
            Err(status)
        }
    })
    .await;
    assert!(sandbox.etcd_get("/overlord/config/pages").await.is_some());

    // The same while nobody is there to do it.
    controller.kill().await;
    put(&sandbox, "remove-thumbs", r#"{"kind": "destroy", "cluster": "thumbs"}"#).await;
    put(&sandbox, "remove-nothing", r#"{"kind": "destroy", "cluster": "nothing"}"#).await;
    assert_eq!(sandbox.servers().len(), 4);
    let controller = sandbox.start_controller().await;
    sandbox.wait_task("remove-thumbs", "done").await;
    sandbox.wait_task("remove-nothing", "done").await;
    eventually("its process is gone", || async {
        let left = sandbox.servers();
        if left.len() == 3 { Ok(()) } else { Err(left) }
    })
    .await;

    // Applied again, a destroyed cluster lives again.
    sandbox.apply(&memcache("pages", 1, "")).await;
    sandbox.etcdctl(&["del", "/overlord/config/thumbs"]).await;
    sandbox.settled(&["orders", "later", "pages"]).await;
    controller.stop().await;
    sandbox.end().await;
}

/// How many restarts were ordered of a cluster's members.
async fn ordered(sandbox: &Sandbox, cluster: &str) -> u64 {
    sandbox.infos(cluster).await.iter().map(|info| info["desired"]["restart"].as_u64().unwrap()).sum()
}

/// The id of the task of the accepted revision.
async fn task_of(sandbox: &Sandbox, cluster: &str, revision: u64) -> String {
    let record = sandbox.etcd_json(&format!("/overlord/clusters/{cluster}/record")).await;
    format!("{cluster}.{}.r{revision}", &record["uid"].as_str().unwrap()[..8])
}

#[tokio::test]
async fn an_update_is_paused_resumed_and_aborted_while_healing_goes_on() {
    let sandbox = Sandbox::start(Options { agents: 3, ..Options::default() }).await;
    sandbox.apply(&redis("orders", 3, "")).await;
    let before = sandbox.settled(&["orders"]).await;

    let update = |databases: u8, ready: &str| {
        let more = format!(
            "  config: {{databases: \"{databases}\"}}\n  update: {{minReady: {ready}, deadline: 2h}}\n"
        );
        redis("orders", 3, &more)
    };
    sandbox.declare(&update(4, "3s")).await;
    eventually("the first restart is ordered", || async {
        match ordered(&sandbox, "orders").await {
            0 => Err("none"),
            _ => Ok(()),
        }
    })
    .await;
    let id = task_of(&sandbox, "orders", 2).await;
    assert_eq!(sandbox.ok(&["task", "pause", &id]).await, format!("task {id} will pause\n"));
    sandbox.wait_task(&id, "paused").await;
    let message = sandbox.wait_condition("orders", "Progressing", "False", "Paused").await;
    assert!(message.contains(&id), "{message}");
    let so_far = ordered(&sandbox, "orders").await;
    assert!(so_far < 3, "{so_far}");

    // Healing is no change: it goes on.
    let victim = sandbox.member("orders", 2).await;
    signal(pid(&victim), rustix::process::Signal::KILL);
    eventually("it is healed", || async {
        let info = sandbox.member("orders", 2).await;
        let healed = info["observed"]["restarts"] == 1 && info["observed"]["state"] == "running";
        if healed { Ok(()) } else { Err(info) }
    })
    .await;
    Redis::at(address(&victim)).one(&["PING"]).await.unwrap();
    // Longer than the next restart would have waited for.
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(ordered(&sandbox, "orders").await, so_far);

    assert_eq!(sandbox.ok(&["task", "resume", &id]).await, format!("task {id} will go on\n"));
    sandbox.wait_task(&id, "done").await;
    sandbox.ready("orders").await;
    for (old, new) in before.iter().zip(sandbox.settled(&["orders"]).await) {
        assert_ne!(pid(old), pid(&new));
        assert_eq!(Redis::at(address(&new)).config("databases").await.unwrap(), "4");
    }
    let output = sandbox.run(&["task", "pause", &id]).await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8(output.stderr).unwrap().contains("done"));

    // One that would wait for an hour, given up.
    let settled = sandbox.infos("orders").await;
    sandbox.declare(&update(8, "1h")).await;
    let id = task_of(&sandbox, "orders", 3).await;
    let status = sandbox.wait_task(&id, "running").await;
    let steps = status["phases"][0]["steps"].to_string();
    assert!(steps.contains("must serve for a while"), "{status}");
    assert_eq!(sandbox.ok(&["task", "abort", &id]).await, format!("task {id} will be aborted\n"));
    sandbox.wait_task(&id, "aborted").await;
    sandbox.wait_condition("orders", "Progressing", "False", "Aborted").await;
    let status = sandbox.status("orders").await;
    assert_eq!(condition(&status, "Ready")["status"], "True", "{status}");
    let same = |infos: &[Value]| infos.iter().map(pid).collect::<Vec<_>>();
    assert_eq!(same(&sandbox.infos("orders").await), same(&settled));

    // Another spec goes on from there: what the processes were started with needs no restart. A newer
    // one supersedes what is at work.
    sandbox.declare(&update(4, "1h")).await;
    let back = task_of(&sandbox, "orders", 4).await;
    sandbox.wait_task(&back, "done").await;
    sandbox.declare(&update(5, "1h")).await;
    let slow = task_of(&sandbox, "orders", 5).await;
    sandbox.wait_task(&slow, "running").await;
    sandbox.apply(&update(4, "0s")).await;
    sandbox.wait_task(&slow, "superseded").await;
    assert_eq!(same(&sandbox.settled(&["orders"]).await), same(&settled));
    sandbox.end().await;
}
