//! Agents that refuse, repeat themselves, fall silent, or have forgotten us.

use super::*;
use crate::v1::{TaskGroup, executor::LaunchGroup, scheduler::ErrorEvent};

fn wrong() -> Answer {
    Answer::Now(Err(refused(400, "Failed to validate Executor::Call: Not a valid UUID")))
}

#[tokio::test(start_paused = true)]
async fn an_update_that_the_agent_calls_wrong_is_given_up_and_the_others_follow() {
    let mut world = world();
    let (_, feed) = world.subscribe().await;
    let task = world.launch(&feed, "t").await;
    for _ in 0..3 {
        world.transport.answer(wrong());
    }
    world.report(&task, TaskState::Starting).unwrap();
    world.report(&task, TaskState::Running).unwrap();
    let mut states = Vec::new();
    for _ in 0..4 {
        states.push(world.sent().await.0);
    }
    let (starting, running) = (TaskState::Starting, TaskState::Running);
    assert_eq!(states, [starting, starting, starting, running], "their order is their meaning");
    assert_eq!(world.handle.unconfirmed(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_agent_without_a_subscription_of_ours_gets_one_that_carries_the_update() {
    for (status, words) in [(403, "Executor is not subscribed"), (400, "Executor cannot be found")] {
        let mut world = world();
        let (_, feed) = world.subscribe().await;
        let task = world.launch(&feed, "t").await;
        world.transport.answer(Answer::Now(Err(refused(status, words))));
        world.report(&task, TaskState::Running).unwrap();
        let (_, uuid) = world.sent().await;
        let (subscribe, _feed) = world.subscribe().await;
        assert_eq!(subscribe.unacknowledged_updates[0].status.uuid.as_deref(), Some(uuid.as_str()));
        assert_eq!(subscribe.unacknowledged_tasks.len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_event_leads_to_a_new_subscription() {
    let mut world = world();
    let (_, feed) = world.subscribe().await;
    let error = ErrorEvent { message: "something".to_owned() };
    feed.send(Ok(Event { error: Some(error), ..event(EventType::Error) })).unwrap();
    world.subscribe().await;
}

#[tokio::test(start_paused = true)]
async fn a_launch_that_is_repeated_is_told_once_even_after_the_end() {
    let mut world = world();
    let (_, feed) = world.subscribe().await;
    let task = world.launch(&feed, "t").await;
    let again = Launch { task: TaskInfo { task_id: task.clone(), ..TaskInfo::default() } };
    let again = Event { launch: Some(again), ..event(EventType::Launch) };
    feed.send(Ok(again.clone())).unwrap();
    world.report(&task, TaskState::Finished).unwrap();
    let (_, uuid) = world.sent().await;
    confirm(&feed, &uuid);
    assert!(matches!(world.event().await, ExecutorEvent::Acknowledged(_)));
    feed.send(Ok(again)).unwrap();
    feed.send(Ok(event(EventType::Shutdown))).unwrap();
    assert_eq!(world.event().await, ExecutorEvent::Shutdown, "nothing in between");
    assert!(world.report(&task, TaskState::Running).is_err());
}

#[tokio::test(start_paused = true)]
async fn a_group_is_passed_on_as_a_whole() {
    let mut world = world();
    let (_, feed) = world.subscribe().await;
    let tasks: Vec<_> = ["a", "b"]
        .map(|id| TaskInfo { task_id: TaskId::new(id), ..TaskInfo::default() })
        .into_iter()
        .collect();
    let group = LaunchGroup { task_group: TaskGroup { tasks: tasks.clone() } };
    feed.send(Ok(Event { launch_group: Some(group), ..event(EventType::LaunchGroup) })).unwrap();
    assert_eq!(world.event().await, ExecutorEvent::LaunchGroup(tasks.clone()));
    for task in &tasks {
        world.report(&task.task_id, TaskState::Failed).unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn the_kill_of_a_task_whose_launch_got_lost_can_be_answered() {
    let mut world = world();
    let (_, feed) = world.subscribe().await;
    let kill = Kill { task_id: TaskId::new("t"), kill_policy: None };
    feed.send(Ok(Event { kill: Some(kill), ..event(EventType::Kill) })).unwrap();
    assert!(matches!(world.event().await, ExecutorEvent::Kill { .. }));
    world.report(&TaskId::new("t"), TaskState::Killed).unwrap();
}

#[tokio::test(start_paused = true)]
async fn orders_that_name_no_task_are_dropped() {
    let mut world = world();
    let (_, feed) = world.subscribe().await;
    for kind in [EventType::Launch, EventType::Kill, EventType::LaunchGroup, EventType::Unknown] {
        feed.send(Ok(event(kind))).unwrap();
    }
    feed.send(Ok(event(EventType::Shutdown))).unwrap();
    assert_eq!(world.event().await, ExecutorEvent::Shutdown);
}

#[tokio::test(start_paused = true)]
async fn a_stream_without_a_sign_of_life_is_replaced_after_two_heartbeats_were_missed() {
    let mut world = world();
    let (_, feed) = world.subscribe().await;
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_secs(30 * 60)).await;
        feed.send(Ok(event(EventType::Heartbeat))).unwrap();
    }
    tokio::time::sleep(Duration::from_secs(70 * 60)).await;
    assert!(world.agent.asked.try_recv().is_err(), "too early");
    let asked = timeout(Duration::from_secs(6 * 60), world.agent.asked.recv()).await;
    assert_eq!(asked.expect("in time").unwrap().call.kind, CallType::Subscribe);
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_has_forgotten_us_is_believed_after_a_while() {
    let mut world = world();
    let (_, feed) = world.subscribe().await;
    drop(feed);
    // While it recovers it answers 503.
    for _ in 0..20 {
        soon(world.agent.asked.recv()).await.unwrap().refuse(unavailable());
    }
    for _ in 0..10 {
        assert!(world.events.try_recv().is_err(), "too early");
        soon(world.agent.asked.recv()).await.unwrap().refuse(refused(400, "Executor cannot be found"));
    }
    match world.event().await {
        ExecutorEvent::Disowned(words) => assert!(words.contains("Executor cannot be found"), "{words}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_confirms_nothing_is_asked_less_and_less_often() {
    let mut world = world();
    let (_, feed) = world.subscribe().await;
    let task = world.launch(&feed, "t").await;
    world.report(&task, TaskState::Running).unwrap();
    let day = tokio::time::sleep(Duration::from_secs(24 * 3600));
    tokio::pin!(day);
    let mut sent = 0;
    loop {
        tokio::select! {
            biased;
            () = &mut day => break,
            call = world.agent.calls.recv() => { call.unwrap(); sent += 1; }
            asked = world.agent.asked.recv() => {
                let feed = asked.unwrap().accept();
                feed.send(Ok(event(EventType::Subscribed))).unwrap();
                // Held open by whoever holds the sender.
                std::mem::forget(feed);
            }
            _ = world.events.recv() => {}
        }
    }
    assert!((100..700).contains(&sent), "{sent} times in a day");
    drop(feed);
}
