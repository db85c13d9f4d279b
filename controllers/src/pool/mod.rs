//! Pools: the kinds whose members are independent of each other, `Redis` and `Memcache`. They differ
//! in their engine only, which `overlord-engines` knows; so they share every phase.

pub(crate) mod apply;
pub mod observed;
pub mod plan;
pub(crate) mod status;
pub mod step;
