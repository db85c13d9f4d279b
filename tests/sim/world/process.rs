//! The controller processes of a world: started, stopped, killed, paused, cut off, with clocks that jump.

use std::{sync::Arc, time::Duration};

use jiff::SignedDuration;
use overlord_api::Role;
use overlord_controllers::{Controllers, Post};
use overlord_reconcile::Clock;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{World, settings};
use crate::{
    engines::SimEngines,
    own_clock::OwnClock,
    scheduler::SimScheduler,
    store::{SimStore, Who},
};

/// A controller process.
pub(crate) struct Process {
    pub(crate) who: Who,
    task: JoinSet<()>,
    shutdown: CancellationToken,
    clock: Arc<OwnClock>,
    post: Post,
}

impl World {
    /// Starts a controller process, unless one runs.
    pub(crate) fn ensure_controller(&mut self) {
        self.reap();
        if self.controllers.is_empty() {
            self.start_controller();
        }
    }

    /// Forgets the processes that ended by themselves.
    pub(crate) fn reap(&mut self) {
        self.controllers.retain_mut(|process| {
            while process.task.try_join_next().is_some() {}
            !process.task.is_empty()
        });
    }

    /// Starts one more controller process, unless two run. Whether it did.
    pub(crate) fn start_standby(&mut self) -> bool {
        self.reap();
        let room = self.controllers.len() < 2;
        if room {
            self.start_controller();
        }
        room
    }

    /// Starts a controller process.
    pub(crate) fn start_controller(&mut self) {
        self.started += 1;
        let who = Who::Controller(self.started);
        self.trace.line(format!("{who} starts"));
        let clock = Arc::new(OwnClock::new(Arc::clone(&self.clock)));
        let store = SimStore { who, ..self.user.clone() };
        let transport = SimScheduler {
            who,
            inner: self.mesos.scheduler_transport(),
            net: self.net.clone(),
            trace: self.trace.clone(),
            oracles: self.oracles.clone(),
            gates: self.gates.clone(),
            effects: self.effects.clone(),
        };
        let engines = SimEngines {
            who,
            inner: Arc::new(self.hosts.clone()),
            gates: self.gates.clone(),
            effects: self.effects.clone(),
            trace: self.trace.clone(),
            oracles: self.oracles.clone(),
        };
        let seed = self.seed.rotate_left(17).wrapping_add(u64::from(self.started) << 20);
        let controllers = Controllers::new(
            settings(who, self.lease),
            Arc::new(store),
            Arc::new(transport),
            Arc::new(engines),
            Arc::clone(&clock) as Arc<dyn Clock>,
            seed,
        );
        let (shutdown, post) = (CancellationToken::new(), controllers.post());
        let (token, trace) = (shutdown.clone(), self.trace.clone());
        let mut task = JoinSet::new();
        let abort = task.spawn(async move {
            let ended = controllers.run(token).await;
            trace.line(format!("{who} ends: {ended:?}"));
            if ended.is_err() {
                trace.violation(format!("{who} gave up: {ended:?}"));
            }
        });
        self.effects.register(who, abort, shutdown.clone());
        self.controllers.push(Process { who, task, shutdown, clock, post });
    }

    /// `kill -9` of the oldest controller: nothing is given back, what is on its way still arrives. Whether one
    /// ran.
    pub(crate) async fn crash_controller(&mut self) -> bool {
        self.reap();
        if self.controllers.is_empty() {
            return false;
        }
        let mut process = self.controllers.remove(0);
        self.trace.line(format!("{} crashes", process.who));
        self.gates.shut(process.who);
        process.task.shutdown().await;
        // The tasks it began would go on without it: nothing of them passes the gate, and they end now.
        process.shutdown.cancel();
        true
    }

    /// SIGTERM to the oldest controller: it gives its leadership back. Whether one ran.
    pub(crate) async fn stop_controller(&mut self) -> bool {
        self.reap();
        if self.controllers.is_empty() {
            return false;
        }
        let mut process = self.controllers.remove(0);
        self.trace.line(format!("{} is told to stop", process.who));
        process.shutdown.cancel();
        while process.task.join_next().await.is_some() {}
        true
    }

    /// Those that believe that they lead, but for those that are stopped and believe nothing.
    pub(crate) fn leaders(&self) -> Vec<Who> {
        let awake = self.controllers.iter().filter(|process| !self.gates.is_held(process.who));
        awake
            .filter(|process| process.post.standing().role == Role::Leader)
            .map(|process| process.who)
            .collect()
    }

    /// The process that leads, or the oldest one.
    fn leading(&self) -> Option<&Process> {
        let leader = self.oracles.view().leader();
        let leads = |process: &&Process| leader.as_deref() == Some(process.who.to_string().as_str());
        self.controllers.iter().find(leads).or_else(|| self.controllers.first())
    }

    /// The leader does not reach the store for a while; Mesos it does. Whether one ran.
    pub(crate) fn cut_controller_off(&self, time: Duration) -> bool {
        let Some(who) = self.leading().map(|process| process.who) else { return false };
        self.trace.line(format!("{who} does not reach the store for {time:?}"));
        self.net.set_away(who, true);
        let net = self.net.clone();
        self.later(time, format!("{who} reaches the store again"), move || net.set_away(who, false));
        true
    }

    /// The leader is stopped for a while, in the middle of whatever it does: nothing leaves it, nothing reaches it.
    /// Then all that it was about to send leaves at once. `suspended`: its monotonic clock stood still as well, so
    /// that it believes in its lease when it goes on. Whether one ran.
    pub(crate) fn pause_controller(&self, time: Duration, suspended: bool) -> bool {
        let Some(process) = self.leading() else { return false };
        let (who, clock) = (process.who, Arc::clone(&process.clock));
        let how = if suspended { "its machine is suspended" } else { "SIGSTOP" };
        self.trace.line(format!("{who} is stopped for {time:?}: {how}"));
        self.gates.hold(who);
        if suspended {
            clock.stop();
        }
        let (gates, oracles) = (self.gates.clone(), self.oracles.clone());
        self.later(time, format!("{who} goes on"), move || {
            clock.go_on();
            oracles.continued(who);
            gates.open(who);
        });
        true
    }

    /// The wall clock of the leader jumps for a while. Whether one ran.
    pub(crate) fn jump_clock(&self, by: SignedDuration, time: Duration) -> bool {
        let Some(process) = self.leading() else { return false };
        let (who, clock) = (process.who, Arc::clone(&process.clock));
        self.trace.line(format!("the wall clock of {who} jumps by {by:#} for {time:?}"));
        clock.jump(by);
        self.later(time, format!("the wall clock of {who} is set right"), move || clock.set_right());
        true
    }
}
