//! What is launched: so many tasks on each agent, as the controllers describe theirs.

use std::time::Duration;

use overlord_mesos::{
    resources::{self, Request},
    v1::{
        AgentId, CommandInfo, ExecutorId, ExecutorInfo, ExecutorType, Label, Labels, Resource, TaskId,
        TaskInfo,
        scheduler::{Launch, Operation, OperationType},
    },
};

use crate::Failure;

/// Tasks on each agent.
pub(crate) const TASKS: u16 = 5;

/// Their ports begin here.
const FIRST_PORT: u16 = 20_000;

/// Calls that wait for their answers at once, as in the controllers.
pub(crate) const CALLS_AT_ONCE: usize = 16;

/// Until all run.
pub(crate) const LIMIT: Duration = Duration::from_secs(300);

/// Beyond any deadline of a benchmark.
pub(crate) const HOLD: Duration = Duration::from_secs(3600);

/// One LAUNCH of [`TASKS`] tasks, cut out of what an agent offers.
pub(crate) fn launch(agent: &AgentId, offered: &[Resource]) -> Result<Operation, Failure> {
    let mut rest = offered.to_vec();
    let mut task_infos = Vec::with_capacity(usize::from(TASKS));
    for n in 0..TASKS {
        let own = Request { cpus: 0.1, mem: 64.0, disk: 64.0, ports: vec![FIRST_PORT + n] };
        let share = Request { cpus: 0.05, mem: 32.0, ..Request::default() };
        let carved = resources::carve(&rest, &own, &share)?;
        rest = carved.remainder;
        task_infos.push(task(agent, n, carved.task, carved.executor));
    }
    Ok(Operation { kind: OperationType::Launch, launch: Some(Launch { task_infos }), ..Operation::default() })
}

fn task(agent: &AgentId, n: u16, own: Vec<Resource>, executor: Vec<Resource>) -> TaskInfo {
    let id = format!("{agent}.{n}");
    let arguments = ["overlord", "executor", "--etcd", "http://10.0.0.1:2379", "--data-root", "/data"];
    let command = CommandInfo {
        shell: Some(false),
        value: Some("/usr/bin/overlord".to_owned()),
        arguments: arguments.map(str::to_owned).to_vec(),
        ..CommandInfo::default()
    };
    let executor = ExecutorInfo {
        kind: Some(ExecutorType::Custom),
        executor_id: ExecutorId::new(&id),
        command: Some(command),
        resources: executor,
        name: Some("executor of a benchmark".to_owned()),
        ..ExecutorInfo::default()
    };
    let label = |key: &str| Label { key: key.to_owned(), value: Some("bench".to_owned()) };
    TaskInfo {
        name: "bench".to_owned(),
        task_id: TaskId::new(&id),
        agent_id: agent.clone(),
        resources: own,
        executor: Some(executor),
        labels: Some(Labels { labels: vec![label("overlord_cluster"), label("overlord_store_revision")] }),
        ..TaskInfo::default()
    }
}
