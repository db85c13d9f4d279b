//! How engines are reached: over TCP, or over a network that somebody brings along, as simulations do.

use std::{
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use async_trait::async_trait;
use overlord_api::{Address, Kind};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use crate::{AdminError, ClusterAdmin, EngineAdmin, memcache_admin::MemcacheAdmin, redis_admin::RedisAdmin};

/// Bytes both ways between us and one engine.
pub trait Stream: AsyncRead + AsyncWrite + fmt::Debug + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + fmt::Debug + Send + Unpin> Stream for S {}

/// A network other than TCP.
#[async_trait]
pub trait Dial: fmt::Debug + Send + Sync + 'static {
    /// Opens a connection. Errors are those of a connect over TCP: refused where nobody listens; without an answer
    /// it waits, and the caller gives up.
    async fn dial(&self, address: Address) -> io::Result<Box<dyn Stream>>;
}

/// Opens connections to engines; clones share the network.
#[derive(Debug, Clone, Default)]
pub struct Dialler(Option<Arc<dyn Dial>>);

impl Dialler {
    /// Over TCP.
    pub const TCP: Self = Self(None);

    /// Over another network.
    pub fn through(network: Arc<dyn Dial>) -> Self {
        Self(Some(network))
    }

    /// Connects to an engine. With a `client_name` of [`crate::fence::client_name`] the connection is fenced: those of
    /// earlier leaders are ended before this returns, and a later leader's presence is [`AdminError::Fenced`].
    /// memcached knows no names.
    pub async fn engine(
        &self,
        kind: Kind,
        address: Address,
        timeout: Duration,
        client_name: Option<&str>,
    ) -> Result<Box<dyn EngineAdmin>, AdminError> {
        Ok(match kind {
            Kind::Redis | Kind::RedisCluster => {
                Box::new(RedisAdmin::connect(self, kind, address, timeout, client_name).await?)
            }
            Kind::Memcache => Box::new(MemcacheAdmin::connect(self, address, timeout).await?),
        })
    }

    /// Connects to a node of a redis cluster, fenced in the same way.
    pub async fn node(
        &self,
        address: Address,
        timeout: Duration,
        client_name: Option<&str>,
    ) -> Result<ClusterAdmin, AdminError> {
        ClusterAdmin::reach(self, address, timeout, client_name).await
    }

    pub(crate) async fn socket(&self, address: Address) -> io::Result<Socket> {
        match &self.0 {
            None => {
                let stream = TcpStream::connect(address.socket()).await?;
                stream.set_nodelay(true)?;
                Ok(Socket::Tcp(stream))
            }
            Some(network) => network.dial(address).await.map(Socket::Other),
        }
    }
}

/// An open connection: TCP without a detour.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    Other(Box<dyn Stream>),
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Other(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Other(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(context),
            Self::Other(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Other(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream},
        task::JoinSet,
    };

    use super::*;

    /// A network of servers that answer everything with one text.
    #[derive(Debug)]
    struct Parrots(&'static str, Mutex<JoinSet<()>>);

    async fn parrot(mut there: DuplexStream, text: &'static str) {
        let mut buffer = [0; 1024];
        while there.read(&mut buffer).await.is_ok_and(|n| n > 0) {
            if there.write_all(text.as_bytes()).await.is_err() {
                return;
            }
        }
    }

    #[async_trait]
    impl Dial for Parrots {
        async fn dial(&self, address: Address) -> io::Result<Box<dyn Stream>> {
            if address.port == 1 {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            let (here, there) = tokio::io::duplex(1024);
            self.1.lock().unwrap().spawn(parrot(there, self.0));
            Ok(Box::new(here))
        }
    }

    #[tokio::test]
    async fn engines_are_reached_over_any_network() {
        let patience = Duration::from_secs(5);
        let dialler = Dialler::through(Arc::new(Parrots("STAT curr_items 7\r\nEND\r\n", Mutex::default())));
        let at = |text: &str| text.parse::<Address>().unwrap();
        let mut admin = dialler.engine(Kind::Memcache, at("10.0.0.1:2"), patience, None).await.unwrap();
        assert_eq!(admin.keys().await.unwrap(), 7);
        let refused = dialler.node(at("10.0.0.1:1"), patience, None).await.unwrap_err();
        assert!(matches!(refused, AdminError::Connect { .. }), "{refused}");
        let other = dialler.node(at("10.0.0.1:2"), patience, Some("x")).await.unwrap_err();
        assert!(matches!(other, AdminError::Protocol { .. }), "{other}");
    }
}
