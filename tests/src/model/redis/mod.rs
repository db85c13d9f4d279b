//! A model of redis-server 7.0.15, alone and in a cluster: pure, deterministic, in virtual time. What redis does by
//! ticking (pings, retries) happens here when something has changed, so that a quiet world has no events at all.
//!
//! Not in it: data types other than strings, expiry, transactions, scripts, slots on the move, replica migration by
//! the cron (Overlord's configuration switches it off), and the pings that make offsets grow by themselves.

mod bus;
pub(crate) mod cluster;
mod commands;
mod conf;
mod life;
mod network;
mod persist;
mod process;
mod queue;
mod replication;
mod resp;
#[cfg(test)]
mod tests;
mod types;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::IpAddr,
    time::Duration,
};

use overlord_api::Address;
use overlord_engines::cluster::{NodeId, Role};
use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};

use cluster::packet::Packet;
use process::{Link, Process};
use queue::{Event, Queue};
pub use types::{
    ClientId, DirId, Dump, Files, Keys, LinkView, NoConnection, NodeView, Outcome, Pid, ProcessView, ReplId,
};

/// All redis processes of a world, and their working directories.
///
/// Every call that has a `now` first lets everything happen that is due by then; it never goes back.
#[derive(Debug)]
pub struct Redises {
    rng: SmallRng,
    now: Duration,
    last_pid: u32,
    last_client: u64,
    processes: BTreeMap<Pid, Process>,
    files: BTreeMap<DirId, Files>,
    addresses: BTreeMap<Address, Pid>,
    buses: BTreeMap<Address, Pid>,
    clients: BTreeMap<ClientId, Pid>,
    cuts: BTreeSet<(IpAddr, IpAddr)>,
    isolated: BTreeSet<IpAddr>,
    queue: Queue,
    mail: VecDeque<(Pid, NodeId, Packet)>,
}

impl Redises {
    /// A world without processes.
    pub fn new(seed: u64) -> Self {
        Self {
            rng: SmallRng::seed_from_u64(seed),
            now: Duration::ZERO,
            last_pid: 1000,
            last_client: 2,
            processes: BTreeMap::new(),
            files: BTreeMap::new(),
            addresses: BTreeMap::new(),
            buses: BTreeMap::new(),
            clients: BTreeMap::new(),
            cuts: BTreeSet::new(),
            isolated: BTreeSet::new(),
            queue: Queue::default(),
            mail: VecDeque::new(),
        }
    }

    /// What lies in a directory. It survives the process, and may be changed behind its back.
    pub fn files(&mut self, dir: &DirId) -> &mut Files {
        self.flush_log(dir);
        self.files.entry(dir.clone()).or_default()
    }

    /// A directory is moved to another name: what was there is replaced.
    pub fn move_files(&mut self, from: &DirId, to: &DirId) {
        self.flush_log(from);
        if let Some(files) = self.files.remove(from) {
            self.files.insert(to.clone(), files);
        }
    }

    /// A directory is deleted.
    pub fn remove_files(&mut self, dir: &DirId) {
        self.files.remove(dir);
    }

    /// Lets everything happen that is due by then.
    pub fn advance(&mut self, now: Duration) {
        while let Some((at, pid, event)) = self.queue.take(now) {
            self.now = self.now.max(at);
            self.happen(pid, event);
            self.deliver();
        }
        self.now = self.now.max(now);
    }

    /// When the next thing happens by itself; none in a quiet world.
    pub fn next_event(&self) -> Option<Duration> {
        self.queue.next()
    }

    /// Everything that runs, for oracles.
    pub fn processes(&self) -> impl Iterator<Item = ProcessView<'_>> {
        self.processes.values().map(view)
    }

    /// One process.
    pub fn process(&self, pid: Pid) -> Option<ProcessView<'_>> {
        self.processes.get(&pid).map(view)
    }

    /// Who listens there.
    pub fn listener(&self, address: Address) -> Option<Pid> {
        self.addresses.get(&address).copied()
    }

    fn happen(&mut self, pid: Pid, event: Event) {
        let now = self.now;
        let Some(process) = self.processes.get_mut(&pid) else { return };
        if process.paused {
            process.held.push(event);
            return;
        }
        match event {
            Event::Begin => self.begin(pid),
            Event::Link => self.try_link(pid),
            Event::Synced(since) => self.synced(pid, since),
            Event::LinkLost(since) => self.link_lost(pid, since),
            Event::Stream => self.stream(pid),
            Event::Loaded => self.loaded(pid),
            Event::SavePoint => self.save_point(pid),
            Event::Ping(..)
            | Event::Suspect(..)
            | Event::Restore(_)
            | Event::State
            | Event::Election
            | Event::Manual
            | Event::Handshake(_)
            | Event::BanOver(_) => {
                let Some(cluster) = &mut process.cluster else { return };
                match event {
                    Event::Ping(id, at) => {
                        if cluster
                            .others
                            .get_mut(&id)
                            .is_some_and(|peer| peer.planned.take_if(|p| *p == at).is_some())
                        {
                            self.exchange(pid, &id);
                        }
                    }
                    Event::Suspect(id, since) => cluster.suspect(now, &id, since),
                    Event::Restore(id) => cluster.restore(now, &id),
                    Event::State => cluster.todo.state = true,
                    Event::Election => cluster.todo.failover = true,
                    Event::Manual => cluster.manual_over(now),
                    Event::Handshake(id) => cluster.handshake_over(&id),
                    // Its peers speak of it, and it listens again.
                    _ => cluster.todo.tell = true,
                }
                self.settle(pid);
            }
        }
    }

    /// Up to that long, by chance.
    fn within(&mut self, limit: Duration) -> Duration {
        let limit = u64::try_from(limit.as_micros()).unwrap_or(u64::MAX).max(1);
        Duration::from_micros(self.rng.random_range(1..=limit))
    }
}

fn view(process: &Process) -> ProcessView<'_> {
    let node = process.cluster.as_ref().map(|cluster| NodeView {
        id: cluster.me.id,
        replica_of: cluster.me.master,
        is_master: cluster.me.flags.role() == Some(Role::Master),
        slots: &cluster.me.slots,
        config_epoch: cluster.me.config_epoch,
        current_epoch: cluster.current_epoch,
        ok: cluster.ok,
        knows: cluster.all().map(|peer| peer.id).collect(),
    });
    ProcessView {
        pid: process.pid,
        dir: &process.dir,
        address: process.address,
        paused: process.paused,
        loading: process.loading,
        keys: &process.keys,
        offset: process.repl.offset,
        link: match process.repl.link {
            _ if process.repl.master.is_none() => LinkView::None,
            Link::Down => LinkView::Down,
            Link::Syncing(..) => LinkView::Syncing,
            Link::Up(..) => LinkView::Up,
        },
        node,
    }
}
