//! Requests and offers to addresses, with a reason for each refusal. Pure and deterministic: no I/O, no
//! clock, no randomness; the order of the offers does not matter, the order of the requests is their priority.
//!
//! [`assign`] places members that are independent of each other, one by one. [`cluster`] places those of a cluster of
//! masters and replicas, all or none at first, and says there what a spread means for them.
//!
//! # What a spread means for singles (redis, memcache)
//!
//! `required`: no two members of the cluster share the domain, as users of Kubernetes' required
//! anti-affinity expect. With more members than domains the rest is refused, and the refusal says so. An
//! agent that does not tell its rack or zone cannot prove to be another one, and is refused where that is
//! required.
//!
//! `preferred`: the domain with the fewest members of the cluster first, rules in the order given; never
//! a reason to refuse. Agents without a rack count as one rack.
//!
//! Then agents are balanced by what share of memory and cpu they have left, and at last by agent id.
//!
//! A member that is asked for does not stand in its own way: its entry in [`World::placed`] is not
//! counted. Its address is free again only if the caller leaves it out of [`World::taken`].

pub mod cluster;
mod eligible;
mod pools;
mod ports;
mod refusal;
mod singles;
mod types;
mod verify;

pub use eligible::is_eligible;
pub use refusal::{Hint, Reason, Refusal};
pub use singles::assign;
pub use types::{Bus, HostOffer, Outcome, Placed, Placement, Request, World};
pub use verify::{Violation, verify, verify_cluster, verify_seats};
