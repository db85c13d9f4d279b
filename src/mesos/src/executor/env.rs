//! What the agent tells an executor through its environment.

use std::{collections::BTreeMap, fmt, path::PathBuf, sync::Arc, time::Duration};

use crate::v1::{ExecutorId, FrameworkId};

/// Mesos' default for `--recovery_timeout`.
const DEFAULT_RECOVERY_TIMEOUT: Duration = Duration::from_secs(15 * 60);
/// Mesos' default for `--executor_reregistration_timeout`.
const DEFAULT_BACKOFF_MAX: Duration = Duration::from_secs(2);
/// Mesos' default for `--executor_shutdown_grace_period`.
const DEFAULT_GRACE_PERIOD: Duration = Duration::from_secs(5);

/// Gives the seconds since 1970.
type Timestamp = Arc<dyn Fn() -> f64 + Send + Sync>;

/// Why the environment is not that of an executor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExecutorEnvError {
    /// A variable is not there, or empty.
    #[error("{name} is not set: executors are started by a Mesos agent")]
    Missing {
        /// Which one.
        name: &'static str,
    },
    /// A variable is no duration.
    #[error("{name} is {value:?}, expected a Mesos duration such as 15mins")]
    BadDuration {
        /// Which one.
        name: &'static str,
        /// Its value.
        value: String,
    },
}

/// An executor's place in the world.
#[derive(Clone)]
pub struct ExecutorEnv {
    /// `host:port` of the agent.
    pub agent_endpoint: String,
    /// Whose executor this is.
    pub framework_id: FrameworkId,
    /// Which one.
    pub executor_id: ExecutorId,
    /// Whether the agent writes down what it runs, and so comes back to it after a restart.
    pub checkpoint: bool,
    /// With `checkpoint`: how long a restarted agent waits for us.
    pub recovery_timeout: Duration,
    /// The longest pause between attempts to subscribe.
    pub subscription_backoff_max: Duration,
    /// How long SHUTDOWN leaves us.
    pub shutdown_grace_period: Duration,
    /// Our directory on the agent.
    pub sandbox: Option<PathBuf>,
    timestamp: Option<Timestamp>,
}

impl ExecutorEnv {
    /// An environment with Mesos' defaults.
    pub fn new(agent_endpoint: &str, framework_id: FrameworkId, executor_id: ExecutorId) -> Self {
        Self {
            agent_endpoint: agent_endpoint.to_owned(),
            framework_id,
            executor_id,
            checkpoint: true,
            recovery_timeout: DEFAULT_RECOVERY_TIMEOUT,
            subscription_backoff_max: DEFAULT_BACKOFF_MAX,
            shutdown_grace_period: DEFAULT_GRACE_PERIOD,
            sandbox: None,
            timestamp: None,
        }
    }

    /// Reads the `MESOS_*` variables, as [`std::env::vars`] gives them.
    pub fn from_env(vars: impl IntoIterator<Item = (String, String)>) -> Result<Self, ExecutorEnvError> {
        let vars: BTreeMap<String, String> = vars
            .into_iter()
            .filter(|(name, value)| name.starts_with("MESOS_") && !value.is_empty())
            .collect();
        let required = |name| vars.get(name).ok_or(ExecutorEnvError::Missing { name });
        let duration = |name, default| match vars.get(name) {
            None => Ok(default),
            Some(text) => parse_duration(text)
                .ok_or_else(|| ExecutorEnvError::BadDuration { name, value: text.clone() }),
        };
        let mut env = Self::new(
            required("MESOS_AGENT_ENDPOINT")?,
            FrameworkId::new(required("MESOS_FRAMEWORK_ID")?.as_str()),
            ExecutorId::new(required("MESOS_EXECUTOR_ID")?.as_str()),
        );
        env.checkpoint = vars.get("MESOS_CHECKPOINT").is_some_and(|value| value == "1" || value == "true");
        env.recovery_timeout = duration("MESOS_RECOVERY_TIMEOUT", DEFAULT_RECOVERY_TIMEOUT)?;
        env.subscription_backoff_max = duration("MESOS_SUBSCRIPTION_BACKOFF_MAX", DEFAULT_BACKOFF_MAX)?;
        env.shutdown_grace_period = duration("MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD", DEFAULT_GRACE_PERIOD)?;
        env.sandbox = vars.get("MESOS_SANDBOX").or_else(|| vars.get("MESOS_DIRECTORY")).map(PathBuf::from);
        Ok(env)
    }

    /// Stamps updates with this clock (seconds since 1970). Without one they carry no timestamp, which
    /// agents accept.
    #[must_use]
    pub fn with_clock(mut self, seconds: impl Fn() -> f64 + Send + Sync + 'static) -> Self {
        self.timestamp = Some(Arc::new(seconds));
        self
    }

    pub(super) fn timestamp(&self) -> Option<f64> {
        self.timestamp.as_ref().map(|timestamp| timestamp())
    }
}

impl fmt::Debug for ExecutorEnv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExecutorEnv")
            .field("agent_endpoint", &self.agent_endpoint)
            .field("framework_id", &self.framework_id)
            .field("executor_id", &self.executor_id)
            .field("checkpoint", &self.checkpoint)
            .field("recovery_timeout", &self.recovery_timeout)
            .field("sandbox", &self.sandbox)
            .finish_non_exhaustive()
    }
}

/// Reads a duration as Mesos writes it: a number and a unit without a space (stout's `duration.hpp`).
fn parse_duration(text: &str) -> Option<Duration> {
    let unit_at = text.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at(unit_at);
    let seconds = match unit {
        "ns" => 1e-9,
        "us" => 1e-6,
        "ms" => 1e-3,
        "secs" => 1.0,
        "mins" => 60.0,
        "hrs" => 3600.0,
        "days" => 86_400.0,
        "weeks" => 604_800.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vars(extra: &[(&str, &str)]) -> Vec<(String, String)> {
        [
            ("MESOS_AGENT_ENDPOINT", "127.0.0.1:5151"),
            ("MESOS_FRAMEWORK_ID", "a5031e63-0008"),
            ("MESOS_EXECUTOR_ID", "ex09"),
            ("PATH", "/usr/bin"),
        ]
        .iter()
        .chain(extra)
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
    }

    #[test]
    fn the_environment_of_a_real_agent_is_read() {
        // From a recording of Mesos 1.11.1 (custom executor).
        let env = ExecutorEnv::from_env(vars(&[
            ("MESOS_CHECKPOINT", "1"),
            ("MESOS_DIRECTORY", "/srv/run"),
            ("MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD", "5secs"),
            ("MESOS_HTTP_COMMAND_EXECUTOR", "0"),
            ("MESOS_RECOVERY_TIMEOUT", "15mins"),
            ("MESOS_SANDBOX", "/srv/sandbox"),
            ("MESOS_SUBSCRIPTION_BACKOFF_MAX", "2secs"),
        ]))
        .unwrap();
        assert_eq!(env.agent_endpoint, "127.0.0.1:5151");
        assert_eq!(env.framework_id.as_str(), "a5031e63-0008");
        assert_eq!(env.executor_id.as_str(), "ex09");
        assert!(env.checkpoint);
        assert_eq!(env.recovery_timeout, Duration::from_secs(900));
        assert_eq!(env.subscription_backoff_max, Duration::from_secs(2));
        assert_eq!(env.shutdown_grace_period, Duration::from_secs(5));
        assert_eq!(env.sandbox, Some(PathBuf::from("/srv/sandbox")));
    }

    #[test]
    fn a_missing_variable_is_named() {
        let mut vars = vars(&[]);
        vars.remove(0);
        let error = ExecutorEnv::from_env(vars).unwrap_err();
        assert_eq!(error, ExecutorEnvError::Missing { name: "MESOS_AGENT_ENDPOINT" });
    }

    #[test]
    fn a_broken_duration_is_named_with_its_value() {
        let error = ExecutorEnv::from_env(vars(&[("MESOS_RECOVERY_TIMEOUT", "soon")])).unwrap_err();
        assert_eq!(
            error.to_string(),
            "MESOS_RECOVERY_TIMEOUT is \"soon\", expected a Mesos duration such as 15mins"
        );
    }

    #[test]
    fn durations_of_every_unit_are_read() {
        for (text, nanos) in [
            ("7ns", 7),
            ("3us", 3_000),
            ("250ms", 250_000_000),
            ("1.5secs", 1_500_000_000),
            ("15mins", 900_000_000_000),
            ("2hrs", 7_200_000_000_000),
            ("1days", 86_400_000_000_000),
            ("1weeks", 604_800_000_000_000),
        ] {
            assert_eq!(parse_duration(text), Some(Duration::from_nanos(nanos)), "{text}");
        }
        for text in ["", "5", "secs", "-1secs", "1e400secs", "NaNsecs", "5 s", "1weeks2days"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }
}
