//! One simulated world: store, Mesos, hosts, executors and controllers on one thread, and what can happen to
//! them.

pub(crate) mod caches;
mod faults;
mod process;
mod told;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock, atomic::AtomicU64},
    time::Duration,
};

use overlord_api::{Engine, Kind, keys};
use overlord_controllers::{Binary, Catalogue, Executor, Program, Settings};
use overlord_reconcile::{Clock, TokioClock};
use overlord_sandbox::{AgentConfig, Launcher, Mesos, MesosConfig};
use overlord_store::{MemoryStore, Store as _, Txn};
use tokio::{task::JoinSet, time::sleep};

use self::process::Process;
use crate::{
    effects::Effects,
    gate::Gates,
    launcher::SimLauncher,
    machine::Hosts,
    net::Net,
    oracles::Oracles,
    pool::Pool,
    store::{SimStore, Who},
    trace::Trace,
    users::Users,
    view::View,
};

/// How many agents there are.
pub(crate) const AGENTS: u8 = 6;

/// How long the master waits for an agent.
pub(crate) const PING_TIMEOUT: Duration = Duration::from_secs(15);

/// How long the lease of a leader lives, unless a story says otherwise.
const LEASE: Duration = Duration::from_secs(10);

/// A world, and the hands that change it.
pub(crate) struct World {
    seed: u64,
    clock: Arc<dyn Clock>,
    pub(crate) trace: Trace,
    pub(crate) net: Net,
    pub(crate) oracles: Oracles,
    pub(crate) hosts: Hosts,
    pub(crate) mesos: Mesos,
    pub(crate) store: MemoryStore,
    user: SimStore,
    launcher: Arc<SimLauncher>,
    /// The driver of Mesos, until the world ends.
    _driver: JoinSet<()>,
    /// The controller processes, oldest first.
    controllers: Vec<Process>,
    started: u32,
    /// The lease of the leaders that are started from now on.
    pub(crate) lease: Duration,
    pub(crate) gates: Gates,
    pub(crate) effects: Effects,
    /// Whether this is the second run of its seed.
    pub(crate) again: bool,
    /// Agents that nobody reaches.
    pub(crate) lost: BTreeSet<u8>,
    /// Agents that are away in another way, and come back by themselves.
    away: Arc<Mutex<BTreeSet<u8>>>,
    /// What is broken, and is mended by time.
    breaks: Arc<AtomicU64>,
    /// Who uses the clusters of redis nodes.
    pub(crate) users: Users,
    /// Orders to recover that were given.
    recoveries: u32,
    /// What is declared, by name.
    pub(crate) pools: BTreeMap<&'static str, Pool>,
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

fn settings(who: Who, lease: Duration) -> Settings {
    let preinstalled = |versions: &[&str]| -> BTreeMap<String, Binary> {
        versions.iter().map(|version| ((*version).to_owned(), Binary::Preinstalled)).collect()
    };
    let engines =
        [(Engine::Redis, preinstalled(&["6.2.14", "7.0.15"])), (Engine::Memcache, preinstalled(&["1.6.18"]))];
    let catalogue = Catalogue { engines: engines.into() };
    let executor = Executor {
        program: Program::Installed("/usr/bin/overlord".to_owned()),
        etcd: vec!["http://10.0.0.100:2379".to_owned()],
        etcd_credentials: None,
        environment: BTreeMap::new(),
    };
    Settings { lease, ..Settings::new(who.to_string(), executor, catalogue) }
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
        let users = Users::new(&hosts);
        // Set once, here.
        let _ = hosts.users.set(users.clone());
        let gates = Gates::default();
        let effects = Effects::new(gates.clone(), trace.clone());
        let reach = |who| SimStore {
            who,
            inner: store.clone(),
            net: net.clone(),
            oracles: oracles.clone(),
            gates: gates.clone(),
            effects: effects.clone(),
        };
        let launcher = Arc::new(SimLauncher {
            mesos: OnceLock::new(),
            hosts: hosts.clone(),
            store: reach(Who::Executor),
            net: net.clone(),
            trace: trace.clone(),
            seed,
            running: Arc::default(),
            probes: AtomicU64::new(crate::launcher::PROBES.as_secs()),
        });
        let mut config = MesosConfig::new(agents(), seed);
        config.ping_timeout = PING_TIMEOUT;
        // Quiet hours shall cost nothing: connections that break here end.
        config.timings.heartbeat = Duration::from_secs(120);
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
            lease: LEASE,
            gates,
            effects,
            again,
            lost: BTreeSet::new(),
            away: Arc::default(),
            breaks: Arc::default(),
            users,
            recoveries: 0,
            pools: BTreeMap::new(),
        }
    }

    pub(crate) async fn put(&self, txn: Txn) {
        while let Err(error) = self.user.commit(txn.clone()).await {
            self.trace.line(format!("user tries again: {error}"));
            sleep(Duration::from_millis(500)).await;
        }
    }

    /// Somebody writes or deletes keys with `etcdctl`, whatever they are.
    pub(crate) async fn by_hand(&self, txn: Txn) {
        let hand = SimStore { who: Who::Hand, ..self.user.clone() };
        while let Err(error) = hand.commit(txn.clone()).await {
            self.trace.line(format!("somebody's hand tries again: {error}"));
            sleep(Duration::from_millis(500)).await;
        }
    }

    /// Declares a pool, or changes it, as a person would.
    pub(crate) async fn apply(&mut self, pool: Pool) {
        self.trace.line(format!("user applies {pool}"));
        let (name, text) = (pool.name, pool.manifest());
        if pool.kind == Kind::RedisCluster {
            self.users.use_cluster(&pool);
        }
        self.pools.insert(name, pool);
        self.put(Txn::unfenced().put(keys::config(&Pool::cluster(name)), text)).await;
    }

    /// Removes a pool's spec. Whether it was declared.
    pub(crate) async fn delete(&mut self, name: &'static str) -> bool {
        if self.pools.remove(name).is_none() {
            return false;
        }
        self.trace.line(format!("user deletes {name}"));
        self.users.leave_cluster(name);
        self.put(Txn::unfenced().delete(keys::config(&Pool::cluster(name)))).await;
        true
    }

    /// What the store holds now.
    pub(crate) async fn view(&self) -> View {
        self.oracles.look(Who::Time, None).await;
        self.oracles.view()
    }

    /// Transactions that were committed so far, but for those that time alone demands.
    pub(crate) fn writes(&self) -> u64 {
        self.store.writes() - self.oracles.sweeps()
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
