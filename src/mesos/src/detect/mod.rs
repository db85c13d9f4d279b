//! Where the leading master is: by a list of masters that are asked in turn, or by what the masters
//! themselves wrote into ZooKeeper.

mod master_info;
mod sighting;
mod url;
mod zookeeper;

pub(crate) use master_info::{Leader, lowest, parse_master};
pub(crate) use sighting::Sightings;
pub use url::{ZooKeeperUrl, ZooKeeperUrlError};
pub(crate) use zookeeper::ZooKeeperDetector;

use crate::{HttpConfigError, http::shortened};

/// No list of masters is longer.
const MAX_MASTERS: usize = 64;

/// How masters are named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Masters {
    /// Each by its address; never empty.
    List(Vec<String>),
    /// All of them by their place in ZooKeeper.
    ZooKeeper(ZooKeeperUrl),
}

impl Masters {
    /// Reads a list of addresses, or one `zk://` address. Parts of such an address that were taken for
    /// items of a list (it has commas in it) are put together again.
    pub fn parse<S: AsRef<str>>(masters: impl IntoIterator<Item = S>) -> Result<Self, HttpConfigError> {
        let masters: Vec<String> = masters
            .into_iter()
            .take(MAX_MASTERS + 1)
            .map(|master| master.as_ref().trim().to_owned())
            .collect();
        match masters.first() {
            None => Err(HttpConfigError::NoMaster),
            Some(first) if first.starts_with("zk://") => Ok(Self::ZooKeeper(masters.join(",").parse()?)),
            Some(first) if masters.len() > MAX_MASTERS => Err(HttpConfigError::BadAddress {
                address: shortened(first),
                reason: format!("it is the first of more than {MAX_MASTERS}"),
            }),
            Some(_) => Ok(Self::List(masters)),
        }
    }
}
