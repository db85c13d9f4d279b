//! The real [`Machine`]: this host's files, processes and ports.

mod console;
mod files;
mod install;
mod node_dir;
mod process;
mod procfs;
mod workdir;

use std::{
    fmt,
    path::PathBuf,
    sync::{Arc, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use overlord_api::Address;
use overlord_engines::{Change, Dialler, Health, ServerConf, command};
use tokio::sync::Mutex;

pub use self::install::Install;
use self::{files::Lock, node_dir::NodeDir, process::Alive};
use crate::{
    Clearance, Connection, Disposal, Instance, Layout, LiveError, Machine, MachineError, NoAnswer, Signal,
    StartRequest, Started, gate, machine::chain, meta::Meta, workdir::set_stale_dump_aside,
};

/// How long the executor that had the port before may take to clean up.
const LOCK_PATIENCE: Duration = Duration::from_secs(30);

/// How long a server that was killed may take to let go of its port, and how often that is looked at.
const EXIT_PATIENCE: Duration = Duration::from_secs(5);
const EXIT_POLL: Duration = Duration::from_millis(20);

/// This host.
pub struct LinuxMachine {
    layout: Layout,
    install: Option<Install>,
    alive: Alive,
    /// Held from the preparation to the clean-up: one executor a port.
    lock: Mutex<Option<Lock>>,
    /// File work that was given up goes on to its end: the next one waits for it.
    files: Arc<std::sync::Mutex<()>>,
    connection: Connection,
}

impl fmt::Debug for LinuxMachine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinuxMachine")
            .field("layout", &self.layout)
            .field("install", &self.install)
            .finish_non_exhaustive()
    }
}

impl LinuxMachine {
    /// Everything is kept below `data_root`. A missing engine binary is downloaded when `install` says where from.
    pub fn new(data_root: impl Into<PathBuf>, install: Option<Install>) -> Result<Self, MachineError> {
        let root = data_root.into();
        files::make_dir_all(&root)?;
        // The kernel shows working directories without symbolic links; ours must compare equal.
        let root = root.canonicalize().map_err(MachineError::file("resolve", &root))?;
        Ok(Self {
            layout: Layout::new(root),
            install,
            alive: Alive::default(),
            lock: Mutex::default(),
            files: Arc::default(),
            connection: Connection::default(),
        })
    }

    /// The command line that starts the server from `conf`.
    fn argv(&self, instance: &Instance, conf: &str) -> Result<Vec<String>, MachineError> {
        let conf = ServerConf::parse(conf).map_err(|error| MachineError::Command(chain(&error)))?;
        let (binary, file) = (self.layout.binary(instance), self.layout.conf(instance));
        let root = rustix::process::geteuid().is_root();
        command(instance.kind, &conf, &binary, &file, root)
            .into_iter()
            .map(|word| {
                word.into_string()
                    .map_err(|word| MachineError::Command(format!("{} is not UTF-8", word.display())))
            })
            .collect()
    }

    fn node_dir(&self, instance: &Instance) -> NodeDir {
        NodeDir { layout: self.layout.clone(), instance: instance.clone() }
    }

    async fn locked(&self, instance: &Instance) -> Result<(), MachineError> {
        let mut lock = self.lock.lock().await;
        if lock.is_none() {
            files::make_dir(&self.layout.kind_dir(instance))?;
            *lock = Some(Lock::acquire(&self.layout.lock(instance), LOCK_PATIENCE).await?);
        }
        Ok(())
    }

    /// Does file work where it cannot hold up the event loop, one after the other.
    async fn blocking(
        &self,
        work: impl FnOnce() -> Result<(), MachineError> + Send + 'static,
    ) -> Result<(), MachineError> {
        let files = Arc::clone(&self.files);
        let work = move || {
            let _turn = files.lock().unwrap_or_else(PoisonError::into_inner);
            work()
        };
        tokio::task::spawn_blocking(work).await.unwrap_or(Err(MachineError::Interrupted))
    }
}

#[async_trait]
impl Machine for LinuxMachine {
    async fn prepare(&self, instance: &Instance, conf: &str) -> Result<(), MachineError> {
        install::ensure(&self.layout, instance, self.install.as_ref()).await?;
        let argv = self.argv(instance, conf)?;
        self.locked(instance).await?;
        let dir = self.layout.work_dir(instance);
        let leftovers = procfs::servers_in(&dir, instance.engine().binary());
        process::stop_leftovers(leftovers, &dir).await?;
        let bus = instance.node.map(|node| Address::new(instance.address.ip, node.bus_port));
        for address in [Some(instance.address), bus].into_iter().flatten() {
            free(address).await?;
        }
        let (layout, instance, conf) = (self.layout.clone(), instance.clone(), conf.to_owned());
        self.blocking(move || workdir::take(&layout, &instance, &Meta::new(&instance, argv), &conf, now()))
            .await
    }

    async fn write_conf(&self, instance: &Instance, conf: &str) -> Result<(), MachineError> {
        let argv = self.argv(instance, conf)?;
        let (layout, instance, conf) = (self.layout.clone(), instance.clone(), conf.to_owned());
        self.blocking(move || {
            // Nothing is written where nothing changed: a full disk must not keep a server from starting.
            if workdir::holds(&layout, &instance, &conf) {
                return Ok(());
            }
            workdir::take(&layout, &instance, &Meta::new(&instance, argv), &conf, now())
        })
        .await
    }

    async fn gate(&self, instance: &Instance, request: &StartRequest) -> Result<Clearance, MachineError> {
        gate::ask(&self.node_dir(instance), &Dialler::TCP, instance, request).await
    }

    async fn write_nodes_conf(&self, instance: &Instance, text: &str) -> Result<(), MachineError> {
        let (dir, text) = (self.node_dir(instance), text.to_owned());
        self.blocking(move || gate::replace(&dir, &dir.instance, &text)).await
    }

    async fn start(&self, instance: &Instance) -> Result<Started, MachineError> {
        let path = self.layout.conf(instance);
        let conf = std::fs::read_to_string(&path).map_err(MachineError::file("read", &path))?;
        let argv = self.argv(instance, &conf)?;
        self.connection.close().await;
        set_stale_dump_aside(&self.node_dir(instance), instance, &conf)?;
        let started = process::start(
            &argv,
            &self.layout.work_dir(instance),
            &self.layout.console(instance),
            &self.alive,
        )?;
        // For people and their scripts; the server is kept by its handle, not by its number.
        let path = self.layout.pid_file(instance);
        if let Err(error) = files::write_plain(&path, format!("{}\n", started.pid).as_bytes()) {
            tracing::warn!(error = chain(&error), "the pid file is not written");
        }
        Ok(started)
    }

    fn signal(&self, pid: u32, signal: Signal) {
        self.alive.signal(pid, signal);
    }

    async fn probe(&self, instance: &Instance) -> Result<Health, NoAnswer> {
        self.connection.probe(instance).await
    }

    async fn set_live(&self, instance: &Instance, changes: &[Change]) -> Result<(), LiveError> {
        self.connection.set_live(instance, changes).await
    }

    async fn clean_up(&self, instance: &Instance, disposal: Disposal) -> Result<(), MachineError> {
        self.connection.close().await;
        if disposal != Disposal::Keep {
            self.locked(instance).await?;
        }
        let (layout, instance) = (self.layout.clone(), instance.clone());
        let result = self.blocking(move || {
            workdir::remove_scratch(&layout, &instance)?;
            match disposal {
                Disposal::Keep => Ok(()),
                Disposal::MoveAside => workdir::retire(&layout, &instance, now()),
                Disposal::Remove => workdir::remove(&layout, &instance),
            }
        });
        let result = result.await;
        *self.lock.lock().await = None;
        result
    }
}

/// Makes sure that nobody listens there.
async fn free(address: Address) -> Result<(), MachineError> {
    let mut polls = EXIT_PATIENCE.as_millis() / EXIT_POLL.as_millis();
    while !procfs::is_free(address) {
        match procfs::listener(address) {
            None => break,
            // A killed server lets go of its files before it lets go of its sockets, and tells nobody.
            Some(by) if by == procfs::UNKNOWN && polls > 0 => {
                polls -= 1;
                tokio::time::sleep(EXIT_POLL).await;
            }
            Some(by) => return Err(MachineError::PortTaken { port: address.port, by }),
        }
    }
    Ok(())
}

#[expect(
    clippy::disallowed_methods,
    reason = "names a directory that is moved aside; nothing is decided by it"
)]
fn now() -> Timestamp {
    Timestamp::now()
}
