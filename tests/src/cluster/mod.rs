//! What tests know of a redis cluster: a writer that remembers what was confirmed, a checker that misses
//! nothing of it, what the nodes say of each other, and a cluster without anybody who looks after it.

mod client;
mod history;
mod nodes;
mod plain;
mod writer;

pub use client::ClusterClient;
pub use history::{History, Loss, Write};
pub use nodes::{ClusterNode, cluster_faults, cluster_nodes, redis_cli_check};
pub use plain::PlainCluster;
pub use writer::Writer;
