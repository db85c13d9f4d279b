//! The scheduler client against a master in memory, in virtual time.

mod framework;

use std::future::Future;

use tokio::{
    task::JoinSet,
    time::{advance, timeout},
};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    TransportError,
    testing::{Answer, FakeMaster, Feed, Master, refused, unavailable},
    v1::{
        AllocationInfo, TaskId, TaskState,
        scheduler::{CallType, ErrorEvent, Event, EventType, Offers, Operation, Rescind, Subscribed, Update},
    },
};

/// A client whose master is the test.
struct World {
    handle: SchedulerHandle,
    events: mpsc::Receiver<SchedulerEvent>,
    master: Master,
    transport: Arc<FakeMaster>,
    driver: JoinSet<()>,
    shutdown: CancellationToken,
}

fn world_with(change: impl FnOnce(&mut SchedulerConfig)) -> World {
    let mut config = SchedulerConfig::new("root", "test", vec!["*".to_owned()], Duration::from_secs(3600));
    change(&mut config);
    let (transport, master) = FakeMaster::pair();
    let transport = Arc::new(transport);
    let (handle, driver, events) = scheduler(config, Arc::clone(&transport) as _, 1);
    let shutdown = CancellationToken::new();
    let mut tasks = JoinSet::new();
    tasks.spawn(driver.run(shutdown.clone()));
    World { handle, events, master, transport, driver: tasks, shutdown }
}

fn world() -> World {
    world_with(|_| {})
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(30), what).await.expect("within 30 s")
}

impl World {
    async fn event(&mut self) -> SchedulerEvent {
        soon(self.events.recv()).await.expect("an event")
    }

    /// Answers the next SUBSCRIBE and lets the consumer hear of it.
    async fn subscribe(&mut self, stream_id: &str) -> Feed<Event> {
        let asked = soon(self.master.asked.recv()).await.unwrap();
        let feed = asked.accept(stream_id);
        feed.send(Ok(subscribed())).unwrap();
        assert!(matches!(self.event().await, SchedulerEvent::Subscribed { .. }));
        feed
    }

    async fn disconnected(&mut self) -> String {
        match self.event().await {
            SchedulerEvent::Disconnected { reason } => reason,
            other => panic!("{other:?}"),
        }
    }
}

fn event(kind: EventType) -> Event {
    Event { kind, ..Event::default() }
}

fn subscribed() -> Event {
    let subscribed = Subscribed {
        framework_id: FrameworkId::new("fw"),
        heartbeat_interval_seconds: Some(15.0),
        master_info: None,
    };
    Event { subscribed: Some(subscribed), ..event(EventType::Subscribed) }
}

fn error(message: &str) -> Event {
    let error = ErrorEvent { message: message.to_owned() };
    Event { error: Some(error), ..event(EventType::Error) }
}

fn offers(ids: &[&str]) -> Event {
    let offers = ids
        .iter()
        .map(|id| Offer {
            id: OfferId::new(*id),
            allocation_info: Some(AllocationInfo { role: Some("*".to_owned()) }),
            ..Offer::default()
        })
        .collect();
    Event { offers: Some(Offers { offers }), ..event(EventType::Offers) }
}

fn update(task: &str, state: TaskState, uuid: Option<&str>) -> Event {
    let status = TaskStatus {
        task_id: TaskId::new(task),
        state,
        uuid: uuid.map(str::to_owned),
        agent_id: Some(AgentId::new("agent")),
        ..TaskStatus::default()
    };
    Event { update: Some(Update { status }), ..event(EventType::Update) }
}

fn ids(ids: &[&str]) -> Vec<OfferId> {
    ids.iter().map(|id| OfferId::new(*id)).collect()
}

#[tokio::test(start_paused = true)]
async fn the_first_subscription_asks_for_a_framework_id_and_later_ones_keep_it() {
    let mut world = world();
    let asked = soon(world.master.asked.recv()).await.unwrap();
    assert_eq!(asked.call.kind, CallType::Subscribe);
    assert_eq!(asked.call.framework_id, None);
    let info = &asked.call.subscribe.as_ref().unwrap().framework_info;
    assert_eq!(info.id, None);
    assert_eq!(info.checkpoint, Some(true));
    assert_eq!(info.capabilities.len(), 4);
    let feed = asked.accept("one");
    feed.send(Ok(subscribed())).unwrap();
    let framework_id = FrameworkId::new("fw");
    assert_eq!(
        world.event().await,
        SchedulerEvent::Subscribed { framework_id: framework_id.clone(), resubscribed: false }
    );
    assert_eq!(world.handle.framework_id(), Some(framework_id.clone()));

    drop(feed);
    assert_eq!(world.disconnected().await, "the master ended the stream");
    assert_eq!(world.handle.subscription(), None);
    let asked = soon(world.master.asked.recv()).await.unwrap();
    assert_eq!(asked.call.framework_id, Some(framework_id.clone()));
    assert_eq!(asked.call.subscribe.as_ref().unwrap().framework_info.id, Some(framework_id.clone()));
    let feed = asked.accept("two");
    feed.send(Ok(subscribed())).unwrap();
    assert_eq!(world.event().await, SchedulerEvent::Subscribed { framework_id, resubscribed: true });
    assert_eq!(world.handle.subscription(), Some(2));
}

#[tokio::test(start_paused = true)]
async fn a_given_framework_id_is_taken_over() {
    let mut world = world_with(|config| config.framework_id = Some(FrameworkId::new("fw")));
    let asked = soon(world.master.asked.recv()).await.unwrap();
    assert_eq!(asked.call.framework_id, Some(FrameworkId::new("fw")));
    asked.accept("one").send(Ok(subscribed())).unwrap();
    assert!(matches!(world.event().await, SchedulerEvent::Subscribed { resubscribed: true, .. }));
}

#[tokio::test(start_paused = true)]
async fn another_framework_id_than_ours_is_never_adopted() {
    let mut world = world_with(|config| config.framework_id = Some(FrameworkId::new("mine")));
    let asked = soon(world.master.asked.recv()).await.unwrap();
    asked.accept("one").send(Ok(subscribed())).unwrap();
    let SchedulerEvent::Refused { message } = world.event().await else { panic!() };
    assert_eq!(message, "subscribed as framework mine, the master answers as fw");
    let asked = soon(world.master.asked.recv()).await.unwrap();
    assert_eq!(asked.call.framework_id, Some(FrameworkId::new("mine")));
}

#[tokio::test(start_paused = true)]
async fn heartbeats_keep_a_subscription_and_their_absence_ends_it() {
    let mut world = world();
    let feed = world.subscribe("one").await;
    for _ in 0..100 {
        advance(Duration::from_secs(60)).await;
        feed.send(Ok(event(EventType::Heartbeat))).unwrap();
        tokio::task::yield_now().await;
    }
    assert!(world.events.try_recv().is_err());
    advance(Duration::from_secs(76)).await;
    assert_eq!(world.disconnected().await, "no heartbeat for 75 s");
    world.subscribe("two").await;
}

#[tokio::test(start_paused = true)]
async fn a_removed_framework_is_fatal() {
    let mut world = world_with(|config| config.framework_id = Some(FrameworkId::new("fw")));
    let asked = soon(world.master.asked.recv()).await.unwrap();
    asked.accept("one").send(Ok(error("Framework has been removed"))).unwrap();
    let message = "Framework has been removed".to_owned();
    assert_eq!(world.event().await, SchedulerEvent::Removed { message });
    assert_eq!(world.events.recv().await, None);
    soon(world.driver.join_next()).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_told_once_and_tried_again() {
    let mut world = world();
    for _ in 0..3 {
        let asked = soon(world.master.asked.recv()).await.unwrap();
        asked.accept("x").send(Ok(error("Roles are wrong"))).unwrap();
    }
    assert_eq!(world.event().await, SchedulerEvent::Refused { message: "Roles are wrong".to_owned() });
    soon(world.master.asked.recv()).await.unwrap().refuse(refused(401, "who are you"));
    assert_eq!(
        world.event().await,
        SchedulerEvent::Refused { message: "test answered 401: who are you".to_owned() }
    );
    world.subscribe("one").await;
}

#[tokio::test(start_paused = true)]
async fn an_absent_master_is_told_once_and_tried_again() {
    let mut world = world();
    for _ in 0..5 {
        soon(world.master.asked.recv()).await.unwrap().refuse(unavailable());
    }
    assert_eq!(world.disconnected().await, "no answer from test: connection refused");
    world.subscribe("one").await;
}

#[tokio::test(start_paused = true)]
async fn a_master_that_says_nothing_after_subscribe_is_given_up() {
    let mut world = world();
    let asked = soon(world.master.asked.recv()).await.unwrap();
    let _silent = asked.accept("one");
    advance(Duration::from_secs(31)).await;
    assert_eq!(world.disconnected().await, "no subscription within 30 s");
    world.subscribe("two").await;
}

#[tokio::test(start_paused = true)]
async fn a_deposed_leader_does_not_come_back_at_once() {
    let mut world = world();
    let feed = world.subscribe("one").await;
    feed.send(Ok(error("Framework failed over"))).unwrap();
    assert_eq!(world.disconnected().await, "Framework failed over");
    assert!(timeout(Duration::from_secs(4), world.master.asked.recv()).await.is_err());
    world.subscribe("two").await;
}

#[tokio::test(start_paused = true)]
async fn a_master_that_drops_us_at_once_is_asked_ever_more_slowly() {
    let mut world = world_with(|config| config.retry.max = Duration::from_secs(8));
    for _ in 0..8 {
        drop(world.subscribe("x").await);
        world.disconnected().await;
    }
    assert!(timeout(Duration::from_secs(3), world.master.asked.recv()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn calls_carry_the_stream_id_and_fail_at_once_without_a_subscription() {
    let mut world = world();
    let suppressed = world.handle.suppress(vec!["*".to_owned()]).await;
    assert_eq!(suppressed, Err(CallError::Disconnected));
    let feed = world.subscribe("one").await;
    world.handle.suppress(vec!["*".to_owned()]).await.unwrap();
    let (stream_id, call) = world.master.calls.recv().await.unwrap();
    assert_eq!(stream_id, "one");
    assert_eq!(call.framework_id, Some(FrameworkId::new("fw")));
    assert_eq!(call.kind, CallType::Suppress);
    drop(feed);
    world.disconnected().await;
    assert_eq!(world.handle.revive(Vec::new()).await, Err(CallError::Disconnected));
    assert!(world.master.calls.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn an_event_may_come_before_the_answer_to_the_call_it_answers() {
    let mut world = world();
    let feed = world.subscribe("one").await;
    world.transport.answer(Answer::Never);
    let handle = world.handle.clone();
    let mut call = JoinSet::new();
    call.spawn(async move { handle.reconcile(vec![(TaskId::new("t"), None)]).await });
    assert_eq!(soon(world.master.calls.recv()).await.unwrap().1.kind, CallType::Reconcile);
    feed.send(Ok(update("t", TaskState::Running, None))).unwrap();
    let SchedulerEvent::Update(status) = world.event().await else { panic!() };
    assert_eq!(status.state, TaskState::Running);
    let result = soon(call.join_next()).await.unwrap().unwrap().unwrap_err();
    assert_eq!(result.to_string(), "RECONCILE was not answered within 10 s");
    assert!(result.may_have_arrived());
}

#[tokio::test(start_paused = true)]
async fn a_slow_consumer_costs_the_subscription_and_not_the_heartbeats() {
    let mut world = world_with(|config| config.event_buffer = 4);
    let feed = world.subscribe("one").await;
    for number in 0..10 {
        feed.send(Ok(update(&format!("t{number}"), TaskState::Running, Some("u")))).unwrap();
    }
    advance(Duration::from_secs(600)).await;
    assert_eq!(world.handle.subscription(), None, "given up, and not opened while nobody reads");
    for number in 0..4 {
        let SchedulerEvent::Update(status) = world.event().await else { panic!() };
        assert_eq!(status.task_id, TaskId::new(format!("t{number}")));
    }
    assert_eq!(world.disconnected().await, "more than 4 events unread");
    world.subscribe("two").await;
}

#[tokio::test(start_paused = true)]
async fn an_offer_is_used_once_and_in_its_own_subscription_only() {
    let mut world = world();
    let feed = world.subscribe("one").await;
    feed.send(Ok(offers(&["o1", "o2", "o3"]))).unwrap();
    let SchedulerEvent::Offers { subscription: 1, offers: came } = world.event().await else { panic!() };
    assert_eq!(came.len(), 3);
    let stale = |id| Err(CallError::StaleOffer { offer: OfferId::new(id) });

    world.handle.accept(ids(&["o1"]), vec![Operation::default()], 0.0).await.unwrap();
    let accept = world.master.calls.recv().await.unwrap().1.accept.unwrap();
    assert_eq!(accept.offer_ids, ids(&["o1"]));
    assert_eq!(accept.filters.unwrap().refuse_seconds, Some(0.0));
    assert_eq!(world.handle.accept(ids(&["o2", "o1"]), Vec::new(), 0.0).await, stale("o1"));

    let rescind = Rescind { offer_id: OfferId::new("o2") };
    feed.send(Ok(Event { rescind: Some(rescind), ..event(EventType::Rescind) })).unwrap();
    assert_eq!(world.event().await, SchedulerEvent::Rescinded(OfferId::new("o2")));
    assert_eq!(world.handle.accept(ids(&["o2"]), Vec::new(), 0.0).await, stale("o2"));

    drop(feed);
    world.disconnected().await;
    world.subscribe("two").await;
    assert_eq!(world.handle.accept(ids(&["o3"]), Vec::new(), 0.0).await, stale("o3"));
    world.handle.decline(ids(&["o3"]), 5.0).await.unwrap();
    assert!(world.master.calls.try_recv().is_err(), "nothing to decline");
}

#[tokio::test(start_paused = true)]
async fn offers_of_a_refused_accept_can_still_be_declined() {
    let mut world = world();
    let feed = world.subscribe("one").await;
    feed.send(Ok(offers(&["o1"]))).unwrap();
    world.event().await;
    world.transport.answer(Answer::Now(Err(refused(400, "no"))));
    let error = world.handle.accept(ids(&["o1"]), Vec::new(), 0.0).await.unwrap_err();
    assert!(!error.may_have_arrived());
    world.handle.decline(ids(&["o1"]), -1.0).await.unwrap();
    world.master.calls.recv().await.unwrap();
    let decline = world.master.calls.recv().await.unwrap().1.decline.unwrap();
    assert_eq!(decline.filters.unwrap().refuse_seconds, Some(0.0), "-1 would be Mesos' default of 5 s");
}

#[tokio::test(start_paused = true)]
async fn only_updates_with_a_uuid_are_acknowledged() {
    let mut world = world();
    let feed = world.subscribe("one").await;
    for uuid in [None, Some("dXVpZA==")] {
        feed.send(Ok(update("t", TaskState::Running, uuid))).unwrap();
        let SchedulerEvent::Update(status) = world.event().await else { panic!() };
        world.handle.acknowledge(&status).await.unwrap();
    }
    let acknowledge = world.master.calls.recv().await.unwrap().1.acknowledge.unwrap();
    assert_eq!(acknowledge.uuid, "dXVpZA==");
    assert_eq!(acknowledge.agent_id, AgentId::new("agent"));
    assert!(world.master.calls.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn reconciliation_is_implicit_without_tasks_and_split_with_many() {
    let mut world = world();
    let _feed = world.subscribe("one").await;
    world.handle.reconcile(Vec::new()).await.unwrap();
    world.handle.reconcile((0..2500).map(|n| (TaskId::new(n.to_string()), None)).collect()).await.unwrap();
    let mut sizes = Vec::new();
    while let Ok((_, call)) = world.master.calls.try_recv() {
        sizes.push(call.reconcile.unwrap().tasks.len());
    }
    assert_eq!(sizes, [0, 1000, 1000, 500]);
}

#[tokio::test(start_paused = true)]
async fn the_other_calls_say_what_they_mean() {
    let mut world = world();
    let _feed = world.subscribe("one").await;
    let (agent, executor) = (AgentId::new("a"), ExecutorId::new("e"));
    let grace = Some(Duration::from_secs(2));
    world.handle.kill(TaskId::new("t"), Some(agent.clone()), grace).await.unwrap();
    world.handle.message(agent.clone(), executor.clone(), Bytes::from_static(b"hi")).await.unwrap();
    world.handle.shutdown_executor(agent, executor).await.unwrap();
    world.handle.revive(vec!["*".to_owned()]).await.unwrap();
    let mut calls = Vec::new();
    while let Ok((_, call)) = world.master.calls.try_recv() {
        calls.push(call);
    }
    let grace = calls[0].kill.as_ref().unwrap().kill_policy.unwrap().grace_period.unwrap();
    assert_eq!(grace.nanoseconds, 2_000_000_000);
    assert_eq!(calls[1].message.as_ref().unwrap().data, "aGk=");
    assert_eq!(calls[2].shutdown.as_ref().unwrap().executor_id.as_str(), "e");
    assert_eq!(calls[3].revive.as_ref().unwrap().roles, ["*"]);
}

#[tokio::test(start_paused = true)]
async fn a_forgotten_subscription_is_opened_again_although_its_stream_stands() {
    let mut world = world();
    let _feed = world.subscribe("one").await;
    world.transport.answer(Answer::Now(Err(refused(403, "Framework is not subscribed"))));
    let error = world.handle.revive(Vec::new()).await.unwrap_err();
    assert!(matches!(error, CallError::Failed { source: TransportError::Refused { .. }, .. }));
    assert_eq!(world.disconnected().await, "Framework is not subscribed");
    world.subscribe("two").await;
}

#[tokio::test(start_paused = true)]
async fn teardown_ends_the_driver_whichever_comes_first_answer_or_end_of_stream() {
    let mut world = world();
    let feed = world.subscribe("one").await;
    world.handle.teardown().await.unwrap();
    drop(feed);
    soon(world.driver.join_next()).await.unwrap().unwrap();
    assert_eq!(world.events.recv().await, None);
    assert!(world.master.asked.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn unknown_events_and_bad_messages_are_left_aside() {
    let mut world = world();
    let feed = world.subscribe("one").await;
    let unknown: Event = serde_json::from_str(r#"{"type":"NEW_IN_1_12","new":{"x":[1]}}"#).unwrap();
    feed.send(Ok(unknown)).unwrap();
    let message =
        serde_json::from_str(r#"{"type":"MESSAGE","message":{"agent_id":{"value":"a"},"data":"?"}}"#);
    feed.send(Ok(message.unwrap())).unwrap();
    feed.send(Ok(update("t", TaskState::Lost, None))).unwrap();
    assert!(matches!(world.event().await, SchedulerEvent::Update(_)));
}

#[tokio::test(start_paused = true)]
async fn shutdown_ends_the_driver_and_the_subscription() {
    let mut world = world();
    let feed = world.subscribe("one").await;
    world.shutdown.cancel();
    soon(world.driver.join_next()).await.unwrap().unwrap();
    assert_eq!(world.handle.subscription(), None);
    assert!(feed.is_closed());
}
