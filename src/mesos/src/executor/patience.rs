//! How long a missing subscription is borne, and what a refusal of the agent means.

use std::{pin::Pin, time::Duration};

use tokio::{
    sync::mpsc,
    time::{Sleep, sleep},
};

use super::ExecutorEvent;
use crate::TransportError;

/// The consumer is gone.
pub(super) struct Gone;

/// How long we may still be without a subscription before the agent counts us as lost.
pub(super) struct Patience {
    timer: Pin<Box<Sleep>>,
    exhausted: bool,
}

impl Patience {
    pub(super) fn new(duration: Duration) -> Self {
        Self { timer: Box::pin(sleep(duration)), exhausted: false }
    }

    /// Waits for `work`, and says AGENT LOST when the patience ends meanwhile.
    pub(super) async fn during<T>(
        &mut self,
        events: &mpsc::Sender<ExecutorEvent>,
        work: impl Future<Output = T>,
    ) -> Result<T, Gone> {
        tokio::pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return Ok(done),
                () = &mut self.timer, if !self.exhausted => {
                    self.exhausted = true;
                    tracing::error!("no subscription for longer than the agent waits for executors");
                    events.send(ExecutorEvent::AgentLost).await.map_err(|_| Gone)?;
                }
            }
        }
    }
}

/// So often in a row must an agent say that it does not know us before it is believed: another one may have had
/// its address for a moment.
const DISOWNED_AFTER: u32 = 10;

/// Whether the agent that answers is one that does not know this executor.
#[derive(Debug, Default)]
pub(super) struct Disowned {
    answers: u32,
}

impl Disowned {
    /// Takes in how an attempt to subscribe ended; whether the agent is to be believed now. Said once.
    pub(super) fn heard(&mut self, outcome: Option<&TransportError>) -> bool {
        match outcome {
            Some(error) if is_unknown(error) => self.answers = self.answers.saturating_add(1),
            // No answer says nothing: it may be about to say the same again.
            Some(TransportError::Unavailable { .. }) => return false,
            _ => self.answers = 0,
        }
        self.answers == DISOWNED_AFTER
    }
}

/// The words of an agent that has recovered all it runs, and us not (`Http::executor` in Mesos'
/// slave/http.cpp). While it recovers it answers 503.
fn is_unknown(error: &TransportError) -> bool {
    matches!(error, TransportError::Refused { status: 400, message, .. }
        if message.contains("Framework cannot be found") || message.contains("Executor cannot be found"))
}

/// What to do about an update that the agent did not take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Say it again.
    Again,
    /// The agent has no subscription of ours: make one, which carries the update too.
    Subscribe,
    /// The update itself is wrong.
    Wrong,
}

impl Verdict {
    pub(super) fn of(error: &TransportError) -> Self {
        match error {
            TransportError::Refused { status: 403, .. } => Self::Subscribe,
            error if is_unknown(error) => Self::Subscribe,
            TransportError::Refused { status: 400 | 413 | 422, .. } => Self::Wrong,
            // Anything between us and the agent may say anything, for a while.
            TransportError::Refused { .. }
            | TransportError::Unavailable { .. }
            | TransportError::Withheld { .. }
            | TransportError::Malformed { .. } => Self::Again,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{refused, unavailable};

    #[test]
    fn the_answers_of_a_real_agent_are_understood() {
        for (status, text, verdict) in [
            (403, "Executor is not subscribed", Verdict::Subscribe),
            (400, "Framework cannot be found", Verdict::Subscribe),
            (400, "Executor cannot be found", Verdict::Subscribe),
            (400, "Failed to validate Executor::Call: Not a valid UUID", Verdict::Wrong),
            (401, "", Verdict::Again),
            (500, "", Verdict::Again),
        ] {
            assert_eq!(Verdict::of(&refused(status, text)), verdict, "{status} {text}");
        }
        assert_eq!(Verdict::of(&unavailable()), Verdict::Again);
    }

    #[test]
    fn an_agent_is_believed_after_saying_it_ten_times_in_a_row() {
        let mut disowned = Disowned::default();
        let unknown = refused(400, "Executor cannot be found");
        for _ in 0..9 {
            assert!(!disowned.heard(Some(&unknown)));
            assert!(!disowned.heard(Some(&unavailable())));
        }
        assert!(!disowned.heard(None), "it knows us after all");
        let heard: Vec<bool> = (0..30).map(|_| disowned.heard(Some(&unknown))).collect();
        assert_eq!(heard.iter().position(|said| *said), Some(9));
        assert_eq!(heard.iter().filter(|said| **said).count(), 1);
    }
}
