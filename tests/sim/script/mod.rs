//! Scripts: what happens to a world, and when. Written by hand or drawn from a seed.

mod draw;
mod play;

use std::{fmt, time::Duration};

use crate::effects::Side;

/// One thing that happens. Numbers choose among what is declared or what runs.
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
    AgentDrained(u8, Duration),
    AgentMaintained(u8, Duration, Duration),
    AgentMarkedGone(u8, Duration),
    MachineLost(u8, Duration),
    ConfigLive(u32),
    ConfigRefused(u32),
    ConfigRestart(u32),
    ScaleOut(u32),
    ScaleIn(u32),
    Delete(u32),
    ControllerCrash,
    /// At the n-th effect from now on.
    CrashAtEffect(u64, Side),
    ControllerStop,
    ControllerStart,
    ControllerStandby,
    ControllerCutOff(Duration),
    /// Stopped in the middle of whatever it does; with its monotonic clock, or not.
    ControllerPaused(Duration, bool),
    /// Its wall clock is off by so many seconds for a while.
    ClockJump(i64, Duration),
    StoreAway(Duration),
    StoreLossy(u32),
    StoreReliable,
    StoreCompacted,
    StoreSlow(Duration, Duration),
    StoreNoQuorum(Duration),
    StoreLateWrites(Duration, Duration),
    StoreFull(Duration),
    LeaseLost,
    ProcessHangs(u32, Duration),
    HostCutOff(u8, Duration),
    DiskFull(u8, Duration),
    MesosCut,
    MesosLossy(u32),
    MesosReliable,
    /// The flag says that the next master knows of no agents.
    MasterFailover(Duration, bool),
    MasterSlow(Duration, Duration),
    OffersRescinded,
    KillsDropped(u32),
    UpdatesLost(u32),
    UpdatesTwice(u32),
    UpdatesDelayed(Duration, Duration),
    /// All is mended. The world must become what is declared, and then be quiet until the next event.
    Calm,
}

/// The kinds of event that a run counts, as they are printed.
pub(crate) const KINDS: &[&str] = &[
    "create redis",
    "create memcache",
    "kill process",
    "kill executor",
    "failing starts",
    "agent lost for a while",
    "agent lost for long",
    "agent restart",
    "agent renewed",
    "agent drained",
    "agent maintained",
    "agent marked gone",
    "machine lost",
    "config live",
    "config refused",
    "config by restart",
    "scale out",
    "scale in",
    "delete",
    "controller crash",
    "crash at an effect",
    "controller stop",
    "controller standby",
    "controller cut off",
    "controller stopped and continued",
    "controller suspended",
    "clock forwards",
    "clock backwards",
    "store away",
    "store calls lost",
    "store compacted",
    "store slow",
    "store without quorum",
    "store writes late",
    "store full",
    "process hangs",
    "host cut off",
    "disk full",
    "lease lost",
    "mesos connection cut",
    "mesos calls lost",
    "master failover",
    "master forgets agents",
    "master slow",
    "offers rescinded",
    "kills dropped",
    "updates lost",
    "updates twice",
    "updates delayed",
];

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Events with their times, in order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Script(pub(crate) Vec<(Duration, Event)>);

/// A moment as a person reads it: day, hours, minutes, seconds.
pub(crate) fn clock_face(at: Duration) -> String {
    let (seconds, millis) = (at.as_secs(), at.subsec_millis());
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    format!("{days}d {hours:02}:{minutes:02}:{:02}.{millis:03}", seconds % 60)
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(at, event)| writeln!(f, "{}  {event}", clock_face(*at)))
    }
}
