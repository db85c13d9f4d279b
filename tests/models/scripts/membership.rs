//! Nodes that come, go, and are taken for others.

use std::time::Duration;

use overlord_engines::cluster::{Flag, SLOTS};

use crate::stage::Stage;

/// Forgotten by all, it is not heard of again, though it speaks.
pub(crate) async fn forgotten(stage: &mut Stage) {
    stage.form(3, 1).await;
    let id = Stage::id(5);
    stage.tell(5, &format!("CLUSTER FORGET {id}")).await;
    stage.tell(5, &format!("CLUSTER FORGET {}", Stage::id(2))).await;
    stage.tell(0, &format!("CLUSTER FORGET {}", Stage::id(17))).await;
    stage.kill(5).await;
    for n in 0..5 {
        stage.tell(n, &format!("CLUSTER FORGET {id}")).await;
    }
    stage.see("forgotten", |world| (0..5).all(|n| !world.knows(n, 5) && world.is_ok(n))).await;
    stage.start(5).await;
    stage.pass(Duration::from_secs(3)).await;
    stage
        .see("it returns, and nobody listens", |world| (0..5).all(|n| !world.knows(n, 5)) && world.is_ok(5))
        .await;
    // Introduced again it is one of them, by the one who was told.
    let meet = stage.meet(5);
    stage.tell(0, &meet).await;
    stage.until("one knows it", |world| world.knows(0, 5)).await;
}

/// A node with nothing joins when it is introduced, and follows when told.
pub(crate) async fn a_new_node(stage: &mut Stage) {
    stage.form(3, 0).await;
    let seed = stage.seed_of(0);
    let vars = "vars currentEpoch 0 lastVoteEpoch 0\n";
    let own = seed.lines().next().unwrap_or_default();
    let words: Vec<&str> = own.split(' ').collect();
    // A node that knows nobody, under a name of ours.
    let line = format!("{} {} myself,master - 0 0 0 connected\n{vars}", Stage::id(7), words[1]);
    stage.set_nodes_conf(7, Some(line));
    stage.start(7).await;
    let meet = stage.meet(7);
    stage.tell(0, &meet).await;
    stage.until("all know it", |world| (0..3).all(|n| world.knows(n, 7) && world.knows(7, n))).await;
    stage.write(1, 1, "a", 0).await;
    stage.tell(1, &format!("CLUSTER REPLICATE {}", Stage::id(0))).await;
    stage.tell(7, &format!("CLUSTER REPLICATE {}", Stage::id(7))).await;
    stage.tell(7, &format!("CLUSTER REPLICATE {}", Stage::id(16))).await;
    stage.tell(7, &format!("CLUSTER REPLICATE {}", Stage::id(1))).await;
    stage.until("it follows", |world| world.follows(7, 1)).await;
    stage.see_well().await;
    stage.tell(7, "CLUSTER MEET nowhere 1").await;
    stage.quiet();
}

/// Two clusters that meet are one, and whoever has the higher epoch has the slots.
pub(crate) async fn foreign_cluster(stage: &mut Stage) {
    stage.form(3, 0).await;
    stage.write(0, 0, "ours", 0).await;
    let seed = stage.seed_of(0);
    let own = seed.lines().next().unwrap_or_default();
    let words: Vec<&str> = own.split(' ').collect();
    let line = format!(
        "{} {} myself,master - 0 0 9 connected 0-{}\nvars currentEpoch 9 lastVoteEpoch 0\n",
        Stage::id(7),
        words[1],
        SLOTS - 1
    );
    stage.set_nodes_conf(7, Some(line));
    stage.start(7).await;
    stage.until("it serves", |world| world.serves(7)).await;
    stage.write(7, 0, "theirs", 0).await;
    let meet = stage.meet(7);
    stage.tell(0, &meet).await;
    stage
        .until("it has all slots", |world| {
            world.knows(7, 2) && (0..3).all(|n| world.told(n).is_some_and(|told| !told.is_master()))
        })
        .await;
    stage.see_well().await;
}

/// A process of another cluster at the address of a lost node: nobody joins anybody, and the lost node has no
/// address any more.
pub(crate) async fn address_of_another(stage: &mut Stage) {
    stage.form(3, 1).await;
    stage.kill(5).await;
    stage.until("it has failed", |world| (0..5).all(|n| world.says(n, 5, Flag::Fail))).await;
    stage.relocate(9, 5);
    stage.set_nodes_conf(
        9,
        Some(format!(
            "{} :0@0 myself,master - 0 0 70 connected\nvars currentEpoch 70 lastVoteEpoch 0\n",
            Stage::id(9)
        )),
    );
    stage.start(9).await;
    // Who looks at node 5 by its address sees the other.
    stage.until("all have noticed", |world| (0..5).all(|n| world.says(n, 5, Flag::NoAddress))).await;
    stage.pass(Duration::from_secs(2)).await;
    stage.see("nobody joined", |world| (0..5).all(|n| !world.knows(n, 9)) && !world.knows(9, 0)).await;
    // Its epoch is heard all the same.
    let world = stage.look().await;
    let epochs = (0..5).filter_map(|n| Some(world.told(n)?.view.info().current_epoch));
    stage.note(format!("epochs {:?}", epochs.collect::<Vec<_>>()));
    stage.quiet();
}
