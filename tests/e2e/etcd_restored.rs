//! An etcd that was restored from an older backup under everything that runs: nothing is deleted, nothing is launched a
//! second time, and that is said, until a person accepts it.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::Duration,
};

use overlord_tests::{Options, Sandbox, condition, eventually, eventually_within, name_of, signal};
use rustix::process::Signal;
use serde_json::Value;

use crate::manifest::{all, memcache, pid, redis};

/// How long nothing may happen. Launches and deletions take less than a second.
const QUIET: Duration = Duration::from_secs(6);

/// How long etcd is away while its data are replaced.
const AWAY: &str = "3000";

fn pids(infos: &[Value]) -> BTreeSet<u32> {
    infos.iter().map(pid).collect()
}

fn servers(sandbox: &Sandbox) -> BTreeSet<u32> {
    sandbox.servers().into_iter().map(|(pid, _)| pid).collect()
}

fn etcd_runs(sandbox: &Sandbox) -> bool {
    sandbox.processes().iter().any(|(_, line)| name_of(line) == "etcd")
}

async fn save(sandbox: &Sandbox) -> PathBuf {
    let file = sandbox.scratch().join("etcd.backup");
    sandbox.etcdctl(&["snapshot", "save", file.to_str().unwrap()]).await;
    file
}

/// What an administrator does: stops etcd, replaces its data by the backup's, starts it.
async fn restore(sandbox: &Sandbox, backup: &Path) {
    let before = sandbox.etcd_revision().await;
    sandbox.ok(&["sandbox", "fault", "etcd-kill", AWAY]).await;
    eventually("etcd is down", || async { if etcd_runs(sandbox) { Err("it runs") } else { Ok(()) } }).await;
    let data = sandbox.root().join("etcd/data");
    std::fs::rename(&data, sandbox.scratch().join("lost")).unwrap();
    let output = tokio::process::Command::new("etcdctl")
        .env("ETCDCTL_API", "3")
        .args(["snapshot", "restore"])
        .arg(backup)
        .arg("--data-dir")
        .arg(&data)
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    // There may be no controller that could be asked.
    let endpoint = format!("--endpoints={}", sandbox.etcd());
    let back = || async {
        let mut look = tokio::process::Command::new("etcdctl");
        look.env("ETCDCTL_API", "3").args([
            endpoint.as_str(),
            "--command-timeout=1s",
            "get",
            "/overlord/leader",
        ]);
        if look.output().await.unwrap().status.success() { Ok(()) } else { Err("not yet") }
    };
    eventually("etcd is back", back).await;
    assert!(sandbox.etcd_revision().await < before);
}

/// For a while, exactly these processes run.
async fn nothing_happens(sandbox: &Sandbox, running: &BTreeSet<u32>) {
    let looked = async {
        loop {
            assert_eq!(&servers(sandbox), running);
            assert_eq!(sandbox.executors().len(), running.len());
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let _: Result<(), _> = tokio::time::timeout(QUIET, looked).await;
}

/// The command by which the condition says that the store is accepted.
async fn accept(sandbox: &Sandbox, cluster: &str) {
    let message = sandbox.wait_condition(cluster, "Stale", "True", "StoreWentBack").await;
    assert!(message.contains("overlord store accept"), "{message}");
    let refused = sandbox.run(&["store", "accept"]).await;
    assert_eq!(refused.status.code(), Some(2), "nobody is there to be asked: {refused:?}");
    assert!(sandbox.etcd_get("/overlord/generation").await.is_none());
    let text = sandbox.ok(&["store", "accept", "--yes"]).await;
    assert!(text.contains(cluster) && text.contains("accepted as generation 1"), "{text}");
    assert_eq!(sandbox.etcd_get("/overlord/generation").await.as_deref(), Some("1"));
}

#[tokio::test]
async fn an_older_etcd_under_a_running_controller_deletes_nothing_and_doubles_nothing() {
    let mut sandbox = Sandbox::start(Options { controller: false, ..Options::default() }).await;
    let controller = sandbox.start_controller().await;
    sandbox.apply(&all(&[redis("orders", 2, ""), memcache("pages", 1, "")])).await;
    sandbox.settled(&["orders", "pages"]).await;
    let backup = save(&sandbox).await;

    // What the backup does not know: a member, a whole cluster.
    sandbox.apply(&redis("orders", 3, "")).await;
    sandbox.apply(&memcache("late", 1, "")).await;
    let before = sandbox.settled(&["late", "orders", "pages"]).await;
    let running = pids(&before);
    assert_eq!(running.len(), 5);

    restore(&sandbox, &backup).await;
    for cluster in ["orders", "pages"] {
        let message = sandbox.wait_condition(cluster, "Stale", "True", "StoreWentBack").await;
        assert!(message.contains("went back"), "{message}");
    }
    // A spec that is gone is no order now, and neither is one that differs from what runs.
    let text = sandbox.etcd_get("/overlord/config/pages").await.unwrap();
    sandbox.etcdctl(&["del", "/overlord/config/pages"]).await;
    nothing_happens(&sandbox, &running).await;
    assert!(!sandbox.infos("pages").await.is_empty());
    let status = sandbox.status("orders").await;
    assert_eq!(condition(&status, "Ready")["status"], "Unknown", "{status}");

    // That the controller starts again, and that the revision grows beyond what it was, accepts nothing.
    controller.kill().await;
    for n in 0..300 {
        sandbox.etcdctl(&["put", "/elsewhere", &n.to_string()]).await;
    }
    let _controller = sandbox.start_controller().await;
    nothing_happens(&sandbox, &running).await;

    // A person puts the specs right, and accepts.
    sandbox.etcdctl(&["put", "/overlord/config/pages", &text]).await;
    sandbox.etcdctl(&["put", "/overlord/config/orders", &redis("orders", 3, "")]).await;
    sandbox.etcdctl(&["put", "/overlord/config/late", &memcache("late", 1, "")]).await;
    accept(&sandbox, "orders").await;
    let whole = || async {
        for (cluster, size) in [("orders", 3), ("pages", 1)] {
            let infos = sandbox.infos(cluster).await;
            let status = sandbox.status(cluster).await;
            if infos.len() != size || condition(&status, "Stale")["status"] != "False" {
                return Err(format!("{status} {infos:?}"));
            }
        }
        Ok(())
    };
    eventually_within(Duration::from_secs(90), "what runs is recorded again", whole).await;
    assert_eq!(servers(&sandbox), running, "what was forgotten is found again, not launched again");
    // Of this one not even a record is left, so that nobody can tell what belongs to it.
    let message = sandbox.wait_condition("late", "Accepted", "False", "InvalidSpec").await;
    assert!(message.contains("restored from a backup"), "{message}");
    nothing_happens(&sandbox, &running).await;

    // A person ends it: then the spec counts.
    let orphan = before.iter().find(|info| info["kind"] == "memcache" && info["alias"] == "late-0").unwrap();
    signal(sandbox.executor_of(pid(orphan)), Signal::TERM);
    let after = sandbox.settled(&["late", "orders", "pages"]).await;
    let kept: BTreeSet<u32> = running.iter().copied().filter(|kept| *kept != pid(orphan)).collect();
    assert!(pids(&after).is_superset(&kept), "{kept:?} {after:?}");
    sandbox.end().await;
}

#[tokio::test]
async fn executors_tell_a_controller_without_memory_that_etcd_is_older() {
    let mut sandbox = Sandbox::start(Options { controller: false, ..Options::default() }).await;
    let controller = sandbox.start_controller().await;
    sandbox.apply(&redis("orders", 2, "")).await;
    sandbox.settled(&["orders"]).await;
    let backup = save(&sandbox).await;
    sandbox.apply(&redis("orders", 3, "")).await;
    let running = pids(&sandbox.settled(&["orders"]).await);
    controller.kill().await;

    restore(&sandbox, &backup).await;
    // On another machine, which has no state file.
    let flags = ["--state-file", ""];
    let _controller = sandbox.start_controller_with(&flags).await;
    sandbox.wait_condition("orders", "Stale", "True", "StoreWentBack").await;
    let status = sandbox.ok(&["store", "status"]).await;
    assert!(status.contains("restored from an older backup"), "{status}");
    nothing_happens(&sandbox, &running).await;
    sandbox.etcdctl(&["put", "/overlord/config/orders", &redis("orders", 3, "")]).await;
    accept(&sandbox, "orders").await;
    assert_eq!(pids(&sandbox.settled(&["orders"]).await), running);
    let status = sandbox.ok(&["store", "status"]).await;
    assert!(status.contains("believe it"), "{status}");
    sandbox.end().await;
}
