//! A client that follows a redis cluster wherever its slots go.

use std::{io, time::Duration};

use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};

use crate::link::{Answer, Link};

/// `MOVED` answers followed for one command.
const REDIRECTIONS: usize = 5;

/// How long one command may take: a process that was killed refuses at once.
const PATIENCE: Duration = Duration::from_secs(2);

/// One connection at a time, to the node that answered last. Commands are never repeated behind the
/// caller's back, so that whoever counts writes knows how many were sent.
#[derive(Debug)]
pub struct ClusterClient {
    nodes: Vec<String>,
    link: Option<(String, Link)>,
    rng: SmallRng,
}

/// What became of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Written {
    /// The master has it, and at least one replica has confirmed it.
    Confirmed {
        /// The master.
        node: String,
    },
    /// The master has it; whether anybody else has is not known.
    Unconfirmed {
        /// Why it does not count.
        why: String,
    },
}

impl ClusterClient {
    /// A client that begins at any of these `ip:port`.
    pub fn new(nodes: &[String], seed: u64) -> Self {
        Self { nodes: nodes.to_vec(), link: None, rng: SmallRng::seed_from_u64(seed) }
    }

    /// One command, sent to whom the cluster says it belongs; the answer's parts, flattened.
    ///
    /// # Errors
    /// When nobody takes it now.
    pub async fn ask(&mut self, words: &[&str]) -> io::Result<Vec<Option<String>>> {
        self.follow(words).await.map(|(parts, _)| parts)
    }

    /// `SET`, then `WAIT 1` on the same connection.
    ///
    /// # Errors
    /// When nobody said that it took the write; it may be there all the same.
    pub(crate) async fn write(&mut self, key: &str, value: &str, wait: Duration) -> io::Result<Written> {
        let (_, node) = self.follow(&["SET", key, value]).await?;
        let unconfirmed = |why: String| Ok(Written::Unconfirmed { why });
        let Some((_, link)) = &mut self.link else { return unconfirmed("no connection".to_owned()) };
        // Not followed: another connection knows nothing of this write.
        let asked = link.ask_within(wait + PATIENCE, &["WAIT", "1", &wait.as_millis().to_string()]).await;
        match asked {
            Ok(Answer::Parts(parts)) => {
                match parts.first().and_then(Option::as_ref).map(|n| n.parse::<u32>()) {
                    Some(Ok(replicas)) if replicas >= 1 => Ok(Written::Confirmed { node }),
                    _ => unconfirmed(format!("{node}: WAIT says {parts:?}")),
                }
            }
            Ok(Answer::Refused(error)) => unconfirmed(format!("{node}: {error}")),
            Err(error) => {
                self.link = None;
                unconfirmed(format!("{node}: {error}"))
            }
        }
    }

    async fn follow(&mut self, words: &[&str]) -> io::Result<(Vec<Option<String>>, String)> {
        let mut refused = String::new();
        for _ in 0..REDIRECTIONS {
            let (node, answer) = self.exchange(words).await?;
            match answer {
                Answer::Parts(parts) => return Ok((parts, node)),
                Answer::Refused(error) => {
                    let Some(owner) = moved_to(&error) else {
                        // CLUSTERDOWN, LOADING, READONLY: another one may know more.
                        self.link = None;
                        return Err(io::Error::other(format!("{node}: {error}")));
                    };
                    refused.clone_from(&error);
                    self.connect(&owner).await?;
                    if !self.nodes.contains(&owner) {
                        self.nodes.push(owner);
                    }
                }
            }
        }
        Err(io::Error::other(format!("sent from one to the next: {refused}")))
    }

    async fn exchange(&mut self, words: &[&str]) -> io::Result<(String, Answer)> {
        if self.link.is_none() {
            if self.nodes.is_empty() {
                return Err(io::Error::other("no node to ask"));
            }
            let node = self.nodes[self.rng.random_range(0..self.nodes.len())].clone();
            self.connect(&node).await?;
        }
        let Some((node, mut link)) = self.link.take() else { return Err(io::ErrorKind::NotConnected.into()) };
        // A connection with a failure behind it is not put back.
        let answer = link.ask_within(PATIENCE, words).await?;
        self.link = Some((node.clone(), link));
        Ok((node, answer))
    }

    async fn connect(&mut self, node: &str) -> io::Result<()> {
        self.link = None;
        self.link = Some((node.to_owned(), Link::open(node).await?));
        Ok(())
    }
}

/// The address of `MOVED <slot> <ip>:<port>`; a node that does not know the ip says none.
fn moved_to(error: &str) -> Option<String> {
    let address = error.strip_prefix("MOVED ")?.split_whitespace().nth(1)?;
    address.parse::<std::net::SocketAddr>().is_ok().then(|| address.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirection_counts_when_it_names_an_address() {
        assert_eq!(moved_to("MOVED 7 127.0.0.1:20000").as_deref(), Some("127.0.0.1:20000"));
        for other in ["MOVED 7 :20000", "MOVED 7", "ASK 7 127.0.0.1:20000", "CLUSTERDOWN The cluster is down"]
        {
            assert_eq!(moved_to(other), None, "{other}");
        }
    }
}
