//! Killing a server: how long until it serves again.

use std::time::Duration;

use overlord_api::{Address, Kind};
use overlord_reconcile::Clock as _;
use overlord_tests::signal;
use rustix::process::Signal;

use crate::{
    Failure,
    create::{create, ms},
    floor::{Network, start_all},
    options::{Options, Section},
    proc::dead,
    progress,
    report::{Report, Target, Unit},
    sandbox::Sandbox,
    serving::serves,
    specs::{Pool, Setup},
    stats::Series,
};

/// Each is killed once: a second death within a minute is waited for with back-off.
const VICTIMS: usize = 10;

const TARGET: f64 = 300.0;

pub(crate) async fn measure(setup: &Setup, options: &Options, report: &mut Report) -> Result<(), Failure> {
    let pools =
        [Pool::of("ten-redis", Kind::Redis, VICTIMS), Pool::of("ten-memcache", Kind::Memcache, VICTIMS)];
    // A round kills ten already.
    let rounds = options.rounds.div_ceil(5);
    for pool in pools {
        let (mut floor, mut ours, mut again) = (Series::default(), Series::default(), Series::default());
        for n in 1..=rounds {
            progress(&format!("kill, {} x {}, round {n} of {rounds}", pool.instances, pool.kind));
            by_hand(setup, &pool, &mut floor).await?;
            by_executors(setup, &pool, &mut ours, &mut again).await?;
        }
        let target = Some(Target::AtMost(TARGET));
        report.row(
            Section::Kill,
            &format!("{}: serves again", pool.kind),
            Unit::Ms,
            Some(&floor),
            &ours,
            target,
        );
        let what = format!("{}: killed once more at once (with back-off)", pool.kind);
        report.row(Section::Kill, &what, Unit::Ms, Some(&floor), &again, None);
    }
    Ok(())
}

async fn by_hand(setup: &Setup, pool: &Pool, series: &mut Series) -> Result<(), Failure> {
    let root = setup.folder()?;
    let network = Network::take()?;
    let mut servers = start_all(setup, pool, &root, &network)?;
    for server in &servers {
        serves(&setup.clock, server.kind, server.address).await?;
    }
    for server in &mut servers {
        let start = setup.clock.monotonic();
        server.kill_and_restart()?;
        let served = serves(&setup.clock, server.kind, server.address).await?;
        series.push(ms(served.saturating_sub(start)));
    }
    Ok(())
}

async fn by_executors(
    setup: &Setup,
    pool: &Pool,
    first: &mut Series,
    again: &mut Series,
) -> Result<(), Failure> {
    let sandbox = Sandbox::start(setup).await?;
    let created = create(setup, &sandbox, pool).await?;
    for address in created.infos.iter().map(overlord_api::Info::address) {
        first.push(ms(kill(setup, &sandbox, pool, address).await?));
    }
    for address in created.infos.iter().map(overlord_api::Info::address) {
        again.push(ms(kill(setup, &sandbox, pool, address).await?));
    }
    Ok(())
}

async fn kill(setup: &Setup, sandbox: &Sandbox, pool: &Pool, address: Address) -> Result<Duration, Failure> {
    let pid = server_pid(sandbox, pool, address)?;
    let start = setup.clock.monotonic();
    signal(pid, Signal::KILL);
    dead(pid).await;
    Ok(serves(&setup.clock, pool.kind, address).await?.saturating_sub(start))
}

/// The server's own number, as its pid file says.
pub(crate) fn server_pid(sandbox: &Sandbox, pool: &Pool, address: Address) -> Result<u32, Failure> {
    let (kind, engine) = (pool.kind.as_str(), pool.kind.engine());
    let file = sandbox.agent(address.ip).join(format!("data/{kind}/{}/{engine}.pid", address.port));
    let pid = std::fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(pid.trim().parse()?)
}
