//! Reading one mapping by its table of fields. Every reader adds the faults it finds and then goes on
//! with the default, so that one mistake hides no other.

use std::{collections::BTreeMap, ops::Range, time::Duration};

use serde::{de::IntoDeserializer, de::value::Error as WordError};

use super::value;
use crate::{
    RuleFault,
    fields::{Field, Need, Object, Type},
    node::{self, Entry, Node, Value},
    source::{Faults, Source},
    suggest::nearest,
};

/// What is said of a field that is none.
pub(crate) struct Unknown {
    pub(crate) fault: RuleFault,
    /// The field that was probably meant, which then is not reported as missing.
    pub(crate) meant: Option<&'static str>,
}

/// A mapping of the document, or what stands for one that is not there.
pub(crate) struct Section<'n> {
    object: &'static Object,
    path: String,
    entries: &'n [Entry],
}

impl<'n> Section<'n> {
    /// Opens what stands at `path`, and reports what is no mapping, fields that are unknown, given twice or
    /// missing. `at` is where something missing is shown. `explain` may know more of an unknown field.
    pub(crate) fn open(
        faults: &mut Faults<'_>,
        object: &'static Object,
        path: &str,
        node: &'n Node,
        at: &Range<usize>,
        explain: impl Fn(&str) -> Option<Unknown>,
    ) -> Self {
        let mut section = Self { object, path: path.to_owned(), entries: &[] };
        match &node.value {
            Value::Mapping(entries) => section.entries = entries,
            _ if node.is_null() => {}
            Value::Refused => return section,
            Value::Scalar(_) | Value::List(_) => {
                let names = object.names().collect::<Vec<_>>().join(", ");
                let fault = RuleFault::new(format!("expected a mapping, found {}", node.describe()));
                faults.push(path, node.span.clone(), fault.hint(format!("its fields are {names}")));
                return section;
            }
        }
        refuse_twice(faults, path, section.entries);
        let mut meant = Vec::new();
        for entry in section.entries.iter().filter(|entry| object.field(&entry.key).is_none()) {
            let unknown = explain(&entry.key).unwrap_or_else(|| unknown(object, &entry.key));
            faults.push(&join(path, &entry.key), entry.key_span.clone(), unknown.fault);
            meant.extend(unknown.meant);
        }
        for field in object.fields {
            // A misspelt field is not missing as well.
            let absent = section.entry(field.name).is_none() && !meant.contains(&field.name);
            if let (Need::Required(example), true) = (&field.need, absent) {
                let fault = RuleFault::new("is missing").hint(format!("write {example}"));
                faults.push(&join(path, field.name), at.clone(), fault);
            }
        }
        section
    }

    /// Opens the mapping under `name`. What is absent has no faults: a required one was reported by its parent.
    pub(crate) fn child(&self, faults: &mut Faults<'_>, name: &str) -> Self {
        let path = join(&self.path, name);
        let object = match self.object.field(name).map(|field| &field.holds) {
            Some(Type::Object(object)) => object,
            _ => self.object,
        };
        match self.entry(name) {
            Some(entry) => Self::open(faults, object, &path, &entry.value, &entry.key_span, |_| None),
            None => Self { object, path, entries: &[] },
        }
    }

    pub(crate) fn entry(&self, name: &str) -> Option<&'n Entry> {
        self.entries.iter().find(|entry| entry.key == name)
    }

    pub(crate) fn path(&self, name: &str) -> String {
        join(&self.path, name)
    }

    /// The value of a field by its type, or its default; the type's zero when there is neither.
    fn read<T: Default>(
        &self,
        faults: &mut Faults<'_>,
        name: &str,
        read: impl Fn(&Type, &Node) -> Option<Result<T, RuleFault>>,
    ) -> T {
        let Some(field) = self.object.field(name) else { return T::default() };
        if let Some(entry) = self.entry(name).filter(|entry| !entry.value.is_refused()) {
            match read(&field.holds, &entry.value) {
                Some(Ok(value)) => return value,
                Some(Err(fault)) => faults.push(&self.path(name), entry.value.span.clone(), fault),
                None => {}
            }
        }
        default_of(field).and_then(|node| read(&field.holds, &node)?.ok()).unwrap_or_default()
    }

    pub(crate) fn whole(&self, faults: &mut Faults<'_>, name: &str) -> u32 {
        self.read(faults, name, |holds, node| match holds {
            Type::Whole { least, most } => Some(value::whole(node, *least, *most)),
            _ => None,
        })
    }

    pub(crate) fn flag(&self, faults: &mut Faults<'_>, name: &str) -> bool {
        self.read(faults, name, |holds, node| matches!(holds, Type::Flag).then(|| value::flag(node)))
    }

    pub(crate) fn bytes(&self, faults: &mut Faults<'_>, name: &str) -> u64 {
        self.read(faults, name, |holds, node| match holds {
            Type::Bytes { least, most } => Some(value::bytes(node, *least, *most)),
            _ => None,
        })
    }

    pub(crate) fn cpu(&self, faults: &mut Faults<'_>, name: &str) -> u32 {
        self.read(faults, name, |holds, node| match holds {
            Type::Cpu { least, most } => Some(value::cpu(node, *least, *most)),
            _ => None,
        })
    }

    pub(crate) fn time(&self, faults: &mut Faults<'_>, name: &str) -> Duration {
        self.read(faults, name, |holds, node| match holds {
            Type::Time { least, most } => Some(value::time(node, *least, *most)),
            _ => None,
        })
    }

    pub(crate) fn text(&self, faults: &mut Faults<'_>, name: &str) -> String {
        self.read(faults, name, |holds, node| match holds {
            Type::Text { most, rule, .. } => Some(value::bounded_text(node, *most, *rule)),
            Type::Version => Some(value::version(node)),
            _ => None,
        })
    }

    /// The word of a field as the enum that serializes to it.
    pub(crate) fn word<T: for<'de> serde::Deserialize<'de>>(
        &self,
        faults: &mut Faults<'_>,
        name: &str,
    ) -> Option<T> {
        let word = self.read(faults, name, |holds, node| match holds {
            Type::Word(words) => Some(value::word(node, words)),
            _ => None,
        });
        let word: Result<T, WordError> = T::deserialize(word.into_deserializer());
        word.ok()
    }

    /// The items of a list with their paths, read by `each`; the default list when there is none.
    pub(crate) fn list<T>(
        &self,
        faults: &mut Faults<'_>,
        name: &str,
        each: impl Fn(&mut Faults<'_>, &Type, &str, &Node) -> Option<T>,
    ) -> Vec<T> {
        let Some(Field { holds: Type::List { of, most, least }, .. }) = self.object.field(name) else {
            return Vec::new();
        };
        let path = self.path(name);
        let given = self.entry(name).map(|entry| &entry.value).filter(|node| !node.is_null());
        let default = if given.is_none() { self.object.field(name).and_then(default_of) } else { None };
        let Some(node) = given.or(default.as_ref()) else { return Vec::new() };
        let Value::List(items) = &node.value else {
            if node.is_refused() {
                return Vec::new();
            }
            let fault = RuleFault::new(format!("expected a list, found {}", node.describe()));
            faults.push(&path, node.span.clone(), fault.hint("write [a, b], or one line '- a' an item"));
            return Vec::new();
        };
        if items.len() > *most || items.len() < *least {
            let fault = RuleFault::new(format!("expected {least} to {most} items, found {}", items.len()));
            faults.push(&path, node.span.clone(), fault);
        }
        let items = items.iter().enumerate().take(*most);
        items.filter_map(|(n, item)| each(faults, of, &format!("{path}[{n}]"), item)).collect()
    }

    /// The entries of a mapping whose names people choose. Null is none.
    pub(crate) fn pairs(&self, faults: &mut Faults<'_>, name: &str, most: usize) -> &'n [Entry] {
        let Some(entry) = self.entry(name) else { return &[] };
        let path = self.path(name);
        match &entry.value.value {
            Value::Mapping(entries) => {
                refuse_twice(faults, &path, entries);
                if entries.len() > most {
                    let fault =
                        RuleFault::new(format!("expected at most {most} entries, found {}", entries.len()));
                    faults.push(&path, entry.key_span.clone(), fault);
                }
                &entries[..entries.len().min(most)]
            }
            _ if entry.value.is_null() || entry.value.is_refused() => &[],
            Value::Scalar(_) | Value::List(_) | Value::Refused => {
                let fault = RuleFault::new(format!("expected a mapping, found {}", entry.value.describe()));
                faults.push(
                    &path,
                    entry.value.span.clone(),
                    fault.hint("write one line name: value an entry"),
                );
                &[]
            }
        }
    }
}

/// The default as if it had been written.
pub(crate) fn default_of(field: &Field) -> Option<Node> {
    let Need::Default(text) = field.need else { return None };
    let source = Source::new(text);
    node::read(&mut Faults::new(&source), 0..text.len()).root
}

fn unknown(object: &Object, name: &str) -> Unknown {
    let fault = RuleFault::new("unknown field");
    if name == "<<" {
        return Unknown { fault: fault.hint("merge keys are not read: write the fields out"), meant: None };
    }
    let near = nearest(name, object.names());
    let fault = match near {
        Some(near) => fault.hint(format!("did you mean {near}?")),
        None => fault.hint(format!("known here: {}", object.names().collect::<Vec<_>>().join(", "))),
    };
    Unknown { fault, meant: near }
}

fn refuse_twice(faults: &mut Faults<'_>, path: &str, entries: &[Entry]) {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for entry in entries {
        if let Some(first) = seen.get(entry.key.as_str()) {
            let (line, _) = faults.source.locate(*first);
            let fault = RuleFault::new(format!("given twice, first in line {line}")).hint("keep one of them");
            faults.push(&join(path, &entry.key), entry.key_span.clone(), fault);
        } else {
            seen.insert(&entry.key, entry.key_span.start);
        }
    }
}

/// The path of a field. Names that would be unclear in it are quoted.
pub(crate) fn join(path: &str, name: &str) -> String {
    let clear = !name.is_empty()
        && name.len() <= 64
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_/".contains(&b));
    match (path.is_empty(), clear) {
        (true, true) => name.to_owned(),
        (false, true) => format!("{path}.{name}"),
        (_, false) => format!("{path}[{}]", node::quoted(name)),
    }
}
