//! Tables for single decisions, and a property: from any world, planning and doing what the plan says
//! ends in a plan with nothing to do, and never breaks a rule on the way.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp};
use overlord_api::{Address, DeletionMark, Info, OnDisk, Persistence, Record, Resources, Spec, State};
use proptest::prelude::*;

mod refused;
mod room;
mod rules;
mod unrecorded;

use self::rules::check_rules;
use super::{Control, Input, Plan, Sent, plan};
use crate::{
    Known, digest,
    members::{
        confs::{Confs, render},
        observed::Instance,
        step::{Launch, Place, Step},
    },
    samples,
};

/// A world in which every instance runs what the spec says.
#[derive(Debug)]
struct World {
    spec: Spec,
    record: Record,
    instances: Vec<Instance>,
    keys: BTreeMap<Address, Known<u64>>,
    room: BTreeMap<Address, Option<String>>,
    sent: Sent,
    unconfirmed: BTreeSet<String>,
    damaged: Vec<(String, String)>,
    strangers: Vec<(u32, String)>,
    renew: bool,
    control: Control,
    now: Timestamp,
}

impl World {
    fn new(members: u32) -> Self {
        let spec = samples::spec(members);
        let instances =
            (0..members).map(|member| instance(&spec, samples::info(member, State::Running))).collect();
        Self {
            spec,
            record: samples::record(members),
            instances,
            keys: BTreeMap::new(),
            room: BTreeMap::new(),
            sent: Sent::default(),
            unconfirmed: BTreeSet::new(),
            damaged: Vec::new(),
            strangers: Vec::new(),
            renew: false,
            control: Control::Run { promoted: false },
            now: samples::at(60),
        }
    }

    /// The plan in a world with room for everybody, but where it is said otherwise.
    fn plan(&self) -> Plan {
        let mut room = self.room.clone();
        for address in self.plan_with(&room).room {
            room.entry(address).or_insert(None);
        }
        self.plan_with(&room)
    }

    fn plan_with(&self, room: &BTreeMap<Address, Option<String>>) -> Plan {
        let cluster = samples::cluster();
        plan(&Input {
            strangers: &self.strangers,
            confs: &Confs::default(),
            template: "now",
            renew: self.renew,
            cluster: &cluster,
            spec: &self.spec,
            record: &self.record,
            instances: &self.instances,
            keys: &self.keys,
            room,
            sent: &self.sent,
            sight: None,
            settled: false,
            recover: None,
            unconfirmed: &self.unconfirmed,
            damaged: &self.damaged,
            task: Some("t"),
            control: &self.control,
            now: self.now,
        })
    }

    fn edit(&mut self, member: u32, change: impl FnOnce(&mut Info)) {
        for instance in &mut self.instances {
            if instance.info.member == member {
                return change(Arc::make_mut(&mut instance.info));
            }
        }
        panic!("no member {member}");
    }

    fn all_hold(&mut self, keys: u64) {
        self.keys = self.instances.iter().map(|i| (i.info.address(), Known::Is(keys))).collect();
    }
}

/// `info` with the text that `spec` says beside it.
fn instance(spec: &Spec, info: Info) -> Instance {
    let text = render(spec, info.address(), info.bus_port).unwrap();
    Instance { info: Arc::new(info), revision: 1, conf: Some(digest(text.as_bytes())) }
}

fn launches(plan: &Plan) -> Vec<(u32, Place)> {
    plan.steps
        .iter()
        .filter_map(|step| match step {
            Step::Launch(Launch { member, place }) => Some((*member, *place)),
            _ => None,
        })
        .collect()
}

fn reasons(plan: &Plan) -> Vec<&'static str> {
    plan.blocked.iter().map(|blocked| blocked.reason).collect()
}

#[test]
fn a_world_as_declared_needs_nothing() {
    let plan = World::new(4).plan();
    assert!(plan.is_converged(), "{plan:?}");
    assert_eq!((plan.progress.wanted, plan.progress.serving, plan.progress.updated), (4, 4, 4));
}

#[test]
fn missing_members_are_launched_with_new_numbers() {
    let mut world = World::new(2);
    world.spec.shape = overlord_api::Shape::Redis { shards: 4 };
    assert_eq!(launches(&world.plan()), [(2, Place::Anywhere), (3, Place::Anywhere)]);
}

#[test]
fn a_paused_change_launches_no_new_member_but_heals() {
    let mut world = World::new(2);
    world.spec.shape = overlord_api::Shape::Redis { shards: 4 };
    world.control = Control::Hold { reason: "Paused", message: String::from("task t is paused") };
    world.edit(1, |info| info.observed.state = State::Failed);
    let address = world.instances[1].info.address();
    let plan = world.plan();
    assert_eq!(launches(&plan), [(1, Place::Rather(address))]);
    assert_eq!(reasons(&plan), ["Paused"]);
}

#[test]
fn an_ended_instance_comes_back_at_once_and_then_ever_later() {
    let mut world = World::new(1);
    let address = world.instances[0].info.address();
    for (failures, age, launched) in [(1, 0, true), (2, 0, false), (2, 1, true), (5, 7, false), (5, 8, true)]
    {
        world.edit(0, |info| {
            info.observed.state = State::Failed;
            info.observed.failures = failures;
        });
        world.now = samples::at(age);
        let plan = world.plan();
        // Its own address first; after a while any will do.
        let place = if age < 5 { Place::Same(address) } else { Place::Rather(address) };
        let expected = if launched { vec![(0, place)] } else { vec![] };
        assert_eq!(launches(&plan), expected, "{failures} failures, {age} s");
        assert_eq!(plan.next().is_some(), !launched || age < 5);
    }
}

#[test]
fn a_member_that_keeps_failing_moves_unless_its_data_is_there() {
    let mut world = World::new(1);
    let address = world.instances[0].info.address();
    world.now = samples::at(61);
    world.edit(0, |info| {
        info.observed.state = State::Failed;
        info.observed.failures = 6;
    });
    // Its pause has ended at second 16: another host first, then any.
    world.now = samples::at(20);
    assert_eq!(launches(&world.plan()), [(0, Place::Elsewhere(address))]);
    world.now = samples::at(61);
    assert_eq!(launches(&world.plan()), [(0, Place::Any(address))]);
    world.spec.persistence = Persistence::Rdb;
    let plan = world.plan();
    assert_eq!(launches(&plan), [(0, Place::Same(address))]);
    assert_eq!(reasons(&plan), ["CrashLoop"]);
}

#[test]
fn an_unreachable_member_is_replaced_after_the_timer_and_not_before() {
    let mut world = World::new(1);
    let address = world.instances[0].info.address();
    world.edit(0, |info| info.observed.state = State::Unreachable);
    world.now = samples::at(599);
    let plan = world.plan();
    assert_eq!((launches(&plan), plan.next()), (vec![], Some(samples::at(600))));
    world.now = samples::at(600);
    assert_eq!(launches(&world.plan()), [(0, Place::Elsewhere(address))]);
    // What an earlier leader was told does not count before Mesos has said it to this one.
    world.unconfirmed.insert(world.instances[0].info.mesos_task_id.clone());
    assert_eq!(launches(&world.plan()), []);
}

#[test]
fn an_info_that_cannot_be_read_is_not_an_absent_member() {
    let mut world = World::new(2);
    world.instances.remove(0);
    world.damaged.push((String::from("/overlord/clusters/orders/instances/a/info"), String::from("EOF")));
    let plan = world.plan();
    assert!(plan.steps.is_empty(), "{:?}", plan.steps);
    assert_eq!(reasons(&plan), ["DamagedValue"]);
}

#[test]
fn a_creation_that_was_cut_short_leaves_no_gap_in_the_numbers() {
    let mut world = World::new(3);
    world.record.formed = false;
    world.instances.remove(0);
    assert_eq!(launches(&world.plan()), [(0, Place::Anywhere)]);
}

#[test]
fn a_new_text_goes_to_one_member_first_then_to_all() {
    let mut world = World::new(3);
    world.spec.config.insert("maxmemory-policy".into(), "allkeys-lfu".into());
    let written = |plan: &Plan| {
        plan.steps
            .iter()
            .filter_map(|step| match step {
                Step::WriteConfig { member, config, .. } => Some((*member, *config)),
                _ => None,
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(written(&world.plan()), [(0, 2)]);
    // Written, not yet accepted: the others wait.
    world.instances[0] = instance(&world.spec, (*world.instances[0].info).clone());
    world.edit(0, |info| info.desired.config = 2);
    assert_eq!(written(&world.plan()), []);
    // Nothing was heard for a while: the executor is told again.
    let nudged = |plan: &Plan| plan.steps.iter().filter(|step| matches!(step, Step::Nudge { .. })).count();
    assert_eq!(nudged(&world.plan()), 1);
    world.sent.nudges.insert(world.instances[0].info.mesos_task_id.clone(), world.now);
    assert_eq!(nudged(&world.plan()), 0);
    world.edit(0, |info| info.observed.config = 2);
    assert_eq!(written(&world.plan()), [(1, 2), (2, 2)]);
}

#[test]
fn a_refused_text_reaches_no_second_member() {
    let mut world = World::new(3);
    world.spec.config.insert("maxmemory-policy".into(), "allkeys-lfu".into());
    world.instances[0] = instance(&world.spec, (*world.instances[0].info).clone());
    world.edit(0, |info| {
        info.desired.config = 2;
        info.observed.config_refused = Some(2);
        info.observed.message = String::from("ERR no");
    });
    let plan = world.plan();
    assert!(plan.steps.is_empty(), "{:?}", plan.steps);
    assert_eq!(reasons(&plan), ["ConfigRefused"]);
    assert!(plan.blocked[0].message.contains("ERR no"));
}

#[test]
fn a_restart_that_loses_keys_needs_permission() {
    let mut world = World::new(2);
    world.edit(0, |info| info.observed.restart_needed = true);
    assert_eq!(world.plan().ask.len(), 1);
    world.all_hold(12);
    let plan = world.plan();
    assert_eq!(reasons(&plan), ["DataLossNotAllowed"]);
    assert!(plan.blocked[0].message.contains("loses 12 keys"));
    world.spec.update.allow_data_loss = true;
    let steps = world.plan().steps;
    assert_eq!(
        steps.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["restart member 0 at 127.0.0.1:20000 (loses 12 keys)"]
    );
    world.spec.update.allow_data_loss = false;
    world.all_hold(0);
    assert!(matches!(world.plan().steps[..], [Step::Restart { loses: 0, .. }]));
}

#[test]
fn a_persistent_member_restarts_without_asking() {
    let mut world = World::new(2);
    world.spec.persistence = Persistence::Aof;
    for n in 0..2 {
        world.instances[n] = instance(&world.spec, (*world.instances[n].info).clone());
    }
    world.edit(0, |info| info.observed.restart_needed = true);
    let plan = world.plan();
    assert!(plan.ask.is_empty());
    assert!(matches!(plan.steps[..], [Step::Restart { member: 0, .. }]));
}

#[test]
fn restarts_keep_to_the_budget_and_let_members_settle() {
    let mut world = World::new(3);
    world.all_hold(0);
    for member in 0..3 {
        world.edit(member, |info| info.observed.restart_needed = true);
    }
    assert_eq!(world.plan().steps.len(), 1);
    // One is down already: nothing more goes down by our act.
    world.edit(2, |info| info.observed.state = State::Unreachable);
    assert!(world.plan().steps.is_empty());
    // One serves for too short a time.
    world.edit(2, |info| {
        info.observed.state = State::Running;
        info.observed.since = samples::at(57);
    });
    let plan = world.plan();
    assert!(plan.steps.is_empty());
    assert_eq!(plan.next(), Some(samples::at(62)));
}

#[test]
fn other_resources_need_a_new_mesos_task() {
    let mut world = World::new(1);
    world.all_hold(0);
    world.spec.resources = Resources { memory: 128 << 20, ..world.spec.resources };
    assert!(matches!(world.plan().steps[..], [Step::Retire { relaunch: true, .. }]));
}

#[test]
fn scale_in_takes_the_newest_members_and_asks_before_losing_keys() {
    let mut world = World::new(3);
    world.spec.shape = overlord_api::Shape::Redis { shards: 1 };
    world.all_hold(7);
    let plan = world.plan();
    assert_eq!(reasons(&plan), ["DataLossNotAllowed", "DataLossNotAllowed"]);
    assert!(plan.steps.is_empty());
    world.spec.update.allow_data_loss = true;
    let retired: Vec<u32> = world
        .plan()
        .steps
        .iter()
        .filter_map(|step| match step {
            Step::Retire { member, relaunch: false, loses: 7, .. } => Some(*member),
            _ => None,
        })
        .collect();
    assert_eq!(retired, [2, 1]);
}

#[test]
fn a_deletion_ends_all_and_gives_up_what_cannot_be_reached() {
    let mut world = World::new(3);
    world.record.deletion =
        Some(DeletionMark { at: world.now, by: String::from("task t"), config_revision: 0, done: false });
    assert!(world.plan().steps.iter().all(|step| matches!(step, Step::Retire { relaunch: false, .. })));
    for member in 0..3 {
        world.edit(member, |info| info.desired.state = State::Gone);
    }
    world.edit(0, |info| info.observed.state = State::Gone);
    world.edit(1, |info| info.observed.state = State::Unreachable);
    let plan = world.plan();
    assert!(matches!(
        plan.steps[..],
        [
            Step::Forget { member: 0, tombstone: false, .. },
            Step::Forget { member: 1, tombstone: true, .. },
            Step::Kill { .. }
        ]
    ));
    // The kill is repeated, but not at once.
    let task = world.instances[2].info.mesos_task_id.clone();
    let kills = |world: &World| world.plan().steps.iter().any(|step| matches!(step, Step::Kill { .. }));
    for pause in [5, 10, 20, 40, 80, 80, 80] {
        let again = super::Killed::again(world.sent.kills.get(&task).copied(), world.now);
        world.sent.kills.insert(task.clone(), again);
        world.now = world.now.checked_add(std::time::Duration::from_secs(pause - 1)).unwrap();
        assert!(!kills(&world), "before {pause} s");
        world.now = world.now.checked_add(super::SEND_AGAIN / 5).unwrap();
        assert!(kills(&world), "after {pause} s");
    }
}

#[test]
fn a_canary_waits_for_a_person() {
    let mut world = World::new(3);
    world.spec.update.canary = 1;
    world.spec.config.insert("maxmemory-policy".into(), "allkeys-lfu".into());
    world.instances[0] = instance(&world.spec, (*world.instances[0].info).clone());
    let plan = world.plan();
    assert_eq!((plan.steps.len(), reasons(&plan)), (0, vec!["Canary"]));
    world.control = Control::Run { promoted: true };
    assert_eq!(world.plan().steps.len(), 2);
}

/// A perfect world that does what the plan says.
impl World {
    fn obey(&mut self, plan: &Plan) {
        for step in &plan.steps {
            match step {
                Step::Form(_) | Step::Order(_) | Step::StartAlone { .. } => {
                    panic!("{step} is nothing for a pool")
                }
                Step::Launch(Launch { member, place }) => self.launch(*member, *place),
                Step::WriteConfig { address, text, config, .. } => {
                    self.at(*address, |instance, info| {
                        instance.conf = Some(digest(text.as_bytes()));
                        info.desired.config = *config;
                        info.observed.config = *config;
                    });
                }
                Step::Restart { address, restart, .. } => self.at(*address, |_, info| {
                    info.desired.restart = *restart;
                    info.observed.restart = *restart;
                    info.observed.restart_needed = false;
                }),
                Step::Retire { address, relaunch, .. } => self.at(*address, |_, info| {
                    info.desired.state = if *relaunch { State::Draining } else { State::Gone };
                }),
                Step::Kill { address, .. } => self.at(*address, |_, info| {
                    if info.observed.state != State::Unreachable {
                        info.observed.state = State::Gone;
                    }
                }),
                Step::Forget { address, .. } => self.instances.retain(|i| i.info.address() != *address),
                Step::Nudge { .. } => {}
                Step::Amend { address, on_disk, on_agent_loss } => self.at(*address, |_, info| {
                    info.on_disk = *on_disk;
                    info.on_agent_loss = *on_agent_loss;
                }),
            }
        }
    }

    fn at(&mut self, address: Address, change: impl FnOnce(&mut Instance, &mut Info)) {
        let instance = self.instances.iter_mut().find(|i| i.info.address() == address).unwrap();
        let mut info = (*instance.info).clone();
        change(instance, &mut info);
        instance.info = Arc::new(info);
    }

    fn launch(&mut self, member: u32, place: Place) {
        let old = place.replaces().and_then(|a| self.instances.iter().position(|i| i.info.address() == a));
        let old = old.map(|at| self.instances.remove(at).info);
        let mut info = samples::info(member, State::Running);
        if let Some(old) = &old {
            info.incarnation = old.incarnation;
            info.port = old.port;
            if matches!(place, Place::Elsewhere(_) | Place::Any(_)) {
                info.incarnation += 1;
                info.port += 1;
            }
        }
        info.resources = self.spec.resources;
        info.engine_version.clone_from(&self.spec.version);
        info.on_disk = self.spec.deletion.on_disk;
        info.on_agent_loss = self.spec.recovery.on_agent_loss;
        info.observed.since = self.now;
        self.record.next_member = self.record.next_member.max(member + 1);
        self.instances.push(instance(&self.spec, info));
    }
}

fn states() -> impl Strategy<Value = State> {
    prop::sample::select(vec![
        State::Running,
        State::Running,
        State::Restarting,
        State::Unreachable,
        State::Failed,
        State::Gone,
        State::Draining,
    ])
}

fn desired() -> impl Strategy<Value = State> {
    prop::sample::select(vec![State::Running, State::Running, State::Running, State::Draining, State::Gone])
}

prop_compose! {
    fn worlds()(
        members in prop::collection::vec((states(), desired(), 0..9_u32, any::<bool>(), any::<bool>(), 0..5_i64), 0..6),
        shards in 1..7_u32,
        persistent in any::<bool>(),
        policy in any::<bool>(),
        bigger in any::<bool>(),
        deleting in any::<bool>(),
        retain in any::<bool>(),
    ) -> World {
        let mut world = World::new(u32::try_from(members.len()).unwrap());
        for (member, (state, desired, failures, restart_needed, stale, since)) in members.into_iter().enumerate() {
            let info = Arc::make_mut(&mut world.instances[member].info);
            info.observed.state = state;
            info.desired.state = desired;
            info.observed.failures = failures;
            info.observed.restart_needed = restart_needed;
            info.observed.since = samples::at(since * 20);
            if stale {
                world.instances[member].conf = None;
            }
        }
        world.spec.shape = overlord_api::Shape::Redis { shards };
        world.spec.update.allow_data_loss = true;
        if persistent { world.spec.persistence = Persistence::Rdb; }
        if policy { world.spec.config.insert("maxmemory-policy".into(), "allkeys-lfu".into()); }
        if bigger { world.spec.resources.memory *= 2; }
        if retain { world.spec.deletion.on_disk = OnDisk::Retain; }
        if deleting && world.record.next_member > 3 {
            world.record.deletion = Some(DeletionMark {
                at: world.now, by: String::from("task t"), config_revision: 0, done: false,
            });
        }
        world
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn obeying_plans_ends_in_the_declared_world(mut world in worlds()) {
        let deleting = world.record.deletion.is_some();
        let mut rounds = 0;
        loop {
            world.keys = world.instances.iter().map(|i| (i.info.address(), Known::Is(3))).collect();
            let plan = world.plan();
            prop_assert_eq!(&plan, &world.plan(), "a plan depends on its input alone");
            check_rules(&world, &plan);
            if plan.is_converged() {
                break;
            }
            world.obey(&plan);
            // What restarts in place or is being stopped by others ends well meanwhile.
            for instance in &mut world.instances {
                let info = Arc::make_mut(&mut instance.info);
                if info.observed.state == State::Restarting {
                    info.observed.state = State::Running;
                }
                if info.observed.state == State::Draining && info.desired.state == State::Running {
                    info.observed.state = State::Failed;
                }
            }
            world.now = world.now.checked_add(SignedDuration::from_secs(10)).unwrap();
            rounds += 1;
            prop_assert!(rounds < 200, "does not converge: {:?}", plan);
        }
        if deleting {
            prop_assert!(world.instances.is_empty());
        } else {
            prop_assert_eq!(world.instances.len(), world.spec.shape.members() as usize);
            let distinct: std::collections::BTreeSet<u32> = world.instances.iter().map(|i| i.info.member).collect();
            prop_assert_eq!(distinct.len(), world.instances.len(), "one instance a member");
        }
    }
}
