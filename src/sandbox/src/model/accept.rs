//! ACCEPT: are the offers good, is each operation good; the answers are updates, never HTTP errors.

use std::collections::BTreeSet;

use overlord_mesos::v1::{
    AgentId, ExecutorInfo, ExecutorType, FrameworkId, OfferId, Resource, TaskInfo, TaskState,
    scheduler::{Accept, Operation, OperationType},
};

pub(super) use super::task_faults::id_fault;
use super::{
    Model,
    pool::{BadResource, Pool, check, describe},
    task_faults,
    types::OpenOffer,
};
use crate::debug_string;

/// Where accepted tasks go, and what is left for them.
pub(super) struct Grant {
    pub(super) framework: FrameworkId,
    pub(super) agent: String,
    pub(super) role: String,
    pub(super) rest: Pool,
}

/// A task that may run.
pub(super) struct GoodTask {
    pub(super) info: TaskInfo,
    pub(super) pool: Pool,
    /// What its executor takes, if that is new.
    pub(super) executor: Option<Pool>,
}

impl Model {
    pub(super) fn accept(&mut self, id: &FrameworkId, accept: Accept) {
        if let Some(fault) = self.offers_fault(id, &accept.offer_ids) {
            let own: BTreeSet<OfferId> =
                accept.offer_ids.iter().filter(|offer| self.is_own(id, offer)).cloned().collect();
            for offer in own {
                self.withdraw_offer(&offer);
            }
            for operation in accept.operations {
                self.drop_operation(id, operation, &fault);
            }
            return;
        }
        let taken: Vec<OpenOffer> =
            accept.offer_ids.iter().filter_map(|offer| self.take_offer(offer)).collect();
        let Some(first) = taken.first() else { return };
        let mut grant = Grant {
            framework: id.clone(),
            agent: first.agent.clone(),
            role: first.role.clone(),
            rest: Pool::default(),
        };
        for offer in &taken {
            grant.rest.add(&offer.pool);
        }
        let offered = grant.rest.clone();
        let good: Vec<Operation> = accept
            .operations
            .into_iter()
            .filter_map(|operation| match operation_fault(&operation) {
                None => Some(operation),
                Some(fault) => {
                    self.refuse_operation(id, operation, &fault);
                    None
                }
            })
            .collect();
        for operation in good {
            match operation.kind {
                OperationType::Launch => {
                    for task in operation.launch.unwrap_or_default().task_infos {
                        self.launch_one(&mut grant, task);
                    }
                }
                OperationType::LaunchGroup => {
                    self.accept_group(&mut grant, operation.launch_group.unwrap_or_default());
                }
                _ => self.apply_operation(&mut grant, &operation),
            }
        }
        // What an operation made of the offered resources is not refused by not being used.
        let mut converted = grant.rest.clone();
        converted.destroy(&offered);
        let mut declined = grant.rest;
        declined.destroy(&converted);
        self.release(id, &grant.role, &grant.agent, &converted);
        self.refuse(first, &declined, accept.filters.as_ref());
    }

    fn launch_one(&mut self, grant: &mut Grant, task: TaskInfo) {
        match self.check_task(grant, task.clone()) {
            Ok(good) => {
                grant.rest.subtract(&good.pool);
                if let Some(executor) = &good.executor {
                    grant.rest.subtract(executor);
                }
                self.launch(&grant.framework, &grant.agent, &grant.role, good);
            }
            Err(message) => self.bad_task(&grant.framework, task, "REASON_TASK_INVALID", message),
        }
    }

    /// `TASK_ERROR`
    pub(super) fn bad_task(&mut self, id: &FrameworkId, task: TaskInfo, reason: &str, message: String) {
        let agent = Some(task.agent_id);
        let status = self.master_status(id, task.task_id, agent, TaskState::Error, reason, message);
        self.send_status(id, status);
    }

    /// An operation on offers that are not good.
    fn drop_operation(&mut self, id: &FrameworkId, operation: Operation, fault: &str) {
        let message = format!("Task launched with invalid offers: {fault}");
        match tasks(operation) {
            Ok(tasks) => {
                for task in tasks {
                    let (agent, reason) = (Some(task.agent_id), "REASON_INVALID_OFFERS");
                    let state = TaskState::Dropped;
                    let status = self.master_status(id, task.task_id, agent, state, reason, message.clone());
                    self.send_status(id, status);
                }
            }
            Err(operation) => {
                self.operation_error(
                    id,
                    &operation,
                    format!("Operation attempted with invalid offers: {fault}"),
                );
            }
        }
    }

    /// An operation that is wrong by itself.
    fn refuse_operation(&mut self, id: &FrameworkId, operation: Operation, fault: &OperationFault) {
        let group = operation.kind == OperationType::LaunchGroup;
        let reason = if group { "REASON_TASK_GROUP_INVALID" } else { "REASON_TASK_INVALID" };
        match tasks(operation) {
            Ok(tasks) => {
                for task in tasks {
                    self.bad_task(id, task, reason, fault.text.clone());
                }
            }
            Err(operation) => {
                let message = format!("Operation attempted with invalid resources: {}", fault.text);
                self.operation_error(id, &operation, message);
            }
        }
    }

    fn is_own(&self, id: &FrameworkId, offer: &OfferId) -> bool {
        self.offers.get(offer).is_some_and(|open| open.framework == *id)
    }

    /// What is wrong with the list of offers.
    fn offers_fault(&self, id: &FrameworkId, offers: &[OfferId]) -> Option<String> {
        if offers.is_empty() {
            return Some("No offers specified".to_owned());
        }
        let mut seen = BTreeSet::new();
        if let Some(doubled) = offers.iter().find(|offer| !seen.insert(*offer)) {
            return Some(format!("Duplicate offer {doubled} in offer list"));
        }
        if let Some(void) = offers.iter().find(|offer| !self.is_own(id, offer)) {
            return Some(format!("Offer {void} is no longer valid"));
        }
        let mut open = offers.iter().filter_map(|offer| self.offers.get(offer).map(|open| (offer, open)));
        let (_, first) = open.next()?;
        open.find_map(|(offer, open)| {
            let agent_id = |name: &str| self.agents.get(name).map(|a| a.id.to_string()).unwrap_or_default();
            if open.agent != first.agent {
                Some(format!(
                    "Aggregated offers must belong to one single agent. Offer {offer} uses agent {} and agent {}",
                    agent_id(&open.agent),
                    agent_id(&first.agent)
                ))
            } else if open.role != first.role {
                Some(format!(
                    "Aggregated offers must be allocated to the same role. Offer {offer} uses role {} but another is \
                     using role {}",
                    open.role, first.role
                ))
            } else {
                None
            }
        })
    }

    /// What the ids of a task must be.
    pub(super) fn check_ids(&self, grant: &Grant, task: &TaskInfo) -> Result<AgentId, String> {
        id_fault(task.task_id.as_str())?;
        if let Some(existing) = self.tasks.get(&(grant.framework.clone(), task.task_id.clone())) {
            return Err(if existing.unreachable_since.is_some() {
                format!("Task reuses the ID of an unreachable task: {}", task.task_id)
            } else {
                format!("Task has duplicate ID: {}", task.task_id)
            });
        }
        let agent = self.agents.get(&grant.agent).ok_or("Agent is gone")?;
        if task.agent_id != agent.id {
            return Err(format!(
                "Task uses invalid agent {} while agent {} is expected",
                task.agent_id, agent.id
            ));
        }
        Ok(agent.id.clone())
    }

    /// Checks a task in the order of the master.
    fn check_task(&self, grant: &Grant, mut task: TaskInfo) -> Result<GoodTask, String> {
        self.check_ids(grant, &task)?;
        task_faults::task_fault(&task)?;
        let pool = parse(&task.resources, &grant.role)?;
        if task.command.is_some() == task.executor.is_some() {
            let text = "Task should have at least one (but not both) of CommandInfo or ExecutorInfo present";
            return Err(text.to_owned());
        }
        let mut executor_pool = None;
        let mut executor_resources = Vec::new();
        if let Some(executor) = &mut task.executor {
            // For LAUNCH the master fills this in.
            executor.framework_id.get_or_insert_with(|| grant.framework.clone());
            let existing = self.check_executor(grant, executor)?;
            if executor.kind.is_some_and(|kind| kind != ExecutorType::Custom) {
                return Err("'ExecutorInfo.type' must be 'CUSTOM'".to_owned());
            }
            if executor.command.is_none() {
                return Err("'ExecutorInfo.command' must be set".to_owned());
            }
            if executor.resources.iter().any(|resource| resource.shared.is_some()) {
                return Err(format!(
                    "Executor resources {} should not contain any shared resources",
                    describe(&executor.resources, Some(&grant.role))
                ));
            }
            let text = overlap(&task.resources, &executor.resources, &grant.role);
            if let (false, Some(text)) = (existing, text) {
                return Err(text);
            }
            if !existing {
                executor_pool = Some(parse(&executor.resources, &grant.role)?);
                executor_resources.clone_from(&executor.resources);
            }
        }
        let fits = match (&pool, &executor_pool) {
            (Some(pool), None) => grant.rest.contains(pool),
            (Some(pool), Some(Some(executor))) => {
                let mut sum = pool.clone();
                sum.add(executor);
                grant.rest.contains(&sum)
            }
            _ => false,
        };
        let (true, Some(pool)) = (fits, pool) else {
            let total = total(&task.resources, &executor_resources);
            return Err(format!(
                "Total resources {} required by task and its executor is more than available {}",
                describe(&total, Some(&grant.role)),
                grant.rest.describe(&grant.role)
            ));
        };
        allocate_to(&mut task.resources, &grant.role);
        Ok(GoodTask { info: task, pool, executor: executor_pool.flatten() })
    }

    /// Checks an `ExecutorInfo`, fills in what the master fills in; whether that executor runs already.
    pub(super) fn check_executor(&self, grant: &Grant, executor: &mut ExecutorInfo) -> Result<bool, String> {
        task_faults::executor_fault(executor)?;
        match &executor.framework_id {
            None => return Err("'ExecutorInfo.framework_id' must be set".to_owned()),
            Some(other) if *other != grant.framework => {
                return Err(format!(
                    "ExecutorInfo has an invalid FrameworkID (Actual: {other} vs Expected: {})",
                    grant.framework
                ));
            }
            Some(_) => {}
        }
        task_faults::executor_resources_fault(&executor.resources)?;
        let variables =
            executor.command.iter_mut().filter_map(|c| c.environment.as_mut()).flat_map(|e| &mut e.variables);
        for variable in variables {
            variable.kind.get_or_insert_with(|| "VALUE".to_owned());
        }
        allocate_to(&mut executor.resources, &grant.role);
        let key = super::executor_key(&grant.framework, &executor.executor_id);
        let existing = self.agents.get(&grant.agent).and_then(|agent| agent.executors.get(&key));
        let Some(existing) = existing else { return Ok(false) };
        let mut compared = executor.clone();
        // Leaving the type out is compatible with having given it.
        compared.kind = existing.info.kind;
        if compared == existing.info {
            return Ok(true);
        }
        let rule = "-".repeat(60);
        Err(format!(
            "ExecutorInfo is not compatible with existing ExecutorInfo with same ExecutorID.\n{rule}\n\
             Existing ExecutorInfo:\n{}\n{rule}\nExecutorInfo:\n{}\n{rule}\n",
            debug_string::executor_info(&existing.info),
            debug_string::executor_info(executor)
        ))
    }
}

/// Why an operation as a whole is not looked at further.
struct OperationFault {
    text: String,
}

/// The tasks of a launch, or the operation back.
fn tasks(operation: Operation) -> Result<Vec<TaskInfo>, Box<Operation>> {
    match operation.kind {
        OperationType::Launch => Ok(operation.launch.unwrap_or_default().task_infos),
        OperationType::LaunchGroup => Ok(operation.launch_group.unwrap_or_default().task_group.tasks),
        _ => Err(Box::new(operation)),
    }
}

/// All resources that an operation names are looked at first: one bad one spoils the whole operation.
fn operation_fault(operation: &Operation) -> Option<OperationFault> {
    let fault = |text: String| Some(OperationFault { text });
    let mut lists: Vec<&[Resource]> = Vec::new();
    if let Some(launch) = &operation.launch {
        for task in &launch.task_infos {
            lists.push(&task.resources);
            lists.extend(task.executor.iter().map(|executor| executor.resources.as_slice()));
        }
    }
    if let Some(group) = &operation.launch_group {
        lists.push(&group.executor.resources);
        lists.extend(group.task_group.tasks.iter().map(|task| task.resources.as_slice()));
    }
    lists.extend(operation.reserve.iter().flat_map(|r| [r.source.as_slice(), r.resources.as_slice()]));
    lists.extend(operation.unreserve.iter().map(|u| u.resources.as_slice()));
    lists.extend(operation.create.iter().chain(&operation.destroy).map(|c| c.volumes.as_slice()));
    lists.extend(
        operation
            .grow_volume
            .iter()
            .flat_map(|g| [std::slice::from_ref(&g.volume), std::slice::from_ref(&g.addition)]),
    );
    lists.extend(operation.shrink_volume.iter().map(|s| std::slice::from_ref(&s.volume)));
    if let Some(text) = lists.into_iter().find_map(check::resources_fault) {
        return fault(text);
    }
    match operation.kind {
        OperationType::Reserve if operation.reserve.as_ref().is_some_and(|r| !r.source.is_empty()) => {
            fault("Reservation updates are not yet implemented for the scheduler API.".to_owned())
        }
        OperationType::Launch | OperationType::LaunchGroup if operation.id.is_some() => {
            fault(format!("The `id` field cannot be set on {} operations", operation.kind))
        }
        _ => None,
    }
}

/// `Ok(None)`: no offer can hold them.
pub(super) fn parse(resources: &[Resource], role: &str) -> Result<Option<Pool>, String> {
    match Pool::parse(resources, role) {
        Ok(pool) => Ok(Some(pool)),
        Err(BadResource::Foreign) => Ok(None),
        Err(BadResource::Invalid(text)) => Err(text),
    }
}

/// Resources as the agent sees them: with the role they were offered to, without the old fields for
/// reservations.
pub(super) fn allocate_to(resources: &mut [Resource], role: &str) {
    for resource in resources.iter_mut() {
        if resource.reservations.is_empty() && resource.role.as_deref().is_some_and(|role| role != "*") {
            let upgraded =
                Pool::read(std::slice::from_ref(resource)).to_wire(None, super::pool::Format::Stack);
            if let Some(upgraded) = upgraded.into_iter().next() {
                resource.reservations = upgraded.reservations;
            }
        }
        resource.role = None;
        resource.reservation = None;
        resource
            .allocation_info
            .get_or_insert_with(|| overlord_mesos::v1::AllocationInfo { role: Some(role.to_owned()) });
    }
}

/// A task and its executor must not want the same port.
fn overlap(task: &[Resource], executor: &[Resource], role: &str) -> Option<String> {
    let ports = |resources: &[Resource]| -> Vec<(String, u64, u64)> {
        let ranges = resources.iter().filter_map(|r| Some((&r.name, r.ranges.as_ref()?)));
        ranges.flat_map(|(name, r)| r.range.iter().map(|r| (name.clone(), r.begin, r.end))).collect()
    };
    let (own, others) = (ports(task), ports(executor));
    let clash = own
        .iter()
        .any(|(name, begin, end)| others.iter().any(|(other, b, e)| name == other && begin <= e && b <= end));
    clash.then(|| {
        format!(
            "There are overlapping resources in the task resources {} and executor resources {}",
            describe(task, Some(role)),
            describe(executor, Some(role))
        )
    })
}

/// Sums for the message only: scalars of one name are added up.
pub(super) fn total(task: &[Resource], executor: &[Resource]) -> Vec<Resource> {
    let mut sum: Vec<Resource> = task.to_vec();
    for resource in executor {
        let same = sum.iter_mut().find(|own| {
            own.name == resource.name && own.scalar.is_some() && own.reservations == resource.reservations
        });
        match (same.and_then(|own| own.scalar.as_mut()), resource.scalar) {
            (Some(own), Some(added)) => own.value += added.value,
            _ => sum.push(resource.clone()),
        }
    }
    sum
}
