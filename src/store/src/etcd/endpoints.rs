//! One client per endpoint, used one at a time: sticky until it fails, then the next one.
//!
//! A client over all endpoints would balance calls over them and never leave a dead one out, so that
//! one dead endpoint of three fails a quarter of all calls (tonic issue 643).

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use backoff::{ExponentialBackoff, ExponentialBackoffBuilder, backoff::Backoff as _};
use etcd_client::{Client, ConnectOptions, KvClient, LeaseClient, WatchClient};
use tokio::{
    sync::OnceCell,
    time::{sleep, timeout},
};
use tracing::debug;

use super::failure::{Failure, Refusal};
use crate::{Error, EtcdConfig};

/// Largest answer that is taken; listings then ask for smaller pages, watches list anew.
pub(super) const MAX_ANSWER: usize = 32 << 20;

/// HTTP/2 pings. etcd cuts connections that ping more often than every 5 s (`--grpc-keepalive-min-time`),
/// and those that ping while no call or watch is open, after three pings.
const PING_INTERVAL: Duration = Duration::from_secs(10);
/// A ping unanswered for this long means that the peer is dead.
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// Whether a call may reach etcd twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeat {
    /// Twice does no harm: reads, leases.
    Harmless,
    /// Only when the first try was surely not applied.
    IfUnapplied,
}

/// The clients of one endpoint.
#[derive(Clone)]
pub(super) struct Clients {
    pub(super) kv: KvClient,
    pub(super) watch: WatchClient,
    pub(super) lease: LeaseClient,
}

/// Made on first use: with a user, that is when the password is checked.
type Connection = Arc<OnceCell<Clients>>;

struct Endpoint {
    url: String,
    connection: Mutex<Connection>,
}

/// All endpoints of one etcd cluster.
pub(super) struct Endpoints {
    all: Vec<Endpoint>,
    /// Which one is in use.
    current: AtomicUsize,
    options: ConnectOptions,
    call_timeout: Duration,
}

/// How far a call has come, for when its time is up.
struct Progress {
    at: usize,
    connection: Connection,
    /// Whether a request that must not be repeated is on its way.
    sent: AtomicBool,
    message: String,
}

impl Endpoint {
    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Endpoints {
    /// No I/O happens before the first call.
    pub(super) fn new(config: &EtcdConfig) -> Self {
        let mut options = ConnectOptions::new()
            .with_keep_alive(PING_INTERVAL, PING_TIMEOUT)
            .with_keep_alive_while_idle(false)
            .with_connect_timeout(config.connect_timeout)
            .with_require_leader(true);
        if let Some((name, password)) = &config.user {
            options = options.with_user(name, password).with_auto_token_refresh(true);
        }
        if let Some(tls) = &config.tls {
            options = options.with_tls(tls.options());
        }
        let all = config
            .endpoints
            .iter()
            .map(|url| Endpoint { url: url.clone(), connection: Mutex::new(Connection::default()) });
        Self { all: all.collect(), current: AtomicUsize::new(0), options, call_timeout: config.call_timeout }
    }

    /// Runs one call, on other endpoints when the current one fails, until it is answered or its time is up.
    pub(super) async fn call<T, F, A>(
        &self,
        operation: &'static str,
        repeat: Repeat,
        run: F,
    ) -> Result<T, Refusal>
    where
        F: Fn(Clients) -> A,
        A: Future<Output = Result<T, etcd_client::Error>>,
    {
        let mut progress = Progress {
            at: self.current(),
            connection: Connection::default(),
            sent: AtomicBool::new(false),
            message: "no answer".to_owned(),
        };
        match timeout(self.call_timeout, self.attempts(operation, repeat, run, &mut progress)).await {
            Ok(result) => result,
            Err(_elapsed) => {
                self.give_up(progress.at, &progress.connection);
                let sent = repeat == Repeat::IfUnapplied && progress.sent.load(Ordering::Relaxed);
                let message = if sent { "no answer" } else { progress.message.as_str() };
                let message = format!("{message} within {:?}", self.call_timeout);
                Err(if sent { self.unanswered(message) } else { self.unavailable(message) })
            }
        }
    }

    async fn attempts<T, F, A>(
        &self,
        operation: &'static str,
        repeat: Repeat,
        run: F,
        progress: &mut Progress,
    ) -> Result<T, Refusal>
    where
        F: Fn(Clients) -> A,
        A: Future<Output = Result<T, etcd_client::Error>>,
    {
        // A hung endpoint must leave time for the others, where it may be left at all.
        let share = match repeat {
            Repeat::Harmless => self.call_timeout / u32::try_from(self.all.len()).unwrap_or(1).max(1),
            Repeat::IfUnapplied => self.call_timeout,
        };
        let mut pause = reconnect_pauses(None);
        loop {
            for _ in &self.all {
                let at = self.current();
                let connection = self.connection(at);
                progress.at = at;
                progress.connection = Arc::clone(&connection);
                progress.sent.store(false, Ordering::Relaxed);
                let attempt = self.attempt(at, &connection, &progress.sent, &run);
                let failure = match timeout(share, attempt).await {
                    Ok(Ok(answer)) => return Ok(answer),
                    Ok(Err(failure)) => failure,
                    Err(_elapsed) => {
                        self.give_up(at, &connection);
                        Failure::Ambiguous("no answer".to_owned())
                    }
                };
                let sent = progress.sent.swap(false, Ordering::Relaxed);
                let message = match failure {
                    Failure::Refused(refusal) => return Err(refusal),
                    Failure::Ambiguous(message) if repeat == Repeat::IfUnapplied && sent => {
                        self.rotate(at);
                        return Err(self.unanswered(message));
                    }
                    Failure::Ambiguous(message) | Failure::Unapplied(message) => message,
                };
                debug!(endpoint = self.url(at), operation, error = message, "etcd endpoint failed");
                self.rotate(at);
                progress.message = message;
            }
            sleep(pause.next_backoff().unwrap_or(pause.max_interval)).await;
        }
    }

    async fn attempt<T, F, A>(
        &self,
        at: usize,
        connection: &Connection,
        sent: &AtomicBool,
        run: &F,
    ) -> Result<T, Failure>
    where
        F: Fn(Clients) -> A,
        A: Future<Output = Result<T, etcd_client::Error>>,
    {
        let connect = || async {
            let client = Client::connect([self.url(at)], Some(self.options.clone())).await?;
            Ok(Clients {
                kv: client.kv_client().max_decoding_message_size(MAX_ANSWER),
                watch: client.watch_client().max_decoding_message_size(MAX_ANSWER),
                lease: client.lease_client(),
            })
        };
        let clients = connection.get_or_try_init(connect).await;
        let clients = clients.map_err(|error: etcd_client::Error| Failure::of(&error).before_sending())?;
        sent.store(true, Ordering::Relaxed);
        run(clients.clone()).await.map_err(|error| Failure::of(&error))
    }

    fn connection(&self, at: usize) -> Connection {
        self.all.get(at).map(|endpoint| Arc::clone(&endpoint.lock())).unwrap_or_default()
    }

    /// Leaves an endpoint that does not answer. Later calls use a new connection: the old one may lead
    /// nowhere without knowing it.
    fn give_up(&self, at: usize, silent: &Connection) {
        if let Some(endpoint) = self.all.get(at) {
            let mut connection = endpoint.lock();
            if Arc::ptr_eq(&connection, silent) {
                *connection = Connection::default();
            }
        }
        self.rotate(at);
    }

    fn current(&self) -> usize {
        self.current.load(Ordering::Relaxed)
    }

    /// Leaves endpoint `at`, unless another call has done so already.
    fn rotate(&self, at: usize) {
        let next = (at + 1) % self.all.len().max(1);
        // Failure to exchange means that somebody else rotated: as good.
        let _ = self.current.compare_exchange(at, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    fn url(&self, at: usize) -> &str {
        self.all.get(at).map_or("", |endpoint| endpoint.url.as_str())
    }

    fn unavailable(&self, message: String) -> Refusal {
        Refusal::Error(Error::Unavailable { endpoints: self.to_string(), message })
    }

    fn unanswered(&self, message: String) -> Refusal {
        Refusal::Error(Error::Unanswered { endpoints: self.to_string(), message })
    }
}

impl fmt::Display for Endpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, endpoint) in self.all.iter().enumerate() {
            write!(f, "{}{}", if n == 0 { "" } else { "," }, endpoint.url)?;
        }
        Ok(())
    }
}

/// Without the credentials.
impl fmt::Debug for Endpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoints({self}, using {})", self.url(self.current()))
    }
}

/// Pauses between rounds over the endpoints, for at most `limit`.
pub(super) fn reconnect_pauses(limit: Option<Duration>) -> ExponentialBackoff {
    ExponentialBackoffBuilder::new()
        .with_initial_interval(Duration::from_millis(20))
        .with_randomization_factor(0.5)
        .with_multiplier(2.0)
        .with_max_interval(Duration::from_secs(2))
        .with_max_elapsed_time(limit)
        .build()
}
