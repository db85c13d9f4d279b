//! Calls of a scheduler. Each one is made in the subscription that stands at that moment, and none waits
//! for one.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::time::timeout;

use super::shared::{Live, Profile, Shared, Void};
use crate::{
    SchedulerTransport, TransportError,
    offers::Command,
    v1::{
        AgentId, DurationInfo, ExecutorId, FrameworkId, FrameworkInfo, KillPolicy, OfferId, OperationId,
        OperationStatus, TaskId, TaskStatus, encode_data,
        scheduler::{
            Accept, Acknowledge, AcknowledgeOperationStatus, AnswerInverseOffers, Call, CallType, Decline,
            Filters, Kill, Message, Operation, Reconcile, ReconcileOperation, ReconcileOperations,
            ReconcileTask, Roles, Shutdown, UpdateFramework,
        },
    },
};

/// A RECONCILE of everything is sent in parts of so many tasks: a call of about 200 KiB.
const RECONCILE_BATCH: usize = 1000;

/// Why a call was not made, or not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// There is no subscription now; the call was not sent.
    #[error("not subscribed to a master")]
    Disconnected,
    /// The offer belongs to an older subscription, was rescinded, or is used up; the call was not sent.
    #[error("offer {offer} is no longer valid")]
    StaleOffer {
        /// The first such offer.
        offer: OfferId,
    },
    /// A status with a uuid but without an agent cannot be acknowledged; the call was not sent.
    #[error("status of {task} names no agent to acknowledge it to")]
    NoAgent {
        /// Whose status.
        task: TaskId,
    },
    /// No answer in time. It may or may not have arrived.
    #[error("{call} was not answered within {} s", .after.as_secs_f64())]
    TimedOut {
        /// Which call.
        call: CallType,
        /// How long it was waited for.
        after: Duration,
    },
    /// Not taken, or the connection broke.
    #[error("{call} failed")]
    Failed {
        /// Which call.
        call: CallType,
        /// How.
        #[source]
        source: TransportError,
    },
}

impl CallError {
    /// Whether the call may have reached the master all the same: an ACCEPT must then be settled by
    /// reconciliation before its tasks are launched again.
    pub fn may_have_arrived(&self) -> bool {
        match self {
            Self::Disconnected | Self::StaleOffer { .. } | Self::NoAgent { .. } => false,
            Self::TimedOut { .. } => true,
            // A 5xx may be the word of something between, after the master took the call.
            Self::Failed { source, .. } => !matches!(
                source,
                TransportError::Refused { status: 400..=499, .. } | TransportError::Withheld { .. }
            ),
        }
    }
}

/// Makes calls; clones share one subscription.
#[derive(Clone)]
pub struct SchedulerHandle {
    shared: Arc<Shared>,
    transport: Arc<dyn SchedulerTransport>,
    call_timeout: Duration,
}

impl SchedulerHandle {
    pub(super) fn new(
        shared: Arc<Shared>,
        transport: Arc<dyn SchedulerTransport>,
        call_timeout: Duration,
    ) -> Self {
        Self { shared, transport, call_timeout }
    }

    /// The number of the subscription that stands now: offers of others are void.
    pub fn subscription(&self) -> Option<u64> {
        self.shared.live().map(|live| live.number)
    }

    /// The framework id of the subscription that stands now.
    pub fn framework_id(&self) -> Option<FrameworkId> {
        self.shared.live().map(|live| live.framework_id)
    }

    /// Uses offers of one agent and one role; what is left of them is not offered again for
    /// `refuse_seconds`. Refused here when one of them is void. Whatever else is wrong with the
    /// operations comes as a status update: the master says 202 to everything.
    pub async fn accept(
        &self,
        offer_ids: Vec<OfferId>,
        operations: Vec<Operation>,
        refuse_seconds: f64,
    ) -> Result<(), CallError> {
        let live = self.live()?;
        self.shared.use_offers(live.number, &offer_ids).map_err(|offer| CallError::StaleOffer { offer })?;
        let accept =
            Accept { offer_ids: offer_ids.clone(), operations, filters: Some(filters(refuse_seconds)) };
        let result = self.call(&live, Call { accept: Some(accept), ..call(&live, CallType::Accept) }).await;
        if result.is_err() {
            // Also when it may have arrived: then they can still be declined, which does no harm to used ones.
            self.shared.reopen_offers(live.number, &offer_ids);
        }
        result
    }

    /// Gives offers back. Those that are void are left out; it is no error.
    pub async fn decline(&self, offer_ids: Vec<OfferId>, refuse_seconds: f64) -> Result<(), CallError> {
        let live = self.live()?;
        let offer_ids = self.shared.drop_offers(live.number, offer_ids);
        if offer_ids.is_empty() {
            return Ok(());
        }
        let decline = Decline { offer_ids: offer_ids.clone(), filters: Some(filters(refuse_seconds)) };
        let result =
            self.call(&live, Call { decline: Some(decline), ..call(&live, CallType::Decline) }).await;
        if result.is_err() {
            // Declining twice does no harm, holding an offer for ever does.
            self.shared.reopen_offers(live.number, &offer_ids);
        }
        result
    }

    /// Drops all filters of these roles and wants offers for them; all roles when empty.
    pub async fn revive(&self, roles: Vec<String>) -> Result<(), CallError> {
        let live = self.live()?;
        self.call(&live, Call { revive: Some(Roles { roles }), ..call(&live, CallType::Revive) }).await
    }

    /// Wants no offers for these roles; for all when empty.
    pub async fn suppress(&self, roles: Vec<String>) -> Result<(), CallError> {
        let live = self.live()?;
        self.call(&live, Call { suppress: Some(Roles { roles }), ..call(&live, CallType::Suppress) }).await
    }

    /// Carries out a command of the offer book; tell the book when it fails.
    pub async fn carry_out(&self, command: Command) -> Result<(), CallError> {
        match command {
            Command::Decline { offer_ids, refuse_seconds } => self.decline(offer_ids, refuse_seconds).await,
            Command::Revive { roles } => self.revive(roles).await,
            Command::Suppress { roles } => self.suppress(roles).await,
        }
    }

    /// Asks for the end of a task. Best effort on the way: repeat it until a terminal update comes. For an
    /// unknown task it is answered like a reconciliation.
    pub async fn kill(
        &self,
        task_id: TaskId,
        agent_id: Option<AgentId>,
        grace: Option<Duration>,
    ) -> Result<(), CallError> {
        let live = self.live()?;
        let kill_policy = grace.map(|grace| KillPolicy {
            grace_period: Some(DurationInfo {
                nanoseconds: i64::try_from(grace.as_nanos()).unwrap_or(i64::MAX),
            }),
        });
        let kill = Kill { task_id, agent_id, kill_policy };
        self.call(&live, Call { kill: Some(kill), ..call(&live, CallType::Kill) }).await
    }

    /// Confirms an update that is stored. Does nothing for one without a uuid, which the master made and
    /// which must not be acknowledged.
    pub async fn acknowledge(&self, status: &TaskStatus) -> Result<(), CallError> {
        let Some(uuid) = status.uuid.clone() else { return Ok(()) };
        let Some(agent_id) = status.agent_id.clone() else {
            return Err(CallError::NoAgent { task: status.task_id.clone() });
        };
        let live = self.live()?;
        let acknowledge = Acknowledge { agent_id, task_id: status.task_id.clone(), uuid };
        self.call(&live, Call { acknowledge: Some(acknowledge), ..call(&live, CallType::Acknowledge) }).await
    }

    /// Asks for the state of these tasks, or of all that the master thinks live when empty (that leaves
    /// unreachable ones out). The answers are updates without a uuid; none may come, and that is no answer.
    pub async fn reconcile(&self, tasks: Vec<(TaskId, Option<AgentId>)>) -> Result<(), CallError> {
        let live = self.live()?;
        let mut tasks: Vec<_> =
            tasks.into_iter().map(|(task_id, agent_id)| ReconcileTask { task_id, agent_id }).collect();
        loop {
            let rest = tasks.split_off(tasks.len().min(RECONCILE_BATCH));
            let reconcile = Reconcile { tasks };
            self.call(&live, Call { reconcile: Some(reconcile), ..call(&live, CallType::Reconcile) }).await?;
            if rest.is_empty() {
                return Ok(());
            }
            tasks = rest;
        }
    }

    /// Changes the roles of the framework: now, if there is a subscription, and in each later one. In
    /// those of them that are suppressed it gets no offers until they are revived. A master that
    /// refuses the change leaves everything as it was.
    pub async fn set_roles(&self, roles: Vec<String>, suppressed: Vec<String>) -> Result<(), CallError> {
        let framework = FrameworkInfo { roles, ..self.shared.profile().framework };
        let profile = Profile { framework, suppressed_roles: suppressed };
        let before = self.shared.set_profile(profile.clone());
        let Some(live) = self.shared.live() else { return Ok(()) };
        let Profile { framework, suppressed_roles } = profile;
        let framework_info = FrameworkInfo { id: Some(live.framework_id.clone()), ..framework };
        let update = UpdateFramework { framework_info, suppressed_roles };
        let call = Call { update_framework: Some(update), ..call(&live, CallType::UpdateFramework) };
        let result = self.call(&live, call).await;
        if result.as_ref().is_err_and(|error| !error.may_have_arrived()) {
            self.shared.set_profile(before);
        }
        result
    }

    /// Agrees to maintenance; not asked again for `refuse_seconds`.
    pub async fn accept_inverse_offers(
        &self,
        inverse_offer_ids: Vec<OfferId>,
        refuse_seconds: f64,
    ) -> Result<(), CallError> {
        let live = self.live()?;
        let answer = AnswerInverseOffers { inverse_offer_ids, filters: Some(filters(refuse_seconds)) };
        let call = call(&live, CallType::AcceptInverseOffers);
        self.call(&live, Call { accept_inverse_offers: Some(answer), ..call }).await
    }

    /// Does not agree to maintenance; not asked again for `refuse_seconds`.
    pub async fn decline_inverse_offers(
        &self,
        inverse_offer_ids: Vec<OfferId>,
        refuse_seconds: f64,
    ) -> Result<(), CallError> {
        let live = self.live()?;
        let answer = AnswerInverseOffers { inverse_offer_ids, filters: Some(filters(refuse_seconds)) };
        let call = call(&live, CallType::DeclineInverseOffers);
        self.call(&live, Call { decline_inverse_offers: Some(answer), ..call }).await
    }

    /// Confirms a report about an operation. Does nothing for one without a uuid or without the
    /// operation's id: nobody waits for that.
    pub async fn acknowledge_operation(&self, status: &OperationStatus) -> Result<(), CallError> {
        let (Some(uuid), Some(operation_id)) = (status.uuid.clone(), status.operation_id.clone()) else {
            return Ok(());
        };
        let live = self.live()?;
        let acknowledge = AcknowledgeOperationStatus {
            agent_id: status.agent_id.clone(),
            resource_provider_id: status.resource_provider_id.clone(),
            uuid: uuid.value,
            operation_id,
        };
        let call = call(&live, CallType::AcknowledgeOperationStatus);
        self.call(&live, Call { acknowledge_operation_status: Some(acknowledge), ..call }).await
    }

    /// Asks for the state of these operations, or of all when empty.
    pub async fn reconcile_operations(
        &self,
        operations: Vec<(OperationId, Option<AgentId>)>,
    ) -> Result<(), CallError> {
        let live = self.live()?;
        let operations = operations
            .into_iter()
            .map(|(operation_id, agent_id)| ReconcileOperation {
                operation_id,
                agent_id,
                resource_provider_id: None,
            })
            .collect();
        let reconcile = ReconcileOperations { operations };
        let call = call(&live, CallType::ReconcileOperations);
        self.call(&live, Call { reconcile_operations: Some(reconcile), ..call }).await
    }

    /// Sends bytes to an executor: best effort, one that is not there loses them silently.
    pub async fn message(
        &self,
        agent_id: AgentId,
        executor_id: ExecutorId,
        data: Bytes,
    ) -> Result<(), CallError> {
        let live = self.live()?;
        let message = Message { agent_id, executor_id, data: encode_data(&data) };
        self.call(&live, Call { message: Some(message), ..call(&live, CallType::Message) }).await
    }

    /// Ends an executor and its tasks.
    pub async fn shutdown_executor(
        &self,
        agent_id: AgentId,
        executor_id: ExecutorId,
    ) -> Result<(), CallError> {
        let live = self.live()?;
        let shutdown = Shutdown { executor_id, agent_id };
        self.call(&live, Call { shutdown: Some(shutdown), ..call(&live, CallType::Shutdown) }).await
    }

    /// Ends the framework with all its tasks, for good. The driver ends with it.
    pub async fn teardown(&self) -> Result<(), CallError> {
        let live = self.live()?;
        // The stream may end before the answer comes.
        self.shared.set_torn_down(true);
        let result = self.call(&live, call(&live, CallType::Teardown)).await;
        if result.as_ref().is_err_and(|error| !error.may_have_arrived()) {
            self.shared.set_torn_down(false);
        }
        result
    }

    fn live(&self) -> Result<Live, CallError> {
        self.shared.live().ok_or(CallError::Disconnected)
    }

    async fn call(&self, live: &Live, call: Call) -> Result<(), CallError> {
        let kind = call.kind;
        match timeout(self.call_timeout, self.transport.call(&live.stream_id, &call)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(source)) => {
                if let TransportError::Refused { message, .. } = &source
                    && let Some(void) = void(message)
                {
                    self.shared.declare_void(live.number, void, message);
                }
                Err(CallError::Failed { call: kind, source })
            }
            Err(_) => Err(CallError::TimedOut { call: kind, after: self.call_timeout }),
        }
    }
}

/// The texts by which a master says that the subscription is no more, although its stream may still seem
/// to stand (src/master/http.cpp of Mesos 1.11).
fn void(message: &str) -> Option<Void> {
    if message.contains("didn't match the stream ID") {
        Some(Void::TakenOver)
    } else if message.contains("Framework is not subscribed") || message.contains("Framework cannot be found")
    {
        Some(Void::Forgotten)
    } else {
        None
    }
}

fn call(live: &Live, kind: CallType) -> Call {
    Call { framework_id: Some(live.framework_id.clone()), kind, ..Call::default() }
}

/// Mesos reads a negative number as its default of 5 s; nobody means that.
fn filters(refuse_seconds: f64) -> Filters {
    let refuse_seconds = if refuse_seconds.is_finite() { refuse_seconds.max(0.0) } else { 0.0 };
    Filters { refuse_seconds: Some(refuse_seconds) }
}
