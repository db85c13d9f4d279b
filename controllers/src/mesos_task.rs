//! The description of a Mesos task and its executor, cut out of offered resources.

use std::time::Duration;

use base64::Engine as _;
use overlord_api::{Address, ClusterName, Info};
use overlord_mesos::{
    resources::{self, CarveError, Request},
    v1::{
        AgentId, CommandInfo, DurationInfo, Environment, EnvironmentVariable, ExecutorId, ExecutorInfo,
        ExecutorType, KillPolicy, Label, Labels, Resource, TaskId, TaskInfo,
    },
};
use overlord_reconcile::Revision;

use crate::{
    launcher::MIB,
    settings::{Binary, EXECUTOR_CPU_MILLIS, EXECUTOR_MEMORY, LABEL_CLUSTER, LABEL_REVISION, Settings},
};

/// How long an instance may take to stop: a redis with a large data set writes it down first.
const STOP_GRACE: Duration = Duration::from_secs(60);

/// What is the same for all tasks of one launch.
#[derive(Debug)]
pub(crate) struct Launching<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) cluster: &'a ClusterName,
    pub(crate) data_root: &'a str,
    pub(crate) store_revision: Revision,
}

impl Launching<'_> {
    /// The task of `info`, and what is left of `offered`.
    pub(crate) fn task(
        &self,
        info: &Info,
        offered: &[Resource],
    ) -> Result<(TaskInfo, Vec<Resource>), CarveError> {
        let ports = std::iter::once(info.port).chain(info.bus_port).collect();
        let wanted = Request {
            cpus: f64::from(info.resources.cpu_millis) / 1000.0,
            mem: mib(info.resources.memory),
            disk: mib(info.resources.disk),
            ports,
        };
        let share = Request {
            cpus: f64::from(EXECUTOR_CPU_MILLIS) / 1000.0,
            mem: mib(EXECUTOR_MEMORY),
            ..Request::default()
        };
        let carved = resources::carve(offered, &wanted, &share)?;
        let executor = ExecutorInfo {
            kind: Some(ExecutorType::Custom),
            executor_id: ExecutorId::new(info.mesos_task_id.as_str()),
            command: Some(self.command(info)),
            resources: carved.executor,
            name: Some(format!("overlord executor of {}/{}", self.cluster, info.member)),
            source: Some(self.cluster.to_string()),
            shutdown_grace_period: Some(nanoseconds(STOP_GRACE)),
            ..ExecutorInfo::default()
        };
        let label = |key: &str, value: String| Label { key: key.to_owned(), value: Some(value) };
        let task = TaskInfo {
            name: format!("{}/{}", self.cluster, info.member),
            task_id: TaskId::new(info.mesos_task_id.as_str()),
            agent_id: AgentId::new(info.agent_id.as_str()),
            resources: carved.task,
            executor: Some(executor),
            data: Some(data_of(info.address())),
            kill_policy: Some(KillPolicy { grace_period: Some(nanoseconds(STOP_GRACE)) }),
            labels: Some(Labels {
                labels: vec![
                    label(LABEL_CLUSTER, self.cluster.to_string()),
                    label(LABEL_REVISION, self.store_revision.to_string()),
                ],
            }),
            ..TaskInfo::default()
        };
        Ok((task, carved.remainder))
    }

    /// The executor's command line, without a shell. Only settings of the operator stand in it.
    fn command(&self, info: &Info) -> CommandInfo {
        let executor = &self.settings.executor;
        let mut arguments = vec![executor.path.clone(), String::from("executor")];
        let mut flag = |name: &str, value: &str| arguments.extend([name.to_owned(), value.to_owned()]);
        flag("--etcd", &executor.etcd.join(","));
        flag("--data-root", self.data_root);
        if let Some(file) = &executor.etcd_credentials {
            flag("--etcd-credentials", file);
        }
        if let Some(Binary::Download { url, sha256 }) =
            self.settings.catalogue.get(info.engine, &info.engine_version)
        {
            flag("--install-url", url);
            flag("--install-sha256", sha256);
        }
        let variable = |(name, value): (&String, &String)| EnvironmentVariable {
            name: name.clone(),
            kind: Some(String::from("VALUE")),
            value: Some(value.clone()),
        };
        let variables: Vec<_> = executor.environment.iter().map(variable).collect();
        CommandInfo {
            shell: Some(false),
            value: Some(executor.path.clone()),
            arguments,
            environment: (!variables.is_empty()).then_some(Environment { variables }),
            ..CommandInfo::default()
        }
    }
}

/// `TaskInfo.data`: the instance's name.
fn data_of(address: Address) -> String {
    base64::engine::general_purpose::STANDARD.encode(address.to_string())
}

/// Whole MiB, rounded up.
fn mib(bytes: u64) -> f64 {
    bytes.div_ceil(MIB) as f64
}

fn nanoseconds(duration: Duration) -> DurationInfo {
    DurationInfo { nanoseconds: i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX) }
}
