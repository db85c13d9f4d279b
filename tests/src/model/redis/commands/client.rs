//! `CLIENT`, by which leaders fence each other off, and `CONFIG`.

use super::unknown;
use crate::model::redis::{ClientId, Pid, Redises, life::settings, resp};

impl Redises {
    /// None when the client ended itself.
    pub(super) fn client(&mut self, pid: Pid, own: ClientId, words: &[&str]) -> Option<Vec<u8>> {
        let now = self.now;
        let process = self.processes.get_mut(&pid)?;
        let word = words.first().map(|word| word.to_ascii_uppercase()).unwrap_or_default();
        Some(match (word.as_str(), words.get(1..).unwrap_or_default()) {
            ("SETNAME", [name]) => {
                if name.bytes().any(|byte| !(b'!'..=b'~').contains(&byte)) {
                    let told = "ERR Client names cannot contain spaces, newlines or special characters.";
                    return Some(resp::error(told));
                }
                if let Some(client) = process.clients.get_mut(&own) {
                    (*name).clone_into(&mut client.name);
                }
                resp::ok()
            }
            ("GETNAME", []) => {
                let name = process.clients.get(&own).map(|client| client.name.as_bytes().to_vec());
                resp::value(name.filter(|name| !name.is_empty()).as_ref())
            }
            ("ID", []) => resp::number(own.0),
            ("LIST", _) => {
                let address = process.address;
                let line = |(id, client): (&ClientId, &crate::model::redis::process::Client)| {
                    let age = now.saturating_sub(client.since).as_secs();
                    format!(
                        "id={} addr=127.0.0.1:{} laddr={address} fd=8 name={} age={age} idle=0 flags=N db=0 cmd=NULL\n",
                        id.0,
                        10_000 + id.0 % 50_000,
                        client.name
                    )
                };
                resp::bulk(process.clients.iter().map(line).collect::<String>().as_bytes())
            }
            ("KILL", [by, id]) if by.eq_ignore_ascii_case("ID") => {
                let id = id.parse().ok().map(ClientId).filter(|id| process.clients.contains_key(id));
                // What it sent and was not read yet is not read any more.
                process.unread.retain(|(client, _)| Some(*client) != id);
                let killed = id.is_some_and(|id| self.close(id));
                if killed && id == Some(own) {
                    return None;
                }
                resp::number(u64::from(killed))
            }
            _ => unknown("CLIENT", words.first().copied().unwrap_or_default()),
        })
    }

    pub(super) fn config(&mut self, pid: Pid, words: &[&str]) -> Vec<u8> {
        let Some(process) = self.processes.get_mut(&pid) else { return resp::error("ERR") };
        let word = words.first().map(|word| word.to_ascii_uppercase()).unwrap_or_default();
        match (word.as_str(), words.get(1..).unwrap_or_default()) {
            ("GET", names) => {
                let pairs = names.iter().filter_map(|name| Some((*name, process.conf.get(name)?)));
                resp::list(pairs.flat_map(|(name, value)| {
                    [resp::bulk(name.to_ascii_lowercase().as_bytes()), resp::bulk(value.as_bytes())]
                }))
            }
            ("SET", pairs) if !pairs.is_empty() && pairs.len().is_multiple_of(2) => {
                let mut conf = process.conf.clone();
                for pair in pairs.chunks_exact(2) {
                    if let Err(why) = conf.set(pair[0], pair[1]) {
                        return resp::error(&why);
                    }
                }
                process.conf = conf;
                let settings = settings(&process.conf);
                if let Some(cluster) = &mut process.cluster {
                    cluster.settings = settings;
                    cluster.todo.state = true;
                }
                self.changed(pid);
                resp::ok()
            }
            ("RESETSTAT", []) => resp::ok(),
            _ => unknown("CONFIG", words.first().copied().unwrap_or_default()),
        }
    }
}
