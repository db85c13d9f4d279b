//! The instance an executor keeps: everything of its `info` that names files, checked once, and the
//! paths made from it. No other file of this crate joins paths from what etcd or Mesos said.

use std::path::{Path, PathBuf};

use overlord_api::{Address, ClusterName, Engine, Info, Kind, OnDisk};
use overlord_engines::cluster::NodeId;

/// One instance, with every part that ends up in a path checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// The cluster.
    pub cluster: ClusterName,
    /// Where it listens.
    pub address: Address,
    /// The cluster's uid.
    pub uid: String,
    /// Which member it fills.
    pub member: u32,
    /// Which incarnation of the member.
    pub incarnation: u32,
    /// The cluster's kind.
    pub kind: Kind,
    /// Version of the binary.
    pub engine_version: String,
    /// The Mesos task.
    pub task_id: String,
    /// What happens to the directory when the instance is gone for good.
    pub on_disk: OnDisk,
    /// How often the incarnation was launched before.
    pub launches: u32,
    /// `redis_cluster`: who it is to its peers, and the port of its bus.
    pub node: Option<ClusterNode>,
}

/// A node of a redis cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClusterNode {
    /// Its id.
    pub id: NodeId,
    /// The port of its bus.
    pub bus_port: u16,
}

/// Why an `info` is not kept by this executor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InstanceError {
    /// The address was given to another Mesos task.
    #[error("{address} belongs to Mesos task {owner}, this is {task}")]
    OtherTask {
        /// The address.
        address: Address,
        /// Whose it is.
        owner: String,
        /// Who asks.
        task: String,
    },
    /// The value below the address names another one.
    #[error("the info of {address} names {named}")]
    OtherAddress {
        /// The key's address.
        address: Address,
        /// The value's.
        named: Address,
    },
    /// What a node of a redis cluster must have, and has not.
    #[error("the info of {address} has no usable {what}: {found:?}")]
    Node {
        /// The address.
        address: Address,
        /// What is missing.
        what: &'static str,
        /// What is there instead.
        found: String,
    },
    /// A part that must not become part of a path.
    #[error("{what} {text:?} is not usable in a path")]
    Unusable {
        /// Which part.
        what: &'static str,
        /// Its text.
        text: String,
    },
}

impl Instance {
    /// The instance of `info`, for the Mesos task `task_id`.
    pub fn new(
        cluster: &ClusterName,
        address: Address,
        task_id: &str,
        info: &Info,
    ) -> Result<Self, InstanceError> {
        if info.mesos_task_id != task_id {
            let owner = info.mesos_task_id.clone();
            return Err(InstanceError::OtherTask { address, owner, task: task_id.to_owned() });
        }
        if info.address() != address {
            return Err(InstanceError::OtherAddress { address, named: info.address() });
        }
        let node = match info.kind {
            Kind::Redis | Kind::Memcache => None,
            Kind::RedisCluster => Some(cluster_node(address, info)?),
        };
        if info.uid.len() != 32 || !info.uid.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(InstanceError::Unusable { what: "uid", text: info.uid.clone() });
        }
        plain("engine version", &info.engine_version)?;
        plain("Mesos task id", task_id)?;
        Ok(Self {
            cluster: cluster.clone(),
            address,
            uid: info.uid.clone(),
            member: info.member,
            incarnation: info.incarnation,
            kind: info.kind,
            engine_version: info.engine_version.clone(),
            task_id: task_id.to_owned(),
            on_disk: info.on_disk,
            launches: info.launches,
            node,
        })
    }

    /// Family of the binary.
    pub const fn engine(&self) -> Engine {
        self.kind.engine()
    }
}

fn cluster_node(address: Address, info: &Info) -> Result<ClusterNode, InstanceError> {
    let missing = |what, found: String| InstanceError::Node { address, what, found };
    let text = info.node_id.as_deref().unwrap_or_default();
    let id = text.parse().map_err(|_| missing("nodeId", text.chars().take(60).collect()))?;
    // As redis below 7.0 has it.
    let bus_port = info.bus_port.or_else(|| address.port.checked_add(10_000));
    let bus_port = bus_port.filter(|port| *port != 0 && *port != address.port);
    Ok(ClusterNode {
        id,
        bus_port: bus_port.ok_or_else(|| missing("busPort", format!("{:?}", info.bus_port)))?,
    })
}

/// One path component without surprises: no separator, no leading dot, no blank.
fn plain(what: &'static str, text: &str) -> Result<(), InstanceError> {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if text.is_empty() || text.len() > 200 || text.starts_with(['.', '-']) || !text.bytes().all(good) {
        return Err(InstanceError::Unusable { what, text: text.chars().take(200).collect() });
    }
    Ok(())
}

/// Where things lie below an agent's data root.
#[derive(Debug, Clone)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// Paths below `root`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The data root.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// `<root>/<kind>`, which holds one directory a port.
    pub fn kind_dir(&self, instance: &Instance) -> PathBuf {
        self.root.join(instance.kind.as_str())
    }

    /// `<root>/<kind>/<port>`
    pub fn work_dir(&self, instance: &Instance) -> PathBuf {
        self.kind_dir(instance).join(instance.address.port.to_string())
    }

    /// Beside the working directory, because that may be moved away while the lock is held.
    pub fn lock(&self, instance: &Instance) -> PathBuf {
        self.kind_dir(instance).join(format!(".{}.lock", instance.address.port))
    }

    /// `redis.conf` or `memcache.conf`
    pub fn conf(&self, instance: &Instance) -> PathBuf {
        self.work_dir(instance).join(format!("{}.conf", instance.engine().as_str()))
    }

    /// `nodes.conf`, which belongs to redis.
    pub fn nodes_conf(&self, instance: &Instance) -> PathBuf {
        self.work_dir(instance).join("nodes.conf")
    }

    /// `redis.pid` or `memcache.pid`
    pub fn pid_file(&self, instance: &Instance) -> PathBuf {
        self.work_dir(instance).join(format!("{}.pid", instance.engine().as_str()))
    }

    /// `console.log`
    pub fn console(&self, instance: &Instance) -> PathBuf {
        self.work_dir(instance).join("console.log")
    }

    /// `meta.toml`
    pub fn meta(&self, instance: &Instance) -> PathBuf {
        self.work_dir(instance).join(crate::meta::FILE)
    }

    /// `<root>/var/overlord/tmp/<mesos task id>`
    pub fn scratch(&self, instance: &Instance) -> PathBuf {
        self.root.join("var/overlord/tmp").join(&instance.task_id)
    }

    /// `<root>/lib/<engine>/<version>/bin`
    pub fn binary_dir(&self, instance: &Instance) -> PathBuf {
        let engine = instance.engine();
        self.root.join("lib").join(engine.as_str()).join(&instance.engine_version).join("bin")
    }

    /// `<root>/lib/redis/<version>/bin/redis-server` or `<root>/lib/memcache/<version>/bin/memcached`
    pub fn binary(&self, instance: &Instance) -> PathBuf {
        self.binary_dir(instance).join(instance.engine().binary())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use overlord_api::{Desired, INFO_VERSION, Observed, Resources, State};

    use super::*;

    /// A plain info for tests.
    pub(crate) fn info(kind: Kind, address: Address, task: &str) -> Info {
        Info {
            version: INFO_VERSION,
            uid: "0123456789abcdef0123456789abcdef".to_owned(),
            member: 3,
            incarnation: 1,
            kind,
            engine: kind.engine(),
            engine_version: if kind == Kind::Memcache { "1.6.18" } else { "7.0.15" }.to_owned(),
            ip: address.ip,
            port: address.port,
            bus_port: None,
            host: address.ip.to_string(),
            rack: None,
            zone: None,
            agent_id: "agent".to_owned(),
            mesos_task_id: task.to_owned(),
            node_id: (kind == Kind::RedisCluster)
                .then(|| "07c37dfeb235213a872192d90877d0cd55635b91".to_owned()),
            shard: None,
            alias: "c-3".to_owned(),
            weight: 1,
            resources: Resources { cpu_millis: 100, memory: 64 << 20, disk: 0 },
            on_disk: OnDisk::Delete,
            on_agent_loss: overlord_api::OnAgentLoss::Keep,
            launches: 0,
            template: None,
            desired: Desired { state: State::Running, config: 1, restart: 0, recover: 0 },
            observed: Observed::pending(jiff::Timestamp::UNIX_EPOCH),
        }
    }

    fn made(change: impl FnOnce(&mut Info)) -> Result<Instance, InstanceError> {
        let address: Address = "127.0.0.1:20001".parse().unwrap();
        let mut info = info(Kind::Redis, address, "01234567.3.1.9");
        change(&mut info);
        Instance::new(&ClusterName::new("orders").unwrap(), address, "01234567.3.1.9", &info)
    }

    #[test]
    fn paths_are_those_of_the_design() {
        let layout = Layout::new("/data");
        let instance = made(|_| ()).unwrap();
        assert_eq!(layout.work_dir(&instance), Path::new("/data/redis/20001"));
        assert_eq!(layout.conf(&instance), Path::new("/data/redis/20001/redis.conf"));
        assert_eq!(layout.pid_file(&instance), Path::new("/data/redis/20001/redis.pid"));
        assert_eq!(layout.scratch(&instance), Path::new("/data/var/overlord/tmp/01234567.3.1.9"));
        assert_eq!(layout.binary(&instance), Path::new("/data/lib/redis/7.0.15/bin/redis-server"));
    }

    #[test]
    fn nothing_that_leaves_its_folder_becomes_a_path() {
        for version in ["", "..", "../7", "7/0", ".7", "7 0", "7\n"] {
            let error = made(|info| info.engine_version = version.to_owned()).unwrap_err();
            assert!(
                matches!(error, InstanceError::Unusable { what: "engine version", .. }),
                "{version:?}: {error}"
            );
        }
        assert!(matches!(made(|info| info.uid = "x".repeat(32)), Err(InstanceError::Unusable { .. })));
    }

    #[test]
    fn the_owner_of_a_taken_address_is_named() {
        let error = made(|info| info.mesos_task_id = "other.0.0.1".to_owned()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "127.0.0.1:20001 belongs to Mesos task other.0.0.1, this is 01234567.3.1.9"
        );
        assert!(matches!(made(|info| info.port = 1), Err(InstanceError::OtherAddress { .. })));
    }

    #[test]
    fn a_node_of_a_cluster_has_an_id_and_a_bus() {
        let id = "07c37dfeb235213a872192d90877d0cd55635b91";
        let node = |node_id: Option<&str>, bus_port| {
            made(|info| {
                info.kind = Kind::RedisCluster;
                info.node_id = node_id.map(str::to_owned);
                info.bus_port = bus_port;
            })
        };
        let made = node(Some(id), Some(21_001)).unwrap();
        assert_eq!(made.node, Some(ClusterNode { id: id.parse().unwrap(), bus_port: 21_001 }));
        assert_eq!(Layout::new("/data").nodes_conf(&made), Path::new("/data/redis_cluster/20001/nodes.conf"));
        assert_eq!(node(Some(id), None).unwrap().node.unwrap().bus_port, 30_001);
        for (node_id, bus_port, what) in
            [(None, None, "nodeId"), (Some("x"), None, "nodeId"), (Some(id), Some(20_001), "busPort")]
        {
            let error = node(node_id, bus_port).unwrap_err();
            assert!(error.to_string().contains(what), "{error}");
        }
    }
}
