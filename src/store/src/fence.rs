//! The fence: proof that a write comes from the leader of now.

use std::{fmt, sync::Arc};

use crate::Revision;

/// Leadership won once. Every leader write compares that the leader key still has this create
/// revision, inside the same transaction: a lock alone is not mutual exclusion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fence {
    pub(crate) key: Arc<str>,
    pub(crate) epoch: Revision,
}

impl Fence {
    /// A fence on `key` created at revision `epoch`. Elections make these; tests too.
    pub fn new(key: impl Into<Arc<str>>, epoch: Revision) -> Self {
        Self { key: key.into(), epoch }
    }

    /// The leader key's create revision: grows with each leader.
    pub const fn epoch(&self) -> Revision {
        self.epoch
    }
}

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "epoch {} of {}", self.epoch, self.key)
    }
}
