//! Declared changes: removal, configuration, restarts. Held while something is broken beyond the
//! budget, stopped by a person's word or a refusal; one member that cannot go on does not stop the
//! changes that do not depend on it.

use overlord_api::{ConditionType, OnFailure, REASON_CANARY, State};
use std::collections::BTreeSet;

use overlord_placement::cluster::Shape;

use super::{Control, Planner};
use crate::{
    Known,
    members::{confs::render, observed::Instance, step::Step},
    redis_cluster::{shape_of, shard_of},
};

/// Where a member stands with the spec.
enum Standing {
    /// Runs what the spec says.
    Updated,
    /// Another text is to be written.
    Config(String),
    /// The text is written, the executor has not answered.
    Accepting,
    /// The engine refused the text.
    Refused,
    /// The process must be restarted in place.
    Restart,
    /// The restart is ordered.
    Restarting,
    /// The Mesos task must be launched anew: version or resources changed.
    Anew(&'static str),
    /// Not serving: healing has it.
    Healing,
}

impl<'a> Planner<'a> {
    pub(super) fn change(&mut self) {
        let wanted = self.plan.progress.wanted as usize;
        // The newest members go first: their share of the ring is the one that clients know shortest.
        let excess: Vec<&'a Instance> =
            self.kept.values().rev().take(self.kept.len().saturating_sub(wanted)).copied().collect();
        for instance in &excess {
            self.kept.remove(&instance.info.member);
            self.plan.progress.removing += 1;
            let counted = instance.info.desired.state == State::Running;
            if counted && instance.info.observed.state == State::Running {
                self.plan.progress.serving -= 1;
            }
        }
        let standings: Vec<(&'a Instance, Standing)> =
            self.kept.values().map(|&instance| (instance, self.standing(instance))).collect();
        self.count(&standings);

        let pending =
            self.plan.progress.configuring + self.plan.progress.restarting + self.plan.progress.removing;
        if let Control::Hold { reason, message } = self.input.control {
            if pending > 0 || self.kept.len() < wanted {
                self.block(reason, message.clone());
            }
            return;
        }
        // Nothing is removed or restarted while an instance is not known, or the masters cannot elect.
        let no_quorum = self.plan.conditions.iter().any(|(kind, ..)| *kind == ConditionType::QuorumLost);
        if self.is_unsure() || no_quorum {
            return;
        }
        for instance in excess {
            let why = format!("the spec wants {wanted} members");
            if let Some(loses) = self.may_lose(instance, "removing") {
                // What is removed is not healed any more.
                self.plan.steps.retain(|step| !is_launch_of(step, instance.info.member));
                self.retire(instance, false, loses, why);
            }
        }
        self.amend();
        if self.refusals(&standings) {
            return;
        }
        self.configure(&standings);
        self.restart(&standings);
    }

    fn standing(&self, instance: &'a Instance) -> Standing {
        let (info, spec) = (&instance.info, self.input.spec);
        if info.desired.state == State::Draining {
            return Standing::Restarting;
        }
        if info.engine_version != spec.version {
            return Standing::Anew("the version changes");
        }
        if info.resources != spec.resources {
            return Standing::Anew("the resources change");
        }
        if self.input.renew && info.template.as_deref() != Some(self.input.template) {
            return Standing::Anew("its executor was started with other settings");
        }
        // Validation renders first; a spec accepted by an older build may still fail here.
        let wanted = self.input.confs.digest(spec, info.address(), info.bus_port);
        if wanted.is_none() || instance.conf != wanted {
            let text = render(spec, info.address(), info.bus_port);
            return text.map_or(Standing::Refused, Standing::Config);
        }
        if info.observed.config_refused == Some(info.desired.config) {
            return Standing::Refused;
        }
        if !matches!(info.observed.state, State::Running) {
            return Standing::Healing;
        }
        if info.observed.restart < info.desired.restart {
            return Standing::Restarting;
        }
        if info.observed.config < info.desired.config {
            return Standing::Accepting;
        }
        if info.observed.restart_needed { Standing::Restart } else { Standing::Updated }
    }

    /// Whether a change is at work that restarts the member or launches it anew.
    pub(crate) fn is_to_be_restarted(&self, instance: &'a Instance) -> bool {
        matches!(self.input.control, Control::Run { .. })
            && matches!(self.standing(instance), Standing::Restart | Standing::Restarting | Standing::Anew(_))
    }

    fn count(&mut self, standings: &[(&'a Instance, Standing)]) {
        let progress = &mut self.plan.progress;
        for (_, standing) in standings {
            match standing {
                Standing::Updated => progress.updated += 1,
                Standing::Config(_) | Standing::Accepting | Standing::Refused => progress.configuring += 1,
                Standing::Restart | Standing::Anew(_) => progress.restarting += 1,
                // A member launched anew was counted where it is launched.
                Standing::Restarting | Standing::Healing => {}
            }
        }
    }

    /// Policies that change nothing on the agent.
    fn amend(&mut self) {
        let on_disk = self.input.spec.deletion.on_disk;
        let on_agent_loss = self.input.spec.recovery.on_agent_loss;
        for instance in self.kept.values() {
            // A launch writes the new policy anyway.
            let launched = self.plan.steps.iter().any(|step| is_launch_of(step, instance.info.member));
            let recorded = (instance.info.on_disk, instance.info.on_agent_loss);
            if recorded != (on_disk, on_agent_loss) && !launched {
                let address = instance.info.address();
                self.plan.steps.push(Step::Amend { address, on_disk, on_agent_loss });
            }
        }
    }

    /// Names every refusal; true when the rollout stops for them.
    fn refusals(&mut self, standings: &[(&'a Instance, Standing)]) -> bool {
        let mut stop = false;
        for (instance, standing) in standings {
            if let Standing::Refused = standing {
                let info = &instance.info;
                let said = match render(self.input.spec, info.address(), info.bus_port) {
                    Err(error) => error.to_string(),
                    Ok(_) => info.observed.message.clone(),
                };
                self.block(
                    "ConfigRefused",
                    format!(
                        "member {} at {} goes on with configuration {}: {said}",
                        info.member,
                        info.address(),
                        info.observed.config,
                    ),
                );
                stop |= self.input.spec.update.on_failure == OnFailure::Pause;
            }
        }
        stop
    }

    /// Writes new texts: to the first members alone, then to all others at once. A text with a
    /// value that the engine refuses thus reaches only the first.
    fn configure(&mut self, standings: &[(&'a Instance, Standing)]) {
        let first = self.input.spec.update.canary.max(1) as usize;
        let mut taken = 0;
        let mut accepting = false;
        for (instance, standing) in standings {
            match standing {
                Standing::Updated | Standing::Restart | Standing::Restarting => taken += 1,
                Standing::Accepting => {
                    accepting = true;
                    let info = &instance.info;
                    let why = format!(
                        "member {} at {} takes configuration {}",
                        info.member,
                        info.address(),
                        info.desired.config
                    );
                    self.nudge(instance, why);
                }
                Standing::Config(_) | Standing::Refused | Standing::Anew(_) | Standing::Healing => {}
            }
        }
        let rest = standings.iter().filter(|(_, standing)| matches!(standing, Standing::Config(_))).count();
        if rest == 0 {
            return;
        }
        let batch = if taken >= first {
            if !self.past_canary(taken, rest) {
                return;
            }
            usize::MAX
        } else if accepting {
            return;
        } else {
            first - taken
        };
        let ready = standings.iter().filter(|(instance, _)| instance.info.observed.state == State::Running);
        let texts = ready.filter_map(|(instance, standing)| match standing {
            Standing::Config(text) => Some((instance, text)),
            _ => None,
        });
        for (instance, text) in texts.take(batch) {
            let info = &instance.info;
            self.plan.steps.push(Step::WriteConfig {
                address: info.address(),
                member: info.member,
                text: text.clone(),
                config: info.desired.config.saturating_add(1),
            });
        }
    }

    /// Waits for an executor, and tells it again now and then: a message can get lost.
    fn nudge(&mut self, instance: &'a Instance, why: String) {
        let info = &instance.info;
        let (due, next) = self.nudge_due(&info.mesos_task_id);
        if due {
            self.plan.steps.push(Step::Nudge { address: info.address() });
        }
        self.wait(info.member, why, next);
    }

    /// Whether more than the canary may be changed; says so when not.
    fn past_canary(&mut self, changed: usize, rest: usize) -> bool {
        let canary = self.input.spec.update.canary;
        if canary == 0 || matches!(self.input.control, Control::Run { promoted: true }) {
            return true;
        }
        self.block(
            REASON_CANARY,
            format!(
                "{changed} members are changed, {rest} wait for a person: overlord task resume {}",
                self.input.task.unwrap_or("ID")
            ),
        );
        false
    }

    /// Restarts processes, or launches them anew, within the budget.
    fn restart(&mut self, standings: &[(&'a Instance, Standing)]) {
        let update = self.input.spec.update;
        let missing =
            self.plan.progress.wanted.saturating_sub(u32::try_from(standings.len()).unwrap_or(u32::MAX));
        let mut down = missing;
        let mut settling = None;
        let mut changed = 0;
        for (instance, standing) in standings {
            let info = &instance.info;
            match standing {
                Standing::Restarting => {
                    down += 1;
                    if info.desired.state != State::Draining {
                        let why = format!("member {} at {} restarts", info.member, info.address());
                        self.nudge(instance, why);
                    }
                }
                _ if info.observed.state != State::Running => down += 1,
                _ => {
                    let ready =
                        info.observed.since.saturating_add(update.min_ready).unwrap_or(jiff::Timestamp::MAX);
                    if ready > self.input.now {
                        settling = settling.max(Some((ready, info.member)));
                    }
                    changed += usize::from(matches!(standing, Standing::Updated));
                }
            }
        }
        let mut due: Vec<_> = standings
            .iter()
            .filter(|(instance, standing)| {
                matches!(standing, Standing::Restart | Standing::Anew(_))
                    && instance.info.observed.state == State::Running
            })
            .collect();
        if due.is_empty() {
            return;
        }
        let budget = update.max_unavailable.saturating_sub(down) as usize;
        if budget == 0 {
            let (instance, _) = due[0];
            self.wait(
                instance.info.member,
                format!("{} members wait to be restarted until {down} others serve", due.len()),
                None,
            );
            return;
        }
        if let Some((until, member)) = settling {
            self.wait(
                member,
                format!("member {member} must serve for a while before the next is restarted"),
                Some(until),
            );
            return;
        }
        due = self.with_room(due);
        if let Some(shape) = shape_of(self.input.spec) {
            due = self.in_turn(shape, due);
        }
        let canary = update.canary as usize;
        let budget = if canary > changed {
            budget.min(canary - changed)
        } else if self.past_canary(changed, due.len()) {
            budget
        } else {
            return;
        };
        for (instance, standing) in due.into_iter().take(budget) {
            let info = &instance.info;
            let kept = self.persistent() || has_copies(self.input.spec);
            let loses = if kept { Some(0) } else { self.may_lose(instance, "restarting") };
            let Some(loses) = loses else { continue };
            match standing {
                Standing::Anew(why) => self.retire(instance, true, loses, (*why).to_owned()),
                _ => self.plan.steps.push(Step::Restart {
                    address: info.address(),
                    member: info.member,
                    restart: info.desired.restart.saturating_add(1),
                    loses,
                }),
            }
        }
    }

    /// Those who get no more than they have, or for whom there is room: nobody is stopped for a place that does not
    /// exist.
    fn with_room<'s>(&mut self, mut due: Vec<Due<'a, 's>>) -> Vec<Due<'a, 's>> {
        let wants = self.input.spec.resources;
        due.retain(|(instance, standing)| {
            let (info, has) = (&instance.info, instance.info.resources);
            let grows =
                wants.cpu_millis > has.cpu_millis || wants.memory > has.memory || wants.disk > has.disk;
            if !grows || !matches!(standing, Standing::Anew(_)) {
                return true;
            }
            let (member, address) = (info.member, info.address());
            self.plan.room.insert(address);
            match self.input.room.get(&address) {
                Some(None) => return true,
                Some(Some(why)) => {
                    let why =
                        format!("member {member} at {address} goes on as it is until there is room: {why}");
                    self.wait(member, why, None);
                }
                // Planned again with the answer.
                None => {}
            }
            false
        });
        due
    }

    /// The members of a cluster of masters and replicas that may be restarted now: none unless all is well with
    /// its nodes, replicas before masters, and a master only after it handed over.
    fn in_turn<'s>(&mut self, shape: Shape, mut due: Vec<Due<'a, 's>>) -> Vec<Due<'a, 's>> {
        if self.input.sight.is_none() {
            self.plan.look = true;
            return Vec::new();
        }
        if !self.plan.whole {
            let member = due.first().map_or(0, |(instance, _)| instance.info.member);
            self.wait(member, String::from("the cluster must be whole before a member is restarted"), None);
            return Vec::new();
        }
        due.sort_by_key(|(instance, _)| instance.info.observed.role.as_deref() != Some("slave"));
        // Of one shard, and of one role, at a time: the next look tells how it went.
        let mut shards = BTreeSet::new();
        due.retain(|(instance, _)| shards.insert(shard_of(shape, instance.info.member)));
        let mut free = Vec::new();
        for entry in due {
            if !self.may_restart(shape, entry.0) {
                break;
            }
            free.push(entry);
        }
        free
    }

    /// How many keys go with this instance, if they may go; says so when not.
    fn may_lose(&mut self, instance: &'a Instance, doing: &str) -> Option<u64> {
        let info = &instance.info;
        let (member, address) = (info.member, info.address());
        // A process that ended and kept nothing on disk holds nothing.
        if !self.persistent() && matches!(info.observed.state, State::Failed | State::Gone | State::Pending) {
            return Some(0);
        }
        let keys = match self.input.keys.get(&address) {
            None => {
                self.plan.ask.insert(address);
                return None;
            }
            Some(keys) => *keys,
        };
        match keys {
            Known::Is(0) | Known::Absent => Some(0),
            Known::Is(keys) if self.input.spec.update.allow_data_loss => Some(keys),
            Known::Unknown if self.input.spec.update.allow_data_loss => Some(0),
            Known::Is(keys) => {
                self.block(
                    "DataLossNotAllowed",
                    format!(
                        "{doing} member {member} at {address} loses {keys} keys: set update.allowDataLoss to true to go on"
                    ),
                );
                None
            }
            Known::Unknown => {
                self.block(
                    "DataLossNotAllowed",
                    format!(
                        "{doing} member {member} at {address} may lose keys, it does not say how many: set update.allowDataLoss to true to go on"
                    ),
                );
                None
            }
        }
    }
}

/// A member to be restarted, and why.
type Due<'a, 's> = &'s (&'a Instance, Standing);

/// Whether a member that is restarted gets its keys back from another one.
fn has_copies(spec: &overlord_api::Spec) -> bool {
    shape_of(spec).is_some_and(|shape| shape.replicas_per_master > 0)
}

fn is_launch_of(step: &Step, member: u32) -> bool {
    matches!(step, Step::Launch(launch) if launch.member == member)
}
