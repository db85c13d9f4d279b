//! Looks at a task: what a health check or a check asks, and what it sees.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf, time::Duration};

use overlord_mesos::v1::{CommandInfo, ContainerId};

/// One look at a task.
#[derive(Debug, Clone, PartialEq)]
pub struct Probe {
    /// Which task's container.
    pub container: ContainerId,
    /// For what.
    pub which: ProbeUse,
    /// How.
    pub kind: ProbeKind,
    /// Where its agent is.
    pub address: IpAddr,
    /// The task's environment, for a command.
    pub environment: BTreeMap<String, String>,
    /// The task's directory, for a command.
    pub directory: PathBuf,
    /// How long it may take.
    pub timeout: Duration,
}

/// What a look is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeUse {
    /// A health check: the task is killed when it fails too often.
    Health,
    /// A check: its outcome is only told.
    Check,
}

/// How a task is looked at.
#[derive(Debug, Clone, PartialEq)]
pub enum ProbeKind {
    /// By a command's exit code.
    Command(CommandInfo),
    /// By a connection.
    Tcp {
        /// To which port.
        port: u16,
    },
    /// By a GET.
    Http {
        /// `http` or `https`.
        scheme: String,
        /// On which port.
        port: u16,
        /// Of what.
        path: String,
    },
}

/// What was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeOutcome {
    /// A command's exit code.
    ExitCode(i32),
    /// Whether a connection was made.
    Connected(bool),
    /// The status of an answer.
    Status(u16),
    /// Nothing in time, or it could not be tried.
    Silent,
}

impl ProbeOutcome {
    /// What a task that is well shows.
    pub fn well(kind: &ProbeKind) -> Self {
        match kind {
            ProbeKind::Command(_) => Self::ExitCode(0),
            ProbeKind::Tcp { .. } => Self::Connected(true),
            ProbeKind::Http { .. } => Self::Status(200),
        }
    }

    /// As a health check sees it (the default range of Mesos' HTTP health checks is 200 to 399).
    pub fn is_healthy(self) -> bool {
        match self {
            Self::ExitCode(code) => code == 0,
            Self::Connected(connected) => connected,
            Self::Status(status) => (200..400).contains(&status),
            Self::Silent => false,
        }
    }
}
