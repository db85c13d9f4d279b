//! The conformance suite: recordings of a real Mesos 1.11 master and agents (`tests/fixtures/mesos/captures`) are
//! played again, call by call, to the sandbox or to any master, and what comes back is compared with what was
//! recorded.
//!
//! `cargo test -p overlord-conformance` plays them to sandboxes in this process, a fresh one for each case.
//! `OVERLORD_MESOS_MASTER=host:port` plays them to that master; an agent of it runs on this machine. Each case uses
//! a framework of its own and tears it down. Cases that need more than frameworks may do are not run then, and the
//! summary says which and why, unless `OVERLORD_MESOS_CONTROL` names a script, which is called as
//! `script <action> <argument>` and has exit status 0 once the action is done (see [`target::Action`]).

pub mod book;
pub mod case;
pub mod cast;
pub mod compare;
pub mod executors;
pub mod external;
pub mod invariants;
pub mod model;
pub mod names;
pub mod offers;
pub mod parse;
pub mod replay;
pub mod run;
mod send;
pub mod shared;
pub mod sketch;
pub mod stream;
pub mod target;
pub mod unify;
pub mod wire;

#[cfg(test)]
mod compare_tests;

use std::path::PathBuf;

/// Where the recordings are.
pub fn captures() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fixtures/mesos/captures")
}
