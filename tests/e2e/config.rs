//! Changed configuration: live where the engine can, refused without harm, restarted where it must be.

use std::fs;

use overlord_tests::{Memcached, Options, Redis, Sandbox, eventually};
use serde_json::Value;

use crate::manifest::{address, all, memcache, pid, redis};

/// The value of a directive in a text of `redis.conf`.
fn directive(text: &str, name: &str) -> Option<String> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).map(str::to_owned)
}

/// What etcd, the file on the agent and the running server say of a directive.
async fn told_of(sandbox: &Sandbox, cluster: &str, info: &Value, name: &str) -> [Option<String>; 3] {
    let address = address(info);
    let key = format!("/overlord/clusters/{cluster}/instances/{address}/server.conf");
    let text = sandbox.etcd_get(&key).await.unwrap();
    let file =
        sandbox.agent_data(sandbox.agent_at(&address)).join(format!("redis/{}/redis.conf", info["port"]));
    let live = Redis::at(&address).config(name).await.unwrap();
    [directive(&text, name), directive(&fs::read_to_string(file).unwrap(), name), Some(live)]
}

fn all_are(value: &str) -> [Option<String>; 3] {
    [(); 3].map(|()| Some(value.to_owned()))
}

#[tokio::test]
async fn a_live_directive_is_set_without_a_restart_and_a_refused_one_leaves_the_old_one_running() {
    let sandbox = Sandbox::start(Options::default()).await;
    sandbox.apply(&redis("orders", 2, "  config: {maxmemory-policy: allkeys-lru}\n")).await;
    let before = sandbox.settled(&["orders"]).await;
    for info in &before {
        assert_eq!(told_of(&sandbox, "orders", info, "maxmemory-policy").await, all_are("allkeys-lru"));
        Redis::at(address(info)).one(&["SET", "a", "b"]).await.unwrap();
    }

    let changed = redis("orders", 2, "  config: {maxmemory-policy: volatile-ttl}\n");
    assert_eq!(sandbox.apply(&changed).await, "redis/orders configured\n");
    let after = sandbox.settled(&["orders"]).await;
    for (old, new) in before.iter().zip(&after) {
        assert_eq!((address(old), pid(old)), (address(new), pid(new)));
        assert_eq!((&new["desired"]["config"], &new["observed"]["config"]), (&2.into(), &2.into()));
        assert_eq!(new["observed"]["restarts"], Value::Null);
        assert_eq!(told_of(&sandbox, "orders", new, "maxmemory-policy").await, all_are("volatile-ttl"));
    }

    // The allow-list knows the directive; this build of redis refuses it (it needs jemalloc of its own).
    let refused = redis("orders", 2, "  config: {maxmemory-policy: allkeys-lfu, activedefrag: \"yes\"}\n");
    let output = sandbox.run_with(&["apply", "-f", "-", "--wait", "--timeout", "2m"], &refused).await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("ConfigRefused") && told.contains("orders will not become Ready"), "{told}");
    let message = sandbox.wait_condition("orders", "Progressing", "False", "ConfigRefused").await;
    assert!(message.contains("Active defragmentation cannot be enabled"), "{message}");
    assert_eq!(sandbox.status("orders").await["phase"], "Paused");
    let event = sandbox.wait_event("orders", "ConfigRefused").await;
    assert!(event["message"].as_str().unwrap().contains("Active defragmentation"), "{event}");
    let (mut wrote, mut kept) = (0, 0);
    for (old, new) in before.iter().zip(sandbox.infos("orders").await) {
        assert_eq!(pid(old), pid(&new));
        let server = Redis::at(address(&new));
        // Nothing of it is half set: neither in the server nor in the file.
        assert_eq!(server.config("maxmemory-policy").await.unwrap(), "volatile-ttl");
        assert_eq!(server.one(&["GET", "a"]).await.unwrap(), "b");
        assert_eq!(
            told_of(&sandbox, "orders", &new, "maxmemory-policy").await[1].as_deref(),
            Some("volatile-ttl")
        );
        // The first one refused it: the others never got it.
        if new["desired"]["config"] == 3 { wrote += 1 } else { kept += 1 }
    }
    assert_eq!((wrote, kept), (1, 1));
    assert_eq!(sandbox.endpoints("orders").await.len(), 2);

    // The way out is another spec.
    sandbox.apply(&changed).await;
    for (old, new) in before.iter().zip(sandbox.settled(&["orders"]).await) {
        assert_eq!(pid(old), pid(&new));
        assert_eq!(told_of(&sandbox, "orders", &new, "maxmemory-policy").await, all_are("volatile-ttl"));
    }
    sandbox.end().await;
}

#[tokio::test]
async fn what_needs_a_restart_waits_for_leave_to_lose_data_and_then_goes_one_by_one() {
    let sandbox = Sandbox::start(Options::default()).await;
    let update = "  update: {minReady: 1s}\n";
    let manifest = all(&[redis("orders", 2, update), memcache("pages", 2, update)]);
    sandbox.apply(&manifest).await;
    let before = sandbox.settled(&["orders", "pages"]).await;
    let orders = &before[..2];
    for info in orders {
        for key in ["a", "b", "c"] {
            Redis::at(address(info)).one(&["SET", key, "x"]).await.unwrap();
        }
    }
    for info in &before[2..] {
        assert_eq!(
            Memcached::at(address(info)).stat("", "limit_maxbytes").await.unwrap(),
            (25 << 20).to_string()
        );
    }

    let databases = "  config: {databases: \"4\"}\n";
    sandbox.declare(&redis("orders", 2, &format!("{update}{databases}"))).await;
    let message = sandbox.wait_condition("orders", "Progressing", "False", "DataLossNotAllowed").await;
    assert!(message.contains("loses 3 keys") && message.contains("allowDataLoss"), "{message}");
    for (old, new) in orders.iter().zip(sandbox.infos("orders").await) {
        assert_eq!(pid(old), pid(&new));
        assert_eq!(new["observed"]["state"], "running");
    }
    let text = sandbox.ok(&["describe", "cluster", "orders"]).await;
    assert!(text.contains("loses 3 keys"), "{text}");

    let allowed = "  update: {minReady: 1s, allowDataLoss: true}\n";
    sandbox.declare(&redis("orders", 2, &format!("{allowed}{databases}"))).await;
    let watched = one_at_a_time(&sandbox, orders).await;
    assert!(watched >= 2, "both were restarted");
    for (old, new) in orders.iter().zip(sandbox.infos("orders").await) {
        assert_eq!(address(old), address(&new));
        assert_ne!(pid(old), pid(&new));
        assert_eq!(new["mesosTaskId"], old["mesosTaskId"], "a restart in place");
        assert_eq!(told_of(&sandbox, "orders", &new, "databases").await, all_are("4"));
    }

    // memcached takes another memory limit while it runs.
    for info in &before[2..] {
        Memcached::at(address(info)).set("a", "b").await.unwrap();
    }
    let live = "  config: {memory-limit: \"16\"}\n";
    sandbox.apply(&memcache("pages", 2, &format!("{update}{live}"))).await;
    for (old, new) in before[2..].iter().zip(sandbox.infos("pages").await) {
        assert_eq!((address(old), pid(old)), (address(&new), pid(&new)));
        let server = Memcached::at(address(&new));
        assert_eq!(server.stat("", "limit_maxbytes").await.unwrap(), (16 << 20).to_string());
        assert_eq!(server.get("a").await.unwrap().as_deref(), Some("b"));
    }

    // Threads are made at its start, and its items go with the process.
    let threads = "  config: {memory-limit: \"16\", threads: \"2\"}\n";
    sandbox.declare(&memcache("pages", 2, &format!("{update}{threads}"))).await;
    let message = sandbox.wait_condition("pages", "Progressing", "False", "DataLossNotAllowed").await;
    assert!(message.contains("loses 1 keys"), "{message}");
    sandbox.apply(&memcache("pages", 2, &format!("{allowed}{threads}"))).await;
    let after = sandbox.settled(&["orders", "pages"]).await;
    for (old, new) in before[2..].iter().zip(&after[2..]) {
        assert_eq!(address(old), address(new));
        assert_ne!(pid(old), pid(new));
        let server = Memcached::at(address(new));
        assert_eq!(server.stat("", "limit_maxbytes").await.unwrap(), (16 << 20).to_string());
        assert_eq!(server.stat("", "threads").await.unwrap(), "2");
    }
    sandbox.end().await;
}

/// Follows a rollout until the cluster is Ready: at each look at most one of its members is down.
/// How many members have another process by then.
async fn one_at_a_time(sandbox: &Sandbox, before: &[Value]) -> usize {
    eventually("the rollout is over", || async {
        let mut down = Vec::new();
        for info in before {
            if Redis::at(address(info)).one(&["PING"]).await.is_err() {
                down.push(address(info));
            }
        }
        assert!(down.len() <= 1, "{down:?} are down at once");
        let status = sandbox.status("orders").await;
        let config = sandbox.mod_revision("/overlord/config/orders").await;
        let over = status["configRevision"].as_i64() == Some(config) && status["phase"] == "Ready";
        if over { Ok(()) } else { Err(status) }
    })
    .await;
    let after = sandbox.infos("orders").await;
    before.iter().zip(&after).filter(|(old, new)| pid(old) != pid(new)).count()
}

#[tokio::test]
async fn a_server_that_dies_at_its_start_tells_its_last_words_and_does_not_disturb_others() {
    let sandbox = Sandbox::start(Options { agents: 3, ..Options::default() }).await;
    sandbox.apply(&redis("orders", 1, "")).await;
    let before = sandbox.settled(&["orders"]).await;
    sandbox.declare(&redis("broken", 1, "  config: {activedefrag: \"yes\"}\n")).await;
    let event = sandbox.wait_event("broken", "Failed").await;
    let message = event["message"].as_str().unwrap();
    assert!(message.contains("Active defragmentation cannot be enabled"), "{message}");
    let text = sandbox.ok(&["describe", "cluster", "broken"]).await;
    assert!(text.contains("Active defragmentation cannot be enabled"), "{text}");
    let message = sandbox.wait_condition("broken", "Degraded", "True", "MembersBroken").await;
    assert!(message.contains("Active defragmentation"), "{message}");

    sandbox.apply(&redis("broken", 1, "")).await;
    let after = sandbox.settled(&["orders", "broken"]).await;
    assert_eq!(pid(&after[0]), pid(&before[0]));
}

#[tokio::test]
async fn other_resources_mean_a_launch_anew_at_the_same_place_with_the_data_that_is_on_disk() {
    let sandbox = Sandbox::start(Options { agents: 3, ..Options::default() }).await;
    let update = "  update: {minReady: 1s}\n";
    let persistent = format!("{update}  persistence: {{mode: rdb}}\n");
    let larger = |manifest: String| manifest.replace("memory: 32Mi", "memory: 64Mi");
    sandbox.apply(&all(&[redis("carts", 2, &persistent), redis("orders", 1, update)])).await;
    let before = sandbox.settled(&["carts", "orders"]).await;
    for info in &before {
        Redis::at(address(info)).one(&["SET", "a", &address(info)]).await.unwrap();
    }

    sandbox.apply(&larger(redis("carts", 2, &persistent))).await;
    let after = sandbox.settled(&["carts", "orders"]).await;
    for (old, new) in before[..2].iter().zip(&after[..2]) {
        assert_eq!((address(old), &old["incarnation"]), (address(new), &new["incarnation"]));
        assert_ne!(old["mesosTaskId"], new["mesosTaskId"]);
        assert_eq!(new["resources"]["memory"], 64 << 20);
        assert_eq!(Redis::at(address(new)).one(&["GET", "a"]).await.unwrap(), address(new));
        assert_eq!(told_of(&sandbox, "carts", new, "maxmemory").await[1].as_deref(), Some("38mb"));
    }

    // Without files it costs what is in memory.
    sandbox.declare(&larger(redis("orders", 1, update))).await;
    let message = sandbox.wait_condition("orders", "Progressing", "False", "DataLossNotAllowed").await;
    assert!(message.contains("loses 1 keys"), "{message}");
    assert_eq!(pid(&sandbox.member("orders", 0).await), pid(&before[2]));
    sandbox.apply(&larger(redis("orders", 1, "  update: {minReady: 1s, allowDataLoss: true}\n"))).await;
    let after = sandbox.settled(&["carts", "orders"]).await;
    assert_eq!(address(&after[2]), address(&before[2]));
    assert_eq!(after[2]["resources"]["memory"], 64 << 20);
    sandbox.end().await;
}
