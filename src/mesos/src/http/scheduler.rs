//! A scheduler's way to the leading master of several.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use reqwest::{Response, StatusCode, Url, header::LOCATION};

use super::{HttpConfig, HttpConfigError, Poster, endpoint, peer, unavailable, unknown_call};
use crate::{
    SchedulerTransport, Subscription, TransportError,
    v1::scheduler::{Call, CallType},
};

const PATH: &str = "/api/v1/scheduler";

/// A follower knows the leader directly: one redirect is the rule, two happen while the leader changes.
const MAX_REDIRECTS: usize = 4;

/// Calls to the leading master. SUBSCRIBE tries the masters in turn and follows redirects; the other
/// calls go where the subscription stands.
#[derive(Debug)]
pub struct HttpScheduler {
    poster: Poster,
    masters: Vec<Url>,
    next: AtomicUsize,
    leader: Mutex<Option<Url>>,
}

impl HttpScheduler {
    /// A transport for these masters, each `host:port` or `http://host:port`.
    pub fn new<S: AsRef<str>>(
        masters: impl IntoIterator<Item = S>,
        config: HttpConfig,
    ) -> Result<Self, HttpConfigError> {
        let masters = masters
            .into_iter()
            .map(|master| endpoint(master.as_ref().trim(), PATH))
            .collect::<Result<Vec<_>, _>>()?;
        if masters.is_empty() {
            return Err(HttpConfigError::NoMaster);
        }
        Ok(Self {
            poster: Poster::new(config)?,
            masters,
            next: AtomicUsize::new(0),
            leader: Mutex::new(None),
        })
    }

    fn leader(&self) -> std::sync::MutexGuard<'_, Option<Url>> {
        self.leader.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn subscribe_at(&self, master: &Url, call: &Call) -> Result<Subscription, TransportError> {
        let mut url = master.clone();
        for _ in 0..=MAX_REDIRECTS {
            let response = self.poster.post(&url, None, call).await?;
            match response.status() {
                StatusCode::OK => return self.subscribed(url, response),
                StatusCode::TEMPORARY_REDIRECT => url = redirected(&url, &response)?,
                _ => return Err(self.poster.failure(&url, response).await),
            }
        }
        Err(unavailable(master, "masters redirect in a circle".to_owned()))
    }

    fn subscribed(&self, url: Url, response: Response) -> Result<Subscription, TransportError> {
        let stream_id = response.headers().get("Mesos-Stream-Id").and_then(|id| id.to_str().ok());
        let Some(stream_id) = stream_id.map(str::to_owned) else {
            return Err(TransportError::Malformed {
                peer: peer(&url),
                message: "answer to SUBSCRIBE without Mesos-Stream-Id".to_owned(),
            });
        };
        let events = self.poster.events(&url, response);
        *self.leader() = Some(url);
        Ok(Subscription { stream_id, events })
    }
}

/// Where a follower sends us: `Location` is scheme-relative (`//host:port/path`).
fn redirected(from: &Url, response: &Response) -> Result<Url, TransportError> {
    let location = response.headers().get(LOCATION).and_then(|location| location.to_str().ok());
    let target = location.and_then(|location| from.join(location).ok());
    match target {
        Some(mut url) if url.scheme() == "http" && url.host_str().is_some() => {
            if url.path() == "/" {
                url.set_path(PATH);
            }
            Ok(url)
        }
        _ => Err(TransportError::Malformed {
            peer: peer(from),
            message: format!("redirect to {:?}", location.unwrap_or("nowhere")),
        }),
    }
}

#[async_trait]
impl SchedulerTransport for HttpScheduler {
    async fn subscribe(&self, call: &Call) -> Result<Subscription, TransportError> {
        if call.kind == CallType::Unknown {
            return Err(unknown_call());
        }
        let mut last = None;
        for _ in 0..self.masters.len() {
            // Moved on before the attempt, so that a caller who gives up on a silent master
            // begins with another one.
            let index = self.next.fetch_add(1, Ordering::Relaxed) % self.masters.len();
            match self.subscribe_at(&self.masters[index], call).await {
                Ok(subscription) => {
                    self.next.store(index, Ordering::Relaxed);
                    return Ok(subscription);
                }
                // The leader has spoken; the others would only send us back to it.
                Err(refused @ TransportError::Refused { .. }) => return Err(refused),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| TransportError::Unavailable {
            peer: "Mesos".to_owned(),
            message: "no master given".to_owned(),
        }))
    }

    async fn call(&self, stream_id: &str, call: &Call) -> Result<(), TransportError> {
        if call.kind == CallType::Unknown {
            return Err(unknown_call());
        }
        let leader = self.leader().clone();
        let Some(url) = leader else {
            return Err(TransportError::Unavailable {
                peer: "Mesos".to_owned(),
                message: "not subscribed".to_owned(),
            });
        };
        let response = self.poster.post(&url, Some(stream_id), call).await?;
        match response.status() {
            StatusCode::ACCEPTED | StatusCode::OK => Ok(()),
            StatusCode::TEMPORARY_REDIRECT => {
                Err(unavailable(&url, "no longer the leading master".to_owned()))
            }
            _ => Err(self.poster.failure(&url, response).await),
        }
    }
}
