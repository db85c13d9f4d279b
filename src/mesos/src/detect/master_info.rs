//! What a master writes of itself into ZooKeeper: `MasterInfo` as JSON, in a node `json.info_<sequence>`. The
//! master with the lowest sequence leads (src/master/contender and detector of Mesos).

use std::net::{IpAddr, Ipv4Addr};

use reqwest::Url;

use crate::v1::MasterInfo;

/// The nodes of contending masters.
const PREFIX: &str = "json.info_";

/// A `MasterInfo` has some 400 bytes.
const MAX_DATA: usize = 64 * 1024;

/// The leading master, as far as it must be known to talk to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Leader {
    /// Names one life of a master; empty when only its address is known.
    pub(crate) id: String,
    pub(crate) hostname: Option<String>,
    pub(crate) ip: IpAddr,
    pub(crate) port: u16,
}

impl Leader {
    /// Whoever listens there.
    pub(crate) fn at(url: &Url) -> Self {
        let host = url.host_str().unwrap_or_default();
        let (hostname, ip) = match host.trim_matches(['[', ']']).parse() {
            Ok(ip) => (None, ip),
            Err(_) => (Some(host.to_owned()), Ipv4Addr::UNSPECIFIED.into()),
        };
        Self { id: String::new(), hostname, ip, port: url.port_or_known_default().unwrap_or(0) }
    }

    /// Whether both may be the same master.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let same_id = self.id == other.id || self.id.is_empty() || other.id.is_empty();
        let same_host = self.ip == other.ip || self.hostname.is_some() && self.hostname == other.hostname;
        same_id && same_host && self.port == other.port
    }
}

/// The child of the master that leads.
pub(crate) fn lowest(children: &[String]) -> Option<&str> {
    children
        .iter()
        .filter_map(|child| Some((child.strip_prefix(PREFIX)?.parse::<i64>().ok()?, child.as_str())))
        .min()
        .map(|(_, child)| child)
}

/// Reads the data of such a node.
pub(crate) fn parse_master(data: &[u8]) -> Result<Leader, String> {
    if data.len() > MAX_DATA {
        return Err(format!("{} bytes where a MasterInfo belongs", data.len()));
    }
    let info: MasterInfo = serde_json::from_slice(data).map_err(|error| format!("no MasterInfo: {error}"))?;
    let address = info.address.unwrap_or_default();
    let ip = match address.ip.as_deref().map(str::parse::<IpAddr>) {
        Some(Ok(ip)) => ip,
        Some(Err(_)) => return Err("MasterInfo with an ip that is none".to_owned()),
        // The old field holds the bytes in the order of the network, read as a little-endian number.
        None => Ipv4Addr::from(info.ip.to_le_bytes()).into(),
    };
    let port = Some(address.port).filter(|port| *port != 0).or(info.port).unwrap_or(0);
    let port = u16::try_from(port).ok().filter(|port| *port != 0);
    match port {
        _ if ip.is_unspecified() => Err("MasterInfo without an ip".to_owned()),
        None => Err("MasterInfo without a port".to_owned()),
        Some(port) => {
            let hostname = address.hostname.or(info.hostname).filter(|name| !name.is_empty());
            Ok(Leader { id: info.id, hostname, ip, port })
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const INFO: &str = r#"{"address":{"hostname":"m1","ip":"127.0.0.1","port":5250},"capabilities":[{"type":"AGENT_UPDATE"},{}],
        "hostname":"m1","id":"9f6e","ip":16777343,"pid":"master@127.0.0.1:5250","port":5250,"version":"1.11.1"}"#;

    #[test]
    fn the_lowest_sequence_leads_and_other_nodes_do_not_count() {
        let children: Vec<_> = [
            "log_replicas",
            "json.info_0000000012",
            "info_0000000001",
            "json.info_0000000009",
            "json.info_x",
        ]
        .map(str::to_owned)
        .to_vec();
        assert_eq!(lowest(&children), Some("json.info_0000000009"));
        assert_eq!(lowest(&children[..1]), None);
        // The counter of ZooKeeper overflows to negative numbers.
        let overflown = ["json.info_0000000012".to_owned(), "json.info_-2147483648".to_owned()];
        assert_eq!(lowest(&overflown), Some("json.info_-2147483648"));
    }

    #[test]
    fn the_address_comes_from_the_new_field_or_else_from_the_old_ones() {
        let leader = parse_master(INFO.as_bytes()).unwrap();
        assert_eq!((leader.ip.to_string().as_str(), leader.port), ("127.0.0.1", 5250));
        assert_eq!(leader.hostname.as_deref(), Some("m1"));
        let old = parse_master(br#"{"id":"x","ip":16777343,"port":5050}"#).unwrap();
        assert_eq!((old.ip.to_string().as_str(), old.port, old.hostname), ("127.0.0.1", 5050, None));
    }

    #[test]
    fn what_is_no_master_is_refused_with_a_reason() {
        for (data, expected) in [
            ("{}", "MasterInfo without an ip"),
            (r#"{"ip":16777343}"#, "MasterInfo without a port"),
            (r#"{"ip":16777343,"port":99999}"#, "MasterInfo without a port"),
            (r#"{"address":{"ip":"master","port":1}}"#, "MasterInfo with an ip that is none"),
            ("", "no MasterInfo: EOF while parsing a value at line 1 column 0"),
        ] {
            assert_eq!(parse_master(data.as_bytes()), Err(expected.to_owned()), "{data}");
        }
        assert!(parse_master(&vec![b'['; 100_000]).unwrap_err().starts_with("100000 bytes"));
        assert!(parse_master(&[b'['; 10_000]).is_err());
    }

    #[test]
    fn masters_are_told_apart_by_id_and_address() {
        let leader = parse_master(INFO.as_bytes()).unwrap();
        let reborn = Leader { id: "other".to_owned(), ..leader.clone() };
        assert!(leader.is_same(&leader) && !leader.is_same(&reborn));
        let seen = |url: &str| Leader::at(&Url::parse(url).unwrap());
        assert!(
            leader.is_same(&seen("http://127.0.0.1:5250/x")) && leader.is_same(&seen("https://m1:5250/x"))
        );
        assert!(
            !leader.is_same(&seen("http://127.0.0.1:5251/"))
                && !leader.is_same(&seen("http://127.0.0.2:5250/"))
        );
    }

    proptest! {
        #[test]
        fn no_data_breaks_the_reader(data in proptest::collection::vec(any::<u8>(), 0..300)) {
            crate::properties::master_info(&data);
        }

        #[test]
        fn nor_does_json_of_any_shape(data in r#"\{("(id|ip|port|address|hostname)":(-?[0-9]{1,12}|"[0-9.:a-f]{0,10}"|\{"(ip|port)":"?[0-9.]{0,6}"?\}),?){0,4}\}"#) {
            crate::properties::master_info(data.as_bytes());
        }
    }
}
