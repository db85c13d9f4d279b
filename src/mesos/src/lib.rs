//! Apache Mesos, v1 HTTP API: scheduler and executor clients, RecordIO, wire types, the offer book.
//! Knows nothing of what runs in the tasks.

pub mod detect;
pub mod executor;
pub mod http;
pub mod offers;
#[cfg(any(test, feature = "properties"))]
pub mod properties;
pub mod recordio;
pub mod resources;
mod retry;
pub mod scheduler;
#[cfg(test)]
mod testing;
mod transport;
pub mod v1;

pub use executor::{
    AgentTls, ExecutorDriver, ExecutorEnv, ExecutorEnvError, ExecutorEvent, ExecutorHandle, UpdateError,
    executor,
};
pub use http::{
    BearerToken, Credentials, HttpConfig, HttpConfigError, HttpExecutor, HttpScheduler, TlsConfig,
    TlsFileError, TlsIdentity,
};
pub use offers::{Command, OfferBook, OfferBookConfig};
pub use retry::RetryBounds;
pub use scheduler::{
    CallError, SchedulerConfig, SchedulerDriver, SchedulerEvent, SchedulerHandle, scheduler,
};
pub use transport::{EventStream, ExecutorTransport, SchedulerTransport, Subscription, TransportError};
