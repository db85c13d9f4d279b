//! `overlord sandbox fault` and `overlord sandbox agents`.

use overlord_tests::{Options, Sandbox, eventually, name_of};
use serde_json::Value;

use crate::manifest::{memcache, redis};

/// The state of each agent, by name.
async fn states(sandbox: &Sandbox) -> Vec<(String, String)> {
    let agents: Value = serde_json::from_str(&sandbox.ok(&["sandbox", "agents", "--json"]).await).unwrap();
    let text = |agent: &Value, name: &str| agent[name].as_str().unwrap().to_owned();
    agents.as_array().unwrap().iter().map(|agent| (text(agent, "name"), text(agent, "state"))).collect()
}

async fn fault(sandbox: &Sandbox, words: &[&str]) -> String {
    sandbox.ok(&[&["sandbox", "fault"], words].concat()).await
}

#[tokio::test]
async fn faults_are_made_by_word_and_agents_are_seen_to_suffer_them() {
    let sandbox = Sandbox::start(Options { agents: 2, ..Options::default() }).await;
    let table = sandbox.ok(&["sandbox", "agents"]).await;
    assert!(table.contains("NAME") && table.contains("agent-2") && table.contains("registered"), "{table}");

    assert_eq!(fault(&sandbox, &["agent-kill", "agent-1"]).await, "agent-1 is killed\n");
    let of_first = states(&sandbox).await.remove(0);
    assert_eq!(of_first, ("agent-1".to_owned(), "disconnected".to_owned()));
    assert_eq!(fault(&sandbox, &["agent-return", "agent-1"]).await, "agent-1 is back\n");
    assert_eq!(states(&sandbox).await.remove(0).1, "registered");

    for words in [
        &["partition", "agent-2"][..],
        &["heal", "agent-2"],
        &["drop-updates", "agent-2", "2"],
        &["duplicate-updates", "agent-2"],
        &["delay-updates", "agent-2", "0"],
        &["drop-kills", "agent-2"],
        &["rescind", "agent-2"],
        &["slow", "1"],
        &["slow", "0"],
        &["drain", "agent-2", "1"],
        &["reactivate", "agent-2"],
        &["maintenance", "agent-2", "--after", "10"],
        &["maintenance", "agent-2", "down"],
    ] {
        assert!(!fault(&sandbox, words).await.is_empty(), "{words:?}");
    }
    assert_eq!(states(&sandbox).await.remove(1).1, "removed");

    let output = sandbox.run(&["sandbox", "fault", "agent-lost", "agent-9"]).await;
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("there is no agent \"agent-9\"; there are agent-1, agent-2"), "{said}");
    let output = sandbox.run(&["sandbox", "fault", "agent-lots", "agent-1"]).await;
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("agent-lost"), "what was meant, perhaps: {said}");
    sandbox.end().await;
}

/// The process of etcd.
fn etcd(sandbox: &Sandbox) -> Option<u32> {
    let processes = sandbox.processes();
    processes.into_iter().find(|(_, line)| name_of(line) == "etcd").map(|(pid, _)| pid)
}

#[tokio::test]
async fn etcd_is_killed_and_stopped_and_is_at_the_same_address_with_all_it_had() {
    let sandbox = Sandbox::start(Options { agents: 2, ..Options::default() }).await;
    sandbox.apply(&redis("orders", 1, "")).await;
    let before = sandbox.settled(&["orders"]).await;
    let first = etcd(&sandbox).unwrap();

    assert!(fault(&sandbox, &["etcd-kill", "300"]).await.contains("etcd is killed"));
    eventually("another etcd runs", || async { etcd(&sandbox).filter(|pid| *pid != first).ok_or("not yet") })
        .await;
    let after = sandbox.settled(&["orders"]).await;
    assert_eq!(before[0]["mesosTaskId"], after[0]["mesosTaskId"]);
    assert_eq!(before[0]["observed"]["pid"], after[0]["observed"]["pid"]);

    // Stopped, it answers nothing; one fault after the other.
    assert!(fault(&sandbox, &["etcd-pause", "300"]).await.contains("answers nothing for 300 ms"));
    sandbox.etcdctl(&["put", "/overlord/config/pages", &memcache("pages", 1, "")]).await;
    sandbox.settled(&["orders", "pages"]).await;
    // And stopped for good it is ended with all the rest.
    fault(&sandbox, &["etcd-pause", "600000"]).await;
    sandbox.end().await;
}
