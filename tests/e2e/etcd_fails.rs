//! etcd that stops answering, dies, is full, forgets its history: instances run on, the controller recovers by itself,
//! status says the truth afterwards, and nothing is launched twice.

use std::{collections::BTreeSet, time::Duration};

use overlord_tests::{Memcached, Options, Redis, Sandbox, eventually, name_of, signal};
use rustix::process::Signal;
use serde_json::Value;

use crate::manifest::{address, all, memcache, pid, redis};

fn tasks(infos: &[Value]) -> BTreeSet<String> {
    infos.iter().map(|info| info["mesosTaskId"].as_str().unwrap().to_owned()).collect()
}

fn etcd(sandbox: &Sandbox) -> Option<u32> {
    sandbox.processes().into_iter().find(|(_, line)| name_of(line) == "etcd").map(|(pid, _)| pid)
}

/// Every instance answers its users.
async fn all_serve(infos: &[Value]) {
    for info in infos {
        if info["kind"] == "redis" {
            let answer = Redis::at(address(info)).one(&["PING"]).await;
            assert_eq!(answer.unwrap(), "PONG", "{info}");
        } else {
            Memcached::at(address(info)).set("key", "value").await.unwrap();
        }
    }
}

/// Kills a server, and waits until its executor has started another one in its place.
async fn killed_and_back(sandbox: &Sandbox, victim: &Value) {
    let (old, before) = (pid(victim), sandbox.servers().len());
    signal(old, Signal::KILL);
    eventually("its executor starts it again", || async {
        let servers = sandbox.servers();
        let again = servers.len() == before && servers.iter().all(|(pid, _)| *pid != old);
        let alive = Redis::at(address(victim)).one(&["PING"]).await.is_ok();
        if again && alive { Ok(()) } else { Err(format!("{servers:?}")) }
    })
    .await;
}

/// A world with something in it, and its instances.
async fn world() -> (Sandbox, Vec<Value>) {
    let sandbox = Sandbox::start(Options { controller: true, ..Options::default() }).await;
    sandbox.apply(&all(&[redis("orders", 2, ""), memcache("pages", 2, "")])).await;
    let infos = sandbox.settled(&["orders", "pages"]).await;
    (sandbox, infos)
}

#[tokio::test]
async fn a_stopped_etcd_that_takes_connections_and_never_answers_stops_nobody() {
    let (sandbox, before) = world().await;
    // Longer than the lease: the leader steps down meanwhile.
    sandbox.ok(&["sandbox", "fault", "etcd-pause", "12000"]).await;
    killed_and_back(&sandbox, &before[0]).await;
    all_serve(&before).await;
    let refused = sandbox.run(&["get", "clusters"]).await;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("etcd"), "{said}");
    eventually("etcd answers again", || async {
        if sandbox.run(&["get", "clusters"]).await.status.success() { Ok(()) } else { Err("not yet") }
    })
    .await;
    let after = sandbox.settled(&["orders", "pages"]).await;
    assert_eq!(tasks(&before), tasks(&after), "nothing was launched");
    // What happened in between is known now, and all goes on.
    let restarts = |infos: &[Value]| infos[0]["observed"]["restarts"].as_u64().unwrap_or(0);
    assert_eq!(restarts(&after), restarts(&before) + 1);
    sandbox.apply(&redis("orders", 3, "")).await;
    let after = sandbox.settled(&["orders", "pages"]).await;
    assert!(tasks(&after).is_superset(&tasks(&before)) && after.len() == 5);
    sandbox.end().await;
}

#[tokio::test]
async fn an_etcd_that_dies_under_a_change_and_comes_back_ends_it_once() {
    let (sandbox, before) = world().await;
    let first = etcd(&sandbox).unwrap();
    sandbox.declare(&all(&[redis("orders", 4, ""), memcache("pages", 1, "")])).await;
    sandbox.ok(&["sandbox", "fault", "etcd-kill", "4000"]).await;
    all_serve(&before[..2]).await;
    eventually("another etcd runs", || async { etcd(&sandbox).filter(|pid| *pid != first).ok_or("not yet") })
        .await;
    let after = sandbox.settled(&["orders", "pages"]).await;
    assert_eq!(after.len(), 5);
    assert!(tasks(&after).is_superset(&tasks(&before[..2])), "those that stay are the same");
    sandbox.end().await;
}

#[tokio::test]
async fn an_etcd_out_of_space_changes_nothing_and_with_room_again_all_goes_on() {
    let (sandbox, before) = world().await;
    let leader = sandbox.etcd_json("/overlord/leader").await;
    sandbox.fill_etcd().await.unwrap();
    killed_and_back(&sandbox, &before[0]).await;
    // Longer than leases last: a lease is renewed without space.
    tokio::time::sleep(Duration::from_secs(8)).await;
    all_serve(&before).await;
    assert_eq!(sandbox.etcd_json("/overlord/leader").await, leader);
    let refused = sandbox.run_with(&["apply", "-f", "-"], &redis("orders", 3, "")).await;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("out of space"), "{said}");
    assert!(said.contains("alarm"), "what to do: {said}");
    assert_eq!(sandbox.servers().len(), before.len());

    sandbox.etcdctl(&["alarm", "disarm"]).await;
    let after = sandbox.settled(&["orders", "pages"]).await;
    assert_eq!(tasks(&before), tasks(&after));
    sandbox.apply(&redis("orders", 3, "")).await;
    assert_eq!(sandbox.settled(&["orders", "pages"]).await.len(), 5);
    sandbox.end().await;
}

#[tokio::test]
async fn history_that_is_forgotten_while_a_controller_sleeps_is_read_anew() {
    let mut sandbox = Sandbox::start(Options { controller: false, lease: 30, ..Options::default() }).await;
    let controller = sandbox.start_controller().await;
    sandbox.apply(&all(&[redis("orders", 2, ""), memcache("pages", 1, "")])).await;
    let before = sandbox.settled(&["orders", "pages"]).await;
    signal(controller.pid(), Signal::STOP);
    // Its watches end with this etcd, and the next one has forgotten what they missed.
    let first = etcd(&sandbox).unwrap();
    sandbox.ok(&["sandbox", "fault", "etcd-kill", "0"]).await;
    eventually("another etcd runs", || async { etcd(&sandbox).filter(|pid| *pid != first).ok_or("not yet") })
        .await;
    eventually("it answers", || async {
        let endpoints = format!("--endpoints={}", sandbox.etcd());
        let mut put = tokio::process::Command::new("etcdctl");
        put.env("ETCDCTL_API", "3").arg(endpoints);
        put.args(["put", "/overlord/config/orders", &redis("orders", 3, "")]);
        if put.output().await.unwrap().status.success() { Ok(()) } else { Err("not yet") }
    })
    .await;
    sandbox.etcdctl(&["del", "/overlord/config/pages"]).await;
    let now = sandbox.etcd_revision().await;
    sandbox.etcdctl(&["compact", "--physical", &now.to_string()]).await;
    signal(controller.pid(), Signal::CONT);
    let after = sandbox.settled(&["orders"]).await;
    assert_eq!(after.len(), 3);
    assert!(tasks(&after).is_superset(&tasks(&before[..2])));
    controller.stop().await;
    sandbox.end().await;
}
