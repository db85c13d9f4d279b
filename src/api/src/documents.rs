//! Cutting a file into its documents before anything is parsed, so that a broken one hides no other.

use std::ops::Range;

/// One document: all of it, and its own text without a bare `---` line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    /// What is parsed.
    pub(crate) range: Range<usize>,
    /// What is kept.
    pub(crate) text: Range<usize>,
}

/// The documents of `text`; those without content are left out. A line that begins with `---` or `...`
/// and a blank is never content in YAML, not even inside quotes (YAML 1.2.2, 9.1.2).
pub(crate) fn split(text: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    // Editors of another system put a mark before the first byte.
    let begin = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    let mut part = Part { range: begin..begin, text: begin..begin };
    let mut at = begin;
    for line in text.get(begin..).unwrap_or_default().split_inclusive('\n') {
        let (start, end) = (at, at + line.len());
        at = end;
        if is_marker(line, "---") {
            close(&mut parts, part, text, start);
            let bare = line[3..].trim().is_empty();
            part = Part { range: start..end, text: if bare { end..end } else { start..end } };
        } else if is_marker(line, "...") {
            close(&mut parts, part, text, start);
            part = Part { range: end..end, text: end..end };
        }
    }
    close(&mut parts, part, text, text.len());
    parts
}

fn is_marker(line: &str, marker: &str) -> bool {
    line.strip_prefix(marker).is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

fn close(parts: &mut Vec<Part>, mut part: Part, text: &str, end: usize) {
    part.range.end = end;
    part.text.end = end.max(part.text.start);
    let own = text.get(part.range.clone()).unwrap_or_default();
    let own = if is_marker(own, "---") { &own[3..] } else { own };
    let says_something = |line: &str| {
        let line = line.trim();
        !line.is_empty() && !line.starts_with(['#', '%'])
    };
    if own.lines().any(says_something) {
        parts.push(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Vec<&str> {
        split(text).into_iter().map(|part| &text[part.text]).collect()
    }

    #[test]
    fn documents_are_cut_at_their_markers() {
        assert_eq!(texts("a: 1\n---\nb: 2\n"), ["a: 1\n", "b: 2\n"]);
        assert_eq!(texts("# head\n---\na: 1\n...\n---\n---\n# none\n"), ["a: 1\n"]);
        assert_eq!(texts("%YAML 1.2\n---\na: 1\n"), ["a: 1\n"]);
        assert_eq!(texts("--- {a: 1}\n--- {b: 2}"), ["--- {a: 1}\n", "--- {b: 2}"]);
        assert_eq!(texts("a: 1\r\n---\r\nb: 2\r\n"), ["a: 1\r\n", "b: 2\r\n"]);
        assert_eq!(texts("\u{feff}a: 1\n"), ["a: 1\n"]);
        assert_eq!(texts("a: |\n  ---\n  b\n----\n"), ["a: |\n  ---\n  b\n----\n"]);
        assert!(texts("").is_empty() && texts("---\n---\n").is_empty());
    }
}
