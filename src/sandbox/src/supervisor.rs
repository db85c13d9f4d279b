//! The supervisor: a small process that outlives the sandbox by a moment. It holds the reading end of a pipe;
//! when the sandbox ends, however it ends, the pipe closes, and the supervisor ends what is still there.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    io::{self, BufRead, Write as _},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};

use crate::sessions::{Session, any_alive, signal_all};

/// Between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(5);
/// Between looks at what is left.
const LOOK: Duration = Duration::from_millis(20);

/// The sandbox's end of the pipe. Dropping it ends all sessions that were added and not removed.
#[derive(Debug)]
pub struct SupervisorPipe {
    stdin: Mutex<Option<ChildStdin>>,
    child: Mutex<Option<Child>>,
}

/// Starts the supervisor: `exe args` has to call [`run`]. It gets a process group of its own, so that Ctrl-C in
/// a terminal does not reach it.
pub fn spawn<A: AsRef<OsStr>>(exe: &Path, args: &[A]) -> io::Result<SupervisorPipe> {
    let mut child = Command::new(exe)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .current_dir("/")
        .process_group(0)
        .spawn()?;
    let stdin = child.stdin.take();
    Ok(SupervisorPipe { stdin: Mutex::new(stdin), child: Mutex::new(Some(child)) })
}

impl SupervisorPipe {
    /// Puts a session under supervision.
    pub fn add(&self, session: Session) {
        self.tell(&format!("+session {} {}\n", session.leader, session.started));
    }

    /// Takes a session out of supervision: nothing of it is left.
    pub fn remove(&self, session: Session) {
        self.tell(&format!("-session {} {}\n", session.leader, session.started));
    }

    /// Puts executors under supervision by their `MESOS_SANDBOX`: those that were started so shortly before the
    /// end that their session was not added yet.
    pub fn add_root(&self, work_dir: &Path) {
        if let Some(path) = work_dir.to_str().filter(|path| !path.contains('\n')) {
            self.tell(&format!("+root {path}\n"));
        }
    }

    /// Closes the pipe and waits until the supervisor has ended everything and itself.
    pub async fn close(&self) -> io::Result<()> {
        drop(self.stdin.lock().unwrap_or_else(PoisonError::into_inner).take());
        let child = self.child.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut child) = child else { return Ok(()) };
        tokio::task::spawn_blocking(move || child.wait()).await.map_err(io::Error::other)??;
        Ok(())
    }

    fn tell(&self, line: &str) {
        let mut stdin = self.stdin.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pipe) = stdin.as_mut()
            && let Err(error) = pipe.write_all(line.as_bytes())
        {
            tracing::error!(error = %error, "the supervisor is gone; a kill of the sandbox would leave processes");
            *stdin = None;
        }
    }
}

impl Drop for SupervisorPipe {
    fn drop(&mut self) {
        let stdin = self.stdin.get_mut().unwrap_or_else(PoisonError::into_inner);
        drop(stdin.take());
        let child = self.child.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(mut child) = child.take() {
            // It ends within its grace period; waiting keeps it from staying behind as a zombie.
            let _reaped = child.wait();
        }
    }
}

/// The supervisor's whole life: reads what to watch until the pipe closes, ends what is left, returns. To be
/// called outside of any runtime.
pub fn run(input: impl BufRead) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let guard = runtime.enter();
    // Listening to a signal and doing nothing is ignoring it.
    let _ignored = [
        signal(SignalKind::interrupt())?,
        signal(SignalKind::terminate())?,
        signal(SignalKind::hangup())?,
        signal(SignalKind::quit())?,
    ];
    drop(guard);
    let mut watched = Watched::default();
    for line in input.lines() {
        match line {
            Ok(line) => watched.read(&line),
            Err(_) => break,
        }
    }
    runtime.block_on(watched.end());
    Ok(())
}

#[derive(Debug, Default)]
struct Watched {
    sessions: BTreeSet<Session>,
    roots: Vec<String>,
}

impl Watched {
    /// Lines that make no sense are passed over: there is nobody to tell.
    fn read(&mut self, line: &str) {
        if let Some(session) = line.strip_prefix("+session ").and_then(parse_session) {
            self.sessions.insert(session);
        } else if let Some(session) = line.strip_prefix("-session ").and_then(parse_session) {
            self.sessions.remove(&session);
        } else if let Some(root) = line.strip_prefix("+root ") {
            self.roots.push(root.to_owned());
        }
    }

    async fn end(&self) {
        let ended = async {
            if signal_all(&self.sessions, &self.roots, Signal::TERM) == 0 {
                return;
            }
            // What was stopped has to wake up to end.
            signal_all(&self.sessions, &self.roots, Signal::CONT);
            while any_alive(&self.sessions, &self.roots) {
                tokio::time::sleep(LOOK).await;
            }
        };
        if tokio::time::timeout(GRACE, ended).await.is_ok() {
            return;
        }
        while signal_all(&self.sessions, &self.roots, Signal::KILL) > 0 {
            tokio::time::sleep(LOOK).await;
        }
    }
}

fn parse_session(text: &str) -> Option<Session> {
    let (leader, started) = text.split_once(' ')?;
    Some(Session { leader: leader.parse().ok()?, started: started.trim().parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_come_and_go_and_nonsense_is_passed_over() {
        let mut watched = Watched::default();
        for line in
            ["+session 10 100", "+session 11 101", "bogus", "+session x y", "-session 10 100", "+root /a b"]
        {
            watched.read(line);
        }
        assert_eq!(watched.sessions, BTreeSet::from([Session { leader: 11, started: 101 }]));
        assert_eq!(watched.roots, ["/a b"]);
    }
}
