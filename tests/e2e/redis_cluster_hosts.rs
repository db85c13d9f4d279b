//! Hosts of redis clusters that go down: any single one leaves a majority and every shard; who is replaced
//! elsewhere is forgotten by everybody; who comes back too late does no harm.
//!
//! `OVERLORD_ROUNDS` says how many of the six hosts go down for each shape, `OVERLORD_TEST_SEED` which.

use std::{collections::BTreeSet, net::TcpListener};

use overlord_tests::{
    Options, Sandbox, Writer, cluster_nodes, condition, eventually, eventually_within, signal,
};
use rand::{SeedableRng as _, rngs::SmallRng, seq::SliceRandom as _};
use rustix::process::Signal;
use serde_json::Value;

use crate::{
    manifest::{address, pid, redis_cluster},
    shards::{Cluster, forgotten, hosts},
};

const ORDERS: Cluster = Cluster { name: "orders", masters: 3 };

/// Hosts of a shape that go down unless `OVERLORD_ROUNDS` says otherwise.
const HOSTS: u64 = 1;

/// Writes that each connection of the writer gets confirmed.
const ENOUGH: u64 = 20;

/// So that FAIL is agreed on soon.
const QUICK: &str = "  config: {cluster-node-timeout: \"2000\"}\n";

/// Replaced soon after a host is lost.
const IMPATIENT: &str = "  config: {cluster-node-timeout: \"2000\"}\n  \
                         recovery: {unreachableAfter: 1s, replaceAfter: 2s, restartsBeforeReplace: 1}\n";

fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// Takes hosts down one at a time, and each time lets the cluster become well again.
async fn any_host_can_be_lost(masters: u16) {
    let seed = number("OVERLORD_TEST_SEED", uuid::Uuid::new_v4().as_u64_pair().0);
    println!("OVERLORD_TEST_SEED={seed}");
    let cluster = Cluster { name: "orders", masters };
    let sandbox = Sandbox::start(Options::default()).await;
    sandbox.apply(&redis_cluster("orders", masters, 1, QUICK)).await;
    let mut infos = cluster.well(&sandbox).await;
    // Eight members may lie on four hosts.
    let agents: BTreeSet<u8> = infos.iter().map(|info| sandbox.agent_at(&address(info))).collect();
    let mut agents: Vec<u8> = agents.into_iter().collect();
    agents.shuffle(&mut SmallRng::seed_from_u64(seed));
    agents.truncate(number("OVERLORD_ROUNDS", HOSTS) as usize);
    for agent in agents {
        let here = |info: &&Value| sandbox.agent_at(&address(info)) == agent;
        let addresses: Vec<String> = infos.iter().map(address).collect();
        let writer = Writer::start(&format!("host-{agent}"), seed, masters, &addresses);
        writer.confirm(ENOUGH).await;
        let lost: Vec<&Value> = infos.iter().filter(here).collect();
        println!("{masters}+{masters}: agent {agent} goes down with {} members", lost.len());
        let shards = cluster.shards(&infos).await;
        let its_masters = shards.iter().filter(|shard| here(&&shard.master)).count();
        assert!(2 * (usize::from(masters) - its_masters) > usize::from(masters), "no majority: {infos:?}");
        assert!(shards.iter().all(|shard| shard.members().any(|info| !here(&info))), "{infos:?}");

        sandbox.host_off(agent).await;
        let left: Vec<String> = infos.iter().filter(|info| !here(info)).map(address).collect();
        for shard in &shards {
            cluster.takes_writes(&left, shard.number).await;
        }
        eventually("those who are left serve all slots", || async {
            let nodes = cluster_nodes(&left[0]).await.map_err(|error| error.to_string())?;
            let serving =
                nodes.iter().filter(|node| node.serves() && !node.has("fail") && !node.has("fail?"));
            if serving.count() == usize::from(masters) { Ok(()) } else { Err(format!("{nodes:?}")) }
        })
        .await;
        eventually("it is told", || async {
            let status = sandbox.status("orders").await;
            if condition(&status, "Degraded")["status"] == "True" { Ok(()) } else { Err(status) }
        })
        .await;
        sandbox.host_on(agent).await;
        let after = cluster.well(&sandbox).await;
        writer.confirm(ENOUGH).await;
        let history = writer.stop().await;
        history.assert_kept(&addresses, &format!("agent {agent}")).await;
        infos = after;
    }
    assert!(infos.iter().all(|info| info["incarnation"] == 0), "{infos:?}");
    sandbox.end().await;
}

#[tokio::test]
async fn three_masters_outlive_any_host() {
    any_host_can_be_lost(3).await;
}

#[tokio::test]
async fn four_masters_outlive_any_host() {
    any_host_can_be_lost(4).await;
}

#[tokio::test]
async fn six_masters_outlive_any_host() {
    any_host_can_be_lost(6).await;
}

/// Waits until a member is replaced and all is well; the infos.
async fn replaced(sandbox: &Sandbox, old: &[&Value]) -> Vec<Value> {
    let limit = std::time::Duration::from_secs(90);
    eventually_within(limit, "the members are replaced", || async {
        for old in old {
            let now = sandbox.member("orders", old["member"].as_u64().unwrap()).await;
            if now["incarnation"] != 1 || now["observed"]["state"] != "running" {
                return Err(now);
            }
        }
        Ok(())
    })
    .await;
    let infos = ORDERS.well(sandbox).await;
    for old in old {
        let new = infos.iter().find(|info| info["member"] == old["member"]).unwrap();
        assert_ne!(new["nodeId"], old["nodeId"]);
        assert_ne!(address(new), address(old));
        assert_eq!(new["shard"], old["shard"]);
        forgotten(&infos, old["nodeId"].as_str().unwrap()).await;
    }
    for shard in ORDERS.shards(&infos).await {
        assert_eq!(hosts(shard.members()).len(), 2, "{shard:?}");
    }
    infos
}

/// A cluster that replaces soon what it lost, and somebody who writes to it.
async fn written_to() -> (Sandbox, Vec<Value>, Writer) {
    let sandbox = Sandbox::start(Options::default()).await;
    sandbox.apply(&redis_cluster("orders", 3, 1, IMPATIENT)).await;
    let infos = ORDERS.well(&sandbox).await;
    let addresses: Vec<String> = infos.iter().map(address).collect();
    (sandbox, infos, Writer::start("w", 1, 3, &addresses))
}

#[tokio::test]
async fn members_of_a_lost_host_are_replaced_and_it_comes_back_without_them() {
    let (sandbox, infos, writer) = written_to().await;
    let shards = ORDERS.shards(&infos).await;
    writer.confirm(ENOUGH).await;
    let agent = sandbox.agent_at(&address(&shards[1].master));
    let lost: Vec<&Value> = infos.iter().filter(|info| sandbox.agent_at(&address(info)) == agent).collect();

    sandbox.host_off(agent).await;
    let now = replaced(&sandbox, &lost).await;
    writer.confirm(ENOUGH).await;
    sandbox.wait_event("orders", "Replaced").await;

    sandbox.host_on(agent).await;
    sandbox.settled(&["orders"]).await;
    // It has nothing more to do with them, and they with it.
    let after = ORDERS.well(&sandbox).await;
    assert_eq!(now.iter().map(address).collect::<Vec<_>>(), after.iter().map(address).collect::<Vec<_>>());
    for old in &lost {
        forgotten(&after, old["nodeId"].as_str().unwrap()).await;
    }
    assert!(sandbox.processes_on(agent).is_empty(), "{:?}", sandbox.processes_on(agent));
    let history = writer.stop().await;
    history.assert_kept(&after.iter().map(address).collect::<Vec<_>>(), "a host was lost").await;
    sandbox.end().await;
}

/// Mesos hears nothing of the agent, but redis goes on there: the worst host to be replaced.
#[tokio::test]
async fn members_of_a_host_that_only_mesos_has_lost_are_replaced_and_get_in_no_more() {
    let (sandbox, infos, writer) = written_to().await;
    let shards = ORDERS.shards(&infos).await;
    writer.confirm(ENOUGH).await;
    let agent = sandbox.agent_at(&address(&shards[0].master));
    let cut: Vec<&Value> = infos.iter().filter(|info| sandbox.agent_at(&address(info)) == agent).collect();

    sandbox.fault("agent-lost", agent).await;
    eventually_within(std::time::Duration::from_secs(90), "its members are replaced", || async {
        for old in &cut {
            let now = sandbox.member("orders", old["member"].as_u64().unwrap()).await;
            if now["incarnation"] != 1 || now["observed"]["state"] != "running" {
                return Err(now);
            }
        }
        Ok(())
    })
    .await;
    let now = sandbox.infos("orders").await;
    ORDERS.serves(&now).await;
    for old in &cut {
        assert!(sandbox.servers().iter().any(|(found, _)| *found == pid(old)), "nobody can end it");
        forgotten(&now, old["nodeId"].as_str().unwrap()).await;
    }
    sandbox.fault("agent-return", agent).await;
    let after = ORDERS.well(&sandbox).await;
    for old in &cut {
        assert!(!sandbox.servers().iter().any(|(found, _)| *found == pid(old)));
        forgotten(&after, old["nodeId"].as_str().unwrap()).await;
    }
    writer.confirm(ENOUGH).await;
    let history = writer.stop().await;
    history.assert_kept(&after.iter().map(address).collect::<Vec<_>>(), "a host was cut off").await;
    sandbox.end().await;
}

#[tokio::test]
async fn a_member_that_cannot_start_where_it_was_is_replaced_elsewhere() {
    let (sandbox, mut infos, writer) = written_to().await;
    // A master first; a replica then, for those who have the time: each is tried some times where it was.
    let shards = if number("OVERLORD_ROUNDS", HOSTS) > HOSTS { 2 } else { 1 };
    for shard in 0..shards {
        writer.confirm(ENOUGH).await;
        let shards = ORDERS.shards(&infos).await;
        let old = if shard == 0 { &shards[shard].master } else { &shards[shard].replicas[0] };
        println!("{} of shard {shard} loses its place", address(old));
        // Its executor goes too: another one gives up sooner where nothing ever ran.
        let squatter = eventually("its port is taken", || async {
            for (process, _) in sandbox.processes_on(sandbox.agent_at(&address(old))) {
                signal(process, Signal::KILL);
            }
            TcpListener::bind(address(old))
        })
        .await;
        infos = replaced(&sandbox, &[old]).await;
        drop(squatter);
    }
    writer.confirm(ENOUGH).await;
    let history = writer.stop().await;
    let addresses: Vec<String> = infos.iter().map(address).collect();
    history.assert_kept(&addresses, "a master and a replica were replaced").await;
    sandbox.end().await;
}
