//! Captures 41, 42, 51, 52.

use super::*;

/// A running task on one of one agents, everything acknowledged, with the rest of the agent on offer.
fn running(world: &mut World, scheduler: &Scheduler) -> Running {
    let running = world.run(scheduler, "t");
    world.report(&running, TaskState::Running, 1);
    let status = world.statuses(scheduler).remove(0);
    world.acknowledge(scheduler, &status);
    world.pass(1.0);
    assert_eq!(world.kinds(scheduler), [EventType::Offers]);
    running
}

#[test]
fn a_lost_agent_is_rescinded_at_once_and_unreachable_after_the_ping_timeout() {
    let mut world = World::new(1);
    let scheduler = world.subscribe();
    let running = running(&mut world, &scheduler);
    world.fault("agent1", AgentFault::Lost);
    assert_eq!(world.kinds(&scheduler), [EventType::Rescind]);
    assert_eq!(world.ended, [running.stream]);
    world.pass(74.9);
    assert_eq!(world.kinds(&scheduler), []);
    world.pass(0.2);
    let events = world.events(&scheduler);
    let status = &events[0].update.as_ref().unwrap().status;
    assert_eq!(
        brief(status),
        (TaskState::Unreachable, "REASON_AGENT_REMOVED", "health check timed out", false)
    );
    assert!(status.unreachable_time.is_some() && status.executor_id.is_some());
    let failure = events[1].failure.as_ref().unwrap();
    assert_eq!((&failure.agent_id, &failure.executor_id), (&Some(running.start.agent_id.clone()), &None));
    let body = json!({"type": "RECONCILE", "reconcile": {"tasks": [{"task_id": {"value": "t"}}]}});
    world.tell(&scheduler, body);
    world.tell(&scheduler, json!({"type": "KILL", "kill": {"task_id": {"value": "t"}}}));
    world.tell(&scheduler, json!({"type": "RECONCILE", "reconcile": {"tasks": []}}));
    let statuses = world.statuses(&scheduler);
    let text = "Reconciliation: Task is unreachable";
    assert_eq!(statuses.len(), 2);
    for status in &statuses {
        assert_eq!(brief(status), (TaskState::Unreachable, "REASON_RECONCILIATION", text, false));
    }
}

#[test]
fn an_agent_that_returns_keeps_its_tasks() {
    let mut world = World::new(1);
    let scheduler = world.subscribe();
    let running = running(&mut world, &scheduler);
    world.fault("agent1", AgentFault::Lost);
    world.pass(80.0);
    world.events(&scheduler);
    assert_eq!(world.executor_subscribes(&running, json!([])), Err(Answer::Unavailable));
    world.fault("agent1", AgentFault::Return);
    assert_eq!(
        world.report(&running, TaskState::Running, 2),
        Answer::refused(403, "Executor is not subscribed")
    );
    world.executor_subscribes(&running, json!([])).unwrap();
    world.pass(2.1);
    let events = world.events(&scheduler);
    let status = &events[0].update.as_ref().unwrap().status;
    let text = "Unreachable agent re-reregistered";
    assert_eq!(brief(status), (TaskState::Running, "REASON_AGENT_REREGISTERED", text, false));
    assert!(status.container_status.is_some());
    assert_eq!(events[1].kind, EventType::Offers);
    assert!(world.kills.is_empty());
}

#[test]
fn a_restart_within_the_ping_timeout_is_a_rescind_and_pending_updates_come_twice() {
    let mut world = World::new(1);
    let scheduler = world.subscribe();
    let running = running(&mut world, &scheduler);
    world.fault("agent1", AgentFault::Restart);
    assert_eq!(world.kinds(&scheduler), [EventType::Rescind]);
    world.pass(1.1);
    let updates = json!([status(&running.task, TaskState::Finished, 3)]);
    world.executor_subscribes(&running, updates).unwrap();
    assert_eq!(world.kinds(&scheduler), []);
    world.pass(2.0);
    let statuses = world.statuses(&scheduler);
    assert_eq!(statuses.len(), 2);
    assert_eq!(statuses[0], statuses[1]);
    assert_eq!(statuses[0].state, TaskState::Finished);
    world.pass(100.0);
    assert!(world.model.agents().iter().all(|agent| agent.state == super::super::AgentState::Registered));
}

#[test]
fn executors_that_ended_while_the_agent_was_away_fail_their_tasks_without_a_failure() {
    let mut world = World::new(1);
    let scheduler = world.subscribe();
    let running = running(&mut world, &scheduler);
    world.fault("agent1", AgentFault::Lost);
    world.step(Input::Exited { container: running.start.container.clone(), status: 9 });
    world.pass(10.0);
    world.events(&scheduler);
    world.fault("agent1", AgentFault::Return);
    world.pass(2.1);
    let events = world.events(&scheduler);
    let kinds: Vec<EventType> =
        events.iter().map(|event| event.kind).filter(|kind| *kind != EventType::Offers).collect();
    assert_eq!(kinds, [EventType::Update, EventType::Update]);
    let status = &events[0].update.as_ref().unwrap().status;
    assert_eq!(brief(status), (TaskState::Failed, "REASON_EXECUTOR_TERMINATED", "Executor terminated", true));
}

#[test]
fn an_executor_that_does_not_come_back_to_its_agent_is_killed() {
    let mut world = World::new(1);
    let scheduler = world.subscribe();
    let running = running(&mut world, &scheduler);
    world.fault("agent1", AgentFault::Restart);
    world.pass(3.1);
    assert_eq!(world.kills.first(), Some(&running.start.container));
    world.step(Input::Exited { container: running.start.container, status: 9 });
    let statuses = world.statuses(&scheduler);
    let text = "Executor did not reregister within 2secs";
    assert_eq!(
        brief(&statuses[0]),
        (TaskState::Failed, "REASON_EXECUTOR_REREGISTRATION_TIMEOUT", text, true)
    );
}

#[test]
fn a_framework_without_checkpoint_loses_its_tasks_with_the_connection() {
    let mut world = World::new(1);
    let mut info = framework_info();
    info["checkpoint"] = json!(false);
    let scheduler = world.subscribe_as(info);
    let running = running(&mut world, &scheduler);
    world.fault("agent1", AgentFault::Restart);
    let statuses = world.statuses(&scheduler);
    let text = "Agent 127.0.0.1 disconnected";
    assert_eq!(brief(&statuses[0]), (TaskState::Lost, "REASON_AGENT_DISCONNECTED", text, false));
    assert_eq!(world.kills, [running.start.container]);
    assert!(world.model.tasks().is_empty());
}

#[test]
fn a_kill_for_an_agent_that_is_away_is_delivered_when_it_is_back() {
    let mut world = World::new(1);
    let scheduler = world.subscribe();
    let running = running(&mut world, &scheduler);
    world.fault("agent1", AgentFault::Restart);
    world.tell(&scheduler, json!({"type": "KILL", "kill": {"task_id": {"value": "t"}}}));
    world.pass(1.1);
    let stream = world.executor_subscribes(&running, json!([])).unwrap();
    world.pass(2.0);
    assert_eq!(world.executor_kinds(stream), [executor::EventType::Subscribed, executor::EventType::Kill]);
}

#[test]
fn a_new_agent_at_the_same_address_ends_the_tasks_of_the_old_one() {
    let mut world = World::new(1);
    let scheduler = world.subscribe();
    let running = running(&mut world, &scheduler);
    world.fault("agent1", AgentFault::NewId);
    let events = world.events(&scheduler);
    let kinds: Vec<EventType> = events.iter().map(|event| event.kind).collect();
    assert_eq!(kinds, [EventType::Rescind, EventType::Update, EventType::Failure, EventType::Offers]);
    let text = "Agent 127.0.0.1 removed: a new agent registered at the same address";
    let status = &events[1].update.as_ref().unwrap().status;
    assert_eq!(brief(status), (TaskState::Lost, "REASON_AGENT_REMOVED", text, false));
    let offer = &events[3].offers.as_ref().unwrap().offers[0];
    assert_ne!(offer.agent_id, running.start.agent_id);
    assert!((offer.resources[1].scalar.unwrap().value - 8.0).abs() < 1e-9);
    assert_eq!(world.kills.first(), Some(&running.start.container));
    // The end of what it was is nobody's business any more.
    world.step(Input::Exited { container: running.start.container, status: 9 });
    assert_eq!(world.kinds(&scheduler), []);
}

#[test]
fn an_agent_without_executors_is_back_as_soon_as_it_starts() {
    let mut world = World::new(1);
    let scheduler = world.subscribe();
    world.events(&scheduler);
    world.fault("agent1", AgentFault::Lost);
    world.fault("agent1", AgentFault::Return);
    world.pass(1.0);
    assert_eq!(world.kinds(&scheduler), [EventType::Rescind, EventType::Offers]);
}

#[test]
fn two_thousand_agents_and_ten_thousand_tasks_are_no_burden() {
    let mut world = World::with(&config(2000), None);
    let scheduler = world.subscribe();
    let offers = world.offers(&scheduler);
    assert_eq!(offers.len(), 2000);
    for (number, (offer, agent)) in offers.iter().enumerate() {
        let tasks = (0..5).map(|n| task(&format!("t{number}-{n}"), agent)).collect();
        world.accept(&scheduler, std::slice::from_ref(offer), tasks);
    }
    assert_eq!(world.starts.len(), 10_000);
    world.pass(1.0);
    assert_eq!(world.offers(&scheduler).len(), 2000);
    world.tell(&scheduler, json!({"type": "RECONCILE", "reconcile": {"tasks": []}}));
    assert_eq!(world.statuses(&scheduler).len(), 10_000);
}
