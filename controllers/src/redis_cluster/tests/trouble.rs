//! What a cluster in trouble must not be made worse by.

use super::*;

#[test]
fn a_replica_that_lost_its_link_hours_before_does_not_take_over_from_a_master_with_its_data() {
    let world = World::new().down(1).node(4, |node| node.link = Link::LongDown);
    assert_eq!(orders(&world.plan()), []);
}

#[test]
fn a_master_that_reads_its_data_is_not_dead() {
    let mut world = World::new().down(1).node(1, |node| node.look = Said::Loads);
    world = world.node(4, |node| (node.link, node.keys) = (Link::NeverUp, 7));
    world.now = samples::at(3600);
    assert_eq!(orders(&world.plan()), []);
}

#[test]
fn a_replica_that_took_over_under_an_older_epoch_takes_a_new_one() {
    // Of shard 1, elected with its votes of before: in its own eyes alone.
    let took_over = |world: World| {
        let world = world.down(1).node(1, |node| node.epoch = 9);
        world.node(4, |node| (node.copies, node.slots, node.epoch) = (None, Some(1), 5))
    };
    assert_eq!(orders(&took_over(World::new()).plan()), [(4, Command::BumpEpoch)]);
    // It is believed.
    let believed = took_over(World::new()).node(4, |node| node.epoch = 10);
    assert_eq!(orders(&believed.plan()), []);
    // Its master lives, and will correct it.
    let alive = World::new().node(1, |node| node.epoch = 9);
    let alive = alive.node(4, |node| (node.copies, node.slots, node.epoch) = (None, Some(1), 5));
    assert_eq!(orders(&alive.plan()), []);
}

#[test]
fn of_two_dead_masters_one_is_succeeded_at_a_time() {
    let world = World::sized(5).down(0).down(1).orphan(5).orphan(6);
    let plan = world.plan();
    assert_eq!(orders(&plan), [(5, FORCE)]);
    assert!(plan.next().is_some_and(|next| next < samples::at(61)), "{plan:?}");
    let mut sent = Sent::default();
    let task = world.instances[5].info.mesos_task_id.clone();
    sent.failovers.insert(task, HandOver { at: samples::at(60), first: samples::at(60), force: true });
    assert_eq!(orders(&world.plan_sent(&sent)), []);
    // It has taken over.
    let world = world
        .node(5, |node| (node.copies, node.slots, node.epoch) = (None, Some(0), 9))
        .node(0, |node| node.slots = None);
    let later = World { now: samples::at(61), ..world };
    assert_eq!(orders(&later.plan_sent(&sent)), [(6, FORCE)]);
}

#[test]
fn a_takeover_that_finds_no_votes_does_without_them_when_the_master_is_certainly_dead() {
    let mut world = World::new().down(1).orphan(4);
    let mut sent = Sent::default();
    let order = HandOver { at: samples::at(61), first: samples::at(60), force: true };
    sent.failovers.insert(world.instances[4].info.mesos_task_id.clone(), order);
    world.now = samples::at(62);
    assert_eq!(orders(&world.plan_sent(&sent)), [(4, Command::TakeOver)]);
    // What was ordered in another trouble does not count.
    world.now = samples::at(70);
    assert_eq!(orders(&world.plan_sent(&sent)), [(4, FORCE)]);
    world.now = samples::at(62);
    // Silence is not certain.
    let world =
        world.node(1, |node| node.look = Said::Silent).info(1, |info| info.observed.state = State::Running);
    assert_eq!(orders(&world.plan_sent(&sent)), [(4, FORCE)]);
}

#[test]
fn nobody_is_forgotten_while_a_record_cannot_be_read() {
    let mut world = World::new();
    world.stranger = Some(false);
    world.instances.remove(4);
    world.damaged = vec![("info".to_owned(), "nonsense".to_owned())];
    assert_eq!(orders(&world.plan()), []);
}

#[test]
fn losses_of_two_members_of_a_shard_are_told_once_each() {
    let mut world = World::new().info(1, |info| info.observed.emptied = 1);
    world = world.info(4, |info| info.observed.emptied = 1);
    let plan = world.plan();
    assert_eq!(plan.losses.len(), 2);
    world.remember(&plan);
    assert!(world.plan().losses.is_empty());
}

#[test]
fn all_shards_that_lost_keys_are_named() {
    let world = (0..3).fold(World::new(), |w, member| w.info(member, |info| info.observed.emptied = 1));
    let plan = world.plan();
    let message = condition(&plan, ConditionType::DataLost).unwrap();
    assert!(
        message.starts_with("shard 0 lost its keys") && message.contains("so did shards 1, 2;"),
        "{message}"
    );
}

#[test]
fn without_a_majority_replicas_take_over_by_a_persons_word_one_by_one() {
    let mut world = World::new().down(0).down(1).orphan(3).orphan(4);
    world.recover = Some(7);
    assert_eq!(orders(&world.plan()), [(3, Command::TakeOver)]);
    let world = world
        .node(3, |node| (node.copies, node.slots, node.epoch) = (None, Some(0), 9))
        .node(0, |node| node.slots = None);
    // A majority is back: the rest is an election.
    assert_eq!(orders(&world.plan()), [(4, FORCE)]);
}

#[test]
fn without_a_majority_masters_start_with_what_they_have_by_a_persons_word_once() {
    // Power was lost; the host of members 0 and 5 stays dead, and member 2 waits for its replica 5.
    let mut world = World::new().lost(0).lost(5).down(2).node(3, |node| node.link = Link::NeverUp);
    let alone = |world: &World| {
        let steps = world.plan().steps.into_iter();
        steps
            .filter(|step| matches!(step, Step::StartAlone { .. }))
            .map(|step| step.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(alone(&world), [""; 0]);
    world.recover = Some(7);
    let steps = alone(&world);
    assert_eq!(steps.len(), 1);
    assert!(steps[0].starts_with("let member 2 at 127.0.0.3:20000 start"), "{steps:?}");
    assert_eq!(orders(&world.plan()), []);
    let told = world.info(2, |info| info.desired.recover = 7);
    assert_eq!(alone(&told), [""; 0]);
}

#[test]
fn a_replaced_node_is_kept_as_long_as_its_successor_has_no_copy() {
    let world = World::new().info(4, |info| info.incarnation = 1).node(4, |node| node.link = Link::NeverUp);
    let spare = NodeId::derive(&samples::record(1).uid, 4, 0);
    let keeps = |mut world: World, link| {
        world = world.node(4, |node| node.link = link);
        world.spare = Some((spare, 1));
        !orders(&world.plan()).iter().any(|(_, command)| *command == Command::Forget { id: spare })
    };
    assert!(keeps(world, Link::NeverUp));
    let world = World::new().info(4, |info| info.incarnation = 1);
    assert!(!keeps(world, Link::Up));
}

#[test]
fn a_process_that_took_another_identity_is_restarted_and_a_silent_one_is_told() {
    let restarts = |plan: &Plan| {
        let steps = plan.steps.iter();
        steps
            .filter_map(|s| if let Step::Restart { member, .. } = s { Some(*member) } else { None })
            .collect::<Vec<_>>()
    };
    let world = World::new().node(4, |node| node.look = Said::AsAnother);
    let plan = world.plan();
    assert_eq!(restarts(&plan), [4]);
    assert!(condition(&plan, ConditionType::Degraded).unwrap().contains("answers node"), "{plan:?}");
    let ordered = world.info(4, |info| info.desired.restart = 1);
    assert_eq!(restarts(&ordered.plan()), [0_u32; 0]);
    // Whoever has its data comes first.
    let plan = World::new().node(1, |node| node.look = Said::AsAnother).orphan(4).plan();
    assert_eq!((orders(&plan), restarts(&plan)), (vec![(4, FORCE)], vec![]));
    let plan = World::new().node(1, |node| node.look = Said::Silent).plan();
    let told = condition(&plan, ConditionType::Degraded).unwrap();
    assert!(told.starts_with("member 1 at 127.0.0.2:20000 does not answer"), "{told}");
}

#[test]
fn a_member_that_finds_no_other_host_may_have_its_own_again() {
    let mut world = World::new().info(4, |info| {
        (info.observed.state, info.observed.failures) = (State::Failed, 9);
    });
    world = world.node(4, |node| node.look = Said::Refuses);
    let address = world.instances[4].info.address();
    world.now = samples::at(300);
    assert_eq!(launches(&world.plan()), [(4, Place::Elsewhere(address))]);
    world.now = samples::at(606);
    assert_eq!(launches(&world.plan()), [(4, Place::Any(address))]);
}

/// The member was ended because its agent is drained.
fn drained(world: World, member: u32) -> World {
    let world = world.info(member, |info| {
        info.observed.state = State::Failed;
        info.observed.evicted = true;
    });
    world.node(member, |node| (node.look, node.missed) = (Said::Refuses, true))
}

#[test]
fn a_replica_of_a_drained_agent_goes_elsewhere_at_once() {
    let mut world = drained(World::new(), 4);
    let address = world.instances[4].info.address();
    assert_eq!(launches(&world.plan()), [(4, Place::Elsewhere(address))]);
    // It copies all of it again, whatever it had on disk.
    world.spec.persistence = overlord_api::Persistence::Aof;
    assert_eq!(launches(&world.plan()), [(4, Place::Elsewhere(address))]);
    // One that failed by itself stays.
    let world = world.info(4, |info| info.observed.evicted = false);
    assert_eq!(launches(&world.plan()), [(4, Place::Same(address))]);
}

#[test]
fn a_master_of_a_drained_agent_goes_elsewhere_once_its_replica_is_the_master() {
    let world = drained(World::new(), 1).orphan(4);
    let plan = world.plan();
    assert_eq!((orders(&plan), launches(&plan)), (vec![(4, FORCE)], vec![]));
    let world = world.node(4, |node| (node.copies, node.slots, node.epoch) = (None, Some(1), 9));
    let world = world.node(1, |node| node.slots = None);
    let address = world.instances[1].info.address();
    assert_eq!(launches(&world.plan()), [(1, Place::Elsewhere(address))]);
}

#[test]
fn a_launch_that_was_refused_is_tried_again_and_not_counted_as_a_failure_of_the_member() {
    let refused = |launches: u32| {
        let world = World::new().node(4, |node| (node.look, node.missed) = (Said::Refuses, true));
        world.info(4, |info| {
            info.observed.state = State::Failed;
            info.observed.refused = Some(overlord_api::Refusal::Dropped);
            info.observed.refusals = 1;
            info.launches = launches;
        })
    };
    let address = refused(0).instances[4].info.address();
    assert_eq!(launches(&refused(0).plan()), [(4, Place::Rather(address))]);
    assert_eq!(launches(&refused(1).plan()), [(4, Place::Same(address))]);
}

#[test]
fn masters_that_die_while_the_cluster_forms_do_not_wait_for_each_other_for_ever() {
    let again = |world: World, member| {
        let world = world.info(member, |info| (info.observed.state, info.launches) = (State::Staging, 1));
        world.node(member, |node| (node.look, node.missed) = (Said::Refuses, true))
    };
    let mut world = again(again(World::new(), 0), 2).node(3, |node| node.link = Link::NeverUp);
    world.record.formed = false;
    let alone = |world: &World| -> Vec<u32> {
        let steps = world.plan().steps.into_iter().filter_map(|step| match step {
            Step::StartAlone { member, .. } => Some(member),
            _ => None,
        });
        steps.collect()
    };
    assert!(world.plan_with(None).look);
    world.now = samples::at(5);
    assert_eq!(alone(&world), [0_u32; 0]);
    world.now = samples::at(15);
    // Who has a copy takes over.
    assert_eq!((orders(&world.plan()), alone(&world)), (vec![(5, Command::TakeOver)], vec![]));
    let mut world = world.node(5, |node| node.link = Link::NeverUp);
    assert_eq!(alone(&world), [0, 2]);
    assert_eq!(world.plan().conditions, []);
    // Said once; and of a cluster that served only a person may say it.
    world.record.formed = true;
    assert_eq!(alone(&world), [0_u32; 0]);
    world.record.formed = false;
    let told = world.info(0, |info| info.desired.recover = 1).info(2, |info| info.desired.recover = 1);
    assert_eq!(alone(&told), [0_u32; 0]);
}
