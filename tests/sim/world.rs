//! One simulated world: store, Mesos, hosts, executors and controllers on one thread, and what can happen to
//! them.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use overlord_api::{Engine, Kind, keys};
use overlord_controllers::{Binary, Catalogue, Controllers, Executor, Program, Settings};
use overlord_executor::Ended;
use overlord_reconcile::{Clock, TokioClock};
use overlord_sandbox::{AgentConfig, Launcher, Mesos, MesosConfig};
use overlord_store::{MemoryStore, Store as _, Txn};
use tokio::{task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    launcher::SimLauncher,
    machine::{Hosts, Seen},
    net::Net,
    oracles::Oracles,
    pool::Pool,
    scheduler::SimScheduler,
    store::{SimStore, Who},
    trace::Trace,
    view::View,
};

/// How many agents there are.
pub(crate) const AGENTS: u8 = 6;

/// How long the master waits for an agent.
pub(crate) const PING_TIMEOUT: Duration = Duration::from_secs(15);

/// From an agent's start to the moment when nobody acts on its absence any more.
const RETURN_SLACK: Duration = Duration::from_secs(5);

/// A world, and the hands that change it.
pub(crate) struct World {
    seed: u64,
    clock: Arc<dyn Clock>,
    pub(crate) trace: Trace,
    pub(crate) net: Net,
    pub(crate) oracles: Oracles,
    pub(crate) hosts: Hosts,
    pub(crate) mesos: Mesos,
    store: MemoryStore,
    user: SimStore,
    launcher: Arc<SimLauncher>,
    /// The driver of Mesos, until the world ends.
    _driver: JoinSet<()>,
    /// The controller processes, oldest first.
    controllers: Vec<Controller>,
    started: u32,
    /// Whether this is the second run of its seed.
    pub(crate) again: bool,
    /// Agents that nobody reaches.
    pub(crate) lost: BTreeSet<u8>,
    /// What is declared, by name.
    pub(crate) pools: BTreeMap<&'static str, Pool>,
}

/// A controller process.
struct Controller {
    who: Who,
    task: JoinSet<()>,
    shutdown: CancellationToken,
}

/// The agent of that number, from 0.
pub(crate) fn agent_name(number: u8) -> String {
    format!("agent-{}", number + 1)
}

/// Its address.
pub(crate) fn agent_ip(number: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, number + 1).into()
}

fn agents() -> Vec<AgentConfig> {
    let agent = |number: u8| AgentConfig {
        name: agent_name(number),
        ip: agent_ip(number),
        port: 5051,
        cpus: 2.0,
        mem_mib: 1024.0,
        disk_mib: 4096.0,
        ports: vec![(20_000, 20_009)],
        attributes: vec![("rack".to_owned(), format!("r{}", number % 3))],
        work_dir: PathBuf::from("/var/lib/mesos"),
        hostname: None,
        domain: None,
        reserved: Vec::new(),
    };
    (0..AGENTS).map(agent).collect()
}

fn settings(who: Who) -> Settings {
    let versions = |version: &str| BTreeMap::from([(version.to_owned(), Binary::Preinstalled)]);
    let engines = [(Engine::Redis, "7.0.15"), (Engine::Memcache, "1.6.18")];
    let catalogue =
        Catalogue { engines: engines.map(|(engine, version)| (engine, versions(version))).into() };
    let executor = Executor {
        program: Program::Installed("/usr/bin/overlord".to_owned()),
        etcd: vec!["http://10.0.0.100:2379".to_owned()],
        etcd_credentials: None,
        environment: BTreeMap::new(),
    };
    Settings::new(who.to_string(), executor, catalogue)
}

impl World {
    /// A world in which nothing is declared and no controller runs yet.
    pub(crate) fn new(seed: u64, again: bool) -> Self {
        let epoch = jiff::Timestamp::constant(1_767_225_600, 0);
        let clock: Arc<dyn Clock> = Arc::new(TokioClock::starting_at(epoch));
        let trace = Trace::new(Arc::clone(&clock));
        let net = Net::new(seed);
        let store = MemoryStore::new(Arc::clone(&clock));
        let oracles = Oracles::new(store.clone(), net.clone(), trace.clone(), Arc::clone(&clock));
        let hosts = Hosts::new(net.clone(), trace.clone());
        let reach = |who| SimStore { who, inner: store.clone(), net: net.clone(), oracles: oracles.clone() };
        let launcher = Arc::new(SimLauncher {
            mesos: OnceLock::new(),
            hosts: hosts.clone(),
            store: reach(Who::Executor),
            net: net.clone(),
            trace: trace.clone(),
            seed,
            running: Arc::default(),
        });
        let mut config = MesosConfig::new(agents(), seed);
        config.ping_timeout = PING_TIMEOUT;
        let (mesos, driver) = Mesos::in_memory(&config, Arc::clone(&launcher) as Arc<dyn Launcher>);
        // Set once, here.
        let _ = launcher.mesos.set(mesos.clone());
        let mut driving = JoinSet::new();
        driving.spawn(driver);
        let user = reach(Who::User);
        Self {
            seed,
            clock,
            trace,
            net,
            oracles,
            hosts,
            mesos,
            store,
            user,
            launcher,
            _driver: driving,
            controllers: Vec::new(),
            started: 0,
            again,
            lost: BTreeSet::new(),
            pools: BTreeMap::new(),
        }
    }

    /// Starts a controller process, unless one runs.
    pub(crate) fn ensure_controller(&mut self) {
        if self.controllers.is_empty() {
            self.start_controller();
        }
    }

    /// Starts one more controller process, unless two run. Whether it did.
    pub(crate) fn start_standby(&mut self) -> bool {
        let room = self.controllers.len() < 2;
        if room {
            self.start_controller();
        }
        room
    }

    /// Starts a controller process.
    pub(crate) fn start_controller(&mut self) {
        self.started += 1;
        let who = Who::Controller(self.started);
        self.trace.line(format!("{who} starts"));
        let store = SimStore { who, ..self.user.clone() };
        let transport = SimScheduler {
            who,
            inner: self.mesos.scheduler_transport(),
            net: self.net.clone(),
            trace: self.trace.clone(),
            oracles: self.oracles.clone(),
        };
        let seed = self.seed.rotate_left(17).wrapping_add(u64::from(self.started) << 20);
        let controllers = Controllers::new(
            settings(who),
            Arc::new(store),
            Arc::new(transport),
            Arc::new(self.hosts.clone()),
            Arc::clone(&self.clock),
            seed,
        );
        let shutdown = CancellationToken::new();
        let (token, trace) = (shutdown.clone(), self.trace.clone());
        let mut task = JoinSet::new();
        task.spawn(async move {
            let ended = controllers.run(token).await;
            trace.line(format!("{who} ends: {ended:?}"));
            if ended.is_err() {
                trace.violation(format!("{who} gave up: {ended:?}"));
            }
        });
        self.controllers.push(Controller { who, task, shutdown });
    }

    /// `kill -9` of the oldest controller: nothing is given back, what is on its way still arrives. Whether one
    /// ran.
    pub(crate) async fn crash_controller(&mut self) -> bool {
        if self.controllers.is_empty() {
            return false;
        }
        let mut controller = self.controllers.remove(0);
        self.trace.line(format!("{} crashes", controller.who));
        controller.task.shutdown().await;
        true
    }

    /// SIGTERM to the oldest controller: it gives its leadership back. Whether one ran.
    pub(crate) async fn stop_controller(&mut self) -> bool {
        if self.controllers.is_empty() {
            return false;
        }
        let mut controller = self.controllers.remove(0);
        self.trace.line(format!("{} is told to stop", controller.who));
        controller.shutdown.cancel();
        while controller.task.join_next().await.is_some() {}
        true
    }

    /// The oldest controller does not reach the store for a while; Mesos it does. Whether one ran.
    pub(crate) fn cut_controller_off(&self, time: Duration) -> bool {
        let Some(who) = self.controllers.first().map(|controller| controller.who) else { return false };
        self.trace.line(format!("{who} does not reach the store for {time:?}"));
        self.net.set_away(who, true);
        let (net, trace) = (self.net.clone(), self.trace.clone());
        self.net.spawn(async move {
            sleep(time).await;
            trace.line(format!("{who} reaches the store again"));
            net.set_away(who, false);
        });
        true
    }

    async fn put(&self, txn: Txn) {
        while let Err(error) = self.user.commit(txn.clone()).await {
            self.trace.line(format!("user tries again: {error}"));
            sleep(Duration::from_millis(500)).await;
        }
    }

    /// Declares a pool, or changes it, as a person would.
    pub(crate) async fn apply(&mut self, pool: Pool) {
        self.trace.line(format!("user applies {pool}"));
        let (name, text) = (pool.name, pool.manifest());
        self.pools.insert(name, pool);
        self.put(Txn::unfenced().put(keys::config(&Pool::cluster(name)), text)).await;
    }

    /// Removes a pool's spec. Whether it was declared.
    pub(crate) async fn delete(&mut self, name: &'static str) -> bool {
        if self.pools.remove(name).is_none() {
            return false;
        }
        self.trace.line(format!("user deletes {name}"));
        self.put(Txn::unfenced().delete(keys::config(&Pool::cluster(name)))).await;
        true
    }

    /// `kill -9` of a server; the number chooses one. What was killed.
    pub(crate) fn kill_process(&self, number: u32) -> Option<Seen> {
        let mut processes = self.hosts.processes();
        let index = number as usize % processes.len().max(1);
        let seen = (!processes.is_empty()).then(|| processes.swap_remove(index))?;
        self.trace.line(format!("somebody kills process {}", seen.pid));
        self.hosts.end(seen.pid, Ended::Signal(9), "");
        Some(seen)
    }

    /// `kill -9` of an executor; the number chooses one. Whether there was one.
    pub(crate) fn kill_executor(&self, number: u32) -> bool {
        let containers = self.launcher.containers();
        let Some(container) = containers.get(number as usize % containers.len().max(1)) else { return false };
        let on =
            self.mesos.agents().into_iter().find(|a| a.containers.iter().any(|(held, _)| held == container));
        let lost = on.is_some_and(|agent| self.lost.iter().any(|number| agent_name(*number) == agent.name));
        self.launcher.kill_executor(container, lost);
        true
    }

    /// An agent is lost. What runs on it, runs on. Whether it was there.
    pub(crate) fn lose_agent(&mut self, number: u8) -> bool {
        if !self.lost.insert(number) {
            return false;
        }
        self.trace.line(format!("{} is lost", agent_name(number)));
        self.hosts.set_lost(agent_ip(number), true);
        self.mesos.agent_lost(&agent_name(number));
        true
    }

    /// A lost agent is back. Whether it was lost.
    pub(crate) fn return_agent(&mut self, number: u8) -> bool {
        if !self.lost.remove(&number) {
            return false;
        }
        self.trace.line(format!("{} is back", agent_name(number)));
        self.launcher.end_orphans(&agent_name(number));
        self.mesos.agent_return(&agent_name(number));
        // Replacements that were decided while the master missed it may still be on their way.
        let (hosts, host) = (self.hosts.clone(), agent_ip(number));
        self.net.spawn(async move {
            sleep(RETURN_SLACK).await;
            hosts.set_lost(host, false);
        });
        true
    }

    /// An agent restarts, and takes a second for it. Whether it was there.
    pub(crate) fn restart_agent(&self, number: u8) -> bool {
        if self.lost.contains(&number) {
            return false;
        }
        self.trace.line(format!("{} restarts", agent_name(number)));
        self.mesos.agent_restart(&agent_name(number))
    }

    /// An agent is replaced by one with an empty work directory. Whether it was there.
    pub(crate) fn renew_agent(&self, number: u8) -> bool {
        if self.lost.contains(&number) {
            return false;
        }
        self.trace.line(format!("{} gets a new id", agent_name(number)));
        self.mesos.agent_new_id(&agent_name(number))
    }

    /// Cuts the store off for a while.
    pub(crate) fn cut_store_off(&self, time: Duration) {
        self.trace.line(format!("the store is cut off for {time:?}"));
        self.store.set_unavailable(true);
        let (store, trace) = (self.store.clone(), self.trace.clone());
        self.net.spawn(async move {
            sleep(time).await;
            trace.line("the store is there again");
            store.set_unavailable(false);
        });
    }

    /// The store forgets its history.
    pub(crate) async fn compact(&self) {
        if let Ok(listing) = self.store.get(keys::LEADER).await {
            self.trace.line(format!("the store is compacted to {}", listing.revision));
            self.store.compact(listing.revision);
        }
    }

    /// What the store holds now.
    pub(crate) async fn view(&self) -> View {
        self.oracles.look(Who::Time).await;
        self.oracles.view()
    }

    /// Transactions that were committed so far.
    pub(crate) fn writes(&self) -> u64 {
        self.store.writes()
    }

    /// Waits.
    pub(crate) async fn pass(&self, time: Duration) {
        sleep(time).await;
    }
}

/// The kinds of pool that are declared here.
pub(crate) const fn version(kind: Kind) -> &'static str {
    match kind {
        Kind::Redis | Kind::RedisCluster => "7.0.15",
        Kind::Memcache => "1.6.18",
    }
}
