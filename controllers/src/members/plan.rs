//! The planner of pools (`Redis` and `Memcache`): pure, total and deterministic. Members are
//! independent of each other: healing one needs no other, changing one is bounded by a budget.
//! `RedisCluster` plans with the same parts; what is different there is in `redis_cluster`.

mod change;
mod heal;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use overlord_api::{Address, ClusterName, ConditionType, Persistence, Record, Spec, State};

use super::{confs::Confs, observed::Instance, step::Step};
use crate::{
    Known,
    redis_cluster::{observed::Sight, shape_of},
};

pub(crate) use heal::{cause, relaunch_delay};

/// How long after the first KILL or a nudge it is sent again: Mesos delivers both at most once.
pub const SEND_AGAIN: std::time::Duration = std::time::Duration::from_secs(5);

/// The longest pause between two KILLs of one task: each pause is twice the one before.
pub const KILL_AGAIN: std::time::Duration = std::time::Duration::from_secs(80);

/// What was sent to executors, by Mesos task, and when last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sent {
    /// KILL.
    pub kills: BTreeMap<String, Killed>,
    /// Messages to read the keys again.
    pub nudges: BTreeMap<String, Timestamp>,
    /// Orders to take over.
    pub failovers: BTreeMap<String, HandOver>,
}

/// KILLs of one task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Killed {
    /// When the last one was sent.
    pub at: Timestamp,
    /// How many were sent.
    pub times: u32,
}

impl Killed {
    /// The memory after one more, sent at `at`.
    pub(crate) fn again(before: Option<Self>, at: Timestamp) -> Self {
        Self { at, times: before.map_or(1, |before| before.times.saturating_add(1)) }
    }

    /// When the next one is due.
    fn next(self) -> Timestamp {
        let pause = SEND_AGAIN.saturating_mul(1 << self.times.saturating_sub(1).min(8)).min(KILL_AGAIN);
        self.at.saturating_add(pause).unwrap_or(Timestamp::MAX)
    }
}

/// An order to take over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HandOver {
    /// When.
    pub at: Timestamp,
    /// When it was ordered first, of several in a row.
    pub first: Timestamp,
    /// Whether from a dead master.
    pub force: bool,
}

impl Sent {
    /// Forgets what was sent to tasks that are not `current` any more.
    pub(crate) fn retain(&mut self, current: &BTreeSet<&str>) {
        self.kills.retain(|task, _| current.contains(task.as_str()));
        self.nudges.retain(|task, _| current.contains(task.as_str()));
        self.failovers.retain(|task, _| current.contains(task.as_str()));
    }
}

/// Longest pause between two launches of a member that keeps failing.
pub const MAX_RELAUNCH_DELAY: std::time::Duration = std::time::Duration::from_secs(60);

/// How long a member that may be launched anywhere waits for its old address to be offered.
pub const STICK: std::time::Duration = std::time::Duration::from_secs(5);

/// Everything a plan depends on.
#[derive(Debug)]
pub struct Input<'a> {
    /// Which cluster.
    pub cluster: &'a ClusterName,
    /// The accepted spec.
    pub spec: &'a Spec,
    /// The leader's own memory of the cluster.
    pub record: &'a Record,
    /// Every recorded instance.
    pub instances: &'a [Instance],
    /// Keys held, by instance, as far as asked.
    pub keys: &'a BTreeMap<Address, Known<u64>>,
    /// Why members have no place as the spec wants them, as far as asked.
    pub room: &'a BTreeMap<Address, Option<String>>,
    /// What was sent before.
    pub sent: &'a Sent,
    /// Instances of Mesos tasks that Mesos has not spoken of in this subscription: their loss is not acted on.
    pub unconfirmed: &'a BTreeSet<String>,
    /// Keys of instances that cannot be read: somebody may be there.
    pub damaged: &'a [(String, String)],
    /// Mesos tasks that run as a member and that no info names.
    pub strangers: &'a [(u32, String)],
    /// The configurations that processes should have under `spec`.
    pub confs: &'a Confs,
    /// By what executors are started now.
    pub template: &'a str,
    /// Whether members whose executor was started by something else are to be launched anew.
    pub renew: bool,
    /// `RedisCluster`: what the nodes say, when they were asked in this pass.
    pub sight: Option<&'a Sight>,
    /// `RedisCluster`: whether the nodes were asked, and all was well, and nothing has changed since.
    pub settled: bool,
    /// The revision at which a person asked to give up what is lost.
    pub recover: Option<i64>,
    /// The request at work, for messages.
    pub task: Option<&'a str>,
    /// Whether declared changes may go on.
    pub control: &'a Control,
    /// Now.
    pub now: Timestamp,
}

/// Whether declared changes may go on. Healing always does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Control {
    /// Go on; `promoted` when a person let the change pass its canary.
    Run {
        /// See above.
        promoted: bool,
    },
    /// Stopped by a person or a failure.
    Hold {
        /// CamelCase word for the condition.
        reason: &'static str,
        /// One sentence.
        message: String,
    },
}

/// What to do now, what is waited for, and what cannot be done.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// To be done in order; the first failure ends the pass.
    pub steps: Vec<Step>,
    /// What is waited for.
    pub waiting: Vec<Waiting>,
    /// What a person must decide or mend.
    pub blocked: Vec<Blocked>,
    /// Instances whose number of keys decides: ask them and plan again.
    pub ask: BTreeSet<Address>,
    /// Instances that get more than they have once there is room for it: look for it and plan again.
    pub room: BTreeSet<Address>,
    /// Whether what the nodes of the cluster say decides: ask them and plan again.
    pub look: bool,
    /// Whether the nodes were asked, and all is well with them.
    pub whole: bool,
    /// Conditions of this kind of cluster that hold.
    pub conditions: Vec<(ConditionType, &'static str, String)>,
    /// Losses of keys that are not recorded yet, and are before anything is done.
    pub losses: BTreeMap<String, Loss>,
    /// Counts for status and tasks.
    pub progress: Progress,
}

/// Keys that are lost; by what tells this loss from all others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// Of which shard.
    pub shard: u32,
    /// One sentence.
    pub message: String,
}

impl Plan {
    /// Whether nothing is to be done, waited for, or mended.
    pub fn is_converged(&self) -> bool {
        let done = self.steps.is_empty() && self.waiting.is_empty() && self.blocked.is_empty();
        done && self.ask.is_empty() && !self.look
    }

    /// The nodes must be asked, and were a moment ago: that waits for `wait`.
    pub(crate) fn look_in(&mut self, now: Timestamp, wait: std::time::Duration) {
        let until = now.saturating_add(wait).unwrap_or(Timestamp::MAX);
        let why = String::from("the nodes of the cluster are asked in a moment");
        self.waiting.push(Waiting { member: 0, why, until: Some(until) });
    }

    /// When to look again although nothing changed.
    pub fn next(&self) -> Option<Timestamp> {
        self.waiting.iter().filter_map(|w| w.until).min()
    }
}

/// Something that must happen before the plan goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Which member.
    pub member: u32,
    /// What for, as a clause: "member 3 is starting at 127.0.0.1:20000".
    pub why: String,
    /// When time alone changes the answer.
    pub until: Option<Timestamp>,
}

/// Something that only a person can decide or mend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocked {
    /// CamelCase word for the condition.
    pub reason: &'static str,
    /// One sentence with the next step.
    pub message: String,
}

/// Counts of members.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Members the spec wants.
    pub wanted: u32,
    /// Members that serve.
    pub serving: u32,
    /// Members whose process runs what the spec says.
    pub updated: u32,
    /// Members to be launched or starting.
    pub launching: u32,
    /// Members whose configuration is to be written or accepted.
    pub configuring: u32,
    /// Members to be restarted or launched anew for a change.
    pub restarting: u32,
    /// Members to be removed.
    pub removing: u32,
}

/// Plans one pass.
pub fn plan(input: &Input<'_>) -> Plan {
    let mut planner = Planner { input, plan: Plan::default(), kept: BTreeMap::new() };
    for (key, why) in input.damaged {
        let next = "put the right value back, or remove the key when nothing runs there";
        planner.block("DamagedValue", format!("{key} cannot be read: {why}; {next}"));
    }
    for (member, task) in input.strangers {
        planner.block(
            "UnknownTask",
            format!(
                "mesos runs {task} as member {member}, and no info says where: nothing new is launched until its \
                 executor tells, or a person ends it"
            ),
        );
    }
    if input.record.deletion.is_some() {
        planner.delete();
    } else {
        planner.plan.progress.wanted = input.spec.shape.members();
        match shape_of(input.spec) {
            Some(shape) => planner.heal_cluster(shape),
            None => planner.heal(),
        }
        planner.change();
    }
    planner.plan
}

pub(crate) struct Planner<'a> {
    pub(crate) input: &'a Input<'a>,
    pub(crate) plan: Plan,
    /// Members that are meant to stay, each with its one instance.
    pub(crate) kept: BTreeMap<u32, &'a Instance>,
}

impl<'a> Planner<'a> {
    pub(crate) fn wait(&mut self, member: u32, why: String, until: Option<Timestamp>) {
        self.plan.waiting.push(Waiting { member, why, until });
    }

    pub(crate) fn block(&mut self, reason: &'static str, message: String) {
        self.plan.blocked.push(Blocked { reason, message });
    }

    /// Whether somebody may run of whom nothing is known here.
    pub(crate) const fn is_unsure(&self) -> bool {
        !self.input.damaged.is_empty() || !self.input.strangers.is_empty()
    }

    /// Whether what the members hold survives a restart of their process.
    pub(crate) fn persistent(&self) -> bool {
        self.input.spec.persistence != Persistence::None
    }

    /// Ends everything, in any state, whatever the spec says.
    fn delete(&mut self) {
        let by = self.input.record.deletion.as_ref().map_or("", |mark| mark.by.as_str());
        for instance in self.input.instances {
            self.plan.progress.removing += 1;
            if instance.info.desired.state == State::Gone {
                self.leave(instance);
            } else {
                self.retire(instance, false, 0, format!("the cluster is being deleted ({by})"));
            }
        }
    }

    pub(crate) fn retire(&mut self, instance: &'a Instance, relaunch: bool, loses: u64, why: String) {
        self.plan.steps.push(Step::Retire {
            address: instance.info.address(),
            member: instance.info.member,
            relaunch,
            on_disk: self.input.spec.deletion.on_disk,
            loses,
            why,
        });
    }

    /// An instance that is recorded to end for good.
    fn leave(&mut self, instance: &'a Instance) {
        let info = &instance.info;
        match info.observed.state {
            State::Gone | State::Failed => self.forget(instance, false, "it has ended"),
            State::Unreachable if self.is_unconfirmed(instance) => self.await_mesos(instance),
            State::Unreachable => self.forget(instance, true, "its agent cannot be reached"),
            State::Pending | State::Staging | State::Running | State::Restarting | State::Draining => {
                self.kill(instance);
            }
        }
    }

    /// Whether Mesos has not said in this subscription how it is with the instance.
    pub(crate) fn is_unconfirmed(&self, instance: &Instance) -> bool {
        self.input.unconfirmed.contains(&instance.info.mesos_task_id)
    }

    pub(crate) fn await_mesos(&mut self, instance: &'a Instance) {
        let (member, address) = (instance.info.member, instance.info.address());
        self.wait(member, format!("mesos is asked how it is with member {member} at {address}"), None);
    }

    fn forget(&mut self, instance: &'a Instance, tombstone: bool, why: &str) {
        self.plan.steps.push(Step::Forget {
            address: instance.info.address(),
            member: instance.info.member,
            tombstone,
            why: why.to_owned(),
        });
    }

    pub(crate) fn kill(&mut self, instance: &'a Instance) {
        let info = &instance.info;
        let before = self.input.sent.kills.get(&info.mesos_task_id).copied();
        let again = before.map(Killed::next).filter(|again| *again > self.input.now);
        let next = again.unwrap_or_else(|| Killed::again(before, self.input.now).next());
        if again.is_none() {
            self.plan.steps.push(Step::Kill {
                address: info.address(),
                mesos_task_id: info.mesos_task_id.clone(),
                agent_id: info.agent_id.clone(),
            });
        }
        let why = format!("member {} is stopping at {}", info.member, info.address());
        self.wait(info.member, why, Some(next));
    }

    /// Whether a nudge of a task is to be sent (again), and when to look again.
    pub(crate) fn nudge_due(&self, task: &str) -> (bool, Option<Timestamp>) {
        let after = |at: Timestamp| at.saturating_add(SEND_AGAIN).unwrap_or(Timestamp::MAX);
        match self.input.sent.nudges.get(task).map(|at| after(*at)) {
            Some(again) if again > self.input.now => (false, Some(again)),
            Some(_) | None => (true, Some(after(self.input.now))),
        }
    }
}

#[cfg(test)]
mod tests;
