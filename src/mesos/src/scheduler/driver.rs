//! Keeps the subscription: opens it, watches its heartbeats, passes its events on, opens it again.

use std::{sync::Arc, time::Duration};

use futures::StreamExt as _;
use tokio::{
    sync::mpsc::{self, error::TrySendError},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    SchedulerConfig, SchedulerEvent,
    shared::{Profile, Shared, Void},
};
use crate::{
    EventStream, SchedulerTransport, TransportError,
    retry::Retry,
    v1::{
        FrameworkId, decode_data,
        scheduler::{Call, CallType, Event, EventType, Subscribe, Subscribed},
    },
};

/// What Mesos uses when it says nothing (`DEFAULT_HEARTBEAT_INTERVAL`).
const DEFAULT_HEARTBEAT_INTERVAL: Duration = Duration::from_secs(15);

/// A master that claims more is not waited for.
const MAX_HEARTBEAT_INTERVAL: Duration = Duration::from_secs(300);

/// The master's words for a framework that was torn down or timed out; the id is dead for good.
const REMOVED: &str = "Framework has been removed";

/// The master's words to the old stream when somebody subscribes with the same id.
const FAILED_OVER: &str = "Framework failed over";

/// Why a subscription ended, or never began.
#[derive(Debug)]
enum Ended {
    Lost(String),
    Refused(String),
    /// Somebody else is the framework now. Coming back at once would throw him out, and he us, for ever:
    /// the longest pause gives a deposed leader time to learn that he is one.
    TakenOver(String),
    SlowConsumer,
    Removed(String),
    ConsumerGone,
}

/// Runs a scheduler client.
pub struct SchedulerDriver {
    config: SchedulerConfig,
    shared: Arc<Shared>,
    transport: Arc<dyn SchedulerTransport>,
    events: mpsc::Sender<SchedulerEvent>,
    retry: Retry,
    /// What the consumer was told last about not being subscribed.
    told: Option<SchedulerEvent>,
}

impl SchedulerDriver {
    pub(super) fn new(
        config: SchedulerConfig,
        shared: Arc<Shared>,
        transport: Arc<dyn SchedulerTransport>,
        events: mpsc::Sender<SchedulerEvent>,
        seed: u64,
    ) -> Self {
        let retry = Retry::new(config.retry, seed);
        Self { config, shared, transport, events, retry, told: None }
    }

    /// Keeps the framework subscribed until `shutdown`, the end of the framework, or the end of the
    /// receiver. The framework stays registered: its tasks run on for the fail-over timeout.
    pub async fn run(mut self, shutdown: CancellationToken) {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => {}
            () = self.keep_subscribed() => {}
        }
        self.shared.disconnected();
    }

    async fn keep_subscribed(&mut self) {
        loop {
            let ended = self.subscription().await;
            self.shared.disconnected();
            if self.shared.is_torn_down() {
                tracing::info!("framework torn down");
                return;
            }
            let (event, pause) = match ended {
                Ended::Lost(reason) => (SchedulerEvent::Disconnected { reason }, self.retry.next_pause()),
                Ended::Refused(message) => (SchedulerEvent::Refused { message }, self.retry.next_pause()),
                Ended::TakenOver(reason) => {
                    (SchedulerEvent::Disconnected { reason }, self.retry.longest_pause())
                }
                Ended::SlowConsumer => {
                    self.wait_for_consumer().await;
                    let reason = format!("more than {} events unread", self.config.event_buffer);
                    (SchedulerEvent::Disconnected { reason }, self.retry.next_pause())
                }
                Ended::Removed(message) => {
                    tracing::error!(message, "framework removed by the master");
                    let _ = self.events.send(SchedulerEvent::Removed { message }).await;
                    return;
                }
                Ended::ConsumerGone => return,
            };
            tracing::warn!(?event, ?pause, "not subscribed");
            if self.told.as_ref() != Some(&event) {
                self.told = Some(event.clone());
                if self.events.send(event).await.is_err() {
                    return;
                }
            }
            sleep(pause).await;
        }
    }

    /// Waits until half of the buffer is free: one free slot would be full again at once.
    async fn wait_for_consumer(&self) {
        let half = self.events.max_capacity() / 2;
        // A consumer that is gone is noticed by the next send.
        let _ = self.events.reserve_many(half).await;
    }

    async fn subscription(&mut self) -> Ended {
        let opened = match timeout(self.config.subscribe_timeout, self.open()).await {
            Ok(opened) => opened,
            Err(_) => Err(Ended::Lost(format!(
                "no subscription within {} s",
                self.config.subscribe_timeout.as_secs_f64()
            ))),
        };
        match opened {
            Ok((number, heartbeat, events)) => self.read(number, heartbeat, events).await,
            Err(ended) => ended,
        }
    }

    /// Subscribes and waits for SUBSCRIBED. Gives the subscription's number and the heartbeat interval.
    async fn open(&mut self) -> Result<(u64, Duration, EventStream<Event>), Ended> {
        let known = self.config.framework_id.clone();
        let Profile { framework: mut framework_info, suppressed_roles } = self.shared.profile();
        framework_info.id.clone_from(&known);
        let call = Call {
            framework_id: known.clone(),
            kind: CallType::Subscribe,
            subscribe: Some(Subscribe { framework_info, suppressed_roles }),
            ..Call::default()
        };
        let subscription = self.transport.subscribe(&call).await.map_err(ended_by)?;
        let mut events = subscription.events;
        let subscribed = loop {
            match events.next().await {
                None => return Err(Ended::Lost("stream ended before SUBSCRIBED".to_owned())),
                Some(Err(error)) => return Err(Ended::Lost(error.to_string())),
                Some(Ok(event)) => match event.kind {
                    EventType::Subscribed => break event.subscribed.unwrap_or_default(),
                    EventType::Error => return Err(refused(event)),
                    other => tracing::debug!(event = %other, "event before SUBSCRIBED"),
                },
            }
        };
        let framework_id = check_id(known.as_ref(), &subscribed)?;
        let heartbeat = heartbeat_interval(&subscribed);
        self.config.framework_id = Some(framework_id.clone());
        self.told = None;
        let number = self.shared.connected(framework_id.clone(), subscription.stream_id);
        tracing::info!(%framework_id, subscription = number, "subscribed");
        self.pass(SchedulerEvent::Subscribed { framework_id, resubscribed: known.is_some() })?;
        Ok((number, heartbeat, events))
    }

    /// Passes events on until the subscription ends. Never waits for the consumer: heartbeats behind an
    /// event that waits would be missed.
    async fn read(&mut self, number: u64, heartbeat: Duration, mut events: EventStream<Event>) -> Ended {
        let silence = heartbeat.saturating_mul(self.config.missed_heartbeats.max(1));
        let shared = Arc::clone(&self.shared);
        let voided = shared.voided(number);
        tokio::pin!(voided);
        // A master that accepts us and drops us at once must not be asked at full speed.
        let proven = sleep(self.config.retry.max);
        tokio::pin!(proven);
        let mut is_proven = false;
        loop {
            let next = tokio::select! {
                biased;
                (void, message) = &mut voided => return match void {
                    Void::Forgotten => Ended::Lost(message),
                    Void::TakenOver => Ended::TakenOver(message),
                },
                () = &mut proven, if !is_proven => {
                    is_proven = true;
                    self.retry.reset();
                    continue;
                }
                next = timeout(silence, events.next()) => next,
            };
            let event = match next {
                Err(_) => {
                    return Ended::Lost(format!("no heartbeat for {} s", silence.as_secs_f64()));
                }
                Ok(None) => return Ended::Lost("the master ended the stream".to_owned()),
                Ok(Some(Err(error))) => return Ended::Lost(error.to_string()),
                Ok(Some(Ok(event))) => event,
            };
            if let Err(ended) = self.take(number, event) {
                return ended;
            }
        }
    }

    fn take(&self, number: u64, event: Event) -> Result<(), Ended> {
        match event.kind {
            EventType::Heartbeat => Ok(()),
            EventType::Offers => {
                let offers = event.offers.unwrap_or_default().offers;
                if !self.shared.offered(&offers) {
                    return Err(Ended::Lost("too many offers".to_owned()));
                }
                self.pass(SchedulerEvent::Offers { subscription: number, offers })
            }
            EventType::Rescind => {
                let offer_id = event.rescind.unwrap_or_default().offer_id;
                self.shared.rescinded(&offer_id);
                self.pass(SchedulerEvent::Rescinded(offer_id))
            }
            EventType::Update => match event.update {
                Some(update) => self.pass(SchedulerEvent::Update(update.status)),
                None => Ok(()),
            },
            EventType::InverseOffers => {
                let inverse_offers = event.inverse_offers.unwrap_or_default().inverse_offers;
                self.pass(SchedulerEvent::InverseOffers { inverse_offers })
            }
            EventType::RescindInverseOffer => {
                let rescinded = event.rescind_inverse_offer.unwrap_or_default();
                self.pass(SchedulerEvent::InverseRescinded(rescinded.inverse_offer_id))
            }
            EventType::UpdateOperationStatus => match event.update_operation_status {
                Some(update) => self.pass(SchedulerEvent::OperationStatus(update.status)),
                None => Ok(()),
            },
            EventType::Failure => self.pass(SchedulerEvent::Failure(event.failure.unwrap_or_default())),
            EventType::Message => {
                let message = event.message.unwrap_or_default();
                let Some(data) = decode_data(&message.data) else {
                    tracing::warn!(executor = %message.executor_id, "dropped a message that is not base64");
                    return Ok(());
                };
                let (agent_id, executor_id) = (message.agent_id, message.executor_id);
                self.pass(SchedulerEvent::Message { agent_id, executor_id, data })
            }
            EventType::Error => Err(refused(event)),
            EventType::Subscribed | EventType::Unknown => {
                tracing::debug!(event = %event.kind, "event left aside");
                Ok(())
            }
        }
    }

    fn pass(&self, event: SchedulerEvent) -> Result<(), Ended> {
        self.events.try_send(event).map_err(|error| match error {
            TrySendError::Full(_) => Ended::SlowConsumer,
            TrySendError::Closed(_) => Ended::ConsumerGone,
        })
    }
}

fn ended_by(error: TransportError) -> Ended {
    match error {
        TransportError::Refused { message, .. } if message.contains(REMOVED) => Ended::Removed(message),
        TransportError::Refused { status: 400..=499, .. } => Ended::Refused(error.to_string()),
        TransportError::Refused { .. }
        | TransportError::Unavailable { .. }
        | TransportError::Withheld { .. }
        | TransportError::Malformed { .. } => Ended::Lost(error.to_string()),
    }
}

/// What an ERROR event means: the stream ends behind it in any case.
fn refused(event: Event) -> Ended {
    let message = event.error.unwrap_or_default().message;
    if message.contains(REMOVED) {
        Ended::Removed(message)
    } else if message.contains(FAILED_OVER) {
        Ended::TakenOver(message)
    } else {
        Ended::Refused(message)
    }
}

/// A master that answers with another id than ours would make us forget our tasks.
fn check_id(known: Option<&FrameworkId>, subscribed: &Subscribed) -> Result<FrameworkId, Ended> {
    let given = &subscribed.framework_id;
    match known {
        Some(known) if known != given => {
            Err(Ended::Refused(format!("subscribed as framework {known}, the master answers as {given}")))
        }
        None if given.value.is_empty() => Err(Ended::Refused("the master gave no framework id".to_owned())),
        _ => Ok(given.clone()),
    }
}

fn heartbeat_interval(subscribed: &Subscribed) -> Duration {
    subscribed
        .heartbeat_interval_seconds
        .filter(|seconds| *seconds > 0.0)
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .map_or(DEFAULT_HEARTBEAT_INTERVAL, |interval| interval.min(MAX_HEARTBEAT_INTERVAL))
}
