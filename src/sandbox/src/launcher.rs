//! The border between agents and what runs on them: real processes, or models of them.

use std::fmt::Debug;

use async_trait::async_trait;
use overlord_mesos::v1::ContainerId;

use crate::{
    Mesos,
    model::{Input, Probe, ProbeOutcome, ProbeUse, StartExecutor},
};

/// Why an executor could not be started; the text reaches the framework.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct LaunchError {
    /// What went wrong, and where.
    pub message: String,
}

/// Starts and kills executors, and the tasks of Mesos' own executors.
#[async_trait]
pub trait Launcher: Debug + Send + Sync + 'static {
    /// Fetches what the command needs, starts it and gives its pid, if it has one. Its end is told to `exits`,
    /// once. Dropping the future before it is ready leaves nothing running.
    async fn start(&self, start: StartExecutor, exits: ExitReporter) -> Result<Option<u32>, LaunchError>;

    /// Kills everything in the container at once. One that has ended already is no error.
    fn kill(&self, container: &ContainerId);

    /// Asks everything in the container to end (SIGTERM). What has no such wish ends at once.
    fn terminate(&self, container: &ContainerId) {
        self.kill(container);
    }

    /// Looks whether a task is well. What has no processes is well by default.
    async fn probe(&self, probe: Probe) -> ProbeOutcome {
        ProbeOutcome::well(&probe.kind)
    }
}

/// Where the end of an executor is told.
#[derive(Debug, Clone)]
pub struct ExitReporter {
    mesos: Mesos,
    container: ContainerId,
}

impl ExitReporter {
    pub(crate) fn new(mesos: Mesos, container: ContainerId) -> Self {
        Self { mesos, container }
    }

    /// The executor ended; `status` is the raw wait status (exit code 7 is 1792, SIGKILL is 9).
    pub fn exited(self, status: i32) {
        self.mesos.step(Input::Exited { container: self.container, status });
    }
}

/// Looks once and tells the model.
pub(crate) async fn probe(mesos: Mesos, launcher: std::sync::Arc<dyn Launcher>, probe: Probe) {
    let (container, which): (ContainerId, ProbeUse) = (probe.container.clone(), probe.which);
    let limit = probe.timeout;
    let outcome = tokio::time::timeout(limit, launcher.probe(probe)).await.unwrap_or(ProbeOutcome::Silent);
    mesos.step(Input::Probed { container, which, outcome });
}
