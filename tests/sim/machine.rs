//! Hosts as the executor sees them: directories, processes and their engines, in memory.

use std::{
    collections::BTreeMap,
    fmt, io,
    net::IpAddr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use futures::FutureExt as _;
use overlord_api::{Address, Kind};
use overlord_controllers::{Commander, Engines, Known, Look};
use overlord_engines::ServerConf;
use overlord_executor::{
    Change, Clearance, Disposal, Ended, Exit, Health, Instance, LiveError, Machine, MachineError, NoAnswer,
    Signal, StartRequest, Started,
};
use overlord_mesos::v1::ContainerId;
use tokio::{sync::oneshot, time::sleep};

use crate::{net::Net, trace::Trace};

/// A value that the simulated redis takes neither at its start nor while it runs, though it is a legal one.
pub(crate) const REFUSED: (&str, &str) = ("maxmemory-samples", "13");

/// All hosts of one run; clones share them.
#[derive(Clone)]
pub(crate) struct Hosts {
    net: Net,
    trace: Trace,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    last_pid: u32,
    processes: BTreeMap<u32, Process>,
    dirs: BTreeMap<(IpAddr, Kind, u16), Dir>,
    /// Hosts whose agent nobody reaches, as often as it was lost: what runs there, runs on.
    lost: BTreeMap<IpAddr, u32>,
    /// So many of the next starts fail.
    bad_starts: u32,
}

/// A server process.
struct Process {
    instance: Instance,
    container: ContainerId,
    settings: BTreeMap<String, String>,
    serves_from: Duration,
    keys: u64,
    exit: Option<oneshot::Sender<Exit>>,
}

/// A working directory.
struct Dir {
    owner: (String, u32, u32),
    conf: String,
}

/// A living process, for whoever looks from outside.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) pid: u32,
    pub(crate) instance: Instance,
    pub(crate) settings: BTreeMap<String, String>,
    pub(crate) serving: bool,
}

impl fmt::Debug for Hosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hosts")
    }
}

fn owner(instance: &Instance) -> (String, u32, u32) {
    (instance.uid.clone(), instance.member, instance.incarnation)
}

fn place(instance: &Instance) -> (IpAddr, Kind, u16) {
    (instance.address.ip, instance.kind, instance.address.port)
}

fn settings(conf: &str) -> BTreeMap<String, String> {
    ServerConf::parse(conf).map(|conf| conf.entries().iter().cloned().collect()).unwrap_or_default()
}

impl Hosts {
    pub(crate) fn new(net: Net, trace: Trace) -> Self {
        Self { net, trace, inner: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything that lives, by pid.
    pub(crate) fn processes(&self) -> Vec<Seen> {
        let now = self.trace.now();
        let inner = self.lock();
        let seen = inner.processes.iter().map(|(&pid, process)| Seen {
            pid,
            instance: process.instance.clone(),
            settings: process.settings.clone(),
            serving: process.serves_from <= now,
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

    /// So many of the next starts fail.
    pub(crate) fn fail_starts(&self, number: u32) {
        self.lock().bad_starts = number;
    }

    /// The process ends.
    pub(crate) fn end(&self, pid: u32, how: Ended, console: &str) {
        let Some(mut process) = self.lock().processes.remove(&pid) else { return };
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

    /// Never two live processes for one member or at one address; what lives, or is restarted in place, on a host
    /// that nobody reaches is not by our act.
    fn check_start(&self, inner: &Inner, instance: &Instance) {
        let lost = |instance: &Instance| inner.lost.get(&instance.address.ip).is_some_and(|times| *times > 0);
        for other in inner.processes.values().map(|process| &process.instance) {
            let twin = other.uid == instance.uid && other.member == instance.member;
            if twin && !lost(other) && !lost(instance) {
                self.trace.violation(format!("{} starts while {} lives", name(instance), name(other)));
            }
            if other.address == instance.address {
                self.trace.violation(format!("{} starts where {} lives", name(instance), name(other)));
            }
        }
    }
}

/// An instance in the story.
fn name(instance: &Instance) -> String {
    let Instance { cluster, member, incarnation, address, task_id, .. } = instance;
    format!("{cluster}/{member}.{incarnation} at {address} ({task_id})")
}

/// The host of one executor.
#[derive(Debug, Clone)]
pub(crate) struct SimMachine {
    pub(crate) hosts: Hosts,
    pub(crate) container: ContainerId,
}

#[async_trait]
impl Machine for SimMachine {
    async fn prepare(&self, instance: &Instance, conf: &str) -> Result<(), MachineError> {
        let net = &self.hosts.net;
        sleep(net.millis(1, 20)).await;
        // What an earlier executor left in the directory is ended first.
        let left = self.hosts.processes();
        for seen in left.iter().filter(|seen| place(&seen.instance) == place(instance)) {
            self.hosts.end(seen.pid, Ended::Signal(15), "");
        }
        sleep(net.millis(0, 5)).await;
        let mut inner = self.hosts.lock();
        let listening = inner.processes.iter().find(|(_, p)| p.instance.address == instance.address);
        if let Some((pid, _)) = listening {
            let by = format!("pid {pid}");
            return Err(MachineError::PortTaken { port: instance.address.port, by });
        }
        // A foreign directory is moved aside.
        inner.dirs.insert(place(instance), Dir { owner: owner(instance), conf: conf.to_owned() });
        Ok(())
    }

    async fn write_conf(&self, instance: &Instance, conf: &str) -> Result<(), MachineError> {
        sleep(self.hosts.net.millis(0, 5)).await;
        let mut inner = self.hosts.lock();
        match inner.dirs.get_mut(&place(instance)) {
            Some(dir) if dir.owner == owner(instance) => {
                conf.clone_into(&mut dir.conf);
                Ok(())
            }
            _ => Err(no_directory("write")),
        }
    }

    async fn gate(&self, _: &Instance, _: &StartRequest) -> Result<Clearance, MachineError> {
        Ok(Clearance::Start { nodes_conf: None, emptied: false, note: String::new() })
    }

    async fn write_nodes_conf(&self, _: &Instance, _: &str) -> Result<(), MachineError> {
        Ok(())
    }

    async fn start(&self, instance: &Instance) -> Result<Started, MachineError> {
        let hosts = &self.hosts;
        sleep(hosts.net.millis(1, 5)).await;
        let (slow, keys) = (hosts.net.below(8) == 0, hosts.net.below(50));
        let until_serving = if slow { hosts.net.millis(500, 3000) } else { hosts.net.millis(2, 40) };
        let mut inner = hosts.lock();
        let dir = inner.dirs.get(&place(instance)).filter(|dir| dir.owner == owner(instance));
        let settings = settings(&dir.ok_or_else(|| no_directory("read"))?.conf);
        inner.last_pid += 1;
        let pid = inner.last_pid;
        let bad_value = settings.get(REFUSED.0).is_some_and(|value| value == REFUSED.1);
        let bad_start = inner.bad_starts > 0;
        inner.bad_starts = inner.bad_starts.saturating_sub(1);
        hosts.check_start(&inner, instance);
        let (sender, receiver) = oneshot::channel();
        let serves_from = hosts.trace.now() + until_serving;
        let doomed = bad_value || bad_start;
        let process = Process {
            instance: instance.clone(),
            container: self.container.clone(),
            settings,
            serves_from: if doomed { Duration::MAX } else { serves_from },
            keys,
            exit: Some(sender),
        };
        inner.processes.insert(pid, process);
        drop(inner);
        hosts.trace.line(format!("process {pid} of {} starts", name(instance)));
        if doomed {
            let (hosts, pause) = (hosts.clone(), hosts.net.millis(1, 10));
            let console = if bad_value { "FATAL CONFIG FILE ERROR" } else { "cannot allocate memory" };
            self.hosts.net.spawn(async move {
                sleep(pause).await;
                hosts.end(pid, Ended::Status(1), console);
            });
        }
        let exit = receiver.map(|exit| exit.unwrap_or(Exit { how: Ended::Unknown, console: String::new() }));
        Ok(Started { pid, exit: exit.boxed() })
    }

    fn signal(&self, pid: u32, signal: Signal) {
        let hosts = self.hosts.clone();
        let (pause, how) = match signal {
            Signal::Terminate => (hosts.net.millis(1, 60), Ended::Status(0)),
            Signal::Kill => (Duration::ZERO, Ended::Signal(9)),
        };
        self.hosts.net.spawn(async move {
            sleep(pause).await;
            hosts.end(pid, how, "");
        });
    }

    async fn probe(&self, instance: &Instance) -> Result<Health, NoAnswer> {
        let serving = self.hosts.processes().into_iter();
        match serving.filter(|seen| seen.serving).find(|seen| seen.instance.address == instance.address) {
            Some(seen) => Ok(Health {
                serving: true,
                role: Some("single".to_owned()),
                pid: Some(seen.pid),
                ..Health::default()
            }),
            None => Err(NoAnswer(format!("cannot connect to {}", instance.address))),
        }
    }

    async fn set_live(&self, instance: &Instance, changes: &[Change]) -> Result<(), LiveError> {
        sleep(self.hosts.net.millis(0, 5)).await;
        let now = self.hosts.trace.now();
        let mut inner = self.hosts.lock();
        let mut serving = inner.processes.values_mut();
        let process = serving.find(|p| p.instance.address == instance.address && p.serves_from <= now);
        let Some(process) = process else { return Err(LiveError::NoAnswer("cannot connect".to_owned())) };
        let before = process.settings.clone();
        for Change { directive, new, .. } in changes {
            match new {
                Some(value) if (directive.as_str(), value.as_str()) == REFUSED => {
                    process.settings = before;
                    let words = format!("CONFIG SET failed: {directive} {value} brings bad luck");
                    return Err(LiveError::Refused(words));
                }
                Some(value) => process.settings.insert(directive.clone(), value.clone()),
                None => process.settings.remove(directive),
            };
        }
        Ok(())
    }

    async fn clean_up(&self, instance: &Instance, disposal: Disposal) -> Result<(), MachineError> {
        sleep(self.hosts.net.millis(0, 5)).await;
        let mut inner = self.hosts.lock();
        let own = inner.dirs.get(&place(instance)).is_some_and(|dir| dir.owner == owner(instance));
        if own && disposal != Disposal::Keep {
            inner.dirs.remove(&place(instance));
        }
        Ok(())
    }
}

fn no_directory(what: &'static str) -> MachineError {
    let source = io::Error::from(io::ErrorKind::NotFound);
    MachineError::File { what, path: PathBuf::from("server.conf"), source }
}

/// What the controllers ask of engines.
#[async_trait]
impl Engines for Hosts {
    async fn keys(&self, _kind: Kind, address: Address, _epoch: i64) -> Known<u64> {
        sleep(self.net.millis(0, 5)).await;
        let now = self.trace.now();
        let inner = self.lock();
        let mut serving = inner.processes.values();
        serving
            .find(|p| p.instance.address == address && p.serves_from <= now)
            .map_or(Known::Unknown, |process| Known::Is(process.keys))
    }

    async fn look(&self, _address: Address, _patience: Duration) -> Look {
        Look::Silent("no cluster is simulated".to_owned())
    }

    async fn open(&self, _address: Address, _epoch: i64) -> Result<Box<dyn Commander>, String> {
        Err("no cluster is simulated".to_owned())
    }
}
