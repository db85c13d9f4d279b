//! Faults: what each does, and that nothing is forgotten over it.

use super::*;

/// A running task on one of one agents, everything acknowledged.
fn running(world: &mut World, scheduler: &Scheduler) -> Running {
    let running = world.run(scheduler, "t");
    world.report(&running, TaskState::Running, 1);
    world.drain(scheduler);
    world.pass(1.0);
    world.events(scheduler);
    running
}

fn reconcile(world: &mut World, scheduler: &Scheduler, agent: &AgentId) -> (TaskState, String) {
    let task = json!({"task_id": {"value": "t"}, "agent_id": {"value": agent.as_str()}});
    world.tell(scheduler, json!({"type": "RECONCILE", "reconcile": {"tasks": [task]}}));
    let status = world.statuses(scheduler).pop().expect("an answer");
    (status.state, status.message.unwrap_or_default())
}

#[test]
fn a_partition_is_noticed_by_the_missing_pings_only() {
    let mut world = World::new(1);
    let scheduler = world.subscribe();
    let running = running(&mut world, &scheduler);
    world.fault("agent1", AgentFault::Partition);
    world.pass(74.9);
    assert_eq!(world.kinds(&scheduler), []);
    // Its executor does not notice at all.
    assert_eq!(world.report(&running, TaskState::Running, 2), Answer::Accepted);
    world.pass(0.2);
    assert_eq!(world.kinds(&scheduler), [EventType::Update, EventType::Rescind, EventType::Failure]);
    world.fault("agent1", AgentFault::Heal);
    let statuses = world.statuses(&scheduler);
    assert_eq!(brief(&statuses[0]).1, "REASON_AGENT_REREGISTERED");
    assert_eq!(statuses[1].uuid.as_deref(), Some(uuid(2).as_str()));
    assert!(world.kills.is_empty());
}

#[test]
fn what_was_sent_into_a_short_partition_arrives_late() {
    let mut world = World::new(1);
    let scheduler = world.subscribe();
    let (offer, agent) = world.offers(&scheduler).remove(0);
    world.fault("agent1", AgentFault::Partition);
    world.accept(&scheduler, &[offer], vec![task("t", &agent)]);
    world.pass(10.0);
    assert_eq!(world.starts, []);
    assert_eq!(reconcile(&mut world, &scheduler, &agent).0, TaskState::Staging);
    world.fault("agent1", AgentFault::Heal);
    assert_eq!(world.starts.len(), 1);
    world.pass(100.0);
    let unreachable = world.statuses(&scheduler).iter().any(|s| s.state == TaskState::Unreachable);
    assert!(!unreachable, "the old ping time-out must not count");
}

#[test]
fn what_was_sent_into_a_long_partition_is_lost_and_known_to_be() {
    let mut world = World::new(1);
    let scheduler = world.subscribe();
    let (offer, agent) = world.offers(&scheduler).remove(0);
    world.fault("agent1", AgentFault::Partition);
    world.accept(&scheduler, &[offer], vec![task("t", &agent)]);
    world.pass(80.0);
    assert_eq!(world.statuses(&scheduler)[0].state, TaskState::Unreachable);
    world.fault("agent1", AgentFault::Heal);
    assert_eq!(world.starts, []);
    let answer = reconcile(&mut world, &scheduler, &agent);
    assert_eq!(answer, (TaskState::Gone, "Reconciliation: Task is unknown to the agent".to_owned()));
    // All of the agent is to be had again.
    world.fault("agent1", AgentFault::Rescind);
    world.events(&scheduler);
    world.pass(1.0);
    let offers = world.events(&scheduler).into_iter().filter_map(|event| event.offers).flat_map(|o| o.offers);
    let resources = offers.flat_map(|offer| offer.resources);
    let cpus: Vec<f64> =
        resources.filter(|r| r.name == "cpus").filter_map(|r| r.scalar).map(|s| s.value).collect();
    assert_eq!(cpus, [8.0]);
}

#[test]
fn kill_and_teardown_reach_a_partitioned_agent_when_it_is_reached() {
    let mut world = World::new(1);
    let scheduler = world.subscribe();
    let running = running(&mut world, &scheduler);
    world.executor_kinds(running.stream);
    world.fault("agent1", AgentFault::Partition);
    world.tell(&scheduler, json!({"type": "KILL", "kill": {"task_id": {"value": "t"}}}));
    assert_eq!(world.executor_kinds(running.stream), []);
    world.fault("agent1", AgentFault::Heal);
    assert_eq!(world.executor_kinds(running.stream), [executor::EventType::Kill]);
    world.fault("agent1", AgentFault::Partition);
    world.tell(&scheduler, json!({"type": "TEARDOWN"}));
    world.pass(20.0);
    assert_eq!((world.executor_kinds(running.stream), world.kills.len()), (vec![], 0));
    world.fault("agent1", AgentFault::Heal);
    assert_eq!(world.executor_kinds(running.stream), [executor::EventType::Shutdown]);
    world.pass(5.1);
    assert_eq!(world.kills, [running.start.container]);
}

#[test]
fn an_agent_that_dies_behind_a_partition_is_given_up_by_the_pings_that_are_out_already() {
    let mut world = World::new(1);
    let scheduler = world.subscribe();
    let running = running(&mut world, &scheduler);
    world.fault("agent1", AgentFault::Partition);
    world.pass(40.0);
    world.fault("agent1", AgentFault::Lost);
    assert_eq!(world.kinds(&scheduler), []);
    world.pass(35.1);
    assert_eq!(world.kinds(&scheduler).first(), Some(&EventType::Update));
    world.fault("agent1", AgentFault::Heal);
    world.fault("agent1", AgentFault::Return);
    world.executor_subscribes(&running, json!([])).unwrap();
    world.pass(2.1);
    assert_eq!(brief(&world.statuses(&scheduler)[0]).1, "REASON_AGENT_REREGISTERED");
}

#[test]
fn a_ping_timeout_of_an_earlier_loss_does_not_shorten_the_next() {
    let mut world = World::new(1);
    let scheduler = world.subscribe();
    let running = running(&mut world, &scheduler);
    world.fault("agent1", AgentFault::Restart);
    world.pass(1.1);
    world.executor_subscribes(&running, json!([])).unwrap();
    world.pass(60.0);
    world.fault("agent1", AgentFault::Lost);
    world.events(&scheduler);
    world.pass(74.0);
    assert_eq!(world.statuses(&scheduler), []);
    world.pass(1.1);
    assert_eq!(world.statuses(&scheduler)[0].state, TaskState::Unreachable);
}

#[test]
fn dropped_updates_come_again_after_ten_seconds() {
    let mut world = World::new(1);
    let scheduler = world.subscribe();
    let running = running(&mut world, &scheduler);
    world.fault("agent1", AgentFault::DropUpdates(1));
    world.report(&running, TaskState::Finished, 2);
    world.pass(9.9);
    assert_eq!(world.statuses(&scheduler), []);
    world.pass(0.2);
    assert_eq!(world.statuses(&scheduler)[0].state, TaskState::Finished);
}

#[test]
fn duplicated_updates_come_twice_and_one_acknowledgement_is_enough() {
    let mut world = World::new(1);
    let scheduler = world.subscribe();
    let running = running(&mut world, &scheduler);
    world.fault("agent1", AgentFault::DuplicateUpdates(1));
    world.report(&running, TaskState::Finished, 2);
    let statuses = world.statuses(&scheduler);
    assert_eq!((statuses.len(), &statuses[0].uuid), (2, &statuses[1].uuid));
    world.acknowledge(&scheduler, &statuses[0]);
    world.acknowledge(&scheduler, &statuses[1]);
    world.pass(30.0);
    assert_eq!(world.statuses(&scheduler), []);
}

#[test]
fn delayed_updates_come_late_until_the_delay_is_taken_away() {
    let mut world = World::new(1);
    let scheduler = world.subscribe();
    let running = running(&mut world, &scheduler);
    world.fault("agent1", AgentFault::DelayUpdates(Duration::from_millis(500)));
    world.report(&running, TaskState::Running, 2);
    world.pass(0.4);
    assert_eq!(world.statuses(&scheduler), []);
    world.pass(0.2);
    assert_eq!(world.drain(&scheduler).len(), 1);
    world.fault("agent1", AgentFault::DelayUpdates(Duration::ZERO));
    world.report(&running, TaskState::Running, 3);
    assert_eq!(world.statuses(&scheduler).len(), 1);
}

#[test]
fn dropped_kills_have_to_be_repeated() {
    let mut world = World::new(1);
    let scheduler = world.subscribe();
    let running = running(&mut world, &scheduler);
    world.executor_kinds(running.stream);
    world.fault("agent1", AgentFault::DropKills(1));
    let kill = json!({"type": "KILL", "kill": {"task_id": {"value": "t"}}});
    world.tell(&scheduler, kill.clone());
    assert_eq!(world.executor_kinds(running.stream), []);
    world.tell(&scheduler, kill);
    assert_eq!(world.executor_kinds(running.stream), [executor::EventType::Kill]);
}

#[test]
fn rescinded_offers_come_again() {
    let mut world = World::new(1);
    let scheduler = world.subscribe();
    world.events(&scheduler);
    world.fault("agent1", AgentFault::Rescind);
    assert_eq!(world.kinds(&scheduler), [EventType::Rescind]);
    world.pass(1.0);
    assert_eq!(world.kinds(&scheduler), [EventType::Offers]);
}

#[test]
fn a_killed_executor_is_a_failure_with_status_9() {
    let mut world = World::new(1);
    let scheduler = world.subscribe();
    let running = running(&mut world, &scheduler);
    let fault = AgentFault::KillExecutors(Some("nobody".to_owned()));
    let answer = world.step(Input::Agent { name: "agent1".to_owned(), fault });
    let text = "no executor named 'nobody' runs on agent1; there are: t-executor";
    assert_eq!(answer, Answer::refused(404, text));
    world.fault("agent1", AgentFault::KillExecutors(None));
    assert_eq!(world.kills, std::slice::from_ref(&running.start.container));
    world.exits(&running.start.container, 9);
    let events = world.events(&scheduler);
    assert_eq!(events[0].failure.as_ref().unwrap().status, Some(9));
    let status = &events[1].update.as_ref().unwrap().status;
    let text = "Executor terminated";
    assert_eq!(brief(status), (TaskState::Failed, "REASON_EXECUTOR_TERMINATED", text, true));
}

#[test]
fn a_killed_executor_of_the_agent_takes_its_command_with_it() {
    let mut world = World::new(1);
    let scheduler = world.subscribe();
    let container = world.run_command(&scheduler, |_| {});
    world.drain(&scheduler);
    world.fault("agent1", AgentFault::KillExecutors(Some("t".to_owned())));
    assert_eq!(world.kills, std::slice::from_ref(&container));
    world.exits(&container, 9);
    let statuses = world.drain(&scheduler);
    assert_eq!(brief(&statuses[0]).1, "REASON_EXECUTOR_TERMINATED");
}

#[test]
fn what_returns_for_a_machine_that_is_gone_is_another_agent() {
    let mut world = World::new(1);
    let scheduler = world.subscribe();
    let running = running(&mut world, &scheduler);
    world.fault("agent1", AgentFault::Gone);
    assert_eq!(world.kills, std::slice::from_ref(&running.start.container));
    world.exits(&running.start.container, 9);
    world.pass(80.0);
    assert_eq!(world.statuses(&scheduler)[0].state, TaskState::Unreachable);
    world.fault("agent1", AgentFault::Return);
    let agent = world.model.agents().remove(0);
    assert_ne!(agent.id, running.start.agent_id);
    let offers = world.offers(&scheduler);
    assert_eq!(offers[0].1, agent.id);
}
