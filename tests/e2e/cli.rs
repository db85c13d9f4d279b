//! The command line as people meet it.

use std::{
    fs,
    path::Path,
    process::{Output, Stdio},
    time::Duration,
};

use overlord_tests::{Options, Sandbox, binary};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{ChildStdout, Command},
};

use crate::manifest::{all, memcache, redis};

/// Reads lines until one holds all of `parts`.
async fn line_with(lines: &mut Lines<BufReader<ChildStdout>>, parts: &[&str]) -> String {
    let found = async {
        loop {
            let line = lines.next_line().await.unwrap().expect("it goes on");
            if parts.iter().all(|part| line.contains(part)) {
                return line;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), found)
        .await
        .unwrap_or_else(|_| panic!("no line with {parts:?}"))
}

/// Runs the program without any sandbox; nobody listens at that address.
async fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(binary());
    command
        .args(arguments)
        .env("OVERLORD_SERVER", "http://127.0.0.1:1")
        .env("XDG_CONFIG_HOME", "/nonexistent");
    command.output().await.unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test]
async fn validate_tells_every_fault_with_its_place_and_needs_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let faulty = dir.path().join("faulty.yaml");
    let name = faulty.to_str().unwrap();
    let first = redis("Orders", 1, "  shardz: 3\n  config: {maxmemory-polcy: allkeys-lru}\n");
    let second = memcache("pages", 0, "  resources: {memory: 64MB}\n");
    fs::write(&faulty, all(&[first, second])).unwrap();
    let output = run(&["validate", "-f", name]).await;
    assert_eq!(output.status.code(), Some(1));
    let told = text(&output.stderr);
    let places = [":3:18", ":8:3", ":9:12", ":16:14", ":18:3"];
    for place in places {
        assert!(told.contains(&format!("{name}{place}")), "{place} in {told}");
    }
    // The line itself, the nearest name, what would be right.
    for part in ["shardz", "did you mean", "maxmemory-policy", "instances", "given twice"] {
        assert!(told.contains(part), "{part} in {told}");
    }

    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let output = run(&["validate", "-f", examples.to_str().unwrap()]).await;
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout).lines().count(), fs::read_dir(&examples).unwrap().count());
    let output = run(&["validate", "-f", "/nonexistent.yaml"]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("/nonexistent.yaml"));
}

#[tokio::test]
async fn without_a_controller_each_command_says_so_in_one_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let manifest = dir.path().join("orders.yaml");
    fs::write(&manifest, redis("orders", 1, "")).unwrap();
    let manifest = manifest.to_str().unwrap();
    for arguments in [
        ["get", "clusters"].as_slice(),
        &["apply", "-f", manifest],
        &["describe", "cluster", "orders"],
        &["endpoints", "orders"],
        &["delete", "cluster", "orders", "--yes"],
        &["task", "pause", "x"],
    ] {
        let output = run(arguments).await;
        assert_eq!(output.status.code(), Some(4), "{arguments:?}: {output:?}");
        let told = text(&output.stderr);
        assert!(told.starts_with("error: ") && told.contains("127.0.0.1:1"), "{told}");
        assert!(told.lines().count() <= 2, "one sentence and the next step: {told}");
        assert!(output.stdout.is_empty());
    }
    let output = run(&["version"]).await;
    assert!(output.status.success());
    assert!(text(&output.stdout).starts_with("overlord "), "{output:?}");
    let output = run(&["get", "gadgets"]).await;
    assert_eq!(output.status.code(), Some(2));
    let output = run(&["--help"]).await;
    assert!(text(&output.stdout).contains("Exit codes"), "{output:?}");
}

#[tokio::test]
async fn commands_show_what_there_is_in_every_format() {
    let sandbox = Sandbox::start(Options { agents: 3, ..Options::default() }).await;
    let dir = sandbox.scratch().join("manifests");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("a.yaml"), redis("orders", 2, "")).unwrap();
    fs::write(dir.join("b.yml"), memcache("pages", 1, "")).unwrap();
    fs::write(dir.join("notes.txt"), "no manifest").unwrap();
    let folder = dir.to_str().unwrap();
    let output = sandbox.run(&["apply", "-f", folder, "--wait", "--timeout", "2m"]).await;
    assert!(output.status.success(), "{output:?}");
    assert_eq!(text(&output.stdout), "redis/orders created\nmemcache/pages created\n");
    assert!(
        text(&output.stderr).contains("orders: 2/2 ready, 2 up to date, Ready"),
        "plain lines: {output:?}"
    );
    // One broken document of a stream hides no other, and none of its faults.
    let stream = all(&[redis("orders", 2, "  config: {hz: \"20\"}\n"), redis("other", 0, "  shardz: 1\n")]);
    let output = sandbox.run_with(&["apply", "-f", "-"], &stream).await;
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(text(&output.stdout), "redis/orders configured\n");
    let told = text(&output.stderr);
    assert!(told.contains("<stdin>:15:11") && told.contains("<stdin>:17:3"), "{told}");
    sandbox.ready("orders").await;

    assert_eq!(sandbox.ok(&["get", "clusters", "-o", "name"]).await, "cluster/orders\ncluster/pages\n");
    let list: Value = serde_json::from_str(&sandbox.ok(&["get", "clusters", "-o", "json"]).await).unwrap();
    assert_eq!(
        (&list[0]["name"], &list[1]["status"]["phase"]),
        (&"orders".into(), &"Ready".into()),
        "{list}"
    );
    let table = sandbox.ok(&["get", "clusters"]).await;
    assert!(table.starts_with("NAME") && table.contains("2/2"), "{table}");
    let manifest = sandbox.ok(&["get", "cluster", "orders", "-o", "yaml"]).await;
    let file = sandbox.scratch().join("again.yaml");
    fs::write(&file, &manifest).unwrap();
    assert_eq!(sandbox.ok(&["apply", "-f", file.to_str().unwrap()]).await, "redis/orders unchanged\n");

    let infos = sandbox.infos("orders").await;
    let wide = sandbox.ok(&["get", "instances", "orders", "-o", "wide"]).await;
    assert_eq!(wide.lines().count(), 3, "{wide}");
    for info in &infos {
        for field in ["alias", "mesosTaskId", "agentId"] {
            assert!(wide.contains(info[field].as_str().unwrap()), "{field} in {wide}");
        }
    }
    let instances: Value =
        serde_json::from_str(&sandbox.ok(&["get", "instances", "-o", "json"]).await).unwrap();
    assert_eq!(instances.as_array().unwrap().len(), 3);
    assert_eq!(instances[0]["info"], infos[0]);
    let tasks = sandbox.ok(&["get", "tasks", "-o", "yaml"]).await;
    assert!(tasks.contains("kind: deploy"), "{tasks}");

    let endpoints = sandbox.endpoints("orders").await;
    assert_eq!(sandbox.ok(&["endpoints", "orders", "-o", "name"]).await, endpoints.join("\n") + "\n");
    let table = sandbox.ok(&["endpoints", "orders"]).await;
    assert!(table.contains("orders-0") && table.contains(&endpoints[1]), "{table}");
    let text_of = sandbox.ok(&["describe", "cluster", "orders"]).await;
    for part in
        ["Phase:", "Ready", "Conditions:", "Members:", "Tasks:", "Events:", "RevisionAccepted", &endpoints[0]]
    {
        assert!(text_of.contains(part), "{part} in {text_of}");
    }
    let version = sandbox.ok(&["version"]).await;
    assert!(version.contains("redis: 7.0.15") && version.contains("memcache: 1.6.18"), "{version}");

    for arguments in [
        ["get", "cluster", "nothing"].as_slice(),
        &["describe", "cluster", "nothing"],
        &["endpoints", "nothing"],
    ] {
        let output = sandbox.run(arguments).await;
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(text(&output.stderr).contains("nothing"), "{output:?}");
    }
    let output = sandbox
        .run_with(
            &["apply", "-f", "-", "--wait", "--timeout", "1s"],
            &redis("far", 1, "  placement: {constraints: [{attribute: rack, operator: is, value: r9}]}\n"),
        )
        .await;
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert!(text(&output.stderr).contains("rack"), "what it waits for: {output:?}");
    sandbox.end().await;
}

#[tokio::test]
async fn a_watch_shows_what_is_there_and_each_change() {
    let sandbox = Sandbox::start(Options { agents: 2, ..Options::default() }).await;
    sandbox.apply(&redis("orders", 1, "")).await;
    let mut child = Command::new(binary())
        .args(["get", "clusters", "--watch", "-o", "json"])
        .env("OVERLORD_SERVER", sandbox.api())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = line_with(&mut lines, &["orders"]).await;
    let view: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(view["status"]["phase"], "Ready", "{view}");
    sandbox.apply(&memcache("pages", 1, "")).await;
    let line = line_with(&mut lines, &["pages", "Ready"]).await;
    let view: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(view["name"], "pages", "one object a line: {view}");
    child.kill().await.unwrap();
    sandbox.end().await;
}
