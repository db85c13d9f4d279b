//! The one way in which values of etcd and reports of executors are read: by their version.
//!
//! Every JSON value carries `version`; one that carries none is of version 1 (requests put by hand need not name
//! it). Today there is only version 1. The rules that keep builds of different age together:
//!
//! - A field that is added within a version has a default, and losing it does no harm: a build that does not know it
//!   reads the value without it, and drops it with its next write.
//! - What must not be lost that way raises the version. A build that meets a newer version than its own says so, by
//!   the key's name, and leaves the value alone.
//! - A build that raises the version reads all older ones: [`read_value`] is where they are turned into the new one.
//!   `tests/fixtures/values/v1` holds values as version 1 has them; a test reads them with every later build.
//!
//! Texts are no JSON and have versions of their own: specs (`apiVersion`), `server.conf` and `nodes.conf` (redis',
//! memcached's), `framework` (an id).

use serde::{Deserialize, de::DeserializeOwned};

/// The version of the values that this build writes.
pub const VALUES_VERSION: u32 = 1;

/// The version of a value that names none.
pub(crate) const fn first_version() -> u32 {
    1
}

/// Why a value is not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// A newer build wrote it: what this one does not know of it would be lost.
    #[error("it is of version {0}, written by a newer controller, and is left alone")]
    Newer(u64),
    /// It means nothing; the text says why.
    #[error("{0}")]
    Damaged(String),
}

impl Unreadable {
    /// Whether a newer build can read it.
    pub const fn is_newer(&self) -> bool {
        matches!(self, Self::Newer(_))
    }
}

/// Reads a JSON value of any version up to this build's.
pub fn read_value<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Unreadable> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u64,
    }
    if let Ok(Versioned { version }) = serde_json::from_slice(bytes)
        && version > u64::from(VALUES_VERSION)
    {
        return Err(Unreadable::Newer(version));
    }
    serde_json::from_slice(bytes).map_err(|error| {
        Unreadable::Damaged(if bytes.is_empty() { String::from("it is empty") } else { error.to_string() })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Quarantine;

    fn read(text: &str) -> Result<Quarantine, Unreadable> {
        read_value(text.as_bytes())
    }

    #[test]
    fn a_newer_version_is_named_whatever_else_the_value_holds() {
        for text in [r#"{"version": 2}"#, r#"{"version": 2, "until": [], "uid": 7}"#] {
            assert_eq!(read(text), Err(Unreadable::Newer(2)), "{text}");
        }
        assert!(Unreadable::Newer(2).to_string().contains("version 2"));
    }

    #[test]
    fn what_is_no_value_is_told_and_never_a_panic() {
        for text in
            ["", "{", "null", "[]", "7", "\"text\"", "{\"version\": \"2\"}", "{\"version\": -1}", "\u{0}"]
        {
            let Err(Unreadable::Damaged(why)) = read(text) else { panic!("{text}") };
            assert!(!why.is_empty());
        }
        assert_eq!(read(""), Err(Unreadable::Damaged(String::from("it is empty"))));
        assert!(matches!(read_value::<Quarantine>(&[0xff, 0xfe]), Err(Unreadable::Damaged(_))));
        assert!(matches!(read(&"[".repeat(1 << 20)), Err(Unreadable::Damaged(_))), "nested deeply");
    }

    #[test]
    fn a_value_without_a_version_is_of_the_first_one_and_unknown_fields_do_no_harm() {
        let text = r#"{"until": "2026-11-22T10:00:00Z", "uid": "u", "cluster": "c", "member": 1, "incarnation": 0,
                       "tomorrow": {"more": 1}}"#;
        assert_eq!(read(text).map(|value| value.version), Ok(1));
    }
}
