//! An HTTP/1.1 client that hides nothing: it sends what it is told to, byte by byte, and reports head, body, each
//! record of a stream, and how the connection ended. One connection takes one request.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, tcp::OwnedReadHalf},
    sync::mpsc,
    time::timeout,
};

use crate::{
    model::{Head, Request, What},
    parse::record_of,
};

/// The longest head that is read.
const LARGEST_HEAD: usize = 64 << 10;
/// The longest body, chunk or record that is read.
const LARGEST: usize = 16 << 20;
/// How long a master may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// A response to HEAD has no body, but Mesos sends one.
const BODY_OF_HEAD: Duration = Duration::from_millis(200);

/// What came, and on which connection.
#[derive(Debug)]
pub struct Received {
    /// The connection.
    pub connection: String,
    /// What came.
    pub what: What,
}

/// An open connection. Dropping it closes it.
#[derive(Debug)]
pub struct Connection {
    task: tokio::task::JoinSet<()>,
}

impl Connection {
    /// Connects, sends a request and reports what comes to `sink`.
    pub fn open(
        name: &str,
        to: SocketAddr,
        request: &Request,
        sink: mpsc::UnboundedSender<Received>,
    ) -> Self {
        let mut task = tokio::task::JoinSet::new();
        let name = name.to_owned();
        let bytes = bytes_of(request);
        let streams = is_subscription(request);
        let is_head = request.method() == "HEAD";
        task.spawn(async move {
            let report = |what| drop(sink.send(Received { connection: name.clone(), what }));
            let connected = timeout(CONNECT, TcpStream::connect(to)).await;
            let Ok(Ok(socket)) = connected else {
                report(What::Note(format!("cannot connect to {to}")));
                return report(What::Eof);
            };
            let (read, mut write) = socket.into_split();
            if write.write_all(&bytes).await.is_ok() {
                let mut reader = Reader { read, buffer: Vec::new() };
                // However a response breaks off, what came until then is what the case sees.
                drop(reader.response(streams, is_head, &report).await);
                drop(reader.until_closed().await);
            }
            report(What::Eof);
            drop(write);
        });
        Self { task }
    }

    /// Closes the connection without a word.
    pub fn close(mut self) {
        self.task.abort_all();
    }
}

/// The bytes of a request: LF becomes CRLF, and the body is framed as its head says.
fn bytes_of(request: &Request) -> Vec<u8> {
    let mut head = request.head.join("\r\n");
    head.push_str("\r\n\r\n");
    let mut bytes = head.into_bytes();
    if request.header("transfer-encoding").is_some() {
        bytes.extend(format!("{:x}\r\n{}\r\n0\r\n\r\n", request.body.len(), request.body).bytes());
    } else {
        bytes.extend(request.body.bytes());
    }
    bytes
}

/// Whether a stream of records is the answer.
fn is_subscription(request: &Request) -> bool {
    request.call().is_some_and(|call| call == "SUBSCRIBE")
}

struct Reader {
    read: OwnedReadHalf,
    buffer: Vec<u8>,
}

/// The connection broke off, or what came is no HTTP.
struct Broken;

impl Reader {
    async fn fill(&mut self) -> Result<(), Broken> {
        match self.read.read_buf(&mut self.buffer).await {
            Ok(0) | Err(_) => Err(Broken),
            Ok(_) => Ok(()),
        }
    }

    async fn until_closed(&mut self) -> Result<(), Broken> {
        loop {
            self.buffer.clear();
            self.fill().await?;
        }
    }

    /// A line without its end.
    async fn line(&mut self) -> Result<String, Broken> {
        loop {
            if let Some(end) = self.buffer.iter().position(|&b| b == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return Ok(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned());
            }
            if self.buffer.len() > LARGEST_HEAD {
                return Err(Broken);
            }
            self.fill().await?;
        }
    }

    async fn exactly(&mut self, length: usize) -> Result<Vec<u8>, Broken> {
        if length > LARGEST {
            return Err(Broken);
        }
        while self.buffer.len() < length {
            self.fill().await?;
        }
        Ok(self.buffer.drain(..length).collect())
    }

    async fn head(&mut self) -> Result<Head, Broken> {
        let status = self.line().await?;
        let mut parts = status.splitn(3, ' ').skip(1);
        let code = parts.next().and_then(|code| code.parse().ok()).ok_or(Broken)?;
        let mut head =
            Head { status: code, reason: parts.next().unwrap_or_default().to_owned(), headers: vec![] };
        loop {
            let line = self.line().await?;
            let Some((name, value)) = line.split_once(':') else { return Ok(head) };
            head.headers.push((name.to_owned(), value.trim().to_owned()));
        }
    }

    async fn response(&mut self, streams: bool, is_head: bool, report: &impl Fn(What)) -> Result<(), Broken> {
        let mut head = self.head().await?;
        while head.status == 100 {
            head = self.head().await?;
        }
        let chunked = head.header("transfer-encoding").is_some_and(|coding| coding == "chunked");
        let length = head.header("content-length").and_then(|length| length.parse::<usize>().ok());
        let good = head.status == 200;
        report(What::Head(head));
        match length {
            _ if chunked && streams && good => self.records(report).await?,
            _ if chunked && !is_head => {
                let mut body = Vec::new();
                while let Some(chunk) = self.chunk().await? {
                    body.extend(chunk);
                    if body.len() > LARGEST {
                        return Err(Broken);
                    }
                }
                report(What::Body(String::from_utf8_lossy(&body).into_owned()));
            }
            None | Some(0) => {}
            Some(length) => {
                let body = if is_head {
                    timeout(BODY_OF_HEAD, self.exactly(length)).await.map_err(|_| Broken)??
                } else {
                    self.exactly(length).await?
                };
                report(What::Body(String::from_utf8_lossy(&body).into_owned()));
            }
        }
        Ok(())
    }

    /// A chunk, or the end.
    async fn chunk(&mut self) -> Result<Option<Vec<u8>>, Broken> {
        let size = self.line().await?;
        let size = usize::from_str_radix(size.split(';').next().unwrap_or_default().trim(), 16);
        let size = size.map_err(|_| Broken)?;
        let chunk = self.exactly(size).await?;
        self.line().await?;
        Ok((size > 0).then_some(chunk))
    }

    /// RecordIO: the record's length in decimal, LF, the record.
    async fn records(&mut self, report: &impl Fn(What)) -> Result<(), Broken> {
        let mut bytes: Vec<u8> = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            bytes.extend(chunk);
            while let Some(end) = bytes.iter().position(|&b| b == b'\n') {
                let length = std::str::from_utf8(&bytes[..end]).ok().and_then(|l| l.parse::<usize>().ok());
                let length = length.filter(|length| *length <= LARGEST).ok_or(Broken)?;
                let Some(record) = bytes.get(end + 1..end + 1 + length) else { break };
                let what = record_of(record);
                bytes.drain(..end + 1 + length);
                report(what);
            }
        }
        report(What::End);
        Ok(())
    }
}
