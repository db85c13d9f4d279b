//! `zk://[user:password@]host1:port1,host2:port2/path`, as Mesos writes it.

use std::{fmt, str::FromStr};

/// Longest address taken.
const MAX_LENGTH: usize = 4096;

/// Most servers taken; ensembles have three or five.
const MAX_HOSTS: usize = 32;

/// What ZooKeeper listens on when nothing else is said.
const DEFAULT_PORT: u16 = 2181;

/// Where in ZooKeeper masters contend for leadership.
#[derive(Clone, PartialEq, Eq)]
pub struct ZooKeeperUrl {
    hosts: Vec<String>,
    path: String,
    auth: Option<String>,
}

/// What is wrong with a `zk://` address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ZooKeeperUrlError {
    /// It is none.
    #[error("it does not begin with zk://")]
    Scheme,
    /// Nobody writes such long ones.
    #[error("it is longer than {MAX_LENGTH} bytes")]
    TooLong,
    /// There is no server, or there are too many.
    #[error("it names {0} servers, expected 1 to {MAX_HOSTS}")]
    Hosts(usize),
    /// A server is not `host:port`.
    #[error("server number {0} is not host:port")]
    Host(usize),
    /// What stands before the @ is not `user:password`.
    #[error("what stands before the @ is not user:password")]
    Auth,
    /// The path is none of ZooKeeper.
    #[error("bad path {path:?}: {reason}")]
    Path {
        /// As given.
        path: String,
        /// What is wrong.
        reason: &'static str,
    },
}

impl ZooKeeperUrl {
    /// The servers, as `host:port,host:port`.
    pub fn servers(&self) -> String {
        self.hosts.join(",")
    }

    /// The node whose children are the masters; begins with a slash, and ends with one only if that is all.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// `user:password` for ZooKeeper's scheme `digest`.
    pub(crate) fn auth(&self) -> Option<&str> {
        self.auth.as_deref()
    }
}

impl FromStr for ZooKeeperUrl {
    type Err = ZooKeeperUrlError;

    fn from_str(text: &str) -> Result<Self, ZooKeeperUrlError> {
        if text.len() > MAX_LENGTH {
            return Err(ZooKeeperUrlError::TooLong);
        }
        let rest = text.strip_prefix("zk://").ok_or(ZooKeeperUrlError::Scheme)?;
        // A password may hold any sign; hosts hold no @, and paths of Mesos neither.
        let (auth, rest) = match rest.rsplit_once('@') {
            None => (None, rest),
            Some((auth, rest)) => (Some(auth), rest),
        };
        let auth = match auth {
            None => None,
            Some(auth) => match auth.split_once(':') {
                Some((user, _)) if !user.is_empty() => Some(auth.to_owned()),
                _ => return Err(ZooKeeperUrlError::Auth),
            },
        };
        let (hosts, path) = match rest.find('/') {
            None => (rest, "/"),
            Some(slash) => rest.split_at(slash),
        };
        let hosts: Vec<_> = hosts.split(',').collect();
        if hosts == [""] || hosts.len() > MAX_HOSTS {
            return Err(ZooKeeperUrlError::Hosts(if hosts == [""] { 0 } else { hosts.len() }));
        }
        let hosts = hosts
            .into_iter()
            .enumerate()
            .map(|(index, host)| server(host).ok_or(ZooKeeperUrlError::Host(index + 1)))
            .collect::<Result<_, _>>()?;
        Ok(Self { hosts, path: checked(path)?, auth })
    }
}

/// `host:port` of `host`, `host:port`, `[v6]` or `[v6]:port`.
fn server(text: &str) -> Option<String> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (format!("[{host}]"), if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) })
        }
        None => match text.split_once(':') {
            None => (text.to_owned(), None),
            Some((host, port)) => (host.to_owned(), Some(port)),
        },
    };
    let fine = host.starts_with('[')
        || !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    let port = port.map_or(Some(DEFAULT_PORT), |port| port.parse().ok()).filter(|port| *port != 0)?;
    fine.then(|| format!("{host}:{port}"))
}

/// ZooKeeper's own rules for paths (`PathUtils.validatePath`), except that a slash at the end is taken off.
fn checked(path: &str) -> Result<String, ZooKeeperUrlError> {
    let path = if path.len() > 1 { path.strip_suffix('/').unwrap_or(path) } else { path };
    let reason = if path.chars().any(char::is_control) {
        "a control character"
    } else if path != "/" && path.split('/').skip(1).any(str::is_empty) {
        "an empty name"
    } else if path.split('/').any(|name| name == "." || name == "..") {
        "a relative name"
    } else {
        return Ok(path.to_owned());
    };
    Err(ZooKeeperUrlError::Path { path: path.to_owned(), reason })
}

/// Without the password.
impl fmt::Display for ZooKeeperUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let auth = if self.auth.is_some() { "***@" } else { "" };
        write!(f, "zk://{auth}{}{}", self.servers(), self.path)
    }
}

impl fmt::Debug for ZooKeeperUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn servers_path_and_password_are_read() {
        for (text, servers, path, auth) in [
            ("zk://a:2181,b:2182/mesos", "a:2181,b:2182", "/mesos", None),
            ("zk://a/mesos/", "a:2181", "/mesos", None),
            ("zk://10.0.0.1", "10.0.0.1:2181", "/", None),
            ("zk://[::1]:2181,[fe80::1]/a/b", "[::1]:2181,[fe80::1]:2181", "/a/b", None),
            ("zk://me:p@ss:w0rd/,@a:1/x", "a:1", "/x", Some("me:p@ss:w0rd/,")),
        ] {
            let url: ZooKeeperUrl = text.parse().unwrap();
            assert_eq!((url.servers().as_str(), url.path(), url.auth()), (servers, path, auth));
        }
    }

    #[test]
    fn what_is_wrong_is_said_without_the_password() {
        for (text, expected) in [
            ("http://a", "it does not begin with zk://"),
            ("zk://", "it names 0 servers, expected 1 to 32"),
            ("zk:///mesos", "it names 0 servers, expected 1 to 32"),
            ("zk://hush@a/mesos", "what stands before the @ is not user:password"),
            ("zk://u:hush@a,,b/mesos", "server number 2 is not host:port"),
            ("zk://u:hush@a:0/mesos", "server number 1 is not host:port"),
            ("zk://a:99999", "server number 1 is not host:port"),
            ("zk://[::1/mesos", "server number 1 is not host:port"),
            ("zk://a//b", "bad path \"//b\": an empty name"),
            ("zk://a/../b", "bad path \"/../b\": a relative name"),
            ("zk://a/b\0", "bad path \"/b\\0\": a control character"),
        ] {
            let error = text.parse::<ZooKeeperUrl>().unwrap_err().to_string();
            assert_eq!(error, expected, "{text}");
        }
        assert_eq!("zk://".repeat(1000).parse::<ZooKeeperUrl>(), Err(ZooKeeperUrlError::TooLong));
        let url: ZooKeeperUrl = "zk://u:hush@a/mesos".parse().unwrap();
        assert_eq!(format!("{url} {url:?}"), "zk://***@a:2181/mesos zk://***@a:2181/mesos");
    }

    proptest! {
        #[test]
        fn whatever_is_read_can_be_written_and_read_again(text in "zk://([a-z]{0,3}:[a-z@:/]{0,5}@)?[a-z0-9.:,\\[\\]-]{0,30}(/[a-z./\\x00-\\x20]{0,10})?") {
            crate::properties::zookeeper_url(text.as_bytes());
        }
    }
}
