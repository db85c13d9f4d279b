//! What must hold whenever a process is started or a node is given an order: the oracles on the hosts' side.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use overlord_engines::{cluster::NodesConf, fence::epoch_of};
use overlord_executor::Instance;
use overlord_tests::model::redis::{ClientId, LinkView, NodeView, Pid, ProcessView};

use super::{ELSEWHERE, Hosts, Inner, Place, is_cut, name};

/// After this, whoever can be reached knows of a new master.
const KNOWN_TO_ALL: Duration = Duration::from_secs(15);

/// What is remembered for these oracles.
#[derive(Debug, Default)]
pub(super) struct Duties {
    /// The epoch that a leader gave its connection as a name.
    epochs: BTreeMap<ClientId, i64>,
    /// The highest epoch under which each process was asked for anything.
    fences: BTreeMap<u32, i64>,
    /// Clusters of which no master is ended by us while a replica could take over.
    handed_over: BTreeSet<String>,
}

impl Duties {
    /// A connection is closed.
    pub(super) fn forget(&mut self, client: ClientId) {
        self.epochs.remove(&client);
    }
}

impl Hosts {
    /// From now on no master of the cluster may be ended while a replica of it could take over.
    pub(crate) fn demand_hand_over(&self, cluster: &str) {
        self.lock().duties.handed_over.insert(cluster.to_owned());
    }

    /// A process is told to end, as its keeper wants it.
    pub(super) fn check_end(&self, inner: &Inner, pid: u32) {
        let Some(process) = inner.processes.get(&pid) else { return };
        let Some(node) = inner.redis.process(Pid(pid)).and_then(|view| view.node) else { return };
        if !inner.duties.handed_over.contains(process.instance.cluster.as_str()) || node.slots.is_empty() {
            return;
        }
        let copies = |view: &ProcessView<'_>| {
            view.link == LinkView::Up
                && view.node.as_ref().and_then(|other| other.replica_of) == Some(node.id)
        };
        if node.is_master && inner.redis.processes().any(|view| copies(&view)) {
            let who = name(&process.instance);
            self.trace.violation(format!("{who} is ended by our act as a master that did not hand over"));
        }
    }

    /// A leader ends the connections of earlier ones before its first request: nothing of theirs is read after that.
    pub(super) fn check_fence(&self, inner: &mut Inner, pid: u32, client: ClientId, words: &[&[u8]]) {
        let Inner { duties, processes, .. } = inner;
        if let [command, set, name] = words
            && command.eq_ignore_ascii_case(b"CLIENT")
            && set.eq_ignore_ascii_case(b"SETNAME")
        {
            let epoch = std::str::from_utf8(name).ok().and_then(epoch_of);
            duties.epochs.extend(epoch.map(|epoch| (client, epoch)));
            return;
        }
        let is_fencing = words.first().is_some_and(|word| word.eq_ignore_ascii_case(b"CLIENT"));
        let Some(epoch) = duties.epochs.get(&client).copied().filter(|_| !is_fencing) else { return };
        let fence = duties.fences.entry(pid).or_insert(epoch);
        if epoch < *fence
            && let Some(process) = processes.get(&pid)
        {
            let (who, fence) = (name(&process.instance), *fence);
            self.trace.violation(format!("engine fence: {who} obeys epoch {epoch} after epoch {fence}"));
        }
        *fence = epoch.max(*fence);
    }

    /// Of the replicas of a dead master that are there, the one with most of its data takes over.
    fn check_heir(&self, inner: &Inner, pid: u32) {
        let Some(heir) = inner.redis.process(Pid(pid)) else { return };
        let Some(master) = heir.node.as_ref().and_then(|node| node.replica_of) else { return };
        let is_there = |view: &ProcessView<'_>| {
            let stopped = inner.processes.get(&view.pid.0).is_none_or(|process| process.stopped);
            !stopped && !view.loading && !is_cut(inner, ELSEWHERE, view.address.ip)
        };
        let there: Vec<_> = inner.redis.processes().filter(is_there).collect();
        let is = |node: &NodeView<'_>| node.id == master;
        if there.iter().any(|view| view.node.as_ref().is_some_and(is)) {
            return;
        }
        let mut copies =
            there.iter().filter(|view| view.node.as_ref().and_then(|node| node.replica_of) == Some(master));
        if let Some(better) = copies.find(|other| other.offset > heir.offset)
            && let Some(process) = inner.processes.get(&pid)
        {
            let (who, at, has, more) = (name(&process.instance), better.address, heir.offset, better.offset);
            self.trace.violation(format!(
                "least data by our act: {who} takes over with offset {has}, the replica at {at} has {more}"
            ));
        }
    }

    /// Never two live processes for one member or at one address; what lives, or is restarted in place, on a host
    /// that nobody reaches is not by our act.
    pub(crate) fn check_start(&self, inner: &Inner, instance: &Instance) {
        let lost = |instance: &Instance| Self::is_lost(inner, instance.address.ip);
        for other in inner.processes.values().map(|process| &process.instance) {
            let twin = other.uid == instance.uid && other.member == instance.member;
            if twin && !lost(other) && !lost(instance) {
                self.trace.violation(format!("{} starts while {} lives", name(instance), name(other)));
            }
            if other.address == instance.address {
                self.trace.violation(format!("{} starts where {} lives", name(instance), name(other)));
            }
        }
    }

    /// A host is drained from now on, or may be used again.
    pub(crate) fn drain(&self, ip: IpAddr, is_drained: bool) {
        let mut inner = self.lock();
        if is_drained {
            inner.drained.insert(ip)
        } else {
            inner.drained.remove(&ip)
        };
    }

    /// What no node may be told by us: to lose its data, or to take over without votes from a master that runs.
    pub(super) fn check_order(&self, inner: &Inner, pid: u32, words: &[&[u8]]) {
        let Some(process) = inner.processes.get(&pid) else { return };
        let is = |index: usize, word: &[u8]| words.get(index).is_some_and(|w| w.eq_ignore_ascii_case(word));
        if is(0, b"FLUSHALL") || is(0, b"FLUSHDB") || (is(0, b"CLUSTER") && is(1, b"RESET")) {
            self.trace.violation(format!("{} is told to forget its data", name(&process.instance)));
        }
        if !is(0, b"CLUSTER") || !is(1, b"FAILOVER") {
            return;
        }
        self.check_heir(inner, pid);
        if !is(2, b"TAKEOVER") {
            return;
        }
        let master = inner.redis.process(Pid(pid)).and_then(|view| view.node?.replica_of);
        let runs = inner.redis.processes().find(|view| view.node.as_ref().map(|node| node.id) == master);
        if let Some(runs) = runs.filter(|_| master.is_some())
            && !inner.given_up.contains(process.instance.cluster.as_str())
        {
            let (who, at) = (name(&process.instance), runs.address);
            self.trace.violation(format!(
                "two masters by our act: {who} is told to take over, its master runs at {at}"
            ));
        }
    }

    /// No node is started as the master of slots that another one has taken over, as everybody knows for long: two
    /// masters by our act.
    pub(super) fn check_reign(&self, inner: &mut Inner, place: &Place, instance: &Instance, now: Duration) {
        let Some(text) = inner.files(place).and_then(|files| files.nodes_conf.clone()) else { return };
        let Ok(conf) = NodesConf::parse(text.as_bytes()) else { return };
        let me = conf.myself();
        for view in inner.redis.processes() {
            let (Some(node), Some(other)) = (&view.node, inner.processes.get(&view.pid.0)) else { continue };
            let known = inner
                .reigns
                .get(&view.pid.0)
                .is_some_and(|(_, since)| now.saturating_sub(*since) > KNOWN_TO_ALL);
            let reached = !other.stopped && !is_cut(inner, instance.address.ip, view.address.ip);
            if other.instance.uid == instance.uid
                && node.is_master
                && node.ok
                && node.config_epoch > me.config_epoch
                && !(node.slots & &me.slots).is_empty()
                && (known && reached)
            {
                let (who, other) = (name(instance), name(&other.instance));
                self.trace
                    .violation(format!("two masters by our act: {who} starts with slots that {other} has"));
            }
        }
    }
}
