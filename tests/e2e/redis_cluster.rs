//! Redis clusters: formed at once, changed while they run, deleted without a trace.

use std::{fs, time::Duration};

use overlord_tests::{
    ClusterClient, Options, Redis, Sandbox, cluster_faults, condition, eventually, redis_cli_check,
};
use serde_json::Value;

use crate::{
    manifest::{address, all, pid, redis, redis_cluster},
    shards::{Cluster, hosts},
};

const ORDERS: Cluster = Cluster { name: "orders", masters: 3 };

/// Every process of redis that was asked to meet another.
async fn met(infos: &[Value]) -> Vec<String> {
    let mut met = Vec::new();
    for info in infos {
        let stats = Redis::at(address(info)).one(&["INFO", "commandstats"]).await.unwrap();
        if stats.contains("cluster|meet") {
            met.push(format!("{}: {stats}", address(info)));
        }
    }
    met
}

#[tokio::test]
async fn a_cluster_is_formed_changed_live_and_deleted_without_a_trace() {
    let sandbox = Sandbox::start(Options::default()).await;
    sandbox.apply(&redis_cluster("orders", 3, 1, "")).await;
    let infos = ORDERS.well(&sandbox).await;
    assert_eq!(infos.len(), 6);
    assert_eq!(met(&infos).await, Vec::<String>::new());
    placed_apart(&infos).await;
    told(&sandbox, &infos).await;
    served(&sandbox, &infos).await;
    reconfigured(&sandbox, &infos).await;
    let infos = ORDERS.well(&sandbox).await;

    sandbox.ok(&["delete", "cluster", "orders", "--yes"]).await;
    sandbox.wait_gone("/overlord/clusters/orders/").await;
    sandbox.settled(&[]).await;
    for info in &infos {
        let data = sandbox.agent_data(sandbox.agent_at(&address(info)));
        let dir = data.join(format!("redis_cluster/{}", info["port"]));
        assert!(!dir.exists(), "{}", dir.display());
        let quarantine = sandbox.etcd_json(&format!("/overlord/quarantine/{}", address(info))).await;
        assert_eq!(quarantine["uid"], info["uid"], "{quarantine}");
    }
    sandbox.end().await;
}

/// No host has two of a shard, or two of three masters.
async fn placed_apart(infos: &[Value]) {
    let shards = ORDERS.shards(infos).await;
    assert_eq!(hosts(shards.iter().map(|shard| &shard.master)).len(), 3, "{shards:?}");
    for shard in &shards {
        assert_eq!(hosts(shard.members()).len(), 2, "{shard:?}");
        // As it was formed, the masters are the first members.
        assert_eq!(shard.master["member"], shard.number);
        assert_eq!(shard.replicas[0]["member"], shard.number + 3);
    }
}

/// What is written and shown of it.
async fn told(sandbox: &Sandbox, infos: &[Value]) {
    let record = sandbox.etcd_json("/overlord/clusters/orders/record").await;
    assert_eq!((&record["kind"], &record["formed"]), (&"redis_cluster".into(), &true.into()), "{record}");
    for info in infos {
        let key = format!("/overlord/clusters/orders/instances/{}", address(info));
        let seed = sandbox.etcd_get(&format!("{key}/nodes.conf")).await.unwrap();
        let own =
            format!("{} {}@{} myself,", info["nodeId"].as_str().unwrap(), address(info), info["busPort"]);
        assert!(seed.lines().any(|line| line.starts_with(&own)), "{own} in {seed}");
        let conf = sandbox.etcd_get(&format!("{key}/server.conf")).await.unwrap();
        assert!(conf.contains("cluster-enabled yes"), "{conf}");
        assert!((20_000..=22_767).contains(&info["port"].as_u64().unwrap()), "{info}");
        assert!((20_000..=32_767).contains(&info["busPort"].as_u64().unwrap()), "{info}");
    }
    let endpoints = sandbox.etcd_json("/overlord/clusters/orders/endpoints").await;
    let endpoints = endpoints["endpoints"].as_array().unwrap();
    assert_eq!(endpoints.len(), 6, "{endpoints:?}");
    for role in ["master", "slave"] {
        assert_eq!(endpoints.iter().filter(|endpoint| endpoint["role"] == role).count(), 3, "{endpoints:?}");
    }
    let status = sandbox.status("orders").await;
    assert_eq!((&status["wanted"], &status["ready"]), (&6.into(), &6.into()), "{status}");
    let text = sandbox.ok(&["describe", "cluster", "orders"]).await;
    for info in infos {
        assert!(text.contains(&address(info)), "{text}");
    }
    for slots in ["0-5460", "5461-10922", "10923-16383"] {
        assert!(text.contains(slots), "{slots} in {text}");
    }
}

/// Any client can use it, and everything is where a replica has it too.
async fn served(sandbox: &Sandbox, infos: &[Value]) {
    let addresses = sandbox.endpoints("orders").await;
    let mut client = ClusterClient::new(&addresses, 1);
    for n in 0..100 {
        let (key, value) = (format!("key-{n}"), n.to_string());
        client.ask(&["SET", &key, &value]).await.unwrap();
        assert_eq!(client.ask(&["GET", &key]).await.unwrap(), [Some(value)]);
    }
    for shard in ORDERS.shards(infos).await {
        let size = Redis::at(address(&shard.master)).one(&["DBSIZE"]).await.unwrap();
        assert_ne!(size, "0");
        let replica = Redis::at(address(&shard.replicas[0]));
        eventually("the replica has what its master has", || async {
            let own = replica.one(&["DBSIZE"]).await.map_err(|error| error.to_string())?;
            if own == size { Ok(()) } else { Err(own) }
        })
        .await;
    }
}

/// A directive changes on every member while it runs; a wrong one changes nothing and is told.
async fn reconfigured(sandbox: &Sandbox, infos: &[Value]) {
    let live = "  config: {maxmemory-policy: allkeys-lfu, cluster-node-timeout: \"4000\"}\n";
    sandbox.apply(&redis_cluster("orders", 3, 1, live)).await;
    let after = ORDERS.well(sandbox).await;
    for (old, new) in infos.iter().zip(&after) {
        assert_eq!((address(old), pid(old)), (address(new), pid(new)));
        let server = Redis::at(address(new));
        assert_eq!(server.config("maxmemory-policy").await.unwrap(), "allkeys-lfu");
        assert_eq!(server.config("cluster-node-timeout").await.unwrap(), "4000");
    }
    let wrong = "  config: {maxmemory-policy: whatever}\n";
    let output = sandbox.run_with(&["apply", "-f", "-"], &redis_cluster("orders", 3, 1, wrong)).await;
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains("whatever"), "{output:?}");
    // Written past the API it is told in the status, and the last good one stays.
    sandbox.etcdctl(&["put", "/overlord/config/orders", &redis_cluster("orders", 3, 1, wrong)]).await;
    eventually("the wrong spec is told", || async {
        let status = sandbox.status("orders").await;
        let accepted = condition(&status, "Accepted");
        let text = accepted["message"].as_str().unwrap_or_default().to_owned();
        if accepted["status"] == "False" && text.contains("whatever") { Ok(()) } else { Err(status) }
    })
    .await;
    assert_eq!(Redis::at(address(&after[0])).config("maxmemory-policy").await.unwrap(), "allkeys-lfu");
    sandbox.apply(&redis_cluster("orders", 3, 1, live)).await;
}

#[tokio::test]
async fn a_cluster_that_cannot_be_placed_says_why_and_starts_nothing() {
    let sandbox = Sandbox::start(Options { agents: 2, ..Options::default() }).await;
    sandbox.declare(&all(&[redis_cluster("orders", 3, 1, ""), redis("plain", 1, "")])).await;
    sandbox.ready("plain").await;
    let message = eventually("it is unplaceable", || async {
        let status = sandbox.status("orders").await;
        let found = condition(&status, "Unplaceable");
        let message = found["message"].as_str().unwrap_or_default().to_owned();
        // Until all agents have offered what they have, fewer are named.
        let named = message.contains("3 hosts") && message.contains('2');
        if found["status"] == "True" && named { Ok(message) } else { Err(status) }
    })
    .await;
    assert_eq!(sandbox.infos("orders").await, Vec::<Value>::new());
    assert_eq!(sandbox.servers().len(), 1, "that of the other cluster");
    let text = sandbox.ok(&["describe", "cluster", "orders"]).await;
    assert!(text.contains(&message), "{text}");
    sandbox.end().await;
}

#[tokio::test]
async fn masters_without_replicas_and_two_replicas_of_each_are_clusters_too() {
    let sandbox = Sandbox::start(Options::default()).await;
    sandbox.declare(&all(&[redis_cluster("bare", 5, 0, ""), redis_cluster("safe", 3, 2, "")])).await;
    for name in ["bare", "safe"] {
        sandbox.ready(name).await;
    }
    for (cluster, size) in [("bare", 5), ("safe", 9)] {
        let addresses = sandbox.endpoints(cluster).await;
        assert_eq!(addresses.len(), size);
        let masters = if cluster == "bare" { 5 } else { 3 };
        let addresses: Vec<String> = addresses.into_iter().collect();
        eventually("all is well", || cluster_faults(&addresses, masters)).await;
        redis_cli_check(&addresses[0]).await.unwrap();
    }
    let infos = sandbox.infos("safe").await;
    for shard in (Cluster { name: "safe", masters: 3 }).shards(&infos).await {
        assert_eq!(hosts(shard.members()).len(), 3, "{shard:?}");
    }
    sandbox.end().await;
}

#[tokio::test]
async fn an_old_node_of_a_deleted_cluster_does_not_get_into_a_new_one_at_its_addresses() {
    let sandbox = Sandbox::start(Options::default()).await;
    let manifest = redis_cluster("orders", 3, 1, "  config: {cluster-node-timeout: \"1000\"}\n");
    sandbox.apply(&manifest).await;
    let old = ORDERS.well(&sandbox).await;
    // What a careless person keeps of a master, and starts again at another port.
    let data = sandbox.agent_data(sandbox.agent_at(&address(&old[0])));
    let kept = sandbox.scratch().join("kept");
    fs::create_dir_all(&kept).unwrap();
    let from = data.join(format!("redis_cluster/{}", old[0]["port"]));
    fs::copy(from.join("nodes.conf"), kept.join("nodes.conf")).unwrap();
    let conf = fs::read_to_string(from.join("redis.conf")).unwrap();
    let (port, bus) = (format!("port {}", old[0]["port"]), format!("cluster-port {}", old[0]["busPort"]));
    assert!(conf.contains(&port) && conf.contains(&bus), "{conf}");
    let conf = conf.replace(&bus, "cluster-port 22701").replace(&format!("\n{port}\n"), "\nport 22700\n");
    fs::write(kept.join("redis.conf"), conf).unwrap();

    sandbox.ok(&["delete", "cluster", "orders", "--yes"]).await;
    sandbox.wait_gone("/overlord/clusters/orders/").await;
    // Nothing but the quarantine keeps its addresses from being used again.
    sandbox.etcdctl(&["del", "--prefix", "/overlord/quarantine/"]).await;
    sandbox.apply(&manifest).await;
    let new = ORDERS.well(&sandbox).await;
    let reused = new.iter().filter(|info| old.iter().any(|old| address(old) == address(info))).count();
    assert!(reused >= 3, "{reused} addresses are used again");
    let mut client = ClusterClient::new(&new.iter().map(address).collect::<Vec<_>>(), 1);
    for n in 0..100 {
        client.ask(&["SET", &format!("key-{n}"), "new"]).await.unwrap();
    }

    let mut stale = tokio::process::Command::new("redis-server")
        .arg("redis.conf")
        .current_dir(&kept)
        .stdout(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let stale_at = format!("{}:22700", old[0]["ip"].as_str().unwrap());
    // It has tried everybody it knew for longer than the node timeout by then.
    eventually("the old node finds itself alone", || async {
        let info = Redis::at(&stale_at).one(&["CLUSTER", "INFO"]).await.map_err(|error| error.to_string())?;
        if info.contains("cluster_state:fail") { Ok(()) } else { Err(info) }
    })
    .await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(stale.try_wait().unwrap().is_none(), "it runs");
    let addresses: Vec<String> = new.iter().map(address).collect();
    let nodes = cluster_faults(&addresses, 3).await.unwrap();
    assert!(nodes.iter().all(|node| *node.id != old[0]["nodeId"]), "{nodes:?}");
    redis_cli_check(&addresses[0]).await.unwrap();
    for n in 0..100 {
        assert_eq!(client.ask(&["GET", &format!("key-{n}")]).await.unwrap(), [Some("new".to_owned())]);
    }
    stale.kill().await.unwrap();
    ORDERS.well(&sandbox).await;
    sandbox.end().await;
}
