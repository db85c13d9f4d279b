//! Streams of writes: who copies whom, from where it goes on, and when all is copied anew.

use std::time::Duration;

use overlord_api::Address;
use overlord_engines::cluster::{SlotSet, key_slot};
use rand::Rng as _;

use super::{
    Dump, Pid, Redises, ReplId,
    network::Reach,
    process::{Link, Write},
    queue::Event,
};

/// A write reaches a replica that follows.
const WIRE: Duration = Duration::from_millis(1);

/// A replica without a link tries again once a second.
const RETRY: Duration = Duration::from_secs(1);

/// A node's first tick.
const FIRST: Duration = Duration::from_millis(120);

/// The least time in which all data is copied.
const COPY: Duration = Duration::from_millis(20);

impl Redises {
    /// With the process's next tick.
    pub(crate) fn soon(&mut self, pid: Pid, event: Event) {
        let delay = self.within(RETRY / 5);
        self.queue.add(self.now + delay, pid, event);
    }

    pub(crate) fn set_link(&mut self, pid: Pid, link: Link) {
        if let Some(process) = self.processes.get_mut(&pid) {
            process.repl.link = link;
        }
    }

    /// The first tick of a node: a replica copies its master from now on.
    pub(crate) fn begin(&mut self, pid: Pid) {
        let Some(process) = self.processes.get(&pid).filter(|process| process.repl.master.is_none()) else {
            return;
        };
        let master = process.cluster.as_ref().filter(|cluster| cluster.me.is_replica());
        let master = master.and_then(|cluster| cluster.master()).and_then(|master| master.place.data());
        if let Some(master) = master {
            self.follow(pid, master);
        }
    }

    /// It copies whoever is at that address.
    pub(crate) fn follow(&mut self, pid: Pid, master: Address) {
        self.lose_link(pid);
        let Some(process) = self.processes.get_mut(&pid) else { return };
        if process.repl.master.is_none() {
            // Its own place in its own stream: the new master may know it.
            process.repl.may_resume = true;
        }
        process.repl.master = Some(master);
        self.queue.add(self.now + WIRE, pid, Event::Link);
    }

    /// It copies nobody any more, and begins a stream of its own.
    pub(crate) fn unfollow(&mut self, pid: Pid) {
        let id = ReplId(self.rng.random());
        let Some(process) = self.processes.get_mut(&pid).filter(|process| process.repl.master.is_some())
        else {
            return;
        };
        let repl = &mut process.repl;
        repl.former = Some((repl.id, repl.offset));
        repl.id = id;
        repl.master = None;
        repl.link = Link::Down;
        repl.down_since = None;
        repl.may_resume = false;
        let address = process.address;
        self.replicas_lost(pid);
        self.replicas_try(address);
    }

    /// Replicas of that address without a link try it.
    pub(crate) fn replicas_try(&mut self, address: Address) {
        let waiting = self.processes.values().filter(|process| {
            process.repl.master == Some(address) && matches!(process.repl.link, Link::Down)
        });
        for pid in waiting.map(|process| process.pid).collect::<Vec<_>>() {
            // Once a second; by then a node just started knows whether it is a master.
            let delay = FIRST + self.within(RETRY);
            self.queue.add(self.now + delay, pid, Event::Link);
        }
    }

    /// A replica without a link tries its master. When it cannot be, it is told when that changes.
    pub(crate) fn try_link(&mut self, pid: Pid) {
        let Some(process) = self.processes.get(&pid).filter(|process| process.runs()) else { return };
        let (ip, repl) = (process.address.ip, &process.repl);
        let Some(master) = repl.master.filter(|_| repl.link == Link::Down) else { return };
        let asks = repl.may_resume.then_some((repl.id, repl.offset));
        let diskless = process.conf.seconds("repl-diskless-sync-delay", 5);
        let Reach::Answers(source) = self.reach(ip, self.addresses.get(&master).copied(), master.ip) else {
            return;
        };
        let fresh = ReplId(self.rng.random());
        let now = self.now;
        let Some(served) = self.processes.get_mut(&source).filter(|_| source != pid) else { return };
        // A replica without a link of its own serves nobody.
        if served.repl.master.is_some() && !matches!(served.repl.link, Link::Up(..)) {
            return;
        }
        let diskless = served.conf.seconds("repl-diskless-sync-delay", diskless.as_secs());
        let resumes = asks.is_some_and(|(id, offset)| {
            let known = id == served.repl.id
                || served.repl.former.is_some_and(|(former, until)| id == former && offset <= until);
            let kept = served.repl.backlog.is_some_and(|from| from <= offset && offset <= served.repl.offset);
            known && kept
        });
        if resumes {
            served.repl.syncs.1 += 1;
            let id = served.repl.id;
            if let Some(process) = self.processes.get_mut(&pid) {
                process.repl.id = id;
                let offset = process.repl.offset;
                process.repl.backlog.get_or_insert(offset);
            }
            return self.linked(pid, source);
        }
        served.repl.syncs.0 += 1;
        if served.repl.backlog.is_none() {
            // A backlog from scratch is that of a new stream.
            served.repl.backlog = Some(served.repl.offset);
            served.repl.log.clear();
            if served.repl.master.is_none() {
                served.repl.id = fresh;
                served.repl.former = None;
            }
        }
        self.set_link(pid, Link::Syncing(source, now));
        self.queue.add(now + diskless + COPY, pid, Event::Synced(now));
    }

    /// A copy is complete, if it still comes from somewhere.
    pub(crate) fn synced(&mut self, pid: Pid, since: Duration) {
        let Some(process) = self.processes.get(&pid) else { return };
        let Link::Syncing(source, begun) = process.repl.link else { return };
        if begun != since {
            return;
        }
        let ip = process.address.ip;
        let Some(served) = self.processes.get(&source) else { return };
        if !matches!(self.reach(ip, Some(source), served.address.ip), Reach::Answers(_)) {
            return self.set_link(pid, Link::Down);
        }
        let (keys, id, offset) = (served.keys.clone(), served.repl.id, served.repl.offset);
        let Some(process) = self.processes.get_mut(&pid) else { return };
        process.keys = keys;
        process.repl.id = id;
        process.repl.former = None;
        process.repl.offset = offset;
        process.repl.backlog = Some(offset);
        process.repl.log.clear();
        process.repl.may_resume = true;
        process.dirty = 0;
        process.saved_at = self.now;
        // What came over the wire was a snapshot, and stays one unless nothing is to be kept.
        let keeps = !process.conf.save_points().is_empty()
            || process.conf.is("appendonly")
            || !process.conf.is("rdb-del-sync-files");
        let dump = keeps.then(|| Dump {
            keys: process.keys.clone(),
            position: Some((id, offset)),
            loads_for: Duration::ZERO,
        });
        let files = self.files.entry(process.dir.clone()).or_default();
        if !files.full {
            files.dump = dump;
        }
        self.replicas_lost(pid);
        self.linked(pid, source);
    }

    fn linked(&mut self, pid: Pid, source: Pid) {
        let Some(process) = self.processes.get_mut(&pid) else { return };
        process.repl.link = Link::Up(source, None);
        let address = process.address;
        self.catch_up(source, pid);
        self.replicas_try(address);
        if let Some(cluster) = self.processes.get_mut(&pid).and_then(|process| process.cluster.as_mut()) {
            cluster.todo.manual = true;
            self.settle(pid);
        }
    }

    /// A master was silent for as long as replication waits.
    pub(crate) fn link_lost(&mut self, pid: Pid, since: Duration) {
        let link = self.processes.get(&pid).map(|process| process.repl.link);
        if matches!(link, Some(Link::Up(_, Some(silent))) if silent == since) {
            self.lose_link(pid);
        }
    }

    /// What was written goes to the replicas that follow.
    pub(crate) fn stream(&mut self, pid: Pid) {
        if let Some(process) = self.processes.get_mut(&pid) {
            process.repl.streaming = false;
        }
        for replica in self.replicas(pid) {
            self.catch_up(pid, replica);
        }
    }

    pub(crate) fn stream_soon(&mut self, pid: Pid) {
        let Some(process) = self.processes.get_mut(&pid) else { return };
        if !std::mem::replace(&mut process.repl.streaming, true) {
            self.queue.add(self.now + WIRE, pid, Event::Stream);
        }
    }

    /// A replica takes what it lacks; whether it has all then.
    pub(crate) fn catch_up(&mut self, source: Pid, replica: Pid) -> bool {
        let (Some(master), Some(process)) = (self.processes.get(&source), self.processes.get(&replica))
        else {
            return false;
        };
        let follows = matches!(process.repl.link, Link::Up(of, None) if of == source);
        let reached = self.reach(master.address.ip, Some(replica), process.address.ip);
        if !follows || !matches!(reached, Reach::Answers(_)) || !master.runs() {
            return false;
        }
        let has = process.repl.offset;
        if master.repl.backlog.is_none_or(|from| from > has) {
            self.lose_link(replica);
            return false;
        }
        let lacks: Vec<(u64, Write)> =
            master.repl.log.iter().filter(|(offset, _)| *offset > has).cloned().collect();
        if lacks.is_empty() {
            return true;
        }
        let Some(process) = self.processes.get_mut(&replica) else { return false };
        for (offset, write) in lacks {
            process.change(&write);
            process.repl.keep(offset, write);
        }
        self.changed(replica);
        self.stream_soon(replica);
        let cluster = self.processes.get_mut(&replica).and_then(|process| process.cluster.as_mut());
        if let Some(cluster) = cluster.filter(|cluster| cluster.manual.end.is_some()) {
            cluster.todo.manual = true;
            self.settle(replica);
        }
        true
    }

    /// What a process answered for, it also sent: replicas that follow it get it, though it is killed, and though
    /// they are stopped.
    pub(crate) fn last_words(&mut self, pid: Pid) {
        for replica in self.replicas(pid) {
            let (Some(master), Some(process)) = (self.processes.get(&pid), self.processes.get(&replica))
            else {
                continue;
            };
            let follows = matches!(process.repl.link, Link::Up(of, _) if of == pid);
            let has = process.repl.offset;
            let kept = master.repl.backlog.is_some_and(|from| from <= has);
            if !follows || !kept || self.is_apart(master.address.ip, process.address.ip) {
                continue;
            }
            let lacks: Vec<(u64, Write)> =
                master.repl.log.iter().filter(|(offset, _)| *offset > has).cloned().collect();
            let Some(process) = self.processes.get_mut(&replica) else { continue };
            for (offset, write) in lacks {
                process.change(&write);
                process.repl.keep(offset, write);
            }
            self.changed(replica);
            self.stream_soon(replica);
        }
    }

    /// A master takes a write of so many bytes.
    pub(crate) fn write(&mut self, pid: Pid, write: Write, bytes: u64) {
        let Some(process) = self.processes.get_mut(&pid) else { return };
        process.change(&write);
        if process.repl.backlog.is_some() {
            let offset = process.repl.offset + bytes;
            process.repl.keep(offset, write);
            self.stream_soon(pid);
        }
        self.changed(pid);
    }

    /// Keys of slots that are another's now.
    pub(crate) fn drop_keys(&mut self, pid: Pid, slots: &SlotSet) {
        let Some(process) = self.processes.get(&pid) else { return };
        let gone = process.keys.keys().filter(|key| slots.contains(key_slot(key)));
        for key in gone.cloned().collect::<Vec<_>>() {
            let bytes = key.len() as u64 + 20;
            self.write(pid, Write::Delete(key), bytes);
        }
    }
}
