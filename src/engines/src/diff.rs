//! What differs between two configurations of one process, and whether the running server can take it.

use std::collections::BTreeMap;

use overlord_api::{Engine, Kind};

use crate::{
    ServerConf,
    directive::{Directive, find_any},
    version::{Minor, minor_of, newest},
};

/// One directive that differs in effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Its name, as the texts spell it.
    pub directive: String,
    /// The value before; none when the engine's default was in effect.
    pub old: Option<String>,
    /// The value wanted; none for the engine's default.
    pub new: Option<String>,
    /// Whether the running server takes it; otherwise its process must be restarted.
    pub live: bool,
}

/// The directives that differ in effect, sorted by name: `1gb` and `1073741824` are one value, and a
/// default that is written out is no difference.
pub fn diff(kind: Kind, version: &str, old: &ServerConf, new: &ServerConf) -> Vec<Change> {
    let engine = kind.engine();
    let release = minor_of(version).unwrap_or_else(|| newest(engine));
    let old = by_name(engine, release, old);
    let new = by_name(engine, release, new);
    let mut names: Vec<&str> = old.keys().chain(new.keys()).copied().collect();
    names.sort_unstable();
    names.dedup();
    names.into_iter().filter_map(|name| change(engine, release, name, old.get(name), new.get(name))).collect()
}

/// Spelling and value of one directive in one text.
type Entry<'c> = (&'c str, &'c str);

/// Entries by the newest spelling of their name.
fn by_name(engine: Engine, release: Minor, conf: &ServerConf) -> BTreeMap<&str, Entry<'_>> {
    conf.entries()
        .iter()
        .map(|(name, value)| {
            let row = find_any(engine, release, name);
            (row.map_or(name.as_str(), |row| row.name), (name.as_str(), value.as_str()))
        })
        .collect()
}

fn change(
    engine: Engine,
    release: Minor,
    name: &str,
    old: Option<&Entry<'_>>,
    new: Option<&Entry<'_>>,
) -> Option<Change> {
    let row = find_any(engine, release, name);
    let before = in_effect(row, release, old.map(|(_, value)| *value));
    let after = in_effect(row, release, new.map(|(_, value)| *value));
    if before == after {
        return None;
    }
    // Without a value to set, the only way back to the default is a new process.
    let live = row.is_some_and(|row| row.live) && after.is_some();
    let spelling = new.or(old).map_or(name, |(spelling, _)| *spelling);
    Some(Change {
        directive: spelling.to_owned(),
        old: old.map(|(_, value)| (*value).to_owned()),
        new: new.map(|(_, value)| (*value).to_owned()),
        live,
    })
}

/// The canonical value that a server has when its text says `value`, or nothing, of a directive.
fn in_effect(row: Option<&Directive>, release: Minor, value: Option<&str>) -> Option<String> {
    let text = value.or_else(|| row.and_then(|row| row.default))?;
    Some(canonical(row, release, text))
}

/// The canonical text of a value; the value itself when the table does not know it.
pub(crate) fn canonical(row: Option<&Directive>, release: Minor, value: &str) -> String {
    row.and_then(|row| row.value.canonical(value, release).ok()).unwrap_or_else(|| value.to_owned())
}

/// What to set a directive to on a running server so that a change is done.
pub(crate) fn target(engine: Engine, release: Minor, change: &Change) -> Option<String> {
    in_effect(find_any(engine, release, &change.directive), release, change.new.as_deref())
}

#[cfg(test)]
mod tests {
    use overlord_api::{Address, Persistence, Resources};
    use proptest::prelude::*;

    use super::*;
    use crate::{ConfInput, ValueType, directive::table, version::REDIS};

    fn conf(text: &str) -> ServerConf {
        ServerConf::parse(text).unwrap()
    }

    fn changes(old: &str, new: &str) -> Vec<(String, bool)> {
        let changes = diff(Kind::Redis, "7.0.15", &conf(old), &conf(new));
        changes.into_iter().map(|change| (change.directive, change.live)).collect()
    }

    #[test]
    fn one_value_in_two_spellings_is_no_change() {
        assert_eq!(changes("maxmemory 1gb\n", "maxmemory 1073741824\n"), []);
        assert_eq!(changes("notify-keyspace-events KEA\n", "notify-keyspace-events AKE\n"), []);
        assert_eq!(changes("slave-priority 7\n", "replica-priority 7\n"), []);
        assert_eq!(changes("", "databases 16\n"), [], "a default written out");
        assert_eq!(changes("save 900 1\nsave 60 5\n", "save 900 1 60 5\n"), []);
    }

    #[test]
    fn a_change_is_live_only_when_the_server_takes_it() {
        assert_eq!(changes("maxmemory 1gb\n", "maxmemory 2gb\n"), [("maxmemory".to_owned(), true)]);
        assert_eq!(changes("databases 16\n", "databases 32\n"), [("databases".to_owned(), false)]);
        assert_eq!(changes("save \"\"\n", "save 900 1\n"), [("save".to_owned(), true)]);
        assert_eq!(changes("dir .\n", "dir /x\n"), [("dir".to_owned(), false)]);
        let removed = diff(Kind::Redis, "7.0.15", &conf("hz 50\n"), &conf(""));
        assert_eq!(
            removed,
            [Change { directive: "hz".to_owned(), old: Some("50".to_owned()), new: None, live: true }]
        );
        let memcache = |old, new| diff(Kind::Memcache, "1.6.18", &conf(old), &conf(new));
        assert!(memcache("memory-limit=64\n", "memory-limit=128\n")[0].live);
        assert!(memcache("", "verbose\nverbose\n")[0].live);
        assert!(!memcache("threads=4\n", "threads=8\n")[0].live);
        assert!(!memcache("extended=hashpower=16\n", "")[0].live, "no value says the default");
        assert_eq!(memcache("extended=lru_crawler\n", ""), []);
    }

    /// A value that a directive takes, in some spelling.
    fn value_of(row: &'static Directive) -> BoxedStrategy<String> {
        match row.value {
            ValueType::Bool => {
                prop_oneof![Just("yes"), Just("no"), Just("true")].prop_map(str::to_owned).boxed()
            }
            ValueType::Int { min, max } => (min..=max.min(min + 1000)).prop_map(|n| n.to_string()).boxed(),
            ValueType::Bytes { min, .. } => prop_oneof![
                (min..min + 3).prop_map(|n| n.to_string()),
                (64_u32..80).prop_map(|n| format!("{n}mb")),
                (64_u32..80).prop_map(|n| format!("{}KB", n << 10)),
            ]
            .boxed(),
            ValueType::Size { step, .. } => {
                (1_u64..8).prop_map(move |n| format!("{}k", n * (step >> 10))).boxed()
            }
            ValueType::Enum(words) => proptest::sample::select(words).prop_map(str::to_owned).boxed(),
            ValueType::BytesOrPercent | ValueType::Percent => {
                (1_u32..100).prop_map(|n| n.to_string()).boxed()
            }
            ValueType::Seconds { min } => (min..min + 100).prop_map(|n| n.to_string()).boxed(),
            ValueType::Decimal { min, max } => (min..max).prop_map(|n| format!("{n:.2}")).boxed(),
            ValueType::Quantiles => Just("50.0 99".to_owned()).boxed(),
            ValueType::KeyspaceEvents => "[KEg$x]{0,4}".boxed(),
            ValueType::ClientOutputBufferLimit => {
                (0_u32..3).prop_map(|n| format!("pubsub {n}mb {n}kb 60 replica 0 {n}g 9")).boxed()
            }
            ValueType::Save => Just("900 1".to_owned()).boxed(),
        }
    }

    /// Some directives of a release with values.
    fn config_of(kind: Kind, release: Minor) -> impl Strategy<Value = BTreeMap<String, String>> {
        let rows: Vec<&'static Directive> =
            table(kind.engine()).iter().filter(|row| row.is_in(release) && row.is_for(kind)).collect();
        let entry = proptest::sample::select(rows)
            .prop_flat_map(|row| value_of(row).prop_map(move |value| (row.name.to_owned(), value)));
        proptest::collection::vec(entry, 0..8).prop_map(|entries| entries.into_iter().collect())
    }

    fn two_confs() -> impl Strategy<Value = (Kind, String, ServerConf, ServerConf)> {
        let redis = (
            proptest::sample::select(vec![Kind::Redis, Kind::RedisCluster]),
            proptest::sample::select(REDIS),
        );
        let any = prop_oneof![redis, Just((Kind::Memcache, (1, 6)))];
        let side = |kind, release| {
            let persistence =
                prop_oneof![Just(Persistence::None), Just(Persistence::Rdb), Just(Persistence::Aof)];
            (config_of(kind, release), persistence, 64_u64..512)
        };
        any.prop_flat_map(move |(kind, release)| {
            (Just(kind), Just(release), side(kind, release), side(kind, release))
        })
        .prop_map(|(kind, release, old, new)| {
            let version = format!("{}.{}.1", release.0, release.1);
            let render = |(config, persistence, mib): (BTreeMap<String, String>, Persistence, u64)| {
                ServerConf::render(&ConfInput {
                    kind,
                    version: &version,
                    address: Address::new([127, 0, 0, 1].into(), 20_001),
                    bus_port: None,
                    resources: Resources { cpu_millis: 500, memory: mib << 20, disk: 0 },
                    config: &config,
                    persistence,
                })
                .unwrap()
            };
            let (old, new) = (render(old), render(new));
            (kind, version, old, new)
        })
    }

    /// What a server has of each directive it was told or could be told.
    fn effect(kind: Kind, version: &str, conf: &ServerConf) -> BTreeMap<String, String> {
        let release = minor_of(version).unwrap();
        let rows = table(kind.engine()).iter().filter(|row| row.is_in(release));
        let mut effect: BTreeMap<String, String> = rows
            .filter_map(|row| Some((row.name.to_owned(), in_effect(Some(row), release, None)?)))
            .collect();
        for (name, (_, value)) in by_name(kind.engine(), release, conf) {
            let row = find_any(kind.engine(), release, name);
            effect.insert(name.to_owned(), canonical(row, release, value));
        }
        effect
    }

    proptest! {
        #[test]
        fn what_differs_is_all_that_must_be_done((kind, version, old, new) in two_confs()) {
            let release = minor_of(&version).unwrap();
            let mut server = effect(kind, &version, &old);
            for change in diff(kind, &version, &old, &new) {
                let row = find_any(kind.engine(), release, &change.directive);
                let name = row.map_or(change.directive.clone(), |row| row.name.to_owned());
                prop_assert!(change.old != change.new);
                if let Some(value) = target(kind.engine(), release, &change) {
                    server.insert(name, value);
                } else {
                    prop_assert!(!change.live);
                    server.remove(&name);
                }
            }
            prop_assert_eq!(server, effect(kind, &version, &new));
            prop_assert_eq!(diff(kind, &version, &new, &new), vec![]);
        }

        #[test]
        fn a_rendered_text_says_the_same_when_read_back((_, _, conf, _) in two_confs()) {
            prop_assert_eq!(ServerConf::parse(conf.as_str()).unwrap(), conf);
        }
    }
}
