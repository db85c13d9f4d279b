//! From host names to addresses. What ZooKeeper said about a master comes first: its certificate bears its
//! name, but no name server needs to know it.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Names that need not be asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known(Arc<Mutex<BTreeMap<String, IpAddr>>>);

impl Known {
    /// This name only, from now on.
    pub(crate) fn set(&self, name: &str, address: IpAddr) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.clear();
        known.insert(name.to_ascii_lowercase(), address);
    }

    fn get(&self, name: &str) -> Option<IpAddr> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&name.to_ascii_lowercase()).copied()
    }
}

#[derive(Debug)]
pub(crate) struct Resolver {
    known: Known,
}

impl Resolver {
    pub(crate) fn new(known: Known) -> Self {
        Self { known }
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let known = self.known.get(name.as_str());
        Box::pin(async move {
            // The port is that of the URL.
            let addresses: Vec<_> = match known {
                Some(address) => vec![SocketAddr::new(address, 0)],
                None => tokio::net::lookup_host((name.as_str(), 0)).await?.collect(),
            };
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}
