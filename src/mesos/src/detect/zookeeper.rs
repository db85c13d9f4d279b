//! Watches the leading master in ZooKeeper: one session, opened again with back-off whenever it ends.

use std::{
    fmt,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};
use uuid::Uuid;
use zookeeper_client::{Client, Error, EventType, WatchedEvent};

use super::{Sightings, ZooKeeperUrl, lowest, parse_master, sighting::Sighting};
use crate::retry::{Retry, RetryBounds};

/// Pauses between sessions.
const RETRY: RetryBounds = RetryBounds { min: Duration::from_millis(200), max: Duration::from_secs(5) };

/// Looks for the leading master from the first question on, and as long as it lives.
pub(crate) struct ZooKeeperDetector {
    url: ZooKeeperUrl,
    session: Duration,
    source: Arc<str>,
    sender: watch::Sender<Sighting>,
    looking: Mutex<Option<JoinSet<()>>>,
}

impl fmt::Debug for ZooKeeperDetector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ZooKeeperDetector").field("url", &self.url).finish_non_exhaustive()
    }
}

impl ZooKeeperDetector {
    pub(crate) fn new(url: ZooKeeperUrl, session: Duration) -> Self {
        let sender = watch::Sender::new(Sighting::Nothing { why: "not asked yet".to_owned() });
        let source = url.to_string().into();
        Self { url, session, source, sender, looking: Mutex::new(None) }
    }

    /// What it sees from now on. Must be called within a runtime: the first call starts looking.
    pub(crate) fn sightings(&self) -> Sightings {
        let mut looking = self.looking.lock().unwrap_or_else(PoisonError::into_inner);
        looking.get_or_insert_with(|| {
            let look = Look { url: self.url.clone(), session: self.session, sender: self.sender.clone() };
            let mut tasks = JoinSet::new();
            tasks.spawn(look.run());
            tasks
        });
        Sightings { seen: self.sender.subscribe(), source: Arc::clone(&self.source) }
    }
}

struct Look {
    url: ZooKeeperUrl,
    session: Duration,
    sender: watch::Sender<Sighting>,
}

impl Look {
    async fn run(self) {
        // Of the pauses only; every process has its own, so that not all come back at once.
        let seed = Uuid::new_v4().as_u64_pair().0;
        let mut retry = Retry::new(RETRY, seed);
        loop {
            let why = match self.connect().await {
                Ok(client) => self.follow(&client, &mut retry).await,
                Err(why) => why,
            };
            let pause = retry.next_pause();
            tracing::warn!(zookeeper = %self.url, why, ?pause, "no session with ZooKeeper");
            self.sender.send_if_modified(|sighting| match sighting {
                Sighting::Nothing { why: before } if *before != why => {
                    before.clone_from(&why);
                    true
                }
                // What was seen last is still the best guess.
                _ => false,
            });
            sleep(pause).await;
        }
    }

    async fn connect(&self) -> Result<Client, String> {
        let servers = self.url.servers();
        let mut connector = Client::connector().with_session_timeout(self.session);
        if let Some(auth) = self.url.auth() {
            connector = connector.with_auth("digest", auth.as_bytes());
        }
        self.in_time("connect", connector.connect(&servers)).await.map_err(|error| error.to_string())
    }

    /// Tells what changes until the session ends; gives the reason.
    async fn follow(&self, client: &Client, retry: &mut Retry) -> String {
        loop {
            match self.look(client).await {
                Ok(event) => {
                    // Not before: a session in which nothing may be read is not worth full speed.
                    retry.reset();
                    if event.event_type == EventType::Session {
                        return format!("session {}", event.session_state);
                    }
                }
                Err(error) => return error.to_string(),
            }
        }
    }

    /// Looks once, tells what is there, and waits for a change.
    async fn look(&self, client: &Client) -> Result<WatchedEvent, Failure> {
        let path = self.url.path();
        let listed = self.in_time("list", client.list_and_watch_children(path)).await;
        let (children, watcher) = match listed {
            Ok(listed) => listed,
            Err(Failure::ZooKeeper { source: Error::NoNode, .. }) => {
                let (stat, watcher) = self.in_time("look", client.check_and_watch_stat(path)).await?;
                if stat.is_none() {
                    self.tell(Sighting::NoLeader { why: format!("there is no node {path}") });
                }
                // If it was made meanwhile, this watch does not say so, but its data may never change.
                return match stat {
                    None => Ok(watcher.changed().await),
                    Some(_) => Ok(WatchedEvent::new(EventType::NodeCreated, path)),
                };
            }
            Err(error) => return Err(error),
        };
        match lowest(&children) {
            None => self.tell(Sighting::NoLeader { why: format!("{path} holds no master") }),
            Some(child) => {
                let child = if path == "/" { format!("/{child}") } else { format!("{path}/{child}") };
                match self.in_time("read", client.get_data(&child)).await {
                    Ok((data, _)) => self.tell(match parse_master(&data) {
                        Ok(leader) => Sighting::Leader(leader),
                        Err(why) => Sighting::NoLeader { why: format!("{child}: {why}") },
                    }),
                    // It has just gone: the watch on its parent says so.
                    Err(Failure::ZooKeeper { source: Error::NoNode, .. }) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(watcher.changed().await)
    }

    fn tell(&self, sighting: Sighting) {
        self.sender.send_if_modified(|before| {
            if *before == sighting {
                return false;
            }
            tracing::info!(zookeeper = %self.url, ?sighting, "leading master");
            *before = sighting;
            true
        });
    }

    /// Nothing that is asked takes longer than a session lives.
    async fn in_time<T>(
        &self,
        what: &'static str,
        answer: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Failure> {
        match timeout(self.session, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(source)) => Err(Failure::ZooKeeper { what, source }),
            Err(_) => Err(Failure::TimedOut { what }),
        }
    }
}

/// Why ZooKeeper did not answer.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{what}: {source}")]
    ZooKeeper { what: &'static str, source: Error },
    #[error("{what}: no answer in time")]
    TimedOut { what: &'static str },
}
