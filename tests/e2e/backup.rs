//! Backups: of a store that was wiped everything comes back, and what runs is adopted; a world that went on is left as
//! it is.

use std::time::Duration;

use overlord_tests::{Options, Sandbox, eventually_within};
use serde_json::Value;

use crate::manifest::{address, all, memcache, pid, redis, redis_cluster};

fn pids(infos: &[Value]) -> Vec<u32> {
    infos.iter().map(pid).collect()
}

fn tasks(infos: &[Value]) -> Vec<String> {
    infos.iter().map(|info| info["mesosTaskId"].as_str().unwrap().to_owned()).collect()
}

async fn backup(sandbox: &Sandbox, name: &str) -> String {
    let file = sandbox.scratch().join(name).display().to_string();
    let told = sandbox.ok(&["backup", &file, "--etcd", &sandbox.etcd()]).await;
    assert!(told.contains("keys of store revision"), "{told}");
    file
}

/// The restores are over: Mesos has said what runs.
async fn verified(sandbox: &Sandbox, clusters: &[&str]) {
    eventually_within(Duration::from_secs(90), "the backup is verified", || async {
        for cluster in clusters {
            let record = sandbox.etcd_json(&format!("/overlord/clusters/{cluster}/record")).await;
            if record.is_null() || !record["restored"].is_null() {
                return Err(record);
            }
        }
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_wiped_store_comes_back_and_what_runs_is_adopted() {
    let mut sandbox = Sandbox::start(Options { controller: false, ..Options::default() }).await;
    let clusters = ["nodes", "orders", "pages"];
    let controller = sandbox.start_controller().await;
    sandbox
        .apply(&all(&[redis("orders", 2, ""), redis_cluster("nodes", 3, 1, ""), memcache("pages", 1, "")]))
        .await;
    let before = sandbox.settled(&clusters).await;
    let file = backup(&sandbox, "b").await;
    let etcd = sandbox.etcd();
    let refused = sandbox.run(&["restore", &file, "--etcd", &etcd]).await;
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("leads"), "{refused:?}");

    controller.stop().await;
    sandbox.etcdctl(&["del", "--prefix", "/overlord/"]).await;
    let told = sandbox.ok(&["restore", &file, "--etcd", &etcd, "--dry-run"]).await;
    assert!(told.contains("+ /overlord/config/orders") && told.contains("+ /overlord/framework"), "{told}");
    assert!(sandbox.etcd_list("/overlord/").await.is_empty(), "a dry run writes nothing");
    sandbox.ok(&["restore", &file, "--etcd", &etcd]).await;
    // Once more changes nothing.
    let revision = sandbox.etcd_revision().await;
    sandbox.ok(&["restore", &file, "--etcd", &etcd]).await;
    assert_eq!(sandbox.etcd_revision().await, revision);

    let _controller = sandbox.start_controller().await;
    verified(&sandbox, &clusters).await;
    let after = sandbox.settled(&clusters).await;
    assert_eq!((pids(&before), tasks(&before)), (pids(&after), tasks(&after)), "no restart, no double");
    // It is a world like any other.
    sandbox.apply(&redis("orders", 3, "")).await;
    sandbox.ok(&["delete", "cluster", "pages", "--yes"]).await;
    sandbox.wait_gone("/overlord/clusters/pages/").await;
    let after = sandbox.settled(&["nodes", "orders"]).await;
    let attempts = |info: &Value| {
        info["mesosTaskId"].as_str().unwrap().rsplit('.').next().unwrap().parse::<u64>().unwrap()
    };
    assert!(after.iter().any(|info| attempts(info) > 10_000), "numbers that were never used");
    sandbox.end().await;
}

#[tokio::test]
async fn a_world_that_went_on_is_left_as_it_is() {
    let mut sandbox = Sandbox::start(Options { controller: false, agents: 4, ..Options::default() }).await;
    let controller = sandbox.start_controller().await;
    sandbox.apply(&all(&[redis("orders", 3, ""), memcache("pages", 1, "")])).await;
    let first = sandbox.settled(&["orders", "pages"]).await;
    let file = backup(&sandbox, "b").await;
    let etcd = sandbox.etcd();

    sandbox.apply(&redis("orders", 2, "")).await;
    sandbox.ok(&["delete", "cluster", "pages", "--yes"]).await;
    sandbox.wait_gone("/overlord/clusters/pages/").await;
    sandbox.apply(&redis("late", 1, "")).await;
    let before = sandbox.settled(&["late", "orders"]).await;
    controller.stop().await;
    let keys = sandbox.etcd_list("/overlord/").await;
    let told = sandbox.ok(&["restore", &file, "--etcd", &etcd]).await;
    assert!(told.contains("--cluster pages") && told.contains("went on since"), "{told}");
    let now = sandbox.etcd_list("/overlord/").await;
    let added: Vec<_> = now.iter().filter(|entry| !keys.contains(entry)).map(|(key, _)| key).collect();
    assert!(added.iter().all(|key| key.starts_with("/overlord/task/")), "{added:?}");
    assert!(keys.iter().all(|entry| now.contains(entry)), "nothing is overwritten or deleted");
    let controller = sandbox.start_controller().await;
    let after = sandbox.settled(&["late", "orders"]).await;
    assert_eq!(pids(&before), pids(&after));
    controller.stop().await;

    // By its name it comes back, although nothing of it runs: as new launches, once Mesos has said so.
    sandbox.ok(&["restore", &file, "--etcd", &etcd, "--cluster", "pages"]).await;
    let _controller = sandbox.start_controller().await;
    verified(&sandbox, &["pages"]).await;
    let after = sandbox.settled(&["late", "orders", "pages"]).await;
    assert_eq!(pids(&before), pids(&after[..3]));
    assert_ne!(tasks(&first[3..]), tasks(&after[3..]));
    sandbox.end().await;
}

#[tokio::test]
async fn newer_instances_than_those_of_the_backup_are_adopted_and_not_doubled() {
    let mut sandbox = Sandbox::start(Options { controller: false, ..Options::default() }).await;
    let controller = sandbox.start_controller().await;
    sandbox.apply(&redis("orders", 2, "")).await;
    let old = sandbox.settled(&["orders"]).await;
    let file = backup(&sandbox, "b").await;
    // Other resources mean other launches.
    sandbox
        .apply(&redis("orders", 2, "  update: {minReady: 0s}\n").replace("memory: 32Mi", "memory: 40Mi"))
        .await;
    let before = sandbox.settled(&["orders"]).await;
    assert!(tasks(&old).iter().zip(tasks(&before)).all(|(old, new)| *old != new));
    controller.stop().await;
    sandbox.etcdctl(&["del", "--prefix", "/overlord/"]).await;
    sandbox.ok(&["restore", &file, "--etcd", &sandbox.etcd()]).await;
    let _controller = sandbox.start_controller().await;
    verified(&sandbox, &["orders"]).await;
    let after = sandbox.settled(&["orders"]).await;
    assert_eq!((pids(&before), tasks(&before)), (pids(&after), tasks(&after)), "no restart, no double");
    assert_eq!(before.iter().map(address).collect::<Vec<_>>(), after.iter().map(address).collect::<Vec<_>>());
    sandbox.end().await;
}
