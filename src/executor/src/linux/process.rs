//! Servers as processes: started without a shell in a group of their own, signalled as a group.

use std::{
    collections::BTreeSet,
    fs::File,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::FutureExt as _;
use rustix::process::{Pid, Signal as Sig, getpgid, kill_process, kill_process_group};
use tokio::process::{Child, Command};

use super::{console, procfs::Process};
use crate::{Ended, Exit, MachineError, Signal, Started};

/// How often the length of `console.log` is looked at.
const CONSOLE_CHECK: Duration = Duration::from_secs(2);

/// How often a process that is not our child is looked at.
const LEFTOVER_POLL: Duration = Duration::from_millis(20);

/// How long a server of an earlier executor may take to stop in order, and then to die.
const LEFTOVER_GRACE: Duration = Duration::from_secs(20);
const LEFTOVER_DEATH: Duration = Duration::from_secs(5);

/// The servers that were started and not yet reaped: nothing else may be signalled, for the kernel
/// gives numbers away again.
#[derive(Debug, Clone, Default)]
pub(crate) struct Alive(Arc<Mutex<BTreeSet<u32>>>);

impl Alive {
    fn with<T>(&self, change: impl FnOnce(&mut BTreeSet<u32>) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Signals a server and its children.
    pub(crate) fn signal(&self, pid: u32, signal: Signal) {
        if self.with(|alive| alive.contains(&pid)) {
            signal_group(pid, signal);
        }
    }
}

fn signal_group(pid: u32, signal: Signal) {
    let Some(pid) = Pid::from_raw(pid.cast_signed()) else { return };
    // It may have ended this moment.
    let _ = kill_process_group(pid, sig(signal));
}

const fn sig(signal: Signal) -> Sig {
    match signal {
        Signal::Terminate => Sig::TERM,
        Signal::Kill => Sig::KILL,
    }
}

/// Starts `argv` in `dir`, its output going to `console`. The process and its group outlive this executor.
pub(crate) fn start(
    argv: &[String],
    dir: &Path,
    console: &Path,
    alive: &Alive,
) -> Result<Started, MachineError> {
    let Some((binary, arguments)) = argv.split_first() else {
        return Err(MachineError::Command("it is empty".to_owned()));
    };
    let open = || -> std::io::Result<(File, File, u64)> {
        let out = console::open(console)?;
        let length = out.metadata()?.len();
        Ok((out.try_clone()?, out, length))
    };
    let (out, err, length) = open().map_err(MachineError::file("open", console))?;
    let mut command = Command::new(binary);
    command
        .args(arguments)
        .current_dir(dir)
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LANG", "C.UTF-8")
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err)
        .process_group(0)
        .kill_on_drop(false);
    let child =
        command.spawn().map_err(|source| MachineError::Start { path: PathBuf::from(binary), source })?;
    let Some(pid) = child.id() else {
        return Err(MachineError::Command("the process has no number".to_owned()));
    };
    alive.with(|alive| alive.insert(pid));
    let exit = watch(child, pid, console.to_owned(), length, alive.clone()).boxed();
    Ok(Started { pid, exit })
}

/// Waits for the end of a server, and keeps its log small meanwhile.
async fn watch(mut child: Child, pid: u32, console: PathBuf, mut from: u64, alive: Alive) -> Exit {
    let status = loop {
        tokio::select! {
            biased;
            status = child.wait() => break status,
            () = tokio::time::sleep(CONSOLE_CHECK) => match console::rotate(&console) {
                Ok(false) => {}
                Ok(true) => from = 0,
                Err(error) => tracing::warn!(%error, path = %console.display(), "cannot rotate the console log"),
            },
        }
    };
    alive.with(|alive| alive.remove(&pid));
    // A child that redis left behind while saving would finish later, over newer data.
    signal_group(pid, Signal::Kill);
    Exit { how: status.map_or(Ended::Unknown, ended), console: console::tail(&console, from) }
}

fn ended(status: ExitStatus) -> Ended {
    match (status.code(), status.signal()) {
        (Some(code), _) => Ended::Status(code),
        (None, Some(signal)) => Ended::Signal(signal),
        (None, None) => Ended::Unknown,
    }
}

/// Ends servers that an earlier executor left in `dir`: in order first, then at once.
pub(crate) async fn stop_leftovers(leftovers: Vec<Process>, dir: &Path) -> Result<(), MachineError> {
    let mut alive = leftovers;
    for (signal, patience) in [(Signal::Terminate, LEFTOVER_GRACE), (Signal::Kill, LEFTOVER_DEATH)] {
        for process in &alive {
            tracing::warn!(pid = process.pid, dir = %dir.display(), ?signal, "stopping a server left by an earlier executor");
            signal_leftover(*process, signal);
        }
        let mut polls = patience.as_millis() / LEFTOVER_POLL.as_millis();
        while polls > 0 {
            alive.retain(|process| process.is_alive());
            if alive.is_empty() {
                return Ok(());
            }
            polls -= 1;
            // Not our child, and hosts of Mesos run kernels without pidfd: there is no event to wait for.
            tokio::time::sleep(LEFTOVER_POLL).await;
        }
    }
    match alive.first() {
        Some(process) => Err(MachineError::LeftoverStays { pid: process.pid, dir: dir.to_owned() }),
        None => Ok(()),
    }
}

fn signal_leftover(process: Process, signal: Signal) {
    let Some(pid) = Pid::from_raw(process.pid.cast_signed()) else { return };
    let leads = getpgid(Some(pid)).is_ok_and(|group| group == pid);
    // It may have ended this moment.
    let _ = if leads { kill_process_group(pid, sig(signal)) } else { kill_process(pid, sig(signal)) };
}
