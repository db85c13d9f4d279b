//! The border to the host: files, processes and the engine's own port. [`crate::LinuxMachine`] is the
//! real one; simulations bring a model.

use std::{fmt, io, path::PathBuf, time::Duration};

use async_trait::async_trait;
use futures::future::BoxFuture;
use overlord_engines::{Change, Health};

use crate::Instance;

/// A host that can run one instance. Every call ends within a time of its own.
#[async_trait]
pub trait Machine: fmt::Debug + Send + Sync + 'static {
    /// Makes everything ready for a first start: the binary, a working directory that belongs to this
    /// member and incarnation (a foreign one is moved aside), no process left in it, a free port, `conf` written.
    async fn prepare(&self, instance: &Instance, conf: &str) -> Result<(), MachineError>;

    /// Replaces the configuration file; whoever reads it sees the old text or the new one.
    async fn write_conf(&self, instance: &Instance, conf: &str) -> Result<(), MachineError>;

    /// Before each start of a node of a redis cluster: whether it may start now, and as what. Changes nothing.
    async fn gate(&self, instance: &Instance, request: &StartRequest) -> Result<Clearance, MachineError>;

    /// Replaces `nodes.conf`, with what the gate gave. A file that redis would not start with as this node is kept
    /// aside.
    async fn write_nodes_conf(&self, instance: &Instance, text: &str) -> Result<(), MachineError>;

    /// Starts the server with the configuration file that is there.
    async fn start(&self, instance: &Instance) -> Result<Started, MachineError>;

    /// Signals a started server and all its children; nothing when it has ended.
    fn signal(&self, pid: u32, signal: Signal);

    /// Asks the server whether it serves.
    async fn probe(&self, instance: &Instance) -> Result<Health, NoAnswer>;

    /// Sets directives in the running server and reads each back. When one is refused, those before it are
    /// put back.
    async fn set_live(&self, instance: &Instance, changes: &[Change]) -> Result<(), LiveError>;

    /// After the end: removes the scratch folder, and does with the working directory as told.
    async fn clean_up(&self, instance: &Instance, disposal: Disposal) -> Result<(), MachineError>;
}

/// What the gate has to know besides what lies in the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartRequest {
    /// The topology in etcd.
    pub seed: Option<String>,
    /// It is the first start in this Mesos task: the seed has the addresses of this hour.
    pub first: bool,
    /// How often in a row the answer was to wait.
    pub asks: u32,
    /// A person gave up the peers that do not answer.
    pub given_up: bool,
}

/// What the gate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Clearance {
    /// It may start.
    Start {
        /// With this file; none: with the one that is there.
        nodes_conf: Option<String>,
        /// It is a master that starts without its keys.
        emptied: bool,
        /// What people should know; empty in the usual case.
        note: String,
    },
    /// It must not start yet.
    Wait(String),
}

/// A server that was started.
pub struct Started {
    /// Its process id, which is also its process group.
    pub pid: u32,
    /// Ends with the process. Holds no borrow of the machine.
    pub exit: BoxFuture<'static, Exit>,
}

impl fmt::Debug for Started {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Started").field("pid", &self.pid).finish_non_exhaustive()
    }
}

/// How a server ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// Status or signal.
    pub how: Ended,
    /// The last lines this run left in `console.log`, in one line; may be empty.
    pub console: String,
}

/// Status or signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It exited with this status.
    Status(i32),
    /// This signal ended it.
    Signal(i32),
    /// The host could not tell.
    Unknown,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let signal = match self {
            Self::Status(status) => return write!(f, "exited with status {status}"),
            Self::Unknown => return f.write_str("ended in an unknown way"),
            Self::Signal(signal) => signal,
        };
        // Linux numbers; the ones a cache server meets.
        let name = match signal {
            4 => "SIGILL",
            6 => "SIGABRT",
            7 => "SIGBUS",
            9 => "SIGKILL",
            11 => "SIGSEGV",
            15 => "SIGTERM",
            31 => "SIGSYS",
            _ => return write!(f, "was killed by signal {signal}"),
        };
        write!(f, "was killed by signal {signal} ({name})")
    }
}

/// A signal to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Stop in order: redis saves what is configured to be saved.
    Terminate,
    /// End now.
    Kill,
}

/// A probe without an answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NoAnswer(pub String);

/// Why directives were not set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LiveError {
    /// The server does not take the value, in its own words.
    #[error("{0}")]
    Refused(String),
    /// The server did not answer; they may or may not be set.
    #[error("{0}")]
    NoAnswer(String),
}

/// What happens to the working directory in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposal {
    /// It stays for a next start of the same member.
    Keep,
    /// It is renamed to `<port>.<uid8>.<time>`.
    MoveAside,
    /// It is removed.
    Remove,
}

/// What a host cannot do.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// A file operation failed.
    #[error("cannot {what} {}", path.display())]
    File {
        /// The operation, as a verb.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The path is there and is something else; a symbolic link would lead out of the data root.
    #[error("{} is not a directory (a symbolic link is not followed)", .0.display())]
    NotADirectory(PathBuf),
    /// Another executor holds the port's lock.
    #[error("{} is locked by another executor (pid {holder}) for more than {} s", path.display(), waited.as_secs())]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// What the holder wrote into it.
        holder: String,
        /// How long it was waited for.
        waited: Duration,
    },
    /// Somebody listens on the port.
    #[error("port {port} is taken by {by}")]
    PortTaken {
        /// The port.
        port: u16,
        /// `pid N (name)`, or `an unknown process`.
        by: String,
    },
    /// A process of an earlier executor does not end.
    #[error("pid {pid}, left in {} by an earlier executor, does not end", dir.display())]
    LeftoverStays {
        /// The process.
        pid: u32,
        /// Its working directory.
        dir: PathBuf,
    },
    /// The engine is not installed and there is nowhere to get it from.
    #[error("{} is missing: install {engine} {version} there, or give its url and sha256 in the engine catalogue", path.display())]
    BinaryMissing {
        /// Where it was looked for.
        path: PathBuf,
        /// The engine.
        engine: &'static str,
        /// The version.
        version: String,
    },
    /// The engine could not be downloaded.
    #[error("cannot download {url}: {reason}")]
    Download {
        /// From where.
        url: String,
        /// Why.
        reason: String,
    },
    /// What was downloaded is not what the catalogue names.
    #[error("{url} has sha256 {found}, the engine catalogue says {expected}")]
    WrongDigest {
        /// From where.
        url: String,
        /// Of the download.
        found: String,
        /// Of the catalogue.
        expected: String,
    },
    /// There is nothing to start a node of a cluster with.
    #[error("there is no nodes.conf in {}, and etcd has no {key}: the leader has to write it", dir.display())]
    NoSeed {
        /// The working directory.
        dir: PathBuf,
        /// Where the seed should be.
        key: String,
    },
    /// The seed is none.
    #[error("{key} is no nodes.conf of {node}: {reason}; the leader has to write it again")]
    BadSeed {
        /// Where it is.
        key: String,
        /// Whose it should be.
        node: String,
        /// Why.
        reason: String,
    },
    /// The configuration text does not make a command line.
    #[error("the configuration does not make a command line: {0}")]
    Command(String),
    /// The server could not be started.
    #[error("cannot start {}", path.display())]
    Start {
        /// The binary.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A worker thread ended early.
    #[error("a file operation was cut short")]
    Interrupted,
}

impl MachineError {
    pub(crate) fn file(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { what, path, source }
    }
}

/// An error and its causes in one line, for messages to people.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
