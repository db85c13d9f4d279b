//! Raw HTTP to the agent: a connection per call, and the chunked stream of a subscription.

use std::{io, time::Duration};

use bytes::{Buf as _, BytesMut};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::journal::Journal;

/// For an answer's head and body.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// What an answer or a record may have at most.
const SIZE_LIMIT: usize = 16 << 20;

/// Where the agent is.
#[derive(Clone)]
pub(crate) struct Agent {
    endpoint: String,
}

/// Something that came on a subscription.
pub(crate) enum Arrival {
    /// A chunk; its events.
    Events(Vec<Value>),
    /// The last chunk: the agent ended the stream.
    Last,
    /// The connection ended without one.
    Eof,
}

/// An open subscription.
pub(crate) struct Stream {
    connection: TcpStream,
    buffer: BytesMut,
    records: BytesMut,
}

impl Agent {
    pub(crate) fn new(endpoint: String) -> Self {
        Self { endpoint }
    }

    /// A POST of a JSON body as the captures have it.
    pub(crate) fn request(&self, body: &str) -> String {
        format!(
            "POST /api/v1/executor HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nAccept: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            self.endpoint,
            body.len()
        )
    }

    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Sends a call and writes down its answer; gives the status.
    pub(crate) async fn call(&self, journal: &Journal, request: &str) -> io::Result<u16> {
        let mut connection = TcpStream::connect(&self.endpoint).await?;
        journal.sent(request);
        connection.write_all(request.as_bytes()).await?;
        let mut buffer = BytesMut::new();
        let answer = async {
            let head = head(&mut connection, &mut buffer).await?;
            let body = body(&mut connection, &mut buffer, &head).await?;
            Ok::<_, io::Error>((head, body))
        };
        let (head, body) = timeout(ANSWER_LIMIT, answer).await.map_err(io::Error::other)??;
        journal.received("", &format!("{head}\n\n{body}"));
        Ok(status(&head))
    }

    /// Sends a SUBSCRIBE. `None`: the agent refused, and its answer is written down.
    pub(crate) async fn subscribe(&self, journal: &Journal, request: &str) -> io::Result<Option<Stream>> {
        let mut connection = TcpStream::connect(&self.endpoint).await?;
        journal.sent(request);
        connection.write_all(request.as_bytes()).await?;
        let mut buffer = BytesMut::new();
        let head =
            timeout(ANSWER_LIMIT, head(&mut connection, &mut buffer)).await.map_err(io::Error::other)??;
        if status(&head) == 200 {
            journal.received("response head", &format!("{head}\n"));
            return Ok(Some(Stream { connection, buffer, records: BytesMut::new() }));
        }
        let body = timeout(ANSWER_LIMIT, body(&mut connection, &mut buffer, &head)).await;
        journal.received("", &format!("{head}\n\n{}", body.map_err(io::Error::other)??));
        Ok(None)
    }
}

impl Stream {
    /// The next chunk. May be dropped while it waits: nothing is lost.
    pub(crate) async fn next(&mut self, journal: &Journal) -> io::Result<Arrival> {
        loop {
            if let Some(payload) = chunk(&mut self.buffer)? {
                let text = String::from_utf8_lossy(&payload).into_owned();
                journal.received(&format!("chunk size={:#x}", payload.len()), &text);
                if payload.is_empty() {
                    return Ok(Arrival::Last);
                }
                self.records.extend_from_slice(&payload);
                return Ok(Arrival::Events(records(&mut self.records)?));
            }
            // A connection that is reset ends as one that is closed.
            if self.connection.read_buf(&mut self.buffer).await.unwrap_or(0) == 0 {
                return Ok(Arrival::Eof);
            }
        }
    }
}

async fn head(connection: &mut TcpStream, buffer: &mut BytesMut) -> io::Result<String> {
    loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = buffer.split_to(end);
            buffer.advance(4);
            return Ok(String::from_utf8_lossy(&head).replace("\r\n", "\n"));
        }
        fill(connection, buffer).await?;
    }
}

async fn body(connection: &mut TcpStream, buffer: &mut BytesMut, head: &str) -> io::Result<String> {
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        if name.eq_ignore_ascii_case("content-length") { value.trim().parse::<usize>().ok() } else { None }
    });
    let length = length.unwrap_or(0).min(SIZE_LIMIT);
    while buffer.len() < length {
        fill(connection, buffer).await?;
    }
    Ok(String::from_utf8_lossy(&buffer.split_to(length)).into_owned())
}

async fn fill(connection: &mut TcpStream, buffer: &mut BytesMut) -> io::Result<()> {
    if buffer.len() > SIZE_LIMIT {
        return Err(io::Error::other("the answer is too long"));
    }
    if connection.read_buf(buffer).await? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(())
}

fn status(head: &str) -> u16 {
    head.split(' ').nth(1).and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Takes one whole chunk out of the buffer, if it has one.
fn chunk(buffer: &mut BytesMut) -> io::Result<Option<Vec<u8>>> {
    let Some(end) = buffer.windows(2).position(|window| window == b"\r\n") else { return Ok(None) };
    let size =
        std::str::from_utf8(&buffer[..end]).ok().and_then(|text| usize::from_str_radix(text.trim(), 16).ok());
    let size = size.filter(|size| *size <= SIZE_LIMIT).ok_or_else(|| io::Error::other("not a chunk"))?;
    if buffer.len() < end + 2 + size + 2 {
        return Ok(None);
    }
    buffer.advance(end + 2);
    let payload = buffer.split_to(size).to_vec();
    buffer.advance(2);
    Ok(Some(payload))
}

/// Takes the whole RecordIO records out of the buffer: length, LF, JSON.
fn records(buffer: &mut BytesMut) -> io::Result<Vec<Value>> {
    let mut events = Vec::new();
    while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
        let size = std::str::from_utf8(&buffer[..end]).ok().and_then(|text| text.parse::<usize>().ok());
        let size = size.filter(|size| *size <= SIZE_LIMIT).ok_or_else(|| io::Error::other("not a record"))?;
        if buffer.len() < end + 1 + size {
            break;
        }
        buffer.advance(end + 1);
        events.push(serde_json::from_slice(&buffer.split_to(size)).map_err(io::Error::other)?);
    }
    Ok(events)
}
