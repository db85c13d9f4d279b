//! redis cluster, without a connection: slots, node ids, the file `nodes.conf` in which a node keeps
//! what it knows, and what nodes say of their cluster. All of it is pure.

mod flags;
mod node;
mod node_address;
mod node_id;
mod nodes_conf;
mod repair;
mod replication;
mod seed;
mod slot_set;
mod slots;
mod start;
#[cfg(test)]
mod strategies;
mod topology;
mod view;

pub use flags::{Flag, Flags, Role};
pub use node::{Direction, LineFault, LinkState, Node, SlotMove};
pub use node_address::NodeAddress;
pub use node_id::{NodeId, NodeIdError};
pub use nodes_conf::{MAX_NODES, MAX_NODES_CONF, NodesConf, NodesConfError, NodesFault};
pub use repair::{Assessment, Claim, assess, demote, patch_addresses, refresh};
pub(crate) use replication::keys;
pub use replication::{Replication, ReplicationError};
pub use seed::{Seed, SeedError, SeedNode, seed_nodes_conf};
pub use slot_set::{SlotRange, SlotSet};
pub use slots::{SLOTS, key_slot, slot_ranges, slots_digest};
pub use start::{Answer, Next, Origin, StartRule, Verdict};
pub use topology::{Member, Owner, Topology, successor};
pub use view::{ClusterInfo, View, ViewError};
