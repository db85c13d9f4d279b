//! A scheduler's way to the leading master of several.

use std::{
    net::IpAddr,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use futures::StreamExt as _;
use reqwest::{Response, StatusCode, Url, header::LOCATION};

use super::{
    HttpConfig, HttpConfigError,
    address::peer,
    endpoint,
    poster::{Poster, unavailable, unknown_call},
    redirect_target,
};
use crate::{
    SchedulerTransport, Subscription, TransportError,
    detect::{Leader, Masters, ZooKeeperDetector},
    v1::scheduler::{Call, CallType},
};

const PATH: &str = "/api/v1/scheduler";

/// A follower knows the leader directly: one redirect is the rule, two happen while the leader changes.
const MAX_REDIRECTS: usize = 4;

/// How the leading master is found.
#[derive(Debug)]
enum Source {
    /// By asking one after the other.
    List { masters: Vec<Url>, next: AtomicUsize },
    /// By what the masters wrote into ZooKeeper.
    ZooKeeper(ZooKeeperDetector),
}

/// Calls to the leading master. SUBSCRIBE finds it and follows redirects; the other calls go where the
/// subscription stands.
#[derive(Debug)]
pub struct HttpScheduler {
    poster: Poster,
    source: Source,
    leader: Mutex<Option<Url>>,
}

impl HttpScheduler {
    /// A transport for these masters: each `host:port`, `http://host:port` or `https://host:port`, or
    /// instead of all of them one `zk://[user:password@]host1:port1,host2:port2/path`.
    pub fn new<S: AsRef<str>>(
        masters: impl IntoIterator<Item = S>,
        config: HttpConfig,
    ) -> Result<Self, HttpConfigError> {
        let source = match Masters::parse(masters)? {
            Masters::List(masters) => {
                let tls = config.tls.is_some();
                let masters =
                    masters.iter().map(|master| endpoint(master, PATH, tls)).collect::<Result<_, _>>()?;
                Source::List { masters, next: AtomicUsize::new(0) }
            }
            Masters::ZooKeeper(url) => {
                Source::ZooKeeper(ZooKeeperDetector::new(url, config.zookeeper_session))
            }
        };
        Ok(Self { poster: Poster::new(config)?, source, leader: Mutex::new(None) })
    }

    fn leader(&self) -> MutexGuard<'_, Option<Url>> {
        self.leader.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn subscribe_in_turn(
        &self,
        masters: &[Url],
        next: &AtomicUsize,
        call: &Call,
    ) -> Result<Subscription, TransportError> {
        let mut last = None;
        for _ in 0..masters.len() {
            // Moved on before the attempt, so that a caller who gives up on a silent master
            // begins with another one.
            let index = next.fetch_add(1, Ordering::Relaxed) % masters.len();
            match self.subscribe_at(&masters[index], call).await {
                Ok((_, subscription)) => {
                    next.store(index, Ordering::Relaxed);
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

    /// Subscribes with the master that ZooKeeper names, for as long as it names it.
    async fn subscribe_detected(
        &self,
        detector: &ZooKeeperDetector,
        call: &Call,
    ) -> Result<Subscription, TransportError> {
        let mut sightings = detector.sightings();
        let leader = sightings.leader(self.poster.config.call_timeout).await?;
        let url = self.url_of(&leader)?;
        let (at, subscription) = tokio::select! {
            biased;
            // An attempt with a master that died may hang until its time is out.
            error = sightings.clone().replaced(leader.clone(), leader.clone()) => return Err(error),
            subscribed = self.subscribe_at(&url, call) => subscribed?,
        };
        let here = if at == url { leader.clone() } else { Leader::at(&at) };
        let replaced = sightings.replaced(leader, here);
        let events = until(subscription.events, replaced).boxed();
        Ok(Subscription { stream_id: subscription.stream_id, events })
    }

    /// A master's URL: by its address, so that no name server is needed. With TLS by its name, which is
    /// what its certificate shows; the address is known all the same.
    pub(super) fn url_of(&self, leader: &Leader) -> Result<Url, TransportError> {
        let tls = self.poster.config.tls.is_some();
        let name = leader.hostname.as_deref().filter(|name| tls && name.parse::<IpAddr>().is_err());
        if let Some(name) = name {
            self.poster.known.set(name, leader.ip);
        }
        let host = match (name, leader.ip) {
            (Some(name), _) => name.to_owned(),
            (None, IpAddr::V4(ip)) => ip.to_string(),
            (None, IpAddr::V6(ip)) => format!("[{ip}]"),
        };
        endpoint(&format!("{host}:{}", leader.port), PATH, tls).map_err(|error| TransportError::Malformed {
            peer: "ZooKeeper".to_owned(),
            message: error.to_string(),
        })
    }

    /// Subscribes, and says where that was in the end.
    pub(super) async fn subscribe_at(
        &self,
        master: &Url,
        call: &Call,
    ) -> Result<(Url, Subscription), TransportError> {
        let mut url = master.clone();
        for _ in 0..=MAX_REDIRECTS {
            let response = self.poster.post(&url, None, call).await?;
            match response.status() {
                StatusCode::OK => return Ok((url.clone(), self.subscribed(url, response)?)),
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

/// A stream that ends with an error as soon as there is one.
fn until<T: Send + 'static>(
    events: futures::stream::BoxStream<'static, Result<T, TransportError>>,
    end: impl Future<Output = TransportError> + Send + 'static,
) -> impl futures::Stream<Item = Result<T, TransportError>> + Send {
    futures::stream::unfold(Some((events, Box::pin(end))), |state| async {
        let (mut events, mut end) = state?;
        tokio::select! {
            biased;
            error = &mut end => Some((Err(error), None)),
            event = events.next() => event.map(|event| (event, Some((events, end)))),
        }
    })
}

/// Where a follower sends us.
fn redirected(from: &Url, response: &Response) -> Result<Url, TransportError> {
    let location = response.headers().get(LOCATION).map_or(&b""[..], |location| location.as_bytes());
    if location.is_empty() {
        let message = "redirect to nowhere".to_owned();
        return Err(TransportError::Malformed { peer: peer(from), message });
    }
    redirect_target(from, location).map_err(|message| TransportError::Malformed { peer: peer(from), message })
}

#[async_trait]
impl SchedulerTransport for HttpScheduler {
    async fn subscribe(&self, call: &Call) -> Result<Subscription, TransportError> {
        if call.kind == CallType::Unknown {
            return Err(unknown_call());
        }
        match &self.source {
            Source::List { masters, next } => self.subscribe_in_turn(masters, next, call).await,
            Source::ZooKeeper(detector) => self.subscribe_detected(detector, call).await,
        }
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
