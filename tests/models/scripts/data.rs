//! What survives in files, and who answers for keys.

use overlord_engines::cluster::Flag;

use crate::stage::Stage;

/// A replica that wrote its place in the stream goes on from there; one that did not copies all.
pub(crate) async fn replica_shut_down(stage: &mut Stage) {
    stage.form(3, 1).await;
    stage.write(0, 0, "a", 1).await;
    stage.tell(3, "SHUTDOWN SAVE").await;
    stage.terminate(3).await;
    stage.write(0, 0, "b", 0).await;
    stage.start(3).await;
    stage.well().await;
    syncs(stage, 0).await;
    stage.tell(3, "SHUTDOWN NOSAVE").await;
    stage.terminate(3).await;
    stage.drop_dump(3);
    stage.start(3).await;
    stage.well().await;
    syncs(stage, 0).await;
    stage.see_well().await;
}

async fn syncs(stage: &mut Stage, n: usize) {
    let world = stage.look().await;
    let syncs = world.told(n).map(|told| told.syncs.clone()).unwrap_or_default();
    stage.note(format!("n{n} gave {} whole copies, {} parts", syncs.0, syncs.1));
}

/// With save points SIGTERM writes all, SIGKILL nothing.
pub(crate) async fn snapshot(stage: &mut Stage) {
    stage.config("save 3600 1000");
    stage.form(3, 0).await;
    stage.write(0, 0, "a", 0).await;
    stage.write(1, 1, "b", 0).await;
    stage.terminate(0).await;
    stage.kill(1).await;
    stage.start(0).await;
    stage.start(1).await;
    stage.see_well().await;
    stage.write(0, 0, "c", 0).await;
    stage.tell(0, "SAVE").await;
    stage.write(0, 0, "d", 0).await;
    stage.kill(0).await;
    stage.start(0).await;
    stage.see_well().await;
}

/// The append-only file has everything that was answered. (Of `everysec` that is not true on a slow disk: a write
/// waits for the sync before it.)
pub(crate) async fn append_only_file(stage: &mut Stage) {
    stage.config("appendonly yes");
    stage.config("appendfsync always");
    stage.form(3, 1).await;
    stage.write(0, 0, "a", 1).await;
    stage.write(0, 0, "b", 0).await;
    stage.kill(3).await;
    stage.kill(0).await;
    stage.start(0).await;
    stage.start(3).await;
    stage.see_well().await;
}

/// First words of what is refused.
pub(crate) async fn refusals(stage: &mut Stage) {
    stage.form(3, 1).await;
    stage.write(0, 0, "a", 1).await;
    let (own, other) = (stage.key(0, "a"), stage.key(1, "b"));
    for (n, command) in [
        (1, format!("GET {own}")),
        (3, format!("GET {own}")),
        (3, format!("SET {own} 1")),
        (0, format!("MSET {own} 1 {other} 1")),
        (0, format!("DEL {own} {own}")),
        (0, format!("EXISTS {own}")),
        (0, "CLUSTER ADDSLOTS 7".to_owned()),
        (0, "CLUSTER SET-CONFIG-EPOCH 9".to_owned()),
        (0, "CLUSTER KEYSLOT a".to_owned()),
        (0, "CLUSTER NONSENSE".to_owned()),
        (0, "CONFIG GET maxmemory".to_owned()),
        (0, "CONFIG SET databases 7".to_owned()),
        (0, "CONFIG SET nonsense 7".to_owned()),
        (0, "CONFIG SET maxmemory 100mb".to_owned()),
        (0, "CONFIG GET maxmemory".to_owned()),
        (0, "CONFIG GET nonsense".to_owned()),
        (0, "CLIENT SETNAME overlord:7".to_owned()),
        (0, "CLIENT GETNAME".to_owned()),
        (0, "CLIENT KILL ID 999999".to_owned()),
        (0, "DBSIZE".to_owned()),
        (0, "WAIT 1 0".to_owned()),
        (3, "WAIT 1 0".to_owned()),
        (0, "NONSENSE".to_owned()),
        (0, "GET".to_owned()),
        (0, "BGSAVE".to_owned()),
    ] {
        stage.tell(n, &command).await;
    }
    // A slot without an owner.
    let slot = stage.ask(0, &[&format!("CLUSTER KEYSLOT {own}")]).await.remove(0);
    stage.tell(0, &format!("CLUSTER DELSLOTS {}", slot.trim_start_matches(':').trim())).await;
    stage.until("it is down", |world| world.told(0).is_some_and(|told| !told.view.info().ok)).await;
    stage.tell(0, &format!("GET {own}")).await;
    let kept = "CLUSTER KEYSLOT b".to_owned();
    stage.tell(0, &kept).await;
    stage.until("nobody has failed", |world| !world.says(0, 1, Flag::Fail)).await;
}
