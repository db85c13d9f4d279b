//! What a scheduler sees: subscriptions, offers, tasks of the command executor, reconciliation, errors; and what
//! operators and their tools see.

use std::{sync::Arc, time::Duration};

use overlord_conformance::{
    case::{Case, Hook, Place},
    external::request,
    target::{Action, Masters},
};

use crate::{checks, executors::Stage};

/// The cases.
pub(crate) fn cases(stage: &Stage<'_>) -> Vec<Case> {
    let mut cases = subscriptions();
    cases.extend(tasks());
    cases.extend(errors());
    cases.extend(operators(stage));
    cases.extend(masters());
    cases
}

fn subscriptions() -> Vec<Case> {
    vec![
        // Heartbeats every second instead of every 15 s.
        Case::new("01_subscribe_new").with(|s| s.scale = 15.0).pause("c2", 42.0).check(checks::heartbeats),
        Case::new("02_subscribe_minimal_disconnect").pause("s2", 0.5),
        Case::new("03_resubscribe_failover").pause("s5", 0.5),
        // The silences of 8 s are cut to 2.
        Case::new("04_decline_revive_suppress")
            .with(|s| s.scale = 4.0)
            .pause("c7", 8.0)
            .pause("c11", 8.0)
            .check(checks::refusals),
        Case::new("21_two_subscriptions"),
        Case::new("22_protobuf_accept"),
        Case::new("40_rescind")
            .with(|s| s.offer_timeout = Some(Duration::from_secs(3)))
            .check(checks::offers_live_three_seconds),
    ]
}

fn tasks() -> Vec<Case> {
    vec![
        Case::new("05_launch_command"),
        // Updates are repeated after 1, 2, 4 s instead of 10, 20, 40.
        Case::new("06_no_ack_retry").with(|s| s.scale = 10.0).check(checks::retries_double),
        Case::new("07_kill").check(checks::graces),
        Case::new("08_kill_no_caps"),
        Case::new("14_reconcile"),
        Case::new("16_teardown"),
        Case::new("17_reserve"),
    ]
}

fn errors() -> Vec<Case> {
    vec![
        Case::new("15_other_calls"),
        // What comes next ends a real master, so that nobody sends it (see `the_client_never_sends_type_unknown`).
        Case::new("60_call_type_UNKNOWN_kills_the_master").until("type UNKNOWN"),
        Case::new("20_http_errors").pause("c55", 0.5),
        Case::new("53_credentials").with(|s| s.credentials = Some(("p1", "s1"))),
    ]
}

fn operators(stage: &Stage<'_>) -> Vec<Case> {
    // What only the Web UI's files, the logging of Mesos itself, or a path on the recorder's machine can answer.
    let not_the_api =
        ["c27", "c28", "c35", "c36", "c71", "c82", "c83", "c84", "c85", "c86", "c87", "c89", "c90"];
    let whole_states = [
        "c8", "c11", "c12", "c14", "c15", "c16", "c17", "c18", "c19", "c20", "c21", "c24", "c25", "c26",
        "c37", "c38", "c39", "c42", "c43", "c44", "c45", "c46", "c48", "c49", "c55", "c60", "c63", "c64",
        "c67", "c68", "c69", "c74", "c75", "c76", "c77", "c78", "c79", "c80", "c81",
    ];
    vec![
        Case::new("18_accept_invalid").with(|s| s.agents = 2).cast(stage.cast("18_accept_invalid", &[])),
        Case::new("30_operator")
            .with(|s| s.agents = 2)
            .cast(stage.cast("30_operator", &[]))
            .leave_out(&not_the_api)
            .rules(|rules| {
                rules.loose.extend(whole_states.map(str::to_owned));
                // Metrics.
                rules.opaque.extend(["c26", "c56", "c70"].map(str::to_owned));
            }),
        Case::new("31_operator_stream")
            // Sent at the same moment as TEARDOWN.
            .leave_out(&["ack6"])
            .rules(|rules| {
                rules.loose.insert("op".to_owned());
            }),
    ]
}

fn masters() -> Vec<Case> {
    vec![
        Case::new("55_two_masters_zk")
            .with(|s| {
                s.masters = Masters::Two;
                s.forgets = true;
                // The ZooKeeper session lasts 2 s instead of 10.
                s.scale = 5.0;
            })
            // The Web UI.
            .leave_out(&["c10"])
            .rules(|rules| {
                // Versions, metrics.
                rules.loose.insert("c5".to_owned());
                rules.opaque.insert("c9".to_owned());
            })
            .control(Place::Note("SIGKILL of the leader"), Action::MasterKill, "leader")
            // A follower names the dead leader until its ZooKeeper session is over; agents are back soon after.
            .step(Place::Before("c34"), leads())
            .control(Place::Note("the old leader comes back"), Action::MasterStart, "leader")
            .pause("c35", 4.0),
        Case::new("56_no_leader").with(|s| s.masters = Masters::Leaderless).rules(|rules| {
            rules.loose.insert("c6".to_owned());
        }),
    ]
}

/// Waits until the second master leads.
fn leads() -> Hook {
    Arc::new(|replay| {
        let master = replay.target.master("127.0.0.1:5260");
        Box::pin(async move {
            for _ in 0..1500 {
                if request(master, "GET", "/master/slaves", "").await.is_ok_and(|body| body.starts_with('{'))
                {
                    return Ok(());
                }
                replay.pass(Duration::from_millis(20)).await;
            }
            Err("the second master does not lead after 30 s".to_owned())
        })
    })
}
