//! The hosts of one world: what runs on them, what lies in their directories, and who reaches whom. The caches
//! themselves are the model of redis; time moves it when something in it is due.

mod duty;
mod traffic;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use overlord_api::{Address, Kind};
use overlord_controllers::{Commander, Engines, Known, NetworkEngines};
use overlord_engines::{ServerConf, diff};
use overlord_executor::{Ended, Exit, Instance};
use overlord_mesos::v1::ContainerId;
use overlord_tests::model::redis::{ClientId, DirId, Files, LinkView, Pid, Redises};
use tokio::{
    sync::{Notify, oneshot},
    time::sleep,
};

pub(crate) use self::traffic::is_cut;
use crate::{memcached::Memcached, net::Net, stream::SimDial, trace::Trace, users::Users};

/// A value that the simulated redis takes neither at its start nor while it runs, though it is a legal one.
pub(crate) const REFUSED: (&str, &str) = ("maxmemory-samples", "13");

/// Where the controllers and the users are.
pub(crate) const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 100));

/// The first number of a memcached process; those of redis are the model's.
const MEMCACHED_PIDS: u32 = 1_000_000;

/// Keys that users have put into a single redis or a memcached by the time somebody looks, at most.
const USERS_KEYS: u64 = 50;

/// All hosts of one run; clones share them.
#[derive(Clone)]
pub(crate) struct Hosts {
    pub(crate) net: Net,
    pub(crate) trace: Trace,
    inner: Arc<Mutex<Inner>>,
    /// Something may be due at another time than before, or a way is free again.
    stirred: Arc<Notify>,
    /// A process is otherwise than before.
    altered: Arc<Notify>,
    /// Told of faults.
    pub(crate) users: Arc<OnceLock<Users>>,
}

pub(crate) struct Inner {
    pub(crate) redis: Redises,
    last_memcached: u32,
    last_dir: u32,
    pub(crate) processes: BTreeMap<u32, Process>,
    pub(crate) dirs: BTreeMap<Place, Dir>,
    /// Hosts whose agent nobody reaches, as often as it was lost: what runs there, runs on.
    lost: BTreeMap<IpAddr, u32>,
    /// Hosts that reach nobody and that nobody reaches, as often as they were cut off.
    cut: BTreeMap<IpAddr, u32>,
    /// Hosts with a full disk.
    pub(crate) full: BTreeSet<IpAddr>,
    /// So many of the next starts fail.
    pub(crate) bad_starts: u32,
    /// Clusters of which a person gave up what does not answer.
    given_up: BTreeSet<String>,
    /// Hosts that are drained: Mesos ends what is there, whatever it holds.
    drained: BTreeSet<IpAddr>,
    duties: duty::Duties,
    /// Since when each process is the master of slots, and under which epoch.
    reigns: BTreeMap<u32, (u64, Duration)>,
    /// What a probe of each process of redis would find.
    looks: BTreeMap<u32, Look>,
}

/// The process at an address, whether it is stopped, and how it is.
pub(crate) type Looked = (Option<u32>, bool, Option<Look>);

/// What of a process a probe tells. As long as it is the same, a probe brings nothing new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Look {
    loading: bool,
    link: LinkView,
    /// Master, epoch, number of slots, `cluster_state`.
    node: Option<(bool, u64, u16, bool)>,
}

/// Host, kind and port: where a working directory is.
pub(crate) type Place = (IpAddr, Kind, u16);

/// A server process.
pub(crate) struct Process {
    pub(crate) instance: Instance,
    pub(crate) container: ContainerId,
    pub(crate) settings: BTreeMap<String, String>,
    pub(crate) serves_from: Duration,
    pub(crate) memcached: Option<Memcached>,
    pub(crate) stopped: bool,
    /// It was told to end while it was stopped.
    ends_when_continued: bool,
    pub(crate) exit: Option<oneshot::Sender<Exit>>,
}

/// A working directory.
pub(crate) struct Dir {
    pub(crate) id: DirId,
    pub(crate) owner: (String, u32, u32),
    pub(crate) conf: String,
}

/// A living process, for whoever looks from outside.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) pid: u32,
    pub(crate) instance: Instance,
    pub(crate) settings: BTreeMap<String, String>,
    pub(crate) serving: bool,
}

impl Seen {
    /// Whether the process runs with what a text says.
    pub(crate) fn runs_with(&self, text: &str) -> bool {
        let Ok(wanted) = ServerConf::parse(text) else { return false };
        let kind = self.instance.kind;
        let gap = if kind == Kind::Memcache { '=' } else { ' ' };
        let value = |value: &str| if value.is_empty() { "\"\"".to_owned() } else { value.to_owned() };
        let lines = self.settings.iter().map(|(name, set)| format!("{name}{gap}{}\n", value(set)));
        let running = ServerConf::parse(&lines.collect::<String>());
        running.is_ok_and(|running| diff(kind, &self.instance.engine_version, &running, &wanted).is_empty())
    }
}

/// A connection to an engine.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    pid: u32,
    /// Of the model; none for memcached.
    redis: Option<ClientId>,
}

/// What a request leads to.
#[derive(Debug)]
pub(crate) enum Served {
    Answer(Vec<u8>),
    Nothing,
    Closed,
}

impl fmt::Debug for Hosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hosts")
    }
}

pub(crate) fn owner(instance: &Instance) -> (String, u32, u32) {
    (instance.uid.clone(), instance.member, instance.incarnation)
}

pub(crate) fn place(instance: &Instance) -> Place {
    (instance.address.ip, instance.kind, instance.address.port)
}

fn settings(conf: &str) -> BTreeMap<String, String> {
    ServerConf::parse(conf).map(|conf| conf.entries().iter().cloned().collect()).unwrap_or_default()
}

/// An instance in the story.
pub(crate) fn name(instance: &Instance) -> String {
    let Instance { cluster, member, incarnation, address, task_id, .. } = instance;
    format!("{cluster}/{member}.{incarnation} at {address} ({task_id})")
}

impl Inner {
    /// Notes how all processes are. Whether one is otherwise than before.
    fn look_at_all(&mut self, now: Duration) -> bool {
        let Self { redis, reigns, looks, .. } = self;
        let mut altered = false;
        let mut alive = 0;
        for view in redis.processes() {
            alive += 1;
            let pid = view.pid.0;
            let node = view.node.as_ref();
            let node = node.map(|node| (node.is_master, node.config_epoch, node.slots.len(), node.ok));
            let look = Look { loading: view.loading, link: view.link, node };
            if looks.get(&pid) == Some(&look) {
                continue;
            }
            altered = true;
            looks.insert(pid, look);
            match node {
                Some((true, epoch, 1.., _)) => {
                    let reign = reigns.entry(pid).or_insert((epoch, now));
                    if reign.0 != epoch {
                        *reign = (epoch, now);
                    }
                }
                _ => drop(reigns.remove(&pid)),
            }
        }
        if looks.len() != alive {
            altered = true;
            let Self { redis, reigns, looks, .. } = self;
            looks.retain(|pid, _| redis.process(Pid(*pid)).is_some());
            reigns.retain(|pid, _| looks.contains_key(pid));
        }
        altered
    }

    /// The files of a working directory.
    pub(crate) fn files(&mut self, place: &Place) -> Option<&mut Files> {
        let dir = self.dirs.get(place)?;
        Some(self.redis.files(&dir.id))
    }

    /// A directory of this instance, as it left it or new; a foreign one is moved aside, where nobody looks.
    pub(crate) fn take_dir(&mut self, instance: &Instance, conf: &str) {
        let (place, owner) = (place(instance), owner(instance));
        match self.dirs.get_mut(&place) {
            Some(dir) if dir.owner == owner => conf.clone_into(&mut dir.conf),
            _ => {
                self.last_dir += 1;
                let (ip, kind, port) = place;
                let id = DirId(format!("{ip}/{kind}/{port}/{}", self.last_dir));
                self.redis.files(&id).full = self.full.contains(&ip);
                self.dirs.insert(place, Dir { id, owner, conf: conf.to_owned() });
            }
        }
    }

    /// The process that listens there by now.
    fn listener(&self, address: Address, now: Duration) -> Option<(u32, &Process)> {
        let at = |(_, process): &(&u32, &Process)| process.instance.address == address;
        let found = self.processes.iter().find(at)?;
        (found.1.serves_from <= now).then_some((*found.0, found.1))
    }
}

impl Hosts {
    pub(crate) fn new(net: Net, trace: Trace) -> Self {
        let inner = Inner {
            redis: Redises::new(net.below(u64::MAX)),
            last_memcached: MEMCACHED_PIDS,
            last_dir: 0,
            processes: BTreeMap::new(),
            dirs: BTreeMap::new(),
            lost: BTreeMap::new(),
            cut: BTreeMap::new(),
            full: BTreeSet::new(),
            bad_starts: 0,
            given_up: BTreeSet::new(),
            drained: BTreeSet::new(),
            duties: duty::Duties::default(),
            reigns: BTreeMap::new(),
            looks: BTreeMap::new(),
        };
        let hosts = Self {
            net,
            trace,
            inner: Arc::new(Mutex::new(inner)),
            stirred: Arc::default(),
            altered: Arc::default(),
            users: Arc::default(),
        };
        hosts.net.spawn(hosts.clone().drive());
        hosts
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what there is; what is due then is looked at anew.
    pub(crate) fn change<T>(&self, act: impl FnOnce(&mut Inner, Duration) -> T) -> T {
        let now = self.trace.now();
        let mut inner = self.lock();
        inner.redis.advance(now);
        let before = inner.redis.next_event();
        let outcome = act(&mut inner, now);
        let sooner = inner.redis.next_event() != before;
        let altered = inner.look_at_all(now);
        let ended = if altered { ended_by_themselves(&inner) } else { Vec::new() };
        drop(inner);
        if sooner {
            self.stirred.notify_waiters();
        }
        if altered {
            self.altered.notify_waiters();
        }
        for (pid, how, words) in ended {
            self.end(pid, how, &words);
        }
        outcome
    }

    /// Lets the model do what is due, when it is due.
    async fn drive(self) {
        loop {
            let stirred = self.stirred.notified();
            let due = self.lock().redis.next_event();
            let now = self.trace.now();
            tokio::select! {
                biased;
                () = stirred => {}
                () = sleep(due.unwrap_or(Duration::MAX).saturating_sub(now)), if due.is_some() => {
                    self.change(|_, _| ());
                }
            }
        }
    }

    /// How a process is, for whoever would ask it.
    pub(crate) fn look_of(&self, address: Address) -> Looked {
        let now = self.trace.now();
        let inner = self.lock();
        let Some((pid, process)) = inner.listener(address, now) else { return (None, false, None) };
        (Some(pid), process.stopped, inner.looks.get(&pid).copied())
    }

    /// Waits until the process at an address is otherwise than before, for so long at most: a probe of it would find
    /// what the one before it found.
    pub(crate) async fn changes(&self, address: Address, before: Looked, most: Duration) {
        let until = self.trace.now() + most;
        loop {
            let altered = self.altered.notified();
            if self.look_of(address) != before {
                return;
            }
            let left = until.saturating_sub(self.trace.now());
            tokio::select! {
                biased;
                () = altered => {}
                () = sleep(left) => return,
            }
        }
    }

    /// Everything that lives, by pid.
    pub(crate) fn processes(&self) -> Vec<Seen> {
        let now = self.trace.now();
        let inner = self.lock();
        let seen = inner.processes.iter().map(|(&pid, process)| Seen {
            pid,
            instance: process.instance.clone(),
            settings: process.settings.clone(),
            serving: process.serves_from <= now && !process.stopped,
        });
        seen.collect()
    }

    /// The text of the configuration file in an instance's directory.
    pub(crate) fn file(&self, instance: &Instance) -> Option<String> {
        self.lock().dirs.get(&place(instance)).map(|dir| dir.conf.clone())
    }

    /// Nobody reaches the host's agent any more, or somebody does again.
    pub(crate) fn set_lost(&self, host: IpAddr, lost: bool) {
        let mut inner = self.lock();
        let times = inner.lost.entry(host).or_default();
        *times = if lost { *times + 1 } else { times.saturating_sub(1) };
    }

    /// Whether somebody reaches the host's agent.
    pub(crate) fn is_lost(inner: &Inner, host: IpAddr) -> bool {
        inner.lost.get(&host).is_some_and(|times| *times > 0)
    }

    /// The caches of a host reach nobody on other hosts any more, nor are they reached; or again.
    pub(crate) fn set_cut(&self, host: IpAddr, others: &[IpAddr], cut: bool) {
        self.change(|inner, now| {
            let times = inner.cut.entry(host).or_default();
            *times = if cut { *times + 1 } else { times.saturating_sub(1) };
            for other in others.iter().filter(|other| **other != host) {
                let apart = [host, *other].iter().any(|ip| inner.cut.get(ip).is_some_and(|n| *n > 0));
                inner.redis.cut(now, host, *other, apart);
            }
        });
        self.stirred.notify_waiters();
    }

    /// A host's disk takes nothing any more, or again.
    pub(crate) fn set_full(&self, host: IpAddr, full: bool) {
        self.change(|inner, _| {
            if full {
                inner.full.insert(host);
            } else {
                inner.full.remove(&host);
            }
            let ids: Vec<DirId> = inner
                .dirs
                .iter()
                .filter(|(place, _)| place.0 == host)
                .map(|(_, dir)| dir.id.clone())
                .collect();
            for id in ids {
                inner.redis.files(&id).full = full;
            }
        });
    }

    /// SIGSTOP, or SIGCONT. Whether it was otherwise before.
    pub(crate) fn set_stopped(&self, pid: u32, stopped: bool) -> bool {
        let told = self.change(|inner, now| {
            let process = inner.processes.get_mut(&pid)?;
            if process.stopped == stopped {
                return None;
            }
            process.stopped = stopped;
            let ends = !stopped && process.ends_when_continued;
            let is_redis = process.memcached.is_none();
            match (is_redis, stopped) {
                (true, true) => inner.redis.pause(now, Pid(pid)),
                (true, false) => inner.redis.resume(now, Pid(pid)),
                (false, _) => {}
            }
            Some(ends)
        });
        if told == Some(true) {
            self.stop(pid, Ended::Status(0), "");
        }
        self.altered.notify_waiters();
        self.stirred.notify_waiters();
        told.is_some()
    }

    /// Whether a process is stopped.
    pub(crate) fn is_stopped(&self, pid: u32) -> bool {
        self.lock().processes.get(&pid).is_some_and(|process| process.stopped)
    }

    /// So many of the next starts fail.
    pub(crate) fn fail_starts(&self, number: u32) {
        self.lock().bad_starts = number;
    }

    /// A person gave up nodes of that cluster: its replicas may be told to take over without a majority.
    pub(crate) fn allow_take_over(&self, cluster: &str) {
        self.lock().given_up.insert(cluster.to_owned());
    }

    /// SIGTERM, some time after it was sent.
    pub(crate) fn terminate(&self, pid: u32) {
        let mut inner = self.lock();
        self.check_end(&inner, pid);
        let Some(process) = inner.processes.get_mut(&pid) else { return };
        process.ends_when_continued |= process.stopped;
        let (stopped, ip) = (process.stopped, process.instance.address.ip);
        let is_drained = inner.drained.contains(&ip);
        drop(inner);
        match (stopped, is_drained) {
            (true, _) => {}
            (false, true) => self.end(pid, Ended::Status(0), ""),
            (false, false) => self.stop(pid, Ended::Status(0), ""),
        }
    }

    /// The process ends by a fault.
    pub(crate) fn end(&self, pid: u32, how: Ended, console: &str) {
        self.stop(pid, how, console);
        if let Some(users) = self.users.get() {
            users.fault();
        }
    }

    /// The process ends, because its keeper wants it: in order, or at once.
    pub(crate) fn stop(&self, pid: u32, how: Ended, console: &str) {
        let now = self.trace.now();
        let mut inner = self.lock();
        let Some(process) = inner.processes.get(&pid) else { return };
        if process.memcached.is_none() {
            inner.redis.kill(now, Pid(pid), matches!(how, Ended::Status(0) | Ended::Signal(15)));
        }
        let Some(mut process) = inner.processes.remove(&pid) else { return };
        inner.look_at_all(now);
        drop(inner);
        self.stirred.notify_waiters();
        self.altered.notify_waiters();
        self.trace.line(format!("process {pid} of {} {how} {console}", name(&process.instance)));
        if let Some(exit) = process.exit.take() {
            // Its executor may be gone.
            let _ = exit.send(Exit { how, console: console.to_owned() });
        }
    }

    /// Kills what runs in a container.
    pub(crate) fn kill_container(&self, container: &ContainerId) {
        let inner = self.lock();
        let own = inner.processes.iter().filter(|(_, process)| process.container == *container);
        let own: Vec<u32> = own.map(|(pid, _)| *pid).collect();
        drop(inner);
        for pid in own {
            self.end(pid, Ended::Signal(9), "");
        }
    }

    /// Starts a server in the directory of its instance: its pid, unless it ends at once, with the console's words.
    pub(crate) fn launch(
        &self,
        instance: &Instance,
        container: &ContainerId,
        exit: oneshot::Sender<Exit>,
    ) -> Option<u32> {
        let slow = self.net.below(8) == 0;
        let until_serving = if slow { self.net.millis(500, 3000) } else { self.net.millis(2, 40) };
        let (keys, pause) = (self.net.below(USERS_KEYS), self.net.millis(1, 10));
        let (pid, console) = self.change(|inner, now| {
            let dir = inner.dirs.get(&place(instance)).filter(|dir| dir.owner == owner(instance))?;
            let (id, conf) = (dir.id.clone(), dir.conf.clone());
            let settings = settings(&conf);
            self.check_start(inner, instance);
            self.check_reign(inner, &place(instance), instance, now);
            let bad_start = inner.bad_starts > 0;
            inner.bad_starts = inner.bad_starts.saturating_sub(1);
            let refused = settings.get(REFUSED.0).is_some_and(|value| value == REFUSED.1);
            let started = match instance.kind {
                _ if bad_start => Err("cannot allocate memory".to_owned()),
                Kind::Redis | Kind::RedisCluster if refused => Err("FATAL CONFIG FILE ERROR".to_owned()),
                Kind::Redis | Kind::RedisCluster => inner.redis.start(now, &id, &conf).map(|pid| pid.0),
                Kind::Memcache => Ok(0),
            };
            let fresh = |inner: &mut Inner| {
                inner.last_memcached += 1;
                inner.last_memcached
            };
            let (pid, console) = match started {
                Ok(0) => (fresh(inner), None),
                Ok(pid) => (pid, None),
                // Never in the model.
                Err(console) => (fresh(inner), Some(console)),
            };
            let memcached = (console.is_some() || instance.kind == Kind::Memcache)
                .then_some(Memcached { pid, items: keys });
            let process = Process {
                instance: instance.clone(),
                container: container.clone(),
                settings,
                serves_from: if console.is_some() { Duration::MAX } else { now + until_serving },
                memcached,
                stopped: false,
                ends_when_continued: false,
                exit: Some(exit),
            };
            inner.processes.insert(pid, process);
            Some((pid, console))
        })?;
        self.trace.line(format!("process {pid} of {} starts", name(instance)));
        let (hosts, address, kind) = (self.clone(), instance.address, instance.kind);
        match console {
            Some(console) => self.net.spawn(async move {
                sleep(pause).await;
                hosts.end(pid, Ended::Status(1), &console);
            }),
            // Users of a single redis write into it; those of clusters are watched closely.
            None if kind == Kind::Redis => self.net.spawn(async move {
                sleep(until_serving).await;
                hosts.fill(address, keys);
            }),
            None => {}
        }
        Some(pid)
    }

    fn engines(&self) -> NetworkEngines {
        NetworkEngines { dialler: SimDial::dialler(self, ELSEWHERE) }
    }
}

/// Processes of the model that ended without anybody's doing.
fn ended_by_themselves(inner: &Inner) -> Vec<(u32, Ended, String)> {
    let alive: BTreeSet<u32> = inner.redis.processes().map(|view| view.pid.0).collect();
    let own =
        inner.processes.iter().filter(|(pid, process)| process.memcached.is_none() && !alive.contains(pid));
    own.map(|(pid, _)| (*pid, Ended::Status(1), "it ended by itself".to_owned())).collect()
}

/// What the controllers ask of engines: the real questions, over the simulated network.
#[async_trait]
impl Engines for Hosts {
    async fn keys(&self, kind: Kind, address: Address, epoch: i64) -> Known<u64> {
        self.engines().keys(kind, address, epoch).await
    }

    async fn look(&self, address: Address, patience: Duration) -> overlord_controllers::Look {
        self.engines().look(address, patience).await
    }

    async fn open(&self, address: Address, epoch: i64) -> Result<Box<dyn Commander>, String> {
        self.engines().open(address, epoch).await
    }
}
