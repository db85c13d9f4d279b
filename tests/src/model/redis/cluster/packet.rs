//! What nodes send each other on their bus.

use overlord_engines::cluster::{Flags, NodeId, SlotSet};

use super::peer::Place;

/// What every packet says of its sender.
#[derive(Debug, Clone)]
pub(crate) struct Header {
    pub(crate) sender: NodeId,
    pub(crate) place: Place,
    pub(crate) flags: Flags,
    pub(crate) replica_of: Option<NodeId>,
    pub(crate) current_epoch: u64,
    /// Of the sender's slots, or its master's.
    pub(crate) config_epoch: u64,
    /// The sender's slots, or its master's.
    pub(crate) slots: SlotSet,
    /// How far it is in its stream of writes.
    pub(crate) offset: u64,
    /// It is a master that takes no writes, for the sake of a manual failover.
    pub(crate) paused: bool,
    /// It asks for a vote although its master lives.
    pub(crate) force: bool,
}

/// What a ping tells of a third node.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rumour {
    pub(crate) id: NodeId,
    pub(crate) place: Place,
    pub(crate) flags: Flags,
}

/// The packet behind its header.
#[derive(Debug, Clone)]
pub(crate) enum Body {
    Ping(Vec<Rumour>),
    Meet(Vec<Rumour>),
    Pong(Vec<Rumour>),
    Fail(NodeId),
    AuthRequest,
    AuthAck,
    ManualStart,
    Update { about: NodeId, config_epoch: u64, slots: SlotSet },
}

/// A packet.
#[derive(Debug, Clone)]
pub(crate) struct Packet {
    pub(crate) header: Header,
    pub(crate) body: Body,
}

/// On whose connection a packet came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Via {
    /// On one that the sender opened.
    Theirs,
    /// On the one that this node opened to that node of its table.
    Ours(NodeId),
}
