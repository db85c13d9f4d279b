//! The planner of a cluster, by what it must always do and what it must never do. Nodes speak as redis 7.0
//! does: `CLUSTER NODES`, `CLUSTER INFO` and `INFO` in text.

mod trouble;
mod walk;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    sync::Arc,
};

use jiff::Timestamp;
use overlord_api::{ConditionType, Kind, Persistence, Record, Shape as SpecShape, ShardLoss, Spec, State};
use overlord_engines::cluster::{NodeId, Replication, View, slot_ranges};

use super::{
    observed::{Answer, Command, Expected, Look, Sight},
    seed::node_id,
    shape_of,
};
use crate::{
    digest,
    members::{
        confs::{Confs, render},
        observed::Instance,
        plan::{Control, HandOver, Input, Loss, Plan, Sent, plan},
        step::{Launch, Order, Place, Step},
    },
    samples,
};

/// What a node is like.
#[derive(Debug, Clone)]
struct Node {
    look: Said,
    /// The member it copies; none: a master.
    copies: Option<u32>,
    /// The shard whose slots it has.
    slots: Option<u32>,
    epoch: u64,
    offset: u64,
    keys: u64,
    link: Link,
    /// Others flag it `fail?`.
    missed: bool,
    /// Others do not know it.
    unknown: bool,
    /// Others have no link to it on the bus.
    unlinked: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    Answers,
    Refuses,
    Loads,
    AsAnother,
    Silent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    Up,
    Down,
    /// For longer than restarts and short troubles of the network last.
    LongDown,
    NeverUp,
}

/// Three masters with a replica each, every member on a host of its own, all well.
#[derive(Debug)]
struct World {
    spec: Spec,
    record: Record,
    instances: Vec<Instance>,
    nodes: BTreeMap<u32, Node>,
    /// A node that is no member: its number, and whether it has slots of shard 0.
    stranger: Option<bool>,
    /// A node that is no member any more, and the member it copies.
    spare: Option<(NodeId, u32)>,
    settled: bool,
    recover: Option<i64>,
    damaged: Vec<(String, String)>,
    control: Control,
    now: Timestamp,
}

impl World {
    fn new() -> Self {
        Self::sized(3)
    }

    fn sized(masters: u32) -> Self {
        let mut spec = samples::spec(1);
        spec.shape = SpecShape::RedisCluster { masters, replicas_per_master: 1 };
        let mut record = samples::record(2 * masters);
        record.kind = Kind::RedisCluster;
        let instances = (0..2 * masters)
            .map(|member| {
                let mut info = samples::info(member, State::Running);
                info.kind = Kind::RedisCluster;
                info.bus_port = Some(22_000);
                info.shard = Some(member % masters);
                info.node_id = Some(node_id(&info).to_string());
                info.observed.role = Some(if member < masters { "master" } else { "slave" }.to_owned());
                let text = render(&spec, info.address(), info.bus_port).unwrap();
                Instance { info: Arc::new(info), revision: 1, conf: Some(digest(text.as_bytes())) }
            })
            .collect();
        let node = |member: u32| Node {
            look: Said::Answers,
            copies: (member >= masters).then(|| member - masters),
            slots: (member < masters).then_some(member),
            epoch: u64::from(member % masters) + 1,
            offset: 100,
            keys: 0,
            link: if member < masters { Link::NeverUp } else { Link::Up },
            missed: false,
            unknown: false,
            unlinked: false,
        };
        Self {
            spec,
            record,
            instances,
            nodes: (0..2 * masters).map(|member| (member, node(member))).collect(),
            stranger: None,
            spare: None,
            settled: false,
            recover: None,
            damaged: Vec::new(),
            control: Control::Run { promoted: false },
            now: samples::at(60),
        }
    }

    fn node(mut self, member: u32, change: impl FnOnce(&mut Node)) -> Self {
        change(self.nodes.get_mut(&member).unwrap());
        self
    }

    fn info(mut self, member: u32, change: impl FnOnce(&mut overlord_api::Info)) -> Self {
        let instance = self.instances.iter_mut().find(|i| i.info.member == member).unwrap();
        change(Arc::make_mut(&mut instance.info));
        self
    }

    /// The member's process is gone, and its executor says so.
    fn down(self, member: u32) -> Self {
        self.info(member, |info| info.observed.state = State::Restarting)
            .node(member, |node| (node.look, node.missed) = (Said::Refuses, true))
    }

    /// The member's agent is lost since the beginning.
    fn lost(self, member: u32) -> Self {
        self.info(member, |info| info.observed.state = State::Unreachable)
            .node(member, |node| (node.look, node.missed) = (Said::Silent, true))
    }

    /// The replica of a master's shard has lost its link.
    fn orphan(self, member: u32) -> Self {
        self.node(member, |node| node.link = Link::Down)
    }

    fn id(&self, member: u32) -> NodeId {
        let recorded = self.instances.iter().find(|instance| instance.info.member == member);
        recorded.map_or_else(|| node_id(&samples::info(member, State::Running)), |i| node_id(&i.info))
    }

    fn stranger_id() -> NodeId {
        NodeId::derive("feedfeedfeedfeedfeedfeedfeedfeed", 9, 0)
    }

    fn view(&self, me: u32) -> View {
        let mut text = String::new();
        let masters = shape_of(&self.spec).unwrap().masters;
        let ranges = slot_ranges(u16::try_from(masters).unwrap());
        for (member, node) in &self.nodes {
            if node.unknown && *member != me {
                continue;
            }
            let mut flags = if node.copies.is_some() { "slave" } else { "master" }.to_owned();
            if *member == me {
                flags.insert_str(0, "myself,");
            } else if node.missed {
                flags.push_str(",fail?");
            }
            let master = node.copies.map_or_else(|| "-".to_owned(), |master| self.id(master).to_string());
            // Of two that have the same slots each believes itself, and the others the later one.
            let believed = |shard: &u32| {
                !self.nodes.iter().any(|(other, rival)| {
                    let stronger = *other == me || (*member != me && rival.epoch > node.epoch);
                    other != member && rival.slots == Some(*shard) && stronger
                })
            };
            let slots = node.slots.filter(believed).map(|shard| &ranges[shard as usize]);
            let slots = slots.map_or_else(String::new, |range| format!(" {}-{}", range.start(), range.end()));
            let (id, epoch) = (self.id(*member), node.epoch);
            let bus = if node.unlinked && *member != me { "disconnected" } else { "connected" };
            writeln!(
                text,
                "{id} 127.0.0.{}:20000@22000 {flags} {master} 0 0 {epoch} {bus}{slots}",
                member + 1
            )
            .unwrap();
        }
        if let Some(has_slots) = self.stranger {
            let slots = if has_slots { " 0-5460" } else { "" };
            let id = Self::stranger_id();
            writeln!(text, "{id} 127.0.0.99:20000@22000 master,fail - 0 0 99 disconnected{slots}").unwrap();
        }
        if let Some((id, master)) = self.spare {
            let master = self.id(master);
            writeln!(text, "{id} 127.0.0.98:20000@22000 slave {master} 0 0 2 connected").unwrap();
        }
        let info = "cluster_state:ok\ncluster_slots_assigned:16384\ncluster_slots_ok:16384\ncluster_slots_pfail:0\n\
                    cluster_slots_fail:0\ncluster_known_nodes:6\ncluster_size:3\ncluster_current_epoch:9\ncluster_my_epoch:1\n";
        View::parse(&text, info).unwrap()
    }

    fn sight(&self) -> Sight {
        let mut expected = BTreeMap::new();
        let mut looks = BTreeMap::new();
        for instance in &self.instances {
            let (member, address) = (instance.info.member, instance.info.address());
            let node = &self.nodes[&member];
            let id = node_id(&instance.info);
            expected.insert(address, Expected { id, lost: false });
            let down = match node.link {
                Link::Up => "up\nmaster_link_down_since_seconds:-1",
                Link::Down => "down\nmaster_link_down_since_seconds:5",
                Link::LongDown => "down\nmaster_link_down_since_seconds:10800",
                Link::NeverUp => "down\nmaster_link_down_since_seconds:-1",
            };
            let role = if node.copies.is_some() { "slave" } else { "master" };
            let info = format!(
                "role:{role}\nmaster_link_status:{down}\nmaster_sync_in_progress:0\nslave_repl_offset:{offset}\n\
                 connected_slaves:0\nmaster_repl_offset:{offset}\nuptime_in_seconds:20000\nsync_full:0\n\
                 sync_partial_ok:0\nloading:0\ndb0:keys={keys},expires=0,avg_ttl=0\n",
                offset = node.offset,
                keys = node.keys
            );
            let look = match node.look {
                Said::Answers => Look::Answered(Box::new(Answer {
                    view: self.view(member),
                    replication: Replication::parse(&info).unwrap(),
                })),
                Said::Refuses => Look::Refused,
                Said::Loads => Look::Loading,
                Said::AsAnother => Look::Other(Self::stranger_id()),
                Said::Silent => Look::Silent("no answer".to_owned()),
            };
            looks.insert(address, look);
        }
        Sight::new(looks, &expected)
    }

    /// As a pass does with what is lost.
    fn remember(&mut self, plan: &Plan) {
        for (evidence, loss) in &plan.losses {
            let Loss { shard, message } = loss.clone();
            let loss = ShardLoss { shard, at: self.now, message, acknowledged: false };
            self.record.losses.insert(evidence.clone(), loss);
        }
    }

    /// As a pass does: the nodes are asked when the plan wants it.
    fn plan(&self) -> Plan {
        let first = self.plan_with(None);
        if first.look { self.plan_with(Some(&self.sight())) } else { first }
    }

    fn plan_sent(&self, sent: &Sent) -> Plan {
        self.plan_of(Some(&self.sight()), sent)
    }

    fn plan_with(&self, sight: Option<&Sight>) -> Plan {
        self.plan_of(sight, &Sent::default())
    }

    fn plan_of(&self, sight: Option<&Sight>, sent: &Sent) -> Plan {
        plan(&Input {
            strangers: &[],
            confs: &Confs::default(),
            template: "",
            renew: false,
            cluster: &samples::cluster(),
            spec: &self.spec,
            record: &self.record,
            instances: &self.instances,
            keys: &BTreeMap::new(),
            room: &BTreeMap::new(),
            sent,
            sight,
            settled: self.settled,
            recover: self.recover,
            unconfirmed: &BTreeSet::new(),
            damaged: &self.damaged,
            task: Some("t"),
            control: &self.control,
            now: self.now,
        })
    }
}

fn orders(plan: &Plan) -> Vec<(u32, Command)> {
    let orders = plan.steps.iter().filter_map(|step| match step {
        Step::Order(Order { member, command, .. }) => Some((*member, command.clone())),
        _ => None,
    });
    orders.collect()
}

fn launches(plan: &Plan) -> Vec<(u32, Place)> {
    let launches = plan.steps.iter().filter_map(|step| match step {
        Step::Launch(Launch { member, place }) => Some((*member, *place)),
        _ => None,
    });
    launches.collect()
}

fn only_loss(plan: &Plan) -> &Loss {
    assert_eq!(plan.losses.len(), 1, "{plan:?}");
    plan.losses.values().next().unwrap()
}

fn condition(plan: &Plan, kind: ConditionType) -> Option<&str> {
    plan.conditions.iter().find(|(found, ..)| *found == kind).map(|(.., message)| message.as_str())
}

const FORCE: Command = Command::Failover { force: true };

const GRACEFUL: Command = Command::Failover { force: false };

#[test]
fn a_healthy_cluster_is_looked_at_once_and_left_alone() {
    let mut world = World::new();
    let plan = world.plan();
    assert!(plan.whole && plan.is_converged(), "{plan:?}");
    assert_eq!(plan.progress.serving, 6);
    world.settled = true;
    assert!(!world.plan_with(None).look);
}

#[test]
fn a_new_cluster_is_formed_in_one_step() {
    let mut world = World::new();
    world.instances.clear();
    (world.record.formed, world.record.attempts) = (false, 0);
    let plan = world.plan();
    assert_eq!(plan.steps.len(), 1);
    assert!(matches!(&plan.steps[0], Step::Form(form) if !form.anew && form.shape.masters == 3));
    world.control = Control::Hold { reason: "Paused", message: "by a person".to_owned() };
    assert_eq!(world.plan().steps, []);
}

#[test]
fn an_interrupted_forming_is_undone_and_tried_again_as_another_cluster() {
    let mut world = World::new();
    world.record.formed = false;
    world.instances.truncate(4);
    let plan = world.plan();
    assert_eq!(plan.steps.len(), 4);
    assert!(plan.steps.iter().all(|step| matches!(step, Step::Retire { relaunch: false, .. })), "{plan:?}");
    world.instances.clear();
    assert!(matches!(&world.plan().steps[..], [Step::Form(form)] if form.anew));
}

#[test]
fn while_a_cluster_forms_its_nodes_are_not_disturbed() {
    let mut world = World::new().info(2, |info| info.observed.state = State::Staging);
    world.record.formed = false;
    let plan = world.plan_with(None);
    assert!(!plan.look && plan.steps.is_empty(), "{plan:?}");
    // One that failed keeps its place among those that know it.
    let world = world.info(2, |info| info.observed.state = State::Failed);
    let address = world.instances[2].info.address();
    assert_eq!(launches(&world.plan()), [(2, Place::Rather(address))]);
}

#[test]
fn the_replica_of_a_dead_master_takes_over_at_once() {
    let world = World::new().down(1).orphan(4);
    assert_eq!(orders(&world.plan()), [(4, FORCE)]);
    // Nobody listens, whatever the executor says, or does not say.
    let world = world.info(1, |info| info.observed.state = State::Running);
    assert_eq!(orders(&world.plan()), [(4, FORCE)]);
}

#[test]
fn a_replica_without_the_data_never_takes_over_from_a_master_that_may_have_it() {
    let world = World::new().down(1).node(4, |node| node.link = Link::NeverUp);
    let plan = world.plan();
    assert_eq!(orders(&plan), []);
    assert!(plan.waiting.iter().any(|w| w.why.contains("no replica has its data")), "{plan:?}");
}

#[test]
fn a_replica_that_votes_do_not_reach_yet_is_waited_for() {
    let world = World::new().down(1).orphan(4).node(4, |node| node.unlinked = true);
    let plan = world.plan();
    assert_eq!(orders(&plan), []);
    assert!(plan.next().is_some_and(|next| next <= samples::at(61)), "{plan:?}");
}

#[test]
fn what_a_replica_had_on_disk_is_used_when_its_master_waits_with_nothing() {
    let mut world = World::new().down(1).node(4, |node| (node.link, node.keys) = (Link::NeverUp, 7));
    world.now = samples::at(29);
    assert_eq!(orders(&world.plan()), []);
    world.now = samples::at(30);
    let plan = world.plan();
    assert_eq!(orders(&plan), [(4, FORCE)]);
    assert!(only_loss(&plan).message.contains("goes on with what member 4"), "{:?}", plan.losses);
    // Its executor is about to start it again elsewhere in its life.
    let world = world.info(1, |info| info.observed.state = State::Staging);
    assert_eq!(orders(&world.plan()), []);
}

#[test]
fn a_master_that_only_the_controller_does_not_reach_is_left_alone() {
    let world = World::new().node(1, |node| node.look = Said::Silent);
    assert_eq!(orders(&world.plan()), []);
    // The others miss it too.
    let world = world.node(1, |node| node.missed = true).orphan(4);
    assert_eq!(orders(&world.plan()), [(4, FORCE)]);
}

#[test]
fn a_takeover_is_not_ordered_again_at_once() {
    let world = World::new().down(1).orphan(4);
    let mut sent = Sent::default();
    let order = HandOver { at: samples::at(60), first: samples::at(60), force: true };
    sent.failovers.insert(world.instances[4].info.mesos_task_id.clone(), order);
    assert_eq!(orders(&world.plan_sent(&sent)), []);
    let later = World { now: samples::at(61), ..world };
    assert_eq!(orders(&later.plan_sent(&sent)), [(4, FORCE)]);
}

#[test]
fn without_a_majority_nothing_is_done_and_what_is_missing_is_said() {
    let mut world = World::new().down(0).down(1).orphan(3).orphan(4).lost(5);
    world.now = samples::at(3600);
    let plan = world.plan();
    assert_eq!((orders(&plan), launches(&plan)), (vec![], vec![]));
    let message = condition(&plan, ConditionType::QuorumLost).unwrap();
    assert!(message.contains("1 of 3 masters answer, 2 are needed"), "{message}");
    assert!(message.contains("shard 0 (member 0 at 127.0.0.1:20000)"), "{message}");
    // In place is how a majority comes back.
    let world = world.info(0, |info| info.observed.state = State::Failed);
    assert_eq!(launches(&world.plan()), [(0, Place::Same(world.instances[0].info.address()))]);
}

#[test]
fn a_stranger_is_forgotten_by_everyone_but_not_with_slots() {
    let mut world = World::new();
    world.stranger = Some(false);
    let plan = world.plan();
    let forget = Command::Forget { id: World::stranger_id() };
    assert_eq!(orders(&plan), (0..6).map(|member| (member, forget.clone())).collect::<Vec<_>>());
    assert!(!plan.whole);
    world.stranger = Some(true);
    let world = world.node(0, |node| node.slots = None);
    let plan = world.plan();
    assert!(!orders(&plan).iter().any(|(_, command)| *command == forget), "{plan:?}");
    assert!(plan.blocked.iter().any(|blocked| blocked.reason == "StrangerOwnsSlots"));
}

#[test]
fn a_member_that_nobody_knows_is_introduced_and_told_whom_to_copy() {
    let world =
        World::new().node(4, |node| (node.unknown, node.copies, node.link) = (true, None, Link::NeverUp));
    let plan = world.plan();
    let orders = orders(&plan);
    assert!(orders.contains(&(4, Command::Replicate { master: world.id(1) })), "{orders:?}");
    let address = world.instances[4].info.address();
    for master in 0..3 {
        assert!(orders.contains(&(master, Command::Meet { address, bus_port: 22_000 })), "{orders:?}");
    }
}

#[test]
fn a_lost_replica_is_replaced_after_a_while_and_a_lost_master_only_after_it_handed_over() {
    let mut world = World::new().lost(4);
    assert_eq!(launches(&world.plan()), []);
    world.now = samples::at(601);
    let address = world.instances[4].info.address();
    assert_eq!(launches(&world.plan()), [(4, Place::Elsewhere(address))]);

    let mut world = World::new().lost(1).orphan(4);
    world.now = samples::at(601);
    let plan = world.plan();
    assert_eq!((launches(&plan), orders(&plan)), (vec![], vec![(4, FORCE)]));
    // It has the slots now.
    let world = world
        .node(4, |node| (node.copies, node.slots, node.epoch) = (None, Some(1), 9))
        .node(1, |node| node.slots = None);
    let address = world.instances[1].info.address();
    assert_eq!(launches(&world.plan()), [(1, Place::Elsewhere(address))]);
}

#[test]
fn a_shard_of_which_everything_is_lost_starts_anew_and_that_is_said() {
    let mut world = World::new().lost(1).lost(4);
    world.now = samples::at(500);
    assert_eq!(launches(&world.plan()), []);
    world.now = samples::at(601);
    let plan = world.plan();
    let address = world.instances[1].info.address();
    assert_eq!(launches(&plan), [(1, Place::Elsewhere(address))]);
    assert!(only_loss(&plan).message.starts_with("shard 1 starts anew"), "{:?}", plan.losses);
}

#[test]
fn a_master_that_answers_hands_over_before_it_is_replaced() {
    let mut world = World::new().info(1, |info| info.observed.state = State::Unreachable);
    world.now = samples::at(601);
    let plan = world.plan();
    assert_eq!((launches(&plan), orders(&plan)), (vec![], vec![(4, GRACEFUL)]));
}

#[test]
fn a_shard_that_lost_its_keys_is_named_until_a_person_took_note() {
    let mut world = World::new().info(1, |info| info.observed.emptied = 1);
    let plan = world.plan();
    assert!(condition(&plan, ConditionType::DataLost).unwrap().starts_with("shard 1 lost its keys"));
    world.remember(&plan);
    let plan = world.plan();
    assert!(plan.losses.is_empty() && condition(&plan, ConditionType::DataLost).is_some());
    world.record.losses.values_mut().for_each(|loss| loss.acknowledged = true);
    assert_eq!(condition(&world.plan(), ConditionType::DataLost), None);
    // Another loss is another matter.
    let world = world.info(1, |info| info.observed.emptied = 2);
    assert!(condition(&world.plan(), ConditionType::DataLost).is_some());
}

#[test]
fn a_restart_goes_to_replicas_first_and_a_master_changes_roles_before_it() {
    let waiting =
        |world: World| (0..6).fold(world, |w, member| w.info(member, |i| i.observed.restart_needed = true));
    let world = waiting(World::new());
    let restarts = |plan: &Plan| {
        let restarts = plan.steps.iter().filter_map(|step| match step {
            Step::Restart { member, loses, .. } => Some((*member, *loses)),
            _ => None,
        });
        restarts.collect::<Vec<_>>()
    };
    let plan = world.plan();
    assert_eq!((restarts(&plan), orders(&plan)), (vec![(3, 0)], vec![]));
    let world = (3..6).fold(world, |w, member| w.info(member, |info| info.observed.restart_needed = false));
    let plan = world.plan();
    assert_eq!((restarts(&plan), orders(&plan)), (vec![], vec![(3, GRACEFUL)]));
    // Nothing is restarted while anything is broken.
    let world = waiting(World::new()).down(5);
    assert_eq!(restarts(&world.plan()), []);
}

#[test]
fn roles_go_home_when_a_host_has_too_many_masters() {
    // Member 3 took over from 0 and is on the host of member 1.
    let mut world = World::new()
        .node(0, |node| (node.copies, node.slots, node.link) = (Some(3), None, Link::Up))
        .node(3, |node| (node.copies, node.slots, node.epoch) = (None, Some(0), 9));
    let plan = world.plan();
    assert!(plan.whole && orders(&plan).is_empty(), "{plan:?}");
    let host = world.instances[1].info.ip;
    world = world.info(3, |info| (info.ip, info.port) = (host, 20_002));
    assert_eq!(orders(&world.plan()), [(0, GRACEFUL)]);
}

#[test]
fn a_member_of_a_formed_cluster_whose_record_is_gone_is_for_a_person() {
    let mut world = World::new();
    world.instances.remove(4);
    world.spec.persistence = Persistence::Rdb;
    let plan = world.plan();
    assert!(plan.blocked.iter().any(|blocked| blocked.reason == "MemberNotRecorded"), "{plan:?}");
    assert_eq!(launches(&plan), []);
}
