//! Scripts: what happens to a world, and when. Written by hand or drawn from a seed.

use std::{fmt, time::Duration};

use rand::{Rng as _, SeedableRng as _, rngs::SmallRng, seq::IndexedRandom as _};

use crate::{
    machine::REFUSED,
    net::Peer,
    pool::{NAMES, Pool},
    world::{AGENTS, World},
};

/// One thing that happens.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    Create(&'static str, u32),
    KillProcess(u32),
    KillExecutor(u32),
    FailStarts(u32),
    /// Until [`Event::AgentReturns`]; the flag says that it stays away for longer than `replaceAfter`.
    AgentLost(u8, bool),
    AgentReturns(u8),
    AgentRestart(u8),
    AgentRenewed(u8),
    // The numbers choose among what is declared.
    ConfigLive(u32),
    ConfigRefused(u32),
    ConfigRestart(u32),
    ScaleOut(u32),
    ScaleIn(u32),
    ControllerCrash,
    ControllerStop,
    ControllerStart,
    ControllerStandby,
    ControllerCutOff(Duration),
    Delete(u32),
    StoreAway(Duration),
    StoreLossy(u32),
    StoreReliable,
    StoreCompacted,
    MesosCut,
    MesosLossy(u32),
    MesosReliable,
}

/// The kinds of event that a run counts, as they are printed.
pub(crate) const KINDS: [&str; 24] = [
    "create redis",
    "create memcache",
    "kill process",
    "kill executor",
    "failing starts",
    "agent lost for a while",
    "agent lost for long",
    "agent restart",
    "agent renewed",
    "config live",
    "config refused",
    "config by restart",
    "scale out",
    "scale in",
    "controller crash",
    "controller stop",
    "controller standby",
    "controller cut off",
    "delete",
    "store away",
    "store calls lost",
    "store compacted",
    "mesos connection cut",
    "mesos calls lost",
];

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Events with their times, in order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Script(pub(crate) Vec<(Duration, Event)>);

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(at, event)| writeln!(f, "{:>9.3} s  {event}", at.as_secs_f64()))
    }
}

fn millis(rng: &mut SmallRng, least: u64, most: u64) -> Duration {
    Duration::from_millis(rng.random_range(least..=most))
}

/// Things happen together, shortly after each other, or apart.
fn gap(rng: &mut SmallRng) -> Duration {
    match rng.random_range(0..10) {
        0..4 => millis(rng, 0, 80),
        4..8 => millis(rng, 80, 5_000),
        _ => millis(rng, 5_000, 60_000),
    }
}

impl Script {
    /// The script of a seed. What breaks is mended by its end, except what the controllers must mend.
    pub(crate) fn of_seed(seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed ^ 0x5c21_9700);
        let mut events: Vec<(Duration, Event)> = vec![(Duration::ZERO, Event::ControllerStart)];
        let mut names = NAMES.to_vec();
        let first = names.swap_remove(rng.random_range(0..2));
        let second = names.swap_remove(rng.random_range(1..3));
        let mut at = millis(&mut rng, 0, 500);
        for name in [first, second] {
            events.push((at, Event::Create(name, rng.random_range(1..=3))));
            at += gap(&mut rng);
        }
        for _ in 0..rng.random_range(8..=22) {
            at += gap(&mut rng);
            draw(&mut rng, at, &mut events);
        }
        events.sort_by_key(|(at, _)| *at);
        Self(events)
    }
}

/// Draws one event, and what undoes it.
fn draw(rng: &mut SmallRng, at: Duration, events: &mut Vec<(Duration, Event)>) {
    let name = *NAMES.choose(rng).unwrap_or(&NAMES[0]);
    let agent = rng.random_range(0..AGENTS);
    let number = rng.random_range(0..1000);
    let mut push = |after: Duration, event: Event| events.push((at + after, event));
    match rng.random_range(0..52) {
        0..3 => push(Duration::ZERO, Event::Create(name, rng.random_range(1..=3))),
        3..8 => push(Duration::ZERO, Event::KillProcess(number)),
        8..12 => push(Duration::ZERO, Event::KillExecutor(number)),
        12..14 => push(Duration::ZERO, Event::FailStarts(rng.random_range(1..=5))),
        14..17 => {
            push(Duration::ZERO, Event::AgentLost(agent, false));
            push(millis(rng, 500, 50_000), Event::AgentReturns(agent));
        }
        17..20 => {
            push(Duration::ZERO, Event::AgentLost(agent, true));
            push(millis(rng, 90_000, 200_000), Event::AgentReturns(agent));
        }
        20..22 => push(Duration::ZERO, Event::AgentRestart(agent)),
        22..23 => push(Duration::ZERO, Event::AgentRenewed(agent)),
        23..26 => push(Duration::ZERO, Event::ConfigLive(number)),
        26..28 => {
            push(Duration::ZERO, Event::ConfigRefused(number));
            push(gap(rng), Event::ConfigLive(number));
        }
        28..30 => push(Duration::ZERO, Event::ConfigRestart(number)),
        30..33 => push(Duration::ZERO, Event::ScaleOut(number)),
        33..35 => push(Duration::ZERO, Event::ScaleIn(number)),
        35..38 => {
            push(Duration::ZERO, Event::ControllerCrash);
            push(gap(rng), Event::ControllerStart);
        }
        38..39 => {
            push(Duration::ZERO, Event::ControllerStop);
            push(gap(rng), Event::ControllerStart);
        }
        39..41 => push(Duration::ZERO, Event::Delete(number)),
        41..42 => push(Duration::ZERO, Event::StoreAway(gap(rng))),
        42..43 => {
            push(Duration::ZERO, Event::StoreLossy(rng.random_range(10..60)));
            push(millis(rng, 100, 20_000), Event::StoreReliable);
        }
        43..44 => push(Duration::ZERO, Event::StoreCompacted),
        45..47 => push(Duration::ZERO, Event::ControllerStandby),
        47..49 => {
            push(Duration::ZERO, Event::ControllerStandby);
            push(gap(rng), Event::ControllerCutOff(millis(rng, 1_000, 40_000)));
        }
        44..45 => push(Duration::ZERO, Event::MesosCut),
        _ => {
            push(Duration::ZERO, Event::MesosLossy(rng.random_range(10..60)));
            push(millis(rng, 100, 30_000), Event::MesosReliable);
        }
    }
}

impl World {
    /// Plays a script. Whatever it leaves broken is mended behind it.
    pub(crate) async fn play(&mut self, script: &Script) -> Result<(), String> {
        for (at, event) in &script.0 {
            self.pass(at.saturating_sub(self.trace.now())).await;
            if let Some(kind) = self.happen(event).await {
                self.trace.count(kind);
            }
            if let Some(violation) = self.trace.violated() {
                return Err(violation);
            }
        }
        self.mend().await;
        Ok(())
    }

    async fn mend(&mut self) {
        self.net.mend();
        self.hosts.fail_starts(0);
        for agent in 0..AGENTS {
            self.return_agent(agent);
        }
        self.ensure_controller();
        let refused =
            self.pools.values().filter(|pool| pool.config.get(REFUSED.0).is_some_and(|v| v == REFUSED.1));
        for pool in refused.cloned().collect::<Vec<_>>() {
            self.apply(pool.with(REFUSED.0, 7)).await;
        }
    }

    /// Lets an event happen. The kind it counts as, if it could happen at all.
    async fn happen(&mut self, event: &Event) -> Option<&'static str> {
        match *event {
            Event::Create(name, members) if !self.pools.contains_key(name) => {
                let pool = Pool::new(name, members);
                let kind = pool.kind;
                self.apply(pool).await;
                Some(if kind == overlord_api::Kind::Memcache { "create memcache" } else { "create redis" })
            }
            Event::Create(..) => None,
            Event::KillProcess(number) => self.kill_process(number).map(|_| "kill process"),
            Event::KillExecutor(number) => self.kill_executor(number).then_some("kill executor"),
            Event::FailStarts(number) => {
                self.trace.line(format!("the next {number} starts fail"));
                self.hosts.fail_starts(number);
                Some("failing starts")
            }
            Event::AgentLost(agent, long) => {
                let kind = if long { "agent lost for long" } else { "agent lost for a while" };
                self.lose_agent(agent).then_some(kind)
            }
            Event::AgentReturns(agent) => {
                self.return_agent(agent);
                None
            }
            Event::AgentRestart(agent) => self.restart_agent(agent).then_some("agent restart"),
            Event::AgentRenewed(agent) => self.renew_agent(agent).then_some("agent renewed"),
            Event::ConfigLive(_)
            | Event::ConfigRefused(_)
            | Event::ConfigRestart(_)
            | Event::ScaleOut(_)
            | Event::ScaleIn(_) => self.edit(event).await,
            Event::ControllerCrash => self.crash_controller().await.then_some("controller crash"),
            Event::ControllerStop => self.stop_controller().await.then_some("controller stop"),
            Event::ControllerStart => {
                self.ensure_controller();
                None
            }
            Event::ControllerStandby => self.start_standby().then_some("controller standby"),
            Event::ControllerCutOff(time) => self.cut_controller_off(time).then_some("controller cut off"),
            Event::Delete(number) => {
                let name = self.declared(number)?.name;
                self.delete(name).await.then_some("delete")
            }
            Event::StoreAway(time) => {
                self.cut_store_off(time);
                Some("store away")
            }
            Event::StoreLossy(percent) => {
                self.trace.line(format!("{percent} % of the calls to the store get lost"));
                self.net.set_loss(Peer::Store, percent);
                Some("store calls lost")
            }
            Event::StoreReliable => {
                self.net.set_loss(Peer::Store, 0);
                None
            }
            Event::StoreCompacted => {
                self.compact().await;
                Some("store compacted")
            }
            Event::MesosCut => {
                self.trace.line("the connection to Mesos breaks");
                self.net.cut_mesos();
                Some("mesos connection cut")
            }
            Event::MesosLossy(percent) => {
                self.trace.line(format!("{percent} % of the calls to Mesos get lost"));
                self.net.set_loss(Peer::Mesos, percent);
                Some("mesos calls lost")
            }
            Event::MesosReliable => {
                self.net.set_loss(Peer::Mesos, 0);
                None
            }
        }
    }

    /// A declared pool.
    fn declared(&self, number: u32) -> Option<&Pool> {
        self.pools.values().nth(number as usize % self.pools.len().max(1))
    }

    /// Edits a declared pool.
    async fn edit(&mut self, event: &Event) -> Option<&'static str> {
        let (&Event::ConfigLive(n)
        | &Event::ConfigRefused(n)
        | &Event::ConfigRestart(n)
        | &Event::ScaleOut(n)
        | &Event::ScaleIn(n)) = event
        else {
            return None;
        };
        let old = self.declared(n)?;
        let (pool, members) = (old.clone(), old.members);
        let memcache = pool.kind == overlord_api::Kind::Memcache;
        let (edited, kind) = match *event {
            Event::ConfigLive(_) if memcache => (pool.with("memory-limit", 20 + n % 20), "config live"),
            Event::ConfigLive(_) => (pool.with(REFUSED.0, 14 + n % 20), "config live"),
            Event::ConfigRefused(_) if memcache => return None,
            Event::ConfigRefused(_) => (pool.with(REFUSED.0, REFUSED.1), "config refused"),
            Event::ConfigRestart(_) if memcache => (pool.with("threads", 5 + n % 8), "config by restart"),
            Event::ConfigRestart(_) => (pool.with("databases", 17 + n % 50), "config by restart"),
            Event::ScaleOut(_) => (pool.sized((members + 1).min(5)), "scale out"),
            _ => (pool.sized((members - 1).max(1)), "scale in"),
        };
        if edited == *old {
            return None;
        }
        self.apply(edited).await;
        Some(kind)
    }
}
