//! Many tasks on many agents through the HTTP API of Mesos, with executors that are stubs: what our client, and
//! the controllers on top of it, are able to do when nothing else is slow.

mod floor;
mod full;
mod load;
mod master;
mod ours;

use std::time::Duration;

use bytes::BytesMut;
use overlord_mesos::{OfferBook, OfferBookConfig, recordio, v1::scheduler::Event};
use overlord_reconcile::Clock as _;
use serde::de::IgnoredAny;
use tokio::time::timeout;
use tokio_util::codec::Decoder as _;

pub(crate) use self::master::{WORD as STUB, run as stub};
use self::{
    floor::Raw,
    load::{LIMIT, TASKS},
    master::Master,
    ours::Client,
};
use crate::{
    Failure,
    create::ms,
    options::{Options, Section},
    proc::cpu,
    progress,
    report::{Report, Target, Unit},
    specs::Setup,
    stats::Series,
};

/// What the specification of this system asks for.
const LAUNCHES: f64 = 1000.0;

/// How often a master is asked for all its offers, and an event with them is decoded.
const REVIVES: usize = 5;

/// All tasks run.
pub(crate) struct Launched {
    tasks: usize,
    /// Until the last ACCEPT was answered, or sent.
    accepted: Duration,
    /// Until the last update was acknowledged.
    whole: Duration,
    /// Processor time of the client.
    cpu: Duration,
}

/// Floor and ours of one thing, round after round.
#[derive(Debug, Default)]
struct Pair {
    floor: Series,
    ours: Series,
}

impl Pair {
    fn push(&mut self, floor: &Launched, ours: &Launched, value: impl Fn(&Launched) -> f64) {
        self.floor.push(value(floor));
        self.ours.push(value(ours));
    }
}

/// So many in that time, by the second.
fn rate(count: usize, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64().max(1e-9)
}

pub(crate) async fn measure(setup: &Setup, options: &Options, report: &mut Report) -> Result<(), Failure> {
    let agents = options.agents as usize;
    let clock = setup.clock;
    let [mut launches, mut accepts, mut cpus, mut masters] = [(); 4].map(|()| Pair::default());
    let [mut revives, mut decodes] = [(); 2].map(|()| Pair::default());
    let mut size = Series::default();
    for n in 1..=options.rounds {
        progress(&format!(
            "mesos, {} tasks on {agents} agents, round {n} of {}",
            agents * usize::from(TASKS),
            options.rounds
        ));
        let master = Master::start(options.agents)?;
        let start = clock.monotonic();
        let floor = async { Raw::subscribe(&master, clock).await?.launch_all(agents, start).await };
        let floor = timeout(LIMIT, floor).await??;
        masters.floor.push(ms(cpu(master.pid())) / floor.tasks as f64);
        drop(master);
        let master = Master::start(options.agents)?;
        let ours = timeout(LIMIT, Client::new(&master, clock)?.launch_all(agents)).await??;
        masters.ours.push(ms(cpu(master.pid())) / ours.tasks as f64);
        drop(master);
        launches.push(&floor, &ours, |launched| rate(launched.tasks, launched.whole));
        accepts.push(&floor, &ours, |launched| rate(launched.tasks, launched.accepted));
        cpus.push(&floor, &ours, |launched| ms(launched.cpu) / launched.tasks as f64);
        let master = Master::start(options.agents)?;
        let (times, record) =
            timeout(LIMIT, Raw::subscribe(&master, clock).await?.revived(REVIVES)).await??;
        for time in times {
            revives.floor.push(ms(time));
        }
        drop(master);
        let master = Master::start(options.agents)?;
        let mut client = Client::new(&master, clock)?;
        for time in timeout(LIMIT, client.revived(agents, REVIVES)).await?? {
            revives.ours.push(ms(time));
        }
        size.push(record.len() as f64 / f64::from(1 << 20));
        decode(setup, &record, agents, &mut decodes)?;
    }
    let mut row = |what: &str, unit, pair: &Pair, target| {
        report.row(Section::Mesos, what, unit, Some(&pair.floor), &pair.ours, target);
    };
    let tasks = agents * usize::from(TASKS);
    let target = Some(Target::AtLeast(LAUNCHES));
    row(
        &format!("{tasks} tasks on {agents} agents: launches, acknowledged"),
        Unit::PerSecond,
        &launches,
        target,
    );
    row("- until the last ACCEPT is out", Unit::PerSecond, &accepts, None);
    row("- processor time of the client per task", Unit::Ms, &cpus, None);
    row("- processor time of the stub Mesos per task", Unit::Ms, &masters, None);
    row(&format!("REVIVE until {agents} offers are in the book"), Unit::Ms, &revives, None);
    row("offers read from memory into the book", Unit::PerSecond, &decodes, None);
    report.row(Section::Mesos, "- size of that event", Unit::Mib, None, &size, None);
    full::measure(setup, options, report).await
}

/// From the bytes of an event to the book; and the floor, which only finds that it is JSON.
fn decode(setup: &Setup, json: &[u8], agents: usize, pair: &mut Pair) -> Result<(), Failure> {
    let record = recordio::encode(json);
    for _ in 0..REVIVES {
        let start = setup.clock.monotonic();
        serde_json::from_slice::<IgnoredAny>(json)?;
        pair.floor.push(rate(agents, setup.clock.monotonic().saturating_sub(start)));
        let mut book = OfferBook::new(OfferBookConfig::default(), ["*"]);
        book.want("*");
        let mut source = BytesMut::from(&*record);
        let start = setup.clock.monotonic();
        let record = recordio::RecordIo::default().decode(&mut source)?.ok_or("no record")?;
        let event: Event = serde_json::from_slice(&record)?;
        book.insert(event.offers.ok_or("no OFFERS")?.offers, start);
        pair.ours.push(rate(agents, setup.clock.monotonic().saturating_sub(start)));
        if book.len() != agents {
            return Err(format!("{} of {agents} offers are in the book", book.len()).into());
        }
    }
    Ok(())
}
