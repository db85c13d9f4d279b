//! `meta.toml`: whose working directory this is. Written by the executor that holds the port's lock,
//! read by the next one and by people.

use serde::{Deserialize, Serialize};

use crate::Instance;

/// Its name in the working directory.
pub(crate) const FILE: &str = "meta.toml";

/// The version of [`Meta`] written by this build.
const VERSION: u32 = 1;

/// The contents of `meta.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// Version of this file, now 1.
    pub version: u32,
    /// The cluster's uid.
    pub uid: String,
    /// The member.
    pub member: u32,
    /// The member's incarnation.
    pub incarnation: u32,
    /// The cluster's name.
    pub cluster: String,
    /// The cluster's kind.
    pub kind: String,
    /// Family of the binary.
    pub engine: String,
    /// Version of the binary.
    pub engine_version: String,
    /// Where it listens.
    pub address: String,
    /// `redis_cluster`: who the node is to its peers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_id: Option<String>,
    /// `redis_cluster`: the port of its bus.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bus_port: Option<u16>,
    /// The Mesos task that last kept it.
    pub mesos_task_id: String,
    /// The command line of the server, run in this directory without a shell.
    pub start: Vec<String>,
    /// How a person stops it in order; the executor starts it again unless its Mesos task was killed first.
    pub stop: String,
}

impl Meta {
    pub(crate) fn new(instance: &Instance, start: Vec<String>) -> Self {
        let engine = instance.engine().as_str();
        Self {
            version: VERSION,
            uid: instance.uid.clone(),
            member: instance.member,
            incarnation: instance.incarnation,
            cluster: instance.cluster.to_string(),
            kind: instance.kind.as_str().to_owned(),
            engine: engine.to_owned(),
            engine_version: instance.engine_version.clone(),
            address: instance.address.to_string(),
            node_id: instance.node.map(|node| node.id.to_string()),
            bus_port: instance.node.map(|node| node.bus_port),
            mesos_task_id: instance.task_id.clone(),
            start,
            stop: format!("kill -TERM $(cat {engine}.pid)"),
        }
    }

    /// Whether the directory holds what this instance left there earlier.
    pub(crate) fn is_of(&self, instance: &Instance) -> bool {
        self.uid == instance.uid && self.member == instance.member && self.incarnation == instance.incarnation
    }

    /// The first 8 digits of the uid, for the name of a directory that is moved aside.
    pub(crate) fn uid8(&self) -> Option<&str> {
        let uid8 = self.uid.get(..8)?;
        uid8.bytes().all(|b| b.is_ascii_hexdigit()).then_some(uid8)
    }
}
