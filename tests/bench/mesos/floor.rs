//! The floor: the same bytes sent and read by a client that does nothing else. It holds no book, checks
//! nothing, and would not survive a surprise.

use std::{collections::VecDeque, net::SocketAddr, time::Duration};

use futures::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use overlord_mesos::{
    SchedulerConfig,
    v1::{
        AgentId, FrameworkId, OfferId,
        scheduler::{Accept, Call, CallType, Decline, Event, Filters, Offers, Roles, Subscribe},
    },
};
use overlord_reconcile::{Clock as _, SystemClock};
use serde::Deserialize;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    sync::mpsc,
    task::JoinSet,
};

use super::{
    Launched,
    load::{CALLS_AT_ONCE, HOLD, TASKS, launch},
    master::Master,
};
use crate::{Failure, proc::cpu};

type Sent = BoxFuture<'static, Result<Connection, Failure>>;

/// A connection for calls.
struct Connection(BufReader<TcpStream>);

impl Connection {
    async fn open(address: SocketAddr) -> Result<Self, Failure> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Sends a call and waits for its 202.
    async fn send(mut self, head: String, body: Vec<u8>) -> Result<Self, Failure> {
        self.0.write_all(&[head.as_bytes(), &body].concat()).await?;
        let mut line = String::new();
        self.0.read_line(&mut line).await?;
        if !line.contains(" 202 ") {
            return Err(format!("the master answered {line:?}").into());
        }
        // Headers; a 202 has no body.
        while line != "\r\n" {
            line.clear();
            self.0.read_line(&mut line).await?;
        }
        Ok(self)
    }
}

fn head(stream_id: Option<&str>, length: usize) -> String {
    let stream_id = stream_id.map_or_else(String::new, |id| format!("Mesos-Stream-Id: {id}\r\n"));
    format!(
        "POST /api/v1/scheduler HTTP/1.1\r\nHost: master\r\nContent-Type: application/json\r\n\
         Accept: application/json\r\n{stream_id}Content-Length: {length}\r\n\r\n"
    )
}

/// What is read of an update.
#[derive(Deserialize)]
struct Told<'a> {
    #[serde(rename = "type", borrow)]
    kind: &'a str,
    #[serde(borrow)]
    update: Option<Update<'a>>,
}

#[derive(Deserialize)]
struct Update<'a> {
    #[serde(borrow)]
    status: Status<'a>,
}

#[derive(Deserialize)]
struct Status<'a> {
    #[serde(borrow)]
    task_id: Id<'a>,
    #[serde(borrow)]
    agent_id: Id<'a>,
    #[serde(borrow)]
    uuid: &'a str,
    #[serde(borrow)]
    state: &'a str,
}

#[derive(Deserialize)]
struct Id<'a> {
    #[serde(borrow)]
    value: &'a str,
}

/// The next record: each is one chunk of the body.
async fn record(stream: &mut BufReader<TcpStream>) -> Result<Vec<u8>, Failure> {
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    let size = usize::from_str_radix(line.trim(), 16).map_err(|_| format!("no chunk: {line:?}"))?;
    let mut chunk = vec![0; size + 2];
    stream.read_exact(&mut chunk).await?;
    chunk.truncate(size);
    let json = chunk.iter().position(|byte| *byte == b'\n').ok_or("no length")? + 1;
    Ok(chunk.split_off(json))
}

/// A subscription.
pub(crate) struct Raw {
    records: mpsc::Receiver<Vec<u8>>,
    stream_id: String,
    framework: FrameworkId,
    idle: Vec<Connection>,
    clock: SystemClock,
    _reading: JoinSet<()>,
}

impl Raw {
    pub(crate) async fn subscribe(master: &Master, clock: SystemClock) -> Result<Self, Failure> {
        let config = SchedulerConfig::new("root", "floor", vec!["*".to_owned()], HOLD);
        let subscribe = Subscribe { framework_info: config.framework, ..Subscribe::default() };
        let call = Call { kind: CallType::Subscribe, subscribe: Some(subscribe), ..Call::default() };
        let body = serde_json::to_vec(&call)?;
        let mut stream = BufReader::with_capacity(1 << 16, TcpStream::connect(master.address).await?);
        stream.write_all(&[head(None, body.len()).as_bytes(), &body].concat()).await?;
        let (mut line, mut stream_id) = (String::new(), String::new());
        while line != "\r\n" {
            line.clear();
            stream.read_line(&mut line).await?;
            if let Some((name, value)) = line.split_once(": ")
                && name.eq_ignore_ascii_case("mesos-stream-id")
            {
                value.trim().clone_into(&mut stream_id);
            }
        }
        let event: Event = serde_json::from_slice(&record(&mut stream).await?)?;
        let framework = event.subscribed.ok_or("no SUBSCRIBED")?.framework_id;
        let mut idle = Vec::new();
        for _ in 0..CALLS_AT_ONCE {
            idle.push(Connection::open(master.address).await?);
        }
        let (sender, records) = mpsc::channel(1 << 16);
        let mut reading = JoinSet::new();
        reading.spawn(async move {
            while let Ok(record) = record(&mut stream).await {
                if sender.send(record).await.is_err() {
                    return;
                }
            }
        });
        Ok(Self { records, stream_id, framework, idle, clock, _reading: reading })
    }

    /// The next event that is longer than a heartbeat, as it came.
    async fn next(&mut self) -> Result<Vec<u8>, Failure> {
        loop {
            let record = self.records.recv().await.ok_or("the stream ended")?;
            if record.len() > 100 {
                return Ok(record);
            }
        }
    }

    fn call(&self, kind: CallType) -> Call {
        Call { framework_id: Some(self.framework.clone()), kind, ..Call::default() }
    }

    fn send(&mut self, body: Vec<u8>) -> Result<Sent, Failure> {
        let connection = self.idle.pop().ok_or("no connection is idle")?;
        Ok(Box::pin(connection.send(head(Some(&self.stream_id), body.len()), body)))
    }

    /// From REVIVE until the last byte of the offers, `rounds` times; and the bytes of one such event.
    pub(crate) async fn revived(&mut self, rounds: usize) -> Result<(Vec<Duration>, Vec<u8>), Failure> {
        let mut record = self.next().await?;
        let mut times = Vec::new();
        for _ in 0..rounds {
            let offer_ids = offers(&record)?.offers.into_iter().map(|offer| offer.id).collect();
            let decline = Some(Decline { offer_ids, filters: Some(Filters { refuse_seconds: Some(0.0) }) });
            let body = serde_json::to_vec(&Call { decline, ..self.call(CallType::Decline) })?;
            let connection = self.send(body)?.await?;
            self.idle.push(connection);
            let revive = Some(Roles { roles: vec!["*".to_owned()] });
            let body = serde_json::to_vec(&Call { revive, ..self.call(CallType::Revive) })?;
            let start = self.clock.monotonic();
            let sent = self.send(body)?;
            let (connection, next) = tokio::join!(sent, self.next());
            record = next?;
            times.push(self.clock.monotonic().saturating_sub(start));
            self.idle.push(connection?);
        }
        Ok((times, record))
    }

    /// Until every task runs and every update is acknowledged, as our client does it.
    pub(crate) async fn launch_all(mut self, agents: usize, start: Duration) -> Result<Launched, Failure> {
        let before = cpu(std::process::id());
        let wanted = agents * usize::from(TASKS);
        let offers = offers(&self.next().await?)?.offers;
        // All agents are alike: one ACCEPT is made, the others differ in their ids.
        let first = offers.first().ok_or("no offers")?;
        let accept = Accept {
            offer_ids: vec![OfferId::new("@OFFER@")],
            operations: vec![launch(&AgentId::new("@AGENT@"), &first.resources)?],
            filters: Some(Filters { refuse_seconds: Some(0.0) }),
        };
        let template = serde_json::to_string(&Call { accept: Some(accept), ..self.call(CallType::Accept) })?;
        let mut bodies: VecDeque<Vec<u8>> = VecDeque::new();
        for offer in offers.iter().take(agents) {
            let body = template.replace("@AGENT@", offer.agent_id.as_str());
            bodies.push_back(body.replace("@OFFER@", offer.id.as_str()).into_bytes());
        }
        let mut calls: FuturesUnordered<Sent> = FuturesUnordered::new();
        let (mut running, mut left, mut accepted) = (0, agents, None);
        while running < wanted || !bodies.is_empty() || !calls.is_empty() {
            while !self.idle.is_empty()
                && let Some(body) = bodies.pop_front()
            {
                calls.push(self.send(body)?);
            }
            tokio::select! {
                biased;
                Some(done) = calls.next() => {
                    self.idle.push(done?);
                    left = left.saturating_sub(1);
                    if left == 0 && accepted.is_none() {
                        accepted = Some(self.clock.monotonic().saturating_sub(start));
                    }
                }
                record = self.records.recv() => {
                    let record = record.ok_or("the stream ended")?;
                    let told: Told<'_> = serde_json::from_slice(&record)?;
                    let Some(Update { status }) = told.update.filter(|_| told.kind == "UPDATE") else { continue };
                    running += usize::from(status.state == "TASK_RUNNING");
                    bodies.push_back(self.acknowledgement(&status));
                }
            }
        }
        let whole = self.clock.monotonic().saturating_sub(start);
        let used = cpu(std::process::id()).saturating_sub(before);
        Ok(Launched { tasks: wanted, accepted: accepted.unwrap_or(whole), whole, cpu: used })
    }

    fn acknowledgement(&self, status: &Status<'_>) -> Vec<u8> {
        let Status { task_id, agent_id, uuid, .. } = status;
        format!(
            "{{\"framework_id\":{{\"value\":\"{}\"}},\"type\":\"ACKNOWLEDGE\",\"acknowledge\":{{\"agent_id\":\
             {{\"value\":\"{}\"}},\"task_id\":{{\"value\":\"{}\"}},\"uuid\":\"{uuid}\"}}}}",
            self.framework, agent_id.value, task_id.value
        )
        .into_bytes()
    }
}

fn offers(record: &[u8]) -> Result<Offers, Failure> {
    let event: Event = serde_json::from_slice(record)?;
    Ok(event.offers.ok_or("no OFFERS")?)
}
