//! How a Mesos status update changes what is recorded of an instance: pure.

use base64::Engine as _;
use jiff::Timestamp;
use overlord_api::{EventLevel, Info, MAX_REPORT, Refusal, Report, State};
use overlord_mesos::v1::{Source, TaskState, TaskStatus};

use crate::events::Happening;

/// A process that served this long before it failed had no part in the failures before it.
const FORGIVEN_AFTER_SECONDS: i64 = 60;

/// The reason of every answer to a reconciliation, and of the master's own comparison with an agent that is back.
const RECONCILIATION: &str = "REASON_RECONCILIATION";

/// The reason of a kill because the agent is drained.
const DRAINING: &str = "REASON_AGENT_DRAINING";

/// What the master says of a second task with an id that runs (src/master/validation.cpp of Mesos 1.11). The first one
/// runs on.
const DUPLICATE: &str = "duplicate ID";

/// What an update comes to.
#[derive(Debug, PartialEq)]
pub(crate) enum Folded {
    /// Nothing new.
    Unchanged,
    /// A new value for `info`, and what to tell people.
    Changed(Box<Info>, Option<Happening>),
    /// An end that is not believed as it is: Mesos must be asked.
    Ask,
}

/// What is known besides the update.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Context<'a> {
    /// Whether the instance's agent made an offer or sent an update in this subscription.
    pub agent_registered: bool,
    /// The end that was told before and not believed: the reason why Mesos was asked.
    pub doubted: Option<&'a TaskStatus>,
    /// Now.
    pub now: Timestamp,
}

/// Whether the master's word that a task ended must be confirmed by a reconciliation first. It makes such words
/// without having asked the agent: of an id that was launched a second time, and of all tasks of an agent that it
/// has just removed. What was never seen and is not known to be sent twice needs no second word.
fn is_doubtful(info: &Info, status: &TaskStatus) -> bool {
    let said_unasked = status.state.is_terminal()
        && status.source == Some(Source::Master)
        && status.uuid.is_none()
        && status.reason.as_deref() != Some(RECONCILIATION);
    let duplicate = status.message.as_deref().is_some_and(|message| message.contains(DUPLICATE));
    let may_have_begun = info.observed.state != State::Pending
        || matches!(status.state, TaskState::Lost | TaskState::Gone | TaskState::GoneByOperator);
    said_unasked && !is_over(info.observed.state) && (may_have_begun || duplicate)
}

/// Folds `status` into `info`, whose Mesos task it speaks of.
pub(crate) fn fold(info: &Info, status: &TaskStatus, context: Context<'_>) -> Folded {
    if is_doubtful(info, status) {
        return Folded::Ask;
    }
    let mut next = info.clone();
    let report = report_of(status);
    let served = context.now.as_second() - info.observed.since.as_second();
    if info.observed.state == State::Running && served >= FORGIVEN_AFTER_SECONDS {
        next.observed.failures = 0;
    }
    match status.state {
        TaskState::Staging | TaskState::Starting => {
            if !matches!(info.observed.state, State::Pending | State::Staging | State::Unreachable) {
                return Folded::Unchanged;
            }
            if info.observed.state != State::Staging {
                next.observed.message.clear();
            }
            begun(&mut next);
            next.observed.state = State::Staging;
            if let Some(report) = &report {
                apply(&mut next, report);
            }
        }
        TaskState::Running => match &report {
            Some(report) => {
                begun(&mut next);
                apply(&mut next, report);
            }
            // A reconciliation or an agent that returned: Mesos says that it runs, not how it is.
            None => match info.observed.state {
                State::Unreachable => {
                    next.observed.state = State::Running;
                    next.observed.message.clear();
                }
                State::Pending => {
                    begun(&mut next);
                    next.observed.message.clear();
                    next.observed.state = State::Staging;
                }
                _ => return Folded::Unchanged,
            },
        },
        TaskState::Killing => {
            if is_over(info.observed.state) {
                return Folded::Unchanged;
            }
            next.observed.state = State::Draining;
        }
        TaskState::Unreachable => {
            // Asked again and again, the master says it in other words than at first.
            if is_over(info.observed.state) || info.observed.state == State::Unreachable {
                return Folded::Unchanged;
            }
            next.observed.state = State::Unreachable;
            next.observed.message = message_of(status, report.as_ref(), "the agent cannot be reached");
        }
        // The master does not know it. With its agent there, it does not exist; without, nobody can tell.
        TaskState::NotKnown => {
            if is_over(info.observed.state) {
                return Folded::Unchanged;
            }
            if let Some(doubted) = context.doubted {
                // Both together: it was said to have ended, and nobody has it any more.
                end(&mut next, doubted, report.as_ref());
            } else if context.agent_registered {
                end(&mut next, status, report.as_ref());
            } else {
                next.observed.state = State::Unreachable;
                next.observed.message =
                    String::from("mesos does not know the task, and its agent is not there");
            }
        }
        TaskState::Finished
        | TaskState::Failed
        | TaskState::Killed
        | TaskState::Error
        | TaskState::Lost
        | TaskState::Dropped
        | TaskState::Gone
        | TaskState::GoneByOperator => {
            if is_over(info.observed.state) {
                return Folded::Unchanged;
            }
            end(&mut next, context.doubted.unwrap_or(status), report.as_ref());
        }
        TaskState::Unknown => return Folded::Unchanged,
    }
    if status.reason.as_deref() == Some(DRAINING) && next.desired.state == State::Running {
        next.observed.evicted = true;
    } else if status.state == TaskState::Running {
        // The drain ended before it killed the task.
        next.observed.evicted = false;
    }
    if next.observed.state == State::Running {
        // Forgiven when it stops serving: nothing is written for time alone.
        next.observed.failures = info.observed.failures;
    }
    if next == *info {
        return Folded::Unchanged;
    }
    if next.observed.state != info.observed.state || next.observed.restarts != info.observed.restarts {
        next.observed.since = context.now;
    }
    let happening = happening(info, &next);
    Folded::Changed(Box::new(next), happening)
}

const fn is_over(state: State) -> bool {
    matches!(state, State::Failed | State::Gone)
}

/// The launch was taken.
fn begun(next: &mut Info) {
    next.observed.refused = None;
    next.observed.refusals = 0;
}

/// How Mesos refused the launch, if that is what the update says: nothing of the task was ever started.
fn refusal(info: &Info, status: &TaskStatus) -> Option<Refusal> {
    match status.state {
        _ if info.observed.state != State::Pending => None,
        TaskState::Error => Some(Refusal::Invalid),
        // Of a launch that never arrived nobody knows.
        TaskState::Dropped | TaskState::NotKnown | TaskState::Gone => Some(Refusal::Dropped),
        _ => None,
    }
}

/// The Mesos task ended.
fn end(next: &mut Info, status: &TaskStatus, report: Option<&Report>) {
    if let Some(report) = report {
        apply(next, report);
    }
    next.observed.message = message_of(status, report, "the Mesos task ended");
    next.observed.pid = None;
    if matches!(next.desired.state, State::Gone | State::Draining) {
        next.observed.state = State::Gone;
        return;
    }
    let refusal = refusal(next, status);
    if refusal.is_some() {
        next.observed.refused = refusal;
        next.observed.refusals = next.observed.refusals.saturating_add(1);
        next.observed.state = State::Failed;
        return;
    }
    if status.reason.as_deref() == Some(DRAINING) {
        // No fault of its own.
        next.observed.state = State::Failed;
        return;
    }
    next.observed.failures = next.observed.failures.saturating_add(1);
    next.observed.state = State::Failed;
}

/// Takes over what the executor says.
pub(crate) fn apply(next: &mut Info, report: &Report) {
    let Report { version: _, state, config, restart, restarts, pid, role, epoch, link, slots, .. } = report;
    let observed = &mut next.observed;
    observed.state = *state;
    observed.config = *config;
    observed.restart = *restart;
    observed.restarts = *restarts;
    observed.pid = *pid;
    observed.role.clone_from(role);
    observed.epoch = *epoch;
    observed.link.clone_from(link);
    observed.slots.clone_from(slots);
    observed.restart_needed = report.restart_needed;
    observed.config_refused = report.config_refused;
    observed.emptied = report.emptied;
    observed.message.clone_from(&report.message);
}

/// The executor's report, when the update carries one that can be read.
pub(crate) fn report_of(status: &TaskStatus) -> Option<Report> {
    let data = status.data.as_ref()?;
    // Base64 of the largest report that is allowed.
    if data.len() > MAX_REPORT * 4 / 3 + 4 {
        tracing::warn!(task = %status.task_id, bytes = data.len(), "report is too large");
        return None;
    }
    let bytes = base64::engine::general_purpose::STANDARD.decode(data).ok()?;
    match overlord_api::read_value(&bytes) {
        Ok(report) => Some(report),
        Err(error) => {
            tracing::warn!(task = %status.task_id, %error, "report cannot be read");
            None
        }
    }
}

/// The most telling text of an update: the executor's, then Mesos', then `otherwise`.
fn message_of(status: &TaskStatus, report: Option<&Report>, otherwise: &str) -> String {
    let executor = report.map(|report| report.message.as_str()).filter(|text| !text.is_empty());
    let mesos = status.message.as_deref().filter(|text| !text.is_empty());
    let text = executor.or(mesos).unwrap_or(otherwise);
    let mut text = match &status.reason {
        Some(reason) if executor.is_none() => format!("{text} ({reason})"),
        _ => text.to_owned(),
    };
    if text.len() > 1024 {
        let end = (0..=1024).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        text.truncate(end);
    }
    text
}

/// What people should hear of a change, if anything.
fn happening(old: &Info, new: &Info) -> Option<Happening> {
    let member = new.member;
    let address = new.address();
    let object = format!("member/{member}");
    let warning = |reason, message| {
        Some(Happening { object: object.clone(), reason, level: EventLevel::Warning, message })
    };
    let normal = |reason, message| {
        Some(Happening { object: object.clone(), reason, level: EventLevel::Normal, message })
    };
    let why = new.observed.message.as_str();
    if new.observed.config_refused.is_some() && new.observed.config_refused != old.observed.config_refused {
        return warning(
            "ConfigRefused",
            format!("member {member} at {address} refused its configuration: {why}"),
        );
    }
    if new.observed.restarts > old.observed.restarts {
        let times = new.observed.restarts - old.observed.restarts;
        return warning(
            "ProcessRestarted",
            format!("member {member} at {address} was restarted in place{}: {why}", Times(times)),
        );
    }
    if new.observed.evicted && !old.observed.evicted {
        let agent = &new.agent_id;
        return warning(
            "AgentDraining",
            format!("member {member} at {address} is ended by mesos: its agent {agent} is drained"),
        );
    }
    match (old.observed.state, new.observed.state) {
        (a, b) if a == b => None,
        (_, State::Failed) if new.observed.refused.is_some() => {
            warning("LaunchRefused", format!("mesos did not launch member {member} at {address}: {why}"))
        }
        (_, State::Failed) if new.observed.evicted => None,
        (_, State::Failed) => warning("Failed", format!("member {member} at {address} ended: {why}")),
        (_, State::Unreachable) => warning("Unreachable", format!("member {member} at {address}: {why}")),
        (State::Unreachable, State::Running) => {
            normal("Returned", format!("member {member} at {address} is back and was kept"))
        }
        (_, State::Restarting) => {
            warning("ProcessDied", format!("the process of member {member} at {address} died: {why}"))
        }
        _ => None,
    }
}

/// "", " 2 times" ...
struct Times(u32);

impl std::fmt::Display for Times {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0 > 1 { write!(f, " {} times", self.0) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    fn context() -> Context<'static> {
        Context { agent_registered: true, doubted: None, now: samples::at(100) }
    }

    /// The master's own word, without a uuid.
    fn of_master(state: TaskState, reason: &str, message: &str) -> TaskStatus {
        let (reason, message) = (Some(reason.to_owned()), Some(message.to_owned()));
        TaskStatus { source: Some(Source::Master), reason, message, ..status(state) }
    }

    fn status(state: TaskState) -> TaskStatus {
        TaskStatus { state, ..TaskStatus::default() }
    }

    fn with_report(state: TaskState, report: &Report) -> TaskStatus {
        let data = base64::engine::general_purpose::STANDARD.encode(serde_json::to_vec(report).unwrap());
        TaskStatus { state, data: Some(data), ..TaskStatus::default() }
    }

    fn changed(folded: Folded) -> (Info, Option<Happening>) {
        match folded {
            Folded::Changed(info, happening) => (*info, happening),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_report_becomes_the_observed_half() {
        let info = samples::info(0, State::Staging);
        let report = samples::report(State::Running);
        let (info, _) = changed(fold(&info, &with_report(TaskState::Running, &report), context()));
        assert_eq!(info.observed.state, State::Running);
        assert_eq!(info.observed.pid, report.pid);
        assert_eq!(info.observed.since, samples::at(100));
        let again = fold(&info, &with_report(TaskState::Running, &report), context());
        assert_eq!(again, Folded::Unchanged);
    }

    #[test]
    fn an_end_that_was_asked_for_is_gone_any_other_is_failed() {
        let mut info = samples::info(0, State::Running);
        let (failed, happening) = changed(fold(&info, &status(TaskState::Failed), context()));
        assert_eq!((failed.observed.state, failed.observed.failures), (State::Failed, 1));
        assert_eq!(happening.map(|h| h.reason), Some("Failed"));
        info.desired.state = State::Gone;
        let (gone, _) = changed(fold(&info, &status(TaskState::Killed), context()));
        assert_eq!(gone.observed.state, State::Gone);
    }

    #[test]
    fn failures_add_up_unless_it_served_long_before() {
        let mut info = samples::info(0, State::Running);
        info.observed.failures = 3;
        let (soon, _) =
            changed(fold(&info, &status(TaskState::Failed), Context { now: samples::at(10), ..context() }));
        assert_eq!(soon.observed.failures, 4);
        let (late, _) =
            changed(fold(&info, &status(TaskState::Failed), Context { now: samples::at(90), ..context() }));
        assert_eq!(late.observed.failures, 1);
    }

    #[test]
    fn an_end_with_a_report_forgives_as_well_and_so_does_a_restart_in_place() {
        let mut info = samples::info(0, State::Running);
        info.observed.failures = 3;
        let late = Context { now: samples::at(90), ..context() };
        let (ended, _) =
            changed(fold(&info, &with_report(TaskState::Failed, &samples::report(State::Failed)), late));
        assert_eq!(ended.observed.failures, 1);
        let restarting = with_report(TaskState::Running, &samples::report(State::Restarting));
        let (restarted, _) = changed(fold(&info, &restarting, late));
        assert_eq!(restarted.observed.failures, 0);
    }

    #[test]
    fn an_agent_that_returns_with_a_loading_server_is_back() {
        let (back, _) =
            changed(fold(&samples::info(0, State::Unreachable), &status(TaskState::Starting), context()));
        assert_eq!(back.observed.state, State::Staging);
    }

    #[test]
    fn unknown_is_an_end_only_with_its_agent_there() {
        let info = samples::info(0, State::Pending);
        let (ended, _) = changed(fold(&info, &status(TaskState::NotKnown), context()));
        assert_eq!(ended.observed.state, State::Failed);
        let away = Context { agent_registered: false, ..context() };
        let (unreachable, _) = changed(fold(&info, &status(TaskState::NotKnown), away));
        assert_eq!(unreachable.observed.state, State::Unreachable);
    }

    #[test]
    fn an_end_that_the_master_tells_unasked_is_not_believed_of_a_task_that_was_seen() {
        let ends = [
            of_master(TaskState::Error, "REASON_TASK_INVALID", "Task has duplicate ID: t"),
            of_master(TaskState::Lost, "REASON_AGENT_REMOVED", "Agent removed: the agent unregistered"),
            of_master(TaskState::GoneByOperator, "REASON_AGENT_REMOVED_BY_OPERATOR", "marked gone"),
            of_master(TaskState::Dropped, "REASON_INVALID_OFFERS", "offers"),
        ];
        for end in &ends {
            for state in [State::Staging, State::Running, State::Restarting, State::Unreachable] {
                assert_eq!(fold(&samples::info(0, state), end, context()), Folded::Ask, "{state} {end:?}");
            }
            let over = fold(&samples::info(0, State::Failed), end, context());
            assert_eq!(over, Folded::Unchanged);
        }
        // An agent speaks of what it has seen.
        let lost = TaskStatus { uuid: Some("u".to_owned()), ..ends[1].clone() };
        changed(fold(&samples::info(0, State::Running), &lost, context()));
        let asked = of_master(TaskState::Gone, RECONCILIATION, "Task is unknown to the agent");
        changed(fold(&samples::info(0, State::Running), &asked, context()));
    }

    #[test]
    fn a_doubted_end_is_believed_once_nobody_has_the_task_and_not_when_it_runs() {
        let lost = of_master(TaskState::Lost, "REASON_AGENT_REMOVED", "the agent unregistered");
        let asked = Context { agent_registered: false, doubted: Some(&lost), ..context() };
        let info = samples::info(0, State::Running);
        for state in [TaskState::NotKnown, TaskState::Gone, TaskState::GoneByOperator] {
            let answer = of_master(state, RECONCILIATION, "Reconciliation: Task is unknown");
            let (ended, _) = changed(fold(&info, &answer, asked));
            assert_eq!(ended.observed.state, State::Failed);
            assert_eq!(ended.observed.message, "the agent unregistered (REASON_AGENT_REMOVED)");
        }
        let runs = of_master(TaskState::Running, RECONCILIATION, "Reconciliation: Latest task state");
        assert_eq!(fold(&info, &runs, asked), Folded::Unchanged);
        let away = of_master(TaskState::Unreachable, RECONCILIATION, "Reconciliation: Task is unreachable");
        let (away, _) = changed(fold(&info, &away, asked));
        assert_eq!(away.observed.state, State::Unreachable);
    }

    #[test]
    fn a_launch_that_mesos_refused_never_began_and_says_why() {
        let info = samples::info(0, State::Pending);
        let dropped = of_master(TaskState::Dropped, "REASON_INVALID_OFFERS", "Offer O1 is no longer valid");
        let (refused, happening) = changed(fold(&info, &dropped, context()));
        assert_eq!((refused.observed.state, refused.observed.failures), (State::Failed, 0));
        assert_eq!((refused.observed.refused, refused.observed.refusals), (Some(Refusal::Dropped), 1));
        assert_eq!(refused.observed.message, "Offer O1 is no longer valid (REASON_INVALID_OFFERS)");
        assert_eq!(happening.map(|h| h.reason), Some("LaunchRefused"));
        let invalid = of_master(TaskState::Error, "REASON_TASK_INVALID", "Task uses more resources");
        let (refused, _) = changed(fold(&info, &invalid, context()));
        assert_eq!(refused.observed.refused, Some(Refusal::Invalid));
        let twice = of_master(TaskState::Error, "REASON_TASK_INVALID", "Task has duplicate ID: t");
        assert_eq!(fold(&info, &twice, context()), Folded::Ask);
        let lost = of_master(TaskState::Lost, "REASON_AGENT_REMOVED", "the agent unregistered");
        assert_eq!(fold(&info, &lost, context()), Folded::Ask);
    }

    #[test]
    fn a_launch_that_is_taken_forgets_the_refusals_before() {
        let mut info = samples::info(0, State::Pending);
        info.observed.refusals = 3;
        "the last attempt was refused".clone_into(&mut info.observed.message);
        for state in [TaskState::Staging, TaskState::Starting, TaskState::Running] {
            let (taken, _) = changed(fold(&info, &status(state), context()));
            assert_eq!((taken.observed.state, taken.observed.refusals), (State::Staging, 0));
            assert_eq!(taken.observed.message, "");
        }
    }

    #[test]
    fn a_kill_of_a_drained_agent_is_told_and_no_failure() {
        let draining = |state| TaskStatus { reason: Some(DRAINING.to_owned()), ..status(state) };
        let (ending, told) =
            changed(fold(&samples::info(0, State::Running), &draining(TaskState::Killing), context()));
        assert_eq!((ending.observed.state, ending.observed.evicted), (State::Draining, true));
        assert_eq!(told.map(|told| told.reason), Some("AgentDraining"));
        let (ended, told) = changed(fold(&ending, &draining(TaskState::Killed), context()));
        assert_eq!((ended.observed.state, ended.observed.failures), (State::Failed, 0));
        assert_eq!(told, None);
        // Twice, as after an agent's recovery.
        assert_eq!(fold(&ended, &draining(TaskState::Killed), context()), Folded::Unchanged);
    }

    #[test]
    fn an_agent_that_returns_brings_its_instances_back_as_they_were() {
        let (lost, _) =
            changed(fold(&samples::info(0, State::Running), &status(TaskState::Unreachable), context()));
        assert_eq!(lost.observed.state, State::Unreachable);
        let (back, happening) = changed(fold(&lost, &status(TaskState::Running), context()));
        assert_eq!(back.observed.state, State::Running);
        assert_eq!(happening.map(|h| h.reason), Some("Returned"));
    }

    #[test]
    fn a_late_report_does_not_wake_the_dead() {
        let failed = samples::info(0, State::Failed);
        assert_eq!(fold(&failed, &status(TaskState::Failed), context()), Folded::Unchanged);
        assert_eq!(fold(&failed, &status(TaskState::Unreachable), context()), Folded::Unchanged);
        assert_eq!(fold(&failed, &status(TaskState::Starting), context()), Folded::Unchanged);
    }

    #[test]
    fn garbage_in_data_is_no_report() {
        let mut garbage = status(TaskState::Running);
        garbage.data = Some(String::from("!!!"));
        assert_eq!(fold(&samples::info(0, State::Running), &garbage, context()), Folded::Unchanged);
        garbage.data = Some("A".repeat(MAX_REPORT * 2));
        assert_eq!(fold(&samples::info(0, State::Running), &garbage, context()), Folded::Unchanged);
    }
}
