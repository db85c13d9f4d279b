//! The generic reconcile loop: a queue that is a pure state machine, informers that list and watch a
//! [`Source`], and a controller that runs a reconciler per key. Knows no resource.
//!
//! ```text
//! Source --list, watch--> Informer --fills--> Cache --Subscription--> Controller --Job--> Reconciler
//!                                               ^                      (Queue)                |
//!                                               +---------- absorb_put / absorb_delete -------+
//! ```
//!
//! Everything that waits does so by `tokio::time`, everything that chooses does so by order of keys or of
//! arrival: under a paused single-threaded runtime two runs are the same run.

mod backoff;
mod cache;
mod clock;
mod controller;
mod informer;
mod metrics;
mod queue;
mod report;
mod source;
mod subscription;
mod tasks;

pub use backoff::Backoff;
pub use cache::{Cache, Index, Versioned, WentBack};
pub use clock::{Clock, SteadyClock, SystemClock, TokioClock};
pub use controller::{Action, Controller, Reconciler, Stopped, Trigger};
pub use informer::{Informer, InformerOptions};
pub use metrics::Metrics;
pub use queue::{Added, Job, Lane, Outcome, Queue, RESYNC_SHARE, Stats};
pub use report::Report;
pub use source::{Change, Changes, Entry, Listing, Revision, Source, SourceError};
pub use subscription::{Changed, SUBSCRIPTION_CAPACITY, Subscription};
pub use tasks::{TaskPanicked, Tasks, Unfinished};
