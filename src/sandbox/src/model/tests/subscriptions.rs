//! Captures 01, 02, 03, 16, 20, 47, 48.

use overlord_mesos::v1::{TaskState, executor};

use super::*;

#[test]
fn a_new_framework_hears_subscribed_heartbeat_and_offers_in_one_event() {
    let mut world = World::new(2);
    let scheduler = world.subscribe();
    let kinds: Vec<EventType> = world.framework[&scheduler.stream].iter().map(|event| event.kind).collect();
    assert_eq!(kinds, [EventType::Subscribed, EventType::Heartbeat, EventType::Offers]);
    assert_eq!(world.offers(&scheduler).len(), 2);
    assert!(scheduler.id.as_str().ends_with("-0000"), "{}", scheduler.id);
}

#[test]
fn heartbeats_come_every_fifteen_seconds_from_the_subscription() {
    let mut world = World::new(0);
    world.pass(3.0);
    let scheduler = world.subscribe();
    world.framework.clear();
    world.pass(14.9);
    assert!(world.framework.is_empty());
    world.pass(0.2);
    world.pass(15.0);
    let kinds: Vec<EventType> = world.framework[&scheduler.stream].iter().map(|event| event.kind).collect();
    assert_eq!(kinds, [EventType::Heartbeat, EventType::Heartbeat]);
}

#[test]
fn a_second_subscription_ends_the_first_and_voids_its_offers_silently() {
    let mut world = World::new(1);
    let first = world.subscribe();
    let old = world.offers(&first);
    let mut info = framework_info();
    info["id"] = json!({"value": first.id.as_str()});
    let second = world.subscribe_as(info);
    assert_eq!(second.id, first.id);
    let last = world.events(&first).pop().unwrap();
    assert_eq!(last.error.unwrap().message, "Framework failed over");
    assert_eq!(world.ended, [first.stream]);
    let new = world.offers(&second);
    assert_ne!(new[0].0, old[0].0);
    world.accept(&second, &[old[0].0.clone()], vec![task("t", &old[0].1)]);
    assert_eq!(world.statuses(&second)[0].state, TaskState::Dropped);
    let answer = world.tell(&first, json!({"type": "REVIVE"}));
    let Answer::Refused { status: 400, text } = answer else { panic!("{answer:?}") };
    assert!(text.contains("didn't match the stream ID currently associated"), "{text}");
}

#[test]
fn a_framework_without_failover_timeout_is_removed_when_it_disconnects() {
    let mut world = World::new(1);
    let scheduler = world.subscribe_as(json!({"user": "root", "name": "test"}));
    world.step(Input::StreamGone(scheduler.stream));
    let info = json!({"user": "root", "name": "test", "id": {"value": scheduler.id.as_str()}});
    let again = world.subscribe_as(info);
    let events = world.events(&again);
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].error.as_ref().unwrap().message, "Framework has been removed");
    assert_eq!(world.ended, [again.stream]);
}

#[test]
fn without_multi_role_and_refinement_offers_have_the_old_format() {
    let mut world = World::new(1);
    let scheduler = world.subscribe_as(json!({"user": "root", "name": "test"}));
    let offers = world.events(&scheduler).pop().unwrap().offers.unwrap().offers;
    assert_eq!(offers[0].allocation_info, None);
    assert_eq!(offers[0].resources[0].allocation_info, None);
    assert_eq!(offers[0].resources[0].role.as_deref(), Some("*"));
}

#[test]
fn an_unknown_framework_id_is_accepted_and_kept() {
    let mut world = World::new(0);
    let mut info = framework_info();
    info["id"] = json!({"value": "never-seen-0000"});
    assert_eq!(world.subscribe_as(info).id.as_str(), "never-seen-0000");
}

#[test]
fn a_bad_framework_info_is_answered_on_the_stream() {
    let cases = [
        (
            json!({"role": "a"}),
            "'FrameworkInfo.role' must not be set when the framework is MULTI_ROLE capable",
        ),
        (json!({"roles": ["a", "a"]}), "'FrameworkInfo.roles' contains duplicate items: { a }"),
        (
            json!({"roles": ["/a"]}),
            "'FrameworkInfo.roles' contains invalid role: Role '/a' cannot start with a slash",
        ),
        (
            json!({"roles": ["a b"]}),
            "'FrameworkInfo.roles' contains invalid role: Role component 'a b' is invalid because it contains \
             backspace or whitespace",
        ),
        (json!({"failover_timeout": 1e30}), "The framework failover_timeout (1e+30) is invalid"),
        (
            json!({"capabilities": []}),
            "'FrameworkInfo.roles' must not be set when the framework is not MULTI_ROLE capable",
        ),
    ];
    for (change, text) in cases {
        let mut world = World::new(1);
        let mut info = framework_info();
        for (field, value) in change.as_object().unwrap() {
            info[field] = value.clone();
        }
        let scheduler = world.subscribe_as(info);
        let events = world.events(&scheduler);
        assert_eq!(events[0].error.as_ref().unwrap().message, text);
        assert_eq!((events.len(), &world.ended), (1, &vec![scheduler.stream]));
    }
}

#[test]
fn calls_are_refused_in_the_order_and_with_the_words_of_the_master() {
    let mut world = World::new(0);
    let scheduler = world.subscribe();
    let id = json!({"value": scheduler.id.as_str()});
    let own = Some(scheduler.stream_id.clone());
    let cases = [
        (own.clone(), json!({}), 400, "Failed to validate scheduler::Call: Expecting 'type' to be present"),
        (
            own.clone(),
            json!({"type": "BOGUS"}),
            400,
            "Failed to validate scheduler::Call: Expecting 'type' to be present",
        ),
        (
            own.clone(),
            json!({"type": "REVIVE"}),
            400,
            "Failed to validate scheduler::Call: Expecting 'framework_id' to be present",
        ),
        (
            own.clone(),
            json!({"type": "REVIVE", "framework_id": {"value": "nope"}}),
            400,
            "Framework cannot be found",
        ),
        (
            own.clone(),
            json!({"type": "ACCEPT", "framework_id": id}),
            400,
            "Failed to validate scheduler::Call: Expecting 'accept' to be present",
        ),
        (
            own.clone(),
            json!({"type": "RECONCILE", "framework_id": id}),
            400,
            "Failed to validate scheduler::Call: Expecting 'reconcile' to be present",
        ),
        (
            None,
            json!({"type": "REVIVE", "framework_id": id}),
            400,
            "All non-subscribe calls should include the 'Mesos-Stream-Id' header",
        ),
        (
            own.clone(),
            json!({"type": "SUBSCRIBE"}),
            400,
            "Failed to validate scheduler::Call: Expecting 'subscribe' to be present",
        ),
        (
            own,
            json!({"type": "SUBSCRIBE", "subscribe": {"framework_info": framework_info()}}),
            400,
            "Subscribe calls should not include the 'Mesos-Stream-Id' header",
        ),
        (
            None,
            json!({"type": "SUBSCRIBE", "framework_id": {"value": "abc"}, "subscribe": {"framework_info": framework_info()}}),
            400,
            "Failed to validate scheduler::Call: 'framework_id' differs from 'subscribe.framework_info.id'",
        ),
    ];
    for (stream_id, body, status, text) in cases {
        let answer = world.step(Input::Scheduler { stream_id, call: Box::new(call(body.clone())) });
        assert_eq!(answer, Answer::refused(status, text), "{body}");
    }
    world.step(Input::StreamGone(scheduler.stream));
    assert_eq!(
        world.tell(&scheduler, json!({"type": "REVIVE"})),
        Answer::refused(403, "Framework is not subscribed")
    );
}

#[test]
fn an_acknowledgement_with_a_uuid_that_is_none_is_refused() {
    let mut world = World::new(0);
    let scheduler = world.subscribe();
    let body = json!({"type": "ACKNOWLEDGE",
        "acknowledge": {"agent_id": {"value": "a"}, "task_id": {"value": "t"}, "uuid": "AAAA"}});
    let text = "Failed to validate scheduler::Call: Not a valid UUID";
    assert_eq!(world.tell(&scheduler, body), Answer::refused(400, text));
}

#[test]
fn teardown_ends_the_stream_shuts_executors_down_and_the_id_is_gone() {
    let mut world = World::new(1);
    let scheduler = world.subscribe();
    let running = world.run(&scheduler, "t");
    world.executor_kinds(running.stream);
    world.events(&scheduler);
    assert_eq!(world.tell(&scheduler, json!({"type": "TEARDOWN"})), Answer::Accepted);
    assert_eq!(world.kinds(&scheduler), []);
    assert_eq!(world.ended, [scheduler.stream]);
    assert_eq!(world.executor_kinds(running.stream), [executor::EventType::Shutdown]);
    // It ignores SHUTDOWN, and is killed when the grace period is over.
    world.pass(4.9);
    assert!(world.kills.is_empty());
    world.pass(0.2);
    assert_eq!(world.kills.first(), Some(&running.start.container));
    world.step(Input::Exited { container: running.start.container, status: 9 });
    assert!(world.model.tasks().is_empty());
    assert_eq!(
        world.tell(&scheduler, json!({"type": "REVIVE"})),
        Answer::refused(400, "Framework cannot be found")
    );
}

#[test]
fn the_failover_timeout_shuts_executors_down_unless_the_framework_is_back() {
    let mut world = World::new(1);
    let mut info = framework_info();
    info["failover_timeout"] = json!(4.0);
    let first = world.subscribe_as(info.clone());
    let running = world.run(&first, "t");
    world.executor_kinds(running.stream);
    world.step(Input::StreamGone(first.stream));
    world.pass(3.0);
    info["id"] = json!({"value": first.id.as_str()});
    let second = world.subscribe_as(info);
    world.pass(2.0);
    assert_eq!(world.executor_kinds(running.stream), []);
    world.step(Input::StreamGone(second.stream));
    world.pass(4.1);
    assert_eq!(world.executor_kinds(running.stream), [executor::EventType::Shutdown]);
    assert!(world.model.frameworks().is_empty());
}

#[test]
fn what_happened_while_disconnected_comes_right_behind_the_subscription() {
    let mut world = World::new(1);
    let first = world.subscribe();
    let running = world.run(&first, "t");
    world.step(Input::StreamGone(first.stream));
    world.pass(1.0);
    world.report(&running, TaskState::Finished, 1);
    world.pass(30.0);
    let mut info = framework_info();
    info["id"] = json!({"value": first.id.as_str()});
    let second = world.subscribe_as(info);
    let statuses = world.statuses(&second);
    assert_eq!(statuses.len(), 1);
    assert_eq!(statuses[0].state, TaskState::Finished);
}
