//! Birth and death: preparing, starting, probing, restarting with back-off, and the end.

use std::time::Duration;

use overlord_api::{Kind, OnDisk, State};
use overlord_engines::Health;

use super::{Effect, Ending, Keeper, Launch, Notes, Phase, Process, Timer};
use crate::{Clearance, Disposal, Ended, Exit, Signal, StartRequest};

/// Pauses before the starts after one, two, ... deaths in a row; the last one repeats. The first is
/// none: a single death is an accident, and clients wait.
const PAUSES: [Duration; 6] = [
    Duration::ZERO,
    Duration::from_millis(200),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
];

/// The first probe after a start; each next one waits twice as long, up to the usual interval. An
/// empty server listens after a few milliseconds.
const FIRST_PROBE: Duration = Duration::from_millis(5);

/// Longest pause between the first probes of a start.
const EAGER_PROBE: Duration = Duration::from_millis(20);

/// How many those are: about half a second.
const EAGER_PROBES: u32 = 25;

/// redis lets a master of a cluster serve 2.0 s after its start, not before (`CLUSTER_WRITABLE_DELAY`).
const CLUSTER_DELAY: Duration = Duration::from_millis(1980);

/// Pauses between looks from then on: at first, a little later, and for half a minute. A hundred nodes may start
/// on one host, and gossip takes what they leave.
const CLUSTER_PROBES: (Duration, Duration, Duration) =
    (Duration::from_millis(50), Duration::from_millis(100), Duration::from_millis(250));

/// The pause after the gate said to wait; doubled each time, up to the last.
const FIRST_ASK: Duration = Duration::from_millis(250);
const LAST_ASK: Duration = Duration::from_secs(1);

impl Keeper {
    pub(super) fn prepare(&mut self) {
        let (Some(instance), Some(keys)) = (self.instance.clone(), &self.keys) else { return };
        let conf = keys.server_conf.clone();
        self.phase = Phase::Preparing;
        self.file.clone_from(&conf);
        self.disarm(Timer::ReadDeadline);
        self.effects.push(Effect::Prepare { instance, conf });
    }

    pub(super) fn on_prepared(&mut self, result: Result<(), String>) {
        if self.phase != Phase::Preparing {
            return;
        }
        match result {
            Ok(()) => self.start(),
            Err(why) => self.fail(why),
        }
    }

    /// Begins the next start: a node of a cluster asks first.
    pub(super) fn start(&mut self) {
        self.run += 1;
        self.asks = 0;
        if self.is_cluster_node() {
            self.phase = Phase::Gating;
            self.notes.gate.clear();
            self.ask_gate();
        } else {
            self.start_now(None);
        }
    }

    pub(super) fn is_cluster_node(&self) -> bool {
        self.instance.as_ref().is_some_and(|instance| instance.kind == Kind::RedisCluster)
    }

    pub(super) fn ask_gate(&mut self) {
        let (Some(instance), Some(keys)) = (self.instance.clone(), &self.keys) else { return };
        let request = StartRequest {
            seed: keys.nodes_conf.clone(),
            first: self.run == 1,
            asks: self.asks,
            given_up: keys.info.desired.recover > self.recover,
        };
        self.effects.push(Effect::Gate { run: self.run, instance, request });
    }

    pub(super) fn on_gated(&mut self, run: u64, clearance: Result<Clearance, String>) {
        if run != self.run || self.phase != Phase::Gating {
            return;
        }
        match clearance {
            Ok(Clearance::Start { nodes_conf, emptied, note }) => {
                self.notes.gate = note;
                self.report.emptied = self.report.emptied.saturating_add(u32::from(emptied));
                self.start_now(nodes_conf);
            }
            Ok(Clearance::Wait(why)) => {
                self.notes.gate = format!("waits: {why}");
                let pause = FIRST_ASK.saturating_mul(1 << self.asks.min(8)).min(LAST_ASK);
                self.asks = self.asks.saturating_add(1);
                let pause = self.jittered(pause);
                self.arm(Timer::Gate, pause);
            }
            Err(why) if self.served => self.died(why),
            Err(why) => self.fail(why),
        }
    }

    /// Starts the server with the newest text that it has not refused.
    fn start_now(&mut self, nodes_conf: Option<String>) {
        let (Some(instance), Some(keys)) = (self.instance.clone(), &self.keys) else { return };
        let desired = &keys.info.desired;
        // A word counts for one start.
        self.recover = desired.recover;
        let refused = self.report.config_refused == Some(desired.config);
        self.launch = if refused {
            Launch { conf: self.file.clone(), config: self.report.config, restart: desired.restart }
        } else {
            Launch { conf: keys.server_conf.clone(), config: desired.config, restart: desired.restart }
        };
        // Whatever became of the files while the server ran: a start in place begins with all of them there.
        let again = self.run > 1 || self.launch.conf != self.file;
        let conf = again.then(|| self.launch.conf.clone());
        self.phase = Phase::Starting;
        self.process = Process::Asked;
        self.probes = 0;
        self.waited = Duration::ZERO;
        self.arm(Timer::Silent, self.limits.silent_after);
        self.effects.push(Effect::Start { run: self.run, instance, conf, nodes_conf });
    }

    pub(super) fn on_started(&mut self, run: u64, pid: Result<u32, String>) {
        if run != self.run {
            return;
        }
        match pid {
            Ok(pid) => {
                self.process = Process::Lives(pid);
                self.file.clone_from(&self.launch.conf);
                if self.phase == Phase::Stopping {
                    self.effects.push(Effect::Signal { pid, signal: Signal::Terminate });
                    // The time to stop ran out while it started.
                    if !self.timers.contains_key(&Timer::Stop)
                        && !self.timers.contains_key(&Timer::StopSooner)
                    {
                        self.arm(Timer::Stop, self.limits.shutdown_grace);
                    }
                } else {
                    self.probe(FIRST_PROBE);
                }
            }
            Err(why) => {
                self.process = Process::None;
                if self.phase == Phase::Stopping { self.finish() } else { self.died(why) }
            }
        }
    }

    fn probe(&mut self, after: Duration) {
        self.waited = self.waited.saturating_add(after);
        if let Some(instance) = self.instance.clone() {
            self.effects.push(Effect::Probe { run: self.run, instance, after });
        }
    }

    pub(super) fn on_probed(&mut self, run: u64, health: Result<Health, String>) {
        let Process::Lives(pid) = self.process else { return };
        if run != self.run || !matches!(self.phase, Phase::Starting | Phase::Serving) {
            return;
        }
        self.probes = self.probes.saturating_add(1);
        let silence = match health {
            Ok(health) if health.serving => {
                self.notes.trouble.clone_from(&health.detail);
                self.role_is(health);
                self.disarm(Timer::Silent);
                self.notes.silence.clear();
                match self.phase {
                    Phase::Starting => self.serving(pid),
                    _ if self.report.state == State::Staging => {
                        self.report.state = State::Running;
                        self.arm(Timer::Healthy, self.limits.healthy_after);
                    }
                    _ => {}
                }
                self.probe(self.limits.probe_interval);
                return;
            }
            Ok(health) => {
                self.answers = true;
                let detail = health.detail.clone();
                // Its place among others changes whether it serves or not; a start is told once it is one.
                if self.phase == Phase::Serving {
                    self.place_is(health);
                }
                detail
            }
            Err(why) => {
                self.answers = false;
                why
            }
        };
        self.last_silence = silence;
        if !self.timers.contains_key(&Timer::Silent) && self.notes.silence.is_empty() {
            self.arm(Timer::Silent, self.limits.silent_after);
        }
        let after = match self.phase {
            Phase::Starting => self.until_next_look(),
            _ => self.limits.probe_interval,
        };
        self.probe(after);
    }

    /// How long to wait for the next look at a server that is being started: how soon it is seen to serve counts.
    fn until_next_look(&self) -> Duration {
        let doubled = FIRST_PROBE.saturating_mul(1 << self.probes.min(16));
        if !self.is_cluster_node() {
            // Most servers serve within a tenth of a second.
            let most = if self.probes < EAGER_PROBES { EAGER_PROBE } else { self.limits.probe_interval };
            return doubled.min(most);
        }
        let most = match self.waited {
            waited if waited < CLUSTER_DELAY => {
                return doubled
                    .min(CLUSTER_PROBES.2)
                    .min(CLUSTER_DELAY.saturating_sub(waited).max(FIRST_PROBE));
            }
            waited if waited < CLUSTER_DELAY * 5 / 4 => CLUSTER_PROBES.0,
            waited if waited < CLUSTER_DELAY * 2 => CLUSTER_PROBES.1,
            waited if waited < CLUSTER_DELAY * 16 => CLUSTER_PROBES.2,
            _ => self.limits.probe_interval,
        };
        most.min(self.limits.probe_interval)
    }

    /// Takes over what a server that does not serve says of its place: while it loads, it says less.
    fn place_is(&mut self, mut health: Health) {
        if health.role.is_none() {
            return;
        }
        if health.epoch.is_none() {
            health.epoch = self.report.epoch;
            health.slots.clone_from(&self.report.slots);
        }
        self.role_is(health);
    }

    /// Takes over what the server says of its place among others.
    fn role_is(&mut self, health: Health) {
        let Health { role, epoch, link, slots, serving: _, loading: _, pid: _, detail: _ } = health;
        self.report.role = role;
        self.report.epoch = epoch;
        self.report.link = link;
        self.report.slots = slots;
    }

    fn serving(&mut self, pid: u32) {
        self.phase = Phase::Serving;
        self.served = true;
        self.report.state = State::Running;
        self.report.config = self.launch.config;
        self.report.restart = self.launch.restart;
        self.report.restart_needed = false;
        self.report.pid = Some(pid);
        if self.report.config_refused.is_some_and(|refused| refused == self.launch.config) {
            self.report.config_refused = None;
        }
        if self.report.config_refused.is_none() {
            self.notes.config.clear();
        }
        self.arm(Timer::Healthy, self.limits.healthy_after);
    }

    pub(super) fn note_silence(&mut self) {
        let waited = self.limits.silent_after.as_secs();
        self.notes.silence = match self.phase {
            Phase::Starting => format!("does not serve {waited} s after its start: {}", self.last_silence),
            Phase::Serving => {
                self.report.state = State::Staging;
                self.disarm(Timer::Healthy);
                let what = if self.answers { "serve" } else { "answer" };
                format!("does not {what} for {waited} s: {}", self.last_silence)
            }
            _ => return,
        };
    }

    pub(super) fn on_exited(&mut self, run: u64, exit: &Exit) {
        if run != self.run || !matches!(self.process, Process::Lives(_)) {
            return;
        }
        self.process = Process::None;
        self.report.pid = None;
        self.disarm(Timer::Stop);
        self.disarm(Timer::StopSooner);
        match self.phase {
            Phase::Stopping => self.finish(),
            Phase::Bouncing => self.phase = Phase::Pausing,
            Phase::Starting | Phase::Serving => {
                let when = if self.phase == Phase::Starting { " at start" } else { "" };
                // Somebody else's SIGKILL or SIGTERM has no reason that the console could tell.
                let silent = matches!(exit.how, Ended::Signal(9 | 15)) || exit.console.is_empty();
                let console = if silent { String::new() } else { format!(": {}", exit.console) };
                self.died(format!("{}{when}{console}", exit.how));
            }
            Phase::Idle
            | Phase::Reading
            | Phase::Preparing
            | Phase::Pausing
            | Phase::Gating
            | Phase::Finishing
            | Phase::CleaningUp
            | Phase::Done => {}
        }
    }

    /// The server ended, or could not be started, and nobody asked for it.
    fn died(&mut self, cause: String) {
        self.disarm(Timer::Healthy);
        self.disarm(Timer::Silent);
        self.notes.silence.clear();
        self.notes.trouble.clear();
        self.role_is(Health::default());
        self.deaths += 1;
        let limit = if self.served { self.limits.restart_limit } else { self.limits.start_limit };
        if self.deaths >= limit {
            let times =
                if self.deaths == 1 { "once".to_owned() } else { format!("{} times in a row", self.deaths) };
            self.fail(format!("the server ended {times}; the last one {cause}"));
            return;
        }
        if self.served {
            self.report.restarts = self.report.restarts.saturating_add(1);
            self.report.state = State::Restarting;
        }
        self.notes.life = cause;
        self.phase = Phase::Pausing;
        let pause = PAUSES[(self.deaths as usize - 1).min(PAUSES.len() - 1)];
        if !pause.is_zero() {
            let pause = self.jittered(pause);
            self.arm(Timer::Restart, pause);
        }
    }

    /// Stops the server in order to start it again.
    pub(super) fn bounce(&mut self) {
        let Process::Lives(pid) = self.process else { return };
        self.phase = Phase::Bouncing;
        self.report.state = if self.served { State::Restarting } else { State::Staging };
        self.role_is(Health::default());
        self.notes.life.clear();
        self.disarm(Timer::Healthy);
        self.disarm(Timer::Silent);
        self.effects.push(Effect::Signal { pid, signal: Signal::Terminate });
        self.arm(Timer::Stop, self.grace());
    }

    fn grace(&self) -> Duration {
        self.task.as_ref().and_then(|task| task.grace).unwrap_or(self.limits.grace)
    }

    pub(super) fn on_kill(&mut self, task_id: &str, grace: Option<Duration>) {
        if self.task.as_ref().is_none_or(|task| task.id != task_id) {
            return self.on_stray_kill(task_id.to_owned());
        }
        if self.ending.is_some() {
            // KILL is repeated until the end is known: the first one counts, unless somebody is in more of a hurry.
            if let Some(grace) = grace
                && matches!(self.process, Process::Asked | Process::Lives(_))
            {
                self.arm(Timer::StopSooner, grace);
            }
            return;
        }
        // What becomes of the directory is decided by keys that are read after the order came.
        self.read_anew();
        let grace = grace.unwrap_or_else(|| self.grace());
        self.end(Ending::Killed, grace);
    }

    pub(super) fn on_shutdown(&mut self) {
        match (&self.ending, self.phase) {
            (_, Phase::Finishing | Phase::CleaningUp | Phase::Done) => {}
            (_, Phase::Idle) => self.leave(),
            (Some(_), _) => self.arm(Timer::StopSooner, self.limits.shutdown_grace),
            (None, _) => self.end(Ending::Shutdown, self.limits.shutdown_grace),
        }
    }

    pub(super) fn fail(&mut self, why: String) {
        self.end(Ending::Failed(why), self.grace());
    }

    pub(super) fn end(&mut self, ending: Ending, grace: Duration) {
        self.ending = Some(ending);
        self.notes = Notes::default();
        self.report.state = State::Draining;
        let timers =
            [Timer::ReadDeadline, Timer::Reread, Timer::Restart, Timer::Gate, Timer::Healthy, Timer::Silent];
        for timer in timers {
            self.disarm(timer);
        }
        if self.phase == Phase::Preparing {
            self.effects.push(Effect::AbandonPrepare);
        }
        match self.process {
            Process::None => return self.finish(),
            Process::Asked => {}
            // It was told to stop already.
            Process::Lives(_) if self.phase == Phase::Bouncing => {}
            Process::Lives(pid) => self.effects.push(Effect::Signal { pid, signal: Signal::Terminate }),
        }
        self.phase = Phase::Stopping;
        self.arm(Timer::Stop, grace);
    }

    fn finish(&mut self) {
        self.phase = Phase::Finishing;
        self.report.pid = None;
        self.role_is(Health::default());
        self.report.state = match self.ending {
            Some(Ending::Failed(_)) => State::Failed,
            Some(Ending::Killed | Ending::Shutdown) | None => State::Gone,
        };
    }

    /// Once all that is under way has ended.
    pub(super) fn clean_up(&mut self) {
        let killed = self.ending == Some(Ending::Killed);
        let Some(instance) = self.instance.clone() else {
            self.phase = Phase::Done;
            self.effects.push(Effect::Finish);
            return;
        };
        if self.applying.is_some() || (killed && self.last_word.is_none()) {
            return;
        }
        self.phase = Phase::CleaningUp;
        let disposal = if killed { self.disposal() } else { Disposal::Keep };
        self.effects.push(Effect::CleanUp { instance, disposal });
    }

    /// The directory goes only on a clear word that the instance is gone for good. A kill alone may be
    /// the first half of a move or a relaunch.
    fn disposal(&self) -> Disposal {
        let Some(instance) = &self.instance else { return Disposal::Keep };
        let on_disk = match &self.last_word {
            // Deleted or replaced while its agent was away; nobody says which, and a replaced member's data
            // may be the only copy.
            Some(Ok(None)) => OnDisk::Retain,
            Some(Ok(Some(keys))) => {
                let ours = keys.info.mesos_task_id == instance.task_id;
                if !ours || keys.info.desired.state != State::Gone {
                    return Disposal::Keep;
                }
                keys.info.on_disk
            }
            Some(Err(_)) | None => return Disposal::Keep,
        };
        match on_disk {
            OnDisk::Delete => Disposal::Remove,
            OnDisk::Retain => Disposal::MoveAside,
        }
    }
}
