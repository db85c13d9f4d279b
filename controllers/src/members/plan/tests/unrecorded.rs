//! What runs and is not recorded, and what runs with older settings.

use std::sync::Arc;

use overlord_api::State;

use super::World;
use crate::{
    Known,
    members::{plan::Plan, step::Step},
    samples,
};

#[test]
fn nothing_is_launched_beside_a_task_that_runs_unrecorded() {
    let mut world = World::new(2);
    world.instances.remove(1);
    world.strangers.push((1, String::from("01234567.1.0.1")));
    let plan = world.plan();
    assert!(plan.steps.is_empty(), "{:?}", plan.steps);
    assert!(plan.blocked.iter().any(|blocked| blocked.reason == "UnknownTask"), "{:?}", plan.blocked);
    // Neither in place of one of the same member that ended.
    let mut world = World::new(2);
    Arc::make_mut(&mut world.instances[1].info).observed.state = State::Failed;
    world.strangers.push((1, String::from("01234567.1.0.9")));
    let plan = world.plan();
    assert!(!plan.steps.iter().any(|step| matches!(step, Step::Launch(_))), "{:?}", plan.steps);
}

#[test]
fn what_runs_with_older_settings_is_launched_anew_only_when_that_is_asked_for_and_within_the_budget() {
    let mut world = World::new(3);
    world.now = samples::at(3600);
    assert!(world.plan().is_converged());
    world.renew = true;
    for instance in &world.instances {
        world.keys.insert(instance.info.address(), Known::Is(0));
    }
    let retired = |plan: &Plan| {
        let retired = |step: &&Step| matches!(step, Step::Retire { relaunch: true, .. });
        plan.steps.iter().filter(retired).count()
    };
    assert_eq!(retired(&world.plan()), 1);
    Arc::make_mut(&mut world.instances[0].info).observed.state = State::Staging;
    assert_eq!(retired(&world.plan()), 0, "one is down already");
    for instance in &mut world.instances {
        let info = Arc::make_mut(&mut instance.info);
        info.template = Some(String::from("now"));
        info.observed.state = State::Running;
    }
    assert!(world.plan().is_converged());
}
