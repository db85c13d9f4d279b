//! The connections of a tap: each of the client's has one of its own to the server, so that they end together.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, combinators::BoxBody};
use hyper::{
    Request, Response,
    body::{Body as _, Incoming},
    client::conn::{http1 as client1, http2 as client2},
    server::conn::{http1 as server1, http2 as server2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{Asked, Outcome, Point, Server, Shared, Way, etcd};

/// Bytes on their way at once.
const BUFFER: usize = 64 * 1024;

/// How long a server may take to take a connection.
const PATIENCE: Duration = Duration::from_secs(5);

type Body = BoxBody<Bytes, hyper::Error>;

/// The server's side of one connection.
enum Upstream {
    Http1(tokio::sync::Mutex<client1::SendRequest<Body>>),
    Http2(client2::SendRequest<Body>),
}

/// Takes connections for as long as it is let.
pub(super) async fn listen(
    listener: TcpListener,
    upstream: SocketAddr,
    shared: Arc<Shared>,
    ways: watch::Receiver<Way>,
) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        while connections.try_join_next().is_some() {}
        let (shared, ways) = (Arc::clone(&shared), ways.clone());
        connections.spawn(async move {
            let mut cut = ways.clone();
            tokio::select! {
                biased;
                // An error is that the tap is gone.
                _ = cut.wait_for(|way| *way == Way::Cut) => {}
                // A connection that fails is one that ends.
                _ = connection(stream, upstream, shared, ways) => {}
            }
        });
    }
}

/// One connection, to its end.
async fn connection(
    stream: TcpStream,
    upstream: SocketAddr,
    shared: Arc<Shared>,
    ways: watch::Receiver<Way>,
) -> io::Result<()> {
    let server = timeout(PATIENCE, TcpStream::connect(upstream)).await??;
    server.set_nodelay(true)?;
    stream.set_nodelay(true)?;
    let (inside, outside) = tokio::io::duplex(BUFFER);
    let mut parts: JoinSet<io::Result<()>> = JoinSet::new();
    parts.spawn(gated(stream, outside, ways));
    let io = TokioIo::new(server);
    let sender = match shared.server {
        Server::Etcd => {
            let (sender, connection) =
                client2::handshake(TokioExecutor::new(), io).await.map_err(io::Error::other)?;
            parts.spawn(async move { connection.await.map_err(io::Error::other) });
            Upstream::Http2(sender)
        }
        Server::Mesos => {
            let (sender, connection) = client1::handshake(io).await.map_err(io::Error::other)?;
            parts.spawn(async move { connection.await.map_err(io::Error::other) });
            Upstream::Http1(tokio::sync::Mutex::new(sender))
        }
    };
    parts.spawn(serve(TokioIo::new(inside), Arc::new(sender), shared));
    // One side's end is the other's.
    parts.join_next().await.unwrap_or(Ok(Ok(()))).map_err(io::Error::other)?
}

/// Answers what comes in until the connection ends, or an answer is to be lost with it.
async fn serve(io: TokioIo<DuplexStream>, upstream: Arc<Upstream>, shared: Arc<Shared>) -> io::Result<()> {
    let ended = CancellationToken::new();
    let of = shared.server;
    let service = service_fn(|request| {
        let (upstream, shared, ended) = (Arc::clone(&upstream), Arc::clone(&shared), ended.clone());
        async move { exchange(request, &upstream, &shared, &ended).await }
    });
    let serving = async {
        match of {
            Server::Etcd => {
                server2::Builder::new(TokioExecutor::new())
                    .timer(TokioTimer::new())
                    .serve_connection(io, service)
                    .await
            }
            Server::Mesos => {
                server1::Builder::new().timer(TokioTimer::new()).serve_connection(io, service).await
            }
        }
    };
    tokio::select! {
        biased;
        () = ended.cancelled() => Ok(()),
        served = serving => served.map_err(io::Error::other),
    }
}

impl Upstream {
    async fn send(&self, request: Request<Body>) -> io::Result<Response<Incoming>> {
        let sent = match self {
            Self::Http1(sender) => {
                let mut sender = sender.lock().await;
                sender.ready().await.map_err(io::Error::other)?;
                sender.send_request(request).await
            }
            Self::Http2(sender) => sender.clone().send_request(request).await,
        };
        sent.map_err(io::Error::other)
    }
}

/// One request and its answer. What is of no interest streams through.
async fn exchange(
    request: Request<Incoming>,
    upstream: &Upstream,
    shared: &Shared,
    ended: &CancellationToken,
) -> io::Result<Response<Body>> {
    let path = request.uri().path().to_owned();
    let of_interest = match shared.server {
        Server::Etcd => etcd::writes(&path),
        Server::Mesos => path.ends_with("/api/v1/scheduler"),
    };
    if !of_interest {
        let (head, body) = request.into_parts();
        let answer = upstream.send(Request::from_parts(head, body.boxed())).await?;
        return Ok(answer.map(http_body_util::BodyExt::boxed));
    }
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let asked = match shared.server {
        Server::Etcd => etcd::asked(&path, &body),
        Server::Mesos => mesos_call(&body),
    };
    let points = asked.as_ref().and_then(points);
    let call = asked.map(|asked| shared.tape.asked(&shared.by, asked));
    shared.pass(points.map(|(before, _)| before)).await;
    if let Some(call) = call {
        shared.tape.sent(call);
    }
    let whole = Full::new(body).map_err(|never| match never {}).boxed();
    let answer = upstream.send(Request::from_parts(head, whole)).await?;
    let Some(call) = call else { return Ok(answer.map(http_body_util::BodyExt::boxed)) };
    if shared.server == Server::Mesos {
        shared.tape.answered(call, Outcome::Status(answer.status().as_u16()));
        shared.pass(points.map(|(_, after)| after)).await;
        return Ok(answer.map(http_body_util::BodyExt::boxed));
    }
    let (head, body) = answer.into_parts();
    let collected =
        if body.is_end_stream() { None } else { Some(body.collect().await.map_err(io::Error::other)?) };
    // The trailers go with it: they are gRPC's status.
    let trailers = collected.as_ref().and_then(|body| body.trailers().cloned());
    let bytes = collected.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    shared.tape.answered(call, etcd::outcome(&path, &bytes));
    shared.pass(points.map(|(_, after)| after)).await;
    if shared.loses() {
        ended.cancel();
        std::future::pending::<()>().await;
    }
    let body = Full::new(bytes).map_err(|never| match never {});
    Ok(Response::from_parts(head, body.with_trailers(std::future::ready(trailers.map(Ok))).boxed()))
}

/// Where such a call can be held.
fn points(asked: &Asked) -> Option<(Point, Point)> {
    match asked {
        Asked::Write { fence: Some(_), keys } if keys.iter().any(|key| key.task.is_some()) => {
            Some((Point::IntentAsked, Point::IntentAnswered))
        }
        Asked::Call { launches, .. } if !launches.is_empty() => {
            Some((Point::AcceptAsked, Point::AcceptAnswered))
        }
        Asked::Write { .. } | Asked::Call { .. } => None,
    }
}

/// The type of a scheduler call, and the tasks that it launches.
fn mesos_call(body: &[u8]) -> Option<Asked> {
    let call: Value = serde_json::from_slice(body).ok()?;
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let of = |operation: Value| list(&operation["launch"]["task_infos"]);
    let infos = list(&call["accept"]["operations"]).into_iter().flat_map(of);
    let launches = infos.filter_map(|info| Some(info["task_id"]["value"].as_str()?.to_owned()));
    Some(Asked::Call { kind: call["type"].as_str()?.to_owned(), launches: launches.collect() })
}

/// The bytes of a client's connection in both directions, while the way is open.
async fn gated(stream: TcpStream, inside: DuplexStream, ways: watch::Receiver<Way>) -> io::Result<()> {
    let (from_client, to_client) = stream.into_split();
    let (from_inside, to_inside) = tokio::io::split(inside);
    let mut ways_back = ways.clone();
    let mut ways_there = ways;
    // Both, so that what is still on its way arrives.
    let (there, back) = tokio::join!(
        copy(from_client, to_inside, &mut ways_there),
        copy(from_inside, to_client, &mut ways_back)
    );
    there.and(back)
}

async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    ways: &mut watch::Receiver<Way>,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let length = from.read(&mut buffer).await?;
        if ways.wait_for(|way| *way != Way::Silent).await.is_err() {
            return Ok(());
        }
        if length == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..length]).await?;
    }
}
