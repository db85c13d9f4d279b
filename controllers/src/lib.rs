//! The policy of the system: reconcilers that make clusters what their specs say, and the pure planner
//! behind them.
//!
//! A pass over one cluster reads the caches, admits spec and requests, plans (pure),
//! applies (intent before effect, every write fenced), and tells (status, endpoints, events).

mod at_hand;
mod cluster;
mod deaths;
mod demand;
mod digest;
mod engines;
mod events;
mod fold;
mod gate;
mod high_water;
mod identity;
mod index;
mod instances;
mod janitor;
mod known;
mod launcher;
mod leader;
mod ledger;
mod maintenance;
pub mod members;
mod memory;
mod mesos_events;
mod mesos_task;
mod reconciliation;
pub mod redis_cluster;
mod registration;
#[cfg(test)]
mod samples;
mod settings;
mod shared;
mod standing;
mod tasks;
mod views;
mod witnesses;

pub use cluster::Error as ReconcileError;
pub use digest::{Digest, digest};
pub use engines::NetworkEngines;
pub use events::Happening;
pub use known::Known;
pub use leader::{Controllers, Error};
pub use ledger::LedgerError;
pub use members::observed::Engines;
pub use redis_cluster::observed::{Answer, Command, Commander, Look};
pub use settings::{
    ATTRIBUTE_DATA, ATTRIBUTE_IP, Binary, Catalogue, DEFAULT_DATA_ROOT, EXECUTOR_CPU_MILLIS, EXECUTOR_MEMORY,
    Executor, Framework, LABEL_CLUSTER, LABEL_KIND, LABEL_MEMBER, LABEL_REVISION, Program, Settings, Sha256,
};
pub use standing::Post;
