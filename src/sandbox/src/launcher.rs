//! The border between agents and what runs on them: real processes, or models of them.

use std::fmt::Debug;

use async_trait::async_trait;
use overlord_mesos::v1::ContainerId;

use crate::{Mesos, model::Input, model::StartExecutor};

/// Why an executor could not be started; the text reaches the framework.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct LaunchError {
    /// What went wrong, and where.
    pub message: String,
}

/// Starts and kills executors.
#[async_trait]
pub trait Launcher: Debug + Send + Sync + 'static {
    /// Starts an executor and gives its pid, if it has one. Its end is told to `exits`, once.
    async fn start(&self, start: StartExecutor, exits: ExitReporter) -> Result<Option<u32>, LaunchError>;

    /// Kills everything in the container at once. One that has ended already is no error.
    fn kill(&self, container: &ContainerId);
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
