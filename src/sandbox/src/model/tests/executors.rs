//! Captures 09, 10, 11, 12, 12b.

use overlord_mesos::v1::executor::EventType as ExecutorEvent;

use super::*;

#[test]
fn an_executor_is_started_with_the_environment_of_a_real_agent() {
    let mut world = World::new(1);
    let scheduler = world.subscribe();
    let running = world.run(&scheduler, "t");
    let start = &running.start;
    let directory = format!(
        "/work/slaves/{}/frameworks/{}/executors/t-executor/runs/{}",
        start.agent_id, scheduler.id, start.container
    );
    assert_eq!(start.directory.display().to_string(), directory);
    let names: Vec<&str> = start.environment.keys().map(String::as_str).collect();
    let expected = [
        "LIBPROCESS_IP",
        "LIBPROCESS_PORT",
        "MESOS_AGENT_ENDPOINT",
        "MESOS_CHECKPOINT",
        "MESOS_DIRECTORY",
        "MESOS_EXECUTOR_ID",
        "MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD",
        "MESOS_FRAMEWORK_ID",
        "MESOS_HTTP_COMMAND_EXECUTOR",
        "MESOS_RECOVERY_TIMEOUT",
        "MESOS_SANDBOX",
        "MESOS_SLAVE_ID",
        "MESOS_SLAVE_PID",
        "MESOS_SUBSCRIPTION_BACKOFF_MAX",
        "PATH",
        "PWD",
    ];
    assert_eq!(names, expected);
    let value = |name: &str| start.environment[name].as_str();
    assert_eq!(value("MESOS_AGENT_ENDPOINT"), "127.0.0.1:5051");
    assert_eq!(value("MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD"), "5secs");
    assert_eq!(value("MESOS_RECOVERY_TIMEOUT"), "15mins");
    assert_eq!(value("MESOS_SUBSCRIPTION_BACKOFF_MAX"), "2secs");
    assert_eq!((value("MESOS_CHECKPOINT"), value("MESOS_SANDBOX")), ("1", directory.as_str()));
}

#[test]
fn the_first_subscription_brings_subscribed_and_then_the_waiting_tasks() {
    let mut world = World::new(1);
    let scheduler = world.subscribe();
    let running = world.run(&scheduler, "t");
    let events = world.executor.remove(&running.stream).unwrap();
    let subscribed = events[0].subscribed.as_ref().unwrap();
    assert_eq!(subscribed.executor_info.framework_id.as_ref(), Some(&scheduler.id));
    assert_eq!(subscribed.container_id.as_ref(), Some(&running.start.container));
    let launched = &events[1].launch.as_ref().unwrap().task;
    assert_eq!(launched.task_id, running.task);
    assert_eq!(launched.resources[0].allocation_info.as_ref().unwrap().role.as_deref(), Some("*"));
}

#[test]
fn an_update_is_acknowledged_to_the_executor_at_once_and_forwarded_with_its_container() {
    let mut world = World::new(1);
    let scheduler = world.subscribe();
    let running = world.run(&scheduler, "t");
    world.executor.clear();
    world.report(&running, TaskState::Running, 1);
    let acknowledged = world.executor[&running.stream][0].acknowledged.clone().unwrap();
    assert_eq!((acknowledged.task_id, acknowledged.uuid), (running.task.clone(), uuid(1)));
    let status = world.statuses(&scheduler).remove(0);
    assert_eq!(status.container_status.unwrap()["executor_pid"], 100);
    assert_eq!(status.agent_id, Some(running.start.agent_id));
    // What the executor leaves out stays out.
    assert_eq!(status.executor_id, None);
}

#[test]
fn an_executor_that_ends_is_a_failure_and_then_its_tasks_fail() {
    let mut world = World::new(1);
    let scheduler = world.subscribe();
    let running = world.run(&scheduler, "t");
    world.events(&scheduler);
    world.step(Input::Exited { container: running.start.container.clone(), status: 1792 });
    let events = world.events(&scheduler);
    let failure = events[0].failure.as_ref().unwrap();
    assert_eq!(
        (failure.executor_id.clone(), failure.status),
        (Some(ExecutorId::new("t-executor")), Some(1792))
    );
    let status = &events[1].update.as_ref().unwrap().status;
    assert_eq!(brief(status), (TaskState::Failed, "REASON_EXECUTOR_TERMINATED", "Executor terminated", true));
    assert_eq!((status.source, status.executor_id.is_some()), (Some(Source::Agent), true));
    world.acknowledge(&scheduler, &status.clone());
    assert!(world.model.tasks().is_empty());
    world.pass(1.0);
    let view = &world.model.agents()[0];
    assert!(view.containers.is_empty(), "{view:?}");
    let offer = world.events(&scheduler).pop().unwrap().offers.unwrap().offers.remove(0);
    assert!((offer.resources[1].scalar.unwrap().value - 8.0).abs() < 1e-9);
}

#[test]
fn an_executor_that_never_subscribes_is_killed_after_a_minute() {
    let mut world = World::new(1);
    let scheduler = world.subscribe();
    let (offer, agent) = world.offers(&scheduler).remove(0);
    world.accept(&scheduler, &[offer], vec![task("t", &agent)]);
    world.pass(59.9);
    assert!(world.kills.is_empty());
    world.pass(0.2);
    let container = world.starts[0].container.clone();
    assert_eq!(world.kills.first(), Some(&container));
    world.events(&scheduler);
    world.step(Input::Exited { container, status: 9 });
    let statuses = world.statuses(&scheduler);
    let text = "Executor did not register within 1mins";
    assert_eq!(brief(&statuses[0]), (TaskState::Failed, "REASON_EXECUTOR_REGISTRATION_TIMEOUT", text, true));
}

#[test]
fn an_executor_that_cannot_be_started_fails_its_task_with_the_reason() {
    let mut world = World::new(1);
    let scheduler = world.subscribe();
    let (offer, agent) = world.offers(&scheduler).remove(0);
    world.accept(&scheduler, &[offer], vec![task("t", &agent)]);
    let container = world.starts[0].container.clone();
    world.step(Input::NotStarted { container, message: "disk full".to_owned() });
    let statuses = world.statuses(&scheduler);
    let text = "Failed to launch container: disk full";
    assert_eq!(brief(&statuses[0]), (TaskState::Failed, "REASON_CONTAINER_LAUNCH_FAILED", text, true));
}

#[test]
fn messages_go_both_ways_and_to_an_unknown_executor_nowhere() {
    let mut world = World::new(1);
    let scheduler = world.subscribe();
    let running = world.run(&scheduler, "t");
    world.executor.clear();
    world.events(&scheduler);
    let message = |executor: &str| {
        json!({"type": "MESSAGE", "message": {"agent_id": {"value": running.start.agent_id.as_str()},
            "executor_id": {"value": executor}, "data": "aGVsbG8="}})
    };
    assert_eq!(world.tell(&scheduler, message("t-executor")), Answer::Accepted);
    assert_eq!(world.tell(&scheduler, message("nope")), Answer::Accepted);
    let events = world.executor.remove(&running.stream).unwrap();
    assert_eq!((events.len(), events[0].message.as_ref().unwrap().data.as_str()), (1, "aGVsbG8="));
    world.executor_call(&running, json!({"type": "MESSAGE", "message": {"data": "aGk="}}));
    let event = world.events(&scheduler).remove(0).message.unwrap();
    assert_eq!((event.executor_id.as_str(), event.data.as_str()), ("t-executor", "aGk="));
}

#[test]
fn shutdown_tells_the_executor_and_its_end_is_a_failure_with_status_0() {
    let mut world = World::new(1);
    let scheduler = world.subscribe();
    let running = world.run(&scheduler, "t");
    world.report(&running, TaskState::Finished, 1);
    let last = world.statuses(&scheduler).remove(0);
    world.acknowledge(&scheduler, &last);
    world.executor_kinds(running.stream);
    let agent = running.start.agent_id.as_str();
    world.tell(
        &scheduler,
        json!({"type": "SHUTDOWN",
        "shutdown": {"executor_id": {"value": "t-executor"}, "agent_id": {"value": agent}}}),
    );
    assert_eq!(world.executor_kinds(running.stream), [ExecutorEvent::Shutdown]);
    world.step(Input::Exited { container: running.start.container, status: 0 });
    let events = world.events(&scheduler);
    assert_eq!((events.len(), events[0].failure.as_ref().unwrap().status), (1, Some(0)));
    world.pass(10.0);
    assert!(world.kills.is_empty());
}

#[test]
fn broken_executor_calls_are_refused_with_the_words_of_the_agent() {
    let mut world = World::new(1);
    let scheduler = world.subscribe();
    let running = world.run(&scheduler, "t");
    let (id, valid) = (scheduler.id.as_str(), "Failed to validate Executor::Call: ");
    let update = |fields: Value| json!({"type": "UPDATE", "update": {"status": fields}});
    let source = format!(
        "Received Call from executor t-executor of framework {id} with invalid source, expecting 'SOURCE_EXECUTOR'"
    );
    let staging =
        format!("Received TASK_STAGING from executor t-executor of framework {id} which is not allowed");
    let task = json!({"value": "t"});
    let cases = [
        (
            update(json!({"task_id": task, "state": "TASK_RUNNING", "source": "SOURCE_EXECUTOR"})),
            "Expecting 'uuid' to be present".to_owned(),
        ),
        (
            update(
                json!({"task_id": task, "state": "TASK_RUNNING", "source": "SOURCE_EXECUTOR", "uuid": "AAAA"}),
            ),
            "Not a valid UUID".to_owned(),
        ),
        (update(json!({"task_id": task, "state": "TASK_RUNNING", "uuid": uuid(1)})), source),
        (
            update(
                json!({"task_id": task, "state": "TASK_STAGING", "source": "SOURCE_EXECUTOR", "uuid": uuid(1)}),
            ),
            staging,
        ),
        (
            update(
                json!({"task_id": task, "state": "TASK_RUNNING", "source": "SOURCE_EXECUTOR", "uuid": uuid(1), "executor_id": {"value": "other"}}),
            ),
            "ExecutorID in Call: t-executor does not match ExecutorID in TaskStatus: other".to_owned(),
        ),
        (json!({"type": "UPDATE"}), "Expecting 'update' to be present".to_owned()),
        (json!({}), "Expecting 'type' to be present".to_owned()),
    ];
    for (body, text) in cases {
        assert_eq!(world.executor_call(&running, body), Answer::refused(400, format!("{valid}{text}")));
    }
    let mut other =
        Running { start: running.start.clone(), stream: running.stream, task: running.task.clone() };
    other.start.executor_id = ExecutorId::new("nope");
    let body = json!({"type": "MESSAGE", "message": {"data": "aGk="}});
    assert_eq!(world.executor_call(&other, body.clone()), Answer::refused(400, "Executor cannot be found"));
    other.start.framework_id = FrameworkId::new("nope");
    assert_eq!(world.executor_call(&other, body), Answer::refused(400, "Framework cannot be found"));
}

#[test]
fn an_update_before_the_subscription_is_refused() {
    let mut world = World::new(1);
    let scheduler = world.subscribe();
    let (offer, agent) = world.offers(&scheduler).remove(0);
    world.accept(&scheduler, &[offer], vec![task("t", &agent)]);
    let running = Running { start: world.starts[0].clone(), stream: StreamKey(0), task: TaskId::new("t") };
    assert_eq!(
        world.report(&running, TaskState::Running, 1),
        Answer::refused(403, "Executor is not subscribed")
    );
}

#[test]
fn a_second_subscription_ends_the_first_and_a_dropped_one_has_no_consequence() {
    let mut world = World::new(1);
    let scheduler = world.subscribe();
    let running = world.run(&scheduler, "t");
    let second = world.executor_subscribes(&running, json!([])).unwrap();
    assert_eq!(world.ended, [running.stream]);
    world.report(&running, TaskState::Running, 9);
    world.step(Input::StreamGone(second));
    assert_eq!(world.report(&running, TaskState::Running, 1), Answer::Accepted);
    let updates = json!([status(&running.task, TaskState::Running, 1)]);
    let third = world.executor_subscribes(&running, updates).unwrap();
    assert_eq!(world.executor_kinds(third), [ExecutorEvent::Subscribed, ExecutorEvent::Acknowledged]);
}

#[test]
fn updates_of_unknown_tasks_and_after_the_last_one_are_forwarded_and_doubled_ones_once() {
    let mut world = World::new(1);
    let scheduler = world.subscribe();
    let running = world.run(&scheduler, "t");
    let stranger =
        json!({"type": "UPDATE", "update": status(&TaskId::new("stranger"), TaskState::Running, 1)});
    assert_eq!(world.executor_call(&running, stranger), Answer::Accepted);
    let seen = world.statuses(&scheduler);
    assert_eq!((seen[0].task_id.as_str(), seen[0].container_status.is_none()), ("stranger", true));
    for number in [2, 2, 3] {
        let state = if number == 2 { TaskState::Running } else { TaskState::Finished };
        world.report(&running, state, number);
        world.report(&running, state, number);
        let statuses = world.statuses(&scheduler);
        for status in &statuses {
            world.acknowledge(&scheduler, status);
        }
    }
    world.report(&running, TaskState::Running, 4);
    let late = world.statuses(&scheduler);
    assert_eq!((late.len(), late[0].state), (1, TaskState::Running));
}
