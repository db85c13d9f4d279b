//! The address of an instance, `ip:port`: its name in etcd.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Where an instance listens. Its text form `<ip>:<port>` (IPv6 in brackets) is the instance's name in etcd.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// The agent's ip, the host failure domain.
    pub ip: IpAddr,
    /// The data port.
    pub port: u16,
}

/// A text that is no `ip:port`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an address: expected <ip>:<port>")]
pub struct AddressError(String);

impl Address {
    /// An address from its parts.
    pub const fn new(ip: IpAddr, port: u16) -> Self {
        Self { ip, port }
    }

    /// For sockets.
    pub const fn socket(self) -> SocketAddr {
        SocketAddr::new(self.ip, self.port)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.socket(), f)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.socket(), f)
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let socket: SocketAddr = text.parse().map_err(|_| AddressError(text.to_owned()))?;
        // Only the canonical form names a key, so that one address has one name.
        if socket.port() == 0 || socket.to_string() != text {
            return Err(AddressError(text.to_owned()));
        }
        Ok(Self::new(socket.ip(), socket.port()))
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_has_one_text() {
        let address: Address = "127.0.0.3:20001".parse().unwrap();
        assert_eq!(address.to_string(), "127.0.0.3:20001");
        for bad in ["127.0.0.3", "127.0.0.3:0", "127.0.0.3:020001", "host:1", "127.0.0.3:70000", ""] {
            assert!(bad.parse::<Address>().is_err(), "{bad}");
        }
    }
}
