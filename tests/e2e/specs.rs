//! Specs that come by hand: good ones, broken ones, and ones that vanish.

use std::fs;

use overlord_tests::{Options, Sandbox, condition, eventually};
use serde_json::Value;

use crate::manifest::{address, memcache, pid, redis};

/// `etcdctl put /overlord/config/<name> "$(cat file)"`
async fn put(sandbox: &Sandbox, name: &str, text: &str) {
    let file = sandbox.scratch().join("x.yaml");
    fs::write(&file, text).unwrap();
    let text = fs::read_to_string(file).unwrap();
    // The shell takes the last newlines away.
    sandbox.etcdctl(&["put", &format!("/overlord/config/{name}"), text.trim_end_matches('\n')]).await;
}

/// A name, a text that is broken in its own way, and what must be said of it.
fn broken() -> Vec<(&'static str, String, &'static [&'static str])> {
    vec![
        ("not-yaml", "kind: [Redis\n".to_owned(), &["1:", "config/not-yaml"]),
        ("empty", String::from(" "), &["config/empty"]),
        ("unknown-field", redis("unknown-field", 1, "  sharts: 2\n"), &["8:3", "sharts", "shards"]),
        (
            "wrong-type",
            redis("wrong-type", 1, "").replace("shards: 1", "shards: many"),
            &["6:11", "spec.shards", "many"],
        ),
        (
            "wrong-unit",
            redis("wrong-unit", 1, "").replace("memory: 32Mi", "memory: 32MB"),
            &["7:", "memory", "32MB"],
        ),
        (
            "no-version",
            redis("no-version", 1, "").replace("  version: \"7.0.15\"\n", ""),
            &["spec", "version"],
        ),
        (
            "not-allowed",
            redis("not-allowed", 1, "  config: {maxmemory-polcy: noeviction}\n"),
            &["8:12", "maxmemory-polcy", "maxmemory-policy"],
        ),
        ("other-name", redis("another", 1, ""), &["3:18", "another", "other-name"]),
        (
            "two-documents",
            [redis("two-documents", 1, ""), redis("two-documents", 1, "")].join("---\n"),
            &["two-documents", "one"],
        ),
        (
            "smuggler",
            redis("smuggler", 1, "  config: {maxmemory-policy: \"noeviction\\nrename-command GET X\"}\n"),
            &["8:", "maxmemory-policy"],
        ),
        (
            "no-such-version",
            redis("no-such-version", 1, "").replace("7.0.15", "7.0.1"),
            &["5:", "version", "7.0.1", "7.0.15"],
        ),
    ]
}

#[tokio::test]
async fn specs_put_by_hand_are_reconciled_and_broken_ones_are_told_and_disturb_nobody() {
    let sandbox = Sandbox::start(Options::default()).await;
    put(&sandbox, "orders", &redis("orders", 2, "")).await;
    put(&sandbox, "pages", &memcache("pages", 1, "")).await;
    sandbox.ready("orders").await;
    sandbox.ready("pages").await;
    let before = sandbox.settled(&["orders", "pages"]).await;

    for (name, text, _) in &broken() {
        put(&sandbox, name, text).await;
    }
    put(&sandbox, "Illegal_Name", &redis("illegal", 1, "")).await;
    // A running cluster's own key can be broken too.
    put(&sandbox, "orders", &redis("orders", 2, "  config: {hz: fast}\n")).await;

    put(&sandbox, "pages", &redis("pages", 1, "")).await;

    for (name, _, wanted) in &broken() {
        let message = sandbox.wait_condition(name, "Accepted", "False", "InvalidSpec").await;
        assert!(message.contains(&format!("/overlord/config/{name}")), "{name}: {message}");
        for part in *wanted {
            assert!(message.contains(part), "{name}: {part:?} in {message}");
        }
        assert_eq!(sandbox.status(name).await["phase"], "Pending");
        assert!(sandbox.infos(name).await.is_empty());
        let event = sandbox.wait_event(name, "SpecRefused").await;
        assert_eq!(event["level"], "warning");
    }
    let message = sandbox.wait_condition("orders", "Accepted", "False", "InvalidSpec").await;
    for part in ["/overlord/config/orders", "8:12", "hz", "revision 1 goes on"] {
        assert!(message.contains(part), "{part:?} in {message}");
    }
    let message = sandbox.wait_condition("pages", "Accepted", "False", "InvalidSpec").await;
    for part in ["/overlord/config/pages", "2:", "cannot change from Memcache to Redis", "revision 1 goes on"]
    {
        assert!(message.contains(part), "{part:?} in {message}");
    }
    illegal_name_is_told(&sandbox).await;
    let listed = sandbox.ok(&["get", "clusters"]).await;
    assert!(listed.lines().any(|line| line.starts_with("wrong-unit") && line.contains("32MB")), "{listed}");

    // Nobody noticed.
    for (old, new) in before.iter().zip(processes(&sandbox, &["orders", "pages"]).await) {
        assert_eq!(pid(old), pid(&new));
        assert_eq!(new["observed"]["state"], "running");
    }
    assert_eq!(sandbox.servers().len(), 3);
    for cluster in ["orders", "pages"] {
        let status = sandbox.status(cluster).await;
        assert_eq!(condition(&status, "Ready")["status"], "True", "{status}");
    }

    // Mended, each goes on.
    put(&sandbox, "unknown-field", &redis("unknown-field", 1, "")).await;
    put(&sandbox, "other-name", &redis("other-name", 1, "")).await;
    put(&sandbox, "orders", &redis("orders", 2, "  config: {hz: \"20\"}\n")).await;
    put(&sandbox, "pages", &memcache("pages", 1, "")).await;
    for name in ["unknown-field", "other-name", "orders", "pages"] {
        let status = sandbox.ready(name).await;
        assert_eq!(condition(&status, "Accepted")["status"], "True", "{status}");
    }
    assert_eq!(
        sandbox.infos("orders").await.iter().map(pid).collect::<Vec<_>>(),
        before[..2].iter().map(pid).collect::<Vec<_>>()
    );
    // What was never accepted goes without a trace.
    for (name, ..) in &broken() {
        if !matches!(*name, "unknown-field" | "other-name") {
            sandbox.etcdctl(&["del", &format!("/overlord/config/{name}")]).await;
        }
    }
    sandbox.etcdctl(&["del", "/overlord/config/Illegal_Name"]).await;
    sandbox.settled(&["orders", "pages", "unknown-field", "other-name"]).await;
    sandbox.end().await;
}

async fn processes(sandbox: &Sandbox, clusters: &[&str]) -> Vec<Value> {
    let mut infos = Vec::new();
    for cluster in clusters {
        infos.extend(sandbox.infos(cluster).await);
    }
    infos
}

async fn illegal_name_is_told(sandbox: &Sandbox) {
    let event = eventually("the illegal name is told", || async {
        let events = sandbox.etcd_list("/overlord/events/").await;
        let found = events.into_iter().find(|(_, value)| value.contains("Illegal_Name"));
        found.map(|(_, value)| serde_json::from_str::<Value>(&value).unwrap()).ok_or("no event")
    })
    .await;
    assert_eq!((&event["reason"], &event["level"]), (&"IllegalName".into(), &"warning".into()), "{event}");
    assert!(event["message"].as_str().unwrap().contains("/overlord/config/Illegal_Name"), "{event}");
    let text = sandbox.ok(&["describe", "cluster", "Illegal_Name"]).await;
    assert!(text.contains("Illegal_Name") && text.contains("Error"), "{text}");
}

#[tokio::test]
async fn a_spec_that_vanishes_deletes_only_what_may_be_deleted() {
    let sandbox = Sandbox::start(Options { agents: 4, ..Options::default() }).await;
    let protected = "  deletion: {protected: true}\n";
    let ordinary = ["one", "two", "three", "four", "five", "six"];
    let mut manifests = vec![redis("vault", 1, protected), redis("plain", 1, "")];
    manifests.extend(ordinary.iter().map(|name| memcache(name, 1, "")));
    sandbox.apply(&crate::manifest::all(&manifests)).await;
    let everything = ["vault", "plain", "one", "two", "three", "four", "five", "six"];
    let before = sandbox.settled(&everything).await;

    sandbox.etcdctl(&["del", "/overlord/config/vault"]).await;
    let message = sandbox.wait_condition("vault", "SpecMissing", "True", "Protected").await;
    assert!(message.contains("/overlord/config/vault"), "{message}");
    sandbox.etcdctl(&["del", "/overlord/config/plain"]).await;
    sandbox.wait_gone("/overlord/clusters/plain/").await;
    let vault = sandbox.infos("vault").await;
    assert_eq!(pid(&vault[0]), pid(&before[0]));
    assert_eq!(vault[0]["observed"]["state"], "running");
    assert_eq!(sandbox.servers().len(), 7);

    // More at once than anybody deletes on purpose.
    sandbox.etcdctl(&["del", "--prefix", "/overlord/config/"]).await;
    for name in ordinary {
        let message = sandbox.wait_condition(name, "SpecMissing", "True", "DeletionCeiling").await;
        assert!(message.contains(&format!("/overlord/config/{name}")), "{message}");
    }
    assert_eq!(sandbox.servers().len(), 7, "nothing stops");

    // The specs are applied again: all is as before.
    let mut manifests = vec![redis("vault", 1, protected)];
    manifests.extend(ordinary.iter().map(|name| memcache(name, 1, "")));
    sandbox.apply(&crate::manifest::all(&manifests)).await;
    let after = sandbox.settled(&["vault", "one", "two", "three", "four", "five", "six"]).await;
    let same = |infos: &[Value]| infos.iter().map(pid).collect::<Vec<_>>();
    assert_eq!(same(&after), [same(&before[..1]), same(&before[2..])].concat());
    for name in ["vault", "one"] {
        let status = sandbox.status(name).await;
        assert_eq!(condition(&status, "SpecMissing")["status"], "False", "{status}");
    }
    sandbox.end().await;
}

#[tokio::test]
async fn a_cluster_whose_records_vanish_gets_them_back_and_no_second_one_beside_it() {
    let sandbox = Sandbox::start(Options { agents: 3, ..Options::default() }).await;
    sandbox.apply(&redis("orders", 2, "")).await;
    let before = sandbox.settled(&["orders"]).await;
    let keys = "/overlord/clusters/orders/";
    sandbox.etcdctl(&["del", "--prefix", keys]).await;
    let after = sandbox.settled(&["orders"]).await;
    assert_eq!(before.iter().map(pid).collect::<Vec<_>>(), after.iter().map(pid).collect::<Vec<_>>());
    let told = eventually("what was put back is told", || async {
        let told = sandbox.events("orders", "ValueRestored").await;
        if told.len() >= 4 { Ok(told) } else { Err(told) }
    })
    .await;
    for part in ["record", &address(&before[0]), &address(&before[1])] {
        assert!(
            told.iter().any(|event| event["message"].as_str().unwrap().contains(part)),
            "{part}: {told:?}"
        );
    }
    sandbox.end().await;
}
