//! A redis cluster's shards as they were last seen: who is master now, who follows, and what is odd about it.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use overlord_api::{Address, Info, Kind, State};
use overlord_engines::cluster::{SlotSet, slot_ranges, slots_digest};
use overlord_server::view::InstanceView;
use serde::Serialize;

/// One shard. Field names are interfaces: `overlord describe cluster NAME -o json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ShardView {
    /// Its number.
    pub(crate) shard: u32,
    /// The slots it was formed with.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) slots: String,
    /// The master first.
    pub(crate) members: Vec<MemberView>,
    /// What is not as it should be.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) notes: Vec<String>,
}

/// A member of a shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MemberView {
    pub(crate) member: u32,
    pub(crate) incarnation: u32,
    pub(crate) address: Address,
    pub(crate) host: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rack: Option<String>,
    pub(crate) state: State,
    /// As it said last: `master` or `slave`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) role: Option<String>,
    /// Whether the process that said so is there still, as far as is known.
    pub(crate) current: bool,
    /// The slots it serves: ranges, if they are the shard's own; else how many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) slots: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) link: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) epoch: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) node_id: Option<String>,
}

/// How many masters and replicas of each are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) masters: u32,
    pub(crate) replicas_per_master: u32,
}

/// Where an instance stands in a listing: by cluster, in a redis cluster by shard, and there the master first.
pub(crate) fn order(view: &InstanceView) -> impl Ord + use<> {
    let info = view.info.as_ref();
    let place = info.map(|info| {
        let shard = info.shard.filter(|_| info.kind == Kind::RedisCluster);
        (shard, shard.map(|_| rank(info)), info.member)
    });
    (view.cluster.clone(), place, view.address)
}

/// The shards of a redis cluster; also those of which no instance is recorded, if it has any at all.
pub(crate) fn shards(instances: &[InstanceView], wanted: Option<Wanted>) -> Vec<ShardView> {
    let mut infos: Vec<&Info> = instances.iter().filter_map(|view| view.info.as_ref()).collect();
    infos.sort_by_key(|info| (rank(info), info.member, info.address()));
    let mut by_shard: BTreeMap<u32, Vec<&Info>> = BTreeMap::new();
    for info in infos {
        if let Some(shard) = info.shard {
            by_shard.entry(shard).or_default().push(info);
        }
    }
    let masters = wanted.map_or_else(
        || by_shard.keys().next_back().map_or(0, |last| last.saturating_add(1)),
        |wanted| wanted.masters,
    );
    let ranges = slot_ranges(u16::try_from(masters).unwrap_or(u16::MAX));
    let mut numbers: BTreeSet<u32> = by_shard.keys().copied().collect();
    // Without a spec nobody knows of how many more there should be.
    if wanted.is_some() && !numbers.is_empty() {
        numbers.extend(0..ranges.len() as u32);
    }
    let shard = |shard: u32| {
        let own = ranges.get(shard as usize).cloned().map(SlotSet::from).unwrap_or_default();
        let infos = by_shard.get(&shard).map(Vec::as_slice).unwrap_or_default();
        let replicas = wanted.map(|wanted| wanted.replicas_per_master);
        ShardView {
            shard,
            slots: own.to_string(),
            members: infos.iter().map(|info| member(info, &own)).collect(),
            notes: notes(infos, &own, replicas),
        }
    };
    numbers.into_iter().map(shard).collect()
}

fn member(info: &Info, own: &SlotSet) -> MemberView {
    let observed = &info.observed;
    MemberView {
        member: info.member,
        incarnation: info.incarnation,
        address: info.address(),
        host: info.host.clone(),
        rack: info.rack.clone(),
        state: observed.state,
        role: observed.role.clone(),
        current: is_there(observed.state),
        slots: observed.slots.as_deref().map(|told| slots(told, own)),
        link: observed.link.clone(),
        epoch: observed.epoch,
        node_id: info.node_id.clone(),
    }
}

/// Whether a process that reported is there still, as far as is known.
const fn is_there(state: State) -> bool {
    match state {
        State::Staging | State::Running | State::Draining => true,
        State::Pending | State::Restarting | State::Unreachable | State::Failed | State::Gone => false,
    }
}

/// The master first: of several the one with slots and the highest epoch, which is whom nodes believe. Then
/// replicas; last who was master once.
fn rank(info: &Info) -> (u8, Reverse<Option<u64>>) {
    let place = match (is_master(info), is_there(info.observed.state)) {
        (true, true) if info.observed.slots.is_some() => 0,
        (true, true) => 1,
        (false, _) => return (2, Reverse(None)),
        (true, false) => 3,
    };
    (place, Reverse(info.observed.epoch))
}

fn is_master(info: &Info) -> bool {
    info.observed.role.as_deref() == Some("master")
}

/// What it was told, `<number>:<digest>`, as ranges when it is what the shard was formed with.
fn slots(told: &str, own: &SlotSet) -> String {
    if slots_digest(own).as_deref() == Some(told) {
        return own.to_string();
    }
    format!("{} slots", slot_count(told))
}

/// How many slots those are, of what an executor reported.
pub(crate) fn slot_count(told: &str) -> String {
    told.split_once(':').map_or(told, |(number, _)| number).to_owned()
}

/// What is not as it should be, in words. `infos` in the order of [`rank`].
fn notes(infos: &[&Info], own: &SlotSet, replicas: Option<u32>) -> Vec<String> {
    if infos.is_empty() {
        return vec!["none of its members is recorded".to_owned()];
    }
    let named = |info: &Info| match info.observed.epoch {
        Some(epoch) => format!("member {} (epoch {epoch})", info.member),
        None => format!("member {}", info.member),
    };
    let mut notes = Vec::new();
    let there = |info: &&&Info| is_there(info.observed.state);
    let (serving, slotless): (Vec<&Info>, Vec<&Info>) = infos
        .iter()
        .filter(|info| is_master(info))
        .filter(there)
        .partition(|info| info.observed.slots.is_some());
    match serving.as_slice() {
        [] if infos.iter().all(|info| info.observed.role.is_none()) => {
            notes.push("no master yet: none of its members has said its role".to_owned());
        }
        [] => {
            let last = infos.iter().filter(|info| is_master(info) && !is_there(info.observed.state));
            let last: Vec<String> =
                last.map(|info| format!("{}, which is {}", named(info), info.observed.state)).collect();
            let was = if last.is_empty() {
                String::new()
            } else {
                format!("; the last one was {}", last.join(", and "))
            };
            let slots = own.to_string();
            let slots = if slots.is_empty() { "its slots" } else { &slots };
            notes.push(format!("no master: nobody is known to serve {slots}{was}"));
        }
        [master] => {
            if master.observed.slots != slots_digest(own) && !own.is_empty() {
                notes.push(format!("{} serves other slots than {own}", named(master)));
            }
            let linked = infos.iter().filter(|info| {
                info.observed.state == State::Running && info.observed.link.as_deref() == Some("up")
            });
            if replicas.is_some_and(|wanted| wanted > 0) && linked.count() == 0 {
                notes.push(format!("no linked replica: its data is on member {} alone", master.member));
            }
        }
        [believed, ..] => {
            let claims: Vec<String> = serving.iter().map(|info| named(info)).collect();
            notes.push(format!(
                "{} members say that they are its master: {}; a slot that several claim is the one's with \
                 the highest epoch, now member {}",
                claims.len(),
                claims.join(", "),
                believed.member
            ));
        }
    }
    notes.extend(slotless.iter().map(|info| format!("{} says master and has no slots", named(info))));
    let emptied = infos.iter().filter(|info| info.observed.emptied > 0);
    notes.extend(emptied.map(|info| format!("member {} was started without its keys", info.member)));
    notes
}

#[cfg(test)]
pub(crate) mod tests {
    use jiff::Timestamp;
    use serde_json::json;

    use super::*;

    /// A member of a cluster of three masters with a replica each, as JSON has it.
    pub(crate) fn view(member: u32, state: &str, role: &str, epoch: u64, slots: &str) -> InstanceView {
        let port = 20_000 + member;
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let info = json!({
            "version": 1, "uid": "0".repeat(32), "member": member, "incarnation": 0, "kind": "redis_cluster",
            "engine": "redis", "engineVersion": "7.0.15", "ip": "127.0.0.1", "port": port, "busPort": port + 1,
            "host": "127.0.0.1", "rack": "r1", "agentId": "a", "mesosTaskId": format!("00000000.{member}.0.1"),
            "nodeId": "0".repeat(40), "shard": member % 3, "alias": format!("a{member}"), "weight": 1,
            "resources": {"cpuMillis": 100, "memory": 1, "disk": 1}, "onDisk": "delete",
            "desired": {"state": "running", "config": 1, "restart": 0},
            "observed": {
                "state": state, "config": 1, "restart": 0, "since": Timestamp::UNIX_EPOCH, "role": some(role),
                "epoch": epoch, "slots": some(slots),
                "link": some(if role == "slave" { "up" } else { "" }),
            },
        });
        let info: Info = serde_json::from_value(info).unwrap();
        let address = info.address();
        InstanceView { cluster: "orders".into(), address, info: Some(info), error: None }
    }

    const WANTED: Option<Wanted> = Some(Wanted { masters: 3, replicas_per_master: 1 });

    fn own(shard: usize) -> String {
        slots_digest(&SlotSet::from(slot_ranges(3)[shard].clone())).unwrap()
    }

    fn well() -> Vec<InstanceView> {
        (0..6)
            .map(|n| match n {
                0..3 => view(n, "running", "master", u64::from(n) + 1, &own(n as usize)),
                _ => view(n, "running", "slave", u64::from(n) - 2, ""),
            })
            .collect()
    }

    fn members(shard: &ShardView) -> Vec<u32> {
        shard.members.iter().map(|member| member.member).collect()
    }

    #[test]
    fn a_cluster_that_is_well_has_its_ranges_and_nothing_to_note() {
        let shards = shards(&well(), WANTED);
        let ranges: Vec<_> = shards.iter().map(|shard| shard.members[0].slots.clone().unwrap()).collect();
        assert_eq!(ranges, ["0-5460", "5461-10922", "10923-16383"]);
        assert!(shards.iter().all(|shard| shard.notes.is_empty()), "{shards:?}");
        assert_eq!(members(&shards[1]), [1, 4]);
    }

    #[test]
    fn after_a_failover_the_new_master_comes_first() {
        let mut all = well();
        all[0] = view(0, "running", "slave", 7, "");
        all[3] = view(3, "running", "master", 7, &own(0));
        let shard = shards(&all, WANTED).remove(0);
        assert_eq!((members(&shard), shard.notes), (vec![3, 0], Vec::new()));
        all.sort_by_key(order);
        let sorted: Vec<u32> = all.iter().map(|view| view.info.as_ref().unwrap().member).collect();
        assert_eq!(sorted, [3, 0, 1, 4, 2, 5]);
    }

    #[test]
    fn a_shard_without_a_master_says_so() {
        let mut all = well();
        all[1] = view(1, "unreachable", "master", 2, &own(1));
        let shard = shards(&all, WANTED).remove(1);
        assert_eq!(
            shard.notes,
            [
                "no master: nobody is known to serve 5461-10922; the last one was member 1 (epoch 2), which is \
                 unreachable"
            ]
        );
        assert!(!shard.members[1].current);
        all[1] = view(1, "restarting", "", 2, "");
        let shard = shards(&all, WANTED).remove(1);
        assert_eq!(shard.notes, ["no master: nobody is known to serve 5461-10922"]);
        all.retain(|view| view.info.as_ref().is_some_and(|info| info.member % 3 != 1));
        assert_eq!(shards(&all, WANTED).remove(1).notes, ["none of its members is recorded"]);
    }

    #[test]
    fn two_that_say_master_are_both_named() {
        let mut all = well();
        all[3] = view(3, "running", "master", 7, &own(0));
        let shard = shards(&all, WANTED).remove(0);
        assert_eq!(members(&shard), [3, 0]);
        assert_eq!(
            shard.notes,
            ["2 members say that they are its master: member 3 (epoch 7), member 0 (epoch 1); a slot that \
                 several claim is the one's with the highest epoch, now member 3"]
        );
        all[3] = view(3, "running", "master", 7, "");
        assert_eq!(
            shards(&all, WANTED).remove(0).notes,
            [
                "no linked replica: its data is on member 0 alone",
                "member 3 (epoch 7) says master and has no slots"
            ]
        );
    }

    #[test]
    fn ranges_are_not_shown_where_the_digest_contradicts() {
        let mut all = well();
        all[2] = view(2, "running", "master", 3, "5000:0123456789abcdef");
        let shard = shards(&all, WANTED).remove(2);
        assert_eq!(shard.members[0].slots.as_deref(), Some("5000 slots"));
        assert_eq!(shard.notes, ["member 2 (epoch 3) serves other slots than 10923-16383"]);
        // Of another number of masters, too.
        let four = Some(Wanted { masters: 4, replicas_per_master: 1 });
        assert_eq!(shards(&all, four)[0].members[0].slots.as_deref(), Some("5461 slots"));
    }

    #[test]
    fn a_cluster_that_is_being_formed_has_shards_without_roles() {
        let forming: Vec<_> = (0..6).map(|n| view(n, "pending", "", 0, "")).collect();
        let shards_then = shards(&forming, WANTED);
        assert_eq!(shards_then.len(), 3);
        assert_eq!(shards_then[0].notes, ["no master yet: none of its members has said its role"]);
        assert_eq!(shards(&[], WANTED), []);
        assert_eq!(shards(&well(), None), shards(&well(), WANTED));
    }

    #[test]
    fn what_machines_read_is_stable() {
        let shard = &shards(&well(), WANTED)[0];
        let expected = json!({
            "shard": 0,
            "slots": "0-5460",
            "members": [
                {
                    "member": 0, "incarnation": 0, "address": "127.0.0.1:20000", "host": "127.0.0.1", "rack": "r1",
                    "state": "running", "role": "master", "current": true, "slots": "0-5460", "epoch": 1,
                    "nodeId": "0".repeat(40),
                },
                {
                    "member": 3, "incarnation": 0, "address": "127.0.0.1:20003", "host": "127.0.0.1", "rack": "r1",
                    "state": "running", "role": "slave", "current": true, "link": "up", "epoch": 1,
                    "nodeId": "0".repeat(40),
                },
            ],
        });
        assert_eq!(serde_json::to_value(shard).unwrap(), expected);
    }
}
