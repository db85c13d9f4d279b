//! What happened, in order, with virtual times: hashed to compare two runs of one seed, kept to tell the
//! story of a failed one.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use overlord_reconcile::Clock;
use sha2::{Digest as _, Sha256};

use crate::script::clock_face;

/// A handle on the trace of one run; clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Trace {
    clock: Arc<dyn Clock>,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    hasher: Sha256,
    /// The hash at the moment up to which runs are compared.
    sealed: Option<String>,
    lines: Vec<String>,
    violations: Vec<String>,
    counts: BTreeMap<&'static str, u64>,
}

/// What is left of a run.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) hash: String,
    pub(crate) lines: Vec<String>,
    pub(crate) violations: Vec<String>,
    pub(crate) counts: BTreeMap<&'static str, u64>,
}

impl Trace {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, inner: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stamp(&self) -> String {
        clock_face(self.clock.monotonic())
    }

    /// Something happened.
    pub(crate) fn line(&self, text: impl Into<String>) {
        self.detailed(text, b"");
    }

    /// Something happened whose whole text is too long for the story.
    pub(crate) fn detailed(&self, text: impl Into<String>, detail: &[u8]) {
        let line = format!("{} {}", self.stamp(), text.into());
        let mut inner = self.lock();
        inner.hasher.update(line.as_bytes());
        inner.hasher.update(detail);
        inner.hasher.update(b"\n");
        inner.lines.push(line);
    }

    /// Something for the reader only: it is no part of what two runs are compared by.
    pub(crate) fn note(&self, text: &str) {
        let line = format!("{} | {text}", self.stamp());
        self.lock().lines.push(line);
    }

    /// Something happened that must never happen.
    pub(crate) fn violation(&self, text: impl Into<String>) {
        let text = text.into();
        self.line(format!("!! {text}"));
        self.lock().violations.push(text);
    }

    /// The first violation, if there is one.
    pub(crate) fn violated(&self) -> Option<String> {
        self.lock().violations.first().cloned()
    }

    /// Counts an event of the script.
    pub(crate) fn count(&self, what: &'static str) {
        *self.lock().counts.entry(what).or_default() += 1;
    }

    /// Virtual time since the beginning.
    pub(crate) fn now(&self) -> Duration {
        self.clock.monotonic()
    }

    /// Runs are compared up to here.
    pub(crate) fn seal(&self) {
        let mut inner = self.lock();
        let mut hash = String::new();
        for byte in inner.hasher.clone().finalize() {
            // Writing to a string cannot fail.
            let _ = write!(hash, "{byte:02x}");
        }
        inner.sealed.get_or_insert(hash);
    }

    /// Ends the trace.
    pub(crate) fn finish(&self) -> Told {
        self.seal();
        let inner = self.lock();
        Told {
            hash: inner.sealed.clone().unwrap_or_default(),
            lines: inner.lines.clone(),
            violations: inner.violations.clone(),
            counts: inner.counts.clone(),
        }
    }
}

impl Told {
    /// The first line in which two runs differ.
    pub(crate) fn first_difference(&self, other: &Self) -> String {
        let told = |lines: &[String]| -> Vec<String> {
            lines.iter().filter(|line| !line.contains(" | ")).cloned().collect()
        };
        let (one, two) = (told(&self.lines), told(&other.lines));
        let at = one.iter().zip(&two).position(|(a, b)| a != b).unwrap_or(one.len().min(two.len()));
        let mut text = format!("line {at} differs\n");
        for line in &one[at.saturating_sub(15)..at] {
            let _ = writeln!(text, "  both   {line}");
        }
        for (name, lines) in [("first ", &one), ("second", &two)] {
            for line in lines.iter().skip(at).take(4) {
                let _ = writeln!(text, "  {name} {line}");
            }
        }
        text
    }
}
