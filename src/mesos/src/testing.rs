//! For unit tests: recorded streams, and transports whose other end is the test.

use std::{collections::VecDeque, path::PathBuf, sync::Mutex};

use async_trait::async_trait;
use futures::{StreamExt as _, stream};
use tokio::sync::{mpsc, oneshot};

use crate::{EventStream, ExecutorTransport, SchedulerTransport, Subscription, TransportError, v1};

/// A recording of the project's fixtures.
pub(crate) fn fixture(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/mesos").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The body of a recorded HTTP answer: without its head and its chunks' framing.
pub(crate) fn fixture_body(name: &str) -> Vec<u8> {
    let recorded = fixture(name);
    let head = recorded.windows(4).position(|window| window == b"\r\n\r\n").expect("end of the head");
    let mut rest = &recorded[head + 4..];
    let mut body = Vec::new();
    while let Some(line) = rest.windows(2).position(|window| window == b"\r\n") {
        let size = str::from_utf8(&rest[..line]).expect("chunk size is text");
        let size = usize::from_str_radix(size.trim(), 16).expect("chunk size is hexadecimal");
        body.extend_from_slice(&rest[line + 2..line + 2 + size]);
        rest = &rest[(line + 4 + size).min(rest.len())..];
    }
    body
}

/// A SUBSCRIBE that waits for the test's answer.
pub(crate) struct Asked<C, A> {
    pub(crate) call: C,
    answer: oneshot::Sender<Result<A, TransportError>>,
}

impl<C, A> Asked<C, A> {
    pub(crate) fn refuse(self, error: TransportError) {
        let _ = self.answer.send(Err(error));
    }
}

pub(crate) type Feed<E> = mpsc::UnboundedSender<Result<E, TransportError>>;

fn feed<E: Send + 'static>() -> (Feed<E>, EventStream<E>) {
    let (feed, receiver) = mpsc::unbounded_channel();
    let events = stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|event| (event, receiver))
    });
    (feed, events.boxed())
}

/// What a call is answered.
pub(crate) enum Answer {
    Now(Result<(), TransportError>),
    /// The same for a call that did not arrive: the test sees `"lost"` beside it.
    Lost(Result<(), TransportError>),
    Never,
}

struct Transport<C, A> {
    subscribe: mpsc::UnboundedSender<Asked<C, A>>,
    calls: mpsc::UnboundedSender<(String, C)>,
    answers: Mutex<VecDeque<Answer>>,
}

impl<C, A> Transport<C, A> {
    async fn subscribe(&self, call: C) -> Result<A, TransportError> {
        let (answer, answered) = oneshot::channel();
        let _ = self.subscribe.send(Asked { call, answer });
        answered.await.unwrap_or_else(|_| Err(unavailable()))
    }

    async fn call(&self, stream_id: &str, call: C) -> Result<(), TransportError> {
        let answer = self.answers.lock().unwrap().pop_front().unwrap_or(Answer::Now(Ok(())));
        let lost = matches!(answer, Answer::Lost(_));
        let _ = self.calls.send((if lost { "lost" } else { stream_id }.to_owned(), call));
        match answer {
            Answer::Now(result) | Answer::Lost(result) => result,
            Answer::Never => std::future::pending().await,
        }
    }
}

pub(crate) fn unavailable() -> TransportError {
    TransportError::Unavailable { peer: "test".to_owned(), message: "connection refused".to_owned() }
}

pub(crate) fn refused(status: u16, message: &str) -> TransportError {
    TransportError::Refused { peer: "test".to_owned(), status, message: message.to_owned() }
}

pub(crate) struct FakeMaster(Transport<v1::scheduler::Call, Subscription>);

pub(crate) struct FakeAgent(Transport<v1::executor::Call, EventStream<v1::executor::Event>>);

/// The test's end of a transport.
pub(crate) struct Peer<C, A> {
    pub(crate) asked: mpsc::UnboundedReceiver<Asked<C, A>>,
    pub(crate) calls: mpsc::UnboundedReceiver<(String, C)>,
}

pub(crate) type Master = Peer<v1::scheduler::Call, Subscription>;
pub(crate) type Agent = Peer<v1::executor::Call, EventStream<v1::executor::Event>>;

fn pair<C, A>() -> (Transport<C, A>, Peer<C, A>) {
    let (subscribe, asked) = mpsc::unbounded_channel();
    let (call, calls) = mpsc::unbounded_channel();
    (Transport { subscribe, calls: call, answers: Mutex::default() }, Peer { asked, calls })
}

impl FakeMaster {
    pub(crate) fn pair() -> (Self, Master) {
        let (transport, peer) = pair();
        (Self(transport), peer)
    }

    pub(crate) fn answer(&self, answer: Answer) {
        self.0.answers.lock().unwrap().push_back(answer);
    }
}

impl FakeAgent {
    pub(crate) fn pair() -> (Self, Agent) {
        let (transport, peer) = pair();
        (Self(transport), peer)
    }

    pub(crate) fn answer(&self, answer: Answer) {
        self.0.answers.lock().unwrap().push_back(answer);
    }
}

impl Asked<v1::scheduler::Call, Subscription> {
    pub(crate) fn accept(self, stream_id: &str) -> Feed<v1::scheduler::Event> {
        let (feed, events) = feed();
        let _ = self.answer.send(Ok(Subscription { stream_id: stream_id.to_owned(), events }));
        feed
    }
}

impl Asked<v1::executor::Call, EventStream<v1::executor::Event>> {
    pub(crate) fn accept(self) -> Feed<v1::executor::Event> {
        let (feed, events) = feed();
        let _ = self.answer.send(Ok(events));
        feed
    }
}

#[async_trait]
impl SchedulerTransport for FakeMaster {
    async fn subscribe(&self, call: &v1::scheduler::Call) -> Result<Subscription, TransportError> {
        self.0.subscribe(call.clone()).await
    }

    async fn call(&self, stream_id: &str, call: &v1::scheduler::Call) -> Result<(), TransportError> {
        self.0.call(stream_id, call.clone()).await
    }
}

#[async_trait]
impl ExecutorTransport for FakeAgent {
    async fn subscribe(
        &self,
        call: &v1::executor::Call,
    ) -> Result<EventStream<v1::executor::Event>, TransportError> {
        self.0.subscribe(call.clone()).await
    }

    async fn call(&self, call: &v1::executor::Call) -> Result<(), TransportError> {
        self.0.call("", call.clone()).await
    }
}
