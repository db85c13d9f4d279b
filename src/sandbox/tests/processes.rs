//! Real executors under the model: their directory, environment, session and end.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod common;

use std::{net::IpAddr, path::PathBuf, sync::Arc, time::Duration};

use common::{Framework, agent, shell};
use overlord_mesos::v1::{CommandInfo, TaskState, scheduler::EventType};
use overlord_sandbox::{MemoryScheduler, Mesos, MesosConfig, Processes, Session};
use tokio::task::JoinSet;

struct World {
    dir: tempfile::TempDir,
    mesos: Mesos,
    processes: Arc<Processes>,
    _driver: JoinSet<()>,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let agents = vec![agent("a", IpAddr::from([127, 0, 0, 1]), dir.path())];
        let mut config = MesosConfig::new(agents, 3);
        config.timings.registration = Duration::from_secs(1);
        let processes = Arc::new(Processes::new(None));
        let launcher = Arc::clone(&processes);
        let (mesos, driver) = Mesos::in_memory(&config, launcher);
        let mut tasks = JoinSet::new();
        tasks.spawn(driver);
        Self { dir, mesos, processes, _driver: tasks }
    }

    async fn launch(&self, command: CommandInfo) -> Framework<MemoryScheduler> {
        let mut framework = Framework::subscribe(self.mesos.scheduler_transport(), None).await;
        let offer = framework.offers().await.remove(0);
        framework.launch(&offer, "t", command).await;
        framework
    }

    fn run_directory(&self, framework: &Framework<MemoryScheduler>) -> PathBuf {
        let agent = self.mesos.agents().remove(0).id;
        let runs = format!("slaves/{agent}/frameworks/{}/executors/t-executor/runs", framework.id);
        std::fs::read_dir(self.dir.path().join(runs)).unwrap().next().unwrap().unwrap().path()
    }
}

async fn failure(framework: &mut Framework<MemoryScheduler>) -> (Option<i32>, String) {
    let failure = framework.find(EventType::Failure).await.failure.unwrap();
    let status = framework.status().await;
    assert_eq!(status.state, TaskState::Failed);
    (failure.status, status.message.unwrap())
}

#[tokio::test]
async fn an_executor_runs_in_its_directory_with_its_environment_only() {
    let world = World::new();
    let mut framework = world.launch(shell("env | sort; pwd >&2; exit 7")).await;
    assert_eq!(failure(&mut framework).await, (Some(1792), "Executor terminated".to_owned()));
    let directory = world.run_directory(&framework);
    let environment = std::fs::read_to_string(directory.join("stdout")).unwrap();
    assert!(environment.contains(&format!("MESOS_FRAMEWORK_ID={}\n", framework.id)), "{environment}");
    assert!(!environment.contains("CARGO") && !environment.contains("HOME="), "{environment}");
    let cwd = std::fs::read_to_string(directory.join("stderr")).unwrap();
    assert_eq!(cwd.trim(), directory.canonicalize().unwrap().display().to_string());
}

#[tokio::test]
async fn without_a_shell_the_arguments_arrive_as_they_are() {
    let world = World::new();
    let command = CommandInfo {
        value: Some("/bin/echo".to_owned()),
        shell: Some(false),
        arguments: vec!["echo".to_owned(), "$HOME * 'a b'".to_owned()],
        ..CommandInfo::default()
    };
    let mut framework = world.launch(command).await;
    assert_eq!(failure(&mut framework).await.0, Some(0));
    let stdout = std::fs::read_to_string(world.run_directory(&framework).join("stdout")).unwrap();
    assert_eq!(stdout, "$HOME * 'a b'\n");
}

#[tokio::test]
async fn a_missing_executable_is_status_127_for_a_shell_and_1_without() {
    let world = World::new();
    let mut framework = world.launch(shell("/no/such/executor")).await;
    assert_eq!(failure(&mut framework).await.0, Some(127 << 8));
    let world = World::new();
    let mut framework = world.launch(CommandInfo { shell: Some(false), ..shell("/no/such/executor") }).await;
    assert_eq!(failure(&mut framework).await.0, Some(1 << 8));
}

#[tokio::test]
async fn what_an_executor_leaves_behind_is_killed_before_its_end_is_told() {
    let world = World::new();
    let mut framework =
        world.launch(shell("trap '' TERM; (trap '' TERM; sleep 1000) & echo $! $$; exit 0")).await;
    assert_eq!(failure(&mut framework).await.0, Some(0));
    let stdout = std::fs::read_to_string(world.run_directory(&framework).join("stdout")).unwrap();
    for pid in stdout.split_whitespace() {
        let alive = Session::of_leader(pid.parse().unwrap()).is_some_and(|session| session.is_alive());
        assert!(!alive, "{pid} lives");
    }
}

#[tokio::test]
async fn an_executor_that_never_subscribes_is_killed_with_its_children() {
    let world = World::new();
    let mut framework = world.launch(shell("sleep 1000 & sleep 1000; wait")).await;
    let text = "Executor did not register within 1secs";
    assert_eq!(failure(&mut framework).await, (Some(9), text.to_owned()));
    assert!(world.mesos.agents()[0].containers.is_empty());
}

#[tokio::test]
async fn an_executor_that_cannot_be_fetched_is_not_started() {
    let world = World::new();
    let uri = overlord_mesos::v1::CommandUri { value: "/no/such/file".to_owned(), ..Default::default() };
    let mut framework = world.launch(CommandInfo { uris: vec![uri], ..shell("true") }).await;
    let (status, text) = failure(&mut framework).await;
    assert_eq!(status, Some(-1));
    let (before, after) =
        ("Failed to launch container: Failed to fetch all URIs for", "exited with status 1");
    assert!(text.starts_with(before) && text.ends_with(after), "{text}");
}

#[tokio::test]
async fn shutdown_ends_every_executor_also_those_that_do_not_want_to() {
    let world = World::new();
    let framework = world.launch(shell("trap '' TERM; while :; do sleep 0.1; done")).await;
    let containers = async {
        loop {
            if let [(_, Some(pid))] = world.mesos.agents()[0].containers.as_slice() {
                break *pid;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let pid = tokio::time::timeout(Duration::from_secs(10), containers).await.unwrap();
    let session = Session::of_leader(pid).unwrap();
    assert!(session.is_alive());
    world.processes.shutdown(Duration::from_millis(200)).await;
    assert!(!session.is_alive());
    drop(framework);
}
