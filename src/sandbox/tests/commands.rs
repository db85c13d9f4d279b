//! Tasks with a command as real processes: their directory, what is fetched into it, how they are ended and
//! looked at.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod common;

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use common::{Framework, agent, shell};
use overlord_mesos::v1::{
    CommandInfo, CommandUri, DurationInfo, HealthCheck, HealthCheckType, HttpCheck, KillPolicy, TaskInfo,
    TaskState, TaskStatus, TcpCheck,
    scheduler::{Call, CallType, Kill},
};
use overlord_sandbox::{MemoryScheduler, Mesos, MesosConfig, Processes};
use tokio::task::JoinSet;

struct World {
    dir: tempfile::TempDir,
    mesos: Mesos,
    _processes: Arc<Processes>,
    _driver: JoinSet<()>,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        // Others look into it, too.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let agents = vec![agent("a", IpAddr::from([127, 0, 0, 1]), dir.path())];
        let mut config = MesosConfig::new(agents, 3);
        config.timings.executor_start = Duration::from_millis(10);
        let processes = Arc::new(Processes::new(None));
        let launcher = Arc::clone(&processes);
        let (mesos, driver) = Mesos::in_memory(&config, launcher);
        let mut tasks = JoinSet::new();
        tasks.spawn(driver);
        Self { dir, mesos, _processes: processes, _driver: tasks }
    }

    async fn run(
        &self,
        command: CommandInfo,
        change: impl FnOnce(&mut TaskInfo),
    ) -> Framework<MemoryScheduler> {
        let mut framework = Framework::subscribe(self.mesos.scheduler_transport(), None).await;
        let offer = framework.offers().await.remove(0);
        framework.launch_command(&offer, command, change).await;
        framework
    }

    /// Runs a command to its end.
    async fn end_of(&self, command: CommandInfo) -> TaskStatus {
        let mut framework = self.run(command, |_| {}).await;
        terminal(&mut framework).await
    }

    fn directory(&self, framework: &Framework<MemoryScheduler>) -> PathBuf {
        let agent = self.mesos.agents().remove(0).id;
        let runs = format!("slaves/{agent}/frameworks/{}/executors/t/runs", framework.id);
        fs::read_dir(self.dir.path().join(runs)).unwrap().next().unwrap().unwrap().path()
    }
}

async fn next(framework: &mut Framework<MemoryScheduler>) -> TaskStatus {
    let status = framework.status().await;
    if status.uuid.is_some() {
        framework.acknowledge(&status).await;
    }
    status
}

async fn terminal(framework: &mut Framework<MemoryScheduler>) -> TaskStatus {
    loop {
        let status = next(framework).await;
        if status.state.is_terminal() {
            return status;
        }
    }
}

async fn running(framework: &mut Framework<MemoryScheduler>) {
    while next(framework).await.state != TaskState::Running {}
}

async fn kill(framework: &Framework<MemoryScheduler>) {
    let kill = Kill { task_id: overlord_mesos::v1::TaskId::new("t"), ..Kill::default() };
    framework.call(Call { kind: CallType::Kill, kill: Some(kill), ..Call::default() }).await;
}

fn uri(value: impl Into<String>) -> CommandUri {
    CommandUri { value: value.into(), ..CommandUri::default() }
}

fn with(command: &str, uris: Vec<CommandUri>) -> CommandInfo {
    CommandInfo { uris, ..shell(command) }
}

fn archive(dir: &Path) -> String {
    let inside = dir.join("inside");
    fs::write(&inside, "unpacked\n").unwrap();
    let path = dir.join("things.tar.gz");
    let tar =
        std::process::Command::new("tar").arg("-C").arg(dir).arg("-czf").arg(&path).arg("inside").status();
    assert!(tar.unwrap().success());
    path.display().to_string()
}

#[tokio::test]
async fn a_command_runs_in_its_sandbox_and_writes_there() {
    let world = World::new();
    let mut framework =
        world.run(shell("echo said; echo badly >&2; pwd; env | grep ^MESOS_SANDBOX="), |_| {}).await;
    let status = terminal(&mut framework).await;
    assert_eq!(status.state, TaskState::Finished);
    let directory = world.directory(&framework);
    let said = fs::read_to_string(directory.join("stdout")).unwrap();
    let place = directory.display();
    assert_eq!(said, format!("said\n{place}\nMESOS_SANDBOX={place}\n"));
    assert_eq!(fs::read_to_string(directory.join("stderr")).unwrap(), "badly\n");
}

#[tokio::test]
async fn a_program_that_is_not_there_exits_with_1_and_a_command_line_with_127() {
    let missing = CommandInfo {
        value: Some("/no/such/binary".to_owned()),
        shell: Some(false),
        ..CommandInfo::default()
    };
    assert_eq!(World::new().end_of(missing).await.message.unwrap(), "Command exited with status 1");
    let status = World::new().end_of(shell("/no/such/binary")).await;
    assert_eq!(status.message.unwrap(), "Command exited with status 127");
}

#[tokio::test]
async fn arguments_are_given_as_they_are() {
    let command = CommandInfo {
        value: Some("/bin/sh".to_owned()),
        shell: Some(false),
        arguments: ["sh", "-c", "test \"$1\" = 'a b' && exit 4", "x", "a b"].map(str::to_owned).to_vec(),
        ..CommandInfo::default()
    };
    assert_eq!(World::new().end_of(command).await.message.unwrap(), "Command exited with status 4");
}

#[tokio::test]
async fn sigterm_ends_a_command_with_all_its_children() {
    let world = World::new();
    let mut framework = world.run(shell("sleep 600 & sleep 600; true"), |_| {}).await;
    running(&mut framework).await;
    kill(&framework).await;
    let status = terminal(&mut framework).await;
    assert_eq!(status.state, TaskState::Killed);
    assert_eq!(status.message.unwrap(), "Command terminated with signal Terminated");
}

#[tokio::test]
async fn what_ignores_sigterm_is_killed_after_its_grace_period() {
    let world = World::new();
    let command = shell("trap '' TERM; echo ready; while true; do sleep 0.1; done");
    let mut framework = world
        .run(command, |task| {
            let grace_period = Some(DurationInfo { nanoseconds: 300_000_000 });
            task.kill_policy = Some(KillPolicy { grace_period });
        })
        .await;
    running(&mut framework).await;
    let said = world.directory(&framework).join("stdout");
    while fs::read_to_string(&said).unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    kill(&framework).await;
    let status = terminal(&mut framework).await;
    assert_eq!(status.message.unwrap(), "Command terminated with signal Killed");
    assert_eq!(status.state, TaskState::Killed);
}

#[tokio::test]
async fn files_are_fetched_made_executable_and_unpacked() {
    let source = tempfile::tempdir().unwrap();
    let tool = source.path().join("tool");
    fs::write(&tool, "#!/bin/sh\necho tool\n").unwrap();
    let world = World::new();
    let uris = vec![
        CommandUri {
            executable: Some(true),
            output_file: Some("bin/mine".to_owned()),
            ..uri(format!("file://{}", tool.display()))
        },
        uri(archive(source.path())),
    ];
    let mut framework =
        world.run(with("./bin/mine && cat inside && test -f things.tar.gz", uris), |_| {}).await;
    assert_eq!(terminal(&mut framework).await.state, TaskState::Finished);
    let said = fs::read_to_string(world.directory(&framework).join("stdout")).unwrap();
    assert_eq!(said, "tool\nunpacked\n");
}

/// A server of one file, which counts how often it was asked.
async fn serve(text: &'static str) -> (SocketAddr, Arc<AtomicUsize>, JoinSet<()>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let router = axum::Router::new().route(
        "/dir/tool.sh",
        axum::routing::get(move || {
            count.fetch_add(1, Ordering::Relaxed);
            async move { text }
        }),
    );
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });
    (address, asked, tasks)
}

#[tokio::test]
async fn a_cached_file_is_downloaded_once() {
    let (address, asked, _server) = serve("#!/bin/sh\necho downloaded\n").await;
    let world = World::new();
    for round in 1..=2 {
        let fetched = CommandUri {
            executable: Some(true),
            cache: Some(true),
            ..uri(format!("http://{address}/dir/tool.sh"))
        };
        let mut framework = world.run(with("./tool.sh", vec![fetched]), |_| {}).await;
        let status = terminal(&mut framework).await;
        assert_eq!(status.state, TaskState::Finished, "{round}: {status:?}");
        let said = fs::read_to_string(world.directory(&framework).join("stdout")).unwrap();
        assert_eq!(said, "downloaded\n");
        framework.call(Call { kind: CallType::Teardown, ..Call::default() }).await;
    }
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn what_cannot_be_fetched_fails_the_task_with_the_words_of_the_agent() {
    let (address, _asked, _server) = serve("").await;
    for value in ["/no/such/file".to_owned(), format!("http://{address}/nothing"), "relative".to_owned()] {
        let world = World::new();
        let mut framework = world.run(with("sleep 1", vec![uri(value.clone())]), |_| {}).await;
        let status = next(&mut framework).await;
        assert_eq!(status.state, TaskState::Failed, "{value}");
        assert_eq!(status.reason.as_deref(), Some("REASON_CONTAINER_LAUNCH_FAILED"));
        let directory = world.directory(&framework);
        let container = directory.file_name().unwrap().to_str().unwrap();
        let text = format!(
            "Failed to launch container: Failed to fetch all URIs for container '{container}': exited with status 1"
        );
        assert_eq!(status.message, Some(text));
        let why = fs::read_to_string(directory.join("stderr")).unwrap();
        assert!(why.starts_with("Failed to fetch: "), "{why}");
    }
}

#[tokio::test]
async fn a_command_runs_as_its_user_where_the_agent_is_root() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let world = World::new();
    let command = CommandInfo { user: Some("nobody".to_owned()), ..shell("id -un; touch mine") };
    let mut framework = world.run(command, |_| {}).await;
    let status = terminal(&mut framework).await;
    let directory = world.directory(&framework);
    let why = fs::read_to_string(directory.join("stderr")).unwrap();
    assert_eq!(status.state, TaskState::Finished, "{why}");
    assert_eq!(fs::read_to_string(directory.join("stdout")).unwrap(), "nobody\n");
}

fn check(kind: HealthCheckType) -> HealthCheck {
    HealthCheck {
        kind,
        delay_seconds: Some(0.0),
        interval_seconds: Some(0.05),
        grace_period_seconds: Some(0.0),
        timeout_seconds: Some(2.0),
        ..HealthCheck::default()
    }
}

async fn first_verdict(health: HealthCheck) -> Option<bool> {
    let world = World::new();
    let mut framework =
        world.run(shell("touch here; sleep 600"), |task| task.health_check = Some(health)).await;
    loop {
        let status = next(&mut framework).await;
        if status.healthy.is_some() {
            return status.healthy;
        }
    }
}

#[tokio::test]
async fn health_is_looked_at_by_command_connection_and_request() {
    let (address, _asked, _server) = serve("fine").await;
    let port = u32::from(address.port());
    let nobody = {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        u32::from(free.local_addr().unwrap().port())
    };
    let command = |text: &str| HealthCheck { command: Some(shell(text)), ..check(HealthCheckType::Command) };
    let tcp = |port| HealthCheck {
        tcp: Some(TcpCheck { port, ..TcpCheck::default() }),
        ..check(HealthCheckType::Tcp)
    };
    let http = |path: &str| HealthCheck {
        http: Some(HttpCheck { port, path: Some(path.to_owned()), ..HttpCheck::default() }),
        ..check(HealthCheckType::Http)
    };
    assert_eq!(first_verdict(command("test -d .")).await, Some(true));
    assert_eq!(first_verdict(command("false")).await, Some(false));
    assert_eq!(first_verdict(tcp(port)).await, Some(true));
    assert_eq!(first_verdict(tcp(nobody)).await, Some(false));
    assert_eq!(first_verdict(http("/dir/tool.sh")).await, Some(true));
    assert_eq!(first_verdict(http("/nothing")).await, Some(false));
}
