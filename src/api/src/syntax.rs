//! The YAML parser's complaints in words that say what to do.

use crate::RuleFault;

const UNCLOSED: &str = "the quote that begins here is never closed";
const INDENT: (&str, &str) =
    ("the indentation fits nothing above", "give fields of one mapping the same indentation");
const DEEP: (&str, &str) = ("nested too deeply", "a spec needs at most five levels");
const QUOTE: &str = "put the text into quotes";

/// Complaints by a part of the parser's wording, with ours and the advice. Tests hold the pairs.
const KNOWN: &[(&str, &str, &str)] = &[
    ("tabs disallowed", "a tab cannot indent", "indent with spaces"),
    ("found a tab", "a tab cannot indent", "indent with spaces"),
    ("tab cannot", "a tab cannot indent", "indent with spaces"),
    ("with a tab", "a tab cannot indent", "indent with spaces"),
    (
        "mapping values are not allowed",
        "a ':' is not expected here",
        "indent fields alike, put a space after each ':', and quote text that holds ': '",
    ),
    ("quoted scalar, found unexpected", UNCLOSED, "close it on the same line"),
    ("indentation in quoted scalar", UNCLOSED, "close it on the same line"),
    (
        "unknown escape",
        "an unknown escape after a backslash",
        "use single quotes, in which a backslash is itself",
    ),
    ("escape code", "an escape that is no character", "write the character itself"),
    ("unknown anchor", "aliases (*name) are not read", "write the value out"),
    ("handle wasn't declared", "tags (!name) are not read", "put text into quotes instead"),
    ("recursion limit", DEEP.0, DEEP.1),
    ("simple key expect", "a name without a ':'", "write name: value"),
    (
        "indentation in flow",
        "this line is indented less than what its bracket began",
        "close the bracket above",
    ),
    ("indentation", INDENT.0, INDENT.1),
    ("expected key", INDENT.0, INDENT.1),
    ("trailing content", "text after the closing quote", "put all of the text into the quotes"),
    ("block collection", "not a list item", "begin each item with '- ', indented alike"),
    ("block sequence entries", "a list cannot begin on this line", "write it on the next line, or as [a, b]"),
    ("',' or '}'", "expected ',' or '}'", "close the bracket opened above"),
    ("',' or ']'", "expected ',' or ']'", "close the bracket opened above"),
    ("placement of ':'", "expected ',' or a closing bracket", "close the bracket opened above"),
    ("misplaced bracket", "a closing bracket that nothing opened", "remove it, or quote the text"),
    ("node content", "a value is missing here", "write a value"),
    (
        "<document start>",
        "text after the end of the document",
        "separate documents with a line ---, and give fields of one mapping the same indentation",
    ),
    ("unexpected character: `@", "text cannot begin with '@'", QUOTE),
    ("unexpected character: ``", "text cannot begin with '`'", QUOTE),
    ("unexpected character: `%", "text cannot begin with '%'", QUOTE),
];

/// Nested deeper than any spec.
pub(crate) fn too_deep() -> RuleFault {
    RuleFault::new(DEEP.0).hint(DEEP.1)
}

/// The byte and the words for one complaint that the parser has at byte `at` of `text`.
pub(crate) fn explain(complaint: &str, text: &str, at: usize) -> (usize, RuleFault) {
    let at = at.min(text.len());
    let Some((part, message, hint)) = KNOWN.iter().find(|(part, ..)| complaint.contains(part)) else {
        return (at, RuleFault::new(format!("not YAML: {complaint}")));
    };
    // The parser notices a name without a colon at what follows it.
    let at =
        if part.starts_with("simple key") { last_line_start(text.get(..at).unwrap_or_default()) } else { at };
    (at, RuleFault::new(*message).hint(*hint))
}

/// Where the text of the last line with text begins.
fn last_line_start(text: &str) -> usize {
    let text = text.trim_end();
    let line = text.rfind('\n').map_or(0, |end| end + 1);
    line + text[line..].find(|c| c != ' ').unwrap_or(0)
}
