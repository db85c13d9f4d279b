//! What went through taps, in the order in which they saw it.

use std::sync::{Arc, Mutex};

use super::lock;

/// A key that a transaction writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenKey {
    /// The key; of a deleted range its beginning.
    pub key: String,
    /// Whether everything that begins with it is deleted.
    pub range: bool,
    /// The Mesos task that the value names.
    pub task: Option<String>,
}

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// A write to etcd.
    Write {
        /// The create revision that the leader key must have; `None`: not asked for.
        fence: Option<i64>,
        /// What is written if all compares hold.
        keys: Vec<WrittenKey>,
    },
    /// A call to the Mesos master.
    Call {
        /// Its type, such as `ACCEPT`.
        kind: String,
        /// The tasks it launches.
        launches: Vec<String>,
    },
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing is known: no answer, or one that leaves it open.
    Open,
    /// etcd's answer: whether the compares held, and etcd's revision.
    Etcd {
        /// Whether it was written.
        done: bool,
        /// The revision it was written at, or refused at.
        revision: i64,
    },
    /// The master's HTTP status.
    Status(u16),
}

/// One call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Whose.
    pub by: String,
    /// What.
    pub asked: Asked,
    /// When it was given on to the server; `None`: never. Moments are counted over all taps of a tape.
    pub sent: Option<u64>,
    /// When the answer was there.
    pub answered: Option<u64>,
    /// What it said.
    pub outcome: Outcome,
}

/// What all taps of a test write on.
#[derive(Debug, Clone, Default)]
pub struct Tape(Arc<Mutex<Written>>);

#[derive(Debug, Default)]
struct Written {
    calls: Vec<Call>,
    moments: u64,
}

impl Written {
    fn moment(&mut self) -> u64 {
        self.moments += 1;
        self.moments
    }
}

impl Tape {
    /// Everything so far.
    pub fn calls(&self) -> Vec<Call> {
        lock(&self.0).calls.clone()
    }

    /// How often the master has taken subscriptions of `by`.
    pub fn subscriptions(&self, by: &str) -> usize {
        let of = |call: &&Call| {
            let subscribes = matches!(&call.asked, Asked::Call { kind, .. } if kind == "SUBSCRIBE");
            call.by == by && subscribes && call.outcome == Outcome::Status(200)
        };
        lock(&self.0).calls.iter().filter(of).count()
    }

    /// Writes down what is asked; its number.
    pub(super) fn asked(&self, by: &str, asked: Asked) -> usize {
        let mut written = lock(&self.0);
        let by = by.to_owned();
        written.calls.push(Call { by, asked, sent: None, answered: None, outcome: Outcome::Open });
        written.calls.len() - 1
    }

    /// It is given on.
    pub(super) fn sent(&self, call: usize) {
        let mut written = lock(&self.0);
        let moment = written.moment();
        if let Some(call) = written.calls.get_mut(call) {
            call.sent = Some(moment);
        }
    }

    /// It is answered.
    pub(super) fn answered(&self, call: usize, outcome: Outcome) {
        let mut written = lock(&self.0);
        let moment = written.moment();
        if let Some(call) = written.calls.get_mut(call) {
            (call.answered, call.outcome) = (Some(moment), outcome);
        }
    }
}
