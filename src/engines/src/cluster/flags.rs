//! The flags that a node has in `nodes.conf` and in `CLUSTER NODES`.

use std::fmt;

/// What a node is to its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Serves slots, or may.
    Master,
    /// Copies a master.
    Replica,
}

/// One flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Flag {
    /// The node whose file or answer this is.
    Myself = 1,
    /// Its role is master.
    Master = 1 << 1,
    /// Its role is replica.
    Slave = 1 << 2,
    /// This node does not reach it.
    SuspectedFail = 1 << 3,
    /// A majority of masters does not reach it.
    Fail = 1 << 4,
    /// It was not heard of yet; its id is a placeholder.
    Handshake = 1 << 5,
    /// Its address is not known.
    NoAddress = 1 << 6,
    /// It will not stand for election.
    NoFailover = 1 << 7,
}

/// In the order in which redis writes them.
const ALL: [(Flag, &str); 8] = [
    (Flag::Myself, "myself"),
    (Flag::Master, "master"),
    (Flag::Slave, "slave"),
    (Flag::SuspectedFail, "fail?"),
    (Flag::Fail, "fail"),
    (Flag::Handshake, "handshake"),
    (Flag::NoAddress, "noaddr"),
    (Flag::NoFailover, "nofailover"),
];

/// What redis writes for no flag at all.
const NO_FLAGS: &str = "noflags";

/// The flags of one node.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags(u8);

impl Flags {
    /// Those of a node in good order.
    pub const fn of(role: Role) -> Self {
        Self(match role {
            Role::Master => Flag::Master as u8,
            Role::Replica => Flag::Slave as u8,
        })
    }

    /// Whether the node has a flag.
    pub const fn has(self, flag: Flag) -> bool {
        self.0 & flag as u8 != 0
    }

    /// With one more.
    #[must_use]
    pub const fn with(self, flag: Flag) -> Self {
        Self(self.0 | flag as u8)
    }

    /// With one less.
    #[must_use]
    pub const fn without(self, flag: Flag) -> Self {
        Self(self.0 & !(flag as u8))
    }

    /// The node's role, if it is known.
    pub const fn role(self) -> Option<Role> {
        match (self.has(Flag::Master), self.has(Flag::Slave)) {
            (true, false) => Some(Role::Master),
            (false, true) => Some(Role::Replica),
            (true, true) | (false, false) => None,
        }
    }

    /// Whether it is said to be master and replica at once.
    pub(crate) const fn is_ambiguous(self) -> bool {
        self.has(Flag::Master) && self.has(Flag::Slave)
    }

    /// The flags of a column, and the first word of it that is none.
    pub(crate) fn parse(column: &str) -> (Self, Option<&str>) {
        let mut flags = Self::default();
        let mut unknown = None;
        for word in column.split(',') {
            // As redis compares them.
            match ALL.iter().find(|(_, name)| name.eq_ignore_ascii_case(word)) {
                Some((flag, _)) => flags = flags.with(*flag),
                None if NO_FLAGS.eq_ignore_ascii_case(word) => {}
                None => unknown = unknown.or(Some(word)),
            }
        }
        (flags, unknown)
    }
}

impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut comma = "";
        for (_, name) in ALL.iter().filter(|(flag, _)| self.has(*flag)) {
            write!(f, "{comma}{name}")?;
            comma = ",";
        }
        if comma.is_empty() { f.write_str(NO_FLAGS) } else { Ok(()) }
    }
}

impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_set_of_flags_reads_back_from_its_text() {
        for bits in 0..=u8::MAX {
            let flags = Flags(bits);
            assert_eq!(Flags::parse(&flags.to_string()), (flags, None));
        }
        assert_eq!(Flags::default().to_string(), "noflags");
        assert_eq!(Flags::of(Role::Replica).with(Flag::Myself).to_string(), "myself,slave");
    }

    #[test]
    fn an_unknown_flag_is_named_and_the_others_are_kept() {
        let (flags, unknown) = Flags::parse("master,witness,fail?,x");
        assert_eq!((flags.to_string().as_str(), unknown), ("master,fail?", Some("witness")));
        assert_eq!(Flags::parse("").1, Some(""));
    }
}
