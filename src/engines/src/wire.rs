//! One connection to an engine. Every exchange has a deadline and bounded sizes. After a failure, or an
//! exchange that was dropped half way, the connection is of no more use: what comes next on it would be
//! the answer to something else. It is never opened again by itself, because the leader's fence holds
//! for one connection only.

use std::{io, time::Duration};

use overlord_api::Address;
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt, BufReader},
    time::{self, error::Elapsed},
};

use crate::{
    AdminError,
    dial::{Dialler, Socket},
};

/// Bytes read at once; probes run in executors of a few megabytes.
const READ_BUFFER: usize = 4096;

/// Why bytes from an engine could not be read.
#[derive(Debug)]
pub(crate) enum WireError {
    Io(io::Error),
    Protocol(&'static str),
}

impl From<io::Error> for WireError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A connection of either protocol.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) address: Address,
    pub(crate) timeout: Duration,
    pub(crate) stream: BufReader<Socket>,
    broken: bool,
}

impl Wire {
    pub(crate) async fn connect(
        dialler: &Dialler,
        address: Address,
        timeout: Duration,
    ) -> Result<Self, AdminError> {
        let stream = match time::timeout(timeout, dialler.socket(address)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(source)) => return Err(AdminError::Connect { address, source }),
            Err(_) => return Err(AdminError::Timeout { address, operation: "connect".to_owned(), timeout }),
        };
        Ok(Self { address, timeout, stream: BufReader::with_capacity(READ_BUFFER, stream), broken: false })
    }

    /// Before an exchange: the connection counts as broken until [`Wire::leave`].
    pub(crate) fn enter(&mut self, operation: &str) -> Result<(), AdminError> {
        if self.broken {
            return Err(AdminError::Closed { address: self.address, operation: operation.to_owned() });
        }
        self.broken = true;
        Ok(())
    }

    /// After an exchange.
    pub(crate) fn leave<T>(
        &mut self,
        operation: &str,
        outcome: Result<Result<T, WireError>, Elapsed>,
    ) -> Result<T, AdminError> {
        let (address, timeout, operation) = (self.address, self.timeout, operation.to_owned());
        match outcome {
            Ok(Ok(answer)) => {
                self.broken = false;
                Ok(answer)
            }
            Ok(Err(WireError::Io(source))) => Err(AdminError::Broken { address, operation, source }),
            Ok(Err(WireError::Protocol(what))) => Err(AdminError::Protocol { address, operation, what }),
            Err(Elapsed { .. }) => Err(AdminError::Timeout { address, operation, timeout }),
        }
    }
}

/// A line without its end, of at most `limit` bytes.
pub(crate) async fn read_line(
    stream: &mut (impl AsyncBufRead + Unpin),
    limit: usize,
) -> Result<Vec<u8>, WireError> {
    match read_line_or_rest(stream, limit).await? {
        (line, true) => Ok(line),
        (_, false) => Err(WireError::Io(io::ErrorKind::UnexpectedEof.into())),
    }
}

/// The same, or what there is when the stream ends before the line does; and whether it was a line.
pub(crate) async fn read_line_or_rest(
    stream: &mut (impl AsyncBufRead + Unpin),
    limit: usize,
) -> Result<(Vec<u8>, bool), WireError> {
    let mut line = Vec::new();
    loop {
        let buffer = stream.fill_buf().await?;
        let end = buffer.iter().position(|b| *b == b'\n');
        let taken = end.map_or(buffer.len(), |end| end + 1);
        line.extend_from_slice(&buffer[..taken]);
        stream.consume(taken);
        if line.len() > limit {
            return Err(WireError::Protocol("a line that is too long"));
        }
        if end.is_some() || taken == 0 {
            while line.last().is_some_and(|b| matches!(b, b'\n' | b'\r')) {
                line.pop();
            }
            return Ok((line, end.is_some()));
        }
    }
}
