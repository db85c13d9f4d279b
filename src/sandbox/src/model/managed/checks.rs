//! Health checks and checks of tasks, as Mesos' own executors make them.

use std::time::Duration;

use overlord_mesos::v1::{
    CheckInfo, CheckStatusInfo, CheckStatusOutcome, CheckType, CommandInfo, ContainerId, HealthCheck,
    HealthCheckType, HttpCheck, HttpCheckStatus, TaskInfo, TaskState, TcpCheck, TcpCheckStatus,
};

use super::{Why, unchecked};
use crate::model::{
    Model, Output,
    probe::{Probe, ProbeKind, ProbeOutcome, ProbeUse},
    types::{AgentProcess, TaskKey, Timer},
};

// The defaults of `HealthCheck` and `CheckInfo` in mesos.proto.
const DELAY: f64 = 15.0;
const INTERVAL: f64 = 10.0;
const TIMEOUT: f64 = 20.0;
const GRACE: f64 = 10.0;
const FAILURES: u32 = 3;
/// Between two looks at least, whatever the task asks for.
const SHORTEST: Duration = Duration::from_millis(10);

/// How a task's health check stands.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// When its process started.
    pub(super) since: Duration,
    /// Whether it was ever healthy.
    proven: bool,
    failures: u32,
}

/// What is asked, and how often.
struct Plan {
    kind: ProbeKind,
    interval: Duration,
    timeout: Duration,
}

impl Model {
    pub(in crate::model) fn managed_look(&mut self, container: &ContainerId, which: ProbeUse) {
        let Some((name, key, task)) = self.managed_of(container) else { return };
        let task_key: TaskKey = (key.0.clone(), task);
        let Some(plan) = self.tasks.get(&task_key).and_then(|task| plan(&task.info, which)) else { return };
        let Some(agent) = self.agents.get(&name) else { return };
        // An executor without its agent makes no checks.
        if agent.process == AgentProcess::Down {
            self.after(plan.interval, Timer::Look(container.clone(), which));
            return;
        }
        let address = agent.address.ip();
        let Some(managed) = self.managed_task(container).filter(|managed| managed.killing.is_none()) else {
            return;
        };
        let probe = Probe {
            container: container.clone(),
            which,
            kind: plan.kind,
            address,
            environment: managed.environment.clone(),
            directory: managed.directory.clone(),
            timeout: plan.timeout,
        };
        self.out.push(Output::Probe(Box::new(probe)));
    }

    pub(in crate::model) fn managed_probed(
        &mut self,
        container: &ContainerId,
        which: ProbeUse,
        outcome: ProbeOutcome,
    ) {
        let Some((name, key, task)) = self.managed_of(container) else { return };
        let task_key: TaskKey = (key.0.clone(), task.clone());
        let Some(info) = self.tasks.get(&task_key).map(|task| task.info.clone()) else { return };
        let Some(plan) = plan(&info, which) else { return };
        let now = self.now;
        let Some(managed) = self.managed_task(container).filter(|managed| managed.killing.is_none()) else {
            return;
        };
        let again = Timer::Look(container.clone(), which);
        match which {
            ProbeUse::Check => {
                let seen = check_status(&info, outcome);
                let changed = managed.checked != seen;
                managed.checked.clone_from(&seen);
                if changed {
                    self.managed_status(&name, &key, &task, TaskState::Running, |status| {
                        status.reason = Some("REASON_TASK_CHECK_STATUS_UPDATED".to_owned());
                        status.check_status = seen;
                    });
                }
                self.after(plan.interval, again);
            }
            ProbeUse::Health => {
                let Some(check) = &info.health_check else { return };
                let verdict = managed.health.judge(check, outcome.is_healthy(), now);
                if let Some(healthy) = verdict.told {
                    self.managed_status(&name, &key, &task, TaskState::Running, |status| {
                        status.reason = Some("REASON_TASK_HEALTH_CHECK_STATUS_UPDATED".to_owned());
                        status.healthy = Some(healthy);
                    });
                }
                if verdict.kill {
                    self.managed_kill(&name, &key, &task, None, Why::Health);
                } else {
                    self.after(plan.interval, again);
                }
            }
        }
    }
}

struct Verdict {
    /// What the framework is told.
    told: Option<bool>,
    kill: bool,
}

impl Health {
    /// Every failure is told, of the good ones only the first and the first after a failure.
    fn judge(&mut self, check: &HealthCheck, healthy: bool, now: Duration) -> Verdict {
        if healthy {
            let news = !self.proven || self.failures > 0;
            self.proven = true;
            self.failures = 0;
            return Verdict { told: news.then_some(true), kill: false };
        }
        let grace = seconds(check.grace_period_seconds, GRACE);
        if !self.proven && !grace.is_zero() && now.saturating_sub(self.since) <= grace {
            return Verdict { told: None, kill: false };
        }
        self.failures += 1;
        let kill = self.failures >= check.consecutive_failures.unwrap_or(FAILURES);
        Verdict { told: Some(false), kill }
    }
}

/// When a task is first looked at for its health.
pub(super) fn health_delay(info: &TaskInfo) -> Option<Duration> {
    info.health_check.as_ref().map(|check| seconds(check.delay_seconds, DELAY))
}

/// When a task is first looked at for its check.
pub(super) fn check_delay(info: &TaskInfo) -> Option<Duration> {
    info.check.as_ref().map(|check| seconds(check.delay_seconds, DELAY))
}

fn plan(info: &TaskInfo, which: ProbeUse) -> Option<Plan> {
    let (kind, interval, timeout) = match which {
        ProbeUse::Health => {
            let check = info.health_check.as_ref()?;
            (health_kind(check)?, check.interval_seconds, check.timeout_seconds)
        }
        ProbeUse::Check => {
            let check = info.check.as_ref()?;
            (check_kind(check)?, check.interval_seconds, check.timeout_seconds)
        }
    };
    let interval = seconds(interval, INTERVAL).max(SHORTEST);
    Some(Plan { kind, interval, timeout: seconds(timeout, TIMEOUT).max(SHORTEST) })
}

fn health_kind(check: &HealthCheck) -> Option<ProbeKind> {
    match check.kind {
        HealthCheckType::Command => command(check.command.clone()?),
        HealthCheckType::Http => http(check.http.as_ref()?),
        HealthCheckType::Tcp => tcp(check.tcp.as_ref()?),
        HealthCheckType::Unknown => None,
    }
}

fn check_kind(check: &CheckInfo) -> Option<ProbeKind> {
    match check.kind {
        CheckType::Command => command(check.command.clone()?.command),
        CheckType::Http => http(check.http.as_ref()?),
        CheckType::Tcp => tcp(check.tcp.as_ref()?),
        CheckType::Unknown => None,
    }
}

#[expect(clippy::unnecessary_wraps, reason = "its siblings can fail")]
fn command(command: CommandInfo) -> Option<ProbeKind> {
    Some(ProbeKind::Command(command))
}

fn http(check: &HttpCheck) -> Option<ProbeKind> {
    let scheme = check.scheme.clone().unwrap_or_else(|| "http".to_owned());
    let port = u16::try_from(check.port).ok()?;
    Some(ProbeKind::Http { scheme, port, path: check.path.clone().unwrap_or_default() })
}

fn tcp(check: &TcpCheck) -> Option<ProbeKind> {
    Some(ProbeKind::Tcp { port: u16::try_from(check.port).ok()? })
}

fn check_status(info: &TaskInfo, outcome: ProbeOutcome) -> Option<CheckStatusInfo> {
    let mut status = unchecked(info)?;
    match outcome {
        ProbeOutcome::ExitCode(code) => status.command = Some(CheckStatusOutcome { exit_code: Some(code) }),
        ProbeOutcome::Status(code) => {
            status.http = Some(HttpCheckStatus { status_code: Some(u32::from(code)) });
        }
        ProbeOutcome::Connected(succeeded) => {
            status.tcp = Some(TcpCheckStatus { succeeded: Some(succeeded) });
        }
        ProbeOutcome::Silent => {}
    }
    Some(status)
}

fn seconds(given: Option<f64>, default: f64) -> Duration {
    Duration::try_from_secs_f64(given.unwrap_or(default))
        .unwrap_or_else(|_| Duration::try_from_secs_f64(default).unwrap_or(Duration::ZERO))
}
