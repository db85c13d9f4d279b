//! What was confirmed, and whether it is still there.

use std::{collections::BTreeMap, fmt, time::Duration};

use super::ClusterClient;
use crate::eventually_within;

/// How long a slot may be without an owner before reading it back is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Keys read in one command.
const BATCH: usize = 500;

/// A write that a replica has confirmed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// The key; no other write has it, so that what is lost is not covered up by what comes after.
    pub key: String,
    /// Its value.
    pub value: String,
    /// The slot, by which keys are read together.
    pub slot: u16,
    /// The shard of the slot.
    pub shard: u16,
    /// The master that took it.
    pub node: String,
    /// When it was confirmed, since the writer's start.
    pub at: Duration,
}

/// A confirmed write that is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// What was confirmed.
    pub write: Write,
    /// What is there instead.
    pub found: Option<String>,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Write { key, value, slot, shard, node, at } = &self.write;
        write!(f, "{key}={value} of shard {shard}, slot {slot}, confirmed by {node} at {at:.3?}: ")?;
        match &self.found {
            None => f.write_str("gone"),
            Some(found) => write!(f, "now {found:?}"),
        }
    }
}

/// Everything a writer knows in the end.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// What must be there.
    pub confirmed: Vec<Write>,
    /// Writes that may be there or not.
    pub unconfirmed: usize,
    /// Why the last of them was not confirmed, for messages.
    pub last_fault: String,
}

impl History {
    /// Adds what another writer, or another part of one, knows.
    pub fn extend(&mut self, other: Self) {
        self.confirmed.extend(other.confirmed);
        self.unconfirmed += other.unconfirmed;
        if !other.last_fault.is_empty() {
            self.last_fault = other.last_fault;
        }
    }

    /// Reads back every confirmed write from whom the cluster says it belongs to: what is lost.
    ///
    /// # Panics
    /// When a slot cannot be read within a minute.
    pub async fn losses(&self, nodes: &[String]) -> Vec<Loss> {
        let mut client = ClusterClient::new(nodes, 0);
        let mut by_slot: BTreeMap<u16, Vec<&Write>> = BTreeMap::new();
        for write in &self.confirmed {
            by_slot.entry(write.slot).or_default().push(write);
        }
        let mut losses = Vec::new();
        for (slot, writes) in by_slot {
            for writes in writes.chunks(BATCH) {
                let words: Vec<&str> =
                    std::iter::once("MGET").chain(writes.iter().map(|write| write.key.as_str())).collect();
                let what = format!("slot {slot} is read back");
                let cell = tokio::sync::Mutex::new(&mut client);
                let found = eventually_within(PATIENCE, &what, || async {
                    let found = cell.lock().await.ask(&words).await.map_err(|error| error.to_string())?;
                    if found.len() == writes.len() { Ok(found) } else { Err(format!("{found:?}")) }
                })
                .await;
                losses.extend(writes.iter().zip(found).filter_map(|(write, found)| judge(write, found)));
            }
        }
        losses
    }

    /// The same, for a cluster that must have lost nothing.
    ///
    /// # Panics
    /// When something is lost: with the first losses of each shard.
    pub async fn assert_kept(&self, nodes: &[String], context: &str) {
        let losses = self.losses(nodes).await;
        assert!(
            losses.is_empty(),
            "{context}: {} of {} confirmed writes are lost:\n{}",
            losses.len(),
            self.confirmed.len(),
            told(&losses)
        );
    }
}

/// The first and the last few losses, a line each.
fn told(losses: &[Loss]) -> String {
    let tail = losses.len().saturating_sub(5).max(15.min(losses.len()));
    let lines = losses.iter().take(15).chain(&losses[tail..]).map(ToString::to_string);
    lines.collect::<Vec<_>>().join("\n")
}

fn judge(write: &Write, found: Option<String>) -> Option<Loss> {
    (found.as_deref() != Some(write.value.as_str())).then(|| Loss { write: write.clone(), found })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_value_that_was_confirmed_will_do() {
        let write = Write {
            key: "a".to_owned(),
            value: "7".to_owned(),
            slot: 15_495,
            shard: 2,
            node: "127.0.0.1:20000".to_owned(),
            at: Duration::from_millis(1500),
        };
        assert_eq!(judge(&write, Some("7".to_owned())), None);
        let loss = judge(&write, None).unwrap().to_string();
        assert_eq!(loss, "a=7 of shard 2, slot 15495, confirmed by 127.0.0.1:20000 at 1.500s: gone");
        assert!(judge(&write, Some("6".to_owned())).unwrap().to_string().ends_with("now \"6\""));
        let losses = vec![Loss { write, found: None }; 40];
        assert_eq!(told(&losses).lines().count(), 20);
        assert_eq!(told(&losses[..3]).lines().count(), 3);
        assert_eq!(told(&losses[..17]).lines().count(), 17);
    }
}
