//! What end-to-end tests and the benchmark share: a real sandbox, started from the real binary, that
//! leaves nothing behind, and a checker of what redis clusters keep.

mod cache;
mod cluster;
mod link;
mod network;
mod observe;
mod process;
mod sandbox;
mod strike;
mod stub;
mod wait;

pub use cache::{Memcached, Redis};
pub use cluster::{
    ClusterClient, ClusterNode, History, Loss, PlainCluster, Write, Writer, cluster_faults, cluster_nodes,
    redis_cli_check,
};
pub use network::Network;
pub use observe::condition;
pub use process::{binary, name_of, processes_in, signal};
pub use sandbox::{Controller, Options, Sandbox};
pub use stub::{StubEngines, StubExecutors};
pub use wait::{eventually, eventually_within};
