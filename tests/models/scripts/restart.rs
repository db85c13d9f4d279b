//! What a node begins with, and what becomes of the others' data.

use std::time::Duration;

use overlord_engines::cluster::Flag;

use crate::stage::Stage;

/// A master that was replaced comes back with the file of before: the higher epoch wins.
pub(crate) async fn stale_nodes_conf(stage: &mut Stage) {
    stage.form(3, 1).await;
    stage.write(0, 0, "a", 1).await;
    stage.kill(0).await;
    stage.until("another has its slots", |world| world.serves(3)).await;
    stage.write(3, 0, "b", 0).await;
    let seed = stage.seed_of(0);
    stage.set_nodes_conf(0, Some(seed));
    stage.start(0).await;
    stage.see_well().await;
}

/// A promoted master that is started from its seed, which says that it is a replica: its shard has no owner who
/// knows that it is one.
pub(crate) async fn promoted_master_from_its_seed(stage: &mut Stage) {
    stage.form(3, 1).await;
    stage.write(0, 0, "a", 1).await;
    stage.kill(0).await;
    stage.until("another has its slots", |world| world.serves(3)).await;
    stage.start(0).await;
    stage.well().await;
    stage.kill(3).await;
    let seed = stage.seed_of(3);
    stage.set_nodes_conf(3, Some(seed));
    stage.start(3).await;
    stage.pass(Duration::from_secs(5)).await;
    stage
        .see("nobody serves the shard", |world| {
            world.told(3).is_some_and(|told| !told.is_master()) && !world.serves(0)
        })
        .await;
}

/// A master restarted from an older dump, before anybody noticed: its replica loses what came since.
pub(crate) async fn old_dump(stage: &mut Stage) {
    stage.config("cluster-node-timeout 8000");
    stage.form(3, 1).await;
    stage.write(0, 0, "old", 1).await;
    stage.tell(0, "SAVE").await;
    stage.keep_dump(0);
    stage.write(0, 0, "new", 1).await;
    stage.kill(0).await;
    stage.put_dump(0);
    stage.start(0).await;
    stage.until("linked again", |world| world.follows(3, 0) && !world.has(3, "new")).await;
    stage.see_well().await;
}

/// A master restarted without its data, before anybody noticed: both are empty.
pub(crate) async fn empty_master(stage: &mut Stage) {
    stage.config("cluster-node-timeout 8000");
    stage.form(3, 1).await;
    stage.write(0, 0, "a", 1).await;
    stage.kill(0).await;
    stage.start(0).await;
    stage.until("linked again", |world| world.follows(3, 0) && !world.has(3, "a")).await;
    stage.see_well().await;
}

/// Files that redis does not start with.
pub(crate) async fn nodes_conf_that_crashes(stage: &mut Stage) {
    stage.seed(3, 0);
    let seed = stage.seed_of(0);
    for (what, text) in [
        ("unknown flag", seed.replacen(" master ", " master,witness ", 1)),
        ("two myselves", seed.replacen(" master ", " myself,master ", 1)),
        ("no myself", seed.replace("myself,", "")),
        ("few columns", seed.replacen(" connected", "", 1)),
        ("no variables", seed.split("vars").next().unwrap_or_default().to_owned()),
        ("empty", String::new()),
    ] {
        stage.set_nodes_conf(0, Some(text));
        let started = stage.try_start(0).await;
        let cause = match &started {
            Ok(()) => "starts",
            Err(words) if words.contains("Unknown flag in redis cluster config file") => "panics",
            Err(words) if words.contains("ASSERTION FAILED") => "asserts",
            Err(words) if words.contains("corrupted cluster config file") => "refuses",
            Err(words) => panic!("{words}"),
        };
        stage.note(format!("{what}: {cause}"));
        if started.is_ok() {
            let line = stage.ask(0, &["CLUSTER NODES"]).await.remove(0);
            let own = line.lines().find(|line| line.contains("myself")).unwrap_or_default();
            stage.note(format!("it is itself: {}", own.contains(&Stage::id(0).to_string())));
            stage.kill(0).await;
        }
    }
}

/// All end at once, and start again with their own files.
pub(crate) async fn all_at_once(stage: &mut Stage) {
    stage.config("appendonly yes");
    stage.config("appendfsync always");
    stage.form(3, 1).await;
    stage.write(0, 0, "a", 1).await;
    stage.tell(3, "CLUSTER FAILOVER").await;
    stage.until("it serves", |world| world.serves(3) && world.follows(0, 3)).await;
    stage.well().await;
    for n in 0..6 {
        stage.kill(n).await;
    }
    for n in 0..6 {
        stage.see_file(n);
    }
    for n in 0..6 {
        stage.start(n).await;
    }
    stage.see_well().await;
    stage.quiet();
}

/// A node that comes back elsewhere is followed by all.
pub(crate) async fn moved_to_another_address(stage: &mut Stage) {
    stage.form(3, 1).await;
    stage.write(2, 2, "a", 1).await;
    stage.kill(5).await;
    stage.relocate(5, 15);
    stage.start(5).await;
    stage.see_well().await;
    stage.kill(2).await;
    stage.until("it has failed", |world| world.says(1, 2, Flag::Fail)).await;
    stage.until("its replica serves", |world| world.serves(5)).await;
    stage.relocate(2, 12);
    stage.start(2).await;
    stage.see_well().await;
}
