//! Majorities and epochs.

use std::{collections::BTreeSet, time::Duration};

use overlord_engines::cluster::Flag;

use crate::stage::Stage;

/// The first two of four masters do not answer: the others suspect them, and serve no more.
async fn two_are_missed(stage: &mut Stage) {
    stage
        .until("all are down", |world| {
            [2, 3, 4, 5, 6, 7].iter().all(|n| {
                world.told(*n).is_some_and(|told| !told.view.info().ok)
                    && world.says(*n, 0, Flag::SuspectedFail)
                    && world.says(*n, 1, Flag::SuspectedFail)
            })
        })
        .await;
}

/// Two of four masters are lost at once: the other two are no majority, and nobody is elected.
pub(crate) async fn two_of_four_masters(stage: &mut Stage) {
    stage.form(4, 1).await;
    stage.kill(0).await;
    stage.kill(1).await;
    two_are_missed(stage).await;
    stage.pass(Duration::from_secs(5)).await;
    stage
        .see("nobody is elected", |world| {
            [4, 5].iter().all(|n| world.told(*n).is_some_and(|told| !told.is_master()))
        })
        .await;
    let set = format!("SET {} 1", stage.key(2, "a"));
    stage.tell(2, &set).await;
}

/// The same, and one comes back: with it there is a majority, which replaces the other.
pub(crate) async fn masters_return(stage: &mut Stage) {
    stage.form(4, 1).await;
    stage.write(0, 0, "a", 1).await;
    stage.write(1, 1, "b", 1).await;
    stage.pause(0);
    stage.pause(1);
    two_are_missed(stage).await;
    stage.resume(0);
    stage
        .see("the other is replaced", |world| {
            world.all_see(0)
                && world.all_see(5)
                && world.none_says(0, Flag::SuspectedFail)
                && [0, 2, 3, 4, 5, 6, 7].iter().all(|n| world.is_ok(*n))
        })
        .await;
    stage.resume(1);
    stage.until("it follows", |world| world.follows(1, 5)).await;
    stage.see_well().await;
    stage.quiet();
}

/// Two masters with one epoch: the one with the lower id takes a new one.
pub(crate) async fn equal_epochs(stage: &mut Stage) {
    stage.seed(3, 1);
    for n in 0..6 {
        let text = stage.seed_of(n);
        // The second column from the end, before the slots.
        let equal = |line: &str| {
            let mut words: Vec<&str> = line.split(' ').collect();
            if words.len() > 7 {
                words[6] = "5";
            }
            words.join(" ")
        };
        let lines: Vec<String> = text.lines().map(equal).collect();
        let text = format!("{}\n", lines.join("\n")).replace("currentEpoch 3", "currentEpoch 5");
        stage.set_nodes_conf(n, Some(text));
    }
    for n in 0..6 {
        stage.start(n).await;
    }
    stage
        .until("epochs differ", |world| {
            let epochs: BTreeSet<u64> =
                (0..3).filter_map(|n| Some(world.told(n)?.view.info().my_epoch)).collect();
            epochs.len() == 3 && world.is_well()
        })
        .await;
    // Who takes a new one first is chance; who keeps his is not.
    let world = stage.look().await;
    let kept = (0..3).filter(|n| world.told(*n).is_some_and(|told| told.view.info().my_epoch == 5));
    stage.note(format!("5 is kept by {:?}", kept.collect::<Vec<_>>()));
    stage.note(format!("the highest id is {:?}", (0..3).max_by_key(|n| Stage::id(*n))));
    stage.quiet();
}

/// A replica that is not to stand does not, but for a person's word.
pub(crate) async fn no_failover(stage: &mut Stage) {
    stage.config("cluster-replica-no-failover yes");
    stage.form(3, 1).await;
    stage.kill(0).await;
    stage.until("it has failed", |world| [1, 2, 3, 4, 5].iter().all(|n| world.says(*n, 0, Flag::Fail))).await;
    stage.pass(Duration::from_secs(3)).await;
    stage.see("nobody stands", |world| world.told(3).is_some_and(|told| !told.is_master())).await;
    stage.tell(3, "CLUSTER FAILOVER FORCE").await;
    stage.see("it serves", |world| world.all_see(3) && (1..6).all(|n| world.is_ok(n))).await;
}

/// A replica that has been without its master for too long does not stand, but for a person's word.
pub(crate) async fn data_too_old(stage: &mut Stage) {
    stage.config("cluster-replica-validity-factor 1");
    stage.config("repl-ping-replica-period 1");
    stage.form(3, 1).await;
    stage.write(0, 0, "a", 1).await;
    // Without a majority nobody can be said to have failed.
    stage.kill(0).await;
    stage.kill(1).await;
    stage.pass(Duration::from_secs(8)).await;
    stage.tell(4, "CLUSTER FAILOVER TAKEOVER").await;
    stage.until("a majority says so", |world| world.all_say(0, Flag::Fail) && world.all_see(4)).await;
    stage.pass(Duration::from_secs(3)).await;
    stage.see("nobody stands", |world| world.told(3).is_some_and(|told| !told.is_master())).await;
    stage.tell(3, "CLUSTER FAILOVER FORCE").await;
    stage.see("it serves", |world| world.all_see(3) && (2..6).all(|n| world.is_ok(n))).await;
}
