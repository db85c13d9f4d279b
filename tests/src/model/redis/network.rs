//! Who reaches whom: machines that are cut off from each other, or from everybody.

use std::{net::IpAddr, time::Duration};

use overlord_api::Address;
use overlord_engines::cluster::NodeId;

use super::{Pid, Redises, process::Link, queue::Event};

/// What comes of it when a process calls another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    Answers(Pid),
    /// It takes the connection at most.
    Silent,
    Refused,
}

impl Redises {
    /// Cuts two machines off from each other, or joins them again. Clients are not concerned.
    pub fn cut(&mut self, now: Duration, a: IpAddr, b: IpAddr, cut: bool) {
        self.advance(now);
        let pair = (a.min(b), a.max(b));
        if cut && a != b {
            self.cuts.insert(pair);
        } else {
            self.cuts.remove(&pair);
        }
        self.network_changed();
    }

    /// Cuts a machine off from all others and from all clients, or joins it again.
    pub fn isolate(&mut self, now: Duration, ip: IpAddr, isolated: bool) {
        self.advance(now);
        if isolated {
            self.isolated.insert(ip);
        } else {
            self.isolated.remove(&ip);
        }
        self.network_changed();
    }

    /// Looks at every pair anew, in the order of processes and ids.
    fn network_changed(&mut self) {
        let mut pairs: Vec<(Pid, NodeId, Address, bool)> = Vec::new();
        for process in self.processes.values() {
            let peers = process.cluster.iter().flat_map(|cluster| cluster.others.values());
            pairs.extend(peers.filter_map(|peer| {
                Some((process.pid, peer.id, peer.place.bus()?, peer.silent_since.is_some()))
            }));
        }
        for (pid, id, bus, silent) in pairs {
            let Some(ip) = self.processes.get(&pid).map(|process| process.address.ip) else { continue };
            match (self.reach(ip, self.buses.get(&bus).copied(), bus.ip), silent) {
                (Reach::Answers(_), true) => self.ping_soon(pid, id),
                (Reach::Silent, false) => self.went_silent(pid, id, true),
                _ => {}
            }
        }
        let pids: Vec<Pid> = self.processes.keys().copied().collect();
        for pid in pids {
            self.link_changed(pid);
        }
    }

    /// A replica's link, after the network or its master has changed.
    pub(crate) fn link_changed(&mut self, pid: Pid) {
        let Some(process) = self.processes.get(&pid).filter(|process| process.repl.master.is_some()) else {
            return;
        };
        let (ip, link) = (process.address.ip, process.repl.link);
        let timeout = process.conf.seconds("repl-timeout", 60);
        let answers = |master: Pid| {
            let of = self.processes.get(&master).map_or(ip, |master| master.address.ip);
            matches!(self.reach(ip, Some(master), of), Reach::Answers(_))
        };
        match link {
            Link::Down => self.soon(pid, Event::Link),
            Link::Up(master, None) if !answers(master) => {
                self.set_link(pid, Link::Up(master, Some(self.now)));
                self.queue.add(self.now + timeout, pid, Event::LinkLost(self.now));
            }
            Link::Up(master, Some(_)) if answers(master) => {
                self.set_link(pid, Link::Up(master, None));
                self.stream_soon(master);
            }
            Link::Up(..) | Link::Syncing(..) => {}
        }
    }

    /// What comes of a call from one machine to a process on another.
    pub(crate) fn reach(&self, from: IpAddr, to: Option<Pid>, at: IpAddr) -> Reach {
        if self.is_apart(from, at) {
            return Reach::Silent;
        }
        match to.and_then(|pid| self.processes.get(&pid)) {
            None => Reach::Refused,
            Some(process) if process.runs() => Reach::Answers(process.pid),
            Some(_) => Reach::Silent,
        }
    }

    /// Whether nothing gets from one machine to the other.
    pub(crate) fn is_apart(&self, a: IpAddr, b: IpAddr) -> bool {
        a != b
            && (self.isolated.contains(&a)
                || self.isolated.contains(&b)
                || self.cuts.contains(&(a.min(b), a.max(b))))
    }
}
