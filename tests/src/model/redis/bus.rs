//! The bus: pings with their answers, other packets, and what a node has to do after it heard something.

use std::time::Duration;

use overlord_engines::cluster::{Flag, NodeId};

use super::{
    Pid, Redises,
    cluster::{
        Standing,
        packet::{Body, Packet, Via},
    },
    network::Reach,
    process::Link,
    queue::Event,
};

/// The tick of a node's cron: reconnecting, noticing.
const CRON: Duration = Duration::from_millis(100);

/// One node is pinged a second, at random, so that all hear of a change within about that.
const SPREAD: Duration = Duration::from_secs(1);

/// The random part of the delay of an election.
const ELECTION_JITTER: Duration = Duration::from_millis(500);

impl Redises {
    /// A ping and its answer.
    pub(crate) fn exchange(&mut self, pid: Pid, id: &NodeId) {
        let Some(process) = self.processes.get_mut(&pid).filter(|process| process.runs()) else { return };
        let (ip, offset) = (process.address.ip, process.repl.offset);
        let Some(cluster) = &mut process.cluster else { return };
        cluster.offset = offset;
        let (header, rumours) = (cluster.header(), cluster.rumours());
        let Some(peer) = cluster.others.get_mut(id) else { return };
        let Some(bus) = peer.place.bus() else { return };
        let body =
            if peer.has(Flag::Handshake) && peer.meet { Body::Meet(rumours) } else { Body::Ping(rumours) };
        let target = match self.reach(ip, self.buses.get(&bus).copied(), bus.ip) {
            Reach::Answers(target) => target,
            reach => return self.went_silent(pid, *id, reach == Reach::Silent),
        };
        self.hand(target, Via::Theirs, &Packet { header, body });
        self.settle(target);
        let Some(process) = self.processes.get_mut(&target) else { return };
        let offset = process.repl.offset;
        let Some(cluster) = &mut process.cluster else { return };
        cluster.offset = offset;
        let answer = Packet { header: cluster.header(), body: Body::Pong(cluster.rumours()) };
        self.hand(pid, Via::Ours(*id), &answer);
        self.settle(pid);
    }

    fn hand(&mut self, pid: Pid, via: Via, packet: &Packet) {
        let now = self.now;
        if let Some(cluster) = self.processes.get_mut(&pid).and_then(|process| process.cluster.as_mut()) {
            cluster.receive(now, via, packet);
        }
    }

    /// Packets that are under way, and those that they lead to.
    pub(crate) fn deliver(&mut self) {
        while let Some((from, to, packet)) = self.mail.pop_front() {
            let Some(process) = self.processes.get(&from) else { continue };
            let peer = process.cluster.as_ref().and_then(|cluster| cluster.others.get(&to));
            let Some(bus) = peer.and_then(|peer| peer.place.bus()) else { continue };
            if let Reach::Answers(target) =
                self.reach(process.address.ip, self.buses.get(&bus).copied(), bus.ip)
            {
                self.hand(target, Via::Theirs, &packet);
                self.settle(target);
            }
        }
    }

    /// A node does what it has to do.
    pub(crate) fn settle(&mut self, pid: Pid) {
        let now = self.now;
        loop {
            let Some(process) = self.processes.get_mut(&pid) else { return };
            let offset = process.repl.offset;
            let Some(cluster) = &mut process.cluster else { return };
            cluster.offset = offset;
            let todo = std::mem::take(&mut cluster.todo);
            let spread = SPREAD.min(cluster.settings.node_timeout / 2);
            let others: Vec<NodeId> =
                if todo.tell { cluster.others.keys().copied().collect() } else { Vec::new() };
            let mut busy = todo.manual || todo.failover || todo.state || todo.save;
            if todo.unfollow {
                self.unfollow(pid);
            }
            if let Some(master) = todo.follow {
                self.follow(pid, master);
            }
            if !todo.drop_keys.is_empty() {
                self.drop_keys(pid, &todo.drop_keys);
            }
            self.mail.extend(todo.mail.into_iter().map(|(to, packet)| (pid, to, packet)));
            for (at, event) in todo.timers {
                self.queue.add(at, pid, event);
            }
            for id in todo.ping {
                self.ping_soon(pid, id);
            }
            for id in others {
                let delay = self.within(spread);
                self.plan(pid, id, now + delay);
            }
            let standing = todo.failover.then(|| self.standing(pid));
            if let Some(cluster) = self.processes.get_mut(&pid).and_then(|process| process.cluster.as_mut()) {
                if todo.manual {
                    cluster.handle_manual();
                }
                if let Some(standing) = standing {
                    cluster.handle_failover(now, standing);
                }
                if todo.state {
                    cluster.update_state(now);
                }
                busy |= cluster.todo.unfollow || cluster.todo.follow.is_some();
            }
            if todo.save {
                self.save_nodes(pid);
            }
            if !busy {
                return;
            }
        }
    }

    /// What a replica has, for an election.
    fn standing(&mut self, pid: Pid) -> Standing {
        let jitter = self.within(ELECTION_JITTER);
        let nobody = Standing { data_age: None, rank: 0, jitter };
        let Some(process) = self.processes.get(&pid) else { return nobody };
        let data_age = match process.repl.link {
            Link::Up(_, quiet) => Some(quiet.map_or(Duration::ZERO, |since| self.now.saturating_sub(since))),
            Link::Down | Link::Syncing(..) => {
                process.repl.down_since.map(|since| self.now.saturating_sub(since))
            }
        };
        let Some(master) = process.cluster.as_ref().and_then(|cluster| cluster.me.master) else {
            return nobody;
        };
        let ahead = self.processes.values().filter(|other| {
            let same = other.cluster.as_ref().is_some_and(|cluster| {
                cluster.me.master == Some(master) && cluster.me.is_replica() && !cluster.settings.no_failover
            });
            let reached = self.reach(process.address.ip, Some(other.pid), other.address.ip);
            same && other.repl.offset > process.repl.offset && matches!(reached, Reach::Answers(_))
        });
        Standing { data_age, rank: u32::try_from(ahead.count()).unwrap_or(u32::MAX), jitter }
    }

    /// A ping is sent then, unless one is sent before.
    fn plan(&mut self, pid: Pid, id: NodeId, at: Duration) {
        let cluster = self.processes.get_mut(&pid).and_then(|process| process.cluster.as_mut());
        let Some(peer) = cluster.and_then(|cluster| cluster.others.get_mut(&id)) else { return };
        if peer.planned.is_some_and(|planned| planned <= at) || peer.place.ip.is_none() {
            return;
        }
        peer.planned = Some(at);
        self.queue.add(at, pid, Event::Ping(id, at));
    }

    /// A ping is sent with the next tick.
    pub(crate) fn ping_soon(&mut self, pid: Pid, id: NodeId) {
        let delay = self.within(CRON);
        self.plan(pid, id, self.now + delay);
    }

    /// All that a node knows get a ping with the next tick.
    pub(crate) fn ping_all(&mut self, pid: Pid) {
        let cluster = self.processes.get(&pid).and_then(|process| process.cluster.as_ref());
        let ids: Vec<NodeId> =
            cluster.into_iter().flat_map(|cluster| cluster.others.keys().copied()).collect();
        for id in ids {
            self.ping_soon(pid, id);
        }
    }

    /// A node no longer answers another: it takes connections still, or does not.
    pub(crate) fn went_silent(&mut self, pid: Pid, id: NodeId, takes_connections: bool) {
        let now = self.now;
        let timeout = self.node_timeout(pid);
        // A ping was to come by half of the timeout at the latest; a closed connection is noticed at once.
        let late = self.within(if takes_connections { timeout / 2 } else { CRON });
        if let Some(cluster) = self.processes.get_mut(&pid).and_then(|process| process.cluster.as_mut()) {
            cluster.unanswered(now, &id, takes_connections, late);
        }
        self.settle(pid);
    }

    fn node_timeout(&self, pid: Pid) -> Duration {
        let cluster = self.processes.get(&pid).and_then(|process| process.cluster.as_ref());
        cluster.map_or(Duration::ZERO, |cluster| cluster.settings.node_timeout)
    }

    /// Who has this process in its table, and by which id.
    pub(crate) fn acquainted(&self, pid: Pid) -> Vec<(Pid, NodeId)> {
        let Some(bus) = self.processes.get(&pid).and_then(|process| process.bus) else { return Vec::new() };
        let others = self.processes.values().filter(|other| other.pid != pid);
        let known = others.flat_map(|other| {
            let peers = other.cluster.iter().flat_map(|cluster| cluster.others.values());
            peers.filter(|peer| peer.place.bus() == Some(bus)).map(|peer| (other.pid, peer.id))
        });
        known.collect()
    }

    pub(crate) fn save_nodes(&mut self, pid: Pid) {
        let Some(process) = self.processes.get(&pid) else { return };
        let Some(text) = process.cluster.as_ref().map(super::cluster::Cluster::save) else { return };
        let files = self.files.entry(process.dir.clone()).or_default();
        if files.full {
            // Fatal: can't update cluster config file.
            self.end(pid);
        } else {
            files.nodes_conf = Some(text);
        }
    }
}
