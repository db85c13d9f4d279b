//! The way to a real master, `OVERLORD_MESOS_MASTER`, tried on a sandbox that several cases share.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::{os::unix::fs::PermissionsExt as _, path::Path, sync::Arc};

use overlord_conformance::{
    case::Case,
    external::External,
    run::{Factory, Outcome, run_against},
    target::{Action, Masters, Target as _},
};
use overlord_sandbox::{AgentConfig, Mesos, MesosConfig, Processes, RunningMesos};
use tokio_util::sync::{CancellationToken, DropGuard};

async fn master(directory: &Path, agents: usize) -> (RunningMesos, DropGuard) {
    let agents = (1..=agents).map(|number| {
        let name = format!("agent{number}");
        let work_dir = directory.join(&name);
        // Another machine than the recorded one: fewer processors, other ports.
        AgentConfig { cpus: 6.0, ports: vec![(30_500, 30_999)], ..AgentConfig::new(name, work_dir) }
    });
    let config = MesosConfig::new(agents.collect(), 7);
    let stop = CancellationToken::new();
    let running = Mesos::start_http(config, Arc::new(Processes::new(None)), stop.clone()).await.unwrap();
    (running, stop.drop_guard())
}

fn no_sandboxes() -> Factory {
    Arc::new(|_| Box::pin(std::future::ready(Err("there is a master".to_owned()))))
}

async fn outcomes(cases: Vec<Case>, agents: usize) -> (Vec<(&'static str, Outcome)>, Vec<String>) {
    let directory = tempfile::tempdir().unwrap();
    let (running, _stop) = master(directory.path(), agents).await;
    let external = External::find(running.master_addr, None).await.unwrap();
    let outcomes = run_against(cases, no_sandboxes(), Some(external), true).await;
    let left = running.mesos.frameworks().into_iter().map(|framework| format!("{framework:?}"));
    (outcomes, left.collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn cases_that_need_frameworks_only_pass_on_a_master_they_share_and_leave_nothing() {
    let names = [
        "03_resubscribe_failover",
        "08_kill_no_caps",
        "14_reconcile",
        "15_other_calls",
        "22_protobuf_accept",
    ];
    let (outcomes, left) = outcomes(names.map(Case::new).to_vec(), 2).await;
    for (name, outcome) in &outcomes {
        assert_eq!(*outcome, Outcome::Passed, "{name}");
    }
    assert_eq!(outcomes.len(), names.len());
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_with_one_agent_will_do() {
    let (outcomes, _) = outcomes(vec![Case::new("16_teardown"), Case::new("14_reconcile")], 1).await;
    for (name, outcome) in &outcomes {
        assert_eq!(*outcome, Outcome::Passed, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cases_that_need_more_are_not_run_and_say_what_they_need() {
    let cases = vec![
        Case::new("18_accept_invalid").with(|setup| setup.agents = 2),
        Case::new("53_credentials").with(|setup| setup.credentials = Some(("p1", "s1"))),
        Case::new("56_no_leader").with(|setup| setup.masters = Masters::Leaderless),
    ];
    let (outcomes, _) = outcomes(cases, 1).await;
    let why: Vec<&Outcome> = outcomes.iter().map(|(_, outcome)| outcome).collect();
    let not_run = |why: &str| Outcome::NotRun(why.to_owned());
    assert_eq!(
        why,
        [&not_run("2 agents"), &not_run("flags credentials=p1:s1"), &not_run("a master without a leader")]
    );
}

#[tokio::test]
async fn a_control_script_gets_action_and_argument_and_its_failure_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let (running, _stop) = master(directory.path(), 1).await;
    let script = directory.path().join("control");
    std::fs::write(
        &script,
        "#!/bin/sh\n[ \"$1\" = agent-kill ] || { echo \"not $1\" >&2; exit 1; }\necho \"did $2\"\n",
    )
    .unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let script = script.display().to_string();
    let external = External::find(running.master_addr, Some(script.clone())).await.unwrap();
    assert_eq!(external.control(Action::AgentKill, "S0").await, Ok("did S0".to_owned()));
    let refused = external.control(Action::MasterKill, "leader").await;
    assert_eq!(refused, Err(format!("{script} master-kill leader: not master-kill")));
}

#[tokio::test]
async fn what_is_no_master_or_has_no_agent_is_refused_with_a_reason() {
    let directory = tempfile::tempdir().unwrap();
    let (running, _stop) = master(directory.path(), 1).await;
    let agent = *running.agents.values().next().unwrap();
    let error = External::find(agent, None).await.unwrap_err();
    assert!(error.contains("is no Mesos master"), "{error}");
}
