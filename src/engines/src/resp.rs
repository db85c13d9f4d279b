//! RESP2, the protocol of redis, as far as an administrator needs it.
//!
//! Our own rather than redis-rs, for four reasons. A fenced connection must never be opened again
//! silently, nor outlive its owner in a background task. Replies must be bounded. A probe a second from
//! every executor should cost a few kilobytes, not a multiplexer. And it is two hundred lines.

use std::{io, str, time::Duration};

use overlord_api::Address;
use tokio::{
    io::{AsyncBufRead, AsyncReadExt, AsyncWriteExt},
    time,
};

use crate::{
    AdminError,
    dial::Dialler,
    fence,
    wire::{Wire, WireError, read_line, read_line_or_rest},
};

/// Bytes that the replies of one exchange may have together.
const MAX_REPLY: usize = 4 << 20;

/// Bytes of one line: of a status, an error, or a line inside a long reply.
const MAX_LINE: usize = 16 << 10;

/// Replies nested in each other.
const MAX_DEPTH: usize = 4;

/// Bytes of a reply that is read line by line and not kept: 100,000 clients in a CLIENT LIST.
const MAX_LISTING: usize = 64 << 20;

/// An answer to one command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply {
    Status(String),
    Error(String),
    Number(i64),
    Bulk(Option<Vec<u8>>),
    List(Vec<Reply>),
}

impl Reply {
    /// The text of a status or a bulk reply.
    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Self::Status(text) => Some(text),
            Self::Bulk(Some(bytes)) => str::from_utf8(bytes).ok(),
            Self::Error(_) | Self::Number(_) | Self::Bulk(None) | Self::List(_) => None,
        }
    }
}

/// A connection to redis.
#[derive(Debug)]
pub(crate) struct Resp {
    pub(crate) wire: Wire,
}

impl Resp {
    /// Connects, and gives the connection its name, if it is to have one; a leader's raises the fence.
    pub(crate) async fn connect(
        dialler: &Dialler,
        address: Address,
        timeout: Duration,
        client_name: Option<&str>,
    ) -> Result<Self, AdminError> {
        let mut resp = Self { wire: Wire::connect(dialler, address, timeout).await? };
        fence::introduce(&mut resp, client_name).await?;
        Ok(resp)
    }

    /// Sends commands together and reads an answer to each. A refusal is an answer.
    pub(crate) async fn pipeline(
        &mut self,
        operation: &str,
        commands: &[&[&str]],
    ) -> Result<Vec<Reply>, AdminError> {
        let request = encode(commands);
        self.wire.enter(operation)?;
        let stream = &mut self.wire.stream;
        let work = async {
            stream.get_mut().write_all(&request).await?;
            let mut budget = MAX_REPLY;
            let mut replies = Vec::with_capacity(commands.len());
            for _ in commands {
                replies.push(read_reply(stream, &mut budget).await?);
            }
            Ok(replies)
        };
        let outcome = time::timeout(self.wire.timeout, work).await;
        self.wire.leave(operation, outcome)
    }

    /// One command; a refusal is an error.
    pub(crate) async fn call(&mut self, operation: &str, command: &[&str]) -> Result<Reply, AdminError> {
        match self.pipeline(operation, &[command]).await?.pop() {
            Some(Reply::Error(message)) => Err(self.refused(operation, message)),
            Some(reply) => Ok(reply),
            None => Err(self.unexpected(operation, "no reply")),
        }
    }

    /// One command with an answer of lines, each shown to `each` and forgotten.
    pub(crate) async fn lines(
        &mut self,
        operation: &str,
        command: &[&str],
        mut each: impl FnMut(&str) + Send,
    ) -> Result<(), AdminError> {
        let request = encode(&[command]);
        self.wire.enter(operation)?;
        let stream = &mut self.wire.stream;
        let work = async {
            stream.get_mut().write_all(&request).await?;
            read_lines(stream, &mut each).await
        };
        let outcome = time::timeout(self.wire.timeout, work).await;
        match self.wire.leave(operation, outcome)? {
            None => Ok(()),
            Some(message) => Err(self.refused(operation, message)),
        }
    }

    pub(crate) fn refused(&self, operation: &str, message: String) -> AdminError {
        let address = self.wire.address;
        // The first word of an error is its code.
        match message.split(' ').next() {
            Some("LOADING") => AdminError::Loading { address },
            _ => AdminError::Refused { address, operation: operation.to_owned(), message },
        }
    }

    pub(crate) fn unexpected(&self, operation: &str, what: &'static str) -> AdminError {
        AdminError::Protocol { address: self.wire.address, operation: operation.to_owned(), what }
    }
}

fn encode(commands: &[&[&str]]) -> Vec<u8> {
    let mut request = Vec::new();
    for command in commands {
        request.extend_from_slice(format!("*{}\r\n", command.len()).as_bytes());
        for word in *command {
            request.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            request.extend_from_slice(word.as_bytes());
            request.extend_from_slice(b"\r\n");
        }
    }
    request
}

/// The first line of a reply.
enum Head {
    Done(Reply),
    Bulk(usize),
    List(usize),
}

async fn read_head(stream: &mut (impl AsyncBufRead + Unpin), budget: &mut usize) -> Result<Head, WireError> {
    let line = read_line(stream, MAX_LINE).await?;
    spend(budget, line.len() + 2)?;
    let line = str::from_utf8(&line).map_err(|_| WireError::Protocol("a status that is no text"))?;
    let (Some(kind), Some(rest)) = (line.get(..1), line.get(1..)) else {
        return Err(WireError::Protocol("an empty line"));
    };
    let number = || rest.parse::<i64>().map_err(|_| WireError::Protocol("a length that is no number"));
    let length = |n: i64| usize::try_from(n).map_err(|_| WireError::Protocol("a negative length"));
    Ok(match kind {
        "+" => Head::Done(Reply::Status(rest.to_owned())),
        "-" => Head::Done(Reply::Error(rest.to_owned())),
        ":" => Head::Done(Reply::Number(number()?)),
        "$" if rest == "-1" => Head::Done(Reply::Bulk(None)),
        "$" => Head::Bulk(length(number()?)?),
        "*" if rest == "-1" => Head::Done(Reply::List(Vec::new())),
        "*" => Head::List(length(number()?)?),
        _ => return Err(WireError::Protocol("an unknown kind of reply")),
    })
}

fn spend(budget: &mut usize, bytes: usize) -> Result<(), WireError> {
    *budget = budget.checked_sub(bytes).ok_or(WireError::Protocol("a reply that is too long"))?;
    Ok(())
}

/// One reply, without recursion: lists that are not complete yet wait on a stack.
async fn read_reply(
    stream: &mut (impl AsyncBufRead + Unpin),
    budget: &mut usize,
) -> Result<Reply, WireError> {
    let mut open: Vec<(usize, Vec<Reply>)> = Vec::new();
    loop {
        let mut reply = match read_head(stream, budget).await? {
            Head::Done(reply) => reply,
            Head::Bulk(length) => {
                spend(budget, length)?;
                let mut bytes = vec![0; length];
                stream.read_exact(&mut bytes).await?;
                end_of_bulk(stream).await?;
                Reply::Bulk(Some(bytes))
            }
            Head::List(0) => Reply::List(Vec::new()),
            Head::List(length) => {
                if open.len() == MAX_DEPTH {
                    return Err(WireError::Protocol("a reply that is nested too deep"));
                }
                open.push((length, Vec::new()));
                continue;
            }
        };
        loop {
            let Some((missing, mut items)) = open.pop() else { return Ok(reply) };
            items.push(reply);
            if missing > 1 {
                open.push((missing - 1, items));
                break;
            }
            reply = Reply::List(items);
        }
    }
}

/// Lines of a bulk reply; the message when the command was refused.
async fn read_lines(
    stream: &mut (impl AsyncBufRead + Unpin),
    each: &mut (impl FnMut(&str) + Send),
) -> Result<Option<String>, WireError> {
    let mut budget = MAX_LINE + 2;
    let length = match read_head(stream, &mut budget).await? {
        Head::Bulk(length) if length <= MAX_LISTING => length,
        Head::Bulk(_) => return Err(WireError::Protocol("a reply that is too long")),
        Head::Done(Reply::Error(message)) => return Ok(Some(message)),
        Head::Done(_) | Head::List(_) => return Err(WireError::Protocol("a reply of another kind")),
    };
    let mut body = stream.take(length as u64);
    while body.limit() > 0 {
        let (line, complete) = read_line_or_rest(&mut body, MAX_LINE).await?;
        if !complete && body.limit() > 0 {
            return Err(WireError::Io(io::ErrorKind::UnexpectedEof.into()));
        }
        each(&String::from_utf8_lossy(&line));
    }
    end_of_bulk(stream).await?;
    Ok(None)
}

async fn end_of_bulk(stream: &mut (impl AsyncBufRead + Unpin)) -> Result<(), WireError> {
    let mut end = [0; 2];
    stream.read_exact(&mut end).await?;
    if &end == b"\r\n" { Ok(()) } else { Err(WireError::Protocol("a bulk reply of another length")) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    async fn read(mut bytes: &[u8]) -> Result<Reply, WireError> {
        read_reply(&mut bytes, &mut MAX_REPLY.clone()).await
    }

    fn block<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
    }

    #[tokio::test]
    async fn replies_of_every_kind_are_read() {
        assert_eq!(read(b"+OK\r\n").await.unwrap(), Reply::Status("OK".to_owned()));
        assert_eq!(read(b"-ERR no\r\n").await.unwrap(), Reply::Error("ERR no".to_owned()));
        assert_eq!(read(b":-7\r\n").await.unwrap(), Reply::Number(-7));
        assert_eq!(read(b"$-1\r\n").await.unwrap(), Reply::Bulk(None));
        assert_eq!(read(b"$2\r\na\n\r\n").await.unwrap(), Reply::Bulk(Some(b"a\n".to_vec())));
        let nested = read(b"*2\r\n*1\r\n:1\r\n*2\r\n$1\r\nx\r\n*0\r\n").await.unwrap();
        let inner = Reply::List(vec![Reply::Bulk(Some(b"x".to_vec())), Reply::List(Vec::new())]);
        assert_eq!(nested, Reply::List(vec![Reply::List(vec![Reply::Number(1)]), inner]));
    }

    #[tokio::test]
    async fn replies_beyond_the_bounds_are_refused() {
        for bad in [
            "$99999999999\r\n",
            "$-2\r\n",
            "*-7\r\n",
            "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n",
            "$1\r\nxyz",
            "\r\n",
            "HTTP/1.1 200 OK\r\n",
            ":x\r\n",
        ] {
            assert!(matches!(read(bad.as_bytes()).await, Err(WireError::Protocol(_))), "{bad:?}");
        }
        let long = format!("+{}\r\n", "x".repeat(MAX_LINE));
        assert!(matches!(read(long.as_bytes()).await, Err(WireError::Protocol(_))));
        assert!(matches!(read(b"*3\r\n:1\r\n").await, Err(WireError::Io(_))));
    }

    #[tokio::test]
    async fn a_listing_is_read_line_by_line() {
        let mut bytes: &[u8] = b"$7\r\nab\ncd\ne\r\n+next\r\n";
        let mut lines = Vec::new();
        assert_eq!(
            read_lines(&mut bytes, &mut |line: &str| lines.push(line.to_owned())).await.unwrap(),
            None
        );
        assert_eq!(lines, ["ab", "cd", "e"]);
        assert_eq!(bytes, b"+next\r\n");
        let mut refusal: &[u8] = b"-NOPERM no\r\n";
        let said = read_lines(&mut refusal, &mut |_: &str| ()).await.unwrap();
        assert_eq!(said.as_deref(), Some("NOPERM no"));
        let mut cut: &[u8] = b"$7\r\nab\nc";
        assert!(read_lines(&mut cut, &mut |_: &str| ()).await.is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(
            prop_oneof![Just(b'*'), Just(b'$'), Just(b'1'), Just(b'\r'), Just(b'\n'), any::<u8>()], 0..200)
        ) {
            let _ = block(read(&bytes));
            let _ = block(read_lines(&mut bytes.as_slice(), &mut |_: &str| ()));
        }
    }
}
