//! Users of the simulated clusters: they write, note what was acknowledged by a master and all its replicas, and in
//! the end look for it. What redis may lose by itself is told apart from what only our acts can lose: a write is
//! excused from the moment when faults alone left no reachable process that held it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use overlord_api::Address;
use overlord_engines::cluster::key_slot;
use overlord_tests::model::redis::Keys;
use tokio::{sync::Notify, time::sleep};

use crate::{
    hosts::{Client, ELSEWHERE, Hosts, Served},
    pool::Pool,
};

/// Keys of one cluster that are written again and again.
const KEYS: u64 = 64;

/// Keys written at once.
const AT_ONCE: u64 = 4;

/// The pauses between writes: short after something happened, long in quiet hours.
const SOON: Duration = Duration::from_millis(300);
const LATE: Duration = Duration::from_secs(1200);

/// How often a client follows where it is sent.
const HOPS: u32 = 4;

/// What is known of one key.
#[derive(Debug, Clone, Copy, Default)]
struct Noted {
    /// The number that a master and all its replicas acknowledged.
    acknowledged: u64,
    /// Faults alone may have lost it.
    excused: bool,
}

/// The users of one world; clones share them.
#[derive(Clone)]
pub(crate) struct Users {
    hosts: Hosts,
    shared: Arc<Mutex<Shared>>,
    poked: Arc<Notify>,
}

#[derive(Default)]
struct Shared {
    /// Clusters that are used, with their replicas, and what was noted of their keys.
    clusters: BTreeMap<&'static str, (u32, BTreeMap<Vec<u8>, Noted>)>,
    written: u64,
}

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Users")
    }
}

fn number(keys: &Keys, key: &[u8]) -> u64 {
    keys.get(key).and_then(|value| std::str::from_utf8(value).ok()?.parse().ok()).unwrap_or(0)
}

fn loss(cluster: &str, key: &[u8], acknowledged: u64, has: u64) -> String {
    let key = String::from_utf8_lossy(key);
    format!(
        "data that reached a replica was lost by our act: {cluster} acknowledged {key} = {acknowledged}, has {has}"
    )
}

impl Users {
    pub(crate) fn new(hosts: &Hosts) -> Self {
        let users = Self { hosts: hosts.clone(), shared: Arc::default(), poked: Arc::default() };
        hosts.net.spawn(users.clone().live());
        users
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A cluster is used from now on.
    pub(crate) fn use_cluster(&self, pool: &Pool) {
        self.lock().clusters.entry(pool.name).or_default().0 = pool.replicas;
        self.poke();
    }

    /// A cluster is deleted.
    pub(crate) fn leave_cluster(&self, name: &str) {
        self.lock().clusters.remove(name);
    }

    /// A person gave up what does not answer: it may be lost.
    pub(crate) fn give_up(&self, name: &str) {
        if let Some((_, noted)) = self.lock().clusters.get_mut(name) {
            for noted in noted.values_mut() {
                noted.excused = true;
            }
        }
    }

    /// Something happens: users who write just now are interesting.
    pub(crate) fn poke(&self) {
        self.poked.notify_one();
    }

    async fn live(self) {
        let mut pause = SOON;
        loop {
            tokio::select! {
                biased;
                () = self.poked.notified() => pause = SOON,
                () = sleep(pause) => {
                    self.write().await;
                    pause = (pause * 2).min(LATE);
                }
            }
        }
    }

    /// Writes some keys of each cluster.
    pub(crate) async fn write(&self) {
        let clusters: Vec<(&'static str, u32)> =
            self.lock().clusters.iter().map(|(name, (replicas, _))| (*name, *replicas)).collect();
        for (cluster, replicas) in clusters {
            let mut sent: Vec<(Vec<u8>, u64, Client, u64)> = Vec::new();
            for _ in 0..AT_ONCE {
                let number = {
                    let mut shared = self.lock();
                    shared.written += 1;
                    shared.written
                };
                let key = format!("k{}", self.hosts.net.below(KEYS)).into_bytes();
                if let Some((client, had)) = self.set(cluster, &key, number) {
                    sent.push((key, number, client, had));
                }
            }
            // As long as it takes a replica to say what it has.
            sleep(Duration::from_millis(50)).await;
            for (key, number, client, had) in sent {
                if replicas > 0 && self.acknowledged(&client, replicas) {
                    let mut shared = self.lock();
                    if let Some((_, noted)) = shared.clusters.get_mut(cluster) {
                        let now = Noted { acknowledged: number, excused: false };
                        // A loss that is written over is one all the same.
                        let before = noted.insert(key.clone(), now).unwrap_or_default();
                        if !before.excused && had < before.acknowledged {
                            let text = loss(cluster, &key, before.acknowledged, had);
                            self.hosts.trace.violation(text);
                        }
                    }
                }
                self.hosts.hang_up(&client);
            }
        }
    }

    /// Asks some node to take a write, and follows where it is sent. The connection on which it was taken, and what
    /// was there before.
    fn set(&self, cluster: &str, key: &[u8], new: u64) -> Option<(Client, u64)> {
        let nodes: Vec<Address> = {
            let processes = self.hosts.processes();
            let own = processes
                .into_iter()
                .filter(|seen| seen.serving && seen.instance.cluster.as_str() == cluster);
            own.map(|seen| seen.instance.address).collect()
        };
        let first = self.hosts.net.below(nodes.len() as u64);
        let mut at = *nodes.get(usize::try_from(first).ok()?)?;
        for _ in 0..HOPS {
            let client = self.hosts.open(ELSEWHERE, at).ok()?;
            let value = new.to_string().into_bytes();
            let had = self.hosts.keys_behind(&client).map_or(0, |keys| number(&keys, key));
            match self.hosts.serve(&client, &[b"SET".to_vec(), key.to_vec(), value]) {
                Served::Answer(answer) if answer.starts_with(b"+OK") => return Some((client, had)),
                Served::Answer(answer) => {
                    self.hosts.hang_up(&client);
                    let text = String::from_utf8_lossy(&answer).into_owned();
                    at = text.strip_prefix("-MOVED ")?.split_whitespace().nth(1)?.parse().ok()?;
                }
                Served::Nothing | Served::Closed => {
                    self.hosts.hang_up(&client);
                    return None;
                }
            }
        }
        None
    }

    fn acknowledged(&self, client: &Client, replicas: u32) -> bool {
        let wait = [b"WAIT".to_vec(), replicas.to_string().into_bytes(), b"1".to_vec()];
        match self.hosts.serve(client, &wait) {
            Served::Answer(answer) => {
                let said = String::from_utf8_lossy(&answer).into_owned();
                let said: u32 = said.trim().strip_prefix(':').and_then(|n| n.parse().ok()).unwrap_or(0);
                said >= replicas
            }
            Served::Nothing | Served::Closed => false,
        }
    }

    /// A fault took a process out, or a host: what nobody reachable holds any more is excused.
    pub(crate) fn fault(&self) {
        let holders = self.holders();
        for (cluster, (_, noted)) in &mut self.lock().clusters {
            for (key, noted) in noted.iter_mut().filter(|(_, noted)| !noted.excused) {
                let held =
                    holders.iter().any(|(of, has)| of == cluster && number(has, key) >= noted.acknowledged);
                noted.excused = !held;
            }
        }
        self.poke();
    }

    /// What each process holds that runs, is not stopped and is reached, with its cluster.
    fn holders(&self) -> Vec<(String, Keys)> {
        let inner = self.hosts.lock();
        let views = inner.redis.processes();
        let reached = views.filter_map(|view| {
            let process = inner.processes.get(&view.pid.0)?;
            let there = !process.stopped && !crate::hosts::is_cut(&inner, ELSEWHERE, view.address.ip);
            there.then(|| (process.instance.cluster.to_string(), view.keys.clone()))
        });
        reached.collect()
    }

    /// All that was acknowledged is there, where its slot is served.
    pub(crate) fn lost(&self) -> Vec<String> {
        let inner = self.hosts.lock();
        let mut lost = Vec::new();
        for (cluster, (_, noted)) in &self.lock().clusters {
            let views: Vec<_> = inner.redis.processes().collect();
            let own: BTreeSet<u32> = inner
                .processes
                .iter()
                .filter(|(_, process)| process.instance.cluster.as_str() == *cluster)
                .map(|(pid, _)| *pid)
                .collect();
            for (key, noted) in noted.iter().filter(|(_, noted)| !noted.excused) {
                let slot = key_slot(key);
                let owner = views.iter().filter(|view| own.contains(&view.pid.0)).find(|view| {
                    view.node.as_ref().is_some_and(|node| node.is_master && node.slots.contains(slot))
                });
                let has = owner.map_or(0, |owner| number(owner.keys, key));
                if has < noted.acknowledged {
                    lost.push(loss(cluster, key, noted.acknowledged, has));
                }
            }
        }
        lost
    }
}
