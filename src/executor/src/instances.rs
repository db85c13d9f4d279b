//! etcd as an executor sees it: its own keys, read in one go, with no standing connection. Thousands
//! of executors must not hold thousands of streams.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use overlord_api::{Address, ClusterName, Info, keys};
use overlord_store::{EtcdConfig, EtcdStore, Fetch, Store};

/// How long one read may take, connecting included.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// The keys of one instance.
#[derive(Debug, Clone, PartialEq)]
pub struct Keys {
    /// What is intended.
    pub info: Info,
    /// The whole configuration text.
    pub server_conf: String,
    /// The topology to boot with; none for single servers.
    pub nodes_conf: Option<String>,
}

/// Why the keys could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The store failed.
    #[error("cannot read {prefix}")]
    Store {
        /// What was read.
        prefix: String,
        /// Why.
        #[source]
        source: overlord_store::Error,
    },
    /// No answer in time.
    #[error("cannot read {prefix}: no answer within {} s", READ_TIMEOUT.as_secs())]
    TimedOut {
        /// What was read.
        prefix: String,
    },
    /// A value is missing or not readable.
    #[error("{key}: {message}")]
    Malformed {
        /// The key.
        key: String,
        /// What is wrong.
        message: String,
    },
}

/// Reads the keys of instances.
#[async_trait]
pub trait Instances: Send + Sync + 'static {
    /// The keys below `instances/<address>/`, of one revision. `None`: there is no info.
    async fn read(&self, cluster: &ClusterName, address: Address) -> Result<Option<Keys>, ReadError>;
}

/// Opens etcd for each read and closes it again.
#[derive(Debug, Clone)]
pub struct EtcdInstances {
    etcd: EtcdConfig,
}

impl EtcdInstances {
    /// Reads with this configuration.
    pub const fn new(etcd: EtcdConfig) -> Self {
        Self { etcd }
    }
}

#[async_trait]
impl Instances for EtcdInstances {
    async fn read(&self, cluster: &ClusterName, address: Address) -> Result<Option<Keys>, ReadError> {
        let store = EtcdStore::new(self.etcd.clone())
            .map_err(|source| ReadError::Store { prefix: prefix(cluster, address), source })?;
        read(&store, cluster, address).await
    }
}

/// Reads from a store that is open anyway: for simulations and tests.
#[derive(Debug, Clone)]
pub struct StoreInstances(pub Arc<dyn Store>);

#[async_trait]
impl Instances for StoreInstances {
    async fn read(&self, cluster: &ClusterName, address: Address) -> Result<Option<Keys>, ReadError> {
        read(&*self.0, cluster, address).await
    }
}

fn prefix(cluster: &ClusterName, address: Address) -> String {
    format!("{}{address}/", keys::instances(cluster))
}

async fn read(store: &dyn Store, cluster: &ClusterName, address: Address) -> Result<Option<Keys>, ReadError> {
    let prefix = prefix(cluster, address);
    let listing = match tokio::time::timeout(READ_TIMEOUT, store.list(&prefix, Fetch::Values)).await {
        Ok(Ok(listing)) => listing,
        Ok(Err(source)) => return Err(ReadError::Store { prefix, source }),
        Err(_) => return Err(ReadError::TimedOut { prefix }),
    };
    let value = |key: &str| listing.entries.iter().find(|entry| &*entry.key == key).map(|entry| &entry.value);
    let text = |key: &str| match value(key).map(|bytes| std::str::from_utf8(bytes)) {
        None => Ok(None),
        Some(Ok(text)) => Ok(Some(text.to_owned())),
        Some(Err(_)) => Err(ReadError::Malformed { key: key.to_owned(), message: "is not UTF-8".to_owned() }),
    };
    let key = keys::info(cluster, address);
    let Some(info) = value(&key) else { return Ok(None) };
    let info = serde_json::from_slice(info)
        .map_err(|error| ReadError::Malformed { key, message: format!("is not readable: {error}") })?;
    let key = keys::server_conf(cluster, address);
    let server_conf =
        text(&key)?.ok_or_else(|| ReadError::Malformed { key, message: "is missing".to_owned() })?;
    Ok(Some(Keys { info, server_conf, nodes_conf: text(&keys::nodes_conf(cluster, address))? }))
}
