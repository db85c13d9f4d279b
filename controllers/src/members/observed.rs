//! What a pass sees of the members of a cluster, and the one thing it may have to ask: how many keys an instance holds.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use futures::{StreamExt as _, stream};
use overlord_api::{Address, Info, Kind};
use overlord_reconcile::Revision;

use crate::{
    Digest, Known,
    redis_cluster::observed::{Commander, Look},
};

/// One recorded instance.
#[derive(Debug, Clone)]
pub struct Instance {
    /// Its info.
    pub info: Arc<Info>,
    /// The revision the info was read at.
    pub revision: Revision,
    /// Digest of its `server.conf` in etcd.
    pub conf: Option<Digest>,
}

/// The engines, as far as the controllers ask them anything.
#[async_trait]
pub trait Engines: std::fmt::Debug + Send + Sync + 'static {
    /// How many keys the instance holds. `epoch` is the leader's, for the engine-side fence.
    async fn keys(&self, kind: Kind, address: Address, epoch: Revision) -> Known<u64>;

    /// What a node of a `RedisCluster` says of its cluster within `patience`. Changes nothing.
    async fn look(&self, address: Address, patience: Duration) -> Look;

    /// Opens a connection for orders to a node of a `RedisCluster`, fenced for the leader of `epoch`; or says why
    /// not.
    async fn open(&self, address: Address, epoch: Revision) -> Result<Box<dyn Commander>, String>;
}

/// Instances asked at once.
const ASKED_AT_ONCE: usize = 16;

/// All of them together may take so long. Of the rest nobody knows.
const ASKING: Duration = Duration::from_secs(10);

/// Asks each of `addresses`.
pub(crate) async fn ask_keys(
    engines: &dyn Engines,
    kind: Kind,
    epoch: Revision,
    addresses: &BTreeSet<Address>,
) -> BTreeMap<Address, Known<u64>> {
    let mut keys: BTreeMap<Address, Known<u64>> = stream::iter(addresses.iter().copied())
        .map(|address| async move { (address, engines.keys(kind, address, epoch).await) })
        .buffer_unordered(ASKED_AT_ONCE)
        .take_until(tokio::time::sleep(ASKING))
        .collect()
        .await;
    for address in addresses {
        keys.entry(*address).or_insert(Known::Unknown);
    }
    keys
}
