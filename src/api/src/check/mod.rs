//! From a tree to a cluster: all faults of a document in one walk.

mod section;
mod spec;
pub(crate) mod text;
mod value;

use std::{collections::BTreeMap, ops::Range};

pub(crate) use section::default_of;
use section::{Section, join};

use crate::{
    Cluster, ClusterName, Engine, Kind, RuleFault, Rules,
    fields::{self, DOCUMENT},
    node::{Entry, Node, Value, quoted},
    source::Faults,
};

/// Rules without tables: for what was accepted before.
pub(crate) struct Accepted;

impl Rules for Accepted {
    fn version(&self, _: Engine, _: &str) -> Result<(), RuleFault> {
        Ok(())
    }

    fn directive(&self, _: Kind, _: &str, _: &str, _: &str) -> Result<(), RuleFault> {
        Ok(())
    }
}

/// Who a document says it is, whatever else is wrong with it.
pub(crate) struct Header {
    pub(crate) name: Option<String>,
    pub(crate) name_span: Range<usize>,
    pub(crate) kind: Option<Kind>,
}

/// Reads the header of a tree that may be broken in any way.
pub(crate) fn header(root: Option<&Node>, start: usize) -> Header {
    let name = root.and_then(|root| root.get("metadata")?.value.get("name"));
    let text = name.and_then(|entry| entry.value.text()).filter(|text| !text.is_empty());
    Header {
        name: text.map(str::to_owned),
        name_span: name.map_or(start..start, |entry| entry.value.span.clone()),
        kind: root.and_then(|root| kind_of(root.get("kind")?.value.text()?)),
    }
}

fn kind_of(word: &str) -> Option<Kind> {
    Kind::ALL.into_iter().find(|kind| kind.manifest_kind() == word)
}

/// The cluster of a document, when it has no faults that stop it from being one.
pub(crate) fn check(faults: &mut Faults<'_>, root: &Node, rules: &dyn Rules) -> Option<Cluster> {
    if root.is_refused() {
        return None;
    }
    if !matches!(root.value, Value::Mapping(_)) {
        let fault = RuleFault::new(format!("expected a mapping, found {}", root.describe()));
        faults.push("", root.span.clone(), fault.hint("begin with apiVersion: overlord/v1"));
        return None;
    }
    let start = root.span.start..root.span.start;
    let document = Section::open(faults, &DOCUMENT, "", root, &start, |_| None);
    let _: Option<String> = document.word(faults, "apiVersion");
    let kind: Option<String> = document.word(faults, "kind");

    let metadata = document.child(faults, "metadata");
    let name = name(faults, &metadata);
    let labels = labels(faults, &metadata);

    let entry = document.entry("spec");
    // A spec of an unknown kind is checked as what it looks like.
    let kind = kind.as_deref().and_then(kind_of).or_else(|| guess(&entry?.value));
    let spec = spec::check(faults, kind?, entry?, rules);
    let cluster = Cluster { name: name?, labels, spec };
    whole(faults, root, &cluster, rules);
    Some(cluster)
}

fn guess(spec: &Node) -> Option<Kind> {
    if spec.get("masters").is_some() || spec.get("replicasPerMaster").is_some() {
        return Some(Kind::RedisCluster);
    }
    if spec.get("instances").is_some() {
        return Some(Kind::Memcache);
    }
    spec.get("shards").map(|_| Kind::Redis)
}

fn name(faults: &mut Faults<'_>, metadata: &Section<'_>) -> Option<ClusterName> {
    let node = &metadata.entry("name").filter(|entry| !entry.value.is_refused())?.value;
    match value::name(node) {
        Ok(name) => Some(name),
        Err(fault) => {
            faults.push("metadata.name", node.span.clone(), fault);
            None
        }
    }
}

fn labels(faults: &mut Faults<'_>, metadata: &Section<'_>) -> BTreeMap<String, String> {
    let path = metadata.path("labels");
    let mut labels = BTreeMap::new();
    for Entry { key, key_span, value } in metadata.pairs(faults, "labels", fields::MAX_LABELS) {
        if let Err(why) = text::label(key) {
            let fault = RuleFault::new(format!("the label name {} {why}", quoted(key)));
            faults.push(&join(&path, key), key_span.clone(), fault);
        }
        if value.is_refused() {
            continue;
        }
        match value::label_value(value) {
            Ok(text) => {
                labels.entry(key.clone()).or_insert(text);
            }
            Err(fault) => faults.push(&join(&path, key), value.span.clone(), fault),
        }
    }
    labels
}

/// Asks the rules about the whole, when what they look at is sound.
fn whole(faults: &mut Faults<'_>, root: &Node, cluster: &Cluster, rules: &dyn Rules) {
    const LOOKED_AT: [&str; 5] =
        ["kind", "spec.version", "spec.resources", "spec.config", "spec.persistence"];
    const SIZES: [&str; 4] = ["spec.shards", "spec.masters", "spec.replicasPerMaster", "spec.instances"];
    if LOOKED_AT.iter().chain(&SIZES).any(|path| faults.touch(path)) {
        return;
    }
    for (path, fault) in rules.whole(cluster) {
        faults.push(&path, find(root, &path), fault);
    }
}

/// Where the field of a path stands, or the nearest field above it.
pub(crate) fn find(root: &Node, path: &str) -> Range<usize> {
    let mut node = root;
    let mut span = root.span.start..root.span.start;
    for name in path.split('.') {
        let Some(entry) = node.get(name) else { return span };
        span = match entry.value.value {
            Value::Scalar(_) => entry.span(),
            Value::List(_) | Value::Mapping(_) | Value::Refused => entry.key_span.clone(),
        };
        node = &entry.value;
    }
    span
}
