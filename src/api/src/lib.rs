//! What users and components exchange: resource types with their defaults, validation and JSON
//! schema, and the key paths in etcd. Pure: no I/O, no clock.
//!
//! Field names of the serialized types are interfaces: they are versioned and tested.

mod address;
mod change;
mod check;
mod controller;
mod documents;
mod event;
mod fault;
mod fields;
mod history;
mod info;
mod installed;
pub mod keys;
mod manifest;
mod mark;
mod name;
mod node;
mod parse;
pub mod quantity;
mod record;
mod render;
mod scalar;
mod schema;
mod source;
mod spec;
mod status;
mod suggest;
mod syntax;
mod task;
mod value;

pub use address::{Address, AddressError};
pub use change::check_change;
pub use controller::{MesosStanding, MesosState, Registration, Role, Standing, StoreWentBack};
pub use event::{EVENT_TTL_HOURS, Event, EventLevel, MAX_EVENTS};
pub use fault::{Fault, RuleFault, Rules};
pub use fields::API_VERSION;
pub use history::{History, KEPT_TERMS, Sighting, Term, TermId, TermIdError};
pub use info::{
    DISK_TROUBLE, Desired, INFO_VERSION, Info, MAX_REPORT, NUDGE, Observed, Refusal, Report, SPEAK, State,
};
pub use installed::InstalledRules;
pub use mark::{StoreMark, StoreMarkError};
pub use name::{ClusterName, MAX_CLUSTER_NAME, NameError};
pub use parse::{Document, MAX_FILE_BYTES, MAX_SPEC_BYTES, locate, parse_file, parse_key, parse_revision};
pub use record::{
    DeletionMark, Endpoint, Endpoints, Hold, KEPT_LOSSES, KEPT_REVISIONS, Leader, Quarantine, Record,
    Restored, Revision, ShardLoss, Tombstone, UNKNOWN_ATTEMPTS,
};
pub use render::render_faults;
pub use schema::json_schema;
pub use spec::{
    Cluster, Constraint, Deletion, Domain, Engine, Kind, OnAgentLoss, OnDisk, OnFailure, OnReturn, Operator,
    Persistence, Placement, Recovery, Resources, Rule, Shape, Spec, Spread, Update,
};
pub use status::{Condition, ConditionType, Phase, Status, Truth};
pub use suggest::nearest;
pub use task::{
    MAX_TASK_ID, PARAM_ONLY, PARAM_ONLY_OUTDATED, PARAM_PROMOTE, PARAM_REVISION, REASON_CANARY, Task,
    TaskDesired, TaskKind, TaskPhase, TaskState, TaskStatus,
};
pub use value::{Unreadable, VALUES_VERSION, read_value};
