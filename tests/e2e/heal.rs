//! What dies comes back, with and without a controller, and the cause is told.

use std::net::TcpListener;

use overlord_tests::{Memcached, Options, Redis, Sandbox, eventually, signal};
use rustix::process::Signal;
use serde_json::Value;

use crate::manifest::{address, all, memcache, pid, redis};

fn kill(pid: u32) {
    signal(pid, Signal::KILL);
}

/// Waits until another process than `old` serves at a redis address.
async fn redis_serves_again(address: &str, old: u32) {
    let server = Redis::at(address);
    eventually("redis serves again", || async {
        let info = server.one(&["INFO", "server"]).await.map_err(|error| error.to_string())?;
        let pid =
            info.lines().find_map(|line| line.strip_prefix("process_id:")).unwrap_or_default().to_owned();
        if pid == old.to_string() { Err("the old one".to_owned()) } else { Ok(()) }
    })
    .await;
    assert_eq!(server.one(&["SET", "a", "b"]).await.unwrap(), "OK");
}

/// The same at a memcached address.
async fn memcached_serves_again(address: &str, old: u32) {
    let server = Memcached::at(address);
    eventually("memcached serves again", || async {
        let pid = server.stat("", "pid").await.map_err(|error| error.to_string())?;
        if pid.is_empty() || pid == old.to_string() { Err(format!("pid {pid}")) } else { Ok(()) }
    })
    .await;
    server.set("a", "b").await.unwrap();
}

/// Waits until the record of a member tells of so many restarts in place; its info.
async fn restarted(sandbox: &Sandbox, cluster: &str, member: u64, restarts: u64) -> Value {
    eventually("the restart is recorded", || async {
        let info = sandbox.member(cluster, member).await;
        let observed = &info["observed"];
        if observed["restarts"] == restarts && observed["state"] == "running" { Ok(info) } else { Err(info) }
    })
    .await
}

#[tokio::test]
async fn killed_processes_serve_again_and_the_cause_is_told() {
    let sandbox = Sandbox::start(Options::default()).await;
    sandbox.apply(&all(&[redis("orders", 2, ""), memcache("pages", 2, "")])).await;
    let before = sandbox.settled(&["orders", "pages"]).await;

    // A redis server.
    let orders = &before[0];
    kill(pid(orders));
    redis_serves_again(&address(orders), pid(orders)).await;
    let after = restarted(&sandbox, "orders", 0, 1).await;
    assert_eq!(address(&after), address(orders));
    assert_eq!(after["mesosTaskId"], orders["mesosTaskId"], "it is restarted inside its Mesos task");
    assert_eq!(after["incarnation"], 0);

    // A memcached server.
    let pages = &before[2];
    kill(pid(pages));
    memcached_serves_again(&address(pages), pid(pages)).await;
    restarted(&sandbox, "pages", 0, 1).await;

    // An executor takes its server with it; another one brings it back, at the same place.
    let other = &before[1];
    kill(sandbox.executor_of(pid(other)));
    redis_serves_again(&address(other), pid(other)).await;
    let after = sandbox.settled(&["orders", "pages"]).await;
    assert_eq!(address(&after[1]), address(other));
    assert_eq!(after[1]["incarnation"], 0);
    assert_ne!(after[1]["mesosTaskId"], other["mesosTaskId"]);

    for (cluster, member) in [("orders", "member/0"), ("pages", "member/0")] {
        let event = sandbox.wait_event(cluster, "ProcessRestarted").await;
        assert_eq!((&event["object"], &event["count"]), (&member.into(), &1.into()), "{event}");
        assert!(event["message"].as_str().unwrap().contains("SIGKILL"), "{event}");
        let text = sandbox.ok(&["describe", "cluster", cluster]).await;
        assert!(text.contains("ProcessRestarted") && text.contains("SIGKILL"), "{text}");
    }
    let event = sandbox.wait_event("orders", "Failed").await;
    assert_eq!(event["object"], "member/1", "{event}");
    let text = sandbox.ok(&["describe", "cluster", "orders"]).await;
    assert!(text.contains("REASON_EXECUTOR_TERMINATED"), "{text}");
    // The others did not notice.
    assert_eq!(pid(&after[3]), pid(&before[3]));
    sandbox.end().await;
}

#[tokio::test]
async fn without_a_controller_servers_serve_again_and_the_cause_is_told_later() {
    let mut sandbox = Sandbox::start(Options { controller: false, ..Options::default() }).await;
    let controller = sandbox.start_controller().await;
    sandbox.apply(&all(&[redis("orders", 2, ""), memcache("pages", 1, "")])).await;
    let before = sandbox.settled(&["orders", "pages"]).await;
    controller.kill().await;

    kill(pid(&before[0]));
    redis_serves_again(&address(&before[0]), pid(&before[0])).await;
    kill(pid(&before[2]));
    memcached_serves_again(&address(&before[2]), pid(&before[2])).await;
    // Only a controller can start an executor.
    kill(sandbox.executor_of(pid(&before[1])));
    eventually("its server is gone too", || async {
        let left: Vec<_> =
            sandbox.servers().into_iter().filter(|(found, _)| *found == pid(&before[1])).collect();
        if left.is_empty() { Ok(()) } else { Err(left) }
    })
    .await;
    let recorded = sandbox.member("orders", 0).await;
    assert_eq!(
        recorded["observed"]["pid"], before[0]["observed"]["pid"],
        "nobody was there to write it down"
    );

    let controller = sandbox.start_controller().await;
    redis_serves_again(&address(&before[1]), pid(&before[1])).await;
    restarted(&sandbox, "orders", 0, 1).await;
    restarted(&sandbox, "pages", 0, 1).await;
    let after = sandbox.settled(&["orders", "pages"]).await;
    for (old, new) in before.iter().zip(&after) {
        assert_eq!(address(old), address(new));
        assert_eq!(new["incarnation"], 0);
    }
    sandbox.wait_event("orders", "ProcessRestarted").await;
    sandbox.wait_event("orders", "Failed").await;
    let text = sandbox.ok(&["describe", "cluster", "orders"]).await;
    assert!(text.contains("SIGKILL") && text.contains("REASON_EXECUTOR_TERMINATED"), "{text}");
    let text = sandbox.ok(&["describe", "cluster", "pages"]).await;
    assert!(text.contains("SIGKILL"), "{text}");
    controller.stop().await;
    sandbox.end().await;
}

#[tokio::test]
async fn a_member_whose_place_is_taken_comes_up_once_it_can() {
    let sandbox = Sandbox::start(Options { agents: 1, ..Options::default() }).await;
    let stranger = TcpListener::bind((sandbox.agent_ip(1), 20_000)).unwrap();
    sandbox.declare(&redis("orders", 1, "  recovery: {restartsBeforeReplace: 1}\n")).await;
    let event = sandbox.wait_event("orders", "Failed").await;
    assert!(event["message"].as_str().unwrap().contains("20000"), "{event}");
    let message = sandbox.wait_condition("orders", "Degraded", "True", "MembersBroken").await;
    assert!(message.contains("20000"), "{message}");
    eventually("it fails more often than it is tried at one place", || async {
        let info = sandbox.member("orders", 0).await;
        if info["observed"]["failures"].as_u64() > Some(1) { Ok(()) } else { Err(info) }
    })
    .await;
    drop(stranger);
    // There is no other host; the one there is will do again.
    let infos = sandbox.settled(&["orders"]).await;
    assert_eq!(Redis::at(address(&infos[0])).one(&["PING"]).await.unwrap(), "PONG");
    sandbox.end().await;
}
