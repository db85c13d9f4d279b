//! One line of `nodes.conf` or `CLUSTER NODES`: what the writer knows of one node. The formats are one.

use std::fmt;

use super::{Flag, Flags, NodeAddress, NodeId, Role, SLOTS, SlotRange, SlotSet};

/// What is known of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its id.
    pub id: NodeId,
    /// Where it is.
    pub address: NodeAddress,
    /// Its role and condition.
    pub flags: Flags,
    /// Whom it copies.
    pub master: Option<NodeId>,
    /// When the ping was sent that is not answered yet, in ms; 0 for none.
    pub ping_sent: u64,
    /// When its last answer came, in ms.
    pub pong_received: u64,
    /// Of its claim to its slots; a replica has its master's or 0.
    pub config_epoch: u64,
    /// The writer's link to it on the bus; not that of replication.
    pub link: LinkState,
    /// What it serves.
    pub slots: SlotSet,
    /// What moves to or from it; known of `myself` only.
    pub moving: Vec<SlotMove>,
}

/// A link on the bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkState {
    /// It is there.
    Connected,
    /// It is not.
    Disconnected,
}

/// A slot on its way between two masters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotMove {
    /// Which slot.
    pub slot: u16,
    /// Which way.
    pub direction: Direction,
    /// The other master.
    pub peer: NodeId,
}

/// The way of a slot, seen from the node on whose line it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// It leaves for the peer.
    Migrating,
    /// It comes from the peer.
    Importing,
}

/// What is wrong with a line. redis refuses to start on most of these, and crashes on an unknown flag.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LineFault {
    /// It is no line of a node.
    #[error("it has {0} columns, a node has at least 8")]
    Columns(usize),
    /// The first column.
    #[error("{0:?} is no node id")]
    Id(String),
    /// The second column.
    #[error("{0:?} is no address")]
    Address(String),
    /// The third column has a word that no redis writes.
    #[error("{0:?} is no flag")]
    Flag(String),
    /// The third column says master and slave.
    #[error("the node is master and replica at once")]
    Roles,
    /// The fourth column.
    #[error("{0:?} is no id of a master")]
    Master(String),
    /// The fifth to seventh column, or a variable.
    #[error("{0:?} is no number")]
    Number(String),
    /// The eighth column.
    #[error("{0:?} is no state of a link")]
    Link(String),
    /// One of the slots.
    #[error("{0:?} is neither a slot nor slots")]
    Slots(String),
    /// The line of variables.
    #[error("the variables are not pairs of name and value, or an epoch is missing")]
    Vars,
}

/// The first characters of what was found, for messages.
pub(crate) fn excerpt(text: &str) -> String {
    text.chars().take(60).collect()
}

/// Decimal digits and nothing else.
pub(crate) fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

impl Node {
    /// A healthy node as a seed has it.
    pub(crate) fn fresh(id: NodeId, address: NodeAddress, master: Option<NodeId>) -> Self {
        Self {
            id,
            address,
            flags: Flags::of(if master.is_some() { Role::Replica } else { Role::Master }),
            master,
            ping_sent: 0,
            pong_received: 0,
            config_epoch: 0,
            link: LinkState::Connected,
            slots: SlotSet::new(),
            moving: Vec::new(),
        }
    }

    /// Its role, if it is known.
    pub const fn role(&self) -> Option<Role> {
        self.flags.role()
    }

    /// Whether it wrote the line itself.
    pub const fn is_myself(&self) -> bool {
        self.flags.has(Flag::Myself)
    }

    /// The node of a line, and the first of its flags that no redis up to 7.2 writes.
    pub(crate) fn parse(line: &str) -> Result<(Self, Option<String>), LineFault> {
        // As sdssplitargs splits; a quote would be of meaning to it, and is in no valid column.
        let columns: Vec<&str> = line.split_ascii_whitespace().collect();
        let [id, address, flags, master, ping_sent, pong_received, config_epoch, state, slots @ ..] =
            columns.as_slice()
        else {
            return Err(LineFault::Columns(columns.len()));
        };
        let count = |text: &str| number(text).ok_or_else(|| LineFault::Number(excerpt(text)));
        let (flags, unknown) = Flags::parse(flags);
        if flags.is_ambiguous() {
            return Err(LineFault::Roles);
        }
        let mut node = Self {
            id: id.parse().map_err(|_| LineFault::Id(excerpt(id)))?,
            address: NodeAddress::parse(address).ok_or_else(|| LineFault::Address(excerpt(address)))?,
            flags,
            master: match *master {
                "-" => None,
                master => Some(master.parse().map_err(|_| LineFault::Master(excerpt(master)))?),
            },
            ping_sent: count(ping_sent)?,
            pong_received: count(pong_received)?,
            config_epoch: count(config_epoch)?,
            link: match *state {
                "connected" => LinkState::Connected,
                "disconnected" => LinkState::Disconnected,
                other => return Err(LineFault::Link(excerpt(other))),
            },
            slots: SlotSet::new(),
            moving: Vec::new(),
        };
        for word in slots {
            let known = if word.starts_with('[') {
                SlotMove::parse(word).map(|moving| node.moving.push(moving))
            } else {
                range(word).map(|range| node.slots.insert(range))
            };
            known.ok_or_else(|| LineFault::Slots(excerpt(word)))?;
        }
        Ok((node, unknown.map(excerpt)))
    }
}

fn slot(text: &str) -> Option<u16> {
    number(text).filter(|slot| *slot < u64::from(SLOTS)).map(|slot| slot as u16)
}

/// `93` or `0-5460`.
fn range(text: &str) -> Option<SlotRange> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (slot(first)?, slot(last)?);
    (first <= last).then_some(first..=last)
}

impl SlotMove {
    /// `[93->-<id>]` or `[77-<-<id>]`.
    fn parse(word: &str) -> Option<Self> {
        let (number, rest) = word.strip_prefix('[')?.strip_suffix(']')?.split_once('-')?;
        let (direction, peer) = match rest.split_at_checked(2)? {
            (">-", peer) => (Direction::Migrating, peer),
            ("<-", peer) => (Direction::Importing, peer),
            _ => return None,
        };
        Some(Self { slot: slot(number)?, direction, peer: peer.parse().ok()? })
    }
}

impl fmt::Display for SlotMove {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let arrow = match self.direction {
            Direction::Migrating => '>',
            Direction::Importing => '<',
        };
        write!(f, "[{}-{arrow}-{}]", self.slot, self.peer)
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} ", self.id, self.address, self.flags)?;
        match &self.master {
            None => f.write_str("-")?,
            Some(master) => write!(f, "{master}")?,
        }
        let link = match self.link {
            LinkState::Connected => "connected",
            LinkState::Disconnected => "disconnected",
        };
        write!(f, " {} {} {} {link}", self.ping_sent, self.pong_received, self.config_epoch)?;
        if !self.slots.is_empty() {
            write!(f, " {}", self.slots)?;
        }
        self.moving.iter().try_for_each(|moving| write!(f, " {moving}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "07c37dfeb235213a872192d90877d0cd55635b91";
    const OTHER: &str = "e7d1eecce10fd6bb5eb35b9f99a514335d9ba9ca";

    fn parsed(rest: &str) -> Result<(Node, Option<String>), LineFault> {
        Node::parse(&format!("{ID} {rest}"))
    }

    #[test]
    fn all_columns_are_read_and_written_back() {
        let line = format!(
            "{ID} 127.0.0.1:30004@31004,,tls-port=0,shard-id={OTHER} myself,master - 0 1426238317239 4 \
             connected 0-5460 5462 [93->-{OTHER}] [77-<-{OTHER}]"
        );
        let (node, unknown) = Node::parse(&line).unwrap();
        assert_eq!((node.to_string(), unknown), (line, None));
        assert_eq!((node.role(), node.is_myself(), node.slots.len()), (Some(Role::Master), true, 5462));
        assert_eq!(node.moving[1].direction, Direction::Importing);
        assert_eq!((node.config_epoch, node.pong_received), (4, 1_426_238_317_239));
    }

    #[test]
    fn a_node_that_nobody_knows_is_read() {
        let (ghost, _) = parsed(":0@0 noflags - 0 0 0 disconnected").unwrap();
        assert_eq!((ghost.role(), ghost.link), (None, LinkState::Disconnected));
        let (lost, _) = parsed(":0@0 slave,fail,noaddr - 1 2 3 disconnected ").unwrap();
        assert!(lost.flags.has(Flag::NoAddress) && lost.flags.has(Flag::Fail));
    }

    #[test]
    fn each_column_is_held_to_what_redis_takes() {
        let fault = |rest: &str| parsed(rest).map(|_| ()).unwrap_err();
        let good = "127.0.0.1:1@2 master - 0 0 1 connected";
        assert_eq!(parsed(&format!("{good} 7")).unwrap().0.slots, SlotSet::from(7..=7));
        assert_eq!(fault("127.0.0.1:1@2 master - 0 0 1"), LineFault::Columns(7));
        assert!(matches!(Node::parse(&format!("x {good}")), Err(LineFault::Id(_))));
        assert!(matches!(fault(&good.replace("@2", "@x")), LineFault::Address(_)));
        assert_eq!(fault(&good.replace("master", "master,slave")), LineFault::Roles);
        assert!(matches!(fault(&good.replace(" - ", " x ")), LineFault::Master(_)));
        assert!(matches!(fault(&good.replace(" 1 c", " -1 c")), LineFault::Number(_)));
        assert!(matches!(fault(&good.replace(" 1 c", " 18446744073709551616 c")), LineFault::Number(_)));
        assert!(matches!(fault(&good.replace("connected", "conn")), LineFault::Link(_)));
        for slots in
            ["16384", "0-16384", "16384-16383", "5-4", "-", "1-", "+1", "[93]", "[93->-x]", "[93-<", "[é"]
        {
            assert!(matches!(fault(&format!("{good} {slots}")), LineFault::Slots(_)), "{slots}");
        }
    }
}
