//! `--dir` keeps everything over a restart of the sandbox, in order or not.

use overlord_tests::{Memcached, Options, Redis, Sandbox};

use crate::manifest::{address, all, memcache, pid, redis};

#[tokio::test]
async fn a_sandbox_comes_back_with_its_clusters_and_what_they_persist() {
    let mut sandbox = Sandbox::start(Options::default()).await;
    let manifest = all(&[
        redis("durable", 2, "  persistence: {mode: rdb}\n"),
        redis("ledger", 1, "  persistence: {mode: aof}\n  config: {appendfsync: always}\n"),
        memcache("pages", 2, ""),
    ]);
    sandbox.apply(&manifest).await;
    let clusters = ["durable", "ledger", "pages"];
    let before = sandbox.settled(&clusters).await;
    for info in &before[..3] {
        Redis::at(address(info)).one(&["SET", "a", &address(info)]).await.unwrap();
    }
    // Enough that saving it takes a moment.
    let fill = "for i = 1, 50000 do redis.call('SET', 'k' .. i, string.rep('x', 100)) end";
    Redis::at(address(&before[0])).ask(&["EVAL", fill, "0"]).await.unwrap();
    Memcached::at(address(&before[3])).set("a", "b").await.unwrap();
    let uid = sandbox.etcd_json("/overlord/clusters/durable/record").await["uid"].clone();
    let framework = sandbox.etcd_get("/overlord/framework").await;

    // In order: servers may save what they hold.
    sandbox.interrupt().await;
    sandbox.wait_empty().await;
    sandbox.boot().await;
    let after = sandbox.settled(&clusters).await;
    assert_eq!(before.iter().map(address).collect::<Vec<_>>(), after.iter().map(address).collect::<Vec<_>>());
    for (old, new) in before.iter().zip(&after) {
        assert_ne!(pid(old), pid(new));
        assert_eq!(new["incarnation"], 0, "{new}");
    }
    for info in &after[..3] {
        assert_eq!(Redis::at(address(info)).one(&["GET", "a"]).await.unwrap(), address(info));
    }
    assert_eq!(Redis::at(address(&after[0])).one(&["DBSIZE"]).await.unwrap(), "50001");
    assert_eq!(Memcached::at(address(&after[3])).get("a").await.unwrap(), None, "memory does not last");
    assert_eq!(sandbox.etcd_json("/overlord/clusters/durable/record").await["uid"], uid);
    assert_eq!(sandbox.etcd_get("/overlord/framework").await, framework);

    // Not in order: what was on disk is still there.
    Redis::at(address(&after[0])).one(&["SAVE"]).await.unwrap();
    Redis::at(address(&after[2])).one(&["SET", "b", "c"]).await.unwrap();
    sandbox.kill().await;
    sandbox.wait_empty().await;
    sandbox.boot().await;
    let last = sandbox.settled(&clusters).await;
    assert_eq!(before.iter().map(address).collect::<Vec<_>>(), last.iter().map(address).collect::<Vec<_>>());
    assert_eq!(Redis::at(address(&last[0])).one(&["GET", "a"]).await.unwrap(), address(&last[0]));
    assert_eq!(Redis::at(address(&last[2])).one(&["GET", "b"]).await.unwrap(), "c");
    sandbox.end().await;
}
