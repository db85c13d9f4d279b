//! Commands on keys, and who answers for which.

use std::collections::BTreeSet;

use overlord_engines::cluster::key_slot;

use crate::model::redis::{
    ClientId, Outcome, Pid, Redises,
    process::{Link, Process, Write},
    resp,
};

const MISCONF: &str = "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to \
    disk. Commands that may modify the data set are disabled, because this instance is configured to report errors \
    during writes if RDB snapshotting fails (stop-writes-on-bgsave-error option). Please check the Redis logs for \
    details about the RDB error.";

impl Redises {
    pub(super) fn data(&mut self, pid: Pid, client: ClientId, name: &str, words: &[&[u8]]) -> Outcome {
        let args = words.get(1..).unwrap_or_default();
        let (keys, writes): (Vec<&[u8]>, bool) = match (name, args) {
            ("SET", [key, _, ..]) => (vec![key], true),
            ("MSET", pairs) if !pairs.is_empty() && pairs.len().is_multiple_of(2) => {
                (pairs.chunks_exact(2).map(|pair| pair[0]).collect(), true)
            }
            ("DEL", keys) if !keys.is_empty() => (keys.to_vec(), true),
            ("GET", [key]) => (vec![key], false),
            ("MGET" | "EXISTS", keys) if !keys.is_empty() => (keys.to_vec(), false),
            ("FLUSHALL" | "FLUSHDB", _) => (Vec::new(), true),
            ("DBSIZE", []) | ("WAIT", [_, _]) | ("KEYS", [_]) => (Vec::new(), false),
            ("SET" | "MSET" | "DEL" | "GET" | "MGET" | "EXISTS" | "DBSIZE" | "WAIT" | "KEYS", _) => {
                let name = name.to_ascii_lowercase();
                let told = format!("ERR wrong number of arguments for '{name}' command");
                return Outcome::Reply(resp::error(&told));
            }
            _ => {
                let word = String::from_utf8_lossy(words.first().copied().unwrap_or_default()).into_owned();
                let told = format!("ERR unknown command '{word}', with args beginning with: ");
                return Outcome::Reply(resp::error(&told));
            }
        };
        let now = self.now;
        let Some(process) = self.processes.get(&pid) else { return Outcome::Closed };
        let reads = process.clients.get(&client).is_some_and(|client| client.reads);
        if let Some(refusal) = refusal(process, &keys, writes, reads) {
            return Outcome::Reply(resp::error(&refusal));
        }
        let pause = process.cluster.as_ref().and_then(|cluster| cluster.manual.pause);
        if writes && pause.is_some_and(|until| now < until) {
            // It would be answered when the manual failover is over.
            return Outcome::Silent;
        }
        Outcome::Reply(match name {
            "SET" => {
                self.set(pid, args);
                resp::ok()
            }
            "MSET" => {
                args.chunks_exact(2).for_each(|pair| self.set(pid, pair));
                resp::ok()
            }
            "DEL" => {
                let held: BTreeSet<Vec<u8>> = keys
                    .iter()
                    .filter(|key| process.keys.contains_key(**key))
                    .map(|key| key.to_vec())
                    .collect();
                let gone = held.len() as u64;
                for key in held {
                    let bytes = bytes(&[b"DEL", &key]);
                    self.write(pid, Write::Delete(key), bytes);
                }
                resp::number(gone)
            }
            "FLUSHALL" | "FLUSHDB" => {
                self.write(pid, Write::Flush, bytes(&[b"FLUSHALL"]));
                resp::ok()
            }
            "GET" => resp::value(keys.first().and_then(|key| process.keys.get(*key))),
            "MGET" => resp::list(keys.iter().map(|key| resp::value(process.keys.get(*key)))),
            "EXISTS" => {
                resp::number(keys.iter().filter(|key| process.keys.contains_key(**key)).count() as u64)
            }
            "KEYS" => resp::list(process.keys.keys().map(|key| resp::bulk(key))),
            "WAIT" if process.repl.master.is_some() => resp::error(
                "ERR WAIT cannot be used with replica instances. Please also note that since Redis 4.0 if a replica \
                 is configured to be writable (which is not the default) writes to replicas are just local and are \
                 not propagated.",
            ),
            // As if it had waited: whoever follows and answers has all of it by then.
            "WAIT" => {
                let had = self.replicas(pid).into_iter().filter(|replica| self.has_all(pid, *replica)).count()
                    as u64;
                let wanted =
                    args.first().and_then(|count| std::str::from_utf8(count).ok()?.parse::<u64>().ok());
                let is_enough = wanted.is_some_and(|wanted| had >= wanted);
                resp::number(if is_enough { had } else { self.acknowledged(pid) })
            }
            _ => resp::number(process.keys.len() as u64),
        })
    }

    fn set(&mut self, pid: Pid, pair: &[&[u8]]) {
        let [key, value, ..] = pair else { return };
        let write = Write::Set(key.to_vec(), value.to_vec());
        self.write(pid, write, bytes(&[b"SET", key, value]));
    }

    /// Whether a replica follows, and nothing is on its way to it.
    fn has_all(&self, pid: Pid, replica: Pid) -> bool {
        let (Some(master), Some(replica)) = (self.processes.get(&pid), self.processes.get(&replica)) else {
            return false;
        };
        let follows = matches!(replica.repl.link, Link::Up(of, None) if of == pid);
        follows && replica.runs() && replica.repl.offset == master.repl.offset
    }

    fn acknowledged(&mut self, pid: Pid) -> u64 {
        let replicas = self.replicas(pid);
        let follows = |process: &Process| matches!(process.repl.link, Link::Up(of, None) if of == pid);
        let follow = replicas.into_iter().filter(|replica| self.processes.get(replica).is_some_and(follows));
        let follow: Vec<Pid> = follow.collect();
        follow.into_iter().filter(|replica| self.catch_up(pid, *replica)).count() as u64
    }
}

/// Why a process does not answer for keys.
fn refusal(process: &Process, keys: &[&[u8]], writes: bool, reads: bool) -> Option<String> {
    if let (Some(cluster), Some(first)) = (&process.cluster, keys.first()) {
        let slot = key_slot(first);
        if keys.iter().any(|key| key_slot(key) != slot) {
            return Some("CROSSSLOT Keys in request don't hash to the same slot".to_owned());
        }
        let Some(owner) = cluster.owner(slot) else {
            return Some("CLUSTERDOWN Hash slot not served".to_owned());
        };
        if !cluster.ok {
            return Some("CLUSTERDOWN The cluster is down".to_owned());
        }
        let reads_here = reads && !writes && cluster.me.master == Some(owner.id);
        if owner.id != cluster.me.id && !reads_here {
            let ip = owner.place.ip.map_or_else(String::new, |ip| ip.to_string());
            return Some(format!("MOVED {slot} {ip}:{}", owner.place.port));
        }
    }
    if !writes {
        return None;
    }
    if process.repl.master.is_some() {
        return Some("READONLY You can't write against a read only replica.".to_owned());
    }
    let fails = process.save_failed && !process.conf.save_points().is_empty();
    (fails && process.conf.get("stop-writes-on-bgsave-error").is_none_or(|value| value == "yes"))
        .then(|| MISCONF.to_owned())
}

/// What a command has on the wire.
fn bytes(words: &[&[u8]]) -> u64 {
    let digits = |n: usize| n.to_string().len();
    let word = |word: &&[u8]| 1 + digits(word.len()) + 2 + word.len() + 2;
    (1 + digits(words.len()) + 2 + words.iter().map(word).sum::<usize>()) as u64
}
