//! Whether a server serves, asked the same way of those started by hand and of ours.

use std::{io, net::SocketAddr, time::Duration};

use overlord_api::{Address, Kind};
use overlord_reconcile::Clock;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{sleep, timeout},
};

use crate::Failure;

/// Between two looks. A server offers no event to wait for.
const LOOK: Duration = Duration::from_millis(1);

/// One look.
const LOOK_LIMIT: Duration = Duration::from_secs(2);

/// All looks: longer than anything that still works takes.
const LIMIT: Duration = Duration::from_secs(120);

/// Asks until it serves; when that was, on `clock`.
pub(crate) async fn serves(clock: &dyn Clock, kind: Kind, address: Address) -> Result<Duration, Failure> {
    let asking = async {
        while !matches!(timeout(LOOK_LIMIT, ask(kind, address)).await, Ok(Ok(true))) {
            sleep(LOOK).await;
        }
    };
    timeout(LIMIT, asking)
        .await
        .map_err(|_| format!("{address} does not serve after {} s", LIMIT.as_secs()))?;
    Ok(clock.monotonic())
}

/// Connects and asks what every client asks first.
async fn ask(kind: Kind, address: Address) -> io::Result<bool> {
    let mut stream = TcpStream::connect(SocketAddr::new(address.ip, address.port)).await?;
    let (question, answer): (&[u8], &[u8]) = match kind {
        Kind::Redis | Kind::RedisCluster => (b"PING\r\n", b"+PONG"),
        Kind::Memcache => (b"version\r\n", b"VERSION "),
    };
    stream.write_all(question).await?;
    let mut read = vec![0; answer.len()];
    stream.read_exact(&mut read).await?;
    Ok(read == answer)
}
