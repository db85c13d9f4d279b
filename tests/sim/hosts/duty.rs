//! What must hold whenever a process is started or a node is given an order: the oracles on the hosts' side.

use std::time::Duration;

use overlord_engines::cluster::NodesConf;
use overlord_executor::Instance;
use overlord_tests::model::redis::Pid;

use super::{Hosts, Inner, Place, is_cut, name};

/// After this, whoever can be reached knows of a new master.
const KNOWN_TO_ALL: Duration = Duration::from_secs(15);

impl Hosts {
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

    /// What no node may be told by us: to lose its data, or to take over without votes from a master that runs.
    pub(super) fn check_order(&self, inner: &Inner, pid: u32, words: &[&[u8]]) {
        let Some(process) = inner.processes.get(&pid) else { return };
        let is = |index: usize, word: &[u8]| words.get(index).is_some_and(|w| w.eq_ignore_ascii_case(word));
        if is(0, b"FLUSHALL") || is(0, b"FLUSHDB") || (is(0, b"CLUSTER") && is(1, b"RESET")) {
            self.trace.violation(format!("{} is told to forget its data", name(&process.instance)));
        }
        if !is(0, b"CLUSTER") || !is(1, b"FAILOVER") || !is(2, b"TAKEOVER") {
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
