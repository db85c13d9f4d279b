//! What is measured: the binaries of this machine, and the clusters that are declared.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

use overlord_api::{Kind, Resources};
use overlord_engines::version_of;
use overlord_reconcile::SystemClock;
use tempfile::TempDir;

use crate::{Failure, options::Options};

/// What every measurement needs.
#[derive(Debug)]
pub(crate) struct Setup {
    pub(crate) overlord: PathBuf,
    pub(crate) clock: SystemClock,
    servers: BTreeMap<Kind, Server>,
    /// Removed in the end only: ext4 makes new files slowly for a while after many were removed.
    scratch: TempDir,
    folders: AtomicU32,
}

/// A cache server's binary.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    pub(crate) binary: PathBuf,
    pub(crate) version: String,
}

/// A cluster to be measured.
#[derive(Debug, Clone)]
pub(crate) struct Pool {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) instances: usize,
    pub(crate) resources: Resources,
}

const MIB: u64 = 1 << 20;

impl Setup {
    pub(crate) fn find(options: &Options) -> Result<Self, Failure> {
        let overlord = match &options.binary {
            Some(path) => path.clone(),
            None => std::env::current_exe()?.with_file_name("overlord"),
        };
        let overlord = overlord.canonicalize().map_err(|error| {
            format!("{}: {error}; build it with `cargo build --release --bin overlord`", overlord.display())
        })?;
        let redis = server("redis-server")?;
        let servers = [
            (Kind::Redis, redis.clone()),
            (Kind::RedisCluster, redis),
            (Kind::Memcache, server("memcached")?),
        ]
        .into();
        let scratch = tempfile::Builder::new().prefix("overlord-bench-").tempdir()?;
        Ok(Self { overlord, clock: SystemClock::new(), servers, scratch, folders: AtomicU32::new(0) })
    }

    /// A new folder.
    pub(crate) fn folder(&self) -> Result<PathBuf, Failure> {
        let path = self.scratch.path().join(self.folders.fetch_add(1, Ordering::Relaxed).to_string());
        std::fs::create_dir(&path)?;
        Ok(path)
    }

    pub(crate) fn server(&self, kind: Kind) -> Result<&Server, Failure> {
        self.servers.get(&kind).ok_or_else(|| format!("no server is known for {kind}").into())
    }

    /// What people would write.
    pub(crate) fn manifest(&self, pool: &Pool) -> Result<String, Failure> {
        let Pool { name, kind, instances, resources } = pool;
        let spread = "placement:\n    spread: [{by: host, rule: preferred}]";
        let (size, rest) = match kind {
            Kind::Redis => (format!("shards: {instances}"), spread),
            // Its rules for hosts are not a matter of choice.
            Kind::RedisCluster => {
                (format!("masters: {}\n  replicasPerMaster: 1", instances / 2), "placement: {}")
            }
            Kind::Memcache => (format!("instances: {instances}"), spread),
        };
        Ok(format!(
            "apiVersion: overlord/v1\nkind: {}\nmetadata:\n  name: {name}\nspec:\n  version: \"{}\"\n  {size}\n  \
             resources: {{cpu: \"{}\", memory: {}Mi, disk: {}Mi}}\n  {rest}\n",
            kind.manifest_kind(),
            self.server(*kind)?.version,
            f64::from(resources.cpu_millis) / 1000.0,
            resources.memory / MIB,
            resources.disk / MIB,
        ))
    }
}

impl Pool {
    /// A pool of so many instances, the smallest there are, so that a hundred fit.
    pub(crate) const fn of(name: &'static str, kind: Kind, instances: usize) -> Self {
        let memory = match kind {
            Kind::Redis | Kind::RedisCluster => 16 * MIB,
            Kind::Memcache => 32 * MIB,
        };
        let resources = Resources { cpu_millis: 20, memory, disk: 16 * MIB };
        Self { name, kind, instances, resources }
    }

    /// A redis cluster of so many masters, each with a replica.
    pub(crate) fn cluster(masters: u16) -> Self {
        Self::of("formed", Kind::RedisCluster, 2 * usize::from(masters))
    }
}

/// A program of this machine.
pub(crate) fn program(name: &str) -> Result<PathBuf, Failure> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let binary = std::env::split_paths(&path).map(|folder| folder.join(name)).find(|path| path.is_file());
    binary.ok_or_else(|| format!("{name} is not in PATH: `make deps` installs it").into())
}

fn server(name: &str) -> Result<Server, Failure> {
    let binary = program(name)?;
    let version = version(&binary).map_err(|error| format!("{} --version: {error}", binary.display()))?;
    Ok(Server { binary, version })
}

fn version(binary: &Path) -> Result<String, Failure> {
    let output = Command::new(binary).arg("--version").output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    version_of(&text).ok_or_else(|| format!("it says {text:?}").into())
}
