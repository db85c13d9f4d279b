//! Agents that go away, and come back too late, in time, or at once.

use overlord_tests::{Memcached, Options, Redis, Sandbox, condition, eventually};
use serde_json::Value;

use crate::manifest::{address, all, memcache, pid, redis};

const EVERY_HOST: &str = "  placement: {spread: [{by: host, rule: required}]}\n";

/// Waits until a member is in that state; its info.
async fn wait_state(sandbox: &Sandbox, cluster: &str, member: u64, state: &str) -> Value {
    eventually(&format!("{cluster}/{member} is {state}"), || async {
        let info = sandbox.member(cluster, member).await;
        if info["observed"]["state"] == state { Ok(info) } else { Err(info) }
    })
    .await
}

/// The member of a cluster whose instance is on that agent.
async fn member_on(sandbox: &Sandbox, cluster: &str, agent: u8) -> Value {
    let infos = sandbox.infos(cluster).await;
    infos.into_iter().find(|info| sandbox.agent_at(&address(info)) == agent).unwrap()
}

#[tokio::test]
async fn a_lost_agents_members_are_replaced_after_the_timer_and_kept_before_it() {
    let sandbox = Sandbox::start(Options { agents: 3, ..Options::default() }).await;
    let quick =
        redis("quick", 2, &format!("{EVERY_HOST}  recovery: {{unreachableAfter: 2s, replaceAfter: 3s}}\n"));
    let patient = memcache("patient", 3, EVERY_HOST);
    sandbox.apply(&all(&[quick, patient])).await;
    sandbox.settled(&["quick", "patient"]).await;
    let lost = sandbox.member("quick", 0).await;
    let agent = sandbox.agent_at(&address(&lost));
    let kept = member_on(&sandbox, "patient", agent).await;
    let kept_number = kept["member"].as_u64().unwrap();
    Memcached::at(address(&kept)).set("a", "b").await.unwrap();

    sandbox.fault("agent-lost", agent).await;
    let unreachable = wait_state(&sandbox, "patient", kept_number, "unreachable").await;
    assert_eq!(unreachable["desired"]["state"], "running");
    let message = sandbox.wait_condition("patient", "Degraded", "True", "MembersBroken").await;
    assert!(message.contains("unreachable"), "{message}");
    // It stays published for a while: a flapping agent does not move keys about.
    assert!(sandbox.endpoints("patient").await.contains(&address(&kept)));
    sandbox.wait_event("quick", "Unreachable").await;

    let replacement = eventually("the member is replaced", || async {
        let info = sandbox.member("quick", 0).await;
        let serves = info["incarnation"] == 1 && info["observed"]["state"] == "running";
        if serves { Ok(info) } else { Err(info) }
    })
    .await;
    assert_ne!(sandbox.agent_at(&address(&replacement)), agent);
    assert_eq!(replacement["alias"], "quick-0");
    let event = sandbox.wait_event("quick", "Replaced").await;
    assert_eq!(event["object"], "member/0", "{event}");
    sandbox.ready("quick").await;
    assert_eq!(sandbox.infos("quick").await.len(), 2);
    let endpoints = sandbox.endpoints("quick").await;
    assert_eq!(endpoints.len(), 2);
    assert_eq!(endpoints[0], address(&replacement));
    Redis::at(&endpoints[0]).one(&["SET", "a", "new"]).await.unwrap();
    let record = sandbox.etcd_json("/overlord/clusters/quick/record").await;
    let task = lost["mesosTaskId"].as_str().unwrap();
    assert_eq!(record["tombstones"][task]["address"], address(&lost), "{record}");
    let quarantine = sandbox.etcd_json(&format!("/overlord/quarantine/{}", address(&lost))).await;
    assert_eq!(quarantine["cluster"], "quick", "{quarantine}");
    // Nobody can reach the old process to end it.
    assert!(sandbox.servers().iter().any(|(found, _)| *found == pid(&lost)));

    sandbox.fault("agent-return", agent).await;
    let back = wait_state(&sandbox, "patient", kept_number, "running").await;
    assert_eq!(pid(&back), pid(&kept));
    assert_eq!((&back["incarnation"], &back["mesosTaskId"]), (&kept["incarnation"], &kept["mesosTaskId"]));
    assert_eq!(Memcached::at(address(&back)).get("a").await.unwrap().as_deref(), Some("b"));
    sandbox.wait_event("patient", "Returned").await;
    // The instance that was given up is killed: nothing runs twice.
    sandbox.settled(&["quick", "patient"]).await;
    assert!(!sandbox.servers().iter().any(|(found, _)| *found == pid(&lost)));
    let dir = sandbox.agent_data(agent).join(format!("redis/{}", lost["port"]));
    assert!(!dir.exists(), "{}", dir.display());
    eventually("the tombstone is gone", || async {
        let record = sandbox.etcd_json("/overlord/clusters/quick/record").await;
        if record["tombstones"].is_null() { Ok(()) } else { Err(record) }
    })
    .await;
    assert_eq!(Redis::at(&endpoints[0]).one(&["GET", "a"]).await.unwrap(), "new");
    let status = sandbox.status("patient").await;
    assert_eq!(condition(&status, "Degraded")["status"], "False", "{status}");
    sandbox.end().await;
}

#[tokio::test]
async fn a_restarted_agent_keeps_what_it_runs_and_a_deleted_cluster_does_not_come_back_with_one() {
    let sandbox = Sandbox::start(Options { agents: 2, ..Options::default() }).await;
    sandbox.apply(&all(&[redis("orders", 2, EVERY_HOST), memcache("pages", 2, EVERY_HOST)])).await;
    let before = sandbox.settled(&["orders", "pages"]).await;
    for agent in [1, 2] {
        sandbox.fault("agent-restart", agent).await;
    }
    // The executors are connected again once a nudge reaches them.
    let live = "  config: {maxmemory-policy: allkeys-lfu}\n";
    sandbox.apply(&redis("orders", 2, &format!("{EVERY_HOST}{live}"))).await;
    let after = sandbox.settled(&["orders", "pages"]).await;
    for (old, new) in before.iter().zip(&after) {
        assert_eq!((pid(old), address(old)), (pid(new), address(new)));
        assert_eq!((&old["mesosTaskId"], &old["incarnation"]), (&new["mesosTaskId"], &new["incarnation"]));
    }

    let lost = member_on(&sandbox, "orders", 1).await;
    sandbox.fault("agent-lost", 1).await;
    wait_state(&sandbox, "orders", lost["member"].as_u64().unwrap(), "unreachable").await;
    sandbox.ok(&["delete", "cluster", "orders", "--yes"]).await;
    let event = sandbox.wait_event("orders", "Deleted").await;
    assert!(event["message"].as_str().unwrap().contains("killed when they return"), "{event}");
    assert!(sandbox.servers().iter().any(|(found, _)| *found == pid(&lost)), "it cannot be reached");
    sandbox.fault("agent-return", 1).await;
    sandbox.wait_gone("/overlord/clusters/orders/").await;
    let left = sandbox.settled(&["pages"]).await;
    assert_eq!(left.iter().map(pid).collect::<Vec<_>>(), before[2..].iter().map(pid).collect::<Vec<_>>());
    sandbox.end().await;
}
