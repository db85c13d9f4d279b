//! The scheduler client: one standing subscription that is opened again whenever it breaks, a bounded
//! channel of events, and a handle for calls.

mod driver;
mod handle;
mod shared;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::sync::mpsc;

pub use driver::SchedulerDriver;
pub use handle::{CallError, SchedulerHandle};

use crate::{
    SchedulerTransport,
    retry::RetryBounds,
    v1::{
        AgentId, Capability, CapabilityType, ExecutorId, FrameworkId, FrameworkInfo, InverseOffer, Offer,
        OfferId, OperationStatus, TaskStatus, scheduler::Failure,
    },
};

/// How a framework subscribes, and how patient it is.
#[derive(Debug, Clone)]
pub struct SchedulerConfig {
    /// Who subscribes; `id` is set from `framework_id`.
    pub framework: FrameworkInfo,
    /// The id of an earlier subscription, to take over its tasks.
    pub framework_id: Option<FrameworkId>,
    /// Roles that get no offers at first; [`SchedulerHandle::set_roles`] changes it.
    pub suppressed_roles: Vec<String>,
    /// Pauses between attempts to subscribe.
    pub retry: RetryBounds,
    /// How long a call may take.
    pub call_timeout: Duration,
    /// How long SUBSCRIBE may take up to the first event, over all masters and redirects.
    pub subscribe_timeout: Duration,
    /// After so many heartbeat intervals of silence the subscription is given up.
    pub missed_heartbeats: u32,
    /// Events that wait for a slow consumer. One more, and the subscription is given up: Mesos sends
    /// again what is not acknowledged, and a new subscription asks for the rest.
    pub event_buffer: usize,
}

impl SchedulerConfig {
    /// A framework that checkpoints, with the capabilities that the clients of this crate understand.
    pub fn new(user: &str, name: &str, roles: Vec<String>, failover_timeout: Duration) -> Self {
        let framework = FrameworkInfo {
            user: user.to_owned(),
            name: name.to_owned(),
            // Without it the tasks are lost as soon as their agent disconnects.
            checkpoint: Some(true),
            failover_timeout: Some(failover_timeout.as_secs_f64()),
            roles,
            capabilities: capabilities(),
            ..FrameworkInfo::default()
        };
        Self::with_framework(framework)
    }

    /// The same with everything about the framework chosen by the caller.
    pub fn with_framework(framework: FrameworkInfo) -> Self {
        Self {
            framework_id: framework.id.clone(),
            framework,
            suppressed_roles: Vec::new(),
            retry: RetryBounds { min: Duration::from_millis(100), max: Duration::from_secs(10) },
            call_timeout: Duration::from_secs(10),
            subscribe_timeout: Duration::from_secs(30),
            missed_heartbeats: 5,
            // Each task has one update in flight, and one answer to a reconciliation: three times 10,000 tasks.
            event_buffer: 64 * 1024,
        }
    }
}

/// `PARTITION_AWARE`, `MULTI_ROLE`, `RESERVATION_REFINEMENT` and `TASK_KILLING_STATE`.
pub fn capabilities() -> Vec<Capability> {
    [
        CapabilityType::PartitionAware,
        CapabilityType::MultiRole,
        CapabilityType::ReservationRefinement,
        CapabilityType::TaskKillingState,
    ]
    .into_iter()
    .map(|kind| Capability { kind })
    .collect()
}

/// What happens to a framework, in the order of the stream.
#[derive(Debug, Clone, PartialEq)]
pub enum SchedulerEvent {
    /// The subscription stands. All earlier offers are void; reconcile now.
    Subscribed {
        /// To be written down before the first launch.
        framework_id: FrameworkId,
        /// Whether the id is one that was known before.
        resubscribed: bool,
    },
    /// Offers, valid until rescinded, used, declined, or the subscription ends.
    Offers {
        /// The number of the subscription they belong to.
        subscription: u64,
        /// The offers.
        offers: Vec<Offer>,
    },
    /// An offer is void.
    Rescinded(OfferId),
    /// The master would like to have agents' resources back for maintenance. Answering is polite, no more:
    /// what runs there is lost when the time has come, whatever the answer was.
    InverseOffers {
        /// What it asks for.
        inverse_offers: Vec<InverseOffer>,
    },
    /// The master does not ask for it any more, or asks anew.
    InverseRescinded(OfferId),
    /// A task's state. Acknowledge it once it is stored; the same one can come several times.
    Update(TaskStatus),
    /// What became of an operation on offers. Acknowledge it when it carries a uuid.
    OperationStatus(OperationStatus),
    /// An agent is lost, or an executor ended.
    Failure(Failure),
    /// Bytes from an executor.
    Message {
        /// Where.
        agent_id: AgentId,
        /// From whom.
        executor_id: ExecutorId,
        /// What.
        data: Bytes,
    },
    /// There is no subscription (any more). It is opened again without being asked.
    Disconnected {
        /// What happened.
        reason: String,
    },
    /// The master removed the framework for good. Fatal, the last event: its tasks are gone or going, and
    /// going on takes a new framework id and a person who wants that.
    Removed {
        /// The master's words.
        message: String,
    },
    /// The master refuses this framework as it is. Tried again with back-off.
    Refused {
        /// The master's words.
        message: String,
    },
}

/// Makes a scheduler client. Nothing happens until the driver runs; `seed` is for the jitter of pauses.
pub fn scheduler(
    config: SchedulerConfig,
    transport: Arc<dyn SchedulerTransport>,
    seed: u64,
) -> (SchedulerHandle, SchedulerDriver, mpsc::Receiver<SchedulerEvent>) {
    let (events, receiver) = mpsc::channel(config.event_buffer.max(2));
    let shared = Arc::new(shared::Shared::new(config.framework.clone(), config.suppressed_roles.clone()));
    let handle = SchedulerHandle::new(Arc::clone(&shared), Arc::clone(&transport), config.call_timeout);
    let driver = SchedulerDriver::new(config, shared, transport, events, seed);
    (handle, driver, receiver)
}

#[cfg(test)]
mod tests;
