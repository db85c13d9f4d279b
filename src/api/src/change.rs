//! Whether one spec may follow another.

use crate::{Cluster, Persistence, RuleFault, Shape};

/// Why `new` may not follow `old`, each with the path it is about; empty when it may.
pub fn check_change(old: &Cluster, new: &Cluster) -> Vec<(&'static str, RuleFault)> {
    let mut faults = Vec::new();
    if old.name != new.name {
        let message = format!("cannot change from {} to {}", old.name, new.name);
        faults.push(("metadata.name", RuleFault::new(message)));
    }
    let (was, is) = (old.spec.shape.kind(), new.spec.shape.kind());
    if was != is {
        let (was, is) = (was.manifest_kind(), is.manifest_kind());
        let hint = format!("declare the {is} under another name, move clients, then delete {}", old.name);
        let fault = RuleFault::new(format!("cannot change from {was} to {is}"));
        faults.push(("kind", fault.hint(hint)));
        return faults;
    }
    if let (
        Shape::RedisCluster { masters, replicas_per_master },
        Shape::RedisCluster { masters: new_masters, replicas_per_master: new_replicas },
    ) = (old.spec.shape, new.spec.shape)
    {
        let hint = "slots and replicas are not moved by this version: declare another cluster of the new size, and move clients";
        for (path, was, is) in [
            ("spec.masters", masters, new_masters),
            ("spec.replicasPerMaster", replicas_per_master, new_replicas),
        ] {
            if was != is {
                faults.push((path, RuleFault::new(format!("cannot change from {was} to {is}")).hint(hint)));
            }
        }
    }
    // A dump or append-only file of a newer version is refused by an older one at start.
    let keeps_data = old.spec.persistence != Persistence::None && new.spec.persistence != Persistence::None;
    if keeps_data && release(&new.spec.version) < release(&old.spec.version) {
        let message = format!(
            "cannot go back from {} to {} with persistence: the files on disk may be too new to read",
            old.spec.version, new.spec.version
        );
        let fault =
            RuleFault::new(message).hint("set persistence.mode to none first, if the data may be lost");
        faults.push(("spec.version", fault));
    }
    faults
}

/// Major and minor number: patch releases keep the file formats.
fn release(version: &str) -> (u64, u64) {
    let mut numbers = version.split('.').map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse_revision;

    fn cluster(kind: &str, size: &str, version: &str, mode: &str) -> Cluster {
        parse_revision(&format!(
            "{{apiVersion: overlord/v1, kind: {kind}, metadata: {{name: a}}, spec: {{version: \"{version}\", {size}, \
             resources: {{memory: 64Mi}}, persistence: {{mode: {mode}}}}}}}"
        ))
        .unwrap()
    }

    #[test]
    fn sizes_versions_and_modes_may_change() {
        let old = cluster("Redis", "shards: 2", "6.2.14", "none");
        assert_eq!(check_change(&old, &cluster("Redis", "shards: 1", "7.0.15", "aof")), []);
        assert_eq!(check_change(&cluster("Redis", "shards: 1", "7.0.15", "none"), &old), []);
        let patch = |version| cluster("Redis", "shards: 2", version, "rdb");
        assert_eq!(check_change(&patch("7.0.15"), &patch("7.0.4")), []);
    }

    #[test]
    fn the_shape_of_a_redis_cluster_stays() {
        let of = |size| cluster("RedisCluster", size, "7.0.15", "none");
        let old = of("masters: 3, replicasPerMaster: 1");
        assert_eq!(check_change(&old, &old), []);
        let faults = check_change(&old, &of("masters: 4, replicasPerMaster: 2"));
        assert_eq!(
            faults.iter().map(|(path, _)| *path).collect::<Vec<_>>(),
            ["spec.masters", "spec.replicasPerMaster"]
        );
        assert_eq!(faults[0].1.message, "cannot change from 3 to 4");
    }

    #[test]
    fn a_kind_never_changes() {
        let old = cluster("Redis", "shards: 2", "7.0.15", "none");
        let new = cluster("Memcache", "instances: 2", "1.6.18", "none");
        let faults = check_change(&old, &new);
        assert_eq!(faults.len(), 1);
        assert_eq!(faults[0].0, "kind");
        assert_eq!(faults[0].1.message, "cannot change from Redis to Memcache");
    }

    #[test]
    fn files_are_not_given_to_an_older_engine() {
        let old = cluster("Redis", "shards: 2", "7.0.15", "aof");
        let new = cluster("Redis", "shards: 2", "6.2.14", "aof");
        assert!(check_change(&old, &new)[0].1.message.starts_with("cannot go back from 7.0.15 to 6.2.14"));
    }
}
