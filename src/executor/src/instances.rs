//! etcd as an executor sees it: its own keys, read in one go, with no standing connection. Thousands
//! of executors must not hold thousands of streams.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use overlord_api::{Address, ClusterName, History, Info, Sighting, StoreMark, keys, read_value};
use overlord_store::{Error, EtcdConfig, EtcdStore, Fetch, Listing, Store};

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
    /// What is read is older than what was read before, or than the store in which the launch was recorded; or it has
    /// come as far again on another way.
    #[error(
        "etcd is at {found} and is not the one that was at {known}: it was restored from an older backup, and is not \
         followed until a person accepts it"
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

    /// What is known here of how far the store was.
    fn seen(&self) -> Option<Sighting> {
        None
    }
}

/// How far the store was, and whether it went back since.
#[derive(Debug, Default)]
struct Seen {
    last: Sighting,
    /// When each info was written that was read: a later read never finds it older.
    infos: BTreeMap<String, i64>,
}

/// What was seen before a read began.
struct Before {
    last: Sighting,
    info_at: Option<i64>,
}

/// The same, shared by all that read through one [`Instances`].
#[derive(Debug, Clone, Default)]
struct HighWater(Arc<Mutex<Seen>>);

impl HighWater {
    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn raise(&self, mark: StoreMark) {
        let last = &mut self.lock().last;
        if mark > last.mark {
            (last.mark, last.term) = (mark, None);
        }
    }

    fn before(&self, info: &str) -> Before {
        let seen = self.lock();
        Before { last: seen.last, info_at: seen.infos.get(info).copied() }
    }

    fn seen(&self) -> Option<Sighting> {
        Some(self.lock().last).filter(|last| last.mark != StoreMark::default())
    }

    /// Refuses what was read, `listing` after `history`, when it is of another past than what was seen `before` it was
    /// asked for: another read may have overtaken it. Once the store went back, it stays refused, however far it comes,
    /// until a person begins the next generation.
    async fn check(
        &self,
        store: &dyn Store,
        before: Before,
        history: Option<&Listing>,
        info: &str,
        listing: &Listing,
    ) -> Result<(), ReadError> {
        let told = history.and_then(|history| history.entries.first());
        let written = told.map_or(0, |entry| entry.mod_revision);
        let chronicle: Option<History> = told.and_then(|entry| read_value(&entry.value).ok());
        let info_at =
            listing.entries.iter().find(|entry| &*entry.key == info).map(|entry| entry.mod_revision);
        {
            let mut seen = self.lock();
            let Before { last, info_at: info_before } = before;
            let first_read = history.map_or(listing.revision, |history| history.revision);
            let denied = match (last.term, &chronicle) {
                (Some(term), Some(chronicle)) => chronicle.denies(written, term, last.mark.revision),
                // It was there.
                (Some(_), None) => history.is_some() && told.is_none(),
                (None, _) => false,
            };
            let older = info_at.zip(info_before).is_some_and(|(now, before)| now < before);
            let earlier = first_read < last.mark.revision || listing.revision < first_read;
            // Else it was accepted meanwhile.
            let same = seen.last.mark.generation == last.mark.generation;
            seen.last.went_back |= same && (denied || older || earlier);
            if !seen.last.went_back {
                let term = chronicle.as_ref().and_then(History::last);
                let generation = term.map_or(0, |term| term.generation).max(last.mark.generation);
                let mark = StoreMark { generation, revision: first_read };
                if mark >= seen.last.mark {
                    (seen.last.mark, seen.last.term) = (mark, term.map(|term| term.id));
                }
                if let Some(at) = info_at {
                    let latest = seen.infos.entry(info.to_owned()).or_default();
                    *latest = at.max(*latest);
                }
                return Ok(());
            }
        }
        let found = get(store, keys::GENERATION).await?;
        let text = found.entries.first().map(|entry| String::from_utf8_lossy(&entry.value).into_owned());
        let generation = text.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        let found = StoreMark { generation, revision: listing.revision };
        let mut seen = self.lock();
        if generation <= seen.last.mark.generation {
            return Err(ReadError::WentBack { known: seen.last.mark, found });
        }
        // What is told of its terms is read again next time.
        *seen = Seen { last: Sighting { mark: found, ..Sighting::default() }, ..Seen::default() };
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

    fn seen(&self) -> Option<Sighting> {
        self.seen.seen()
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

    fn seen(&self) -> Option<Sighting> {
        self.seen.seen()
    }
}

fn prefix(cluster: &ClusterName, address: Address) -> String {
    format!("{}{address}/", keys::instances(cluster))
}

async fn get(store: &dyn Store, key: &str) -> Result<Listing, ReadError> {
    let prefix = key.to_owned();
    match tokio::time::timeout(READ_TIMEOUT, store.get(key)).await {
        Ok(Ok(listing)) => Ok(listing),
        Ok(Err(source)) => Err(ReadError::Store { prefix, source }),
        Err(_) => Err(ReadError::TimedOut { prefix }),
    }
}

async fn read(
    store: &dyn Store,
    seen: &HighWater,
    cluster: &ClusterName,
    address: Address,
) -> Result<Option<Keys>, ReadError> {
    let prefix = prefix(cluster, address);
    let key = keys::info(cluster, address);
    let before = seen.before(&key);
    let history = match get(store, keys::HISTORY).await {
        Ok(history) => Some(history),
        // A user of etcd that may read instances only sees less, and goes on with that.
        Err(ReadError::Store { source: Error::Denied(_), .. }) => None,
        Err(error) => return Err(error),
    };
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
    seen.check(store, before, history.as_ref(), &key, &listing).await?;
    let Some(info) = value(&key) else { return Ok(None) };
    let info = read_value(info)
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
    use overlord_api::TermId;
    use overlord_store::{MemoryStore, TokioClock, Txn};

    use super::*;

    async fn put(store: &MemoryStore, key: &str, value: &'static str) {
        store.commit(Txn::unfenced().put(key, value)).await.unwrap();
    }

    fn world() -> (MemoryStore, StoreInstances, ClusterName, Address) {
        let store = MemoryStore::new(Arc::new(TokioClock::starting_at(jiff::Timestamp::UNIX_EPOCH)));
        let instances = StoreInstances::new(Arc::new(store.clone()));
        (store, instances, ClusterName::new("orders").unwrap(), "10.0.0.1:20001".parse().unwrap())
    }

    /// A leader begins.
    async fn led(store: &MemoryStore, id: u64, generation: u64) {
        let listing = store.get(keys::HISTORY).await.unwrap();
        let before = listing.entries.first();
        let history = before.map_or_else(|| History::new(true), |entry| read_value(&entry.value).unwrap());
        let next = history.with(TermId(id), generation, before.map_or(0, |entry| entry.mod_revision));
        store.commit(Txn::unfenced().put(keys::HISTORY, serde_json::to_vec(&next).unwrap())).await.unwrap();
    }

    fn sighting(generation: u64, revision: i64, term: Option<u64>) -> Sighting {
        let mark = StoreMark { generation, revision };
        Sighting { mark, term: term.map(TermId), went_back: false }
    }

    #[tokio::test(start_paused = true)]
    async fn an_older_store_is_denied_although_it_has_come_as_far_again() {
        let (store, instances, cluster, address) = world();
        led(&store, 1, 0).await;
        let backup = store.snapshot();
        put(&store, "/a", "1").await;
        let read = async || instances.read(&cluster, address).await.map(|_| ());
        assert!(read().await.is_ok());
        assert_eq!(instances.seen(), Some(sighting(0, 3, Some(1))));
        led(&store, 2, 0).await;
        assert!(read().await.is_ok(), "the store itself, led by another");
        assert_eq!(instances.seen(), Some(sighting(0, 4, Some(2))));

        store.restore(&backup);
        led(&store, 3, 0).await;
        for _ in 0..9 {
            put(&store, "/b", "1").await;
        }
        assert!(matches!(read().await, Err(ReadError::WentBack { .. })));
        assert!(instances.seen().unwrap().went_back);
        put(&store, keys::GENERATION, "1").await;
        led(&store, 4, 1).await;
        assert!(read().await.is_ok() && read().await.is_ok());
        assert_eq!(instances.seen(), Some(sighting(1, 14, Some(4))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_that_another_one_overtakes_is_no_sign_of_an_older_store() {
        let (store, instances, cluster, address) = world();
        let info = keys::info(&cluster, address);
        put(&store, &info, "{}").await;
        led(&store, 1, 0).await;
        let early = (instances.seen.before(&info), store.get(keys::HISTORY).await.unwrap());
        let listing = store.list(&prefix(&cluster, address), Fetch::Values).await.unwrap();
        put(&store, &info, "{ }").await;
        led(&store, 2, 0).await;
        let overtakes = instances.read(&cluster, address).await;
        assert!(matches!(overtakes, Err(ReadError::Malformed { .. })), "{overtakes:?}");
        let late = instances.seen.check(&store, early.0, Some(&early.1), &info, &listing).await;
        assert!(late.is_ok(), "{late:?}");
        assert_eq!(instances.seen(), Some(sighting(0, 5, Some(2))), "and what was seen later is kept");
    }

    #[tokio::test(start_paused = true)]
    async fn an_info_that_became_older_tells_it_where_nobody_led_meanwhile() {
        let (store, instances, cluster, address) = world();
        let info = keys::info(&cluster, address);
        put(&store, &info, "{}").await;
        let backup = store.snapshot();
        put(&store, &info, "{ }").await;
        let read =
            async || matches!(instances.read(&cluster, address).await, Err(ReadError::WentBack { .. }));
        assert!(!read().await);
        store.restore(&backup);
        for _ in 0..9 {
            put(&store, "/b", "1").await;
        }
        assert!(read().await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_history_that_is_damaged_denies_nothing_and_one_that_is_gone_does() {
        let (store, instances, cluster, address) = world();
        led(&store, 1, 0).await;
        let read = async || instances.read(&cluster, address).await.is_ok();
        assert!(read().await);
        put(&store, keys::HISTORY, "nonsense").await;
        assert!(read().await);
        assert_eq!(instances.seen(), Some(sighting(0, 3, None)));
        let (store, instances, ..) = world();
        let read = async || instances.read(&cluster, address).await.is_ok();
        led(&store, 1, 0).await;
        assert!(read().await);
        store.commit(Txn::unfenced().delete(keys::HISTORY)).await.unwrap();
        assert!(!read().await);
    }

    #[tokio::test(start_paused = true)]
    async fn an_older_store_is_not_read_until_a_person_begins_the_next_generation() {
        let store = MemoryStore::new(Arc::new(TokioClock::starting_at(jiff::Timestamp::UNIX_EPOCH)));
        let instances = StoreInstances::new(Arc::new(store.clone()));
        let (cluster, address) = (ClusterName::new("orders").unwrap(), "10.0.0.1:20001".parse().unwrap());
        let read = || instances.read(&cluster, address);
        assert_eq!(instances.seen(), None);
        let backup = store.snapshot();
        put(&store, "/a", "1").await;
        put(&store, "/a", "2").await;
        assert!(read().await.is_ok());
        let known = StoreMark { generation: 0, revision: 3 };
        assert_eq!(instances.seen(), Some(sighting(0, 3, None)));

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
        assert_eq!(instances.seen(), Some(sighting(1, 7, None)));
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
