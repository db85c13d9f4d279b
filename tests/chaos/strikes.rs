//! What breaks, and how it comes back.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use overlord_reconcile::{Clock as _, SystemClock};
use overlord_tests::{
    Sandbox, Tapped, Watch, cluster_faults, disarm, eventually,
    manifest::address,
    name_of, signal,
    tap::{Held, Point, Tape, Way},
};
use rand::{
    Rng as _,
    rngs::SmallRng,
    seq::{IndexedRandom as _, SliceRandom as _},
};
use rustix::process::Signal;
use tokio::task::JoinSet;

use crate::user::{MASTERS, RING};

/// Agents of the sandbox.
const AGENTS: u8 = 6;

/// Milliseconds that something is away, at least and at most: the shortest outlive no lease, the longest do.
const AWAY: std::ops::Range<u64> = 200..6000;

/// How long a launch that is to be held is waited for.
const HELD_WITHIN: Duration = Duration::from_secs(5);

/// After a member of the redis cluster was struck, the next one is spared for so long: it takes a moment until
/// the cluster itself knows.
const RING_REST: Duration = Duration::from_secs(5);

/// Everything that can happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Strike {
    KillLeader,
    KillStandby,
    /// SIGTERM.
    EndLeader,
    PauseLeader,
    PauseStandby,
    /// Its connections to etcd stay, and nothing goes through.
    MuteLeader,
    /// Its connections to the master end.
    CutLeaderFromMesos,
    /// A write is done, and its writer never hears of it.
    LoseAnswer,
    /// The record of a launch is held up on its way to etcd, and its sender is stopped.
    HoldIntent,
    /// A launch is held up on its way to the master, and its sender is stopped.
    HoldLaunch,
    KillExecutor,
    PauseExecutor,
    KillServer,
    PauseServer,
    RestartAgent,
    LoseAgent,
    KillAgent,
    PartitionAgent,
    DrainAgent,
    FailOverMaster,
    SlowMaster,
    DropUpdates,
    DelayUpdates,
    DuplicateUpdates,
    DropKills,
    RescindOffers,
    KillEtcd,
    PauseEtcd,
    /// It raises the alarm that its space is used up, and takes no writes.
    FillEtcd,
    /// Nothing more can be written to the disk of an agent, until the round ends.
    FillDisk,
}

impl Strike {
    /// Once each, and those twice that leaders and etcd suffer.
    pub(crate) const DECK: [Self; 35] = [
        Self::KillLeader,
        Self::KillLeader,
        Self::KillStandby,
        Self::EndLeader,
        Self::PauseLeader,
        Self::PauseLeader,
        Self::PauseStandby,
        Self::MuteLeader,
        Self::CutLeaderFromMesos,
        Self::LoseAnswer,
        Self::HoldIntent,
        Self::HoldLaunch,
        Self::KillExecutor,
        Self::KillExecutor,
        Self::PauseExecutor,
        Self::KillServer,
        Self::KillServer,
        Self::PauseServer,
        Self::RestartAgent,
        Self::LoseAgent,
        Self::KillAgent,
        Self::PartitionAgent,
        Self::DrainAgent,
        Self::FailOverMaster,
        Self::SlowMaster,
        Self::DropUpdates,
        Self::DelayUpdates,
        Self::DuplicateUpdates,
        Self::DropKills,
        Self::RescindOffers,
        Self::KillEtcd,
        Self::KillEtcd,
        Self::PauseEtcd,
        Self::FillEtcd,
        Self::FillDisk,
    ];

    /// The fault that keeps an agent away, and what mends it.
    const fn away(self) -> Option<(&'static str, &'static str)> {
        Some(match self {
            Self::LoseAgent => ("agent-lost", "agent-return"),
            Self::KillAgent => ("agent-kill", "agent-return"),
            Self::PartitionAgent => ("partition", "heal"),
            Self::DrainAgent => ("drain", "reactivate"),
            _ => return None,
        })
    }
}

/// What was struck, and what is not whole yet.
pub(crate) struct Strikes {
    pub(crate) pair: Vec<Tapped>,
    pub(crate) counts: BTreeMap<Strike, u64>,
    tape: Tape,
    deck: VecDeque<Strike>,
    /// Agents that are away, with what mends them.
    away: BTreeMap<u8, &'static str>,
    /// What is to be held, and the process that is stopped then.
    held: Option<(u32, Held)>,
    /// What goes on by itself after a while.
    later: JoinSet<()>,
    clock: SystemClock,
    ring_struck: Option<Duration>,
    /// Agents whose updates come late.
    late: Vec<u8>,
    /// The agent whose disk is full. What a server has taken and could not write dies with it: nothing of that
    /// agent is killed.
    full: Option<u8>,
}

impl Strikes {
    pub(crate) async fn start(sandbox: &mut Sandbox, tape: &Tape) -> Self {
        let pair = vec![sandbox.spawn_tapped(tape).await, sandbox.spawn_tapped(tape).await];
        sandbox.leading(&pair).await;
        Self {
            pair,
            counts: BTreeMap::new(),
            tape: tape.clone(),
            deck: VecDeque::new(),
            away: BTreeMap::new(),
            held: None,
            later: JoinSet::new(),
            clock: SystemClock::new(),
            ring_struck: None,
            late: Vec::new(),
            full: None,
        }
    }

    /// APIs of all controllers.
    pub(crate) fn apis(&self) -> Vec<String> {
        self.pair.iter().map(|tapped| tapped.api().to_owned()).collect()
    }

    /// One strike; what was done. `None`: it spares who would suffer it now.
    pub(crate) async fn strike(
        &mut self,
        sandbox: &mut Sandbox,
        watch: &Watch,
        rng: &mut SmallRng,
    ) -> (Strike, Option<String>) {
        if self.deck.is_empty() {
            let mut deck = Strike::DECK.to_vec();
            deck.shuffle(rng);
            self.deck = deck.into();
        }
        let strike = self.deck.pop_front().unwrap();
        let agent = rng.random_range(1..=AGENTS);
        let pause = rng.random_range(AWAY);
        let said = match strike {
            Strike::KillLeader
            | Strike::KillStandby
            | Strike::EndLeader
            | Strike::PauseLeader
            | Strike::PauseStandby
            | Strike::MuteLeader
            | Strike::CutLeaderFromMesos
            | Strike::LoseAnswer
            | Strike::HoldIntent
            | Strike::HoldLaunch => self.controller(strike, sandbox, pause).await,
            Strike::KillExecutor | Strike::PauseExecutor | Strike::KillServer | Strike::PauseServer => {
                self.process(strike, sandbox, pause, rng).await
            }
            Strike::KillEtcd | Strike::PauseEtcd => {
                let (word, what) = if strike == Strike::KillEtcd {
                    ("etcd-kill", "etcd is killed")
                } else {
                    ("etcd-pause", "etcd is stopped")
                };
                order(sandbox, &[word, &pause.to_string()]).await;
                Some(format!("{what} for {pause} ms"))
            }
            Strike::FillEtcd => {
                let etcd = sandbox.etcd();
                sandbox.fill_etcd().await.ok().map(|()| {
                    self.later.spawn(async move {
                        tokio::time::sleep(Duration::from_millis(pause)).await;
                        disarm(&etcd).await;
                    });
                    format!("etcd has no space for {pause} ms")
                })
            }
            Strike::FillDisk => self.fill_disk(sandbox, agent).await,
            Strike::FailOverMaster => {
                (1..=AGENTS).for_each(|agent| watch.shake(agent));
                let pause = pause.min(2000);
                order(sandbox, &["master-failover", &pause.to_string()]).await;
                Some(format!("the master dies, the next one leads after {pause} ms"))
            }
            Strike::SlowMaster => {
                order(sandbox, &["slow", "150"]).await;
                Some("the master answers 150 ms late".to_owned())
            }
            _ => self.agent(strike, sandbox, watch, agent).await,
        };
        if said.is_some() {
            *self.counts.entry(strike).or_default() += 1;
        }
        (strike, said)
    }

    async fn controller(&mut self, strike: Strike, sandbox: &mut Sandbox, pause: u64) -> Option<String> {
        let leader = sandbox.leader().await;
        let at = self.pair.iter().position(|tapped| tapped.api() == leader)?;
        let of_standby = matches!(strike, Strike::KillStandby | Strike::PauseStandby);
        let at = if of_standby { 1 - at } else { at };
        let tapped = &self.pair[at];
        let (pid, api) = (tapped.controller.pid(), tapped.api().to_owned());
        let time = Duration::from_millis(pause);
        match strike {
            Strike::KillLeader | Strike::KillStandby => {
                signal(pid, Signal::KILL);
                let next = sandbox.spawn_tapped(&self.tape).await;
                std::mem::replace(&mut self.pair[at], next).controller.kill().await;
                Some(format!("{api} is killed; another one starts"))
            }
            Strike::EndLeader => {
                let next = sandbox.spawn_tapped(&self.tape).await;
                std::mem::replace(&mut self.pair[at], next).controller.stop().await;
                Some(format!("{api} is told to end; another one starts"))
            }
            Strike::PauseLeader | Strike::PauseStandby => {
                tapped.pause();
                self.wake(pid, time);
                Some(format!("{api} is stopped for {pause} ms"))
            }
            Strike::MuteLeader => {
                tapped.etcd.set(Way::Silent);
                Some(format!("nothing goes through between {api} and etcd"))
            }
            Strike::CutLeaderFromMesos => {
                tapped.mesos.set(Way::Cut);
                Some(format!("{api} is cut off from the master"))
            }
            Strike::LoseAnswer => {
                tapped.etcd.lose_answers(1);
                Some(format!("{api} does not hear of its next write"))
            }
            Strike::HoldIntent => {
                self.held = Some((pid, tapped.etcd.hold(Point::IntentAsked)));
                Some(format!("the next record of a launch by {api} is held up, and it is stopped then"))
            }
            _ => {
                self.held = Some((pid, tapped.mesos.hold(Point::AcceptAsked)));
                Some(format!("the next launch by {api} is held up, and it is stopped then"))
            }
        }
    }

    /// The process goes on after a while.
    fn wake(&mut self, pid: u32, time: Duration) {
        self.later.spawn(async move {
            tokio::time::sleep(time).await;
            signal(pid, Signal::CONT);
        });
    }

    async fn process(
        &mut self,
        strike: Strike,
        sandbox: &Sandbox,
        pause: u64,
        rng: &mut SmallRng,
    ) -> Option<String> {
        let servers = sandbox.servers();
        let (server, line) = servers.choose(rng)?.clone();
        let dir = std::fs::read_link(format!("/proc/{server}/cwd")).ok()?;
        let of_ring = dir.iter().any(|part| part == "redis_cluster");
        let deadly = strike != Strike::PauseExecutor;
        if deadly && self.full.is_some_and(|full| dir.starts_with(sandbox.agent_data(full))) {
            return None;
        }
        if of_ring && deadly && !self.ring_may_suffer(sandbox).await {
            return None;
        }
        let executors = sandbox.executors();
        let parent = overlord_tests::parent_of(server).filter(|parent| executors.contains(parent));
        let name = format!("{} {server} in {}", name_of(&line), place(&dir));
        match strike {
            Strike::KillServer => {
                signal(server, Signal::KILL);
                Some(format!("{name} is killed"))
            }
            Strike::PauseServer => {
                signal(server, Signal::STOP);
                self.wake(server, Duration::from_millis(pause));
                Some(format!("{name} is stopped for {pause} ms"))
            }
            Strike::KillExecutor => {
                signal(parent?, Signal::KILL);
                Some(format!("the executor of {name} is killed"))
            }
            _ => {
                let executor = parent?;
                signal(executor, Signal::STOP);
                self.wake(executor, Duration::from_millis(pause));
                Some(format!("the executor of {name} is stopped for {pause} ms"))
            }
        }
    }

    /// No two of a shard are struck at once: what both have, and nobody else, would be lost by that.
    async fn ring_may_suffer(&mut self, sandbox: &Sandbox) -> bool {
        let now = self.clock.monotonic();
        if self.full.is_some() || self.ring_struck.is_some_and(|struck| now < struck + RING_REST) {
            return false;
        }
        let infos = sandbox.infos(RING).await;
        let addresses: Vec<String> = infos.iter().map(address).collect();
        let well = addresses.len() == usize::from(MASTERS) * 2
            && cluster_faults(&addresses, usize::from(MASTERS)).await.is_ok();
        if well {
            self.ring_struck = Some(self.clock.monotonic());
        }
        well
    }

    /// A member of the redis cluster that cannot write its topology down may end itself.
    async fn fill_disk(&mut self, sandbox: &Sandbox, agent: u8) -> Option<String> {
        let spared = self.full.is_some()
            || self.away.contains_key(&agent)
            || (runs_ring(sandbox, agent).await && !self.ring_may_suffer(sandbox).await);
        if spared || !sandbox.fill_disk(agent) {
            return None;
        }
        self.full = Some(agent);
        Some(format!("the disk of {} is full", name(agent)))
    }

    async fn agent(&mut self, strike: Strike, sandbox: &Sandbox, watch: &Watch, agent: u8) -> Option<String> {
        let name = name(agent);
        if self.away.contains_key(&agent) && (strike == Strike::RestartAgent || strike.away().is_some()) {
            return None;
        }
        let word = match strike {
            Strike::DropUpdates => "drop-updates",
            Strike::DuplicateUpdates => "duplicate-updates",
            Strike::DropKills => "drop-kills",
            Strike::RescindOffers => "rescind",
            Strike::DelayUpdates => {
                order(sandbox, &["delay-updates", &name, "1500"]).await;
                self.late.push(agent);
                return Some(format!("updates of {name} come 1500 ms late"));
            }
            Strike::RestartAgent => {
                watch.shake(agent);
                order(sandbox, &["agent-restart", &name]).await;
                return Some(format!("{name} restarts"));
            }
            _ => {
                let (word, mend) = strike.away()?;
                // Its tasks are ended: as deadly as a kill.
                if strike == Strike::DrainAgent
                    && (self.full == Some(agent)
                        || (runs_ring(sandbox, agent).await && !self.ring_may_suffer(sandbox).await))
                {
                    return None;
                }
                watch.shake(agent);
                self.away.insert(agent, mend);
                ask(sandbox, word, agent).await;
                return Some(format!("{name} is away: {word}"));
            }
        };
        order(sandbox, &[word, &name]).await;
        Some(format!("{word} of {name}"))
    }

    /// Waits for the launch that is to be held, and stops its sender for longer than its lease.
    pub(crate) async fn stop_who_is_held(&mut self, lease: u64) -> Option<String> {
        let (pid, held) = self.held.take()?;
        tokio::time::timeout(HELD_WITHIN, held.reached()).await.ok()?;
        signal(pid, Signal::STOP);
        let time = Duration::from_secs(lease) + Duration::from_millis(1500);
        self.later.spawn(async move {
            tokio::time::sleep(time).await;
            // It arrives before its sender does anything else.
            held.release();
            signal(pid, Signal::CONT);
        });
        Some(format!("it is there: process {pid} is stopped for {time:?}"))
    }

    /// Brings everything back.
    pub(crate) async fn mend(&mut self, sandbox: &mut Sandbox) {
        self.held = None;
        while self.later.join_next().await.is_some() {}
        for tapped in &self.pair {
            tapped.etcd.set(Way::Open);
            tapped.etcd.lose_answers(0);
            tapped.mesos.set(Way::Open);
        }
        for (agent, mend) in std::mem::take(&mut self.away) {
            ask(sandbox, mend, agent).await;
        }
        for agent in std::mem::take(&mut self.late) {
            order(sandbox, &["delay-updates", &name(agent), "0"]).await;
        }
        if let Some(full) = self.full.take() {
            sandbox.empty_disk(full);
        }
        order(sandbox, &["slow", "0"]).await;
        sandbox.leading(&self.pair).await;
    }

    /// Controllers that ended by themselves.
    pub(crate) fn ended(&mut self) -> Vec<String> {
        let of = |tapped: &mut Tapped| {
            let status = tapped.controller.ended()?;
            Some(format!("{} ended by itself: {status}", tapped.api()))
        };
        self.pair.iter_mut().filter_map(of).collect()
    }

    /// Ends the controllers in order.
    pub(crate) async fn end(self) {
        for tapped in self.pair {
            tapped.controller.stop().await;
        }
    }
}

fn name(agent: u8) -> String {
    format!("agent-{agent}")
}

/// Whether a member of the redis cluster is there.
async fn runs_ring(sandbox: &Sandbox, agent: u8) -> bool {
    sandbox.infos(RING).await.iter().any(|info| sandbox.agent_at(&address(info)) == agent)
}

/// A working directory from its agent on.
fn place(dir: &std::path::Path) -> String {
    let parts: Vec<_> = dir.iter().map(|part| part.to_string_lossy()).collect();
    let from = parts.iter().position(|part| part.starts_with("agent-")).unwrap_or_default();
    parts[from..].join("/")
}

/// `overlord sandbox fault`, until it is taken: who asks for a drain or its end needs a master that leads, and an
/// agent that is being drained must have been before it is offered again.
async fn ask(sandbox: &Sandbox, word: &str, agent: u8) {
    let name = name(agent);
    eventually(&format!("{word} of {name}"), || async {
        let output = sandbox.run(&["sandbox", "fault", word, &name]).await;
        if output.status.success() {
            Ok(())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    })
    .await;
}

/// `overlord sandbox fault`
async fn order(sandbox: &Sandbox, words: &[&str]) {
    sandbox.ok(&[&["sandbox", "fault"], words].concat()).await;
}
