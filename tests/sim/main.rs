//! Simulation: the real controllers, loop, Mesos client and executor logic on one thread in virtual time, in
//! worlds drawn from seeds. Each world lives at least a day; some are run twice: the traces must be equal.
//!
//! `OVERLORD_SIM_SEEDS=N` runs N random worlds (from `OVERLORD_SIM_FROM` on; every `OVERLORD_SIM_TWICE`-th twice),
//! `OVERLORD_SIM_SEED=K` replays world K and tells its whole story, with the log of `OVERLORD_SIM_LOG` (a filter such
//! as `overlord_controllers=debug`) in it.
#![expect(clippy::panic, reason = "what is not as expected fails the test")]

mod cluster;
mod converge;
mod crashes;
mod effects;
mod engines;
mod fence;
mod gate;
mod golden;
mod hosts;
mod hunt;
mod launcher;
mod log;
mod machine;
mod memcached;
mod net;
mod oracles;
mod own_clock;
mod pool;
mod random_cluster;
mod run;
mod scenarios;
mod scenarios_cluster;
mod scheduler;
mod script;
mod store;
mod story;
mod stream;
mod trace;
mod users;
mod view;
mod world;
mod worlds;

use crate::worlds::{number, random};
