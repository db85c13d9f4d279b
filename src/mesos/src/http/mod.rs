//! The transports over HTTP/1.1: what scheduler and executor have in common. No TLS.

mod executor;
mod scheduler;

use std::{error::Error as _, fmt, time::Duration};

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream::BoxStream};
use reqwest::{
    Client, Response, StatusCode, Url,
    header::{ACCEPT, CONTENT_TYPE},
    redirect,
};
use serde::{
    Serialize,
    de::{DeserializeOwned, IgnoredAny},
};
use tokio::time::timeout;
use tokio_util::{codec::FramedRead, io::StreamReader};

pub use executor::HttpExecutor;
pub use scheduler::HttpScheduler;

use crate::{
    TransportError,
    recordio::{DEFAULT_MAX_RECORD, RecordIo, RecordIoError},
};

/// Mesos answers 415 to `application/json; charset=utf-8`: exactly this.
const JSON: &str = "application/json";

/// So much of an error's body is kept.
const MAX_ERROR_TEXT: usize = 1024;

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

/// Settings of both transports.
#[derive(Debug, Clone)]
pub struct HttpConfig {
    /// How long a connection may take.
    pub connect_timeout: Duration,
    /// How long a call may take, and the head of a SUBSCRIBE's answer.
    pub call_timeout: Duration,
    /// Largest event taken.
    pub max_record: usize,
    /// For HTTP basic authentication. Sent to every master that a master redirects to.
    pub credentials: Option<Credentials>,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(2),
            call_timeout: Duration::from_secs(10),
            max_record: DEFAULT_MAX_RECORD,
            credentials: None,
        }
    }
}

/// Why a transport cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum HttpConfigError {
    /// There is no master to talk to.
    #[error("no Mesos master given: name at least one as host:port")]
    NoMaster,
    /// An address is no `host:port` and no `http://host:port`.
    #[error("bad Mesos address {address:?}: {reason}")]
    BadAddress {
        /// As given.
        address: String,
        /// What is wrong.
        reason: String,
    },
    /// The HTTP client cannot be made.
    #[error("set up the HTTP client")]
    Client(#[source] reqwest::Error),
}

/// The URL of `path` on `host:port` or `http://host:port[/...]`.
fn endpoint(address: &str, path: &str) -> Result<Url, HttpConfigError> {
    let bad =
        |reason: &str| HttpConfigError::BadAddress { address: address.to_owned(), reason: reason.to_owned() };
    let url = match address.split_once("://") {
        None => format!("http://{address}"),
        Some(("http", _)) => address.to_owned(),
        Some(("https", _)) => return Err(bad("TLS is not supported by this build")),
        Some(("zk", _)) => return Err(bad("give the masters as a list of host:port")),
        Some(_) => return Err(bad("expected host:port or http://host:port")),
    };
    let mut url = Url::parse(&url).map_err(|error| bad(&error.to_string()))?;
    if url.host_str().is_none_or(str::is_empty) {
        return Err(bad("the host is missing"));
    }
    url.set_path(path);
    url.set_query(None);
    Ok(url)
}

/// Posts calls. What a call means is up to its users.
#[derive(Debug)]
struct Poster {
    client: Client,
    config: HttpConfig,
}

impl Poster {
    fn new(config: HttpConfig) -> Result<Self, HttpConfigError> {
        // Redirects are followed by hand: the client would drop the credentials at a change of host.
        // Proxies are for the outside world; a master is never behind the one of the environment.
        let client = Client::builder()
            .redirect(redirect::Policy::none())
            .no_proxy()
            .http1_only()
            .tcp_nodelay(true)
            .tcp_keepalive(Duration::from_secs(15))
            .connect_timeout(config.connect_timeout)
            .pool_max_idle_per_host(4)
            .pool_idle_timeout(Duration::from_secs(60))
            .build()
            .map_err(HttpConfigError::Client)?;
        Ok(Self { client, config })
    }

    /// Posts a call and waits for the head of the answer.
    async fn post<C: Serialize>(
        &self,
        url: &Url,
        stream_id: Option<&str>,
        call: &C,
    ) -> Result<Response, TransportError> {
        let body = serde_json::to_vec(call).map_err(|error| TransportError::Malformed {
            peer: "this client".to_owned(),
            message: format!("call cannot be written as JSON: {error}"),
        })?;
        let mut request =
            self.client.post(url.clone()).header(CONTENT_TYPE, JSON).header(ACCEPT, JSON).body(body);
        if let Some(stream_id) = stream_id {
            request = request.header("Mesos-Stream-Id", stream_id);
        }
        if let Some(Credentials { principal, secret }) = &self.config.credentials {
            request = request.basic_auth(principal, Some(secret));
        }
        match timeout(self.config.call_timeout, request.send()).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(unavailable(url, root_cause(error))),
            Err(_) => Err(unavailable(
                url,
                format!("no answer within {} s", self.config.call_timeout.as_secs_f64()),
            )),
        }
    }

    /// What an answer that is no success means. 503 is a master without a leader or in recovery, or an
    /// agent in recovery: all of them pass.
    async fn failure(&self, url: &Url, response: Response) -> TransportError {
        let status = response.status();
        let message = self.error_text(response).await;
        if status == StatusCode::SERVICE_UNAVAILABLE {
            let message = if message.is_empty() { "503 Service Unavailable".to_owned() } else { message };
            return unavailable(url, message);
        }
        TransportError::Refused { peer: peer(url), status: status.as_u16(), message }
    }

    async fn error_text(&self, mut response: Response) -> String {
        let mut text = Vec::new();
        let read = async {
            while text.len() < MAX_ERROR_TEXT
                && let Ok(Some(chunk)) = response.chunk().await
            {
                let room = MAX_ERROR_TEXT - text.len();
                text.extend_from_slice(&chunk[..chunk.len().min(room)]);
            }
        };
        // What has come by then is better than nothing.
        let _ = timeout(self.config.call_timeout, read).await;
        String::from_utf8_lossy(&text)
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect::<String>()
            .trim()
            .to_owned()
    }

    /// The events in the body of a SUBSCRIBE's answer.
    fn events<E>(&self, url: &Url, response: Response) -> BoxStream<'static, Result<E, TransportError>>
    where
        E: DeserializeOwned + Send + 'static,
    {
        let peer = peer(url);
        let bytes = response.bytes_stream().map_err(|error| std::io::Error::other(root_cause(error)));
        FramedRead::new(StreamReader::new(bytes), RecordIo::new(self.config.max_record))
            .filter_map(move |record| {
                let event = match record {
                    Ok(record) => parse_event(&peer, &record).transpose(),
                    Err(RecordIoError::Io(error)) => Some(Err(TransportError::Unavailable {
                        peer: peer.clone(),
                        message: error.to_string(),
                    })),
                    Err(error) => Some(Err(TransportError::Malformed {
                        peer: peer.clone(),
                        message: error.to_string(),
                    })),
                };
                std::future::ready(event)
            })
            .boxed()
    }
}

/// Reads one record. JSON that does not fit our types is skipped rather than ending the stream: the master
/// would send it again on the next one, for ever.
fn parse_event<E: DeserializeOwned>(peer: &str, record: &Bytes) -> Result<Option<E>, TransportError> {
    match serde_json::from_slice(record) {
        Ok(event) => Ok(Some(event)),
        Err(error) if serde_json::from_slice::<IgnoredAny>(record).is_ok() => {
            tracing::warn!(peer, %error, bytes = record.len(), "skipped an event that cannot be read");
            Ok(None)
        }
        Err(error) => Err(TransportError::Malformed {
            peer: peer.to_owned(),
            message: format!("event is not JSON: {error}"),
        }),
    }
}

fn peer(url: &Url) -> String {
    match url.port_or_known_default() {
        Some(port) => format!("{}:{port}", url.host_str().unwrap_or_default()),
        None => url.host_str().unwrap_or_default().to_owned(),
    }
}

fn unavailable(url: &Url, message: String) -> TransportError {
    TransportError::Unavailable { peer: peer(url), message }
}

/// The innermost cause says what happened ("connection refused"); the outer layers only that something did.
fn root_cause(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = inner.to_string();
        source = inner.source();
    }
    text
}

/// A master that reads `type: UNKNOWN` ends with a failed check, so it never leaves this process.
fn unknown_call() -> TransportError {
    TransportError::Malformed {
        peer: "this client".to_owned(),
        message: "call without a type is never sent".to_owned(),
    }
}

#[cfg(test)]
mod tests;
