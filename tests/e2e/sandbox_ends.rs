//! However a sandbox ends, it leaves nothing behind.

use std::{path::PathBuf, process::Stdio, time::Duration};

use overlord_tests::{
    Network, Options, Sandbox, binary, eventually, eventually_within, processes_in, signal,
};
use rustix::process::Signal;
use tokio::process::Command;

use crate::manifest::{all, memcache, redis};

#[tokio::test]
async fn a_sandbox_leaves_no_process_when_it_ends_in_any_way() {
    let mut sandbox = Sandbox::start(Options { agents: 3, ..Options::default() }).await;
    sandbox.apply(&all(&[redis("orders", 2, ""), memcache("pages", 1, "")])).await;
    sandbox.settled(&["orders", "pages"]).await;
    // etcd, three executors, three servers.
    assert_eq!(sandbox.processes().len(), 7, "{:?}", sandbox.processes());
    sandbox.kill().await;
    sandbox.wait_empty().await;

    sandbox.boot().await;
    sandbox.settled(&["orders", "pages"]).await;
    // A lost agent's processes are nobody's but the sandbox's.
    sandbox.fault("agent-lost", 1).await;
    sandbox.interrupt().await;
    sandbox.wait_empty().await;
}

#[tokio::test]
async fn a_temporary_sandbox_removes_its_directory() {
    let dir = tempfile::Builder::new().prefix("overlord-test-").tempdir().unwrap();
    let manifest = dir.path().join("orders.yaml");
    std::fs::write(&manifest, redis("orders", 1, "")).unwrap();
    let network = Network::take();
    let mut child = Command::new(binary())
        .args(["sandbox", "--api", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--etcd-port", "0"])
        .args([
            "--master-port",
            "0",
            "--agents",
            "1",
            "--network",
            &network.ip(0).to_string(),
            "--wait-ready",
            "--apply",
        ])
        .arg(&manifest)
        .env("TMPDIR", dir.path())
        .stdin(Stdio::null())
        .stdout(std::fs::File::create(dir.path().join("log")).unwrap())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let said = eventually("it says that all is Ready", || async {
        let said = std::fs::read_to_string(dir.path().join("log")).unwrap();
        if said.contains("is Ready. Use it:") { Ok(said) } else { Err(said) }
    })
    .await;
    let root = said.lines().next().unwrap().strip_prefix("Sandbox in ").unwrap();
    let root = PathBuf::from(root.split(',').next().unwrap());
    assert!(root.starts_with(dir.path()) && root.is_dir(), "{said}");
    let command = format!("redis-cli -h {} -p 20000 set greeting hello", network.ip(1));
    assert!(said.contains(&command), "{said}");
    assert!(!processes_in(&root).is_empty());

    signal(child.id().unwrap(), Signal::INT);
    let status = tokio::time::timeout(Duration::from_secs(60), child.wait()).await.unwrap().unwrap();
    assert!(status.success(), "{status}");
    assert!(!root.exists(), "{}", root.display());
    eventually_within(Duration::from_secs(30), "no process is left", || async {
        let left = processes_in(dir.path());
        if left.is_empty() { Ok(()) } else { Err(left) }
    })
    .await;
}
