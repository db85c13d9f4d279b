//! Key paths in etcd: the only place that spells them.

use crate::{Address, ClusterName};

/// Everything this system keeps in etcd lies below this.
pub const ROOT: &str = "/overlord/";
/// Specs as people gave them, one key a cluster.
pub const CONFIG: &str = "/overlord/config/";
/// What the leader knows of each cluster.
pub const CLUSTERS: &str = "/overlord/clusters/";
/// Requests and their progress.
pub const TASK: &str = "/overlord/task/";
/// Addresses that must not be used again yet.
pub const QUARANTINE: &str = "/overlord/quarantine/";
/// What happened lately, one folder a cluster.
pub const EVENTS: &str = "/overlord/events/";
/// The Mesos framework id.
pub const FRAMEWORK: &str = "/overlord/framework";
/// How often a person accepted an etcd that was restored from an older backup: a number, 0 when it is not there.
pub const GENERATION: &str = "/overlord/generation";
/// In which terms the store was led: what tells it from an older backup of itself.
pub const HISTORY: &str = "/overlord/history";
/// The leading controller, bound to its lease.
pub const LEADER: &str = "/overlord/leader";
/// The controllers that run, each bound to its own lease.
pub const CONTROLLERS: &str = "/overlord/controllers/";

/// `/overlord/config/<cluster>`
pub fn config(cluster: &ClusterName) -> String {
    format!("{CONFIG}{cluster}")
}

/// `/overlord/clusters/<cluster>/`, the folder of all that the leader keeps of one cluster.
pub fn cluster(cluster: &ClusterName) -> String {
    format!("{CLUSTERS}{cluster}/")
}

/// `/overlord/clusters/<cluster>/record`
pub fn record(cluster: &ClusterName) -> String {
    format!("{CLUSTERS}{cluster}/record")
}

/// `/overlord/clusters/<cluster>/status`
pub fn status(cluster: &ClusterName) -> String {
    format!("{CLUSTERS}{cluster}/status")
}

/// `/overlord/clusters/<cluster>/endpoints`
pub fn endpoints(cluster: &ClusterName) -> String {
    format!("{CLUSTERS}{cluster}/endpoints")
}

/// `/overlord/clusters/<cluster>/revisions/`
pub fn revisions(cluster: &ClusterName) -> String {
    format!("{CLUSTERS}{cluster}/revisions/")
}

/// `/overlord/clusters/<cluster>/revisions/<n>`
pub fn revision(cluster: &ClusterName, n: u64) -> String {
    format!("{CLUSTERS}{cluster}/revisions/{n}")
}

/// `/overlord/clusters/<cluster>/instances/`
pub fn instances(cluster: &ClusterName) -> String {
    format!("{CLUSTERS}{cluster}/instances/")
}

/// `/overlord/clusters/<cluster>/instances/<ip>:<port>/info`
pub fn info(cluster: &ClusterName, address: Address) -> String {
    format!("{CLUSTERS}{cluster}/instances/{address}/info")
}

/// `/overlord/clusters/<cluster>/instances/<ip>:<port>/server.conf`
pub fn server_conf(cluster: &ClusterName, address: Address) -> String {
    format!("{CLUSTERS}{cluster}/instances/{address}/server.conf")
}

/// `/overlord/clusters/<cluster>/instances/<ip>:<port>/nodes.conf`
pub fn nodes_conf(cluster: &ClusterName, address: Address) -> String {
    format!("{CLUSTERS}{cluster}/instances/{address}/nodes.conf")
}

/// `/overlord/task/<id>`
pub fn task(id: &str) -> String {
    format!("{TASK}{id}")
}

/// `/overlord/task/<id>/status`
pub fn task_status(id: &str) -> String {
    format!("{TASK}{id}/status")
}

/// `/overlord/quarantine/<ip>:<port>`
pub fn quarantine(address: Address) -> String {
    format!("{QUARANTINE}{address}")
}

/// `/overlord/events/<cluster>/`
pub fn events(cluster: &ClusterName) -> String {
    format!("{EVENTS}{cluster}/")
}

/// `/overlord/events/<cluster>/<object>.<reason>`; `object` is a member number, an address or `cluster`.
pub fn event(cluster: &ClusterName, object: &str, reason: &str) -> String {
    format!("{EVENTS}{cluster}/{object}.{reason}")
}

/// `/overlord/controllers/<id>`
pub fn controller(id: &str) -> String {
    format!("{CONTROLLERS}{id}")
}

/// What a key below [`ROOT`] is. Names that are not legal stay text, so that they can be reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key<'k> {
    /// `config/<name>`; the name as found, perhaps illegal.
    Config(&'k str),
    /// `clusters/<c>/record`
    Record(ClusterName),
    /// `clusters/<c>/status`
    Status(ClusterName),
    /// `clusters/<c>/endpoints`
    Endpoints(ClusterName),
    /// `clusters/<c>/revisions/<n>`
    Revision(ClusterName, u64),
    /// `clusters/<c>/instances/<address>/info`
    Info(ClusterName, Address),
    /// `clusters/<c>/instances/<address>/server.conf`
    ServerConf(ClusterName, Address),
    /// `clusters/<c>/instances/<address>/nodes.conf`
    NodesConf(ClusterName, Address),
    /// `task/<id>`
    Task(&'k str),
    /// `task/<id>/status`
    TaskStatus(&'k str),
    /// `quarantine/<address>`
    Quarantine(Address),
    /// `events/<c>/<object>.<reason>`
    Event(ClusterName, &'k str),
    /// `framework`
    Framework,
    /// `leader`
    Leader,
    /// `controllers/<id>`
    Controller(&'k str),
    /// Anything else below the root.
    Other,
}

impl<'k> Key<'k> {
    /// Reads a full key. Total: what is not known is [`Key::Other`].
    pub fn parse(key: &'k str) -> Self {
        if key == FRAMEWORK {
            return Self::Framework;
        }
        if key == LEADER {
            return Self::Leader;
        }
        if let Some(name) = key.strip_prefix(CONFIG) {
            return Self::Config(name);
        }
        if let Some(id) = key.strip_prefix(TASK) {
            return match id.split_once('/') {
                None if !id.is_empty() => Self::Task(id),
                Some((id, "status")) if !id.is_empty() => Self::TaskStatus(id),
                _ => Self::Other,
            };
        }
        if let Some(id) = key.strip_prefix(CONTROLLERS) {
            return if id.is_empty() || id.contains('/') { Self::Other } else { Self::Controller(id) };
        }
        if let Some(address) = key.strip_prefix(QUARANTINE) {
            return address.parse().map_or(Self::Other, Self::Quarantine);
        }
        if let Some((cluster, name)) = key.strip_prefix(EVENTS).and_then(|rest| rest.split_once('/')) {
            return ClusterName::new(cluster).map_or(Self::Other, |cluster| Self::Event(cluster, name));
        }
        key.strip_prefix(CLUSTERS).and_then(Self::below_cluster).unwrap_or(Self::Other)
    }

    fn below_cluster(rest: &'k str) -> Option<Self> {
        let (cluster, rest) = rest.split_once('/')?;
        let cluster = ClusterName::new(cluster).ok()?;
        match rest {
            "record" => return Some(Self::Record(cluster)),
            "status" => return Some(Self::Status(cluster)),
            "endpoints" => return Some(Self::Endpoints(cluster)),
            _ => {}
        }
        if let Some(n) = rest.strip_prefix("revisions/") {
            return n.parse().ok().map(|n| Self::Revision(cluster, n));
        }
        let (address, leaf) = rest.strip_prefix("instances/")?.split_once('/')?;
        let address = address.parse().ok()?;
        match leaf {
            "info" => Some(Self::Info(cluster, address)),
            "server.conf" => Some(Self::ServerConf(cluster, address)),
            "nodes.conf" => Some(Self::NodesConf(cluster, address)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_reads_back() {
        let c = ClusterName::new("orders").unwrap();
        let a: Address = "127.0.0.1:20000".parse().unwrap();
        assert_eq!(Key::parse(&config(&c)), Key::Config("orders"));
        assert_eq!(Key::parse(&record(&c)), Key::Record(c.clone()));
        assert_eq!(Key::parse(&status(&c)), Key::Status(c.clone()));
        assert_eq!(Key::parse(&endpoints(&c)), Key::Endpoints(c.clone()));
        assert_eq!(Key::parse(&revision(&c, 7)), Key::Revision(c.clone(), 7));
        assert_eq!(Key::parse(&info(&c, a)), Key::Info(c.clone(), a));
        assert_eq!(Key::parse(&server_conf(&c, a)), Key::ServerConf(c.clone(), a));
        assert_eq!(Key::parse(&nodes_conf(&c, a)), Key::NodesConf(c.clone(), a));
        assert_eq!(Key::parse(&task("t1")), Key::Task("t1"));
        assert_eq!(Key::parse(&task_status("t1")), Key::TaskStatus("t1"));
        assert_eq!(Key::parse(&quarantine(a)), Key::Quarantine(a));
        assert_eq!(Key::parse(&event(&c, "0", "Restarted")), Key::Event(c, "0.Restarted"));
        assert_eq!(Key::parse(FRAMEWORK), Key::Framework);
        assert_eq!(Key::parse(LEADER), Key::Leader);
        assert_eq!(Key::parse(&controller("h.1.t")), Key::Controller("h.1.t"));
        for other in ["/overlord/", "/other", "/overlord/clusters/x/instances/nope/info", "/overlord/task/"] {
            assert_eq!(Key::parse(other), Key::Other, "{other}");
        }
    }
}
