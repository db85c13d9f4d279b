//! The custom executors of a case: how they are started, where they leave their transcripts, and what these and
//! their ends have to be.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use tokio::time::sleep;

use crate::{
    captures, executors,
    names::Names,
    parse::parse,
    unify::{Difference, differ},
};

/// What the recorder ran.
pub const RECORDED: &str = "exec python3 /srv/mesos/captures/tools/executor.py";

/// For the last entries of a transcript.
const SETTLE: Duration = Duration::from_secs(8);
/// For an executor of a framework that is torn down: the grace period of 5 s, and some more.
const END: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(100);

/// The custom executors of a case.
#[derive(Debug, Clone)]
pub struct Cast {
    /// What agents run for them.
    pub command: String,
    directory: PathBuf,
    names: Vec<&'static str>,
}

impl Cast {
    /// Executors that `binary` plays, with transcripts in `directory`. `pace` shortens what they do: 1 is as recorded.
    pub fn new(binary: &str, directory: &Path, capture: &str, names: &[&'static str], pace: f64) -> Self {
        let recording = captures().join(capture);
        let command = format!("exec {binary} {} {} {pace}", directory.display(), recording.display());
        Self { command, directory: directory.to_owned(), names: names.to_vec() }
    }

    /// What an executor has written so far.
    pub fn written(&self, name: &str) -> String {
        std::fs::read_to_string(self.transcript(name)).unwrap_or_default()
    }

    /// Its process.
    pub fn pid(&self, name: &str) -> Option<u32> {
        let text = self.written(name);
        let (_, after) = text.split_once("executor started pid=")?;
        after.split_whitespace().next()?.parse().ok()
    }

    /// What the recorded executors of the capture saw that these did not, once both stand still. Of a capture that
    /// was not played to its end, there is nothing to wait for.
    pub async fn differences(&self, capture: &str, whole: bool) -> Vec<Difference> {
        let mut out = Vec::new();
        for name in &self.names {
            out.extend(self.differences_of(capture, name, whole).await);
        }
        out
    }

    async fn differences_of(&self, capture: &str, name: &str, whole: bool) -> Vec<Difference> {
        let recorded = format!("{capture}.{name}.executor_wire");
        let place = format!("{recorded}.txt");
        let mut out = Vec::new();
        // Of some executors there is no recording of their own.
        if let Ok(text) = std::fs::read(captures().join(&place)) {
            match parse(&recorded, &text) {
                Ok(expected) => {
                    let begin = now();
                    loop {
                        out = match parse(name, self.written(name).as_bytes()) {
                            Ok(got) => {
                                executors::compare(&expected, &got, &self.command, &mut Names::default())
                            }
                            Err(error) => vec![difference(&place, "a transcript", &error.to_string())],
                        };
                        if out.is_empty() || !whole || begin.elapsed() > SETTLE {
                            break;
                        }
                        sleep(POLL).await;
                    }
                }
                Err(error) => out.push(difference(&place, "a recording", &error.to_string())),
            }
        }
        match self.pid(name) {
            Some(pid) if whole => {
                let begin = now();
                while is_alive(pid) && begin.elapsed() < END {
                    sleep(POLL).await;
                }
                if is_alive(pid) {
                    let still = format!("it runs {END:?} later");
                    out.push(difference(&place, "the executor's end with its framework's", &still));
                }
            }
            Some(_) => {}
            None => out.push(difference(&place, "an executor", "none was started")),
        }
        out
    }

    fn transcript(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.executor_wire.txt"))
    }
}

fn difference(place: &str, expected: &str, got: &str) -> Difference {
    let mut out = Vec::new();
    differ(&mut out, place, expected, got);
    out.remove(0)
}

/// Whether a process is there and no zombie.
fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}

#[expect(clippy::disallowed_methods, reason = "real processes take real time")]
fn now() -> Instant {
    Instant::now()
}
