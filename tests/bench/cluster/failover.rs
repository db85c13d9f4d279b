//! A master is killed: how long until somebody takes writes for its slots.

use std::time::Duration;

use overlord_api::{Address, Info, Phase, Status, keys};
use overlord_engines::cluster::{Node, Role, SlotSet, View, key_slot};
use overlord_reconcile::Clock as _;
use overlord_store::{EtcdConfig, EtcdStore, Store as _};
use overlord_tests::{Redis, signal};
use rustix::process::Signal;
use tokio::time::{sleep, timeout};

use super::nodes::{Nodes, Way, formed};
use crate::{
    Failure,
    create::{create, ms},
    kill::server_pid,
    options::{Options, Section},
    proc::dead,
    progress,
    report::{Report, Target, Unit},
    sandbox::Sandbox,
    specs::{Pool, Setup},
    stats::Series,
};

const MASTERS: u16 = 3;

/// In one round: each node once, since voters do not vote about the same master again for a while.
const VICTIMS: usize = 6;

/// Between two tries of a write.
const LOOK: Duration = Duration::from_millis(2);

/// All tries: several times what redis needs alone.
const LIMIT: Duration = Duration::from_secs(120);

const TARGET: f64 = 1000.0;

/// A shard, as it is now.
#[derive(Debug)]
struct Shard {
    master: Address,
    replica: Address,
    /// A key in its slots.
    key: String,
}

pub(crate) async fn measure(setup: &Setup, options: &Options, report: &mut Report) -> Result<(), Failure> {
    let pool = Pool::cluster(MASTERS);
    let (mut by_itself, mut forced) = (Series::default(), Series::default());
    let (mut ours, mut whole) = (Series::default(), Series::default());
    for n in 1..=options.rounds {
        progress(&format!("failover, {MASTERS} + {MASTERS}, round {n} of {}", options.rounds));
        by_hand(setup, &pool, &mut forced).await?;
        if n == 1 {
            alone(setup, &pool, &mut by_itself).await?;
        }
        if !options.by_hand {
            by_controller(setup, &pool, &mut ours, &mut whole).await?;
        }
    }
    let mut row = |what: &str, floor: Option<&Series>, ours: &Series, target| {
        report.row(Section::Failover, what, Unit::Ms, floor, ours, target);
    };
    let target = Some(Target::AtMost(TARGET));
    row("slots are served again; floor: CLUSTER FAILOVER FORCE at once", Some(&forced), &ours, target);
    row("slots are served again; beside redis alone, node timeout 15 s", Some(&by_itself), &ours, None);
    row("status is Ready again, every replica linked", None, &whole, None);
    Ok(())
}

/// The floor is what a hand can do that knows at once.
async fn by_hand(setup: &Setup, pool: &Pool, forced: &mut Series) -> Result<(), Failure> {
    let mut nodes = Nodes::start(setup, pool, Way::Files)?;
    let addresses = nodes.addresses();
    formed(setup, &addresses).await?;
    for n in 0..VICTIMS {
        let (shard, start) = kill(setup, &mut nodes, n).await?;
        Redis::at(shard.replica.to_string()).ask(&["CLUSTER", "FAILOVER", "FORCE"]).await?;
        forced.push(ms(takes_writes(setup, &shard).await?.saturating_sub(start)));
        nodes.server(shard.master)?.restart()?;
        formed(setup, &addresses).await?;
    }
    Ok(())
}

/// What redis does without any hand. In a cluster of its own: voters do not vote about the same master twice
/// within two node timeouts.
async fn alone(setup: &Setup, pool: &Pool, series: &mut Series) -> Result<(), Failure> {
    let mut nodes = Nodes::start(setup, pool, Way::Files)?;
    formed(setup, &nodes.addresses()).await?;
    let (shard, start) = kill(setup, &mut nodes, 0).await?;
    series.push(ms(takes_writes(setup, &shard).await?.saturating_sub(start)));
    Ok(())
}

/// Kills the master of the `n`th shard; the shard as it was, and when it ended.
async fn kill(setup: &Setup, nodes: &mut Nodes, n: usize) -> Result<(Shard, Duration), Failure> {
    let shard = shard(&nodes.addresses(), n).await?;
    let start = setup.clock.monotonic();
    nodes.server(shard.master)?.kill()?;
    Ok((shard, start))
}

async fn by_controller(
    setup: &Setup,
    pool: &Pool,
    served: &mut Series,
    whole: &mut Series,
) -> Result<(), Failure> {
    let sandbox = Sandbox::start(setup).await?;
    let created = create(setup, &sandbox, pool).await?;
    let addresses: Vec<Address> = created.infos.iter().map(Info::address).collect();
    for n in 0..VICTIMS {
        // Ready speaks of the last report: the nodes themselves have the last word.
        formed(setup, &addresses).await?;
        let shard = shard(&addresses, n).await?;
        let pid = server_pid(&sandbox, pool, shard.master)?;
        let start = setup.clock.monotonic();
        signal(pid, Signal::KILL);
        dead(pid).await;
        served.push(ms(takes_writes(setup, &shard).await?.saturating_sub(start)));
        formed(setup, &addresses).await.map_err(|error| format!("{error}\n{}", sandbox.log()))?;
        whole.push(ms(ready(setup, &sandbox, pool).await?.saturating_sub(start)));
    }
    Ok(())
}

/// The `n`th shard, counted round and round by who has the lowest slots. The node that is asked may hear of the
/// last change later than others.
async fn shard(addresses: &[Address], n: usize) -> Result<Shard, Failure> {
    let redis = Redis::at(addresses.first().ok_or("a cluster without nodes")?.to_string());
    let looking = async {
        loop {
            let nodes = redis.one(&["CLUSTER", "NODES"]).await?;
            let view = View::parse(&nodes, &redis.one(&["CLUSTER", "INFO"]).await?)?;
            if let Some(shard) = Shard::of(&view, n) {
                return Ok::<_, Failure>(shard);
            }
            sleep(LOOK).await;
        }
    };
    timeout(LIMIT, looking).await.map_err(|_| "no master with a replica is to be seen")?
}

impl Shard {
    fn of(view: &View, n: usize) -> Option<Self> {
        let mut owners: Vec<&Node> = view.nodes().iter().filter(|node| !node.slots.is_empty()).collect();
        owners.sort_by_key(|node| node.slots.first());
        let owner = *owners.get(n.checked_rem(owners.len())?)?;
        let follows = |node: &&Node| node.role() == Some(Role::Replica) && node.master == Some(owner.id);
        let replica = view.nodes().iter().find(follows)?;
        let key = key_in(&owner.slots)?;
        Some(Self { master: owner.address.address()?, replica: replica.address.address()?, key })
    }
}

fn key_in(slots: &SlotSet) -> Option<String> {
    (0..1_000_000).map(|n| format!("bench-{n}")).find(|key| slots.contains(key_slot(key.as_bytes())))
}

/// Writes to the replica until it takes it. When that was, on the clock.
async fn takes_writes(setup: &Setup, shard: &Shard) -> Result<Duration, Failure> {
    let replica = Redis::at(shard.replica.to_string());
    let trying = async {
        while replica.one(&["SET", &shard.key, "x"]).await.is_err() {
            sleep(LOOK).await;
        }
    };
    timeout(LIMIT, trying)
        .await
        .map_err(|_| format!("{} does not take over after {} s", shard.replica, LIMIT.as_secs()))?;
    Ok(setup.clock.monotonic())
}

/// Waits until status says Ready. When that was, on the clock.
async fn ready(setup: &Setup, sandbox: &Sandbox, pool: &Pool) -> Result<Duration, Failure> {
    let store =
        EtcdStore::new(EtcdConfig { endpoints: vec![sandbox.etcd().to_owned()], ..EtcdConfig::default() })?;
    let key = keys::status(&overlord_api::ClusterName::new(pool.name)?);
    let looking = async {
        loop {
            let found = store.get(&key).await?;
            let status =
                found.entries.first().and_then(|entry| serde_json::from_slice::<Status>(&entry.value).ok());
            if status.is_some_and(|status| status.phase == Phase::Ready) {
                return Ok::<_, Failure>(());
            }
            sleep(LOOK * 10).await;
        }
    };
    timeout(LIMIT, looking)
        .await
        .map_err(|_| format!("{} is not Ready again\n{}", pool.name, sandbox.log()))??;
    Ok(setup.clock.monotonic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_for_any_slot() {
        for slot in [0, 8191, 16_383] {
            let key = key_in(&SlotSet::from(slot..=slot)).unwrap();
            assert_eq!(key_slot(key.as_bytes()), slot);
        }
    }
}
