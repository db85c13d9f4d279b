//! `history`: in which terms the store was led. By it an older backup of the store is told from the store itself even
//! after its revision has come as far again.
//!
//! Each leader appends its term, with a random id, before it does anything else. Who reads the key learns at which
//! revision which term was the last one: a [`Sighting`]. A store whose history says that another term had begun by
//! that revision, or that knows nothing of the term, is not the one that was seen. Everything compared is a revision
//! of the same key, so that a sighting of the store itself is never denied, whoever else writes and however late it is
//! told.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{StoreMark, VALUES_VERSION};

/// How many terms are kept. Of what was seen before the oldest of them, the revision alone tells.
pub const KEPT_TERMS: usize = 64;

/// The id of a term: random, for a store that was restored counts on from where it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct TermId(pub u64);

/// A text that is no [`TermId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no id of a term: expected 16 hex digits")]
pub struct TermIdError(String);

/// What was seen of the store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sighting {
    /// How far it was.
    pub mark: StoreMark,
    /// The last term of its history at [`StoreMark::revision`], where the history was read.
    pub term: Option<TermId>,
    /// Whether it has gone back since, in this generation, as far as whoever tells this could see.
    pub went_back: bool,
}

/// The value of the key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct History {
    /// Version of this value, now 1.
    #[serde(default = "crate::value::first_version")]
    pub version: u32,
    /// Whether these are all terms that this store ever had.
    #[serde(default)]
    pub complete: bool,
    /// The last ones, in their order.
    pub terms: Vec<Term>,
}

/// A term of a leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Term {
    /// Which.
    pub id: TermId,
    /// The revision at which it was appended. 0: it is the last one, and the key's mod revision says it.
    #[serde(default, skip_serializing_if = "is_last")]
    pub began: i64,
    /// See [`StoreMark::generation`].
    #[serde(default, skip_serializing_if = "is_first")]
    pub generation: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands it so")]
const fn is_last(began: &i64) -> bool {
    *began == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands it so")]
const fn is_first(generation: &u64) -> bool {
    *generation == 0
}

impl History {
    /// That of a store that never had a leader; or, not `complete`, of one whose history cannot be read.
    pub const fn new(complete: bool) -> Self {
        Self { version: VALUES_VERSION, complete, terms: Vec::new() }
    }

    /// The last term.
    pub fn last(&self) -> Option<&Term> {
        self.terms.last()
    }

    /// What it is with one more term, when it was written at `written` last.
    #[must_use]
    pub fn with(&self, id: TermId, generation: u64, written: i64) -> Self {
        let mut next = self.clone();
        if let Some(last) = next.terms.last_mut() {
            last.began = written;
        }
        next.terms.push(Term { id, began: 0, generation });
        let surplus = next.terms.len().saturating_sub(KEPT_TERMS);
        next.terms.drain(..surplus);
        next.complete &= surplus == 0;
        next.version = VALUES_VERSION;
        next
    }

    /// Whether a store with this history, written at `written` last, is another one than the one in which `term` was
    /// the last term at `revision`. False too when nobody can tell.
    pub fn denies(&self, written: i64, term: TermId, revision: i64) -> bool {
        let began = |n: usize| match self.terms.get(n) {
            Some(term) if n + 1 == self.terms.len() => {
                Some(if term.began == 0 { written } else { term.began })
            }
            Some(term) => Some(term.began),
            None => None,
        };
        match self.terms.iter().position(|known| known.id == term) {
            Some(n) => began(n + 1).is_some_and(|next| revision >= next),
            None => self.complete || began(0).is_some_and(|oldest| revision >= oldest),
        }
    }

    /// Whether this is known to be the history in which `term` was the last term at `revision`.
    pub fn confirms(&self, written: i64, term: TermId, revision: i64) -> bool {
        self.terms.iter().any(|known| known.id == term) && !self.denies(written, term, revision)
    }
}

impl fmt::Display for TermId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for TermId {
    type Err = TermIdError;

    fn from_str(text: &str) -> Result<Self, TermIdError> {
        let hex = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let id = hex.then(|| u64::from_str_radix(text, 16).ok()).flatten();
        id.map(Self).ok_or_else(|| TermIdError(text.chars().take(60).collect()))
    }
}

impl From<TermId> for String {
    fn from(id: TermId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for TermId {
    type Error = TermIdError;

    fn try_from(text: String) -> Result<Self, TermIdError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn id(n: u64) -> TermId {
        TermId(n)
    }

    /// Terms 1 and 2, begun at 10 and 20.
    fn led_twice() -> History {
        History::new(true).with(id(1), 0, 0).with(id(2), 0, 10)
    }

    #[test]
    fn what_was_seen_of_the_store_itself_is_never_denied() {
        // Every revision of a store with terms that begin every 7 revisions, against every later history of it.
        let mut written = 0;
        let mut history = History::new(true);
        let mut seen: Vec<(TermId, i64)> = Vec::new();
        for n in 1..=KEPT_TERMS as u64 * 2 {
            history = history.with(id(n), 0, written);
            written += 7;
            seen.extend((written..written + 7).map(|revision| (id(n), revision)));
            for (term, revision) in &seen {
                assert!(!history.denies(written, *term, *revision), "{term} at {revision}: {history:?}");
            }
        }
        assert_eq!((history.terms.len(), history.complete), (KEPT_TERMS, false));
    }

    #[test]
    fn a_backup_is_denied_by_what_was_seen_after_it_however_far_it_has_come_since() {
        // Made at 25, in term 2. Then term 2 went on, and term 3 began at 40. The restored one is led from 27 on.
        let restored = led_twice().with(id(9), 0, 20);
        for (term, revision, denied) in [
            (1, 15, false),
            (2, 24, false),
            (2, 26, false),
            (2, 27, true),
            (2, 39, true),
            (3, 40, true),
            (3, 9999, true),
        ] {
            assert_eq!(restored.denies(27, id(term), revision), denied, "{term} at {revision}");
            assert_eq!(restored.confirms(27, id(term), revision), !denied, "{term} at {revision}");
        }
        // Before it is led, its revision alone tells.
        assert!(!led_twice().denies(20, id(2), 39) && led_twice().denies(20, id(3), 40));
    }

    #[test]
    fn a_store_that_never_knew_the_term_is_denied_and_one_that_may_have_forgotten_it_is_not() {
        let other = History::new(true).with(id(5), 0, 0);
        assert!(other.denies(50, id(1), 15));
        let rewritten = History::new(false).with(id(5), 0, 0);
        assert!(!rewritten.denies(50, id(1), 15) && rewritten.denies(50, id(1), 50));
        assert!(!rewritten.confirms(50, id(1), 15));
        assert!(!History::new(false).denies(50, id(1), 15));
    }

    #[test]
    fn it_reads_back_as_it_is_written() {
        let history = led_twice().with(id(0xabc), 3, 20);
        let text = serde_json::to_string(&history).unwrap();
        assert!(text.contains(r#"{"id":"0000000000000002","began":20}"#), "{text}");
        assert!(text.contains(r#"{"id":"0000000000000abc","generation":3}"#), "{text}");
        assert_eq!(crate::read_value::<History>(text.as_bytes()), Ok(history));
        for bad in ["", "1", "000000000000000g", "+000000000000001", "00000000000000001"] {
            assert!(bad.parse::<TermId>().is_err(), "{bad}");
        }
    }
}
