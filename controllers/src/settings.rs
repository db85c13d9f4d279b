//! What a controller must be told: who it is, how its executors are started, which binaries exist.

use std::{collections::BTreeMap, fmt::Write as _, path::PathBuf, sync::Arc, time::Duration};

use overlord_api::{Engine, InstalledRules, Kind};
use overlord_engines::EngineRules;

/// Settings of one controller process. Built by the binary from file, variables and flags.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Who this process is, for people: host name and process id.
    pub id: String,
    /// Where its API answers to others: `http://ip:port`.
    pub api: String,
    /// What it tells Mesos of itself.
    pub framework: Framework,
    /// How executors are started.
    pub executor: Executor,
    /// Engine versions that can be run.
    pub catalogue: Catalogue,
    /// Lease of the leader key. A dead leader is replaced after this long.
    pub lease: Duration,
    /// Where the highest store revision ever seen is kept, so that a store restored from an older
    /// backup is noticed. `None`: not kept.
    pub state_file: Option<PathBuf>,
    /// With more clusters than this whose config key is gone at once, none of them is deleted.
    pub deletion_ceiling: usize,
    /// How long an address is not used again after its instance is gone.
    pub quarantine: Duration,
    /// Whether the bus of a redis older than 7.0 may take data port + 10000 without that port being offered.
    pub unreserved_bus_port: bool,
    /// How many reconciles run at once.
    pub concurrency: usize,
    /// How often every cluster is looked at although nothing changed.
    pub resync: Duration,
}

impl Settings {
    /// Settings with every default, for a controller called `id` whose executors run `executor`.
    pub fn new(id: impl Into<String>, executor: Executor, catalogue: Catalogue) -> Self {
        Self {
            id: id.into(),
            api: String::from("http://127.0.0.1:8880"),
            framework: Framework::default(),
            executor,
            catalogue,
            lease: Duration::from_secs(10),
            state_file: None,
            deletion_ceiling: 5,
            quarantine: Duration::from_secs(120),
            unreserved_bus_port: false,
            concurrency: 32,
            resync: Duration::from_secs(300),
        }
    }
}

impl Settings {
    /// By what executors are started now: a digest of all that makes a difference on the agent. Where they fetch
    /// their binary from is none of it, as that changes with the leader; what they fetch is.
    pub fn template(&self) -> String {
        let Executor { program, etcd, etcd_credentials, environment } = &self.executor;
        let binary = match program {
            // The path says nothing of what lies there: it came with this version of the program.
            Program::Installed(path) => format!("{path} {}", env!("CARGO_PKG_VERSION")),
            Program::Fetched { sha256, .. } => sha256.to_string(),
        };
        let text = format!(
            "{binary}\n{etcd:?}\n{etcd_credentials:?}\n{environment:?}\n{EXECUTOR_CPU_MILLIS} {EXECUTOR_MEMORY}"
        );
        crate::digest(text.as_bytes()).iter().take(6).fold(String::with_capacity(12), |mut text, byte| {
            // Writing to a string does not fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}

/// What the controller tells Mesos of itself.
#[derive(Debug, Clone)]
pub struct Framework {
    /// For people.
    pub name: String,
    /// User that executors run as.
    pub user: String,
    /// Roles it takes offers of.
    pub roles: Vec<String>,
    /// How long Mesos keeps everything running while no controller is subscribed.
    pub failover_timeout: Duration,
    /// Who it is, when Mesos authenticates frameworks.
    pub principal: Option<String>,
}

impl Default for Framework {
    fn default() -> Self {
        Self {
            name: String::from("overlord"),
            user: String::from("root"),
            roles: vec![String::from("*")],
            // Three weeks: longer than any outage a person has not noticed.
            failover_timeout: Duration::from_secs(21 * 24 * 3600),
            principal: None,
        }
    }
}

/// How executors are started on agents.
#[derive(Debug, Clone)]
pub struct Executor {
    /// Where agents have the `overlord` binary from.
    pub program: Program,
    /// etcd endpoints as the agents reach them.
    pub etcd: Vec<String>,
    /// A file on the agents with etcd credentials (read-only ones), when etcd asks for them.
    pub etcd_credentials: Option<String>,
    /// Environment given to executors besides what Mesos sets.
    pub environment: BTreeMap<String, String>,
}

/// Where agents have the `overlord` binary from. It is needed when an executor is launched, and never after: those
/// that run stay as they are, whatever becomes of the controllers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Program {
    /// It lies on each of them, at this path.
    Installed(String),
    /// Mesos' fetcher brings it into the sandbox of each executor, by way of the agent's cache.
    Fetched {
        /// What the agents' fetcher understands; `http://` mostly.
        url: String,
        /// What must arrive, or nothing is executed.
        sha256: Sha256,
    },
}

/// A SHA-256 digest: 64 lower-case hex digits, and nothing else, as it becomes part of a command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sha256(String);

impl Sha256 {
    /// Reads one.
    pub fn parse(text: &str) -> Option<Self> {
        let is_digest = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_digest.then(|| Self(text.to_ascii_lowercase()))
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Sha256 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.0)
    }
}

/// CPU that an executor takes of its agent besides its instance's, in thousandths of a core.
pub const EXECUTOR_CPU_MILLIS: u32 = 50;

/// Memory that an executor takes of its agent besides its instance's, in bytes.
pub const EXECUTOR_MEMORY: u64 = 32 * 1024 * 1024;

/// Agent attribute that overrides the address instances are reached at.
pub const ATTRIBUTE_IP: &str = "overlord_ip";

/// Agent attribute that says where instances keep their files.
pub const ATTRIBUTE_DATA: &str = "overlord_data";

/// Data root of agents without [`ATTRIBUTE_DATA`].
pub const DEFAULT_DATA_ROOT: &str = "/data";

/// Label of Mesos tasks: the cluster's name.
pub const LABEL_CLUSTER: &str = "overlord_cluster";

/// Label of Mesos tasks: the cluster's kind.
pub const LABEL_KIND: &str = "overlord_kind";

/// Label of Mesos tasks: the member's number.
pub const LABEL_MEMBER: &str = "overlord_member";

/// Label of Mesos tasks: the [`overlord_api::StoreMark`] at launch, a high-water mark that survives the store. The
/// executor reads it, and tells it with its reports.
pub const LABEL_REVISION: &str = "overlord_store_revision";

/// Engine versions that can be run, by engine and version.
#[derive(Debug, Clone, Default)]
pub struct Catalogue {
    /// What is known of each.
    pub engines: BTreeMap<Engine, BTreeMap<String, Binary>>,
}

impl Catalogue {
    /// The versions of one engine, in order.
    pub fn versions(&self, engine: Engine) -> Vec<String> {
        self.engines.get(&engine).map(|versions| versions.keys().cloned().collect()).unwrap_or_default()
    }

    /// What specs may say here: the engines' rules, for these versions and the kinds that are run.
    pub fn rules(&self) -> InstalledRules {
        let versions = |versions: &BTreeMap<String, Binary>| versions.keys().cloned().collect();
        let versions = self.engines.iter().map(|(engine, of)| (*engine, versions(of))).collect();
        InstalledRules::new(
            Arc::new(EngineRules),
            versions,
            [Kind::Redis, Kind::RedisCluster, Kind::Memcache],
        )
    }

    /// One entry.
    pub fn get(&self, engine: Engine, version: &str) -> Option<&Binary> {
        self.engines.get(&engine)?.get(version)
    }
}

/// Where a binary comes from. In either case it lies at
/// `<data root>/lib/<engine>/<version>/bin/<binary>` on the agents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Binary {
    /// Put there by the operator.
    Preinstalled,
    /// Fetched by the first executor that needs it.
    Download {
        /// `http` or `https`.
        url: String,
        /// Lower-case hex.
        sha256: String,
    },
}
