//! What the model of redis is asked with and answers with: names, files, outcomes, and what oracles see.

use std::{collections::BTreeMap, fmt, time::Duration};

use overlord_api::Address;
use overlord_engines::cluster::{NodeId, SlotSet};

/// A process, as long as the world lasts: none is given twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pid(pub u32);

/// A connection of a client. None is given twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(pub u64);

/// A working directory, by a name that is its own among all machines (`<ip>/<path>`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DirId(pub String);

impl fmt::Display for DirId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Keys and their values.
pub type Keys = BTreeMap<Vec<u8>, Vec<u8>>;

/// What lies in a working directory and survives the process.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Files {
    /// `nodes.conf`: redis writes it when what it knows has changed.
    pub nodes_conf: Option<String>,
    /// `dump.rdb`.
    pub dump: Option<Dump>,
    /// The append-only file: the keys as they were at the end.
    pub aof: Option<Keys>,
    /// Nothing can be written: redis ends when it cannot write `nodes.conf`, and its snapshots fail.
    pub full: bool,
}

/// A snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Dump {
    /// What is in it.
    pub keys: Keys,
    /// The stream of writes that it is a state of, and how far that was, if redis noted it.
    pub position: Option<(ReplId, u64)>,
    /// How long redis needs to load it.
    pub loads_for: Duration,
}

/// The name of a stream of writes (`master_replid`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReplId(pub(super) u64);

impl fmt::Display for ReplId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:040x}", self.0)
    }
}

impl fmt::Debug for ReplId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a connection is not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoConnection {
    /// Nobody listens there.
    Refused,
    /// Nobody answers there, not even with a refusal: the machine is cut off.
    Silent,
}

/// What a command leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The bytes of the answer.
    Reply(Vec<u8>),
    /// No answer comes: the process is stopped, or its machine is cut off.
    Silent,
    /// The connection is gone.
    Closed,
}

impl Outcome {
    /// The answer as text, for tests: bulk strings as they are, errors and statuses with their first character.
    pub fn text(&self) -> String {
        match self {
            Self::Reply(bytes) => {
                let text = String::from_utf8_lossy(bytes);
                let rest = text.strip_prefix('$').and_then(|rest| rest.split_once("\r\n"));
                rest.map_or(&*text, |(_, body)| body).trim_end().to_owned()
            }
            Self::Silent => "(silent)".to_owned(),
            Self::Closed => "(closed)".to_owned(),
        }
    }
}

/// A replica's link to its master.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LinkView {
    /// It is a master.
    None,
    /// It has no link.
    Down,
    /// A copy of the whole data is on its way.
    Syncing,
    /// It follows.
    Up,
}

/// One process, as an oracle sees it that sees everything.
#[derive(Debug, Clone)]
pub struct ProcessView<'a> {
    /// Which process.
    pub pid: Pid,
    /// Where it works.
    pub dir: &'a DirId,
    /// Where it listens.
    pub address: Address,
    /// SIGSTOP.
    pub paused: bool,
    /// It reads its data from disk.
    pub loading: bool,
    /// What it holds.
    pub keys: &'a Keys,
    /// How far it is in its stream of writes.
    pub offset: u64,
    /// Its link to a master.
    pub link: LinkView,
    /// What it is in its cluster; none outside of one.
    pub node: Option<NodeView<'a>>,
}

/// A node as it sees itself.
#[derive(Debug, Clone)]
pub struct NodeView<'a> {
    /// Its id.
    pub id: NodeId,
    /// Whose replica it is; none for a master.
    pub replica_of: Option<NodeId>,
    /// It is a master.
    pub is_master: bool,
    /// Its slots.
    pub slots: &'a SlotSet,
    /// Of its claim to them, or of its master's.
    pub config_epoch: u64,
    /// The highest it has seen.
    pub current_epoch: u64,
    /// `cluster_state` is `ok`: it answers for keys.
    pub ok: bool,
    /// All that it knows, by id, with itself.
    pub knows: Vec<NodeId>,
}
