//! Random walks: whatever happens, in whatever order, the keeper never does what it must never do, and
//! a KILL always leads to an end.

use overlord_api::{Info, Kind, OnAgentLoss, State};
use proptest::prelude::*;

use super::*;
use crate::Ended;

const TASK: &str = "01234567.3.1.9";

fn address() -> Address {
    "127.0.0.1:20001".parse().unwrap()
}

/// A host and an etcd that answer when they like.
struct World {
    keeper: Keeper,
    /// Effects that an answer is due for.
    pending: Vec<Effect>,
    alive: Option<u32>,
    run: u64,
    /// The start that the gate has allowed.
    cleared: Option<u64>,
    applying: bool,
    next_pid: u32,
    info: Info,
    conf: String,
    last: Option<Status>,
    /// The same report may come once more.
    again: bool,
    finished: bool,
}

impl World {
    fn new(seed: u64, kind: Kind) -> Self {
        Self {
            keeper: Keeper::new(Limits::default(), seed),
            pending: Vec::new(),
            alive: None,
            run: 0,
            cleared: None,
            applying: false,
            next_pid: 100,
            info: crate::instance::tests::info(kind, address(), TASK),
            conf: "a 1".to_owned(),
            last: None,
            again: false,
            finished: false,
        }
    }

    fn step(&mut self, input: Input) {
        for effect in self.keeper.step(input) {
            assert!(!self.finished, "after the end: {effect:?}");
            match &effect {
                Effect::Report { status, .. } => self.check_report(status),
                Effect::Start { run, .. } => {
                    assert!(self.alive.is_none(), "a second process");
                    assert!(
                        !self.pending.iter().any(|e| matches!(e, Effect::Start { .. })),
                        "two starts at once"
                    );
                    assert!(!self.applying, "a start in the middle of a change");
                    assert!(*run > self.run);
                    self.run = *run;
                    let cleared = self.cleared.take();
                    assert_eq!(cleared, self.is_cluster().then_some(*run), "a start that nothing allows");
                }
                Effect::Gate { run, .. } => {
                    assert!(self.is_cluster() && self.alive.is_none() && *run > self.run);
                    let asked = self
                        .pending
                        .iter()
                        .any(|e| matches!(e, Effect::Gate { run: other, .. } if other == run));
                    assert!(!asked, "asked twice at once");
                    self.cleared = None;
                }
                Effect::Apply { .. } => {
                    assert!(!self.applying, "two changes at once");
                    self.applying = true;
                }
                Effect::Signal { pid, .. } => assert_eq!(self.alive, Some(*pid), "a signal to a stranger"),
                Effect::CleanUp { .. } => {
                    assert!(self.alive.is_none() && !self.applying, "cleaned up under a server");
                }
                Effect::AbandonPrepare => self.pending.retain(|e| !matches!(e, Effect::Prepare { .. })),
                Effect::Finish => {
                    assert!(self.alive.is_none(), "a server is left behind");
                    self.finished = true;
                }
                Effect::Read { .. } | Effect::Prepare { .. } | Effect::Probe { .. } | Effect::Arm { .. } => {}
            }
            self.pending.push(effect);
        }
        self.pending.retain(|effect| {
            !matches!(
                effect,
                Effect::Report { .. } | Effect::Signal { .. } | Effect::AbandonPrepare | Effect::Finish
            )
        });
    }

    fn is_cluster(&self) -> bool {
        self.info.kind == Kind::RedisCluster
    }

    fn check_report(&mut self, status: &Status) {
        if let Some(last) = &self.last {
            assert!(self.again || last != status, "a report without a change: {status:?}");
            let terminal = matches!(last.state, TaskState::Failed | TaskState::Killed);
            assert!(!terminal, "a report after the last one");
            assert!(
                status.state != TaskState::Starting || last.state == TaskState::Starting,
                "back to the start"
            );
            assert!(status.report.restart >= last.report.restart);
            assert!(status.report.emptied >= last.report.emptied);
        }
        if status.report.state == State::Running {
            assert_eq!(status.report.pid, self.alive, "running without a process");
        }
        if matches!(status.state, TaskState::Failed | TaskState::Killed) {
            assert!(self.alive.is_none(), "an end is reported while the server lives");
        }
        self.last = Some(status.clone());
        self.again = false;
    }

    /// Answers one thing that is due; `mood` 0 is the bad answer.
    fn answer(&mut self, which: usize, mood: u8) {
        if self.pending.is_empty() {
            return;
        }
        let bad = mood == 0;
        let why = || "bad luck".to_owned();
        let input = match self.pending.remove(which % self.pending.len()) {
            Effect::Read { number, .. } => {
                let keys = Keys { info: self.info.clone(), server_conf: self.conf.clone(), nodes_conf: None };
                let gone = mood == 1 && self.keeper.phase != Phase::Reading;
                Input::Read { number, keys: if bad { Err(why()) } else { Ok((!gone).then_some(keys)) } }
            }
            Effect::Prepare { .. } => Input::Prepared(if bad { Err(why()) } else { Ok(()) }),
            Effect::Gate { run, .. } => {
                let clearance = match mood {
                    0 => Err(why()),
                    1 | 2 => Ok(Clearance::Wait(why())),
                    _ => {
                        self.cleared = Some(run);
                        let nodes_conf = (mood == 4).then(|| "nodes".to_owned());
                        Ok(Clearance::Start { nodes_conf, emptied: mood == 5, note: String::new() })
                    }
                };
                Input::Gated { run, clearance }
            }
            Effect::Start { run, .. } if bad => Input::Started { run, pid: Err(why()) },
            Effect::Start { run, .. } => {
                self.next_pid += 1;
                self.alive = Some(self.next_pid);
                Input::Started { run, pid: Ok(self.next_pid) }
            }
            Effect::Probe { run, .. } => {
                let role = (mood > 2).then(|| "master".to_owned());
                let health = Health { serving: mood > 1, role, ..Health::default() };
                Input::Probed { run, health: if bad { Err(why()) } else { Ok(health) } }
            }
            Effect::Apply { .. } => {
                self.applying = false;
                Input::Applied(match mood {
                    0 => Applied::Failed(why()),
                    1 => Applied::Refused(why()),
                    _ => Applied::Accepted { needs_restart: mood.is_multiple_of(2) },
                })
            }
            Effect::Arm { timer, number, .. } => Input::Elapsed(timer, number),
            Effect::CleanUp { .. } => Input::CleanedUp,
            Effect::Report { .. } | Effect::Signal { .. } | Effect::AbandonPrepare | Effect::Finish => return,
        };
        self.step(input);
    }

    fn die(&mut self) {
        if self.alive.take().is_some() {
            let exit = Exit { how: Ended::Status(1), console: String::new() };
            self.step(Input::Exited { run: self.run, exit });
        }
    }

    fn happen(&mut self, what: u8, which: usize, mood: u8) {
        match what {
            0 => self.die(),
            1 => {
                self.info.desired.config += 1;
                self.conf = format!("a {mood}");
                self.step(Input::Nudge);
            }
            2 => {
                self.info.desired.restart += u64::from(mood % 2);
                self.step(Input::Nudge);
            }
            3 => {
                self.again = mood > 0;
                self.step(Input::Subscribed { all_told: mood > 0 });
                self.again = false;
            }
            4 if mood == 5 => self.step(Input::Disowned("not known".to_owned())),
            4 => {
                let waited = std::time::Duration::from_secs(900);
                self.step(Input::AgentLost(AgentLoss { waited, recoverable: mood > 0 }));
            }
            5 if which == 0 => self.info.on_agent_loss = OnAgentLoss::Stop,
            5 => self.step(Input::LaunchGroup(Vec::new())),
            _ => self.answer(which, mood),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn no_order_of_events_breaks_the_rules(
        seed: u64,
        events in proptest::collection::vec((0u8..16, 0usize..16, 0u8..6), 0..120),
        shutdown: bool,
        kind in prop_oneof![Just(Kind::Redis), Just(Kind::RedisCluster)],
    ) {
        let mut world = World::new(seed, kind);
        let cluster = ClusterName::new("orders").unwrap();
        let task = Task { id: TASK.to_owned(), cluster, address: address(), grace: None };
        world.step(Input::Launch(TASK.to_owned(), Ok(task)));
        for (what, which, mood) in events {
            if world.finished {
                return Ok(());
            }
            world.happen(what, which, mood);
        }
        if world.finished {
            return Ok(());
        }
        world.step(if shutdown { Input::Shutdown } else { Input::Kill { task_id: TASK.to_owned(), grace: None } });
        for _ in 0..1000 {
            if world.finished {
                break;
            }
            world.die();
            world.answer(0, 3);
        }
        prop_assert!(world.finished, "no end in {:?}", world.keeper);
    }
}
