//! Worlds of any kind: whatever the nodes say and whatever is recorded of them, the plan keeps the rules that
//! protect data.

use proptest::prelude::*;

use super::*;

const STATES: [State; 7] = [
    State::Running,
    State::Restarting,
    State::Failed,
    State::Unreachable,
    State::Staging,
    State::Gone,
    State::Pending,
];

const LOOKS: [Said; 5] = [Said::Answers, Said::Refuses, Said::Loads, Said::AsAnother, Said::Silent];

const LINKS: [Link; 4] = [Link::Up, Link::Down, Link::LongDown, Link::NeverUp];

/// What becomes of one member: it is well, or anything at all; and whether its replica took over from it.
fn fate() -> impl Strategy<Value = Option<(usize, usize, usize, bool, bool, u64, u32)>> {
    let any =
        (0..STATES.len(), 0..LOOKS.len(), 0..LINKS.len(), any::<bool>(), any::<bool>(), 0..200_u64, 0..9_u32);
    prop_oneof![2 => Just(None), 1 => any.prop_map(Some)]
}

fn worlds() -> impl Strategy<Value = World> {
    let size = prop_oneof![Just(3_u32), Just(5)];
    let fates = proptest::collection::vec(fate(), 10);
    let stranger = proptest::option::weighted(0.2, Just(false));
    (
        size,
        fates,
        proptest::collection::vec(any::<bool>(), 5),
        stranger,
        0..2000_i64,
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(|(masters, fates, failed_over, stranger, now, recover, formed)| {
            let mut world = World::sized(masters);
            (world.stranger, world.recover) = (stranger, recover.then_some(7));
            (world.now, world.record.formed) = (samples::at(now), formed || now % 2 == 0);
            for (shard, over) in (0..masters).zip(failed_over) {
                if over {
                    let replica = shard + masters;
                    world = world
                        .node(replica, |node| (node.copies, node.slots, node.epoch) = (None, Some(shard), 9))
                        .node(shard, |node| (node.copies, node.slots) = (Some(replica), None));
                }
            }
            for (member, fate) in (0..2 * masters).zip(fates) {
                let Some((state, look, link, missed, unlinked, offset, failures)) = fate else { continue };
                world = world
                    .info(member, |info| {
                        (info.observed.state, info.observed.failures) = (STATES[state], failures);
                    })
                    .node(member, |node| {
                        (node.look, node.link) = (LOOKS[look], LINKS[link]);
                        (node.missed, node.unlinked, node.offset, node.keys) =
                            (missed, unlinked, offset, offset);
                    });
            }
            world
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_world_makes_the_plan_break_its_rules(world in worlds()) {
        let plan = world.plan();
        prop_assert_eq!(&world.plan(), &plan, "not deterministic");
        let sight = world.sight();
        let topology = sight.topology();
        let masters = shape_of(&world.spec).unwrap().masters;
        let owner = |shard: u32| (0..2 * masters).find(|m| m % masters == shard && topology.owners().contains_key(&world.id(*m)));
        let lost: BTreeSet<u32> = plan.losses.values().map(|loss| loss.shard).collect();
        let quorum = topology.majority_masters_reachable();

        let failovers = orders(&plan).into_iter().filter(|(_, c)| matches!(c, Command::Failover { .. } | Command::TakeOver));
        prop_assert!(failovers.count() <= 1, "two elections at once");
        for (member, command) in orders(&plan) {
            let node = &world.nodes[&member];
            prop_assert!(node.look == Said::Answers, "{} is told something and does not answer", member);
            match command {
                Command::Failover { force: true } | Command::TakeOver => {
                    let master = node.copies.expect("a replica");
                    prop_assert_eq!(owner(member % masters), Some(master));
                    prop_assert!(world.nodes[&master].look != Said::Answers, "its master lives");
                    prop_assert!(world.nodes[&master].look != Said::Loads, "its master reads its data");
                    let holds = matches!(node.link, Link::Up | Link::Down | Link::LongDown);
                    prop_assert!(holds || lost.contains(&(member % masters)), "{} has nothing", member);
                    prop_assert!(quorum || (world.recover.is_some() && command == Command::TakeOver));
                }
                Command::Failover { force: false } => {
                    prop_assert!(node.link == Link::Up && quorum);
                }
                Command::Forget { id } => {
                    prop_assert!((0..2 * masters).all(|m| world.id(m) != id), "a member is forgotten");
                    prop_assert!(quorum);
                }
                Command::Replicate { master } => {
                    prop_assert_eq!(owner(member % masters).map(|m| world.id(m)), Some(master));
                    prop_assert!(node.slots.is_none() && quorum);
                }
                Command::BumpEpoch => prop_assert!(quorum && node.slots.is_some()),
                Command::Meet { .. } => prop_assert!(quorum),
            }
        }
        for (member, place) in launches(&plan) {
            let info = &world.instances[member as usize].info;
            let ended = matches!(info.observed.state, State::Failed | State::Gone);
            prop_assert!(ended || info.observed.state == State::Unreachable, "{} runs", member);
            if world.record.formed && matches!(place, Place::Elsewhere(_) | Place::Any(_)) {
                prop_assert!(quorum, "{} is replaced without a majority", member);
                let shard = member % masters;
                prop_assert!(owner(shard) != Some(member) || lost.contains(&shard), "{} has the slots", member);
            }
        }
        for step in &plan.steps {
            if let Step::Restart { member, .. } = step {
                let ours = world.nodes[member].look != Said::AsAnother;
                prop_assert!(!ours, "{} is restarted and nobody declared a change", member);
            }
        }
        if plan.whole {
            prop_assert!(plan.is_converged() || !plan.waiting.is_empty());
            prop_assert!(orders(&plan).is_empty() && launches(&plan).is_empty());
        }
    }
}
