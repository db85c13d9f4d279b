//! Healing: what is missing is launched, what ended is launched again, what stays away is replaced.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use overlord_api::{Info, Refusal, State};

use super::{Control, MAX_RELAUNCH_DELAY, Planner, STICK};

/// After so many refusals in a row a person is told that it will hardly become better by itself.
const REFUSALS_TOLD: u32 = 3;

/// First and longest pause after a launch that Mesos does not accept.
const INVALID_DELAYS: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));

use crate::members::{
    observed::Instance,
    step::{Launch, Place, Step},
};

impl<'a> Planner<'a> {
    pub(super) fn heal(&mut self) {
        self.settle();
        for instance in self.kept.values().copied().collect::<Vec<_>>() {
            match instance.info.desired.state {
                State::Draining => self.launch_anew(instance),
                _ => self.keep_alive(instance),
            }
        }
        self.create();
    }

    /// Finds the one instance of each member that is meant to stay; the others end.
    pub(crate) fn settle(&mut self) {
        // One instance a member: the newest incarnation. Two can only meet here after an edit by hand.
        let mut newest: BTreeMap<u32, &'a Instance> = BTreeMap::new();
        for instance in self.input.instances {
            if instance.info.desired.state == State::Gone {
                continue;
            }
            let slot = newest.entry(instance.info.member).or_insert(instance);
            if (slot.info.incarnation, slot.info.address())
                < (instance.info.incarnation, instance.info.address())
            {
                *slot = instance;
            }
        }
        for instance in self.input.instances {
            let member = instance.info.member;
            if instance.info.desired.state == State::Gone {
                self.leave(instance);
            } else if newest.get(&member).is_some_and(|kept| kept.info.address() != instance.info.address()) {
                self.retire(instance, false, 0, format!("member {member} has a newer incarnation"));
            }
        }
        self.kept = newest;
    }

    /// Launches the members that the spec wants and the record does not have.
    fn create(&mut self) {
        let have = u32::try_from(self.kept.len()).unwrap_or(u32::MAX);
        let missing = self.plan.progress.wanted.saturating_sub(have);
        self.plan.progress.launching += missing;
        // An instance that cannot be read may well be one of them.
        if matches!(self.input.control, Control::Hold { .. }) || self.is_unsure() {
            return;
        }
        // A number is never given twice; until all were there once, those that were lost on the way are filled in.
        let first = if self.input.record.formed { self.input.record.next_member } else { 0 };
        let used: BTreeSet<u32> = self.input.instances.iter().map(|instance| instance.info.member).collect();
        let fresh = (first..u32::MAX).filter(|member| !used.contains(member));
        for member in fresh.take(missing as usize) {
            self.plan.steps.push(Step::Launch(Launch { member, place: Place::Anywhere }));
        }
    }

    /// An instance that is meant to run.
    fn keep_alive(&mut self, instance: &'a Instance) {
        let info = &instance.info;
        let (member, address) = (info.member, info.address());
        match info.observed.state {
            State::Running => self.plan.progress.serving += 1,
            State::Pending | State::Staging => {
                self.plan.progress.launching += 1;
                self.wait(member, format!("member {member} is starting at {address}"), None);
            }
            State::Restarting => {
                self.wait(member, format!("member {member} restarts in place at {address}"), None);
            }
            State::Draining => self.wait(member, format!("member {member} is stopping at {address}"), None),
            State::Unreachable => self.outlast(instance),
            State::Failed | State::Gone => self.launch_again(instance),
        }
    }

    /// An instance on a lost agent: kept for `replaceAfter`, then replaced elsewhere.
    fn outlast(&mut self, instance: &'a Instance) {
        let info = &instance.info;
        let (member, address) = (info.member, info.address());
        if self.is_unconfirmed(instance) {
            return self.await_mesos(instance);
        }
        let replace_after = self.input.spec.recovery.replace_after;
        let until = info.observed.since.saturating_add(replace_after).unwrap_or(jiff::Timestamp::MAX);
        if until <= self.input.now {
            self.launch(member, Place::Elsewhere(address));
        } else {
            self.wait(
                member,
                format!("member {member} at {address} is unreachable and is replaced if it stays so"),
                Some(until),
            );
        }
    }

    /// An instance that ended and was not asked to.
    fn launch_again(&mut self, instance: &'a Instance) {
        let info = &instance.info;
        let (member, address) = (info.member, info.address());
        if info.observed.refused.is_some() {
            return self.launch_refused(instance);
        }
        let failures = info.observed.failures;
        let due =
            info.observed.since.saturating_add(relaunch_delay(failures)).unwrap_or(jiff::Timestamp::MAX);
        if due > self.input.now {
            let why =
                format!("member {member} ended at {address} {failures} times in a row: {}", cause(info));
            self.plan.progress.launching += 1;
            self.wait(member, why, Some(due));
            return;
        }
        let crash_loop = failures > self.input.spec.recovery.restarts_before_replace;
        let given_up = info
            .observed
            .since
            .saturating_add(self.input.spec.recovery.replace_after)
            .is_ok_and(|until| until <= self.input.now);
        let place = match (self.persistent(), crash_loop, given_up) {
            (false, true, _) => self.elsewhere_or_any(info, due),
            (false, false, true) => Place::Any(address),
            // Its agent is drained, and nothing of it is there.
            (false, false, false) if info.observed.evicted => Place::Rather(address),
            (false, false, false) => self.same_or_rather(info),
            (true, true, _) => {
                self.block(
                    "CrashLoop",
                    format!(
                        "member {member} at {address} failed {failures} times and is not moved away from its data: {}",
                        cause(info)
                    ),
                );
                Place::Same(address)
            }
            // Its host took no launch for the whole of `replaceAfter`: the declared policy is to go on without it.
            (true, false, true) => Place::Elsewhere(address),
            (true, false, false) => Place::Same(address),
        };
        self.launch(member, place);
    }

    /// A launch that Mesos refused: nothing of it is anywhere. Another attempt is made, later and later.
    pub(crate) fn launch_refused(&mut self, instance: &'a Instance) {
        let info = &instance.info;
        let (member, address) = (info.member, info.address());
        if self.is_refused_for_now(info) {
            return;
        }
        // Whatever an earlier launch left behind is where that one was.
        let place = if info.launches > 0 && self.persistent() {
            Place::Same(address)
        } else {
            Place::Rather(address)
        };
        self.launch(member, place);
    }

    /// Whether the next attempt after a refusal must wait; says so, and what a person may have to mend.
    pub(crate) fn is_refused_for_now(&mut self, info: &Info) -> bool {
        let Some(refused) = info.observed.refused else { return false };
        let (member, address, times) = (info.member, info.address(), info.observed.refusals);
        let why = cause(info);
        if refused == Refusal::Invalid && times >= REFUSALS_TOLD {
            self.block(
                "LaunchRefused",
                format!("mesos refused to launch member {member} at {address} {times} times in a row: {why}"),
            );
        }
        let due = info.observed.since.saturating_add(refusal_delay(refused, times));
        let due = due.unwrap_or(jiff::Timestamp::MAX);
        if due <= self.input.now {
            return false;
        }
        self.plan.progress.launching += 1;
        self.wait(
            member,
            format!("mesos refused to launch member {member} at {address}, which is tried again: {why}"),
            Some(due),
        );
        true
    }

    /// An instance that was stopped in order to be launched with another version or other resources.
    fn launch_anew(&mut self, instance: &'a Instance) {
        let info = &instance.info;
        self.plan.progress.restarting += 1;
        match info.observed.state {
            State::Gone | State::Failed if self.persistent() => {
                self.launch(info.member, Place::Same(info.address()));
            }
            State::Gone | State::Failed => {
                let place = self.same_or_rather(info);
                self.launch(info.member, place);
            }
            State::Unreachable => self.outlast(instance),
            State::Pending | State::Staging | State::Running | State::Restarting | State::Draining => {
                self.kill(instance);
            }
        }
    }

    /// A member that keeps failing where it is goes to another host; when there is none, its own will do: what
    /// it failed of may be over.
    fn elsewhere_or_any(&mut self, info: &Info, due: jiff::Timestamp) -> Place {
        let (member, address) = (info.member, info.address());
        let until = due.saturating_add(STICK).unwrap_or(jiff::Timestamp::MAX);
        if until <= self.input.now {
            return Place::Any(address);
        }
        self.wait(
            member,
            format!("member {member} is looked another host for than that of {address}"),
            Some(until),
        );
        Place::Elsewhere(address)
    }

    /// Nothing on disk counts, and still a member stays where it was if it can: no client learns a new
    /// address. Its own agent may offer a moment later than others.
    fn same_or_rather(&mut self, info: &Info) -> Place {
        let (member, address) = (info.member, info.address());
        let until = info.observed.since.saturating_add(STICK).unwrap_or(jiff::Timestamp::MAX);
        if until <= self.input.now {
            return Place::Rather(address);
        }
        self.wait(
            member,
            format!("member {member} is launched elsewhere unless {address} is offered"),
            Some(until),
        );
        Place::Same(address)
    }

    pub(crate) fn launch(&mut self, member: u32, place: Place) {
        self.plan.progress.launching += 1;
        if let Some((_, task)) = self.input.strangers.iter().find(|(stranger, _)| *stranger == member) {
            return self.wait(member, format!("member {member} is not launched beside {task}"), None);
        }
        self.plan.steps.push(Step::Launch(Launch { member, place }));
    }
}

/// What is known of why an instance ended.
pub(crate) fn cause(info: &Info) -> &str {
    if info.observed.message.is_empty() { "no cause was reported" } else { &info.observed.message }
}

/// Offers get lost, and others come. A description that is wrong stays so until somebody mends something.
fn refusal_delay(refusal: Refusal, times: u32) -> Duration {
    match refusal {
        Refusal::Dropped => relaunch_delay(times),
        Refusal::Invalid => {
            let (first, longest) = INVALID_DELAYS;
            first.saturating_mul(1 << times.saturating_sub(1).min(16)).min(longest)
        }
    }
}

/// At once after the first failure, then 1, 2, 4 ... seconds.
pub(crate) fn relaunch_delay(failures: u32) -> Duration {
    match failures {
        0 | 1 => Duration::ZERO,
        n => Duration::from_secs(1 << (n - 2).min(16)).min(MAX_RELAUNCH_DELAY),
    }
}
