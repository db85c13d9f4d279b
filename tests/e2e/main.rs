//! End-to-end tests: the real binary, real etcd, redis and memcached, a sandbox for each test.
#![cfg(test)]

mod agents;
mod cli;
mod config;
mod crash;
mod create;
mod delete;
mod heal;
mod manifest;
mod quiet;
mod restart;
mod sandbox_ends;
mod specs;
mod tasks;
