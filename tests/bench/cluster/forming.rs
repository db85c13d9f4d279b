//! From nothing to a cluster in which every node is well.

use overlord_reconcile::Clock as _;

use super::{
    console::{passed, since},
    nodes::{Nodes, Way, formed},
};
use crate::{
    Failure,
    create::{Costs, Executors, create, ms},
    options::{Options, Section},
    progress,
    report::{Report, Target, Unit},
    sandbox::Sandbox,
    specs::{Pool, Setup},
    stages::{Stage, Stages, of},
    stats::Series,
};

/// Clusters from so many masters on are formed fewer times: they take the processor for long.
const LARGE: u16 = 20;
const ROUNDS_OF_LARGE: usize = 3;

/// From so many masters on `redis-cli --cluster create` takes minutes in all: one time tells enough.
const VERY_LARGE: u16 = 60;

/// What the specification of this system asks for.
const fn target(masters: u16) -> f64 {
    if masters <= LARGE { 1.5 } else { 2.0 }
}

/// One size, round after round.
#[derive(Debug, Default)]
struct Rounds {
    floor: Series,
    by_redis_cli: Series,
    ready: Series,
    by_hand: Stages,
    stages: Stages,
    costs: Costs,
    executors: Executors,
}

pub(crate) async fn measure(setup: &Setup, options: &Options, report: &mut Report) -> Result<(), Failure> {
    for masters in &options.sizes {
        let pool = Pool::cluster(*masters);
        let rounds = if *masters < LARGE { options.rounds } else { options.rounds.min(ROUNDS_OF_LARGE) };
        let mut all = Rounds::default();
        for n in 1..=rounds {
            progress(&format!("forming, {masters} + {masters}, round {n} of {rounds}"));
            by_hand(setup, &pool, &mut all).await?;
            if !options.by_hand {
                ours(setup, &pool, &mut all).await?;
            }
            if n == 1 || *masters < VERY_LARGE {
                by_redis_cli(setup, &pool, &mut all).await?;
            }
        }
        tell(*masters, &all, report);
    }
    Ok(())
}

async fn by_hand(setup: &Setup, pool: &Pool, all: &mut Rounds) -> Result<(), Failure> {
    let (began, start) = (setup.clock.now(), setup.clock.monotonic());
    let nodes = Nodes::start(setup, pool, Way::Files)?;
    let started = setup.clock.monotonic();
    let well = formed(setup, &nodes.addresses()).await?;
    all.floor.push(ms(well.saturating_sub(start)));

    let logs: Vec<_> = nodes.servers.iter().map(|server| passed(&server.dir().join("console.log"))).collect();
    let times = Stage::ALL.into_iter().map(|stage| match stage {
        Stage::Server => vec![ms(started.saturating_sub(start))],
        Stage::ClusterOk => logs.iter().filter_map(|log| Some(ms(since(began, log.ok?)))).collect(),
        Stage::Linked => logs.iter().filter_map(|log| Some(ms(since(began, log.linked?)))).collect(),
        Stage::Ready => vec![ms(well.saturating_sub(start))],
        _ => Vec::new(),
    });
    all.by_hand.add(times.collect());
    Ok(())
}

async fn by_redis_cli(setup: &Setup, pool: &Pool, all: &mut Rounds) -> Result<(), Failure> {
    let start = setup.clock.monotonic();
    let nodes = Nodes::start(setup, pool, Way::Create)?;
    nodes.create(setup).await?;
    let well = formed(setup, &nodes.addresses()).await?;
    all.by_redis_cli.push(ms(well.saturating_sub(start)));
    Ok(())
}

async fn ours(setup: &Setup, pool: &Pool, all: &mut Rounds) -> Result<(), Failure> {
    let sandbox = Sandbox::start(setup).await?;
    let created = create(setup, &sandbox, pool).await?;
    // Ready is a promise: whoever comes now finds every node well. Some time has passed since then, in
    // which nothing was written any more.
    let addresses: Vec<_> = created.infos.iter().map(overlord_api::Info::address).collect();
    let asked = setup.clock.monotonic();
    let late = formed(setup, &addresses).await?.saturating_sub(asked);
    if late.as_secs() > 1 {
        progress(&format!("status was Ready too early: nodes were well {late:?} after they were asked"));
    }
    all.ready.push(ms(created.ready));
    all.costs.add(&created);
    all.stages.add(of(&sandbox, pool, &created));
    all.executors.look(&sandbox);
    Ok(())
}

fn tell(masters: u16, all: &Rounds, report: &mut Report) {
    let name = format!("{masters} + {masters}");
    let mut row = |what: &str, floor: &Series, target| {
        let what = format!("{name}: {what}");
        report.row(Section::Forming, &what, Unit::Ms, Some(floor), &all.ready, target);
    };
    let target = Some(Target::TimesFloor(target(masters)));
    row("status is Ready; floor: processes with ready-made files", &all.floor, target);
    row("status is Ready; beside redis-cli --cluster create", &all.by_redis_cli, None);
    let cost = format!("{name} x redis_cluster");
    all.costs.tell(report, &cost);
    all.executors.tell(report, &cost);
    report.stages(Section::Forming, &format!("{name} by hand"), &all.by_hand);
    report.stages(Section::Forming, &name, &all.stages);
}
