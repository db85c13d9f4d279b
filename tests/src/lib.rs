//! What end-to-end tests and the benchmark share: a real sandbox, started from the real binary, that
//! leaves nothing behind, and a checker of what redis clusters keep.

mod authors;
mod cache;
mod cluster;
mod disk;
mod link;
pub mod manifest;
pub mod model;
mod network;
mod observe;
mod pair;
mod process;
mod sandbox;
mod strike;
mod stub;
pub mod tap;
mod twins;
mod wait;
mod words;

pub use authors::{Authors, Changed, Counts, Verdict, What, judge};
pub use cache::{Memcached, Redis};
pub use cluster::{
    ClusterClient, ClusterNode, History, Loss, PlainCluster, Write, Writer, cluster_faults, cluster_nodes,
    redis_cli_check,
};
pub use network::Network;
pub use observe::condition;
pub use pair::Tapped;
pub use process::{binary, name_of, parent_of, processes_in, signal};
pub use sandbox::{Controller, Options, Sandbox};
pub use strike::disarm;
pub use stub::{StubEngines, StubExecutors};
pub use twins::{Watch, faults};
pub use wait::{eventually, eventually_within};
pub use words::says;
