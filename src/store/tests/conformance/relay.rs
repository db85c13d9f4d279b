//! A way to a server on which answers can be lost.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// Carries bytes between clients and one server; ends when dropped.
pub(crate) struct Relay {
    port: u16,
    silent: Arc<AtomicBool>,
    _carriers: JoinSet<()>,
}

impl Relay {
    pub(crate) async fn to(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let silent = Arc::new(AtomicBool::new(false));
        let mut carriers = JoinSet::new();
        carriers.spawn(accept(listener, server, Arc::clone(&silent)));
        Self { port, silent, _carriers: carriers }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// From now on requests arrive and answers do not; or answers do again.
    pub(crate) fn lose_answers(&self, lose: bool) {
        self.silent.store(lose, Ordering::SeqCst);
    }
}

async fn accept(listener: TcpListener, server: u16, silent: Arc<AtomicBool>) {
    let mut open = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await else { continue };
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        open.spawn(carry(from_client, to_server, Arc::default()));
        open.spawn(carry(from_server, to_client, Arc::clone(&silent)));
    }
}

async fn carry(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, lose: Arc<AtomicBool>) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if !lose.load(Ordering::SeqCst) && to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
