//! What is known about the leading master, and waiting for it to change.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, time::timeout};

use super::Leader;
use crate::TransportError;

/// What ZooKeeper said last. When it does not answer, that stays: a master that loses ZooKeeper ends its
/// leadership by itself, and its stream with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Sighting {
    /// It said nothing yet.
    Nothing { why: String },
    /// No master leads.
    NoLeader { why: String },
    /// This one leads.
    Leader(Leader),
}

/// One's own view of what a detector sees.
#[derive(Debug, Clone)]
pub(crate) struct Sightings {
    pub(super) seen: watch::Receiver<Sighting>,
    /// The detector, for messages.
    pub(super) source: Arc<str>,
}

impl Sightings {
    /// The leading master; waits for one, but not for long.
    pub(crate) async fn leader(&mut self, patience: Duration) -> Result<Leader, TransportError> {
        let found = self.seen.wait_for(|sighting| matches!(sighting, Sighting::Leader(_)));
        let found = timeout(patience, found).await.map(|found| found.map(|sighting| sighting.clone()));
        if let Ok(Ok(Sighting::Leader(leader))) = found {
            return Ok(leader);
        }
        let message = match &*self.seen.borrow() {
            Sighting::Nothing { why } => format!("ZooKeeper said nothing: {why}"),
            Sighting::NoLeader { why } => format!("no master leads: {why}"),
            Sighting::Leader(leader) => format!("the leader changed to {}:{}", leader.ip, leader.port),
        };
        Err(self.error(message))
    }

    /// Waits until the master at `here` does not lead any more. `known` is what was seen when we went
    /// there; it differs when a redirect was ahead of ZooKeeper.
    pub(crate) async fn replaced(mut self, mut known: Leader, here: Leader) -> TransportError {
        loop {
            let now = self.seen.borrow_and_update().clone();
            match now {
                Sighting::Leader(leader) if leader == known => {}
                Sighting::Leader(leader) if leader.is_same(&here) && !known.is_same(&here) => known = leader,
                Sighting::Leader(leader) => {
                    return self.error(format!("the leader changed to {}:{}", leader.ip, leader.port));
                }
                Sighting::NoLeader { why } if known.is_same(&here) => {
                    return self.error(format!("no master leads: {why}"));
                }
                Sighting::NoLeader { .. } | Sighting::Nothing { .. } => {}
            }
            if self.seen.changed().await.is_err() {
                // The detector has ended, and so nothing is known any more.
                std::future::pending::<()>().await;
            }
        }
    }

    fn error(&self, message: String) -> TransportError {
        TransportError::Unavailable { peer: self.source.to_string(), message }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    fn leader(id: &str, port: u16) -> Leader {
        Leader { id: id.to_owned(), hostname: None, ip: [127, 0, 0, 1].into(), port }
    }

    fn nothing() -> Sighting {
        Sighting::Nothing { why: "connection refused".to_owned() }
    }

    fn nobody() -> Sighting {
        Sighting::NoLeader { why: "no node".to_owned() }
    }

    fn world(first: Sighting) -> (watch::Sender<Sighting>, Sightings) {
        let (sender, seen) = watch::channel(first);
        (sender, Sightings { seen, source: "zk://z/mesos".into() })
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_is_waited_for_but_not_for_long() {
        let (sender, mut sightings) = world(nothing());
        let error = sightings.leader(Duration::from_secs(1)).await.unwrap_err();
        let text = "no answer from zk://z/mesos: ZooKeeper said nothing: connection refused";
        assert_eq!(error.to_string(), text);
        sender.send_replace(nobody());
        let error = sightings.leader(Duration::from_secs(1)).await.unwrap_err();
        assert_eq!(error.to_string(), "no answer from zk://z/mesos: no master leads: no node");
        sender.send_replace(Sighting::Leader(leader("a", 1)));
        assert_eq!(sightings.leader(Duration::from_secs(1)).await.unwrap(), leader("a", 1));
    }

    #[tokio::test]
    async fn another_leader_the_same_one_reborn_and_none_all_end_a_subscription() {
        for next in [Sighting::Leader(leader("b", 2)), Sighting::Leader(leader("b", 1)), nobody()] {
            let (sender, sightings) = world(Sighting::Leader(leader("a", 1)));
            let mut replaced = std::pin::pin!(sightings.replaced(leader("a", 1), leader("a", 1)));
            assert!((&mut replaced).now_or_never().is_none());
            sender.send_replace(Sighting::Leader(leader("a", 1)));
            sender.send_replace(nothing());
            assert!((&mut replaced).now_or_never().is_none(), "silence of ZooKeeper is no change");
            sender.send_replace(next);
            assert!((&mut replaced).now_or_never().is_some());
        }
    }

    #[tokio::test]
    async fn a_redirect_that_was_ahead_of_zookeeper_is_no_change_when_zookeeper_follows() {
        let (sender, sightings) = world(Sighting::Leader(leader("a", 1)));
        let mut replaced = std::pin::pin!(sightings.replaced(leader("a", 1), leader("", 2)));
        sender.send_replace(nobody());
        assert!((&mut replaced).now_or_never().is_none(), "it was the other one that went");
        sender.send_replace(Sighting::Leader(leader("b", 2)));
        assert!((&mut replaced).now_or_never().is_none(), "that is where we are");
        sender.send_replace(Sighting::Leader(leader("c", 2)));
        assert!((&mut replaced).now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_change_before_the_first_look_counts() {
        let (_sender, sightings) = world(Sighting::Leader(leader("b", 2)));
        assert!(sightings.replaced(leader("a", 1), leader("a", 1)).now_or_never().is_some());
    }
}
