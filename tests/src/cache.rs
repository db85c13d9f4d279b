//! Clients as small as can be: what a server says on its socket, not what a library makes of it.

use std::{io, time::Duration};

use tokio::{io::AsyncWriteExt as _, time::timeout};

use crate::link::{Answer, Link, connect, line};

/// A server on this machine answers at once, or is not there.
const PATIENCE: Duration = Duration::from_secs(5);

/// A redis server, asked over a connection of its own each time.
#[derive(Debug)]
pub struct Redis(String);

impl Redis {
    /// The server at `ip:port`.
    pub fn at(address: impl Into<String>) -> Self {
        Self(address.into())
    }

    /// One command; the answer's parts, flattened. A redis error is an error.
    ///
    /// # Errors
    /// When the server is not there, does not answer, or answers with an error.
    pub async fn ask(&self, words: &[&str]) -> io::Result<Vec<String>> {
        match Link::open(&self.0).await?.ask(words).await? {
            Answer::Parts(parts) => Ok(parts.into_iter().map(Option::unwrap_or_default).collect()),
            Answer::Refused(error) => Err(io::Error::other(error)),
        }
    }

    /// The answer of a command that answers with one value.
    ///
    /// # Errors
    /// As [`Redis::ask`].
    pub async fn one(&self, words: &[&str]) -> io::Result<String> {
        Ok(self.ask(words).await?.into_iter().next().unwrap_or_default())
    }

    /// A directive as the running server has it.
    ///
    /// # Errors
    /// As [`Redis::ask`].
    pub async fn config(&self, name: &str) -> io::Result<String> {
        Ok(self.ask(&["CONFIG", "GET", name]).await?.into_iter().nth(1).unwrap_or_default())
    }
}

/// A memcached server, asked over a connection of its own each time.
#[derive(Debug)]
pub struct Memcached(String);

impl Memcached {
    /// The server at `ip:port`.
    pub fn at(address: impl Into<String>) -> Self {
        Self(address.into())
    }

    /// Stores a value.
    ///
    /// # Errors
    /// When the server is not there or does not store it.
    pub async fn set(&self, key: &str, value: &str) -> io::Result<()> {
        let request = format!("set {key} 0 0 {}\r\n{value}\r\n", value.len());
        match self.ask(&request, "STORED").await?.as_slice() {
            [stored] if stored == "STORED" => Ok(()),
            other => Err(io::Error::other(format!("{other:?}"))),
        }
    }

    /// A value, if it is there.
    ///
    /// # Errors
    /// When the server is not there.
    pub async fn get(&self, key: &str) -> io::Result<Option<String>> {
        Ok(self.ask(&format!("get {key}\r\n"), "END").await?.into_iter().nth(1).filter(|line| line != "END"))
    }

    /// A line of `stats`, or of `stats <what>`.
    ///
    /// # Errors
    /// When the server is not there.
    pub async fn stat(&self, what: &str, name: &str) -> io::Result<String> {
        let lines = self.ask(&format!("stats {what}\r\n"), "END").await?;
        let prefix = format!("STAT {name} ");
        Ok(lines.iter().find_map(|line| line.strip_prefix(&prefix)).unwrap_or_default().to_owned())
    }

    async fn ask(&self, request: &str, last: &str) -> io::Result<Vec<String>> {
        timeout(PATIENCE, async {
            let mut connection = connect(&self.0).await?;
            connection.write_all(request.as_bytes()).await?;
            let mut lines = Vec::new();
            loop {
                let line = line(&mut connection).await?;
                let ended = line == last || line.contains("ERROR");
                lines.push(line);
                if ended {
                    return Ok(lines);
                }
            }
        })
        .await?
    }
}
