//! Names that people give: the cluster name, checked once and passed on as a type.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

/// Longest cluster name, in bytes. Names go into Mesos task ids, directories and DNS labels.
pub const MAX_CLUSTER_NAME: usize = 40;

/// The name of a cluster: `[a-z0-9]` and inner dashes, 1 to [`MAX_CLUSTER_NAME`] bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct ClusterName(String);

/// Why a text is no cluster name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The text is empty.
    #[error("a cluster name must not be empty")]
    Empty,
    /// The text is longer than [`MAX_CLUSTER_NAME`].
    #[error("a cluster name has at most {MAX_CLUSTER_NAME} characters, this has {0}")]
    TooLong(usize),
    /// A character outside `[a-z0-9-]`.
    #[error("a cluster name holds only a-z, 0-9 and inner dashes, not {0:?}")]
    Character(char),
    /// A dash at an end.
    #[error("a cluster name must not begin or end with a dash")]
    OuterDash,
}

impl ClusterName {
    /// Checks `text` against the rules of the type.
    pub fn new(text: impl Into<String>) -> Result<Self, NameError> {
        let text = text.into();
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if let Some(bad) = text.chars().find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '-')) {
            return Err(NameError::Character(bad));
        }
        if text.len() > MAX_CLUSTER_NAME {
            return Err(NameError::TooLong(text.len()));
        }
        if text.starts_with('-') || text.ends_with('-') {
            return Err(NameError::OuterDash);
        }
        Ok(Self(text))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl std::str::FromStr for ClusterName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::new(text)
    }
}

impl<'de> Deserialize<'de> for ClusterName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_names_pass() {
        for good in ["a", "orders", "a-1", &"x".repeat(40)] {
            assert!(ClusterName::new(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a/b", "a b", "a\n", "..", "ä", &"x".repeat(41)] {
            assert!(ClusterName::new(bad).is_err(), "{bad:?}");
        }
    }
}
