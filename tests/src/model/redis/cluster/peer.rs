//! What a node knows of another, or of itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::IpAddr,
    time::Duration,
};

use overlord_api::Address;
use overlord_engines::cluster::{Flag, Flags, NodeId, Role, SlotSet};

/// Where a node is, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Place {
    pub(crate) ip: Option<IpAddr>,
    pub(crate) port: u16,
    pub(crate) bus_port: u16,
}

impl Place {
    pub(crate) fn new(address: Address, bus_port: u16) -> Self {
        Self { ip: Some(address.ip), port: address.port, bus_port }
    }

    /// Where clients go.
    pub(crate) fn data(&self) -> Option<Address> {
        self.ip.map(|ip| Address::new(ip, self.port))
    }

    /// Where other nodes go.
    pub(crate) fn bus(&self) -> Option<Address> {
        self.ip.map(|ip| Address::new(ip, self.bus_port))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(ip) = self.ip {
            write!(f, "{ip}")?;
        }
        write!(f, ":{}@{}", self.port, self.bus_port)
    }
}

/// One node in a node's table.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) id: NodeId,
    pub(crate) place: Place,
    pub(crate) flags: Flags,
    /// It is to be introduced to us, not only asked.
    pub(crate) meet: bool,
    pub(crate) master: Option<NodeId>,
    pub(crate) config_epoch: u64,
    pub(crate) slots: SlotSet,
    /// There is a connection to its bus, if only to a process that does not answer.
    pub(crate) link: bool,
    /// When it answered last, in ms.
    pub(crate) pong_ms: u64,
    /// Since when it has not answered.
    pub(crate) silent_since: Option<Duration>,
    /// When it was flagged as failed.
    pub(crate) failed_at: Duration,
    /// When a vote was given to one of its replicas.
    pub(crate) voted_at: Option<Duration>,
    /// Masters that said that they do not reach it.
    pub(crate) reports: BTreeSet<NodeId>,
    /// When it will be sent a ping.
    pub(crate) planned: Option<Duration>,
}

impl Peer {
    pub(crate) fn new(id: NodeId, place: Place, flags: Flags) -> Self {
        Self {
            id,
            place,
            flags,
            meet: false,
            master: None,
            config_epoch: 0,
            slots: SlotSet::new(),
            link: false,
            pong_ms: 0,
            silent_since: None,
            failed_at: Duration::ZERO,
            voted_at: None,
            reports: BTreeSet::new(),
            planned: None,
        }
    }

    pub(crate) fn has(&self, flag: Flag) -> bool {
        self.flags.has(flag)
    }

    pub(crate) const fn set(&mut self, flag: Flag) {
        self.flags = self.flags.with(flag);
    }

    pub(crate) const fn clear(&mut self, flag: Flag) {
        self.flags = self.flags.without(flag);
    }

    pub(crate) fn is_master(&self) -> bool {
        self.flags.role() == Some(Role::Master)
    }

    pub(crate) fn is_replica(&self) -> bool {
        self.flags.role() == Some(Role::Replica)
    }

    /// A master with slots: it votes, and counts.
    pub(crate) fn serves(&self) -> bool {
        self.is_master() && !self.slots.is_empty()
    }

    /// Suspected or failed.
    pub(crate) fn is_unwell(&self) -> bool {
        self.has(Flag::SuspectedFail) || self.has(Flag::Fail)
    }

    /// Whether it is spoken of in pings: those whose address is not known, or whom nobody would miss, are not.
    pub(crate) fn is_told_of(&self) -> bool {
        !self.has(Flag::Handshake)
            && !self.has(Flag::NoAddress)
            && (self.has(Flag::SuspectedFail) || self.link || !self.slots.is_empty())
    }
}

/// The lines of a table, as `CLUSTER NODES` and the file have them.
pub(crate) fn lines<'a>(
    peers: impl Iterator<Item = &'a Peer>,
    all: &BTreeMap<NodeId, u64>,
    filter: impl Fn(&Peer) -> bool,
) -> String {
    let mut text = String::new();
    for peer in peers.filter(|peer| filter(peer)) {
        use fmt::Write as _;
        let master = peer.master.map_or_else(|| "-".to_owned(), |master| master.to_string());
        // A replica's is that of its master.
        let epoch = peer.master.filter(|_| peer.is_replica()).and_then(|master| all.get(&master).copied());
        let link = if peer.link || peer.has(Flag::Myself) { "connected" } else { "disconnected" };
        let ping = peer.silent_since.map_or(0, |since| since.as_millis());
        let _ = write!(
            text,
            "{} {} {} {master} {ping} {} {} {link}",
            peer.id,
            peer.place,
            peer.flags,
            peer.pong_ms,
            epoch.unwrap_or(peer.config_epoch)
        );
        if !peer.slots.is_empty() {
            let _ = write!(text, " {}", peer.slots);
        }
        text.push('\n');
    }
    text
}
