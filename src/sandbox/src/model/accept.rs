//! ACCEPT: are the offers good, is each task good; the answers are status updates, never HTTP errors.

use std::collections::BTreeSet;

use overlord_mesos::v1::{
    ExecutorInfo, FrameworkId, OfferId, Resource, TaskInfo, TaskState,
    scheduler::{Accept, OperationType},
};

use super::{
    Model,
    pool::{BadResource, Pool, describe},
    types::OpenOffer,
};

/// Where accepted tasks go, and what is left for them.
struct Grant {
    framework: FrameworkId,
    agent: String,
    role: String,
    rest: Pool,
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
        let tasks = accept
            .operations
            .into_iter()
            .filter(|operation| operation.kind == OperationType::Launch)
            .filter_map(|operation| operation.launch)
            .flat_map(|launch| launch.task_infos);
        let fault = self.offers_fault(id, &accept.offer_ids);
        let own: BTreeSet<&OfferId> = accept.offer_ids.iter().filter(|o| self.is_own(id, o)).collect();
        if let Some(fault) = fault {
            let own: Vec<OfferId> = own.into_iter().cloned().collect();
            for offer in own {
                self.withdraw_offer(&offer);
            }
            let message = format!("Task launched with invalid offers: {fault}");
            for task in tasks {
                let (agent, reason) = (Some(task.agent_id), "REASON_INVALID_OFFERS");
                let status =
                    self.master_status(id, task.task_id, agent, TaskState::Dropped, reason, message.clone());
                self.send_status(id, status);
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
        for task in tasks {
            match self.check_task(&grant, task.clone()) {
                Ok(good) => {
                    grant.rest.subtract(&good.pool);
                    if let Some(executor) = &good.executor {
                        grant.rest.subtract(executor);
                    }
                    self.launch(id, &grant.agent, &grant.role, good);
                }
                Err(message) => {
                    let (agent, reason) = (Some(task.agent_id), "REASON_TASK_INVALID");
                    let status =
                        self.master_status(id, task.task_id, agent, TaskState::Error, reason, message);
                    self.send_status(id, status);
                }
            }
        }
        self.refuse(first, &grant.rest, accept.filters.as_ref());
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

    /// Checks a task in the order of the master.
    fn check_task(&self, grant: &Grant, mut task: TaskInfo) -> Result<GoodTask, String> {
        id_fault(task.task_id.as_str())?;
        if self.tasks.contains_key(&(grant.framework.clone(), task.task_id.clone())) {
            return Err(format!("Task has duplicate ID: {}", task.task_id));
        }
        let agent = self.agents.get(&grant.agent).ok_or("Agent is gone")?;
        if task.agent_id != agent.id {
            return Err(format!(
                "Task uses invalid agent {} while agent {} is expected",
                task.agent_id, agent.id
            ));
        }
        if task.resources.is_empty() {
            return Err("Task uses no resources".to_owned());
        }
        let pool = parse(&task.resources, &grant.role)?;
        if task.command.is_some() == task.executor.is_some() {
            let text = "Task should have at least one (but not both) of CommandInfo or ExecutorInfo present";
            return Err(text.to_owned());
        }
        let mut executor_pool = None;
        let mut executor_resources = Vec::new();
        if let Some(executor) = &mut task.executor {
            let existing = executor_fault(executor, grant, agent)?;
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
                describe(&total, &grant.role),
                grant.rest.describe(&grant.role)
            ));
        };
        allocate_to(&mut task.resources, &grant.role);
        Ok(GoodTask { info: task, pool, executor: executor_pool.flatten() })
    }
}

/// `Ok(None)`: no offer can hold them.
fn parse(resources: &[Resource], role: &str) -> Result<Option<Pool>, String> {
    match Pool::parse(resources, role) {
        Ok(pool) => Ok(Some(pool)),
        Err(BadResource::Foreign) => Ok(None),
        Err(BadResource::Invalid(text)) => Err(text),
    }
}

/// Checks an `ExecutorInfo`, fills in what the master fills in; whether that executor runs already.
fn executor_fault(executor: &mut ExecutorInfo, grant: &Grant, agent: &super::Agent) -> Result<bool, String> {
    id_fault(executor.executor_id.as_str())?;
    if let Some(other) = &executor.framework_id
        && *other != grant.framework
    {
        return Err(format!(
            "ExecutorInfo has an invalid FrameworkID (Actual: {other} vs Expected: {})",
            grant.framework
        ));
    }
    if executor.command.is_none() {
        return Err("'ExecutorInfo.command' must be set".to_owned());
    }
    if executor.shutdown_grace_period.is_some_and(|grace| grace.nanoseconds < 0) {
        return Err("ExecutorInfo's 'shutdown_grace_period' must be non-negative".to_owned());
    }
    executor.framework_id = Some(grant.framework.clone());
    let variables =
        executor.command.iter_mut().filter_map(|c| c.environment.as_mut()).flat_map(|e| &mut e.variables);
    for variable in variables {
        variable.kind.get_or_insert_with(|| "VALUE".to_owned());
    }
    allocate_to(&mut executor.resources, &grant.role);
    let key = super::executor_key(&grant.framework, &executor.executor_id);
    let Some(existing) = agent.executors.get(&key) else { return Ok(false) };
    let mut compared = executor.clone();
    // Leaving the type out is compatible with having given it.
    compared.kind = existing.info.kind;
    if compared == existing.info {
        return Ok(true);
    }
    let rule = "-".repeat(60);
    let show = |info: &ExecutorInfo| serde_json::to_string_pretty(info).unwrap_or_default();
    Err(format!(
        "ExecutorInfo is not compatible with existing ExecutorInfo with same ExecutorID.\n{rule}\n\
         Existing ExecutorInfo:\n{}\n{rule}\nExecutorInfo:\n{}\n{rule}\n",
        show(&existing.info),
        show(executor)
    ))
}

fn id_fault(id: &str) -> Result<(), String> {
    if id.is_empty() {
        return Err("ID must not be empty".to_owned());
    }
    if id.len() > 255 {
        return Err(format!("ID must not be greater than 255 characters but is {}", id.len()));
    }
    if id == "." || id == ".." {
        return Err(format!("'{id}' is disallowed"));
    }
    if id.chars().any(|c| c.is_control() || c == '/' || c == '\\') {
        return Err(format!("'{id}' contains invalid characters"));
    }
    Ok(())
}

/// Resources as the agent sees them: with the role they were offered to, without the old field for it.
fn allocate_to(resources: &mut [Resource], role: &str) {
    for resource in resources {
        resource.other.remove("role");
        resource
            .allocation_info
            .get_or_insert_with(|| overlord_mesos::v1::AllocationInfo { role: Some(role.to_owned()) });
    }
}

/// Sums for the message only: scalars of one name are added up.
fn total(task: &[Resource], executor: &[Resource]) -> Vec<Resource> {
    let mut sum: Vec<Resource> = task.to_vec();
    for resource in executor {
        let same = sum.iter_mut().find(|own| own.name == resource.name && own.scalar.is_some());
        match (same.and_then(|own| own.scalar.as_mut()), resource.scalar) {
            (Some(own), Some(added)) => own.value += added.value,
            _ => sum.push(resource.clone()),
        }
    }
    sum
}
