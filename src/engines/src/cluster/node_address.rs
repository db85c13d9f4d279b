//! The column of a node's address: `<host>:<port>[@<bus port>][,<hostname>[,<name>=<value>...]]`.

use std::{fmt, net::IpAddr};

use overlord_api::Address;

use super::node::number;

/// Characters of a host that redis has room for (`NET_IP_STR_LEN` less its end); it copies without looking.
const MAX_HOST: usize = 45;

/// Characters of a hostname (`NET_HOST_STR_LEN`).
const MAX_HOSTNAME: usize = 255;

/// Additional fields. redis 7.2 has four.
const MAX_FIELDS: usize = 16;

/// Bytes of an additional field; the longest of redis 7.2 has 40 and a name.
const MAX_FIELD: usize = 128;

/// Where a node is, with all that redis keeps beside it.
#[derive(Clone, PartialEq, Eq)]
pub struct NodeAddress {
    host: String,
    port: u16,
    bus_port: Option<u16>,
    hostname: String,
    /// `shard-id`, `tls-port` and the like, of redis 7.2: kept as they came, never made.
    fields: Vec<(String, String)>,
}

impl NodeAddress {
    /// An address with a bus port, or with the one that redis assumes.
    pub fn new(address: Address, bus_port: Option<u16>) -> Self {
        Self {
            host: address.ip.to_string(),
            port: address.port,
            bus_port,
            hostname: String::new(),
            fields: Vec::new(),
        }
    }

    /// The ip as it is written; empty when a node does not know its own yet.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The data port; 0 when unknown.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The bus port: as written, else the data port + 10000, if that is a port.
    pub fn bus_port(&self) -> Option<u16> {
        self.bus_port.or_else(|| default_bus_port(self.port))
    }

    /// The announced name, if there is one.
    pub fn hostname(&self) -> Option<&str> {
        (!self.hostname.is_empty()).then_some(self.hostname.as_str())
    }

    /// An additional field of redis 7.2, such as `shard-id`.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Ip and data port, if both are known.
    pub fn address(&self) -> Option<Address> {
        let ip: IpAddr = self.host.parse().ok()?;
        (self.port > 0).then(|| Address::new(ip, self.port))
    }

    /// Moves it; hostname and fields stay, but for the port of the other protocol (`tls-port` beside a plain
    /// port, `tcp-port` beside one with TLS), which is wrong once the port is another; 0 stands for none.
    pub(crate) fn relocate(&mut self, address: Address, bus_port: Option<u16>) {
        if self.address() == Some(address) && (bus_port.is_none() || self.bus_port() == bus_port) {
            return;
        }
        if self.port != address.port {
            self.fields
                .retain(|(name, value)| value == "0" || !matches!(name.as_str(), "tls-port" | "tcp-port"));
        }
        self.host = address.ip.to_string();
        self.port = address.port;
        self.bus_port = bus_port;
    }

    pub(crate) fn parse(column: &str) -> Option<Self> {
        let mut words = column.split(',');
        // An IPv6 host has colons of its own.
        let (host, ports) = words.next()?.rsplit_once(':')?;
        let (port, bus_port) = match ports.split_once('@') {
            None => (ports, None),
            Some((port, bus_port)) => (port, Some(u16::try_from(number(bus_port)?).ok()?)),
        };
        let port = u16::try_from(number(port)?).ok()?;
        let hostname = words.next().unwrap_or_default();
        let fields = words.map(field).collect::<Option<Vec<_>>>()?;
        let is_host = host.len() <= MAX_HOST && host.bytes().all(is_host_byte);
        let is_name = hostname.len() <= MAX_HOSTNAME && hostname.bytes().all(is_host_byte);
        (is_host && is_name && fields.len() <= MAX_FIELDS).then(|| Self {
            host: host.to_owned(),
            port,
            bus_port,
            hostname: hostname.to_owned(),
            fields,
        })
    }
}

/// The bus port that redis takes when none is said.
pub(crate) const fn default_bus_port(port: u16) -> Option<u16> {
    port.checked_add(10_000)
}

const fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b':' | b'-' | b'_' | b'%')
}

/// `name=value`, both of what redis 7.2 takes there: printable, without its separators and quotes.
fn field(text: &str) -> Option<(String, String)> {
    const REFUSED: &[u8] = b"!\"#$%&'()*+/:;<>?@[\\]^{|}~=,";
    let (name, value) = text.split_once('=')?;
    let fits = |text: &str| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && !REFUSED.contains(&byte))
    };
    (text.len() <= MAX_FIELD && fits(name) && fits(value)).then(|| (name.to_owned(), value.to_owned()))
}

impl fmt::Display for NodeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)?;
        if let Some(bus_port) = self.bus_port {
            write!(f, "@{bus_port}")?;
        }
        if !self.hostname.is_empty() || !self.fields.is_empty() {
            write!(f, ",{}", self.hostname)?;
        }
        self.fields.iter().try_for_each(|(name, value)| write!(f, ",{name}={value}"))
    }
}

impl fmt::Debug for NodeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> NodeAddress {
        let address = NodeAddress::parse(text).unwrap();
        assert_eq!(address.to_string(), text);
        address
    }

    #[test]
    fn addresses_of_all_releases_are_read_and_written_back() {
        let old = parsed("127.0.0.1:7101");
        assert_eq!(
            (old.address().unwrap().to_string().as_str(), old.bus_port()),
            ("127.0.0.1:7101", Some(17_101))
        );
        let v6 = parsed("::1:7101@21101");
        assert_eq!((v6.address().unwrap().to_string().as_str(), v6.bus_port()), ("[::1]:7101", Some(21_101)));
        let named = parsed("10.0.0.1:7101@17101,node-1.example.com");
        assert_eq!(named.hostname(), Some("node-1.example.com"));
        let newest =
            parsed("10.0.0.1:7101@17101,,tls-port=0,shard-id=69bc080733d1355567173199cff4a6a039a2f024");
        assert_eq!((newest.hostname(), newest.field("tls-port")), (None, Some("0")));
        // Of a node that does not know its own yet, and of one that nobody knows.
        assert_eq!(parsed(":7101@17101").address(), None);
        assert_eq!((parsed(":0@0").address(), parsed("127.0.0.1:60000").bus_port()), (None, None));
    }

    #[test]
    fn what_redis_would_choke_on_is_no_address() {
        for bad in [
            "",
            "127.0.0.1",
            "127.0.0.1:",
            "127.0.0.1:x",
            "127.0.0.1:70000",
            "127.0.0.1:1@",
            "127.0.0.1:1@70000",
            "127.0.0.1:+1",
            "\"a\":1",
            "a b:1",
            "a:1,b\"",
            "a:1,,shard-id",
            "a:1,,=x",
            "a:1,,a=b=c",
            "a:1,,a=b\u{7f}",
            &format!("{}:1", "a".repeat(46)),
            &format!("a:1,{}", "a".repeat(256)),
        ] {
            assert_eq!(NodeAddress::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_move_keeps_what_is_not_an_address() {
        let mut address = parsed("10.0.0.1:7101@17101,h,shard-id=aa,tls-port=7201");
        address.relocate("10.0.0.2:7101".parse().unwrap(), Some(21_101));
        assert_eq!(address.to_string(), "10.0.0.2:7101@21101,h,shard-id=aa,tls-port=7201");
        address.relocate("10.0.0.2:7102".parse().unwrap(), None);
        assert_eq!(address.to_string(), "10.0.0.2:7102,h,shard-id=aa");
        let mut same = parsed("10.0.0.1:7101");
        same.relocate("10.0.0.1:7101".parse().unwrap(), Some(17_101));
        assert_eq!(same.to_string(), "10.0.0.1:7101");
    }
}
