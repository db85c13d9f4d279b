//! The name that a node of a redis cluster keeps for life.

use std::{fmt, str::FromStr};

use sha1::{Digest, Sha1};

/// 40 lower-case hex digits in `nodes.conf` and on the bus.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId([u8; 20]);

/// A text that is no node id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a node id has 40 lower-case hex digits")]
pub struct NodeIdError;

impl NodeId {
    /// The id of a member: SHA-1 of the text `<uid>/<member>/<incarnation>`, numbers in decimal. A member that
    /// is launched again keeps it; its replacement, and a later cluster of the same name, have another.
    pub fn derive(uid: &str, member: u32, incarnation: u32) -> Self {
        Self(Sha1::digest(format!("{uid}/{member}/{incarnation}")).into())
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for NodeId {
    type Err = NodeIdError;

    /// redis takes any 40 of `[a-z0-9]`, but draws hex digits only, and so do we.
    fn from_str(text: &str) -> Result<Self, NodeIdError> {
        const fn nibble(digit: u8) -> Result<u8, NodeIdError> {
            match digit {
                b'0'..=b'9' => Ok(digit - b'0'),
                b'a'..=b'f' => Ok(digit - b'a' + 10),
                _ => Err(NodeIdError),
            }
        }
        if text.len() != 40 {
            return Err(NodeIdError);
        }
        let mut bytes = [0; 20];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
        }
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_derived_from_a_documented_text() {
        // printf '0123456789abcdef0123456789abcdef/7/2' | sha1sum
        let id = NodeId::derive("0123456789abcdef0123456789abcdef", 7, 2);
        assert_eq!(id.to_string(), "428e588cb63f88f6644b346b8e5e793c85e99e08");
        assert_ne!(id, NodeId::derive("0123456789abcdef0123456789abcdef", 72, 0));
        assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn only_forty_lower_case_hex_digits_are_an_id() {
        let good = "07c37dfeb235213a872192d90877d0cd55635b91";
        assert!(good.parse::<NodeId>().is_ok());
        for bad in ["", "-", &good[1..], &format!("{good}0"), &good.to_uppercase(), &good.replace('f', "g")] {
            assert_eq!(bad.parse::<NodeId>(), Err(NodeIdError), "{bad}");
        }
        assert_eq!("é".repeat(20).parse::<NodeId>(), Err(NodeIdError));
    }
}
