//! A leader that is stopped for longer than its lease while it launches, and goes on when another one leads:
//! nothing is launched twice, nothing that it still sends is taken, and it stands by from then on.
//!
//! `OVERLORD_ROUNDS` says how often, `OVERLORD_TEST_SEED` when exactly.

use std::{collections::BTreeMap, time::Duration};

use overlord_tests::{
    Authors, Counts, Options, Sandbox, Tapped, Watch, eventually, faults,
    tap::{Held, Point, Tape},
};
use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};

use crate::manifest::{memcache, redis};

/// Rounds unless `OVERLORD_ROUNDS` says otherwise.
const ROUNDS: u64 = 3;

/// Seconds of the lease: short, and not so short that a busy machine costs leaderships all the time.
const LEASE: u64 = 5;

/// Milliseconds from a change to the stop at no particular moment, at most.
const LONGEST: u64 = 400;

/// Milliseconds for which the next leader is let go on before the old one wakes up, at most.
const HEAD_START: u64 = 800;

/// How long the moment of a round may be waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// When the leader is stopped; `None` is no particular moment.
const MOMENTS: [Option<Point>; 5] = [
    Some(Point::IntentAsked),
    Some(Point::AcceptAsked),
    None,
    Some(Point::IntentAnswered),
    Some(Point::AcceptAnswered),
];

/// When the message that was under way arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Arrival {
    /// When another one leads, and Mesos listens to that one.
    TakenOver,
    /// When its sender has woken up.
    Awake,
    /// At once.
    Soon,
}

const ARRIVALS: [Arrival; 3] = [Arrival::TakenOver, Arrival::Awake, Arrival::Soon];

fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// What the specs say: members of each cluster.
#[derive(Debug, Default)]
struct Wanted(BTreeMap<&'static str, u32>);

impl Wanted {
    /// A change that needs launches; now and then something goes at the same time.
    async fn change(&mut self, sandbox: &Sandbox, rng: &mut SmallRng) -> String {
        let of = |wanted: &Self, name| wanted.0.get(name).copied().unwrap_or_default();
        let (grows, other) =
            if of(self, "orders") <= of(self, "pages") { ("orders", "pages") } else { ("pages", "orders") };
        if of(self, other) > 3 {
            let left = rng.random_range(0..=1);
            self.put(sandbox, other, left).await;
        }
        let members = of(self, grows) + rng.random_range(1..=3);
        self.put(sandbox, grows, members).await;
        format!("{:?}", self.0)
    }

    async fn put(&mut self, sandbox: &Sandbox, name: &'static str, members: u32) {
        let key = format!("/overlord/config/{name}");
        if members == 0 {
            self.0.remove(name);
            sandbox.etcdctl(&["del", &key]).await;
            return;
        }
        let text = if name == "orders" { redis(name, members, "") } else { memcache(name, members, "") };
        self.0.insert(name, members);
        sandbox.etcdctl(&["put", &key, &text]).await;
    }

    /// Waits until the world is that, and nothing else.
    async fn reached(&self, sandbox: &Sandbox) {
        let names: Vec<&str> = self.0.keys().copied().collect();
        eventually(&format!("the world is {:?}", self.0), || async {
            let infos = sandbox.settled(&names).await;
            let told = faults(sandbox, &infos).await;
            if !told.is_empty() || infos.len() as u32 != self.0.values().sum::<u32>() {
                return Err(format!("{told:?}, {infos:?}"));
            }
            Ok(())
        })
        .await;
    }
}

fn hold(of: &Tapped, point: Point) -> Held {
    match point {
        Point::IntentAsked | Point::IntentAnswered => of.etcd.hold(point),
        Point::AcceptAsked | Point::AcceptAnswered => of.mesos.hold(point),
    }
}

/// Waits for the moment to stop the leader; who that is, and the message that it has under way then. On a busy
/// machine it may be another one than a moment ago.
async fn moment(
    sandbox: &Sandbox,
    pair: &[Tapped; 2],
    point: Option<Point>,
    pause: Duration,
    change: impl Future<Output = String>,
) -> (usize, Option<Held>, String) {
    let Some(point) = point else {
        let said = change.await;
        tokio::time::sleep(pause).await;
        return (sandbox.leading(pair).await.0, None, said);
    };
    let [first, second] = [hold(&pair[0], point), hold(&pair[1], point)];
    let said = change.await;
    let reached = tokio::time::timeout(PATIENCE, async {
        tokio::select! {
            biased;
            () = first.reached() => 0,
            () = second.reached() => 1,
        }
    });
    let Ok(at) = reached.await else { panic!("{said}: {point:?} never came; log: {}", sandbox.log()) };
    (at, Some(if at == 0 { first } else { second }), said)
}

/// One round: the change, the stop, the take-over, the waking up, and a world that is what the specs say.
async fn round(
    sandbox: &Sandbox,
    pair: &[Tapped; 2],
    tape: &Tape,
    wanted: &mut Wanted,
    (round, rng): (u64, &mut SmallRng),
) {
    let point = MOMENTS[round as usize % MOMENTS.len()];
    let arrival = ARRIVALS[round as usize / MOMENTS.len() % ARRIVALS.len()];
    let pause = Duration::from_millis(rng.random_range(0..LONGEST));
    let (at, held, said) = moment(sandbox, pair, point, pause, wanted.change(sandbox, rng)).await;
    let (old, new) = (&pair[at], &pair[1 - at]);
    let epoch = sandbox.epoch().await;
    let heard = tape.subscriptions(new.api());
    old.pause();
    println!("round {round}: {said}; {} is stopped at {point:?}, which arrives {arrival:?}", old.api());
    let arrives = |when| {
        if let Some(held) = held.as_ref().filter(|_| when == arrival) {
            held.release();
        }
    };
    arrives(Arrival::Soon);
    eventually("the other one leads, and Mesos listens to it", || async {
        let leader = sandbox.leader().await;
        let listens = tape.subscriptions(new.api()) > heard;
        if leader == new.api() && listens { Ok(()) } else { Err((leader, listens)) }
    })
    .await;
    arrives(Arrival::TakenOver);
    tokio::time::sleep(Duration::from_millis(rng.random_range(0..HEAD_START))).await;
    old.resume();
    arrives(Arrival::Awake);
    wanted.reached(sandbox).await;
    // The old one may lead again after the other one has, on a machine so busy that a lease runs out.
    eventually(&format!("round {round}: a later term than {epoch}"), || async {
        let now = sandbox.epoch().await;
        if now > epoch { Ok(()) } else { Err(now) }
    })
    .await;
}

#[tokio::test]
async fn a_leader_stopped_for_longer_than_its_lease_launches_and_writes_nothing_when_it_wakes_up() {
    let seed = number("OVERLORD_TEST_SEED", uuid::Uuid::new_v4().as_u64_pair().0);
    let rounds = number("OVERLORD_ROUNDS", ROUNDS);
    println!("OVERLORD_TEST_SEED={seed} OVERLORD_ROUNDS={rounds}");
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut sandbox = Sandbox::start(Options { controller: false, lease: LEASE, ..Options::default() }).await;
    let tape = Tape::default();
    let authors = Authors::start(&sandbox, &tape).await;
    let watch = Watch::start(&sandbox, &[]);
    let pair = [sandbox.spawn_tapped(&tape).await, sandbox.spawn_tapped(&tape).await];
    let mut wanted = Wanted::default();
    let mut counts = Counts::default();
    for n in 0..rounds {
        round(&sandbox, &pair, &tape, &mut wanted, (n, &mut rng)).await;
        watch.assert_clean(&format!("round {n}"));
        let verdict = authors.verdict(&sandbox).await;
        assert_eq!(verdict.violations, Vec::<String>::new(), "round {n}");
        counts = verdict.counts;
    }
    println!("{rounds} rounds: {counts:?}");
    assert!(counts.terms as u64 > rounds, "each round has a new leader: {counts:?}");
    assert!(counts.writes > 0 && counts.launched > 0, "{counts:?}");
    if rounds > 1 {
        // Else nothing was shown: the first rounds have an old leader's write and launch arrive too late.
        assert!(counts.refused > 0 && counts.unheard > 0, "{counts:?}");
    }
    let (processes, tasks) = watch.looks();
    assert!(processes > rounds && tasks > rounds, "the world was watched");
    drop(watch);
    for tapped in pair {
        tapped.controller.stop().await;
    }
    sandbox.end().await;
}
