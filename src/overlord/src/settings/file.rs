//! The settings file of a controller, TOML. Unknown keys are refused with their place.

use std::{collections::BTreeMap, path::Path};

use overlord_api::Engine;
use serde::Deserialize;

use crate::{failure::Failure, logging::LogFormat};

/// The whole file.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    #[serde(default)]
    pub(crate) etcd: Etcd,
    #[serde(default)]
    pub(crate) mesos: Mesos,
    #[serde(default)]
    pub(crate) api: Api,
    #[serde(default)]
    pub(crate) executor: Executor,
    #[serde(default)]
    pub(crate) controller: Controller,
    /// Engine, then version.
    #[serde(default)]
    pub(crate) engines: BTreeMap<Engine, BTreeMap<String, Binary>>,
    #[serde(default)]
    pub(crate) log: Log,
}

/// `[etcd]`
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Etcd {
    pub(crate) endpoints: Option<Vec<String>>,
    pub(crate) user: Option<String>,
    pub(crate) password_file: Option<String>,
}

/// `[mesos]`
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Mesos {
    pub(crate) masters: Option<Vec<String>>,
    pub(crate) roles: Option<Vec<String>>,
    pub(crate) framework: Option<String>,
    pub(crate) user: Option<String>,
    pub(crate) failover_timeout: Option<String>,
    pub(crate) principal: Option<String>,
    pub(crate) secret_file: Option<String>,
    pub(crate) ca_file: Option<String>,
    pub(crate) cert_file: Option<String>,
    pub(crate) key_file: Option<String>,
}

/// `[api]`
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Api {
    pub(crate) listen: Option<String>,
    pub(crate) advertise: Option<String>,
}

/// `[executor]`
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Executor {
    pub(crate) path: Option<String>,
    pub(crate) deliver: Option<bool>,
    pub(crate) url: Option<String>,
    pub(crate) sha256: Option<String>,
    pub(crate) etcd: Option<Vec<String>>,
    pub(crate) etcd_credentials: Option<String>,
}

/// `[controller]`
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Controller {
    pub(crate) state_file: Option<String>,
    pub(crate) lease: Option<String>,
    pub(crate) quarantine: Option<String>,
    pub(crate) bus_port: Option<String>,
    pub(crate) resync: Option<String>,
    pub(crate) deletion_ceiling: Option<usize>,
    pub(crate) concurrency: Option<usize>,
}

/// `[engines.<engine>."<version>"]`: where agents get that binary. Empty: it is there already.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Binary {
    pub(crate) url: Option<String>,
    pub(crate) sha256: Option<String>,
}

/// `[log]`
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Log {
    pub(crate) level: Option<String>,
    pub(crate) format: Option<LogFormat>,
}

/// Reads and checks a file.
pub(crate) fn read(path: &Path) -> Result<File, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| Failure::io(path.display(), &error))?;
    parse(&path.display().to_string(), &text)
}

/// The same from a text.
pub(crate) fn parse(name: &str, text: &str) -> Result<File, Failure> {
    let file: File = toml::from_str(text).map_err(|error| toml_failure(name, text, &error))?;
    for (engine, versions) in &file.engines {
        for (version, binary) in versions {
            check_download(
                &format!("{name}: engines.{engine}.{version:?}"),
                binary.url.as_deref(),
                binary.sha256.as_deref(),
            )?;
        }
    }
    Ok(file)
}

/// A download is checked by its digest, or not made.
pub(crate) fn check_download(place: &str, url: Option<&str>, sha256: Option<&str>) -> Result<(), Failure> {
    match (url, sha256) {
        (None, None) => Ok(()),
        (Some(url), Some(sha256)) => {
            check_url(place, url)?;
            if sha256.len() != 64 || !sha256.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Err(Failure::usage(
                    format!("{place}: sha256 is no digest of 64 hex digits"),
                    "take it from `sha256sum FILE`",
                ));
            }
            Ok(())
        }
        (Some(_), None) => {
            Err(Failure::usage(format!("{place}: url without sha256"), "add the digest of the file"))
        }
        (None, Some(_)) => {
            Err(Failure::usage(format!("{place}: sha256 without url"), "add the url, or leave both out"))
        }
    }
}

fn check_url(place: &str, url: &str) -> Result<(), Failure> {
    check_no_secret(place, url)?;
    if reqwest::Url::parse(url).is_err() || !(url.starts_with("http://") || url.starts_with("https://")) {
        return Err(Failure::usage(format!("{place}: url is none"), "write http://... or https://..."));
    }
    Ok(())
}

/// A url ends up on command lines, in Mesos and in logs: nothing in it may be a secret. For the same
/// reason a refused one is not repeated.
pub(crate) fn check_no_secret(place: &str, url: &str) -> Result<(), Failure> {
    let parsed = reqwest::Url::parse(url);
    if parsed.is_ok_and(|url| !url.username().is_empty() || url.password().is_some()) {
        return Err(Failure::usage(
            format!("{place}: url has a user or a password in it, which Mesos and logs would show"),
            "leave out what stands before the @: offer the file without, or install it on the agents",
        ));
    }
    Ok(())
}

/// A TOML error as `file:line:column: message`, with the line below.
pub(crate) fn toml_failure(name: &str, text: &str, error: &toml::de::Error) -> Failure {
    let message = error.message().lines().collect::<Vec<_>>().join(" ");
    let Some(span) = error.span() else { return Failure::usage(format!("{name}: {message}"), "") };
    let mut start = span.start.min(text.len());
    while !text.is_char_boundary(start) {
        start -= 1;
    }
    let before = &text[..start];
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    let line = before.matches('\n').count() + 1;
    let column = before[line_start..].chars().count() + 1;
    let source = text[line_start..].lines().next().unwrap_or_default();
    Failure::usage(format!("{name}:{line}:{column}: {message}"), format!("the line is: {}", source.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_keys_are_refused_with_their_place() {
        let failure = parse("o.toml", "[etcd]\nendpoints = []\nendpoint = \"x\"\n").unwrap_err();
        assert!(failure.message.starts_with("o.toml:3:1: unknown field `endpoint`"), "{failure}");
        let failure = parse("o.toml", "[mesos]\nmasters = 5\n").unwrap_err();
        assert!(failure.message.starts_with("o.toml:2:11: "), "{failure}");
        let failure = parse("o.toml", "[engines.mongo.\"1\"]\n").unwrap_err();
        assert!(failure.message.contains("mongo"), "{failure}");
    }

    #[test]
    fn a_download_needs_its_digest() {
        assert!(parse("f", "[engines.redis.\"7.0.15\"]\n").is_ok());
        assert!(parse("f", "[engines.redis.\"7.0.15\"]\nurl = \"http://x/y\"\n").is_err());
        let digest = "0".repeat(64);
        assert!(
            parse("f", &format!("[engines.redis.\"7\"]\nurl = \"http://x/y\"\nsha256 = \"{digest}\"\n"))
                .is_ok()
        );
    }

    #[test]
    fn a_url_with_a_secret_is_refused_and_not_repeated() {
        let digest = "0".repeat(64);
        for url in [
            "https://user:token@x/y",
            "https://token@x/y",
            "https://:token@x/y",
            "https:///user:token@x/y",
            "ftp://user:token@x/y",
            "user:token@x/y",
        ] {
            let file = format!("[engines.redis.\"7\"]\nurl = \"{url}\"\nsha256 = \"{digest}\"\n");
            let failure = parse("f", &file).unwrap_err();
            assert!(failure.message.starts_with("f: engines.redis.\"7\": url "), "{failure}");
            assert!(!format!("{failure} {}", failure.hint).contains("token"), "{failure}");
        }
        let at = format!("[engines.redis.\"7\"]\nurl = \"https://x/a@b\"\nsha256 = \"{digest}\"\n");
        assert!(parse("f", &at).is_ok());
    }
}
