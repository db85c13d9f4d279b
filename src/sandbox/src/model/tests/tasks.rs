//! Captures 06, 07, 08, 12c, 14.

use super::*;

fn reconcile(world: &mut World, scheduler: &Scheduler, tasks: Value) -> Vec<TaskStatus> {
    world.events(scheduler);
    assert_eq!(
        world.tell(scheduler, json!({"type": "RECONCILE", "reconcile": {"tasks": tasks}})),
        Answer::Accepted
    );
    world.statuses(scheduler)
}

#[test]
fn an_unacknowledged_update_holds_back_the_next_one() {
    let mut world = World::new(1);
    let scheduler = world.subscribe();
    let running = world.run(&scheduler, "t");
    world.report(&running, TaskState::Starting, 1);
    world.report(&running, TaskState::Running, 2);
    let statuses = world.statuses(&scheduler);
    assert_eq!(statuses.len(), 1);
    assert_eq!(statuses[0].state, TaskState::Starting);
    world.acknowledge(&scheduler, &statuses[0]);
    assert_eq!(world.statuses(&scheduler)[0].state, TaskState::Running);
}

#[test]
fn an_unacknowledged_update_comes_again_after_10_20_and_40_seconds() {
    let mut world = World::new(1);
    let scheduler = world.subscribe();
    let running = world.run(&scheduler, "t");
    world.report(&running, TaskState::Starting, 1);
    world.statuses(&scheduler);
    let mut times = Vec::new();
    for second in 1..=80 {
        world.pass(1.0);
        times.extend(world.statuses(&scheduler).iter().map(|_| second));
    }
    assert_eq!(times, [10, 30, 70]);
}

#[test]
fn a_wrong_acknowledgement_is_accepted_and_ignored() {
    let mut world = World::new(1);
    let scheduler = world.subscribe();
    let running = world.run(&scheduler, "t");
    world.report(&running, TaskState::Starting, 1);
    world.report(&running, TaskState::Running, 2);
    let mut status = world.statuses(&scheduler).remove(0);
    status.uuid = Some(uuid(9));
    world.acknowledge(&scheduler, &status);
    assert!(world.statuses(&scheduler).is_empty());
}

#[test]
fn reconciliation_answers_with_the_state_of_the_update_in_flight() {
    let mut world = World::new(1);
    let scheduler = world.subscribe();
    let running = world.run(&scheduler, "t");
    for (number, state) in [(1, TaskState::Starting), (2, TaskState::Running), (3, TaskState::Finished)] {
        world.report(&running, state, number);
    }
    let statuses = reconcile(&mut world, &scheduler, json!([{"task_id": {"value": "t"}}]));
    let text = "Reconciliation: Latest task state";
    assert_eq!(brief(&statuses[0]), (TaskState::Starting, "REASON_RECONCILIATION", text, false));
    assert_eq!(statuses[0].executor_id, Some(ExecutorId::new("t-executor")));
    // It has ended already: KILL does nothing, and what it took is offered again.
    world.tell(&scheduler, json!({"type": "KILL", "kill": {"task_id": {"value": "t"}}}));
    assert!(world.statuses(&scheduler).is_empty());
}

#[test]
fn reconciliation_of_unknown_tasks_tells_gone_from_unknown() {
    let mut world = World::new(1);
    let scheduler = world.subscribe();
    let agent = world.offers(&scheduler).remove(0).1;
    let (gone, unknown) = ("Reconciliation: Task is unknown to the agent", "Reconciliation: Task is unknown");
    let cases = [
        (json!([{"task_id": {"value": "nope"}}]), TaskState::NotKnown, unknown),
        (
            json!([{"task_id": {"value": "nope"}, "agent_id": {"value": agent.as_str()}}]),
            TaskState::Gone,
            gone,
        ),
        (json!([{"task_id": {"value": "nope"}, "agent_id": {"value": "no"}}]), TaskState::NotKnown, unknown),
    ];
    for (tasks, state, text) in cases {
        let statuses = reconcile(&mut world, &scheduler, tasks.clone());
        assert_eq!(brief(&statuses[0]), (state, "REASON_RECONCILIATION", text, false));
        let kill = tasks[0].clone();
        world.tell(&scheduler, json!({"type": "KILL", "kill": kill}));
        let statuses = world.statuses(&scheduler);
        assert_eq!(brief(&statuses[0]), (state, "REASON_RECONCILIATION", text, false));
    }
}

#[test]
fn implicit_reconciliation_tells_live_tasks_and_those_not_acknowledged() {
    let mut world = World::new(1);
    let scheduler = world.subscribe();
    let running = world.run(&scheduler, "t");
    assert_eq!(reconcile(&mut world, &scheduler, json!([]))[0].state, TaskState::Staging);
    world.report(&running, TaskState::Finished, 1);
    let last = world.statuses(&scheduler).remove(0);
    assert_eq!(reconcile(&mut world, &scheduler, json!([]))[0].state, TaskState::Finished);
    world.acknowledge(&scheduler, &last);
    assert!(reconcile(&mut world, &scheduler, json!([])).is_empty());
}

#[test]
fn without_partition_aware_gone_unknown_and_dropped_are_lost() {
    let mut world = World::new(1);
    let scheduler = world
        .subscribe_as(json!({"user": "root", "name": "old", "checkpoint": true, "failover_timeout": 9.0}));
    let agent = world.offers(&scheduler).remove(0).1;
    world.accept(&scheduler, &[], vec![task("t", &agent)]);
    world.tell(&scheduler, json!({"type": "KILL", "kill": {"task_id": {"value": "x"}}}));
    let agent = json!({"value": agent.as_str()});
    world.tell(&scheduler, json!({"type": "KILL", "kill": {"task_id": {"value": "x"}, "agent_id": agent}}));
    let states: Vec<TaskState> = world.statuses(&scheduler).iter().map(|status| status.state).collect();
    assert_eq!(states, [TaskState::Lost; 3]);
}

#[test]
fn kill_reaches_the_executor_with_its_policy() {
    let mut world = World::new(1);
    let scheduler = world.subscribe();
    let running = world.run(&scheduler, "t");
    world.executor.clear();
    let policy = json!({"grace_period": {"nanoseconds": 1_000_000_000}});
    world.tell(
        &scheduler,
        json!({"type": "KILL", "kill": {"task_id": {"value": "t"}, "kill_policy": policy}}),
    );
    let kill = world.executor[&running.stream][0].kill.clone().unwrap();
    assert_eq!(kill.task_id, running.task);
    assert_eq!(kill.kill_policy.unwrap().grace_period.unwrap().nanoseconds, 1_000_000_000);
}

#[test]
fn a_kill_right_behind_the_launch_takes_the_task_back() {
    let mut world = World::new(1);
    let scheduler = world.subscribe();
    let (offer, agent) = world.offers(&scheduler).remove(0);
    world.accept(&scheduler, &[offer], vec![task("t", &agent)]);
    world.tell(&scheduler, json!({"type": "KILL", "kill": {"task_id": {"value": "t"}}}));
    let statuses = world.statuses(&scheduler);
    let text = "Killed before delivery to the executor";
    assert_eq!(brief(&statuses[0]), (TaskState::Killed, "REASON_TASK_KILLED_DURING_LAUNCH", text, true));
    assert_eq!(statuses[0].source, Some(Source::Agent));
    assert_eq!(world.kills, [world.starts[0].container.clone()]);
}
