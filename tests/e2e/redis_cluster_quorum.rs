//! Redis clusters that lose more than they can bear: what is left is kept as it is, and a person is told.

use std::time::Duration;

use overlord_tests::{ClusterClient, Options, Redis, Sandbox, Writer, condition, eventually, signal};
use rustix::process::Signal;

use crate::{
    manifest::{address, pid, redis_cluster},
    shards::{Cluster, process_at},
};

const ORDERS: Cluster = Cluster { name: "orders", masters: 3 };

/// So that FAIL is agreed on soon.
const QUICK: &str = "  config: {cluster-node-timeout: \"2000\"}\n";

/// Writes that each connection of the writer gets confirmed.
const ENOUGH: u64 = 20;

#[tokio::test]
async fn two_of_three_masters_are_no_majority_and_what_replicas_hold_stays() {
    let sandbox = Sandbox::start(Options::default()).await;
    sandbox.apply(&redis_cluster("orders", 3, 1, QUICK)).await;
    let infos = ORDERS.well(&sandbox).await;
    let addresses: Vec<String> = infos.iter().map(address).collect();
    let writer = Writer::start("w", 1, 3, &addresses);
    writer.confirm(ENOUGH).await;
    let history = writer.stop().await;
    let shards = ORDERS.shards(&infos).await;
    for shard in &shards[..2] {
        signal(pid(&shard.master), Signal::KILL);
    }
    let message = eventually("it is told", || async {
        let status = sandbox.status("orders").await;
        let found = condition(&status, "QuorumLost");
        let message = found["message"].as_str().unwrap_or_default().to_owned();
        if found["status"] == "True" { Ok(message) } else { Err(status) }
    })
    .await;
    for shard in &shards[..2] {
        assert!(message.contains(&format!("shard {}", shard.number)), "{message}");
    }
    let text = sandbox.ok(&["describe", "cluster", "orders"]).await;
    assert!(text.contains(&message), "{text}");
    // The others could not elect now: nobody starts empty, and nobody takes over.
    tokio::time::sleep(Duration::from_secs(4)).await;
    for shard in &shards[..2] {
        let replica = Redis::at(address(&shard.replicas[0]));
        let keys: usize = replica.one(&["DBSIZE"]).await.unwrap().parse().unwrap();
        let written = history.confirmed.iter().filter(|write| u64::from(write.shard) == shard.number);
        assert!(keys >= written.count(), "{keys}");
        assert!(process_at(&address(&shard.master)).await.is_err(), "{}", address(&shard.master));
    }
    let status = sandbox.status("orders").await;
    assert_eq!(condition(&status, "QuorumLost")["status"], "True", "{status}");

    sandbox.ok(&["task", "recover", "orders"]).await;
    ORDERS.well(&sandbox).await;
    history.assert_kept(&addresses, "two masters were given up").await;
    sandbox.end().await;
}

#[tokio::test]
async fn a_cluster_whose_processes_all_die_at_once_comes_back_with_what_it_persists() {
    for (persistence, kept) in [("aof", true), ("none", false)] {
        let sandbox = Sandbox::start(Options::default()).await;
        let more = format!("{QUICK}  persistence: {{mode: {persistence}}}\n");
        sandbox.apply(&redis_cluster("orders", 3, 1, &more)).await;
        let infos = ORDERS.well(&sandbox).await;
        let addresses: Vec<String> = infos.iter().map(address).collect();
        let writer = Writer::start("w", 1, 3, &addresses);
        writer.confirm(ENOUGH).await;
        for info in &infos {
            signal(pid(info), Signal::KILL);
        }
        writer.confirm(ENOUGH).await;
        let infos = ORDERS.well(&sandbox).await;
        assert!(infos.iter().all(|info| info["incarnation"] == 0), "{infos:?}");
        let history = writer.stop().await;
        if kept {
            history.assert_kept(&addresses, "all were killed").await;
        } else {
            assert!(!history.losses(&addresses).await.is_empty());
        }
        let status = sandbox.status("orders").await;
        assert_eq!(condition(&status, "DataLost")["status"] == "True", !kept, "{status}");
        sandbox.end().await;
    }
}

#[tokio::test]
async fn a_cluster_comes_back_after_everything_was_off() {
    let mut sandbox = Sandbox::start(Options::default()).await;
    sandbox.apply(&redis_cluster("orders", 3, 1, &format!("{QUICK}  persistence: {{mode: aof}}\n"))).await;
    let before = ORDERS.well(&sandbox).await;
    let addresses: Vec<String> = before.iter().map(address).collect();
    let writer = Writer::start("w", 1, 3, &addresses);
    writer.confirm(ENOUGH).await;
    sandbox.kill().await;
    sandbox.wait_empty().await;
    sandbox.boot().await;
    let after = ORDERS.well(&sandbox).await;
    for (old, new) in before.iter().zip(&after) {
        assert_eq!((address(old), &old["nodeId"]), (address(new), &new["nodeId"]));
        assert_eq!(new["incarnation"], 0, "{new}");
    }
    writer.confirm(ENOUGH).await;
    let history = writer.stop().await;
    history.assert_kept(&addresses, "everything was off").await;
    let mut client = ClusterClient::new(&addresses, 1);
    client.ask(&["SET", "a", "b"]).await.unwrap();
    sandbox.end().await;
}
