//! Processes by session, read from /proc: how a whole tree is found and ended, without ever touching a process
//! that only inherited a number.

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// Between looks at whether a killed process is gone.
const LOOK: Duration = Duration::from_millis(5);

/// A session, by its leader. The start time tells it from a later one with the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Session {
    /// The leader's pid, which is the session's id.
    pub leader: u32,
    /// When the leader started, in clock ticks since boot.
    pub started: u64,
}

#[derive(Debug, Clone, Copy)]
struct Stat {
    pid: u32,
    session: u32,
    started: u64,
    dead: bool,
}

impl Session {
    /// The session that the process leads, or is about to make. `None`: there is no such process.
    pub fn of_leader(pid: u32) -> Option<Self> {
        stat(pid).map(|stat| Self { leader: pid, started: stat.started })
    }

    /// Sends a signal to the session's first process alone, which ends the others as they want to be ended.
    pub fn signal_leader(&self, signal: Signal) {
        if let Some(leader) = stat(self.leader).filter(|leader| leader.started == self.started) {
            send(leader, signal);
        }
    }

    /// Sends a signal to everything in the session; how many there were.
    pub fn signal(&self, signal: Signal) -> usize {
        signal_all(&BTreeSet::from([*self]), &[], signal)
    }

    /// Whether anything of it lives.
    pub fn is_alive(&self) -> bool {
        any_alive(&BTreeSet::from([*self]), &[])
    }

    /// Kills all of it and returns when it is gone, or could not be ended in `limit`.
    pub async fn kill(&self, limit: Duration) {
        let ended = async {
            // Again, because a process may fork between the look and the signal.
            while self.signal(Signal::KILL) > 0 {
                tokio::time::sleep(LOOK).await;
            }
        };
        if tokio::time::timeout(limit, ended).await.is_err() {
            tracing::warn!(session = self.leader, "processes do not end after SIGKILL");
        }
    }
}

/// Sends a signal to all members of the sessions, and to processes whose `MESOS_SANDBOX` lies in one of the
/// directories; how many there were.
pub(crate) fn signal_all(sessions: &BTreeSet<Session>, roots: &[String], signal: Signal) -> usize {
    let members = members(sessions, roots);
    for member in &members {
        send(*member, signal);
    }
    members.len()
}

/// Whether anything lives that [`signal_all`] would reach.
pub(crate) fn any_alive(sessions: &BTreeSet<Session>, roots: &[String]) -> bool {
    !members(sessions, roots).is_empty()
}

fn send(member: Stat, signal: Signal) {
    let Some(pid) = i32::try_from(member.pid).ok().and_then(Pid::from_raw) else { return };
    // The descriptor holds on to one process; only then is it certain that its number means the one that was seen.
    let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else { return };
    if stat(member.pid).is_some_and(|now| now.started == member.started)
        && let Err(error) = pidfd_send_signal(&handle, signal)
    {
        tracing::debug!(pid = member.pid, error = %error, "a process was not signalled");
    }
}

fn members(sessions: &BTreeSet<Session>, roots: &[String]) -> Vec<Stat> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let all: Vec<Stat> = pids.filter_map(stat).collect();
    let is_other = |session: &Session| {
        // A living leader that started at another time leads another session of that number.
        all.iter().any(|stat| stat.pid == session.leader && stat.started != session.started)
    };
    let ours: Vec<&Session> = sessions.iter().filter(|session| !is_other(session)).collect();
    let own_pid = std::process::id();
    all.iter()
        .filter(|stat| !stat.dead && stat.pid != own_pid)
        .filter(|stat| {
            ours.iter().any(|session| {
                // The leader counts before it has called setsid, too.
                let leader = stat.pid == session.leader && stat.started == session.started;
                leader || (stat.session == session.leader && stat.started >= session.started)
            }) || (!roots.is_empty() && runs_in(stat.pid, roots))
        })
        .copied()
        .collect()
}

fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    parse_stat(pid, &text)
}

/// `pid (name) state ppid pgrp session ... starttime`: proc(5). The name may hold anything, also parentheses.
fn parse_stat(pid: u32, text: &str) -> Option<Stat> {
    let (_, rest) = text.rsplit_once(") ")?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?;
    let session = fields.nth(2)?.parse().ok()?;
    // starttime is field 22; four of the rest (3 to 6) are read.
    let started = fields.nth(15)?.parse().ok()?;
    Some(Stat { pid, session, started, dead: matches!(state, "Z" | "X") })
}

fn runs_in(pid: u32, roots: &[String]) -> bool {
    let Ok(environment) = fs::read(format!("/proc/{pid}/environ")) else { return false };
    let sandbox =
        environment.split(|byte| *byte == 0).find_map(|variable| variable.strip_prefix(b"MESOS_SANDBOX="));
    let Some(sandbox) = sandbox.and_then(|path| std::str::from_utf8(path).ok()) else { return false };
    roots.iter().any(|root| Path::new(sandbox).starts_with(root))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_name_with_parentheses_does_not_shift_the_fields() {
        let text = "42 (a) R (b) S 1 42 77 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 123456 9 9";
        let stat = parse_stat(42, text).unwrap();
        assert_eq!((stat.session, stat.started, stat.dead), (77, 123_456, false));
    }

    #[test]
    fn a_session_of_another_time_has_no_members() {
        let own = std::process::id();
        let session = Session::of_leader(own).unwrap();
        let earlier = Session { started: session.started + 1, ..session };
        assert!(!earlier.is_alive());
    }
}
