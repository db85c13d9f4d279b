//! Places in a text, and the collected faults of one document.

use std::ops::Range;

use crate::{Fault, RuleFault};

/// Faults reported of one document; more are only counted, so that hostile input cannot make a huge answer.
const MAX_FAULTS: usize = 64;

/// A text that knows its lines.
pub(crate) struct Source<'t> {
    text: &'t str,
    /// Byte offset of each line's start.
    lines: Vec<usize>,
}

impl<'t> Source<'t> {
    pub(crate) fn new(text: &'t str) -> Self {
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { text, lines }
    }

    pub(crate) const fn text(&self) -> &'t str {
        self.text
    }

    /// Line and column, both from 1, the column in characters.
    pub(crate) fn locate(&self, byte: usize) -> (usize, usize) {
        let byte = byte.min(self.text.len());
        let line = self.lines.partition_point(|start| *start <= byte);
        let start = self.lines.get(line.saturating_sub(1)).copied().unwrap_or(0);
        let before = self.text.get(start..byte).map_or(0, |text| text.chars().count());
        (line, before + 1)
    }

    /// A fault at `span`.
    pub(crate) fn fault(&self, path: &str, span: Range<usize>, fault: RuleFault) -> Fault {
        let (line, column) = self.locate(span.start);
        Fault { path: path.to_owned(), line, column, span, message: fault.message, hint: fault.hint }
    }
}

/// Faults as they are found.
pub(crate) struct Faults<'s> {
    pub(crate) source: &'s Source<'s>,
    list: Vec<Fault>,
    more: usize,
}

impl<'s> Faults<'s> {
    pub(crate) const fn new(source: &'s Source<'s>) -> Self {
        Self { source, list: Vec::new(), more: 0 }
    }

    pub(crate) fn push(&mut self, path: &str, span: Range<usize>, fault: RuleFault) {
        if self.list.len() < MAX_FAULTS {
            self.list.push(self.source.fault(path, span, fault));
        } else {
            self.more += 1;
        }
    }

    /// How many there are, to see whether a part added any.
    pub(crate) const fn count(&self) -> usize {
        self.list.len() + self.more
    }

    /// Whether a fault is about `path` or something below it.
    pub(crate) fn touch(&self, path: &str) -> bool {
        self.more > 0
            || self.list.iter().any(|fault| {
                fault
                    .path
                    .strip_prefix(path)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
            })
    }

    /// All, in the order of the text.
    pub(crate) fn finish(mut self) -> Vec<Fault> {
        self.list.sort_by_key(|fault| (fault.span.start, fault.span.end));
        if let (Some(last), true) = (self.list.last(), self.more > 0) {
            let more = RuleFault::new(format!("{} more faults are not shown", self.more));
            let span = last.span.clone();
            self.list.push(self.source.fault("", span, more));
        }
        self.list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_lines_and_characters_from_one() {
        let source = Source::new("a: é1\nb\n\nc");
        let places: Vec<_> =
            [0, 3, 5, 6, 7, 8, 9, 10, 99].into_iter().map(|byte| source.locate(byte)).collect();
        assert_eq!(places, [(1, 1), (1, 4), (1, 5), (1, 6), (2, 1), (2, 2), (3, 1), (4, 1), (4, 2)]);
    }

    #[test]
    fn beyond_the_limit_faults_are_counted() {
        let source = Source::new("abc");
        let mut faults = Faults::new(&source);
        for _ in 0..100 {
            faults.push("", 1..2, RuleFault::new("x"));
        }
        let all = faults.finish();
        assert_eq!(all.len(), MAX_FAULTS + 1);
        assert_eq!(all[MAX_FAULTS].message, "36 more faults are not shown");
    }
}
