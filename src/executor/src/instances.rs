//! etcd as an executor sees it: its own keys, read in one go, with no standing connection. Thousands
//! of executors must not hold thousands of streams.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use overlord_api::{Address, ClusterName, Info, StoreMark, keys};
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
    /// What is read is older than what was read before, or than the store in which the launch was recorded.
    #[error(
        "etcd is at {found} and was at {known}: it was restored from an older backup, and is not followed until a \
         person accepts it"
    )]
    WentBack {
        /// The latest state that was seen.
        known: StoreMark,
        /// What it is now.
        found: StoreMark,
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

    /// The store was as far as this: nothing older is read any more.
    fn store_was_at(&self, _mark: StoreMark) {}

    /// How far the store was, as far as is known here.
    fn store_mark(&self) -> Option<StoreMark> {
        None
    }
}

/// How far the store was, and whether it went back since.
#[derive(Debug, Default)]
struct Seen {
    mark: StoreMark,
    went_back: bool,
}

/// The same, shared by all that read through one [`Instances`].
#[derive(Debug, Clone, Default)]
struct HighWater(Arc<Mutex<Seen>>);

impl HighWater {
    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn raise(&self, mark: StoreMark) {
        let mut seen = self.lock();
        seen.mark = seen.mark.max(mark);
    }

    fn mark(&self) -> Option<StoreMark> {
        Some(self.lock().mark).filter(|mark| *mark != StoreMark::default())
    }

    /// Refuses what was read at `revision` when that is older than what was seen before. Once the store went back,
    /// it stays refused, however far it comes, until a person begins the next generation.
    async fn check(&self, store: &dyn Store, revision: i64) -> Result<(), ReadError> {
        {
            let mut seen = self.lock();
            seen.went_back |= revision < seen.mark.revision;
            if !seen.went_back {
                seen.mark.revision = revision;
                return Ok(());
            }
        }
        let prefix = keys::GENERATION.to_owned();
        let listing = match tokio::time::timeout(READ_TIMEOUT, store.get(keys::GENERATION)).await {
            Ok(Ok(listing)) => listing,
            Ok(Err(source)) => return Err(ReadError::Store { prefix, source }),
            Err(_) => return Err(ReadError::TimedOut { prefix }),
        };
        let text = listing.entries.first().map(|entry| String::from_utf8_lossy(&entry.value).into_owned());
        let generation = text.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        let found = StoreMark { generation, revision };
        let mut seen = self.lock();
        if generation <= seen.mark.generation {
            return Err(ReadError::WentBack { known: seen.mark, found });
        }
        *seen = Seen { mark: found, went_back: false };
        drop(seen);
        Ok(())
    }
}

/// Opens etcd for each read and closes it again.
#[derive(Debug, Clone)]
pub struct EtcdInstances {
    etcd: EtcdConfig,
    seen: HighWater,
}

impl EtcdInstances {
    /// Reads with this configuration.
    pub fn new(etcd: EtcdConfig) -> Self {
        Self { etcd, seen: HighWater::default() }
    }
}

#[async_trait]
impl Instances for EtcdInstances {
    async fn read(&self, cluster: &ClusterName, address: Address) -> Result<Option<Keys>, ReadError> {
        let store = EtcdStore::new(self.etcd.clone())
            .map_err(|source| ReadError::Store { prefix: prefix(cluster, address), source })?;
        read(&store, &self.seen, cluster, address).await
    }

    fn store_was_at(&self, mark: StoreMark) {
        self.seen.raise(mark);
    }

    fn store_mark(&self) -> Option<StoreMark> {
        self.seen.mark()
    }
}

/// Reads from a store that is open anyway: for simulations and tests.
#[derive(Debug, Clone)]
pub struct StoreInstances {
    store: Arc<dyn Store>,
    seen: HighWater,
}

impl StoreInstances {
    /// Reads from `store`.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store, seen: HighWater::default() }
    }
}

#[async_trait]
impl Instances for StoreInstances {
    async fn read(&self, cluster: &ClusterName, address: Address) -> Result<Option<Keys>, ReadError> {
        read(&*self.store, &self.seen, cluster, address).await
    }

    fn store_was_at(&self, mark: StoreMark) {
        self.seen.raise(mark);
    }

    fn store_mark(&self) -> Option<StoreMark> {
        self.seen.mark()
    }
}

fn prefix(cluster: &ClusterName, address: Address) -> String {
    format!("{}{address}/", keys::instances(cluster))
}

async fn read(
    store: &dyn Store,
    seen: &HighWater,
    cluster: &ClusterName,
    address: Address,
) -> Result<Option<Keys>, ReadError> {
    let prefix = prefix(cluster, address);
    let listing = match tokio::time::timeout(READ_TIMEOUT, store.list(&prefix, Fetch::Values)).await {
        Ok(Ok(listing)) => listing,
        Ok(Err(source)) => return Err(ReadError::Store { prefix, source }),
        Err(_) => return Err(ReadError::TimedOut { prefix }),
    };
    seen.check(store, listing.revision).await?;
    let value = |key: &str| listing.entries.iter().find(|entry| &*entry.key == key).map(|entry| &entry.value);
    let text = |key: &str| match value(key).map(|bytes| std::str::from_utf8(bytes)) {
        None => Ok(None),
        Some(Ok(text)) => Ok(Some(text.to_owned())),
        Some(Err(_)) => Err(ReadError::Malformed { key: key.to_owned(), message: "is not UTF-8".to_owned() }),
    };
    let key = keys::info(cluster, address);
    let Some(info) = value(&key) else { return Ok(None) };
    let info = overlord_api::read_value(info)
        .map_err(|error| ReadError::Malformed { key, message: format!("is not readable: {error}") })?;
    let key = keys::server_conf(cluster, address);
    let server_conf =
        text(&key)?.ok_or_else(|| ReadError::Malformed { key, message: "is missing".to_owned() })?;
    // A seed that is no text is no better than any other nonsense: redis' own file counts, and nothing else here must
    // wait for it.
    let nodes_conf = value(&keys::nodes_conf(cluster, address));
    let nodes_conf = nodes_conf.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    Ok(Some(Keys { info, server_conf, nodes_conf }))
}

#[cfg(test)]
mod tests {
    use overlord_store::{MemoryStore, TokioClock, Txn};

    use super::*;

    async fn put(store: &MemoryStore, key: &str, value: &'static str) {
        store.commit(Txn::unfenced().put(key, value)).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn an_older_store_is_not_read_until_a_person_begins_the_next_generation() {
        let store = MemoryStore::new(Arc::new(TokioClock::starting_at(jiff::Timestamp::UNIX_EPOCH)));
        let instances = StoreInstances::new(Arc::new(store.clone()));
        let (cluster, address) = (ClusterName::new("orders").unwrap(), "10.0.0.1:20001".parse().unwrap());
        let read = || instances.read(&cluster, address);
        assert_eq!(instances.store_mark(), None);
        let backup = store.snapshot();
        put(&store, "/a", "1").await;
        put(&store, "/a", "2").await;
        assert!(read().await.is_ok());
        let known = StoreMark { generation: 0, revision: 3 };
        assert_eq!(instances.store_mark(), Some(known));

        store.restore(&backup);
        let refused = read().await;
        assert!(matches!(refused, Err(ReadError::WentBack { known: k, .. }) if k == known), "{refused:?}");
        // That it comes as far again makes it no newer.
        for _ in 0..5 {
            put(&store, "/b", "1").await;
        }
        assert!(matches!(read().await, Err(ReadError::WentBack { .. })));
        put(&store, keys::GENERATION, "1").await;
        assert!(read().await.is_ok());
        assert_eq!(instances.store_mark(), Some(StoreMark { generation: 1, revision: 7 }));
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_older_than_the_launch_is_not_read() {
        let store = MemoryStore::new(Arc::new(TokioClock::starting_at(jiff::Timestamp::UNIX_EPOCH)));
        let instances = StoreInstances::new(Arc::new(store));
        instances.store_was_at(StoreMark { generation: 0, revision: 40 });
        let (cluster, address) = (ClusterName::new("orders").unwrap(), "10.0.0.1:20001".parse().unwrap());
        let read = instances.read(&cluster, address);
        assert!(matches!(read.await, Err(ReadError::WentBack { .. })));
    }

    #[tokio::test(start_paused = true)]
    async fn a_seed_that_is_no_text_keeps_nobody_from_reading_the_rest() {
        let store = MemoryStore::new(Arc::new(TokioClock::starting_at(jiff::Timestamp::UNIX_EPOCH)));
        let (cluster, address) = (ClusterName::new("orders").unwrap(), "10.0.0.1:20001".parse().unwrap());
        let info = crate::instance::tests::info(overlord_api::Kind::RedisCluster, address, "01234567.3.1.9");
        let txn = Txn::unfenced()
            .put(keys::info(&cluster, address), serde_json::to_vec(&info).unwrap())
            .put(keys::server_conf(&cluster, address), "port 20001")
            .put(keys::nodes_conf(&cluster, address), vec![0, 159, 146]);
        store.commit(txn).await.unwrap();
        let keys = StoreInstances::new(Arc::new(store)).read(&cluster, address).await.unwrap().unwrap();
        assert_eq!((keys.info, keys.server_conf.as_str()), (info, "port 20001"));
    }
}
