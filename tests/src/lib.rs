//! What end-to-end tests and the benchmark share: a real sandbox, started from the real binary, that
//! leaves nothing behind.

mod cache;
mod network;
mod observe;
mod process;
mod sandbox;
mod wait;

pub use cache::{Memcached, Redis};
pub use network::Network;
pub use observe::condition;
pub use process::{binary, name_of, processes_in, signal};
pub use sandbox::{Controller, Options, Sandbox};
pub use wait::{eventually, eventually_within};
