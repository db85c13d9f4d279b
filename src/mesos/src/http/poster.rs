//! Posts calls, and reads what is answered: errors as text, subscriptions as events.

use std::{error::Error as _, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures::{StreamExt as _, TryStreamExt as _, stream::BoxStream};
use reqwest::{
    Client, Response, StatusCode, Url,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue},
    redirect,
};
use serde::{
    Serialize,
    de::{DeserializeOwned, IgnoredAny},
};
use tokio::time::timeout;
use tokio_util::{codec::FramedRead, io::StreamReader};

use super::{
    HttpConfig, HttpConfigError,
    address::peer,
    resolve::{Known, Resolver},
    tls,
};
use crate::{
    TransportError,
    recordio::{RecordIo, RecordIoError},
};

/// Mesos answers 415 to `application/json; charset=utf-8`: exactly this.
const JSON: &str = "application/json";

/// So much of an error's body is kept.
const MAX_ERROR_TEXT: usize = 1024;

/// Posts calls. What a call means is up to its users.
#[derive(Debug)]
pub(super) struct Poster {
    client: Client,
    authorization: Option<HeaderValue>,
    pub(super) known: Known,
    pub(super) config: HttpConfig,
}

impl Poster {
    pub(super) fn new(config: HttpConfig) -> Result<Self, HttpConfigError> {
        let known = Known::default();
        // Redirects are followed by hand: the client would drop the credentials at a change of host.
        // Proxies are for the outside world; a master is never behind the one of the environment.
        let client = Client::builder()
            .tls_backend_preconfigured(tls::client_config(config.tls.as_ref())?)
            .dns_resolver(Arc::new(Resolver::new(known.clone())))
            .redirect(redirect::Policy::none())
            .no_proxy()
            .http1_only()
            .tcp_nodelay(true)
            .tcp_keepalive(Duration::from_secs(15))
            .connect_timeout(config.connect_timeout)
            .pool_max_idle_per_host(32)
            .pool_idle_timeout(Duration::from_secs(60))
            .build()
            .map_err(HttpConfigError::Client)?;
        Ok(Self { client, authorization: authorization(&config)?, known, config })
    }

    /// Posts a call and waits for the head of the answer.
    pub(super) async fn post<C: Serialize>(
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
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
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
    pub(super) async fn failure(&self, url: &Url, response: Response) -> TransportError {
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
    pub(super) fn events<E>(
        &self,
        url: &Url,
        response: Response,
    ) -> BoxStream<'static, Result<E, TransportError>>
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

fn authorization(config: &HttpConfig) -> Result<Option<HeaderValue>, HttpConfigError> {
    let text = match (&config.bearer_token, &config.credentials) {
        (Some(token), _) => format!("Bearer {}", token.expose()),
        (None, Some(credentials)) => {
            format!("Basic {}", STANDARD.encode(format!("{}:{}", credentials.principal, credentials.secret)))
        }
        (None, None) => return Ok(None),
    };
    let mut value = HeaderValue::from_str(&text).map_err(|_| HttpConfigError::BadCredentials)?;
    value.set_sensitive(true);
    Ok(Some(value))
}

/// Reads one record. JSON that does not fit our types is skipped rather than ending the stream: the master
/// would send it again on the next one, for ever.
pub(crate) fn parse_event<E: DeserializeOwned>(
    peer: &str,
    record: &[u8],
) -> Result<Option<E>, TransportError> {
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

pub(super) fn unavailable(url: &Url, message: String) -> TransportError {
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
pub(super) fn unknown_call() -> TransportError {
    TransportError::Malformed {
        peer: "this client".to_owned(),
        message: "call without a type is never sent".to_owned(),
    }
}
