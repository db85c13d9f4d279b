//! Hosts as an executor sees them: the real decisions of an executor's machine, on simulated files and processes.

use std::{
    io,
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use futures::FutureExt as _;
use overlord_engines::Dialler;
use overlord_executor::{
    Change, Clearance, Connection, Disposal, Ended, Exit, Health, Instance, LiveError, Machine, MachineError,
    NoAnswer, Signal, StartRequest, Started, WorkDir, gate, set_stale_dump_aside,
};
use overlord_mesos::v1::ContainerId;
use tokio::{sync::oneshot, time::sleep};

use crate::{
    hosts::{Looked, Place, owner, place},
    stream::SimDial,
};

pub(crate) use crate::hosts::{Hosts, REFUSED, Seen};

/// For so long at most a probe waits for something new.
const SAME_FOR: Duration = Duration::from_secs(3600);

/// The host of one executor.
#[derive(Debug)]
pub(crate) struct SimMachine {
    hosts: Hosts,
    container: ContainerId,
    dialler: Dialler,
    connection: Connection,
    /// How often something was started, and what there was when the last probe since then found that it serves.
    well: Mutex<(u64, Option<Looked>)>,
}

impl SimMachine {
    /// The host of that address.
    pub(crate) fn new(hosts: &Hosts, container: ContainerId, host: std::net::IpAddr) -> Self {
        let dialler = SimDial::dialler(hosts, host);
        let connection = Connection::new(dialler.clone());
        Self { hosts: hosts.clone(), container, connection, dialler, well: Mutex::default() }
    }

    fn well(&self) -> MutexGuard<'_, (u64, Option<Looked>)> {
        self.well.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn dir(&self, instance: &Instance) -> SimDir {
        SimDir { hosts: self.hosts.clone(), place: place(instance) }
    }

    /// What every write to a full disk says.
    fn room(&self, instance: &Instance) -> Result<(), MachineError> {
        if self.hosts.lock().full.contains(&instance.address.ip) { Err(no_room()) } else { Ok(()) }
    }
}

fn no_room() -> MachineError {
    MachineError::File {
        what: "write",
        path: PathBuf::from("/data"),
        source: io::ErrorKind::StorageFull.into(),
    }
}

fn no_directory(what: &'static str) -> MachineError {
    let source = io::Error::from(io::ErrorKind::NotFound);
    MachineError::File { what, path: PathBuf::from("server.conf"), source }
}

#[async_trait]
impl Machine for SimMachine {
    async fn prepare(&self, instance: &Instance, conf: &str) -> Result<(), MachineError> {
        let net = &self.hosts.net;
        sleep(net.millis(1, 20)).await;
        // What an earlier executor left in the directory is ended first.
        let left = self.hosts.processes();
        for seen in left.iter().filter(|seen| place(&seen.instance) == place(instance)) {
            // One that is stopped is killed in the end.
            let how = if self.hosts.is_stopped(seen.pid) { Ended::Signal(9) } else { Ended::Signal(15) };
            self.hosts.stop(seen.pid, how, "");
        }
        sleep(net.millis(0, 5)).await;
        let listening = {
            let inner = self.hosts.lock();
            let own = |process: &&crate::hosts::Process| process.instance.address == instance.address;
            inner.processes.values().any(|process| own(&process))
        };
        if listening {
            let by = "an unknown process".to_owned();
            return Err(MachineError::PortTaken { port: instance.address.port, by });
        }
        self.room(instance)?;
        self.hosts.lock().take_dir(instance, conf);
        Ok(())
    }

    async fn write_conf(&self, instance: &Instance, conf: &str) -> Result<(), MachineError> {
        sleep(self.hosts.net.millis(0, 5)).await;
        let holds = |dir: &crate::hosts::Dir| dir.owner == owner(instance) && dir.conf == conf;
        if self.hosts.lock().dirs.get(&place(instance)).is_some_and(holds) {
            return Ok(());
        }
        self.room(instance)?;
        self.hosts.lock().take_dir(instance, conf);
        Ok(())
    }

    async fn gate(&self, instance: &Instance, request: &StartRequest) -> Result<Clearance, MachineError> {
        gate::ask(&self.dir(instance), &self.dialler, instance, request).await
    }

    async fn write_nodes_conf(&self, instance: &Instance, text: &str) -> Result<(), MachineError> {
        sleep(self.hosts.net.millis(0, 5)).await;
        gate::replace(&self.dir(instance), instance, text)
    }

    async fn start(&self, instance: &Instance) -> Result<Started, MachineError> {
        sleep(self.hosts.net.millis(1, 5)).await;
        self.connection.close().await;
        {
            let mut well = self.well();
            *well = (well.0 + 1, None);
        }
        let dir = self.dir(instance);
        let conf = dir.server_conf().ok_or_else(|| no_directory("read"))?;
        set_stale_dump_aside(&dir, instance, &conf)?;
        let (sender, receiver) = oneshot::channel();
        let pid = self.hosts.launch(instance, &self.container, sender);
        let pid = pid.ok_or_else(|| no_directory("read"))?;
        let exit = receiver.map(|exit| exit.unwrap_or(Exit { how: Ended::Unknown, console: String::new() }));
        Ok(Started { pid, exit: exit.boxed() })
    }

    fn signal(&self, pid: u32, signal: Signal) {
        let hosts = self.hosts.clone();
        let pause = match signal {
            Signal::Terminate => hosts.net.millis(1, 60),
            Signal::Kill => Duration::ZERO,
        };
        self.hosts.net.spawn(async move {
            sleep(pause).await;
            match signal {
                Signal::Terminate => hosts.terminate(pid),
                Signal::Kill => hosts.stop(pid, Ended::Signal(9), ""),
            }
        });
    }

    async fn probe(&self, instance: &Instance) -> Result<Health, NoAnswer> {
        // As long as nothing has changed, the next probe finds what the last one found: quiet hours cost nothing.
        let (start, before) = *self.well();
        if let Some(before) = before {
            self.hosts.changes(instance.address, before, SAME_FOR).await;
        }
        let look = self.hosts.look_of(instance.address);
        let health = self.connection.probe(instance).await;
        let mut well = self.well();
        // One that was begun before the last start says nothing of what there is since.
        if well.0 == start {
            well.1 = health.as_ref().is_ok_and(|health| health.serving).then_some(look);
        }
        drop(well);
        health
    }

    async fn set_live(&self, instance: &Instance, changes: &[Change]) -> Result<(), LiveError> {
        self.connection.set_live(instance, changes).await
    }

    async fn clean_up(&self, instance: &Instance, disposal: Disposal) -> Result<(), MachineError> {
        self.connection.close().await;
        sleep(self.hosts.net.millis(0, 5)).await;
        let mut inner = self.hosts.lock();
        let own = inner.dirs.get(&place(instance)).is_some_and(|dir| dir.owner == owner(instance));
        if own && disposal != Disposal::Keep {
            inner.dirs.remove(&place(instance));
        }
        Ok(())
    }
}

/// A working directory.
#[derive(Debug)]
struct SimDir {
    hosts: Hosts,
    place: Place,
}

impl SimDir {
    fn files<T>(&self, act: impl FnOnce(&mut overlord_tests::model::redis::Files) -> T) -> Option<T> {
        self.hosts.lock().files(&self.place).map(act)
    }
}

impl WorkDir for SimDir {
    fn path(&self) -> PathBuf {
        let (_, kind, port) = self.place;
        PathBuf::from(format!("/data/{kind}/{port}"))
    }

    fn nodes_conf(&self) -> Result<Option<Vec<u8>>, MachineError> {
        Ok(self.files(|files| files.nodes_conf.clone().map(String::into_bytes)).flatten())
    }

    fn server_conf(&self) -> Option<String> {
        self.hosts.lock().dirs.get(&self.place).map(|dir| dir.conf.clone())
    }

    fn has_dump(&self) -> bool {
        self.files(|files| files.dump.is_some()).unwrap_or_default()
    }

    fn has_append_only_file(&self) -> bool {
        self.files(|files| files.aof.is_some()).unwrap_or_default()
    }

    fn keep_nodes_conf_aside(&self) -> Result<(), MachineError> {
        self.files(|files| files.nodes_conf = None);
        Ok(())
    }

    fn write_nodes_conf(&self, text: &str) -> Result<(), MachineError> {
        let write = |files: &mut overlord_tests::model::redis::Files| {
            if files.full {
                return Err(no_room());
            }
            files.nodes_conf = Some(text.to_owned());
            Ok(())
        };
        self.files(write).unwrap_or_else(|| Err(no_directory("write")))
    }

    fn set_dump_aside(&self) -> Result<(), MachineError> {
        self.files(|files| files.dump = None);
        Ok(())
    }
}
