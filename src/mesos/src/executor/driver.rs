//! Keeps the subscription to the agent and sends what waits.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures::{FutureExt as _, StreamExt as _, future::BoxFuture};
use tokio::{
    sync::mpsc::{self, error::TrySendError},
    time::{Sleep, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    ExecutorEnv, ExecutorEvent,
    handle::{CALL_TIMEOUT, Shared},
    ledger::{Heard, Ledger},
    patience::{Disowned, Gone, Patience, Verdict},
};
use crate::{
    EventStream, ExecutorTransport, TransportError,
    retry::{Retry, RetryBounds},
    v1::{
        KillPolicy, TaskInfo, decode_data,
        executor::{Call, CallType, Event, EventType, Subscribed},
    },
};

/// First pause between attempts to subscribe.
const RETRY_MIN: Duration = Duration::from_millis(50);
/// Pause before an update is tried again that did not reach the agent.
const UPDATE_RETRY: Duration = Duration::from_millis(500);
/// An agent confirms within milliseconds; after so long the confirmation, or the update, got lost. Doubled with
/// each time that nothing is confirmed, as Mesos does on the next leg.
const CONFIRMATION_TIMEOUT: RetryBounds =
    RetryBounds { min: Duration::from_secs(10), max: Duration::from_secs(600) };
/// An agent sends a HEARTBEAT every 30 minutes (`DEFAULT_EXECUTOR_HEARTBEAT_INTERVAL`, since Mesos 1.10). After
/// twice that and a half the stream counts as dead; subscribing once too often has no consequence.
const SILENCE_LIMIT: Duration = Duration::from_secs(75 * 60);
/// The agent kills an executor that has not subscribed by then (`--executor_registration_timeout`).
const REGISTRATION_TIMEOUT: Duration = Duration::from_secs(60);

type Timer = Pin<Box<Sleep>>;
type Sent = (Uuid, Result<(), TransportError>);

/// Runs an executor client.
pub struct ExecutorDriver {
    env: Arc<ExecutorEnv>,
    shared: Arc<Shared>,
    transport: Arc<dyn ExecutorTransport>,
    events: mpsc::Sender<ExecutorEvent>,
    retry: Retry,
    seed: u64,
}

impl ExecutorDriver {
    pub(super) fn new(
        env: Arc<ExecutorEnv>,
        shared: Arc<Shared>,
        transport: Arc<dyn ExecutorTransport>,
        events: mpsc::Sender<ExecutorEvent>,
        seed: u64,
    ) -> Self {
        // A restarted agent gives executors about as long to come back: half of it leaves room for another attempt.
        let max = (env.subscription_backoff_max / 2).max(RETRY_MIN);
        // Another sequence than that of the uuids.
        let retry = Retry::new(RetryBounds { min: RETRY_MIN, max }, !seed);
        Self { env, shared, transport, events, retry, seed }
    }

    /// Keeps the executor subscribed until `shutdown` or the end of the receiver.
    pub async fn run(mut self, shutdown: CancellationToken) {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => {}
            _gone = self.keep_subscribed() => {}
        }
        self.shared.close();
    }

    async fn keep_subscribed(&mut self) -> Result<(), Gone> {
        let events = self.events.clone();
        let mut patience = Patience::new(REGISTRATION_TIMEOUT);
        let mut disowned = Disowned::default();
        loop {
            let opened = patience.during(&events, self.open()).await?;
            let believed = disowned.heard(opened.as_ref().err());
            match opened {
                Ok((subscribed, stream)) => {
                    let reason = self.serve(subscribed, stream).await?;
                    tracing::warn!(reason, "subscription to the agent ended");
                    patience = Patience::new(self.loss_timeout());
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot subscribe to the agent");
                    if believed {
                        let said = ExecutorEvent::Disowned(error.to_string());
                        events.send(said).await.map_err(|_| Gone)?;
                    }
                }
            }
            let pause = self.retry.next_pause();
            patience.during(&events, sleep(pause)).await?;
        }
    }

    /// Without checkpointing an agent that comes back knows nothing of its executors.
    fn loss_timeout(&self) -> Duration {
        if self.env.checkpoint { self.env.recovery_timeout } else { Duration::ZERO }
    }

    /// Subscribes with what is unconfirmed and waits for SUBSCRIBED.
    async fn open(&self) -> Result<(Subscribed, EventStream<Event>), TransportError> {
        let mut call = self.call(CallType::Subscribe);
        call.subscribe = Some(self.shared.with_ledger(Ledger::subscribe));
        let opening = async {
            let mut events = self.transport.subscribe(&call).await?;
            loop {
                let event = events.next().await.transpose()?;
                match event.map(|event| (event.kind, event)) {
                    Some((EventType::Subscribed, event)) => {
                        self.shared.with_ledger(Ledger::subscribed);
                        return Ok((event.subscribed.unwrap_or_default(), events));
                    }
                    Some((EventType::Error, event)) => {
                        return Err(self.unavailable(event.error.unwrap_or_default().message));
                    }
                    Some((kind, _)) => tracing::debug!(event = %kind, "event before SUBSCRIBED"),
                    None => return Err(self.unavailable("stream ended before SUBSCRIBED".to_owned())),
                }
            }
        };
        match timeout(CALL_TIMEOUT, opening).await {
            Ok(opened) => opened,
            Err(_) => Err(self.unavailable(format!("not subscribed within {} s", CALL_TIMEOUT.as_secs()))),
        }
    }

    /// Passes orders on and sends updates until the stream ends; gives the reason. While an order waits
    /// for the consumer the stream is not read: the agent repeats none.
    async fn serve(
        &mut self,
        subscribed: Subscribed,
        mut stream: EventStream<Event>,
    ) -> Result<String, Gone> {
        let shared = Arc::clone(&self.shared);
        let events = self.events.clone();
        let mut order = Some(ExecutorEvent::Subscribed(subscribed));
        let mut sending: Option<BoxFuture<'static, Sent>> = None;
        let mut hold: Option<Timer> = None;
        let mut overdue: Option<Timer> = None;
        // Another sequence than that of the pauses.
        let mut confirmation = Retry::new(CONFIRMATION_TIMEOUT, self.seed.rotate_left(7));
        let mut silence: Timer = Box::pin(sleep(SILENCE_LIMIT));
        // An agent that accepts us and drops us at once must not be asked at full speed.
        let mut unproven: Option<Timer> = Some(Box::pin(sleep(self.env.subscription_backoff_max)));
        loop {
            if sending.is_none() && hold.is_none() {
                sending = self.next_update();
            }
            if shared.with_ledger(|ledger| ledger.waiting()) == 0 {
                overdue = None;
            } else if overdue.is_none() {
                overdue = Some(Box::pin(sleep(confirmation.next_pause())));
            }
            tokio::select! {
                biased;
                permit = events.reserve(), if order.is_some() => {
                    let permit = permit.map_err(|_| Gone)?;
                    if let Some(order) = order.take() {
                        permit.send(order);
                    }
                }
                (uuid, result) = running(&mut sending) => {
                    sending = None;
                    let Err(error) = result else {
                        shared.with_ledger(|ledger| ledger.set_sent(uuid));
                        continue;
                    };
                    tracing::warn!(%error, %uuid, "the agent did not take an update");
                    match Verdict::of(&error) {
                        // The others wait with it: their order is their meaning.
                        Verdict::Again => {}
                        Verdict::Subscribe => return Ok(error.to_string()),
                        Verdict::Wrong => {
                            if shared.with_ledger(|ledger| ledger.refused(uuid)) {
                                tracing::error!(%error, %uuid, "an update that the agent calls wrong is given up");
                            }
                        }
                    }
                    hold = Some(Box::pin(sleep(UPDATE_RETRY)));
                }
                () = elapsed(&mut hold) => hold = None,
                () = elapsed(&mut overdue) => {
                    overdue = None;
                    shared.with_ledger(Ledger::resend);
                }
                () = elapsed(&mut unproven) => {
                    unproven = None;
                    self.retry.reset();
                }
                event = stream.next(), if order.is_none() => {
                    match event {
                        None => return Ok("the agent ended the stream".to_owned()),
                        Some(Err(error)) => return Ok(error.to_string()),
                        Some(Ok(event)) if event.kind == EventType::Error => {
                            return Ok(event.error.unwrap_or_default().message);
                        }
                        Some(Ok(event)) => {
                            if event.kind == EventType::Acknowledged {
                                confirmation.reset();
                            }
                            order = self.take(event)?;
                        }
                    }
                    silence = Box::pin(sleep(SILENCE_LIMIT));
                }
                () = &mut silence, if order.is_none() => {
                    return Ok(format!("nothing heard for {} minutes", SILENCE_LIMIT.as_secs() / 60));
                }
                () = shared.queued.notified() => {}
            }
        }
    }

    /// The order in an event, if it is one. What may be lost is passed on here.
    fn take(&self, event: Event) -> Result<Option<ExecutorEvent>, Gone> {
        match event.kind {
            EventType::Launch => {
                let task = event.launch.unwrap_or_default().task;
                Ok(self.is_new(&task).then_some(ExecutorEvent::Launch(task)))
            }
            EventType::LaunchGroup => {
                let mut tasks = event.launch_group.unwrap_or_default().task_group.tasks;
                tasks.retain(|task| self.is_new(task));
                Ok((!tasks.is_empty()).then_some(ExecutorEvent::LaunchGroup(tasks)))
            }
            EventType::Kill => {
                let kill = event.kill.unwrap_or_default();
                if kill.task_id.as_str().is_empty() {
                    tracing::warn!("dropped a KILL that names no task");
                    return Ok(None);
                }
                match self.shared.with_ledger(|ledger| ledger.killed(&kill.task_id)) {
                    Heard::New | Heard::Known => {
                        let grace = kill.kill_policy.as_ref().and_then(grace);
                        Ok(Some(ExecutorEvent::Kill { task_id: kill.task_id, grace }))
                    }
                    heard @ (Heard::Ended | Heard::TooMany) => {
                        tracing::debug!(task = %kill.task_id, ?heard, "KILL of a task that is over");
                        Ok(None)
                    }
                }
            }
            EventType::Shutdown => Ok(Some(ExecutorEvent::Shutdown)),
            EventType::Acknowledged => {
                let uuid = decode_data(&event.acknowledged.unwrap_or_default().uuid);
                let uuid = uuid.and_then(|bytes| Uuid::from_slice(&bytes).ok());
                match uuid {
                    Some(uuid) if self.shared.with_ledger(|ledger| ledger.acknowledged(uuid)) => {
                        self.mention(ExecutorEvent::Acknowledged(uuid))?;
                    }
                    _ => tracing::debug!("confirmation of an update that does not wait"),
                }
                Ok(None)
            }
            EventType::Message => {
                if let Some(data) = decode_data(&event.message.unwrap_or_default().data) {
                    self.mention(ExecutorEvent::Message(data))?;
                } else {
                    tracing::warn!("dropped a message that is not base64");
                }
                Ok(None)
            }
            EventType::Subscribed | EventType::Heartbeat | EventType::Error | EventType::Unknown => Ok(None),
        }
    }

    /// Whether a task is to be launched. An agent that repeats itself must not begin a task anew.
    fn is_new(&self, task: &TaskInfo) -> bool {
        if task.task_id.as_str().is_empty() {
            tracing::warn!("dropped a LAUNCH that names no task");
            return false;
        }
        let heard = self.shared.with_ledger(|ledger| ledger.launched(task));
        if heard != Heard::New {
            tracing::warn!(task = %task.task_id, ?heard, "dropped a LAUNCH");
        }
        heard == Heard::New
    }

    fn mention(&self, event: ExecutorEvent) -> Result<(), Gone> {
        match self.events.try_send(event) {
            Err(TrySendError::Closed(_)) => Err(Gone),
            Err(TrySendError::Full(event)) => {
                tracing::warn!(?event, "consumer is far behind");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// Starts to send the oldest update that was not sent. One at a time: their order is their meaning.
    fn next_update(&self) -> Option<BoxFuture<'static, Sent>> {
        let (uuid, update) = self.shared.with_ledger(|ledger| ledger.unsent())?;
        let mut call = self.call(CallType::Update);
        call.update = Some(update);
        let transport = Arc::clone(&self.transport);
        let late = self.unavailable(format!("no answer within {} s", CALL_TIMEOUT.as_secs()));
        Some(
            async move {
                let result = timeout(CALL_TIMEOUT, transport.call(&call)).await.unwrap_or(Err(late));
                (uuid, result)
            }
            .boxed(),
        )
    }

    fn call(&self, kind: CallType) -> Call {
        Call {
            executor_id: self.env.executor_id.clone(),
            framework_id: self.env.framework_id.clone(),
            kind,
            ..Call::default()
        }
    }

    fn unavailable(&self, message: String) -> TransportError {
        TransportError::Unavailable { peer: self.env.agent_endpoint.clone(), message }
    }
}

/// A negative one is none.
fn grace(policy: &KillPolicy) -> Option<Duration> {
    u64::try_from(policy.grace_period?.nanoseconds).ok().map(Duration::from_nanos)
}

async fn running(sending: &mut Option<BoxFuture<'static, Sent>>) -> Sent {
    match sending {
        Some(sending) => sending.await,
        None => std::future::pending().await,
    }
}

async fn elapsed(timer: &mut Option<Timer>) {
    match timer {
        Some(timer) => timer.await,
        None => std::future::pending().await,
    }
}
