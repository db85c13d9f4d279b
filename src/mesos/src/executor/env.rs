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
    /// The agent's address is none.
    #[error("{name} is {value:?}, expected the agent's host:port")]
    BadEndpoint {
        /// Which one.
        name: &'static str,
        /// Its value.
        value: String,
    },
    /// A variable is no switch.
    #[error("{name} is {value:?}, expected 1, true, 0 or false")]
    BadSwitch {
        /// Which one.
        name: &'static str,
        /// Its value.
        value: String,
    },
    /// A certificate without its key, or the other way round.
    #[error("{given} is set without {missing}: a certificate and its key belong together")]
    HalfIdentity {
        /// What is set.
        given: &'static str,
        /// What is not.
        missing: &'static str,
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

/// How an agent with TLS is reached. Operators hand these variables to executors with the agent's flag
/// `--executor_environment_variables`; their meaning is libprocess' (docs/ssl.md).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AgentTls {
    /// Who signed the agent's certificate (`LIBPROCESS_SSL_CA_FILE`).
    pub ca_file: Option<PathBuf>,
    /// Our own certificate and its key (`LIBPROCESS_SSL_CERT_FILE`, `LIBPROCESS_SSL_KEY_FILE`).
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Whether the agent's certificate is checked. libprocess does so only when told
    /// (`LIBPROCESS_SSL_VERIFY_SERVER_CERT`, before 1.9 `LIBPROCESS_SSL_VERIFY_CERT`); we also do when we are told
    /// who signs.
    pub verify: bool,
}

/// An executor's place in the world.
#[derive(Clone)]
pub struct ExecutorEnv {
    /// `host:port` of the agent.
    pub agent_endpoint: String,
    /// With it, the agent is spoken to by TLS.
    pub tls: Option<AgentTls>,
    /// What an agent with executor authentication wants to be shown: `Authorization: Bearer`.
    pub authentication_token: Option<String>,
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
            tls: None,
            authentication_token: None,
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
        let vars = Vars::new(vars);
        let env = Self::new(
            vars.endpoint("MESOS_AGENT_ENDPOINT")?,
            FrameworkId::new(vars.required("MESOS_FRAMEWORK_ID")?),
            ExecutorId::new(vars.required("MESOS_EXECUTOR_ID")?),
        );
        let sandbox = vars.get("MESOS_SANDBOX").or_else(|| vars.get("MESOS_DIRECTORY"));
        Ok(Self {
            tls: vars.tls()?,
            authentication_token: vars.get("MESOS_EXECUTOR_AUTHENTICATION_TOKEN").map(str::to_owned),
            checkpoint: vars.switch("MESOS_CHECKPOINT")?.unwrap_or(false),
            recovery_timeout: vars.duration("MESOS_RECOVERY_TIMEOUT")?.unwrap_or(env.recovery_timeout),
            subscription_backoff_max: vars
                .duration("MESOS_SUBSCRIPTION_BACKOFF_MAX")?
                .unwrap_or(env.subscription_backoff_max),
            shutdown_grace_period: vars
                .duration("MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD")?
                .unwrap_or(env.shutdown_grace_period),
            sandbox: sandbox.map(PathBuf::from),
            ..env
        })
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
            .field("tls", &self.tls)
            .field("framework_id", &self.framework_id)
            .field("executor_id", &self.executor_id)
            .field("checkpoint", &self.checkpoint)
            .field("recovery_timeout", &self.recovery_timeout)
            .field("sandbox", &self.sandbox)
            .finish_non_exhaustive()
    }
}

/// The variables that Mesos and libprocess set; an empty one counts as unset.
struct Vars(BTreeMap<String, String>);

impl Vars {
    fn new(vars: impl IntoIterator<Item = (String, String)>) -> Self {
        let ours = |name: &str| ["MESOS_", "LIBPROCESS_", "SSL_"].iter().any(|part| name.starts_with(part));
        Self(vars.into_iter().filter(|(name, value)| ours(name) && !value.is_empty()).collect())
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    fn required(&self, name: &'static str) -> Result<&str, ExecutorEnvError> {
        self.get(name).ok_or(ExecutorEnvError::Missing { name })
    }

    fn endpoint(&self, name: &'static str) -> Result<&str, ExecutorEnvError> {
        let value = self.required(name)?;
        let (host, port) = value.rsplit_once(':').unwrap_or_default();
        let odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '/' | '@' | '?' | '#');
        if host.is_empty() || host.contains(odd) || !port.parse::<u16>().is_ok_and(|port| port > 0) {
            return Err(ExecutorEnvError::BadEndpoint { name, value: value.to_owned() });
        }
        Ok(value)
    }

    fn switch(&self, name: &'static str) -> Result<Option<bool>, ExecutorEnvError> {
        match self.get(name) {
            None => Ok(None),
            Some("1" | "true") => Ok(Some(true)),
            Some("0" | "false") => Ok(Some(false)),
            Some(value) => Err(ExecutorEnvError::BadSwitch { name, value: value.to_owned() }),
        }
    }

    fn duration(&self, name: &'static str) -> Result<Option<Duration>, ExecutorEnvError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let bad = || ExecutorEnvError::BadDuration { name, value: value.to_owned() };
        parse_duration(value).map(Some).ok_or_else(bad)
    }

    /// Each variable has an old name without the prefix (before Mesos 1.0, still read by libprocess).
    fn tls(&self) -> Result<Option<AgentTls>, ExecutorEnvError> {
        let either = |new, old| Ok::<_, ExecutorEnvError>(self.switch(new)?.or(self.switch(old)?));
        if !either("LIBPROCESS_SSL_ENABLED", "SSL_ENABLED")?.unwrap_or(false) {
            return Ok(None);
        }
        let file = |new: &str, old: &str| self.get(new).or_else(|| self.get(old)).map(PathBuf::from);
        let (cert, key) = ("LIBPROCESS_SSL_CERT_FILE", "LIBPROCESS_SSL_KEY_FILE");
        let identity = match (file(cert, "SSL_CERT_FILE"), file(key, "SSL_KEY_FILE")) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            (Some(_), None) => return Err(ExecutorEnvError::HalfIdentity { given: cert, missing: key }),
            (None, Some(_)) => return Err(ExecutorEnvError::HalfIdentity { given: key, missing: cert }),
        };
        let ca_file = file("LIBPROCESS_SSL_CA_FILE", "SSL_CA_FILE");
        let verify = either("LIBPROCESS_SSL_VERIFY_SERVER_CERT", "SSL_VERIFY_SERVER_CERT")?
            .or(either("LIBPROCESS_SSL_VERIFY_CERT", "SSL_VERIFY_CERT")?)
            .unwrap_or(ca_file.is_some());
        Ok(Some(AgentTls { ca_file, identity, verify }))
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
        .collect::<BTreeMap<_, _>>()
        .into_iter()
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
        let error = ExecutorEnv::from_env([]).unwrap_err();
        assert_eq!(error, ExecutorEnvError::Missing { name: "MESOS_AGENT_ENDPOINT" });
    }

    #[test]
    fn a_missing_or_empty_variable_of_three_is_named() {
        for name in ["MESOS_AGENT_ENDPOINT", "MESOS_FRAMEWORK_ID", "MESOS_EXECUTOR_ID"] {
            let error = ExecutorEnv::from_env(vars(&[(name, "")])).unwrap_err();
            assert_eq!(error, ExecutorEnvError::Missing { name });
        }
    }

    #[test]
    fn an_address_that_is_none_is_named_with_its_value() {
        for value in ["127.0.0.1", ":5051", "x:0", "x:70000", "http://x:5051/y", "a b:5051", "user@x:5051"] {
            let error = ExecutorEnv::from_env(vars(&[("MESOS_AGENT_ENDPOINT", value)])).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("MESOS_AGENT_ENDPOINT is {value:?}, expected the agent's host:port")
            );
        }
        for value in ["[::1]:5051", "agent-1.example:5051"] {
            assert!(ExecutorEnv::from_env(vars(&[("MESOS_AGENT_ENDPOINT", value)])).is_ok(), "{value}");
        }
    }

    #[test]
    fn every_duration_and_switch_is_named_when_it_is_broken() {
        for name in [
            "MESOS_RECOVERY_TIMEOUT",
            "MESOS_SUBSCRIPTION_BACKOFF_MAX",
            "MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD",
            "MESOS_CHECKPOINT",
            "LIBPROCESS_SSL_ENABLED",
        ] {
            let error = ExecutorEnv::from_env(vars(&[(name, "maybe")])).unwrap_err();
            assert!(error.to_string().starts_with(&format!("{name} is \"maybe\"")), "{error}");
        }
    }

    #[test]
    fn a_token_is_taken_and_never_shown() {
        let env =
            ExecutorEnv::from_env(vars(&[("MESOS_EXECUTOR_AUTHENTICATION_TOKEN", "eyJhbGciOi")])).unwrap();
        assert_eq!(env.authentication_token.as_deref(), Some("eyJhbGciOi"));
        assert!(!format!("{env:?}").contains("eyJhbGciOi"));
    }

    #[test]
    fn tls_is_as_libprocess_has_it() {
        let tls = |extra: &[(&str, &str)]| ExecutorEnv::from_env(vars(extra)).map(|env| env.tls);
        let on = ("LIBPROCESS_SSL_ENABLED", "1");
        assert_eq!(tls(&[("LIBPROCESS_SSL_ENABLED", "false"), ("LIBPROCESS_SSL_CA_FILE", "/ca")]), Ok(None));
        assert_eq!(tls(&[on]), Ok(Some(AgentTls::default())));
        let ca = tls(&[on, ("LIBPROCESS_SSL_CA_FILE", "/ca")]).unwrap().unwrap();
        assert_eq!((ca.ca_file, ca.verify), (Some(PathBuf::from("/ca")), true));
        let lax = [on, ("LIBPROCESS_SSL_CA_FILE", "/ca"), ("LIBPROCESS_SSL_VERIFY_CERT", "0")];
        assert!(!tls(&lax).unwrap().unwrap().verify);
        let own = tls(&[("SSL_ENABLED", "true"), ("SSL_CERT_FILE", "/c"), ("SSL_KEY_FILE", "/k")]);
        assert_eq!(own.unwrap().unwrap().identity, Some((PathBuf::from("/c"), PathBuf::from("/k"))));
        let half = tls(&[on, ("LIBPROCESS_SSL_CERT_FILE", "/c")]).unwrap_err();
        assert!(
            half.to_string().starts_with("LIBPROCESS_SSL_CERT_FILE is set without LIBPROCESS_SSL_KEY_FILE")
        );
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
