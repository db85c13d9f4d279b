//! Clients as small as can be: what a server says on its socket, not what a library makes of it.

use std::{fmt::Write as _, io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    time::timeout,
};

/// A server on this machine answers at once, or is not there.
const PATIENCE: Duration = Duration::from_secs(5);

type Connection = BufReader<TcpStream>;

async fn connect(address: &str) -> io::Result<Connection> {
    let address: SocketAddr = address.parse().map_err(io::Error::other)?;
    Ok(BufReader::new(timeout(PATIENCE, TcpStream::connect(address)).await??))
}

async fn line(connection: &mut Connection) -> io::Result<String> {
    let mut line = String::new();
    if connection.read_line(&mut line).await? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end().to_owned())
}

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
        timeout(PATIENCE, async {
            let mut connection = connect(&self.0).await?;
            let mut request = format!("*{}\r\n", words.len());
            for word in words {
                let _ = write!(request, "${}\r\n{word}\r\n", word.len());
            }
            connection.write_all(request.as_bytes()).await?;
            let mut parts = Vec::new();
            let mut left = 1_usize;
            while left > 0 {
                left -= 1;
                let head = line(&mut connection).await?;
                let (kind, rest) = head.split_at_checked(1).unwrap_or_default();
                match kind {
                    "-" => return Err(io::Error::other(rest.to_owned())),
                    "*" => left += rest.parse::<usize>().unwrap_or(0),
                    "$" => parts.push(bulk(&mut connection, rest).await?),
                    _ => parts.push(rest.to_owned()),
                }
            }
            Ok(parts)
        })
        .await?
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

async fn bulk(connection: &mut Connection, length: &str) -> io::Result<String> {
    let Ok(length) = length.parse::<usize>() else { return Ok(String::new()) };
    let mut bytes = vec![0; length + 2];
    connection.read_exact(&mut bytes).await?;
    bytes.truncate(length);
    String::from_utf8(bytes).map_err(io::Error::other)
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
