//! End-to-end tests: the real binary, real etcd, redis and memcached, a sandbox for each test.
#![cfg(test)]

mod agents;
mod arena;
mod backup;
mod checker;
mod cli;
mod config;
mod controllers;
mod crash;
mod create;
mod damaged;
mod delete;
mod delivery;
mod etcd_fails;
mod etcd_restored;
mod faults;
mod heal;
mod leadership;
mod quiet;
mod redis_cluster;
mod redis_cluster_chaos;
mod redis_cluster_failures;
mod redis_cluster_hosts;
mod redis_cluster_quorum;
mod restart;
mod sandbox_ends;
mod shards;
mod spec_fuzz;
mod specs;
mod tasks;
mod upgrade;

use overlord_tests::manifest;
