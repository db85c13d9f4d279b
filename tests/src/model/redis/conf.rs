//! The configuration of a process: the lines of its file, what was set since, and defaults.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use overlord_api::Address;
use overlord_engines::redis_directives;

/// Directives that redis 7.0 knows, takes at its start only, and that no table of what people may set has.
const IMMUTABLE: [&str; 11] = [
    "always-show-logo",
    "cluster-config-file",
    "cluster-enabled",
    "daemonize",
    "databases",
    "io-threads",
    "logfile",
    "pidfile",
    "supervised",
    "syslog-enabled",
    "unixsocket",
];

/// The configuration of one process.
#[derive(Debug, Clone)]
pub(crate) struct Conf {
    values: BTreeMap<String, String>,
}

impl Conf {
    /// What a file says; the line that makes no sense.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut values: BTreeMap<String, String> = BTreeMap::new();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (name, value) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
            if value.is_empty() {
                return Err(format!(
                    "*** FATAL CONFIG FILE ERROR (Redis 7.0.15) ***\n>>> '{line}'\nwrong number of arguments"
                ));
            }
            let value = unquoted(value);
            let name = name.to_ascii_lowercase();
            // Save points add up over several lines, and an empty one takes all back.
            match values.get_mut(&name) {
                Some(before) if name == "save" && !value.is_empty() => {
                    format!("{before} {value}").trim().clone_into(before);
                }
                _ => {
                    values.insert(name, value);
                }
            }
        }
        Ok(Self { values })
    }

    /// A value as `CONFIG GET` gives it; none for what redis does not know.
    pub(crate) fn get(&self, name: &str) -> Option<String> {
        let name = name.to_ascii_lowercase();
        if let Some(value) = self.values.get(&name) {
            return Some(bytes(&name, value));
        }
        match name.as_str() {
            "save" => return Some("3600 1 300 100 60 10000".to_owned()),
            "appendonly" | "cluster-enabled" | "rdb-del-sync-files" | "cluster-replica-no-failover" => {
                return Some("no".to_owned());
            }
            "cluster-allow-replica-migration" | "cluster-require-full-coverage" => {
                return Some("yes".to_owned());
            }
            "port" => return Some("6379".to_owned()),
            "bind" => return Some("* -::*".to_owned()),
            "dbfilename" => return Some("dump.rdb".to_owned()),
            "requirepass" | "masterauth" => return Some(String::new()),
            _ => {}
        }
        let known = redis_directives().iter().find(|directive| directive.is_named(&name));
        known.and_then(|directive| directive.default).map(|default| bytes(&name, default))
    }

    /// `CONFIG SET` of one directive.
    pub(crate) fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let name = name.to_ascii_lowercase();
        let known = redis_directives().iter().find(|directive| directive.is_named(&name));
        let refused =
            |why: &str| format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {why}");
        match known {
            _ if matches!(name.as_str(), "save" | "appendonly") => {}
            _ if IMMUTABLE.contains(&name.as_str()) => return Err(refused("can't set immutable config")),
            Some(directive) if !directive.live => return Err(refused("can't set immutable config")),
            Some(_) => {}
            None if self.get(&name).is_some() => return Err(refused("can't set immutable config")),
            None => {
                return Err(format!("ERR Unknown option or number of arguments for CONFIG SET - '{name}'"));
            }
        }
        self.values.insert(name, value.to_owned());
        Ok(())
    }

    /// A value that is a number.
    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        self.get(name)?.parse().ok()
    }

    /// A value that is `yes`.
    pub(crate) fn is(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| value == "yes")
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> Result<Address, String> {
        let ip = |name: &str| {
            let value = self.values.get(name)?;
            value.split_whitespace().next()?.parse::<IpAddr>().ok()
        };
        let ip = ip("cluster-announce-ip").or_else(|| ip("bind"));
        let port = self.number("port").and_then(|port| u16::try_from(port).ok());
        match (ip, port) {
            (Some(ip), Some(port)) => Ok(Address::new(ip, port)),
            (ip, port) => Err(format!("the model needs an ip to bind and a port: {ip:?} {port:?}")),
        }
    }

    /// The port of its bus, for a node of a cluster.
    pub(crate) fn bus_port(&self, port: u16) -> Option<u16> {
        match self.number("cluster-port").unwrap_or(0) {
            0 => port.checked_add(10_000),
            port => u16::try_from(port).ok(),
        }
    }

    /// After so many seconds, when there were so many changes.
    pub(crate) fn save_points(&self) -> Vec<(Duration, u64)> {
        let text = self.get("save").unwrap_or_default();
        let numbers: Vec<u64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        numbers.chunks_exact(2).map(|pair| (Duration::from_secs(pair[0]), pair[1])).collect()
    }

    /// Milliseconds.
    pub(crate) fn millis(&self, name: &str, default: u64) -> Duration {
        Duration::from_millis(self.number(name).unwrap_or(default))
    }

    /// Seconds.
    pub(crate) fn seconds(&self, name: &str, default: u64) -> Duration {
        Duration::from_secs(self.number(name).unwrap_or(default))
    }
}

fn unquoted(value: &str) -> String {
    let value = value.trim();
    value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value).to_owned()
}

/// Sizes are told in bytes.
fn bytes(name: &str, value: &str) -> String {
    let lower = value.to_ascii_lowercase();
    let units = [("kb", 1_u64 << 10), ("mb", 1 << 20), ("gb", 1 << 30)];
    let size =
        units.iter().find_map(|(unit, of)| lower.strip_suffix(unit)?.parse::<u64>().ok()?.checked_mul(*of));
    match size {
        Some(size) if !name.starts_with("client-output") => size.to_string(),
        _ => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_told_as_redis_tells_them() {
        let mut conf =
            Conf::parse("# x\nmaxmemory 409mb\nsave 900 1\nsave 60 5\nbind 127.0.0.1\nport 7\n").unwrap();
        assert_eq!(conf.get("maxmemory").unwrap(), (409_u64 << 20).to_string());
        assert_eq!(conf.save_points().len(), 2);
        assert_eq!(conf.address().unwrap().to_string(), "127.0.0.1:7");
        assert_eq!(conf.get("cluster-node-timeout").as_deref(), Some("15000"));
        assert_eq!(conf.get("nonsense"), None);
        assert!(conf.set("port", "8").is_err() && conf.set("nonsense", "8").is_err());
        conf.set("hz", "20").unwrap();
        assert_eq!(conf.get("hz").as_deref(), Some("20"));
        assert!(Conf::parse("save \"\"\n").unwrap().save_points().is_empty());
        assert!(Conf::parse("port\n").is_err());
    }
}
