//! One file a command.

pub(crate) mod apply;
pub(crate) mod backup;
pub(crate) mod completion;
pub(crate) mod config;
pub(crate) mod controller;
pub(crate) mod delete;
pub(crate) mod describe;
pub(crate) mod endpoints;
pub(crate) mod executor;
pub(crate) mod get;
pub(crate) mod restore;
pub(crate) mod sandbox;
pub(crate) mod shards;
pub(crate) mod store;
pub(crate) mod supervise;
pub(crate) mod task;
pub(crate) mod validate;
pub(crate) mod version;
