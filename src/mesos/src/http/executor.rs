//! An executor's way to its agent.

use async_trait::async_trait;
use reqwest::{StatusCode, Url};

use super::{
    HttpConfig, HttpConfigError, endpoint,
    poster::{Poster, unknown_call},
};
use crate::{
    EventStream, ExecutorTransport, TransportError,
    v1::executor::{Call, CallType, Event},
};

const PATH: &str = "/api/v1/executor";

/// Calls to the agent that started this executor.
#[derive(Debug)]
pub struct HttpExecutor {
    poster: Poster,
    agent: Url,
}

impl HttpExecutor {
    /// A transport for the agent at `MESOS_AGENT_ENDPOINT`: `host:port`, or `https://host:port` for an agent
    /// that speaks TLS.
    pub fn new(agent: &str, config: HttpConfig) -> Result<Self, HttpConfigError> {
        let agent = endpoint(agent.trim(), PATH, config.tls.is_some())?;
        Ok(Self { agent, poster: Poster::new(config)? })
    }
}

#[async_trait]
impl ExecutorTransport for HttpExecutor {
    async fn subscribe(&self, call: &Call) -> Result<EventStream<Event>, TransportError> {
        if call.kind == CallType::Unknown {
            return Err(unknown_call());
        }
        let response = self.poster.post(&self.agent, None, call).await?;
        match response.status() {
            StatusCode::OK => Ok(self.poster.events(&self.agent, response)),
            _ => Err(self.poster.failure(&self.agent, response).await),
        }
    }

    async fn call(&self, call: &Call) -> Result<(), TransportError> {
        if call.kind == CallType::Unknown {
            return Err(unknown_call());
        }
        let response = self.poster.post(&self.agent, None, call).await?;
        match response.status() {
            StatusCode::ACCEPTED | StatusCode::OK => Ok(()),
            _ => Err(self.poster.failure(&self.agent, response).await),
        }
    }
}
