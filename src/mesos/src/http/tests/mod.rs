//! The HTTP transports against real sockets.

mod surprises;
mod tls;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use futures::StreamExt as _;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    ExecutorTransport as _, SchedulerConfig, SchedulerEvent, SchedulerTransport as _, TransportError,
    testing::fixture,
    v1::{
        TaskState, executor,
        scheduler::{Call, CallType, EventType},
    },
};

/// One request as it came: request line, headers in lower case, body.
#[derive(Debug, Clone)]
struct Request {
    line: String,
    headers: BTreeMap<String, String>,
    body: String,
}

/// A server that gives each request the next of the prepared answers, byte for byte, and hangs up.
struct Server {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    _accepting: JoinSet<()>,
}

impl Server {
    async fn start(answers: Vec<Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let mut accepting = JoinSet::new();
        let seen = Arc::clone(&requests);
        accepting.spawn(async move {
            for answer in answers {
                let (mut socket, _) = listener.accept().await.unwrap();
                let request = read_request(&mut socket).await;
                seen.lock().unwrap().push(request);
                socket.write_all(&answer).await.unwrap();
                socket.shutdown().await.unwrap();
            }
        });
        Self { address, requests, _accepting: accepting }
    }

    fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

async fn read_request(socket: &mut TcpStream) -> Request {
    try_read_request(socket).await.expect("a request")
}

/// Nothing when the connection ends before.
async fn try_read_request(socket: &mut (impl AsyncRead + Unpin)) -> Option<Request> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    let head = loop {
        let read = socket.read(&mut chunk).await.ok().filter(|read| *read > 0)?;
        bytes.extend_from_slice(&chunk[..read]);
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
    };
    let text = String::from_utf8(bytes[..head].to_vec()).unwrap();
    let mut lines = text.lines();
    let line = lines.next().unwrap().to_owned();
    let headers: BTreeMap<_, _> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let length: usize = headers["content-length"].parse().unwrap();
    while bytes.len() < head + 4 + length {
        let read = socket.read(&mut chunk).await.ok().filter(|read| *read > 0)?;
        bytes.extend_from_slice(&chunk[..read]);
    }
    Some(Request { line, headers, body: String::from_utf8(bytes[head + 4..].to_vec()).unwrap() })
}

fn answer(status: &str, headers: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len())
        .into_bytes()
}

fn accepted() -> Vec<u8> {
    answer("202 Accepted", "", "")
}

fn config() -> HttpConfig {
    HttpConfig { call_timeout: Duration::from_secs(20), ..HttpConfig::default() }
}

fn scheduler(masters: &[SocketAddr]) -> HttpScheduler {
    HttpScheduler::new(masters.iter().map(SocketAddr::to_string), config()).unwrap()
}

fn call(kind: CallType) -> Call {
    Call { kind, ..Call::default() }
}

/// An address where nothing listens: tcpmux, which nobody runs.
fn dead() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 1))
}

#[tokio::test]
async fn a_recorded_subscription_is_read_over_a_socket_and_calls_go_to_the_same_master() {
    let server = Server::start(vec![fixture("01_subscribe_new.s1.bin"), accepted()]).await;
    let scheduler = scheduler(&[server.address]);
    let subscription = scheduler.subscribe(&call(CallType::Subscribe)).await.unwrap();
    assert_eq!(subscription.stream_id, "1e701aed-fd09-4828-b3f8-c23f18db1a2d");
    let events: Vec<_> = subscription.events.collect().await;
    let kinds: Vec<_> = events.into_iter().map(|event| event.unwrap().kind).collect();
    assert_eq!(kinds.len(), 5);
    assert_eq!(kinds[2], EventType::Offers);
    scheduler.call("stream", &call(CallType::Revive)).await.unwrap();

    let requests = server.requests();
    assert_eq!(requests[0].line, "POST /api/v1/scheduler HTTP/1.1");
    assert_eq!(requests[0].headers["content-type"], "application/json");
    assert_eq!(requests[0].headers["accept"], "application/json");
    assert!(!requests[0].headers.contains_key("mesos-stream-id"), "refused by Mesos on SUBSCRIBE");
    assert_eq!(requests[0].body, r#"{"type":"SUBSCRIBE"}"#);
    assert_eq!(requests[1].headers["mesos-stream-id"], "stream");
}

#[tokio::test]
async fn a_recorded_life_of_an_agent_reaches_the_consumer_of_the_scheduler_client() {
    let server = Server::start(vec![fixture("41_agent_loss.s1.bin")]).await;
    let config = SchedulerConfig::new("root", "cap41", vec!["*".to_owned()], Duration::from_secs(3600));
    let (_handle, driver, mut receiver) =
        crate::scheduler::scheduler(config, Arc::new(scheduler(&[server.address])), 1);
    let mut driving = JoinSet::new();
    driving.spawn(driver.run(CancellationToken::new()));
    let mut states = Vec::new();
    let (mut rescinded, mut failures) = (0, 0);
    loop {
        match receiver.recv().await.unwrap() {
            SchedulerEvent::Update(update) => states.push(update.state),
            SchedulerEvent::Rescinded(_) => rescinded += 1,
            SchedulerEvent::Failure(_) => failures += 1,
            SchedulerEvent::Disconnected { .. } => break,
            _ => {}
        }
    }
    assert!(rescinded > 0 && failures > 0);
    let lost = states.iter().position(|state| *state == TaskState::Unreachable).unwrap();
    assert!(states[lost..].contains(&TaskState::Running), "and came back");
}

#[tokio::test]
async fn a_follower_leads_to_the_leader_and_credentials_go_along() {
    let leader = Server::start(vec![fixture("02_subscribe_minimal_disconnect.s2.bin"), accepted()]).await;
    let location = format!("Location: //{}/master/api/v1/scheduler\r\n", leader.address);
    let follower = Server::start(vec![answer("307 Temporary Redirect", &location, "")]).await;
    let credentials = Some(Credentials { principal: "me".to_owned(), secret: "pw".to_owned() });
    let config = HttpConfig { credentials, ..config() };
    let scheduler = HttpScheduler::new([follower.address.to_string()], config).unwrap();
    let mut subscription = scheduler.subscribe(&call(CallType::Subscribe)).await.unwrap();
    let event = subscription.events.next().await.unwrap().unwrap();
    assert_eq!(event.kind, EventType::Error);
    scheduler.call("stream", &call(CallType::Revive)).await.unwrap();
    let requests = leader.requests();
    assert_eq!(requests[0].line, "POST /master/api/v1/scheduler HTTP/1.1");
    assert_eq!(requests[0].headers["authorization"], "Basic bWU6cHc=");
    assert_eq!(requests[0].body, r#"{"type":"SUBSCRIBE"}"#);
    assert_eq!(requests.len(), 2, "calls go to the leader without the detour");
}

#[tokio::test]
async fn a_dead_master_and_one_without_a_leader_are_passed_over() {
    let headers = "Content-Type: text/plain\r\n";
    let electing = Server::start(vec![answer("503 Service Unavailable", headers, "No leader elected")]).await;
    let leader = Server::start(vec![fixture("01_subscribe_new.s1.bin")]).await;
    let scheduler = scheduler(&[dead(), electing.address, leader.address]);
    scheduler.subscribe(&call(CallType::Subscribe)).await.unwrap();
    assert_eq!(electing.requests().len(), 1);
}

#[tokio::test]
async fn failures_say_who_and_why() {
    let address = dead();
    let error = scheduler(&[address]).subscribe(&call(CallType::Subscribe)).await.err().unwrap();
    let text = error.to_string();
    assert!(text.starts_with(&format!("no answer from {address}: ")), "{text}");
    assert!(text.contains("refused"), "{text}");

    let electing = Server::start(vec![answer("503 Service Unavailable", "", "No leader elected")]).await;
    let error = scheduler(&[electing.address]).subscribe(&call(CallType::Subscribe)).await.err().unwrap();
    assert!(matches!(error, TransportError::Unavailable { message, .. } if message == "No leader elected"));

    let long = format!("Failed\r\nto validate {}", "x".repeat(5000));
    let strict = Server::start(vec![answer("400 Bad Request", "", &long)]).await;
    let error = scheduler(&[strict.address]).subscribe(&call(CallType::Subscribe)).await.err().unwrap();
    let TransportError::Refused { peer, status: 400, message } = error else { panic!("{error}") };
    assert_eq!(peer, strict.address.to_string());
    assert!(message.starts_with("Failed  to validate xxx"));
    assert_eq!(message.len(), 1024);
}

#[tokio::test]
async fn a_circle_of_redirects_ends() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let redirect = answer("307 Temporary Redirect", &format!("Location: //{address}\r\n"), "");
    let mut serving = JoinSet::new();
    serving.spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            read_request(&mut socket).await;
            socket.write_all(&redirect).await.unwrap();
        }
    });
    let error = scheduler(&[address]).subscribe(&call(CallType::Subscribe)).await.err().unwrap();
    assert!(error.to_string().contains("circle"), "{error}");
}

#[tokio::test]
async fn a_redirect_elsewhere_than_to_http_is_refused() {
    for location in ["Location: ftp://127.0.0.1:1/\r\n", ""] {
        let server = Server::start(vec![answer("307 Temporary Redirect", location, "")]).await;
        let error = scheduler(&[server.address]).subscribe(&call(CallType::Subscribe)).await.err().unwrap();
        assert!(matches!(error, TransportError::Malformed { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_cut_or_broken_stream_ends_with_an_error() {
    let recorded = fixture("01_subscribe_new.s1.bin");
    let cut = recorded[..1000].to_vec();
    let head = "HTTP/1.1 200 OK\r\nMesos-Stream-Id: x\r\nContent-Length: 27\r\n\r\n";
    let garbage = format!("{head}12\n{{\"offers\":7}}oh no, bytes").into_bytes();
    for (answer, records) in [(cut, 2), (garbage, 0)] {
        let server = Server::start(vec![answer]).await;
        let subscription = scheduler(&[server.address]).subscribe(&call(CallType::Subscribe)).await.unwrap();
        let events: Vec<_> = subscription.events.collect().await;
        assert_eq!(events.len(), records + 1, "an event of another shape is skipped");
        assert!(events.last().unwrap().is_err());
    }
}

#[tokio::test]
async fn an_executor_talks_to_its_agent() {
    let body = "20\n{\"type\":\"HEARTBEAT\"}";
    let missing = "Executor is not subscribed";
    let answers = vec![
        answer("200 OK", "Content-Type: application/json\r\n", body),
        accepted(),
        answer("403 Forbidden", "", missing),
    ];
    let server = Server::start(answers).await;
    let agent = HttpExecutor::new(&server.address.to_string(), config()).unwrap();
    let subscribe = executor::Call { kind: executor::CallType::Subscribe, ..executor::Call::default() };
    let events: Vec<_> = agent.subscribe(&subscribe).await.unwrap().collect().await;
    assert_eq!(events[0].as_ref().unwrap().kind, executor::EventType::Heartbeat);
    let update = executor::Call { kind: executor::CallType::Update, ..executor::Call::default() };
    agent.call(&update).await.unwrap();
    let error = agent.call(&update).await.unwrap_err();
    assert_eq!(error.to_string(), format!("{} answered 403: {missing}", server.address));
    assert_eq!(server.requests()[0].line, "POST /api/v1/executor HTTP/1.1");
}

#[tokio::test]
async fn a_call_without_a_type_never_leaves() {
    let unknown = scheduler(&[dead()]);
    let error = unknown.subscribe(&call(CallType::Unknown)).await.err().unwrap();
    assert!(error.to_string().contains("without a type"), "{error}");
    assert!(unknown.call("x", &call(CallType::Unknown)).await.is_err());
}

#[test]
fn without_a_master_there_is_no_transport() {
    assert!(matches!(
        HttpScheduler::new(Vec::<String>::new(), HttpConfig::default()),
        Err(HttpConfigError::NoMaster)
    ));
}

#[test]
fn secrets_are_not_printed() {
    let credentials = Credentials { principal: "me".to_owned(), secret: "hush".to_owned() };
    let config = HttpConfig {
        credentials: Some(credentials),
        bearer_token: Some(BearerToken::new("hush")),
        ..HttpConfig::default()
    };
    let scheduler = HttpScheduler::new(["zk://me:hush@z/mesos"], config.clone()).unwrap();
    assert!(!format!("{config:?} {scheduler:?}").contains("hush"));
    let bad = HttpScheduler::new(["zk://hush@z/mesos"], HttpConfig::default()).unwrap_err();
    assert!(!format!("{bad:?} {bad}").contains("hush"));
    let unsendable = HttpConfig { bearer_token: Some(BearerToken::new("hush\n")), ..HttpConfig::default() };
    let bad = HttpScheduler::new(["m:1"], unsendable).unwrap_err();
    assert!(matches!(bad, HttpConfigError::BadCredentials), "{bad}");
}
