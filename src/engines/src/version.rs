//! Engine versions: which ones there are tables for, and reading them from what a binary prints.

use overlord_api::{Engine, RuleFault};

/// Major and minor version: what directives are told apart by.
pub type Minor = (u8, u8);

/// redis releases with a table. 7.4 changed the licence and 8.0 the set of directives.
pub(crate) const REDIS: &[Minor] = &[(4, 0), (5, 0), (6, 0), (6, 2), (7, 0), (7, 2)];

/// memcached releases with a table.
pub(crate) const MEMCACHED: &[Minor] = &[(1, 5), (1, 6)];

/// Longest version text looked at.
const MAX_VERSION: usize = 32;

/// Major and minor of a version such as `7.0.15`: two or three numbers.
pub(crate) fn minor_of(version: &str) -> Option<Minor> {
    if version.len() > MAX_VERSION {
        return None;
    }
    let mut parts = version.split('.');
    let major = number(parts.next()?)?;
    let minor = number(parts.next()?)?;
    if let Some(patch) = parts.next() {
        number(patch)?;
    }
    match parts.next() {
        None => Some((u8::try_from(major).ok()?, u8::try_from(minor).ok()?)),
        Some(_) => None,
    }
}

fn number(text: &str) -> Option<u16> {
    (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
}

/// The release of a version that there is a table for.
pub(crate) fn supported(engine: Engine, version: &str) -> Result<Minor, RuleFault> {
    let known = table(engine);
    match minor_of(version) {
        Some(minor) if known.contains(&minor) => Ok(minor),
        Some(_) => Err(RuleFault::new(format!("{engine} {version} is not supported"))
            .hint(format!("supported are {}", listed(known)))),
        None => Err(RuleFault::new(format!("{version:?} is not a version of {engine}"))
            .hint("write it in full, such as \"7.0.15\" or \"1.6.18\"")),
    }
}

/// The newest release with a table: the one to judge names by when the version itself is in doubt.
pub(crate) fn newest(engine: Engine) -> Minor {
    table(engine).iter().copied().max().unwrap_or_default()
}

fn table(engine: Engine) -> &'static [Minor] {
    match engine {
        Engine::Redis => REDIS,
        Engine::Memcache => MEMCACHED,
    }
}

fn listed(known: &[Minor]) -> String {
    known.iter().map(|(major, minor)| format!("{major}.{minor}")).collect::<Vec<_>>().join(", ")
}

/// The version in the output of `redis-server --version` or `memcached -V`.
pub fn version_of(output: &str) -> Option<String> {
    let line = output.lines().next()?;
    let version = if let Some(rest) = line.strip_prefix("Redis server v=") {
        rest.split_whitespace().next()?
    } else {
        line.strip_prefix("memcached ")?.trim()
    };
    minor_of(version).map(|_| version.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_the_binaries_print() {
        let redis =
            "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=ae4d7c971a948f0\n";
        assert_eq!(version_of(redis).as_deref(), Some("7.0.15"));
        assert_eq!(version_of("memcached 1.6.18\n").as_deref(), Some("1.6.18"));
        for other in ["", "Valkey server v=8.0.1 sha=0", "memcached", "memcached x.y", "Redis server v="] {
            assert_eq!(version_of(other), None, "{other}");
        }
    }

    #[test]
    fn only_versions_with_a_table_are_supported() {
        assert_eq!(supported(Engine::Redis, "6.2.14"), Ok((6, 2)));
        assert_eq!(supported(Engine::Memcache, "1.6.18"), Ok((1, 6)));
        for bad in
            ["7", "7.0.15.1", "seven", "7.4.0", "3.2.1", "6.1.0", "7.0.x", "", "99999.0", "7..0", "+7.0"]
        {
            assert!(supported(Engine::Redis, bad).is_err(), "{bad}");
        }
    }
}
