//! Real servers for tests: started on a free port in a directory of their own, ended on drop.
#![allow(dead_code, reason = "each test binary uses its part of this")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a helper that fails fails its test")]

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    net::{TcpListener, TcpStream},
    os::unix::fs::MetadataExt,
    path::Path,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use overlord_api::{Address, Kind, Persistence, Resources};
use overlord_engines::{ConfInput, EngineAdmin, ServerConf, command, connect, version_of};
use tempfile::TempDir;

/// Generous: the machine may be busy.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(20);

/// What is rendered, without an address.
#[derive(Clone)]
pub(crate) struct Input {
    pub(crate) kind: Kind,
    pub(crate) version: String,
    pub(crate) bus: bool,
    pub(crate) config: BTreeMap<String, String>,
    pub(crate) persistence: Persistence,
    pub(crate) memory_mib: u64,
}

impl Input {
    pub(crate) fn new(kind: Kind, version: &str) -> Self {
        Self {
            kind,
            version: version.to_owned(),
            // Below 7.0 the bus is where redis has it.
            bus: kind == Kind::RedisCluster && release_of(version) >= (7, 0),
            config: BTreeMap::new(),
            persistence: Persistence::None,
            memory_mib: 512,
        }
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.config.insert(name.to_owned(), value.to_owned());
        self
    }

    pub(crate) fn persistence(mut self, persistence: Persistence) -> Self {
        self.persistence = persistence;
        self
    }

    pub(crate) fn render(&self, port: u16, bus_port: u16) -> ServerConf {
        ServerConf::render(&ConfInput {
            kind: self.kind,
            version: &self.version,
            address: Address::new([127, 0, 0, 1].into(), port),
            bus_port: self.bus.then_some(bus_port),
            resources: Resources { cpu_millis: 500, memory: self.memory_mib << 20, disk: 0 },
            config: &self.config,
            persistence: self.persistence,
        })
        .unwrap()
    }
}

/// A running server.
pub(crate) struct Server {
    pub(crate) kind: Kind,
    pub(crate) port: u16,
    pub(crate) conf: ServerConf,
    dir: TempDir,
    child: Child,
}

impl Server {
    pub(crate) fn start(input: &Input) -> Self {
        Self::start_with(input, "", &TempDir::new().unwrap())
    }

    /// With lines that no rendering would write, in a copy of the files of another directory.
    pub(crate) fn start_with(input: &Input, more: &str, files: &TempDir) -> Self {
        let mut said = String::new();
        // A port that was free may be taken before the server binds it.
        for _ in 0..5 {
            match Self::start_at(input, more, files, (free_port(), free_port())) {
                Ok(server) => return server,
                Err(console) => said = console,
            }
            if !said.contains("in use") {
                break;
            }
        }
        panic!("the server did not start: {said}");
    }

    /// On a data and a bus port; what the server said when it ended instead.
    pub(crate) fn start_at(
        input: &Input,
        more: &str,
        files: &TempDir,
        (port, bus_port): (u16, u16),
    ) -> Result<Self, String> {
        let conf = input.render(port, bus_port);
        let conf = ServerConf::parse(&format!("{}{more}", conf.as_str())).unwrap();
        let dir = TempDir::new().unwrap();
        for file in fs::read_dir(files.path()).unwrap().flatten() {
            fs::copy(file.path(), dir.path().join(file.file_name())).unwrap();
        }
        let mut child = spawn(input.kind, &conf, dir.path());
        if listens(&mut child, port) {
            Ok(Self { kind: input.kind, port, conf, dir, child })
        } else {
            Err(console(dir.path()))
        }
    }

    pub(crate) const fn address(&self) -> Address {
        Address::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), self.port)
    }

    pub(crate) async fn admin(&self) -> Box<dyn EngineAdmin> {
        connect(self.kind, self.address(), TIMEOUT, None).await.unwrap()
    }

    pub(crate) const fn dir(&self) -> &TempDir {
        &self.dir
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until the process ended by itself.
    pub(crate) fn ended(&mut self) -> bool {
        patiently(|| self.child.try_wait().unwrap().is_some())
    }

    /// What redis-cli prints.
    pub(crate) fn cli(&self, words: &[&str]) -> String {
        let output =
            Command::new("redis-cli").args(["-p", &self.port.to_string()]).args(words).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    /// What redis-cli prints for each of several commands that answer with one line.
    pub(crate) fn cli_script(&self, commands: &[String]) -> Vec<String> {
        let mut cli = Command::new("redis-cli")
            .args(["-p", &self.port.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // Less than a pipe holds, so that this cannot wait for the reader.
        cli.stdin.take().unwrap().write_all(commands.join("\n").as_bytes()).unwrap();
        let output = cli.wait_with_output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
    }

    /// The value of a directive; none when the server does not know it.
    pub(crate) fn config_get(&self, name: &str) -> Option<String> {
        let said = self.cli(&["CONFIG", "GET", name]);
        let (first, value) = said.split_once('\n').unwrap_or((said.as_str(), ""));
        (first == name).then(|| value.to_owned())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(kind: Kind, conf: &ServerConf, dir: &Path) -> Child {
    let file = if kind == Kind::Memcache { "memcache.conf" } else { "redis.conf" };
    fs::write(dir.join(file), conf.as_str()).unwrap();
    let argv = command(kind, conf, Path::new(kind.engine().binary()), Path::new(file), is_root());
    let log = fs::File::create(dir.join("console.log")).unwrap();
    Command::new(&argv[0])
        .args(&argv[1..])
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}

/// Whether the process came to listen on its port.
fn listens(child: &mut Child, port: u16) -> bool {
    let mut up = false;
    patiently(|| {
        up = TcpStream::connect(("127.0.0.1", port)).is_ok();
        up || child.try_wait().unwrap().is_some()
    });
    // Another server may have taken the port first.
    let own = up && child.try_wait().unwrap().is_none();
    if !own {
        let _ = child.kill();
        let _ = child.wait();
    }
    own
}

fn console(dir: &Path) -> String {
    fs::read_to_string(dir.join("console.log")).unwrap_or_default()
}

/// Whether it came to be so within the patience of a test.
#[expect(clippy::disallowed_methods, reason = "other processes send no event that this could wait for")]
pub(crate) fn patiently(mut so: impl FnMut() -> bool) -> bool {
    for _ in 0..2000 {
        if so() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    false
}

/// A port that no other test of this process gets, below the ephemeral ones, where connections of others
/// cannot take it by chance; processes begin at different places.
pub(crate) fn free_port() -> u16 {
    const FIRST: u32 = 23_000;
    const COUNT: u32 = 9_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let start = std::process::id().wrapping_mul(101);
    loop {
        let offset = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let port = u16::try_from(FIRST + offset).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

pub(crate) fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

/// Major and minor of a version.
pub(crate) fn release_of(version: &str) -> (u8, u8) {
    let mut parts = version.split('.').map(|part| part.parse().unwrap());
    (parts.next().unwrap(), parts.next().unwrap())
}

/// The version of an installed binary.
pub(crate) fn installed(binary: &str) -> String {
    let flag = if binary == "memcached" { "-V" } else { "--version" };
    let output = Command::new(binary).arg(flag).output().unwrap();
    version_of(&String::from_utf8_lossy(&output.stdout)).unwrap()
}

/// The inputs whose texts are kept in `tests/golden/`.
pub(crate) fn golden() -> Vec<(&'static str, Input)> {
    let redis = |version| Input::new(Kind::Redis, version);
    vec![
        ("redis-7.0", redis("7.0.15")),
        (
            "redis-7.0-tuned",
            redis("7.0.15")
                .persistence(Persistence::Rdb)
                .with("maxmemory", "256MB")
                .with("maxmemory-policy", "allkeys-LRU")
                .with("client-output-buffer-limit", "pubsub 64mb 16mb 90 replica 512mb 128mb 60")
                .with("notify-keyspace-events", "KEA")
                .with("latency-tracking-info-percentiles", "50 99.90")
                .with("slave-priority", "7")
                .with("hash-max-ziplist-entries", "256")
                .with("lazyfree-lazy-eviction", "true")
                .with("databases", "4")
                .with("maxmemory-clients", "5%"),
        ),
        ("redis-7.0-aof", redis("7.0.15").persistence(Persistence::Aof).with("appendfsync", "always")),
        (
            "redis-4.0",
            redis("4.0.14")
                .persistence(Persistence::Rdb)
                .with("replica-priority", "7")
                .with("hash-max-listpack-entries", "256")
                .with("client-output-buffer-limit", "replica 512mb 128mb 60"),
        ),
        (
            "redis_cluster-7.0",
            Input::new(Kind::RedisCluster, "7.0.15")
                .with("cluster-node-timeout", "5000")
                .with("notify-keyspace-events", ""),
        ),
        (
            "memcache-1.6",
            Input::new(Kind::Memcache, "1.6.18")
                .with("conn-limit", "2048")
                .with("max-item-size", "2m")
                .with("idle_timeout", "60")
                .with("lru_crawler", "no")
                .with("disable-cas", "yes")
                .with("track_sizes", "yes")
                .with("disable-evictions", "no")
                .with("verbose", "2"),
        ),
    ]
}
