//! What is asked of the ledger by something else than a key: kept with every change of the caches, so that no pass
//! and no update has to look at everything.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Mutex,
};

use overlord_api::{
    Address, ClusterName, Info,
    keys::{self, Key},
};
use overlord_reconcile::Index;

use crate::{
    identity::uid8,
    ledger::{TaskValue, Value, cluster_of},
    shared::lock,
};

/// Where an instance is recorded.
pub(crate) type Spot = (ClusterName, Address);

/// Sets that disappear when they are empty.
#[derive(Debug)]
struct Groups<K, V>(BTreeMap<K, BTreeSet<V>>);

impl<K, V> Default for Groups<K, V> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Ord, V: Ord> Groups<K, V> {
    fn insert(&mut self, key: K, value: V) {
        self.0.entry(key).or_default().insert(value);
    }

    fn remove(&mut self, key: &K, value: &V) {
        if let Some(group) = self.0.get_mut(key) {
            group.remove(value);
            if group.is_empty() {
                self.0.remove(key);
            }
        }
    }

    fn get(&self, key: &K) -> impl Iterator<Item = &V> {
        self.0.get(key).into_iter().flatten()
    }
}

/// Of the keys below `clusters/`.
#[derive(Debug, Default)]
pub(crate) struct ClusterIndex {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Clusters of which anything is there, and how many keys.
    clusters: BTreeMap<ClusterName, usize>,
    /// By Mesos task.
    tasks: Groups<String, Spot>,
    /// By the beginning of the uid and the member.
    members: Groups<(String, u32), (u64, Spot)>,
    /// By agent.
    agents: Groups<String, Spot>,
    /// Clusters whose record gives up a Mesos task.
    tombstones: Groups<String, ClusterName>,
    /// Clusters by the beginning of their record's uid.
    uids: Groups<String, ClusterName>,
    /// Ports in use by host, and by which keys: a bus port may also be somebody's data port, by an edit.
    ports: BTreeMap<IpAddr, Groups<u16, Spot>>,
}

/// The number of the attempt, the last part of a Mesos task id.
fn attempt(task: &str) -> Option<u64> {
    task.rsplit('.').next()?.parse().ok()
}

impl Inner {
    fn change_info(&mut self, spot: &Spot, info: &Info, add: bool) {
        let member = (uid8(&info.uid).to_owned(), info.member);
        let entry = (attempt(&info.mesos_task_id).unwrap_or(0), spot.clone());
        let agent = &info.agent_id;
        if add {
            self.tasks.insert(info.mesos_task_id.clone(), spot.clone());
            self.members.insert(member, entry);
            self.agents.insert(agent.clone(), spot.clone());
        } else {
            self.tasks.remove(&info.mesos_task_id, spot);
            self.members.remove(&member, &entry);
            self.agents.remove(agent, spot);
        }
        if let Some(port) = info.bus_port {
            self.change_port(info.ip, port, spot, add);
        }
    }

    fn change_port(&mut self, ip: IpAddr, port: u16, spot: &Spot, add: bool) {
        if add {
            self.ports.entry(ip).or_default().insert(port, spot.clone());
        } else if let Some(ports) = self.ports.get_mut(&ip) {
            ports.remove(&port, spot);
            if ports.0.is_empty() {
                self.ports.remove(&ip);
            }
        }
    }

    fn change(&mut self, key: &str, value: &Value, add: bool) {
        let Some(cluster) = cluster_of(key) else { return };
        match (Key::parse(key), value) {
            (Key::Info(_, address), Value::Info(info)) => {
                let spot = (cluster, address);
                self.change_info(&spot, info, add);
                self.change_port(address.ip, address.port, &spot, add);
            }
            // Whatever it says, its address is not free.
            (Key::Info(_, address), _) => {
                self.change_port(address.ip, address.port, &(cluster, address), add);
            }
            (_, Value::Record(record)) => {
                let uid = uid8(&record.uid).to_owned();
                if add {
                    self.uids.insert(uid, cluster.clone());
                } else {
                    self.uids.remove(&uid, &cluster);
                }
                for task in record.tombstones.keys() {
                    if add {
                        self.tombstones.insert(task.clone(), cluster.clone());
                    } else {
                        self.tombstones.remove(task, &cluster);
                    }
                }
            }
            _ => {}
        }
    }

    fn count(&mut self, key: &str, add: bool) {
        let Some(cluster) = cluster_of(key) else { return };
        if add {
            *self.clusters.entry(cluster).or_default() += 1;
        } else if let Some(keys) = self.clusters.get_mut(&cluster) {
            *keys -= 1;
            if *keys == 0 {
                self.clusters.remove(&cluster);
            }
        }
    }
}

impl Index<Value> for ClusterIndex {
    fn changed(&self, key: &str, old: Option<&Value>, new: Option<&Value>) {
        let mut inner = lock(&self.inner);
        if let Some(old) = old {
            inner.change(key, old, false);
        }
        if let Some(new) = new {
            inner.change(key, new, true);
        }
        if old.is_some() != new.is_some() {
            inner.count(key, new.is_some());
        }
    }
}

impl ClusterIndex {
    /// Every cluster of which anything is there.
    pub(crate) fn clusters(&self) -> BTreeSet<ClusterName> {
        lock(&self.inner).clusters.keys().cloned().collect()
    }

    /// Where a Mesos task is recorded.
    pub(crate) fn task(&self, task: &str) -> Vec<Spot> {
        lock(&self.inner).tasks.get(&task.to_owned()).cloned().collect()
    }

    /// The instances on an agent.
    pub(crate) fn on_agent(&self, agent: &str) -> Vec<Spot> {
        lock(&self.inner).agents.get(&agent.to_owned()).cloned().collect()
    }

    /// The cluster by which this Mesos task was given up: its record has a tombstone of it, or the same member
    /// has a newer attempt.
    pub(crate) fn given_up(&self, task: &str) -> Option<ClusterName> {
        let inner = lock(&self.inner);
        if let Some(cluster) = inner.tombstones.get(&task.to_owned()).next() {
            return Some(cluster.clone());
        }
        let mut parts = task.split('.');
        let (uid, member) = (parts.next()?, parts.next()?.parse::<u32>().ok()?);
        let attempt = parts.nth(1)?.parse::<u64>().ok()?;
        let member = (uid.to_owned(), member);
        let mut attempts = inner.members.get(&member);
        attempts.find(|(newer, _)| *newer > attempt).map(|(_, (cluster, _))| cluster.clone())
    }

    /// The cluster of which a Mesos task is by its id, and the member, incarnation and attempt that the id names.
    pub(crate) fn whose(&self, task: &str) -> Option<(ClusterName, (u32, u32, u64))> {
        let mut parts = task.split('.');
        let (uid, member, incarnation, attempt, None) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?, parts.next())
        else {
            return None;
        };
        let inner = lock(&self.inner);
        let cluster = inner.uids.get(&uid.to_owned()).next()?.clone();
        Some((cluster, (member.parse().ok()?, incarnation.parse().ok()?, attempt.parse().ok()?)))
    }

    /// Every address that is recorded on these hosts.
    pub(crate) fn taken(&self, hosts: &BTreeSet<IpAddr>) -> BTreeSet<Address> {
        let inner = lock(&self.inner);
        let ports = hosts.iter().filter_map(|host| Some((*host, inner.ports.get(host)?)));
        ports.flat_map(|(host, ports)| ports.0.keys().map(move |port| Address::new(host, *port))).collect()
    }
}

/// Of the keys below `task/`.
#[derive(Debug, Default)]
pub(crate) struct RequestIndex {
    by_cluster: Mutex<Groups<ClusterName, String>>,
}

impl Index<TaskValue> for RequestIndex {
    fn changed(&self, key: &str, old: Option<&TaskValue>, new: Option<&TaskValue>) {
        let Key::Task(id) = Key::parse(key) else { return };
        let mut by_cluster = lock(&self.by_cluster);
        if let Some(TaskValue::Task(task)) = old {
            by_cluster.remove(&task.cluster, &id.to_owned());
        }
        if let Some(TaskValue::Task(task)) = new {
            by_cluster.insert(task.cluster.clone(), id.to_owned());
        }
    }
}

impl RequestIndex {
    /// The ids of the requests on a cluster.
    pub(crate) fn of(&self, cluster: &ClusterName) -> Vec<String> {
        lock(&self.by_cluster).get(cluster).cloned().collect()
    }
}

/// The keys of quarantined addresses on a host begin with this.
pub(crate) fn quarantines_on(host: IpAddr) -> String {
    let any = keys::quarantine(Address::new(host, 0));
    any.strip_suffix('0').unwrap_or(&any).to_owned()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use overlord_api::{State, Tombstone};

    use super::*;
    use crate::samples;

    fn put(index: &ClusterIndex, key: &str, old: Option<&Value>, new: &Value) {
        index.changed(key, old, Some(new));
    }

    fn info_of(member: u32) -> (String, Value, Address) {
        let info = samples::info(member, State::Running);
        let address = info.address();
        (keys::info(&samples::cluster(), address), Value::Info(Arc::new(info)), address)
    }

    #[test]
    fn instances_are_found_by_task_agent_and_host_until_they_are_gone() {
        let index = ClusterIndex::default();
        let (key, info, address) = info_of(1);
        put(&index, &key, None, &info);
        let spot = (samples::cluster(), address);
        let task = samples::info(1, State::Running).mesos_task_id;
        assert_eq!(index.task(&task), std::slice::from_ref(&spot));
        assert_eq!(index.on_agent("agent-1"), [spot]);
        assert_eq!(index.clusters(), [samples::cluster()].into());
        assert_eq!(index.taken(&[address.ip].into()), [address].into());
        assert_eq!(index.taken(&[[10, 0, 0, 9].into()].into()), [].into());
        // What cannot be read keeps its address.
        let damaged = Value::Damaged(overlord_api::Unreadable::Damaged(String::from("?")));
        index.changed(&key, Some(&info), Some(&damaged));
        assert_eq!(index.task(&task), []);
        assert_eq!(index.taken(&[address.ip].into()), [address].into());
        index.changed(&key, Some(&damaged), None);
        assert_eq!((index.taken(&[address.ip].into()), index.clusters()), ([].into(), [].into()));
    }

    #[test]
    fn a_task_is_given_up_by_a_tombstone_or_a_newer_attempt_of_its_member() {
        let index = ClusterIndex::default();
        let (key, info, _) = info_of(3);
        put(&index, &key, None, &info);
        let uid = uid8(&samples::record(1).uid).to_owned();
        assert_eq!(index.given_up(&format!("{uid}.3.0.2")), Some(samples::cluster()));
        assert_eq!(index.given_up(&format!("{uid}.3.0.3")), None);
        assert_eq!(index.given_up(&format!("{uid}.4.0.2")), None);
        let mut record = samples::record(1);
        let tomb = Tombstone {
            address: samples::info(0, State::Running).address(),
            agent_id: String::from("a"),
            at: samples::at(0),
            reason: String::from("gone"),
        };
        record.tombstones.insert(String::from("t"), tomb);
        let with = Value::Record(Arc::new(record.clone()));
        let key = keys::record(&samples::cluster());
        put(&index, &key, None, &with);
        assert_eq!(index.given_up("t"), Some(samples::cluster()));
        record.tombstones.clear();
        put(&index, &key, Some(&with), &Value::Record(Arc::new(record)));
        assert_eq!(index.given_up("t"), None);
    }

    #[test]
    fn quarantines_of_a_host_share_a_beginning_with_no_other_host() {
        let key = |text: &str| keys::quarantine(text.parse().unwrap());
        let prefix = quarantines_on([10, 0, 0, 1].into());
        assert!(key("10.0.0.1:20000").starts_with(&prefix));
        assert!(!key("10.0.0.10:20000").starts_with(&prefix));
    }
}
