//! End-to-end tests: the real binary, real etcd, redis and memcached, a sandbox for each test.
#![cfg(test)]

mod agents;
mod arena;
mod chaos_mesos;
mod checker;
mod cli;
mod config;
mod crash;
mod create;
mod delete;
mod delivery;
mod faults;
mod heal;
mod manifest;
mod quiet;
mod redis_cluster;
mod redis_cluster_chaos;
mod redis_cluster_failures;
mod redis_cluster_hosts;
mod redis_cluster_quorum;
mod restart;
mod sandbox_ends;
mod shards;
mod specs;
mod tasks;
