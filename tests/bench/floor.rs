//! The floor: the same servers with the same configuration, started by hand.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    net::{Ipv4Addr, TcpListener},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use overlord_api::{Address, Kind, Persistence};
use overlord_engines::{ConfInput, ServerConf, command};
use rustix::process::geteuid;

use crate::{
    Failure,
    specs::{Pool, Setup},
};

/// A /24 of loopback addresses that nobody else uses: held by a listener on its last address.
#[derive(Debug)]
pub(crate) struct Network {
    first: Ipv4Addr,
    _held: TcpListener,
}

impl Network {
    pub(crate) fn take() -> Result<Self, Failure> {
        // Other programs of this kind start elsewhere, and step aside where they meet.
        let start = std::process::id().wrapping_mul(193);
        let free = (0..60_000_u32).find_map(|step| {
            let [_, _, b, c] = (start.wrapping_add(step) % 60_000 + 256).to_be_bytes();
            let held = TcpListener::bind((Ipv4Addr::new(127, b, c, 254), 19_999)).ok()?;
            Some(Self { first: Ipv4Addr::new(127, b, c, 0), _held: held })
        });
        free.ok_or_else(|| "no loopback network is free".into())
    }

    /// Its first address, the one of the network itself.
    pub(crate) const fn first(&self) -> Ipv4Addr {
        self.first
    }

    /// Address `n` of it.
    pub(crate) fn host(&self, n: u8) -> Ipv4Addr {
        let [a, b, c, _] = self.first.octets();
        Ipv4Addr::new(a, b, c, n)
    }
}

/// A server that was started by hand. Dropped, it is killed.
#[derive(Debug)]
pub(crate) struct Plain {
    pub(crate) kind: Kind,
    pub(crate) address: Address,
    argv: Vec<std::ffi::OsString>,
    dir: PathBuf,
    child: Child,
}

/// As many servers as the pool has, in `root`, on addresses of `network`. All that a shell script would do
/// is in here: a directory, a configuration, a process.
pub(crate) fn start_all(
    setup: &Setup,
    pool: &Pool,
    root: &Path,
    network: &Network,
) -> Result<Vec<Plain>, Failure> {
    (0..pool.instances)
        .map(|n| {
            let port = u16::try_from(20_000 + n)?;
            let address = Address::new(network.host(1).into(), port);
            Plain::start(setup, pool, &root.join(port.to_string()), address, None)
        })
        .collect()
}

impl Plain {
    /// One of a pool; of a redis cluster with its `nodes.conf`, or without.
    pub(crate) fn start(
        setup: &Setup,
        pool: &Pool,
        dir: &Path,
        address: Address,
        nodes_conf: Option<&str>,
    ) -> Result<Self, Failure> {
        let server = setup.server(pool.kind)?;
        let conf = ServerConf::render(&ConfInput {
            kind: pool.kind,
            version: &server.version,
            address,
            bus_port: None,
            resources: pool.resources,
            config: &BTreeMap::new(),
            // None of the measured pools saves anything.
            persistence: Persistence::None,
        })?;
        fs::create_dir_all(dir)?;
        let file = dir.join("server.conf");
        fs::write(&file, conf.as_str())?;
        if let Some(text) = nodes_conf {
            fs::write(dir.join("nodes.conf"), text)?;
        }
        let argv = command(pool.kind, &conf, &server.binary, &file, geteuid().is_root());
        let child = spawn(&argv, dir)?;
        Ok(Self { kind: pool.kind, address, argv, dir: dir.to_owned(), child })
    }

    /// What the simplest supervisor does: sees the end, starts again. The kill comes first.
    pub(crate) fn kill_and_restart(&mut self) -> Result<(), Failure> {
        self.kill()?;
        self.restart()
    }

    /// Kills it and waits until it is gone.
    pub(crate) fn kill(&mut self) -> Result<(), Failure> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Starts it again with what is in its directory.
    pub(crate) fn restart(&mut self) -> Result<(), Failure> {
        self.child = spawn(&self.argv, &self.dir)?;
        Ok(())
    }

    /// Where it works.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        // It may have ended by itself; the wait tells in any case.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(argv: &[std::ffi::OsString], dir: &Path) -> Result<Child, Failure> {
    let (binary, arguments) = argv.split_first().ok_or("an empty command line")?;
    let console = File::create(dir.join("console.log"))?;
    let child = Command::new(binary)
        .args(arguments)
        .current_dir(dir)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(console.try_clone()?)
        .stderr(console)
        // Ctrl-C is ours to handle.
        .process_group(0)
        .spawn()
        .map_err(|error| format!("{}: {error}", Path::new(binary).display()))?;
    Ok(child)
}
