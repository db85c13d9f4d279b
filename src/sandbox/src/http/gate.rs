//! A listener that goes away with the process it stands for: while an agent is down its port refuses
//! connections, and those that were open are cut.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::serve::Listener;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// Between attempts to listen or accept when that fails.
const AGAIN: Duration = Duration::from_millis(50);

/// A listener with a switch.
pub(crate) struct Gate {
    listener: Option<TcpListener>,
    address: SocketAddr,
    /// A token that is cancelled when the process ends; none while it is down.
    process: watch::Receiver<Option<CancellationToken>>,
    shutdown: CancellationToken,
}

impl Gate {
    pub(crate) fn new(
        listener: TcpListener,
        address: SocketAddr,
        process: watch::Receiver<Option<CancellationToken>>,
        shutdown: CancellationToken,
    ) -> Self {
        Self { listener: Some(listener), address, process, shutdown }
    }
}

impl Listener for Gate {
    type Io = Cuttable;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Cuttable, SocketAddr) {
        loop {
            let process = self.process.borrow_and_update().clone();
            let Some(process) = process else {
                self.listener = None;
                if self.process.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
                continue;
            };
            let Some(listener) = &self.listener else {
                match TcpListener::bind(self.address).await {
                    Ok(listener) => self.listener = Some(listener),
                    Err(error) => {
                        tracing::warn!(address = %self.address, error = %error, "an agent cannot listen again yet");
                        tokio::time::sleep(AGAIN).await;
                    }
                }
                continue;
            };
            tokio::select! {
                biased;
                () = process.cancelled() => {
                    // Wait for the word that goes with it, so as not to spin on the old token.
                    self.listener = None;
                    if self.process.changed().await.is_err() {
                        std::future::pending::<()>().await;
                    }
                }
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => {
                        // Events are small and answered at once.
                        let _slower_at_worst = stream.set_nodelay(true);
                        return (Cuttable::new(stream, &process, &self.shutdown), peer);
                    }
                    Err(error) => {
                        tracing::debug!(error = %error, "a connection was not accepted");
                        tokio::time::sleep(AGAIN).await;
                    }
                },
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

/// A connection that breaks when its process ends.
pub(crate) struct Cuttable {
    stream: TcpStream,
    process: Pin<Box<WaitForCancellationFutureOwned>>,
    shutdown: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Cuttable {
    fn new(stream: TcpStream, process: &CancellationToken, shutdown: &CancellationToken) -> Self {
        let process = Box::pin(process.clone().cancelled_owned());
        Self { stream, process, shutdown: Box::pin(shutdown.clone().cancelled_owned()) }
    }

    fn is_cut(&mut self, cx: &mut Context<'_>) -> bool {
        self.process.as_mut().poll(cx).is_ready() || self.shutdown.as_mut().poll(cx).is_ready()
    }
}

impl AsyncRead for Cuttable {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_cut(cx) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Cuttable {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if is_about_garbage(bytes) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if parts.first().is_some_and(|first| is_about_garbage(first)) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// Whether these bytes are the HTTP server's own answer to what is no HTTP: Mesos closes the connection without one.
/// Answers from here that refuse something have a body.
fn is_about_garbage(bytes: &[u8]) -> bool {
    bytes.starts_with(b"HTTP/1.1 400 Bad Request\r\n")
        && bytes.to_ascii_lowercase().windows(17).any(|window| window == b"content-length: 0")
}
