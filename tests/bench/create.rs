//! Creating a cluster: when its instances serve, when it is Ready, what was written for it.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use futures::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use jiff::Timestamp;
use overlord_api::{Address, Info, Kind, Phase, Status, keys::Key};
use overlord_reconcile::Clock as _;
use tokio::time::timeout;

use crate::{
    Failure,
    floor::{Network, start_all},
    history::{History, class},
    options::{Options, Section},
    proc::{Memory, cpu, memory},
    progress,
    report::{Report, Target, Unit},
    sandbox::Sandbox,
    serving::serves,
    specs::{Pool, Setup},
    stages::{Stages, of},
    stats::Series,
};

/// Until everything serves and is Ready.
const LIMIT: Duration = Duration::from_secs(180);

/// Nothing is written for so long: it is at rest. Status may follow what it tells by a second.
const REST: Duration = Duration::from_millis(1500);

/// Servers asked at once: more would take the processor from those they ask.
const ASKED_AT_ONCE: usize = 4;

/// What the specification of this system asks for.
const SERVING_TARGET: f64 = 500.0;
const WRITES_TARGET: f64 = 4.0;
const EXECUTOR_TARGET: f64 = 8.0;

/// A create, measured. Times are since the request was sent.
#[derive(Debug)]
pub(crate) struct Created {
    pub(crate) requested: Timestamp,
    pub(crate) answered: Duration,
    pub(crate) serving: Vec<Duration>,
    pub(crate) ready: Duration,
    pub(crate) infos: Vec<Info>,
    pub(crate) seen: Vec<(Duration, String)>,
    /// Keys written, by kind of key; the request itself is not among them.
    pub(crate) puts: BTreeMap<&'static str, usize>,
    /// Transactions that wrote.
    pub(crate) txns: usize,
    /// Requests that etcd was sent, as it counts them.
    pub(crate) requests: f64,
    /// Processor time until all served and the status said so, by what used it.
    pub(crate) cpu: BTreeMap<&'static str, Duration>,
}

impl Created {
    pub(crate) fn all_serve(&self) -> Duration {
        self.serving.iter().max().copied().unwrap_or_default()
    }
}

/// Declares a pool and follows it until it rests.
pub(crate) async fn create(setup: &Setup, sandbox: &Sandbox, pool: &Pool) -> Result<Created, Failure> {
    let manifest = setup.manifest(pool)?;
    let url = format!("{}/v1/clusters/{}", sandbox.api(), pool.name);
    let client = reqwest::Client::new();
    // Connected before, as a client that asks often is.
    client.get(format!("{}/readyz", sandbox.api())).send().await?.bytes().await?;
    let mut history = History::open(sandbox.etcd(), setup.clock).await?;
    history.quiet(REST).await?;
    history.seen.clear();
    let requests = etcd_requests(sandbox.etcd()).await?;
    let before = processor_time(sandbox);

    let (requested, start) = (setup.clock.now(), setup.clock.monotonic());
    let request = async {
        let answer = client.put(url).body(manifest).send().await?;
        let (status, answered) = (answer.status(), setup.clock.monotonic());
        if !status.is_success() {
            return Err(format!("the request was refused: {status} {}", answer.text().await?).into());
        }
        Ok::<_, Failure>(answered)
    };
    let mut following = Following::new(setup, pool);
    let served = timeout(LIMIT, async {
        // A request that is refused ends the waiting, too.
        tokio::try_join!(request, following.run(&mut history)).map(|(answered, ())| answered)
    });
    let answered = match served.await {
        Ok(answered) => answered?,
        Err(_) => return Err(format!("{}: {}\n{}", pool.name, following.state(), sandbox.log()).into()),
    };
    let mut cpu = processor_time(sandbox);
    for (what, before) in before {
        cpu.entry(what).and_modify(|used| *used = used.saturating_sub(before));
    }
    let (serving, ready) = (following.serving, following.ready.unwrap_or_default());
    history.quiet(REST).await?;

    let mut puts: BTreeMap<&'static str, usize> = BTreeMap::new();
    let mut revisions: BTreeSet<i64> = BTreeSet::new();
    let mut infos: BTreeMap<Address, Info> = BTreeMap::new();
    for seen in &history.seen {
        let key = Key::parse(&seen.key);
        if let (Key::Info(_, address), Some(value)) = (&key, &seen.value) {
            infos.insert(*address, serde_json::from_slice(value)?);
        }
        if !matches!(key, Key::Config(_)) {
            *puts.entry(class(&seen.key)).or_default() += 1;
            revisions.insert(seen.revision);
        }
    }
    let since = |at: Duration| at.saturating_sub(start);
    Ok(Created {
        requested,
        answered: since(answered),
        serving: serving.into_iter().map(since).collect(),
        ready: since(ready),
        infos: infos.into_values().collect(),
        seen: history.seen.iter().map(|seen| (since(seen.at), event(seen))).collect(),
        puts,
        txns: revisions.len(),
        requests: etcd_requests(sandbox.etcd()).await? - requests,
        cpu,
    })
}

/// Processor time of all that runs for a sandbox.
fn processor_time(sandbox: &Sandbox) -> BTreeMap<&'static str, Duration> {
    let mut used = BTreeMap::from([("sandbox (controller, API, Mesos)", cpu(sandbox.pid()))]);
    for (pid, line) in sandbox.processes() {
        let what = match line.split(' ').next().and_then(|program| program.rsplit('/').next()) {
            Some("redis-server" | "memcached") => "servers",
            Some("etcd") => "etcd",
            Some("overlord") if line.contains(" executor ") => "executors",
            _ => continue,
        };
        *used.entry(what).or_default() += cpu(pid);
    }
    used
}

/// What a change of etcd means for the stages of a create: the kind of key, and the state that an info tells.
fn event(seen: &crate::history::Seen) -> String {
    let class = class(&seen.key);
    let info = seen.value.as_ref().filter(|_| class == "info");
    match info.and_then(|value| serde_json::from_slice::<Info>(value).ok()) {
        Some(info) => format!("info {}", info.observed.state),
        None => class.to_owned(),
    }
}

type Asking<'a> = BoxFuture<'a, Result<Duration, Failure>>;

/// Watches etcd for instances, asks each until it serves.
struct Following<'a> {
    setup: &'a Setup,
    kind: Kind,
    wanted: usize,
    known: BTreeSet<Address>,
    waiting: VecDeque<Address>,
    asking: FuturesUnordered<Asking<'a>>,
    serving: Vec<Duration>,
    ready: Option<Duration>,
    status: Option<Status>,
}

impl<'a> Following<'a> {
    fn new(setup: &'a Setup, pool: &Pool) -> Self {
        Self {
            setup,
            kind: pool.kind,
            // Nodes of a cluster say themselves when they serve: asking two hundred would slow them down.
            wanted: if pool.kind == Kind::RedisCluster { 0 } else { pool.instances },
            known: BTreeSet::new(),
            waiting: VecDeque::new(),
            asking: FuturesUnordered::new(),
            serving: Vec::new(),
            ready: None,
            status: None,
        }
    }

    async fn run(&mut self, history: &mut History) -> Result<(), Failure> {
        while self.serving.len() < self.wanted || self.ready.is_none() {
            while self.asking.len() < ASKED_AT_ONCE
                && let Some(address) = self.waiting.pop_front()
            {
                self.asking.push(Box::pin(serves(&self.setup.clock, self.kind, address)));
            }
            tokio::select! {
                biased;
                first = history.next() => {
                    let first = first?;
                    for seen in history.seen.iter().skip(first) {
                        self.learn(seen)?;
                    }
                }
                Some(served) = self.asking.next() => self.serving.push(served?),
            }
        }
        Ok(())
    }

    fn learn(&mut self, seen: &crate::history::Seen) -> Result<(), Failure> {
        match (Key::parse(&seen.key), &seen.value) {
            (Key::Info(_, address), Some(_)) if self.known.insert(address) && self.wanted > 0 => {
                self.waiting.push_back(address);
            }
            (Key::Status(_), Some(value)) => {
                let status: Status = serde_json::from_slice(value)?;
                if status.phase == Phase::Ready && self.ready.is_none() {
                    self.ready = Some(seen.at);
                }
                self.status = Some(status);
            }
            _ => {}
        }
        Ok(())
    }

    /// How far it came, for messages.
    fn state(&self) -> String {
        let (serving, wanted, known) = (self.serving.len(), self.wanted, self.known.len());
        let told = self.status.as_ref().map(|status| {
            let conditions =
                status.conditions.iter().map(|c| format!("{} {}: {}", c.kind, c.status, c.message));
            format!("{}; {}", status.phase, conditions.collect::<Vec<_>>().join("; "))
        });
        format!(
            "after {} s {serving} of {wanted} that were asked serve, {known} are recorded; status {}",
            LIMIT.as_secs(),
            told.unwrap_or_else(|| "none".to_owned())
        )
    }
}

/// Unary requests that etcd has begun to serve, all clients together.
async fn etcd_requests(etcd: &str) -> Result<f64, Failure> {
    let text = reqwest::get(format!("{etcd}/metrics")).await?.text().await?;
    let counts = text.lines().filter_map(|line| {
        let (labels, value) = line.strip_prefix("grpc_server_started_total{")?.split_once("} ")?;
        let ours = labels.contains("etcdserverpb.") && labels.contains("grpc_type=\"unary\"");
        ours.then(|| value.trim().parse::<f64>().ok())?
    });
    Ok(counts.sum())
}

/// Floor and ours of one kind, round after round.
#[derive(Debug, Default)]
struct Rounds {
    floor_first: Series,
    floor_all: Series,
    first: Series,
    all: Series,
    ready: Series,
    costs: Costs,
    stages: Stages,
    executors: Executors,
    system: Series,
}

/// What creates cost etcd and the processor.
#[derive(Debug, Default)]
pub(crate) struct Costs {
    txns: Series,
    puts: Series,
    requests: Series,
    by_class: BTreeMap<&'static str, Series>,
    cpu: BTreeMap<&'static str, Series>,
}

impl Costs {
    pub(crate) fn add(&mut self, created: &Created) {
        let instances = created.infos.len() as f64;
        self.txns.push(created.txns as f64 / instances);
        self.puts.push(created.puts.values().sum::<usize>() as f64 / instances);
        self.requests.push(created.requests / instances);
        for (class, count) in &created.puts {
            self.by_class.entry(class).or_default().push(*count as f64);
        }
        for (what, used) in &created.cpu {
            self.cpu.entry(what).or_default().push(ms(*used) / instances);
        }
    }

    pub(crate) fn tell(&self, report: &mut Report, of: &str) {
        let mut row = |what: &str, unit, series: &Series, target| {
            report.row(Section::Cost, &format!("{of}: {what}"), unit, None, series, target);
        };
        let target = Some(Target::AtMost(WRITES_TARGET));
        row("etcd writes (transactions) per instance", Unit::Count, &self.txns, target);
        row("keys put or deleted per instance", Unit::Count, &self.puts, None);
        for (class, series) in &self.by_class {
            row(&format!("- keys of kind {class}, all together"), Unit::Count, series, None);
        }
        row("etcd requests of all kinds per instance", Unit::Count, &self.requests, None);
        for (what, series) in &self.cpu {
            row(&format!("processor time per instance, {what}"), Unit::Ms, series, None);
        }
    }
}

/// Memory of executors.
#[derive(Debug, Default)]
pub(crate) struct Executors {
    rss: Series,
    pss: Series,
    private: Series,
}

impl Executors {
    pub(crate) fn look(&mut self, sandbox: &Sandbox) {
        let executors = sandbox.processes().into_iter().filter(|(_, line)| line.contains(" executor "));
        for Memory { rss, pss, private } in executors.filter_map(|(pid, _)| memory(pid)) {
            self.rss.push(rss);
            self.pss.push(pss);
            self.private.push(private);
        }
    }

    pub(crate) fn tell(&self, report: &mut Report, of: &str) {
        let target = Some(Target::AtMost(EXECUTOR_TARGET));
        report.row(Section::Cost, &format!("{of}: executor, resident"), Unit::Mib, None, &self.rss, target);
        report.row(
            Section::Cost,
            &format!("{of}: executor, shared pages by share"),
            Unit::Mib,
            None,
            &self.pss,
            None,
        );
        report.row(
            Section::Cost,
            &format!("{of}: executor, own pages"),
            Unit::Mib,
            None,
            &self.private,
            None,
        );
    }
}

/// Four of each kind, `rounds` times.
pub(crate) async fn measure(setup: &Setup, options: &Options, report: &mut Report) -> Result<(), Failure> {
    let pools = [Pool::of("four-redis", Kind::Redis, 4), Pool::of("four-memcache", Kind::Memcache, 4)];
    for pool in pools {
        let mut rounds = Rounds::default();
        for n in 1..=options.rounds {
            progress(&format!("create, {} x {}, round {n} of {}", pool.instances, pool.kind, options.rounds));
            round(setup, &pool, &mut rounds).await?;
        }
        tell(&pool, &rounds, report);
    }
    Ok(())
}

async fn round(setup: &Setup, pool: &Pool, rounds: &mut Rounds) -> Result<(), Failure> {
    let floor = floor(setup, pool).await?;
    rounds.floor_first.push(ms(floor.iter().min().copied().unwrap_or_default()));
    rounds.floor_all.push(ms(floor.iter().max().copied().unwrap_or_default()));

    let sandbox = Sandbox::start(setup).await?;
    let created = create(setup, &sandbox, pool).await?;
    rounds.first.push(ms(created.serving.iter().min().copied().unwrap_or_default()));
    rounds.all.push(ms(created.all_serve()));
    rounds.ready.push(ms(created.ready));
    rounds.costs.add(&created);
    rounds.stages.add(of(&sandbox, pool, &created));
    rounds.executors.look(&sandbox);
    if let Some(memory) = memory(sandbox.pid()) {
        rounds.system.push(memory.rss);
    }
    Ok(())
}

/// The same by hand; when each served, since the first step.
pub(crate) async fn floor(setup: &Setup, pool: &Pool) -> Result<Vec<Duration>, Failure> {
    let root = setup.folder()?;
    let network = Network::take()?;
    let start = setup.clock.monotonic();
    let servers = start_all(setup, pool, &root, &network)?;
    let asked: Vec<_> = servers.iter().map(|server| (server.kind, server.address)).collect();
    let serving = futures::stream::iter(asked)
        .map(|(kind, address)| serves(&setup.clock, kind, address))
        .buffer_unordered(ASKED_AT_ONCE)
        .collect::<Vec<_>>()
        .await;
    serving.into_iter().map(|at| Ok(at?.saturating_sub(start))).collect()
}

fn tell(pool: &Pool, rounds: &Rounds, report: &mut Report) {
    let name = format!("{} x {}", pool.instances, pool.kind);
    let mut time = |what: &str, floor: Option<&Series>, ours: &Series, target| {
        report.row(Section::Create, &format!("{name}: {what}"), Unit::Ms, floor, ours, target);
    };
    time("the first serves", Some(&rounds.floor_first), &rounds.first, None);
    time("all serve", Some(&rounds.floor_all), &rounds.all, Some(Target::AtMost(SERVING_TARGET)));
    time("status is Ready", Some(&rounds.floor_all), &rounds.ready, None);
    rounds.costs.tell(report, &name);
    rounds.executors.tell(report, &name);
    report.row(
        Section::Cost,
        &format!("{name}: sandbox (controller, API, Mesos), resident"),
        Unit::Mib,
        None,
        &rounds.system,
        None,
    );
    report.stages(Section::Stages, &name, &rounds.stages);
}

/// Milliseconds.
pub(crate) fn ms(span: Duration) -> f64 {
    span.as_secs_f64() * 1000.0
}
