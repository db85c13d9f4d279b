//! `RedisCluster`: members that form one cluster of masters and replicas. Phases, steps, records and status are
//! those of `members`; what is different is here: forming all at once, looking at the engines, keeping a master
//! for every shard, and bringing members in and out of the cluster.

pub(crate) mod apply;
mod nodes;
pub mod observed;
mod plan;
pub mod seats;
pub(crate) mod seed;
#[cfg(test)]
mod tests;

use overlord_api::{Kind, Shape as SpecShape, Spec};
use overlord_engines::cluster::NodeId;
use overlord_placement::cluster::Shape;

/// The shape of a `RedisCluster` spec; none of another kind.
pub(crate) const fn shape_of(spec: &Spec) -> Option<Shape> {
    match spec.shape {
        SpecShape::RedisCluster { masters, replicas_per_master } => {
            Some(Shape { masters, replicas_per_master })
        }
        SpecShape::Redis { .. } | SpecShape::Memcache { .. } => None,
    }
}

/// The shard that a member is a copy of, by the numbers of [`Shape::replica`].
pub(crate) const fn shard_of(shape: Shape, member: u32) -> u32 {
    match (member.checked_sub(shape.masters), shape.replicas_per_master) {
        (Some(replica), of @ 1..) => replica / of,
        (Some(_), 0) | (None, _) => member,
    }
}

/// The node id and the shard of an instance, in kinds where it has them.
pub(crate) fn node_and_shard(
    spec: &Spec,
    uid: &str,
    member: u32,
    incarnation: u32,
) -> (Option<String>, Option<u32>) {
    match shape_of(spec) {
        Some(shape) => {
            let id = NodeId::derive(uid, member, incarnation);
            (Some(id.to_string()), Some(shard_of(shape, member)))
        }
        None => (None, (spec.shape.kind() == Kind::Redis).then_some(member)),
    }
}

/// Why a plan is blocked by a node that is no member and has slots.
pub(crate) const STRANGER: &str = "StrangerOwnsSlots";

/// Orders to take over that are closer together than this are about the same trouble.
const IN_A_ROW: jiff::SignedDuration = jiff::SignedDuration::from_secs(5);

/// redis' own default of `cluster-node-timeout`.
const NODE_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(15);

/// How long a node must be silent until the others call it failed.
pub(crate) fn node_timeout(spec: &Spec) -> std::time::Duration {
    let declared = spec.config.get("cluster-node-timeout").and_then(|text| text.parse().ok());
    declared.map_or(NODE_TIMEOUT, std::time::Duration::from_millis)
}
