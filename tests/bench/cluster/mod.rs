//! A redis cluster: formed from ready-made files by hand, by `redis-cli --cluster create`, and by this system.

mod console;
mod failover;
mod forming;
mod nodes;

pub(crate) use console::{Passed, passed, since};
pub(crate) use failover::measure as failover;
pub(crate) use forming::measure as forming;
