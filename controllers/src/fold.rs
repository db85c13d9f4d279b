//! How a Mesos status update changes what is recorded of an instance: pure.

use base64::Engine as _;
use jiff::Timestamp;
use overlord_api::{EventLevel, Info, MAX_REPORT, Report, State};
use overlord_mesos::v1::{Source, TaskState, TaskStatus};

use crate::events::Happening;

/// A process that served this long before it failed had no part in the failures before it.
const FORGIVEN_AFTER_SECONDS: i64 = 60;

/// What an update comes to.
#[derive(Debug, PartialEq)]
pub(crate) enum Folded {
    /// Nothing new.
    Unchanged,
    /// A new value for `info`, and what to tell people.
    Changed(Box<Info>, Option<Happening>),
    /// Not believed as it is: Mesos must be asked.
    Ask,
}

/// What is known besides the update.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Context {
    /// Whether the instance's agent made an offer or sent an update in this subscription.
    pub agent_registered: bool,
    /// Now.
    pub now: Timestamp,
}

/// Folds `status` into `info`, whose Mesos task it speaks of.
pub(crate) fn fold(info: &Info, status: &TaskStatus, context: Context) -> Folded {
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
            if info.observed.state == State::Unreachable {
                next.observed.message.clear();
            }
            next.observed.state = State::Staging;
            if let Some(report) = &report {
                apply(&mut next, report);
            }
        }
        TaskState::Running => match &report {
            Some(report) => apply(&mut next, report),
            // A reconciliation or an agent that returned: Mesos says that it runs, not how it is.
            None => match info.observed.state {
                State::Unreachable => {
                    next.observed.state = State::Running;
                    next.observed.message.clear();
                }
                State::Pending => next.observed.state = State::Staging,
                _ => return Folded::Unchanged,
            },
        },
        TaskState::Killing => {
            next.observed.state = State::Draining;
        }
        TaskState::Unreachable => {
            if is_over(info.observed.state) {
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
            if context.agent_registered {
                end(&mut next, status, report.as_ref());
            } else {
                next.observed.state = State::Unreachable;
                next.observed.message =
                    String::from("mesos does not know the task, and its agent is not there");
            }
        }
        TaskState::Error
            if status.source == Some(Source::Master)
                && !matches!(info.observed.state, State::Pending)
                && !is_over(info.observed.state) =>
        {
            // A duplicate id is answered with an ERROR that names the task that runs on.
            return Folded::Ask;
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
            end(&mut next, status, report.as_ref());
        }
        TaskState::Unknown => return Folded::Unchanged,
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
    next.observed.failures = next.observed.failures.saturating_add(1);
    next.observed.state = State::Failed;
}

/// Takes over what the executor says.
fn apply(next: &mut Info, report: &Report) {
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
fn report_of(status: &TaskStatus) -> Option<Report> {
    let data = status.data.as_ref()?;
    // Base64 of the largest report that is allowed.
    if data.len() > MAX_REPORT * 4 / 3 + 4 {
        tracing::warn!(task = %status.task_id, bytes = data.len(), "report is too large");
        return None;
    }
    let bytes = base64::engine::general_purpose::STANDARD.decode(data).ok()?;
    match serde_json::from_slice(&bytes) {
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
    match (old.observed.state, new.observed.state) {
        (a, b) if a == b => None,
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

    fn context() -> Context {
        Context { agent_registered: true, now: samples::at(100) }
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
    fn an_error_for_a_running_task_is_not_believed() {
        let error = TaskStatus { source: Some(Source::Master), ..status(TaskState::Error) };
        assert_eq!(fold(&samples::info(0, State::Running), &error, context()), Folded::Ask);
        let (failed, _) = changed(fold(&samples::info(0, State::Pending), &error, context()));
        assert_eq!(failed.observed.state, State::Failed);
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
