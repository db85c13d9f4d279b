//! What of the data outlives a process: snapshots and the append-only file.

use std::time::Duration;

use super::{DirId, Dump, Pid, Redises, process::Process, queue::Event};

/// A snapshot that failed is tried again.
const RETRY: Duration = Duration::from_secs(5);

impl Redises {
    /// Reads the data of a process's directory; how long that takes.
    pub(crate) fn load(&mut self, process: &mut Process) -> Duration {
        let files = self.files.entry(process.dir.clone()).or_default();
        if process.conf.is("appendonly") {
            process.keys = files.aof.get_or_insert_default().clone();
            return Duration::ZERO;
        }
        let Some(dump) = &files.dump else { return Duration::ZERO };
        process.keys.clone_from(&dump.keys);
        if let Some((id, offset)) = dump.position {
            process.repl.offset = offset;
            if process.cluster.as_ref().is_some_and(|cluster| cluster.me.is_replica()) {
                process.repl.id = id;
            } else {
                process.repl.former = Some((id, offset));
                process.repl.backlog = Some(offset);
            }
        }
        dump.loads_for
    }

    /// The append-only file is as new as the data, whatever becomes of the process.
    pub(crate) fn flush_log(&mut self, dir: &DirId) {
        let Some(process) = self.processes.values().find(|process| process.dir == *dir) else { return };
        if !process.conf.is("appendonly") || process.loading {
            return;
        }
        let files = self.files.entry(dir.clone()).or_default();
        if !files.full {
            files.aof = Some(process.keys.clone());
        }
    }

    /// Takes a snapshot; whether that could be written.
    pub(crate) fn snapshot(&mut self, pid: Pid) -> bool {
        let Some(process) = self.processes.get_mut(&pid) else { return false };
        let files = self.files.entry(process.dir.clone()).or_default();
        process.save_failed = files.full;
        if files.full {
            return false;
        }
        let placed = process.repl.backlog.is_some() || process.repl.may_resume;
        let position = placed.then_some((process.repl.id, process.repl.offset));
        let loads_for = files.dump.as_ref().map_or(Duration::ZERO, |dump| dump.loads_for);
        files.dump = Some(Dump { keys: process.keys.clone(), position, loads_for });
        process.dirty = 0;
        process.save_due = None;
        process.saved_at = self.now;
        true
    }

    /// Something was written: the next save point may be nearer.
    pub(crate) fn changed(&mut self, pid: Pid) {
        let Some(process) = self.processes.get_mut(&pid) else { return };
        let reached = process.conf.save_points().into_iter().filter(|(_, changes)| process.dirty >= *changes);
        let Some(due) = reached.map(|(after, _)| (process.saved_at + after).max(self.now)).min() else {
            return;
        };
        if process.save_due.is_none_or(|before| due < before) {
            process.save_due = Some(due);
            self.queue.add(due, pid, Event::SavePoint);
        }
    }

    pub(crate) fn save_point(&mut self, pid: Pid) {
        let now = self.now;
        let Some(process) = self.processes.get_mut(&pid) else { return };
        if process.save_due.take_if(|due| *due <= now).is_some() && process.dirty > 0 && !self.snapshot(pid) {
            if let Some(process) = self.processes.get_mut(&pid) {
                process.save_due = Some(now + RETRY);
            }
            self.queue.add(now + RETRY, pid, Event::SavePoint);
        }
    }

    /// `SHUTDOWN` and SIGTERM: replicas get what they lack, and what is promised is written. It goes on when that
    /// cannot be.
    pub(crate) fn shut_down(&mut self, pid: Pid, save: Option<bool>) -> bool {
        self.stream(pid);
        let Some(process) = self.processes.get(&pid) else { return true };
        let saves = save.unwrap_or_else(|| !process.conf.save_points().is_empty());
        if saves && !process.loading && !self.snapshot(pid) {
            return false;
        }
        self.end(pid);
        true
    }
}
