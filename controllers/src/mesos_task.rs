//! The description of a Mesos task and its executor, cut out of offered resources.

use std::time::Duration;

use base64::Engine as _;
use overlord_api::{Address, ClusterName, Info, Kind, StoreMark};
use overlord_mesos::{
    resources::{self, CarveError, Request},
    v1::{
        AgentId, CommandInfo, CommandUri, DiscoveryInfo, DiscoveryPort, DiscoveryPorts, DurationInfo,
        Environment, EnvironmentVariable, ExecutorId, ExecutorInfo, ExecutorType, KillPolicy, Label, Labels,
        Resource, TaskId, TaskInfo, Visibility,
    },
};

use crate::{
    launcher::MIB,
    settings::{
        Binary, EXECUTOR_CPU_MILLIS, EXECUTOR_MEMORY, LABEL_CLUSTER, LABEL_KIND, LABEL_MEMBER,
        LABEL_REVISION, Program, Settings, Sha256,
    },
};

/// How long an instance may take to stop: a redis with a large data set writes it down first.
const STOP_GRACE: Duration = Duration::from_secs(60);

/// Name of the fetched binary in an executor's sandbox.
const FETCHED: &str = "overlord";

/// How the launch ends when what was fetched has another digest.
const WRONG_DIGEST: i32 = 86;
/// The same when the digest cannot be told.
const NO_DIGEST: i32 = 87;

/// What is the same for all tasks of one launch.
#[derive(Debug)]
pub(crate) struct Launching<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) cluster: &'a ClusterName,
    pub(crate) data_root: &'a str,
    pub(crate) store: StoreMark,
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
        // Each attempt has an executor of its own, so that no two descriptions of one id can differ: a controller
        // of another build may launch beside what an earlier one launched.
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
        let task = TaskInfo {
            name: format!("{}/{}", self.cluster, info.member),
            task_id: TaskId::new(info.mesos_task_id.as_str()),
            agent_id: AgentId::new(info.agent_id.as_str()),
            resources: carved.task,
            executor: Some(executor),
            data: Some(data_of(info.address())),
            kill_policy: Some(KillPolicy { grace_period: Some(nanoseconds(STOP_GRACE)) }),
            labels: Some(self.labels(info)),
            discovery: Some(self.discovery(info)),
            ..TaskInfo::default()
        };
        Ok((task, carved.remainder))
    }

    fn labels(&self, info: &Info) -> Labels {
        let label = |key: &str, value: String| Label { key: key.to_owned(), value: Some(value) };
        Labels {
            labels: vec![
                label(LABEL_CLUSTER, self.cluster.to_string()),
                label(LABEL_REVISION, self.store.to_string()),
                label(LABEL_KIND, info.kind.to_string()),
                label(LABEL_MEMBER, info.member.to_string()),
            ],
        }
    }

    /// How Mesos-DNS (`<cluster>.<framework>.mesos`, SRV records by the ports' names) and the Mesos UI show it.
    fn discovery(&self, info: &Info) -> DiscoveryInfo {
        let port = |name: &str, number: u16| DiscoveryPort {
            number: number.into(),
            name: Some(name.to_owned()),
            protocol: Some(String::from("tcp")),
            ..DiscoveryPort::default()
        };
        let service = if info.kind == Kind::Memcache { "memcache" } else { "redis" };
        let ports =
            std::iter::once(port(service, info.port)).chain(info.bus_port.map(|bus| port("bus", bus)));
        DiscoveryInfo {
            visibility: Visibility::Framework,
            name: Some(self.cluster.to_string()),
            version: Some(info.engine_version.clone()),
            ports: Some(DiscoveryPorts { ports: ports.collect() }),
            ..DiscoveryInfo::default()
        }
    }

    /// The executor's command line. Only settings of the operator stand in it.
    fn command(&self, info: &Info) -> CommandInfo {
        let executor = &self.settings.executor;
        let (value, mut arguments, uris) = match &executor.program {
            Program::Installed(path) => {
                (path.clone(), vec![path.clone(), String::from("executor")], Vec::new())
            }
            Program::Fetched { url, sha256 } => (
                String::from("/bin/sh"),
                // What follows a script on sh's command line is data to it: $0, $1, ...
                ["sh", "-c", &checked_start(sha256), FETCHED].map(str::to_owned).into(),
                vec![CommandUri {
                    value: url.clone(),
                    executable: Some(true),
                    // The cache knows files by their address alone: one that is replaced under its address would
                    // be taken from it for ever. With the digest in the address it never changes.
                    cache: Some(url.contains(&sha256.to_string())),
                    extract: Some(false),
                    output_file: Some(FETCHED.to_owned()),
                }],
            ),
        };
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
            value: Some(value),
            arguments,
            uris,
            environment: (!variables.is_empty()).then_some(Environment { variables }),
            ..CommandInfo::default()
        }
    }
}

/// A script of fixed words and hex digits: executes the fetched binary, with the script's arguments, when it is the
/// one that was meant.
fn checked_start(sha256: &Sha256) -> String {
    format!(
        "found=$(sha256sum {FETCHED}) || {{ echo 'sha256sum failed: the binary cannot be checked' >&2; exit {NO_DIGEST}; }}; \
         found=${{found%% *}}; \
         if [ \"$found\" != {sha256} ]; then \
         echo \"the fetched binary has sha256 $found, expected {sha256}\" >&2; exit {WRONG_DIGEST}; fi; \
         exec ./{FETCHED} executor \"$@\""
    )
}

/// What the wait status of an executor that ended before it spoke tells people; Mesos says only that it ended.
pub(crate) fn exit_reason(wait_status: i32) -> Option<&'static str> {
    let exit = |status: i32| status << 8;
    match wait_status {
        status if status == exit(WRONG_DIGEST) => Some(
            "the overlord binary that the agent fetched has another sha256 than the controller expects: look at \
             executor.url and executor.sha256, or at what stands between agents and controller",
        ),
        status if status == exit(NO_DIGEST) => {
            Some("the agent has no sha256sum (coreutils), so the overlord binary cannot be checked")
        }
        // What a shell says of a command that is missing or cannot be executed.
        status if status == exit(126) || status == exit(127) => Some(
            "the overlord binary is missing on the agent or cannot be executed: look at executor.path, and whether \
             it is built for this machine",
        ),
        _ => None,
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

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, os::unix::fs::PermissionsExt as _, path::Path, process::Output};

    use overlord_api::State;
    use sha2::{Digest as _, Sha256 as Hasher};

    use super::*;
    use crate::{Catalogue, Executor, samples};

    const MARK: StoreMark = StoreMark { generation: 1, revision: 7 };
    const HOSTILE: &str = "/data'; touch hacked; echo '$(touch hacked)";

    fn settings(program: Program) -> Settings {
        let executor = Executor {
            program,
            etcd: vec![String::from("http://10.0.0.1:2379")],
            etcd_credentials: None,
            environment: BTreeMap::new(),
        };
        Settings::new("test", executor, Catalogue::default())
    }

    fn command(program: Program, data_root: &str) -> CommandInfo {
        let settings = settings(program);
        let cluster = ClusterName::new("orders").unwrap();
        let launching = Launching { settings: &settings, cluster: &cluster, data_root, store: MARK };
        launching.command(&samples::info(0, State::Pending))
    }

    fn digest(text: &str) -> Sha256 {
        Sha256::parse(&format!("{:x}", Hasher::digest(text))).unwrap()
    }

    /// Runs a command where the fetcher would have put `program`.
    fn run(command: &CommandInfo, folder: &Path, program: Option<&str>) -> Output {
        if let Some(text) = program {
            let path = folder.join(FETCHED);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        std::process::Command::new(command.value.as_deref().unwrap())
            .args(&command.arguments[1..])
            .current_dir(folder)
            .output()
            .unwrap()
    }

    #[test]
    fn a_binary_on_the_agents_is_started_without_a_shell() {
        let command = command(Program::Installed(String::from("/opt/overlord")), "/data");
        assert_eq!(command.value.as_deref(), Some("/opt/overlord"));
        assert_eq!(
            command.arguments,
            ["/opt/overlord", "executor", "--etcd", "http://10.0.0.1:2379", "--data-root", "/data"]
        );
        assert!(command.uris.is_empty() && command.shell == Some(false));
    }

    #[test]
    fn what_may_be_replaced_under_its_address_is_not_cached() {
        let url = String::from("http://files.internal/overlord");
        let command = command(Program::Fetched { url, sha256: digest("any") }, "/data");
        assert_eq!(command.uris[0].cache, Some(false));
    }

    #[test]
    fn a_fetched_binary_is_checked_and_then_started_with_its_flags_whatever_they_hold() {
        let program = "#!/bin/sh\nfor word; do echo \"<$word>\"; done\n";
        let url = format!("http://10.0.0.1:8880/v1/executor/{}/overlord", digest(program));
        let fetched = Program::Fetched { url: url.clone(), sha256: digest(program) };
        let command = command(fetched, HOSTILE);
        let uri = &command.uris[0];
        assert_eq!(
            (&uri.value, uri.cache, uri.extract, uri.executable),
            (&url, Some(true), Some(false), Some(true))
        );
        let folder = tempfile::tempdir().unwrap();
        let output = run(&command, folder.path(), Some(program));
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            format!("<executor>\n<--etcd>\n<http://10.0.0.1:2379>\n<--data-root>\n<{HOSTILE}>\n")
        );
        assert!(!folder.path().join("hacked").exists());
    }

    #[test]
    fn another_binary_is_not_executed_and_the_exit_status_says_why() {
        let url = String::from("http://10.0.0.1:8880/x");
        let command = command(Program::Fetched { url, sha256: digest("the right one") }, "/data");
        let folder = tempfile::tempdir().unwrap();
        let output = run(&command, folder.path(), Some("#!/bin/sh\ntouch executed\n"));
        assert_eq!(output.status.code(), Some(WRONG_DIGEST));
        assert!(!folder.path().join("executed").exists());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("has sha256") && said.contains(digest("the right one").as_str()), "{said}");
        assert!(exit_reason(WRONG_DIGEST << 8).unwrap().contains("another sha256"));

        let empty = tempfile::tempdir().unwrap();
        assert_eq!(run(&command, empty.path(), None).status.code(), Some(NO_DIGEST));
        assert_eq!(exit_reason(1 << 8), None);
    }

    #[test]
    fn a_digest_is_hex_digits_alone() {
        assert!(Sha256::parse(&"aB".repeat(32)).is_some());
        for bad in ["", "ab", &"g".repeat(64), &format!("{};", "a".repeat(63)), &"é".repeat(32)] {
            assert!(Sha256::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn mesos_dns_and_people_find_cluster_and_ports() {
        let settings = settings(Program::Installed(String::from("/opt/overlord")));
        let cluster = ClusterName::new("orders").unwrap();
        let launching = Launching { settings: &settings, cluster: &cluster, data_root: "/d", store: MARK };
        let info = Info { bus_port: Some(20_100), ..samples::info(3, State::Pending) };
        let discovery = launching.discovery(&info);
        assert_eq!(
            (discovery.name.as_deref(), discovery.visibility),
            (Some("orders"), Visibility::Framework)
        );
        let ports: Vec<_> = discovery.ports.unwrap().ports;
        let named: Vec<_> = ports.iter().map(|port| (port.name.as_deref().unwrap(), port.number)).collect();
        assert_eq!(named, [("redis", u32::from(info.port)), ("bus", 20_100)]);
        let labels = launching.labels(&info).labels;
        let member = labels.iter().find(|label| label.key == LABEL_MEMBER).unwrap();
        assert_eq!(member.value.as_deref(), Some("3"));
        let store = labels.iter().find(|label| label.key == LABEL_REVISION).unwrap();
        assert_eq!(store.value.as_deref(), Some("1.7"));
    }
}
