//! Who may write what, when, and how often.

use std::time::Duration;

use overlord_api::keys::{self, Key};

use super::{Inner, Look, Oracles};
use crate::store::Who;

/// The least time between two status writes of one cluster by one leader.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);

/// Where controllers register, each for itself, under a lease.
const CONTROLLERS: &str = "/overlord/controllers/";

impl Oracles {
    /// Each key has its writer, and what the leader owns is written by the leader of the moment, in the term in
    /// which it was sent: whether the product fenced it or not.
    pub(super) fn check_writer(&self, inner: &mut Inner, look: &Look<'_>) {
        let Look { who, term, before, changes } = *look;
        let led = before.leader_and_term();
        for change in changes {
            let registered = change.key.starts_with(CONTROLLERS)
                && match who {
                    Who::Controller(_) => change.key.ends_with(&who.to_string()),
                    _ => who == Who::Time && change.new.is_none(),
                };
            let leads =
                led.as_ref().is_some_and(|(leader, at)| *leader == who.to_string() && Some(*at) == term);
            let allowed = registered
                || match (Key::parse(&change.key), who) {
                    (_, Who::Hand) | (Key::Config(_) | Key::Task(_), Who::User) | (Key::Leader, _) => true,
                    (Key::Event(..) | Key::Other, Who::Time) => change.new.is_none(),
                    (_, Who::User | Who::Executor | Who::Time) | (Key::Config(_), Who::Controller(_)) => {
                        false
                    }
                    (_, Who::Controller(_)) => leads,
                };
            if allowed {
                continue;
            }
            match &led {
                Some((leader, _)) if *leader == who.to_string() && matches!(who, Who::Controller(_)) => {
                    self.trace.violation(format!(
                        "unfenced write: {who} wrote {} in an earlier term than the one it leads",
                        change.key
                    ));
                }
                _ => {
                    let leader = led.as_ref().map_or("nobody", |(leader, _)| leader.as_str());
                    self.trace
                        .violation(format!("unfenced write: {who} wrote {} while {leader} led", change.key));
                }
            }
        }
        if changes.iter().any(|change| *change.key == *keys::LEADER) {
            self.note_leader(inner, led.as_ref().map(|(leader, _)| leader.as_str()));
        }
    }

    fn note_leader(&self, inner: &mut Inner, old: Option<&str>) {
        let new = inner.view.leader();
        if new.as_deref() == old {
            return;
        }
        let number = |name: &str| name.strip_prefix("controller-").and_then(|n| n.parse().ok());
        if let Some(old) = old.and_then(number) {
            inner.dethroned.insert(Who::Controller(old), self.clock.monotonic());
        }
        if let Some(new) = new.as_deref().and_then(number) {
            inner.dethroned.remove(&Who::Controller(new));
            self.trace.count("leadership won");
        }
    }

    /// Status is coalesced: at most one write a second and cluster by one leader.
    pub(super) fn check_pace(&self, inner: &mut Inner, look: &Look<'_>) {
        let Look { who, term, changes, .. } = *look;
        let now = self.clock.monotonic();
        // Who does not hear of a write may well repeat it.
        if self.net.is_store_shaky() {
            inner.status_written.clear();
            return;
        }
        for change in changes {
            let (Key::Status(cluster), Some(_), Some(_)) =
                (Key::parse(&change.key), &change.old, &change.new)
            else {
                continue;
            };
            let last = inner.status_written.insert(cluster.to_string(), (who, term, now));
            if let Some((by, then, at)) = last
                && (by, then) == (who, term)
                && now.saturating_sub(at) < STATUS_INTERVAL
            {
                let gap = now.saturating_sub(at);
                self.trace.violation(format!("status of {cluster} written twice within {gap:?}"));
            }
        }
    }
}
