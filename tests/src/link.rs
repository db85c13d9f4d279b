//! One connection to a redis server, and what the server says on it.

use std::{fmt::Write as _, io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    time::timeout,
};

/// A server on this machine answers at once, or is not there.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a server answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Its parts, flattened; `None` for nothing.
    Parts(Vec<Option<String>>),
    /// An error of redis, such as `MOVED 7 127.0.0.1:20000`.
    Refused(String),
}

/// A connection. After a failure it is of no more use: an answer may still be on its way.
#[derive(Debug)]
pub(crate) struct Link(BufReader<TcpStream>);

/// Connects a socket within the usual time.
pub(crate) async fn connect(address: &str) -> io::Result<BufReader<TcpStream>> {
    let address: SocketAddr = address.parse().map_err(io::Error::other)?;
    let stream = timeout(PATIENCE, TcpStream::connect(address)).await??;
    stream.set_nodelay(true)?;
    Ok(BufReader::new(stream))
}

/// A line without its end.
pub(crate) async fn line(connection: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut line = String::new();
    if connection.read_line(&mut line).await? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end().to_owned())
}

impl Link {
    pub(crate) async fn open(address: &str) -> io::Result<Self> {
        connect(address).await.map(Self)
    }

    /// One command.
    pub(crate) async fn ask(&mut self, words: &[&str]) -> io::Result<Answer> {
        self.ask_within(PATIENCE, words).await
    }

    /// One command that may take so long.
    pub(crate) async fn ask_within(&mut self, limit: Duration, words: &[&str]) -> io::Result<Answer> {
        timeout(limit, self.exchange(words)).await?
    }

    async fn exchange(&mut self, words: &[&str]) -> io::Result<Answer> {
        let mut request = format!("*{}\r\n", words.len());
        for word in words {
            let _ = write!(request, "${}\r\n{word}\r\n", word.len());
        }
        self.0.write_all(request.as_bytes()).await?;
        let mut parts = Vec::new();
        let mut left = 1_usize;
        while left > 0 {
            left -= 1;
            let head = line(&mut self.0).await?;
            let (kind, rest) = head.split_at_checked(1).unwrap_or_default();
            match kind {
                "-" if parts.is_empty() && left == 0 => return Ok(Answer::Refused(rest.to_owned())),
                "*" => left += rest.parse::<usize>().unwrap_or(0),
                "$" => parts.push(self.bulk(rest).await?),
                _ => parts.push(Some(rest.to_owned())),
            }
        }
        Ok(Answer::Parts(parts))
    }

    async fn bulk(&mut self, length: &str) -> io::Result<Option<String>> {
        // Nothing has the length -1.
        let Ok(length) = length.parse::<usize>() else { return Ok(None) };
        let mut bytes = vec![0; length + 2];
        self.0.read_exact(&mut bytes).await?;
        bytes.truncate(length);
        String::from_utf8(bytes).map(Some).map_err(io::Error::other)
    }
}
