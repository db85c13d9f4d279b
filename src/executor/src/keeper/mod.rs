//! The decisions of an executor: a state machine without I/O and without a clock. What happened goes
//! in as an [`Input`], what to do comes out as [`Effect`]s; `run.rs` carries them out.
//!
//! One Mesos task goes through: read the keys, prepare the host, then start, serve, and start again
//! for as long as it lives; at last stop, report, clean up.
//!
//! A node of a redis cluster passes a gate before each start: as long as a replica has newer data than it, or
//! may have, it must not start as the master it was. It waits there, and says for what.
//!
//! A server that hangs (its process lives, no probe is answered) is left alone: it may be writing a
//! dump or be stopped by a debugger, and a kill could lose what only it has. It does not serve, though:
//! after `silent_after` it is reported as `staging` with what is known of it, and as `running` again once
//! it answers. The Mesos task stays `TASK_RUNNING`. The controller or a person orders the restart.

mod agent;
mod config;
mod life;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod walk;

use std::{collections::BTreeMap, time::Duration};

pub(crate) use agent::AgentLoss;
use overlord_api::{Address, ClusterName, Report};
use overlord_engines::Health;
use overlord_mesos::v1::TaskState;
use rand::{Rng, SeedableRng, rngs::SmallRng};

use crate::{
    Clearance, Disposal, Exit, Instance, Keys, Signal, StartRequest,
    report::{self, Status},
};

/// The bounds of an executor's patience.
#[derive(Debug, Clone)]
pub struct Limits {
    /// How often a serving server is probed.
    pub probe_interval: Duration,
    /// How long a server may be silent, or not serve after its start, until that is reported.
    pub silent_after: Duration,
    /// Deaths in a row that end the Mesos task, once the server served in it.
    pub restart_limit: u32,
    /// Deaths in a row that end the Mesos task when the server never served in it.
    pub start_limit: u32,
    /// Serving this long forgives all earlier deaths.
    pub healthy_after: Duration,
    /// How long the keys may be unreadable at the start.
    pub read_deadline: Duration,
    /// The slow re-read of the keys, in case a nudge got lost; jittered by a fifth.
    pub reread: Duration,
    /// From SIGTERM to SIGKILL, where Mesos says nothing else.
    pub grace: Duration,
    /// The same after a SHUTDOWN: the agent kills everything after its own grace period.
    pub shutdown_grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            probe_interval: Duration::from_secs(1),
            silent_after: Duration::from_secs(30),
            restart_limit: 10,
            start_limit: 3,
            healthy_after: Duration::from_mins(1),
            read_deadline: Duration::from_mins(1),
            reread: Duration::from_mins(1),
            grace: Duration::from_secs(30),
            shutdown_grace: Duration::from_secs(60),
        }
    }
}

/// The Mesos task to keep, as far as the task itself says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Task {
    pub(crate) id: String,
    pub(crate) cluster: ClusterName,
    pub(crate) address: Address,
    pub(crate) grace: Option<Duration>,
}

/// What happened.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "one at a time is on its way")]
pub(crate) enum Input {
    /// LAUNCH: a task id, and the rest of it or what is wrong with it.
    Launch(String, Result<Task, String>),
    /// `LAUNCH_GROUP`: the ids of its tasks.
    LaunchGroup(Vec<String>),
    /// KILL of a task.
    Kill { task_id: String, grace: Option<Duration> },
    /// SHUTDOWN.
    Shutdown,
    /// The controller wrote our keys.
    Nudge,
    /// The same, and it shall say how it is although nothing has changed.
    Speak,
    /// The agent took our subscription; `all_told` when no report waits for it.
    Subscribed { all_told: bool },
    /// There was no subscription for as long as the agent may be away.
    AgentLost(AgentLoss),
    /// The agent says, in these words, that it does not know us.
    Disowned(String),
    /// Answer to [`Effect::Read`].
    Read { number: u64, keys: Result<Option<Keys>, String> },
    /// Answer to [`Effect::Prepare`].
    Prepared(Result<(), String>),
    /// Answer to [`Effect::Gate`].
    Gated { run: u64, clearance: Result<Clearance, String> },
    /// Answer to [`Effect::Start`].
    Started { run: u64, pid: Result<u32, String> },
    /// Answer to [`Effect::Probe`].
    Probed { run: u64, health: Result<Health, String> },
    /// The server ended.
    Exited { run: u64, exit: Exit },
    /// Answer to [`Effect::Apply`].
    Applied(Applied),
    /// A timer ran out.
    Elapsed(Timer, u64),
    /// Answer to [`Effect::CleanUp`].
    CleanedUp,
}

/// What became of a changed configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Applied {
    /// All live directives are set and the file is written.
    Accepted { needs_restart: bool },
    /// The server refused; nothing is changed.
    Refused(String),
    /// It could not be tried to the end.
    Failed(String),
}

/// Which waiting ended. One of each runs at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// The keys were never readable.
    ReadDeadline,
    /// Read the keys again.
    Reread,
    /// The pause before the next start is over.
    Restart,
    /// Ask again whether the node may start.
    Gate,
    /// SIGTERM was not enough.
    Stop,
    /// The same, after a later KILL that leaves less time.
    StopSooner,
    /// No task has come.
    Idle,
    /// Serving long enough to forget earlier deaths.
    Healthy,
    /// Silent for long.
    Silent,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Tell Mesos.
    Report { task_id: String, status: Status },
    /// Read the keys.
    Read { number: u64, cluster: ClusterName, address: Address },
    /// Make the host ready.
    Prepare { instance: Instance, conf: String },
    /// Do not wait for [`Effect::Prepare`] any longer.
    AbandonPrepare,
    /// Ask whether the node may start.
    Gate { run: u64, instance: Instance, request: StartRequest },
    /// Start the server; first write `conf` and `nodes_conf` when there are some.
    Start { run: u64, instance: Instance, conf: Option<String>, nodes_conf: Option<String> },
    /// Probe after a while.
    Probe { run: u64, instance: Instance, after: Duration },
    /// Bring the running server from one text to another, then the file. `started` is what it was started with.
    Apply { instance: Instance, started: String, old: String, new: String },
    /// Signal the server.
    Signal { pid: u32, signal: Signal },
    /// Give [`Input::Elapsed`] after a while.
    Arm { timer: Timer, number: u64, after: Duration },
    /// Leave the host in order.
    CleanUp { instance: Instance, disposal: Disposal },
    /// Nothing is left to do.
    Finish,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// No task yet.
    Idle,
    /// The keys are being read for the first time.
    Reading,
    /// The host is being made ready.
    Preparing,
    /// No process; a next start is due.
    Pausing,
    /// No process; it is asked whether the node may start.
    Gating,
    /// A process is being started or does not serve yet.
    Starting,
    /// It serves.
    Serving,
    /// It was told to stop, to be started again by order.
    Bouncing,
    /// It was told to stop for good.
    Stopping,
    /// The last report is out.
    Finishing,
    /// The host is being left in order.
    CleaningUp,
    /// All done.
    Done,
}

/// Why the Mesos task ends.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Ending {
    Killed,
    Shutdown,
    Failed(String),
}

/// The texts of a report's message, by what they speak of.
#[derive(Debug, Default)]
struct Notes {
    life: String,
    /// What the gate said.
    gate: String,
    config: String,
    silence: String,
    /// What is wrong although it serves.
    trouble: String,
}

/// The reads of the keys, one at a time.
#[derive(Debug, Default)]
struct Reads {
    /// Of the newest one, which alone counts.
    number: u64,
    under_way: bool,
    /// One more was asked for meanwhile.
    again: bool,
    failures: u32,
    last_error: String,
}

/// The server, as far as we know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Process {
    None,
    /// The host was asked to start it.
    Asked,
    /// Its process id.
    Lives(u32),
}

/// What a start was made with.
#[derive(Debug, Clone, Default)]
struct Launch {
    conf: String,
    config: u64,
    restart: u64,
}

/// The state machine. See the module.
#[derive(Debug)]
pub(crate) struct Keeper {
    limits: Limits,
    rng: SmallRng,
    phase: Phase,
    task: Option<Task>,
    keys: Option<Keys>,
    instance: Option<Instance>,
    ending: Option<Ending>,
    report: Report,
    notes: Notes,
    sent: Option<Status>,
    effects: Vec<Effect>,
    lost: Option<AgentLoss>,

    reads: Reads,
    /// What the read after a KILL brought; `None` while it is awaited.
    last_word: Option<Result<Option<Keys>, String>>,

    /// Number of the newest start.
    run: u64,
    process: Process,
    /// How often in a row the gate said to wait.
    asks: u32,
    /// The last word of a person to start without those that do not answer, once it was followed.
    recover: i64,
    probes: u32,
    /// How long the probes of this start have waited.
    waited: Duration,
    last_silence: String,
    /// The server answers, and does not serve.
    answers: bool,
    served: bool,
    deaths: u32,
    launch: Launch,
    /// The text of the file.
    file: String,
    applying: Option<(u64, String)>,
    /// An attempt failed: wait for the next read before another one.
    apply_later: bool,

    timers: BTreeMap<Timer, u64>,
    timer_number: u64,
}

impl Keeper {
    pub(crate) fn new(limits: Limits, seed: u64) -> Self {
        Self {
            limits,
            rng: SmallRng::seed_from_u64(seed),
            phase: Phase::Idle,
            task: None,
            keys: None,
            instance: None,
            ending: None,
            report: report::blank(),
            notes: Notes::default(),
            sent: None,
            effects: Vec::new(),
            lost: None,
            reads: Reads::default(),
            last_word: None,
            run: 0,
            process: Process::None,
            asks: 0,
            recover: 0,
            probes: 0,
            waited: Duration::ZERO,
            last_silence: String::new(),
            answers: false,
            served: false,
            deaths: 0,
            launch: Launch::default(),
            file: String::new(),
            applying: None,
            apply_later: false,
            timers: BTreeMap::new(),
            timer_number: 0,
        }
    }

    /// Takes in what happened, and says what to do, in order.
    pub(crate) fn step(&mut self, input: Input) -> Vec<Effect> {
        match input {
            Input::Launch(id, task) => self.on_launch(id, task),
            Input::LaunchGroup(ids) => self.on_launch_group(ids),
            Input::Kill { task_id, grace } => self.on_kill(&task_id, grace),
            Input::Shutdown => self.on_shutdown(),
            Input::Nudge => self.on_nudge(),
            Input::Speak => {
                self.forget_told();
                self.on_nudge();
            }
            Input::Subscribed { all_told } => self.on_subscribed(all_told),
            Input::AgentLost(loss) => self.on_agent_lost(loss),
            Input::Disowned(words) => self.on_disowned(&words),
            Input::Read { number, keys } => self.on_read(number, keys),
            Input::Prepared(result) => self.on_prepared(result),
            Input::Gated { run, clearance } => self.on_gated(run, clearance),
            Input::Started { run, pid } => self.on_started(run, pid),
            Input::Probed { run, health } => self.on_probed(run, health),
            Input::Exited { run, exit } => self.on_exited(run, &exit),
            Input::Applied(applied) => self.on_applied(applied),
            Input::Elapsed(timer, number) => self.on_elapsed(timer, number),
            Input::CleanedUp => {
                self.phase = Phase::Done;
                self.effects.push(Effect::Finish);
            }
        }
        self.converge();
        self.tell();
        if self.phase == Phase::Finishing {
            self.clean_up();
        }
        std::mem::take(&mut self.effects)
    }

    fn on_launch(&mut self, id: String, task: Result<Task, String>) {
        if let Some(kept) = &self.task {
            // The agent repeats a LAUNCH that it does not know to have arrived.
            if kept.id != id {
                let why = "this executor keeps one Mesos task, and has it already".to_owned();
                self.refuse(id, TaskState::Failed, why);
            }
            return;
        }
        self.disarm(Timer::Idle);
        match task {
            Ok(task) => {
                self.task = Some(task);
                self.phase = Phase::Reading;
                self.arm(Timer::ReadDeadline, self.limits.read_deadline);
                self.read_now();
            }
            Err(why) => {
                self.refuse(id, TaskState::Failed, why);
                self.leave();
            }
        }
    }

    fn on_nudge(&mut self) {
        self.apply_later = false;
        self.read_now();
    }

    /// Lets the next report go out even if nothing has changed. Of a task whose agent was away Mesos says
    /// that it is unreachable, then that it runs; how it really is, the controller can only hear from us.
    /// (A report that still waits for the agent is sent again anyway, and says it.)
    fn forget_told(&mut self) {
        self.sent.take_if(|sent| !is_last(sent));
    }

    fn on_elapsed(&mut self, timer: Timer, number: u64) {
        if self.timers.get(&timer) != Some(&number) {
            return;
        }
        self.timers.remove(&timer);
        match timer {
            Timer::ReadDeadline if self.phase == Phase::Reading => {
                let waited = self.limits.read_deadline.as_secs();
                let why = if self.reads.last_error.is_empty() { "no answer" } else { &self.reads.last_error };
                let why = format!("gave up reading etcd after {waited} s: {why}");
                self.fail(why);
            }
            Timer::Gate if self.phase == Phase::Gating => self.ask_gate(),
            Timer::Reread => self.read_now(),
            Timer::Idle if self.phase == Phase::Idle => {
                tracing::warn!("no task has come: leaving");
                self.leave();
            }
            Timer::ReadDeadline | Timer::Restart | Timer::Gate | Timer::Idle => {}
            Timer::Stop | Timer::StopSooner => {
                if let Process::Lives(pid) = self.process {
                    self.notes.life.replace_range(.., "did not stop in time and was killed");
                    self.effects.push(Effect::Signal { pid, signal: Signal::Kill });
                }
            }
            Timer::Healthy => self.deaths = 0,
            Timer::Silent => self.note_silence(),
        }
    }

    /// Goes on as far as the state allows now.
    fn converge(&mut self) {
        self.follow_agent();
        match self.phase {
            Phase::Pausing if !self.timers.contains_key(&Timer::Restart) && self.applying.is_none() => {
                self.start();
            }
            Phase::Starting | Phase::Serving => self.follow_desired(),
            Phase::Idle
            | Phase::Reading
            | Phase::Preparing
            | Phase::Pausing
            | Phase::Gating
            | Phase::Bouncing
            | Phase::Stopping
            | Phase::Finishing
            | Phase::CleaningUp
            | Phase::Done => {}
        }
    }

    /// Reports, when anything changed.
    fn tell(&mut self) {
        let Some(task) = &self.task else { return };
        let state = match (&self.ending, self.phase) {
            (None, _) if self.served => TaskState::Running,
            (None, _) => TaskState::Starting,
            // Only now are its ports free.
            (Some(ending), Phase::Finishing | Phase::CleaningUp | Phase::Done) => match ending {
                Ending::Failed(_) => TaskState::Failed,
                Ending::Killed | Ending::Shutdown => TaskState::Killed,
            },
            (Some(_), _) => TaskState::Killing,
        };
        // After a terminal state Mesos would still pass on whatever comes: stop here.
        if self.sent.as_ref().is_some_and(is_last) {
            return;
        }
        let mut report = self.report.clone();
        let notes = match &self.ending {
            Some(Ending::Failed(why)) => why.clone(),
            Some(Ending::Killed | Ending::Shutdown) | None => {
                let Notes { life, gate, config, silence, trouble } = &self.notes;
                let notes = [trouble, silence, gate, config, life];
                let notes: Vec<&str> =
                    notes.into_iter().map(String::as_str).filter(|note| !note.is_empty()).collect();
                notes.join("; ")
            }
        };
        report::cut(&notes, report::MAX_MESSAGE).clone_into(&mut report.message);
        report.cluster = Some(task.cluster.clone());
        if let Some(instance) = &self.instance {
            report.address = Some(instance.address);
            report.bus_port = instance.node.map(|node| node.bus_port);
            report.engine_version = Some(instance.engine_version.clone());
        }
        let status = Status { state, report };
        if !self.sent.as_ref().is_some_and(|sent| sent.tells_the_same(&status)) {
            self.effects.push(Effect::Report { task_id: task.id.clone(), status: status.clone() });
            self.sent = Some(status);
        }
    }

    fn arm(&mut self, timer: Timer, after: Duration) {
        self.timer_number += 1;
        self.timers.insert(timer, self.timer_number);
        self.effects.push(Effect::Arm { timer, number: self.timer_number, after });
    }

    fn disarm(&mut self, timer: Timer) {
        self.timers.remove(&timer);
    }

    /// `span` give or take a fifth, so that many executors do not act at once.
    fn jittered(&mut self, span: Duration) -> Duration {
        span.mul_f64(self.rng.random_range(0.8..1.2))
    }
}

/// Whether nothing may be reported after it.
const fn is_last(status: &Status) -> bool {
    matches!(status.state, TaskState::Failed | TaskState::Killed)
}
