//! Transactions: compares and writes that happen together or not at all. Fenced by type.

use bytes::Bytes;

use crate::{Error, Fence, LeaseId, Revision};

/// A condition of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compare {
    /// The key does not exist.
    Absent(String),
    /// The key exists with this mod revision.
    ModRevision(String, Revision),
    /// The key exists with this create revision.
    CreateRevision(String, Revision),
}

/// A write of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// Put `value`, bound to `lease` unless that is 0.
    Put {
        /// Full key.
        key: String,
        /// New value.
        value: Bytes,
        /// Lease, or 0.
        lease: LeaseId,
    },
    /// Delete one key; no error when it is absent.
    Delete(String),
    /// Delete all keys with the prefix.
    DeletePrefix(String),
}

/// A transaction. The keys of the leader are written only through [`Txn::fenced`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Txn {
    pub(crate) fence: Option<Fence>,
    pub(crate) compares: Vec<Compare>,
    pub(crate) writes: Vec<Write>,
}

/// What a commit came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Committed {
    /// All compares held; the writes have this revision.
    Yes(Revision),
    /// A compare (not the fence's) did not hold; nothing was written.
    No(Revision),
}

impl Txn {
    /// Most operations in one transaction: etcd's default `--max-txn-ops`.
    pub const MAX_OPERATIONS: usize = 128;
    /// Most bytes of keys and values in one transaction, below etcd's default request limit of 1.5 MiB.
    pub const MAX_BYTES: usize = 1_400_000;

    /// A transaction of the leader: fails with [`crate::Error::Fenced`] when the fence does not hold.
    pub fn fenced(fence: &Fence) -> Self {
        Self { fence: Some(fence.clone()), compares: Vec::new(), writes: Vec::new() }
    }

    /// A transaction on keys that people own: `config/*` and `task/<id>`; and on the leader key itself.
    pub const fn unfenced() -> Self {
        Self { fence: None, compares: Vec::new(), writes: Vec::new() }
    }

    /// Adds a condition.
    #[must_use]
    pub fn when(mut self, compare: Compare) -> Self {
        self.compares.push(compare);
        self
    }

    /// Adds a put without a lease.
    #[must_use]
    pub fn put(self, key: impl Into<String>, value: impl Into<Bytes>) -> Self {
        self.put_leased(key, value, 0)
    }

    /// Adds a put bound to a lease.
    #[must_use]
    pub fn put_leased(mut self, key: impl Into<String>, value: impl Into<Bytes>, lease: LeaseId) -> Self {
        self.writes.push(Write::Put { key: key.into(), value: value.into(), lease });
        self
    }

    /// Adds a delete of one key.
    #[must_use]
    pub fn delete(mut self, key: impl Into<String>) -> Self {
        self.writes.push(Write::Delete(key.into()));
        self
    }

    /// Adds a delete of everything below a prefix.
    #[must_use]
    pub fn delete_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.writes.push(Write::DeletePrefix(prefix.into()));
        self
    }

    /// Whether it writes nothing.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// Compares and writes. etcd limits each list to [`Txn::MAX_OPERATIONS`]; the larger one counts.
    pub fn operations(&self) -> usize {
        (self.compares.len() + usize::from(self.fence.is_some())).max(self.writes.len())
    }

    /// Bytes of keys and values.
    pub fn bytes(&self) -> usize {
        let compares = self.compares.iter().map(|c| match c {
            Compare::Absent(k) | Compare::ModRevision(k, _) | Compare::CreateRevision(k, _) => k.len(),
        });
        let writes = self.writes.iter().map(|w| match w {
            Write::Put { key, value, .. } => key.len() + value.len(),
            Write::Delete(key) | Write::DeletePrefix(key) => key.len(),
        });
        compares.sum::<usize>() + writes.sum::<usize>()
    }

    /// The lease that a complaint about a missing lease means: etcd does not say which one it misses.
    pub(crate) fn first_lease(&self) -> LeaseId {
        let mut leases = self.writes.iter().map(|write| match write {
            Write::Put { lease, .. } => *lease,
            Write::Delete(_) | Write::DeletePrefix(_) => 0,
        });
        leases.find(|lease| *lease != 0).unwrap_or(0)
    }

    /// Refuses what etcd would refuse for its size, before it is sent.
    pub(crate) fn check_size(&self) -> Result<(), Error> {
        let (operations, bytes) = (self.operations(), self.bytes());
        if operations > Self::MAX_OPERATIONS || bytes > Self::MAX_BYTES {
            return Err(Error::TooLarge { operations, bytes });
        }
        Ok(())
    }
}
