//! From text to validated clusters: files of several documents, the value of one key, and revisions.

use std::ops::Range;

use crate::{
    Cluster, ClusterName, Fault, Kind, RuleFault, Rules,
    check::{self, Accepted, Header, text::is_hidden},
    documents::{self, Part},
    node,
    source::{Faults, Source},
};

/// Bytes one spec may have. The largest real ones have two thousand.
pub const MAX_SPEC_BYTES: usize = 64 * 1024;

/// Bytes a file of specs may have.
pub const MAX_FILE_BYTES: usize = 8 * 1024 * 1024;

/// A revision holds a spec with its defaults, and each of its characters perhaps escaped.
const MAX_REVISION_BYTES: usize = 4 * MAX_SPEC_BYTES;

/// One document of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// `metadata.name` as written, perhaps illegal.
    pub name: Option<String>,
    /// The kind, when it is one.
    pub kind: Option<Kind>,
    /// The document's own text, verbatim: what belongs under its config key.
    pub text: String,
    /// The cluster, or all that is wrong with it.
    pub cluster: Result<Cluster, Vec<Fault>>,
}

/// All documents of a file (YAML of any number of documents, or JSON), with every fault of each. Documents
/// without content are left out; a bad one never hides the others.
pub fn parse_file(text: &str, rules: &dyn Rules) -> Vec<Document> {
    let source = Source::new(text);
    if text.len() > MAX_FILE_BYTES {
        let fault = RuleFault::new(format!("the file has {} bytes, more than {MAX_FILE_BYTES}", text.len()));
        let fault = source.fault("", 0..0, fault.hint("split it"));
        return vec![Document { name: None, kind: None, text: String::new(), cluster: Err(vec![fault]) }];
    }
    let mut documents: Vec<(Document, usize)> = Vec::new();
    for part in documents::split(text) {
        let read = read(&source, &part, rules, MAX_SPEC_BYTES);
        let mut cluster = read.cluster;
        let same =
            |(document, _): &&(Document, usize)| document.name.is_some() && document.name == read.header.name;
        if let Some((_, first)) = documents.iter().find(same) {
            let (line, _) = source.locate(*first);
            let fault = RuleFault::new(format!("this name is already used in line {line}"))
                .hint("a name is one cluster");
            let fault = source.fault("metadata.name", read.header.name_span.clone(), fault);
            cluster = Err(with(cluster, fault));
        }
        let document = Document {
            name: read.header.name,
            kind: read.header.kind,
            text: text.get(part.text).unwrap_or_default().to_owned(),
            cluster,
        };
        documents.push((document, read.header.name_span.start));
    }
    documents.into_iter().map(|(document, _)| document).collect()
}

/// The value of the config key of `name`: exactly one document, whose `metadata.name` is `name`.
pub fn parse_key(name: &ClusterName, text: &[u8], rules: &dyn Rules) -> Result<Cluster, Vec<Fault>> {
    if text.len() > MAX_SPEC_BYTES {
        return Err(vec![oversized(&Source::new(""), 0..0, text.len(), MAX_SPEC_BYTES)]);
    }
    let text = std::str::from_utf8(text).map_err(|error| {
        let end = error.valid_up_to();
        let valid = text.get(..end).and_then(|valid| std::str::from_utf8(valid).ok()).unwrap_or_default();
        let fault = RuleFault::new(format!("byte {end} is not UTF-8")).hint("save the spec as UTF-8");
        vec![Source::new(valid).fault("", end..end, fault)]
    })?;
    let source = Source::new(text);
    let parts = documents::split(text);
    let Some(part) = parts.first() else {
        let fault = RuleFault::new("there is no document in it").hint("begin with apiVersion: overlord/v1");
        return Err(vec![source.fault("", 0..0, fault)]);
    };
    let Read { header, mut cluster } = read(&source, part, rules, MAX_SPEC_BYTES);
    if let Some(second) = parts.get(1) {
        let fault = RuleFault::new("a second document begins here").hint("one key holds one cluster");
        let start = second.range.start;
        cluster = Err(with(cluster, source.fault("", start..(start + 3).min(second.range.end), fault)));
    }
    if header.name.as_deref().is_some_and(|found| found != name.as_str() && ClusterName::new(found).is_ok()) {
        let found = header.name.unwrap_or_default();
        let fault = RuleFault::new(format!("is {found}, but the key is {}", crate::keys::config(name)))
            .hint(format!("write name: {name}, or put it under {}{found}", crate::keys::CONFIG));
        cluster = Err(with(cluster, source.fault("metadata.name", header.name_span, fault)));
    }
    cluster
}

/// Gives a complaint its place: where the field of `path` stands in `text`, or the nearest field above it.
pub fn locate(text: &str, path: &str, fault: RuleFault) -> Fault {
    let source = Source::new(text);
    let tree = documents::split(text).first().map(|part| {
        let mut unheard = Faults::new(&source);
        node::read(&mut unheard, part.range.clone())
    });
    let span = tree.and_then(|tree| tree.root).map_or(0..0, |root| check::find(&root, path));
    source.fault(path, span, fault)
}

/// What [`Cluster::to_yaml`] wrote. Needs no rules: they have accepted it before.
pub fn parse_revision(manifest: &str) -> Result<Cluster, Vec<Fault>> {
    let source = Source::new(manifest);
    let part = Part { range: 0..manifest.len(), text: 0..manifest.len() };
    read(&source, &part, &Accepted, MAX_REVISION_BYTES).cluster
}

/// The faults of `cluster` and one more, in the order of the text.
fn with(cluster: Result<Cluster, Vec<Fault>>, fault: Fault) -> Vec<Fault> {
    let mut faults = cluster.err().unwrap_or_default();
    faults.push(fault);
    faults.sort_by_key(|fault| fault.span.start);
    faults
}

struct Read {
    header: Header,
    cluster: Result<Cluster, Vec<Fault>>,
}

/// One document, through all steps.
fn read(source: &Source<'_>, part: &Part, rules: &dyn Rules, most: usize) -> Read {
    let start = part.range.start;
    if part.range.len() > most {
        let fault = oversized(source, start..start, part.range.len(), most);
        return Read { header: check::header(None, start), cluster: Err(vec![fault]) };
    }
    let mut faults = Faults::new(source);
    refuse_hidden(&mut faults, &part.range);
    let tree = node::read(&mut faults, part.range.clone());
    let header = check::header(tree.root.as_ref(), start);
    // A tree that broke off lacks what follows: its other faults would be guesses.
    let cluster =
        tree.root.filter(|_| tree.complete).and_then(|root| check::check(&mut faults, &root, rules));
    let faults = faults.finish();
    let cluster = match cluster {
        Some(cluster) if faults.is_empty() => Ok(cluster),
        _ if faults.is_empty() => {
            Err(vec![source.fault("", start..start, RuleFault::new("there is no cluster in it"))])
        }
        _ => Err(faults),
    };
    Read { header, cluster }
}

fn oversized(source: &Source<'_>, span: Range<usize>, found: usize, most: usize) -> Fault {
    let fault = RuleFault::new(format!("the spec has {found} bytes, more than {most}"));
    source.fault("", span, fault.hint("a spec holds one cluster"))
}

/// Refuses characters that a reader of the text would not see.
fn refuse_hidden(faults: &mut Faults<'_>, range: &Range<usize>) {
    let text = faults.source.text().get(range.clone()).unwrap_or_default();
    let mut characters = text.char_indices().peekable();
    while let Some((at, c)) = characters.next() {
        let legal = match c {
            '\n' | '\t' => true,
            '\r' => matches!(characters.peek(), Some((_, '\n')) | None),
            c => !is_hidden(c),
        };
        if !legal {
            let span = range.start + at..range.start + at + c.len_utf8();
            let fault = RuleFault::new(format!("the hidden character U+{:04X}", u32::from(c)));
            faults.push("", span, fault.hint("remove it"));
        }
    }
}
