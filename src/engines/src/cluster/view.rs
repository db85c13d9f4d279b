//! What one node answers when it is asked about its cluster.

use super::{
    LineFault, MAX_NODES, MAX_NODES_CONF, Node, NodesFault,
    node::number,
    nodes_conf::{check, myself},
};

/// The answers of one node to `CLUSTER NODES` and `CLUSTER INFO`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    nodes: Vec<Node>,
    info: ClusterInfo,
}

/// The answer to `CLUSTER INFO`, as far as redis 4.0 to 7.2 agree on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClusterInfo {
    /// `cluster_state` is `ok`: it answers for keys.
    pub ok: bool,
    /// Slots that have an owner.
    pub slots_assigned: u64,
    /// Those whose owner is well.
    pub slots_ok: u64,
    /// Those whose owner this node does not reach.
    pub slots_suspected: u64,
    /// Those whose owner is failed.
    pub slots_failed: u64,
    /// Nodes known, with handshakes.
    pub known_nodes: u64,
    /// Masters with slots: a majority of these elects.
    pub size: u64,
    /// The highest epoch seen.
    pub current_epoch: u64,
    /// The config epoch of the node, or of its master.
    pub my_epoch: u64,
}

/// Answers that are none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ViewError {
    /// More than a file may have.
    #[error("the answer has {0} bytes, more than {MAX_NODES_CONF}")]
    TooLong(usize),
    /// One line of `CLUSTER NODES`.
    #[error("line {line} of CLUSTER NODES: {fault}")]
    Line {
        /// From 1.
        line: usize,
        /// What is wrong.
        fault: LineFault,
    },
    /// The nodes contradict each other.
    #[error("CLUSTER NODES: {0}")]
    Nodes(NodesFault),
    /// A field of `CLUSTER INFO` is missing, or not what it should be.
    #[error("CLUSTER INFO has no usable {0}")]
    Info(&'static str),
}

impl View {
    /// Reads both answers. Flags of engines to come are passed over here: nothing is started with them.
    pub fn parse(nodes: &str, info: &str) -> Result<Self, ViewError> {
        if let Some(long) = [nodes.len(), info.len()].into_iter().find(|length| *length > MAX_NODES_CONF) {
            return Err(ViewError::TooLong(long));
        }
        let lines = nodes.lines().enumerate().filter(|(_, line)| !line.trim_ascii().is_empty());
        let nodes = lines
            // One more than there may be, so that it is noticed.
            .take(MAX_NODES + 1)
            .map(|(index, line)| match Node::parse(line) {
                Ok((node, _)) => Ok(node),
                Err(fault) => Err(ViewError::Line { line: index + 1, fault }),
            })
            .collect::<Result<Vec<_>, _>>()?;
        check(&nodes).map_err(ViewError::Nodes)?;
        Ok(Self { nodes, info: ClusterInfo::parse(info)? })
    }

    /// The node that answered.
    pub fn myself(&self) -> &Node {
        myself(&self.nodes)
    }

    /// All that it knows, itself among them.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// What it says of the cluster.
    pub const fn info(&self) -> &ClusterInfo {
        &self.info
    }
}

impl ClusterInfo {
    /// Reads the answer; fields that are not of interest are passed over.
    pub fn parse(info: &str) -> Result<Self, ViewError> {
        let field = |name: &'static str| {
            let values = info.lines().filter_map(|line| line.trim_ascii().split_once(':'));
            values
                .filter(|(known, _)| *known == name)
                .map(|(_, value)| value)
                .next()
                .ok_or(ViewError::Info(name))
        };
        let count = |name| number(field(name)?).ok_or(ViewError::Info(name));
        Ok(Self {
            ok: match field("cluster_state")? {
                "ok" => true,
                "fail" => false,
                _ => return Err(ViewError::Info("cluster_state")),
            },
            slots_assigned: count("cluster_slots_assigned")?,
            slots_ok: count("cluster_slots_ok")?,
            slots_suspected: count("cluster_slots_pfail")?,
            slots_failed: count("cluster_slots_fail")?,
            known_nodes: count("cluster_known_nodes")?,
            size: count("cluster_size")?,
            current_epoch: count("cluster_current_epoch")?,
            my_epoch: count("cluster_my_epoch")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::strategies::{confs, mutated},
        *,
    };

    const INFO: &str = "cluster_state:ok\r\ncluster_slots_assigned:16384\r\ncluster_slots_ok:16380\r\n\
        cluster_slots_pfail:3\r\ncluster_slots_fail:1\r\ncluster_known_nodes:6\r\ncluster_size:3\r\n\
        cluster_current_epoch:7\r\ncluster_my_epoch:2\r\ncluster_stats_messages_sent:1483972\r\n\
        total_cluster_links_buffer_limit_exceeded:0\r\n";

    #[test]
    fn the_fields_of_cluster_info_are_read() {
        let info = ClusterInfo::parse(INFO).unwrap();
        let slots = (info.slots_assigned, info.slots_ok, info.slots_suspected, info.slots_failed);
        assert_eq!((info.ok, slots), (true, (16_384, 16_380, 3, 1)));
        assert_eq!((info.known_nodes, info.size, info.current_epoch, info.my_epoch), (6, 3, 7, 2));
        for (name, wrong) in [("cluster_size:3", "cluster_size:x"), ("cluster_state:ok", "cluster_state:?")] {
            assert!(ClusterInfo::parse(&INFO.replace(name, wrong)).is_err());
        }
        assert_eq!(ClusterInfo::parse(""), Err(ViewError::Info("cluster_state")));
    }

    #[test]
    fn flags_of_engines_to_come_are_passed_over() {
        let id = "a".repeat(40);
        let view =
            View::parse(&format!("{id} :7101@17101 myself,master,witness - 0 0 1 connected 7\n"), INFO);
        assert_eq!(view.unwrap().myself().slots.len(), 1);
        let stopped = View::parse(&format!("{id} :1@2 master - 0 0 1 connected\n"), INFO);
        assert_eq!(stopped, Err(ViewError::Nodes(NodesFault::NoMyself)));
        assert!(matches!(View::parse("ERR no\n", INFO), Err(ViewError::Line { line: 1, .. })));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn no_answer_makes_it_panic(
            nodes in mutated(confs().prop_map(|conf| conf.to_string())),
            info in mutated(Just(INFO.to_owned())),
        ) {
            let _ = View::parse(&String::from_utf8_lossy(&nodes), INFO);
            let _ = ClusterInfo::parse(&String::from_utf8_lossy(&info));
        }
    }
}
