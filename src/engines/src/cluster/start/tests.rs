//! The rule's decisions, one story a test, and what holds in every world.

use proptest::prelude::*;

use super::*;
use crate::cluster::{
    Direction, Flag, Flags, Node, SlotMove, SlotSet, seed_nodes_conf,
    strategies::{id, members},
};

/// Three masters (0-2) and two replicas of each (3-8), each with what it knows.
struct World {
    tables: Vec<Vec<Node>>,
    replication: Vec<Replication>,
    answers: Vec<bool>,
    epoch: u64,
    refuse: bool,
}

const LINKED: Replication = Replication {
    is_replica: true,
    offset: 9,
    link_up: false,
    link_down_seconds: Some(1),
    syncing: false,
    loading: false,
    uptime_seconds: 100,
    connected_replicas: 0,
    syncs_served: 0,
    keys: 5,
};

/// Started a moment ago.
const EMPTY: Replication =
    Replication { offset: 1, link_down_seconds: None, uptime_seconds: 1, keys: 0, ..LINKED };

fn number(node: &NodeId) -> usize {
    (0..20).find(|number| id(*number) == *node).expect("a member") as usize
}

fn seed(me: u32) -> NodesConf {
    NodesConf::parse(seed_nodes_conf(&members(3, 2), &id(me)).unwrap().as_bytes()).unwrap()
}

fn view_of(nodes: &[Node], epoch: u64) -> View {
    let lines: Vec<String> = nodes.iter().map(ToString::to_string).collect();
    let size = nodes.iter().filter(|node| !node.slots.is_empty()).count();
    let info = format!(
        "cluster_state:ok\ncluster_slots_assigned:16384\ncluster_slots_ok:16384\ncluster_slots_pfail:0\n\
         cluster_slots_fail:0\ncluster_known_nodes:9\ncluster_size:{size}\ncluster_current_epoch:{epoch}\n\
         cluster_my_epoch:1\n"
    );
    View::parse(&lines.join("\n"), &info).unwrap()
}

impl World {
    fn new() -> Self {
        Self {
            tables: (0..9).map(|me| seed(me).nodes().to_vec()).collect(),
            replication: vec![LINKED; 9],
            answers: (0..9).map(|number| number != 0).collect(),
            epoch: 9,
            refuse: false,
        }
    }

    /// Changes what some know of a node.
    fn change(mut self, who: &[usize], of: u32, change: impl Fn(&mut Node)) -> Self {
        for table in who {
            self.tables[*table].iter_mut().filter(|node| node.id == id(of)).for_each(&change);
        }
        self
    }

    /// A node took over from another, as some know.
    fn taken_over(self, who: &[usize], new: u32, old: u32) -> Self {
        let slots = seed(old).myself().slots.clone();
        let world = self.change(who, old, |node| node.slots = SlotSet::new());
        let mut world = world.change(who, new, |node| {
            let myself = node.is_myself();
            node.flags = Flags::of(Role::Master);
            if myself {
                node.flags = node.flags.with(Flag::Myself);
            }
            (node.master, node.config_epoch) = (None, 10);
            node.slots.clone_from(&slots);
        });
        world.epoch = 10;
        world
    }

    fn forgotten(mut self, who: &[usize], gone: u32) -> Self {
        for table in who {
            self.tables[*table].retain(|node| node.id != id(gone));
        }
        self
    }

    fn is(mut self, number: usize, replication: Replication) -> Self {
        self.replication[number] = replication;
        self
    }

    fn silent(mut self, who: &[usize]) -> Self {
        for number in who {
            self.answers[*number] = false;
        }
        self
    }

    fn view(&self, number: usize) -> View {
        view_of(&self.tables[number], self.epoch)
    }

    fn answer(&self, number: usize) -> Answer {
        if self.answers[number] {
            Answer::Told(Box::new((self.view(number), self.replication[number])))
        } else if self.refuse {
            Answer::Refused
        } else {
            Answer::Silent
        }
    }

    /// Who does not answer refuses connections.
    fn refusing(self) -> Self {
        Self { refuse: true, ..self }
    }

    /// The verdict, and who was asked for it.
    fn verdict(&self, mut rule: StartRule) -> (Verdict, Vec<usize>) {
        let mut asked = Vec::new();
        for _ in 0..10 {
            match rule.proceed() {
                Next::Done(verdict) => return (verdict, asked),
                Next::Ask(who) => {
                    assert!(!who.is_empty());
                    for (id, _) in who {
                        asked.push(number(&id));
                        rule.hear(id, self.answer(number(&id)));
                    }
                }
            }
        }
        panic!("it never ends: {rule:?}");
    }

    /// Of node 0, with a file of its own and no data on disk.
    fn of_master(&self) -> Verdict {
        self.verdict(StartRule::new(seed(0), Origin::Redis, false, false, 0)).0
    }

    fn waits(&self) -> String {
        match self.of_master() {
            Verdict::Wait(why) => why,
            other @ Verdict::Start { .. } => panic!("{other:?}"),
        }
    }
}

const START: Verdict = Verdict::Start { conf: None, successor: None, emptied: false };
const EMPTIED: Verdict = Verdict::Start { conf: None, successor: None, emptied: true };
const OTHERS: [usize; 8] = [1, 2, 3, 4, 5, 6, 7, 8];

#[test]
fn replicas_masters_without_slots_and_first_seeds_start_unasked() {
    let world = World::new();
    let replica = world.verdict(StartRule::new(seed(4), Origin::Redis, false, false, 0));
    assert_eq!(replica, (START, Vec::new()));
    let (verdict, asked) = world.verdict(StartRule::new(seed(0), Origin::FirstSeed, false, false, 0));
    assert!(matches!(verdict, Verdict::Start { conf: Some(_), successor: None, emptied: false }));
    assert!(asked.is_empty());
    let mut without = seed(0);
    without.nodes_mut()[0].slots = SlotSet::new();
    assert_eq!(world.verdict(StartRule::new(without, Origin::Redis, false, false, 0)).0, START);
}

#[test]
fn a_master_waits_for_the_replica_that_holds_its_data() {
    let world = World::new();
    let why = world.waits();
    assert!(why.contains("holds the data"), "{why}");
    // However good its own dump is.
    let own = world.verdict(StartRule::new(seed(0), Origin::Redis, false, true, 0)).0;
    assert!(matches!(own, Verdict::Wait(_)));
    assert!(World::new().is(3, EMPTY).waits().contains(&id(6).to_string()));
    for doubtful in [
        Replication { syncing: true, ..EMPTY },
        Replication { link_up: true, link_down_seconds: None, ..EMPTY },
        Replication { syncs_served: 1, ..EMPTY },
    ] {
        assert!(World::new().is(6, EMPTY).is(3, doubtful).waits().contains(&id(3).to_string()));
    }
}

#[test]
fn a_replica_that_was_alone_for_hours_is_not_waited_for_by_a_master_with_data_on_disk() {
    let alone =
        Replication { link_up: false, link_down_seconds: Some(10_800), uptime_seconds: 20_000, ..LINKED };
    let world = World::new().is(3, alone).is(6, alone);
    let rule = |own_data| StartRule::new(seed(0), Origin::Redis, false, own_data, 0);
    assert_eq!(world.verdict(rule(true).dead_for(8)).0, START);
    // It is better than nothing, and nobody knows how long a node was dead that was launched anew.
    for rule in [rule(false).dead_for(8), rule(true), rule(true).dead_for(10_700)] {
        assert!(matches!(world.verdict(rule).0, Verdict::Wait(_)));
    }
}

#[test]
fn a_master_that_dies_right_after_it_took_over_waits_for_the_former_one() {
    // Node 3 took over from 0, by agreement; only the two know, and 0 was not linked to it yet.
    let mut world = World::new().taken_over(&[0, 3], 3, 0);
    world.answers = (0..9).map(|number| number != 3).collect();
    let world = world
        .change(&[0], 0, |node| {
            (node.flags, node.master) = (Flags::of(Role::Replica).with(Flag::Myself), Some(id(3)));
        })
        .is(0, Replication { link_down_seconds: None, syncs_served: 2, ..LINKED })
        .is(6, EMPTY);
    let conf = NodesConf::new(world.tables[3].clone(), 10, 0).unwrap();
    assert_eq!(conf.node(&id(0)).unwrap().role(), Some(Role::Master));
    let rule = StartRule::new(conf.clone(), Origin::Redis, false, false, 0);
    let Verdict::Wait(why) = world.verdict(rule).0 else { panic!("it starts without its keys") };
    assert!(why.contains(&id(0).to_string()), "{why}");
    // Gone for good, as a majority holds, it has nothing any more.
    let gone = |node: &mut Node| node.flags = node.flags.with(Flag::Fail);
    let world = world.refusing().silent(&[0, 6]).change(&[1, 2, 3], 0, gone).change(&[1, 2, 3], 6, gone);
    assert_eq!(world.verdict(StartRule::new(conf, Origin::Redis, false, false, 0)).0, EMPTIED);
}

#[test]
fn by_a_persons_word_nobody_is_waited_for_who_does_not_answer() {
    let world = World::new().silent(&[3, 6]);
    let rule = || StartRule::new(seed(0), Origin::Redis, false, true, 0);
    assert!(matches!(world.verdict(rule()).0, Verdict::Wait(why) if why.contains("does not answer")));
    assert_eq!(world.verdict(rule().given_up()).0, START);
    // Who answers and has the data still counts.
    assert!(matches!(World::new().silent(&[6]).verdict(rule().given_up()).0, Verdict::Wait(_)));
}

#[test]
fn of_a_large_cluster_only_the_replicas_are_asked_as_a_rule() {
    let members = members(40, 1);
    let conf = |me: u32| NodesConf::parse(seed_nodes_conf(&members, &id(me)).unwrap().as_bytes()).unwrap();
    let ask = |asks: u32| {
        let mut rule = StartRule::new(conf(0), Origin::Redis, false, false, asks);
        let Next::Ask(who) = rule.proceed() else { panic!() };
        assert_eq!(who.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [id(40)]);
        let view = view_of(conf(40).nodes(), 40);
        rule.hear(id(40), Answer::Told(Box::new((view, LINKED))));
        rule.proceed()
    };
    assert!(matches!(ask(0), Next::Done(Verdict::Wait(why)) if why.contains("holds the data")));
    assert!(matches!(ask(FULL_EVERY - 1), Next::Ask(who) if who.len() == 39));
}

#[test]
fn a_master_whose_replicas_lost_everything_starts_with_what_it_has() {
    let world = World::new().is(3, EMPTY).is(6, EMPTY);
    assert_eq!(world.of_master(), EMPTIED);
    assert_eq!(world.verdict(StartRule::new(seed(0), Origin::Redis, false, true, 0)).0, START);
    // All others may be away: a whole cluster that starts again is not one that waits for itself.
    assert_eq!(world.silent(&[1, 2, 4, 5, 7, 8]).of_master(), EMPTIED);
    // A replica with an old dump is better than a master with nothing, and no better than one with a dump.
    let dump = || World::new().is(3, Replication { keys: 7, ..EMPTY }).is(6, EMPTY);
    assert!(dump().waits().contains("this node has nothing"));
    assert_eq!(dump().verdict(StartRule::new(seed(0), Origin::Redis, false, true, 0)).0, START);
}

#[test]
fn a_replica_that_is_gone_is_dead_once_a_majority_of_masters_says_so() {
    let failed = |who: &[usize]| {
        let world = World::new().is(3, EMPTY).silent(&[6]).refusing();
        world.change(who, 6, |node| node.flags = node.flags.with(Flag::Fail))
    };
    let why = failed(&[]).waits();
    assert!(why.contains("0 of 3 masters hold it for failed (2 answer)"), "{why}");
    assert!(failed(&[1, 4, 5]).waits().contains("1 of 3"));
    assert_eq!(failed(&[1, 2]).of_master(), EMPTIED);
    assert_eq!(failed(&[]).forgotten(&[1, 2], 6).of_master(), EMPTIED);
    // A suspicion is not enough, nor is a majority that does not answer itself.
    let suspected = failed(&[]).change(&[1, 2], 6, |node| node.flags = node.flags.with(Flag::SuspectedFail));
    assert!(suspected.waits().contains("does not answer"));
    assert!(failed(&[1, 2]).silent(&[2]).waits().contains("(1 answer)"));
}

#[test]
fn a_replica_that_is_only_silent_may_live_with_all_the_data() {
    // Stopped for a while, or cut off: the masters call it failed, and its port still takes connections.
    let world = World::new().is(3, EMPTY).silent(&[6]);
    let world = world.change(&[1, 2], 6, |node| node.flags = node.flags.with(Flag::Fail));
    let after = |asks| world.verdict(StartRule::new(seed(0), Origin::Redis, false, false, asks)).0;
    for asks in [0, SILENT_PATIENCE - 1] {
        assert!(matches!(after(asks), Verdict::Wait(why) if why.contains("silent")));
    }
    assert_eq!(after(SILENT_PATIENCE), EMPTIED);
}

#[test]
fn a_voter_that_imports_a_slot_from_the_dead_master_counts_although_it_still_shows_it_there() {
    let open = SlotMove { slot: 7, direction: Direction::Importing, peer: id(0) };
    let half_way = |moving: Option<SlotMove>| {
        let world = World::new().taken_over(&OTHERS, 3, 0);
        let world = world.change(&[1], 1, |node| node.moving.extend(moving));
        let mut one = SlotSet::new();
        one.insert(7..=7);
        world
            .change(&[1], 0, |node| node.slots = one.clone())
            .change(&[1], 3, |node| node.slots = &node.slots - &one)
    };
    assert!(
        matches!(half_way(Some(open)).of_master(), Verdict::Start { successor: Some(new), .. } if new == id(3))
    );
    assert!(matches!(half_way(None).of_master(), Verdict::Wait(_)));
}

#[test]
fn a_master_that_was_failed_over_comes_back_as_its_successors_replica() {
    let world = World::new().taken_over(&OTHERS, 3, 0);
    let Verdict::Start { conf: Some(conf), successor, emptied: false } = world.of_master() else {
        panic!("{:?}", world.of_master());
    };
    assert_eq!((successor, conf.myself().master), (Some(id(3)), Some(id(3))));
    assert_eq!((conf.myself().role(), conf.myself().slots.is_empty()), (Some(Role::Replica), true));
    let owner = conf.node(&id(3)).unwrap();
    assert_eq!(
        (owner.role(), &owner.slots, owner.config_epoch),
        (Some(Role::Master), &seed(0).myself().slots, 10)
    );
    assert_eq!((conf.current_epoch(), conf.last_vote_epoch()), (10, seed(0).last_vote_epoch()));
    // Most of its peers do not know it yet: then it would be fought over.
    let few = World::new().taken_over(&[3], 3, 0).is(6, EMPTY);
    assert!(few.waits().contains("took over, and 1 of 3 masters know it"), "{}", few.waits());
    // One replica says what it always said: the other one tells that there is more to ask.
    let slow = || World::new().taken_over(&[1, 2, 3], 3, 0);
    assert!(matches!(slow().of_master(), Verdict::Start { successor: Some(_), .. }));
    let hidden = slow().silent(&[3]).of_master();
    assert!(matches!(hidden, Verdict::Start { successor: Some(_), .. }));
}

#[test]
fn a_successor_that_the_file_does_not_know_is_found_through_the_others() {
    let mut world = World::new().taken_over(&OTHERS, 3, 0);
    let mut own = seed(0);
    // The file is of a time before 3 was there.
    own =
        NodesConf::new(own.nodes().iter().filter(|node| node.id != id(3)).cloned().collect(), 9, 0).unwrap();
    world.replication[6] = EMPTY;
    let (verdict, asked) = world.verdict(StartRule::new(own, Origin::Redis, false, false, 3));
    assert!(matches!(verdict, Verdict::Start { successor: Some(new), .. } if new == id(3)), "{verdict:?}");
    assert!(asked.contains(&3));
}

#[test]
fn a_replica_that_the_file_does_not_know_is_found_through_the_others() {
    let world =
        World::new().is(3, EMPTY).is(6, EMPTY).change(&[1, 2, 4], 4, |node| node.master = Some(id(0)));
    assert!(world.waits().contains(&id(4).to_string()));
}

#[test]
fn a_node_that_the_others_forgot_does_not_start() {
    let world = World::new().is(3, EMPTY).is(6, EMPTY).forgotten(&[1, 2], 0);
    assert_eq!(world.waits(), "replaced: 2 of 3 masters do not know this node any more, 0 do");
    let world = World::new().taken_over(&OTHERS, 3, 0).forgotten(&OTHERS, 0);
    let asked = world.verdict(StartRule::new(seed(0), Origin::Redis, false, true, 3)).0;
    assert!(matches!(&asked, Verdict::Wait(why) if why.starts_with("replaced: 3 of 3")), "{asked:?}");
}

#[test]
fn whoever_answers_at_the_address_must_be_who_is_asked() {
    let mut rule = StartRule::new(seed(0), Origin::Redis, false, false, 0);
    let Next::Ask(who) = rule.proceed() else { panic!() };
    let world = World::new();
    for (id, _) in who {
        // Another node has the address by now.
        rule.hear(id, Answer::Told(Box::new((world.view(5), EMPTY))));
    }
    while let Next::Ask(who) = rule.proceed() {
        for (id, _) in who {
            rule.hear(id, Answer::Silent);
        }
    }
    assert!(matches!(rule.proceed(), Next::Done(Verdict::Wait(why)) if why.contains("does not answer")));
}

#[test]
fn without_replicas_a_master_starts_whoever_answers() {
    let alone = |conf: NodesConf| {
        let nodes = conf.nodes().iter().filter(|node| node.role() == Some(Role::Master)).cloned();
        NodesConf::new(nodes.collect(), 3, 0).unwrap()
    };
    let gone: Vec<usize> = (0..9).collect();
    let rule = || StartRule::new(alone(seed(0)), Origin::Redis, false, true, 0);
    assert_eq!(World::new().silent(&gone).verdict(rule()).0, START);
    let taken = World::new().taken_over(&OTHERS, 3, 0);
    assert!(matches!(taken.verdict(rule()).0, Verdict::Start { successor: Some(_), .. }));
}

#[test]
fn a_seed_in_place_of_a_lost_file_is_brought_up_to_date_first() {
    let later = |me: u32, asks: u32| StartRule::new(seed(me), Origin::LaterSeed, false, false, asks);
    // A replica that was promoted, and lost its file: its seed says replica, and would leave the slots to nobody.
    let mut promoted = World::new().taken_over(&[0, 1, 2, 3, 4, 5, 6, 7, 8], 3, 0).silent(&[3]);
    promoted.answers[0] = true;
    let promoted = promoted.change(&[0, 1, 2, 4, 5, 6, 7, 8], 0, |node| {
        node.flags = node.flags.without(Flag::Master).with(Flag::Slave);
        node.master = Some(id(3));
    });
    let waits = promoted.verdict(later(3, 0)).0;
    assert!(matches!(&waits, Verdict::Wait(why) if why.contains(&id(0).to_string())), "{waits:?}");
    let emptied = promoted.is(0, EMPTY).verdict(later(3, 0)).0;
    let Verdict::Start { conf: Some(conf), successor: None, emptied: true } = emptied else {
        panic!("{emptied:?}")
    };
    assert_eq!((&conf.myself().slots, conf.myself().config_epoch), (&seed(0).myself().slots, 10));
    assert_eq!((conf.current_epoch(), conf.last_vote_epoch()), (10, 10));
    assert_eq!(conf.myself().address, seed(3).myself().address);
    // A master that was failed over.
    let over = World::new().taken_over(&OTHERS, 3, 0).verdict(later(0, 0)).0;
    let Verdict::Start { conf: Some(conf), emptied: false, .. } = over else { panic!("{over:?}") };
    assert_eq!((conf.myself().role(), conf.myself().master), (Some(Role::Replica), Some(id(3))));
    // Nobody answers: patience, then the seed is all there is.
    let nobody = World::new().silent(&[0, 1, 2, 3, 4, 5, 6, 7, 8]);
    assert!(matches!(nobody.verdict(later(3, 0)).0, Verdict::Wait(_)));
    assert!(matches!(nobody.verdict(later(3, PATIENCE)).0, Verdict::Start { conf: Some(_), .. }));
    assert!(matches!(nobody.verdict(later(0, PATIENCE)).0, Verdict::Wait(_)), "its replicas may live");
}

#[test]
fn a_seed_that_nobody_has_met_starts_unless_its_slots_are_taken() {
    let unmet = || World::new().forgotten(&[1, 2, 3, 4, 5, 6, 7, 8], 0).is(3, EMPTY).is(6, EMPTY);
    let later = || StartRule::new(seed(0), Origin::LaterSeed, false, false, 0);
    assert!(matches!(unmet().verdict(later()).0, Verdict::Start { emptied: true, .. }));
    let taken = unmet().taken_over(&OTHERS, 3, 0).verdict(later()).0;
    assert!(matches!(&taken, Verdict::Wait(why) if why.starts_with("replaced")), "{taken:?}");
    let replica = World::new().forgotten(&OTHERS, 4).verdict(StartRule::new(
        seed(4),
        Origin::LaterSeed,
        false,
        false,
        0,
    ));
    assert!(matches!(replica.0, Verdict::Start { conf: Some(_), .. }));
}

fn replications() -> impl Strategy<Value = Replication> {
    (any::<[bool; 5]>(), 0..3_u64, 0..3_u64).prop_map(
        |([is_replica, link_up, down, syncing, loading], served, keys)| Replication {
            is_replica,
            link_up: is_replica && link_up,
            link_down_seconds: (is_replica && !link_up && down).then_some(3),
            syncing,
            loading: loading && !syncing,
            syncs_served: served / 2,
            keys,
            ..EMPTY
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_world_makes_a_master_start_over_newer_data(
        answers in proptest::collection::vec(proptest::bool::weighted(0.8), 9),
        replication in proptest::collection::vec(replications(), 9),
        informed in proptest::collection::vec(any::<bool>(), 9),
        new in prop_oneof![Just(None), Just(Some(3_u32)), Just(Some(6))],
        failed in proptest::collection::vec((0..9_usize, 3..9_u32), 0..8),
        forgetful in proptest::collection::vec((1..9_usize, 0..9_u32), 0..4),
        moved in proptest::collection::vec((0..9_usize, 3..9_u32, 0..3_u32), 0..3),
        own_data: bool,
        asks in 0..9_u32,
        origin in prop_oneof![Just(Origin::Redis), Just(Origin::LaterSeed)],
    ) {
        let mut world = World { replication, answers, ..World::new() };
        world.answers[0] = false;
        if let Some(new) = new {
            let who: Vec<usize> =
                (1..9).filter(|number| informed[*number] || *number == new as usize).collect();
            world = world.taken_over(&who, new, 0);
        }
        for (who, of) in failed {
            world = world.change(&[who], of, |node| node.flags = node.flags.with(Flag::Fail));
        }
        for (who, of, to) in moved {
            world = world.change(&[who], of, |node| {
                if node.role() == Some(Role::Replica) {
                    node.master = Some(id(to));
                }
            });
        }
        for (who, gone) in forgetful.into_iter().filter(|(who, gone)| *who != *gone as usize) {
            world = world.forgotten(&[who], gone);
        }
        let rule = StartRule::new(seed(0), origin, false, own_data, asks);
        let (verdict, asked) = world.verdict(rule);
        let Verdict::Start { conf, successor, emptied } = verdict else { return Ok(()) };
        let now = conf.as_deref().cloned().unwrap_or_else(|| seed(0));
        prop_assert_eq!(now.myself().id, id(0));
        prop_assert_eq!(NodesConf::parse(now.to_string().as_bytes()), Ok(now.clone()));
        let own = seed(0);
        let mine = &own.myself().slots;
        if now.myself().role() == Some(Role::Replica) {
            let master = now.node(&now.myself().master.unwrap()).unwrap();
            prop_assert!(now.myself().slots.is_empty() && !emptied && master.id != id(0));
            prop_assert!(mine.is_subset(&master.slots) && master.config_epoch == 10);
            prop_assert!(successor.is_none() || successor == Some(master.id));
            // Never on the word of a few.
            let masters = [1, 2, 3, 6].into_iter().filter(|number| world.answers[*number]);
            let voters = masters.filter(|number| world.tables[*number].iter().any(|node| node.id == master.id && node.slots == *mine));
            prop_assert!(origin == Origin::LaterSeed || voters.count() >= 2);
            return Ok(());
        }
        if now.myself().slots.is_empty() {
            // Its slots are with somebody that nobody answering knows: it claims none, and harms none.
            prop_assert!(origin == Origin::LaterSeed && !emptied);
            return Ok(());
        }
        // It starts as the master: then no replica of its file that answers has its data, or its slots.
        prop_assert!(emptied != own_data && successor.is_none());
        for replica in [3_usize, 6] {
            let own = world.tables[replica].iter().find(|node| node.is_myself()).unwrap();
            if !world.answers[replica] {
                let gone = [1, 2].into_iter().filter(|number| {
                    let line = world.tables[*number].iter().find(|node| node.id == id(replica as u32));
                    world.answers[*number] && line.is_none_or(|node| node.flags.has(Flag::Fail))
                });
                let known = now.node(&id(replica as u32)).is_some_and(|node| node.master == Some(id(0)));
                prop_assert!(!known || gone.count() == 2, "{replica} may live");
                continue;
            }
            prop_assert!(asked.contains(&replica) || origin == Origin::LaterSeed);
            if own.master == Some(id(0)) && asked.contains(&replica) {
                prop_assert!(!world.replication[replica].holds_data());
                prop_assert!(own_data || world.replication[replica].keys == 0);
            }
            prop_assert!((&own.slots & mine).is_empty());
        }
    }
}
