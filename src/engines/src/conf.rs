//! `server.conf`: the whole configuration text of one process, rendered from a spec and read back.
//! The text is what redis reads as `redis.conf`, or what memcached's options are made from; it is the
//! same for the same input, so that texts can be compared by their hash.

use std::{collections::BTreeMap, net::IpAddr};

use overlord_api::{Address, Kind, Persistence, Resources, RuleFault, Rules};

use crate::{
    directive::{Directive, Form, find},
    obuf::Limits,
    quote,
    rules::EngineRules,
    value::ValueType,
    version::{Minor, supported},
};

/// Bytes a text may have.
pub const MAX_CONF: usize = 64 << 10;

/// redis 7.0's save points, for all releases.
const SAVE_POINTS: [(u32, u32); 3] = [(3600, 1), (300, 100), (60, 10_000)];

/// More replicas than a master must keep for one of them to leave: redis.conf of 7.0 names this way to forbid it,
/// the only one before.
const NO_MIGRATION: &str = "1000000";

/// What decides a process's configuration.
#[derive(Debug, Clone, Copy)]
pub struct ConfInput<'a> {
    /// The cluster's kind.
    pub kind: Kind,
    /// Version of the binary.
    pub version: &'a str,
    /// Where it listens.
    pub address: Address,
    /// `redis_cluster`: the port of its bus.
    pub bus_port: Option<u16>,
    /// What it has of its agent.
    pub resources: Resources,
    /// Directives from people.
    pub config: &'a BTreeMap<String, String>,
    /// What survives a restart.
    pub persistence: Persistence,
}

/// A configuration text, and what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerConf {
    text: String,
    entries: Vec<(String, String)>,
}

/// A configuration that cannot be rendered, or a text that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfError {
    /// There is no table for the version.
    #[error("{0}")]
    Version(RuleFault),
    /// People may not set that.
    #[error("{0}")]
    Directive(RuleFault),
    /// Two spellings of one directive.
    #[error("{0} is set twice")]
    Twice(String),
    /// The memory is too small to derive a limit for the data from it.
    #[error("{0} bytes of memory are too little for {1}")]
    Memory(u64, Kind),
    /// Below 7.0 the bus port cannot be chosen.
    #[error(
        "redis {version} has its bus on port {expected}, not {bus_port}; 7.0 and later have cluster-port"
    )]
    BusPort {
        /// The version.
        version: String,
        /// Data port + 10000.
        expected: u32,
        /// The port given.
        bus_port: u16,
    },
    /// The text is larger than [`MAX_CONF`].
    #[error("the configuration has {0} bytes, more than {MAX_CONF}")]
    TooLong(usize),
    /// A line that is no directive.
    #[error("line {line} of the configuration is no directive")]
    Line {
        /// From 1.
        line: usize,
    },
}

/// Bytes for data out of an instance's memory: 80 %, with persistence 60 % (a fork copies what is written
/// meanwhile), in whole MiB.
pub fn derived_memory(kind: Kind, resources: Resources, persistence: Persistence) -> u64 {
    let share = match (kind, persistence) {
        (Kind::Memcache, _) | (Kind::Redis | Kind::RedisCluster, Persistence::None) => 80,
        (Kind::Redis | Kind::RedisCluster, Persistence::Rdb | Persistence::Aof) => 60,
    };
    (resources.memory / 100 * share) >> 20 << 20
}

/// Name to the words of each of its lines.
type Lines = BTreeMap<String, Vec<String>>;

impl ServerConf {
    /// The configuration of one process.
    pub fn render(input: &ConfInput<'_>) -> Result<Self, ConfError> {
        let release = supported(input.kind.engine(), input.version).map_err(ConfError::Version)?;
        let mut lines = Lines::new();
        for (name, value) in input.config {
            EngineRules.directive(input.kind, input.version, name, value).map_err(ConfError::Directive)?;
            let Some(row) = find(input.kind.engine(), release, name) else { continue };
            let key = row.spelling(release).to_owned();
            if lines.contains_key(&key) {
                return Err(ConfError::Twice(key));
            }
            lines.insert(key, written(row, release, value));
        }
        match input.kind {
            Kind::Redis | Kind::RedisCluster => redis_lines(input, release, &mut lines)?,
            Kind::Memcache => memcache_lines(input, &mut lines)?,
        }
        let mut text = format!(
            "# {} {} at {}. Written by Overlord; change the spec of the cluster instead.\n",
            input.kind, input.version, input.address
        );
        for line in lines.into_values().flatten() {
            text.push_str(&line);
            text.push('\n');
        }
        Self::parse(&text)
    }

    /// A text as [`ServerConf::render`] writes it, or as people would by hand.
    pub fn parse(text: &str) -> Result<Self, ConfError> {
        if text.len() > MAX_CONF {
            return Err(ConfError::TooLong(text.len()));
        }
        let mut entries: Vec<(String, String)> = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (name, value) = entry(line).ok_or(ConfError::Line { line: index + 1 })?;
            match entries.iter_mut().find(|(known, _)| *known == name) {
                None => entries.push((name, value)),
                Some((known, before)) => {
                    *before = repeated(known, before, &value).ok_or(ConfError::Twice(name))?;
                }
            }
        }
        Ok(Self { text: text.to_owned(), entries })
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Names and values in the order of the text. Lines of one name are one entry; a memcached option
    /// without a value is `yes`, and `extended=no_x` is `x` with the value `no`.
    pub fn entries(&self) -> &[(String, String)] {
        &self.entries
    }

    /// The value of a directive, if the text has it.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.entries.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

fn redis_lines(input: &ConfInput<'_>, release: Minor, lines: &mut Lines) -> Result<(), ConfError> {
    let mut own = |name: &str, value: &str| lines.insert(name.to_owned(), vec![format!("{name} {value}")]);
    own("bind", &input.address.ip.to_string());
    own("port", &input.address.port.to_string());
    // Reachable from other hosts by design: who may connect is the network's business.
    own("protected-mode", "no");
    own("daemonize", "no");
    // The process starts in its directory, and its output is console.log.
    own("dir", ".");
    own("logfile", "\"\"");
    own("dbfilename", "dump.rdb");
    own("appendonly", if input.persistence == Persistence::Aof { "yes" } else { "no" });
    if input.kind == Kind::RedisCluster {
        own("cluster-enabled", "yes");
        own("cluster-config-file", "nodes.conf");
        // Else peers take the source address of its connections, which on a host with several may be another.
        let ip = input.address.ip.to_string();
        own("cluster-announce-ip", &ip);
        own(if release < (5, 0) { "slave-announce-ip" } else { "replica-announce-ip" }, &ip);
        // Replicas that move to other masters of their own accord would be in places that nobody chose.
        own("cluster-migration-barrier", NO_MIGRATION);
        let fixed = u32::from(input.address.port) + 10_000;
        match input.bus_port {
            Some(bus_port) if release >= (7, 0) => {
                own("cluster-port", &bus_port.to_string());
            }
            Some(bus_port) if u32::from(bus_port) != fixed => {
                let version = input.version.to_owned();
                return Err(ConfError::BusPort { version, expected: fixed, bus_port });
            }
            _ => {}
        }
    }
    let save = match input.persistence {
        Persistence::None | Persistence::Aof => vec!["save \"\"".to_owned()],
        Persistence::Rdb => {
            SAVE_POINTS.map(|(seconds, changes)| format!("save {seconds} {changes}")).to_vec()
        }
    };
    lines.insert("save".to_owned(), save);
    if !lines.contains_key("maxmemory") {
        let bytes = derived_memory(input.kind, input.resources, input.persistence);
        if bytes == 0 {
            return Err(ConfError::Memory(input.resources.memory, input.kind));
        }
        lines.insert("maxmemory".to_owned(), vec![format!("maxmemory {}mb", bytes >> 20)]);
    }
    if input.persistence == Persistence::Aof {
        preset(lines, "appendfsync", "everysec");
    }
    if input.kind == Kind::RedisCluster {
        // A replica without its first sync is never promoted: 2.1 s instead of 5.1 s at risk (7.0.15).
        preset(lines, "repl-diskless-sync-delay", "0");
        if input.persistence == Persistence::None && release >= (6, 0) {
            // A full sync leaves a dump behind, with which the replica would start again, however old it is.
            preset(lines, "rdb-del-sync-files", "yes");
        }
    }
    Ok(())
}

fn memcache_lines(input: &ConfInput<'_>, lines: &mut Lines) -> Result<(), ConfError> {
    let listen = match input.address.ip {
        IpAddr::V4(ip) => ip.to_string(),
        // memcached takes what follows a colon for a port.
        IpAddr::V6(ip) => format!("[{ip}]"),
    };
    let mut own = |name: &str, value: &str| lines.insert(name.to_owned(), vec![format!("{name}={value}")]);
    own("listen", &listen);
    own("port", &input.address.port.to_string());
    // On by default before 1.5.6, and an amplifier for attacks.
    own("udp-port", "0");
    if !lines.contains_key("memory-limit") {
        let mib = derived_memory(input.kind, input.resources, input.persistence) >> 20;
        if mib < 8 {
            return Err(ConfError::Memory(input.resources.memory, input.kind));
        }
        lines.insert("memory-limit".to_owned(), vec![format!("memory-limit={mib}")]);
    }
    Ok(())
}

/// Overlord's preference where people have none.
fn preset(lines: &mut Lines, name: &str, value: &str) {
    lines.entry(name.to_owned()).or_insert_with(|| vec![format!("{name} {value}")]);
}

/// The lines of a directive with a value that was found good.
fn written(row: &Directive, release: Minor, value: &str) -> Vec<String> {
    let canonical = row.value.canonical(value, release).unwrap_or_default();
    let name = row.spelling(release);
    // Sizes stay as they were written: people look into these files.
    let text = match row.value {
        ValueType::Bytes { .. } | ValueType::BytesOrPercent | ValueType::Size { .. } => {
            value.trim().to_ascii_lowercase()
        }
        _ => canonical.clone(),
    };
    let yes = canonical == "yes";
    match row.form {
        Form::Line => redis_words(row, release, &text, value)
            .into_iter()
            .map(|words| {
                let words: Vec<String> = words.iter().filter_map(|word| quote::quote(word)).collect();
                format!("{name} {}", words.join(" "))
            })
            .collect(),
        Form::Option => vec![format!("{name}={text}")],
        Form::Flag if yes => vec![name.to_owned()],
        Form::Count => vec![name.to_owned(); canonical.parse().unwrap_or(0)],
        Form::Extended => vec![format!("extended={name}={text}")],
        Form::ExtendedFlag | Form::ExtendedToggle if yes => vec![format!("extended={name}")],
        Form::ExtendedToggle => vec![format!("extended=no_{name}")],
        Form::Flag | Form::ExtendedFlag => Vec::new(),
    }
}

/// The words of each line of a redis directive.
fn redis_words(row: &Directive, release: Minor, text: &str, value: &str) -> Vec<Vec<String>> {
    match row.value {
        ValueType::ClientOutputBufferLimit => {
            let replica = if release < (5, 0) { "slave" } else { "replica" };
            Limits::parse(value).map(|limits| limits.lines(replica)).unwrap_or_default()
        }
        ValueType::Quantiles if !text.is_empty() => vec![text.split(' ').map(str::to_owned).collect()],
        _ => vec![vec![text.to_owned()]],
    }
}

/// Name and value of one line. redis has a space between them, memcached never has one.
fn entry(line: &str) -> Option<(String, String)> {
    if line.chars().any(|c| c.is_control() && c != '\t') {
        return None;
    }
    if line.contains([' ', '\t']) {
        let mut words = quote::split(line)?.into_iter();
        let name = words.next().filter(|name| is_name(name))?.to_ascii_lowercase();
        return Some((name, words.collect::<Vec<_>>().join(" ")));
    }
    let (name, value) = match line.strip_prefix("extended=") {
        Some(option) => match (option.split_once('='), option.strip_prefix("no_")) {
            (Some(pair), _) => pair,
            (None, Some(name)) => (name, "no"),
            (None, None) => (option, "yes"),
        },
        // Its value is how often it stands there.
        None if line == "verbose" => (line, "1"),
        None => line.split_once('=').unwrap_or((line, "yes")),
    };
    // A comma would begin a further sub-option.
    (is_name(name) && !value.contains(',')).then(|| (name.to_owned(), value.to_owned()))
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
}

/// What a second line of one name makes of the first; nothing for directives that stand once.
fn repeated(name: &str, before: &str, value: &str) -> Option<String> {
    match name {
        "save" | "client-output-buffer-limit" => Some(format!("{before} {value}").trim().to_owned()),
        "verbose" => {
            let count: u8 = before.parse().ok()?;
            Some(count.saturating_add(1).to_string())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn render(kind: Kind, version: &str, config: &[(&str, &str)]) -> Result<ServerConf, ConfError> {
        let config = config.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        ServerConf::render(&ConfInput {
            kind,
            version,
            address: Address::new([127, 0, 0, 1].into(), 20_001),
            bus_port: None,
            resources: Resources { cpu_millis: 500, memory: 512 << 20, disk: 0 },
            config: &config,
            persistence: Persistence::None,
        })
    }

    #[test]
    fn what_people_may_not_set_is_refused_when_rendering_too() {
        for (kind, name, value) in [
            (Kind::Redis, "port", "1"),
            (Kind::Redis, "maxmemory-policy", "allkeys-lru\nloadmodule /x.so"),
            (Kind::Redis, "maxmemory-policy", "allkeys-lru\" \""),
            (Kind::Redis, "cluster-node-timeout", "1000"),
            (Kind::Memcache, "listen", "0.0.0.0"),
            (Kind::Memcache, "hash_algorithm", "murmur3,ext_path=/x:1G"),
            (Kind::Memcache, "threads", "4 --user=x"),
        ] {
            let version = if kind == Kind::Memcache { "1.6.18" } else { "7.0.15" };
            let outcome = render(kind, version, &[(name, value)]);
            assert!(matches!(outcome, Err(ConfError::Directive(_))), "{name}: {outcome:?}");
        }
        assert!(matches!(render(Kind::Redis, "9.9.9", &[]), Err(ConfError::Version(_))));
        let twice = render(Kind::Redis, "7.0.15", &[("slave-priority", "1"), ("replica-priority", "2")]);
        assert_eq!(twice, Err(ConfError::Twice("replica-priority".to_owned())));
    }

    #[test]
    fn entries_of_both_syntaxes_are_found_by_name() {
        let conf = render(
            Kind::Memcache,
            "1.6.18",
            &[("lru_crawler", "no"), ("verbose", "2"), ("disable-cas", "yes")],
        );
        let conf = conf.unwrap();
        assert_eq!(conf.get("lru_crawler"), Some("no"));
        assert_eq!(conf.get("verbose"), Some("2"));
        assert_eq!(conf.get("disable-cas"), Some("yes"));
        assert_eq!(conf.get("memory-limit"), Some("409"));
        let conf = render(Kind::Redis, "7.0.15", &[("hz", "50")]).unwrap();
        assert_eq!((conf.get("hz"), conf.get("save"), conf.get("nope")), (Some("50"), Some(""), None));
    }

    #[test]
    fn a_text_that_is_no_configuration_is_refused_with_its_line() {
        for (text, line) in [("hz 10\n\"unbalanced\n", 2), ("=x\n", 1), ("a=b,c\n", 1), ("hz 1\u{7}0\n", 1)] {
            assert_eq!(ServerConf::parse(text), Err(ConfError::Line { line }), "{text:?}");
        }
        assert_eq!(ServerConf::parse("hz 10\nhz 20\n"), Err(ConfError::Twice("hz".to_owned())));
        assert!(matches!(ServerConf::parse(&"# x\n".repeat(MAX_CONF)), Err(ConfError::TooLong(_))));
    }

    #[test]
    fn a_bus_port_below_redis_7_is_the_one_redis_takes() {
        let input = |version: &'static str, bus_port| {
            let config = BTreeMap::new();
            ServerConf::render(&ConfInput {
                kind: Kind::RedisCluster,
                version,
                address: Address::new([127, 0, 0, 1].into(), 20_001),
                bus_port,
                resources: Resources { cpu_millis: 500, memory: 512 << 20, disk: 0 },
                config: &config,
                persistence: Persistence::None,
            })
        };
        assert_eq!(input("7.0.15", Some(21_001)).unwrap().get("cluster-port"), Some("21001"));
        assert_eq!(input("6.2.14", Some(30_001)).unwrap().get("cluster-port"), None);
        assert!(matches!(input("6.2.14", Some(21_001)), Err(ConfError::BusPort { expected: 30_001, .. })));
    }

    proptest! {
        #[test]
        fn no_text_makes_parsing_panic(text in any::<String>()) {
            let _ = ServerConf::parse(&text);
        }

        #[test]
        fn no_value_adds_a_line(name in "[a-z_-]{1,20}|maxmemory-policy|notify-keyspace-events|threads", value in any::<String>()) {
            for (kind, version) in [(Kind::Redis, "7.0.15"), (Kind::Memcache, "1.6.18")] {
                let plain = render(kind, version, &[]).unwrap().as_str().lines().count();
                if let Ok(conf) = render(kind, version, &[(&name, &value)]) {
                    prop_assert!(conf.as_str().lines().count() <= plain + 2);
                }
            }
        }
    }
}
