//! Connections to simulated engines: the real clients speak their protocols into memory, and what they ask takes
//! its time on the way. What was sent arrives, whatever has become of its sender; what is sent to a process that is
//! stopped, or to a machine that is cut off for a moment, arrives late.

use std::{
    collections::VecDeque,
    fmt, io,
    net::IpAddr,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use async_trait::async_trait;
use overlord_api::Address;
use overlord_engines::{Dial, Dialler, Stream};
use overlord_tests::model::redis::NoConnection;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::hosts::{Client, Hosts, Served};

/// How long a connection outlives a network that carries nothing.
const PATIENCE_OF_TCP: Duration = Duration::from_secs(120);

/// The network of the engines, as one machine uses it.
#[derive(Debug, Clone)]
pub(crate) struct SimDial {
    pub(crate) hosts: Hosts,
    /// That machine.
    pub(crate) from: IpAddr,
}

impl SimDial {
    pub(crate) fn dialler(hosts: &Hosts, from: IpAddr) -> Dialler {
        Dialler::through(Arc::new(Self { hosts: hosts.clone(), from }))
    }
}

#[async_trait]
impl Dial for SimDial {
    async fn dial(&self, address: Address) -> io::Result<Box<dyn Stream>> {
        let hosts = &self.hosts;
        hosts.way(self.from, address.ip).await;
        match hosts.open(self.from, address) {
            Ok(client) => {
                let line = Arc::default();
                Ok(Box::new(SimStream { line, hosts: hosts.clone(), from: self.from, address, client }))
            }
            Err(NoConnection::Refused) => Err(io::ErrorKind::ConnectionRefused.into()),
            // Whoever calls gives up.
            Err(NoConnection::Silent) => std::future::pending().await,
        }
    }
}

/// One connection.
struct SimStream {
    line: Arc<Mutex<Line>>,
    hosts: Hosts,
    from: IpAddr,
    address: Address,
    client: Client,
}

#[derive(Debug, Default)]
struct Line {
    /// Sent, and not a whole request yet.
    partial: Vec<u8>,
    /// Whole requests that have not arrived.
    requests: VecDeque<Vec<Vec<u8>>>,
    /// Whether somebody carries them.
    carried: bool,
    answers: VecDeque<u8>,
    ended: bool,
    /// Whoever asked is gone.
    dropped: bool,
    waker: Option<Waker>,
}

impl Line {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

fn lock(line: &Mutex<Line>) -> MutexGuard<'_, Line> {
    line.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for SimStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimStream to {}", self.address)
    }
}

/// Takes a whole request from the front: an array of bulk strings, or a line of words.
fn whole_request(bytes: &mut Vec<u8>) -> Option<Vec<Vec<u8>>> {
    fn line(bytes: &[u8], from: usize) -> Option<(&[u8], usize)> {
        let end = bytes.get(from..)?.windows(2).position(|pair| pair == b"\r\n")?;
        Some((&bytes[from..from + end], from + end + 2))
    }
    fn number(text: &[u8]) -> Option<usize> {
        std::str::from_utf8(text.get(1..)?).ok()?.parse().ok()
    }
    let (first, mut at) = line(bytes, 0)?;
    let words = if first.first() == Some(&b'*') {
        let mut words = Vec::new();
        for _ in 0..number(first)? {
            let (head, start) = line(bytes, at)?;
            let end = start + number(head)?;
            words.push(bytes.get(start..end)?.to_vec());
            at = end + 2;
        }
        words
    } else {
        vec![first.to_vec()]
    };
    if bytes.len() < at {
        return None;
    }
    bytes.drain(..at);
    Some(words)
}

/// Carries requests, in their order, and the answers back.
async fn carry(line: Arc<Mutex<Line>>, hosts: Hosts, from: IpAddr, address: Address, client: Client) {
    loop {
        hosts.way(from, address.ip).await;
        if !hosts.reaches(from, &client, PATIENCE_OF_TCP).await {
            hosts.hang_up(&client);
            let mut line = lock(&line);
            (line.ended, line.carried) = (true, false);
            return line.wake();
        }
        let requests: Vec<Vec<Vec<u8>>> = lock(&line).requests.drain(..).collect();
        let mut answers = Vec::new();
        let mut closed = false;
        for request in &requests {
            match hosts.serve(&client, request) {
                Served::Answer(bytes) => answers.extend(bytes),
                Served::Nothing => {}
                Served::Closed => closed = true,
            }
        }
        hosts.way(address.ip, from).await;
        let mut line = lock(&line);
        line.answers.extend(answers);
        line.ended |= closed;
        line.wake();
        if line.requests.is_empty() || line.ended {
            line.carried = false;
            // What was sent before is read before the end of the connection is.
            if line.dropped {
                drop(line);
                hosts.hang_up(&client);
            }
            return;
        }
    }
}

impl AsyncRead for SimStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut line = lock(&self.line);
        if line.answers.is_empty() {
            if line.ended {
                return Poll::Ready(Ok(()));
            }
            line.waker = Some(context.waker().clone());
            return Poll::Pending;
        }
        let taken = buffer.remaining().min(line.answers.len());
        let bytes: Vec<u8> = line.answers.drain(..taken).collect();
        buffer.put_slice(&bytes);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for SimStream {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut line = lock(&self.line);
        if line.ended {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        line.partial.extend_from_slice(bytes);
        while let Some(request) = whole_request(&mut line.partial) {
            line.requests.push_back(request);
        }
        if !line.requests.is_empty() && !line.carried {
            line.carried = true;
            let (hosts, client) = (self.hosts.clone(), self.client.clone());
            self.hosts.net.spawn(carry(Arc::clone(&self.line), hosts, self.from, self.address, client));
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Drop for SimStream {
    fn drop(&mut self) {
        let mut line = lock(&self.line);
        line.dropped = true;
        if !line.carried {
            self.hosts.hang_up(&self.client);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_of_both_protocols_are_taken_apart() {
        let mut bytes = b"*2\r\n$4\r\nINFO\r\n$6\r\nserver\r\n*1\r\n$4\r\nPI".to_vec();
        assert_eq!(whole_request(&mut bytes), Some(vec![b"INFO".to_vec(), b"server".to_vec()]));
        assert_eq!(whole_request(&mut bytes), None);
        bytes.extend(b"NG\r\nstats settings\r\n");
        assert_eq!(whole_request(&mut bytes), Some(vec![b"PING".to_vec()]));
        assert_eq!(whole_request(&mut bytes), Some(vec![b"stats settings".to_vec()]));
        assert!(bytes.is_empty());
    }
}
