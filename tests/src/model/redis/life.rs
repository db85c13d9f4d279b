//! Processes begin, end, are stopped and go on.

use std::{collections::VecDeque, time::Duration};

use overlord_api::Address;
use overlord_engines::cluster::{NodeId, key_slot};
use rand::Rng as _;

use super::{
    DirId, Pid, Redises, ReplId,
    cluster::{Cluster, Settings, peer::Place},
    conf::Conf,
    network::Reach,
    process::{Link, Process, Repl},
    queue::Event,
};

/// A node's cron runs for the first time.
const FIRST_TICK: Duration = Duration::from_millis(100);

impl Redises {
    /// Starts redis-server in a directory, with the text of its configuration. What lies in the directory is read
    /// as redis reads it.
    ///
    /// # Errors
    /// The last words on its console, when it does not come up.
    pub fn start(&mut self, now: Duration, dir: &DirId, conf: &str) -> Result<Pid, String> {
        self.advance(now);
        let conf = Conf::parse(conf)?;
        let address = conf.address()?;
        let is_cluster = conf.is("cluster-enabled");
        let bus_port = if is_cluster { conf.bus_port(address.port) } else { None };
        let bus = bus_port.map(|port| Address::new(address.ip, port));
        for port in std::iter::once(address).chain(bus) {
            if self.addresses.contains_key(&port) || self.buses.contains_key(&port) {
                return Err(format!(
                    "Could not create server TCP listening socket {}:{}: bind: Address already in use",
                    port.ip, port.port
                ));
            }
        }
        if is_cluster && self.processes.values().any(|other| other.dir == *dir) {
            return Err("Sorry, the cluster configuration file nodes.conf is already used by a different Redis \
                        Cluster node. Please make sure that different nodes use different cluster configuration files."
                .to_owned());
        }
        let cluster = match bus_port {
            Some(bus_port) => Some(self.node(dir, &conf, Place::new(address, bus_port))?),
            None => None,
        };
        self.last_pid += 1;
        let pid = Pid(self.last_pid);
        let mut process = Process {
            pid,
            dir: dir.clone(),
            address,
            bus,
            conf,
            started: self.now,
            paused: false,
            loading: false,
            keys: super::Keys::new(),
            repl: Repl::new(ReplId(self.rng.random())),
            dirty: 0,
            saved_at: self.now,
            save_due: None,
            save_failed: false,
            clients: std::collections::BTreeMap::new(),
            cluster,
            held: Vec::new(),
            unread: VecDeque::new(),
        };
        let loads_for = self.load(&mut process);
        process.loading = loads_for > Duration::ZERO;
        self.addresses.insert(address, pid);
        self.buses.extend(bus.map(|bus| (bus, pid)));
        let loading = process.loading;
        self.processes.insert(pid, process);
        if loading {
            self.queue.add(self.now + loads_for, pid, Event::Loaded);
        } else {
            self.loaded(pid);
        }
        self.deliver();
        Ok(pid)
    }

    /// The node of a directory, or a new one.
    fn node(&mut self, dir: &DirId, conf: &Conf, place: Place) -> Result<Cluster, String> {
        let settings = settings(conf);
        let now = self.now;
        let files = self.files.entry(dir.clone()).or_default();
        let cluster = if let Some(text) = files.nodes_conf.as_deref().filter(|text| !text.is_empty()) {
            Cluster::load(text, place, settings, now)?
        } else {
            let id = NodeId::derive(&format!("{:x}", self.rng.random::<u64>()), self.last_pid, 0);
            Cluster::new(id, place, settings)
        };
        if files.full {
            return Err("Fatal: can't update cluster config file.".to_owned());
        }
        files.nodes_conf = Some(cluster.save());
        Ok(cluster)
    }

    /// Its data is read: it serves, and its bus too.
    pub(crate) fn loaded(&mut self, pid: Pid) {
        let now = self.now;
        let Some(process) = self.processes.get_mut(&pid) else { return };
        process.loading = false;
        process.saved_at = now;
        let address = process.address;
        if let Some(cluster) = &mut process.cluster {
            if cluster.me.is_master() {
                // Keys in slots of nobody are reason enough to own them.
                for key in process.keys.keys() {
                    let slot = key_slot(key);
                    if cluster.owner(slot).is_none() {
                        cluster.me.slots.insert(slot..=slot);
                        cluster.todo.save = true;
                    }
                }
            }
            self.queue.add(now + FIRST_TICK, pid, Event::State);
            self.queue.add(now + FIRST_TICK, pid, Event::Begin);
            self.ping_all(pid);
            self.settle(pid);
        }
        self.awake(pid);
        self.replicas_try(address);
    }

    /// Others notice that a process answers.
    fn awake(&mut self, pid: Pid) {
        for (other, id) in self.acquainted(pid) {
            self.ping_soon(other, id);
        }
    }

    /// Ends a process: with SIGTERM, so that it writes what it promises, or with SIGKILL. One that is stopped takes
    /// SIGTERM when it goes on.
    pub fn kill(&mut self, now: Duration, pid: Pid, graceful: bool) {
        self.advance(now);
        let Some(process) = self.processes.get_mut(&pid) else { return };
        if graceful && process.paused {
            process.unread.push_front((super::ClientId(0), vec![b"SHUTDOWN".to_vec()]));
            return;
        }
        if graceful {
            self.shut_down(pid, None);
        } else {
            self.end(pid);
        }
        self.deliver();
    }

    /// It is gone, and everybody connected to it notices.
    pub(crate) fn end(&mut self, pid: Pid) {
        let Some(dir) = self.processes.get(&pid).map(|process| process.dir.clone()) else { return };
        self.flush_log(&dir);
        self.last_words(pid);
        let known = self.acquainted(pid);
        let Some(process) = self.processes.remove(&pid) else { return };
        self.queue.forget(pid);
        self.addresses.remove(&process.address);
        if let Some(bus) = process.bus {
            self.buses.remove(&bus);
        }
        for client in process.clients.keys() {
            self.clients.remove(client);
        }
        self.replicas_lost(pid);
        for (other, id) in known {
            let ip = self.processes.get(&other).map_or(process.address.ip, |other| other.address.ip);
            // Over a cut wire nothing is noticed.
            let cut = self.reach(ip, None, process.address.ip) == Reach::Silent;
            self.went_silent(other, id, cut);
        }
    }

    /// SIGSTOP: it takes connections and commands, and does nothing.
    pub fn pause(&mut self, now: Duration, pid: Pid) {
        self.advance(now);
        let Some(process) = self.processes.get_mut(&pid).filter(|process| !process.paused) else { return };
        process.paused = true;
        for (other, id) in self.acquainted(pid) {
            self.went_silent(other, id, true);
        }
        for replica in self.replicas(pid) {
            self.link_changed(replica);
        }
        self.deliver();
    }

    /// SIGCONT.
    pub fn resume(&mut self, now: Duration, pid: Pid) {
        self.advance(now);
        let Some(process) = self.processes.get_mut(&pid).filter(|process| process.paused) else { return };
        process.paused = false;
        let (address, now) = (process.address, self.now);
        // Time that passed meanwhile is no reason to suspect anybody.
        let held = std::mem::take(&mut process.held);
        for event in held {
            self.queue.add(now, pid, event);
        }
        if let Some(cluster) = self.processes.get_mut(&pid).and_then(|process| process.cluster.as_mut()) {
            let silent = cluster.others.values_mut().filter(|peer| peer.silent_since.is_some());
            silent.for_each(|peer| peer.silent_since = None);
            cluster.todo.state = true;
        }
        self.ping_all(pid);
        self.awake(pid);
        self.link_changed(pid);
        let source = self.processes.get(&pid).and_then(|process| process.repl.source());
        for replica in self.replicas(pid) {
            self.link_changed(replica);
        }
        if let Some(master) = source {
            self.stream_soon(master);
        }
        self.stream_soon(pid);
        self.replicas_try(address);
        let unread = self.processes.get_mut(&pid).map(|process| std::mem::take(&mut process.unread));
        for (client, words) in unread.into_iter().flatten() {
            let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
            self.carry_out(pid, client, &words);
        }
        self.settle(pid);
        self.deliver();
    }

    /// Processes that copy this one, or try to.
    pub(crate) fn replicas(&self, pid: Pid) -> Vec<Pid> {
        let of = |process: &&Process| process.repl.source() == Some(pid);
        self.processes.values().filter(of).map(|process| process.pid).collect()
    }

    /// Connections of replicas to a process are closed.
    pub(crate) fn replicas_lost(&mut self, pid: Pid) {
        for replica in self.replicas(pid) {
            self.lose_link(replica);
        }
    }

    pub(crate) fn lose_link(&mut self, pid: Pid) {
        let now = self.now;
        let Some(process) = self.processes.get_mut(&pid) else { return };
        if matches!(process.repl.link, Link::Up(..)) {
            process.repl.down_since = Some(now);
        }
        process.repl.link = Link::Down;
        // It tries again at once. When nobody is there any more, whoever comes wakes it.
        if process.repl.master.is_some_and(|master| self.addresses.contains_key(&master)) {
            self.soon(pid, Event::Link);
        }
    }
}

/// What of a configuration the cluster goes by.
pub(crate) fn settings(conf: &Conf) -> Settings {
    Settings {
        node_timeout: conf.millis("cluster-node-timeout", 15_000),
        validity_factor: conf
            .number("cluster-replica-validity-factor")
            .and_then(|factor| u32::try_from(factor).ok())
            .unwrap_or(10),
        full_coverage: conf.is("cluster-require-full-coverage"),
        no_failover: conf.is("cluster-replica-no-failover"),
        replica_migration: conf.is("cluster-allow-replica-migration"),
        ping_period: conf.seconds("repl-ping-replica-period", 10),
    }
}
