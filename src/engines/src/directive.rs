//! One row of the tables of directives, and finding the row that speaks of a name.

use overlord_api::{Engine, Kind};

use crate::{memcache_table, owned, redis_table, value::ValueType, version::Minor};

/// A directive that people may set.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Directive {
    /// Its name, in the newest spelling.
    pub name: &'static str,
    /// What values it takes.
    pub value: ValueType,
    /// Whether a running server takes a new value; otherwise its process must be restarted.
    pub live: bool,
    /// What the engine uses when the directive is not there; `None` when no value says that.
    pub default: Option<&'static str>,
    /// The first release in which it is so. One name may have several rows, of different releases.
    pub since: Minor,
    /// The first release in which it is not so any more.
    pub until: Option<Minor>,
    /// Another spelling, and the first release that knows the newer one.
    pub formerly: Option<(&'static str, Minor)>,
    /// Which kinds have it.
    pub scope: Scope,
    /// How it is written in `server.conf`.
    pub form: Form,
}

/// Which kinds of cluster a directive is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// All kinds that run the engine.
    Any,
    /// `Redis` only.
    Redis,
    /// `RedisCluster` only.
    RedisCluster,
}

/// How a directive is written in `server.conf`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// redis: `name value`.
    Line,
    /// memcached: `name=value`.
    Option,
    /// memcached: `name` when yes, nothing when no.
    Flag,
    /// memcached: `name` as often as the number says.
    Count,
    /// memcached: `extended=name=value`.
    Extended,
    /// memcached: `extended=name` when yes, nothing when no.
    ExtendedFlag,
    /// memcached: `extended=name` when yes, `extended=no_name` when no.
    ExtendedToggle,
}

impl Directive {
    pub(crate) const fn new(name: &'static str, value: ValueType, live: bool, default: &'static str) -> Self {
        Self {
            name,
            value,
            live,
            default: Some(default),
            since: (0, 0),
            until: None,
            formerly: None,
            scope: Scope::Any,
            form: Form::Line,
        }
    }

    pub(crate) const fn since(self, major: u8, minor: u8) -> Self {
        Self { since: (major, minor), ..self }
    }

    pub(crate) const fn until(self, major: u8, minor: u8) -> Self {
        Self { until: Some((major, minor)), ..self }
    }

    pub(crate) const fn formerly(self, name: &'static str, major: u8, minor: u8) -> Self {
        Self { formerly: Some((name, (major, minor))), ..self }
    }

    pub(crate) const fn single(self) -> Self {
        Self { scope: Scope::Redis, ..self }
    }

    pub(crate) const fn cluster(self) -> Self {
        Self { scope: Scope::RedisCluster, ..self }
    }

    pub(crate) const fn form(self, form: Form) -> Self {
        Self { form, ..self }
    }

    pub(crate) const fn no_default(self) -> Self {
        Self { default: None, ..self }
    }

    /// Whether the row speaks of that release.
    pub fn is_in(&self, release: Minor) -> bool {
        self.since <= release && self.until.is_none_or(|until| release < until)
    }

    /// Whether that kind has it.
    pub const fn is_for(&self, kind: Kind) -> bool {
        match self.scope {
            Scope::Any => true,
            Scope::Redis => matches!(kind, Kind::Redis),
            Scope::RedisCluster => matches!(kind, Kind::RedisCluster),
        }
    }

    /// Whether that is its name, in either spelling.
    pub fn is_named(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
            || self.formerly.is_some_and(|(older, _)| older.eq_ignore_ascii_case(name))
    }

    /// The spelling that a release knows.
    pub fn spelling(&self, release: Minor) -> &'static str {
        match self.formerly {
            Some((older, newer_since)) if release < newer_since => older,
            _ => self.name,
        }
    }
}

/// What people may set on redis 4.0 to 7.2.
pub const fn redis_directives() -> &'static [Directive] {
    redis_table::DIRECTIVES
}

/// What people may set on memcached 1.5 and 1.6.
pub const fn memcache_options() -> &'static [Directive] {
    memcache_table::OPTIONS
}

/// The table of an engine.
pub(crate) const fn table(engine: Engine) -> &'static [Directive] {
    match engine {
        Engine::Redis => redis_table::DIRECTIVES,
        Engine::Memcache => memcache_table::OPTIONS,
    }
}

/// The row for a name that people may set.
pub(crate) fn find(engine: Engine, release: Minor, name: &str) -> Option<&'static Directive> {
    table(engine).iter().find(|row| row.is_in(release) && row.is_named(name))
}

/// The row for a name that people or Overlord set.
pub(crate) fn find_any(engine: Engine, release: Minor, name: &str) -> Option<&'static Directive> {
    let own = match engine {
        Engine::Redis => owned::REDIS_LIVE,
        Engine::Memcache => &[],
    };
    find(engine, release, name).or_else(|| own.iter().find(|row| row.is_named(name)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        value::{MAX_VALUE, ValueType},
        version::{MEMCACHED, REDIS},
    };

    fn releases(engine: Engine) -> &'static [Minor] {
        match engine {
            Engine::Redis => REDIS,
            Engine::Memcache => MEMCACHED,
        }
    }

    #[test]
    fn each_release_has_one_row_for_a_name() {
        for engine in [Engine::Redis, Engine::Memcache] {
            for release in releases(engine) {
                let rows: Vec<_> = table(engine).iter().filter(|row| row.is_in(*release)).collect();
                for (index, row) in rows.iter().enumerate() {
                    for other in &rows[index + 1..] {
                        assert!(!other.is_named(row.name), "{release:?} {}", row.name);
                        if let Some((older, _)) = row.formerly {
                            assert!(!other.is_named(older), "{release:?} {older}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn rows_are_sorted_and_sound() {
        for engine in [Engine::Redis, Engine::Memcache] {
            let names: Vec<_> = table(engine).iter().map(|row| (row.name, row.since)).collect();
            assert!(names.is_sorted(), "{engine}");
            for row in table(engine) {
                let name = row.name;
                assert!(row.until.is_none_or(|until| row.since < until), "{name}");
                assert!(releases(engine).iter().any(|release| row.is_in(*release)), "{name}");
                assert!(row.formerly.is_none_or(|(older, _)| older != name), "{name}");
                match row.value {
                    ValueType::Int { min, max } => assert!(min < max, "{name}"),
                    ValueType::Bytes { min, max } | ValueType::Size { min, max, .. } => {
                        assert!(min < max, "{name}");
                    }
                    ValueType::Decimal { min, max } => assert!(min < max, "{name}"),
                    ValueType::Enum(words) => assert!(words.len() > 1, "{name}"),
                    _ => {}
                }
            }
        }
    }

    #[test]
    fn defaults_are_canonical_values() {
        for engine in [Engine::Redis, Engine::Memcache] {
            for row in table(engine).iter().filter(|row| row.name != "maxmemory") {
                for release in releases(engine).iter().filter(|release| row.is_in(**release)) {
                    let Some(default) = row.default else { continue };
                    assert_eq!(
                        row.value.canonical(default, *release).as_deref(),
                        Ok(default),
                        "{}",
                        row.name
                    );
                    assert!(default.len() <= MAX_VALUE);
                }
            }
        }
    }

    #[test]
    fn both_spellings_lead_to_the_one_a_release_knows() {
        for (release, known) in
            [((4, 0), "slave-priority"), ((5, 0), "replica-priority"), ((7, 2), "replica-priority")]
        {
            for name in ["slave-priority", "replica-priority"] {
                assert_eq!(find(Engine::Redis, release, name).unwrap().spelling(release), known);
            }
        }
        assert_eq!(
            find(Engine::Redis, (6, 2), "hash-max-listpack-value").unwrap().spelling((6, 2)),
            "hash-max-ziplist-value"
        );
        assert!(find(Engine::Redis, (6, 2), "latency-tracking").is_none());
    }
}
