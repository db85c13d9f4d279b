//! Captures 43, 44 and 49: agents that the master forgets.

use super::*;

/// A command on one agent, acknowledged, with the rest of the agent on offer.
fn running(world: &mut World, scheduler: &Scheduler) -> (ContainerId, AgentId) {
    let container = world.run_command(scheduler, |_| {});
    world.drain(scheduler);
    world.pass(1.0);
    assert_eq!(world.kinds(scheduler), [EventType::Offers]);
    (container, world.model.agents()[0].id.clone())
}

fn word(world: &mut World, scheduler: &Scheduler) -> (TaskStatus, Vec<EventType>) {
    let events = world.events(scheduler);
    let kinds = events.iter().map(|event| event.kind).collect();
    (events[0].update.clone().expect("an update first").status, kinds)
}

fn reconcile(world: &mut World, scheduler: &Scheduler, agent: &AgentId) -> TaskStatus {
    let task = json!({"task_id": {"value": "t"}, "agent_id": {"value": agent.as_str()}});
    world.tell(scheduler, json!({"type": "RECONCILE", "reconcile": {"tasks": [task]}}));
    world.statuses(scheduler).pop().expect("an answer")
}

const ORDER: [EventType; 3] = [EventType::Update, EventType::Rescind, EventType::Failure];

#[test]
fn an_agent_that_unregisters_loses_its_tasks_for_good() {
    let mut world = World::new(1);
    let scheduler = world.subscribe();
    let (container, agent) = running(&mut world, &scheduler);
    world.fault("agent1", AgentFault::Unregister);
    let (status, kinds) = word(&mut world, &scheduler);
    let text = "Agent 127.0.0.1 removed: the agent unregistered";
    assert_eq!(brief(&status), (TaskState::Lost, "REASON_AGENT_REMOVED", text, false));
    assert_eq!(kinds, ORDER);
    let answer = reconcile(&mut world, &scheduler, &agent);
    let text = "Reconciliation: Task is unknown";
    assert_eq!(brief(&answer), (TaskState::NotKnown, "REASON_RECONCILIATION", text, false));
    // It ends what it ran, and then itself.
    assert_eq!(world.terminated, std::slice::from_ref(&container));
    world.exits(&container, 15);
    world.pass(1.0);
    assert_eq!(world.statuses(&scheduler), []);
    world.fault("agent1", AgentFault::Return);
    assert_ne!(world.model.agents()[0].id, agent);
}

#[test]
fn an_agent_that_is_marked_gone_is_known_to_be() {
    let mut world = World::new(1);
    let scheduler = world.subscribe();
    let (_, agent) = running(&mut world, &scheduler);
    let fault = AgentFault::MarkGone;
    assert!(matches!(world.step(Input::Agent { name: "agent1".to_owned(), fault }), Answer::Done(_)));
    let (status, kinds) = word(&mut world, &scheduler);
    let (reason, text) = ("REASON_AGENT_REMOVED_BY_OPERATOR", "Agent has been marked gone");
    assert_eq!(brief(&status), (TaskState::GoneByOperator, reason, text, false));
    assert_eq!(kinds, ORDER);
    let answer = reconcile(&mut world, &scheduler, &agent);
    let text = "Reconciliation: Task is gone";
    assert_eq!(brief(&answer), (TaskState::GoneByOperator, "REASON_RECONCILIATION", text, false));
}

#[test]
fn without_partition_awareness_gone_is_lost() {
    let mut world = World::new(1);
    let mut info = framework_info();
    info["capabilities"] = json!([{"type": "MULTI_ROLE"}]);
    let scheduler = world.subscribe_as(info);
    running(&mut world, &scheduler);
    world.step(Input::Agent { name: "agent1".to_owned(), fault: AgentFault::MarkGone });
    let (status, _) = word(&mut world, &scheduler);
    let text = "Agent has been marked gone";
    assert_eq!(brief(&status), (TaskState::Lost, "REASON_AGENT_REMOVED", text, false));
}

#[test]
fn a_machine_that_is_down_has_lost_its_tasks() {
    let mut world = World::new(1);
    let scheduler = world.subscribe();
    running(&mut world, &scheduler);
    let (after, lasts) = (Duration::from_secs(60), Duration::from_secs(3600));
    world.step(Input::Agent { name: "agent1".to_owned(), fault: AgentFault::Announce { after, lasts } });
    let kinds = world.kinds(&scheduler);
    assert_eq!(kinds, [EventType::Rescind, EventType::Offers, EventType::InverseOffers]);
    world.step(Input::Agent { name: "agent1".to_owned(), fault: AgentFault::MachineDown });
    let (status, kinds) = word(&mut world, &scheduler);
    let text = "Agent 127.0.0.1 removed: Operator initiated 'Machine DOWN'";
    assert_eq!(brief(&status), (TaskState::Lost, "REASON_AGENT_REMOVED", text, false));
    assert!(kinds.starts_with(&ORDER), "{kinds:?}");
}
