//! A newer controller: what runs stays as it is, is told to be outdated, and is launched anew when a person asks for it.

use std::time::Duration;

use overlord_tests::{ClusterClient, Controller, Options, Redis, Sandbox, eventually_within};
use serde_json::Value;

use crate::manifest::{address, all, pid, redis, redis_cluster};

fn pids(infos: &[Value]) -> Vec<u32> {
    infos.iter().map(pid).collect()
}

/// A controller whose executors are started with something else than those before.
async fn other_controller(sandbox: &mut Sandbox) -> Controller {
    let etcd = sandbox.etcd().replace("127.0.0.1", "localhost");
    assert_ne!(etcd, sandbox.etcd());
    sandbox.start_controller_with(&["--executor-etcd", &etcd]).await
}

async fn outdated(sandbox: &Sandbox, cluster: &str, number: u64) {
    eventually_within(Duration::from_secs(60), &format!("{number} of {cluster} are outdated"), || async {
        let status = sandbox.status(cluster).await;
        if status["outdated"].as_u64().unwrap_or(0) == number { Ok(()) } else { Err(status) }
    })
    .await;
}

/// Waits until the task is done; at no moment more than one member of `orders` may be down.
async fn done_one_by_one(sandbox: &Sandbox, id: &str, addresses: &[String]) {
    eventually_within(Duration::from_secs(180), &format!("task {id} is done"), || async {
        let mut down = Vec::new();
        for address in addresses {
            if Redis::at(address).one(&["PING"]).await.is_err() {
                down.push(address);
            }
        }
        assert!(down.len() <= 1, "{down:?} are down at once");
        let status = sandbox.task_status(id).await;
        if status["state"] == "done" { Ok(()) } else { Err(status) }
    })
    .await;
}

#[tokio::test]
async fn a_newer_controller_restarts_nothing_until_it_is_asked_to() {
    let mut sandbox = Sandbox::start(Options { controller: false, ..Options::default() }).await;
    let controller = sandbox.start_controller().await;
    let update = "  update: {minReady: 1s}\n";
    sandbox.apply(&all(&[redis("orders", 3, update), redis_cluster("nodes", 3, 1, update)])).await;
    let before = sandbox.settled(&["nodes", "orders"]).await;
    let nodes: Vec<String> = before[..6].iter().map(address).collect();
    let orders: Vec<String> = before[6..].iter().map(address).collect();
    let mut client = ClusterClient::new(&nodes, 1);
    for n in 0..30 {
        client.ask(&["SET", &format!("k{n}"), "v"]).await.unwrap();
    }
    controller.stop().await;

    let _controller = other_controller(&mut sandbox).await;
    outdated(&sandbox, "orders", 3).await;
    outdated(&sandbox, "nodes", 6).await;
    // Long enough for a restart.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(pids(&before), pids(&sandbox.settled(&["nodes", "orders"]).await), "nothing was restarted");
    let text = sandbox.ok(&["describe", "cluster", "orders"]).await;
    assert!(
        text.contains("3 outdated") && text.contains("overlord task restart orders --outdated"),
        "{text}"
    );

    for (cluster, addresses) in [("orders", &orders), ("nodes", &nodes)] {
        let told = sandbox.ok(&["task", "restart", cluster, "--outdated"]).await;
        let id = told.split_whitespace().nth(1).unwrap().to_owned();
        done_one_by_one(&sandbox, &id, addresses).await;
        outdated(&sandbox, cluster, 0).await;
    }
    let after = sandbox.settled(&["nodes", "orders"]).await;
    for (old, new) in before.iter().zip(&after) {
        assert_ne!((&old["mesosTaskId"], pid(old)), (&new["mesosTaskId"], pid(new)));
        assert_eq!(address(old), address(new));
    }
    // Masters handed over first: no key was lost.
    let mut client = ClusterClient::new(&nodes, 2);
    for n in 0..30 {
        let answer = client.ask(&["GET", &format!("k{n}")]).await.unwrap();
        assert_eq!(answer, [Some(String::from("v"))]);
    }
    // There is nothing left to do.
    let told = sandbox.ok(&["task", "restart", "orders", "--outdated"]).await;
    let id = told.split_whitespace().nth(1).unwrap().to_owned();
    sandbox.wait_task(&id, "done").await;
    assert_eq!(pids(&after), pids(&sandbox.settled(&["nodes", "orders"]).await));
    sandbox.end().await;
}
