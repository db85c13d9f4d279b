//! What is told of a cluster: phase, conditions, counts, endpoints. Pure; equal input gives an equal
//! value, so that nothing is written for time alone.

use std::collections::BTreeMap;

use jiff::Timestamp;
use overlord_api::{
    Condition, ConditionType, DISK_TROUBLE, Endpoint, Endpoints, Info, Kind, Phase, Spec, State, Status,
    Truth,
};

use overlord_engines::cluster::{SlotSet, slot_ranges, slots_digest};

use super::{observed::Instance, plan::Plan};
use crate::redis_cluster::shape_of;

/// Everything a status depends on.
#[derive(Debug)]
pub(crate) struct Input<'a> {
    /// The status as last written.
    pub previous: Option<&'a Status>,
    /// Kind and spec of the accepted revision.
    pub accepted: Option<(Kind, &'a Spec, u64)>,
    /// The config key's mod revision; 0 when it is gone.
    pub config_revision: i64,
    /// Why the value under `config/` was refused, if it was.
    pub refused: Option<&'a str>,
    /// Whether all members served once.
    pub formed: bool,
    /// Deletion: by whom, and whether nothing is left to do.
    pub deletion: Option<(&'a str, bool)>,
    /// Why the cluster is kept although its config key is gone.
    pub spec_missing: Option<(&'a str, &'a str)>,
    /// Why what is shown may be old.
    pub stale: Option<(&'static str, &'a str)>,
    /// Why members could not be placed, in the last pass that tried.
    pub unplaceable: Option<&'a str>,
    /// The instances.
    pub instances: &'a [Instance],
    /// By what executors are started now.
    pub template: &'a str,
    /// The plan of this pass.
    pub plan: Option<&'a Plan>,
    /// Now.
    pub now: Timestamp,
}

/// The status to be shown.
pub(crate) fn status(input: &Input<'_>) -> Status {
    let mut conditions = Conditions { input, list: Vec::new() };
    conditions.fill();
    let list = conditions.list;
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    for instance in input.instances {
        *counts.entry(instance.info.observed.state.as_str().to_owned()).or_default() += 1;
    }
    let progress = input.plan.map(|plan| plan.progress).unwrap_or_default();
    let infos = input.instances.iter().map(|instance| &instance.info);
    let outdated = infos.filter(|info| {
        info.desired.state == State::Running && info.template.as_deref() != Some(input.template)
    });
    Status {
        version: 1,
        kind: input.accepted.map(|(kind, ..)| kind),
        phase: phase(input, &list),
        revision: input.accepted.map_or(0, |(.., revision)| revision),
        config_revision: input.config_revision,
        conditions: list,
        counts,
        wanted: progress.wanted,
        ready: progress.serving,
        updated: progress.updated,
        outdated: u32::try_from(outdated.count()).unwrap_or(u32::MAX),
        template: input.accepted.map(|_| input.template.to_owned()),
    }
}

fn phase(input: &Input<'_>, conditions: &[Condition]) -> Phase {
    let is = |kind| conditions.iter().any(|c| c.kind == kind && c.status == Truth::True);
    match (input.deletion, input.plan) {
        (Some((_, true)), _) => Phase::Deleted,
        (Some((_, false)), _) => Phase::Deleting,
        (None, None) => Phase::Pending,
        (None, Some(plan)) => {
            if !plan.blocked.is_empty() {
                Phase::Paused
            } else if is(ConditionType::Degraded) {
                Phase::Degraded
            } else if !input.formed && !is(ConditionType::Ready) {
                Phase::Creating
            } else if is(ConditionType::Progressing) {
                Phase::Updating
            } else if is(ConditionType::Ready) {
                Phase::Ready
            } else {
                Phase::Degraded
            }
        }
    }
}

struct Conditions<'a> {
    input: &'a Input<'a>,
    list: Vec<Condition>,
}

impl<'a> Conditions<'a> {
    fn fill(&mut self) {
        self.accepted();
        if let Some(plan) = self.input.plan {
            self.ready(plan);
            self.progressing(plan);
            self.degraded();
        }
        let unplaceable = self.input.unplaceable.map(|message| ("NoSuitableOffer", message));
        self.only_when(ConditionType::Unplaceable, unplaceable, "Placed", "every member has a place");
        let (quorum, data) = (self.of_plan(ConditionType::QuorumLost), self.of_plan(ConditionType::DataLost));
        self.only_when(ConditionType::QuorumLost, quorum, "Majority", "a majority of the masters answers");
        self.only_when(ConditionType::DataLost, data, "Acknowledged", "no loss is open");
        self.only_when(
            ConditionType::SpecMissing,
            self.input.spec_missing,
            "SpecPresent",
            "the config key is there",
        );
        self.only_when(ConditionType::Stale, self.input.stale, "UpToDate", "mesos answers");
    }

    /// Adds a condition; its transition time moves only when its truth does.
    fn add(&mut self, kind: ConditionType, truth: bool, reason: &str, message: &str) {
        let status = if truth { Truth::True } else { Truth::False };
        let before = self.input.previous.and_then(|previous| previous.condition(kind));
        let last_transition = match before {
            Some(before) if before.status == status => before.last_transition,
            _ => self.input.now,
        };
        self.list.push(Condition {
            kind,
            status,
            reason: reason.to_owned(),
            message: message.to_owned(),
            last_transition,
            observed_revision: self.input.accepted.map_or(0, |(.., revision)| revision),
        });
    }

    /// A condition of which the plan says that it holds.
    fn of_plan(&self, kind: ConditionType) -> Option<(&'a str, &'a str)> {
        let mut conditions = self.input.plan.into_iter().flat_map(|plan| &plan.conditions);
        let found = conditions.find(|(found, ..)| *found == kind)?;
        Some((found.1, found.2.as_str()))
    }

    /// A condition that is shown when it holds, and as false once it did.
    fn only_when(
        &mut self,
        kind: ConditionType,
        holds: Option<(&str, &str)>,
        otherwise: &str,
        message: &str,
    ) {
        match holds {
            Some((reason, message)) => self.add(kind, true, reason, message),
            None if self.input.previous.is_some_and(|previous| previous.condition(kind).is_some()) => {
                self.add(kind, false, otherwise, message);
            }
            None => {}
        }
    }

    fn accepted(&mut self) {
        match (self.input.refused, self.input.accepted) {
            (Some(why), Some((.., revision))) => {
                let message = format!("{why}; revision {revision} goes on");
                self.add(ConditionType::Accepted, false, "InvalidSpec", &message);
            }
            (Some(why), None) => self.add(ConditionType::Accepted, false, "InvalidSpec", why),
            (None, Some((.., revision))) => {
                let message = format!("revision {revision} is accepted");
                self.add(ConditionType::Accepted, true, "Valid", &message);
            }
            (None, None) => {}
        }
    }

    fn ready(&mut self, plan: &Plan) {
        let (serving, wanted) = (plan.progress.serving, plan.progress.wanted);
        let message = format!("{serving} of {wanted} members serve");
        if self.input.deletion.is_some() {
            self.add(ConditionType::Ready, false, "Deleting", "the cluster is being deleted");
        } else if serving >= wanted {
            self.add(ConditionType::Ready, true, "AllServe", &message);
        } else {
            self.add(ConditionType::Ready, false, "MembersMissing", &message);
        }
    }

    fn progressing(&mut self, plan: &Plan) {
        if let Some((by, done)) = self.input.deletion {
            let message = format!("deletion by {by}");
            return self.add(
                ConditionType::Progressing,
                !done,
                if done { "Deleted" } else { "Deleting" },
                &message,
            );
        }
        if let Some(blocked) = plan.blocked.first() {
            let more = match plan.blocked.len() {
                1 => String::new(),
                n => format!(" (and {} more)", n - 1),
            };
            let message = format!("{}{more}", blocked.message);
            return self.add(ConditionType::Progressing, false, blocked.reason, &message);
        }
        if plan.is_converged() {
            return self.add(ConditionType::Progressing, false, "Converged", "nothing is left to do");
        }
        let mut parts =
            plan.steps.iter().map(ToString::to_string).chain(plan.waiting.iter().map(|w| w.why.clone()));
        let total = plan.steps.len() + plan.waiting.len();
        let first = parts.next().unwrap_or_else(|| String::from("asking the instances"));
        let message = if total > 1 { format!("{first} (and {} more)", total - 1) } else { first };
        self.add(ConditionType::Progressing, true, "Working", &message);
    }

    fn degraded(&mut self) {
        let broken: Vec<&Info> = self
            .input
            .instances
            .iter()
            .map(|instance| &*instance.info)
            .filter(|info| info.desired.state == State::Running && is_broken(info, self.input.formed))
            .collect();
        let silent = self.of_plan(ConditionType::Degraded);
        match (broken.first(), silent) {
            (None, Some((reason, message))) => self.add(ConditionType::Degraded, true, reason, message),
            (None, None) => match self.disk_trouble() {
                Some(text) => self.add(ConditionType::Degraded, true, "DiskFailing", &text),
                None => self.add(ConditionType::Degraded, false, "Healthy", "no member is broken"),
            },
            (Some(info), _) => {
                let (state, message) = (info.observed.state, &info.observed.message);
                let why = if message.is_empty() { String::new() } else { format!(": {message}") };
                let more = if broken.len() > 1 {
                    format!(" (and {} more)", broken.len() - 1)
                } else {
                    String::new()
                };
                let text = format!("member {} at {} is {state}{why}{more}", info.member, info.address());
                self.add(ConditionType::Degraded, true, "MembersBroken", &text);
            }
        }
    }
}

impl Conditions<'_> {
    /// Who serves and cannot write to its disk.
    fn disk_trouble(&self) -> Option<String> {
        let infos = self.input.instances.iter().map(|instance| &*instance.info);
        let mut failing = infos.filter(|info| {
            info.observed.state == State::Running && info.observed.message.starts_with(DISK_TROUBLE)
        });
        let first = failing.next()?;
        let more = match failing.count() {
            0 => String::new(),
            n => format!(" (and {n} more)"),
        };
        let message = &first.observed.message;
        Some(format!("member {} at {} {message}{more}", first.member, first.address()))
    }
}

/// A member that is meant to serve and does not, other than by being launched for the first time.
fn is_broken(info: &Info, formed: bool) -> bool {
    match info.observed.state {
        State::Running | State::Draining => false,
        // A starting one is broken when it is not its first start, or when it says that something is wrong: a
        // server that stopped answering is reported so.
        State::Pending | State::Staging => {
            formed && (info.observed.failures > 0 || !info.observed.message.is_empty())
        }
        State::Restarting | State::Unreachable | State::Failed | State::Gone => true,
    }
}

/// The slots that a node serves, as clients and proxies write them. An executor reports a digest: it stands for
/// the slots its shard was formed with, or for nothing that is known here.
fn slots_of(spec: &Spec, info: &Info) -> Option<String> {
    let shape = shape_of(spec)?;
    let range = slot_ranges(u16::try_from(shape.masters).ok()?).get(info.shard? as usize)?.clone();
    let mut slots = SlotSet::new();
    slots.insert(range);
    (slots_digest(&slots) == info.observed.slots).then(|| slots.to_string())
}

/// Who serves. A member that restarts in place or whose agent is lost stays for `unreachableAfter`,
/// so that a short trouble does not move keys about.
pub(crate) fn endpoints(
    kind: Kind,
    spec: &Spec,
    instances: &[Instance],
    now: Timestamp,
) -> (Endpoints, Option<Timestamp>) {
    let mut next: Option<Timestamp> = None;
    let mut list: Vec<Endpoint> = Vec::new();
    for instance in instances {
        let info = &instance.info;
        if info.desired.state != State::Running {
            continue;
        }
        match info.observed.state {
            State::Running => {}
            State::Restarting | State::Unreachable => {
                let until = info
                    .observed
                    .since
                    .saturating_add(spec.recovery.unreachable_after)
                    .unwrap_or(Timestamp::MAX);
                if until <= now {
                    continue;
                }
                next = Some(next.map_or(until, |next| next.min(until)));
            }
            State::Pending | State::Staging | State::Draining | State::Failed | State::Gone => continue,
        }
        list.push(Endpoint {
            alias: info.alias.clone(),
            address: info.address(),
            weight: info.weight,
            role: info.observed.role.clone().unwrap_or_else(|| String::from("single")),
            slots: slots_of(spec, info),
        });
    }
    list.sort_by(|a, b| a.alias.cmp(&b.alias).then(a.address.cmp(&b.address)));
    (Endpoints { version: 1, kind, endpoints: list }, next)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::samples::{at, info, spec};

    /// Members of a formed cluster that say these messages.
    fn members(told: &[(State, &str)]) -> Vec<Instance> {
        let member = |(n, (state, message)): (usize, &(State, &str))| {
            let mut info = info(u32::try_from(n).unwrap(), *state);
            (*message).clone_into(&mut info.observed.message);
            Instance { info: Arc::new(info), revision: 1, conf: None }
        };
        told.iter().enumerate().map(member).collect()
    }

    fn told(instances: &[Instance]) -> Status {
        let (spec, plan) = (spec(3), Plan::default());
        status(&Input {
            previous: None,
            accepted: Some((Kind::Redis, &spec, 1)),
            config_revision: 1,
            refused: None,
            formed: true,
            deletion: None,
            spec_missing: None,
            stale: None,
            unplaceable: None,
            instances,
            template: "t",
            plan: Some(&plan),
            now: at(9),
        })
    }

    fn degraded(status: &Status) -> (Truth, &str, &str) {
        let condition = status.condition(ConditionType::Degraded).unwrap();
        (condition.status, &condition.reason, &condition.message)
    }

    #[test]
    fn a_server_that_serves_and_cannot_write_to_its_disk_is_told_and_stays_an_endpoint() {
        let full = format!("{DISK_TROUBLE}: the last snapshot failed");
        let instances = members(&[(State::Running, ""), (State::Running, &full), (State::Running, &full)]);
        let status = told(&instances);
        let message =
            "member 1 at 127.0.0.2:20000 cannot write to its disk: the last snapshot failed (and 1 more)";
        assert_eq!(degraded(&status), (Truth::True, "DiskFailing", message));
        assert_eq!(status.phase, Phase::Degraded);
        let (serving, _) = endpoints(Kind::Redis, &spec(3), &instances, at(9));
        assert_eq!(serving.endpoints.len(), 3);

        let one = told(&instances[..2]);
        assert_eq!(degraded(&one).2, message.trim_end_matches(" (and 1 more)"));
        // It has recovered.
        let well = told(&members(&[(State::Running, ""), (State::Running, "another thing")]));
        assert_eq!(degraded(&well), (Truth::False, "Healthy", "no member is broken"));
    }

    #[test]
    fn a_member_that_does_not_serve_is_told_before_one_with_a_full_disk() {
        let instances = members(&[(State::Running, DISK_TROUBLE), (State::Failed, "was killed")]);
        let status = told(&instances);
        let (truth, reason, message) = degraded(&status);
        assert_eq!((truth, reason == "DiskFailing"), (Truth::True, false));
        assert!(message.starts_with("member 1 ") && message.ends_with(": was killed"), "{message}");
        // What it said of its disk before it ended is no news of a disk.
        let instances = members(&[(State::Restarting, DISK_TROUBLE)]);
        assert_ne!(degraded(&told(&instances)).1, "DiskFailing");
    }
}
