//! Checks that Mesos' own executors run on their tasks.

use serde::{Deserialize, Serialize};

use super::{CommandInfo, wire_enum};

wire_enum! {
    /// `HealthCheck.Type`
    HealthCheckType {
        /// Exit status 0 is healthy.
        Command = "COMMAND",
        /// A status from 200 to 399 is healthy.
        Http = "HTTP",
        /// A connection that opens is healthy.
        Tcp = "TCP",
    }
}

/// `HealthCheck`: a task that fails it is killed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct HealthCheck {
    /// Wait before the first; Mesos' default is 15.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_seconds: Option<f64>,
    /// Pause between two; Mesos' default is 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval_seconds: Option<f64>,
    /// How long one may take; Mesos' default is 20.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<f64>,
    /// How many in a row kill the task; Mesos' default is 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consecutive_failures: Option<u32>,
    /// How long failures do not count at first; Mesos' default is 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace_period_seconds: Option<f64>,
    /// Which of the fields below counts.
    #[serde(rename = "type", default, skip_serializing_if = "HealthCheckType::is_unknown")]
    pub kind: HealthCheckType,
    /// For COMMAND.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<CommandInfo>,
    /// For HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpCheck>,
    /// For TCP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<TcpCheck>,
}

/// `HealthCheck.HTTPCheckInfo`, `CheckInfo.Http`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct HttpCheck {
    /// `IPv4` or `IPv6`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// `http` or `https`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheme: Option<String>,
    /// Port.
    #[serde(default)]
    pub port: u32,
    /// Path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Statuses that are healthy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub statuses: Vec<u32>,
}

/// `HealthCheck.TCPCheckInfo`, `CheckInfo.Tcp`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct TcpCheck {
    /// `IPv4` or `IPv6`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// Port.
    #[serde(default)]
    pub port: u32,
}

wire_enum! {
    /// `CheckInfo.Type`, `CheckStatusInfo.type`
    CheckType {
        /// Reports an exit status.
        Command = "COMMAND",
        /// Reports an HTTP status.
        Http = "HTTP",
        /// Reports whether a connection opens.
        Tcp = "TCP",
    }
}

/// `CheckInfo`: its outcome is reported, and has no consequence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct CheckInfo {
    /// Which of the three below counts.
    #[serde(rename = "type", default, skip_serializing_if = "CheckType::is_unknown")]
    pub kind: CheckType,
    /// For COMMAND.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<CommandCheck>,
    /// For HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpCheck>,
    /// For TCP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<TcpCheck>,
    /// Wait before the first; Mesos' default is 15.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_seconds: Option<f64>,
    /// Pause between two; Mesos' default is 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval_seconds: Option<f64>,
    /// How long one may take; Mesos' default is 20.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<f64>,
}

/// `CheckInfo.Command`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct CommandCheck {
    /// What is run.
    #[serde(default)]
    pub command: CommandInfo,
}

/// `CheckStatusInfo`: an outcome without a value means that there is none yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct CheckStatusInfo {
    /// Which of the fields below counts.
    #[serde(rename = "type", default, skip_serializing_if = "CheckType::is_unknown")]
    pub kind: CheckType,
    /// For COMMAND.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<CheckStatusOutcome>,
    /// For HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpCheckStatus>,
    /// For TCP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<TcpCheckStatus>,
}

/// `CheckStatusInfo.Command`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct CheckStatusOutcome {
    /// The command's exit status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
}

/// `CheckStatusInfo.Http`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct HttpCheckStatus {
    /// The answer's status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_code: Option<u32>,
}

/// `CheckStatusInfo.Tcp`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct TcpCheckStatus {
    /// Whether the connection opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub succeeded: Option<bool>,
}
