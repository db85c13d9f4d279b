//! The whole controller in front: clusters are declared, all their members run on stub executors.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::StreamExt as _;
use overlord_api::{Address, ClusterName, Engine, Kind, Phase, Status, keys, keys::Key};
use overlord_controllers::{Binary, Catalogue, Controllers, Executor, Program, Settings};
use overlord_mesos::{HttpConfig, HttpScheduler};
use overlord_reconcile::{Change, Clock, Revision};
use overlord_sandbox::{Etcd, EtcdConfig};
use overlord_store::{EtcdStore, MemoryStore, Store, Txn};
use overlord_tests::StubEngines;
use tokio::{task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{
    load::{LIMIT, TASKS},
    master::Master,
    rate,
};
use crate::{
    Failure,
    create::ms,
    history::class,
    options::{Options, Section},
    proc::{cpu, peak, reset_peak},
    progress,
    report::{Report, Unit},
    specs::{Pool, Setup},
    stats::Series,
};

/// Members of each cluster.
const MEMBERS: usize = 100;

/// It takes long.
const MOST_ROUNDS: usize = 3;

/// What one round came to.
#[derive(Debug, Default)]
struct Rounds {
    rate: Series,
    /// Until every status says Ready.
    ready: Series,
    txns: Series,
    puts: BTreeMap<&'static str, Series>,
    cpu: Series,
    store_cpu: Series,
    peak: Series,
}

pub(crate) async fn measure(setup: &Setup, options: &Options, report: &mut Report) -> Result<(), Failure> {
    let tasks = options.agents as usize * usize::from(TASKS);
    let clusters = (tasks / MEMBERS).max(1);
    for store in ["memory", "etcd"] {
        let mut rounds = Rounds::default();
        for n in 1..=options.rounds.min(MOST_ROUNDS) {
            progress(&format!(
                "mesos, {clusters} clusters of {MEMBERS} members, store in {store}, round {n}"
            ));
            if store == "memory" {
                let clock: Arc<dyn Clock> = Arc::new(setup.clock);
                let store = Arc::new(MemoryStore::new(clock));
                round(setup, options, clusters, store, None, &mut rounds).await?;
            } else {
                let etcd = Etcd::start(&EtcdConfig::new(setup.folder()?), None).await?;
                let config = overlord_store::EtcdConfig {
                    endpoints: vec![etcd.endpoint()],
                    ..overlord_store::EtcdConfig::default()
                };
                let store = Arc::new(EtcdStore::new(config)?);
                let outcome = round(setup, options, clusters, store, etcd.pid(), &mut rounds).await;
                etcd.stop().await;
                outcome?;
            }
        }
        let mut row = |what: &str, unit, series: &Series| {
            report.row(Section::Mesos, what, unit, None, series, None);
        };
        let name = format!("{clusters} clusters x {MEMBERS} members, {store}");
        row(&format!("{name}: instances run and recorded"), Unit::PerSecond, &rounds.rate);
        row("- until every status is Ready", Unit::Ms, &rounds.ready);
        row("- transactions that write per instance", Unit::Count, &rounds.txns);
        for (class, series) in &rounds.puts {
            row(&format!("- keys of kind {class} per instance"), Unit::Count, series);
        }
        row("- processor time of the controller per instance", Unit::Ms, &rounds.cpu);
        row("- processor time of etcd per instance", Unit::Ms, &rounds.store_cpu);
        row("- peak of the controller's memory", Unit::Mib, &rounds.peak);
    }
    Ok(())
}

async fn round(
    setup: &Setup,
    options: &Options,
    clusters: usize,
    store: Arc<dyn Store>,
    etcd: Option<u32>,
    rounds: &mut Rounds,
) -> Result<(), Failure> {
    let master = Master::start(options.agents)?;
    let transport = HttpScheduler::new([master.address.to_string()], HttpConfig::default())?;
    let mut watch = store.watch(keys::ROOT, store.get(keys::LEADER).await?.revision).await?;
    let controllers = Controllers::new(
        settings(setup)?,
        Arc::clone(&store),
        Arc::new(transport),
        Arc::new(StubEngines),
        Arc::new(setup.clock),
        1,
    );
    let shutdown = CancellationToken::new();
    let mut running = JoinSet::new();
    let token = shutdown.clone();
    running.spawn(async move { controllers.run(token).await.map_err(|error| error.to_string()) });

    reset_peak();
    let me = std::process::id();
    let (start, before) = (setup.clock.monotonic(), (cpu(me), etcd.map(cpu)));
    for n in 0..clusters {
        let name = format!("c{n}");
        let pool = Pool::of("placeholder", Kind::Redis, MEMBERS);
        let text = setup.manifest(&pool)?.replace("placeholder", &name);
        store.commit(Txn::unfenced().put(keys::config(&ClusterName::new(&name)?), text)).await?;
    }
    let mut seen = Seen::default();
    let wanted = clusters * MEMBERS;
    let follow = async {
        while seen.ready.len() < clusters {
            tokio::select! {
                biased;
                batch = watch.next() => {
                    for change in batch.ok_or("the watch ended")?? {
                        seen.learn(change)?;
                    }
                }
                Some(ended) = running.join_next() => {
                    return Err::<(), Failure>(format!("the controllers ended: {ended:?}").into());
                }
            }
            if seen.running.len() == wanted && seen.all_run.is_none() {
                seen.all_run = Some(setup.clock.monotonic());
            }
        }
        Ok(())
    };
    let followed = timeout(LIMIT, follow).await;
    if followed.is_err() {
        let (running, ready) = (seen.running.len(), seen.ready.len());
        return Err(format!("{running} of {wanted} run, {ready} of {clusters} are Ready").into());
    }
    followed??;
    let since = |at: Duration| at.saturating_sub(start);
    rounds.rate.push(rate(wanted, since(seen.all_run.unwrap_or_else(|| setup.clock.monotonic()))));
    rounds.ready.push(ms(since(setup.clock.monotonic())));
    rounds.cpu.push(ms(cpu(me).saturating_sub(before.0)) / wanted as f64);
    if let (Some(pid), Some(before)) = (etcd, before.1) {
        rounds.store_cpu.push(ms(cpu(pid).saturating_sub(before)) / wanted as f64);
    }
    rounds.peak.push(peak());
    rounds.txns.push(seen.revisions.len() as f64 / wanted as f64);
    for (class, count) in seen.puts {
        rounds.puts.entry(class).or_default().push(count as f64 / wanted as f64);
    }
    shutdown.cancel();
    while running.join_next().await.is_some() {}
    Ok(())
}

/// What the store showed.
#[derive(Debug, Default)]
struct Seen {
    running: BTreeSet<Address>,
    ready: BTreeSet<ClusterName>,
    revisions: BTreeSet<Revision>,
    puts: BTreeMap<&'static str, usize>,
    all_run: Option<Duration>,
}

impl Seen {
    fn learn(&mut self, change: Change) -> Result<(), Failure> {
        let Change::Put(entry) = change else { return Ok(()) };
        let key = Key::parse(&entry.key);
        match &key {
            Key::Config(_) => return Ok(()),
            Key::Info(_, address) => {
                let info: overlord_api::Info = serde_json::from_slice(&entry.value)?;
                if info.observed.state == overlord_api::State::Running {
                    self.running.insert(*address);
                }
            }
            Key::Status(name) => {
                let status: Status = serde_json::from_slice(&entry.value)?;
                if status.phase == Phase::Ready {
                    self.ready.insert(name.clone());
                }
            }
            _ => {}
        }
        self.revisions.insert(entry.mod_revision);
        *self.puts.entry(class(&entry.key)).or_default() += 1;
        Ok(())
    }
}

fn settings(setup: &Setup) -> Result<Settings, Failure> {
    let version = setup.server(Kind::Redis)?.version.clone();
    let catalogue = Catalogue { engines: [(Engine::Redis, [(version, Binary::Preinstalled)].into())].into() };
    let executor = Executor {
        program: Program::Installed("/usr/bin/overlord".to_owned()),
        etcd: vec!["http://127.0.0.1:2379".to_owned()],
        etcd_credentials: None,
        environment: BTreeMap::new(),
    };
    Ok(Settings::new("bench", executor, catalogue))
}
