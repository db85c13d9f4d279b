//! A running engine as its keeper sees it: how is it, set this, how many keys, end.

use std::{io, time::Duration};

use async_trait::async_trait;
use overlord_api::{Address, Kind, Persistence};

use crate::{
    Change, Dialler,
    cluster::{ReplicationError, ViewError},
};

/// One connection to one engine. Each call has the timeout given to [`connect`]. After a failure that
/// left the connection in doubt, every further call gives [`AdminError::Closed`]: connect anew.
#[async_trait]
pub trait EngineAdmin: Send {
    /// Whether it serves, and what it says of itself. An engine that answers that it cannot serve (it
    /// loads, or runs a script for too long) is a [`Health`], not an error.
    async fn probe(&mut self) -> Result<Health, AdminError>;

    /// Sets directives on the running engine and reads each back. If one is refused, those before it are
    /// put back, so that the engine goes on with what it had.
    async fn set_live(&mut self, changes: &[Change]) -> Result<(), AdminError>;

    /// Keys in all databases.
    async fn keys(&mut self) -> Result<u64, AdminError>;

    /// Whether everything it holds is on disk, so that a restart loses nothing. Without persistence that
    /// is so only for an engine that was never written to.
    async fn persisted(&mut self) -> Result<bool, AdminError>;

    /// Begins a snapshot; [`EngineAdmin::persisted`] tells when it is done.
    async fn save(&mut self) -> Result<(), AdminError>;

    /// Ends the process from within, writing what `persistence` promises. memcached has no such command:
    /// [`AdminError::Unsupported`], send a signal.
    async fn shutdown(&mut self, persistence: Persistence) -> Result<(), AdminError>;
}

/// How an engine is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Health {
    /// It answers, is not loading, follows its master if it has one, and (`redis_cluster`) the cluster is ok.
    pub serving: bool,
    /// It reads its data from disk or from its master.
    pub loading: bool,
    /// `master` or `slave`; `single` outside `redis_cluster` unless it replicates somebody.
    pub role: Option<String>,
    /// `redis_cluster`: the config epoch of its shard.
    pub epoch: Option<u64>,
    /// A replica's link to its master: `up` or `down`.
    pub link: Option<String>,
    /// `redis_cluster`: number and digest of the slots it serves.
    pub slots: Option<String>,
    /// The process, as the engine says.
    pub pid: Option<u32>,
    /// For people: why it does not serve; or what is wrong although it does, beginning with
    /// [`overlord_api::DISK_TROUBLE`] when it cannot write. Empty when all is well.
    pub detail: String,
}

/// A call to an engine that failed.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// Nobody listens, or the network says no.
    #[error("cannot connect to {address}")]
    Connect {
        /// Where.
        address: Address,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It takes connections or commands, and does not answer.
    #[error("{address} did not answer {operation} within {timeout:?}")]
    Timeout {
        /// Where.
        address: Address,
        /// What was asked.
        operation: String,
        /// For how long.
        timeout: Duration,
    },
    /// The connection ended within a call.
    #[error("the connection to {address} broke during {operation}")]
    Broken {
        /// Where.
        address: Address,
        /// What was asked.
        operation: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The connection is of no use since an earlier failure.
    #[error("the connection to {address} failed before {operation}; connect anew")]
    Closed {
        /// Where.
        address: Address,
        /// What was asked.
        operation: String,
    },
    /// What answers is not the engine it should be.
    #[error("{address} answered {operation} with {what}; is that another program?")]
    Protocol {
        /// Where.
        address: Address,
        /// What was asked.
        operation: String,
        /// What came.
        what: &'static str,
    },
    /// What it says of its cluster cannot be read.
    #[error("what {address} says of its cluster cannot be read")]
    View {
        /// Where.
        address: Address,
        /// Why.
        #[source]
        source: ViewError,
    },
    /// What it says of its replication cannot be read.
    #[error("what {address} says of its replication cannot be read")]
    Replication {
        /// Where.
        address: Address,
        /// Why.
        #[source]
        source: ReplicationError,
    },
    /// It is loading and takes no commands.
    #[error("{address} is loading its data")]
    Loading {
        /// Where.
        address: Address,
    },
    /// It said no, in its own words.
    #[error("{address} refused {operation}: {message}")]
    Refused {
        /// Where.
        address: Address,
        /// What was asked.
        operation: String,
        /// The engine's words.
        message: String,
    },
    /// It said no to a value, in its own words.
    #[error("{address} refused {directive} {value:?}: {message}")]
    RefusedDirective {
        /// Where.
        address: Address,
        /// Which directive.
        directive: String,
        /// The value.
        value: String,
        /// The engine's words.
        message: String,
    },
    /// It said yes to a value and has another.
    #[error("{address} was set to {directive} {wanted:?} and has {actual:?}")]
    ReadBack {
        /// Where.
        address: Address,
        /// Which directive.
        directive: String,
        /// The value set.
        wanted: String,
        /// The value it has.
        actual: String,
    },
    /// The running engine cannot take that change.
    #[error("{directive} needs a restart of the process")]
    NotLive {
        /// Which directive.
        directive: String,
    },
    /// A later leader commands the engine.
    #[error("{address} is commanded by the leader of epoch {theirs}; epoch {ours} is over")]
    Fenced {
        /// Where.
        address: Address,
        /// This connection's epoch.
        ours: i64,
        /// The other's.
        theirs: i64,
    },
    /// The engine has no such command.
    #[error("{operation} is nothing that {address} can do")]
    Unsupported {
        /// Where.
        address: Address,
        /// What was asked.
        operation: String,
    },
}

/// Connects to an engine over TCP, as [`Dialler::engine`] does.
pub async fn connect(
    kind: Kind,
    address: Address,
    timeout: Duration,
    client_name: Option<&str>,
) -> Result<Box<dyn EngineAdmin>, AdminError> {
    Dialler::TCP.engine(kind, address, timeout, client_name).await
}
