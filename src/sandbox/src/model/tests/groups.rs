//! Capture 13: task groups under the default executor, and under a custom one.

use super::*;

fn group(world: &mut World, scheduler: &Scheduler, kind: &str, names: &[&str]) {
    let (offer, agent) = world.offers(scheduler).remove(0);
    let resources = |cpus: f64, mem: f64| serde_json::to_value(super::resources(cpus, mem)).unwrap();
    let tasks: Vec<Value> = names
        .iter()
        .map(|name| {
            json!({"name": name, "task_id": {"value": name}, "agent_id": {"value": agent.as_str()},
                "resources": resources(0.5, 64.0), "command": {"value": "sleep 600"}})
        })
        .collect();
    let mut executor = json!({"type": kind, "executor_id": {"value": "def"},
        "framework_id": {"value": scheduler.id.as_str()}, "resources": resources(0.1, 32.0)});
    let disk = json!({"name": "disk", "type": "SCALAR", "scalar": {"value": 16.0}});
    executor["resources"].as_array_mut().unwrap().push(disk);
    // A group's executor needs some disk.
    let disk = json!({"name": "disk", "type": "SCALAR", "scalar": {"value": 16.0}});
    executor["resources"].as_array_mut().unwrap().push(disk);
    if kind == "CUSTOM" {
        executor["command"] = json!({"value": "run"});
    }
    let operation = json!({"type": "LAUNCH_GROUP", "launch_group": {
        "executor": executor, "task_group": {"tasks": tasks}}});
    let body = json!({"type": "ACCEPT", "accept": {"offer_ids": [{"value": offer.as_str()}],
        "operations": [operation], "filters": {"refuse_seconds": 0.0}}});
    assert_eq!(world.tell(scheduler, body), Answer::Accepted);
}

/// A group of two that runs: their containers.
fn running(world: &mut World, scheduler: &Scheduler) -> Vec<ContainerId> {
    group(world, scheduler, "DEFAULT", &["a", "b"]);
    world.pass(0.2);
    let containers: Vec<ContainerId> = world.starts.iter().map(|start| start.container.clone()).collect();
    assert_eq!(containers.len(), 2);
    for (container, pid) in containers.iter().zip(200..) {
        world.step(Input::Started { container: container.clone(), pid: Some(pid) });
    }
    let statuses = world.drain(scheduler);
    let seen: Vec<_> = statuses.iter().map(|s| (s.task_id.as_str(), s.state)).collect();
    let (starting, running) = (TaskState::Starting, TaskState::Running);
    assert_eq!(seen, [("a", starting), ("b", starting), ("a", running), ("b", running)]);
    let parent = &statuses[0].container_status.as_ref().unwrap()["container_id"]["parent"]["value"];
    assert!(parent.as_str().is_some_and(|parent| !parent.is_empty()));
    assert_eq!(statuses[2].container_status.as_ref().unwrap()["executor_pid"], 200);
    containers
}

#[test]
fn a_group_that_ends_well_ends_with_a_failure_of_status_0() {
    let mut world = World::new(1);
    let scheduler = world.subscribe();
    let containers = running(&mut world, &scheduler);
    world.exits(&containers[0], 0);
    assert_eq!(world.drain(&scheduler)[0].state, TaskState::Finished);
    world.pass(1.0);
    assert_eq!((world.terminated.len(), world.kinds(&scheduler)), (0, vec![EventType::Offers]));
    world.exits(&containers[1], 0);
    let status = world.drain(&scheduler).remove(0);
    assert_eq!(status.state, TaskState::Finished);
    let fields = status.container_status.unwrap();
    assert_eq!(fields.as_object().unwrap().keys().collect::<Vec<_>>(), ["container_id"]);
    world.pass(0.2);
    let failure = world.events(&scheduler).remove(0).failure.unwrap();
    assert_eq!((failure.executor_id, failure.status), (Some(ExecutorId::new("def")), Some(0)));
}

#[test]
fn one_that_fails_ends_the_others() {
    let mut world = World::new(1);
    let scheduler = world.subscribe();
    let containers = running(&mut world, &scheduler);
    world.exits(&containers[0], 1 << 8);
    assert_eq!(world.drain(&scheduler)[0].state, TaskState::Failed);
    assert_eq!(world.terminated, [containers[1].clone()]);
    world.exits(&containers[1], 15);
    let status = world.drain(&scheduler).remove(0);
    assert_eq!((status.task_id.as_str(), status.state), ("b", TaskState::Killed));
}

#[test]
fn one_that_is_killed_ends_the_others() {
    let mut world = World::new(1);
    let scheduler = world.subscribe();
    let containers = running(&mut world, &scheduler);
    world.tell(&scheduler, json!({"type": "KILL", "kill": {"task_id": {"value": "b"}}}));
    assert_eq!(world.terminated, [containers[1].clone(), containers[0].clone()]);
    for container in &containers {
        world.exits(container, 15);
    }
    let states: Vec<TaskState> = world.drain(&scheduler).iter().map(|s| s.state).collect();
    assert_eq!(states, [TaskState::Killed, TaskState::Killed]);
}

#[test]
fn a_group_that_was_not_delivered_is_taken_back_as_a_whole() {
    let mut world = World::new(1);
    let scheduler = world.subscribe();
    group(&mut world, &scheduler, "DEFAULT", &["a", "b"]);
    world.tell(&scheduler, json!({"type": "KILL", "kill": {"task_id": {"value": "a"}}}));
    let reasons: Vec<_> = world.drain(&scheduler).into_iter().map(|s| (s.state, s.reason.unwrap())).collect();
    let reason = || (TaskState::Killed, "REASON_TASK_KILLED_DURING_LAUNCH".to_owned());
    assert_eq!(reasons, [reason(), reason()]);
    world.pass(1.0);
    assert_eq!(world.starts, []);
}

#[test]
fn a_custom_executor_gets_a_group_in_one_event() {
    let mut world = World::new(1);
    let scheduler = world.subscribe();
    group(&mut world, &scheduler, "CUSTOM", &["a", "b"]);
    let start = world.starts.last().cloned().expect("a start");
    let mut executor = Running { start, stream: StreamKey(0), task: TaskId::new("a") };
    executor.stream = world.executor_subscribes(&executor, json!([])).unwrap();
    let events = world.executor.remove(&executor.stream).unwrap();
    let group = events[1].launch_group.as_ref().unwrap();
    let names: Vec<&str> = group.task_group.tasks.iter().map(|task| task.task_id.as_str()).collect();
    assert_eq!((names, events.len()), (vec!["a", "b"], 2));
}
