//! Executors whose binary comes through Mesos' fetcher.

use std::{fs, path::PathBuf};

use overlord_tests::{Options, Sandbox, eventually};
use sha2::{Digest as _, Sha256};

use crate::manifest::{all, memcache, redis};

/// The run directories of executors in that sandbox.
fn runs(sandbox: &Sandbox) -> Vec<PathBuf> {
    fn below(folder: &std::path::Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if !path.is_dir() || path.is_symlink() {
                continue;
            }
            if path.parent().is_some_and(|parent| parent.ends_with("runs")) {
                found.push(path);
            } else {
                below(&path, found);
            }
        }
    }
    let mut found = Vec::new();
    below(&sandbox.root().join("agents"), &mut found);
    found
}

#[tokio::test]
async fn agents_fetch_the_binary_of_the_controller_and_run_it() {
    let sandbox = Sandbox::start(Options { agents: 2, deliver: true, ..Options::default() }).await;
    sandbox.apply(&all(&[redis("orders", 2, ""), memcache("pages", 1, "")])).await;
    let infos = sandbox.settled(&["orders", "pages"]).await;
    let runs = runs(&sandbox);
    assert_eq!(runs.len(), infos.len(), "{runs:?}");
    let original = fs::metadata(overlord_tests::binary()).unwrap().len();
    for run in runs {
        assert_eq!(fs::metadata(run.join("overlord")).unwrap().len(), original, "{}", run.display());
    }
    // It is in use, and served to everybody who knows its digest.
    let shown = sandbox.ok(&["get", "instances"]).await;
    assert!(shown.contains("running"), "{shown}");
    sandbox.end().await;
}

#[tokio::test]
async fn a_binary_that_is_not_the_right_one_is_not_executed_and_people_hear_why() {
    let mut sandbox = Sandbox::start(Options { agents: 1, controller: false, ..Options::default() }).await;
    let wrong = sandbox.scratch().join("overlord-of-somebody");
    let trace = sandbox.scratch().join("executed");
    fs::write(&wrong, format!("#!/bin/sh\ntouch {}\n", trace.display())).unwrap();
    let url = format!("file://{}", wrong.display());
    let digest = "ab".repeat(32);
    let controller =
        sandbox.start_controller_with(&["--executor-url", &url, "--executor-sha256", &digest]).await;
    sandbox.declare(&redis("orders", 1, "")).await;
    let event = sandbox.wait_event("orders", "Failed").await;
    let message = event["message"].as_str().unwrap();
    assert!(message.contains("another sha256 than the controller expects"), "{event}");
    let run = runs(&sandbox).into_iter().next().unwrap();
    let said = fs::read_to_string(run.join("stderr")).unwrap();
    assert!(said.contains(&digest), "{said}");
    assert!(!trace.exists());

    // With the right one, by the same controller's successor, the instance comes up.
    controller.stop().await;
    let right = sandbox.scratch().join("right");
    let program = format!("#!/bin/sh\nexec {} \"$@\"\n", overlord_tests::binary().display());
    fs::write(&right, &program).unwrap();
    let digest = format!("{:x}", Sha256::digest(&program));
    let url = format!("file://{}", right.display());
    let controller =
        sandbox.start_controller_with(&["--executor-url", &url, "--executor-sha256", &digest]).await;
    eventually("the instance runs", || async {
        let infos = sandbox.infos("orders").await;
        if infos.iter().any(|info| info["observed"]["state"] == "running") { Ok(()) } else { Err(infos) }
    })
    .await;
    controller.stop().await;
    sandbox.end().await;
}
