//! Executors as real processes, the way Mesos' posix launcher runs them: a run directory each, its environment
//! and nothing else, a session of its own that is ended as a whole.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::{self, File},
    io::{self, Write as _},
    os::unix::{fs::PermissionsExt as _, process::ExitStatusExt as _},
    path::Path,
    process::Stdio,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use overlord_mesos::v1::ContainerId;
use rustix::process::Signal;
use tokio::{
    process::{Child, Command},
    task::JoinSet,
};

use crate::{
    fetcher::Fetcher,
    launcher::{ExitReporter, LaunchError, Launcher},
    look,
    model::{Probe, ProbeOutcome, StartExecutor},
    sessions::Session,
    supervisor::SupervisorPipe,
    users::{self, User},
};

/// How a command ends that cannot be executed: what executes it for Mesos exits with 1.
const NOT_EXECUTED: &str = "echo 'Failed to execute command: No such file or directory' >&2; exit 1";

/// How long a process may take to disappear after SIGKILL before nobody waits any more.
const KILL_LIMIT: Duration = Duration::from_secs(10);

/// Starts executors as processes of this machine.
#[derive(Debug)]
pub struct Processes {
    /// What makes a session and then becomes the executor.
    prefix: Vec<OsString>,
    supervisor: Option<Arc<SupervisorPipe>>,
    running: Arc<Mutex<BTreeMap<ContainerId, Session>>>,
    tasks: Mutex<JoinSet<()>>,
    fetcher: Fetcher,
    http: Option<reqwest::Client>,
}

impl Processes {
    /// Processes that start through util-linux' `setsid`, and are known to the supervisor, if there is one.
    pub fn new(supervisor: Option<Arc<SupervisorPipe>>) -> Self {
        // By its path: a search along PATH costs every start some failed ones.
        let known = ["/usr/bin/setsid", "/bin/setsid"].into_iter().find(|path| Path::new(path).exists());
        Self::through(vec![known.unwrap_or("setsid").into()], supervisor)
    }

    /// As [`Self::new`], with another command that calls `setsid(2)` and then executes its arguments without forking.
    pub fn through(prefix: Vec<OsString>, supervisor: Option<Arc<SupervisorPipe>>) -> Self {
        let (running, tasks) = (Arc::default(), Mutex::default());
        let http = reqwest::Client::builder().no_proxy().build().ok();
        Self { prefix, supervisor, running, tasks, fetcher: Fetcher::new(), http }
    }

    /// Ends all executors: SIGTERM to them, SIGKILL to what is left of their sessions after `grace`. Returns
    /// when they are gone.
    pub async fn shutdown(&self, grace: Duration) {
        let mut tasks = std::mem::take(&mut *lock(&self.tasks));
        for session in self.sessions() {
            session.signal_leader(Signal::TERM);
        }
        let ended = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(grace, ended).await.is_err() {
            for session in self.sessions() {
                session.signal(Signal::KILL);
            }
            while tasks.join_next().await.is_some() {}
        }
    }

    fn sessions(&self) -> Vec<Session> {
        lock(&self.running).values().copied().collect()
    }

    fn spawn(
        &self,
        start: &StartExecutor,
        user: Option<User>,
        stdout: File,
        stderr: File,
    ) -> io::Result<Child> {
        let mut argv = self.prefix.clone();
        let value = start.command.value.clone().unwrap_or_default();
        if start.command.shell.unwrap_or(true) {
            argv.extend(["/bin/sh".into(), "-c".into(), value.into()]);
        } else if is_executable(&value, start) {
            argv.push(value.into());
            // The first is argv[0], which the executor gets from its path here.
            argv.extend(start.command.arguments.iter().skip(1).map(OsString::from));
        } else {
            argv.extend(["/bin/sh", "-c", NOT_EXECUTED].map(OsString::from));
        }
        let (program, arguments) = argv.split_first().ok_or_else(|| io::Error::other("no command"))?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .envs(&start.environment)
            .current_dir(&start.directory)
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr);
        if let Some(User { uid, gid }) = user {
            command.uid(uid).gid(gid);
        }
        command.spawn()
    }

    /// The run directory with what is fetched into it, for its user, and its two files.
    async fn prepare(&self, start: &StartExecutor) -> Result<(File, File, Option<User>), LaunchError> {
        let failed = |error: &dyn std::fmt::Display| LaunchError {
            message: format!("failed to make '{}': {error}", start.directory.display()),
        };
        let directory = start.directory.clone();
        let files = tokio::task::spawn_blocking(move || {
            fs::create_dir_all(&directory)?;
            Ok::<_, io::Error>((
                File::create(directory.join("stdout"))?,
                File::create(directory.join("stderr"))?,
            ))
        });
        let (stdout, mut stderr) =
            files.await.map_err(|error| failed(&error))?.map_err(|error| failed(&error))?;
        let user = users::to_become(start.user.as_deref(), &start.directory)
            .map_err(|message| LaunchError { message })?;
        let fetched = self.fetcher.fetch(&start.command.uris, &start.directory, &start.cache).await;
        if let Err(error) = fetched {
            drop(writeln!(stderr, "Failed to fetch: {error}"));
            let container = &start.container;
            return Err(LaunchError {
                message: format!(
                    "Failed to fetch all URIs for container '{container}': exited with status 1"
                ),
            });
        }
        if let Some(user) = user {
            users::give(&start.directory, user).map_err(|error| failed(&error))?;
        }
        Ok((stdout, stderr, user))
    }
}

/// Whether there is such a program: by its path from the run directory, or along PATH.
fn is_executable(program: &str, start: &StartExecutor) -> bool {
    let may_run = |path: &Path| {
        fs::metadata(path).is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
    };
    if program.contains('/') {
        return may_run(&start.directory.join(program));
    }
    let path = start.environment.get("PATH").map(String::as_str).unwrap_or_default();
    std::env::split_paths(path).any(|folder| may_run(&folder.join(program)))
}

/// How much an agent's processes stand back, as `nice` has it.
const NICENESS: i32 = 10;

/// Agents are other machines: what runs on them must not take the processor from Mesos, etcd and the controller.
fn yield_to_masters(pid: Option<u32>) {
    let pid = pid.and_then(|pid| i32::try_from(pid).ok()).and_then(rustix::process::Pid::from_raw);
    if let Some(pid) = pid
        && let Err(error) = rustix::process::setpriority_process(Some(pid), NICENESS)
    {
        tracing::debug!(%error, "an executor keeps its priority");
    }
}

impl Drop for Processes {
    /// For those who do not come to [`Processes::shutdown`]: nothing is left running.
    fn drop(&mut self) {
        for session in self.sessions() {
            session.signal(Signal::KILL);
        }
    }
}

#[async_trait]
impl Launcher for Processes {
    async fn start(&self, start: StartExecutor, exits: ExitReporter) -> Result<Option<u32>, LaunchError> {
        let (stdout, stderr, user) = self.prepare(&start).await?;
        // Nothing is waited for from here on: a start that is given up leaves no process.
        let child = self.spawn(&start, user, stdout, stderr).map_err(|error| LaunchError {
            message: format!("failed to run the executor in '{}': {error}", start.directory.display()),
        })?;
        let pid = child.id();
        yield_to_masters(pid);
        // A child that is not reaped keeps its entry in /proc.
        let session = pid.and_then(Session::of_leader);
        if let Some(session) = session {
            lock(&self.running).insert(start.container.clone(), session);
            if let Some(supervisor) = &self.supervisor {
                supervisor.add(session);
            }
        }
        let watch = Watch {
            child,
            session,
            container: start.container.clone(),
            running: Arc::clone(&self.running),
            supervisor: self.supervisor.clone(),
        };
        let mut tasks = lock(&self.tasks);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(watch.run(exits));
        Ok(pid)
    }

    fn kill(&self, container: &ContainerId) {
        let session = lock(&self.running).get(container).copied();
        if let Some(session) = session {
            session.signal(Signal::KILL);
        }
    }

    fn terminate(&self, container: &ContainerId) {
        let session = lock(&self.running).get(container).copied();
        if let Some(session) = session {
            session.signal(Signal::TERM);
            // What was stopped has to wake up to end.
            session.signal(Signal::CONT);
        }
    }

    async fn probe(&self, probe: Probe) -> ProbeOutcome {
        look::look(self.http.as_ref(), &self.prefix, probe).await
    }
}

/// Waits for an executor's end and cleans up behind it.
struct Watch {
    child: Child,
    session: Option<Session>,
    container: ContainerId,
    running: Arc<Mutex<BTreeMap<ContainerId, Session>>>,
    supervisor: Option<Arc<SupervisorPipe>>,
}

impl Watch {
    async fn run(mut self, exits: ExitReporter) {
        let status = match self.child.wait().await {
            Ok(status) => status.into_raw(),
            Err(error) => {
                tracing::error!(container = %self.container, error = %error, "an executor's end was not seen");
                -1
            }
        };
        if let Some(session) = self.session {
            // Its ports are offered again at once, so whatever it left behind must be gone before.
            session.kill(KILL_LIMIT).await;
            if let Some(supervisor) = &self.supervisor {
                supervisor.remove(session);
            }
        }
        lock(&self.running).remove(&self.container);
        exits.exited(status);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
