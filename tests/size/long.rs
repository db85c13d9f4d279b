//! What runs long and what breaks big: the writes that the loss of a full agent costs, and many converged
//! clusters over days, which write nothing and remember nothing more from day to day.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    counting::Counts,
    runtime, virtually,
    world::{Declared, World},
};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Passes of a cluster in a day in which nothing happens: one in five minutes, give or take a tenth.
const PASSES: u64 = 24 * 12 * 11 / 10;

/// What lives may grow by so many bytes in six days. What is under way at midnight differs by some hundred thousand;
/// one word that were kept of each pass would be 14 million.
const FLAT: i64 = 512_000;

/// So small that an agent holds many.
const SMALL: &str = "cpu: \"0.01\", memory: 16Mi, disk: 16Mi";

#[test]
fn the_loss_of_an_agent_with_200_instances_costs_two_writes_an_instance_at_most() {
    const CLUSTERS: usize = 10;
    virtually(async {
        let declared = Declared { clusters: CLUSTERS, members: 100, resources: SMALL };
        let mut world = World::new(declared, 5).await;
        world.quiet().await;
        println!("{} passes until all was quiet", world.passes.count());
        let mut by_agent: BTreeMap<String, usize> = BTreeMap::new();
        for agent in world.eye.agents.values() {
            *by_agent.entry(agent.clone()).or_default() += 1;
        }
        let (lost, instances) = by_agent.into_iter().max_by_key(|(_, n)| *n).expect("agents");
        assert!(instances >= 200, "{instances} on the fullest agent");
        let agent = world.mesos.agents().into_iter().find(|agent| agent.id.as_str() == lost).expect("it");
        world.eye.count_anew();
        let (before, passes) = (world.store.writes(), world.passes.count());
        assert!(world.mesos.agent_lost(&agent.name));
        world
            .eye
            .until(|eye| eye.ready.len() == CLUSTERS && eye.agents.values().all(|agent| *agent != lost))
            .await;
        let replaced = world.stubs.started() - 1000;
        assert_eq!(replaced, instances as u64, "each is replaced once");
        // What follows later is counted too.
        tokio::time::sleep(Duration::from_secs(3600)).await;
        world.eye.look();
        let writes = world.store.writes() - before;
        let statuses: usize = world.eye.told.values().map(Vec::len).sum();
        println!(
            "{instances} instances lost: {writes} transactions, {statuses} statuses, {} passes",
            world.passes.count() - passes
        );
        for (kinds, revisions) in &world.eye.transactions {
            println!("  {} transactions of {kinds:?}", revisions.len());
        }
        println!("  keys put or deleted: {:?}", world.eye.operations);
        let others = writes - statuses as u64;
        assert!(others <= 2 * instances as u64, "{others} transactions for {instances} instances");
        for (cluster, times) in &world.eye.told {
            let gaps = times.windows(2).map(|pair| pair[1] - pair[0]);
            let least = gaps.min().unwrap_or(Duration::MAX);
            assert!(least >= Duration::from_secs(1), "two statuses of {cluster} within {least:?}");
        }
    });
}

/// What happened in a day.
struct Day {
    writes: u64,
    counts: Counts,
    /// Bytes that live more than the day before, of all that was allocated.
    grown: i64,
    passes: u64,
}

/// Resident memory of this process in KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("procfs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a line");
    line.split_whitespace().nth(1).expect("a number").parse().expect("a number")
}

/// The days of so many converged clusters of one member.
fn days(clusters: usize, agents: u32, days: u32) -> Vec<Day> {
    let runtime = runtime();
    let mut world = runtime.block_on(async {
        let mut world = World::new(Declared { clusters, members: 1, resources: SMALL }, agents).await;
        world.quiet().await;
        world
    });
    let mut told = Vec::new();
    for day in 1..=days {
        let (writes, passes, calls) = (world.store.writes(), world.passes.count(), world.transport.counts());
        // Counted by thread, and all of it runs on this one: other tests do not disturb.
        let memory =
            allocation_counter::measure(|| runtime.block_on(async { tokio::time::sleep(DAY).await }));
        runtime.block_on(async { world.eye.look() });
        let mut counts = world.transport.counts();
        for (kind, count) in &mut counts.calls {
            *count -= calls.call(kind);
        }
        counts.bytes -= calls.bytes;
        let writes = world.store.writes() - writes;
        let (grown, passes) = (memory.bytes_current, world.passes.count() - passes);
        let calls = counts.calls.values().sum::<usize>();
        println!(
            "day {day}: {writes} writes, {passes} passes, {calls} calls to mesos, {grown} bytes more of {} allocated, {} KiB resident",
            memory.bytes_total,
            resident()
        );
        told.push(Day { writes, counts, grown, passes });
    }
    told
}

#[test]
fn a_hundred_converged_clusters_write_nothing_all_day() {
    for day in days(100, 4, 1) {
        assert_eq!(day.writes, 0, "a converged system writes nothing");
        assert!(day.passes <= 100 * PASSES, "{} passes", day.passes);
        // Mesos is asked for what it knows every ten minutes.
        assert!(day.counts.calls.values().sum::<usize>() <= 24 * 6 + 10, "{:?}", day.counts);
    }
}

/// All of it is allocated on one thread and counted by thread: `make size`, or `cargo test --release -p
/// overlord-tests --test size -- --ignored --nocapture`.
#[test]
#[ignore = "takes minutes"]
fn a_thousand_converged_clusters_write_nothing_and_grow_not_at_all_in_a_week() {
    let week = days(1000, 40, 7);
    for day in &week {
        assert_eq!(day.writes, 0, "a converged system writes nothing");
        assert!(day.passes <= 1000 * PASSES, "{} passes", day.passes);
    }
    let grown: i64 = week.iter().skip(1).map(|day| day.grown).sum();
    assert!(grown < FLAT, "{grown} bytes more after the seventh day than after the first");
}
