//! `nodes.conf`: what a node knows of its cluster and itself, which it reads when it starts and writes on
//! each change. What redis-server 4.0 to 7.2 refuses to start with, or crashes on, is no [`NodesConf`].

use std::{collections::BTreeSet, fmt, str};

use super::{
    LineFault, Node, NodeId, SlotSet,
    node::{excerpt, number},
};

/// Nodes that a file or an answer may list.
pub const MAX_NODES: usize = 10_000;

/// Bytes that a file or an answer may have: [`MAX_NODES`] lines of redis 7.2, their slots scattered.
pub const MAX_NODES_CONF: usize = 8 << 20;

/// The content of a `nodes.conf`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodesConf {
    nodes: Vec<Node>,
    current_epoch: u64,
    last_vote_epoch: u64,
}

/// A file that redis would refuse, crash on, or misread.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NodesConfError {
    /// redis takes it for a node that never was in a cluster, and gives it a new id.
    #[error("nodes.conf is empty")]
    Empty,
    /// More than [`MAX_NODES_CONF`].
    #[error("nodes.conf has {0} bytes, more than {MAX_NODES_CONF}")]
    TooLong(usize),
    /// Bytes that are no text.
    #[error("nodes.conf is not text")]
    NotText,
    /// Every redis ends the file with the line of variables. Without it, or without its end, lines or
    /// digits are missing that redis itself would not miss.
    #[error("nodes.conf breaks off: there is no complete line of variables")]
    Torn,
    /// One line is wrong.
    #[error("line {line} of nodes.conf: {fault}")]
    Line {
        /// From 1.
        line: usize,
        /// What is wrong.
        fault: LineFault,
    },
    /// There is a second line of variables, as when an old text shows behind a new one.
    #[error("nodes.conf has two lines of variables")]
    TwoVars,
    /// The nodes contradict each other.
    #[error("nodes.conf: {0}")]
    Nodes(NodesFault),
}

/// Nodes that cannot be all that one node knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NodesFault {
    /// More than [`MAX_NODES`].
    #[error("there are more than {MAX_NODES} nodes")]
    TooMany,
    /// redis does not start without knowing which node it is.
    #[error("no node is myself")]
    NoMyself,
    /// redis crashes on it.
    #[error("{0} and {1} both are myself")]
    TwoMyselves(NodeId, NodeId),
    /// Two lines of one node.
    #[error("node {0} is listed twice")]
    Twice(NodeId),
    /// redis would give it to the first of them, without a word.
    #[error("slot {slot} is given to {second} and to a node before it")]
    SlotTwice {
        /// The lowest slot.
        slot: u16,
        /// The later node.
        second: NodeId,
    },
}

impl NodesConf {
    /// A file of these nodes, one of which is `myself`.
    pub fn new(nodes: Vec<Node>, current_epoch: u64, last_vote_epoch: u64) -> Result<Self, NodesConfError> {
        check(&nodes).map_err(NodesConfError::Nodes)?;
        Ok(Self { nodes, current_epoch, last_vote_epoch })
    }

    /// What a file says. Its text is [`NodesConf`]'s `Display`, in the order of the nodes.
    pub fn parse(file: &[u8]) -> Result<Self, NodesConfError> {
        if file.len() > MAX_NODES_CONF {
            return Err(NodesConfError::TooLong(file.len()));
        }
        let text = str::from_utf8(file).map_err(|_| NodesConfError::NotText)?;
        let mut nodes = Vec::new();
        let mut vars = None;
        let mut blank = true;
        for (index, line) in text.split_inclusive('\n').enumerate() {
            // Before 7.0 redis padded a text shorter than the one before it with empty lines.
            if line.trim_ascii().is_empty() {
                continue;
            }
            blank = false;
            let at = |fault| NodesConfError::Line { line: index + 1, fault };
            if let Some(words) = variables(line) {
                if vars.is_some() {
                    return Err(NodesConfError::TwoVars);
                }
                if !line.ends_with('\n') {
                    return Err(NodesConfError::Torn);
                }
                vars = Some(epochs(&words).map_err(at)?);
                continue;
            }
            if nodes.len() == MAX_NODES {
                return Err(NodesConfError::Nodes(NodesFault::TooMany));
            }
            let parsed = Node::parse(line).and_then(|(node, unknown)| match unknown {
                None => Ok(node),
                Some(flag) => Err(LineFault::Flag(flag)),
            });
            match parsed {
                Ok(node) => nodes.push(node),
                Err(_) if !line.ends_with('\n') && vars.is_none() => return Err(NodesConfError::Torn),
                Err(fault) => return Err(at(fault)),
            }
        }
        match vars {
            _ if blank => Err(NodesConfError::Empty),
            None => Err(NodesConfError::Torn),
            Some((current_epoch, last_vote_epoch)) => Self::new(nodes, current_epoch, last_vote_epoch),
        }
    }

    /// The node whose file this is.
    pub fn myself(&self) -> &Node {
        myself(&self.nodes)
    }

    /// A node.
    pub fn node(&self, id: &NodeId) -> Option<&Node> {
        self.nodes.iter().find(|node| node.id == *id)
    }

    /// All of them, in the order of the file.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The highest epoch that the node has seen.
    pub const fn current_epoch(&self) -> u64 {
        self.current_epoch
    }

    /// The epoch of its last vote. A master that forgets it may vote twice.
    pub const fn last_vote_epoch(&self) -> u64 {
        self.last_vote_epoch
    }

    /// Changes nothing but addresses and flags of health; the rest is what [`check`] holds.
    pub(crate) fn nodes_mut(&mut self) -> &mut [Node] {
        &mut self.nodes
    }
}

/// The words of a line of variables.
fn variables(line: &str) -> Option<Vec<&str>> {
    let mut words = line.split_ascii_whitespace();
    words.next().filter(|first| first.eq_ignore_ascii_case("vars"))?;
    Some(words.collect())
}

/// `currentEpoch` and `lastVoteEpoch`; redis skips variables that it does not know.
fn epochs(words: &[&str]) -> Result<(u64, u64), LineFault> {
    let (mut current, mut last_vote) = (None, None);
    for pair in words.chunks(2) {
        let [name, value] = *pair else { return Err(LineFault::Vars) };
        let epoch = match () {
            () if name.eq_ignore_ascii_case("currentEpoch") => &mut current,
            () if name.eq_ignore_ascii_case("lastVoteEpoch") => &mut last_vote,
            () => continue,
        };
        *epoch = Some(number(value).ok_or_else(|| LineFault::Number(excerpt(value)))?);
    }
    current.zip(last_vote).ok_or(LineFault::Vars)
}

/// What holds for the nodes of every file and answer.
pub(crate) fn check(nodes: &[Node]) -> Result<(), NodesFault> {
    if nodes.len() > MAX_NODES {
        return Err(NodesFault::TooMany);
    }
    let mut ids = BTreeSet::new();
    let mut owned = SlotSet::new();
    let mut me: Option<NodeId> = None;
    for node in nodes {
        if !ids.insert(node.id) {
            return Err(NodesFault::Twice(node.id));
        }
        if node.is_myself()
            && let Some(first) = me.replace(node.id)
        {
            return Err(NodesFault::TwoMyselves(first, node.id));
        }
        if !node.slots.is_empty() {
            if let Some(slot) = (&owned & &node.slots).first() {
                return Err(NodesFault::SlotTwice { slot, second: node.id });
            }
            owned.extend(&node.slots);
        }
    }
    me.map(|_| ()).ok_or(NodesFault::NoMyself)
}

/// Of nodes that [`check`] passed.
#[expect(clippy::expect_used, reason = "check() found exactly one, and flags of identity never change")]
pub(crate) fn myself(nodes: &[Node]) -> &Node {
    nodes.iter().find(|node| node.is_myself()).expect("one node is myself")
}

impl fmt::Display for NodesConf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.nodes.iter().try_for_each(|node| writeln!(f, "{node}"))?;
        writeln!(f, "{}", vars(self.current_epoch, self.last_vote_epoch))
    }
}

/// The last line.
pub(crate) fn vars(current_epoch: u64, last_vote_epoch: u64) -> String {
    format!("vars currentEpoch {current_epoch} lastVoteEpoch {last_vote_epoch}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::{
            Seed,
            strategies::{confs, members, mutated},
        },
        *,
    };

    /// In the order and form of redis 7.0.15 after a failover, each letter for an id of forty.
    const WRITTEN: &str = "\
E 127.0.0.1:7105@17105 master - 0 1426238316232 7 connected 5461-10922
A 127.0.0.1:7101@17101 myself,master - 0 1426238315000 1 connected 0-5460 [93->-E] [5462-<-E]
B 127.0.0.1:7102@17102 master,fail - 1426238310000 1426238309000 2 disconnected
C 127.0.0.1:7103@17103,node-3 slave,nofailover A 0 1426238317239 1 connected
D :0@0 slave,noaddr E 0 1426238317241 7 disconnected
vars currentEpoch 7 lastVoteEpoch 6
";

    fn written() -> String {
        let letters = ["A", "B", "C", "D", "E"].into_iter().fold(WRITTEN.to_owned(), |text, letter| {
            let id = letter.to_lowercase().repeat(40);
            text.replace(&format!("{letter} "), &format!("{id} "))
                .replace(&format!("{letter}\n"), &format!("{id}\n"))
                .replace(&format!("-{letter}]"), &format!("-{id}]"))
        });
        assert!(!letters.contains("E]"));
        letters
    }

    fn parse(text: &str) -> Result<NodesConf, NodesConfError> {
        NodesConf::parse(text.as_bytes())
    }

    #[test]
    fn a_file_that_redis_wrote_is_read_and_written_back() {
        let conf = parse(&written()).unwrap();
        assert_eq!(conf.to_string(), written());
        assert_eq!((conf.current_epoch(), conf.last_vote_epoch(), conf.nodes().len()), (7, 6, 5));
        assert_eq!(conf.myself().id.to_string(), "a".repeat(40));
        let replica = conf.node(&"c".repeat(40).parse().unwrap()).unwrap();
        assert_eq!(replica.master, Some(conf.myself().id));
    }

    #[test]
    fn what_redis_starts_with_is_read_however_it_is_spaced() {
        let conf = parse(&written()).unwrap();
        for other in [
            written().replace('\n', "\r\n"),
            written().replace('\n', "\n\n"),
            format!("{}\n\n\n\n", written()),
            written().replace("disconnected\n", "disconnected \n"),
            written().replace(",fail ", ",FAIL "),
            written().replace("vars ", "vars someday 3 "),
        ] {
            assert_eq!(parse(&other).unwrap(), conf, "{other}");
        }
    }

    #[test]
    fn each_damage_is_named() {
        use NodesConfError::{Empty, Line, Nodes, NotText, TooLong, TwoVars};
        let text = written();
        assert_eq!(parse(""), Err(Empty));
        assert_eq!(parse("\n \r\n"), Err(Empty));
        assert_eq!(NodesConf::parse(&vec![b'\n'; MAX_NODES_CONF + 1]), Err(TooLong(MAX_NODES_CONF + 1)));
        assert_eq!(NodesConf::parse(b"\xff\xfe"), Err(NotText));
        assert_eq!(parse(&format!("{text}{text}")), Err(TwoVars));
        let flag = text.replace("slave,nofailover", "slave,witness");
        assert_eq!(parse(&flag), Err(Line { line: 4, fault: LineFault::Flag("witness".to_owned()) }));
        let nodes = |from: &str, to: &str| match parse(&text.replacen(from, to, 1)) {
            Err(Nodes(fault)) => fault,
            other => panic!("{other:?}"),
        };
        let id = |letter: &str| letter.repeat(40).parse::<NodeId>().unwrap();
        assert_eq!(nodes("myself,", ""), NodesFault::NoMyself);
        assert_eq!(nodes(" master ", " myself,master "), NodesFault::TwoMyselves(id("e"), id("a")));
        assert_eq!(nodes(" 0-5460", " 0-5461"), NodesFault::SlotTwice { slot: 5461, second: id("a") });
        assert_eq!(nodes(&"d".repeat(40), &"b".repeat(40)), NodesFault::Twice(id("b")));
        for vars in ["vars currentEpoch 7\n", "vars\n", "vars currentEpoch\n", "vars lastVoteEpoch x\n"] {
            let cut = text.replace("vars currentEpoch 7 lastVoteEpoch 6\n", vars);
            assert!(matches!(parse(&cut), Err(Line { line: 6, .. })), "{vars}");
        }
        assert!(matches!(parse("# mine\nvars currentEpoch 7 lastVoteEpoch 6\n"), Err(Line { line: 1, .. })));
    }

    #[test]
    fn a_file_that_breaks_off_anywhere_is_torn() {
        let text = written();
        for end in 1..text.len() {
            assert_eq!(parse(&text[..end]), Err(NodesConfError::Torn), "{end}");
        }
    }

    #[test]
    fn too_many_nodes_are_refused() {
        let line = |number: usize| format!("{number:040} :0@0 noflags - 0 0 0 connected\n");
        let text: String = (0..=MAX_NODES).map(line).collect();
        assert_eq!(parse(&text), Err(NodesConfError::Nodes(NodesFault::TooMany)));
    }

    #[test]
    fn the_file_of_a_large_cluster_is_within_bounds() {
        let seed = Seed::new(&members(1000, 5)).unwrap();
        let text = seed.nodes_conf(&members(1000, 5)[0].id).unwrap();
        assert_eq!(parse(&text).unwrap().nodes().len(), 6000);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn what_is_rendered_parses_to_the_same(conf in confs()) {
            prop_assert_eq!(parse(&conf.to_string()), Ok(conf));
        }

        #[test]
        fn a_parsed_text_is_one_that_parses_again(text in mutated(confs().prop_map(|conf| conf.to_string()))) {
            if let Ok(conf) = NodesConf::parse(&text) {
                prop_assert_eq!(check(conf.nodes()), Ok(()));
                prop_assert_eq!(parse(&conf.to_string()), Ok(conf));
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = NodesConf::parse(&bytes);
        }

        #[test]
        fn no_words_make_it_panic(words in proptest::collection::vec(prop_oneof![
            Just(" ".to_owned()), Just("\n".to_owned()), Just("vars".to_owned()), Just("-".to_owned()),
            Just("myself,master".to_owned()), Just("a".repeat(40)), Just(":0@0".to_owned()),
            "[0-9]{1,20}", "[\\[\\]<>0-9a-f-]{1,12}", ".{0,5}",
        ], 0..60)) {
            let _ = parse(&words.concat());
            let _ = parse(&words.join(" "));
        }
    }
}
