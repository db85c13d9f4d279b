//! The HTTP API of a controller, versioned under `/v1`: what is in the store as JSON, validated writes
//! with compare-and-swap, and watches as lines of JSON. Every controller serves it, leading or not.

mod api;
mod clusters;
mod collection;
mod controllers;
mod error;
mod extract;
mod program;
mod read;
mod router;
mod store;
mod tasks;
pub mod view;
mod watch;

pub use api::{ApiConfig, ApiState, Catalogue, Now};
pub use controllers::{Stands, WARNING};
pub use extract::REQUESTED_BY;
pub use program::Program;
pub use router::{router, serve};
