//! Captures 45, 45b, 46 and 55: a master dies, another takes over and learns anew what runs.

use super::*;
use crate::model::{MasterFault, Standing};

fn master(world: &mut World, fault: MasterFault) {
    assert_eq!(world.step(Input::Master(fault)), Answer::Accepted);
}

fn call_of(scheduler: &Scheduler, kind: &str) -> Input {
    let body = json!({"type": kind, "framework_id": {"value": scheduler.id.as_str()}});
    Input::Scheduler { stream_id: Some(scheduler.stream_id.clone()), call: Box::new(call(body)) }
}

fn back(world: &mut World, scheduler: &Scheduler) -> Scheduler {
    let mut info = framework_info();
    info["id"] = json!({"value": scheduler.id.as_str()});
    world.subscribe_as(info)
}

fn ask(world: &mut World, scheduler: &Scheduler, task: Option<&str>) -> Vec<TaskStatus> {
    let tasks: Vec<Value> = task.iter().map(|task| json!({"task_id": {"value": task}})).collect();
    world.tell(scheduler, json!({"type": "RECONCILE", "reconcile": {"tasks": tasks}}));
    world.statuses(scheduler)
}

/// A running task, then a new master that leads.
fn failed_over(keep_registry: bool) -> (World, Scheduler, Running) {
    let mut world = World::new(1);
    let scheduler = world.subscribe();
    let running = world.run(&scheduler, "t");
    world.report(&running, TaskState::Running, 1);
    world.drain(&scheduler);
    let id = world.model.master_id().to_owned();
    master(&mut world, MasterFault::Kill);
    assert!(world.ended.contains(&scheduler.stream));
    assert_eq!(world.step(call_of(&scheduler, "REVIVE")), Answer::Unavailable);
    world.pass(1.0);
    master(&mut world, MasterFault::Start { keep_registry });
    let refused = Answer::refused(503, "Master has not finished recovery");
    assert_eq!(world.step(call_of(&scheduler, "REVIVE")), refused);
    world.pass(0.1);
    assert_ne!(world.model.master_id(), id);
    let refused = Answer::refused(400, "Framework cannot be found");
    assert_eq!(world.step(call_of(&scheduler, "REVIVE")), refused);
    let scheduler = back(&mut world, &scheduler);
    (world, scheduler, running)
}

#[test]
fn a_new_master_is_silent_about_tasks_until_their_agents_are_back() {
    let (mut world, scheduler, running) = failed_over(true);
    assert_eq!(world.kinds(&scheduler), [EventType::Subscribed]);
    assert_eq!(ask(&mut world, &scheduler, Some("t")), []);
    assert_eq!(ask(&mut world, &scheduler, Some("nope")), []);
    assert_eq!(ask(&mut world, &scheduler, None), []);
    // Agents with a fixed address of the master miss its pings first.
    world.pass(60.0);
    assert_eq!(world.kinds(&scheduler), []);
    world.pass(15.0);
    assert_eq!(world.kinds(&scheduler), [EventType::Offers]);
    assert_eq!(ask(&mut world, &scheduler, Some("t"))[0].state, TaskState::Running);
    assert_eq!(ask(&mut world, &scheduler, None).len(), 1);
    assert_eq!(ask(&mut world, &scheduler, Some("nope"))[0].state, TaskState::NotKnown);
    world.report(&running, TaskState::Finished, 2);
    assert_eq!(world.drain(&scheduler)[0].state, TaskState::Finished);
}

#[test]
fn a_master_with_an_empty_registry_tells_of_the_tasks_that_agents_bring() {
    let (mut world, scheduler, _running) = failed_over(false);
    world.events(&scheduler);
    assert_eq!(ask(&mut world, &scheduler, Some("t"))[0].state, TaskState::NotKnown);
    world.pass(75.0);
    let statuses = world.statuses(&scheduler);
    let wanted = (TaskState::Running, "REASON_AGENT_REREGISTERED", "Unknown agent reregistered", false);
    assert_eq!(brief(&statuses[0]), wanted);
}

#[test]
fn updates_that_the_dead_master_did_not_pass_on_come_from_the_next_one() {
    let mut world = World::new(1);
    let scheduler = world.subscribe();
    let running = world.run(&scheduler, "t");
    master(&mut world, MasterFault::Failover { after: Duration::from_secs(2), keep_registry: true });
    world.report(&running, TaskState::Running, 1);
    world.pass(2.2);
    let scheduler = back(&mut world, &scheduler);
    assert_eq!(world.statuses(&scheduler), []);
    world.pass(80.0);
    assert_eq!(world.drain(&scheduler)[0].state, TaskState::Running);
}

#[test]
fn an_agent_of_the_registry_that_does_not_come_back_is_unreachable() {
    let mut world = World::new(1);
    let scheduler = world.subscribe();
    let running = world.run(&scheduler, "t");
    world.report(&running, TaskState::Running, 1);
    world.drain(&scheduler);
    world.fault("agent1", AgentFault::Lost);
    master(&mut world, MasterFault::Failover { after: Duration::ZERO, keep_registry: true });
    world.pass(0.2);
    let scheduler = back(&mut world, &scheduler);
    world.events(&scheduler);
    world.pass(599.0);
    assert_eq!(ask(&mut world, &scheduler, Some("t")), []);
    world.pass(2.0);
    assert_eq!(world.kinds(&scheduler), [EventType::Failure]);
    assert_eq!(ask_of_agent(&mut world, &scheduler, &running)[0].state, TaskState::Unreachable);
    world.fault("agent1", AgentFault::Return);
    world.pass(5.0);
    assert_eq!(ask(&mut world, &scheduler, Some("t"))[0].state, TaskState::Running);
}

/// An agent that is given up, and a master that dies before it is well again.
fn given_up_under_a_dead_master(fault: AgentFault) -> (World, Scheduler, Running) {
    let mut world = World::new(1);
    let scheduler = world.subscribe();
    let running = world.run(&scheduler, "t");
    world.report(&running, TaskState::Running, 1);
    world.drain(&scheduler);
    world.fault("agent1", fault);
    world.pass(80.0);
    assert_eq!(world.statuses(&scheduler)[0].state, TaskState::Unreachable);
    master(&mut world, MasterFault::Kill);
    (world, scheduler, running)
}

/// What the next master says once its agents have missed the pings of the one before.
fn told_by_the_next_master(world: &mut World, scheduler: &Scheduler, running: &Running) -> Vec<TaskState> {
    master(world, MasterFault::Start { keep_registry: true });
    world.pass(0.2);
    let scheduler = back(world, scheduler);
    assert_eq!(ask_of_agent(world, &scheduler, running)[0].state, TaskState::Unreachable);
    world.pass(80.0);
    let told = world.statuses(&scheduler).iter().map(|status| status.state).collect();
    assert_eq!(ask_of_agent(world, &scheduler, running)[0].state, TaskState::Running);
    told
}

fn ask_of_agent(world: &mut World, scheduler: &Scheduler, running: &Running) -> Vec<TaskStatus> {
    let agent = running.start.agent_id.as_str();
    let question = json!({"task_id": {"value": "t"}, "agent_id": {"value": agent}});
    world.tell(scheduler, json!({"type": "RECONCILE", "reconcile": {"tasks": [question]}}));
    world.statuses(scheduler)
}

#[test]
fn an_agent_that_recovers_while_no_master_leads_registers_with_the_next_one() {
    let (mut world, scheduler, running) = given_up_under_a_dead_master(AgentFault::Lost);
    world.fault("agent1", AgentFault::Return);
    world.executor_subscribes(&running, json!([])).unwrap();
    world.pass(2.1);
    assert_eq!(told_by_the_next_master(&mut world, &scheduler, &running), [TaskState::Running]);
}

#[test]
fn an_agent_whose_way_is_open_again_while_no_master_leads_registers_with_the_next_one() {
    let (mut world, scheduler, running) = given_up_under_a_dead_master(AgentFault::Partition);
    world.fault("agent1", AgentFault::Heal);
    world.pass(1.0);
    assert_eq!(told_by_the_next_master(&mut world, &scheduler, &running), [TaskState::Running]);
}

#[test]
fn an_agent_that_stays_away_is_unreachable_to_the_next_master_too() {
    let (mut world, scheduler, running) = given_up_under_a_dead_master(AgentFault::Lost);
    master(&mut world, MasterFault::Start { keep_registry: true });
    world.pass(0.2);
    let scheduler = back(&mut world, &scheduler);
    world.pass(700.0);
    assert_eq!(world.kinds(&scheduler), [EventType::Subscribed]);
    assert_eq!(ask_of_agent(&mut world, &scheduler, &running)[0].state, TaskState::Unreachable);
}

#[test]
fn followers_point_to_the_dead_leader_until_its_session_is_over() {
    let mut config = config(1);
    config.master = ([127, 0, 0, 1], 5050).into();
    config.followers = vec![([127, 0, 0, 1], 5051).into()];
    let (first, second) = (config.master, config.followers[0]);
    let mut world = World::with(&config, None);
    let standing = |world: &World, index| world.model.standing(world.now, index);
    assert_eq!((standing(&world, 0), standing(&world, 1)), (Standing::Leads, Standing::Follows(first)));
    let scheduler = world.subscribe();
    master(&mut world, MasterFault::Kill);
    world.pass(9.9);
    assert_eq!(standing(&world, 1), Standing::Follows(first));
    world.pass(0.2);
    assert_eq!(standing(&world, 1), Standing::Leaderless);
    master(&mut world, MasterFault::Start { keep_registry: true });
    world.pass(0.1);
    assert_eq!((standing(&world, 0), standing(&world, 1)), (Standing::Follows(second), Standing::Leads));
    assert_eq!(world.model.leader(), second);
    let scheduler = back(&mut world, &scheduler);
    world.pass(0.3);
    assert_eq!(world.offers(&scheduler).len(), 1);
}

#[test]
fn a_framework_that_was_torn_down_is_unknown_to_the_next_master() {
    let mut world = World::new(1);
    let scheduler = world.subscribe();
    world.tell(&scheduler, json!({"type": "TEARDOWN"}));
    master(&mut world, MasterFault::Failover { after: Duration::ZERO, keep_registry: true });
    world.pass(0.2);
    let again = back(&mut world, &scheduler);
    assert_eq!(again.id, scheduler.id);
}
