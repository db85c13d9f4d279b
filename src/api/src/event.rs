//! `events/<cluster>/<object>.<reason>`: what happened lately, one key per object and reason, counted.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Hours an event lives after it was last counted.
pub const EVENT_TTL_HOURS: u32 = 24;

/// Events kept of one cluster; beyond that new (object, reason) pairs are dropped and counted in a log line.
pub const MAX_EVENTS: usize = 200;

/// One thing that happened, perhaps several times.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// Version of this value, now 1.
    #[serde(default = "crate::value::first_version")]
    pub version: u32,
    /// `cluster`, `member/<n>` or `<ip>:<port>`.
    pub object: String,
    /// CamelCase word for machines.
    pub reason: String,
    /// `normal` or `warning`.
    pub level: EventLevel,
    /// One sentence for people: the newest one.
    pub message: String,
    /// How often.
    pub count: u64,
    /// First time.
    pub first: Timestamp,
    /// Last time.
    pub last: Timestamp,
}

/// How much an event matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventLevel {
    /// As it should be.
    Normal,
    /// Something broke or was refused.
    Warning,
}
