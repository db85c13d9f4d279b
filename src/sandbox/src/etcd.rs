//! A single etcd as a child process, with a directory, a log and a session of its own.

use std::{
    fs::{self, File, OpenOptions},
    io,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use rustix::process::Signal;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    process::{Child, Command},
};

use crate::{sessions::Session, supervisor::SupervisorPipe};

/// Until it must serve. A cold disk can take seconds.
const START_LIMIT: Duration = Duration::from_secs(30);
/// Between looks at whether it serves.
const LOOK: Duration = Duration::from_millis(10);
/// One look.
const LOOK_LIMIT: Duration = Duration::from_secs(1);
/// Between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(5);
/// After SIGKILL.
const KILL_LIMIT: Duration = Duration::from_secs(10);
/// A free port can be taken by somebody else before etcd has it.
const ATTEMPTS: usize = 3;
/// How much of the log an error shows.
const LOG_TAIL: usize = 5;

/// How etcd is run.
#[derive(Debug, Clone)]
pub struct EtcdConfig {
    /// The binary: a path, or a name to look for in `PATH`.
    pub binary: PathBuf,
    /// Its directory: data, and its log `etcd.log`.
    pub dir: PathBuf,
    /// Where it listens.
    pub ip: IpAddr,
    /// For clients; 0 takes a free one.
    pub client_port: u16,
    /// The backend's quota, in bytes.
    pub quota: u64,
    /// How long history is kept, as etcd writes durations.
    pub retention: String,
}

impl EtcdConfig {
    /// `etcd` from the path, on a free port of 127.0.0.1, 2 GiB, an hour of history.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            binary: "etcd".into(),
            dir: dir.into(),
            ip: IpAddr::from([127, 0, 0, 1]),
            client_port: 0,
            quota: 2 << 30,
            retention: "1h".to_owned(),
        }
    }
}

/// Why there is no etcd.
#[derive(Debug, thiserror::Error)]
pub enum EtcdError {
    /// Its directory cannot be made or written.
    #[error("cannot use {} for etcd", path.display())]
    Directory {
        /// The directory or file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No port is free.
    #[error("cannot find a free port on {ip} for etcd")]
    Port {
        /// The address.
        ip: IpAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The binary cannot be run.
    #[error("cannot run '{}'; is etcd installed (package etcd-server)?", binary.display())]
    Run {
        /// The binary.
        binary: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It ended before it served.
    #[error("etcd ended at its start ({status}); the end of {}:\n{tail}", log.display())]
    Ended {
        /// How.
        status: ExitStatus,
        /// Its log.
        log: PathBuf,
        /// Its last lines.
        tail: String,
    },
    /// It does not serve in time.
    #[error("etcd does not serve on {address} after {} s; the end of {}:\n{tail}", START_LIMIT.as_secs(), log.display())]
    Silent {
        /// Where it should.
        address: SocketAddr,
        /// Its log.
        log: PathBuf,
        /// Its last lines.
        tail: String,
    },
}

/// An etcd that serves.
#[derive(Debug)]
pub struct Etcd {
    child: Child,
    session: Option<Session>,
    address: SocketAddr,
    supervisor: Option<Arc<SupervisorPipe>>,
}

impl Etcd {
    /// Starts etcd and waits until it serves.
    pub async fn start(
        config: &EtcdConfig,
        supervisor: Option<Arc<SupervisorPipe>>,
    ) -> Result<Self, EtcdError> {
        let mut config = config.clone();
        // It runs in its directory, where a relative path would mean something else.
        let absolute = |path: &Path| {
            std::path::absolute(path).map_err(|source| EtcdError::Directory { path: path.to_owned(), source })
        };
        config.dir = absolute(&config.dir)?;
        if config.binary.components().count() > 1 {
            config.binary = absolute(&config.binary)?;
        }
        let mut attempt = 1;
        loop {
            match Self::try_start(&config, supervisor.clone()).await {
                Err(EtcdError::Ended { tail, .. })
                    if config.client_port == 0
                        && attempt < ATTEMPTS
                        && tail.contains("address already in use") =>
                {
                    attempt += 1;
                }
                outcome => return outcome,
            }
        }
    }

    async fn try_start(
        config: &EtcdConfig,
        supervisor: Option<Arc<SupervisorPipe>>,
    ) -> Result<Self, EtcdError> {
        let log = config.dir.join("etcd.log");
        let output = open_log(&config.dir, &log)?;
        let errors =
            output.try_clone().map_err(|source| EtcdError::Directory { path: log.clone(), source })?;
        let port = |source| EtcdError::Port { ip: config.ip, source };
        let client = match config.client_port {
            0 => free_port(config.ip).await.map_err(port)?,
            chosen => chosen,
        };
        let address = SocketAddr::new(config.ip, client);
        let peer = SocketAddr::new(config.ip, free_port(config.ip).await.map_err(port)?);
        let mut command = Command::new("setsid");
        command.arg(&config.binary).args(arguments(config, address, peer));
        // Its settings are its flags; what the caller's environment says about some other etcd is not for it.
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("ETCD_")) {
                command.env_remove(name);
            }
        }
        if cfg!(target_arch = "aarch64") {
            // etcd 3.4 insists on this there.
            command.env("ETCD_UNSUPPORTED_ARCH", "arm64");
        }
        command.current_dir(&config.dir).stdin(Stdio::null()).stdout(output).stderr(errors);
        let child =
            command.spawn().map_err(|source| EtcdError::Run { binary: config.binary.clone(), source })?;
        let session = child.id().and_then(Session::of_leader);
        if let (Some(session), Some(supervisor)) = (session, &supervisor) {
            supervisor.add(session);
        }
        let mut etcd = Self { child, session, address, supervisor };
        let started = {
            let serving = async {
                while !serves(address).await {
                    tokio::time::sleep(LOOK).await;
                }
            };
            tokio::select! {
                biased;
                status = etcd.child.wait() => Err(status),
                served = tokio::time::timeout(START_LIMIT, serving) => Ok(served.is_ok()),
            }
        };
        match started {
            Ok(true) => Ok(etcd),
            Ok(false) => {
                etcd.stop().await;
                Err(EtcdError::Silent { address, tail: tail(&log), log })
            }
            Err(status) => {
                etcd.stop().await;
                match status {
                    // What setsid(1) says when it cannot execute.
                    Ok(status) if matches!(status.code(), Some(126 | 127)) => {
                        let source = io::Error::from(io::ErrorKind::NotFound);
                        Err(EtcdError::Run { binary: config.binary.clone(), source })
                    }
                    Ok(status) => Err(EtcdError::Ended { status, tail: tail(&log), log }),
                    Err(source) => Err(EtcdError::Run { binary: config.binary.clone(), source }),
                }
            }
        }
    }

    /// Where clients connect, such as `http://127.0.0.1:2379`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its pid, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Returns when it has ended.
    pub async fn exited(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Kills it with SIGKILL, and returns when it is gone.
    pub async fn kill(mut self) {
        let Some(session) = self.session.take() else { return };
        session.kill(KILL_LIMIT).await;
        let _reaped = tokio::time::timeout(KILL_LIMIT, self.child.wait()).await;
        if let Some(supervisor) = &self.supervisor {
            supervisor.remove(session);
        }
    }

    /// Stops it for a while (SIGSTOP): it takes connections, and answers nothing.
    pub fn pause(&self) {
        if let Some(session) = self.session {
            session.signal(Signal::STOP);
        }
    }

    /// Lets it go on.
    pub fn resume(&self) {
        if let Some(session) = self.session {
            session.signal(Signal::CONT);
        }
    }

    /// Ends it: SIGTERM, and SIGKILL if that is not enough.
    pub async fn stop(mut self) {
        let Some(session) = self.session.take() else { return };
        session.signal(Signal::TERM);
        // What was stopped has to wake up to end.
        session.signal(Signal::CONT);
        if tokio::time::timeout(GRACE, self.child.wait()).await.is_err() {
            session.signal(Signal::KILL);
            let _reaped = tokio::time::timeout(KILL_LIMIT, self.child.wait()).await;
        }
        session.kill(KILL_LIMIT).await;
        if let Some(supervisor) = &self.supervisor {
            supervisor.remove(session);
        }
    }
}

impl Drop for Etcd {
    /// For those who do not come to [`Etcd::stop`]: nothing is left running.
    fn drop(&mut self) {
        if let Some(session) = self.session {
            session.signal(Signal::KILL);
        }
    }
}

fn arguments(config: &EtcdConfig, client: SocketAddr, peer: SocketAddr) -> Vec<std::ffi::OsString> {
    let texts = [
        ("--name", "sandbox".to_owned()),
        ("--listen-client-urls", format!("http://{client}")),
        ("--advertise-client-urls", format!("http://{client}")),
        ("--listen-peer-urls", format!("http://{peer}")),
        ("--initial-advertise-peer-urls", format!("http://{peer}")),
        ("--initial-cluster", format!("sandbox=http://{peer}")),
        // A single member elects itself; with the defaults that takes a second longer.
        ("--heartbeat-interval", "10".to_owned()),
        ("--election-timeout", "100".to_owned()),
        ("--auto-compaction-mode", "periodic".to_owned()),
        ("--auto-compaction-retention", config.retention.clone()),
        ("--quota-backend-bytes", config.quota.to_string()),
    ];
    let mut arguments: Vec<std::ffi::OsString> = vec!["--data-dir".into(), config.dir.join("data").into()];
    arguments.extend(texts.into_iter().flat_map(|(flag, value)| [flag.into(), value.into()]));
    arguments
}

fn open_log(dir: &Path, log: &Path) -> Result<File, EtcdError> {
    fs::create_dir_all(dir).map_err(|source| EtcdError::Directory { path: dir.to_owned(), source })?;
    let opened = OpenOptions::new().create(true).append(true).open(log);
    opened.map_err(|source| EtcdError::Directory { path: log.to_owned(), source })
}

async fn free_port(ip: IpAddr) -> io::Result<u16> {
    Ok(TcpListener::bind((ip, 0)).await?.local_addr()?.port())
}

/// Asks for `/health`, which says true once there is a leader.
async fn serves(address: SocketAddr) -> bool {
    let look = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(b"GET /health HTTP/1.0\r\nHost: etcd\r\n\r\n").await?;
        let mut answer = Vec::new();
        stream.take(4096).read_to_end(&mut answer).await?;
        Ok::<_, io::Error>(String::from_utf8_lossy(&answer).contains("\"health\":\"true\""))
    };
    matches!(tokio::time::timeout(LOOK_LIMIT, look).await, Ok(Ok(true)))
}

fn tail(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(LOG_TAIL)..).unwrap_or_default().join("\n")
}
