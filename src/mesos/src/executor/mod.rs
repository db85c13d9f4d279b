//! The executor client: subscribes to the agent, passes its orders on, and sees to it that every status
//! update is written down by the agent, over agent restarts.

mod driver;
mod env;
mod handle;
mod ledger;
mod patience;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::sync::mpsc;
use uuid::Uuid;

pub use driver::ExecutorDriver;
pub use env::{AgentTls, ExecutorEnv, ExecutorEnvError};
pub use handle::{ExecutorClosed, ExecutorHandle};
pub use ledger::UpdateError;

use crate::{
    ExecutorTransport,
    v1::{TaskId, TaskInfo, executor::Subscribed},
};

/// Orders that wait for a slow consumer; behind them the stream is not read.
const EVENT_BUFFER: usize = 256;

/// What an executor is told.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "few of them exist at a time")]
pub enum ExecutorEvent {
    /// The subscription stands, again perhaps.
    Subscribed(Subscribed),
    /// Launch a task. Once for each.
    Launch(TaskInfo),
    /// Launch these together, or none of them.
    LaunchGroup(Vec<TaskInfo>),
    /// End a task. Can come several times, and for a task whose LAUNCH got lost.
    Kill {
        /// Which one.
        task_id: TaskId,
        /// How long it may take, if the call says so.
        grace: Option<Duration>,
    },
    /// Bytes from the framework. Dropped when the consumer is far behind.
    Message(Bytes),
    /// End everything: after the grace period the agent kills the executor.
    Shutdown,
    /// The agent has written an update down (which says nothing about the framework). Dropped when the
    /// consumer is far behind: wait with [`ExecutorHandle::flushed`].
    Acknowledged(Uuid),
    /// There was no subscription for longer than the agent waits for its executors (its `--recovery_timeout`, or no
    /// time at all when it keeps no record of them). Said once for each loss; attempts go on, and may succeed.
    AgentLost,
    /// The agent is there and does not know this executor: Mesos has given up what runs here, and its resources are
    /// offered again. With the agent's words. Attempts go on.
    Disowned(String),
}

/// Makes an executor client. Nothing happens until the driver runs; `seed` is for uuids and jitter, and must
/// differ between executors.
pub fn executor(
    env: ExecutorEnv,
    transport: Arc<dyn ExecutorTransport>,
    seed: u64,
) -> (ExecutorHandle, ExecutorDriver, mpsc::Receiver<ExecutorEvent>) {
    let (events, receiver) = mpsc::channel(EVENT_BUFFER);
    let env = Arc::new(env);
    let shared = Arc::new(handle::Shared::new(&env, seed));
    let handle = ExecutorHandle::new(Arc::clone(&env), Arc::clone(&shared), Arc::clone(&transport));
    let driver = ExecutorDriver::new(env, shared, transport, events, seed);
    (handle, driver, receiver)
}

#[cfg(test)]
mod tests;
