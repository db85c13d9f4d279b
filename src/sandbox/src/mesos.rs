//! The shared handle around the model: one lock, held for a step and never across an await. Events go to the
//! subscriptions' channels, effects to the driver.

use std::{
    collections::BTreeMap,
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use futures::Stream;
use overlord_mesos::v1::{ContainerId, executor, scheduler};
use tokio::{
    sync::{Notify, mpsc, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    config::MesosConfig,
    model::{
        AgentFault, AgentView, Answer, FrameworkView, Input, Model, Output, Saved, StartExecutor, StreamKey,
        TaskView,
    },
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
    /// Of each agent: a token that lives as long as its process, or none.
    endpoints: BTreeMap<String, watch::Sender<Option<CancellationToken>>>,
}

struct State {
    model: Model,
    schedulers: BTreeMap<StreamKey, mpsc::Sender<scheduler::Event>>,
    executors: BTreeMap<StreamKey, mpsc::Sender<executor::Event>>,
}

/// What the driver does for the model.
#[derive(Debug)]
pub(crate) enum Effect {
    Start(Box<StartExecutor>),
    Kill(ContainerId),
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
        };
        let shared = Shared {
            state: Mutex::new(state),
            start: now(),
            wake: Notify::new(),
            effects,
            endpoints: endpoints.collect(),
        };
        (Self { shared: Arc::new(shared) }, receiver)
    }

    /// An agent's process dies, or nobody reaches it any more. Its executors run on.
    pub fn agent_lost(&self, name: &str) -> bool {
        self.fault(name, AgentFault::Lost)
    }

    /// A lost agent starts again, with its work directory.
    pub fn agent_return(&self, name: &str) -> bool {
        self.fault(name, AgentFault::Return)
    }

    /// An agent's process dies and starts again.
    pub fn agent_restart(&self, name: &str) -> bool {
        self.fault(name, AgentFault::Restart)
    }

    /// An agent with an empty work directory takes the place of this one.
    pub fn agent_new_id(&self, name: &str) -> bool {
        self.fault(name, AgentFault::NewId)
    }

    /// `false`: no agent has that name.
    fn fault(&self, name: &str, fault: AgentFault) -> bool {
        self.step(Input::Agent { name: name.to_owned(), fault }) == Answer::Accepted
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

    /// Takes a call that opens no subscription, or whatever else happens.
    pub(crate) fn step(&self, input: Input) -> Answer {
        let mut state = self.lock();
        let before = (state.model.next_wakeup(), state.model.changes());
        let (answer, outputs) = state.model.step(self.now(), input);
        self.route(&mut state, outputs);
        self.wake_driver(&state, before);
        answer
    }

    /// Takes a scheduler's SUBSCRIBE.
    pub(crate) fn subscribe_scheduler(
        &self,
        stream_id: Option<String>,
        call: scheduler::Call,
    ) -> Result<(String, Events<scheduler::Event>), Answer> {
        let mut state = self.lock();
        let before = (state.model.next_wakeup(), state.model.changes());
        let (answer, outputs) =
            state.model.step(self.now(), Input::Scheduler { stream_id, call: Box::new(call) });
        let opened = match answer {
            Answer::Subscribed { stream, stream_id } => {
                let (sender, receiver) = mpsc::channel(STREAM_BUFFER);
                state.schedulers.insert(stream, sender);
                Ok((stream_id, Events { receiver, stream, mesos: self.clone() }))
            }
            other => Err(other),
        };
        self.route(&mut state, outputs);
        self.wake_driver(&state, before);
        drop(state);
        opened
    }

    /// Takes an executor's SUBSCRIBE.
    pub(crate) fn subscribe_executor(
        &self,
        agent: &str,
        call: executor::Call,
    ) -> Result<Events<executor::Event>, Answer> {
        let mut state = self.lock();
        let before = (state.model.next_wakeup(), state.model.changes());
        let (answer, outputs) =
            state.model.step(self.now(), Input::Executor { agent: agent.to_owned(), call: Box::new(call) });
        let opened = match answer {
            Answer::Subscribed { stream, .. } => {
                let (sender, receiver) = mpsc::channel(STREAM_BUFFER);
                state.executors.insert(stream, sender);
                Ok(Events { receiver, stream, mesos: self.clone() })
            }
            other => Err(other),
        };
        self.route(&mut state, outputs);
        self.wake_driver(&state, before);
        drop(state);
        opened
    }

    /// When time alone changes something next, on the runtime's clock.
    pub(crate) fn next_wakeup(&self) -> Option<Instant> {
        self.lock().model.next_wakeup().and_then(|at| self.shared.start.checked_add(at))
    }

    /// Returns when [`Self::next_wakeup`] or [`Self::changes`] may have changed.
    pub(crate) async fn woken(&self) {
        self.shared.wake.notified().await;
    }

    pub(crate) fn changes(&self) -> u64 {
        self.lock().model.changes()
    }

    pub(crate) fn saved(&self) -> (u64, Saved) {
        let state = self.lock();
        (state.model.changes(), state.model.saved())
    }

    /// Follows whether an agent's process is there.
    pub(crate) fn endpoint(&self, agent: &str) -> Option<watch::Receiver<Option<CancellationToken>>> {
        self.shared.endpoints.get(agent).map(watch::Sender::subscribe)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.shared.start.elapsed()
    }

    fn wake_driver(&self, state: &State, (wakeup, changes): (Option<Duration>, u64)) {
        let next = state.model.next_wakeup();
        let earlier = match (next, wakeup) {
            (Some(next), Some(before)) => next < before,
            (next, None) => next.is_some(),
            (None, Some(_)) => false,
        };
        if earlier || state.model.changes() != changes {
            self.shared.wake.notify_one();
        }
    }

    fn route(&self, state: &mut State, outputs: Vec<Output>) {
        let mut outputs = outputs;
        // Giving up a subscriber that does not read may bring more outputs.
        while !outputs.is_empty() {
            let mut stuck: Vec<StreamKey> = Vec::new();
            for output in outputs.drain(..) {
                match output {
                    Output::Scheduler(stream, event) => {
                        let full = state.schedulers.get(&stream).is_some_and(|s| is_full(s.try_send(*event)));
                        if full {
                            state.schedulers.remove(&stream);
                            stuck.push(stream);
                        }
                    }
                    Output::Executor(stream, event) => {
                        let full = state.executors.get(&stream).is_some_and(|s| is_full(s.try_send(*event)));
                        if full {
                            state.executors.remove(&stream);
                            stuck.push(stream);
                        }
                    }
                    Output::End(stream) => {
                        state.schedulers.remove(&stream);
                        state.executors.remove(&stream);
                    }
                    // Nobody receives once the driver has ended: the sandbox is going down.
                    Output::Start(start) => drop(self.shared.effects.send(Effect::Start(start))),
                    Output::Kill(container) => drop(self.shared.effects.send(Effect::Kill(container))),
                    Output::Endpoint { agent, up } => self.switch(&agent, up),
                }
            }
            for stream in stuck {
                tracing::warn!(stream = stream.0, "a subscriber does not read; its stream is ended");
                outputs.extend(state.model.step(self.now(), Input::StreamGone(stream)).1);
            }
        }
    }

    fn switch(&self, agent: &str, up: bool) {
        let Some(endpoint) = self.shared.endpoints.get(agent) else { return };
        let old = endpoint.send_replace(up.then(CancellationToken::new));
        if let Some(old) = old {
            old.cancel();
        }
    }
}

fn is_full<E>(sent: Result<(), mpsc::error::TrySendError<E>>) -> bool {
    matches!(sent, Err(mpsc::error::TrySendError::Full(_)))
}

/// The runtime's clock: stands still and jumps where time is virtual.
#[expect(clippy::disallowed_methods, reason = "the one place where the model's clock starts")]
fn now() -> Instant {
    Instant::now()
}
