//! The transports over HTTP/1.1 and TLS: what scheduler and executor have in common.

mod address;
mod executor;
mod poster;
mod resolve;
mod scheduler;
mod tls;

use std::{fmt, path::PathBuf, time::Duration};

pub(crate) use address::{endpoint, redirect_target, shortened};
pub use executor::HttpExecutor;
#[cfg(any(test, feature = "properties"))]
pub(crate) use poster::parse_event;
pub use scheduler::HttpScheduler;
pub use tls::{TlsConfig, TlsFileError, TlsIdentity};

use crate::{detect::ZooKeeperUrlError, recordio::DEFAULT_MAX_RECORD};

/// Who we are to a master with `--authenticate_http_frameworks`.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Must equal `FrameworkInfo.principal`.
    pub principal: String,
    /// The password.
    pub secret: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("principal", &self.principal).finish_non_exhaustive()
    }
}

/// A token that is its bearer's whole authority.
#[derive(Clone, PartialEq, Eq)]
pub struct BearerToken(String);

impl BearerToken {
    /// A token from its text.
    pub fn new(token: impl Into<String>) -> Self {
        Self(token.into())
    }

    fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for BearerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BearerToken")
    }
}

/// Settings of both transports.
#[derive(Debug, Clone)]
pub struct HttpConfig {
    /// How long a connection may take.
    pub connect_timeout: Duration,
    /// How long a call may take, and the head of a SUBSCRIBE's answer.
    pub call_timeout: Duration,
    /// Largest event taken.
    pub max_record: usize,
    /// For HTTP basic authentication. Sent to every master that a master or ZooKeeper names.
    pub credentials: Option<Credentials>,
    /// For agents with `--authenticate_http_executors` (`MESOS_EXECUTOR_AUTHENTICATION_TOKEN`); instead of
    /// `credentials`.
    pub bearer_token: Option<BearerToken>,
    /// For `https://`. With it, masters that are named without a scheme are asked by TLS.
    pub tls: Option<TlsConfig>,
    /// With masters by `zk://`: how long ZooKeeper keeps a silent session of ours.
    pub zookeeper_session: Duration,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(2),
            call_timeout: Duration::from_secs(10),
            max_record: DEFAULT_MAX_RECORD,
            credentials: None,
            bearer_token: None,
            tls: None,
            // As in Mesos (MASTER_DETECTOR_ZK_SESSION_TIMEOUT).
            zookeeper_session: Duration::from_secs(10),
        }
    }
}

/// Why a transport cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum HttpConfigError {
    /// There is no master to talk to.
    #[error("no Mesos master given: name at least one as host:port, or all of them as zk://host:port/path")]
    NoMaster,
    /// An address is not what it should be.
    #[error("bad Mesos address {address:?}: {reason}")]
    BadAddress {
        /// As given.
        address: String,
        /// What is wrong.
        reason: String,
    },
    /// A `zk://` address is not what it should be. Its text is not repeated: it may hold a password.
    #[error("bad zk:// address: {0}")]
    BadZooKeeper(#[from] ZooKeeperUrlError),
    /// The secret or the token cannot be sent in an HTTP header.
    #[error("credentials for Mesos hold characters that cannot be sent")]
    BadCredentials,
    /// A certificate or a key is of no use.
    #[error("TLS file {}", .path.display())]
    BadTlsFile {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: TlsFileError,
    },
    /// TLS cannot be set up.
    #[error("set up TLS")]
    Tls(#[source] rustls::Error),
    /// The HTTP client cannot be made.
    #[error("set up the HTTP client")]
    Client(#[source] reqwest::Error),
}

#[cfg(test)]
mod tests;
