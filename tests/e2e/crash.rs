//! A controller that dies at any moment: another one ends what it began, and nothing is done twice.

use std::time::Duration;

use overlord_tests::{Controller, Options, Redis, Sandbox, signal};
use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};

use rustix::process::Signal;

use crate::manifest::{address, memcache, pid, redis};

/// Longest time between an order and the death of the controller: most of them are over by then.
const LONGEST: u64 = 500;

/// Rounds unless `OVERLORD_TEST_ROUNDS` says otherwise.
const ROUNDS: u64 = 12;

fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// What the specs say, to be compared with what is.
#[derive(Debug, Default)]
struct Wanted {
    shards: Option<u32>,
    instances: Option<u32>,
}

impl Wanted {
    /// One change, by hand: there may be no controller that listens.
    async fn change(&mut self, sandbox: &Sandbox, rng: &mut SmallRng) -> String {
        let (name, size) =
            if rng.random_bool(0.5) { ("orders", &mut self.shards) } else { ("pages", &mut self.instances) };
        let next = match *size {
            Some(_) if rng.random_bool(0.3) => None,
            before => Some((1..=4).filter(|n| Some(*n) != before).nth(rng.random_range(0..3)).unwrap()),
        };
        let said = format!("{name}: {size:?} -> {next:?}");
        *size = next;
        let key = format!("/overlord/config/{name}");
        match next {
            None => sandbox.etcdctl(&["del", &key]).await,
            Some(n) if name == "orders" => sandbox.etcdctl(&["put", &key, &redis(name, n, "")]).await,
            Some(n) => sandbox.etcdctl(&["put", &key, &memcache(name, n, "")]).await,
        };
        said
    }

    fn clusters(&self) -> Vec<&'static str> {
        let names = [("orders", self.shards), ("pages", self.instances)];
        names.into_iter().filter_map(|(name, size)| size.map(|_| name)).collect()
    }
}

#[tokio::test]
async fn a_controller_killed_at_any_moment_leaves_nothing_half_done() {
    let seed = number("OVERLORD_TEST_SEED", uuid::Uuid::new_v4().as_u64_pair().0);
    let rounds = number("OVERLORD_TEST_ROUNDS", ROUNDS);
    println!("OVERLORD_TEST_SEED={seed} OVERLORD_TEST_ROUNDS={rounds}");
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut sandbox = Sandbox::start(Options { controller: false, lease: 1, ..Options::default() }).await;
    let mut wanted = Wanted::default();
    let mut controller: Controller = sandbox.start_controller().await;
    for round in 0..rounds {
        for _ in 0..rng.random_range(1..=2) {
            println!("round {round}: {}", wanted.change(&sandbox, &mut rng).await);
        }
        let moment = Duration::from_millis(rng.random_range(0..LONGEST));
        println!("round {round}: killed after {moment:?}");
        tokio::time::sleep(moment).await;
        controller.kill().await;
        if rng.random_bool(0.3) {
            // Its successor dies too: while it waits for the lease, takes over, or goes on.
            let moment = Duration::from_millis(rng.random_range(0..LONGEST) + 1000);
            println!("round {round}: its successor is killed after {moment:?}");
            let successor = sandbox.spawn_controller();
            tokio::time::sleep(moment).await;
            successor.kill().await;
        }
        controller = sandbox.start_controller().await;
        // Now and then it is let finish, so that rounds do not all begin in a heap of unfinished work.
        if rng.random_bool(0.4) {
            check(&sandbox, &wanted).await;
        }
    }
    check(&sandbox, &wanted).await;

    // And from nothing to nothing.
    for name in wanted.clusters() {
        sandbox.etcdctl(&["del", &format!("/overlord/config/{name}")]).await;
    }
    sandbox.settled(&[]).await;
    controller.stop().await;
    sandbox.end().await;
}

#[tokio::test]
async fn a_controller_that_was_stopped_and_wakes_up_finds_another_one_in_charge_and_does_nothing() {
    let mut sandbox = Sandbox::start(Options { controller: false, lease: 1, ..Options::default() }).await;
    let sleeper = sandbox.start_controller().await;
    sandbox.apply(&redis("orders", 2, "")).await;
    let before = sandbox.settled(&["orders"]).await;
    // It hears of the change and can do nothing about it.
    signal(sleeper.pid(), Signal::STOP);
    sandbox.etcdctl(&["put", "/overlord/config/orders", &redis("orders", 4, "")]).await;
    let controller = sandbox.start_controller().await;
    sandbox.settled(&["orders"]).await;
    // Awake, it has a whole heap of old news to act on.
    signal(sleeper.pid(), Signal::CONT);
    sandbox.declare(&redis("orders", 3, "")).await;
    sandbox.declare(&memcache("pages", 2, "")).await;
    sandbox.ready("pages").await;
    let after = sandbox.settled(&["orders", "pages"]).await;
    assert_eq!(before.iter().map(pid).collect::<Vec<_>>(), after[..2].iter().map(pid).collect::<Vec<_>>());
    let leader = sandbox.etcd_json("/overlord/leader").await;
    assert_eq!(leader["api"], sandbox.api());

    // With the other one gone it leads again.
    controller.stop().await;
    sandbox.etcdctl(&["put", "/overlord/config/orders", &redis("orders", 4, "")]).await;
    sandbox.settled(&["orders", "pages"]).await;
    sleeper.stop().await;
    sandbox.end().await;
}

/// The world is what the specs say: as many members, each with one process that serves.
async fn check(sandbox: &Sandbox, wanted: &Wanted) {
    let infos = sandbox.settled(&wanted.clusters()).await;
    assert_eq!(infos.len() as u32, wanted.shards.unwrap_or(0) + wanted.instances.unwrap_or(0), "{infos:?}");
    for info in infos.iter().filter(|info| info["kind"] == "redis") {
        assert_eq!(Redis::at(address(info)).one(&["PING"]).await.unwrap(), "PONG");
    }
    for name in wanted.clusters() {
        let record = sandbox.etcd_json(&format!("/overlord/clusters/{name}/record")).await;
        assert!(record["tombstones"].is_null(), "{record}");
    }
}
