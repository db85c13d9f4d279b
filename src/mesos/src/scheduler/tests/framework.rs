//! What a framework says of itself, maintenance, and operations.

use super::*;
use crate::v1::{
    InverseOffer, OperationId, OperationState, OperationStatus, Unavailability, Uuid,
    scheduler::{Call, InverseOffers, RescindInverseOffer, UpdateOperationStatus},
};

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

async fn called(world: &mut World) -> Call {
    soon(world.master.calls.recv()).await.unwrap().1
}

/// Roles and suppressed roles of the next SUBSCRIBE.
async fn asked(world: &mut World) -> (Vec<String>, Vec<String>) {
    let asked = soon(world.master.asked.recv()).await.unwrap();
    let subscribe = asked.call.subscribe.clone().unwrap();
    asked.accept("s").send(Ok(subscribed())).unwrap();
    (subscribe.framework_info.roles, subscribe.suppressed_roles)
}

#[tokio::test(start_paused = true)]
async fn several_roles_subscribe_and_some_of_them_start_suppressed() {
    let mut world = world_with(|config| {
        config.framework.roles = texts(&["a", "a/b"]);
        config.suppressed_roles = texts(&["a"]);
    });
    assert_eq!(asked(&mut world).await, (texts(&["a", "a/b"]), texts(&["a"])));
}

#[tokio::test(start_paused = true)]
async fn roles_change_at_once_and_in_each_later_subscription() {
    let mut world = world();
    let feed = world.subscribe("s1").await;
    world.handle.set_roles(texts(&["x", "y"]), texts(&["y"])).await.unwrap();
    let call = called(&mut world).await;
    assert_eq!(call.kind, CallType::UpdateFramework);
    let update = call.update_framework.unwrap();
    assert_eq!(update.framework_info.roles, ["x", "y"]);
    assert_eq!(update.framework_info.id, Some(FrameworkId::new("fw")), "Mesos wants it in both places");
    assert_eq!((update.framework_info.name.as_str(), update.framework_info.checkpoint), ("test", Some(true)));
    assert_eq!(update.suppressed_roles, ["y"]);
    drop(feed);
    world.disconnected().await;
    assert_eq!(asked(&mut world).await, (texts(&["x", "y"]), texts(&["y"])));
}

#[tokio::test(start_paused = true)]
async fn without_a_subscription_new_roles_wait_for_the_next_one() {
    let mut world = world();
    world.handle.set_roles(texts(&["x"]), Vec::new()).await.unwrap();
    assert_eq!(asked(&mut world).await, (texts(&["x"]), vec![]));
    assert!(world.master.calls.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn roles_that_the_master_refuses_are_forgotten() {
    let mut world = world();
    let feed = world.subscribe("s1").await;
    let words = "FrameworkInfo update is not valid: role '/x' is invalid";
    world.transport.answer(Answer::Now(Err(refused(400, words))));
    let error = world.handle.set_roles(texts(&["/x"]), Vec::new()).await.unwrap_err();
    assert!(matches!(error, CallError::Failed { call: CallType::UpdateFramework, .. }), "{error}");
    drop(feed);
    world.disconnected().await;
    assert_eq!(asked(&mut world).await, (texts(&["*"]), vec![]));
}

#[tokio::test(start_paused = true)]
async fn maintenance_is_passed_on_and_answered() {
    let mut world = world();
    let feed = world.subscribe("s1").await;
    let unavailability = Unavailability::default();
    let wanted = InverseOffer { id: OfferId::new("io"), unavailability, ..InverseOffer::default() };
    let inverse_offers = InverseOffers { inverse_offers: vec![wanted.clone()] };
    let event_of_all = Event { inverse_offers: Some(inverse_offers), ..event(EventType::InverseOffers) };
    feed.send(Ok(event_of_all)).unwrap();
    assert_eq!(world.event().await, SchedulerEvent::InverseOffers { inverse_offers: vec![wanted] });
    let rescind = RescindInverseOffer { inverse_offer_id: OfferId::new("io") };
    feed.send(Ok(Event { rescind_inverse_offer: Some(rescind), ..event(EventType::RescindInverseOffer) }))
        .unwrap();
    assert_eq!(world.event().await, SchedulerEvent::InverseRescinded(OfferId::new("io")));

    world.handle.accept_inverse_offers(ids(&["io"]), 2.0).await.unwrap();
    let call = called(&mut world).await;
    let json = serde_json::to_value(&call).unwrap();
    assert_eq!(json["type"], "ACCEPT_INVERSE_OFFERS");
    let body =
        serde_json::json!({"inverse_offer_ids": [{"value": "io"}], "filters": {"refuse_seconds": 2.0}});
    assert_eq!(json["accept_inverse_offers"], body);
    world.handle.decline_inverse_offers(ids(&["io"]), 2.0).await.unwrap();
    let json = serde_json::to_value(called(&mut world).await).unwrap();
    assert_eq!((&json["type"], &json["decline_inverse_offers"]), (&"DECLINE_INVERSE_OFFERS".into(), &body));
}

#[tokio::test(start_paused = true)]
async fn a_report_about_an_operation_is_acknowledged_when_it_has_a_uuid() {
    let mut world = world();
    let feed = world.subscribe("s1").await;
    let mut status = OperationStatus {
        operation_id: Some(OperationId::new("op-1")),
        state: OperationState::Finished,
        uuid: Some(Uuid { value: "tIGZppRKTKSOJeXogYKcLg==".to_owned() }),
        agent_id: Some(AgentId::new("S1")),
        ..OperationStatus::default()
    };
    let update = UpdateOperationStatus { status: status.clone() };
    let report = Event { update_operation_status: Some(update), ..event(EventType::UpdateOperationStatus) };
    feed.send(Ok(report)).unwrap();
    assert_eq!(world.event().await, SchedulerEvent::OperationStatus(status.clone()));
    world.handle.acknowledge_operation(&status).await.unwrap();
    let json = serde_json::to_value(called(&mut world).await).unwrap();
    // As recorded of a real exchange.
    let expected = serde_json::json!({
        "framework_id": {"value": "fw"}, "type": "ACKNOWLEDGE_OPERATION_STATUS",
        "acknowledge_operation_status": {"agent_id": {"value": "S1"}, "operation_id": {"value": "op-1"}, "uuid": "tIGZppRKTKSOJeXogYKcLg=="},
    });
    assert_eq!(json, expected);

    status.uuid = None;
    world.handle.acknowledge_operation(&status).await.unwrap();
    assert!(world.master.calls.try_recv().is_err(), "that of a reconciliation must not be");
    world.handle.reconcile_operations(vec![(OperationId::new("op-1"), None)]).await.unwrap();
    let json = serde_json::to_value(called(&mut world).await).unwrap();
    let body = serde_json::json!({"operations": [{"operation_id": {"value": "op-1"}}]});
    assert_eq!((&json["type"], &json["reconcile_operations"]), (&"RECONCILE_OPERATIONS".into(), &body));
}

#[tokio::test(start_paused = true)]
async fn an_event_without_its_body_is_left_aside() {
    let mut world = world();
    let feed = world.subscribe("s1").await;
    for kind in
        [EventType::Update, EventType::UpdateOperationStatus, EventType::Unknown, EventType::Subscribed]
    {
        feed.send(Ok(event(kind))).unwrap();
    }
    feed.send(Ok(update("t", TaskState::Running, None))).unwrap();
    assert!(matches!(world.event().await, SchedulerEvent::Update(_)));
}
