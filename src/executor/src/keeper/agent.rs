//! The Mesos agent: what an executor does when it is gone, has forgotten it, or leaves it without work.

use std::time::Duration;

use overlord_api::{OnAgentLoss, Report, State};
use overlord_mesos::v1::TaskState;

use super::{Effect, Ending, Keeper, Phase, Timer};
use crate::report::{self, Status};

/// An agent sends the task right behind the subscription. Without one the LAUNCH got lost, and Mesos has said so to
/// the framework: this process would stay for nothing.
const IDLE: Duration = Duration::from_mins(1);

/// An agent that is gone for longer than it said it would be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AgentLoss {
    /// For how long, at least.
    pub(crate) waited: Duration,
    /// Whether it keeps a record of its executors, and so may take this one back.
    pub(crate) recoverable: bool,
}

impl Keeper {
    /// The agent took our subscription.
    pub(super) fn on_subscribed(&mut self, all_told: bool) {
        if self.lost.take().is_some() {
            tracing::info!("the Mesos agent is back, and has kept this executor");
        }
        if self.phase == Phase::Idle {
            self.arm(Timer::Idle, IDLE);
        }
        // Messages sent while there was no subscription are lost for good.
        self.on_nudge();
        if all_told {
            self.forget_told();
        }
    }

    pub(super) fn on_agent_lost(&mut self, loss: AgentLoss) {
        if self.phase == Phase::Idle {
            return self.leave();
        }
        if self.ending.is_none() && loss.recoverable {
            let seconds = loss.waited.as_secs();
            tracing::warn!(seconds, "the Mesos agent is gone for longer than its recovery timeout");
        }
        self.lost = Some(loss);
    }

    /// Stops the server, when its agent is gone and it is not to serve without one.
    pub(super) fn follow_agent(&mut self) {
        let Some(AgentLoss { waited, recoverable }) = &self.lost else { return };
        let stays = self.keys.as_ref().is_none_or(|keys| keys.info.on_agent_loss == OnAgentLoss::Keep)
            && *recoverable;
        if stays
            || self.ending.is_some()
            || matches!(self.phase, Phase::Finishing | Phase::CleaningUp | Phase::Done)
        {
            return;
        }
        let why = if *recoverable {
            let seconds = waited.as_secs();
            format!("its Mesos agent was gone for more than {seconds} s, and recovery.onAgentLoss is stop")
        } else {
            "its Mesos agent is gone and keeps no record of what it runs".to_owned()
        };
        self.end(Ending::Failed(why), self.limits.shutdown_grace);
    }

    /// The agent is there and does not know us: whoever gets this address next must find it free.
    pub(super) fn on_disowned(&mut self, words: &str) {
        match self.phase {
            Phase::Idle => self.leave(),
            Phase::Finishing | Phase::CleaningUp | Phase::Done => {}
            _ if self.ending.is_some() => {}
            _ => {
                let why = format!("its Mesos agent does not know it any more: {words}");
                self.end(Ending::Failed(why), self.limits.shutdown_grace);
            }
        }
    }

    /// One executor keeps one instance: a group is refused, task by task.
    pub(super) fn on_launch_group(&mut self, ids: Vec<String>) {
        for id in ids {
            self.refuse(id, TaskState::Failed, "this executor runs single tasks, no task groups".to_owned());
        }
        if self.task.is_none() {
            self.leave();
        }
    }

    /// A KILL of a task that never arrived here: the agent waits for its end.
    pub(super) fn on_stray_kill(&mut self, id: String) {
        self.refuse(id, TaskState::Killed, "it never arrived at its executor".to_owned());
        if self.task.is_none() {
            self.leave();
        }
    }

    pub(super) fn refuse(&mut self, task_id: String, state: TaskState, why: String) {
        let ours = if state == TaskState::Killed { State::Gone } else { State::Failed };
        let report = Report { state: ours, message: why, ..report::blank() };
        self.effects.push(Effect::Report { task_id, status: Status { state, report } });
    }

    /// Nothing was begun, and nothing will be.
    pub(super) fn leave(&mut self) {
        if self.phase != Phase::Done {
            self.phase = Phase::Done;
            self.effects.push(Effect::Finish);
        }
    }
}
