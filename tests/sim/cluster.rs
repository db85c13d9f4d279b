//! What a declared cluster of redis nodes must be like in the end: asked of the nodes themselves, not of what the
//! controllers recorded of them.

use std::collections::{BTreeMap, BTreeSet};

use overlord_api::{Address, Info};
use overlord_engines::cluster::{NodeId, SlotSet};
use overlord_placement::{
    cluster::{Seated, Shape},
    verify_cluster,
};
use overlord_tests::model::redis::LinkView;

use crate::{hosts::Hosts, pool::Pool, view::View};

/// A node as it sees itself.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) pid: u32,
    pub(crate) id: NodeId,
    pub(crate) replica_of: Option<NodeId>,
    pub(crate) is_master: bool,
    pub(crate) slots: SlotSet,
    pub(crate) ok: bool,
    pub(crate) link: LinkView,
    pub(crate) loading: bool,
    /// All that it knows.
    pub(crate) knows: Vec<NodeId>,
}

/// All nodes of all clusters that have a process, by their addresses.
pub(crate) fn nodes(hosts: &Hosts) -> BTreeMap<Address, Node> {
    let inner = hosts.lock();
    let node = |view: overlord_tests::model::redis::ProcessView<'_>| {
        let (pid, address, link, loading) = (view.pid.0, view.address, view.link, view.loading);
        let node = view.node?;
        let node = Node {
            pid,
            id: node.id,
            replica_of: node.replica_of,
            is_master: node.is_master,
            slots: node.slots.clone(),
            ok: node.ok,
            link,
            loading,
            knows: node.knows.clone(),
        };
        Some((address, node))
    };
    inner.redis.processes().filter_map(node).collect()
}

/// What of a cluster is not as declared.
pub(crate) fn missing(hosts: &Hosts, view: &View, pool: &Pool, missing: &mut Vec<String>) {
    let cluster = Pool::cluster(pool.name);
    let mut miss = |what: String| missing.push(format!("{cluster}: {what}"));
    let all = nodes(hosts);
    let infos: Vec<Info> =
        view.infos().into_iter().filter(|(of, _)| *of == cluster).map(|(_, info)| info).collect();
    let mut own: BTreeMap<NodeId, (&Info, &Node)> = BTreeMap::new();
    for info in &infos {
        let Some(node) = all.get(&info.address()) else {
            miss(format!("nobody is at {}", info.address()));
            continue;
        };
        if info.node_id.as_deref() != Some(node.id.to_string().as_str()) {
            miss(format!("another node is at {}", info.address()));
        }
        if !node.ok || node.loading {
            miss(format!("the node at {} is not ok", info.address()));
        }
        own.insert(node.id, (info, node));
    }
    let mut served = SlotSet::new();
    let mut masters = 0;
    for (id, (info, node)) in &own {
        let address = info.address();
        match (node.is_master, node.replica_of) {
            (true, _) => {
                if node.slots.is_empty() {
                    miss(format!("the master at {address} has no slots"));
                }
                if !(&served & &node.slots).is_empty() {
                    miss(format!("slots of {address} are served twice"));
                }
                served.extend(&node.slots);
                masters += 1;
                let replicas = own.values().filter(|(_, other)| other.replica_of == Some(*id)).count();
                if replicas != pool.replicas as usize {
                    miss(format!("the master at {address} has {replicas} replicas"));
                }
            }
            (false, Some(of)) if own.get(&of).is_some_and(|(_, master)| master.is_master) => {
                if node.link != LinkView::Up {
                    miss(format!("the link of the replica at {address} is {:?}", node.link));
                }
            }
            (false, _) => miss(format!("the replica at {address} follows no master of the cluster")),
        }
    }
    if served != SlotSet::all() || masters != pool.masters() {
        miss(format!("{masters} masters serve {} slots", served.len()));
    }
    let listed = view.endpoints(&cluster).map(|list| list.endpoints).unwrap_or_default();
    for endpoint in &listed {
        let Some((_, node)) = own.values().find(|(info, _)| info.address() == endpoint.address) else {
            continue;
        };
        let role = if node.is_master { "master" } else { "slave" };
        let slots = node.is_master.then(|| node.slots.to_string());
        let told = endpoint.slots.as_ref().map(|slots| slots.replace(',', " "));
        if endpoint.role != role || told != slots {
            miss(format!(
                "{} is {role} of {slots:?}, listed as {} of {told:?}",
                endpoint.address, endpoint.role
            ));
        }
    }
    let seats: Vec<Seated> = own.values().map(|(info, node)| seat(info, node)).collect();
    let shape = Shape { masters: pool.masters(), replicas_per_master: pool.replicas };
    if let Some(rules) = view.placement(&cluster) {
        for violation in verify_cluster(shape, &seats, &rules) {
            miss(format!("{violation:?}"));
        }
    }
    let shards: BTreeSet<u32> = infos.iter().filter_map(|info| info.shard).collect();
    if shards.len() != pool.masters() as usize {
        miss(format!("members are of {} shards", shards.len()));
    }
}

fn seat(info: &Info, node: &Node) -> Seated {
    Seated {
        member: info.member,
        shard: info.shard.unwrap_or(u32::MAX),
        master: node.is_master,
        address: info.address(),
        rack: info.rack.clone(),
        zone: info.zone.clone(),
    }
}
