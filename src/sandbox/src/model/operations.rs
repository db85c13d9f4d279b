//! Operations on offers that launch nothing, and the feedback about those that have an id: reported until
//! acknowledged, like task states.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use overlord_mesos::v1::{
    AgentId, FrameworkId, OperationState, OperationStatus, Resource, Uuid,
    scheduler::{
        AcknowledgeOperationStatus, Event, EventType, Operation, OperationType, ReconcileOperation,
        ReconcileOperations, UpdateOperationStatus,
    },
};
use rand::Rng as _;

use super::{
    Answer, Model,
    accept::{Grant, allocate_to},
    conversions::{self, Who},
    saved::Key,
    types::{OperationKey, Registration, Timer},
};

/// The first repetition of an unacknowledged report; doubled each time.
const RETRY: Duration = Duration::from_secs(10);
const LONGEST_RETRY: Duration = Duration::from_secs(600);

/// An operation whose outcome a framework wants to hear, and has not acknowledged.
#[derive(Debug)]
pub(crate) struct OperationRecord {
    pub(crate) agent: AgentId,
    pub(crate) operation: Operation,
    pub(crate) status: OperationStatus,
    attempts: u32,
    /// Of the timer that repeats the report.
    serial: u64,
}

impl Model {
    /// An operation of an ACCEPT. One that cannot be done is dropped, without a word if it has no id.
    pub(super) fn apply_operation(&mut self, grant: &mut Grant, operation: &Operation) {
        let mut operation = operation.clone();
        for resource in resources_of(&mut operation) {
            allocate_to(std::slice::from_mut(resource), &grant.role);
        }
        let (Some(framework), Some(agent)) =
            (self.frameworks.get(&grant.framework), self.agents.get_mut(&grant.agent))
        else {
            return;
        };
        let described = format!("{} at slave(1)@{} ({})", agent.id, agent.address, agent.hostname);
        if let Some(fault) = conversions::fault(&operation, &Who::Framework(&framework.info), &agent.total) {
            return self.operation_error(
                &grant.framework,
                &operation,
                format!("{fault}; on agent {described}"),
            );
        }
        let Some(conversion) = conversions::conversion(&operation) else { return };
        if !grant.rest.convert(&conversion.consumed, &conversion.converted) {
            let (rest, wanted) =
                (grant.rest.describe(&grant.role), conversion.consumed.describe(&grant.role));
            let text = format!("{rest} does not contain {wanted}");
            return self.operation_error(&grant.framework, &operation, text);
        }
        agent.total.convert(&conversion.consumed, &conversion.converted);
        let agent_id = agent.id.clone();
        self.note(Key::Agent(grant.agent.clone()));
        self.operation_finished(&grant.framework, agent_id, operation);
    }

    /// An operator's operation on what is not used; offers stand back.
    pub(super) fn operator_operation(&mut self, agent_id: &AgentId, operation: &Operation) -> Answer {
        let Some(name) = self.agent_names.get(agent_id).cloned() else {
            return Answer::refused(400, "No agent found with specified ID");
        };
        let Some(agent) = self.agents.get(&name) else { return Answer::Unavailable };
        let kind = operation.kind;
        if let Some(fault) = conversions::fault(operation, &Who::Operator, &agent.total) {
            let on_agent = !matches!(kind, OperationType::Unreserve | OperationType::Destroy);
            let described =
                format!(" on agent {} at slave(1)@{} ({})", agent.id, agent.address, agent.hostname);
            let place = if on_agent { described.as_str() } else { "" };
            return Answer::refused(400, format!("Invalid {kind} operation{place}: {fault}"));
        }
        let Some(conversion) = conversions::conversion(operation) else {
            return Answer::refused(400, format!("Invalid {kind} operation"));
        };
        if !agent.free.contains(&conversion.consumed) {
            self.rescind_all(&name);
        }
        let Some(agent) = self.agents.get_mut(&name) else { return Answer::Unavailable };
        if !agent.free.convert(&conversion.consumed, &conversion.converted) {
            let text = format!(
                "{} does not contain {}",
                super::pool::describe(&agent.free.to_wire(None, super::pool::Format::Stack), None),
                super::pool::describe(&conversion.consumed.to_wire(None, super::pool::Format::Stack), None)
            );
            return Answer::refused(409, text);
        }
        agent.total.convert(&conversion.consumed, &conversion.converted);
        self.note(Key::Agent(name.clone()));
        self.offer_agent(&name);
        Answer::Accepted
    }

    /// `OPERATION_ERROR`, for an operation that has an id.
    pub(super) fn operation_error(&mut self, id: &FrameworkId, operation: &Operation, message: String) {
        if operation.id.is_none() {
            tracing::debug!(framework = %id, operation = %operation.kind, %message, "an operation is dropped");
            return;
        }
        let status = OperationStatus {
            operation_id: operation.id.clone(),
            state: OperationState::Error,
            message: Some(message),
            ..OperationStatus::default()
        };
        self.send_operation_status(id, status);
    }

    fn operation_finished(&mut self, id: &FrameworkId, agent: AgentId, operation: Operation) {
        let Some(operation_id) = operation.id.clone() else { return };
        let bytes: [u8; 16] = self.rng.random();
        let status = OperationStatus {
            operation_id: Some(operation_id.clone()),
            state: OperationState::Finished,
            uuid: Some(Uuid { value: STANDARD.encode(bytes) }),
            agent_id: Some(agent.clone()),
            ..OperationStatus::default()
        };
        let key: OperationKey = (id.clone(), operation_id);
        let record = OperationRecord { agent, operation, status, attempts: 0, serial: 0 };
        self.operations.insert(key.clone(), record);
        self.report_operation(&key);
    }

    fn report_operation(&mut self, key: &OperationKey) {
        self.next.timer += 1;
        let serial = self.next.timer;
        let Some(record) = self.operations.get_mut(key) else { return };
        let delay = RETRY.saturating_mul(1 << record.attempts.min(10)).min(LONGEST_RETRY);
        record.attempts += 1;
        record.serial = serial;
        let (status, agent) = (record.status.clone(), record.agent.clone());
        if self.agent_by_id(&agent).is_some_and(|agent| agent.is_registered()) {
            self.send_operation_status(&key.0, status);
        }
        self.after(delay, Timer::Operation { key: key.clone(), serial });
    }

    pub(super) fn operation_retry_due(&mut self, key: &OperationKey, serial: u64) {
        if self.operations.get(key).is_some_and(|record| record.serial == serial) {
            self.report_operation(key);
        }
    }

    /// A framework is back: what it has not acknowledged goes out again at once.
    pub(super) fn resend_operations_to(&mut self, id: &FrameworkId) {
        let own: Vec<OperationKey> =
            self.operations.keys().filter(|(owner, _)| owner == id).cloned().collect();
        for key in own {
            self.report_operation(&key);
        }
    }

    fn send_operation_status(&mut self, id: &FrameworkId, status: OperationStatus) {
        let update = Some(UpdateOperationStatus { status });
        let kind = EventType::UpdateOperationStatus;
        self.send_to(id, Event { kind, update_operation_status: update, ..Event::default() });
    }

    pub(super) fn acknowledge_operation(&mut self, id: &FrameworkId, ack: &AcknowledgeOperationStatus) {
        let key: OperationKey = (id.clone(), ack.operation_id.clone());
        let uuid = |record: &OperationRecord| record.status.uuid.as_ref().map(|uuid| uuid.value.clone());
        if self.operations.get(&key).and_then(uuid).as_deref() == Some(ack.uuid.as_str()) {
            self.operations.remove(&key);
        }
    }

    pub(super) fn reconcile_operations(&mut self, id: &FrameworkId, reconcile: &ReconcileOperations) {
        if reconcile.operations.is_empty() {
            let own: Vec<OperationStatus> = self
                .operations
                .iter()
                .filter(|((owner, _), _)| owner == id)
                .map(|(_, record)| OperationStatus { uuid: None, ..record.status.clone() })
                .collect();
            for status in own {
                self.send_operation_status(id, status);
            }
        }
        for question in &reconcile.operations {
            let status = self.operation_answer(id, question);
            self.send_operation_status(id, status);
        }
    }

    fn operation_answer(&self, id: &FrameworkId, question: &ReconcileOperation) -> OperationStatus {
        let key: OperationKey = (id.clone(), question.operation_id.clone());
        if let Some(record) = self.operations.get(&key) {
            // It is not sent reliably, so there is nothing to acknowledge.
            return OperationStatus { uuid: None, ..record.status.clone() };
        }
        let (state, message) = match &question.agent_id {
            None => (
                OperationState::NotKnown,
                "Reconciliation: Operation is unknown and no 'agent_id' was provided",
            ),
            Some(agent) if self.gone.contains(agent) => {
                (OperationState::GoneByOperator, "Reconciliation: Agent marked gone by operator")
            }
            Some(agent) => {
                let agent = self.agent_names.get(agent).and_then(|name| self.agents.get(name));
                match agent.map(|agent| agent.registration) {
                    Some(Registration::Recovered) => (
                        OperationState::Recovering,
                        "Reconciliation: Agent is recovered but has not re-registered",
                    ),
                    Some(Registration::Unreachable { .. }) => {
                        (OperationState::Unreachable, "Reconciliation: Agent is unreachable")
                    }
                    Some(Registration::Registered | Registration::Disconnected) => {
                        (OperationState::NotKnown, "Reconciliation: Operation is unknown")
                    }
                    Some(Registration::Removed) | None => {
                        (OperationState::NotKnown, "Reconciliation: Both operation and agent are unknown")
                    }
                }
            }
        };
        OperationStatus {
            operation_id: Some(question.operation_id.clone()),
            state,
            message: Some(message.to_owned()),
            agent_id: question.agent_id.clone(),
            resource_provider_id: question.resource_provider_id.clone(),
            ..OperationStatus::default()
        }
    }
}

/// Everything that an operation names.
fn resources_of(operation: &mut Operation) -> Vec<&mut Resource> {
    let mut all: Vec<&mut Resource> = Vec::new();
    all.extend(operation.reserve.iter_mut().flat_map(|r| r.resources.iter_mut().chain(&mut r.source)));
    all.extend(operation.unreserve.iter_mut().flat_map(|u| &mut u.resources));
    all.extend(operation.create.iter_mut().flat_map(|c| &mut c.volumes));
    all.extend(operation.destroy.iter_mut().flat_map(|d| &mut d.volumes));
    if let Some(grow) = &mut operation.grow_volume {
        all.extend([&mut grow.volume, &mut grow.addition]);
    }
    all.extend(operation.shrink_volume.iter_mut().map(|s| &mut s.volume));
    all
}
