//! The executor client against an agent in memory, in virtual time.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use tokio::{
    task::JoinSet,
    time::{advance, timeout},
};
use tokio_util::sync::CancellationToken;

use super::*;
mod agents;
mod refusals;

use crate::{
    testing::{Agent, Answer, FakeAgent, Feed, fixture, refused, unavailable},
    v1::{
        ExecutorId, FrameworkId, Source, TaskState,
        executor::{Acknowledged, Call, CallType, Event, EventType, Kill, Launch, Subscribe},
    },
};

/// A client whose agent is the test.
struct World {
    handle: ExecutorHandle,
    events: mpsc::Receiver<ExecutorEvent>,
    agent: Agent,
    transport: Arc<FakeAgent>,
    driver: JoinSet<()>,
    shutdown: CancellationToken,
}

fn world_with(change: impl FnOnce(&mut ExecutorEnv)) -> World {
    let mut env =
        ExecutorEnv::new("127.0.0.1:5051", FrameworkId::new("fw"), ExecutorId::new("ex")).with_clock(|| 12.5);
    change(&mut env);
    let (transport, agent) = FakeAgent::pair();
    let transport = Arc::new(transport);
    let (handle, driver, events) = executor(env, Arc::clone(&transport) as _, 1);
    let shutdown = CancellationToken::new();
    let mut tasks = JoinSet::new();
    tasks.spawn(driver.run(shutdown.clone()));
    World { handle, events, agent, transport, driver: tasks, shutdown }
}

fn world() -> World {
    world_with(|_| {})
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(30), what).await.expect("within 30 s")
}

impl World {
    async fn event(&mut self) -> ExecutorEvent {
        soon(self.events.recv()).await.expect("an event")
    }

    async fn subscribe(&mut self) -> (Subscribe, Feed<Event>) {
        let asked = soon(self.agent.asked.recv()).await.unwrap();
        assert_eq!(asked.call.kind, CallType::Subscribe);
        assert_eq!((asked.call.framework_id.as_str(), asked.call.executor_id.as_str()), ("fw", "ex"));
        let subscribe = asked.call.subscribe.clone().unwrap();
        let feed = asked.accept();
        feed.send(Ok(event(EventType::Subscribed))).unwrap();
        assert!(matches!(self.event().await, ExecutorEvent::Subscribed(_)));
        (subscribe, feed)
    }

    async fn launch(&mut self, feed: &Feed<Event>, task: &str) -> TaskId {
        let task = TaskInfo { task_id: TaskId::new(task), name: "n".to_owned(), ..TaskInfo::default() };
        let launch = Launch { task: task.clone() };
        feed.send(Ok(Event { launch: Some(launch), ..event(EventType::Launch) })).unwrap();
        assert_eq!(self.event().await, ExecutorEvent::Launch(task.clone()));
        task.task_id
    }

    /// The next UPDATE that reaches the agent: its state and uuid.
    async fn sent(&mut self) -> (TaskState, String) {
        let (_, call) = soon(self.agent.calls.recv()).await.unwrap();
        let status = call.update.unwrap().status;
        (status.state, status.uuid.unwrap())
    }

    fn report(&self, task: &TaskId, state: TaskState) -> Result<Uuid, UpdateError> {
        self.handle.update(task, state, "", Bytes::new())
    }
}

fn event(kind: EventType) -> Event {
    Event { kind, ..Event::default() }
}

fn confirm(feed: &Feed<Event>, uuid: &str) {
    let acknowledged = Acknowledged { task_id: TaskId::new("t"), uuid: uuid.to_owned() };
    feed.send(Ok(Event { acknowledged: Some(acknowledged), ..event(EventType::Acknowledged) })).unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_update_carries_what_an_agent_demands() {
    let mut world = world();
    let (first, feed) = world.subscribe().await;
    assert_eq!(first, Subscribe::default());
    let task = world.launch(&feed, "t").await;
    let uuid = world.handle.update(&task, TaskState::Running, "up", Bytes::from_static(b"{}")).unwrap();
    let (_, call) = soon(world.agent.calls.recv()).await.unwrap();
    assert_eq!(
        (call.kind, call.executor_id.as_str(), call.framework_id.as_str()),
        (CallType::Update, "ex", "fw")
    );
    let status = call.update.unwrap().status;
    assert_eq!(status.task_id, task);
    assert_eq!(status.state, TaskState::Running);
    assert_eq!(status.source, Some(Source::Executor));
    assert_eq!(status.executor_id, Some(ExecutorId::new("ex")));
    assert_eq!(status.message.as_deref(), Some("up"));
    assert_eq!(status.data.as_deref(), Some("e30="));
    assert_eq!(status.timestamp, Some(12.5));
    assert_eq!(STANDARD.decode(status.uuid.unwrap()).unwrap(), uuid.as_bytes());
}

#[tokio::test(start_paused = true)]
async fn confirmed_updates_are_forgotten_and_the_flush_ends() {
    let mut world = world();
    let (_, feed) = world.subscribe().await;
    let task = world.launch(&feed, "t").await;
    world.handle.flushed().await.unwrap();
    let first = world.report(&task, TaskState::Starting).unwrap();
    let second = world.report(&task, TaskState::Running).unwrap();
    assert_eq!(world.handle.unconfirmed(), 2);
    let (starting, running) = (world.sent().await, world.sent().await);
    assert_eq!((starting.0, running.0), (TaskState::Starting, TaskState::Running));
    confirm(&feed, &starting.1);
    assert_eq!(world.event().await, ExecutorEvent::Acknowledged(first));
    assert!(timeout(Duration::from_secs(1), world.handle.flushed()).await.is_err());
    confirm(&feed, &running.1);
    assert_eq!(world.event().await, ExecutorEvent::Acknowledged(second));
    soon(world.handle.flushed()).await.unwrap();
    advance(Duration::from_secs(60)).await;
    assert!(world.agent.calls.try_recv().is_err(), "nothing is sent again");
}

#[tokio::test(start_paused = true)]
async fn an_unconfirmed_update_is_sent_again_with_its_uuid() {
    let mut world = world();
    let (_, feed) = world.subscribe().await;
    let task = world.launch(&feed, "t").await;
    world.report(&task, TaskState::Running).unwrap();
    let first = world.sent().await;
    assert_eq!(world.sent().await, first);
    confirm(&feed, &first.1);
    soon(world.handle.flushed()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_update_that_did_not_arrive_is_tried_again_soon_and_in_order() {
    let mut world = world();
    let (_, feed) = world.subscribe().await;
    let task = world.launch(&feed, "t").await;
    world.transport.answer(Answer::Now(Err(unavailable())));
    world.report(&task, TaskState::Starting).unwrap();
    world.report(&task, TaskState::Running).unwrap();
    let states = [world.sent().await.0, world.sent().await.0, world.sent().await.0];
    assert_eq!(states, [TaskState::Starting, TaskState::Starting, TaskState::Running]);
}

#[tokio::test(start_paused = true)]
async fn after_an_agent_restart_everything_unconfirmed_is_in_the_subscription() {
    let mut world = world();
    let (_, feed) = world.subscribe().await;
    let known = world.launch(&feed, "known").await;
    world.report(&known, TaskState::Running).unwrap();
    let (_, uuid) = world.sent().await;
    confirm(&feed, &uuid);
    assert!(matches!(world.event().await, ExecutorEvent::Acknowledged(_)));
    let fresh = world.launch(&feed, "fresh").await;

    drop(feed);
    soon(world.agent.asked.recv()).await.unwrap().refuse(unavailable());
    world.report(&known, TaskState::Finished).unwrap();
    world.report(&fresh, TaskState::Starting).unwrap();
    let (subscribe, feed) = loop {
        let asked = soon(world.agent.asked.recv()).await.unwrap();
        let subscribe = asked.call.subscribe.clone().unwrap();
        if subscribe.unacknowledged_updates.len() == 2 {
            break (subscribe, asked.accept());
        }
        asked.refuse(unavailable());
    };
    feed.send(Ok(event(EventType::Subscribed))).unwrap();
    let tasks: Vec<_> = subscribe.unacknowledged_tasks.iter().map(|task| &task.task_id).collect();
    assert_eq!(tasks, [&fresh], "the agent knows the other one");
    let states: Vec<_> = subscribe.unacknowledged_updates.iter().map(|update| update.status.state).collect();
    assert_eq!(states, [TaskState::Finished, TaskState::Starting]);
    for update in &subscribe.unacknowledged_updates {
        confirm(&feed, update.status.uuid.as_deref().unwrap());
    }
    soon(world.handle.flushed()).await.unwrap();
    assert!(world.agent.calls.try_recv().is_err(), "SUBSCRIBE has said it all");
}

#[tokio::test(start_paused = true)]
async fn nothing_follows_a_terminal_update() {
    let mut world = world();
    let (_, feed) = world.subscribe().await;
    let task = world.launch(&feed, "t").await;
    world.report(&task, TaskState::Killed).unwrap();
    let ended = UpdateError::Ended { task: task.clone() };
    assert_eq!(world.report(&task, TaskState::Running), Err(ended.clone()));
    assert_eq!(world.report(&task, TaskState::Failed), Err(ended));
    let (_, uuid) = world.sent().await;
    confirm(&feed, &uuid);
    soon(world.handle.flushed()).await.unwrap();
    assert_eq!(world.report(&task, TaskState::Running), Err(UpdateError::UnknownTask { task }));
    assert!(world.agent.calls.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn what_an_executor_must_not_say_is_refused() {
    let mut world = world();
    let (_, feed) = world.subscribe().await;
    let task = world.launch(&feed, "t").await;
    let stranger = TaskId::new("stranger");
    assert!(matches!(world.report(&stranger, TaskState::Running), Err(UpdateError::UnknownTask { .. })));
    for state in [TaskState::Staging, TaskState::Unreachable, TaskState::Unknown] {
        assert_eq!(world.report(&task, state), Err(UpdateError::BadState { state }));
    }
    let large = world.handle.update(&task, TaskState::Running, "", Bytes::from(vec![0; 20_000]));
    assert_eq!(large, Err(UpdateError::TooLarge { length: 20_000 }));
    let long = "ü".repeat(10_000);
    world.handle.update(&task, TaskState::Running, long, Bytes::new()).unwrap();
    let (_, call) = soon(world.agent.calls.recv()).await.unwrap();
    assert_eq!(call.update.unwrap().status.message.unwrap().len(), 4096);
}

#[tokio::test(start_paused = true)]
async fn orders_are_passed_on() {
    let mut world = world();
    let (_, feed) = world.subscribe().await;
    let kill: Kill = serde_json::from_str(
        r#"{"task_id":{"value":"t"},"kill_policy":{"grace_period":{"nanoseconds":1000000000}}}"#,
    )
    .unwrap();
    feed.send(Ok(Event { kill: Some(kill), ..event(EventType::Kill) })).unwrap();
    let grace = Some(Duration::from_secs(1));
    assert_eq!(world.event().await, ExecutorEvent::Kill { task_id: TaskId::new("t"), grace });
    let message = serde_json::from_str(r#"{"type":"MESSAGE","message":{"data":"aGVsbG8="}}"#).unwrap();
    feed.send(Ok(message)).unwrap();
    assert_eq!(world.event().await, ExecutorEvent::Message(Bytes::from_static(b"hello")));
    feed.send(Ok(event(EventType::Shutdown))).unwrap();
    assert_eq!(world.event().await, ExecutorEvent::Shutdown);
    world.handle.message(Bytes::from_static(b"hi")).await.unwrap();
    let (_, call) = soon(world.agent.calls.recv()).await.unwrap();
    assert_eq!((call.kind, call.message.unwrap().data.as_str()), (CallType::Message, "aGk="));
}

#[tokio::test(start_paused = true)]
async fn no_order_is_lost_on_a_slow_consumer() {
    let mut world = world();
    let (_, feed) = world.subscribe().await;
    for _ in 0..1000 {
        let kill = Kill { task_id: TaskId::new("t"), kill_policy: None };
        feed.send(Ok(Event { kill: Some(kill), ..event(EventType::Kill) })).unwrap();
    }
    feed.send(Ok(event(EventType::Shutdown))).unwrap();
    advance(Duration::from_secs(5)).await;
    for _ in 0..1000 {
        assert!(matches!(world.event().await, ExecutorEvent::Kill { .. }));
    }
    assert_eq!(world.event().await, ExecutorEvent::Shutdown);
}

#[tokio::test(start_paused = true)]
async fn a_flush_ends_even_if_the_consumer_reads_no_events_meanwhile() {
    let mut world = world();
    let (_, feed) = world.subscribe().await;
    let task = world.launch(&feed, "t").await;
    for _ in 0..600 {
        world.report(&task, TaskState::Running).unwrap();
    }
    for _ in 0..600 {
        let (_, uuid) = world.sent().await;
        confirm(&feed, &uuid);
    }
    soon(world.handle.flushed()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_stays_away_is_lost_once_the_recovery_timeout_is_over() {
    let mut world = world_with(|env| env.recovery_timeout = Duration::from_secs(60));
    let (_, feed) = world.subscribe().await;
    drop(feed);
    let start = tokio::time::sleep(Duration::from_secs(59));
    tokio::pin!(start);
    loop {
        tokio::select! {
            biased;
            () = &mut start => break,
            asked = world.agent.asked.recv() => asked.unwrap().refuse(unavailable()),
            event = world.events.recv() => panic!("{event:?} too early"),
        }
    }
    let mut refusing = 0;
    let lost = loop {
        tokio::select! {
            biased;
            event = world.events.recv() => break event.unwrap(),
            asked = world.agent.asked.recv() => {
                refusing += 1;
                assert!(refusing < 10, "about a second and a half of attempts");
                asked.unwrap().refuse(unavailable());
            }
        }
    };
    assert_eq!(lost, ExecutorEvent::AgentLost);
    world.subscribe().await;
}

#[tokio::test(start_paused = true)]
async fn without_checkpointing_the_agent_is_lost_with_its_stream() {
    let mut world = world_with(|env| env.checkpoint = false);
    let (_, feed) = world.subscribe().await;
    drop(feed);
    assert_eq!(world.event().await, ExecutorEvent::AgentLost);
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_never_answers_is_lost_after_the_registration_timeout() {
    let mut world = world();
    let _silent = soon(world.agent.asked.recv()).await.unwrap().accept();
    let lost = timeout(Duration::from_secs(61), world.events.recv()).await.unwrap();
    assert_eq!(lost, Some(ExecutorEvent::AgentLost));
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_driver_ends_a_flush() {
    let mut world = world();
    let (_, feed) = world.subscribe().await;
    let task = world.launch(&feed, "t").await;
    world.report(&task, TaskState::Running).unwrap();
    world.shutdown.cancel();
    soon(world.driver.join_next()).await.unwrap().unwrap();
    assert_eq!(world.handle.flushed().await, Err(ExecutorClosed { waiting: 1 }));
}

#[test]
fn one_seed_gives_one_sequence_of_uuids() {
    let uuids = |seed| {
        let (transport, _agent) = FakeAgent::pair();
        let env = ExecutorEnv::new("x:1", FrameworkId::new("fw"), ExecutorId::new("ex"));
        let shared = handle::Shared::new(&env, seed);
        let info = TaskInfo { task_id: TaskId::new("t"), ..TaskInfo::default() };
        shared.with_ledger(|ledger| ledger.launched(&info));
        let handle = ExecutorHandle::new(Arc::new(env), Arc::new(shared), Arc::new(transport));
        (0..3)
            .map(|_| handle.update(&info.task_id, TaskState::Running, "", Bytes::new()).unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(uuids(1), uuids(1));
    assert_ne!(uuids(1), uuids(2));
}

#[test]
fn recorded_conversations_with_a_real_agent_are_read() {
    for name in ["09_custom_executor.ex09.executor_wire.txt", "42_agent_restart.ex42.executor_wire.txt"] {
        let text = String::from_utf8(fixture(name)).unwrap();
        let (mut calls, mut events) = (Vec::new(), Vec::new());
        for line in text.lines().filter(|line| line.starts_with('{')) {
            if line.contains("\"framework_id\": ") {
                calls.push(serde_json::from_str::<Call>(line).unwrap());
            } else {
                events.push(serde_json::from_str::<Event>(line).unwrap());
            }
        }
        assert_eq!(calls[0].kind, CallType::Subscribe);
        assert!(calls.iter().all(|call| call.kind != CallType::Unknown));
        assert!(events.iter().all(|event| event.kind != EventType::Unknown));
        let launch = events.iter().find_map(|event| event.launch.as_ref()).unwrap();
        assert!(launch.task.executor.is_some());
        assert_eq!(launch.task.resources[0].allocation_info.as_ref().unwrap().role.as_deref(), Some("*"));
    }
}
