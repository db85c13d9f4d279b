//! The two borders to Mesos: a scheduler talks to a master, an executor to its agent. One
//! implementation speaks HTTP, others are models in memory.

use async_trait::async_trait;
use futures::stream::BoxStream;

use crate::v1;

/// Why a call or a subscription failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// No answer: not connected, timed out, or the connection broke. It may or may not have arrived.
    #[error("no answer from {peer}: {message}")]
    Unavailable {
        /// Who was asked.
        peer: String,
        /// What happened.
        message: String,
    },
    /// The peer answered with an HTTP error.
    #[error("{peer} answered {status}: {message}")]
    Refused {
        /// Who was asked.
        peer: String,
        /// HTTP status.
        status: u16,
        /// The body's text, cut.
        message: String,
    },
    /// It was not sent: whoever made the call may not make it any more.
    #[error("not sent: {message}")]
    Withheld {
        /// Why.
        message: String,
    },
    /// What came is no RecordIO, no JSON, or too large.
    #[error("bad data from {peer}: {message}")]
    Malformed {
        /// Who was asked.
        peer: String,
        /// What is wrong.
        message: String,
    },
}

/// Events as they come; an `Err` item or the end of the stream ends the subscription.
pub type EventStream<E> = BoxStream<'static, Result<E, TransportError>>;

/// A standing scheduler subscription.
pub struct Subscription {
    /// `Mesos-Stream-Id`: goes with every later call.
    pub stream_id: String,
    /// Events, the first one SUBSCRIBED or ERROR.
    pub events: EventStream<v1::scheduler::Event>,
}

/// A master, for a scheduler.
#[async_trait]
pub trait SchedulerTransport: Send + Sync + 'static {
    /// Sends SUBSCRIBE and gives the stream that answers it. Follows redirects to the leading master.
    async fn subscribe(&self, call: &v1::scheduler::Call) -> Result<Subscription, TransportError>;

    /// Sends any other call; `Ok` when it was taken (202).
    async fn call(&self, stream_id: &str, call: &v1::scheduler::Call) -> Result<(), TransportError>;
}

/// An agent, for an executor.
#[async_trait]
pub trait ExecutorTransport: Send + Sync + 'static {
    /// Sends SUBSCRIBE and gives the stream that answers it.
    async fn subscribe(
        &self,
        call: &v1::executor::Call,
    ) -> Result<EventStream<v1::executor::Event>, TransportError>;

    /// Sends any other call; `Ok` when it was taken (202).
    async fn call(&self, call: &v1::executor::Call) -> Result<(), TransportError>;
}
