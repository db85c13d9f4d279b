//! Draws a day from a seed: some hours in which a few things go wrong together, and quiet ones between them.

use std::time::Duration;

use rand::{Rng as _, SeedableRng as _, rngs::SmallRng, seq::IndexedRandom as _};

use super::{Event, Script};
use crate::{effects::Side, pool::NAMES, world::AGENTS};

const HOUR: Duration = Duration::from_secs(3600);

/// Troubled times of a day, and things that go wrong in each.
const TROUBLES: u32 = 4;
const FAULTS: std::ops::RangeInclusive<usize> = 5..=9;

fn millis(rng: &mut SmallRng, least: u64, most: u64) -> Duration {
    Duration::from_millis(rng.random_range(least..=most))
}

fn seconds(rng: &mut SmallRng, least: u64, most: u64) -> Duration {
    millis(rng, least * 1000, most * 1000)
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
    /// The day of a seed. What breaks is mended by the end of its troubled time, except what the controllers must
    /// mend.
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
        for trouble in 0..TROUBLES {
            let mut own: Vec<(Duration, Event)> = Vec::new();
            let faults = rng.random_range(FAULTS);
            for _ in 0..faults {
                at += gap(&mut rng);
                draw(&mut rng, at, &mut own);
            }
            own.sort_by_key(|(at, _)| *at);
            let last = own.last().map_or(at, |(at, _)| *at);
            events.append(&mut own);
            events.push((last, Event::Calm));
            let next = HOUR * 24 / TROUBLES * (trouble + 1);
            at = next + seconds(&mut rng, 0, 3600);
        }
        events.push((at, Event::Calm));
        Self(events)
    }
}

/// Draws one event, and what undoes it.
fn draw(rng: &mut SmallRng, at: Duration, events: &mut Vec<(Duration, Event)>) {
    let number = rng.random_range(0..1000);
    let agent = rng.random_range(0..AGENTS);
    match rng.random_range(0..4) {
        0 => draw_declared(rng, at, number, events),
        1 => draw_agents(rng, at, agent, number, events),
        2 => draw_controllers(rng, at, events),
        _ => draw_services(rng, at, events),
    }
}

/// What people do, and processes.
fn draw_declared(rng: &mut SmallRng, at: Duration, number: u32, events: &mut Vec<(Duration, Event)>) {
    let name = *NAMES.choose(rng).unwrap_or(&NAMES[0]);
    let mut push = |after: Duration, event: Event| events.push((at + after, event));
    match rng.random_range(0..30) {
        0..3 => push(Duration::ZERO, Event::Create(name, rng.random_range(1..=3))),
        3..9 => push(Duration::ZERO, Event::KillProcess(number)),
        9..13 => push(Duration::ZERO, Event::KillExecutor(number)),
        13..15 => push(Duration::ZERO, Event::FailStarts(rng.random_range(1..=5))),
        15..18 => push(Duration::ZERO, Event::ConfigLive(number)),
        18..20 => {
            push(Duration::ZERO, Event::ConfigRefused(number));
            push(gap(rng), Event::ConfigLive(number));
        }
        20..22 => push(Duration::ZERO, Event::ConfigRestart(number)),
        22..25 => push(Duration::ZERO, Event::ScaleOut(number)),
        25..27 => push(Duration::ZERO, Event::ScaleIn(number)),
        _ => push(Duration::ZERO, Event::Delete(number)),
    }
}

fn draw_agents(
    rng: &mut SmallRng,
    at: Duration,
    agent: u8,
    number: u32,
    events: &mut Vec<(Duration, Event)>,
) {
    let mut push = |after: Duration, event: Event| events.push((at + after, event));
    match rng.random_range(0..28) {
        0..4 => {
            push(Duration::ZERO, Event::AgentLost(agent, false));
            push(millis(rng, 500, 50_000), Event::AgentReturns(agent));
        }
        4..9 => {
            push(Duration::ZERO, Event::AgentLost(agent, true));
            push(millis(rng, 90_000, 400_000), Event::AgentReturns(agent));
        }
        9..11 => push(Duration::ZERO, Event::AgentRestart(agent)),
        11..13 => push(Duration::ZERO, Event::AgentRenewed(agent)),
        13..16 => push(Duration::ZERO, Event::AgentDrained(agent, seconds(rng, 20, 300))),
        16..18 => {
            let (after, lasts) = (seconds(rng, 5, 120), seconds(rng, 20, 300));
            push(Duration::ZERO, Event::AgentMaintained(agent, after, lasts));
        }
        18..20 => push(Duration::ZERO, Event::AgentMarkedGone(agent, seconds(rng, 10, 200))),
        20..23 => push(Duration::ZERO, Event::MachineLost(agent, seconds(rng, 30, 300))),
        23..24 => push(Duration::ZERO, Event::ProcessHangs(number, seconds(rng, 5, 90))),
        24..25 => push(Duration::ZERO, Event::HostCutOff(agent, seconds(rng, 5, 90))),
        25..26 => push(Duration::ZERO, Event::DiskFull(agent, seconds(rng, 5, 90))),
        _ => push(Duration::ZERO, Event::KillExecutor(number)),
    }
}

fn draw_controllers(rng: &mut SmallRng, at: Duration, events: &mut Vec<(Duration, Event)>) {
    let mut push = |after: Duration, event: Event| events.push((at + after, event));
    match rng.random_range(0..24) {
        0..4 => {
            push(Duration::ZERO, Event::ControllerCrash);
            push(gap(rng), Event::ControllerStart);
        }
        4..8 => {
            let side = if rng.random_range(0..2) == 0 { Side::Before } else { Side::After };
            push(Duration::ZERO, Event::CrashAtEffect(rng.random_range(1..20), side));
            push(seconds(rng, 1, 60), Event::ControllerStart);
        }
        8..10 => {
            push(Duration::ZERO, Event::ControllerStop);
            push(gap(rng), Event::ControllerStart);
        }
        10..12 => push(Duration::ZERO, Event::ControllerStandby),
        12..15 => {
            push(Duration::ZERO, Event::ControllerStandby);
            push(gap(rng), Event::ControllerCutOff(millis(rng, 1_000, 40_000)));
        }
        15..18 => {
            push(Duration::ZERO, Event::ControllerStandby);
            push(gap(rng), Event::ControllerPaused(seconds(rng, 2, 90), false));
        }
        18..21 => {
            push(Duration::ZERO, Event::ControllerStandby);
            push(gap(rng), Event::ControllerPaused(seconds(rng, 2, 90), true));
        }
        21..23 => {
            let by = *[3600, 86_400, -3600, -86_400, 90, -90].choose(rng).unwrap_or(&60);
            push(Duration::ZERO, Event::ClockJump(by, seconds(rng, 10, 600)));
        }
        _ => push(Duration::ZERO, Event::LeaseLost),
    }
}

/// The store and Mesos.
fn draw_services(rng: &mut SmallRng, at: Duration, events: &mut Vec<(Duration, Event)>) {
    let mut push = |after: Duration, event: Event| events.push((at + after, event));
    match rng.random_range(0..40) {
        0..3 => push(Duration::ZERO, Event::StoreAway(gap(rng))),
        3..6 => {
            push(Duration::ZERO, Event::StoreLossy(rng.random_range(10..60)));
            push(millis(rng, 100, 20_000), Event::StoreReliable);
        }
        6..8 => push(Duration::ZERO, Event::StoreCompacted),
        8..11 => push(Duration::ZERO, Event::StoreSlow(millis(rng, 100, 4_000), seconds(rng, 5, 90))),
        11..13 => push(Duration::ZERO, Event::StoreNoQuorum(seconds(rng, 2, 60))),
        13..17 => push(Duration::ZERO, Event::StoreLateWrites(seconds(rng, 2, 60), seconds(rng, 1, 20))),
        17..18 => push(Duration::ZERO, Event::LeaseLost),
        18..19 => push(Duration::ZERO, Event::StoreFull(seconds(rng, 5, 120))),
        19..21 => push(Duration::ZERO, Event::MesosCut),
        21..24 => {
            push(Duration::ZERO, Event::MesosLossy(rng.random_range(10..60)));
            push(millis(rng, 100, 30_000), Event::MesosReliable);
        }
        24..27 => {
            push(Duration::ZERO, Event::MasterFailover(seconds(rng, 1, 40), rng.random_range(0..3) == 0));
        }
        27..29 => push(Duration::ZERO, Event::MasterSlow(millis(rng, 200, 12_000), seconds(rng, 10, 60))),
        29..31 => push(Duration::ZERO, Event::OffersRescinded),
        31..34 => push(Duration::ZERO, Event::KillsDropped(rng.random_range(1..4))),
        34..36 => push(Duration::ZERO, Event::UpdatesLost(rng.random_range(1..4))),
        36..38 => push(Duration::ZERO, Event::UpdatesTwice(rng.random_range(1..4))),
        _ => push(Duration::ZERO, Event::UpdatesDelayed(millis(rng, 500, 20_000), seconds(rng, 10, 90))),
    }
}
