//! The tree of one document, in which every key and value knows its place in the text.
//!
//! A decoder stops at the first mistake and forgets places; this tree is what lets the checks report
//! all of them. Anchors, aliases and tags are refused here, so no document can be larger than its text.

use std::ops::Range;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, StrInput};

use crate::{
    RuleFault,
    scalar::{Resolved, Scalar},
    source::Faults,
    syntax,
};

/// Mappings and lists inside each other. A spec needs five.
const MAX_DEPTH: usize = 24;

/// A value and where it is, in bytes of the whole text.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    pub(crate) span: Range<usize>,
    pub(crate) value: Value,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Scalar(Scalar),
    List(Vec<Node>),
    Mapping(Vec<Entry>),
    /// What was refused already and stands for nothing.
    Refused,
}

/// One `key: value`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_span: Range<usize>,
    pub(crate) value: Node,
}

impl Entry {
    /// From the key's first to the value's last byte.
    pub(crate) fn span(&self) -> Range<usize> {
        self.key_span.start..self.value.span.end.max(self.key_span.end)
    }
}

impl Node {
    /// A plain scalar that stands in no text: a default.
    pub(crate) fn word(text: &str) -> Self {
        Self { span: 0..0, value: Value::Scalar(Scalar { text: text.to_owned(), plain: true }) }
    }

    pub(crate) fn resolve(&self) -> Option<Resolved> {
        match &self.value {
            Value::Scalar(scalar) => Some(scalar.resolve()),
            Value::List(_) | Value::Mapping(_) | Value::Refused => None,
        }
    }

    pub(crate) fn is_null(&self) -> bool {
        self.resolve() == Some(Resolved::Null)
    }

    pub(crate) const fn is_refused(&self) -> bool {
        matches!(self.value, Value::Refused)
    }

    /// The value under `key`, when this is a mapping that has it.
    pub(crate) fn get(&self, key: &str) -> Option<&Entry> {
        match &self.value {
            Value::Mapping(entries) => entries.iter().find(|entry| entry.key == key),
            Value::Scalar(_) | Value::List(_) | Value::Refused => None,
        }
    }

    /// The text of a scalar, however it is written.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar(scalar) => Some(&scalar.text),
            Value::List(_) | Value::Mapping(_) | Value::Refused => None,
        }
    }

    /// What it is, for `found ...`.
    pub(crate) fn describe(&self) -> String {
        let (Value::Scalar(scalar), Some(resolved)) = (&self.value, self.resolve()) else {
            return if matches!(self.value, Value::List(_)) {
                "a list".to_owned()
            } else {
                "a mapping".to_owned()
            };
        };
        match resolved {
            Resolved::Null => "nothing".to_owned(),
            Resolved::Flag(flag) => format!("{flag}"),
            Resolved::Whole(_) | Resolved::Decimal => format!("the number {}", scalar.text),
            Resolved::Text => format!("the text {}", quoted(&scalar.text)),
        }
    }
}

/// A text for messages: quoted, escaped, and not longer than a line.
pub(crate) fn quoted(text: &str) -> String {
    const SHOWN: usize = 60;
    if text.chars().count() <= SHOWN {
        return format!("{text:?}");
    }
    let start: String = text.chars().take(SHOWN).collect();
    format!("{start:?}...")
}

/// A document as far as it could be read.
pub(crate) struct Tree {
    pub(crate) root: Option<Node>,
    /// Whether nothing is missing after a mistake in the syntax.
    pub(crate) complete: bool,
}

/// The tree of `range` of the faults' source. Faults are added for all that is no plain YAML.
pub(crate) fn read(faults: &mut Faults<'_>, range: Range<usize>) -> Tree {
    let text = faults.source.text().get(range.clone()).unwrap_or_default();
    let mut builder =
        Builder { offsets: Offsets::new(text, range.start), faults, open: Vec::new(), root: None };
    let mut parser = Parser::new_from_str(text);
    let complete = loop {
        match builder.step(&mut parser) {
            Step::More => {}
            Step::End => break true,
            Step::Broken => break false,
        }
    };
    builder.close_all();
    Tree { root: builder.root, complete }
}

/// Bytes of the whole text from the parser's characters of the document.
struct Offsets {
    base: usize,
    /// Of each character; empty when all are of one byte.
    bytes: Vec<usize>,
    len: usize,
}

impl Offsets {
    fn new(text: &str, base: usize) -> Self {
        let bytes =
            if text.is_ascii() { Vec::new() } else { text.char_indices().map(|(at, _)| at).collect() };
        Self { base, bytes, len: text.len() }
    }

    fn byte(&self, character: usize) -> usize {
        let byte = if self.bytes.is_empty() {
            character
        } else {
            self.bytes.get(character).copied().unwrap_or(self.len)
        };
        self.base + byte.min(self.len)
    }

    fn range(&self, span: Span) -> Range<usize> {
        let start = self.byte(span.start.index());
        start..self.byte(span.end.index()).max(start)
    }
}

/// A collection whose end was not seen yet.
struct Open {
    span: Range<usize>,
    kind: OpenKind,
}

enum OpenKind {
    List(Vec<Node>),
    Mapping { entries: Vec<Entry>, key: Option<Node> },
}

enum Step {
    More,
    End,
    Broken,
}

struct Builder<'f, 's> {
    offsets: Offsets,
    faults: &'f mut Faults<'s>,
    open: Vec<Open>,
    root: Option<Node>,
}

impl Builder<'_, '_> {
    /// Takes one event.
    fn step(&mut self, parser: &mut Parser<'_, StrInput<'_>>) -> Step {
        let (event, span) = match parser.next_event() {
            None => return Step::End,
            Some(Ok((event, span))) => (event, self.offsets.range(span)),
            Some(Err(error)) => {
                self.broken(&error);
                return Step::Broken;
            }
        };
        match event {
            Event::Nothing | Event::StreamStart | Event::DocumentEnd => {}
            Event::StreamEnd => return Step::End,
            Event::DocumentStart(_) => {
                if self.root.is_some() {
                    self.refuse(span, "a second document begins here", "begin documents with a line ---");
                    return Step::Broken;
                }
            }
            Event::Alias(_) => {
                self.refuse(span.clone(), "aliases (*name) are not read", "write the value out");
                self.add(Node { span, value: Value::Refused });
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.extras(&span, anchor, tag.is_some());
                let scalar = Scalar { text: text.into_owned(), plain: style == ScalarStyle::Plain };
                let value = if tag.is_some() { Value::Refused } else { Value::Scalar(scalar) };
                self.add(Node { span, value });
            }
            Event::SequenceStart(anchor, tag) => {
                self.extras(&span, anchor, tag.is_some());
                return self.begin(span, OpenKind::List(Vec::new()));
            }
            Event::MappingStart(anchor, tag) => {
                self.extras(&span, anchor, tag.is_some());
                return self.begin(span, OpenKind::Mapping { entries: Vec::new(), key: None });
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(span.end),
        }
        Step::More
    }

    fn broken(&mut self, error: &ScanError) {
        let at = self.offsets.byte(error.marker().index());
        let text = self.faults.source.text();
        let (at, fault) = syntax::explain(error.info(), text, at);
        let end = text.get(at..).and_then(|rest| rest.chars().next()).map_or(at, |c| at + c.len_utf8());
        self.faults.push("", at..end, fault);
    }

    fn refuse(&mut self, span: Range<usize>, message: &str, hint: &str) {
        self.faults.push("", span, RuleFault::new(message).hint(hint));
    }

    /// Refuses what may stand before a node.
    fn extras(&mut self, span: &Range<usize>, anchor: usize, tagged: bool) {
        if anchor > 0 {
            self.refuse(span.clone(), "anchors (&name) are not read", "write each value out");
        }
        if tagged {
            self.refuse(span.clone(), "tags (!name) are not read", "put text into quotes instead");
        }
    }

    fn begin(&mut self, span: Range<usize>, kind: OpenKind) -> Step {
        if self.open.len() >= MAX_DEPTH {
            self.faults.push("", span, syntax::too_deep());
            return Step::Broken;
        }
        self.open.push(Open { span, kind });
        Step::More
    }

    fn close(&mut self, end: usize) {
        let Some(Open { span, kind }) = self.open.pop() else { return };
        let value = match kind {
            OpenKind::List(items) => Value::List(items),
            OpenKind::Mapping { entries, key } => {
                let mut entries = entries;
                // Only when the text broke off between a key and its value.
                if let Some(Node { span, value: Value::Scalar(scalar) }) = key {
                    let value = Node { span: span.end..span.end, value: Node::word("").value };
                    entries.push(Entry { key: scalar.text, key_span: span, value });
                }
                Value::Mapping(entries)
            }
        };
        // A block collection is closed by the next thing that is less indented: its last part is its end.
        let last = match &value {
            Value::List(items) => items.last().map(|item| item.span.end),
            Value::Mapping(entries) => entries.last().map(|entry| entry.span().end),
            Value::Scalar(_) | Value::Refused => None,
        };
        let flow =
            self.faults.source.text().get(span.clone()).is_some_and(|text| text.starts_with(['{', '[']));
        let end = if flow { end } else { last.unwrap_or(span.end) };
        self.add(Node { span: span.start..end.max(span.start), value });
    }

    fn close_all(&mut self) {
        while !self.open.is_empty() {
            self.close(0);
        }
    }

    fn add(&mut self, node: Node) {
        let Some(open) = self.open.last_mut() else {
            self.root.get_or_insert(node);
            return;
        };
        match &mut open.kind {
            OpenKind::List(items) => items.push(node),
            OpenKind::Mapping { entries, key } => match key.take() {
                None => *key = Some(node),
                Some(Node { span: key_span, value: Value::Scalar(scalar) }) => {
                    entries.push(Entry { key: scalar.text, key_span, value: node });
                }
                // A tagged or aliased key was refused when it was read.
                Some(Node { value: Value::Refused, .. }) => {}
                Some(Node { span, value: Value::List(_) | Value::Mapping(_) }) => {
                    self.refuse(
                        span,
                        "a list or mapping cannot be a key",
                        "write a plain name before the colon",
                    );
                }
            },
        }
    }
}
