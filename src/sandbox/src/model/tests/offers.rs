//! Captures 01, 04, 09, 14, 40.

use super::*;

#[test]
fn the_agents_are_shared_out_among_the_roles() {
    let mut world = World::new(2);
    let mut info = framework_info();
    info["roles"] = json!(["r1", "r2"]);
    let scheduler = world.subscribe_as(info);
    let offers = world.events(&scheduler).pop().unwrap().offers.unwrap().offers;
    let mut roles: Vec<String> =
        offers.iter().map(|offer| offer.allocation_info.clone().unwrap().role.unwrap()).collect();
    roles.sort();
    assert_eq!(roles, ["r1", "r2"]);
}

#[test]
fn an_offer_carries_address_attributes_and_resources_in_the_order_of_mesos() {
    let mut world = World::new(1);
    let scheduler = world.subscribe();
    let offer = world.events(&scheduler).pop().unwrap().offers.unwrap().offers.remove(0);
    let names: Vec<&str> = offer.resources.iter().map(|resource| resource.name.as_str()).collect();
    assert_eq!(names, ["ports", "cpus", "mem", "disk"]);
    let address = offer.url.unwrap().address;
    assert_eq!((address.ip.as_deref(), address.port), (Some("127.0.0.1"), 5051));
    assert_eq!(offer.attributes[0].text.as_ref().unwrap().value, "r1");
}

/// How long after a DECLINE with these filters the next OFFERS come, at ticks of a second.
fn offered_again_after(filters: Value) -> Option<f64> {
    let mut world = World::new(1);
    let scheduler = world.subscribe();
    let offers = world.offers(&scheduler);
    world.pass(0.2);
    let body = json!({"type": "DECLINE", "decline": {"offer_ids": [{"value": offers[0].0.as_str()}], "filters": filters}});
    world.tell(&scheduler, body);
    (1..=200)
        .find(|_| {
            world.pass(0.1);
            !world.offers(&scheduler).is_empty()
        })
        .map(|tenths| f64::from(tenths) / 10.0)
}

#[test]
fn a_refusal_lasts_and_then_the_next_tick_offers_again() {
    assert_eq!(offered_again_after(json!(null)), Some(5.8));
    assert_eq!(offered_again_after(json!({})), Some(5.8));
    assert_eq!(offered_again_after(json!({"refuse_seconds": 2.0})), Some(2.8));
    assert_eq!(offered_again_after(json!({"refuse_seconds": 0.0})), Some(0.8));
    assert_eq!(offered_again_after(json!({"refuse_seconds": -1.0})), Some(5.8));
    assert_eq!(offered_again_after(json!({"refuse_seconds": 3600.0})), None);
    assert_eq!(offered_again_after(json!({"refuse_seconds": 1e30})), None);
}

#[test]
fn revive_drops_filters_and_offers_at_once() {
    let mut world = World::new(1);
    let scheduler = world.subscribe();
    let offers = world.offers(&scheduler);
    let ids = json!([{"value": offers[0].0.as_str()}]);
    world.tell(
        &scheduler,
        json!({"type": "DECLINE", "decline": {"offer_ids": ids, "filters": {"refuse_seconds": 3600.0}}}),
    );
    world.tell(&scheduler, json!({"type": "REVIVE", "revive": {"roles": ["other"]}}));
    assert!(world.offers(&scheduler).is_empty());
    world.tell(&scheduler, json!({"type": "REVIVE"}));
    assert_eq!(world.offers(&scheduler).len(), 1);
}

#[test]
fn a_suppressed_framework_gets_no_offers_until_it_revives() {
    let mut world = World::new(1);
    let scheduler = world.subscribe();
    let offers = world.offers(&scheduler);
    world.tell(&scheduler, json!({"type": "SUPPRESS"}));
    let ids = json!([{"value": offers[0].0.as_str()}]);
    world.tell(
        &scheduler,
        json!({"type": "DECLINE", "decline": {"offer_ids": ids, "filters": {"refuse_seconds": 0.0}}}),
    );
    world.pass(10.0);
    assert!(world.offers(&scheduler).is_empty());
    world.tell(&scheduler, json!({"type": "REVIVE", "revive": {"roles": ["*"]}}));
    assert_eq!(world.offers(&scheduler).len(), 1);
}

#[test]
fn a_filter_refuses_what_it_was_made_for_and_more_is_offered_again() {
    let mut world = World::new(1);
    let scheduler = world.subscribe();
    let running = world.run(&scheduler, "t");
    world.pass(1.0);
    let rest = world.offers(&scheduler);
    let ids = json!([{"value": rest[0].0.as_str()}]);
    world.tell(
        &scheduler,
        json!({"type": "DECLINE", "decline": {"offer_ids": ids, "filters": {"refuse_seconds": 3600.0}}}),
    );
    world.pass(5.0);
    assert!(world.offers(&scheduler).is_empty());
    // The task ends: more is free than was refused.
    world.report(&running, TaskState::Finished, 1);
    world.pass(1.0);
    assert_eq!(world.offers(&scheduler).len(), 1);
}

#[test]
fn the_rest_of_an_offer_comes_back_with_the_ids_of_own_executors() {
    let mut world = World::new(1);
    let scheduler = world.subscribe();
    world.run(&scheduler, "t");
    world.events(&scheduler);
    world.pass(1.0);
    let offer = world.events(&scheduler).pop().unwrap().offers.unwrap().offers.remove(0);
    let cpus = offer.resources.iter().find(|resource| resource.name == "cpus").unwrap();
    assert!((cpus.scalar.unwrap().value - 7.4).abs() < 1e-9);
    assert_eq!(offer.executor_ids, [ExecutorId::new("t-executor")]);
}

#[test]
fn two_frameworks_take_turns() {
    let mut world = World::new(2);
    let first = world.subscribe();
    let offers = world.offers(&first);
    let second = world.subscribe();
    assert!(world.offers(&second).is_empty());
    let ids: Vec<Value> = offers.iter().map(|(id, _)| json!({"value": id.as_str()})).collect();
    world.tell(
        &first,
        json!({"type": "DECLINE", "decline": {"offer_ids": ids, "filters": {"refuse_seconds": 0.0}}}),
    );
    world.pass(1.0);
    assert_eq!((world.offers(&first).len(), world.offers(&second).len()), (1, 1));
}

#[test]
fn an_unknown_offer_in_decline_is_passed_over() {
    let mut world = World::new(1);
    let scheduler = world.subscribe();
    world.events(&scheduler);
    let body = json!({"type": "DECLINE", "decline": {"offer_ids": [{"value": "no-such-offer"}]}});
    assert_eq!(world.tell(&scheduler, body), Answer::Accepted);
    world.pass(10.0);
    assert_eq!(world.kinds(&scheduler), []);
}

#[test]
fn a_converged_world_has_nothing_due_but_heartbeats() {
    let mut world = World::new(3);
    let scheduler = world.subscribe();
    let offers = world.offers(&scheduler);
    let ids: Vec<Value> = offers.iter().map(|(id, _)| json!({"value": id.as_str()})).collect();
    world.tell(&scheduler, json!({"type": "SUPPRESS"}));
    world.tell(&scheduler, json!({"type": "DECLINE", "decline": {"offer_ids": ids}}));
    world.pass(2.0);
    assert_eq!(world.model.next_wakeup(), Some(Duration::from_secs(15)));
}
