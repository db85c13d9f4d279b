//! The checker itself: it must see what redis alone does to data, and nothing where nothing is lost.

use overlord_tests::{History, PlainCluster, Writer, redis_cli_check};

/// Writes that each connection of a writer gets confirmed before and after something happens.
const ENOUGH: u64 = 30;

/// A cluster whose election is not waited for long.
async fn cluster(config: &str) -> PlainCluster {
    PlainCluster::start(3, 1, &format!("cluster-node-timeout 1000\n{config}")).await
}

async fn writer(cluster: &PlainCluster) -> Writer {
    let writer = Writer::start("w", 1, 3, &cluster.addresses());
    writer.confirm(ENOUGH).await;
    writer
}

/// Writes of that shard that were confirmed.
fn confirmed(history: &History, shard: u16) -> usize {
    history.confirmed.iter().filter(|write| write.shard == shard).count()
}

#[tokio::test]
async fn nothing_is_lost_where_a_replica_is_killed_or_a_dead_master_is_left_to_the_election() {
    let mut cluster = cluster("").await;
    let writer = writer(&cluster).await;
    cluster.kill(4).await;
    cluster.boot(4);
    cluster.kill(0).await;
    cluster.serves(3).await;
    cluster.boot(0);
    cluster.well().await;
    writer.confirm(ENOUGH).await;
    let history = writer.stop().await;
    assert!(history.unconfirmed > 0 && !history.last_fault.is_empty(), "shard 0 was away for a while");
    assert!((0..3).all(|shard| confirmed(&history, shard) as u64 >= 4 * ENOUGH));
    history.assert_kept(&cluster.addresses(), "a replica and a master were killed").await;
    redis_cli_check(&cluster.address(0)).await.unwrap();
}

#[tokio::test]
async fn a_master_that_restarts_empty_before_the_election_is_seen_to_empty_its_replica() {
    let mut cluster = cluster("").await;
    let writer = writer(&cluster).await;
    cluster.kill(0).await;
    cluster.boot(0);
    cluster.well().await;
    writer.confirm(ENOUGH).await;
    let history = writer.stop().await;
    let losses = history.losses(&cluster.addresses()).await;
    assert!(losses.len() as u64 >= 2 * ENOUGH, "{} losses", losses.len());
    assert!(losses.len() < confirmed(&history, 0), "what came after the restart is kept");
    assert!(losses.iter().all(|loss| loss.write.shard == 0 && loss.found.is_none()), "{}", losses[0]);
    assert!(losses[0].to_string().contains(&cluster.address(0)), "{}", losses[0]);
    // redis itself finds nothing wrong.
    redis_cli_check(&cluster.address(0)).await.unwrap();
}

#[tokio::test]
async fn a_master_that_restarts_from_an_old_dump_is_seen_to_lose_what_is_newer() {
    let mut cluster = cluster("").await;
    let writer = writer(&cluster).await;
    overlord_tests::Redis::at(cluster.address(1)).one(&["SAVE"]).await.unwrap();
    writer.confirm(ENOUGH).await;
    cluster.kill(1).await;
    cluster.boot(1);
    cluster.well().await;
    let history = writer.stop().await;
    let losses = history.losses(&cluster.addresses()).await;
    assert!(losses.len() as u64 >= 2 * ENOUGH, "{} losses", losses.len());
    assert!(losses.iter().all(|loss| loss.write.shard == 1), "{}", losses[0]);
    let oldest = &history.confirmed.iter().find(|write| write.shard == 1).unwrap().key;
    assert!(losses.iter().all(|loss| loss.write.key != *oldest), "the dump has the oldest");
}

#[tokio::test]
async fn both_of_a_shard_lose_everything_without_persistence_and_nothing_with_an_append_only_file() {
    for (config, lost) in [("", true), ("appendonly yes", false)] {
        let mut cluster = cluster(config).await;
        let writer = writer(&cluster).await;
        cluster.kill(2).await;
        cluster.kill(5).await;
        cluster.boot(2);
        cluster.boot(5);
        cluster.well().await;
        let history = writer.stop().await;
        let losses = history.losses(&cluster.addresses()).await;
        assert_eq!(!losses.is_empty(), lost, "{} losses", losses.len());
        assert!(losses.iter().all(|loss| loss.write.shard == 2), "{}", losses[0]);
    }
}

#[tokio::test]
async fn an_unclean_cluster_is_told_from_a_clean_one() {
    let mut cluster = cluster("cluster-require-full-coverage no").await;
    redis_cli_check(&cluster.address(3)).await.unwrap();
    cluster.kill(1).await;
    cluster.kill(4).await;
    let fault = redis_cli_check(&cluster.address(0)).await.unwrap_err();
    assert!(fault.contains("Not all 16384 slots are covered"), "{fault}");
    assert!(overlord_tests::cluster_faults(&cluster.addresses(), 3).await.is_err());
}
