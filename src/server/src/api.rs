//! What the handlers work with, and the limits they keep.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use overlord_api::{Engine, Rules};
use overlord_store::Store;
use prometheus_client::registry::Registry;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::{controllers::Stands, program::Program};

/// Engine versions that this installation can run, by engine.
pub type Catalogue = BTreeMap<Engine, BTreeSet<String>>;

/// Limits and borders of the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiConfig {
    /// Bytes a request body may have.
    pub max_body: usize,
    /// How long a request may take. Watches are not bound by it.
    pub timeout: Duration,
    /// Requests worked on at once; more wait for [`ApiConfig::timeout`].
    pub max_requests: usize,
    /// Watches open at once; more are refused.
    pub max_watches: usize,
    /// Answer only to requests that name this machine's loopback in `Host`. On a loopback listener
    /// this keeps web pages from reaching the API under a name of their own that resolves to 127.0.0.1.
    pub loopback_only: bool,
    /// A further `host:port` that requests may name then: where something in front of the API listens for it.
    pub advertised: Option<String>,
}

impl Default for ApiConfig {
    fn default() -> Self {
        Self {
            max_body: 256 * 1024,
            timeout: Duration::from_secs(30),
            max_requests: 64,
            max_watches: 256,
            loopback_only: true,
            advertised: None,
        }
    }
}

/// Reads the time.
pub type Now = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// What the API serves from.
#[derive(Clone)]
pub struct ApiState {
    /// Everything is read from here.
    pub store: Arc<dyn Store>,
    /// The engines' rules, for validation.
    pub rules: Arc<dyn Rules + Send + Sync>,
    /// The time that requests are stamped with.
    pub now: Now,
    /// Versions that may be declared.
    pub catalogue: Catalogue,
    /// What `/metrics` shows.
    pub registry: Arc<Registry>,
    /// Ends watches.
    pub shutdown: CancellationToken,
    /// Limits.
    pub config: ApiConfig,
    /// The binary that agents may fetch, if any.
    pub program: Option<Arc<Program>>,
    /// How the controller stands that this API belongs to, if any.
    pub stands: Option<Stands>,
    pub(crate) requests: Arc<Semaphore>,
    pub(crate) watches: Arc<Semaphore>,
}

impl ApiState {
    /// A state with the default [`ApiConfig`].
    pub fn new(
        store: Arc<dyn Store>,
        rules: Arc<dyn Rules + Send + Sync>,
        now: Now,
        catalogue: Catalogue,
        registry: Arc<Registry>,
        shutdown: CancellationToken,
    ) -> Self {
        let config = ApiConfig::default();
        Self {
            store,
            rules,
            now,
            catalogue,
            registry,
            shutdown,
            program: None,
            stands: None,
            requests: Arc::new(Semaphore::new(config.max_requests)),
            watches: Arc::new(Semaphore::new(config.max_watches)),
            config,
        }
    }

    /// The same, serving a binary to agents.
    #[must_use]
    pub fn with_program(mut self, program: Option<Arc<Program>>) -> Self {
        self.program = program;
        self
    }

    /// The same, of a controller that tells how it stands.
    #[must_use]
    pub fn with_standing(mut self, stands: Stands) -> Self {
        self.stands = Some(stands);
        self
    }

    /// The same with other limits.
    #[must_use]
    pub fn with_config(mut self, config: ApiConfig) -> Self {
        self.requests = Arc::new(Semaphore::new(config.max_requests));
        self.watches = Arc::new(Semaphore::new(config.max_watches));
        self.config = config;
        self
    }
}

impl fmt::Debug for ApiState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiState")
            .field("store", &self.store)
            .field("catalogue", &self.catalogue)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
