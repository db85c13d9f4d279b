//! Masters that are lost, and who takes their place.

use std::time::Duration;

use overlord_engines::cluster::Flag;

use crate::stage::Stage;

/// Killed, voted for, and back as a replica.
pub(crate) async fn master_killed(stage: &mut Stage) {
    stage.form(3, 1).await;
    stage.write(0, 0, "a", 1).await;
    stage.write(1, 1, "b", 1).await;
    stage.see_well().await;
    stage.kill(0).await;
    stage
        .see("another has its slots", |world| {
            world.all_see(3) && world.all_say(0, Flag::Fail) && (1..6).all(|n| world.is_ok(n))
        })
        .await;
    stage.write(3, 0, "c", 0).await;
    stage.see_file(0);
    stage.see_file(1);
    stage.see_file(3);
    stage.start(0).await;
    stage.see_well().await;
    stage.quiet();
}

/// By force, before anybody has noticed.
pub(crate) async fn forced(stage: &mut Stage) {
    stage.config("cluster-node-timeout 8000");
    stage.form(3, 1).await;
    stage.write(0, 0, "a", 1).await;
    stage.kill(0).await;
    // (Without force it is refused or not, as it happens: ten times a second there is a link for a moment.)
    stage.until("its link is gone", |world| world.lost(3, 0)).await;
    stage.tell(3, "CLUSTER FAILOVER FORCE").await;
    stage.see("it serves", |world| world.all_see(3) && (1..6).all(|n| world.is_ok(n))).await;
    stage.tell(3, "CLUSTER FAILOVER FORCE").await;
    stage.tell(3, "CLUSTER FAILOVER SOON").await;
    stage.start(0).await;
    stage.see_well().await;
}

/// Without a majority, by a person's word.
pub(crate) async fn taken_over(stage: &mut Stage) {
    stage.form(3, 1).await;
    stage.write(0, 0, "a", 1).await;
    stage.write(1, 1, "b", 1).await;
    stage.kill(0).await;
    stage.kill(1).await;
    stage
        .until("the cluster is down", |world| {
            [2, 3, 4, 5].iter().all(|n| world.told(*n).is_some_and(|told| !told.view.info().ok))
        })
        .await;
    stage.tell(3, "CLUSTER FAILOVER FORCE").await;
    stage.pass(Duration::from_secs(2)).await;
    stage
        .see("force is of no use without a majority", |world| {
            world.told(3).is_some_and(|told| !told.is_master())
                && [0, 1].iter().all(|n| world.all_say(*n, Flag::SuspectedFail))
        })
        .await;
    stage.tell(3, "CLUSTER FAILOVER TAKEOVER").await;
    stage.tell(4, "CLUSTER FAILOVER TAKEOVER").await;
    stage
        .see("both serve", |world| world.all_see(3) && world.all_see(4) && (2..6).all(|n| world.is_ok(n)))
        .await;
    stage.start(0).await;
    stage.start(1).await;
    stage.see_well().await;
    stage.quiet();
}

/// In agreement with the master: nothing is lost.
pub(crate) async fn in_agreement(stage: &mut Stage) {
    stage.form(3, 1).await;
    stage.write(0, 0, "a", 0).await;
    stage.tell(0, "CLUSTER FAILOVER").await;
    stage.tell(3, "CLUSTER FAILOVER").await;
    stage.until("it serves", |world| world.serves(3) && world.follows(0, 3)).await;
    stage.see_well().await;
    stage.write(3, 0, "b", 1).await;
    let get = format!("GET {}", stage.key(0, "b"));
    stage.tell(0, &get).await;
    // Votes about one master are two node timeouts apart.
    stage.pass(Duration::from_secs(5)).await;
    stage.tell(0, "CLUSTER FAILOVER").await;
    stage.until("back again", |world| world.serves(0) && world.follows(3, 0)).await;
    stage.see_well().await;
    stage.quiet();
}

/// Votes of an election not long ago count again, and for the epoch of then: nobody else believes it, until there is a new
/// epoch.
pub(crate) async fn old_votes(stage: &mut Stage) {
    stage.config("cluster-node-timeout 8000");
    stage.form(3, 1).await;
    stage.write(0, 0, "a", 1).await;
    stage.tell(3, "CLUSTER FAILOVER").await;
    // Votes count for two node timeouts. A master that does not know of its replica yet does not hear it.
    stage
        .until("it serves", |world| world.serves(3) && world.follows(0, 3) && world.all_see_replica(0, 3))
        .await;
    stage.tell(0, "CLUSTER FAILOVER").await;
    stage.until("back again", |world| world.serves(0) && world.follows(3, 0)).await;
    stage.kill(0).await;
    stage.tell(3, "CLUSTER FAILOVER FORCE").await;
    stage.until("it serves in its own eyes", |world| world.serves(3)).await;
    stage.pass(Duration::from_secs(2)).await;
    stage.see("nobody else sees it so", |world| world.serves(3) && !world.all_see(3)).await;
    stage.tell(3, "CLUSTER BUMPEPOCH").await;
    stage.see("it serves", |world| world.all_see(3) && (1..6).all(|n| world.is_ok(n))).await;
    stage.start(0).await;
    stage.see_well().await;
    stage.quiet();
}

/// SIGSTOP: taken for dead, and corrected when it goes on.
pub(crate) async fn hung_master_returns(stage: &mut Stage) {
    stage.form(3, 1).await;
    stage.write(0, 0, "a", 1).await;
    stage.pause(0);
    stage.tell(0, "PING").await;
    stage
        .see("another has its slots", |world| {
            world.all_see(3) && world.all_say(0, Flag::Fail) && (1..6).all(|n| world.is_ok(n))
        })
        .await;
    stage.write(3, 0, "b", 0).await;
    stage.resume(0);
    stage.until("it follows", |world| world.follows(0, 3)).await;
    stage.see_well().await;
    stage.quiet();
}

/// What a master answered for reaches a replica, though that is stopped and the master is killed.
pub(crate) async fn stopped_replica_hears_last_words(stage: &mut Stage) {
    stage.form(3, 1).await;
    stage.write(0, 0, "a", 1).await;
    stage.pause(3);
    let set = format!("SET {} 1", stage.key(0, "b"));
    stage.tell(0, &set).await;
    stage.kill(0).await;
    stage.resume(3);
    stage
        .see("it has all", |world| {
            world.has(3, "b")
                && world.all_see(3)
                && world.all_say(0, Flag::Fail)
                && world.none_says(3, Flag::SuspectedFail)
                && (1..6).all(|n| world.is_ok(n))
        })
        .await;
    stage.start(0).await;
    stage.see_well().await;
}

/// Of two replicas one is elected, and the other follows it.
pub(crate) async fn two_replicas(stage: &mut Stage) {
    stage.form(3, 2).await;
    stage.write(0, 0, "a", 2).await;
    stage.kill(0).await;
    let world = stage
        .until("one follows the other", |world| {
            let pair = |winner, other| {
                world.follows(other, winner) && world.all_see(winner) && world.all_see_replica(other, winner)
            };
            (pair(3, 4) || pair(4, 3)) && (1..9).all(|n| world.is_ok(n)) && world.all_say(0, Flag::Fail)
        })
        .await;
    let winner = if world.follows(4, 3) { 3 } else { 4 };
    let (set, wait) = (format!("SET {} 1", stage.key(0, "b")), "WAIT 1 5000");
    let answers = stage.ask(winner, &[&set, wait]).await;
    stage.note(format!("{answers:?}"));
    let world = stage.look().await;
    stage.note(format!("both have b: {}", world.has(7 - winner, "b")));
    let syncs = world.told(7 - winner).map(|told| told.syncs.clone());
    stage.note(format!("the other gave {syncs:?}"));
    // It goes on in the stream; nothing is copied anew.
    let given = world.told(winner).map(|told| told.syncs.clone());
    stage.note(format!("the winner gave {given:?}"));
}

/// A replica that never had its master's data does not stand for election; by force it does, empty.
pub(crate) async fn never_linked(stage: &mut Stage) {
    stage.seed(3, 1);
    for n in [1, 2, 3, 4, 5] {
        stage.start(n).await;
    }
    stage.see("it has failed", |world| [1, 2, 3, 4, 5].iter().all(|n| world.says(*n, 0, Flag::Fail))).await;
    stage.pass(Duration::from_secs(4)).await;
    stage.see("nobody took its place", |world| world.told(3).is_some_and(|told| !told.is_master())).await;
    stage.tell(3, "CLUSTER FAILOVER FORCE").await;
    stage.see("it serves", |world| world.all_see(3) && (1..6).all(|n| world.is_ok(n))).await;
}

/// Without full coverage the others go on.
pub(crate) async fn full_coverage_off(stage: &mut Stage) {
    stage.config("cluster-require-full-coverage no");
    stage.form(3, 1).await;
    stage.write(0, 0, "a", 1).await;
    stage.write(1, 1, "b", 1).await;
    stage.kill(3).await;
    stage.kill(0).await;
    stage
        .see("both have failed", |world| {
            [1, 2, 4, 5]
                .iter()
                .all(|n| world.says(*n, 0, Flag::Fail) && world.says(*n, 3, Flag::Fail) && world.is_ok(*n))
        })
        .await;
    let (lost, kept) = (format!("GET {}", stage.key(0, "a")), format!("GET {}", stage.key(1, "b")));
    stage.tell(1, &lost).await;
    stage.tell(1, &kept).await;
    // The replica comes back first: its master's data is gone with it.
    stage.start(3).await;
    stage.pass(Duration::from_secs(3)).await;
    stage
        .see("it waits for its master", |world| {
            world.told(3).is_some_and(|told| !told.is_master())
                && world.none_says(3, Flag::Fail)
                && world.all_say(0, Flag::Fail)
        })
        .await;
    stage.start(0).await;
    stage.see_well().await;
}

/// A stopped replica confirms nothing, and catches up.
pub(crate) async fn hung_replica(stage: &mut Stage) {
    stage.form(3, 1).await;
    stage.pause(3);
    let (set, wait) = (format!("SET {} x", stage.key(0, "a")), "WAIT 1 300");
    let answers = stage.ask(0, &[&set, wait]).await;
    stage.note(format!("{answers:?}"));
    stage.see("it has failed", |world| [0, 1, 2, 4, 5].iter().all(|n| world.says(*n, 3, Flag::Fail))).await;
    stage.resume(3);
    stage.see_well().await;
    stage.quiet();
}
