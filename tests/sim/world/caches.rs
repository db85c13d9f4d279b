//! What can break in the caches of a world: processes that are stopped, hosts that are cut off from each other, disks
//! that are full, files that are damaged; and what a person does about a cluster that has no majority.

use std::time::Duration;

use overlord_api::{Address, Kind, Task, TaskDesired, TaskKind, keys};
use overlord_store::Txn;

use super::{AGENTS, World, agent_ip, agent_name};
use crate::{
    hosts::{ELSEWHERE, Place, Seen},
    pool::Pool,
};

/// What a damaged `nodes.conf` looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Damage {
    Torn,
    Empty,
    Absent,
    Nonsense,
}

impl Damage {
    pub(crate) const ALL: [Self; 4] = [Self::Torn, Self::Empty, Self::Absent, Self::Nonsense];
}

impl World {
    /// SIGSTOP to a server, and SIGCONT after a while: it takes connections and answers nothing. The number chooses
    /// one.
    pub(crate) fn hang_process(&self, number: u32, time: Duration) -> Option<Seen> {
        let mut processes = self.hosts.processes();
        let index = number as usize % processes.len().max(1);
        let seen = (!processes.is_empty()).then(|| processes.swap_remove(index))?;
        self.hang(seen.pid, time).then_some(seen)
    }

    /// The same to a certain one. Whether it ran.
    pub(crate) fn hang(&self, pid: u32, time: Duration) -> bool {
        if !self.hosts.set_stopped(pid, true) {
            return false;
        }
        self.trace.line(format!("process {pid} is stopped for {time:?}"));
        self.users.fault();
        let hosts = self.hosts.clone();
        self.later(time, format!("process {pid} goes on"), move || {
            hosts.set_stopped(pid, false);
        });
        true
    }

    /// The caches of a host are cut off from those of all others, from the controllers and from their users for a
    /// while. Its agent is not.
    pub(crate) fn cut_host_off(&self, number: u8, time: Duration) {
        let host = agent_ip(number);
        let others: Vec<_> = (0..AGENTS).map(agent_ip).chain([ELSEWHERE]).collect();
        self.trace.line(format!("the caches of {} are cut off for {time:?}", agent_name(number)));
        self.hosts.set_cut(host, &others, true);
        self.users.fault();
        let hosts = self.hosts.clone();
        self.later(time, format!("the caches of {} are reached again", agent_name(number)), move || {
            hosts.set_cut(host, &others, false);
        });
    }

    /// The disk of a host is full for a while.
    pub(crate) fn fill_disk(&self, number: u8, time: Duration) {
        let host = agent_ip(number);
        self.trace.line(format!("the disk of {} is full for {time:?}", agent_name(number)));
        self.hosts.set_full(host, true);
        let hosts = self.hosts.clone();
        self.later(time, format!("the disk of {} has room again", agent_name(number)), move || {
            hosts.set_full(host, false);
        });
    }

    /// The `nodes.conf` of a node is damaged, where it lies; redis does not look at it before its next start. The number
    /// chooses one. Whether there was one.
    pub(crate) fn damage_nodes_conf(&self, number: u32, damage: Damage) -> bool {
        let inner = self.hosts.lock();
        let places: Vec<Place> =
            inner.dirs.keys().filter(|place| place.1 == Kind::RedisCluster).copied().collect();
        drop(inner);
        let Some(place) = places.get(number as usize % places.len().max(1)) else { return false };
        self.damage_nodes_conf_at(Address::new(place.0, place.2), damage)
    }

    /// The same of the node at an address.
    pub(crate) fn damage_nodes_conf_at(&self, at: Address, damage: Damage) -> bool {
        let mut inner = self.hosts.lock();
        let place: Place = (at.ip, Kind::RedisCluster, at.port);
        let Some(files) = inner.files(&place) else { return false };
        let Some(text) = files.nodes_conf.clone() else { return false };
        files.nodes_conf = match damage {
            Damage::Torn => Some(text.chars().take(text.chars().count() * 2 / 3).collect()),
            Damage::Empty => Some(String::new()),
            Damage::Absent => None,
            Damage::Nonsense => Some(text.replace("myself", "yourself")),
        };
        drop(inner);
        self.trace.line(format!("nodes.conf of {}:{} is damaged: {damage:?}", place.0, place.2));
        true
    }

    /// A person gives up the nodes of a cluster that do not answer.
    pub(crate) async fn recover(&mut self, name: &'static str) {
        self.trace.line(format!("user orders to recover {name}"));
        self.users.give_up(name);
        self.hosts.allow_take_over(name);
        self.recoveries += 1;
        let task = Task {
            version: 1,
            kind: TaskKind::Recover,
            cluster: Pool::cluster(name),
            params: std::collections::BTreeMap::new(),
            requested_by: "somebody".to_owned(),
            requested_at: None,
            desired: TaskDesired::Run,
        };
        let text = serde_json::to_string(&task).unwrap_or_default();
        let id = format!("{name}-recover-{}", self.recoveries);
        self.put(Txn::unfenced().put(keys::task(&id), text)).await;
    }
}
