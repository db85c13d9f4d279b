//! A converged world writes nothing.

use std::time::Duration;

use overlord_tests::{Options, Sandbox, eventually};

use crate::manifest::{all, memcache, redis};

const CLUSTERS: usize = 12;

#[tokio::test]
async fn a_converged_world_writes_nothing_to_etcd() {
    let sandbox = Sandbox::start(Options::default()).await;
    let names: Vec<String> = (0..CLUSTERS).map(|n| format!("c{n}")).collect();
    let manifests: Vec<String> = names
        .iter()
        .enumerate()
        .map(|(n, name)| if n % 2 == 0 { redis(name, 1, "") } else { memcache(name, 1, "") })
        .collect();
    sandbox.apply(&all(&manifests)).await;
    sandbox.settled(&names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    // Events are written behind the work, once a second.
    eventually("all is told", || async {
        let events = sandbox.etcd_list("/overlord/events/").await.len();
        if events >= CLUSTERS { Ok(()) } else { Err(events) }
    })
    .await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let keys = sandbox.etcd_list("/overlord/").await;
    let revision = sandbox.etcd_revision().await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let now = sandbox.etcd_revision().await;
    if now != revision {
        let changed: Vec<_> =
            sandbox.etcd_list("/overlord/").await.into_iter().filter(|entry| !keys.contains(entry)).collect();
        panic!("{} writes: {changed:?}", now - revision);
    }
    // Looking is no writing either.
    for arguments in
        [["get", "clusters"].as_slice(), &["get", "instances", "-o", "json"], &["describe", "cluster", "c0"]]
    {
        sandbox.ok(arguments).await;
    }
    assert_eq!(sandbox.etcd_revision().await, revision);
    sandbox.end().await;
}
