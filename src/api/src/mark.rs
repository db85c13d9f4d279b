//! How far the store had come when something was seen: what tells an etcd that was restored from an older backup.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A point in the history of the store. It only ever grows, except when etcd is restored from a backup; then a
/// person begins the next generation, and what was seen in earlier ones counts no more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct StoreMark {
    /// The number under [`crate::keys::GENERATION`]; 0 when the key is not there.
    pub generation: u64,
    /// etcd's revision.
    pub revision: i64,
}

/// A text that is no [`StoreMark`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no store mark: expected <generation>.<revision>")]
pub struct StoreMarkError(String);

impl fmt::Display for StoreMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.generation, self.revision)
    }
}

impl FromStr for StoreMark {
    type Err = StoreMarkError;

    /// A revision alone is of generation 0: so it was written before there were generations.
    fn from_str(text: &str) -> Result<Self, StoreMarkError> {
        let (generation, revision) = text.trim().split_once('.').unwrap_or(("0", text.trim()));
        let mark = generation.parse().ok().zip(revision.parse().ok().filter(|revision| *revision >= 0));
        let (generation, revision) = mark.ok_or_else(|| StoreMarkError(text.chars().take(60).collect()))?;
        Ok(Self { generation, revision })
    }
}

impl From<StoreMark> for String {
    fn from(mark: StoreMark) -> Self {
        mark.to_string()
    }
}

impl TryFrom<String> for StoreMark {
    type Error = StoreMarkError;

    fn try_from(text: String) -> Result<Self, StoreMarkError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_generation_is_later_whatever_its_revision() {
        let mark = |generation, revision| StoreMark { generation, revision };
        assert!(mark(1, 5) > mark(0, 900) && mark(1, 6) > mark(1, 5));
    }

    #[test]
    fn marks_are_read_as_they_are_written_and_revisions_alone_too() {
        let mark = StoreMark { generation: 2, revision: 77 };
        assert_eq!(mark.to_string().parse(), Ok(mark));
        assert_eq!(" 77\n".parse(), Ok(StoreMark { generation: 0, revision: 77 }));
        for bad in ["", ".", "1.", ".1", "-1", "1.-1", "1.2.3", "x", "99999999999999999999"] {
            assert!(bad.parse::<StoreMark>().is_err(), "{bad}");
        }
    }
}
