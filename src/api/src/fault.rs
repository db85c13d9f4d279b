//! What is wrong with a spec, where, and what to do: the one shape of every complaint about input.

use std::{fmt, ops::Range};

use crate::{Cluster, Engine, Kind};

/// What the engines know of versions and directives. Implemented where the tables are, and passed in.
pub trait Rules: Sync {
    /// Whether there are tables for that version.
    fn version(&self, engine: Engine, version: &str) -> Result<(), RuleFault>;

    /// Whether people may set that directive to that value in that version.
    fn directive(&self, kind: Kind, version: &str, name: &str, value: &str) -> Result<(), RuleFault>;

    /// Faults that need the whole spec, each with the path it is about, such as `spec.config.maxmemory`.
    /// Asked only when the parts it may look at (size, version, resources, config, persistence) are sound.
    fn whole(&self, cluster: &Cluster) -> Vec<(String, RuleFault)> {
        let _ = cluster;
        Vec::new()
    }
}

/// A complaint without a place: what is wrong, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleFault {
    /// What is wrong, in one lower-case sentence without a full stop.
    pub message: String,
    /// What to write instead.
    pub hint: Option<String>,
}

impl RuleFault {
    /// A complaint without advice.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }

    /// The same with advice.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for RuleFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        self.hint.as_ref().map_or(Ok(()), |hint| write!(f, "; {hint}"))
    }
}

impl std::error::Error for RuleFault {}

/// A complaint about a place in a text. Shown as one line: `3:11: spec.shards: expected ...; hint`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The field, such as `spec.placement.spread[1].by`; empty when it is about the text as a whole.
    pub path: String,
    /// Line in the whole text, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Bytes in the whole text.
    pub span: Range<usize>,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub hint: Option<String>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.line, self.column)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)?;
        self.hint.as_ref().map_or(Ok(()), |hint| write!(f, "; {hint}"))
    }
}

impl std::error::Error for Fault {}
