//! The front in memory: the two transports of the Mesos client, straight into the model. With a paused runtime
//! of one thread everything happens in virtual time and in the same order each time.

use std::{future::Future, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::StreamExt as _;
use overlord_mesos::{
    EventStream, ExecutorTransport, SchedulerTransport, Subscription, TransportError,
    v1::{executor, scheduler},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Mesos,
    config::MesosConfig,
    driver::Driver,
    launcher::Launcher,
    model::{Answer, Input},
};

/// 2026-01-01, for runs that do not say when they begin.
const EPOCH: Duration = Duration::from_secs(1_767_225_600);

impl Mesos {
    /// A Mesos in memory, and the future that carries it through time; it must run for anything to happen.
    /// Must be called inside the runtime whose clock it is to follow.
    pub fn in_memory(
        config: &MesosConfig,
        launcher: Arc<dyn Launcher>,
    ) -> (Self, impl Future<Output = ()> + use<>) {
        let (mesos, effects) = Self::new(config, config.epoch.unwrap_or(EPOCH), None);
        let shutdown = CancellationToken::new();
        let driver = Driver { mesos: mesos.clone(), launcher, effects, shutdown };
        (mesos, driver.run())
    }

    /// A scheduler's way to the master.
    pub fn scheduler_transport(&self) -> MemoryScheduler {
        MemoryScheduler { mesos: self.clone() }
    }

    /// An executor's way to its agent.
    pub fn executor_transport(&self, agent: &str) -> MemoryExecutor {
        MemoryExecutor { mesos: self.clone(), agent: agent.to_owned() }
    }
}

/// A scheduler's way to the master, in memory.
#[derive(Debug, Clone)]
pub struct MemoryScheduler {
    mesos: Mesos,
}

/// An executor's way to its agent, in memory.
#[derive(Debug, Clone)]
pub struct MemoryExecutor {
    mesos: Mesos,
    agent: String,
}

#[async_trait]
impl SchedulerTransport for MemoryScheduler {
    async fn subscribe(&self, call: &scheduler::Call) -> Result<Subscription, TransportError> {
        self.mesos.hesitate().await;
        let opened = self.mesos.subscribe_scheduler(None, call.clone());
        let (stream_id, events) = opened.map_err(|answer| refusal("the master", answer))?;
        Ok(Subscription { stream_id, events: events.map(Ok).boxed() })
    }

    async fn call(&self, stream_id: &str, call: &scheduler::Call) -> Result<(), TransportError> {
        self.mesos.hesitate().await;
        let input = Input::Scheduler { stream_id: Some(stream_id.to_owned()), call: Box::new(call.clone()) };
        accepted("the master", self.mesos.step(input))
    }
}

#[async_trait]
impl ExecutorTransport for MemoryExecutor {
    async fn subscribe(&self, call: &executor::Call) -> Result<EventStream<executor::Event>, TransportError> {
        let opened = self.mesos.subscribe_executor(&self.agent, call.clone());
        let events = opened.map_err(|answer| refusal(&self.agent, answer))?;
        Ok(events.map(Ok).boxed())
    }

    async fn call(&self, call: &executor::Call) -> Result<(), TransportError> {
        let input = Input::Executor { agent: self.agent.clone(), call: Box::new(call.clone()) };
        accepted(&self.agent, self.mesos.step(input))
    }
}

fn accepted(peer: &str, answer: Answer) -> Result<(), TransportError> {
    if matches!(answer, Answer::Accepted | Answer::Done(_)) { Ok(()) } else { Err(refusal(peer, answer)) }
}

fn refusal(peer: &str, answer: Answer) -> TransportError {
    let peer = peer.to_owned();
    match answer {
        Answer::Refused { status, text } => TransportError::Refused { peer, status, message: text },
        Answer::Unavailable => TransportError::Unavailable { peer, message: "connection refused".to_owned() },
        Answer::Accepted | Answer::Done(_) | Answer::Subscribed { .. } => {
            TransportError::Malformed { peer, message: "an answer that does not fit the call".to_owned() }
        }
    }
}
