//! Arithmetic on resources: tables, and what is carved plus what is left is the whole.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::v1::{AgentId, AllocationInfo, OfferId, ReservationInfo, ReservationType};

fn allocated(mut resource: Resource, role: &str) -> Resource {
    resource.allocation_info = Some(AllocationInfo { role: Some(role.to_owned()) });
    resource
}

fn layer(kind: ReservationType, role: &str) -> ReservationInfo {
    ReservationInfo { kind, role: Some(role.to_owned()), principal: Some("p".to_owned()), labels: None }
}

fn reserved(mut resource: Resource, role: &str) -> Resource {
    resource.reservations = vec![layer(ReservationType::Dynamic, role)];
    allocated(resource, role)
}

fn whole() -> Vec<Resource> {
    vec![
        Resource::ranges("ports", &[(20000, 20009), (21000, 21000)]),
        Resource::scalar("cpus", 2.0),
        Resource::scalar("mem", 1024.0),
        Resource::scalar("disk", 500.0),
    ]
    .into_iter()
    .map(|resource| allocated(resource, "r"))
    .collect()
}

fn request(cpus: f64, mem: f64, disk: f64, ports: &[u16]) -> Request {
    Request { cpus, mem, disk, ports: ports.to_vec() }
}

/// `name:amount` of each resource, reserved ones marked.
fn text(resources: &[Resource]) -> Vec<String> {
    resources
        .iter()
        .map(|resource| {
            let mark = if depth(resource) > 0 { "!" } else { "" };
            match (&resource.scalar, &resource.ranges) {
                (Some(scalar), _) => format!("{}{mark}:{}", resource.name, scalar.value),
                (_, Some(ranges)) => {
                    let ranges: Vec<_> =
                        ranges.range.iter().map(|range| format!("{}-{}", range.begin, range.end)).collect();
                    format!("{}{mark}:{}", resource.name, ranges.join(","))
                }
                _ => resource.name.clone(),
            }
        })
        .collect()
}

#[test]
fn a_task_and_its_executor_are_cut_out_with_their_allocation() {
    let carved =
        carve(&whole(), &request(0.5, 512.0, 100.0, &[20003, 20004]), &request(0.05, 32.0, 0.0, &[]))
            .unwrap();
    assert_eq!(text(&carved.task), ["cpus:0.5", "mem:512", "disk:100", "ports:20003-20004"]);
    assert_eq!(text(&carved.executor), ["cpus:0.05", "mem:32"]);
    assert_eq!(
        text(&carved.remainder),
        ["ports:20000-20002,20005-20009,21000-21000", "cpus:1.45", "mem:480", "disk:400"]
    );
    assert!(carved.task.iter().chain(&carved.executor).all(|resource| role_of(resource) == "r"));
}

#[test]
fn amounts_have_three_decimals_like_mesos() {
    let offered = vec![Resource::scalar("cpus", 0.3)];
    let mut rest = offered;
    for _ in 0..3 {
        rest = carve(&rest, &request(0.1, 0.0, 0.0, &[]), &Request::default()).unwrap().remainder;
    }
    assert_eq!(rest, [], "0.3 - 0.1 - 0.1 - 0.1 is nothing");
}

#[test]
fn reserved_resources_are_used_first_and_keep_their_reservation() {
    let mut offered = whole();
    offered.push(reserved(Resource::scalar("cpus", 0.3), "r"));
    offered.push(reserved(Resource::ranges("ports", &[(20100, 20101)]), "r"));
    let carved = carve(&offered, &request(0.5, 1.0, 0.0, &[20100, 20000]), &Request::default()).unwrap();
    assert_eq!(
        text(&carved.task),
        ["cpus!:0.3", "cpus:0.2", "mem:1", "ports!:20100-20100", "ports:20000-20000"]
    );
}

#[test]
fn disks_of_their_own_volumes_and_revocable_resources_are_left_alone() {
    let mut offered = vec![];
    for (key, value) in [
        ("disk", json!({"source": {"type": "MOUNT", "mount": {"root": "/mnt"}}})),
        ("disk", json!({"persistence": {"id": "v"}, "volume": {"container_path": "d", "mode": "RW"}})),
        ("revocable", json!({})),
        ("shared", json!({})),
        ("provider_id", json!({"value": "p"})),
        ("something_new", json!({})),
    ] {
        let mut special = serde_json::to_value(Resource::scalar("disk", 100.0)).unwrap();
        special[key] = value;
        let resource: Resource = serde_json::from_value(special.clone()).unwrap();
        assert_eq!(serde_json::to_value(&resource).unwrap(), special, "given back as it came");
        offered.push(resource);
    }
    offered.push(Resource::scalar("disk", 10.0));
    assert_eq!(totals(&offered)["*"].disk.to_string(), "10");
    let carved = carve(&offered, &request(0.0, 0.0, 10.0, &[]), &Request::default()).unwrap();
    assert_eq!(carved.task, [Resource::scalar("disk", 10.0)]);
    assert_eq!(carved.remainder, &offered[..6]);
    let error = carve(&offered, &request(0.0, 0.0, 10.001, &[]), &Request::default()).unwrap_err();
    assert_eq!(error.to_string(), "disk: 10.001 wanted, 10 offered");
}

#[test]
fn gpus_and_sets_stay_in_what_is_left() {
    let gpus = Resource::scalar("gpus", 2.0);
    let set: Resource =
        serde_json::from_value(json!({"name": "bugs", "type": "SET", "set": {"item": ["a", "b"]}})).unwrap();
    let offered = [Resource::scalar("cpus", 1.0), gpus.clone(), set.clone()];
    let carved = carve(&offered, &request(1.0, 0.0, 0.0, &[]), &Request::default()).unwrap();
    assert_eq!(carved.task, [Resource::scalar("cpus", 1.0)]);
    assert_eq!(carved.remainder, [gpus, set]);
}

#[test]
fn what_is_short_is_named() {
    let none = Request::default();
    for (task, expected) in [
        (request(2.001, 0.0, 0.0, &[]), "cpus: 2.001 wanted, 2 offered"),
        (request(0.0, 2000.0, 0.0, &[]), "mem: 2000 wanted, 1024 offered"),
        (request(0.0, 0.0, 0.0, &[20009, 20010]), "port 20010 is not offered"),
        (request(0.0, 0.0, 0.0, &[20009, 20009]), "port 20009 is not offered"),
        (request(-1.0, 0.0, 0.0, &[]), "cpus: -1 is no amount"),
        (request(0.0, f64::NAN, 0.0, &[]), "mem: NaN is no amount"),
        (request(0.0, 0.0, f64::INFINITY, &[]), "disk: inf is no amount"),
    ] {
        assert_eq!(carve(&whole(), &task, &none).unwrap_err().to_string(), expected);
    }
    let error = carve(&whole(), &request(1.0, 0.0, 0.0, &[]), &request(1.5, 0.0, 0.0, &[])).unwrap_err();
    assert_eq!(error.to_string(), "cpus: 2.5 wanted, 2 offered", "task and executor together");
    assert!(carve(&[], &request(0.1, 0.0, 0.0, &[]), &none).is_err());
}

#[test]
fn totals_are_by_role() {
    let mut offered = whole();
    offered.push(reserved(Resource::scalar("cpus", 0.5), "r"));
    offered.push(Resource::scalar("cpus", 4.0));
    offered.push(Resource::scalar("gpus", 4.0));
    let totals = totals(&offered);
    assert_eq!(totals["r"].cpus.to_string(), "2.5");
    assert_eq!(totals["r"].ports.len(), 2);
    assert_eq!(totals["*"].cpus.to_string(), "4");
}

#[test]
fn offers_of_one_agent_and_role_combine() {
    let offer = |id: &str, agent: &str, role: &str| Offer {
        id: OfferId::new(id),
        agent_id: AgentId::new(agent),
        allocation_info: Some(AllocationInfo { role: Some(role.to_owned()) }),
        resources: vec![
            allocated(Resource::scalar("cpus", 1.5), role),
            allocated(Resource::ranges("ports", &[(1, 2)]), role),
        ],
        ..Offer::default()
    };
    let combined = combine(&[offer("1", "a", "r"), offer("2", "a", "r")]).unwrap();
    assert_eq!(text(&combined), ["cpus:3", "ports:1-2"]);
    assert_eq!(combine(&[offer("1", "a", "r"), offer("2", "b", "r")]), Err(CarveError::Mixed));
    assert_eq!(combine(&[offer("1", "a", "r"), offer("2", "a", "s")]), Err(CarveError::Mixed));
    assert_eq!(combine(&[]), Err(CarveError::Nothing));
    let mixed = [allocated(Resource::scalar("cpus", 1.0), "r"), allocated(Resource::scalar("mem", 1.0), "s")];
    assert_eq!(carve(&mixed, &Request::default(), &Request::default()), Err(CarveError::Mixed));
}

#[test]
fn subtracting_more_than_there_is_gives_nothing() {
    let whole = whole();
    assert_eq!(subtract(&whole, &[]).unwrap(), sum(whole.clone()));
    assert_eq!(subtract(&whole, &[allocated(Resource::scalar("cpus", 2.001), "r")]), None);
    assert_eq!(subtract(&whole, &[Resource::scalar("cpus", 1.0)]), None, "another allocation");
    assert_eq!(subtract(&whole, &[allocated(Resource::ranges("ports", &[(20008, 20010)]), "r")]), None);
    assert_eq!(subtract(&whole, &whole).unwrap(), []);
    let mut volume = Resource::scalar("disk", 10.0);
    volume.disk = serde_json::from_value(json!({"persistence": {"id": "v"}})).unwrap();
    let with_volume = [whole, vec![volume.clone()]].concat();
    assert_eq!(subtract(&with_volume, std::slice::from_ref(&volume)).unwrap().len(), 4);
    volume.scalar = Some(Scalar { value: 5.0 });
    assert_eq!(subtract(&with_volume, &[volume]), None, "a volume has one size");
}

#[test]
fn nonsense_from_the_wire_is_survived() {
    let mut odd = vec![
        Resource { name: "cpus".to_owned(), ..Resource::default() },
        Resource::scalar("cpus", f64::NAN),
        Resource::scalar("mem", -5.0),
        Resource::scalar("disk", f64::MAX),
        Resource::ranges("ports", &[(5, 1), (0, u64::MAX), (3, 9)]),
    ];
    odd.push(Resource { kind: ValueType::Ranges, name: "ports".to_owned(), ..Resource::default() });
    let totals = &totals(&odd)["*"];
    assert_eq!(totals.ports, [Range { begin: 0, end: u64::MAX }]);
    let carved = carve(&odd, &request(0.0, 0.0, 1.0, &[65535, 0]), &Request::default()).unwrap();
    assert_eq!(carved.task.len(), 2);
}

fn arbitrary_resources() -> impl Strategy<Value = Vec<Resource>> {
    let scalar = (prop::sample::select(vec!["cpus", "mem", "disk"]), 1..50_000_i64, any::<bool>()).prop_map(
        |(name, milli, keep)| {
            let resource = Resource::scalar(name, from_milli(milli));
            if keep { reserved(resource, "r") } else { allocated(resource, "r") }
        },
    );
    let ports = (1000..1040_u64, 0..10_u64)
        .prop_map(|(begin, length)| allocated(Resource::ranges("ports", &[(begin, begin + length)]), "r"));
    prop::collection::vec(prop_oneof![3 => scalar, 1 => ports], 0..12)
}

fn amounts() -> impl Strategy<Value = (i64, i64, i64)> {
    (0..40_000_i64, 0..40_000_i64, 0..40_000_i64)
}

proptest! {
    #[test]
    fn what_is_cut_out_and_what_is_left_make_the_whole(
        offered in arbitrary_resources(),
        task in amounts(),
        executor in amounts(),
        ports in prop::collection::btree_set(1000..1050_u16, 0..4),
    ) {
        // An offer never lists one port twice.
        let offered = sum(offered);
        let (port, more): (Vec<_>, Vec<_>) = ports.into_iter().partition(|port| port % 3 > 0);
        let task = request(from_milli(task.0), from_milli(task.1), from_milli(task.2), &port);
        let executor = request(from_milli(executor.0), from_milli(executor.1), from_milli(executor.2), &more);
        if let Ok(carved) = carve(&offered, &task, &executor) {
            let key = |resources: Vec<Resource>| {
                let mut texts = text(&resources);
                texts.sort();
                texts
            };
            let parts = [carved.task.clone(), carved.executor.clone(), carved.remainder.clone()].concat();
            prop_assert_eq!(key(sum(parts)), key(offered.clone()));
            let taken = [carved.task.clone(), carved.executor.clone()].concat();
            prop_assert_eq!(key(subtract(&offered, &taken).unwrap()), key(carved.remainder));
            let got = totals(&carved.task).remove("r").unwrap_or_default();
            prop_assert_eq!(to_milli(got.cpus), to_milli(task.cpus));
            prop_assert_eq!(to_milli(got.mem), to_milli(task.mem));
            prop_assert_eq!(to_milli(got.disk), to_milli(task.disk));
            let count: u64 = got.ports.iter().map(|range| range.end - range.begin + 1).sum();
            prop_assert_eq!(count, task.ports.len() as u64);
        }
    }
}

#[test]
fn the_most_refined_reservation_is_used_first_and_each_part_keeps_its_own_stack() {
    let (of_parent, of_role) = (layer(ReservationType::Static, "a"), layer(ReservationType::Dynamic, "a/b"));
    let with = |stack: &[ReservationInfo]| {
        let cpus = Resource { reservations: stack.to_vec(), ..Resource::scalar("cpus", 1.0) };
        allocated(cpus, "a/b")
    };
    let offered =
        [with(&[]), with(std::slice::from_ref(&of_parent)), with(&[of_parent.clone(), of_role.clone()])];
    let carved = carve(&offered, &request(2.5, 0.0, 0.0, &[]), &request(0.1, 0.0, 0.0, &[])).unwrap();
    let stacks: Vec<_> = carved.task.iter().map(|resource| resource.reservations.clone()).collect();
    assert_eq!(stacks, [vec![of_parent.clone(), of_role], vec![of_parent], vec![]]);
    assert_eq!(text(&carved.task), ["cpus!:1", "cpus!:1", "cpus:0.5"]);
    assert_eq!(text(&carved.executor), ["cpus:0.1"]);
    let used = [carved.task, carved.executor].concat();
    assert_eq!(subtract(&offered, &used).unwrap(), carved.remainder, "only what was offered is used");
}

#[test]
fn what_is_reserved_for_another_role_is_left_alone() {
    let mut stranger = allocated(Resource::scalar("cpus", 4.0), "r");
    stranger.reservations = vec![layer(ReservationType::Static, "other")];
    let mut sibling = allocated(Resource::scalar("cpus", 4.0), "r");
    sibling.reservations =
        vec![layer(ReservationType::Static, "r"), layer(ReservationType::Dynamic, "r/deeper")];
    let mut old_format = allocated(Resource::scalar("cpus", 4.0), "r");
    old_format.role = Some("other".to_owned());
    let mut prefix = allocated(Resource::scalar("cpus", 4.0), "rack");
    prefix.reservations = vec![layer(ReservationType::Static, "r")];
    for resource in [stranger, sibling, old_format, prefix] {
        assert!(!is_plain(&resource), "{resource:?}");
        let error = carve(&[resource], &request(1.0, 0.0, 0.0, &[]), &Request::default()).unwrap_err();
        assert_eq!(error.to_string(), "cpus: 1 wanted, 0 offered");
    }
    let mut nobodys = allocated(Resource::scalar("cpus", 4.0), "r");
    nobodys.role = Some("*".to_owned());
    assert!(is_plain(&nobodys) && reserved_for(&nobodys).is_none());
}
