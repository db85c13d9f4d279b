//! What the simulated person declares.

use std::{collections::BTreeMap, fmt};

use overlord_api::{ClusterName, Kind};

use crate::world::version;

/// A pool as it is declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pool {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) members: u32,
    /// Of a cluster of redis nodes: copies of each master.
    pub(crate) replicas: u32,
    pub(crate) config: BTreeMap<&'static str, String>,
    /// Whether it writes an append-only file.
    pub(crate) durable: bool,
}

/// Names that pools may have here.
pub(crate) const NAMES: [&str; 4] = ["cart", "ledger", "page", "image"];

impl Pool {
    /// The pool of that name, as it is declared first.
    pub(crate) fn new(name: &'static str, members: u32) -> Self {
        let kind = if matches!(name, "page" | "image") { Kind::Memcache } else { Kind::Redis };
        Self { name, kind, members, replicas: 0, config: BTreeMap::new(), durable: name == "ledger" }
    }

    /// A cluster of redis nodes: its own majority finds a dead node within seconds.
    pub(crate) fn nodes(name: &'static str, masters: u32, replicas: u32) -> Self {
        let (kind, members) = (Kind::RedisCluster, masters * (1 + replicas));
        let pool = Self { name, kind, members, replicas, config: BTreeMap::new(), durable: false };
        pool.with("cluster-node-timeout", 2000)
    }

    /// How many masters a cluster of redis nodes has.
    pub(crate) const fn masters(&self) -> u32 {
        self.members / (1 + self.replicas)
    }

    /// With an append-only file.
    pub(crate) fn durable(mut self) -> Self {
        self.durable = true;
        self
    }

    /// With another value of a directive.
    pub(crate) fn with(mut self, directive: &'static str, value: impl ToString) -> Self {
        self.config.insert(directive, value.to_string());
        self
    }

    /// With another number of members.
    pub(crate) fn sized(mut self, members: u32) -> Self {
        self.members = members;
        self
    }

    /// The cluster of that name.
    pub(crate) fn cluster(name: &str) -> ClusterName {
        ClusterName::new(name).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// The text that is put into the store.
    pub(crate) fn manifest(&self) -> String {
        let size = match self.kind {
            Kind::Redis => format!("shards: {}", self.members),
            Kind::RedisCluster => {
                format!("masters: {}\n  replicasPerMaster: {}", self.masters(), self.replicas)
            }
            Kind::Memcache => format!("instances: {}", self.members),
        };
        // Nodes hand over before they are restarted: nothing has to be lost.
        let loses = self.kind != Kind::RedisCluster;
        let config: Vec<String> =
            self.config.iter().map(|(name, value)| format!("{name}: \"{value}\"")).collect();
        let persistence = if self.durable { "  persistence: {mode: aof}\n" } else { "" };
        format!(
            "apiVersion: overlord/v1\nkind: {}\nmetadata:\n  name: {}\nspec:\n  version: \"{}\"\n  {size}\n  \
             resources: {{cpu: \"0.1\", memory: 64Mi, disk: 64Mi}}\n  config: {{{}}}\n{persistence}  \
             update: {{minReady: 1s, allowDataLoss: {loses}}}\n  recovery: {{replaceAfter: 1m}}\n",
            self.kind.manifest_kind(),
            self.name,
            version(self.kind),
            config.join(", "),
        )
    }
}

impl fmt::Display for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} with {} members {:?}", self.name, self.members, self.config)
    }
}
