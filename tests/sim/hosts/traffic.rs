//! Connections between hosts, and what engines answer on them.

use std::{net::IpAddr, time::Duration};

use overlord_api::Address;
use overlord_tests::model::redis::{Keys, NoConnection, Outcome, Pid};
use tokio::time::sleep;

use super::{Client, ELSEWHERE, Hosts, Inner, REFUSED, Served};

impl Hosts {
    /// Writes keys into a single redis.
    pub(super) fn fill(&self, address: Address, keys: u64) {
        let Ok(client) = self.open(ELSEWHERE, address) else { return };
        for key in 0..keys {
            let key = format!("user:{key}").into_bytes();
            self.serve(&client, &[b"SET".to_vec(), key, b"1".to_vec()]);
        }
        self.hang_up(&client);
    }

    /// The way from one host to another takes its time.
    pub(crate) async fn way(&self, from: IpAddr, to: IpAddr) {
        let time = if from == to { self.net.millis(0, 1) } else { self.net.millis(0, 4) };
        if !time.is_zero() {
            sleep(time).await;
        }
    }

    /// Opens a connection, from one host to an engine on another.
    pub(crate) fn open(&self, from: IpAddr, address: Address) -> Result<Client, NoConnection> {
        self.change(|inner, now| {
            if is_cut(inner, from, address.ip) {
                return Err(NoConnection::Silent);
            }
            let (pid, process) = inner.listener(address, now).ok_or(NoConnection::Refused)?;
            let redis = match process.memcached {
                Some(_) => None,
                None => Some(inner.redis.connect(now, address)?),
            };
            Ok(Client { pid, redis })
        })
    }

    /// Waits until what is sent arrives and is read. False: it never will.
    pub(crate) async fn reaches(&self, from: IpAddr, client: &Client, patience: Duration) -> bool {
        let until = self.trace.now() + patience;
        loop {
            let stirred = self.stirred.notified();
            {
                let inner = self.lock();
                // An end of the process is told by whoever is asked.
                let Some(process) = inner.processes.get(&client.pid) else { return true };
                if !is_cut(&inner, from, process.instance.address.ip) && !process.stopped {
                    return true;
                }
            }
            let left = until.saturating_sub(self.trace.now());
            tokio::select! {
                biased;
                () = stirred => {}
                () = sleep(left) => return false,
            }
        }
    }

    /// Lets an engine answer a request.
    pub(crate) fn serve(&self, client: &Client, request: &[Vec<u8>]) -> Served {
        let words: Vec<&[u8]> = request.iter().map(Vec::as_slice).collect();
        self.change(|inner, now| {
            let Some(process) = inner.processes.get_mut(&client.pid) else { return Served::Closed };
            let Some(id) = client.redis else {
                let line = String::from_utf8_lossy(words.first().copied().unwrap_or_default()).into_owned();
                let answer = process.memcached.as_ref().map(|m| m.answer(&line, &mut process.settings));
                return answer.map_or(Served::Closed, |answer| Served::Answer(answer.into_bytes()));
            };
            let set = match words.as_slice() {
                [config, set, name, value] if *config == b"CONFIG" && *set == b"SET" => {
                    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                    Some((text(name), text(value)))
                }
                _ => None,
            };
            if set.as_ref().is_some_and(|(name, value)| (name.as_str(), value.as_str()) == REFUSED) {
                return Served::Answer(b"-ERR CONFIG SET failed - it brings bad luck\r\n".to_vec());
            }
            self.check_order(inner, client.pid, &words);
            match inner.redis.command(now, id, &words) {
                Outcome::Reply(bytes) => {
                    self.check_fence(inner, client.pid, id, &words);
                    if let (Some((name, value)), Some(process)) = (set, inner.processes.get_mut(&client.pid))
                        && bytes.starts_with(b"+")
                    {
                        process.settings.insert(name, value);
                    }
                    Served::Answer(bytes)
                }
                Outcome::Silent => Served::Nothing,
                Outcome::Closed => Served::Closed,
            }
        })
    }

    /// What the process holds to which a connection leads.
    pub(crate) fn keys_behind(&self, client: &Client) -> Option<Keys> {
        self.lock().redis.process(Pid(client.pid)).map(|view| view.keys.clone())
    }

    /// Closes a connection.
    pub(crate) fn hang_up(&self, client: &Client) {
        if let Some(id) = client.redis {
            self.change(|inner, now| {
                inner.duties.forget(id);
                inner.redis.disconnect(now, id);
            });
        }
    }
}

/// Whether nothing passes between two hosts.
pub(crate) fn is_cut(inner: &Inner, from: IpAddr, to: IpAddr) -> bool {
    from != to && [from, to].iter().any(|ip| inner.cut.get(ip).is_some_and(|times| *times > 0))
}
