//! One redis-server: what it holds, whom it copies, who is connected to it.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use overlord_api::Address;

use super::{ClientId, DirId, Keys, Pid, ReplId, cluster::Cluster, conf::Conf, queue::Event};

/// Writes that a process keeps for replicas that come back.
const BACKLOG: usize = 10_000;

/// One change of the data.
#[derive(Debug, Clone)]
pub(crate) enum Write {
    /// A key has a value.
    Set(Vec<u8>, Vec<u8>),
    /// A key is gone.
    Delete(Vec<u8>),
    /// All are.
    Flush,
}

/// Its place in a stream of writes.
#[derive(Debug)]
pub(crate) struct Repl {
    pub(crate) id: ReplId,
    /// The stream it was in before, and up to where that is the same.
    pub(crate) former: Option<(ReplId, u64)>,
    pub(crate) offset: u64,
    /// Where the backlog begins; none without one.
    pub(crate) backlog: Option<u64>,
    /// Changes, each with the offset behind it.
    pub(crate) log: VecDeque<(u64, Write)>,
    /// Whom it copies.
    pub(crate) master: Option<Address>,
    pub(crate) link: Link,
    pub(crate) down_since: Option<Duration>,
    /// It has a place in a stream that it may go on from.
    pub(crate) may_resume: bool,
    pub(crate) syncs: (u64, u64),
    /// Something is on its way to its replicas.
    pub(crate) streaming: bool,
}

/// A replica's link to its master.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Link {
    /// It tries.
    Down,
    /// It gets a copy of all data of that process, since that moment.
    Syncing(Pid, Duration),
    /// It follows that process, which has been silent since that moment.
    Up(Pid, Option<Duration>),
}

impl Repl {
    pub(crate) fn new(id: ReplId) -> Self {
        Self {
            id,
            former: None,
            offset: 0,
            backlog: None,
            log: VecDeque::new(),
            master: None,
            link: Link::Down,
            down_since: None,
            may_resume: false,
            syncs: (0, 0),
            streaming: false,
        }
    }

    /// Keeps a change for replicas that come back.
    pub(crate) fn keep(&mut self, offset: u64, write: Write) {
        self.offset = offset;
        if self.backlog.is_none() {
            return;
        }
        self.log.push_back((offset, write));
        if self.log.len() > BACKLOG
            && let Some((oldest, _)) = self.log.pop_front()
        {
            self.backlog = Some(oldest);
        }
    }

    /// Whom it follows or copies now.
    pub(crate) const fn source(&self) -> Option<Pid> {
        match self.link {
            Link::Down => None,
            Link::Syncing(master, _) | Link::Up(master, _) => Some(master),
        }
    }
}

/// A connection of a client.
#[derive(Debug, Clone, Default)]
pub(crate) struct Client {
    pub(crate) name: String,
    pub(crate) since: Duration,
    /// It reads from replicas.
    pub(crate) reads: bool,
}

/// One process.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) pid: Pid,
    pub(crate) dir: DirId,
    pub(crate) address: Address,
    pub(crate) bus: Option<Address>,
    pub(crate) conf: Conf,
    pub(crate) started: Duration,
    pub(crate) paused: bool,
    pub(crate) loading: bool,
    pub(crate) keys: Keys,
    pub(crate) repl: Repl,
    /// Changes since the last snapshot, and when that was.
    pub(crate) dirty: u64,
    pub(crate) saved_at: Duration,
    pub(crate) save_due: Option<Duration>,
    pub(crate) save_failed: bool,
    pub(crate) clients: BTreeMap<ClientId, Client>,
    pub(crate) cluster: Option<Cluster>,
    /// What came due while it was stopped.
    pub(crate) held: Vec<Event>,
    /// Commands that came while it was stopped; they are carried out when it goes on.
    pub(crate) unread: VecDeque<(ClientId, Vec<Vec<u8>>)>,
}

impl Process {
    /// Whether it does anything.
    pub(crate) const fn runs(&self) -> bool {
        !self.paused && !self.loading
    }

    /// Changes its data; what has no effect is no change.
    pub(crate) fn change(&mut self, write: &Write) {
        match write {
            Write::Set(key, value) => {
                self.keys.insert(key.clone(), value.clone());
            }
            Write::Delete(key) => {
                self.keys.remove(key);
            }
            Write::Flush => self.keys.clear(),
        }
        self.dirty += 1;
    }
}
