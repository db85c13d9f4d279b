//! What nodes say of themselves and of each other, in words that do not depend on addresses, ids or times.

use std::collections::{BTreeMap, BTreeSet};

use overlord_engines::cluster::{Flag, LinkState, Node, NodeId, NodesConf, Replication, Role, View};

use crate::stage::Stage;

/// What one node says.
pub(crate) enum Seen {
    /// Nothing, and why.
    Nothing(String),
    Told(Box<Told>),
}

pub(crate) struct Told {
    pub(crate) view: View,
    pub(crate) replication: Replication,
    pub(crate) keys: BTreeSet<String>,
    pub(crate) syncs: (String, String),
}

/// What all nodes say.
#[derive(Default)]
pub(crate) struct World(pub(crate) BTreeMap<usize, Seen>);

impl Seen {
    /// Reads the answers, with the parsers that Overlord has.
    pub(crate) fn read(answers: &[String]) -> Self {
        if let Some(none) = answers.iter().find(|answer| answer.starts_with('(') || answer.starts_with('-')) {
            return Self::Nothing(none.split_whitespace().next().unwrap_or_default().to_owned());
        }
        let texts: Vec<&str> =
            answers.iter().map(|answer| answer.split_once("\r\n").map_or("", |(_, body)| body)).collect();
        let view = View::parse(texts[0], texts[1]).unwrap_or_else(|error| panic!("{error}: {}", texts[0]));
        let info = texts[2..7].concat();
        let replication = Replication::parse(&info).unwrap_or_else(|error| panic!("{error}: {info}"));
        let keys = texts[7].split("\r\n").filter(|line| !line.is_empty() && !line.starts_with('$'));
        let keys = keys.map(|key| key.split('}').next_back().unwrap_or(key).to_owned()).collect();
        let field = |name: &str| {
            let found = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            found.unwrap_or_default().trim().to_owned()
        };
        let syncs = (field("sync_full"), field("sync_partial_ok"));
        Self::Told(Box::new(Told { view, replication, keys, syncs }))
    }
}

/// A node's name.
fn name(id: &NodeId) -> String {
    (0..20).find(|n| Stage::id(*n) == *id).map_or_else(|| "stranger".to_owned(), |n| format!("n{n}"))
}

impl Told {
    pub(crate) fn is_master(&self) -> bool {
        self.view.myself().role() == Some(Role::Master)
    }

    /// What it says of itself and of others.
    fn tell(&self) -> String {
        let me = self.view.myself();
        let role = match me.master {
            None => format!("master of [{}]", me.slots),
            Some(master) => format!("replica of {}", name(&master)),
        };
        let link = match (self.replication.is_replica, self.replication.link_up) {
            (false, _) => String::new(),
            (true, true) => " up".to_owned(),
            (true, false) if self.replication.link_down_seconds.is_some() => " down".to_owned(),
            (true, false) => " never".to_owned(),
        };
        let ok = if self.view.info().ok { "ok" } else { "fail" };
        let mut others: Vec<String> = self
            .view
            .nodes()
            .iter()
            .filter(|node| !node.is_myself())
            .map(|node| {
                let of = node.master.map_or_else(String::new, |master| format!("<{}", name(&master)));
                let mut marks: Vec<String> = Vec::new();
                for (flag, mark) in [
                    (Flag::SuspectedFail, "fail?"),
                    (Flag::Fail, "fail"),
                    (Flag::Handshake, "handshake"),
                    (Flag::NoAddress, "noaddr"),
                ] {
                    if node.flags.has(flag) {
                        marks.push(format!(" {mark}"));
                    }
                }
                let slots = if node.slots.is_empty() { String::new() } else { format!("[{}]", node.slots) };
                format!("{}{of}{slots}{}", name(&node.id), marks.concat())
            })
            .collect();
        others.sort();
        let keys: Vec<&str> = self.keys.iter().map(String::as_str).collect();
        format!("{role}{link}, {ok}, keys {{{}}}, sees {}", keys.join(" "), others.join(", "))
    }
}

impl World {
    pub(crate) fn told(&self, n: usize) -> Option<&Told> {
        match self.0.get(&n) {
            Some(Seen::Told(told)) => Some(told),
            Some(Seen::Nothing(_)) | None => None,
        }
    }

    fn all(&self) -> impl Iterator<Item = &Told> {
        self.0.keys().filter_map(|n| self.told(*n))
    }

    /// A master with slots, by its own words, and the cluster is ok.
    pub(crate) fn serves(&self, n: usize) -> bool {
        self.told(n).is_some_and(|told| {
            told.is_master() && !told.view.myself().slots.is_empty() && told.view.info().ok
        })
    }

    /// A replica of that node whose link is up.
    pub(crate) fn follows(&self, n: usize, master: usize) -> bool {
        self.told(n).is_some_and(|told| {
            told.view.myself().master == Some(Stage::id(master)) && told.replication.link_up
        })
    }

    /// Everybody who answers sees it as a master with slots.
    pub(crate) fn all_see(&self, n: usize) -> bool {
        self.all().all(|told| {
            let node = told.view.nodes().iter().find(|node| node.id == Stage::id(n));
            node.is_some_and(|node| node.role() == Some(Role::Master) && !node.slots.is_empty())
        })
    }

    /// Everybody who answers sees it as a replica of that one.
    pub(crate) fn all_see_replica(&self, n: usize, master: usize) -> bool {
        self.all().all(|told| {
            let node = told.view.nodes().iter().find(|node| node.id == Stage::id(n));
            node.is_some_and(|node| node.master == Some(Stage::id(master)))
        })
    }

    /// Everybody who answers, but itself, says that of it.
    pub(crate) fn all_say(&self, n: usize, flag: Flag) -> bool {
        self.0.keys().filter(|by| **by != n && self.told(**by).is_some()).all(|by| self.says(*by, n, flag))
    }

    /// Nobody who answers says that of it.
    pub(crate) fn none_says(&self, n: usize, flag: Flag) -> bool {
        !self.0.keys().any(|by| self.says(*by, n, flag))
    }

    /// Whether a node says that of another.
    pub(crate) fn says(&self, n: usize, of: usize, flag: Flag) -> bool {
        let node =
            self.told(n).and_then(|told| told.view.nodes().iter().find(|node| node.id == Stage::id(of)));
        node.is_some_and(|node| node.flags.has(flag))
    }

    /// Whether a node has no link to another.
    pub(crate) fn lost(&self, n: usize, of: usize) -> bool {
        let node =
            self.told(n).and_then(|told| told.view.nodes().iter().find(|node| node.id == Stage::id(of)));
        node.is_some_and(|node| node.link == LinkState::Disconnected)
    }

    pub(crate) fn knows(&self, n: usize, other: usize) -> bool {
        self.told(n).is_some_and(|told| told.view.nodes().iter().any(|node| node.id == Stage::id(other)))
    }

    pub(crate) fn has(&self, n: usize, key: &str) -> bool {
        self.told(n).is_some_and(|told| told.keys.contains(key))
    }

    pub(crate) fn is_ok(&self, n: usize) -> bool {
        self.told(n).is_some_and(|told| told.view.info().ok)
    }

    /// How a node's view of all nodes is, without itself: for agreement.
    fn opinion(told: &Told) -> BTreeSet<String> {
        let line = |node: &Node| {
            let role = node.role();
            format!("{} {role:?} {:?} {} {}", node.id, node.master, node.slots, node.config_epoch)
        };
        told.view.nodes().iter().map(line).collect()
    }

    /// Everybody runs, is ok, agrees with the others, reaches them, and follows its master.
    pub(crate) fn is_well(&self) -> bool {
        let mut opinions = self.all().map(Self::opinion);
        let first = opinions.next();
        let agree = opinions.all(|opinion| Some(&opinion) == first.as_ref());
        let well = |told: &Told| {
            let clean = told.view.nodes().iter().all(|node| {
                node.link == LinkState::Connected
                    && ![Flag::SuspectedFail, Flag::Fail, Flag::Handshake, Flag::NoAddress]
                        .iter()
                        .any(|flag| node.flags.has(*flag))
            });
            let linked = told.is_master() != told.replication.is_replica
                && (!told.replication.is_replica || told.replication.link_up);
            told.view.info().ok && clean && linked
        };
        agree && self.all().count() == self.0.len() && self.all().all(well)
    }

    /// The world in lines: each node, then masters in the order of their epochs.
    pub(crate) fn tell(&self) -> Vec<String> {
        let mut lines: Vec<String> = self
            .0
            .iter()
            .map(|(n, seen)| match seen {
                Seen::Nothing(why) => format!("n{n} {why}"),
                Seen::Told(told) => format!("n{n} {}", told.tell()),
            })
            .collect();
        let mut masters: Vec<(u64, usize)> = self
            .0
            .keys()
            .filter_map(|n| Some((*n, self.told(*n)?)))
            .filter(|(_, told)| told.is_master())
            .map(|(n, told)| (told.view.info().my_epoch, n))
            .collect();
        masters.sort_unstable();
        let order: Vec<String> = masters.iter().map(|(_, n)| format!("n{n}")).collect();
        lines.push(format!("epochs {}", order.join(" < ")));
        lines
    }
}

/// What a file says, in the same words.
pub(crate) fn tell_file(text: &str) -> String {
    let conf = NodesConf::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{error}: {text}"));
    let line = |node: &Node| {
        let of = node.master.map_or_else(String::new, |master| format!("<{}", name(&master)));
        let me = if node.is_myself() { "*" } else { "" };
        let failed = if node.flags.has(Flag::Fail) { " fail" } else { "" };
        format!("{me}{}{of}[{}]{failed}", name(&node.id), node.slots)
    };
    let mut lines: Vec<String> = conf.nodes().iter().map(line).collect();
    lines.sort();
    lines.join(", ")
}
