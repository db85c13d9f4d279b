//! Launches that Mesos refuses, and members that it drains away.

use super::*;

#[test]
fn a_launch_that_mesos_does_not_accept_is_tried_later_and_later_and_a_person_is_told() {
    let mut world = World::new(1);
    let address = world.instances[0].info.address();
    let since = world.instances[0].info.observed.since;
    for (times, pause) in [(1, 5), (2, 10), (3, 20), (7, 300), (50, 300)] {
        world.edit(0, |info| {
            info.observed.state = State::Failed;
            info.observed.refused = Some(overlord_api::Refusal::Invalid);
            info.observed.refusals = times;
            "Task uses more resources (REASON_TASK_INVALID)".clone_into(&mut info.observed.message);
        });
        world.now = since.checked_add(std::time::Duration::from_secs(pause - 1)).unwrap();
        let plan = world.plan();
        assert_eq!(launches(&plan), [], "{times}");
        assert!(plan.waiting[0].why.contains("Task uses more resources"), "{:?}", plan.waiting);
        assert_eq!(reasons(&plan).contains(&"LaunchRefused"), times >= 3);
        world.now = since.checked_add(std::time::Duration::from_secs(pause)).unwrap();
        assert_eq!(launches(&world.plan()), [(0, Place::Rather(address))]);
    }
}

#[test]
fn a_launch_whose_offers_were_void_is_tried_at_once_with_others() {
    let mut world = World::new(1);
    let address = world.instances[0].info.address();
    world.edit(0, |info| {
        info.observed.state = State::Failed;
        info.observed.refused = Some(overlord_api::Refusal::Dropped);
        info.observed.refusals = 1;
    });
    world.now = world.instances[0].info.observed.since;
    assert_eq!(launches(&world.plan()), [(0, Place::Rather(address))]);
    // What it kept from an earlier launch is where it was.
    world.spec.persistence = overlord_api::Persistence::Rdb;
    world.edit(0, |info| info.launches = 1);
    assert_eq!(launches(&world.plan()), [(0, Place::Same(address))]);
    world.edit(0, |info| info.observed.refusals = 3);
    assert_eq!(launches(&world.plan()), []);
}

#[test]
fn a_member_of_a_drained_agent_goes_elsewhere_at_once_unless_its_data_are_there() {
    let mut world = World::new(1);
    let address = world.instances[0].info.address();
    world.edit(0, |info| {
        info.observed.state = State::Failed;
        info.observed.evicted = true;
    });
    world.now = world.instances[0].info.observed.since;
    assert_eq!(launches(&world.plan()), [(0, Place::Rather(address))]);
    world.spec.persistence = overlord_api::Persistence::Rdb;
    assert_eq!(launches(&world.plan()), [(0, Place::Same(address))]);
    let given_up = world.spec.recovery.replace_after;
    world.now = world.now.checked_add(given_up).unwrap();
    assert_eq!(launches(&world.plan()), [(0, Place::Elsewhere(address))]);
}
