//! A hundred at once, beside the same hundred started by hand as fast as a loop can.

use overlord_api::Kind;

use crate::{
    Failure,
    create::{Costs, Executors, create, floor, ms},
    options::{Options, Section},
    proc::memory,
    progress,
    report::{Report, Target, Unit},
    sandbox::Sandbox,
    specs::{Pool, Setup},
    stages::{Stages, of},
    stats::Series,
};

const CROWD: usize = 100;

/// At most so many times the floor.
const TARGET: f64 = 2.0;

/// A hundred processes take a while to start and to end.
const MOST_ROUNDS: usize = 3;

pub(crate) async fn measure(setup: &Setup, options: &Options, report: &mut Report) -> Result<(), Failure> {
    let pool = Pool::of("hundred", Kind::Redis, CROWD);
    let rounds = options.rounds.min(MOST_ROUNDS);
    let (mut by_hand, mut serving, mut ready) = (Series::default(), Series::default(), Series::default());
    let mut system = Series::default();
    let mut costs = Costs::default();
    let mut executors = Executors::default();
    let mut stages = Stages::default();
    for n in 1..=rounds {
        progress(&format!("create, {CROWD} x {}, round {n} of {rounds}", pool.kind));
        by_hand.push(ms(floor(setup, &pool).await?.into_iter().max().unwrap_or_default()));
        let sandbox = Sandbox::start(setup).await?;
        let created = create(setup, &sandbox, &pool).await?;
        serving.push(ms(created.all_serve()));
        ready.push(ms(created.ready));
        costs.add(&created);
        executors.look(&sandbox);
        stages.add(of(&sandbox, &pool, &created));
        if let Some(memory) = memory(sandbox.pid()) {
            system.push(memory.rss);
        }
    }
    let name = format!("{CROWD} x {}", pool.kind);
    let mut row = |section, what: &str, unit, floor, series: &Series, target| {
        report.row(section, &format!("{name}: {what}"), unit, floor, series, target);
    };
    let target = Some(Target::TimesFloor(TARGET));
    row(Section::Crowd, "all serve", Unit::Ms, Some(&by_hand), &serving, target);
    row(Section::Crowd, "status is Ready", Unit::Ms, Some(&by_hand), &ready, None);
    row(Section::Cost, "sandbox (controller, API, Mesos), resident", Unit::Mib, None, &system, None);
    costs.tell(report, &name);
    executors.tell(report, &name);
    report.stages(Section::Stages, &name, &stages);
    Ok(())
}
