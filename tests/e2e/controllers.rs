//! Several controllers: one leads, the others read along, serve the API, and take over.

use overlord_tests::{Controller, Options, Sandbox, eventually};
use serde_json::Value;

use crate::manifest::{address, memcache, pid, redis};

async fn sandbox(lease: u64) -> Sandbox {
    Sandbox::start(Options { agents: 3, controller: false, lease, ..Options::default() }).await
}

/// What `get controllers` says there.
async fn listed(sandbox: &Sandbox) -> Vec<(String, String)> {
    let text = sandbox.ok(&["get", "controllers", "-o", "json"]).await;
    let items: Vec<Value> = serde_json::from_str(&text).expect("JSON");
    let of = |item: &Value, field: &str| item[field].as_str().unwrap_or_default().to_owned();
    items.iter().map(|item| (of(item, "api"), of(item, "role"))).collect()
}

async fn wait_listed(sandbox: &Sandbox, wanted: &[(&Controller, &str)]) {
    let wanted: Vec<(String, String)> =
        wanted.iter().map(|(controller, role)| (controller.api().to_owned(), (*role).to_owned())).collect();
    eventually("all controllers are listed", || async {
        let listed = listed(sandbox).await;
        if listed == wanted { Ok(()) } else { Err(format!("{listed:?}")) }
    })
    .await;
}

/// Waits until every check of `/readyz` there is good.
async fn wait_well(sandbox: &Sandbox, role: &str) {
    eventually("all is well", || async {
        let ready = sandbox.get("/readyz").await;
        let bad = ready["checks"].as_array().into_iter().flatten().any(|check| check["ok"] != true);
        if ready["ready"] == true && ready["role"] == role && !bad { Ok(()) } else { Err(ready) }
    })
    .await;
}

fn processes(infos: &[Value]) -> Vec<(String, u32)> {
    infos.iter().map(|info| (address(info), pid(info))).collect()
}

#[tokio::test]
async fn a_standby_serves_the_api_and_takes_over_at_once_when_the_leader_ends() {
    // Longer than anything is waited for: the lease is not what ends the leadership.
    let mut sandbox = sandbox(90).await;
    let first = sandbox.start_controller().await;
    let second = sandbox.spawn_controller();
    // From here on it is the standby that is asked.
    eventually("the second one answers", || async {
        let output = sandbox.run(&["get", "controllers"]).await;
        if output.status.success() {
            Ok(())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    })
    .await;
    wait_listed(&sandbox, &[(&first, "leader"), (&second, "standby")]).await;
    wait_well(&sandbox, "standby").await;
    let table = sandbox.ok(&["get", "controllers", "-o", "wide"]).await;
    assert!(table.starts_with("ID") && table.contains("standby") && table.contains(first.api()), "{table}");
    sandbox.apply(&redis("orders", 2, "")).await;
    let before = sandbox.settled(&["orders"]).await;
    // What only the leader knows, told by the standby.
    let told = sandbox.get("/v1/leader").await;
    assert_eq!((&told["role"], &told["mesos"]["state"]), (&"leader".into(), &"subscribed".into()), "{told}");
    assert_eq!(told["leader"]["api"], first.api());

    first.stop().await;
    wait_listed(&sandbox, &[(&second, "leader")]).await;
    wait_well(&sandbox, "leader").await;
    sandbox.apply(&memcache("pages", 1, "")).await;
    let after = sandbox.settled(&["orders", "pages"]).await;
    assert_eq!(processes(&before), processes(&after)[..2]);
    second.stop().await;
    assert_eq!(sandbox.etcd_list("/overlord/controllers/").await, []);
    sandbox.end().await;
}

#[tokio::test]
async fn a_standby_takes_over_within_the_lease_of_a_leader_that_died() {
    let mut sandbox = sandbox(2).await;
    let first = sandbox.start_controller().await;
    sandbox.apply(&redis("orders", 2, "")).await;
    let before = sandbox.settled(&["orders"]).await;
    let second = sandbox.spawn_controller();
    eventually("the second one is listed", || async {
        let listed = sandbox.etcd_list("/overlord/controllers/").await;
        if listed.len() == 2 { Ok(()) } else { Err(listed) }
    })
    .await;
    let framework = sandbox.etcd_get("/overlord/framework").await;
    first.kill().await;
    sandbox.wait_leader().await;
    wait_well(&sandbox, "leader").await;
    sandbox.apply(&redis("orders", 3, "")).await;
    let after = sandbox.settled(&["orders"]).await;
    assert_eq!(processes(&before), processes(&after)[..2]);
    assert_eq!(sandbox.etcd_get("/overlord/framework").await, framework);
    // The one that died is listed for a while, and then not any more.
    wait_listed(&sandbox, &[(&second, "leader")]).await;
    second.stop().await;
    sandbox.end().await;
}
