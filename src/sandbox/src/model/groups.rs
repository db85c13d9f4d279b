//! `LAUNCH_GROUP`: tasks that start and end together, in one executor.

use overlord_mesos::v1::{ExecutorInfo, LaunchGroup, Resource, TaskInfo};

use super::{
    Model,
    accept::{self, GoodTask, Grant},
    pool::{Pool, describe},
    task_faults,
};

/// What an executor of a group needs at least: thousandths of a processor, and of a MiB.
const LEAST_CPUS: i64 = 10;
const LEAST_MEM: i64 = 32_000;

impl Model {
    pub(super) fn accept_group(&mut self, grant: &mut Grant, group: LaunchGroup) {
        let tasks = group.task_group.tasks.clone();
        match self.check_group(grant, group) {
            Ok((executor, pool, good)) => {
                for task in &good {
                    grant.rest.subtract(&task.pool);
                }
                if let Some(pool) = &pool {
                    grant.rest.subtract(pool);
                }
                self.launch_group(&grant.framework, &grant.agent, &grant.role, executor, pool, good);
            }
            Err(message) => {
                for task in tasks {
                    self.bad_task(&grant.framework, task, "REASON_TASK_GROUP_INVALID", message.clone());
                }
            }
        }
    }

    /// One bad task spoils the group.
    fn check_group(
        &self,
        grant: &Grant,
        group: LaunchGroup,
    ) -> Result<(ExecutorInfo, Option<Pool>, Vec<GoodTask>), String> {
        let mut executor = group.executor;
        let mut tasks = group.task_group.tasks;
        for task in &mut tasks {
            accept::allocate_to(&mut task.resources, &grant.role);
            self.check_ids(grant, task)?;
            task_faults::task_fault(task)?;
        }
        if tasks.iter().any(|task| task.executor.is_some() && task.executor.as_ref() != Some(&executor)) {
            let other = tasks.iter().find(|task| task.executor.as_ref().is_some_and(|e| *e != executor));
            let task = other.map(|task| task.task_id.to_string()).unwrap_or_default();
            let executor = &executor.executor_id;
            return Err(format!(
                "The `ExecutorInfo` of task '{task}' is different from executor '{executor}'"
            ));
        }
        let existing = self.check_executor(grant, &mut executor)?;
        if executor.kind.is_none() {
            return Err("'ExecutorInfo.type' must be set".to_owned());
        }
        let pool = accept::parse(&executor.resources, &grant.role)?;
        least(&executor, pool.as_ref())?;
        let mut doubled = std::collections::BTreeSet::new();
        if let Some(task) = tasks.iter().find(|task| !doubled.insert(&task.task_id)) {
            return Err(format!("Task has duplicate ID: {}", task.task_id));
        }
        let mut pools = Vec::with_capacity(tasks.len());
        for task in &tasks {
            pools.push(accept::parse(&task.resources, &grant.role)?);
        }
        let mut sum = Some(Pool::default());
        for pool in pools.iter().chain((!existing).then_some(&pool)) {
            sum = sum.zip(pool.as_ref()).map(|(mut sum, pool)| {
                sum.add(pool);
                sum
            });
        }
        if !sum.is_some_and(|sum| grant.rest.contains(&sum)) {
            return Err(too_much(grant, &tasks, if existing { &[] } else { &executor.resources }));
        }
        let good = tasks
            .into_iter()
            .zip(pools)
            .filter_map(|(mut info, pool)| {
                info.executor = Some(executor.clone());
                Some(GoodTask { info, pool: pool?, executor: None })
            })
            .collect();
        Ok((executor, pool.filter(|_| !existing), good))
    }
}

fn least(executor: &ExecutorInfo, pool: Option<&Pool>) -> Result<(), String> {
    let id = &executor.executor_id;
    let given = |name: &str| pool.map_or(0, |pool| pool.scalar(name));
    let shown = |milli: i64, unit: &str| {
        if milli > 0 { format!("{}{unit}", milli as f64 / 1000.0) } else { "None".to_owned() }
    };
    let (cpus, mem) = (given("cpus"), given("mem"));
    if cpus < LEAST_CPUS {
        let cpus = shown(cpus, "");
        return Err(format!("Executor '{id}' uses less CPUs ({cpus}) than the minimum required (0.01)"));
    }
    if mem < LEAST_MEM {
        let mem = shown(mem, "MB");
        return Err(format!("Executor '{id}' uses less memory ({mem}) than the minimum required (32MB)"));
    }
    if given("disk") == 0 {
        return Err(format!("Executor '{id}' uses no disk"));
    }
    Ok(())
}

fn too_much(grant: &Grant, tasks: &[TaskInfo], executor: &[Resource]) -> String {
    let mut total: Vec<Resource> = Vec::new();
    for task in tasks {
        total = accept::total(&total, &task.resources);
    }
    total = accept::total(&total, executor);
    format!(
        "Total resources {} required by task group and its executor are more than available {}",
        describe(&total, Some(&grant.role)),
        grant.rest.describe(&grant.role)
    )
}
