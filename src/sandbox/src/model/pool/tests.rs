//! Resources add up and come apart exactly, marks and all.

use overlord_mesos::v1::{AllocationInfo, Resource};
use serde_json::{Value, json};

use super::*;

fn pool(cpus: f64, ports: &[(u64, u64)]) -> Pool {
    let mut pool = Pool::default();
    pool.add_scalar("cpus", cpus);
    for &(begin, end) in ports {
        pool.add_range("ports", begin, end);
    }
    pool
}

fn resource(value: Value) -> Resource {
    serde_json::from_value(value).unwrap()
}

fn reserved(cpus: f64, stack: &Value) -> Resource {
    resource(json!({"name": "cpus", "type": "SCALAR", "scalar": {"value": cpus}, "reservations": stack}))
}

#[test]
fn what_is_taken_and_given_back_leaves_the_pool_as_it_was() {
    let mut whole = pool(8.0, &[(20_000, 20_010)]);
    let stack =
        json!([{"type": "STATIC", "role": "a"}, {"type": "DYNAMIC", "role": "a/b", "principal": "p"}]);
    whole.add(&Pool::read(&[reserved(2.0, &stack)]));
    let mut part = pool(0.1, &[(20_000, 20_000), (20_005, 20_006)]);
    part.add(&Pool::read(&[reserved(0.5, &stack)]));
    let mut rest = whole.clone();
    rest.subtract(&part);
    assert_eq!((rest.scalar("cpus"), rest.reserved_for(Some("a/b")).scalar("cpus")), (9_400, 1_500));
    assert!(!rest.contains(&part) && whole.contains(&part));
    rest.add(&part);
    assert_eq!(rest, whole);
}

#[test]
fn a_range_across_a_hole_is_not_contained() {
    let own = pool(1.0, &[(1, 4), (6, 9)]);
    assert!(own.contains(&pool(1.0, &[(6, 9)])));
    assert!(!own.contains(&pool(1.0, &[(4, 6)])));
    assert!(!own.contains(&pool(1.0, &[(10, 11)])));
}

#[test]
fn resources_print_as_mesos_prints_them() {
    let mut own = pool(7.5, &[(20_000, 29_999)]);
    own.add_scalar("mem", 8128.0);
    own.add_scalar("disk", 20_000.0);
    assert_eq!(
        own.describe("*"),
        "ports(allocated: *):[20000-29999]; cpus(allocated: *):7.5; mem(allocated: *):8128; disk(allocated: *):20000"
    );
    let volume = resource(json!({
        "name": "disk", "type": "SCALAR", "scalar": {"value": 50.0}, "allocation_info": {"role": "r"},
        "reservations": [{"type": "DYNAMIC", "role": "r", "principal": "p"}],
        "disk": {"persistence": {"id": "v"}, "volume": {"container_path": "data", "mode": "RW"}},
    }));
    assert_eq!(describe(&[volume], None), "disk(allocated: r)(reservations: [(DYNAMIC,r,p)])[v:data]:50");
    assert_eq!(describe(&[], None), "{}");
}

#[test]
fn resources_of_another_role_are_never_part_of_an_offer() {
    let mut resource = Resource::scalar("cpus", 0.1);
    resource.allocation_info = Some(AllocationInfo { role: Some("other".to_owned()) });
    assert_eq!(Pool::parse(&[resource], "*"), Err(BadResource::Foreign));
    let old_format = Resource { role: Some("*".to_owned()), ..Resource::scalar("cpus", 0.1) };
    assert_eq!(Pool::parse(&[old_format], "*"), Ok(pool(0.1, &[])));
}

#[test]
fn bad_amounts_are_refused_with_the_text_of_the_master() {
    let refused = Pool::parse(&[Resource::scalar("cpus", -1.0)], "*");
    let text = "Resource 'cpus:-1' is invalid: Invalid scalar resource: value <= 0";
    assert_eq!(refused, Err(BadResource::Invalid(text.to_owned())));
    let refused = Pool::parse(&[Resource::ranges("ports", &[(1, 5), (5, 9)])], "*");
    let text = "Resource 'ports:[1-5, 5-9]' is invalid: Invalid ranges resource: overlapping ranges";
    assert_eq!(refused, Err(BadResource::Invalid(text.to_owned())));
    let stack = json!([{"type": "DYNAMIC", "role": "a"}, {"type": "DYNAMIC", "role": "b"}]);
    let Err(BadResource::Invalid(text)) = Pool::parse(&[reserved(1.0, &stack)], "*") else { panic!() };
    assert!(text.ends_with("Invalid refined reservation: role 'b' is not a refinement of 'a'"), "{text}");
}

#[test]
fn the_old_form_of_a_reservation_is_the_same_as_the_new_one() {
    let old = resource(json!({
        "name": "cpus", "type": "SCALAR", "scalar": {"value": 1.0}, "role": "r", "reservation": {"principal": "p"},
    }));
    let new = reserved(1.0, &json!([{"type": "DYNAMIC", "role": "r", "principal": "p"}]));
    let [from_old, from_new] = [&old, &new].map(|one| Pool::read(std::slice::from_ref(one)));
    assert_eq!(from_old, from_new);
    assert_eq!(from_new.to_wire(None, Format::Old), [old]);
    assert_eq!(from_new.to_wire(None, Format::Stack), [new]);
}

#[test]
fn a_role_is_offered_what_is_reserved_for_it_or_above_it() {
    let mut own = pool(1.0, &[]);
    own.add(&Pool::read(&[reserved(2.0, &json!([{"type": "STATIC", "role": "a"}]))]));
    own.add(&Pool::read(&[reserved(
        4.0,
        &json!([{"type": "STATIC", "role": "a"}, {"type": "DYNAMIC", "role": "a/b"}]),
    )]));
    let all = Understands { refined: true, ..Understands::default() };
    let cpus = |role: &str, understands| own.offerable(role, understands).scalar("cpus") / 1000;
    assert_eq!((cpus("x", all), cpus("a", all), cpus("a/b", all), cpus("a/b/c", all)), (1, 3, 7, 7));
    assert_eq!(cpus("a/b", Understands::default()), 3);
}

#[test]
fn a_shared_volume_stays_while_it_is_used_and_goes_when_it_is_destroyed() {
    let volume = resource(json!({
        "name": "disk", "type": "SCALAR", "scalar": {"value": 50.0}, "shared": {},
        "reservations": [{"type": "DYNAMIC", "role": "r"}],
        "disk": {"persistence": {"id": "v"}, "volume": {"container_path": "data", "mode": "RW"}},
    }));
    let volume = Pool::read(&[volume]);
    let mut own = volume.clone();
    own.subtract(&volume);
    own.add(&volume);
    assert_eq!(own, volume);
    own.destroy(&volume);
    assert!(own.is_empty());
}
