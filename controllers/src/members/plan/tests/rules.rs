//! Rules that hold for every plan.

use super::*;

/// What no plan may do.
pub(super) fn check_rules(world: &World, plan: &Plan) {
    let launched: Vec<u32> = launches(plan).into_iter().map(|(member, _)| member).collect();
    let distinct: BTreeSet<&u32> = launched.iter().collect();
    assert_eq!(distinct.len(), launched.len(), "a member is launched once");
    for step in &plan.steps {
        match step {
            Step::Launch(Launch { member, place }) => {
                let living = world.instances.iter().any(|i| {
                    i.info.member == *member
                        && i.info.desired.state != State::Gone
                        && !matches!(i.info.observed.state, State::Failed | State::Gone | State::Unreachable)
                });
                assert!(!living, "member {member} is launched beside itself ({place:?})");
            }
            Step::Kill { address, .. } => {
                let info = &world.instances.iter().find(|i| i.info.address() == *address).unwrap().info;
                assert_ne!(info.desired.state, State::Running, "killed without being recorded to end");
            }
            _ => {}
        }
    }
    // The budget is for the members that stay.
    let staying: BTreeSet<u32> = world
        .instances
        .iter()
        .filter(|i| i.info.desired.state != State::Gone)
        .map(|i| i.info.member)
        .take(world.spec.shape.members() as usize)
        .collect();
    let down = world
        .instances
        .iter()
        .filter(|i| staying.contains(&i.info.member) && i.info.desired.state != State::Gone)
        .filter(|i| i.info.observed.state != State::Running)
        .count();
    let taken = plan
        .steps
        .iter()
        .filter(|step| matches!(step, Step::Restart { .. } | Step::Retire { relaunch: true, .. }))
        .count();
    assert!(
        taken == 0 || down + taken <= world.spec.update.max_unavailable as usize,
        "budget broken: {plan:?}"
    );
}
