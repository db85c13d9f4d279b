//! What Overlord knows of redis and memcached: which directives there are, how a configuration is
//! written, compared and applied to a running server, and how a server is asked how it is.
//!
//! Everything but [`Dialler`] and what it opens is pure.

mod admin;
pub mod cluster;
mod cluster_admin;
mod command;
mod conf;
mod dial;
mod diff;
mod directive;
pub mod fence;
mod memcache_admin;
mod memcache_table;
mod obuf;
mod owned;
mod quote;
mod redis_admin;
mod redis_table;
mod resp;
mod rules;
mod value;
mod version;
mod wire;

pub use admin::{AdminError, EngineAdmin, Health, connect};
pub use cluster_admin::ClusterAdmin;
pub use command::command;
pub use conf::{ConfError, ConfInput, MAX_CONF, ServerConf, derived_memory};
pub use dial::{Dial, Dialler, Stream};
pub use diff::{Change, diff};
pub use directive::{Directive, Form, Scope, memcache_options, redis_directives};
pub use rules::EngineRules;
pub use value::{MAX_VALUE, ValueType};
pub use version::{Minor, version_of};
