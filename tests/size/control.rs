//! The whole controller in front: what clusters of a hundred members cost in transactions, calls and events.

use crate::{
    counting::Counts,
    virtually,
    world::{Declared, World},
};

const MEMBERS: usize = 100;

/// What it took until every cluster was Ready: transactions that wrote, and what went to and from Mesos.
fn ready(clusters: usize, agents: u32) -> (u64, Counts) {
    virtually(async {
        let resources = "cpu: \"0.1\", memory: 64Mi, disk: 64Mi";
        let mut world = World::new(Declared { clusters, members: MEMBERS, resources }, agents).await;
        let declared = world.store.writes();
        world.ready().await;
        (world.store.writes() - declared, world.transport.counts())
    })
}

#[test]
fn twice_the_clusters_on_twice_the_agents_take_twice_the_writes_and_calls() {
    let (few, many) = (5, 10);
    let [(few_writes, few_counts), (many_writes, many_counts)] =
        [few, many].map(|clusters| ready(clusters, clusters as u32 * 20));
    for (clusters, writes, counts) in [(few, few_writes, &few_counts), (many, many_writes, &many_counts)] {
        let members = clusters * MEMBERS;
        // Intents and reports go in batches; a transaction for each would be thrice as many as members.
        assert!(writes * 2 < members as u64, "{writes} transactions for {members} members");
        assert_eq!(counts.call("ACKNOWLEDGE"), 2 * members, "{counts:?}");
        // Each pass of a cluster uses each agent once at most.
        assert!(counts.call("ACCEPT") <= members, "{counts:?}");
        // Whoever waits asks for offers again: not more often than there are clusters that do.
        assert!(counts.event("OFFERS") <= 3 * clusters + 10, "{counts:?}");
        assert!(counts.call("DECLINE") <= counts.event("OFFERS") + 1, "{counts:?}");
    }
    assert!(many_writes <= 3 * few_writes, "{few_writes} transactions have become {many_writes}");
    assert!(many_counts.bytes <= 3 * few_counts.bytes, "{few_counts:?} has become {many_counts:?}");
}
