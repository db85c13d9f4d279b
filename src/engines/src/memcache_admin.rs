//! memcached, asked and commanded in its text protocol.

use std::{str, time::Duration};

use async_trait::async_trait;
use overlord_api::{Address, Engine, Persistence};
use tokio::{io::AsyncWriteExt, time};

use crate::{
    AdminError, Change, EngineAdmin, Health,
    dial::Dialler,
    diff::target,
    version::{Minor, minor_of, newest},
    wire::{Wire, WireError, read_line},
};

/// Bytes of one line of an answer.
const MAX_LINE: usize = 2048;

/// Lines of one answer; `stats` of 1.6.18 has 84.
const MAX_LINES: usize = 1000;

/// One connection to a memcached.
pub(crate) struct MemcacheAdmin {
    wire: Wire,
}

impl MemcacheAdmin {
    pub(crate) async fn connect(
        dialler: &Dialler,
        address: Address,
        timeout: Duration,
    ) -> Result<Self, AdminError> {
        Ok(Self { wire: Wire::connect(dialler, address, timeout).await? })
    }

    /// Sends one line; the answer's lines, up to the one that ends it.
    async fn ask(&mut self, operation: &str) -> Result<Vec<String>, AdminError> {
        self.wire.enter(operation)?;
        let stream = &mut self.wire.stream;
        let request = format!("{operation}\r\n");
        let work = async {
            stream.get_mut().write_all(request.as_bytes()).await?;
            let mut lines = Vec::new();
            loop {
                let line = read_line(stream, MAX_LINE).await?;
                let line =
                    String::from_utf8(line).map_err(|_| WireError::Protocol("a line that is no text"))?;
                let more = line.starts_with("STAT ");
                lines.push(line);
                if !more {
                    return Ok(lines);
                }
                if lines.len() > MAX_LINES {
                    return Err(WireError::Protocol("an answer that is too long"));
                }
            }
        };
        let outcome = time::timeout(self.wire.timeout, work).await;
        self.wire.leave(operation, outcome)
    }

    /// The lines `STAT <name> <value>` of a command.
    async fn stats(&mut self, operation: &str) -> Result<Stats, AdminError> {
        let mut lines = self.ask(operation).await?;
        match lines.pop().as_deref() {
            Some("END") => Ok(Stats(lines)),
            last => Err(self.refused(operation, last.unwrap_or_default())),
        }
    }

    fn refused(&self, operation: &str, said: &str) -> AdminError {
        let (address, operation) = (self.wire.address, operation.to_owned());
        let words = ["ERROR", "CLIENT_ERROR", "SERVER_ERROR", "MEMLIMIT_"];
        if words.iter().any(|word| said.starts_with(word)) {
            AdminError::Refused { address, operation, message: said.to_owned() }
        } else {
            AdminError::Protocol { address, operation, what: "a line of another protocol" }
        }
    }

    async fn set_one(&mut self, release: Minor, change: &Change) -> Result<String, AdminError> {
        let not_live = || AdminError::NotLive { directive: change.directive.clone() };
        let (command, stat, unit) = live_command(&change.directive).ok_or_else(not_live)?;
        let wanted = target(Engine::Memcache, release, change).ok_or_else(not_live)?;
        let before = self.setting(stat, unit).await?;
        // What goes into a line must not hold another.
        let one_word = !wanted.is_empty() && wanted.bytes().all(|b| b.is_ascii_graphic());
        let said = if one_word {
            self.ask(&format!("{command} {wanted}")).await?.pop().unwrap_or_default()
        } else {
            "not one word".to_owned()
        };
        if said != "OK" {
            let (address, directive) = (self.wire.address, change.directive.clone());
            return Err(AdminError::RefusedDirective { address, directive, value: wanted, message: said });
        }
        let actual = self.setting(stat, unit).await?;
        if actual == wanted {
            return Ok(before);
        }
        let (address, directive) = (self.wire.address, change.directive.clone());
        Err(AdminError::ReadBack { address, directive, wanted, actual })
    }

    /// A line of `stats settings`, in the unit of the option.
    async fn setting(&mut self, stat: &str, unit: u64) -> Result<String, AdminError> {
        let settings = self.stats("stats settings").await?;
        let number = settings.number(stat);
        number.map(|n| (n / unit).to_string()).ok_or_else(|| AdminError::Protocol {
            address: self.wire.address,
            operation: "stats settings".to_owned(),
            what: "no such setting",
        })
    }

    async fn release(&mut self) -> Result<Minor, AdminError> {
        let said = self.ask("version").await?.pop().unwrap_or_default();
        match said.strip_prefix("VERSION ") {
            Some(version) => Ok(minor_of(version.trim()).unwrap_or_else(|| newest(Engine::Memcache))),
            None => Err(self.refused("version", &said)),
        }
    }

    fn unsupported(&self, operation: &str) -> AdminError {
        AdminError::Unsupported { address: self.wire.address, operation: operation.to_owned() }
    }
}

/// The command that sets an option, where it is read back, and that value's unit.
fn live_command(option: &str) -> Option<(&'static str, &'static str, u64)> {
    match option {
        "memory-limit" => Some(("cache_memlimit", "maxbytes", 1 << 20)),
        "verbose" => Some(("verbosity", "verbosity", 1)),
        _ => None,
    }
}

#[async_trait]
impl EngineAdmin for MemcacheAdmin {
    async fn probe(&mut self) -> Result<Health, AdminError> {
        let stats = self.stats("stats").await?;
        let accepting = stats.get("accepting_conns") != Some("0");
        let detail = if accepting { "" } else { "its connections are all in use" };
        Ok(Health {
            serving: accepting,
            role: Some("single".to_owned()),
            pid: stats.number("pid").and_then(|pid| u32::try_from(pid).ok()),
            detail: detail.to_owned(),
            ..Health::default()
        })
    }

    async fn set_live(&mut self, changes: &[Change]) -> Result<(), AdminError> {
        let fixed = |change: &&Change| !change.live || live_command(&change.directive).is_none();
        if let Some(change) = changes.iter().find(fixed) {
            return Err(AdminError::NotLive { directive: change.directive.clone() });
        }
        let release = self.release().await?;
        let mut done: Vec<Change> = Vec::with_capacity(changes.len());
        for change in changes {
            match self.set_one(release, change).await {
                Ok(before) => done.push(Change { old: None, new: Some(before), ..change.clone() }),
                Err(error) => {
                    for undo in done.iter().rev() {
                        // The first refusal is what is told; a connection that broke ends this too.
                        if self.set_one(release, undo).await.is_err() {
                            break;
                        }
                    }
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    async fn keys(&mut self) -> Result<u64, AdminError> {
        let stats = self.stats("stats").await?;
        stats.number("curr_items").ok_or_else(|| AdminError::Protocol {
            address: self.wire.address,
            operation: "stats".to_owned(),
            what: "no curr_items",
        })
    }

    async fn persisted(&mut self) -> Result<bool, AdminError> {
        Ok(self.keys().await? == 0)
    }

    async fn save(&mut self) -> Result<(), AdminError> {
        Err(self.unsupported("save"))
    }

    async fn shutdown(&mut self, _persistence: Persistence) -> Result<(), AdminError> {
        Err(self.unsupported("shutdown"))
    }
}

/// Lines `STAT <name> <value>`.
struct Stats(Vec<String>);

impl Stats {
    fn get(&self, name: &str) -> Option<&str> {
        let value = |line: &String| -> Option<usize> {
            let rest = line.strip_prefix("STAT ")?.strip_prefix(name)?.strip_prefix(' ')?;
            Some(line.len() - rest.len())
        };
        self.0.iter().find_map(|line| value(line).map(|start| &line[start..]))
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.get(name)?.trim().parse().ok()
    }
}
