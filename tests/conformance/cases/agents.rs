//! What becomes of tasks when agents and masters go and come: captures 41 to 54.

use std::time::Duration;

use overlord_conformance::{
    case::{Case, Place},
    target::Action,
};

use crate::{executors::Stage, hooks};

/// `--agent_ping_timeout=1secs --max_agent_ping_timeouts=3`
const FAST: Duration = Duration::from_secs(3);

/// Cases run at the same time but where a control script is.
const ALONE: &str = "a master that no other case uses";
/// What the second framework says to the rest of the offer it takes a part of, and what it says here.
const TAKES_MORE: &str = "\"refuse_seconds\": 0.0";
const TAKES_NO_MORE: &str = "\"refuse_seconds\": 60.0";

/// The cases. Acknowledgements that were sent at the same moment as TEARDOWN are left out: they find their framework
/// there or gone.
pub(crate) fn cases(stage: &Stage<'_>) -> Vec<Case> {
    let all = losses(stage).into_iter().chain(masters()).chain(frameworks(stage)).chain(operators());
    // When offers come depends on how fast the recorder was; what they are made of is compared elsewhere.
    all.map(|case| case.rules(|rules| rules.any_offers = true)).collect()
}

fn losses(stage: &Stage<'_>) -> Vec<Case> {
    const OF_41: &str = "b176246a-a4e5-4031-9e58-d86c572fe4b7-S0";
    const OF_42: &str = "8a92504d-c79c-4b51-97d0-ec63f9661d22-S0";
    const OF_44: &str = "b45aee65-69f8-4af7-9ae7-4d66cd1661b0-S0";
    const OF_51: &str = "13c502ff-052c-41a0-bb1e-03e0b362c7ab-S0";
    const OF_52: &str = "831c9367-1b5f-402a-885a-169b3c8d938f-S0";
    let restarted = stage.cast_at("42_agent_restart", &["ex42"], 0.3);
    let given_up = stage.cast("51_recovery_timeout", &["ex51"]);
    vec![
        Case::new("41_agent_loss")
            .with(|setup| setup.ping = FAST)
            .with(|setup| setup.alone = true)
            .step(Place::Note("SIGKILL of the agent process"), hooks::until_offered("s1", OF_41))
            .control(Place::Note("SIGKILL of the agent process"), Action::AgentKill, OF_41)
            .control(Place::Note("agent started again, same work_dir"), Action::AgentStart, OF_41)
            // Unreachable tasks are left out of the answer.
            .pause("c13", 0.5)
            .cast(stage.cast("41_agent_loss", &["ex41"])),
        Case::new("42_agent_restart")
            .with(|setup| setup.alone = true)
            .step(Place::Note("SIGTERM to the agent"), hooks::until_offered("s1", OF_42))
            .control(Place::Note("SIGTERM to the agent"), Action::AgentKill, OF_42)
            .step(
                Place::Note("agent started again"),
                hooks::until_written(&restarted, "ex42", "update not sent"),
            )
            .control(Place::Note("agent started again"), Action::AgentStart, OF_42)
            .cast(restarted),
        Case::new("44_agent_usr1")
            .with(|setup| setup.alone = true)
            // Whose the rest of the agent is then, is the allocator's affair: the first framework's.
            .edit(TAKES_MORE, TAKES_NO_MORE)
            .step(Place::Note("SIGUSR1 to the agent"), hooks::until_offered("s1", OF_44))
            .control(Place::Note("SIGUSR1 to the agent"), Action::AgentUnregister, OF_44),
        Case::new("51_recovery_timeout")
            .with(|setup| {
                setup.alone = true;
                setup.recovery = Some(Duration::from_secs(5));
            })
            .step(Place::After("ack6"), hooks::until_offered("s1", OF_51))
            .control(Place::After("ack6"), Action::AgentKill, OF_51)
            .step(
                Place::Note("agent killed; 12 s pause"),
                hooks::until_written(&given_up, "ex51", "recovery timeout, exit"),
            )
            .step(Place::Note("agent killed; 12 s pause"), hooks::pass(Duration::from_secs(2)))
            .control(Place::Note("agent killed; 12 s pause"), Action::AgentStart, OF_51)
            .cast(given_up),
        Case::new("52_agent_new_id").with(|setup| setup.alone = true).control(
            Place::Note("agent with an empty work_dir"),
            Action::AgentNew,
            OF_52,
        ),
    ]
}

fn masters() -> Vec<Case> {
    let restarted = |capture| {
        Case::new(capture)
            .with(|setup| setup.agents = 2)
            .control(Place::Note("SIGKILL of the master"), Action::MasterKill, "leader")
            .control(Place::Note("old connection closed"), Action::MasterStart, "leader")
    };
    vec![
        restarted("45_master_restart")
            // Agents notice by missing pings, 15 s each.
            .with(|setup| setup.agents_return = Some(Duration::from_millis(3500)))
            // It catches the moment of recovery; the step does.
            .leave_out(&["s7", "ack18"])
            .step(Place::Before("s8"), hooks::until_recovered())
            // Silence.
            .pause("c12", 0.5)
            .step(Place::Before("c13"), hooks::until_agents("s8", 2)),
        restarted("45b_master_restart_fast_ping")
            .with(|setup| {
                setup.ping = FAST;
            })
            // Agents may be back already.
            .leave_out(&["c8", "c9", "c10", "ack16"])
            .step(Place::Before("s7"), hooks::until_recovered())
            .step(Place::Before("c12"), hooks::until_agents("s7", 2)),
        Case::new("46_master_restart_in_memory")
            .leave_out(&["ack10"])
            .with(|setup| {
                setup.alone = true;
                setup.ping = FAST;
                setup.forgets = true;
            })
            .control(Place::After("ack4"), Action::MasterKill, "leader")
            .control(Place::Before("s5"), Action::MasterStart, "leader")
            .step(Place::Before("s5"), hooks::until_recovered()),
    ]
}

fn frameworks(stage: &Stage<'_>) -> Vec<Case> {
    vec![
        Case::new("47_failover_timeout")
            .with(|setup| setup.alone = true)
            // The master has to notice that the client is gone.
            .pause("ack6", 0.3)
            .pause("c7", 1.0)
            .pause("c8", 5.0)
            .cast(stage.cast("47_failover_timeout", &["ex47"])),
        Case::new("48_updates_while_disconnected")
            .with(|setup| setup.alone = true)
            .leave_out(&["ack6"])
            .pause("s5", 5.0),
    ]
}

fn operators() -> Vec<Case> {
    const OF_43: &str = "1ceb4cf4-36ab-44f3-8e68-7267f80df163-S0";
    const OF_50: &str = "faf7141e-80e4-4419-b390-5cdb97b4c445-S0";
    const OF_49: &str = "9e47d373-24a6-4830-a7b8-6a76d5120ee6-S1";
    vec![
        // What becomes of an agent is felt by all frameworks.
        Case::new("43_agent_gone")
            .with(|setup| setup.alone = true)
            .edit(TAKES_MORE, TAKES_NO_MORE)
            .step(Place::Before("c9"), hooks::until_offered("s1", OF_43))
            .needs(ALONE),
        Case::new("49_maintenance")
            .with(|setup| setup.agents = 2)
            .step(Place::Before("c5"), hooks::machine_of(OF_49, "127.0.0.2", "127.0.0.1"))
            .needs(ALONE),
        Case::new("50_drain")
            .with(|setup| setup.alone = true)
            .step(Place::Before("c5"), hooks::until_offered("s1", OF_50))
            .needs(ALONE),
        Case::new("54_http_command_executor")
            .with(|setup| {
                setup.alone = true;
                setup.http_command_executor = true;
            })
            .leave_out(&["ack14"]),
    ]
}
