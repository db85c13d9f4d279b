//! Captures 31, 43, 49 and 50: what operators do, and what frameworks and operators hear of it.

use super::*;
use crate::model::{OperatorCall, report};

fn operator(world: &mut World, call: OperatorCall) -> Answer {
    world.step(Input::Operator(Box::new(call)))
}

fn machine() -> Value {
    json!({"hostname": "127.0.0.1", "ip": "127.0.0.1"})
}

fn schedule() -> OperatorCall {
    let unavailability = json!({"start": {"nanoseconds": 1}, "duration": {"nanoseconds": 5}});
    let window = json!({"machine_ids": [machine()], "unavailability": unavailability});
    OperatorCall::UpdateMaintenanceSchedule(json!({ "windows": [window] }))
}

fn done() -> Answer {
    Answer::Done(Value::Null)
}

#[test]
fn maintenance_is_announced_asked_about_again_and_carried_out() {
    let mut world = World::new(1);
    let scheduler = world.subscribe();
    let running = world.run(&scheduler, "t");
    world.report(&running, TaskState::Running, 1);
    world.drain(&scheduler);
    world.pass(1.0);
    world.events(&scheduler);
    assert_eq!(operator(&mut world, schedule()), done());
    let events = world.events(&scheduler);
    let kinds: Vec<EventType> = events.iter().map(|event| event.kind).collect();
    assert_eq!(kinds, [EventType::Rescind, EventType::Offers, EventType::InverseOffers]);
    assert!(events[1].offers.as_ref().unwrap().offers[0].unavailability.is_some());
    let inverse = &events[2].inverse_offers.as_ref().unwrap().inverse_offers[0];
    let answer = json!({"type": "ACCEPT_INVERSE_OFFERS", "accept_inverse_offers": {
        "inverse_offer_ids": [{"value": inverse.id.as_str()}], "filters": {"refuse_seconds": 2.0}}});
    assert_eq!(world.tell(&scheduler, answer), Answer::Accepted);
    world.pass(1.9);
    assert_eq!(world.kinds(&scheduler), []);
    world.pass(1.1);
    assert_eq!(world.kinds(&scheduler), [EventType::InverseOffers]);
    let status = report::maintenance_status(&world.model);
    assert_eq!(status["draining_machines"][0]["statuses"][0]["status"], "ACCEPT");

    assert_eq!(operator(&mut world, OperatorCall::StartMaintenance(json!([machine()]))), done());
    let kinds = world.kinds(&scheduler);
    assert_eq!(kinds[..3], [EventType::Update, EventType::Rescind, EventType::Failure]);
    assert_eq!(report::maintenance_status(&world.model)["down_machines"], json!([machine()]));
    let again = operator(&mut world, OperatorCall::StartMaintenance(json!([machine()])));
    let text = "is not in DRAINING mode and cannot be brought down";
    assert!(matches!(again, Answer::Refused { status: 400, text: t } if t.ends_with(text)));
    assert_eq!(operator(&mut world, OperatorCall::StopMaintenance(json!([machine()]))), done());
    assert_eq!(report::maintenance_status(&world.model), json!({}));
}

#[test]
fn a_drained_agent_kills_its_tasks_and_is_offered_again_when_reactivated() {
    let mut world = World::new(1);
    let scheduler = world.subscribe();
    let agent = world.model.agents()[0].id.clone();
    let container = world.run_command(&scheduler, |_| {});
    world.drain(&scheduler);
    world.pass(1.0);
    world.events(&scheduler);
    let max_grace = Some(Duration::from_secs(2));
    let drain = OperatorCall::Drain { agent: agent.clone(), max_grace, mark_gone: false };
    assert_eq!(operator(&mut world, drain), done());
    assert_eq!(world.kinds(&scheduler)[0], EventType::Rescind);
    let refused = operator(&mut world, OperatorCall::Reactivate(agent.clone()));
    assert_eq!(refused, Answer::refused(400, "Agent is still in the DRAINING state"));
    world.exits(&container, 15);
    let statuses = world.drain(&scheduler);
    let last = statuses.last().unwrap();
    assert_eq!((last.state, last.reason.as_deref()), (TaskState::Killed, Some("REASON_AGENT_DRAINING")));
    let agents = report::v1::answer(&world.model, "GET_AGENTS").unwrap();
    let shown = &agents["get_agents"]["agents"][0];
    assert_eq!((&shown["deactivated"], &shown["drain_info"]["state"]), (&json!(true), &json!("DRAINED")));
    world.pass(10.0);
    assert_eq!(world.offers(&scheduler), []);
    assert_eq!(operator(&mut world, OperatorCall::Reactivate(agent)), done());
    world.pass(1.0);
    assert_eq!(world.offers(&scheduler).len(), 1);
}

#[test]
fn a_deactivated_agent_is_not_offered_and_keeps_its_tasks() {
    let mut world = World::new(1);
    let scheduler = world.subscribe();
    let agent = world.model.agents()[0].id.clone();
    assert_eq!(world.offers(&scheduler).len(), 1);
    assert_eq!(operator(&mut world, OperatorCall::Deactivate(agent.clone())), done());
    assert_eq!(world.kinds(&scheduler), [EventType::Rescind]);
    world.pass(10.0);
    assert_eq!(world.kinds(&scheduler), []);
    assert_eq!(operator(&mut world, OperatorCall::Reactivate(agent)), done());
    world.pass(1.0);
    assert_eq!(world.offers(&scheduler).len(), 1);
    let unknown = operator(&mut world, OperatorCall::Deactivate(AgentId::new("nope")));
    assert_eq!(unknown, Answer::refused(400, "Unknown agent"));
}

#[test]
fn operators_hear_of_frameworks_and_tasks_in_order() {
    let mut world = World::new(1);
    let Answer::Subscribed { stream, .. } = operator(&mut world, OperatorCall::Subscribe) else { panic!() };
    let scheduler = world.subscribe();
    let running = world.run(&scheduler, "t");
    world.report(&running, TaskState::Running, 1);
    world.tell(&scheduler, json!({"type": "TEARDOWN"}));
    let told = world.told[&stream].clone();
    let kinds: Vec<&str> = told.iter().map(|event| event["type"].as_str().unwrap()).collect();
    let wanted =
        ["SUBSCRIBED", "HEARTBEAT", "FRAMEWORK_ADDED", "TASK_ADDED", "TASK_UPDATED", "FRAMEWORK_REMOVED"];
    let seen: Vec<&str> = wanted.iter().copied().filter(|kind| kinds.contains(kind)).collect();
    assert_eq!(seen, wanted);
    let position = |kind: &str| kinds.iter().position(|seen| *seen == kind);
    assert!(wanted.windows(2).all(|pair| position(pair[0]) < position(pair[1])), "{kinds:?}");
    world.step(Input::StreamGone(stream));
    world.subscribe();
    assert_eq!(world.told[&stream].len(), kinds.len());
}

#[test]
fn an_operator_ends_a_framework_and_reserves_what_is_free() {
    let mut world = World::new(1);
    let scheduler = world.subscribe();
    let agent = world.model.agents()[0].id.clone();
    let cpus = json!({"name": "cpus", "type": "SCALAR", "scalar": {"value": 2.0},
        "reservations": [{"type": "DYNAMIC", "role": "r"}]});
    let operation: Operation =
        serde_json::from_value(json!({"type": "RESERVE", "reserve": {"resources": [cpus]}})).unwrap();
    let call = OperatorCall::Operation { agent: agent.clone(), operation: Box::new(operation) };
    // What is offered stands back.
    assert_eq!(operator(&mut world, call), Answer::Accepted);
    assert!(world.kinds(&scheduler).contains(&EventType::Rescind));
    let slaves = report::state::slaves(&world.model);
    assert_eq!(slaves["slaves"][0]["reserved_resources"]["r"]["cpus"], 2.0);
    let nope = operator(&mut world, OperatorCall::Teardown(FrameworkId::new("nope")));
    assert_eq!(nope, Answer::refused(400, "No framework found with specified ID"));
    assert_eq!(operator(&mut world, OperatorCall::Teardown(scheduler.id.clone())), done());
    assert!(world.ended.contains(&scheduler.stream));
}

#[test]
fn update_framework_changes_roles_and_refuses_what_cannot_change() {
    let mut world = World::new(1);
    let scheduler = world.subscribe();
    let offer = world.offers(&scheduler).remove(0).0;
    let mut info = framework_info();
    info["id"] = json!({"value": scheduler.id.as_str()});
    info["roles"] = json!(["other"]);
    let update =
        |info: &Value| json!({"type": "UPDATE_FRAMEWORK", "update_framework": {"framework_info": info}});
    assert_eq!(world.tell(&scheduler, update(&info)), done());
    let events = world.events(&scheduler);
    assert_eq!(events[0].rescind.as_ref().unwrap().offer_id, offer);
    let offered = &events[1].offers.as_ref().unwrap().offers[0];
    assert_eq!(offered.allocation_info.as_ref().unwrap().role.as_deref(), Some("other"));
    info["user"] = json!("nobody");
    let text = "FrameworkInfo update is not valid: Updating 'FrameworkInfo.user' is unsupported; attempted to update \
                from 'root' to 'nobody'";
    assert_eq!(world.tell(&scheduler, update(&info)), Answer::refused(400, text));
}
