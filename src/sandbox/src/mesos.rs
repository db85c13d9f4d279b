//! The shared handle around the model: one lock, held for a step and never across an await. Events go to the
//! subscriptions' channels, effects to the driver.

use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures::Stream;
use overlord_mesos::v1::{ContainerId, executor, scheduler};
use serde_json::Value;
use tokio::{
    sync::{Notify, mpsc, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    config::MesosConfig,
    model::{
        AgentView, Answer, FrameworkView, Input, MasterFault, Model, OperatorCall, Output, Probe, Saved,
        Standing, StartExecutor, StreamKey, TaskView,
    },
    state_file::{Fold, Journal},
};

/// Events that wait for a slow subscriber before its connection is given up.
const STREAM_BUFFER: usize = 65_536;

/// A Mesos: a cheap handle, all of whose clones are the same one.
#[derive(Clone)]
pub struct Mesos {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    start: Instant,
    /// Told when something is due earlier than it was, or when there is something to save.
    wake: Notify,
    /// As many as there are starts and kills of executors.
    effects: mpsc::UnboundedSender<Effect>,
    /// Milliseconds that each answer of the master takes.
    slowness: AtomicU64,
    /// Of each agent: a token that lives as long as its process, or none.
    endpoints: BTreeMap<String, watch::Sender<Option<CancellationToken>>>,
    /// The same of each master.
    masters: Vec<watch::Sender<Option<CancellationToken>>>,
}

struct State {
    model: Model,
    schedulers: BTreeMap<StreamKey, mpsc::Sender<scheduler::Event>>,
    executors: BTreeMap<StreamKey, mpsc::Sender<executor::Event>>,
    operators: BTreeMap<StreamKey, mpsc::Sender<Arc<Value>>>,
    journal: Option<Journal>,
}

/// What the driver does for the model.
#[derive(Debug)]
pub(crate) enum Effect {
    Start(Box<StartExecutor>),
    Kill(ContainerId),
    Terminate(ContainerId),
    Probe(Box<Probe>),
}

impl fmt::Debug for Mesos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mesos").finish_non_exhaustive()
    }
}

/// Events of one subscription. Dropping it is what a broken connection is.
pub(crate) struct Events<E> {
    receiver: mpsc::Receiver<E>,
    stream: StreamKey,
    mesos: Mesos,
}

impl<E> Stream for Events<E> {
    type Item = E;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<E>> {
        self.receiver.poll_recv(cx)
    }
}

impl<E> Drop for Events<E> {
    fn drop(&mut self) {
        self.receiver.close();
        self.mesos.step(Input::StreamGone(self.stream));
    }
}

impl Mesos {
    pub(crate) fn new(
        config: &MesosConfig,
        epoch: Duration,
        saved: Option<Saved>,
    ) -> (Self, mpsc::UnboundedReceiver<Effect>) {
        let (effects, receiver) = mpsc::unbounded_channel();
        let endpoints = config.agents.iter().map(|agent| {
            let (sender, _) = watch::channel(Some(CancellationToken::new()));
            (agent.name.clone(), sender)
        });
        let state = State {
            model: Model::new(config, epoch, saved),
            schedulers: BTreeMap::new(),
            executors: BTreeMap::new(),
            operators: BTreeMap::new(),
            journal: None,
        };
        let masters = std::iter::repeat_with(|| watch::channel(Some(CancellationToken::new())).0);
        let shared = Shared {
            state: Mutex::new(state),
            start: now(),
            wake: Notify::new(),
            effects,
            slowness: AtomicU64::new(0),
            endpoints: endpoints.collect(),
            masters: masters.take(1 + config.followers.len()).collect(),
        };
        (Self { shared: Arc::new(shared) }, receiver)
    }

    pub(crate) fn set_slowness(&self, delay: Duration) {
        let milliseconds = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        self.shared.slowness.store(milliseconds, Ordering::Relaxed);
    }

    /// Returns when the master may answer.
    pub(crate) async fn hesitate(&self) {
        let milliseconds = self.shared.slowness.load(Ordering::Relaxed);
        if milliseconds > 0 {
            tokio::time::sleep(Duration::from_millis(milliseconds)).await;
        }
    }

    /// The tasks that the master knows.
    pub fn tasks(&self) -> Vec<TaskView> {
        self.lock().model.tasks()
    }

    /// The agents, also the lost ones.
    pub fn agents(&self) -> Vec<AgentView> {
        self.lock().model.agents()
    }

    /// The frameworks that are not removed.
    pub fn frameworks(&self) -> Vec<FrameworkView> {
        self.lock().model.frameworks()
    }

    /// The master's id.
    pub fn master_id(&self) -> String {
        self.lock().model.master_id().to_owned()
    }

    /// The leading master's process dies: connections break, and new ones are refused.
    pub fn master_kill(&self) {
        self.step(Input::Master(MasterFault::Kill));
    }

    /// A master starts in place of the dead one: with the registry of agents that it had, or with none.
    pub fn master_start(&self, keep_registry: bool) {
        self.step(Input::Master(MasterFault::Start { keep_registry }));
    }

    /// The leading master's process dies, and another takes over after a while.
    pub fn master_failover(&self, after: Duration) {
        self.step(Input::Master(MasterFault::Failover { after, keep_registry: true }));
    }

    /// The same, and the next one has a registry of its own, without any agents.
    pub fn master_failover_forgetting(&self, after: Duration) {
        self.step(Input::Master(MasterFault::Failover { after, keep_registry: false }));
    }

    /// Where the leading master listens.
    pub fn leader(&self) -> SocketAddr {
        self.lock().model.leader()
    }

    /// Takes a call that opens no subscription, or whatever else happens.
    pub(crate) fn step(&self, input: Input) -> Answer {
        self.step_with(input, |_, answer| answer)
    }

    /// Takes an input; `open` has the answer before anything that comes of the input is sent.
    fn step_with<T>(&self, input: Input, open: impl FnOnce(&mut State, Answer) -> T) -> T {
        let mut state = self.lock();
        let before = state.model.next_wakeup();
        let (answer, outputs) = state.model.step(self.now(), input);
        let opened = open(&mut state, answer);
        self.route(&mut state, outputs);
        self.wake_driver(&state, before);
        drop(state);
        opened
    }

    /// Takes a scheduler's SUBSCRIBE.
    pub(crate) fn subscribe_scheduler(
        &self,
        stream_id: Option<String>,
        call: scheduler::Call,
    ) -> Result<(String, Events<scheduler::Event>), Answer> {
        let input = Input::Scheduler { stream_id, call: Box::new(call) };
        self.step_with(input, |state, answer| match answer {
            Answer::Subscribed { stream, stream_id } => {
                Ok((stream_id, self.listen(&mut state.schedulers, stream)))
            }
            other => Err(other),
        })
    }

    /// Takes an executor's SUBSCRIBE.
    pub(crate) fn subscribe_executor(
        &self,
        agent: &str,
        call: executor::Call,
    ) -> Result<Events<executor::Event>, Answer> {
        let input = Input::Executor { agent: agent.to_owned(), call: Box::new(call) };
        self.step_with(input, |state, answer| match answer {
            Answer::Subscribed { stream, .. } => Ok(self.listen(&mut state.executors, stream)),
            other => Err(other),
        })
    }

    /// Takes an operator's SUBSCRIBE.
    pub(crate) fn subscribe_operator(&self) -> Result<Events<Arc<Value>>, Answer> {
        let input = Input::Operator(Box::new(OperatorCall::Subscribe));
        self.step_with(input, |state, answer| match answer {
            Answer::Subscribed { stream, .. } => Ok(self.listen(&mut state.operators, stream)),
            other => Err(other),
        })
    }

    fn listen<E>(&self, streams: &mut BTreeMap<StreamKey, mpsc::Sender<E>>, stream: StreamKey) -> Events<E> {
        let (sender, receiver) = mpsc::channel(STREAM_BUFFER);
        streams.insert(stream, sender);
        Events { receiver, stream, mesos: self.clone() }
    }

    /// Reads from the model as it is now.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&Model) -> T) -> T {
        read(&self.lock().model)
    }

    /// What one of the masters does with a request now; the first one is 0.
    pub(crate) fn standing(&self, index: usize) -> Standing {
        self.lock().model.standing(self.now(), index)
    }

    /// From now on, what must not be forgotten is written down.
    pub(crate) fn keep(&self, journal: Journal) {
        self.lock().journal = Some(journal);
    }

    /// The state to keep.
    pub(crate) fn saved(&self) -> Saved {
        self.lock().model.saved()
    }

    /// A snapshot to write, when the journal has become long.
    pub(crate) fn fold(&self) -> Option<Fold> {
        let mut state = self.lock();
        let State { model, journal, .. } = &mut *state;
        let journal = journal.as_mut().filter(|journal| journal.is_long())?;
        journal.fold(model.saved())
    }

    /// When time alone changes something next, on the runtime's clock.
    pub(crate) fn next_wakeup(&self) -> Option<Instant> {
        self.lock().model.next_wakeup().and_then(|at| self.shared.start.checked_add(at))
    }

    /// Returns when something may be due earlier, or [`Self::fold`] may have something.
    pub(crate) async fn woken(&self) {
        self.shared.wake.notified().await;
    }

    /// Follows whether an agent's process is there.
    pub(crate) fn endpoint(&self, agent: &str) -> Option<watch::Receiver<Option<CancellationToken>>> {
        self.shared.endpoints.get(agent).map(watch::Sender::subscribe)
    }

    /// Follows whether a master's process is there.
    pub(crate) fn master_endpoint(&self, index: usize) -> Option<watch::Receiver<Option<CancellationToken>>> {
        self.shared.masters.get(index).map(watch::Sender::subscribe)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.shared.start.elapsed()
    }

    fn wake_driver(&self, state: &State, wakeup: Option<Duration>) {
        let next = state.model.next_wakeup();
        let earlier = match (next, wakeup) {
            (Some(next), Some(before)) => next < before,
            (next, None) => next.is_some(),
            (None, Some(_)) => false,
        };
        if earlier || state.journal.as_ref().is_some_and(Journal::is_long) {
            self.shared.wake.notify_one();
        }
    }

    fn route(&self, state: &mut State, outputs: Vec<Output>) {
        let mut outputs = outputs;
        // Written down before anyone hears of it.
        let records = state.model.take_records();
        if let (false, Some(journal)) = (records.is_empty(), &mut state.journal) {
            journal.append(&records);
        }
        // Giving up a subscriber that does not read may bring more outputs.
        while !outputs.is_empty() {
            let mut stuck: Vec<StreamKey> = Vec::new();
            for output in outputs.drain(..) {
                match output {
                    Output::Scheduler(stream, event) => {
                        stuck.extend(send(&mut state.schedulers, stream, *event));
                    }
                    Output::Executor(stream, event) => {
                        stuck.extend(send(&mut state.executors, stream, *event));
                    }
                    Output::Operator(stream, event) => {
                        stuck.extend(send(&mut state.operators, stream, event));
                    }
                    Output::End(stream) => {
                        state.schedulers.remove(&stream);
                        state.executors.remove(&stream);
                        state.operators.remove(&stream);
                    }
                    // Nobody receives once the driver has ended: the sandbox is going down.
                    Output::Start(start) => drop(self.shared.effects.send(Effect::Start(start))),
                    Output::Kill(container) => drop(self.shared.effects.send(Effect::Kill(container))),
                    Output::Terminate(container) => {
                        drop(self.shared.effects.send(Effect::Terminate(container)));
                    }
                    Output::Probe(probe) => drop(self.shared.effects.send(Effect::Probe(probe))),
                    Output::Endpoint { agent, up } => switch(self.shared.endpoints.get(&agent), up),
                    Output::Master { index, up } => switch(self.shared.masters.get(index), up),
                }
            }
            for stream in stuck {
                tracing::warn!(stream = stream.0, "a subscriber does not read; its stream is ended");
                outputs.extend(state.model.step(self.now(), Input::StreamGone(stream)).1);
            }
        }
    }
}

/// Lets connections in, or cuts them all.
fn switch(endpoint: Option<&watch::Sender<Option<CancellationToken>>>, up: bool) {
    let Some(endpoint) = endpoint else { return };
    let old = endpoint.send_replace(up.then(CancellationToken::new));
    if let Some(old) = old {
        old.cancel();
    }
}

/// Sends to a subscriber; gives it up, and its stream back, if it does not read.
fn send<E>(
    streams: &mut BTreeMap<StreamKey, mpsc::Sender<E>>,
    stream: StreamKey,
    event: E,
) -> Option<StreamKey> {
    let sender = streams.get(&stream)?;
    matches!(sender.try_send(event), Err(mpsc::error::TrySendError::Full(_))).then(|| {
        streams.remove(&stream);
        stream
    })
}

/// The runtime's clock: stands still and jumps where time is virtual.
#[expect(clippy::disallowed_methods, reason = "the one place where the model's clock starts")]
fn now() -> Instant {
    Instant::now()
}
