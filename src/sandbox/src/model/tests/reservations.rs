//! Capture 17: reservations, volumes and the feedback about them; who is offered what is reserved.

use overlord_mesos::v1::{Offer, OperationState, OperationStatus};

use super::*;
use crate::config::Reserved;

fn info(role: &str) -> Value {
    let mut info = framework_info();
    info["roles"] = json!([role]);
    info["principal"] = json!("p");
    info
}

fn last_offer(world: &mut World, scheduler: &Scheduler) -> Offer {
    world.pass(1.0);
    let offers = world.events(scheduler).into_iter().filter_map(|event| event.offers);
    offers.flat_map(|offers| offers.offers).last().expect("an offer")
}

fn part(name: &str, amount: f64) -> Value {
    json!({
        "name": name, "type": "SCALAR", "scalar": {"value": amount}, "allocation_info": {"role": "rsv"},
        "reservations": [{"type": "DYNAMIC", "role": "rsv", "principal": "p"}],
    })
}

fn volume(amount: f64) -> Value {
    let mut volume = part("disk", amount);
    volume["disk"] = json!({
        "persistence": {"id": "vol1", "principal": "p"}, "volume": {"container_path": "data", "mode": "RW"},
    });
    volume
}

fn operate(world: &mut World, scheduler: &Scheduler, offer: &Offer, operations: Value) {
    let body = json!({"type": "ACCEPT", "accept": {"offer_ids": [{"value": offer.id.as_str()}],
        "operations": operations, "filters": {"refuse_seconds": 0.0}}});
    assert_eq!(world.tell(scheduler, body), Answer::Accepted);
}

/// Name, amount and marks of what an offer holds, without ports.
fn content(offer: &Offer) -> Vec<(String, f64, bool, bool)> {
    let scalars = offer.resources.iter().filter_map(|resource| Some((resource, resource.scalar?.value)));
    scalars.map(|(r, value)| (r.name.clone(), value, !r.reservations.is_empty(), r.disk.is_some())).collect()
}

fn whole() -> Vec<(String, f64, bool, bool)> {
    [("cpus", 8.0), ("mem", 8192.0), ("disk", 20_000.0)]
        .map(|(name, value)| (name.to_owned(), value, false, false))
        .to_vec()
}

fn operation_statuses(world: &mut World, scheduler: &Scheduler) -> Vec<OperationStatus> {
    let events = world.events(scheduler).into_iter();
    events.filter_map(|event| event.update_operation_status).map(|update| update.status).collect()
}

#[test]
fn what_is_reserved_and_made_a_volume_is_offered_so_and_can_be_undone() {
    let mut world = World::new(1);
    let scheduler = world.subscribe_as(info("rsv"));
    let offer = last_offer(&mut world, &scheduler);
    let reserve =
        json!({"type": "RESERVE", "reserve": {"resources": [part("cpus", 1.0), part("disk", 50.0)]}});
    operate(&mut world, &scheduler, &offer, json!([reserve]));
    let offer = last_offer(&mut world, &scheduler);
    let named = |name: &str, value: f64, reserved, disk| (name.to_owned(), value, reserved, disk);
    let rest = [
        named("cpus", 7.0, false, false),
        named("mem", 8192.0, false, false),
        named("disk", 19_950.0, false, false),
    ];
    let mut wanted = vec![named("cpus", 1.0, true, false), named("disk", 50.0, true, false)];
    wanted.extend(rest.clone());
    assert_eq!(content(&offer), wanted);

    operate(
        &mut world,
        &scheduler,
        &offer,
        json!([{"type": "CREATE", "create": {"volumes": [volume(50.0)]}}]),
    );
    let offer = last_offer(&mut world, &scheduler);
    let mut wanted = vec![named("disk", 50.0, true, true), named("cpus", 1.0, true, false)];
    wanted.extend(rest);
    assert_eq!(content(&offer), wanted);

    let destroy = json!({"type": "DESTROY", "destroy": {"volumes": [volume(50.0)]}});
    let unreserve =
        json!({"type": "UNRESERVE", "unreserve": {"resources": [part("cpus", 1.0), part("disk", 50.0)]}});
    operate(&mut world, &scheduler, &offer, json!([destroy, unreserve]));
    assert_eq!(content(&last_offer(&mut world, &scheduler)), whole());
}

#[test]
fn a_volume_grows_and_shrinks_and_loses_nothing() {
    let mut world = World::new(1);
    let scheduler = world.subscribe_as(info("rsv"));
    let offer = last_offer(&mut world, &scheduler);
    let reserve = json!({"type": "RESERVE", "reserve": {"resources": [part("disk", 80.0)]}});
    let create = json!({"type": "CREATE", "create": {"volumes": [volume(50.0)]}});
    let grow = json!({"type": "GROW_VOLUME", "grow_volume": {"volume": volume(50.0), "addition": part("disk", 30.0)}});
    operate(&mut world, &scheduler, &offer, json!([reserve, create, grow]));
    let offer = last_offer(&mut world, &scheduler);
    let volumes = |offer: &Offer| -> Vec<f64> {
        content(offer).into_iter().filter(|(_, _, _, disk)| *disk).map(|(_, value, _, _)| value).collect()
    };
    assert_eq!(volumes(&offer), [80.0]);
    let shrink = json!({"type": "SHRINK_VOLUME", "shrink_volume": {"volume": volume(80.0), "subtract": {"value": 60.0}}});
    operate(&mut world, &scheduler, &offer, json!([shrink]));
    let offer = last_offer(&mut world, &scheduler);
    assert_eq!(volumes(&offer), [20.0]);
    let disk: f64 =
        content(&offer).iter().filter(|(name, ..)| name == "disk").map(|(_, value, ..)| value).sum();
    assert!((disk - 20_000.0).abs() < 0.001, "{disk}");
}

#[test]
fn an_operation_with_an_id_is_reported_until_it_is_acknowledged() {
    let mut world = World::new(1);
    let scheduler = world.subscribe_as(info("rsv"));
    let offer = last_offer(&mut world, &scheduler);
    let reserve =
        json!({"type": "RESERVE", "id": {"value": "op-1"}, "reserve": {"resources": [part("cpus", 1.0)]}});
    operate(&mut world, &scheduler, &offer, json!([reserve]));
    let status = operation_statuses(&mut world, &scheduler).remove(0);
    assert_eq!((status.state, status.agent_id.as_ref()), (OperationState::Finished, Some(&offer.agent_id)));
    world.pass(10.0);
    assert_eq!(operation_statuses(&mut world, &scheduler), std::slice::from_ref(&status));
    let ask = json!({"type": "RECONCILE_OPERATIONS", "reconcile_operations": {"operations": [
        {"operation_id": {"value": "op-1"}, "agent_id": {"value": offer.agent_id.as_str()}}]}});
    world.tell(&scheduler, ask.clone());
    let answer = operation_statuses(&mut world, &scheduler).remove(0);
    assert_eq!((answer.state, answer.uuid), (OperationState::Finished, None));
    let acknowledge = json!({"type": "ACKNOWLEDGE_OPERATION_STATUS", "acknowledge_operation_status": {
        "operation_id": {"value": "op-1"}, "agent_id": {"value": offer.agent_id.as_str()},
        "uuid": status.uuid.unwrap().value}});
    assert_eq!(world.tell(&scheduler, acknowledge), Answer::Accepted);
    world.pass(60.0);
    assert_eq!(operation_statuses(&mut world, &scheduler), []);
    world.tell(&scheduler, ask);
    let answer = operation_statuses(&mut world, &scheduler).remove(0);
    assert_eq!(answer.state, OperationState::NotKnown);
    assert_eq!(answer.message.as_deref(), Some("Reconciliation: Operation is unknown"));
}

#[test]
fn what_cannot_be_reserved_is_dropped_and_said_only_if_there_is_an_id() {
    let mut world = World::new(1);
    let scheduler = world.subscribe_as(info("rsv"));
    let offer = last_offer(&mut world, &scheduler);
    let too_much = json!({"type": "RESERVE", "reserve": {"resources": [part("cpus", 1000.0)]}});
    operate(&mut world, &scheduler, &offer, json!([too_much.clone()]));
    assert_eq!(operation_statuses(&mut world, &scheduler), []);
    let offer = last_offer(&mut world, &scheduler);
    assert_eq!(content(&offer), whole());
    let mut named = too_much;
    named["id"] = json!({"value": "op"});
    operate(&mut world, &scheduler, &offer, json!([named]));
    let status = operation_statuses(&mut world, &scheduler).remove(0);
    assert_eq!((status.state, status.uuid), (OperationState::Error, None));
}

#[test]
fn a_task_on_a_reservation_gives_it_back_as_it_was() {
    let mut config = config(1);
    config.agents[0].reserved =
        vec![Reserved { role: "rsv".to_owned(), cpus: 2.0, mem_mib: 256.0, ..Reserved::default() }];
    let mut world = World::with(&config, None);
    let scheduler = world.subscribe_as(info("rsv"));
    let offer = last_offer(&mut world, &scheduler);
    let before = content(&offer);
    assert_eq!(before[0], ("cpus".to_owned(), 2.0, true, false));
    let mut task = command_task("t", &offer.agent_id);
    task.resources = offer.resources.iter().filter(|r| !r.reservations.is_empty()).cloned().collect();
    world.accept(&scheduler, &[offer.id], vec![task]);
    let rest = last_offer(&mut world, &scheduler);
    assert_eq!(content(&rest), whole());
    let container = world.starts[0].container.clone();
    world.step(Input::Started { container: container.clone(), pid: Some(100) });
    world.drain(&scheduler);
    world.exits(&container, 0);
    world.drain(&scheduler);
    let body = json!({"type": "DECLINE", "decline": {"offer_ids": [{"value": rest.id.as_str()}],
        "filters": {"refuse_seconds": 0.0}}});
    world.tell(&scheduler, body);
    assert_eq!(content(&last_offer(&mut world, &scheduler)), before);
}

#[test]
fn what_is_reserved_goes_to_its_role_and_those_below_and_the_rest_to_others() {
    let mut config = config(1);
    let reserved =
        |role: &str| Reserved { role: role.to_owned(), cpus: 1.0, mem_mib: 64.0, ..Reserved::default() };
    config.agents[0].reserved = vec![reserved("eng"), reserved("ops")];
    let mut world = World::with(&config, None);
    let below = world.subscribe_as(info("eng/web"));
    let cpus = |world: &mut World, scheduler: &Scheduler| -> f64 {
        let offers = world.events(scheduler).into_iter().filter_map(|event| event.offers);
        let resources = offers.flat_map(|offers| offers.offers).flat_map(|offer| offer.resources);
        resources.filter(|r| r.name == "cpus").filter_map(|r| r.scalar).map(|scalar| scalar.value).sum()
    };
    assert!((cpus(&mut world, &below) - 9.0).abs() < 0.001);
    let other = world.subscribe_as(info("ops"));
    assert!((cpus(&mut world, &other) - 1.0).abs() < 0.001);
}

#[test]
fn offers_are_rescinded_when_they_have_been_held_for_too_long() {
    let mut config = config(2);
    config.offer_timeout = Some(Duration::from_secs(3));
    let mut world = World::with(&config, None);
    let scheduler = world.subscribe();
    assert_eq!(world.offers(&scheduler).len(), 2);
    world.pass(2.9);
    assert_eq!(world.kinds(&scheduler), []);
    world.pass(0.1);
    assert_eq!(world.kinds(&scheduler), [EventType::Rescind, EventType::Rescind]);
    world.pass(1.0);
    assert_eq!(world.offers(&scheduler).len(), 2);
}

#[test]
fn an_agent_in_another_region_is_offered_to_region_aware_frameworks_only() {
    let domain = |region: &str| crate::config::Domain { region: region.to_owned(), zone: "z".to_owned() };
    let mut config = config(1);
    config.domain = Some(domain("home"));
    config.agents[0].domain = Some(domain("away"));
    let mut world = World::with(&config, None);
    let plain = world.subscribe();
    assert_eq!(world.offers(&plain), []);
    let mut aware = framework_info();
    aware["capabilities"].as_array_mut().unwrap().push(json!({"type": "REGION_AWARE"}));
    let aware = world.subscribe_as(aware);
    let offer = last_offer(&mut world, &aware);
    assert_eq!(offer.domain.unwrap().fault_domain.unwrap().region.name, "away");
}
