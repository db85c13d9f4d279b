//! The probing executors: they send what the executor of a capture sent, in its order, and wait for the events that
//! had come before each call. Ids of the framework, the agent and the tasks are replaced by those of this run.

use std::{io, path::Path, sync::Arc, time::Duration};

use serde_json::Value;
use tokio::{
    sync::watch,
    task::{AbortHandle, JoinSet},
    time::{sleep, timeout},
};

use overlord_conformance::{
    model::{Entry, Request, Transcript, What},
    parse::parse,
};

use crate::{
    Settings,
    journal::Journal,
    link::{Arrival, Stream},
};

/// For an event that had come in the capture.
const EVENT_LIMIT: Duration = Duration::from_secs(20);
/// A pause of the capture from here on is there for the scheduler to act, and is kept.
const LONG_PAUSE: f64 = 0.9;
/// What a long one, and a short one, is at most; twice as long as recorded otherwise.
const PAUSES: (Duration, Duration) = (Duration::from_secs(2), Duration::from_millis(100));
/// Before an end that the capture shows, so that what was sent is taken.
const LEAVE: Duration = Duration::from_secs(1);
/// After the last line, for SHUTDOWN or whatever else the agent wants.
const LINGER: Duration = Duration::from_secs(600);

/// Speaks the capture.
pub(crate) async fn run(settings: &Settings, journal: &Arc<Journal>, capture: &Path) -> io::Result<()> {
    let script = parse(&capture.display().to_string(), &std::fs::read(capture)?).map_err(io::Error::other)?;
    let (heard, mut hearing) = watch::channel(Heard::default());
    let mut speaker = Speaker {
        settings,
        journal,
        heard: Arc::new(heard),
        names: names(&script, settings),
        readers: JoinSet::new(),
        open: Vec::new(),
    };
    let mut expected = Heard::default();
    let mut before = 0.0;
    for Entry { at, what, .. } in &script.entries {
        // Notes without a time have 0.
        let limit = if at - before >= LONG_PAUSE { PAUSES.0 } else { PAUSES.1 };
        let pause = Duration::try_from_secs_f64((at - before) * 2.0).unwrap_or_default();
        sleep(pause.min(limit)).await;
        before = at.max(before);
        match what {
            What::Note(text) if text.starts_with("executor started") || text.starts_with("environment") => {}
            What::Note(text) if text.starts_with("exit ") => {
                sleep(LEAVE).await;
                journal.note(text);
                return Ok(());
            }
            What::Note(text) => {
                journal.note(text);
                if text.contains("shuts its") {
                    speaker.leave();
                }
            }
            What::Sent(request) => {
                // What came before this call was its cause, but for acknowledgements.
                let reached = hearing.wait_for(|heard| heard.covers(&expected));
                let heard = timeout(EVENT_LIMIT, reached).await.map_err(io::Error::other)?;
                let launched = heard.map_err(io::Error::other)?.launched.clone();
                let tasks: Vec<_> = expected.launched.iter().cloned().zip(launched).collect();
                speaker.speak(request, &tasks).await?;
            }
            What::Record(event) => expected.add(event),
            _ => {}
        }
    }
    let shutdown = hearing.wait_for(|heard| heard.shutdown);
    drop(timeout(LINGER, shutdown).await);
    Ok(())
}

/// Which events came, but for acknowledgements.
#[derive(Debug, Default, Clone)]
struct Heard {
    subscribed: usize,
    launched: Vec<String>,
    shutdown: bool,
}

impl Heard {
    fn add(&mut self, event: &Value) {
        match event["type"].as_str().unwrap_or_default() {
            "SUBSCRIBED" => self.subscribed += 1,
            "LAUNCH" => {
                let id = event["launch"]["task"]["task_id"]["value"].as_str().unwrap_or_default();
                self.launched.push(id.to_owned());
            }
            "SHUTDOWN" => self.shutdown = true,
            _ => {}
        }
    }

    fn covers(&self, expected: &Self) -> bool {
        self.subscribed >= expected.subscribed && self.launched.len() >= expected.launched.len()
    }
}

/// Names of the capture, and those of this run.
fn names(script: &Transcript, settings: &Settings) -> Vec<(String, String)> {
    let environment = script.entries.iter().find_map(|entry| match &entry.what {
        What::Note(text) => text.strip_prefix("environment\n"),
        _ => None,
    });
    let of = |name: &str| {
        let lines = environment.into_iter().flat_map(str::lines);
        lines
            .filter_map(|line| line.split_once('='))
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value)
    };
    let framework = of("MESOS_FRAMEWORK_ID").map(|id| (id.to_owned(), settings.framework.clone()));
    let endpoint = of("MESOS_AGENT_ENDPOINT").map(|id| (id.to_owned(), settings.agent.endpoint().to_owned()));
    framework.into_iter().chain(endpoint).collect()
}

struct Speaker<'a> {
    settings: &'a Settings,
    journal: &'a Arc<Journal>,
    heard: Arc<watch::Sender<Heard>>,
    names: Vec<(String, String)>,
    readers: JoinSet<()>,
    open: Vec<AbortHandle>,
}

impl Speaker<'_> {
    /// Sends a call; `tasks` are those of the capture, each with its name here.
    async fn speak(&mut self, request: &Request, tasks: &[(String, String)]) -> io::Result<()> {
        let mut body = request.body.clone();
        for (old, new) in self.names.iter().chain(tasks) {
            body = body.replace(old, new);
        }
        let lines = request.head.iter().map(|line| match line.split_once(": ") {
            Some(("Host", _)) => format!("Host: {}", self.settings.agent.endpoint()),
            Some(("Content-Length", _)) => format!("Content-Length: {}", body.len()),
            _ => line.clone(),
        });
        let request = format!("{}\r\n\r\n{body}", lines.collect::<Vec<_>>().join("\r\n"));
        let call: Value = serde_json::from_str(&body).unwrap_or_default();
        if call["type"] != "SUBSCRIBE" {
            self.settings.agent.call(self.journal, &request).await?;
            return Ok(());
        }
        if let Some(stream) = self.settings.agent.subscribe(self.journal, &request).await? {
            let handle = self.readers.spawn(read(stream, Arc::clone(self.journal), Arc::clone(&self.heard)));
            self.open.push(handle);
        }
        Ok(())
    }

    /// Drops the connections of its subscriptions, as a process that is cut off does.
    fn leave(&mut self) {
        for reader in self.open.drain(..) {
            if !reader.is_finished() {
                reader.abort();
                self.journal.received("EOF on the subscription", "");
            }
        }
    }
}

async fn read(mut stream: Stream, journal: Arc<Journal>, heard: Arc<watch::Sender<Heard>>) {
    loop {
        match stream.next(&journal).await {
            Ok(Arrival::Events(events)) => {
                heard.send_modify(|heard| events.iter().for_each(|event| heard.add(event)));
            }
            Ok(Arrival::Last) => return,
            Ok(Arrival::Eof) | Err(_) => {
                journal.received("EOF on the subscription", "");
                return;
            }
        }
    }
}
