//! Plays a capture again: sends its calls in its order, each once everything that had come before it has come, with
//! the target's ids in the place of the recorded ones.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};

use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};

use crate::{
    book::{Book, Live},
    case::{Case, Place, Step},
    compare::unify_heads,
    model::{Entry, Request, Transcript, What, event_type},
    names::Names,
    offers::{Shapes, text},
    stream::{Content, Stream},
    target::Target,
    unify::unify,
    wire::{Connection, Received},
};

/// The recorder's waits are cut to this where a case does not say that they matter.
const LONGEST_PAUSE: f64 = 0.06;
/// How long something may take beyond what it took when it was recorded.
const PATIENCE: f64 = 6.0;
/// How long offers are waited for that may have come in one event with earlier ones.
const FOR_OFFERS: f64 = 1.3;
/// After so many things that did not come, the rest is not worth playing.
const MOST_STALLS: usize = 3;

/// A capture that is being played.
pub struct Replay<'a> {
    pub(crate) case: &'a Case,
    /// What it is played to.
    pub target: &'a dyn Target,
    /// Which id is which.
    pub names: Names,
    /// What came so far.
    pub got: Transcript,
    pub(crate) expected: BTreeMap<String, Stream>,
    pub(crate) reached: BTreeMap<String, Stream>,
    pub(crate) streams: BTreeMap<String, Stream>,
    pub(crate) captured_offers: Book,
    /// The offers that may be used.
    pub offers: Book,
    pub(crate) addresses: BTreeMap<String, SocketAddr>,
    connections: BTreeMap<String, Connection>,
    sink: mpsc::UnboundedSender<Received>,
    source: mpsc::UnboundedReceiver<Received>,
    start: Instant,
    stalls: Vec<String>,
    skipped_offers: BTreeMap<String, usize>,
    done: BTreeSet<usize>,
    /// Ids of the frameworks that were subscribed.
    pub frameworks: BTreeSet<String>,
}

/// What came of it.
#[derive(Debug)]
pub struct Played {
    /// What was sent and what came.
    pub got: Transcript,
    /// Which id is which.
    pub names: Names,
    /// How far the capture was played: less than all, if too much did not come.
    pub entries: usize,
    /// What did not come in time.
    pub stalls: Vec<String>,
    /// Ids of the frameworks that were subscribed.
    pub frameworks: BTreeSet<String>,
}

/// Plays a capture.
pub async fn replay(capture: &Transcript, case: &Case, target: &dyn Target) -> Played {
    let mut expected: BTreeMap<String, Stream> = BTreeMap::new();
    for entry in &capture.entries {
        expected.entry(entry.connection.clone()).or_default().push(entry);
    }
    let (sink, source) = mpsc::unbounded_channel();
    let mut replay = Replay {
        case,
        target,
        names: Names::new(target.agents() < if case.setup.alone { 1 } else { 2 }),
        got: Transcript { name: capture.name.clone(), entries: Vec::new() },
        expected,
        reached: BTreeMap::new(),
        streams: BTreeMap::new(),
        captured_offers: Book::default(),
        offers: Book::default(),
        addresses: BTreeMap::new(),
        connections: BTreeMap::new(),
        sink,
        source,
        start: now(),
        stalls: Vec::new(),
        skipped_offers: BTreeMap::new(),
        done: BTreeSet::new(),
        frameworks: BTreeSet::new(),
    };
    let entries = replay.play(&capture.entries).await;
    // What should not come has a moment to come.
    replay.pass(Duration::from_millis(300)).await;
    let Replay { got, names, stalls, frameworks, .. } = replay;
    Played { got, names, entries, stalls, frameworks }
}

impl Replay<'_> {
    async fn play(&mut self, entries: &[Entry]) -> usize {
        let mut before = 0.0;
        for (at, entry) in entries.iter().enumerate() {
            let gap = (entry.at - before).max(0.0);
            // What is waited for is not waited for since a heartbeat.
            if entry.event() != Some("HEARTBEAT") {
                before = entry.at;
            }
            if self.case.left_out.contains(&entry.connection.as_str()) {
                continue;
            }
            match &entry.what {
                What::Note(note) => {
                    self.steps(|place| matches!(place, Place::Note(part) if note.contains(part))).await;
                    if self.case.until.is_some_and(|until| note.contains(until)) {
                        return at;
                    }
                }
                What::Sent(request) => {
                    let pause = self.case.pauses.get(entry.connection.as_str());
                    let pause = pause.map_or_else(|| gap.min(LONGEST_PAUSE), |p| p * self.target.scale());
                    self.pass(Duration::from_secs_f64(pause)).await;
                    self.steps(|place| matches!(place, Place::Before(c) if *c == entry.connection)).await;
                    self.send(entry, request).await;
                }
                What::Closed => {
                    if let Some(connection) = self.connections.remove(&entry.connection) {
                        connection.close();
                    }
                    self.offers.ended(&entry.connection);
                    self.captured_offers.ended(&entry.connection);
                    self.note(&entry.connection, What::Closed);
                }
                _ => {
                    self.arrival(entry, gap).await;
                    if matches!(entry.what, What::Head(_)) {
                        self.steps(|place| matches!(place, Place::After(c) if *c == entry.connection)).await;
                    }
                }
            }
            if self.stalls.len() >= MOST_STALLS {
                return at + 1;
            }
        }
        entries.len()
    }

    /// Does each step whose place this is, once.
    async fn steps(&mut self, is_here: impl Fn(&Place) -> bool) {
        let case = self.case;
        for (at, (place, step)) in case.steps.iter().enumerate() {
            if !is_here(place) || !self.done.insert(at) {
                continue;
            }
            let result = match step {
                Step::Control(action, argument) => {
                    let argument = self.names.translate(argument);
                    self.target.control(*action, &argument).await.map(drop)
                }
                Step::Run(hook) => hook(self).await,
            };
            if let Err(error) = result {
                self.stalls.push(format!("at {place:?}: {error}"));
            }
        }
    }

    /// Waits for what the capture has next.
    async fn arrival(&mut self, entry: &Entry, gap: f64) {
        let connection = &entry.connection;
        let reached = self.reached.entry(connection.clone()).or_default();
        let index = reached.push(entry);
        let place = index.and_then(|index| reached.number_in_lane(index));
        let (heads, bodies, offers) = (reached.heads.len(), reached.bodies.len(), reached.offers.len());
        let limit = Duration::from_secs_f64(gap.mul_add(1.5, PATIENCE));
        if let What::Record(record) = &entry.what {
            self.captured_offers.event(connection, record);
            match event_type(record) {
                Some("OFFERS") => return self.offers_arrival(connection, offers, gap).await,
                Some("HEARTBEAT") => {
                    self.until(Duration::from_millis(500), |r| {
                        r.stream(connection).is_some_and(|s| s.heartbeats > 0)
                    })
                    .await;
                    return;
                }
                _ => {}
            }
        }
        let came = match (&entry.what, &place) {
            (What::Head(_), _) => self.until(limit, |r| r.has(connection, |s| s.heads.len() >= heads)).await,
            (What::Body(_), _) if !self.has(connection, |s| s.is_head) => {
                self.until(limit, |r| r.has(connection, |s| s.bodies.len() >= bodies)).await
            }
            (_, Some((lane, number))) => {
                self.until(limit, |r| r.has(connection, |s| s.in_lane(lane, *number).is_some())).await
            }
            _ => true,
        };
        if !came {
            self.stalls.push(format!("line {}: {} did not come in {limit:.1?}", entry.line, brief(entry)));
        }
    }

    /// How many events the allocator makes of its offers is its own affair, so only the first must come. The
    /// others are waited for until there are as many, and until one looks like each of those recorded so far.
    async fn offers_arrival(&mut self, connection: &str, recorded: usize, gap: f64) {
        let came = self.stream(connection).map_or(0, |stream| stream.offers.len());
        let skipped = self.skipped_offers.entry(connection.to_owned()).or_default();
        // Those that came late after all are not skipped any more.
        *skipped = (*skipped).min((recorded - 1).saturating_sub(came));
        let skipped = *skipped;
        let shapes =
            self.reached.get(connection).map(|stream| Shapes::of(&stream.offers)).unwrap_or_default();
        let count = |r: &Self| r.has(connection, |s| s.offers.len() + skipped >= recorded);
        let all = |r: &Self| r.has(connection, |s| Shapes::of(&s.offers).include(&shapes));
        let patience = if recorded == 1 { PATIENCE } else { FOR_OFFERS };
        if !self.until(Duration::from_secs_f64(gap.mul_add(1.2, patience)), |r| count(r) && all(r)).await
            && !count(self)
        {
            *self.skipped_offers.entry(connection.to_owned()).or_default() += 1;
        }
        self.pair_agents();
    }

    /// Which of the target's agents stands for which of the capture's: the first that offers for the same role.
    fn pair_agents(&mut self) {
        let captured: Vec<Live> = self.captured_offers.live.clone();
        for wanted in captured {
            if self.names.get(&wanted.agent).is_none() {
                let found =
                    crate::book::counterpart(&self.names, &wanted, &[], &self.offers, self.target.agents());
                if let Some(found) = found.cloned() {
                    self.bind_agent(&wanted, &found);
                }
            }
        }
    }

    pub(crate) fn bind_agent(&mut self, wanted: &Live, found: &Live) {
        self.names.bind(&wanted.agent, &found.agent);
        if let (Some(from), Some(to)) = (address(&wanted.offer), address(&found.offer))
            && let Ok(to) = to.parse()
        {
            self.addresses.insert(from, to);
        }
    }

    /// Opens a connection that sends a request.
    pub(crate) fn open(&mut self, connection: &str, to: SocketAddr, request: Request) {
        let opened = Connection::open(connection, to, &request, self.sink.clone());
        self.note(connection, What::Sent(request));
        self.connections.insert(connection.to_owned(), opened);
    }

    pub(crate) fn stall(&mut self, what: String) {
        self.stalls.push(what);
    }

    pub(crate) fn stream(&self, connection: &str) -> Option<&Stream> {
        self.streams.get(connection)
    }

    fn has(&self, connection: &str, condition: impl Fn(&Stream) -> bool) -> bool {
        self.stream(connection).is_some_and(condition)
    }

    /// Lets time pass; what comes is taken.
    pub async fn pass(&mut self, time: Duration) {
        self.until(time, |_| false).await;
    }

    /// Waits until something is so. `false`: it took too long.
    pub async fn until(&mut self, limit: Duration, condition: impl Fn(&Self) -> bool) -> bool {
        let deadline = now() + limit;
        loop {
            if condition(self) {
                return true;
            }
            match timeout_at(deadline, self.source.recv()).await {
                Ok(Some(received)) => self.take(received),
                Ok(None) | Err(_) => return condition(self),
            }
        }
    }

    /// Takes what came, and learns from it which id is which.
    fn take(&mut self, received: Received) {
        let Received { connection, what } = received;
        if let What::Record(record) = &what {
            self.offers.event(&connection, record);
            self.frameworks.extend(text(record, "/subscribed/framework_id/value"));
        }
        if let What::Opaque(record) = &what {
            let ids = crate::names::parts(record).into_iter();
            self.frameworks.extend(ids.filter_map(crate::names::framework_id));
        }
        if matches!(what, What::End | What::Eof) {
            self.offers.ended(&connection);
        }
        let index = self.note(&connection, what);
        let Some(expected) = self.expected.get(&connection) else { return };
        let Some(stream) = self.streams.get(&connection) else { return };
        let mut ignored = Vec::new();
        let place = index.and_then(|index| stream.number_in_lane(index));
        let pair = place
            .and_then(|(lane, number)| expected.in_lane(&lane, number).zip(stream.in_lane(&lane, number)));
        match pair.map(|(a, b)| (&a.content, &b.content)) {
            Some((Content::Record(a), Content::Record(b))) if event_type(a) == event_type(b) => {
                unify(&mut self.names, "", a, b, &mut ignored);
            }
            _ => {}
        }
        let last = stream.heads.len().checked_sub(1);
        if let Some(((_, a), (_, b))) = last.and_then(|at| expected.heads.get(at).zip(stream.heads.get(at))) {
            unify_heads(&mut self.names, "", a, b, &mut ignored);
        }
    }

    /// Writes down what happened.
    fn note(&mut self, connection: &str, what: What) -> Option<usize> {
        let at = self.start.elapsed().as_secs_f64();
        let entry = Entry { at, line: 0, connection: connection.to_owned(), what };
        let index = self.streams.entry(connection.to_owned()).or_default().push(&entry);
        self.got.entries.push(entry);
        index
    }
}

fn address(offer: &serde_json::Value) -> Option<String> {
    let ip = text(offer, "/url/address/ip")?;
    Some(format!("{ip}:{}", offer.pointer("/url/address/port")?.as_u64()?))
}

fn brief(entry: &Entry) -> String {
    let text = match &entry.what {
        What::Record(record) => format!("{} {}", entry.connection, Content::Record(record.clone()).label()),
        what => format!("{} {what}", entry.connection),
    };
    text.char_indices().nth(300).map_or(text.clone(), |(at, _)| format!("{}...", &text[..at]))
}

/// The suite meets real masters in real time.
#[expect(clippy::disallowed_methods, reason = "real masters keep real time")]
fn now() -> Instant {
    Instant::now()
}
