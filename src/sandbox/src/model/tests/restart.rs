//! What is left when the sandbox starts again, and that a run can be repeated.

use super::*;

fn reopened(world: &World, agents: usize) -> World {
    let mut saved = Saved::default();
    for record in world.model.saved().into_records() {
        let text = serde_json::to_string(&record).unwrap();
        saved.apply(serde_json::from_str(&text).unwrap());
    }
    World::with(&config(agents), Some(saved))
}

fn back(world: &mut World, scheduler: &Scheduler) -> Scheduler {
    let mut info = framework_info();
    info["id"] = json!({"value": scheduler.id.as_str()});
    world.subscribe_as(info)
}

#[test]
fn agents_and_frameworks_keep_their_ids_and_tasks_have_failed() {
    let mut world = World::new(1);
    let scheduler = world.subscribe();
    let running = world.run(&scheduler, "t");
    world.report(&running, TaskState::Running, 1);
    let status = world.statuses(&scheduler).remove(0);
    world.acknowledge(&scheduler, &status);

    let mut world = reopened(&world, 1);
    let again = back(&mut world, &scheduler);
    assert_eq!(again.id, scheduler.id);
    let events = world.events(&again);
    let offered = events.iter().find_map(|event| event.offers.as_ref()).unwrap();
    assert_eq!(offered.offers[0].agent_id, running.start.agent_id);
    let status = events.iter().find_map(|event| event.update.as_ref()).unwrap().status.clone();
    assert_eq!(
        brief(&status),
        (TaskState::Failed, "REASON_EXECUTOR_TERMINATED", "Executor terminated", true)
    );
    assert_eq!(status.executor_id, Some(ExecutorId::new("t-executor")));
    world.acknowledge(&again, &status);
    assert!(world.model.tasks().is_empty());
}

#[test]
fn updates_nobody_acknowledged_come_first() {
    let mut world = World::new(1);
    let scheduler = world.subscribe();
    let running = world.run(&scheduler, "t");
    world.report(&running, TaskState::Starting, 1);
    world.report(&running, TaskState::Running, 2);
    let mut world = reopened(&world, 1);
    let again = back(&mut world, &scheduler);
    let mut seen = Vec::new();
    loop {
        let updates = world.statuses(&again);
        let Some(status) = updates.first() else { break };
        seen.push(status.state);
        world.acknowledge(&again, status);
    }
    assert_eq!(seen, [TaskState::Starting, TaskState::Running, TaskState::Failed]);
}

#[test]
fn a_removed_framework_stays_removed_and_new_ids_are_new() {
    let mut world = World::new(1);
    let first = world.subscribe();
    let running = world.run(&first, "t");
    world.tell(&first, json!({"type": "TEARDOWN"}));
    let mut world = reopened(&world, 2);
    let again = back(&mut world, &first);
    assert_eq!(world.events(&again)[0].kind, EventType::Error);
    let second = world.subscribe();
    assert_ne!(second.id, first.id);
    let ids: Vec<AgentId> = world.model.agents().into_iter().map(|agent| agent.id).collect();
    assert_eq!(ids[0], running.start.agent_id);
    assert_ne!(ids[0], ids[1]);
    let relaunched = world.run(&second, "t");
    assert_ne!(relaunched.start.container, running.start.container);
}

#[test]
fn one_seed_is_one_run() {
    let trace = || {
        let mut world = World::new(3);
        let scheduler = world.subscribe();
        let running = world.run(&scheduler, "t");
        world.report(&running, TaskState::Running, 1);
        world.fault("agent2", AgentFault::Restart);
        world.pass(30.0);
        format!("{:?} {:?} {:?}", world.framework, world.executor, world.starts)
    };
    assert_eq!(trace(), trace());
}
