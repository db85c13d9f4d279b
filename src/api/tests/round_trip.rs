//! What is written is read back, the other reader of YAML sees the same, and nothing panics.

#![expect(clippy::unwrap_used, reason = "a test's helper may panic")]

mod common;

use std::{collections::BTreeMap, time::Duration};

use common::{LEAST, REDIS, Tables};
use overlord_api::{
    Cluster, ClusterName, Constraint, Deletion, Domain, OnAgentLoss, OnDisk, OnFailure, OnReturn, Operator,
    Persistence, Placement, Recovery, Resources, Rule, Shape, Spec, Spread, Update, parse_file, parse_key,
    parse_revision, render_faults,
};
use proptest::{prelude::*, sample::subsequence};

fn shape() -> impl Strategy<Value = Shape> {
    prop_oneof![
        (1..=1024_u32).prop_map(|shards| Shape::Redis { shards }),
        (3..=1000_u32, 0..=5_u32)
            .prop_map(|(masters, replicas_per_master)| Shape::RedisCluster { masters, replicas_per_master }),
        (1..=1024_u32).prop_map(|instances| Shape::Memcache { instances }),
    ]
}

fn placement() -> impl Strategy<Value = Placement> {
    let roles = proptest::collection::btree_set("[*a-z0-9#:][a-z0-9.#:-]{0,8}(/[a-z0-9]{1,4})?", 1..4)
        .prop_filter("roles of dots", |roles| roles.iter().all(|role| !role.starts_with('.')));
    let rule = prop_oneof![Just(Rule::Required), Just(Rule::Preferred)];
    let spread = (subsequence(vec![Domain::Host, Domain::Rack, Domain::Zone], 0..=3), rule)
        .prop_map(|(domains, rule)| domains.into_iter().map(|by| Spread { by, rule }).collect());
    let constraint = ("[A-Za-z0-9][A-Za-z0-9._/-]{0,8}", 0..5, "[A-Za-z0-9 :#{}!&*%@`|>~=?+-]{0,8}x")
        .prop_map(|(attribute, operator, value)| match operator {
            0 => Constraint { attribute, operator: Operator::Is, value },
            1 => Constraint { attribute, operator: Operator::IsNot, value },
            2 => Constraint { attribute, operator: Operator::In, value: format!("{value},y") },
            3 => Constraint { attribute, operator: Operator::NotIn, value },
            _ => Constraint { attribute, operator: Operator::Exists, value: String::new() },
        });
    (roles, spread, proptest::collection::vec(constraint, 0..4)).prop_map(|(roles, spread, constraints)| {
        Placement { roles: roles.into_iter().collect(), spread, constraints }
    })
}

fn update(canaries: u32) -> impl Strategy<Value = Update> {
    (1..=1024_u32, 0..3_600_000_u64, 1..600_000_000_u64, 0..=canaries, any::<bool>(), any::<bool>()).prop_map(
        |(max_unavailable, ready, more, canary, pause, allow_data_loss)| Update {
            max_unavailable,
            min_ready: Duration::from_millis(ready),
            deadline: Duration::from_millis((ready + more).max(1000)),
            canary,
            on_failure: if pause { OnFailure::Pause } else { OnFailure::Continue },
            allow_data_loss,
        },
    )
}

fn recovery() -> impl Strategy<Value = Recovery> {
    (1..=100_u32, 0..86_400_000_u64, 1000..2_000_000_000_u64).prop_map(|(restarts, after, more)| Recovery {
        restarts_before_replace: restarts,
        unreachable_after: Duration::from_millis(after),
        replace_after: Duration::from_millis(after + more),
        on_return: OnReturn::Keep,
        on_agent_loss: if restarts % 2 == 0 { OnAgentLoss::Keep } else { OnAgentLoss::Stop },
    })
}

fn spec() -> impl Strategy<Value = Spec> {
    let resources = (10..=256_000_u32, 32 << 20..=4_u64 << 40, 1 << 20..=64_u64 << 40, any::<bool>())
        .prop_map(|(cpu_millis, memory, disk, whole)| {
            let even = |bytes: u64| if whole { bytes >> 20 << 20 } else { bytes };
            Resources { cpu_millis, memory: even(memory), disk: even(disk) }
        });
    let value =
        r"|[!#-&(-\[\]-~]([ !#-&(-\[\]-~]{0,12}[!#-&(-\[\]-~])?|yes|no|null|~|0x10|1e3|007|1_000|2024-01-01";
    let config = proptest::collection::btree_map("[a-z][a-z0-9_-]{0,12}|y|no|null|true", value, 0..6);
    let version = "[0-9]{1,2}(\\.[0-9]{1,2}){0,2}(-rc1)?|1e3|0x1";
    let persistence = prop_oneof![Just(Persistence::None), Just(Persistence::Rdb), Just(Persistence::Aof)];
    let deletion = (any::<bool>(), any::<bool>()).prop_map(|(protected, delete)| Deletion {
        protected,
        on_disk: if delete { OnDisk::Delete } else { OnDisk::Retain },
    });
    (shape(), version, resources, config, persistence, placement(), recovery(), deletion).prop_flat_map(
        |(shape, version, resources, config, persistence, placement, recovery, deletion)| {
            update(shape.members().min(1024)).prop_map(move |update| Spec {
                shape,
                version: version.clone(),
                resources,
                config: config.clone(),
                persistence: if matches!(shape, Shape::Memcache { .. }) {
                    Persistence::None
                } else {
                    persistence
                },
                placement: placement.clone(),
                update,
                recovery,
                deletion,
            })
        },
    )
}

fn cluster() -> impl Strategy<Value = Cluster> {
    let name = "[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?|no|null|0x10|1e3|true|007"
        .prop_map(|name| ClusterName::new(name).unwrap());
    let text = "[A-Za-z0-9]([A-Za-z0-9._/-]{0,8}[A-Za-z0-9])?";
    let value = "|[A-Za-z0-9]([A-Za-z0-9._/-]{0,8}[A-Za-z0-9])?";
    let labels = proptest::collection::btree_map(text, value, 0..4);
    (name, labels, spec()).prop_map(|(name, labels, spec)| Cluster { name, labels, spec })
}

/// A value of the other reader as flat `path = text` lines.
fn flat(path: &str, value: &serde_yaml::Value, lines: &mut BTreeMap<String, String>) {
    match value {
        serde_yaml::Value::Mapping(entries) => {
            for (key, value) in entries {
                flat(&format!("{path}/{}", key.as_str().unwrap_or("?")), value, lines);
            }
        }
        serde_yaml::Value::Sequence(items) => {
            for (n, item) in items.iter().enumerate() {
                flat(&format!("{path}/{n}"), item, lines);
            }
        }
        serde_yaml::Value::String(text) => drop(lines.insert(path.to_owned(), text.clone())),
        other => drop(lines.insert(path.to_owned(), serde_json::to_string(other).unwrap())),
    }
}

fn flat_json(value: &serde_json::Value) -> BTreeMap<String, String> {
    let mut lines = BTreeMap::new();
    flat("", &serde_yaml::to_value(value).unwrap(), &mut lines);
    lines
}

/// What is accepted means the same to `serde_yaml`: each value that it finds is in our manifest, amounts aside.
fn same_to_the_other_reader(text: &str, cluster: &Cluster) -> Result<(), TestCaseError> {
    let theirs: serde_yaml::Value = serde_yaml::from_str(text).map_err(|error| {
        TestCaseError::fail(format!("accepted, but not by the other reader: {error}\n{text}"))
    })?;
    let mut lines = BTreeMap::new();
    flat("", &theirs, &mut lines);
    let ours = flat_json(&cluster.to_json());
    for (path, found) in lines.iter().filter(|(_, found)| *found != "null") {
        let amount = path.starts_with("/spec/resources")
            || path.ends_with("After")
            || path.ends_with("deadline")
            || path.ends_with("minReady");
        if !amount {
            prop_assert_eq!(ours.get(path), Some(found), "{} in\n{}", path, text);
        }
    }
    Ok(())
}

fn all_of(text: &str) {
    for document in parse_file(text, &Tables) {
        if let Err(faults) = &document.cluster {
            assert!(!faults.is_empty());
            for fault in faults {
                assert!(fault.span.start <= fault.span.end && fault.span.end <= text.len(), "{fault:?}");
                assert!(text.get(fault.span.clone()).is_some(), "{fault:?} cuts a character");
                assert!(fault.to_string().chars().all(|c| !c.is_control()), "{fault:?}");
            }
            let shown = render_faults("x.yaml", text, faults, false);
            assert!(shown.chars().all(|c| c == '\n' || !c.is_control()), "{shown:?}");
        }
    }
}

proptest! {
    #[test]
    fn a_revision_reads_back_to_the_same_cluster(cluster in cluster()) {
        let text = cluster.to_yaml();
        let read = parse_revision(&text);
        prop_assert_eq!(read.as_ref(), Ok(&cluster), "{}", text);
        let again = read.unwrap().to_yaml();
        prop_assert_eq!(&again, &text);
        let json = cluster.to_json().to_string();
        let read = parse_revision(&json);
        prop_assert_eq!(read.as_ref(), Ok(&cluster), "{}", json);
        same_to_the_other_reader(&text, &cluster)?;
    }

    #[test]
    fn arbitrary_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let name = ClusterName::new("orders").unwrap();
        prop_assert!(!parse_key(&name, &bytes, &Tables).unwrap_err().is_empty());
        all_of(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn arbitrary_yaml_is_answered(text in "([a-c]: |- |\\? |[\\[{}\\],:&*!|>'\"%@#~\t \n-]|---\n|\\.\\.\\.\n|  |x|1|\r|é|\u{2028}){0,60}") {
        all_of(&text);
    }

    #[test]
    fn damaged_specs_are_answered_and_read_alike(
        which in 0..4_usize,
        cuts in proptest::collection::vec((any::<prop::sample::Index>(), 0..12_usize, "[ -~\n\t]{0,6}|é|\u{0}|: |\n- "), 1..4),
    ) {
        let mut text = [LEAST[0], LEAST[1], LEAST[2], REDIS][which].to_owned();
        for (at, length, new) in &cuts {
            let at = (0..=at.index(text.len() + 1)).rev().find(|at| text.is_char_boundary(*at)).unwrap();
            let end = (at..=(at + length).min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap();
            text.replace_range(at..end, new);
        }
        all_of(&text);
        let name = ClusterName::new(if which == 3 { "orders" } else { "a" }).unwrap();
        if let Ok(cluster) = parse_key(&name, text.as_bytes(), &Tables) {
            let marker = "---";
            prop_assume!(!text.contains(marker) && !text.contains("..."));
            same_to_the_other_reader(&text, &cluster)?;
        }
    }
}

#[test]
fn defaults_are_those_documented() {
    let yaml: Vec<String> =
        LEAST.iter().map(|text| parse_file(text, &Tables).remove(0).cluster.unwrap().to_yaml()).collect();
    assert_eq!(
        yaml[0],
        r"apiVersion: overlord/v1
kind: Redis
metadata:
  name: a
spec:
  version: 7.0.15
  shards: 1
  resources:
    cpu: '0.1'
    memory: 64Mi
    disk: 1Gi
  config: {}
  persistence:
    mode: none
  placement:
    roles:
    - '*'
    spread:
    - by: host
      rule: preferred
    - by: rack
      rule: preferred
    constraints: []
  update:
    maxUnavailable: 1
    minReady: 5s
    deadline: 10m
    canary: 0
    onFailure: pause
    allowDataLoss: false
  recovery:
    restartsBeforeReplace: 5
    unreachableAfter: 30s
    replaceAfter: 10m
    onReturn: keep
    onAgentLoss: keep
  deletion:
    protected: false
    onDisk: delete
"
    );
    assert!(yaml[1].contains("masters: 3\n  replicasPerMaster: 1\n"));
    assert!(yaml[1].contains("- by: host\n      rule: required\n    - by: rack\n      rule: preferred\n"));
    assert!(yaml[2].contains("instances: 1\n"));
}

#[test]
fn empty_sections_are_their_defaults() {
    let text = format!(
        "{}\n",
        r#"apiVersion: overlord/v1
kind: Redis
metadata:
  name: a
  labels:
spec:
  version: "7.0.15"
  shards: 1
  resources: {memory: 64Mi}
  config:
  placement:
    roles:
    spread:
    constraints:
  persistence:
  update:
  recovery:
  deletion:"#
    );
    let least = parse_file(LEAST[0], &Tables).remove(0).cluster;
    assert_eq!(parse_file(&text, &Tables).remove(0).cluster, least);
}
