//! The planner of a `RedisCluster`: pure, as the pools' is, whose parts it uses. What it adds: forming is all
//! or nothing; every shard has a living master; nothing is done while the masters are no majority; members come
//! and go by the cluster's own commands; and a master is never restarted while a replica could take over.

use std::collections::BTreeSet;

use jiff::Timestamp;
use overlord_api::{ConditionType, Info, State};
use overlord_placement::cluster::Shape;

use super::{
    nodes::Takeover,
    seats::{Seat, Seats},
};
use crate::members::{
    observed::Instance,
    plan::{Control, Loss, Planner, STICK, cause, relaunch_delay},
    step::{Form, Place, Step},
};

/// While the cluster is not as it should be, its nodes are asked again after this long.
const LOOK_AGAIN: jiff::SignedDuration = jiff::SignedDuration::from_millis(1000);

/// Shards named in one message.
const SHARDS_NAMED: usize = 5;

impl<'a> Planner<'a> {
    pub(crate) fn heal_cluster(&mut self, shape: Shape) {
        self.settle();
        if !self.input.record.formed && self.form(shape) {
            return;
        }
        let seats = self.input.sight.map(|sight| Seats::new(shape, self.kept.values().copied(), sight));
        let members: Vec<&'a Instance> = self.kept.values().copied().collect();
        for instance in &members {
            self.keep_member(instance, seats.as_ref());
        }
        let missing = self.plan.progress.wanted.saturating_sub(u32::try_from(members.len()).unwrap_or(0));
        if self.input.record.formed && missing > 0 && !self.is_unsure() {
            self.block(
                "MemberNotRecorded",
                format!(
                    "{missing} members are not recorded any more: put their info keys back, or delete the cluster"
                ),
            );
        }
        self.tell_emptied(shape);
        match seats {
            // Before it was complete once nobody has anything to lose, and the nodes are busy getting to know each other.
            // Unless one of them has to start for a second time: those it knows may have moved on without it.
            _ if !self.input.record.formed
                && members.iter().all(|i| is_starting(&i.info) && !is_launched_again(&i.info)) => {}
            Some(seats) => self.engines(shape, &seats),
            None if self.input.settled => {}
            None => self.plan.look = true,
        }
    }

    /// Forming, all or nothing; true when that is all there is to do.
    fn form(&mut self, shape: Shape) -> bool {
        let wanted = self.plan.progress.wanted;
        let have = u32::try_from(self.kept.len()).unwrap_or(u32::MAX);
        if have >= wanted {
            return false;
        }
        let held = matches!(self.input.control, Control::Hold { .. }) || self.is_unsure();
        if have > 0 {
            // Those that are recorded would wait for the others for ever, and what they were told of them is void.
            if !held {
                for instance in self.kept.values().copied().collect::<Vec<_>>() {
                    let why = format!("forming was interrupted: {have} of {wanted} members are recorded");
                    self.retire(instance, false, 0, why);
                }
            }
            return true;
        }
        self.plan.progress.launching += wanted;
        // What an interrupted forming left ends first.
        if !held && self.input.instances.is_empty() {
            self.plan.steps.push(Step::Form(Form { shape, anew: self.input.record.attempts > 0 }));
        }
        true
    }

    fn keep_member(&mut self, instance: &'a Instance, seats: Option<&Seats<'a>>) {
        let info = &instance.info;
        let (member, address) = (info.member, info.address());
        if info.desired.state == State::Draining {
            self.plan.progress.restarting += 1;
            return match info.observed.state {
                // It comes back as the node it was, with what it knows, if there is a place for it there.
                State::Gone | State::Failed => self.relaunch_member(instance, seats),
                State::Unreachable => self.outlast_member(instance, seats),
                State::Pending | State::Staging | State::Running | State::Restarting | State::Draining => {
                    self.kill(instance);
                }
            };
        }
        match info.observed.state {
            State::Running => self.plan.progress.serving += 1,
            State::Pending | State::Staging => {
                self.plan.progress.launching += 1;
                self.wait(member, format!("member {member} is starting at {address}{}", told(info)), None);
            }
            State::Restarting => {
                let why = format!("member {member} restarts in place at {address}{}", told(info));
                self.wait(member, why, None);
            }
            State::Draining => self.wait(member, format!("member {member} is stopping at {address}"), None),
            State::Unreachable => self.outlast_member(instance, seats),
            State::Failed | State::Gone => self.relaunch_member(instance, seats),
        }
    }

    /// A member on a lost agent: kept for `replaceAfter`, then replaced elsewhere.
    fn outlast_member(&mut self, instance: &'a Instance, seats: Option<&Seats<'a>>) {
        let info = &instance.info;
        let (member, address) = (info.member, info.address());
        if self.is_unconfirmed(instance) {
            return self.await_mesos(instance);
        }
        let until = after(info.observed.since, self.input.spec.recovery.replace_after);
        if until <= self.input.now {
            self.replace(instance, seats);
        } else {
            let why = format!("member {member} at {address} is unreachable and is replaced if it stays so");
            self.wait(member, why, Some(until));
        }
    }

    /// A member that ended and was not asked to: at its own address, as the node it was, as long as there is hope.
    fn relaunch_member(&mut self, instance: &'a Instance, seats: Option<&Seats<'a>>) {
        let info = &instance.info;
        let (member, address) = (info.member, info.address());
        if info.observed.refused.is_some() {
            if self.is_refused_for_now(info) {
                return;
            }
            // Launched for the first time it was nowhere yet: any place will do.
            if info.launches == 0 {
                return self.launch(member, Place::Rather(address));
            }
        }
        let failures = info.observed.failures;
        let due = after(info.observed.since, relaunch_delay(failures));
        if due > self.input.now {
            let why =
                format!("member {member} ended at {address} {failures} times in a row: {}", cause(info));
            self.plan.progress.launching += 1;
            return self.wait(member, why, Some(due));
        }
        // Nobody knows it elsewhere than in the seeds: it keeps its id, and the others hear its new address from it.
        if !self.input.record.formed {
            return self.launch(member, Place::Rather(address));
        }
        let crash_loop = failures > self.input.spec.recovery.restarts_before_replace;
        let given_up = after(info.observed.since, self.input.spec.recovery.replace_after);
        // From an agent that is drained it goes away at once, if its shard can do without what it has there.
        let leaves = info.observed.evicted && (!self.persistent() || has_other_master(info, seats));
        if crash_loop || leaves || given_up <= self.input.now {
            return self.replace(instance, seats);
        }
        self.launch(member, Place::Same(address));
        self.wait(
            member,
            format!("member {member} is launched at {address} when that is offered"),
            Some(given_up),
        );
    }

    /// A member that is given up where it was. Its shard must not need it any more.
    fn replace(&mut self, instance: &'a Instance, seats: Option<&Seats<'a>>) {
        let info = &instance.info;
        let (member, address) = (info.member, info.address());
        let again = Some(self.look_again());
        let Some(seats) = seats else {
            self.plan.look = true;
            return self.wait(
                member,
                format!("the cluster is asked before member {member} is replaced"),
                None,
            );
        };
        let ended = matches!(info.observed.state, State::Failed | State::Gone);
        let Some(seat) = seats.get(member) else { return };
        let sight = self.input.sight.map(super::observed::Sight::topology);
        if !sight.is_some_and(overlord_engines::cluster::Topology::majority_masters_reachable) {
            // The way back to a majority leads through those that come back.
            if ended {
                self.launch(member, Place::Same(address));
            }
            return self.wait(member, format!("member {member} is not replaced without a majority"), again);
        }
        let owner = seats.owner(seat.shard);
        match owner {
            Some(owner) if owner.member() != member && !seats.is_dead(owner) => self.go_elsewhere(instance),
            Some(owner) if owner.member() == member => self.replace_owner(instance, seat, seats),
            // Whoever had the slots is no member any more, and nobody of the shard is left: it starts anew.
            None if seats.replicas(seat.shard, Some(seat)).all(|other| seats.is_dead(other)) => {
                self.go_elsewhere(instance);
            }
            Some(_) | None => {
                if ended {
                    self.launch(member, Place::Same(address));
                }
                let why = format!("member {member} is replaced once shard {} has a master", seat.shard);
                self.wait(member, why, again);
            }
        }
    }

    /// A place on another host; when there is none for a while, any: what it failed of there may be over, or another
    /// agent may have the address by now.
    fn go_elsewhere(&mut self, instance: &'a Instance) {
        let info = &instance.info;
        let (member, address) = (info.member, info.address());
        let given_up = after(info.observed.since, self.input.spec.recovery.replace_after);
        // One that failed often is not tried before.
        let due = after(info.observed.since, relaunch_delay(info.observed.failures));
        let until = after(given_up.max(due), STICK);
        if until <= self.input.now {
            return self.launch(member, Place::Any(address));
        }
        self.launch(member, Place::Elsewhere(address));
        self.wait(
            member,
            format!("member {member} is looked another host for than that of {address}"),
            Some(until),
        );
    }

    /// A master that will not come back, and of which no replica has taken over by itself.
    fn replace_owner(&mut self, instance: &'a Instance, seat: &Seat<'a>, seats: &Seats<'a>) {
        let info = &instance.info;
        let (member, address, shard) = (info.member, info.address(), seat.shard);
        let ended = matches!(info.observed.state, State::Failed | State::Gone);
        let again = Some(self.look_again());
        // Mesos lost its agent, and still it serves: it hands over in order, and is then one of many.
        if !seats.is_dead(seat) {
            let why = format!("the agent of member {member} is lost");
            match seats.successor(seat) {
                Some(successor) => self.fail_over(successor, Takeover::InAgreement, why),
                None => self.wait(member, format!("member {member} at {address} serves, and {why}"), again),
            }
            return;
        }
        if ended
            && self.persistent()
            && after(info.observed.since, self.input.spec.recovery.replace_after) > self.input.now
        {
            let failures = info.observed.failures;
            self.block(
                "CrashLoop",
                format!(
                    "member {member} at {address} failed {failures} times and is not moved away from its data: {}",
                    cause(info)
                ),
            );
            return self.launch(member, Place::Same(address));
        }
        // One that answers or may still come back is worth more than nothing.
        if let Some(heir) = seats.remnant(seat) {
            if seats.heir(seat, self.dead_for(seat)).is_none() {
                let message = format!(
                    "shard {shard} goes on with what member {} at {} has: its master, member {member} at {address}, did not come back",
                    heir.member(),
                    heir.address()
                );
                self.lose(
                    shard,
                    &format!("{}+{}", info.mesos_task_id, heir.instance.info.mesos_task_id),
                    message,
                );
                let why = format!("shard {shard} has lost its master for good");
                self.fail_over(heir, Takeover::of(seat, seats), why);
            }
            return self.wait(member, format!("shard {shard} gets another master"), again);
        }
        let hope = seats.replicas(shard, Some(seat)).find(|other| {
            let info = &other.instance.info;
            let given_up =
                after(info.observed.since, self.input.spec.recovery.replace_after) <= self.input.now;
            !(matches!(info.observed.state, State::Unreachable | State::Failed | State::Gone) && given_up)
        });
        if let Some(other) = hope {
            let why = format!(
                "shard {shard} waits for member {} at {}, which may have its keys",
                other.member(),
                other.address()
            );
            if ended {
                self.launch(member, Place::Same(address));
            }
            return self.wait(member, why, again);
        }
        let message = format!(
            "shard {shard} starts anew: member {member} at {address} and every copy of it are lost for good{}",
            if info.observed.evicted { "" } else { " (recovery.replaceAfter)" }
        );
        self.lose(shard, &info.mesos_task_id, message);
        self.go_elsewhere(instance);
    }

    /// Masters that had to start without their keys say so themselves.
    fn tell_emptied(&mut self, shape: Shape) {
        for instance in self.kept.values().copied().collect::<Vec<_>>() {
            let info = &instance.info;
            if info.observed.emptied == 0 {
                continue;
            }
            let shard = super::shard_of(shape, info.member);
            let message = format!(
                "shard {shard} lost its keys: member {} at {} started without them, and no replica had them",
                info.member,
                info.address()
            );
            self.lose(shard, &format!("{}#{}", info.mesos_task_id, info.observed.emptied), message);
        }
        let recorded = self.input.record.losses.values().filter(|loss| !loss.acknowledged);
        let recorded = recorded.map(|loss| (loss.shard, loss.message.as_str()));
        let fresh = self.plan.losses.values().map(|loss| (loss.shard, loss.message.as_str()));
        let lost: Vec<(u32, &str)> = recorded.chain(fresh).collect();
        let Some((first, message)) = lost.first() else { return };
        let others: BTreeSet<u32> =
            lost.iter().map(|(shard, _)| *shard).filter(|shard| shard != first).collect();
        let named: Vec<String> = others.iter().take(SHARDS_NAMED).map(u32::to_string).collect();
        let others = match (others.len(), named.join(", ")) {
            (0, _) => String::new(),
            (n, named) if n > SHARDS_NAMED => format!("; so did {n} other shards: {named}, ..."),
            (_, named) => format!("; so did shards {named}"),
        };
        let cluster = self.input.cluster;
        let message = format!("{message}{others}; overlord task recover {cluster} takes note of it");
        self.plan.conditions.push((ConditionType::DataLost, "ShardEmptied", message));
    }

    /// Remembers a loss that is not recorded yet.
    pub(super) fn lose(&mut self, shard: u32, evidence: &str, message: String) {
        if !self.input.record.losses.contains_key(evidence) {
            self.plan.losses.insert(evidence.to_owned(), Loss { shard, message });
        }
    }

    pub(super) fn look_again(&self) -> Timestamp {
        self.input.now.saturating_add(LOOK_AGAIN).unwrap_or(Timestamp::MAX)
    }
}

/// Whether another member is the living master of its shard; as long as nobody knows, it may be: the cluster is
/// asked.
fn has_other_master(info: &Info, seats: Option<&Seats<'_>>) -> bool {
    seats.is_none_or(|seats| {
        let shard = seats.get(info.member).map(|seat| seat.shard);
        let owner = shard.and_then(|shard| seats.owner(shard));
        owner.is_some_and(|owner| owner.member() != info.member && !seats.is_dead(owner))
    })
}

/// Whether it starts for a second time or later.
pub(super) const fn is_launched_again(info: &Info) -> bool {
    info.launches > 0 || info.observed.restarts > 0
}

const fn is_starting(info: &Info) -> bool {
    matches!(
        info.observed.state,
        State::Pending | State::Staging | State::Running | State::Failed | State::Gone | State::Restarting
    )
}

/// What the executor says besides, as the end of a sentence.
fn told(info: &Info) -> String {
    if info.observed.message.is_empty() { String::new() } else { format!(": {}", info.observed.message) }
}

pub(super) fn after(since: Timestamp, delay: std::time::Duration) -> Timestamp {
    since.saturating_add(delay).unwrap_or(Timestamp::MAX)
}
