//! Members that get more than they have.

use super::*;

#[test]
fn nobody_is_stopped_for_more_than_there_is_room_for() {
    let mut world = World::new(2);
    world.spec.resources = Resources { memory: 128 << 20, ..world.spec.resources };
    let first = world.plan_with(&BTreeMap::new());
    let asked: BTreeSet<Address> = world.instances.iter().map(|instance| instance.info.address()).collect();
    assert_eq!((first.steps, first.room), (Vec::new(), asked));
    let (none, some) = (world.instances[0].info.address(), world.instances[1].info.address());
    world.room = BTreeMap::from([(none, Some(String::from("all are full"))), (some, None)]);
    world.keys = BTreeMap::from([(some, Known::Is(0))]);
    let plan = world.plan();
    assert!(matches!(plan.steps.as_slice(), [Step::Retire { member: 1, relaunch: true, .. }]), "{plan:?}");
    assert!(plan.waiting.iter().any(|waiting| waiting.member == 0 && waiting.why.ends_with("all are full")));
    // Less fits always.
    world.spec.resources = Resources { memory: 32 << 20, ..world.spec.resources };
    assert!(world.plan_with(&BTreeMap::new()).room.is_empty());
}
