//! Commands of clients: what Overlord sends, and what its users' programs do with keys.

mod client;
mod cluster;
mod info;
mod keys;

use std::{str, time::Duration};

use overlord_api::Address;

use super::{ClientId, NoConnection, Outcome, Pid, Redises, process::Client, resp};

/// Commands that a stopped process finds when it goes on.
const UNREAD: usize = 1000;

const LOADING: &str = "LOADING Redis is loading the dataset in memory";

/// Answered while the data is read.
const WHILE_LOADING: [&str; 7] = ["INFO", "CONFIG", "CLIENT", "SHUTDOWN", "AUTH", "SELECT", "READONLY"];

impl Redises {
    /// Connects a client. A stopped process takes the connection.
    ///
    /// # Errors
    /// When nobody listens, or the machine is cut off.
    pub fn connect(&mut self, now: Duration, address: Address) -> Result<ClientId, NoConnection> {
        self.advance(now);
        if self.isolated.contains(&address.ip) {
            return Err(NoConnection::Silent);
        }
        let pid = self.addresses.get(&address).copied().ok_or(NoConnection::Refused)?;
        let process = self.processes.get_mut(&pid).ok_or(NoConnection::Refused)?;
        self.last_client += 1;
        let client = ClientId(self.last_client);
        process.clients.insert(client, Client { since: self.now, ..Client::default() });
        self.clients.insert(client, pid);
        Ok(client)
    }

    /// A client closes its connection. What a stopped process has not read yet, it reads all the same.
    pub fn disconnect(&mut self, now: Duration, client: ClientId) {
        self.advance(now);
        self.close(client);
    }

    pub(crate) fn close(&mut self, client: ClientId) -> bool {
        let Some(pid) = self.clients.remove(&client) else { return false };
        self.processes.get_mut(&pid).is_some_and(|process| process.clients.remove(&client).is_some())
    }

    /// Whether a client is connected still.
    pub fn is_connected(&self, client: ClientId) -> bool {
        self.clients.contains_key(&client)
    }

    /// Sends a command.
    pub fn command(&mut self, now: Duration, client: ClientId, words: &[&[u8]]) -> Outcome {
        self.advance(now);
        let Some(pid) = self.clients.get(&client).copied() else { return Outcome::Closed };
        let Some(process) = self.processes.get_mut(&pid) else { return Outcome::Closed };
        if self.isolated.contains(&process.address.ip) {
            return Outcome::Silent;
        }
        if process.paused {
            if process.unread.len() < UNREAD {
                process.unread.push_back((client, words.iter().map(|word| word.to_vec()).collect()));
            }
            return Outcome::Silent;
        }
        let outcome = self.carry_out(pid, client, words);
        self.settle(pid);
        self.deliver();
        outcome
    }

    /// A process does what a client asks.
    pub(crate) fn carry_out(&mut self, pid: Pid, client: ClientId, words: &[&[u8]]) -> Outcome {
        let Some(loading) = self.processes.get(&pid).map(|process| process.loading) else {
            return Outcome::Closed;
        };
        let texts: Vec<&str> = words.iter().map(|word| str::from_utf8(word).unwrap_or("?")).collect();
        let Some((name, rest)) = texts.split_first() else {
            return Outcome::Reply(resp::error("ERR Protocol error"));
        };
        let name = name.to_ascii_uppercase();
        if loading && !WHILE_LOADING.contains(&name.as_str()) {
            return Outcome::Reply(resp::error(LOADING));
        }
        let reply = match name.as_str() {
            "PING" => resp::status("PONG"),
            "AUTH" | "SELECT" => resp::ok(),
            "INFO" => self.info(pid, rest),
            "CONFIG" => self.config(pid, rest),
            "CLIENT" => match self.client(pid, client, rest) {
                Some(reply) => reply,
                None => return Outcome::Closed,
            },
            "CLUSTER" => self.cluster(pid, rest),
            "READONLY" | "READWRITE" => {
                let process = self.processes.get_mut(&pid);
                if let Some(client) = process.and_then(|process| process.clients.get_mut(&client)) {
                    client.reads = name == "READONLY";
                }
                resp::ok()
            }
            "BGSAVE" | "SAVE" => match self.snapshot(pid) {
                true if name == "SAVE" => resp::ok(),
                true => resp::status("Background saving started"),
                // The child fails, not the command.
                false if name == "BGSAVE" => resp::status("Background saving started"),
                false => resp::error("ERR"),
            },
            "SHUTDOWN" => {
                let save = rest.iter().find_map(|word| match word.to_ascii_uppercase().as_str() {
                    "SAVE" => Some(true),
                    "NOSAVE" => Some(false),
                    _ => None,
                });
                if self.shut_down(pid, save) {
                    return Outcome::Closed;
                }
                resp::error("ERR Errors trying to SHUTDOWN. Check logs.")
            }
            _ => return self.data(pid, client, &name, words),
        };
        Outcome::Reply(reply)
    }
}

/// As redis says it of a command, or part of one, that it does not know.
pub(crate) fn unknown(command: &str, word: &str) -> Vec<u8> {
    resp::error(&format!("ERR unknown subcommand '{word}'. Try {command} HELP."))
}
