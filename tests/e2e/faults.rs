//! `overlord sandbox fault` and `overlord sandbox agents`.

use overlord_tests::{Options, Sandbox};
use serde_json::Value;

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
