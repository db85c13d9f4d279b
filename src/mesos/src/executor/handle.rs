//! What the executor says: updates, messages, and whether the agent has heard all of it.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use rand::{RngCore as _, SeedableRng as _, rngs::SmallRng};
use tokio::{
    sync::{Notify, watch},
    time::timeout,
};
use uuid::{Builder, Uuid};

use super::{
    ExecutorEnv, UpdateError,
    ledger::{Ledger, Report},
};
use crate::{
    ExecutorTransport, TransportError,
    v1::{
        TaskId, TaskState, encode_data,
        executor::{Call, CallType, Data},
    },
};

/// How long the agent, which is on the same host, may take to answer.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// The driver has ended: what waits will not be confirmed any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("executor client ended with {waiting} updates unconfirmed")]
pub struct ExecutorClosed {
    /// So many updates.
    pub waiting: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Progress {
    waiting: usize,
    closed: bool,
}

#[derive(Debug)]
struct State {
    ledger: Ledger,
    rng: SmallRng,
}

#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    /// Signals a new update to the driver.
    pub(super) queued: Notify,
    progress: watch::Sender<Progress>,
}

impl Shared {
    pub(super) fn new(env: &ExecutorEnv, seed: u64) -> Self {
        let state =
            State { ledger: Ledger::new(env.executor_id.clone()), rng: SmallRng::seed_from_u64(seed) };
        Self {
            state: Mutex::new(state),
            queued: Notify::new(),
            progress: watch::Sender::new(Progress { waiting: 0, closed: false }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn with_ledger<T>(&self, change: impl FnOnce(&mut Ledger) -> T) -> T {
        let mut state = self.state();
        let result = change(&mut state.ledger);
        let waiting = state.ledger.waiting();
        self.progress.send_if_modified(|progress| {
            let changed = progress.waiting != waiting;
            progress.waiting = waiting;
            changed
        });
        result
    }

    pub(super) fn close(&self) {
        self.progress.send_modify(|progress| progress.closed = true);
    }
}

/// Reports; clones share one client.
#[derive(Clone)]
pub struct ExecutorHandle {
    env: Arc<ExecutorEnv>,
    shared: Arc<Shared>,
    transport: Arc<dyn ExecutorTransport>,
}

impl ExecutorHandle {
    pub(super) fn new(
        env: Arc<ExecutorEnv>,
        shared: Arc<Shared>,
        transport: Arc<dyn ExecutorTransport>,
    ) -> Self {
        Self { env, shared, transport }
    }

    /// Queues a status update; it is sent, and sent again, until the agent confirms it. An empty message
    /// and empty data are left out. Nothing is taken after a terminal state.
    pub fn update(
        &self,
        task_id: &TaskId,
        state: TaskState,
        message: impl Into<String>,
        data: Bytes,
    ) -> Result<Uuid, UpdateError> {
        let mut bytes = [0; 16];
        self.shared.state().rng.fill_bytes(&mut bytes);
        let uuid = Builder::from_random_bytes(bytes).into_uuid();
        let report = Report {
            task: task_id.clone(),
            state,
            message: message.into(),
            data,
            timestamp: self.env.timestamp(),
            uuid,
        };
        self.shared.with_ledger(|ledger| ledger.report(report))?;
        self.shared.queued.notify_one();
        Ok(uuid)
    }

    /// Sends bytes to the framework, best effort.
    pub async fn message(&self, data: Bytes) -> Result<(), TransportError> {
        let call = Call {
            executor_id: self.env.executor_id.clone(),
            framework_id: self.env.framework_id.clone(),
            kind: CallType::Message,
            message: Some(Data { data: encode_data(&data) }),
            ..Call::default()
        };
        match timeout(CALL_TIMEOUT, self.transport.call(&call)).await {
            Ok(result) => result,
            Err(_) => Err(TransportError::Unavailable {
                peer: self.env.agent_endpoint.clone(),
                message: format!("no answer within {} s", CALL_TIMEOUT.as_secs()),
            }),
        }
    }

    /// How many updates the agent has not confirmed.
    pub fn unconfirmed(&self) -> usize {
        self.shared.progress.borrow().waiting
    }

    /// Waits until the agent has confirmed every update. Bound it with a timeout: it may be long gone.
    pub async fn flushed(&self) -> Result<(), ExecutorClosed> {
        let mut progress = self.shared.progress.subscribe();
        let last = progress.wait_for(|progress| progress.waiting == 0 || progress.closed).await;
        match last.as_deref() {
            Ok(Progress { waiting: 0, .. }) => Ok(()),
            Ok(Progress { waiting, .. }) => Err(ExecutorClosed { waiting: *waiting }),
            Err(_) => Err(ExecutorClosed { waiting: self.unconfirmed() }),
        }
    }
}
